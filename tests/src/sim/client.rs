//! The application at the near end: sends datagrams that it can tell apart, and looks at what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use barewire::app::{Answer, App, Datagram, Outbox, SendError, SendOptions};
use barewire::base::{Instant, UnsentReason};

use super::rng::{Rng, hash};

/// The first of the ports that datagrams are sent from.
pub(super) const FIRST_PORT: u16 = 40_000;
/// How many there are.
pub(super) const PORTS: u16 = 16;
/// How long a datagram waits before it is offered again to a stack that said "later".
const RETRY: Duration = Duration::from_micros(50);

/// How long it pauses after one that the stack refused: it is too long, say.
const BACK_OFF: Duration = Duration::from_millis(20);

/// What the application is to send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// The longest time between two.
    pub gap_ns: u64,
    /// The shortest payload.
    pub min_len: u64,
    /// The longest payload.
    pub max_len: u64,
}

/// What became of a payload sent from one port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Datagrams with it that the stack took.
    pub accepted: u32,
    /// Those that were seen on the wire.
    pub on_wire: u32,
    /// Answers that came back.
    pub answered: u32,
}

/// A datagram that the stack delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// Hash of the payload, with the port of ours.
    pub key: u64,
}

/// The application.
#[derive(Debug)]
pub struct Client {
    rng: Rng,
    server: SocketAddr,
    traffic: Traffic,
    next_at: Instant,
    /// Length and sender's port of a datagram that the stack did not take yet.
    postponed: Option<(usize, u16)>,
    sequence: u64,
    now: Instant,
    /// Datagrams that the stack refused, by its own word.
    pub refused: u64,
    /// Payloads sent, by [`key`].
    pub sent: BTreeMap<u64, Sent>,
    /// What was delivered, until the reference has looked at it.
    pub deliveries: VecDeque<Delivery>,
}

/// What tells a datagram apart: its payload and the client's port.
#[must_use]
pub(super) fn key(port: u16, payload: &[u8]) -> u64 {
    hash(u64::from(port), payload)
}

impl Client {
    /// Sends nothing yet.
    #[must_use]
    pub const fn new(server: SocketAddr, rng: Rng) -> Self {
        Self {
            rng,
            server,
            traffic: Traffic { datagrams: 0, gap_ns: 0, min_len: 0, max_len: 0 },
            next_at: Instant::ZERO,
            postponed: None,
            sequence: 0,
            now: Instant::ZERO,
            refused: 0,
            sent: BTreeMap::new(),
            deliveries: VecDeque::new(),
        }
    }

    /// Begins to send.
    pub const fn begin(&mut self, traffic: Traffic, now: Instant) {
        self.traffic = traffic;
        self.next_at = now;
    }

    /// Datagrams that are still to be sent.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.traffic.datagrams
    }

    /// Datagrams in all that the stack took, and answers to them that came back (without further copies).
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let accepted = self.sent.values().map(|sent| u64::from(sent.accepted)).sum();
        (accepted, self.sent.values().map(|sent| u64::from(sent.answered.min(sent.accepted))).sum())
    }

    fn step(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {:?} to {now:?}", self.now);
        self.now = now;
    }

    /// Length and port of the next datagram.
    fn draw(&mut self) -> (usize, u16) {
        let Traffic { min_len, max_len, .. } = self.traffic;
        let len = match self.rng.below(8) {
            0 => min_len,
            1 => max_len,
            2..5 => self.rng.between(min_len, max_len.min(min_len + 64)),
            _ => self.rng.between(min_len, max_len),
        };
        (len as usize, FIRST_PORT + self.rng.below(u64::from(PORTS)) as u16)
    }
}

impl App for Client {
    type Session = ();

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        self.step(now);
        let (source, destination) = (datagram.source(), datagram.destination());
        let content: Vec<u8> = datagram.whole().pieces().flatten().copied().collect();
        self.deliveries.push_back(Delivery { source, destination, key: key(destination.port(), &content) });
        Answer::None
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        self.step(now);
        while self.traffic.datagrams > 0 && self.next_at <= now {
            let (len, port) = self.postponed.take().unwrap_or_else(|| self.draw());
            // The sequence number makes a payload unique, as far as there is room for it.
            let mut content = vec![0; len];
            Rng::new(self.sequence).fill(&mut content);
            let (sequence, mut written) = (self.sequence.to_le_bytes(), 0);
            let front = len.min(sequence.len());
            content[..front].copy_from_slice(&sequence[..front]);
            let options = SendOptions::default();
            let result = if self.sequence.is_multiple_of(2) {
                outbox.send_long(port, self.server, options, len, |at, piece| {
                    piece.copy_from_slice(&content[at..at + piece.len()]);
                    written += piece.len();
                })
            } else {
                outbox.send_with(port, self.server, options, |room| {
                    room[..len].copy_from_slice(&content);
                    written = len;
                    len
                })
            };
            match result {
                Ok(()) => {
                    assert_eq!(written, len, "the stack took a datagram that was not written whole");
                    self.sent.entry(key(port, &content)).or_default().accepted += 1;
                }
                Err(SendError::Later) => {
                    self.postponed = Some((len, port));
                    self.next_at = now + RETRY;
                    return;
                }
                Err(SendError::Unsent(reason)) => {
                    assert_ne!(reason, UnsentReason::NoRoute, "there is a route");
                    self.refused += 1;
                    self.next_at = now + BACK_OFF;
                }
            }
            self.sequence += 1;
            self.traffic.datagrams -= 1;
            // From the time that it was due: a client that was late catches up in a burst.
            self.next_at += Duration::from_nanos(self.rng.below(self.traffic.gap_ns + 1));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        (self.traffic.datagrams > 0).then_some(self.next_at)
    }
}
