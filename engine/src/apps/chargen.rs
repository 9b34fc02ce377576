//! The character generator (RFC 864): sends characters without regard to what it is sent.
//!
//! Over TCP it goes on for as long as the peer takes it: [`reserve`](Connection::reserve) hands out the memory of a
//! frame to write into, until there is no room; [`writable`](App::writable) tells when the peer has acknowledged
//! some, and it goes on from there.
//!
//! Over UDP one datagram is answered with a longer one. Whoever forges the source of a datagram can have the answer
//! sent to somebody else, so this service belongs on a link whose hosts are trusted.

use super::ANSWERING_PORTS;
use crate::app::{Answer, App, Connection, Datagram};
use crate::base::Instant;

/// The printing characters of ASCII, space included.
const CHARACTERS: usize = 95;
/// RFC 864: "One popular pattern is 72 character lines of the ASCII printing characters."
const LINE: usize = 72;
/// A line with its end.
const LINE_BYTES: usize = LINE + 2;
/// After so many bytes the pattern starts anew: each line starts one character later than the one before.
const PERIOD: usize = CHARACTERS * LINE_BYTES;
/// RFC 864: a datagram has "a random number (between 0 and 512) of characters".
const LONGEST_DATAGRAM: u64 = 512;

static PATTERN: [u8; PERIOD] = pattern();

/// Sends characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chargen;

/// How far a connection is in the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    at: usize,
}

impl Session {
    /// Fills `room` with what comes next.
    fn fill(&mut self, room: &mut [u8]) -> usize {
        let mut written = 0;
        while written < room.len() {
            let ahead = &PATTERN[self.at..];
            let len = ahead.len().min(room.len() - written);
            room[written..written + len].copy_from_slice(&ahead[..len]);
            written += len;
            self.at = (self.at + len) % PERIOD;
        }
        written
    }
}

impl App for Chargen {
    type Session = Session;

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        // RFC 1122, section 4.1.3.6 leaves it to us, and all members of a group would answer one spoofed datagram.
        if datagram.to_group() || ANSWERING_PORTS.contains(&datagram.source().port()) {
            return Answer::None;
        }
        let len = (mix(now.as_ns()) % (LONGEST_DATAGRAM + 1)) as usize;
        let room = datagram.room_mut();
        let len = len.min(room.len());
        Answer::Reply(Session::default().fill(&mut room[..len]))
    }

    fn opened(&mut self, now: Instant, session: &mut Session, connection: &mut impl Connection) {
        self.writable(now, session, connection);
    }

    fn writable(&mut self, _now: Instant, session: &mut Session, connection: &mut impl Connection) {
        while connection.reserve(|room| session.fill(room)) > 0 {}
    }

    /// RFC 864: "This continues until the calling user terminates the connection." Who only finishes wants to read on.
    fn finished(&mut self, _now: Instant, _session: &mut Session, _connection: &mut impl Connection) {}
}

const fn pattern() -> [u8; PERIOD] {
    let mut bytes = [b'\n'; PERIOD];
    let mut at = 0;
    while at < PERIOD {
        let (line, column) = (at / LINE_BYTES, at % LINE_BYTES);
        bytes[at] = match column {
            0..LINE => b' ' + ((line + column) % CHARACTERS) as u8,
            LINE => b'\r',
            _ => b'\n',
        };
        at += 1;
    }
    bytes
}

/// A number that looks random, from one that does not (Steele, Lea, Flood: SplitMix64).
const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::fake::FakeConnection;
    use super::*;

    #[test]
    fn lines_are_of_72_characters_each_starting_one_later() {
        let text = std::str::from_utf8(&PATTERN).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines[0], r##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"##);
        assert_eq!(lines[1], r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##);
        assert!(lines[94].starts_with("~ !\""), "{}", lines[94]);
        assert_eq!((lines.len(), lines.iter().all(|line| line.len() == LINE)), (CHARACTERS, true));
    }

    #[test]
    fn the_pattern_goes_on_where_the_frame_before_ended() {
        let mut session = Session::default();
        let mut sent = Vec::new();
        for len in [1, 1447, 9000, 0, 13, 1448, 5000] {
            let mut room = vec![0; len];
            assert_eq!(session.fill(&mut room), len);
            sent.extend(room);
        }
        assert!(sent.iter().eq(PATTERN.iter().cycle().take(sent.len())));
    }

    #[test]
    fn datagrams_have_every_length_up_to_512() {
        let answer = |ns, source_port| {
            let mut room = [0; 2000];
            let mut datagram =
                Datagram::new(([10, 0, 0, 1], source_port).into(), ([10, 0, 0, 2], 19).into(), &mut room, 0);
            Chargen.datagram(Instant::from_ns(ns), &mut datagram)
        };
        let answers = (0..10_000).map(|turn| answer(turn * 1000, 40_000));
        let lengths: HashSet<usize> = answers
            .map(|answer| match answer {
                Answer::Reply(len) => len,
                Answer::None => panic!("no answer"),
            })
            .collect();
        assert_eq!((lengths.len(), lengths.iter().max()), (513, Some(&512)));
        assert_eq!(answer(0, 19), Answer::None);
    }

    #[test]
    fn a_connection_is_filled_whenever_there_is_room_even_after_the_peer_finished() {
        let (mut session, mut connection) = (Session::default(), FakeConnection { room: 5000, ..Default::default() });
        Chargen.opened(Instant::ZERO, &mut session, &mut connection);
        assert_eq!((connection.sent.len(), connection.room), (5000, 0));
        connection.receive(b"thrown away");
        Chargen.data(Instant::ZERO, &mut session, &mut connection);
        Chargen.finished(Instant::ZERO, &mut session, &mut connection);
        connection.room = 3000;
        Chargen.writable(Instant::ZERO, &mut session, &mut connection);
        assert!(connection.sent.iter().eq(PATTERN.iter().cycle().take(8000)));
        assert_eq!((connection.received_len(), connection.finished), (0, false));
    }
}
