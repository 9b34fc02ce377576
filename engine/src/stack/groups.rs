//! Groups in the stack: what is sent to them, and what routers ask and are told about them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, Instant, Umem, UnsentReason};
use crate::link::address::Probing;
use crate::network::membership::{Membership, Report};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::wire::membership::{Query, Record, Version};
use crate::wire::{icmpv6, igmp, ipv4, ipv6, mld, ndp};

use super::egress::{Egress, Way};
use super::ingress::payload;
use super::{Event, Inbound, NEIGHBOR_EVENTS, Outcome, Stack, StackConfig};

/// The groups of a stack at its start.
pub(super) fn members(config: &StackConfig, now: Instant) -> Membership {
    let solicited = || config.addresses.iter().filter_map(|prefix| IpAddress::from(prefix.addr()).to_v6());
    let reports = config.probing != Probing::Follow;
    let mut members =
        Membership::new(solicited().count() + config.groups.len(), reports, config.secret[0] ^ config.secret[1]);
    for address in solicited() {
        members.join_own(ndp::solicited_node(address).into(), now);
    }
    if config.probing == Probing::Off {
        // Whoever knows that the addresses are ours has had them before.
        members.assume_reported();
    }
    for &group in &config.groups {
        members.join_own(group, now);
    }
    members
}

impl<A: App> Stack<A> {
    /// Digests a copy of a frame to a group or a broadcast address, which the kernel has too. Off the packet path; `out`
    /// needs room for an answer.
    pub fn hear(&mut self, now: Instant, copy: &[u8], umem: &mut Umem, out: &mut Burst) {
        self.egress.counters.received += 1;
        let Some(mut frame) = umem.alloc() else { return self.egress.counters.drop(DropReason::CopyNoChunk) };
        if !umem.set_len(&mut frame, copy.len()) {
            umem.free(frame);
            return self.egress.counters.drop(DropReason::FrameTooLong);
        }
        umem.bytes_mut(&mut frame).copy_from_slice(copy);
        self.digest(now, frame, umem, out);
    }

    /// Takes in a router's question that another worker heard.
    pub fn hear_query(&mut self, query: &Query, is_v4: bool, now: Instant) {
        self.egress.members.query(query, is_v4, now);
        self.egress.hurry_upkeep();
    }

    /// The next group that the application joined or left, and which of the two: whoever decides which frames come here
    /// has to know, and so have the other workers.
    pub fn next_group_change(&mut self) -> Option<(IpAddress, bool)> {
        self.egress.members.next_change()
    }

    /// Hears whether applications on any worker are in a group.
    pub fn set_group(&mut self, group: IpAddress, joined: bool, now: Instant) {
        self.egress.members.set_elsewhere(group, joined, now);
        self.egress.hurry_upkeep();
    }

    /// Whether a datagram to a group or broadcast address is wanted.
    pub(super) fn hears_v4(&self, destination: Ipv4Addr, protocol: u8) -> bool {
        if !destination.is_multicast() {
            return self.broadcasts && protocol == ipv4::UDP;
        }
        // RFC 3376, section 4.1.12: a system MUST accept and process queries addressed to 224.0.0.1.
        (protocol == ipv4::IGMP && destination == igmp::ALL_SYSTEMS)
            || self.egress.members.is_member(destination.into())
    }

    pub(super) fn igmp(&mut self, now: Instant, inbound: &Inbound, bytes: &[u8]) -> Outcome {
        let Some(destination) = inbound.destination.to_v4() else {
            return Outcome::Dropped(DropReason::IgmpMalformed);
        };
        let options = bytes.get(inbound.ethernet.len_bytes() + ipv4::LEN..inbound.payload_at).unwrap_or_default();
        let query = igmp::parse_query(payload(bytes, inbound), destination, options);
        self.asked(now, query, true)
    }

    pub(super) fn mld(
        &mut self,
        now: Instant,
        packet: &icmpv6::Packet<'_>,
        inbound: &Inbound,
        bytes: &[u8],
    ) -> Outcome {
        let Some(source) = inbound.source.to_v6() else { return Outcome::Dropped(DropReason::MldMalformed) };
        let whole = bytes.get(inbound.ethernet.len_bytes()..).unwrap_or_default();
        let alerts = |packet: ipv6::Packet<'_>| ipv6::walk(&packet).is_ok_and(|upper| upper.router_alert);
        let router_alert = ipv6::Packet::parse(whole).is_ok_and(alerts);
        let query = mld::parse_query(packet, inbound.hop_limit, router_alert, source);
        self.asked(now, query, false)
    }

    fn asked(&mut self, now: Instant, query: Result<Query, DropReason>, is_v4: bool) -> Outcome {
        let query = match query {
            Ok(query) => query,
            Err(reason) => return Outcome::Dropped(reason),
        };
        self.egress.counters.group_queries_heard += 1;
        self.egress.members.query(&query, is_v4, now);
        if !self.egress.members.reports() && self.events.len() < NEIGHBOR_EVENTS {
            self.tell(Event::Query(query, is_v4));
        }
        Outcome::Delivered
    }
}

impl Egress {
    /// The neighbor to send a datagram to, or the group, which needs none.
    pub(super) fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        if destination.is_multicast() { Some(destination) } else { self.routes.next_hop(destination) }
    }

    /// Puts out what routers are to be told about our groups.
    pub(super) fn transmit_reports(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0
            && let Some(report) = self.members.due(now)
        {
            let Some(mut frame) = umem.alloc() else { return self.unsent(UnsentReason::NoChunk) };
            match self.write_report(&mut frame, umem, &report) {
                Some(destination) => {
                    self.counters.group_reports_originated += 1;
                    self.finish(frame, Mac::of_group(destination), self.tags, umem, out);
                }
                None => {
                    umem.free(frame);
                    self.unsent(UnsentReason::TooLong);
                }
            }
        }
    }

    /// Makes an empty frame an IP packet with a report, and says whom it goes to.
    fn write_report(&self, frame: &mut Frame, umem: &mut Umem, report: &Report) -> Option<IpAddress> {
        let is_v4 = match report {
            Report::Groups(records) => records.first()?.group.is_v4(),
            Report::Member(_, group) | Report::Leave(group) => group.is_v4(),
        };
        if is_v4 { self.write_igmp(frame, umem, report) } else { self.write_mld(frame, umem, report) }
    }

    fn write_igmp(&self, frame: &mut Frame, umem: &mut Umem, report: &Report) -> Option<IpAddress> {
        let (len, destination) = write_igmp_message(umem.room_mut(frame), report)?;
        // RFC 3376, section 4.2.13: 0.0.0.0 as long as there is no address.
        let source = self.source_for(destination.into()).and_then(IpAddress::to_v4);
        let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        if !umem.set_len(frame, len) {
            return None;
        }
        umem.prepend(frame).map(|out| igmp::write_ipv4(out, len as u16, source, destination))?;
        Some(destination.into())
    }

    fn write_mld(&self, frame: &mut Frame, umem: &mut Umem, report: &Report) -> Option<IpAddress> {
        // RFC 3810, section 5.2.13, and RFC 3590, section 4: from a link-local address, or from the unspecified one as long as
        // there is none.
        let source = self.addresses.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
        let (len, destination) = write_mld_message(umem.room_mut(frame), report, source)?;
        let (source, to) = (source.into(), destination.into());
        let way = Way { source, destination: to, traffic_class: 0, flow_label: 0, hop_limit: mld::HOP_LIMIT };
        (umem.set_len(frame, len) && self.write_ip(frame, umem, &way, ipv6::HOP_BY_HOP)).then_some(to)
    }
}

fn write_igmp_message(out: &mut [u8], report: &Report) -> Option<(usize, Ipv4Addr)> {
    let older = |group: IpAddress| group.to_v4();
    let destination = match report {
        Report::Groups(records) => {
            let v4 = records.iter().filter_map(|&Record { kind, group }| Some(Record { kind, group: group.to_v4()? }));
            return Some((igmp::write_report(out, v4)?, igmp::ALL_V3_ROUTERS));
        }
        Report::Member(Version::V1, group) => igmp::write_v1_report(out.first_chunk_mut()?, older(*group)?),
        Report::Member(_, group) => igmp::write_v2_report(out.first_chunk_mut()?, older(*group)?),
        Report::Leave(group) => igmp::write_leave(out.first_chunk_mut()?, older(*group)?),
    };
    Some((igmp::LEN, destination))
}

fn write_mld_message(out: &mut [u8], report: &Report, source: Ipv6Addr) -> Option<(usize, Ipv6Addr)> {
    let destination = match report {
        Report::Groups(records) => {
            let v6 = records.iter().filter_map(|&Record { kind, group }| Some(Record { kind, group: group.to_v6()? }));
            return Some((mld::write_report(out, v6, source)?, mld::ALL_V2_ROUTERS));
        }
        Report::Member(_, group) => mld::write_v1_report(out.first_chunk_mut()?, group.to_v6()?, source),
        Report::Leave(group) => mld::write_v1_done(out.first_chunk_mut()?, group.to_v6()?, source),
    };
    Some((mld::V1_LEN, destination))
}
