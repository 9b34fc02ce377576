//! What an application sends without being asked: datagrams, and connections of its own.

use std::net::{IpAddr, SocketAddr};

use crate::app::{ConnectError, Connection, ConnectionId, Echo, JoinError, Outbox, SendError, SendOptions, Traffic};
use crate::base::{Burst, Frame, Instant, Umem, UnsentReason};
use crate::link::address::AddressState;
use crate::network::{is_valid_source, membership};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{ConnectFailure, Tcp};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Priority;
use crate::wire::ip::IpAddress;
use crate::wire::{icmpv4, ipv4, ipv6, udp};

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
    fn send_with(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), SendError> {
        let (way, next_hop) = self.way(to.ip(), &options)?;
        let mut frame = self.umem.alloc().ok_or(SendError::Later)?;
        let room = self.umem.room_mut(&mut frame);
        let len = write(room);
        let sum = Sum::default().add_bytes(room.get(..len).unwrap_or_default());
        let written = self.umem.set_len(&mut frame, len)
            && self.egress.write_udp(&mut frame, self.umem, &way, (from, to.port()), sum);
        self.put_out(written, frame, (&way, next_hop), ipv4::UDP, &options)?;
        self.egress.counters.udp_originated += 1;
        Ok(())
    }

    fn send_long(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError> {
        let (way, next_hop) = self.way(to.ip(), &options)?;
        self.check_len(len.saturating_add(udp::LEN), &way, &options)?;
        let (mut frame, sum) = self.fill(len, write)?;
        let written = self.egress.write_udp(&mut frame, self.umem, &way, (from, to.port()), sum);
        self.put_out(written, frame, (&way, next_hop), ipv4::UDP, &options)?;
        self.egress.counters.udp_originated += 1;
        Ok(())
    }

    fn ping(
        &mut self,
        to: IpAddr,
        echo: Echo,
        options: SendOptions,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError> {
        let (way, next_hop) = self.way(to, &options)?;
        self.check_len(len.saturating_add(icmpv4::LEN), &way, &options)?;
        let (mut frame, sum) = self.fill(len, write)?;
        let written = Egress::write_echo_request(&mut frame, self.umem, &way, echo, sum);
        let protocol = if to.is_ipv4() { ipv4::ICMP } else { ipv6::ICMPV6 };
        self.put_out(written, frame, (&way, next_hop), protocol, &options)?;
        self.egress.counters.icmp_echoes_originated += 1;
        Ok(())
    }

    fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        self.egress.source_for(to.into()).map(IpAddr::from)
    }

    fn mtu(&self) -> u16 {
        self.egress.paths.link()
    }

    fn traffic(&self) -> Traffic {
        let counters = &self.egress.counters;
        Traffic { received: counters.received, originated: counters.originated }
    }

    fn connect(&mut self, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.open(None, to)
    }

    fn connect_from(&mut self, from: IpAddr, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.open(Some(from), to)
    }

    fn join(&mut self, group: IpAddr) -> Result<(), JoinError> {
        self.egress.hurry_upkeep();
        self.egress.members.join(group.into(), self.now).map(|_| ()).map_err(|error| match error {
            membership::JoinError::NotAGroup => JoinError::NotAGroup,
            membership::JoinError::TooMany => JoinError::TooMany,
        })
    }

    fn leave(&mut self, group: IpAddr) {
        self.egress.hurry_upkeep();
        self.egress.members.leave(group.into(), self.now);
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
            None => egress.source_for(remote).ok_or(ConnectError::Later)?,
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
    /// How a packet gets from us to `to`, and by which neighbor; an error unless there is room for one more.
    fn way(&mut self, to: IpAddr, options: &SendOptions) -> Result<(Way, IpAddress), SendError> {
        let destination = IpAddress::from(to);
        let Some(next_hop) = self.egress.next_hop(destination) else {
            return Err(self.unsent(UnsentReason::NoRoute));
        };
        let source = match options.source {
            None => self.egress.source_for(destination).ok_or(SendError::Later)?,
            Some(source) => self.own(source, destination)?,
        };
        if self.out.room() == 0 {
            return Err(SendError::Later);
        }
        // RFC 1112, section 6.1: the default time-to-live of multicast is 1.
        let usual = if destination.is_multicast() { 1 } else { self.egress.hop_limits.to(destination) };
        let hop_limit = options.hop_limit.unwrap_or(usual);
        let traffic_class = self.egress.marked(options.traffic_class());
        Ok((Way { source, destination, traffic_class, flow_label: 0, hop_limit }, next_hop))
    }

    /// An address that the application wants to send from, if it is ours and of the destination's family.
    fn own(&mut self, source: IpAddr, destination: IpAddress) -> Result<IpAddress, SendError> {
        match self.egress.addresses.state(source.into()) {
            Some(AddressState::Preferred) if source.is_ipv4() == destination.is_v4() => Ok(source.into()),
            Some(AddressState::Tentative) => Err(SendError::Later),
            _ => Err(self.unsent(UnsentReason::NotOurs)),
        }
    }

    /// An error if an IP payload is longer than what may be sent this way.
    fn check_len(&mut self, payload_len: usize, way: &Way, options: &SendOptions) -> Result<(), SendError> {
        // The length field of IPv4 counts its header.
        let (ip_len, counted) = if way.destination.is_v4() { (ipv4::LEN, ipv4::LEN) } else { (ipv6::LEN, 0) };
        let fits_link = payload_len.saturating_add(ip_len) <= usize::from(self.egress.paths.link());
        if payload_len > usize::from(u16::MAX) - counted || (options.dont_fragment && !fits_link) {
            return Err(self.unsent(UnsentReason::TooLong));
        }
        Ok(())
    }

    /// A frame with `len` bytes that `write` fills in, in as many chunks as that takes, and their sum.
    fn fill(&mut self, len: usize, mut write: impl FnMut(usize, &mut [u8])) -> Result<(Frame, Sum), SendError> {
        let mut frame = self.umem.alloc().ok_or(SendError::Later)?;
        let mut at = Self::fill_chunk(self.umem, &mut frame, 0, len, &mut write);
        while at < len {
            let Some(mut more) = self.umem.alloc() else {
                self.umem.free(frame);
                return Err(SendError::Later);
            };
            at += Self::fill_chunk(self.umem, &mut more, at, len, &mut write);
            self.umem.append(&mut frame, more);
        }
        let sum = Sum::default().add_pieces(self.umem.slices(&frame));
        Ok((frame, sum))
    }

    /// Fills the bytes from `at` on into an empty frame, as far as it has room, and says how many those are.
    fn fill_chunk(
        umem: &mut Umem,
        frame: &mut Frame,
        at: usize,
        len: usize,
        write: &mut impl FnMut(usize, &mut [u8]),
    ) -> usize {
        let fitting = (len - at).min(umem.room_mut(frame).len());
        let fits = umem.set_len(frame, fitting);
        debug_assert!(fits, "it is no more than there is room for");
        write(at, umem.bytes_mut(frame));
        fitting
    }

    /// Puts an IP payload out: as one packet, or in fragments if it has to be and may. One that was not `written` for its
    /// length is not sent.
    fn put_out(
        &mut self,
        written: bool,
        mut frame: Frame,
        (way, next_hop): (&Way, IpAddress),
        protocol: u8,
        options: &SendOptions,
    ) -> Result<(), SendError> {
        let Self { now, egress, umem, out, .. } = self;
        egress.note_sent(umem, &frame, way, protocol, *now);
        if written && !options.dont_fragment && !egress.fits(umem.packet_len(&frame), way.destination, *now) {
            egress.send_long(frame, way, (protocol, Priority::default()), *now, umem);
            return Ok(());
        }
        if !written || !egress.write_ip(&mut frame, umem, way, protocol) {
            umem.free(frame);
            return Err(self.unsent(UnsentReason::TooLong));
        }
        if !options.dont_fragment && way.destination.is_v4() {
            let identification = egress.identifications.next(way.source, way.destination, protocol, *now);
            if let Some(header) = umem.bytes_mut(&mut frame).first_chunk_mut() {
                ipv4::allow_fragments(header, identification as u16);
            }
        }
        let next_hop = NextHop { address: next_hop, tags: egress.tags, came_from: None };
        egress.send_via(next_hop, frame, *now, umem, out);
        Ok(())
    }

    const fn unsent(&mut self, reason: UnsentReason) -> SendError {
        self.egress.counters.originated += 1;
        self.egress.counters.unsent(reason, 1);
        SendError::Unsent(reason)
    }
}
