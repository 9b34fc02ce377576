//! The short way for the packets that nearly all packets are: untagged, or with the one tag that ours have; IPv4 without
//! options or IPv6 without extension headers; whole; UDP to a port that is open, an echo request, or TCP.
//!
//! Everything then lies at a fixed place, so one look at 42 or 62 bytes tells, and an answer of any length goes out
//! under the same bytes, rewritten where they are. What is not so takes the long way through the layers,
//! which comes to the same results: a test sends everything both ways and compares. (Van Jacobson's header
//! prediction. It takes a third of the instructions.)
//!
//! ```text
//!   0           6        12     14        16       20     22   23  24        26      30       34     42
//!   | MAC dest  | source | 0800 | 45 class | length | .. | frag | ttl | 17 | checksum | source | dest | UDP 8 | payload
//!
//!   0           6        12     14            18       20   21          22        38     54     62
//!   | MAC dest  | source | 86dd | 6 class flow | length | 17 | hop limit | source | dest | UDP 8 | payload
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::hop_limits::HopLimits;
use super::ingress::Accepted;
use super::tcp::Carrier;
use super::{Inbound, Outcome, Stack};
use crate::app::{Answer, App, Datagram};
use crate::base::{Burst, Frame, Instant, Umem, UnsentReason};
use crate::link::address::Addresses;
use crate::network::sent_lately::Flow;
use crate::network::{ipv4, ipv6};
use crate::transport::udp::{self, Checksum};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::ip::IpAddress;
use crate::wire::{icmpv4, icmpv6, ipv4 as ip4, ipv6 as ip6, udp as wire_udp};

/// A version of IP, as far as its plain header goes. What is handed in is the header and what follows it.
pub(super) trait Version {
    const IS_V4: bool;
    const LEN: usize;
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    /// Where the field stands that names the protocol.
    const PROTOCOL_AT: usize;
    type Address: Copy + Into<IpAddress> + Into<IpAddr>;

    /// Bytes of payload and protocol, if the header is a plain one.
    fn read(packet: &[u8]) -> Option<(u16, u8)>;

    /// Sender and receiver.
    fn ends(packet: &[u8]) -> Option<(Self::Address, Self::Address)>;

    /// Traffic class, hop limit, and flow label.
    fn travels(packet: &[u8]) -> Option<(u8, u8, u32)>;

    /// Whether a packet is for us and from somebody who can be answered.
    fn is_for_us(source: Self::Address, destination: Self::Address, addresses: &Addresses) -> bool;

    /// What the addresses add to the sum of the pseudo header.
    fn sum(packet: &[u8]) -> Sum;

    /// What stands for the pseudo header in the sum of an ICMP message of so many bytes.
    fn icmp_sum(packet: &[u8], len: u16) -> Sum;

    /// Makes the header of an echo request that of its reply.
    fn make_echo_reply(message: &mut [u8; icmpv4::LEN], asked: Self::Address);

    /// Hops that packets of ours may take.
    fn hops(limits: &HopLimits) -> u8;

    /// Makes the header of a packet to us that of its answer, with so many bytes behind it.
    fn turn_round(packet: &mut [u8], class: u8, hop_limit: u8, payload_len: u16);
}

pub(super) struct V4;

impl Version for V4 {
    const IS_V4: bool = true;
    const LEN: usize = ip4::LEN;
    const ICMP: u8 = ip4::ICMP;
    const ECHO_REQUEST: u8 = icmpv4::ECHO_REQUEST;
    const PROTOCOL_AT: usize = ip4::PROTOCOL_AT;
    type Address = Ipv4Addr;

    #[inline(always)]
    fn read(packet: &[u8]) -> Option<(u16, u8)> {
        let ip = packet.first_chunk::<{ ip4::LEN }>()?;
        let payload_len = ip4::total_len(ip).checked_sub(ip4::LEN as u16)?;
        let is_plain = ip4::is_plain(ip) && Sum::default().add_bytes(ip).is_valid();
        is_plain.then_some((payload_len, ip4::protocol(ip)))
    }

    #[inline(always)]
    fn ends(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
        packet.first_chunk().map(|ip| (ip4::source(ip), ip4::destination(ip)))
    }

    #[inline(always)]
    fn travels(packet: &[u8]) -> Option<(u8, u8, u32)> {
        packet.first_chunk().map(|ip| (ip4::traffic_class(ip), ip4::ttl(ip), 0))
    }

    #[inline(always)]
    fn is_for_us(source: Ipv4Addr, destination: Ipv4Addr, addresses: &Addresses) -> bool {
        ipv4::is_for_us(source, destination, addresses)
    }

    #[inline(always)]
    fn sum(packet: &[u8]) -> Sum {
        packet.first_chunk().map_or_else(Sum::default, ip4::address_sum)
    }

    #[inline(always)]
    fn icmp_sum(_packet: &[u8], _len: u16) -> Sum {
        Sum::default()
    }

    #[inline(always)]
    fn make_echo_reply(message: &mut [u8; icmpv4::LEN], _asked: Ipv4Addr) {
        icmpv4::make_echo_reply(message);
    }

    #[inline(always)]
    fn hops(limits: &HopLimits) -> u8 {
        limits.v4
    }

    #[inline(always)]
    fn turn_round(packet: &mut [u8], class: u8, ttl: u8, payload_len: u16) {
        if let Some(header) = packet.first_chunk_mut() {
            ip4::turn_round(header, class, ttl, payload_len);
        }
    }
}

pub(super) struct V6;

impl Version for V6 {
    const IS_V4: bool = false;
    const LEN: usize = ip6::LEN;
    const ICMP: u8 = ip6::ICMPV6;
    const ECHO_REQUEST: u8 = icmpv6::ECHO_REQUEST;
    const PROTOCOL_AT: usize = ip6::NEXT_HEADER_AT;
    type Address = Ipv6Addr;

    #[inline(always)]
    fn read(packet: &[u8]) -> Option<(u16, u8)> {
        let ip = packet.first_chunk::<{ ip6::LEN }>()?;
        ip6::is_plain(ip).then_some((ip6::payload_len(ip), ip6::next_header(ip)))
    }

    #[inline(always)]
    fn ends(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
        packet.first_chunk().map(|ip| (ip6::source(ip), ip6::destination(ip)))
    }

    #[inline(always)]
    fn travels(packet: &[u8]) -> Option<(u8, u8, u32)> {
        packet.first_chunk().map(|ip| (ip6::traffic_class(ip), ip6::hop_limit(ip), ip6::flow_label(ip)))
    }

    #[inline(always)]
    fn is_for_us(source: Ipv6Addr, destination: Ipv6Addr, addresses: &Addresses) -> bool {
        ipv6::is_for_us(source, destination, addresses)
    }

    #[inline(always)]
    fn sum(packet: &[u8]) -> Sum {
        packet.first_chunk().map_or_else(Sum::default, ip6::address_sum)
    }

    #[inline(always)]
    fn icmp_sum(packet: &[u8], len: u16) -> Sum {
        Self::sum(packet).add_values([ip6::ICMPV6.into(), len])
    }

    #[inline(always)]
    fn make_echo_reply(message: &mut [u8; icmpv4::LEN], asked: Ipv6Addr) {
        icmpv6::make_echo_reply(message, asked, asked);
    }

    #[inline(always)]
    fn hops(limits: &HopLimits) -> u8 {
        limits.v6
    }

    #[inline(always)]
    fn turn_round(packet: &mut [u8], class: u8, hop_limit: u8, payload_len: u16) {
        if let Some(header) = packet.first_chunk_mut() {
            ip6::turn_round(header, class, hop_limit, payload_len);
        }
    }
}

/// A plain packet for us, in a frame. What else its header says is read where it is needed: carrying it along costs more.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Where it begins in its frame.
    at: u16,
    payload_len: u16,
    /// Where an answer goes, if that is known: zero if not.
    way: Mac,
    protocol: u8,
}

impl<A: App> Stack<A> {
    /// Digests a frame of one chunk that carries IPv4 from byte `at` on. A call of its own for each family, so that neither
    /// takes registers from the other.
    #[inline(never)]
    pub(super) fn take_v4(&mut self, now: Instant, at: usize, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        self.take::<V4>(now, at, frame, umem, out);
    }

    /// The same for IPv6.
    #[inline(never)]
    pub(super) fn take_v6(&mut self, now: Instant, at: usize, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        self.take::<V6>(now, at, frame, umem, out);
    }

    #[inline(always)]
    fn take<V: Version>(&mut self, now: Instant, at: usize, mut frame: Frame, umem: &mut Umem, out: &mut Burst) {
        let Some(plain) = self.read_plain::<V>(now, at, umem.bytes(&frame)) else {
            return self.digest(now, frame, umem, out);
        };
        if plain.protocol == ip4::TCP && self.tcp.is_some() {
            return self.plain_tcp::<V>(now, plain, frame, umem, out);
        }
        match self.plain::<V>(now, plain, &mut frame, umem) {
            Some(Outcome::Answered) => {
                self.egress.counters.delivered += 1;
                self.egress.push(frame, umem, out);
            }
            Some(outcome) => self.conclude(now, outcome, frame, umem, out),
            None => self.dispatch_plain::<V>(now, plain, frame, umem, out),
        }
    }

    /// A plain packet for us, if that is what the frame holds.
    #[inline(always)]
    pub(super) fn read_plain<V: Version>(&self, now: Instant, at: usize, frame: &[u8]) -> Option<Plain> {
        let packet = frame.get(at..)?;
        let (payload_len, protocol) = V::read(packet)?;
        let (source, destination) = V::ends(packet)?;
        let way = self.egress.known_way(destination.into(), source.into(), now).unwrap_or(Mac::ZERO);
        let is_for_us = way != Mac::ZERO || V::is_for_us(source, destination, &self.egress.addresses);
        let is_whole = V::LEN + usize::from(payload_len) <= packet.len();
        (is_for_us && is_whole).then_some(Plain { at: at as u16, payload_len, way, protocol })
    }

    /// Digests a plain packet if it is one that is answered where it lies, and has no effect if it is not.
    #[inline(always)]
    pub(super) fn plain<V: Version>(
        &mut self,
        now: Instant,
        plain: Plain,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Outcome> {
        match plain.protocol {
            ip4::UDP => self.plain_udp::<V>(now, plain, frame, umem),
            protocol if protocol == V::ICMP => self.plain_echo::<V>(now, plain, frame, umem),
            _ => None,
        }
    }

    #[inline(always)]
    fn plain_tcp<V: Version>(&mut self, now: Instant, plain: Plain, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        let packet = umem.bytes(&frame).get(usize::from(plain.at)..).unwrap_or_default();
        let (Some((source, destination)), Some((class, ..))) = (V::ends(packet), V::travels(packet)) else {
            return umem.free(frame);
        };
        let (source, destination) = (source.into(), destination.into());
        let at = usize::from(plain.at) + V::LEN;
        let carrier = Carrier { at, len: plain.payload_len.into(), source, destination, class };
        let from = |frame: &Frame, umem: &Umem| inbound::<V>(plain, umem.bytes(frame));
        self.read_segment(now, &carrier, from, frame, umem, out);
    }

    #[inline(always)]
    fn plain_udp<V: Version>(
        &mut self,
        now: Instant,
        plain: Plain,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Outcome> {
        let (head, room) = umem.room_mut(frame).split_at_mut_checked(usize::from(plain.at) + V::LEN)?;
        let ip = head.get(usize::from(plain.at)..)?;
        let (source, destination) = V::ends(ip)?;
        let datagram = room.get(..usize::from(plain.payload_len))?;
        let header = datagram.first_chunk()?;
        let (from, to) = (wire_udp::source_port(header), wire_udp::destination_port(header));
        if wire_udp::len(header) != plain.payload_len || from == 0 || !self.udp_ports.contains(to) {
            return None;
        }
        let addresses = V::sum(ip);
        let pseudo = addresses.add_values([ip4::UDP.into(), plain.payload_len]);
        let (is_v4, checksum) = (V::ICMP == ip4::ICMP, wire_udp::checksum(header));
        let judged = udp::judge(self.checksum, is_v4, checksum, pseudo, |pseudo| pseudo.add_bytes(datagram))?;

        self.egress.counters.udp_delivered += 1;
        let len = usize::from(plain.payload_len) - wire_udp::LEN;
        let class = V::travels(ip)?.0;
        let (header, room) = room.split_first_chunk_mut()?;
        let ends = (SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to));
        let mut datagram = Datagram::new(ends.0, ends.1, room, len).in_class(class);
        let Answer::Reply(answer_len) = self.app.datagram(now, &mut datagram) else { return Some(Outcome::Delivered) };
        if judged == Checksum::OfTheWhole && answer_len == len && !datagram.is_touched() {
            // The same bytes between the same ends: the sum stays what it is.
            wire_udp::turn_round(header);
        } else {
            let Some(answer) = room.get(..answer_len) else { return Some(self.unanswered(UnsentReason::TooLong)) };
            wire_udp::write(header, (to, from), answer_len as u16, addresses.add_bytes(answer));
        }
        self.egress.counters.udp_originated += 1;
        let plain = Plain { payload_len: (wire_udp::LEN + answer_len) as u16, ..plain };
        let flow = || Flow::new(source.into(), ip4::UDP, *header);
        self.egress.sent.note(flow, V::IS_V4, V::LEN + usize::from(plain.payload_len), now);
        let way = self.way_back(plain.way, (destination, source), now);
        if way == Mac::ZERO || !self.fits_everywhere::<V>(plain) {
            let inbound = inbound::<V>(plain, head)?;
            return Some(self.plain_the_long_way(now, inbound, frame, umem));
        }
        self.turn_round::<V>(plain, head, way)?;
        let fits = umem.set_len(frame, plain.end::<V>());
        debug_assert!(fits, "the answer lies in the frame's room");
        Some(Outcome::Answered)
    }

    /// Makes an echo request its own reply.
    #[inline(always)]
    fn plain_echo<V: Version>(
        &mut self,
        now: Instant,
        plain: Plain,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Outcome> {
        let (head, message) = umem.bytes_mut(frame).split_at_mut_checked(usize::from(plain.at) + V::LEN)?;
        let ip = head.get(usize::from(plain.at)..)?;
        let ends = V::ends(ip)?;
        let message = message.get_mut(..usize::from(plain.payload_len))?;
        let is_intact = V::icmp_sum(ip, plain.payload_len).add_bytes(message).is_valid();
        let header = message.first_chunk_mut()?;
        if header[0] != V::ECHO_REQUEST || !is_intact || !self.fits_everywhere::<V>(plain) {
            return None;
        }
        let flow = || Flow::new(ends.0.into(), V::ICMP, *header);
        self.egress.sent.note(flow, V::IS_V4, V::LEN + usize::from(plain.payload_len), now);
        let way = self.way_back(plain.way, (ends.1, ends.0), now);
        if way == Mac::ZERO {
            return None;
        }
        V::make_echo_reply(header, ends.1);
        self.egress.counters.icmp_echoes_answered += 1;
        self.turn_round::<V>(plain, head, way)?;
        let fits = umem.set_len(frame, plain.end::<V>());
        debug_assert!(fits, "it is no longer than the request");
        Some(Outcome::Answered)
    }

    /// Whether a plain packet is no longer than every path takes.
    #[inline(always)]
    fn fits_everywhere<V: Version>(&self, plain: Plain) -> bool {
        V::LEN + usize::from(plain.payload_len) <= usize::from(self.egress.paths.least())
    }

    /// The MAC address that an answer goes to: the one that is known, or what is found out now; zero if neither.
    #[inline(always)]
    fn way_back(
        &mut self,
        known: Mac,
        (ours, theirs): (impl Into<IpAddress>, impl Into<IpAddress>),
        now: Instant,
    ) -> Mac {
        if known != Mac::ZERO { known } else { self.egress.find_way(ours.into(), theirs.into(), now) }
    }

    /// Makes the headers of a plain packet those of its answer, to the neighbor with a MAC address.
    #[inline(always)]
    fn turn_round<V: Version>(&self, plain: Plain, head: &mut [u8], to: Mac) -> Option<()> {
        let ip = head.get_mut(usize::from(plain.at)..)?;
        let class = self.egress.class_back(V::travels(ip)?.0);
        V::turn_round(ip, class, V::hops(&self.egress.hop_limits), plain.payload_len);
        ethernet::turn_round(head.first_chunk_mut()?, self.mac, to);
        Some(())
    }

    /// Sends an answer whose UDP header is written, where the way is not as plain as the datagram was.
    #[cold]
    fn plain_the_long_way(&mut self, now: Instant, inbound: Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let payload =
            umem.set_len(frame, inbound.end()) && Umem::narrow(frame, inbound.payload_at, inbound.payload_len);
        debug_assert!(payload, "the answer lies in the frame's room");
        let way = self.egress.answer_way(&inbound, inbound.destination);
        self.answer_with(now, &inbound, way, ip4::UDP, frame, umem)
    }

    /// Digests a plain packet that is not answered where it lies. What it is need not be found out again.
    #[inline(always)]
    fn dispatch_plain<V: Version>(
        &mut self,
        now: Instant,
        plain: Plain,
        mut frame: Frame,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let protocol = plain.protocol;
        let inbound = inbound::<V>(plain, umem.bytes(&frame));
        let Some(inbound) = inbound.filter(|_| protocol == ip4::UDP || protocol == V::ICMP) else {
            return self.digest(now, frame, umem, out);
        };
        self.egress.hurry_upkeep();
        let accepted = Accepted { inbound, protocol, named_at: V::PROTOCOL_AT };
        let outcome = self.dispatch(now, &accepted, &mut frame, umem);
        self.conclude(now, outcome, frame, umem, out);
    }
}

impl Plain {
    /// Where it ends in its frame.
    #[inline(always)]
    fn end<V: Version>(&self) -> usize {
        usize::from(self.at) + V::LEN + usize::from(self.payload_len)
    }
}

/// What the layers have to know of a plain packet; `frame` holds at least the headers up to it.
#[inline(always)]
fn inbound<V: Version>(plain: Plain, frame: &[u8]) -> Option<Inbound> {
    let packet = frame.get(usize::from(plain.at)..)?;
    let ((source, destination), (traffic_class, hop_limit, flow_label)) = (V::ends(packet)?, V::travels(packet)?);
    let ethernet = match frame.first_chunk() {
        Some(header) if usize::from(plain.at) == ethernet::LEN => ethernet::Header::untagged(header),
        _ => ethernet::Header::parse(frame).ok()?,
    };
    Some(Inbound {
        ethernet,
        payload_at: usize::from(plain.at) + V::LEN,
        payload_len: plain.payload_len.into(),
        traffic_class,
        hop_limit,
        flow_label,
        in_fragments: false,
        source: source.into(),
        destination: destination.into(),
    })
}
