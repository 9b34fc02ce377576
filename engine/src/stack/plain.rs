//! The short way for the datagram that nearly all datagrams are: untagged, IPv4 without options, whole, UDP to
//! a port that is open, or TCP.
//!
//! Everything then lies at a fixed place, so one look at 42 bytes tells, and an answer of any length goes out
//! under the same 42 bytes, rewritten where they are. What is not so takes the long way through the layers,
//! which comes to the same results: a test sends everything both ways and compares. (Van Jacobson's header
//! prediction, for UDP. It takes a third of the instructions.)
//!
//! ```text
//!   0           6        12     14        16       20     22   23  24        26      30       34     42
//!   | MAC dest  | source | 0800 | 45 class | length | .. | frag | ttl | 17 | checksum | source | dest | UDP 8 | payload
//! ```

use std::net::SocketAddr;

use super::{Inbound, Outcome, Stack};
use crate::app::{Answer, App, Datagram};
use crate::base::{Frame, Instant, Umem, UnsentReason};
use crate::network::{DEFAULT_HOP_LIMIT, ipv4};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ethernet::{self, Tags};
use crate::wire::ip::IpAddress;
use crate::wire::{self, ipv4 as ip};

/// Bytes of the three headers.
const HEADERS: usize = ethernet::LEN + ip::LEN + wire::udp::LEN;

/// The headers of a plain datagram, taken apart.
struct Headers<'a> {
    ethernet: &'a mut [u8; ethernet::LEN],
    ip: &'a mut [u8; ip::LEN],
    udp: &'a mut [u8; wire::udp::LEN],
}

impl<A: App> Stack<A> {
    /// Digests a frame if it is plain, and has no effect if it is not.
    #[inline]
    pub(super) fn plain(&mut self, now: Instant, frame: &mut Frame, umem: &mut Umem) -> Option<Outcome> {
        if umem.is_chain(frame) {
            return None;
        }
        let frame_len = usize::from(frame.len());
        let (headers, room) = umem.room_mut(frame).split_first_chunk_mut::<HEADERS>()?;
        let headers = Headers::of(headers)?;
        let (payload_len, next_hop) = self.plain_payload_len(&headers, room, frame_len)?;
        let source = (ip::source(headers.ip), wire::udp::source_port(headers.udp));
        let destination = (ip::destination(headers.ip), wire::udp::destination_port(headers.udp));

        self.egress.counters.udp_delivered += 1;
        let mut datagram = Datagram::new(SocketAddr::from(source), SocketAddr::from(destination), room, payload_len);
        let Answer::Reply(len) = self.app.datagram(now, &mut datagram) else { return Some(Outcome::Delivered) };
        let most = usize::from(self.egress.paths.least()).saturating_sub(ip::LEN + wire::udp::LEN);
        let Some(answer) = room.get(..len) else {
            return Some(self.unanswered(UnsentReason::TooLong));
        };
        let (payload_len, sum) = (answer.len() as u16, Sum::default().add_bytes(answer));
        let ends = ((destination.0.into(), destination.1), (source.0.into(), source.1));
        wire::udp::Header { source: ends.0, destination: ends.1, payload_len }.write(headers.udp, sum);
        let header = ip::Header {
            traffic_class: headers.ip[1] & !3,
            payload_len: payload_len + wire::udp::LEN as u16,
            ttl: DEFAULT_HOP_LIMIT,
            protocol: ip::UDP,
            source: destination.0,
            destination: source.0,
        };
        let inbound = Inbound { payload_len: wire::udp::LEN + len, ..plain_inbound(headers.ethernet, headers.ip) };
        if len > most {
            let payload =
                umem.set_len(frame, HEADERS + len) && Umem::narrow(frame, inbound.payload_at, inbound.payload_len);
            debug_assert!(payload, "the answer lies in the frame's room");
            self.egress.counters.udp_originated += 1;
            return Some(Outcome::Cut(inbound.way_back(inbound.destination), ip::UDP));
        }
        header.write(headers.ip);
        self.egress.counters.udp_originated += 1;
        let Some(mac) = self.egress.neighbors.resolve(next_hop, now) else {
            let packet =
                umem.set_len(frame, HEADERS + len) && Umem::narrow(frame, ethernet::LEN, HEADERS + len - ethernet::LEN);
            debug_assert!(packet, "the answer lies in the frame's room");
            return Some(Outcome::Answer(inbound));
        };
        ethernet::turn_round(headers.ethernet, self.mac, mac);
        if !umem.set_len(frame, HEADERS + len) {
            return Some(self.unanswered(UnsentReason::TooLong));
        }
        Some(Outcome::Answered)
    }

    /// A datagram with a TCP segment, if it is plain, for us, and from somebody who can be answered.
    #[inline]
    pub(super) fn plain_segment(&self, frame: &Frame, umem: &Umem) -> Option<Inbound> {
        let bytes = umem.bytes(frame);
        let (ethernet, rest) = bytes.split_first_chunk::<{ ethernet::LEN }>()?;
        let ip = rest.first_chunk::<{ ip::LEN }>()?;
        if !ip::is_plain(ip, ip::TCP) || !ethernet::is_plain_ipv4(ethernet, self.plain_station) || umem.is_chain(frame)
        {
            return None;
        }
        let payload_len = usize::from(ip::total_len(ip)).checked_sub(ip::LEN)?;
        let (source, destination) = (ip::source(ip), ip::destination(ip));
        if self.tcp.is_none()
            || ethernet::LEN + ip::LEN + payload_len > bytes.len()
            || !Sum::default().add_bytes(&ip[..]).is_valid()
            || !ipv4::is_for_us(source, destination, &self.egress.addresses)
        {
            return None;
        }
        Some(Inbound { payload_len, ..plain_inbound(ethernet, ip) })
    }

    /// Bytes of payload of a datagram that is plain, intact, for us, and from somebody who can be answered; and the
    /// neighbor that answers go to.
    #[inline]
    fn plain_payload_len(&self, headers: &Headers<'_>, room: &[u8], frame_len: usize) -> Option<(usize, IpAddress)> {
        let Headers { ethernet, ip, udp } = headers;
        let for_us = ethernet::is_plain_ipv4(ethernet, self.plain_station) && ip::is_plain(ip, ip::UDP);
        let udp_len = usize::from(ip::total_len(ip)).checked_sub(ip::LEN)?;
        if !for_us
            || ethernet::LEN + ip::LEN + udp_len > frame_len
            || usize::from(wire::udp::len(udp)) != udp_len
            || !Sum::default().add_bytes(&ip[..]).is_valid()
        {
            return None;
        }
        let (source, destination) = (ip::source(ip), ip::destination(ip));
        let next_hop = self.egress.routes.next_hop(source.into())?;
        let known = ipv4::is_for_us(source, destination, &self.egress.addresses)
            && wire::udp::source_port(udp) != 0
            && self.udp_ports.contains(wire::udp::destination_port(udp));
        let payload = room.get(..udp_len.checked_sub(wire::udp::LEN)?)?;
        let pseudo = pseudo_header(source.into(), destination.into(), ip::UDP, udp_len as u16);
        let sum = |pseudo: Sum| pseudo.add_bytes(&udp[..]).add_bytes(payload);
        let intact = || self.checksum.accepts(wire::udp::checksum(udp), pseudo, sum);
        (known && intact()).then_some((payload.len(), next_hop))
    }
}

/// What is known of a plain frame but for the length of what it carries.
#[inline]
fn plain_inbound(ethernet: &[u8; ethernet::LEN], ip: &[u8; ip::LEN]) -> Inbound {
    let [destination, source] = [ethernet::destination(ethernet), ethernet::source(ethernet)];
    Inbound {
        ethernet: ethernet::Header { destination, source, tags: Tags::default(), ethertype: ethernet::IPV4 },
        payload_at: ethernet::LEN + ip::LEN,
        payload_len: 0,
        traffic_class: ip[1],
        hop_limit: ip::ttl(ip),
        flow_label: 0,
        in_fragments: false,
        source: ip::source(ip).into(),
        destination: ip::destination(ip).into(),
    }
}

impl<'a> Headers<'a> {
    #[inline]
    fn of(bytes: &'a mut [u8; HEADERS]) -> Option<Self> {
        let (ethernet, rest) = bytes.split_first_chunk_mut()?;
        let (ip, rest) = rest.split_first_chunk_mut()?;
        Some(Self { ethernet, ip, udp: rest.first_chunk_mut()? })
    }
}
