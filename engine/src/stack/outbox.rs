//! What an application sends without being asked: datagrams, and connections of its own.

use std::net::{IpAddr, SocketAddr};

use crate::app::{ConnectError, Connection, ConnectionId, Outbox, SendError};
use crate::base::{Burst, Instant, Umem, UnsentReason};
use crate::link::address::AddressState;
use crate::network::{DEFAULT_HOP_LIMIT, is_valid_source};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{ConnectFailure, Tcp};
use crate::wire::checksum::Sum;
use crate::wire::ip::IpAddress;
use crate::wire::ipv4;

use super::connection::{Conversation, id};
use super::egress::{Egress, NextHop, Way};
use super::tcp::renew;

/// One turn's way out for an application.
pub(super) struct Turn<'a, S> {
    pub(super) now: Instant,
    pub(super) egress: &'a mut Egress,
    pub(super) tcp: Option<&'a mut Tcp>,
    pub(super) sessions: &'a mut Vec<S>,
    pub(super) umem: &'a mut Umem,
    pub(super) out: &'a mut Burst,
}

impl<S: Default> Outbox for Turn<'_, S> {
    fn send(&mut self, from: u16, to: SocketAddr, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), SendError> {
        let destination = IpAddress::from(to.ip());
        let Some(next_hop) = self.egress.routes.next_hop(destination) else {
            return Err(self.unsent(UnsentReason::NoRoute));
        };
        let Some(source) = self.egress.addresses.source_for(destination) else { return Err(SendError::Later) };
        if self.out.room() == 0 {
            return Err(SendError::Later);
        }
        let mut frame = self.umem.alloc().ok_or(SendError::Later)?;
        let room = self.umem.room_mut(&mut frame);
        let len = write(room);
        let sum = Sum::default().add_bytes(room.get(..len).unwrap_or_default());
        let way = Way { source, destination, traffic_class: 0, flow_label: 0, hop_limit: DEFAULT_HOP_LIMIT };
        let written = self.umem.set_len(&mut frame, len)
            && self.egress.write_udp(&mut frame, self.umem, &way, (from, to.port()), sum)
            && self.egress.write_ip(&mut frame, self.umem, &way, ipv4::UDP);
        if !written {
            self.umem.free(frame);
            return Err(self.unsent(UnsentReason::TooLong));
        }
        let Self { now, egress, umem, out, .. } = self;
        egress.counters.udp_originated += 1;
        let next_hop = NextHop { address: next_hop, tags: egress.tags, came_from: None };
        egress.send_via(next_hop, frame, *now, umem, out);
        Ok(())
    }

    fn connect(&mut self, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.open(None, to)
    }

    fn connect_from(&mut self, from: IpAddr, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.open(Some(from), to)
    }

    fn connection(&mut self, id: ConnectionId) -> Option<impl Connection + '_> {
        let tcp = self.tcp.as_mut()?;
        let lives = tcp.exists(id.index) && tcp.generation(id.index) == id.generation;
        lives.then(|| Conversation::new(tcp, self.umem, id.index, self.now))
    }
}

impl<S: Default> Turn<'_, S> {
    /// Opens a connection, from an address of ours that the application names or that the route to the peer suggests.
    fn open(&mut self, from: Option<IpAddr>, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        let Some(tcp) = &mut self.tcp else { return Err(ConnectError::NoTcp) };
        let egress = &mut self.egress;
        let remote = IpAddress::from(to.ip());
        // RFC 9293, section 3.9.1.1 (MUST-46): a TCP MUST reject as an error a local OPEN call for an invalid remote IP
        // address, such as a broadcast or multicast address.
        if egress.addresses.is_directed_broadcast(remote)
            || !is_valid_source(remote)
            || to.port() == 0
            || egress.addresses.state(remote).is_some()
        {
            return Err(ConnectError::InvalidAddress);
        }
        if egress.routes.next_hop(remote).is_none() {
            return Err(ConnectError::NoRoute);
        }
        // RFC 9293, section 3.9.1.1 (MUST-44): the IP layer is asked to select a local address before the first SYN.
        let local = match from {
            None => egress.addresses.source_for(remote).ok_or(ConnectError::Later)?,
            // RFC 9293, section 3.9.1.1 (MUST-43): the optional "local IP address" parameter MUST be supported.
            Some(local) => match egress.addresses.state(local.into()) {
                Some(AddressState::Preferred) if local.is_ipv4() == remote.is_v4() => local.into(),
                Some(AddressState::Tentative) => return Err(ConnectError::Later),
                _ => return Err(ConnectError::NotOurs),
            },
        };
        let queue = egress.own_queue.as_ref();
        let is_ours = |tuple: &Tuple| queue.is_none_or(|queue| queue.receives(tuple.remote, tuple.local));
        match tcp.connect(local, (remote, to.port()), is_ours, self.now, self.umem) {
            Ok(index) => {
                renew(self.sessions, index);
                Ok(id(tcp, index))
            }
            Err(ConnectFailure::TooMany) => Err(ConnectError::TooMany),
            Err(ConnectFailure::NoPort) => Err(ConnectError::NoPort),
            Err(ConnectFailure::NoMemory) => Err(ConnectError::Later),
        }
    }
}

impl<S> Turn<'_, S> {
    const fn unsent(&mut self, reason: UnsentReason) -> SendError {
        self.egress.counters.originated += 1;
        self.egress.counters.unsent(reason, 1);
        SendError::Unsent(reason)
    }
}
