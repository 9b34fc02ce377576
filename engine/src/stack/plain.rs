//! The short way for the packets that nearly all packets are: untagged, IPv4 without options or IPv6 without extension
//! headers, whole, UDP to a port that is open, or TCP.
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

use std::net::{IpAddr, SocketAddr};

use super::egress::Way;
use super::{Inbound, Outcome, Stack};
use crate::app::{Answer, App, Datagram};
use crate::base::{Frame, Instant, Umem, UnsentReason};
use crate::network::{ipv4, ipv6};
use crate::transport::udp;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ethernet::{self, Tags};
use crate::wire::ip::IpAddress;
use crate::wire::{ipv4 as ip4, ipv6 as ip6, udp as wire_udp};

/// A datagram that is plain, intact, for us, and from somebody who can be answered.
struct Plain {
    source: IpAddress,
    destination: IpAddress,
    ports: (u16, u16),
    /// Bytes behind the UDP header.
    payload_len: usize,
    traffic_class: u8,
    flow_label: u32,
    /// The neighbor that answers go to.
    next_hop: IpAddress,
}

/// A version of IP, as far as its plain header goes.
trait Version {
    const LEN: usize;
    const ETHERTYPE: u16;

    /// Writes the header of a UDP datagram of so many bytes into [`LEN`](Self::LEN) bytes.
    fn write(out: &mut [u8], way: &Way, payload_len: u16) -> Option<()>;
}

struct V4;

impl Version for V4 {
    const LEN: usize = ip4::LEN;
    const ETHERTYPE: u16 = ethernet::IPV4;

    #[inline]
    fn write(out: &mut [u8], way: &Way, payload_len: u16) -> Option<()> {
        let Way { traffic_class, hop_limit: ttl, .. } = *way;
        let (source, destination) = (way.source.to_v4()?, way.destination.to_v4()?);
        let header = ip4::Header { traffic_class, payload_len, ttl, protocol: ip4::UDP, source, destination };
        header.write(out.first_chunk_mut()?);
        Some(())
    }
}

struct V6;

impl Version for V6 {
    const LEN: usize = ip6::LEN;
    const ETHERTYPE: u16 = ethernet::IPV6;

    #[inline]
    fn write(out: &mut [u8], way: &Way, payload_len: u16) -> Option<()> {
        let Way { traffic_class, flow_label, hop_limit, .. } = *way;
        let (source, destination) = (way.source.to_v6()?, way.destination.to_v6()?);
        let next_header = ip6::UDP;
        ip6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }
            .write(out.first_chunk_mut()?);
        Some(())
    }
}

impl<A: App> Stack<A> {
    /// Digests a frame if it is plain, and has no effect if it is not.
    #[inline]
    pub(super) fn plain(&mut self, now: Instant, frame: &mut Frame, umem: &mut Umem) -> Option<Outcome> {
        if umem.is_chain(frame) {
            return None;
        }
        let (ethernet, packet) = umem.bytes(frame).split_first_chunk()?;
        match ethernet::plain_type(ethernet, self.plain_station)? {
            V4::ETHERTYPE => {
                let plain = self.plain_v4(packet)?;
                self.answer_plain::<V4>(now, &plain, frame, umem)
            }
            V6::ETHERTYPE => {
                let plain = self.plain_v6(packet)?;
                self.answer_plain::<V6>(now, &plain, frame, umem)
            }
            _ => None,
        }
    }

    #[inline]
    fn plain_v4(&self, packet: &[u8]) -> Option<Plain> {
        let ip = packet.first_chunk::<{ ip4::LEN }>()?;
        let datagram = packet.get(ip4::LEN..usize::from(ip4::total_len(ip)))?;
        if !ip4::is_plain(ip, ip4::UDP) || !Sum::default().add_bytes(&ip[..]).is_valid() {
            return None;
        }
        let (source, destination) = (ip4::source(ip), ip4::destination(ip));
        if !ipv4::is_for_us(source, destination, &self.egress.addresses) {
            return None;
        }
        self.plain_datagram(source.into(), destination.into(), (ip[1], 0), datagram)
    }

    #[inline]
    fn plain_v6(&self, packet: &[u8]) -> Option<Plain> {
        let ip = packet.first_chunk::<{ ip6::LEN }>()?;
        let datagram = packet.get(ip6::LEN..ip6::LEN + usize::from(ip6::payload_len(ip)))?;
        let (source, destination) = (ip6::source(ip), ip6::destination(ip));
        if !ip6::is_plain(ip, ip6::UDP) || !ipv6::is_for_us(source, destination, &self.egress.addresses) {
            return None;
        }
        let class_and_flow = (ip6::traffic_class(ip), ip6::flow_label(ip));
        self.plain_datagram(source.into(), destination.into(), class_and_flow, datagram)
    }

    /// Looks at what comes behind the IP header.
    #[inline]
    fn plain_datagram(
        &self,
        source: IpAddress,
        destination: IpAddress,
        (traffic_class, flow_label): (u8, u32),
        datagram: &[u8],
    ) -> Option<Plain> {
        let (header, payload) = datagram.split_first_chunk()?;
        let ports = (wire_udp::source_port(header), wire_udp::destination_port(header));
        let next_hop = self.egress.routes.next_hop(source)?;
        if usize::from(wire_udp::len(header)) != datagram.len() || ports.0 == 0 || !self.udp_ports.contains(ports.1) {
            return None;
        }
        let pseudo = pseudo_header(source, destination, ip4::UDP, datagram.len() as u16);
        let whole = |pseudo: Sum| pseudo.add_bytes(datagram);
        let intact = udp::accepts(self.checksum, source.is_v4(), wire_udp::checksum(header), pseudo, whole);
        let payload_len = payload.len();
        intact.then_some(Plain { source, destination, ports, payload_len, traffic_class, flow_label, next_hop })
    }

    /// Gives a plain datagram to the application, and makes its answer of the frame.
    #[inline]
    fn answer_plain<V: Version>(
        &mut self,
        now: Instant,
        plain: &Plain,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Outcome> {
        let headers_len = ethernet::LEN + V::LEN + wire_udp::LEN;
        let (headers, room) = umem.room_mut(frame).split_at_mut_checked(headers_len)?;
        self.egress.counters.udp_delivered += 1;
        let source = SocketAddr::new(IpAddr::from(plain.source), plain.ports.0);
        let destination = SocketAddr::new(IpAddr::from(plain.destination), plain.ports.1);
        let mut datagram = Datagram::new(source, destination, room, plain.payload_len);
        let Answer::Reply(len) = self.app.datagram(now, &mut datagram) else { return Some(Outcome::Delivered) };
        let Some(answer) = room.get(..len) else {
            return Some(self.unanswered(UnsentReason::TooLong));
        };
        let (ethernet, rest) = headers.split_first_chunk_mut::<{ ethernet::LEN }>()?;
        let (ip, udp) = rest.split_at_mut_checked(V::LEN)?;
        wire_udp::Header {
            source: (plain.destination, plain.ports.1),
            destination: (plain.source, plain.ports.0),
            payload_len: len as u16,
        }
        .write(udp.first_chunk_mut()?, Sum::default().add_bytes(answer));
        let way = self.egress.way_back(plain.source, plain.destination, plain.traffic_class, plain.flow_label);
        self.egress.counters.udp_originated += 1;
        if ethernet::LEN + usize::from(self.egress.paths.least()) < headers_len + len {
            return Some(cut(frame, umem, headers_len + len, ethernet::LEN + V::LEN, way));
        }
        V::write(ip, &way, (wire_udp::LEN + len) as u16)?;
        let Some(mac) = self.egress.neighbors.resolve(plain.next_hop, now) else {
            let inbound = plain.inbound::<V>(ethernet, len);
            let packet = umem.set_len(frame, headers_len + len)
                && Umem::narrow(frame, ethernet::LEN, headers_len + len - ethernet::LEN);
            debug_assert!(packet, "the answer lies in the frame's room");
            return Some(Outcome::Answer(inbound));
        };
        ethernet::turn_round(ethernet, self.mac, mac);
        let fits = umem.set_len(frame, headers_len + len);
        debug_assert!(fits, "the answer lies in the frame's room");
        Some(Outcome::Answered)
    }

    /// A packet with a TCP segment, if it is plain, for us, and from somebody who can be answered.
    #[inline]
    pub(super) fn plain_segment(&self, frame: &Frame, umem: &Umem) -> Option<Inbound> {
        let (ethernet, packet) = umem.bytes(frame).split_first_chunk()?;
        let inbound = match ethernet::plain_type(ethernet, self.plain_station)? {
            V4::ETHERTYPE => {
                let ip = packet.first_chunk::<{ ip4::LEN }>()?;
                let (source, destination) = (ip4::source(ip), ip4::destination(ip));
                if !ip4::is_plain(ip, ip4::TCP)
                    || !Sum::default().add_bytes(&ip[..]).is_valid()
                    || !ipv4::is_for_us(source, destination, &self.egress.addresses)
                {
                    return None;
                }
                let payload_len = usize::from(ip4::total_len(ip)).checked_sub(ip4::LEN)?;
                let (hop_limit, flow_label) = (ip4::ttl(ip), 0);
                let plain = (source.into(), destination.into(), ip[1], hop_limit, flow_label);
                inbound::<V4>(ethernet, plain, payload_len)
            }
            V6::ETHERTYPE => {
                let ip = packet.first_chunk::<{ ip6::LEN }>()?;
                let (source, destination) = (ip6::source(ip), ip6::destination(ip));
                if !ip6::is_plain(ip, ip6::TCP) || !ipv6::is_for_us(source, destination, &self.egress.addresses) {
                    return None;
                }
                let (hop_limit, flow_label) = (ip6::hop_limit(ip), ip6::flow_label(ip));
                let plain = (source.into(), destination.into(), ip6::traffic_class(ip), hop_limit, flow_label);
                inbound::<V6>(ethernet, plain, usize::from(ip6::payload_len(ip)))
            }
            _ => return None,
        };
        let is_whole = ethernet::LEN + packet.len() >= inbound.payload_at + inbound.payload_len;
        (is_whole && self.tcp.is_some() && !umem.is_chain(frame)).then_some(inbound)
    }
}

impl Plain {
    #[cold]
    fn inbound<V: Version>(&self, ethernet: &[u8; ethernet::LEN], len: usize) -> Inbound {
        let Self { source, destination, traffic_class, flow_label, .. } = *self;
        inbound::<V>(ethernet, (source, destination, traffic_class, 0, flow_label), wire_udp::LEN + len)
    }
}

/// What is known of a plain frame: sender, receiver, traffic class, hop limit, flow label.
#[inline]
fn inbound<V: Version>(
    ethernet: &[u8; ethernet::LEN],
    (source, destination, traffic_class, hop_limit, flow_label): (IpAddress, IpAddress, u8, u8, u32),
    payload_len: usize,
) -> Inbound {
    let [to, from] = [ethernet::destination(ethernet), ethernet::source(ethernet)];
    Inbound {
        ethernet: ethernet::Header { destination: to, source: from, tags: Tags::default(), ethertype: V::ETHERTYPE },
        payload_at: ethernet::LEN + V::LEN,
        payload_len,
        traffic_class,
        hop_limit,
        flow_label,
        in_fragments: false,
        source,
        destination,
    }
}

/// An answer that its path does not take in one piece.
#[cold]
fn cut(frame: &mut Frame, umem: &Umem, len: usize, payload_at: usize, way: Way) -> Outcome {
    let payload = umem.set_len(frame, len) && Umem::narrow(frame, payload_at, len - payload_at);
    debug_assert!(payload, "the answer lies in the frame's room");
    Outcome::Cut(way, ip4::UDP)
}
