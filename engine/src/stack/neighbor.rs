//! Neighbors in the stack: ARP, and neighbor discovery.

use std::net::Ipv6Addr;

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, Instant, Umem};
use crate::link::address::Conflict;
use crate::link::{arp, ndp};
use crate::wire;
use crate::wire::ethernet::{self, Mac};
use crate::wire::ip::IpAddress;

use super::egress::Egress;
use super::icmp::tell_unreachable;
use super::{Event, Inbound, NEIGHBOR_EVENTS, Outcome, Stack};

impl<A: App> Stack<A> {
    pub(super) fn arp(
        &mut self,
        now: Instant,
        header: ethernet::Header,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let bytes = umem.bytes(frame).get(header.len_bytes()..).unwrap_or_default();
        let packet = match wire::arp::Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(reason) => return Outcome::Dropped(reason),
        };
        let Egress { addresses, neighbors, .. } = &mut self.egress;
        match arp::receive(&packet, self.mac, addresses, neighbors, now) {
            arp::Verdict::Answer(reply) => {
                if !self.egress.write_arp(frame, umem, header.tags, header.source, &reply) {
                    return Outcome::Delivered;
                }
                self.egress.counters.arp_requests_answered += 1;
                Outcome::Answered
            }
            arp::Verdict::Heard { address, mac, solicited, known } => {
                self.heard_of(address.into(), mac, solicited);
                if known { Outcome::Delivered } else { Outcome::Dropped(DropReason::ArpNotForUs) }
            }
            arp::Verdict::Conflict(address, mac, conflict) => {
                self.tell_conflict(address.into(), mac, conflict, now);
                Outcome::Dropped(DropReason::ArpConflict)
            }
            arp::Verdict::Drop(reason) => Outcome::Dropped(reason),
        }
    }

    pub(super) fn ndp(
        &mut self,
        now: Instant,
        message: &wire::ndp::Message,
        source: Ipv6Addr,
        inbound: &Inbound,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let from = inbound.ethernet.source;
        let Egress { addresses, neighbors, .. } = &mut self.egress;
        match ndp::receive(message, source, from, self.mac, addresses, neighbors, now) {
            ndp::Verdict::Answer { target, to_all } => self.advertise(target, to_all, inbound, frame, umem),
            ndp::Verdict::Heard { address, mac, solicited, known } => {
                if let Some(mac) = mac {
                    self.heard_of(address.into(), mac, solicited);
                }
                if known { Outcome::Delivered } else { Outcome::Dropped(DropReason::NdpNotForUs) }
            }
            ndp::Verdict::Conflict(address, mac, conflict) => {
                self.tell_conflict(address.into(), mac, conflict, now);
                Outcome::Dropped(DropReason::NdpConflict)
            }
            ndp::Verdict::Router(told) => self.hear_router(&told, source, now),
            ndp::Verdict::Drop(reason) => Outcome::Dropped(reason),
        }
    }

    /// Says that an address is ours, in the frame of the question.
    ///
    /// RFC 4861, section 7.2.4: if the source of the solicitation is the unspecified address, the Solicited flag is zero
    /// and the advertisement goes to all nodes; otherwise the flag is one, and it goes to the source.
    fn advertise(
        &mut self,
        target: Ipv6Addr,
        to_all: bool,
        inbound: &Inbound,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let to = if to_all { wire::ndp::ALL_NODES.into() } else { inbound.source };
        let message = self.egress.advertisement(target, !to_all);
        let write =
            |out: &mut [u8], source, destination| wire::ndp::write_advertisement(out, &message, source, destination);
        if !umem.set_len(frame, 0) || !self.egress.write_ndp(frame, umem, target.into(), to, write) {
            return Outcome::Delivered;
        }
        self.egress.counters.ndp_solicitations_answered += 1;
        if !to_all {
            return Outcome::Answer(*inbound);
        }
        if self.egress.write_ethernet(frame, umem, Mac::of_group(to), inbound.ethernet.tags) {
            Outcome::Answered
        } else {
            Outcome::Delivered
        }
    }

    /// Puts out the questions who has an address that are due. Who never answers is told of: to the application, whose packets
    /// waited, and to what chooses among routers.
    pub(super) fn transmit_questions(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        let Self { app, autoconf, egress, .. } = self;
        let unreachable = |packet: &[u8]| tell_unreachable(app, now, packet);
        egress.transmit_questions(now, umem, out, unreachable, |neighbor| {
            autoconf.iter_mut().for_each(|configured| configured.lost(neighbor));
        });
    }

    /// Another worker of the same addresses may be searching for the neighbor.
    fn heard_of(&mut self, address: IpAddress, mac: Mac, solicited: bool) {
        if self.events.len() < NEIGHBOR_EVENTS {
            self.tell(Event::Neighbor { address, mac, solicited });
        }
    }

    fn tell_conflict(&mut self, address: IpAddress, mac: Mac, conflict: Conflict, now: Instant) {
        self.egress.counters.address_conflicts += 1;
        if conflict == Conflict::Duplicate && self.give_up(address, now) {
            return;
        }
        match conflict {
            Conflict::Duplicate => self.tell(Event::Duplicate(address, mac)),
            Conflict::Defend => self.tell(Event::Contested(address, mac)),
            Conflict::Ignore => {}
        }
    }
}
