//! A request and its response over a connection that stays, whatever carries the bytes.
//!
//! The server echoes, and every byte that comes back is compared: a request ends in the number of times that
//! its connection has asked, so that an old response is not taken for a new one.

use super::not_an_echo;
use crate::error::{Error, Result};

/// How far a connection is with its request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exchange {
    /// Requests before this one.
    pub asked: u64,
    /// Bytes of this request that were taken to be sent.
    pub written: usize,
    /// Bytes of its response that have come.
    pub read: usize,
    /// When the request was due; in a closed loop, when it was sent.
    pub due_ns: u64,
    pub sent_ns: u64,
    /// Whether a request is to be sent or answered.
    pub outstanding: bool,
}

/// What every connection asks: the same bytes, but for the number at their end.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Box<[u8]>,
}

impl Pattern {
    /// Requests of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: (0..size).map(|i| (i * 7) as u8).collect() }
    }

    /// What is left to be sent of a connection's request.
    pub(crate) fn rest(&mut self, exchange: &Exchange) -> &[u8] {
        if !exchange.outstanding {
            return &[];
        }
        stamp(&mut self.bytes, exchange.asked);
        &self.bytes[exchange.written.min(self.bytes.len())..]
    }

    /// Takes what has come of a connection's response. Whether it is complete, so that the next request may go.
    ///
    /// # Errors
    /// It is not what was asked, or longer.
    pub(crate) fn answered(&mut self, exchange: &mut Exchange, bytes: &[u8]) -> Result<bool> {
        stamp(&mut self.bytes, exchange.asked);
        let awaited = &self.bytes[exchange.read..];
        if !exchange.outstanding || !awaited.starts_with(bytes) {
            return Err(not_an_echo());
        }
        exchange.read += bytes.len();
        if exchange.read < self.bytes.len() {
            return Ok(false);
        }
        (exchange.asked, exchange.written, exchange.read) = (exchange.asked + 1, 0, 0);
        exchange.outstanding = false;
        Ok(true)
    }
}

impl Exchange {
    /// The next request is due, and is about to be sent.
    pub(crate) fn ask(&mut self, due_ns: u64, now_ns: u64) {
        (self.due_ns, self.sent_ns, self.outstanding) = (due_ns, now_ns, true);
    }

    /// The connection that the caller numbers `index` ended.
    pub(crate) fn lost(&self, index: usize, why: &dyn std::fmt::Display) -> Error {
        Error::run(format!("connection {index} was lost after {} requests: {why}", self.asked))
    }
}

/// Ends a request in the low bytes of a number.
fn stamp(request: &mut [u8], number: u64) {
    let bytes = number.to_be_bytes();
    let len = bytes.len().min(request.len());
    let at = request.len() - len;
    request[at..].copy_from_slice(&bytes[bytes.len() - len..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_any_length_ends_in_the_low_bytes_of_its_number() {
        let mut long = [9; 10];
        stamp(&mut long, 0x0102);
        assert_eq!(long, [9, 9, 0, 0, 0, 0, 0, 0, 1, 2]);
        let mut short = [9];
        stamp(&mut short, 0x0102);
        assert_eq!(short, [2]);
    }

    /// A connection that is asked something.
    fn asked() -> Exchange {
        let mut exchange = Exchange::default();
        exchange.ask(1, 2);
        exchange
    }

    #[test]
    fn a_response_may_come_in_pieces_and_is_complete_with_its_last_byte() {
        let (mut pattern, mut exchange) = (Pattern::new(12), asked());
        let request = pattern.rest(&exchange).to_vec();
        exchange.written = 7;
        assert_eq!(pattern.rest(&exchange), &request[7..]);
        exchange.written = 12;
        assert!(pattern.rest(&exchange).is_empty());
        assert!(!pattern.answered(&mut exchange, &request[..5]).unwrap());
        assert!(pattern.answered(&mut exchange, &request[5..]).unwrap());
        assert_eq!((exchange.asked, exchange.read, exchange.written), (1, 0, 0));
        assert!(pattern.rest(&exchange).is_empty(), "nothing more was asked");
    }

    #[test]
    fn an_old_response_a_wrong_one_one_too_long_and_one_to_nothing_are_no_echo() {
        let (mut pattern, mut exchange) = (Pattern::new(9), asked());
        let old = pattern.rest(&exchange).to_vec();
        assert!(pattern.answered(&mut exchange, &old).unwrap());
        assert!(pattern.answered(&mut exchange.clone(), &old).is_err(), "nothing was asked");
        exchange.ask(3, 4);
        let mut new = pattern.rest(&exchange).to_vec();
        assert!(pattern.answered(&mut exchange.clone(), &old).is_err());
        new.push(0);
        assert!(pattern.answered(&mut exchange, &new).is_err());
    }
}
