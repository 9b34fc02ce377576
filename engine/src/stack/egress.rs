//! The way out: headers written right to left into a frame's headroom, and what the stack sends on its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::app::Echo;
use crate::base::{Burst, Frame, FrameQueue, Instant, Umem, UnsentReason};
use crate::counters::StackCounters;
use crate::link::address::{Addresses, Claim};
use crate::link::neighbor::{Due, Neighbors};
use crate::network::identification::Identifications;
use crate::network::is_valid_source;
use crate::network::membership::Membership;
use crate::network::path_mtu::PathMtus;
use crate::network::route::Routes;
use crate::network::rss::OwnQueue;
use crate::network::sent_lately::SentLately;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac, Priority, Tags};
use crate::wire::ip::IpAddress;
use crate::wire::{arp, icmpv4, icmpv6, ipv4, ipv6, ndp, udp};

use super::Inbound;
use super::hop_limits::HopLimits;
use super::ways::Ways;

/// The congestion notification in a traffic class (RFC 3168).
const ECN: u8 = 3;

/// What sending needs: who we are, which way things go, and what was counted.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) mac: Mac,
    /// Of the frames that answer nothing; an answer has those of its request.
    pub(super) tags: Tags,
    /// Of connections, in their places: that of the frame which opened them. None where frames are untagged.
    pub(super) priorities: Vec<Priority>,
    /// What link and paths take.
    pub(super) paths: PathMtus,
    /// Long packets of UDP and ICMP, for errors about them to be proved by.
    pub(super) sent: SentLately,
    pub(super) identifications: Identifications,
    /// IP packets that are fragments and wait for room to be sent, each behind the byte of its priority.
    pub(super) outgoing: FrameQueue,
    pub(super) addresses: Addresses,
    /// Whether connections and datagrams go out from addresses that change, where there are any.
    pub(super) prefer_temporary: bool,
    pub(super) routes: Routes,
    pub(super) neighbors: Neighbors,
    pub(super) members: Membership,
    /// The code point of packets, if it is configured.
    pub(super) dscp: Option<u8>,
    pub(super) hop_limits: HopLimits,
    /// Those of segments of TCP.
    pub(super) tcp_hop_limits: HopLimits,
    /// Which flows the NIC gives to this worker's queue, if that is known.
    pub(super) own_queue: Option<OwnQueue>,
    pub(super) ways: Ways,
    /// Whether the device cuts up packets of several segments of TCP.
    pub(super) segmentation: bool,
    /// When to look after addresses, groups, fragments and what routers told: not later than something of it is due, and
    /// at once (zero) when any of it may have changed.
    pub(super) upkeep_at: Instant,
    pub(super) counters: StackCounters,
}

impl Egress {
    /// Puts a finished frame out.
    #[inline]
    pub(super) fn push(&mut self, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        self.counters.originated += 1;
        self.forward(frame, umem, out);
    }

    /// Whether segments of TCP may go out several in one packet: tagged frames are not cut up.
    #[inline]
    pub(super) fn joins_segments(&self) -> bool {
        self.segmentation && self.tags.count() == 0
    }

    /// Puts a frame out that was counted as originated before.
    #[inline(always)]
    pub(super) fn forward(&mut self, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        if let Err(frame) = out.push(frame) {
            umem.free(frame);
            self.counters.unsent(UnsentReason::DeviceStalled, 1);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.neighbors.has_found() || !self.outgoing.is_empty() {
            return Some(Instant::ZERO);
        }
        let members = self.members.next_deadline();
        [self.addresses.next_deadline(), self.neighbors.next_deadline(), members].into_iter().flatten().min()
    }

    /// Whether a turn has more to look after than connections and the application.
    #[inline]
    pub(super) fn upkeep_is_due(&self, now: Instant) -> bool {
        self.upkeep_at <= now
            || self.neighbors.has_found()
            || self.neighbors.next_deadline().is_some_and(|next| next <= now)
            || !self.outgoing.is_empty()
    }

    /// Addresses, groups, fragments or what routers told may have changed.
    #[inline]
    pub(super) const fn hurry_upkeep(&mut self) {
        self.upkeep_at = Instant::ZERO;
    }

    /// Takes other ways out.
    pub(super) fn set_routes(&mut self, routes: Routes) {
        self.paths.set_least_of_routes(routes.least_mtu());
        self.routes = routes;
        self.neighbors.begin_epoch();
    }

    /// Bytes that the path to a destination takes, by what its route says and routers have said.
    pub(super) fn path_mtu(&self, destination: IpAddress, now: Instant) -> u16 {
        if self.paths.least() == self.paths.link() {
            return self.paths.link();
        }
        let told = self.paths.to(destination, now);
        self.routes.lookup(destination).and_then(|route| route.mtu).map_or(told, |mtu| mtu.min(told))
    }

    /// The MAC address that a packet goes to from `ours` to `theirs`, if it was found out lately and datagrams may come in
    /// by that way.
    #[inline(always)]
    pub(super) fn known_way(&self, ours: IpAddress, theirs: IpAddress, now: Instant) -> Option<Mac> {
        self.ways.find(ours, theirs, self.neighbors.epoch(), now)
    }

    /// Finds it out; zero unless the neighbor is known.
    #[inline(never)]
    pub(super) fn find_way(&mut self, ours: IpAddress, theirs: IpAddress, now: Instant) -> Mac {
        let next_hop = self.routes.next_hop(theirs);
        let Some(known) = next_hop.and_then(|next_hop| self.neighbors.resolve_until(next_hop, now)) else {
            return Mac::ZERO;
        };
        if is_valid_source(theirs) && self.addresses.may_receive(theirs, ours) {
            self.ways.put((ours, theirs), known, self.neighbors.epoch());
        }
        known.0
    }

    /// Sends an IP packet that answers `inbound`: by the route to where that came from, or straight back if the neighbor
    /// is not known and cannot be searched for.
    pub(super) fn send_back(
        &mut self,
        inbound: &Inbound,
        frame: Frame,
        now: Instant,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let ethernet::Header { source, tags, .. } = inbound.ethernet;
        let Some(next_hop) = self.routes.next_hop(inbound.source) else {
            umem.free(frame);
            return self.unsent(UnsentReason::NoRoute);
        };
        self.send_via(NextHop { address: next_hop, tags, came_from: Some(source) }, frame, now, umem, out);
    }

    /// Sends an IP packet to a neighbor, or lets it wait until the neighbor is found.
    pub(super) fn send_via(&mut self, next_hop: NextHop, frame: Frame, now: Instant, umem: &mut Umem, out: &mut Burst) {
        let NextHop { address, tags, came_from } = next_hop;
        let group = address.is_multicast().then(|| Mac::of_group(address));
        if let Some(mac) = group.or_else(|| self.neighbors.resolve(address, now)) {
            return self.finish(frame, mac, tags, umem, out);
        }
        let mut frame = frame;
        if !put_priority(&mut frame, umem, tags.priority()) {
            umem.free(frame);
            return self.unsent(UnsentReason::TooLong);
        }
        match self.neighbors.wait(address, frame, umem, now) {
            Ok(pushed_out) => {
                self.counters.originated += 1;
                if let Some(oldest) = pushed_out {
                    umem.free(oldest);
                    self.counters.unsent(UnsentReason::NeighborQueueFull, 1);
                }
            }
            Err((mut frame, reason)) => match came_from {
                Some(mac) => {
                    take_priority(&mut frame, umem);
                    self.finish(frame, mac, tags, umem, out);
                }
                None => {
                    umem.free(frame);
                    self.unsent(reason);
                }
            },
        }
    }

    /// Puts the Ethernet header in front of an IP packet, and puts it out.
    pub(super) fn finish(&mut self, mut frame: Frame, to: Mac, tags: Tags, umem: &mut Umem, out: &mut Burst) {
        if self.write_ethernet(&mut frame, umem, to, tags) {
            self.push(frame, umem, out);
        } else {
            umem.free(frame);
            self.unsent(UnsentReason::TooLong);
        }
    }

    /// Counts a frame that was to be sent and is not.
    pub(super) const fn unsent(&mut self, reason: UnsentReason) {
        self.counters.originated += 1;
        self.counters.unsent(reason, 1);
    }

    /// Puts out frames whose neighbor was found.
    pub(super) fn flush_found(&mut self, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0 {
            let Some((mut frame, _, mac)) = self.neighbors.next_found(umem) else { return };
            let tags = self.tags.with_priority(take_priority(&mut frame, umem));
            if self.write_ethernet(&mut frame, umem, mac, tags) {
                self.forward(frame, umem, out);
            } else {
                umem.free(frame);
                self.counters.unsent(UnsentReason::TooLong, 1);
            }
        }
    }

    /// Puts out the questions who has an address that are due, and gives up on neighbors that never answered: each packet
    /// that waited for one is shown to `unreachable`, and each of them to `lost`.
    pub(super) fn transmit_questions(
        &mut self,
        now: Instant,
        umem: &mut Umem,
        out: &mut Burst,
        mut unreachable: impl FnMut(&[u8]),
        mut lost: impl FnMut(IpAddress),
    ) {
        while out.room() > 0
            && let Some(claim) = self.addresses.due(now)
        {
            self.claim(claim, umem, out);
        }
        while out.room() > 0
            && let Some(due) = self.neighbors.due(now)
        {
            match due {
                Due::Solicit { address, to } => self.solicit(address, to, umem, out),
                Due::GiveUp(neighbor, mut waiting) => {
                    lost(neighbor);
                    let mut place = waiting.first();
                    while let Some(queued) = place {
                        unreachable(umem.queued_bytes(queued).get(PRIORITY_LEN..).unwrap_or_default());
                        place = umem.next(queued);
                    }
                    let frames = waiting.clear(umem);
                    self.counters.unsent(UnsentReason::NeighborUnreachable, u64::from(frames));
                }
            }
        }
    }

    fn claim(&mut self, claim: Claim, umem: &mut Umem, out: &mut Burst) {
        let (Claim::Probe(address) | Claim::Announce(address)) = claim;
        match (claim, address.to_v4(), address.to_v6()) {
            // RFC 5227, section 2.1.1: a probe's sender address is zero, so that it pollutes nobody's table.
            (Claim::Probe(_), Some(v4), _) => self.ask(Ipv4Addr::UNSPECIFIED, v4, Mac::BROADCAST, umem, out),
            (Claim::Announce(_), Some(v4), _) => self.ask(v4, v4, Mac::BROADCAST, umem, out),
            (Claim::Probe(_), None, Some(v6)) => {
                // RFC 4862, section 5.4.2: from the unspecified address to the solicited-node group, without options.
                let message = ndp::Solicitation { target: v6, source_mac: None };
                let write = |room: &mut [u8], source, to| ndp::write_solicitation(room, &message, source, to);
                self.send_ndp(IpAddress::NONE, ndp::solicited_node(v6).into(), None, umem, out, write);
            }
            (Claim::Announce(_), None, Some(v6)) => {
                let message = self.advertisement(v6, false);
                let write = |room: &mut [u8], source, to| ndp::write_advertisement(room, &message, source, to);
                self.send_ndp(address, ndp::ALL_NODES.into(), None, umem, out, write);
            }
            (_, None, None) => {}
        }
    }

    fn solicit(&mut self, address: IpAddress, to: Option<Mac>, umem: &mut Umem, out: &mut Burst) {
        let source = self.source_for(address);
        match (address.to_v4(), address.to_v6()) {
            (Some(target), _) => {
                let sender = source.and_then(IpAddress::to_v4).unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.ask(sender, target, to.unwrap_or(Mac::BROADCAST), umem, out);
            }
            (None, Some(target)) => {
                // RFC 4861, section 7.2.2: to the solicited-node group when it is searched for, to the neighbor itself when
                // it is only probed.
                let Some(source) = source else { return };
                let group = to.map_or_else(|| ndp::solicited_node(target).into(), |_| address);
                let message = ndp::Solicitation { target, source_mac: Some(self.mac) };
                let write = |room: &mut [u8], source, to| ndp::write_solicitation(room, &message, source, to);
                self.send_ndp(source, group, to, umem, out, write);
            }
            (None, None) => {}
        }
    }

    /// What tells others that an address is ours (RFC 4861, section 4.4).
    pub(super) const fn advertisement(&self, target: Ipv6Addr, solicited: bool) -> ndp::Advertisement {
        ndp::Advertisement { target, router: false, solicited, override_: true, target_mac: Some(self.mac) }
    }

    /// Sends a message of neighbor discovery to a group, or to the neighbor that has the MAC address `to`.
    pub(super) fn send_ndp(
        &mut self,
        source: IpAddress,
        destination: IpAddress,
        to: Option<Mac>,
        umem: &mut Umem,
        out: &mut Burst,
        write: impl FnOnce(&mut [u8], Ipv6Addr, Ipv6Addr) -> Option<usize>,
    ) {
        let Some(mut frame) = umem.alloc() else { return self.unsent(UnsentReason::NoChunk) };
        if self.write_ndp(&mut frame, umem, source, destination, write) {
            self.counters.ndp_messages_originated += 1;
            let mac = to.unwrap_or_else(|| Mac::of_group(destination));
            self.finish(frame, mac, self.tags, umem, out);
        } else {
            umem.free(frame);
            self.unsent(UnsentReason::TooLong);
        }
    }

    /// Makes an empty frame an IPv6 packet with a message of neighbor discovery.
    pub(super) fn write_ndp(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        source: IpAddress,
        destination: IpAddress,
        write: impl FnOnce(&mut [u8], Ipv6Addr, Ipv6Addr) -> Option<usize>,
    ) -> bool {
        let (Some(from), Some(to)) = (source.to_v6(), destination.to_v6()) else { return false };
        let Some(len) = write(umem.room_mut(frame), from, to) else { return false };
        let way = Way { source, destination, traffic_class: 0, flow_label: 0, hop_limit: ndp::HOP_LIMIT };
        umem.set_len(frame, len) && self.write_ip(frame, umem, &way, ipv6::ICMPV6)
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

    /// Puts a UDP header in front of the payload that the frame holds, of which `payload` is the sum.
    #[inline]
    pub(super) fn write_udp(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        way: &Way,
        ports: (u16, u16),
        payload: Sum,
    ) -> bool {
        let Ok(payload_len) = u16::try_from(umem.packet_len(frame)) else { return false };
        if payload_len > u16::MAX - udp::LEN as u16 {
            return false;
        }
        let header =
            udp::Header { source: (way.source, ports.0), destination: (way.destination, ports.1), payload_len };
        umem.prepend(frame).map(|out| header.write(out, payload)).is_some()
    }

    /// Puts the header of an echo request in front of the payload that the frame holds, of which `payload` is the sum.
    pub(super) fn write_echo_request(frame: &mut Frame, umem: &mut Umem, way: &Way, echo: Echo, payload: Sum) -> bool {
        let Ok(len) = u16::try_from(umem.packet_len(frame)) else { return false };
        if len > u16::MAX - icmpv4::LEN as u16 {
            return false;
        }
        let Some(out) = umem.prepend(frame) else { return false };
        let Echo { identifier, sequence } = echo;
        match (way.source.to_v6(), way.destination.to_v6()) {
            (Some(source), Some(destination)) => {
                icmpv6::write_echo_request(out, (identifier, sequence), (payload, len), source, destination);
            }
            _ => icmpv4::write_echo_request(out, identifier, sequence, payload),
        }
        true
    }

    /// The tags of a connection's frames, by its place: with the priority of what opened it.
    #[inline]
    pub(super) fn tags_of(&self, connection: u32) -> Tags {
        self.priorities.get(connection as usize).map_or(self.tags, |&priority| self.tags.with_priority(priority))
    }

    /// Puts an IP header in front of the payload that the frame holds.
    #[inline]
    pub(super) fn write_ip(&self, frame: &mut Frame, umem: &mut Umem, way: &Way, protocol: u8) -> bool {
        self.write_ip_up_to(self.paths.link(), frame, umem, way, protocol)
    }

    /// The same of a packet that may be so many bytes long.
    #[inline]
    pub(super) fn write_ip_up_to(
        &self,
        most_bytes: u16,
        frame: &mut Frame,
        umem: &mut Umem,
        way: &Way,
        protocol: u8,
    ) -> bool {
        let Ok(payload_len) = u16::try_from(umem.packet_len(frame)) else { return false };
        let Way { traffic_class, flow_label, hop_limit, .. } = *way;
        if let (Some(source), Some(destination)) = (way.source.to_v4(), way.destination.to_v4()) {
            let header = ipv4::Header { traffic_class, payload_len, ttl: hop_limit, protocol, source, destination };
            return prepend((payload_len, most_bytes), frame, umem, |out| header.write(out));
        }
        let (Some(source), Some(destination)) = (way.source.to_v6(), way.destination.to_v6()) else { return false };
        let next_header = protocol;
        let header =
            ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination };
        prepend((payload_len, most_bytes), frame, umem, |out| header.write(out))
    }

    /// Puts an Ethernet header in front of the IP packet that the frame holds.
    #[inline]
    pub(super) fn write_ethernet(&self, frame: &mut Frame, umem: &mut Umem, to: Mac, tags: Tags) -> bool {
        let is_v6 = umem.bytes(frame).first().is_some_and(|first| first >> 4 == 6);
        let ethertype = if is_v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        let header = ethernet::Header { destination: to, source: self.mac, tags, ethertype };
        match tags.count() {
            0 => umem.prepend::<{ ethernet::LEN }>(frame).map(|out| header.write_untagged(out)).is_some(),
            1 => umem.prepend::<{ ethernet::LEN + ethernet::TAG_LEN }>(frame).is_some_and(|out| header.write(out)),
            _ => umem.prepend::<{ ethernet::MAX_LEN }>(frame).is_some_and(|out| header.write(out)),
        }
    }
}

/// Makes the packet of `len` bytes `N` bytes longer at its front, which `write` fills in; `false` if it had more than `most`
/// bytes then, or there is no room.
#[inline]
fn prepend<const N: usize>(
    (len, most): (u16, u16),
    frame: &mut Frame,
    umem: &mut Umem,
    write: impl FnOnce(&mut [u8; N]),
) -> bool {
    usize::from(len) + N <= usize::from(most) && umem.prepend(frame).map(write).is_some()
}

/// Bytes in front of an IP packet that waits to be sent: its priority.
const PRIORITY_LEN: usize = 1;

/// Puts the priority of a packet in front of it, for as long as it waits; `false` if there is no room.
pub(super) fn put_priority(frame: &mut Frame, umem: &mut Umem, priority: Priority) -> bool {
    umem.prepend::<PRIORITY_LEN>(frame).map(|byte| *byte = [priority.0]).is_some()
}

/// Takes it off again.
pub(super) fn take_priority(frame: &mut Frame, umem: &mut Umem) -> Priority {
    let priority = umem.bytes(frame).first().copied().unwrap_or_default();
    let rest = usize::from(frame.len()).saturating_sub(PRIORITY_LEN);
    let narrowed = Umem::narrow(frame, PRIORITY_LEN, rest);
    debug_assert!(narrowed, "the byte of the priority is in front");
    Priority(priority)
}

/// Who takes a packet of ours next.
#[derive(Clone, Copy)]
pub(super) struct NextHop {
    pub(super) address: IpAddress,
    pub(super) tags: Tags,
    /// The MAC address that the packet goes to if the neighbor is not known and cannot be searched for either: the one that
    /// what it answers came from.
    pub(super) came_from: Option<Mac>,
}

/// Whom an IP packet of ours is from and to, and in which class it travels.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) source: IpAddress,
    pub(super) destination: IpAddress,
    pub(super) traffic_class: u8,
    /// Of IPv6 alone.
    pub(super) flow_label: u32,
    pub(super) hop_limit: u8,
}

impl Egress {
    /// The way of an answer from `ours` to `sender`: in the class of its request, but without the congestion mark, which
    /// belongs to the packet that carried it (RFC 1122, section 3.2.1.6 for ICMP, and as Linux for the rest); in the flow of
    /// its request, so that what spreads flows over paths treats both alike.
    #[inline]
    pub(super) fn way_back(&self, sender: IpAddress, ours: IpAddress, traffic_class: u8, flow_label: u32) -> Way {
        let traffic_class = self.class_back(traffic_class);
        let hop_limit = self.hop_limits.to(sender);
        Way { source: ours, destination: sender, traffic_class, flow_label, hop_limit }
    }

    /// The traffic class of an answer.
    #[inline]
    pub(super) fn class_back(&self, traffic_class: u8) -> u8 {
        self.dscp.map_or(traffic_class & !ECN, |dscp| dscp << 2)
    }

    /// The way of an answer to a datagram from an address of ours: the one that it was to, unless that is a group.
    #[inline]
    pub(super) fn answer_way(&self, inbound: &Inbound, ours: IpAddress) -> Way {
        self.way_back(inbound.source, ours, inbound.traffic_class, inbound.flow_label)
    }

    /// The way of what is not an answer, in a class that an application chose or did not.
    #[inline]
    pub(super) fn marked(&self, traffic_class: u8) -> u8 {
        match self.dscp {
            Some(dscp) if traffic_class & !ECN == 0 => dscp << 2 | traffic_class,
            _ => traffic_class,
        }
    }
}
