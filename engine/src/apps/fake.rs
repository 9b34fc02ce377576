//! A connection and an outbox that are nothing but values, to test applications with.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::app::{
    ConnectError, Connection, ConnectionId, Echo, JoinError, Outbox, SendError, SendOptions, SoftError, Traffic,
};
use crate::base::UnsentReason;

/// A connection in the hands of a test.
#[derive(Debug, Default)]
pub(super) struct FakeConnection {
    /// Port of ours.
    pub(super) port: u16,
    /// Bytes that may be sent.
    pub(super) room: usize,
    pub(super) sent: Vec<u8>,
    pub(super) peer_finished: bool,
    pub(super) finished: bool,
    pub(super) aborted: bool,
    pub(super) received: Vec<u8>,
    pub(super) trouble: Option<SoftError>,
}

/// What fits a frame here.
pub(super) const SEGMENT: usize = 1448;

impl FakeConnection {
    /// The peer sends.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
    }
}

/// [`Outbox::connection`] lends one out, callbacks are handed one: both are to be connections.
macro_rules! connection {
    ($connection:ty) => {
        impl Connection for $connection {
            fn id(&self) -> ConnectionId {
                ConnectionId { index: 0, generation: 0 }
            }

            fn local(&self) -> SocketAddr {
                ([10, 0, 0, 2], self.port).into()
            }

            fn peer(&self) -> SocketAddr {
                ([10, 0, 0, 3], 40_000).into()
            }

            fn received(&self) -> &[u8] {
                &self.received[..self.received.len().min(SEGMENT)]
            }

            fn received_len(&self) -> usize {
                self.received.len()
            }

            fn urgent_len(&self) -> usize {
                0
            }

            fn consume(&mut self, len: usize) -> usize {
                self.received.drain(..len.min(self.received.len())).count()
            }

            fn send_back(&mut self, len: usize) -> usize {
                let len = len.min(self.received.len()).min(self.room);
                self.sent.extend(self.received.drain(..len));
                self.room -= len;
                len
            }

            fn send(&mut self, bytes: &[u8]) -> usize {
                let len = bytes.len().min(self.room);
                self.sent.extend(&bytes[..len]);
                self.room -= len;
                len
            }

            fn send_urgent(&mut self, bytes: &[u8]) -> usize {
                self.send(bytes)
            }

            fn reserve(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> usize {
                let mut frame = [0; SEGMENT];
                let room = self.room.min(SEGMENT);
                if room == 0 {
                    return 0;
                }
                let written = write(&mut frame[..room]);
                self.send(&frame[..written])
            }

            fn room(&self) -> usize {
                self.room
            }

            fn unacknowledged(&self) -> usize {
                0
            }

            fn is_finished(&self) -> bool {
                self.peer_finished
            }

            fn finish(&mut self) {
                self.finished = true;
            }

            fn abort(&mut self) {
                self.aborted = true;
            }

            fn set_nagle(&mut self, _on: bool) {}

            fn set_keep_alive(&mut self, _idle: Option<Duration>) {}

            fn set_user_timeout(&mut self, _timeout: Duration) {}

            fn set_dscp(&mut self, _dscp: u8) {}

            fn soft_error(&self) -> Option<SoftError> {
                self.trouble
            }
        }
    };
}
connection!(FakeConnection);
connection!(&mut FakeConnection);

/// An outbox with one connection.
#[derive(Debug, Default)]
pub(super) struct FakeOutbox {
    pub(super) connection: FakeConnection,
    /// Where connections were to be opened to.
    pub(super) connects: Vec<SocketAddr>,
    pub(super) refuse: Option<ConnectError>,
    /// Datagrams and echo requests that were sent.
    pub(super) sent: Vec<Sent>,
    /// Why no more of them are.
    pub(super) refuse_to_send: Option<SendError>,
}

/// A datagram or an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) to: IpAddr,
    /// Ports, or what the echo request has.
    pub(super) what: Result<(u16, u16), Echo>,
    pub(super) options: SendOptions,
    pub(super) payload: Vec<u8>,
}

/// Longest packet of a [`FakeOutbox`], bytes.
pub(super) const MTU: u16 = 1500;

impl FakeOutbox {
    fn take(&mut self, sent: Sent) -> Result<(), SendError> {
        let headers = if sent.to.is_ipv4() { 28 } else { 48 };
        if sent.options.dont_fragment && sent.payload.len() + headers > usize::from(MTU) {
            return Err(SendError::Unsent(UnsentReason::TooLong));
        }
        self.sent.push(sent);
        Ok(())
    }
}

impl Outbox for FakeOutbox {
    fn send_with(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), SendError> {
        if let Some(error) = self.refuse_to_send {
            return Err(error);
        }
        let mut payload = Vec::default();
        payload.resize(65_536, 0);
        let len = write(&mut payload);
        payload.truncate(len);
        self.take(Sent { to: to.ip(), what: Ok((from, to.port())), options, payload })
    }

    fn send_long(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        len: usize,
        mut write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError> {
        self.send_with(from, to, options, |room| {
            write(0, &mut room[..len]);
            len
        })
    }

    fn ping(
        &mut self,
        to: IpAddr,
        echo: Echo,
        options: SendOptions,
        len: usize,
        mut write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError> {
        if let Some(error) = self.refuse_to_send {
            return Err(error);
        }
        let mut payload = Vec::default();
        payload.resize(len, 0);
        for (at, piece) in payload.chunks_mut(1000).enumerate() {
            write(at * 1000, piece);
        }
        self.take(Sent { to, what: Err(echo), options, payload })
    }

    fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        let ours: [IpAddr; 2] = [[10, 0, 0, 2].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into()];
        ours.into_iter().find(|ours| ours.is_ipv4() == to.is_ipv4())
    }

    fn mtu(&self) -> u16 {
        MTU
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn connect(&mut self, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.connects.push(to);
        self.refuse.map_or_else(|| Ok(self.connection.id()), Err)
    }

    fn connect_from(&mut self, _from: IpAddr, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.connect(to)
    }

    fn connection(&mut self, _id: ConnectionId) -> Option<impl Connection + '_> {
        Some(&mut self.connection)
    }

    fn join(&mut self, _group: IpAddr) -> Result<(), JoinError> {
        Err(JoinError::TooMany)
    }

    fn leave(&mut self, _group: IpAddr) {}
}
