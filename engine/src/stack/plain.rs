//! The short way for the packets that nearly all packets are: untagged, or with the one tag that ours have; IPv4 without
//! options or IPv6 without extension headers; whole; UDP to a port that is open, or TCP.
//!
//! Everything then lies at a fixed place, so one look at 42 or 62 bytes tells, and an answer of any length goes out
//! under the same bytes, rewritten where they are. What is not so takes the long way through the layers,
//! which comes to the same results: a test sends everything both ways and compares. (Van Jacobson's header
//! prediction, for UDP. It takes a third of the instructions.)
//!
//! ```text
//!   0           6        12     14        16       20     22   23  24        26      30       34     42
//!   | MAC dest  | source | 0800 | 45 class | length | .. | frag | ttl | 17 | checksum | source | dest | UDP 8 | payload
//!
//!   0           6        12     14            18       20   21          22        38     54     62
//!   | MAC dest  | source | 86dd | 6 class flow | length | 17 | hop limit | source | dest | UDP 8 | payload
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Inbound, Outcome, Stack};
use crate::app::{Answer, App, Datagram};
use crate::base::{Frame, Instant, Umem, UnsentReason};
use crate::link::address::Addresses;
use crate::network::{ipv4, ipv6};
use crate::transport::udp;
use crate::wire::checksum::Sum;
use crate::wire::ethernet;
use crate::wire::ip::IpAddress;
use crate::wire::{ipv4 as ip4, ipv6 as ip6, udp as wire_udp};

/// A version of IP, as far as its plain header goes.
trait Version {
    const LEN: usize;
    type Address: Copy + Into<IpAddress> + Into<IpAddr>;

    /// Reads the header of a plain packet with `protocol`, for us and from somebody who can be answered.
    fn read(packet: &[u8], protocol: u8, addresses: &Addresses) -> Option<Header<Self::Address>>;

    /// What the addresses add to the sum of the pseudo header.
    fn sum(a: Self::Address, b: Self::Address) -> Sum;

    /// Whether the checksum of UDP is taken.
    fn accepts(policy: udp::ChecksumPolicy, checksum: u16, pseudo: Sum, datagram: impl FnOnce(Sum) -> Sum) -> bool;

    /// Makes the header of a packet to us that of its answer, with so many bytes behind it.
    fn turn_round(header: &mut [u8], to_us: &Header<Self::Address>, class: u8, hop_limit: u8, payload_len: u16);
}

/// What the header of a plain packet says.
struct Header<A> {
    source: A,
    destination: A,
    payload_len: usize,
    traffic_class: u8,
    hop_limit: u8,
    flow_label: u32,
}

struct V4;

impl Version for V4 {
    const LEN: usize = ip4::LEN;
    type Address = Ipv4Addr;

    #[inline(always)]
    fn read(packet: &[u8], protocol: u8, addresses: &Addresses) -> Option<Header<Ipv4Addr>> {
        let ip = packet.first_chunk::<{ ip4::LEN }>()?;
        let (source, destination) = (ip4::source(ip), ip4::destination(ip));
        let payload_len = usize::from(ip4::total_len(ip)).checked_sub(ip4::LEN)?;
        let plain = ip4::is_plain(ip, protocol)
            && Sum::default().add_bytes(ip).is_valid()
            && ipv4::is_for_us(source, destination, addresses);
        let (traffic_class, hop_limit) = (ip[1], ip4::ttl(ip));
        plain.then_some(Header { source, destination, payload_len, traffic_class, hop_limit, flow_label: 0 })
    }

    #[inline]
    fn sum(a: Ipv4Addr, b: Ipv4Addr) -> Sum {
        Sum::default().add_ipv4([a, b])
    }

    #[inline(always)]
    fn accepts(policy: udp::ChecksumPolicy, checksum: u16, pseudo: Sum, datagram: impl FnOnce(Sum) -> Sum) -> bool {
        udp::accepts(policy, true, checksum, pseudo, datagram)
    }

    #[inline(always)]
    fn turn_round(header: &mut [u8], to_us: &Header<Ipv4Addr>, traffic_class: u8, ttl: u8, payload_len: u16) {
        let Some(out) = header.first_chunk_mut() else { return };
        let (source, destination) = (to_us.destination, to_us.source);
        ip4::Header { traffic_class, payload_len, ttl, protocol: ip4::UDP, source, destination }.write(out);
    }
}

struct V6;

impl Version for V6 {
    const LEN: usize = ip6::LEN;
    type Address = Ipv6Addr;

    #[inline(always)]
    fn read(packet: &[u8], protocol: u8, addresses: &Addresses) -> Option<Header<Ipv6Addr>> {
        let ip = packet.first_chunk::<{ ip6::LEN }>()?;
        let (source, destination) = (ip6::source(ip), ip6::destination(ip));
        let plain = ip6::is_plain(ip, protocol) && ipv6::is_for_us(source, destination, addresses);
        plain.then_some(Header {
            source,
            destination,
            payload_len: usize::from(ip6::payload_len(ip)),
            traffic_class: ip6::traffic_class(ip),
            hop_limit: ip6::hop_limit(ip),
            flow_label: ip6::flow_label(ip),
        })
    }

    #[inline]
    fn sum(a: Ipv6Addr, b: Ipv6Addr) -> Sum {
        Sum::default().add_addresses([a.into(), b.into()])
    }

    #[inline(always)]
    fn accepts(policy: udp::ChecksumPolicy, checksum: u16, pseudo: Sum, datagram: impl FnOnce(Sum) -> Sum) -> bool {
        udp::accepts(policy, false, checksum, pseudo, datagram)
    }

    #[inline(always)]
    fn turn_round(header: &mut [u8], to_us: &Header<Ipv6Addr>, traffic_class: u8, hop_limit: u8, payload_len: u16) {
        let Some(out) = header.first_chunk_mut() else { return };
        let (source, destination, flow_label) = (to_us.destination, to_us.source, to_us.flow_label);
        let next_header = ip6::UDP;
        ip6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }.write(out);
    }
}

impl<A: App> Stack<A> {
    /// Digests a frame of one chunk if it is plain, and has no effect if it is not. `carried` is what it carries, and where.
    #[inline]
    pub(super) fn plain(
        &mut self,
        now: Instant,
        carried: (u16, usize),
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Outcome> {
        match carried {
            (ethernet::IPV4, at) => self.plain_as::<V4>(now, at, frame, umem),
            (ethernet::IPV6, at) => self.plain_as::<V6>(now, at, frame, umem),
            _ => None,
        }
    }

    /// The same for a frame whose packet begins at `at`.
    #[inline]
    fn plain_as<V: Version>(&mut self, now: Instant, at: usize, frame: &mut Frame, umem: &mut Umem) -> Option<Outcome> {
        let frame_len = usize::from(frame.len());
        let room = umem.room_mut(frame);
        let ip = V::read(room.get(at..frame_len)?, ip4::UDP, &self.egress.addresses)?;
        let (head, room) = room.split_at_mut_checked(at + V::LEN)?;
        let (header, room) = room.split_first_chunk_mut()?;
        let payload_len = ip.payload_len.checked_sub(wire_udp::LEN)?;
        let ports = (wire_udp::source_port(header), wire_udp::destination_port(header));
        let next_hop = self.egress.routes.next_hop(ip.source.into())?;
        if at + V::LEN + ip.payload_len > frame_len
            || usize::from(wire_udp::len(header)) != ip.payload_len
            || ports.0 == 0
            || !self.udp_ports.contains(ports.1)
        {
            return None;
        }
        let payload = room.get(..payload_len)?;
        let addresses = V::sum(ip.source, ip.destination);
        let pseudo = addresses.add_values([ip4::UDP.into(), ip.payload_len as u16]);
        let whole = |pseudo: Sum| pseudo.add_bytes(&header[..]).add_bytes(payload);
        if !V::accepts(self.checksum, wire_udp::checksum(header), pseudo, whole) {
            return None;
        }

        self.egress.counters.udp_delivered += 1;
        let (source, destination) = (ip.source.into(), ip.destination.into());
        let ends = (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1));
        let mut datagram = Datagram::new(ends.0, ends.1, room, payload_len).in_class(ip.traffic_class);
        let Answer::Reply(len) = self.app.datagram(now, &mut datagram) else { return Some(Outcome::Delivered) };
        let Some(answer) = room.get(..len) else {
            return Some(self.unanswered(UnsentReason::TooLong));
        };
        wire_udp::write(header, (ports.1, ports.0), len as u16, addresses.add_bytes(answer));
        self.egress.counters.udp_originated += 1;
        let payload_len = wire_udp::LEN + len;
        let mac = self.egress.neighbors.resolve(next_hop, now);
        let Some(mac) = mac.filter(|_| V::LEN + payload_len <= usize::from(self.egress.paths.least())) else {
            let inbound = inbound::<V>(head, at, &ip)?;
            return Some(self.plain_the_long_way(now, inbound, payload_len, frame, umem));
        };
        let class = self.egress.class_back(ip.traffic_class);
        let (ethernet, rest) = head.split_first_chunk_mut()?;
        V::turn_round(rest.get_mut(at - 12..)?, &ip, class, self.egress.marking.hop_limit, payload_len as u16);
        ethernet::turn_round(ethernet, self.mac, mac);
        let fits = umem.set_len(frame, at + V::LEN + payload_len);
        debug_assert!(fits, "the answer lies in the frame's room");
        Some(Outcome::Answered)
    }

    /// Sends an answer whose UDP header is written, where the way is not as plain as the datagram was.
    #[cold]
    fn plain_the_long_way(
        &mut self,
        now: Instant,
        inbound: Inbound,
        payload_len: usize,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let end = inbound.payload_at + payload_len;
        let payload = umem.set_len(frame, end) && Umem::narrow(frame, inbound.payload_at, payload_len);
        debug_assert!(payload, "the answer lies in the frame's room");
        let way = self.egress.answer_way(&inbound, inbound.destination);
        self.answer_with(now, &inbound, way, ip4::UDP, frame, umem)
    }

    /// A packet with a TCP segment, if it is plain, for us, and from somebody who can be answered.
    #[inline]
    pub(super) fn plain_segment(&self, carried: (u16, usize), frame: &Frame, umem: &Umem) -> Option<Inbound> {
        let bytes = umem.bytes(frame);
        let inbound = match carried {
            (ethernet::IPV4, at) => self.plain_segment_as::<V4>(at, bytes)?,
            (ethernet::IPV6, at) => self.plain_segment_as::<V6>(at, bytes)?,
            _ => return None,
        };
        let is_whole = bytes.len() >= inbound.payload_at + inbound.payload_len;
        (is_whole && self.tcp.is_some()).then_some(inbound)
    }

    #[inline]
    fn plain_segment_as<V: Version>(&self, at: usize, bytes: &[u8]) -> Option<Inbound> {
        let ip = V::read(bytes.get(at..)?, ip4::TCP, &self.egress.addresses)?;
        inbound::<V>(bytes, at, &ip)
    }
}

/// What is known of a plain frame whose packet begins at `at`.
#[inline]
fn inbound<V: Version>(frame: &[u8], at: usize, ip: &Header<V::Address>) -> Option<Inbound> {
    let Header { payload_len, traffic_class, hop_limit, flow_label, .. } = *ip;
    Some(Inbound {
        ethernet: ethernet::Header::parse(frame).ok()?,
        payload_at: at + V::LEN,
        payload_len,
        traffic_class,
        hop_limit,
        flow_label,
        in_fragments: false,
        source: ip.source.into(),
        destination: ip.destination.into(),
    })
}
