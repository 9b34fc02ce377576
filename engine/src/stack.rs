//! The stack: the only place where the layers meet.
//!
//! ```text
//!   receive:  plain ------------> App::datagram     nearly always
//!             ethernet -> arp
//!                      -> ipv4 -> icmp
//!                              -> udp -> App::datagram
//!                              -> tcp -> App::opened, data, writable, finished, closed
//!   transmit: answers go out in the frame that the request came in; what waits for a neighbor, ARP requests,
//!             the application's own datagrams and TCP's segments follow when there is room
//! ```
//!
//! Sans-IO: time, randomness and frames come in as arguments, frames go out. Each turn, call
//! [`Stack::receive`] with the frames that arrived, then [`Stack::transmit`]; and call again at the latest at
//! [`Stack::next_deadline`]. `receive` puts at most one frame out for each that it takes.
#![forbid(unsafe_code)]

mod connection;
mod egress;
mod plain;
mod tcp;

use std::net::{Ipv4Addr, SocketAddr};

use arrayvec::ArrayVec;
use ipnet::Ipv4Net;

use crate::app::{Answer, App, Datagram};
use crate::base::{Burst, DropReason, Frame, Instant, Umem, UnsentReason};
use crate::counters::StackCounters;
use crate::link::address::{Addresses, Conflict, Probing};
use crate::link::arp;
use crate::link::neighbor::{NeighborConfig, Neighbors};
use crate::network::icmp::{self, ErrorMessage};
use crate::network::ipv4;
use crate::network::rate_limit::RateLimit;
use crate::network::route::Routes;
use crate::network::rss::OwnQueue;
use crate::transport::tcp::path::PathError;
use crate::transport::tcp::{Tcp, TcpConfig};
use crate::transport::udp::{self, ChecksumPolicy, Ports};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::{self, icmpv4};
use egress::{Egress, Turn, Way};

/// Everything a stack has to be told.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// MAC address of the interface.
    pub mac: Mac,
    /// Longest IP packet that the interface sends, bytes.
    pub mtu: u16,
    /// Addresses of ours, each with the prefix of its link.
    pub addresses: Vec<Ipv4Net>,
    /// The way to everything that is not on a link of ours.
    pub gateway: Option<Ipv4Addr>,
    /// Who finds out whether the addresses are free. Of several workers with the same addresses one leads.
    pub probing: Probing,
    /// Ports that the application listens on.
    pub udp_ports: Vec<u16>,
    /// How received checksums of UDP and TCP are judged.
    pub checksum: ChecksumPolicy,
    /// TCP, if it is spoken.
    pub tcp: Option<TcpConfig>,
    /// Which flows the NIC gives to this stack's queue, if that is known: connections are opened from such ports.
    pub own_queue: Option<OwnQueue>,
    /// Neighbor tables.
    pub neighbors: NeighborConfig,
    /// Unpredictable bits, which key the hashes of the tables.
    pub secret: [u64; 2],
}

/// What happened that somebody outside has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All addresses are ours to use.
    Ready,
    /// Another host has the address: it was not taken.
    Duplicate(Ipv4Addr, Mac),
    /// Another host claims an address that we use; it was told that it is ours.
    Contested(Ipv4Addr, Mac),
    /// A neighbor told its MAC address: another worker of the same addresses may be searching for it.
    Neighbor(Ipv4Addr, Mac),
}

/// Events kept until they are taken out: more would be news about the same few things.
const EVENTS: usize = 32;
/// How many of them may be about neighbors, of which anybody on the link can make any number.
const NEIGHBOR_EVENTS: usize = EVENTS - 8;

/// An IPv4 host on one interface, with an application on it.
#[derive(Debug)]
pub struct Stack<A: App> {
    app: A,
    mac: Mac,
    udp_ports: Ports,
    checksum: ChecksumPolicy,
    tcp: Option<Tcp>,
    /// What the application keeps beside each connection, in the connections' places.
    sessions: Vec<A::Session>,
    icmp_limit: RateLimit,
    egress: Egress,
    events: ArrayVec<Event, EVENTS>,
    ready: bool,
}

/// What becomes of a received frame.
enum Outcome {
    /// It served its purpose.
    Delivered,
    /// It served its purpose and now holds the answer.
    Answered,
    /// It is dropped.
    Dropped(DropReason),
    /// It is dropped and now holds an ICMP error about it.
    Refused(DropReason),
    /// It is a datagram with a TCP segment: TCP decides, and may keep the frame.
    Tcp(Inbound),
}

/// A received IPv4 datagram, as far as an answer to it needs to know.
#[derive(Clone, Copy)]
struct Inbound {
    ethernet: ethernet::Header,
    /// Bytes in front of the IP payload, from the frame's start.
    payload_at: usize,
    payload_len: usize,
    traffic_class: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

impl Inbound {
    /// RFC 1122, section 3.2.1.6 for ICMP, and as Linux for the rest: an answer travels in the class of its
    /// request, but without the congestion mark, which belongs to the packet that carried it.
    #[inline]
    const fn way_back(&self) -> Way {
        let traffic_class = self.traffic_class & !3;
        Way { source: self.destination, destination: self.source, traffic_class, ttl: ipv4::DEFAULT_TTL }
    }
}

impl<A: App> Stack<A> {
    /// A stack with an application. Unless `config.probing` is off its addresses are tentative until they were probed:
    /// [`Event::Ready`] tells when.
    #[must_use]
    pub fn new(config: &StackConfig, app: A, now: Instant) -> Self {
        let addresses = Addresses::new(&config.addresses, config.probing, now);
        Self {
            app,
            mac: config.mac,
            udp_ports: Ports::new(config.udp_ports.iter().copied()),
            checksum: config.checksum,
            tcp: tcp::tcp_of(config, now),
            sessions: Vec::with_capacity(config.tcp.as_ref().map_or(0, |tcp| tcp.connections as usize)),
            icmp_limit: RateLimit::new(config.secret),
            egress: Egress {
                mac: config.mac,
                mtu: config.mtu,
                routes: routes(&addresses, config.gateway),
                addresses,
                neighbors: Neighbors::new(config.neighbors, config.secret),
                tcp_ttl: config.tcp.as_ref().map_or(ipv4::DEFAULT_TTL, |tcp| tcp.ttl),
                own_queue: config.own_queue.clone(),
                counters: StackCounters::default(),
            },
            events: ArrayVec::new(),
            ready: false,
        }
    }

    /// Digests as many received frames as `out` has room for answers; the others stay in `received`.
    pub fn receive(&mut self, now: Instant, received: &mut Burst, umem: &mut Umem, out: &mut Burst) {
        let mut frames = received.take(out.room()).peekable();
        while let Some(mut frame) = frames.next() {
            if let Some(next) = frames.peek() {
                umem.prefetch(next);
            }
            self.egress.counters.received += 1;
            if let Some(inbound) = &self.plain_segment(&frame, umem) {
                self.tcp(now, inbound, frame, umem, out);
                continue;
            }
            let outcome = match self.plain(now, &mut frame, umem) {
                Some(outcome) => outcome,
                None => self.digest(now, &mut frame, umem),
            };
            let counters = &mut self.egress.counters;
            match outcome {
                Outcome::Answered => {
                    counters.delivered += 1;
                    self.egress.push(frame, umem, out);
                }
                Outcome::Delivered => {
                    counters.delivered += 1;
                    umem.free(frame);
                }
                Outcome::Dropped(reason) => {
                    counters.drop(reason);
                    umem.free(frame);
                }
                Outcome::Refused(reason) => {
                    counters.drop(reason);
                    self.egress.push(frame, umem, out);
                }
                Outcome::Tcp(ref inbound) => self.tcp(now, inbound, frame, umem, out),
            }
        }
    }

    /// Appends to `out`, as far as it has room: frames whose neighbor was found, ARP requests that are due,
    /// and what the application wants to send.
    pub fn transmit(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        self.egress.flush_found(umem, out);
        self.egress.transmit_arp(now, umem, out);
        if !self.ready && self.egress.addresses.all_preferred() {
            self.ready = true;
            self.tell(Event::Ready);
        }
        let Self { app, egress, tcp, sessions, .. } = self;
        app.poll(now, &mut Turn { now, egress, tcp: tcp.as_mut(), sessions, umem, out });
        self.transmit_tcp(now, umem, out);
    }

    /// When the stack has something to do next, if no frame comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tcp = self.tcp.as_ref().and_then(Tcp::next_deadline);
        [self.egress.next_deadline(), self.app.next_deadline(), tcp].into_iter().flatten().min()
    }

    /// Takes out the oldest event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_at(0)
    }

    /// Hears from the worker that leads the probing that the addresses are ours.
    pub fn settle_addresses(&mut self) {
        self.egress.addresses.settle();
    }

    /// Hears of a neighbor from another worker: it is entered if it is known or searched for here.
    pub fn confirm_neighbor(&mut self, address: Ipv4Addr, mac: Mac, now: Instant) {
        self.egress.neighbors.confirm(address, mac, now);
    }

    /// Tells the neighbors anew where our addresses are.
    pub fn announce_addresses(&mut self, now: Instant) {
        self.egress.addresses.announce(now);
    }

    /// Sends no IP packet that is longer than `mtu` bytes from now on.
    pub fn set_mtu(&mut self, mtu: u16, umem: &mut Umem) {
        self.egress.mtu = mtu;
        if let Some(tcp) = &mut self.tcp {
            tcp.set_mtu(mtu, umem);
        }
    }

    /// Takes what is sent to another MAC address than before, and sends from it.
    pub const fn set_mac(&mut self, mac: Mac) {
        (self.mac, self.egress.mac) = (mac, mac);
    }

    /// Takes other ways out.
    pub fn set_routes(&mut self, routes: Routes) {
        self.egress.routes = routes;
    }

    /// Counts frames of the last bursts that the device did not take.
    pub const fn count_unsent(&mut self, reason: UnsentReason, frames: u64) {
        self.egress.counters.unsent(reason, frames);
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &StackCounters {
        &self.egress.counters
    }

    /// TCP, to look at.
    #[must_use]
    pub const fn tcp_state(&self) -> Option<&Tcp> {
        self.tcp.as_ref()
    }

    /// Frames that wait for a neighbor.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.egress.neighbors.waiting()
    }

    /// The application.
    #[must_use]
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// The application, to talk to it between turns.
    #[must_use]
    pub const fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// The long way. A call of its own, so that it takes no registers from the short one.
    #[inline(never)]
    fn digest(&mut self, now: Instant, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let bytes = umem.bytes(frame);
        let header = match self.accept_frame(bytes) {
            _ if umem.is_chain(frame) => return Outcome::Dropped(DropReason::FrameTooLong),
            Ok(header) => header,
            Err(reason) => return Outcome::Dropped(reason),
        };
        match header.ethertype {
            ethernet::ARP => self.arp(now, header, frame, umem),
            ethernet::IPV4 => match self.accept_ipv4(header, bytes) {
                Ok((inbound, wire::ipv4::UDP)) => self.udp(now, inbound, frame, umem),
                Ok((inbound, wire::ipv4::TCP)) if self.tcp.is_some() => Outcome::Tcp(inbound),
                Ok((inbound, wire::ipv4::ICMP)) => self.icmp(inbound, frame, umem),
                Ok((inbound, _)) => {
                    let error = ErrorMessage::PROTOCOL_UNREACHABLE;
                    self.refuse(now, DropReason::ProtocolUnknown, error, inbound, frame, umem)
                }
                Err(reason) => Outcome::Dropped(reason),
            },
            ethernet::IPV6 => Outcome::Dropped(DropReason::Ipv6NotConfigured),
            _ => Outcome::Dropped(DropReason::EtherTypeUnknown),
        }
    }

    /// Checks that a frame is for us.
    fn accept_frame(&self, bytes: &[u8]) -> Result<ethernet::Header, DropReason> {
        let header = ethernet::Header::parse(bytes)?;
        if header.destination != self.mac && !header.destination.is_multicast() {
            return Err(DropReason::OtherDestinationMac);
        }
        if header.source.is_multicast() {
            return Err(DropReason::SourceMacInvalid);
        }
        if header.tags.name_a_vlan() { Err(DropReason::OtherVlan) } else { Ok(header) }
    }

    fn accept_ipv4(&self, ethernet: ethernet::Header, bytes: &[u8]) -> Result<(Inbound, u8), DropReason> {
        let packet = wire::ipv4::Packet::parse(bytes.get(ethernet.len_bytes()..).unwrap_or_default())?;
        ipv4::accept(&packet, &self.egress.addresses, ethernet.destination.is_multicast())?;
        let inbound = Inbound {
            ethernet,
            payload_at: ethernet.len_bytes() + packet.header_len(),
            payload_len: packet.payload().len(),
            traffic_class: packet.traffic_class(),
            source: packet.source(),
            destination: packet.destination(),
        };
        Ok((inbound, packet.protocol()))
    }

    fn arp(&mut self, now: Instant, header: ethernet::Header, frame: &mut Frame, umem: &mut Umem) -> Outcome {
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
            arp::Verdict::Heard { address, mac, known } => {
                if self.events.len() < NEIGHBOR_EVENTS {
                    self.tell(Event::Neighbor(address, mac));
                }
                if known { Outcome::Delivered } else { Outcome::Dropped(DropReason::ArpNotForUs) }
            }
            arp::Verdict::Conflict(address, mac, conflict) => {
                self.egress.counters.address_conflicts += 1;
                match conflict {
                    Conflict::Duplicate => self.tell(Event::Duplicate(address, mac)),
                    Conflict::Defend => self.tell(Event::Contested(address, mac)),
                    Conflict::Ignore => {}
                }
                Outcome::Dropped(DropReason::ArpConflict)
            }
            arp::Verdict::Drop(reason) => Outcome::Dropped(reason),
        }
    }

    fn icmp(&mut self, inbound: Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let message = payload(umem.bytes(frame), &inbound);
        match icmpv4::Packet::parse(message).and_then(|packet| icmp::accept(&packet, message)) {
            Ok(icmp::Message::EchoRequest) => {}
            Ok(icmp::Message::Error(kind, quoted)) => {
                let useful = path_error(kind).is_some_and(|error| self.tcp_error(error, &quoted, umem));
                return if useful { Outcome::Delivered } else { Outcome::Dropped(DropReason::IcmpIgnored) };
            }
            Err(reason) => return Outcome::Dropped(reason),
        }
        if !Umem::narrow(frame, inbound.payload_at, inbound.payload_len) {
            return Outcome::Dropped(DropReason::IcmpTruncated);
        }
        let Some(header) = umem.bytes_mut(frame).first_chunk_mut() else {
            return Outcome::Dropped(DropReason::IcmpTruncated);
        };
        icmpv4::make_echo_reply(header);
        let answered = self.answer_icmp(&inbound, frame, umem);
        self.egress.counters.icmp_echoes_answered += u64::from(matches!(answered, Outcome::Answered));
        answered
    }

    fn udp(&mut self, now: Instant, inbound: Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let (source, destination) = (inbound.source, inbound.destination);
        let datagram = match wire::udp::Packet::parse(payload(umem.bytes(frame), &inbound)) {
            Ok(datagram) => datagram,
            Err(reason) => return Outcome::Dropped(reason),
        };
        match udp::accept(&datagram, source, destination, self.checksum, &self.udp_ports) {
            Ok(()) => {}
            Err(reason @ DropReason::UdpPortClosed) => {
                return self.refuse(now, reason, ErrorMessage::PORT_UNREACHABLE, inbound, frame, umem);
            }
            Err(reason) => return Outcome::Dropped(reason),
        }
        let (from, to) = (datagram.source_port(), datagram.destination_port());
        let len = datagram.payload().len();
        if !Umem::narrow(frame, inbound.payload_at + wire::udp::LEN, len) {
            return Outcome::Dropped(DropReason::UdpLength);
        }
        self.egress.counters.udp_delivered += 1;
        let room = umem.room_mut(frame);
        let (source, destination) = (SocketAddr::from((source, from)), SocketAddr::from((destination, to)));
        let Answer::Reply(len) = self.app.datagram(now, &mut Datagram::new(source, destination, room, len)) else {
            return Outcome::Delivered;
        };
        if from == 0 {
            return self.unanswered(UnsentReason::NoReplyPort);
        }
        let Some(answer) = room.get(..len) else { return self.unanswered(UnsentReason::TooLong) };
        let sum = Sum::default().add_bytes(answer);
        if !umem.set_len(frame, len) || !self.egress.write_udp(frame, umem, &inbound.way_back(), (to, from), sum) {
            return self.unanswered(UnsentReason::TooLong);
        }
        let answered = self.send_back(&inbound, frame, umem);
        self.egress.counters.udp_originated += u64::from(matches!(answered, Outcome::Answered));
        answered
    }

    /// Sends the ICMP message that the frame holds back.
    fn answer_icmp(&mut self, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        if !self.egress.write_ipv4(frame, umem, &inbound.way_back(), wire::ipv4::ICMP) {
            return self.unanswered(UnsentReason::TooLong);
        }
        self.send_back(inbound, frame, umem)
    }

    /// Addresses the IPv4 packet that the frame holds to where the request came from.
    ///
    /// That is the MAC address that the request came from, provided that there is a way to its sender at all:
    /// no neighbor has to be looked up, and none searched for.
    #[inline]
    fn send_back(&mut self, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        if self.egress.routes.next_hop(inbound.source.into()).is_none() {
            return self.unanswered(UnsentReason::NoRoute);
        }
        let ethernet::Header { source, tags, .. } = inbound.ethernet;
        if self.egress.write_ethernet(frame, umem, source, tags, ethernet::IPV4) {
            Outcome::Answered
        } else {
            self.unanswered(UnsentReason::TooLong)
        }
    }

    /// Drops a datagram and makes an ICMP error of its frame, if the rate limit allows one.
    fn refuse(
        &mut self,
        now: Instant,
        reason: DropReason,
        error: ErrorMessage,
        inbound: Inbound,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        if !self.icmp_limit.allow(inbound.source, now) {
            self.egress.counters.icmp_errors_suppressed += 1;
            return Outcome::Dropped(reason);
        }
        let datagram_at = inbound.ethernet.len_bytes();
        let quoted = icmp::quoted_len(inbound.payload_at + inbound.payload_len - datagram_at);
        if !Umem::narrow(frame, datagram_at, quoted) || !egress::write_icmp_error(frame, umem, error) {
            return Outcome::Dropped(reason);
        }
        match self.answer_icmp(&inbound, frame, umem) {
            Outcome::Answered => {
                self.egress.counters.icmp_errors_originated += 1;
                Outcome::Refused(reason)
            }
            _ => Outcome::Dropped(reason),
        }
    }

    /// Counts an answer that cannot be sent; the frame that asked for it was delivered all the same.
    const fn unanswered(&mut self, reason: UnsentReason) -> Outcome {
        self.egress.counters.originated += 1;
        self.egress.counters.unsent(reason, 1);
        Outcome::Delivered
    }

    fn tell(&mut self, event: Event) {
        // When nobody takes events out, the oldest ones are the ones to keep.
        let _ = self.events.try_push(event);
    }
}

/// The ways out that addresses and a gateway are.
fn routes(addresses: &Addresses, gateway: Option<Ipv4Addr>) -> Routes {
    Routes::new(addresses.prefixes().map(Into::into), gateway.map(Into::into).as_slice())
}

/// What an ICMP error means to a connection; `None` for one that no transport has to know of.
const fn path_error(kind: icmp::ErrorKind) -> Option<PathError> {
    match kind {
        icmp::ErrorKind::Unreachable => Some(PathError::Unreachable),
        icmp::ErrorKind::Refused => Some(PathError::Refused),
        icmp::ErrorKind::TooLong(mtu) => Some(PathError::TooLong(mtu)),
        icmp::ErrorKind::TimeExceeded => Some(PathError::TimeExceeded),
        icmp::ErrorKind::ParameterProblem => Some(PathError::ParameterProblem),
        // RFC 9293, section 3.9.2.2 (MUST-55): an implementation MUST silently discard ICMP Source Quench messages.
        icmp::ErrorKind::SourceQuench => None,
    }
}

/// The IP payload of a frame.
fn payload<'a>(bytes: &'a [u8], inbound: &Inbound) -> &'a [u8] {
    bytes.get(inbound.payload_at..inbound.payload_at + inbound.payload_len).unwrap_or_default()
}

#[cfg(test)]
mod tcp_rules_tests;
#[cfg(test)]
mod tcp_tests;
#[cfg(test)]
mod tests;
