//! The application at the near end: datagrams, pings and a stream, to be echoed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use barewire::app::{
    Answer, App, Closed, Connection, ConnectionId, Datagram, Echo, IcmpError, IcmpMessage, Outbox, SendError,
    SendOptions,
};
use barewire::base::Instant;

use super::super::rng::Rng;

/// The port that datagrams are sent from.
pub(super) const OURS: u16 = 40_000;
/// What pings are told by.
const IDENTIFIER: u16 = 0x7e57;

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A datagram with so many bytes, at least 8, that may be cut or must not be.
    Datagram {
        /// Bytes.
        len: usize,
        /// Whether it may be cut.
        may_cut: bool,
    },
    /// A ping with so many bytes, at least 8, that may be cut.
    Ping {
        /// Bytes.
        len: usize,
    },
}

/// The application.
#[derive(Debug)]
pub struct Caller {
    target: SocketAddr,
    /// What is to be sent, one after another.
    pub requests: VecDeque<Request>,
    /// Time between two.
    pub gap: Duration,
    next_at: Instant,
    /// Requests sent, by number, and how often each was answered.
    pub answered: BTreeMap<u16, u32>,
    /// MTUs that routers told of.
    pub told: Vec<u32>,
    /// Bytes of the stream; none for no connection.
    pub stream: u64,
    asked_for: bool,
    queued: u64,
    /// Bytes of the stream that came back.
    pub echoed: u64,
    /// How the connection ended.
    pub closed: Option<Closed>,
}

/// The bytes of a request.
fn content(number: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(u64::from(number)).fill(&mut bytes);
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// A byte of the stream.
const fn byte(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

impl Caller {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            requests: VecDeque::new(),
            gap: Duration::from_millis(50),
            next_at: Instant::ZERO,
            answered: BTreeMap::new(),
            told: Vec::new(),
            stream: 0,
            asked_for: false,
            queued: 0,
            echoed: 0,
            closed: None,
        }
    }

    /// Requests that were sent and not answered.
    #[must_use]
    pub fn missing(&self) -> Vec<u16> {
        self.answered.iter().filter(|(_, answers)| **answers == 0).map(|(number, _)| *number).collect()
    }

    fn ask(&mut self, request: Request, outbox: &mut impl Outbox) -> Result<(), SendError> {
        let number = self.answered.len() as u16;
        match request {
            Request::Datagram { len, may_cut } => {
                let options = SendOptions { dont_fragment: !may_cut, ..SendOptions::default() };
                outbox.send_with(OURS, self.target, options, |room| {
                    room[..len].copy_from_slice(&content(number, len));
                    len
                })?;
            }
            Request::Ping { len } => {
                let options = SendOptions { dont_fragment: false, ..SendOptions::default() };
                let (echo, bytes) = (Echo { identifier: IDENTIFIER, sequence: number }, content(number, len));
                outbox.ping(self.target.ip(), echo, options, len, |at, room| {
                    room.copy_from_slice(&bytes[at..at + room.len()]);
                })?;
            }
        }
        self.answered.insert(number, 0);
        Ok(())
    }

    fn hear(&mut self, answer: &[u8]) {
        let number = u16::from_be_bytes([answer[0], answer[1]]);
        assert_eq!(answer, content(number, answer.len()), "an answer to request {number}");
        *self.answered.get_mut(&number).expect("it was sent") += 1;
    }

    fn fill(&mut self, connection: &mut impl Connection) {
        while self.queued < self.stream {
            let at = self.queued;
            let len = (self.stream - at).min(4096);
            let bytes: Vec<u8> = (at..at + len).map(byte).collect();
            let taken = connection.send(&bytes);
            self.queued += taken as u64;
            if (taken as u64) < len {
                return;
            }
        }
    }
}

impl App for Caller {
    type Session = ();

    fn datagram(&mut self, _now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        assert_eq!((datagram.source(), datagram.destination().port()), (self.target, OURS));
        self.hear(datagram.payload());
        Answer::None
    }

    fn icmp(&mut self, _now: Instant, message: &IcmpMessage<'_>) -> bool {
        match *message {
            IcmpMessage::EchoReply { echo, payload, .. } => {
                assert_eq!(echo.identifier, IDENTIFIER);
                self.hear(&payload.pieces().collect::<Vec<_>>().concat());
            }
            IcmpMessage::Error { error: IcmpError::TooLong { mtu }, .. } => self.told.push(mtu),
            // Of a ping some fragments were lost.
            IcmpMessage::Error { error: IcmpError::TimeExceeded { code: 1 }, .. } => {}
            IcmpMessage::Error { error, .. } => panic!("{error:?}"),
        }
        true
    }

    fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.fill(connection);
    }

    fn writable(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.fill(connection);
    }

    fn data(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        while connection.received_len() > 0 {
            for &received in connection.received() {
                assert_eq!(received, byte(self.echoed), "byte {} of the stream", self.echoed);
                self.echoed += 1;
            }
            let len = connection.received().len();
            connection.consume(len);
        }
        if self.echoed == self.stream {
            connection.finish();
        }
    }

    fn closed(&mut self, _now: Instant, (): &mut (), _id: ConnectionId, reason: Closed) {
        self.closed = Some(reason);
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        if self.stream > 0 && !self.asked_for {
            outbox.connect(self.target).expect("there is room for a connection");
            self.asked_for = true;
        }
        while self.next_at <= now
            && let Some(&request) = self.requests.front()
        {
            match self.ask(request, outbox) {
                Ok(()) => {
                    self.requests.pop_front();
                    self.next_at = now + self.gap;
                }
                Err(SendError::Later) => self.next_at = now + Duration::from_micros(50),
                Err(error) => panic!("{request:?}: {error}"),
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.stream > 0 && !self.asked_for {
            Some(Instant::ZERO)
        } else {
            (!self.requests.is_empty()).then_some(self.next_at)
        }
    }
}
