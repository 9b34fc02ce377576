//! What runs on the stack: an application is a value with callbacks, run to completion on the worker's core.

use std::net::SocketAddr;

use crate::base::{Instant, UnsentReason};

/// An application.
///
/// The worker owns it, so it needs no lock; each worker has one of its own. Callbacks must not wait, and what
/// they allocate is on the packet path.
pub trait App {
    /// A datagram arrived on a port that the application listens on.
    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer;

    /// Once a turn, when there is room to send: the place to start something without being asked.
    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        let _ = (now, outbox);
    }

    /// When [`poll`](App::poll) has something to do next, if no datagram comes before.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
}

/// What becomes of a datagram's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is answered.
    None,
    /// The first so many bytes of [`Datagram::room_mut`] go back to the sender, in the same frame.
    Reply(usize),
}

/// A received datagram, in the frame that it came in.
#[derive(Debug)]
pub struct Datagram<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Datagram<'a> {
    /// A datagram whose payload is the first `len` bytes of `room`.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, room: &'a mut [u8], len: usize) -> Self {
        let len = len.min(room.len());
        Self { source, destination, room, len }
    }

    /// Who sent it.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// The address and port of ours that it was sent to.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// The memory that the payload lies at the start of, up to the end of the frame: to write an answer into.
    #[must_use]
    pub const fn room_mut(&mut self) -> &mut [u8] {
        self.room
    }
}

/// Where an application sends datagrams that answer nothing.
pub trait Outbox {
    /// Sends a datagram from a port of ours: `write` fills the payload in and says how many bytes it is long.
    ///
    /// # Errors
    /// [`SendError`]; `write` was not called then, unless the payload turned out too long.
    fn send(&mut self, from: u16, to: SocketAddr, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), SendError>;
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This turn's burst is full, or memory is short, or our address is not ours yet: try again in the next
    /// turn.
    #[error("not now: try again in the next turn")]
    Later,
    /// It was counted as unsent for this reason.
    #[error("unsent: {}", .0.name())]
    Unsent(UnsentReason),
}
