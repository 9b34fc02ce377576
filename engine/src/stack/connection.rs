//! A connection as the application sees it: [`Connection`] on the stack's TCP.

use std::net::SocketAddr;
use std::time::Duration;

use crate::app::{Connection, ConnectionId, SoftError};
use crate::base::{Instant, Umem};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{Tcp, Trouble};

/// A connection in the hands of its application. When it is put down, the connection's timer and its turn to send are
/// set by what was done to it.
pub(super) struct Conversation<'a> {
    tcp: &'a mut Tcp,
    umem: &'a mut Umem,
    index: u32,
    now: Instant,
}

impl<'a> Conversation<'a> {
    pub(super) const fn new(tcp: &'a mut Tcp, umem: &'a mut Umem, index: u32, now: Instant) -> Self {
        Self { tcp, umem, index, now }
    }

    /// The application is about to hear that there is room.
    pub(super) fn note_writable(&mut self) {
        self.tcp.note_writable(self.index);
    }

    fn tuple(&self) -> &Tuple {
        self.tcp.tuple(self.index).unwrap_or(&Tuple::NONE)
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        self.tcp.settle(self.index);
    }
}

/// The name of a connection.
pub(super) fn id(tcp: &Tcp, index: u32) -> ConnectionId {
    ConnectionId { index, generation: tcp.generation(index) }
}

impl Connection for Conversation<'_> {
    fn id(&self) -> ConnectionId {
        id(self.tcp, self.index)
    }

    fn local(&self) -> SocketAddr {
        self.tuple().local.into()
    }

    fn peer(&self) -> SocketAddr {
        self.tuple().remote.into()
    }

    fn received(&self) -> &[u8] {
        self.tcp.received(self.index, self.umem)
    }

    fn received_len(&self) -> usize {
        self.tcp.received_len(self.index) as usize
    }

    fn urgent_len(&self) -> usize {
        self.tcp.urgent_len(self.index) as usize
    }

    fn consume(&mut self, len: usize) -> usize {
        self.tcp.consume(self.index, len, self.umem)
    }

    fn send_back(&mut self, len: usize) -> usize {
        self.tcp.send_back(self.index, len, self.umem)
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.tcp.send(self.index, bytes, self.umem)
    }

    fn send_urgent(&mut self, bytes: &[u8]) -> usize {
        self.tcp.send_urgent(self.index, bytes, self.umem)
    }

    fn reserve(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.tcp.reserve(self.index, write, self.umem)
    }

    fn room(&self) -> usize {
        self.tcp.room(self.index) as usize
    }

    fn unacknowledged(&self) -> usize {
        self.tcp.unacknowledged(self.index) as usize
    }

    fn is_finished(&self) -> bool {
        self.tcp.is_finished(self.index)
    }

    fn finish(&mut self) {
        self.tcp.finish(self.index, self.umem);
    }

    fn abort(&mut self) {
        self.tcp.abort(self.index);
    }

    fn set_nagle(&mut self, on: bool) {
        self.tcp.set_nagle(self.index, on);
    }

    fn set_keep_alive(&mut self, idle: Option<Duration>) {
        self.tcp.set_keep_alive(self.index, idle, self.now);
    }

    fn set_user_timeout(&mut self, timeout: Duration) {
        self.tcp.set_user_timeout(self.index, timeout);
    }

    fn set_dscp(&mut self, dscp: u8) {
        self.tcp.set_dscp(self.index, dscp);
    }

    fn soft_error(&self) -> Option<SoftError> {
        self.tcp.trouble(self.index).map(|trouble| match trouble {
            Trouble::Unreachable => SoftError::Unreachable,
            Trouble::ParameterProblem => SoftError::ParameterProblem,
            Trouble::TimeExceeded => SoftError::TimeExceeded,
            Trouble::NotResponding => SoftError::NotResponding,
        })
    }
}
