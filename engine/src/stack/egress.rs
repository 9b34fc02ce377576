//! The way out: headers written right to left into a frame's headroom, and what the stack sends on its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::app::{ConnectError, Connection, ConnectionId, Outbox, SendError};
use crate::base::{Burst, Frame, Instant, Umem, UnsentReason};
use crate::counters::StackCounters;
use crate::link::address::{AddressState, Addresses, Claim};
use crate::link::neighbor::{Due, Neighbors};
use crate::network::icmp::ErrorMessage;
use crate::network::ipv4::{DEFAULT_TTL, is_valid_source};
use crate::network::route::Routes;
use crate::network::rss::OwnQueue;
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{ConnectFailure, Tcp};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac, Tags};
use crate::wire::{arp, icmpv4, ipv4, udp};

use super::connection::{Conversation, id};
use super::tcp::renew;

/// What sending needs: who we are, which way things go, and what was counted.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    /// Of the frames that answer nothing; an answer has those of its request.
    pub(super) tags: Tags,
    pub(super) addresses: Addresses,
    pub(super) routes: Routes,
    pub(super) neighbors: Neighbors,
    /// Hops that a segment of TCP may take.
    pub(super) tcp_ttl: u8,
    /// Which flows the NIC gives to this worker's queue, if that is known.
    pub(super) own_queue: Option<OwnQueue>,
    pub(super) counters: StackCounters,
}

impl Egress {
    /// Puts a finished frame out.
    pub(super) fn push(&mut self, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        self.counters.originated += 1;
        self.forward(frame, umem, out);
    }

    /// Puts a frame out that was counted as originated before.
    fn forward(&mut self, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        if let Err(frame) = out.push(frame) {
            umem.free(frame);
            self.counters.unsent(UnsentReason::DeviceStalled, 1);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.neighbors.has_found() {
            return Some(Instant::ZERO);
        }
        [self.addresses.next_deadline(), self.neighbors.next_deadline()].into_iter().flatten().min()
    }

    /// Puts out frames whose neighbor was found.
    pub(super) fn flush_found(&mut self, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0 {
            let Some((mut frame, mac)) = self.neighbors.next_found(umem) else { return };
            if self.write_ethernet(&mut frame, umem, mac, self.tags, ethernet::IPV4) {
                self.forward(frame, umem, out);
            } else {
                umem.free(frame);
                self.counters.unsent(UnsentReason::TooLong, 1);
            }
        }
    }

    /// Puts out the ARP packets that are due, and gives up on neighbors that never answered.
    pub(super) fn transmit_arp(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0
            && let Some(claim) = self.addresses.due(now)
        {
            // RFC 5227, section 2.1.1: a probe's sender address is zero, so that it pollutes nobody's table.
            let (sender, target) = match claim {
                Claim::Probe(address) => (Ipv4Addr::UNSPECIFIED, address),
                Claim::Announce(address) => (address, address),
            };
            self.ask(sender, target, Mac::BROADCAST, umem, out);
        }
        while out.room() > 0
            && let Some(due) = self.neighbors.due(now)
        {
            match due {
                Due::Ask(target, to) => {
                    let sender = self.addresses.source_for(target).unwrap_or(Ipv4Addr::UNSPECIFIED);
                    self.ask(sender, target, to, umem, out);
                }
                Due::GiveUp(mut waiting) => {
                    let frames = waiting.clear(umem);
                    self.counters.unsent(UnsentReason::NeighborUnreachable, u64::from(frames));
                }
            }
        }
    }

    fn ask(&mut self, sender: Ipv4Addr, target: Ipv4Addr, to: Mac, umem: &mut Umem, out: &mut Burst) {
        let Some(mut frame) = umem.alloc() else {
            self.counters.originated += 1;
            self.counters.unsent(UnsentReason::NoChunk, 1);
            return;
        };
        let operation = arp::Operation::Request;
        let request = arp::Packet { operation, sender_mac: self.mac, sender, target_mac: Mac::ZERO, target };
        if self.write_arp(&mut frame, umem, self.tags, to, &request) {
            self.counters.arp_requests_originated += 1;
            self.push(frame, umem, out);
        } else {
            umem.free(frame);
        }
    }

    /// Makes the frame an ARP packet.
    pub(super) fn write_arp(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        tags: Tags,
        to: Mac,
        packet: &arp::Packet,
    ) -> bool {
        let header = ethernet::Header { destination: to, source: self.mac, tags, ethertype: ethernet::ARP };
        if !umem.set_len(frame, header.len_bytes() + arp::LEN) {
            return false;
        }
        let Some((front, back)) = umem.bytes_mut(frame).split_at_mut_checked(header.len_bytes()) else { return false };
        let Some(body) = back.first_chunk_mut() else { return false };
        packet.write(body);
        header.write(front)
    }

    /// Puts a UDP and an IPv4 header in front of the payload that the frame holds, of which `payload` is the sum.
    #[inline]
    pub(super) fn write_udp(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        way: &Way,
        ports: (u16, u16),
        payload: Sum,
    ) -> bool {
        let payload_len = frame.len();
        let header =
            udp::Header { source: (way.source, ports.0), destination: (way.destination, ports.1), payload_len };
        let ip_header = way.header(ipv4::UDP, payload_len.saturating_add(udp::LEN as u16));
        self.prepend::<{ ipv4::LEN + udp::LEN }>(frame, umem, |out| {
            let (ip_out, udp_out) = out.split_at_mut(ipv4::LEN);
            if let (Some(ip_out), Some(udp_out)) = (ip_out.first_chunk_mut(), udp_out.first_chunk_mut()) {
                ip_header.write(ip_out);
                header.write(udp_out, payload);
            }
        })
    }

    /// Puts an IPv4 header in front of the payload that the frame holds.
    pub(super) fn write_ipv4(&self, frame: &mut Frame, umem: &mut Umem, way: &Way, protocol: u8) -> bool {
        let header = way.header(protocol, frame.len());
        self.prepend(frame, umem, |out| header.write(out))
    }

    /// Makes the packet `N` bytes longer at its front, which `write` fills in; `false` if the interface could
    /// not send it then.
    #[inline]
    fn prepend<const N: usize>(&self, frame: &mut Frame, umem: &mut Umem, write: impl FnOnce(&mut [u8; N])) -> bool {
        usize::from(frame.len()) + N <= usize::from(self.mtu) && umem.prepend(frame).map(write).is_some()
    }

    /// Puts an Ethernet header in front of the packet that the frame holds.
    #[inline]
    pub(super) fn write_ethernet(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        to: Mac,
        tags: Tags,
        ethertype: u16,
    ) -> bool {
        let header = ethernet::Header { destination: to, source: self.mac, tags, ethertype };
        match tags.count() {
            0 => umem.prepend::<{ ethernet::LEN }>(frame).map(|out| header.write_untagged(out)).is_some(),
            1 => umem.prepend::<{ ethernet::LEN + ethernet::TAG_LEN }>(frame).is_some_and(|out| header.write(out)),
            _ => umem.prepend::<{ ethernet::MAX_LEN }>(frame).is_some_and(|out| header.write(out)),
        }
    }
}

/// Whom an IPv4 packet of ours is from and to, and in which class it travels.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) traffic_class: u8,
    pub(super) ttl: u8,
}

impl Way {
    #[inline]
    const fn header(&self, protocol: u8, payload_len: u16) -> ipv4::Header {
        let Self { source, destination, traffic_class, ttl } = *self;
        ipv4::Header { traffic_class, payload_len, ttl, protocol, source, destination }
    }
}

/// Puts the header of an ICMP error in front of the datagram that the frame holds and that it is about.
pub(super) fn write_icmp_error(frame: &mut Frame, umem: &mut Umem, error: ErrorMessage) -> bool {
    if umem.prepend::<{ icmpv4::LEN }>(frame).is_none() {
        return false;
    }
    let Some((header, quoted)) = umem.bytes_mut(frame).split_first_chunk_mut() else { return false };
    icmpv4::write_error(header, error.kind, error.code, quoted);
    true
}

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
        let SocketAddr::V4(to) = to else { return Err(self.unsent(UnsentReason::NoRoute)) };
        let Some(next_hop) = self.egress.routes.next_hop(*to.ip()) else {
            return Err(self.unsent(UnsentReason::NoRoute));
        };
        let Some(source) = self.egress.addresses.source_for(*to.ip()) else { return Err(SendError::Later) };
        if self.out.room() == 0 {
            return Err(SendError::Later);
        }
        let mut frame = self.umem.alloc().ok_or(SendError::Later)?;
        let room = self.umem.room_mut(&mut frame);
        let len = write(room);
        let sum = Sum::default().add_bytes(room.get(..len).unwrap_or_default());
        let way = Way { source, destination: *to.ip(), traffic_class: 0, ttl: DEFAULT_TTL };
        let written = self.umem.set_len(&mut frame, len)
            && self.egress.write_udp(&mut frame, self.umem, &way, (from, to.port()), sum);
        if !written {
            self.umem.free(frame);
            return Err(self.unsent(UnsentReason::TooLong));
        }
        self.send_via(next_hop, frame)
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
        let SocketAddr::V4(to) = to else { return Err(ConnectError::NoRoute) };
        let egress = &mut self.egress;
        let remote = *to.ip();
        // RFC 9293, section 3.9.1.1 (MUST-46): a TCP MUST reject as an error a local OPEN call for an invalid remote IP
        // address, such as a broadcast or multicast address.
        let is_group = remote.is_multicast() || remote.is_broadcast() || egress.addresses.is_directed_broadcast(remote);
        if is_group || !is_valid_source(remote) || to.port() == 0 || egress.addresses.state(remote).is_some() {
            return Err(ConnectError::InvalidAddress);
        }
        if egress.routes.next_hop(remote).is_none() {
            return Err(ConnectError::NoRoute);
        }
        // RFC 9293, section 3.9.1.1 (MUST-44): the IP layer is asked to select a local address before the first SYN.
        let local = match from {
            None => egress.addresses.source_for(remote).ok_or(ConnectError::Later)?,
            // RFC 9293, section 3.9.1.1 (MUST-43): the optional "local IP address" parameter MUST be supported.
            Some(IpAddr::V4(local)) => match egress.addresses.state(local) {
                Some(AddressState::Preferred) => local,
                Some(AddressState::Tentative) => return Err(ConnectError::Later),
                _ => return Err(ConnectError::NotOurs),
            },
            Some(IpAddr::V6(_)) => return Err(ConnectError::NotOurs),
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
    /// Sends a finished IPv4 packet to a neighbor, or lets it wait until the neighbor is found.
    fn send_via(&mut self, next_hop: Ipv4Addr, mut frame: Frame) -> Result<(), SendError> {
        let Self { now, egress, umem, out, .. } = self;
        match egress.neighbors.lookup(next_hop, *now) {
            Some(mac) if egress.write_ethernet(&mut frame, umem, mac, egress.tags, ethernet::IPV4) => {
                egress.push(frame, umem, out);
            }
            Some(_) => {
                umem.free(frame);
                return Err(self.unsent(UnsentReason::TooLong));
            }
            None => {
                if let Err((frame, reason)) = egress.neighbors.wait(next_hop, frame, umem, *now) {
                    umem.free(frame);
                    return Err(self.unsent(reason));
                }
                egress.counters.originated += 1;
            }
        }
        self.egress.counters.udp_originated += 1;
        Ok(())
    }

    const fn unsent(&mut self, reason: UnsentReason) -> SendError {
        self.egress.counters.originated += 1;
        self.egress.counters.unsent(reason, 1);
        SendError::Unsent(reason)
    }
}
