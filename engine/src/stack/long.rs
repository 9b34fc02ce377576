//! Datagrams that are longer than a chunk: they lie in a chain of them, and go back as they lie.

use std::net::SocketAddr;

use crate::app::{Answer, App, Datagram, Echo, Payload};
use crate::base::{DropReason, Frame, Instant, Umem, UnsentReason};
use crate::network::icmp::Problem;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, udp};

use super::ingress::Accepted;
use super::{Inbound, Outcome, Stack};

impl<A: App> Stack<A> {
    pub(super) fn dispatch_long(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let Accepted { inbound, protocol, .. } = accepted;
        match (*protocol, inbound.source.is_v4()) {
            (ipv4::UDP, _) => self.udp_long(now, inbound, frame, umem),
            (ipv4::ICMP, true) => self.echo_long(now, inbound, frame, umem),
            (ipv6::ICMPV6, false) => self.echo_long(now, inbound, frame, umem),
            // No segment is longer than what its receiver said that it takes, and that is what the link does.
            (ipv4::TCP, _) if inbound.end() - inbound.ethernet.len_bytes() > usize::from(self.egress.paths.link()) => {
                Outcome::Dropped(DropReason::FrameTooLong)
            }
            (ipv4::TCP, _) if self.tcp.is_some() && !inbound.is_to_group() => Outcome::TcpLong(*inbound),
            _ => self.dispatch(now, accepted, frame, umem),
        }
    }

    fn udp_long(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let (source, destination) = (inbound.source, inbound.destination);
        let bytes = umem.bytes(frame).get(inbound.payload_at..).unwrap_or_default();
        let Some(&header) = bytes.first_chunk::<{ udp::LEN }>() else {
            return Outcome::Dropped(DropReason::UdpTruncated);
        };
        let len = usize::from(udp::len(&header));
        if len < udp::LEN || len > inbound.payload_len {
            return Outcome::Dropped(DropReason::UdpLength);
        }
        let is_padded = len < inbound.payload_len;
        let inbound = &Inbound { payload_len: len, ..*inbound };
        if is_padded {
            // What lies behind its end does not belong to it, as in a datagram of one chunk; and the rest may fit into one.
            umem.truncate_chain(frame, inbound.end());
            let _ = umem.pull(frame, inbound.end());
        }
        let (from, to) = (udp::source_port(&header), udp::destination_port(&header));
        let first_len = usize::from(frame.len());
        if !Umem::narrow(frame, inbound.payload_at, first_len - inbound.payload_at) {
            return Outcome::Dropped(DropReason::UdpTruncated);
        }
        let pseudo = pseudo_header(source, destination, ipv4::UDP, udp::len(&header));
        let whole = |pseudo: Sum| pseudo.add_pieces(umem.slices(frame));
        if !crate::transport::udp::accepts(self.checksum, source.is_v4(), udp::checksum(&header), pseudo, whole) {
            return Outcome::Dropped(DropReason::UdpChecksum);
        }
        if !self.udp_ports.contains(to) {
            let restored = umem.prepend_len(frame, inbound.payload_at as u16).is_some();
            debug_assert!(restored, "the headers were there before");
            return self.refuse(now, DropReason::UdpPortClosed, Problem::PortUnreachable, inbound, frame, umem);
        }
        let part = usize::from(frame.len()) - udp::LEN;
        let narrowed = Umem::narrow(frame, udp::LEN, part);
        debug_assert!(narrowed, "the header was there before");
        self.egress.counters.udp_delivered += 1;
        let to_group = inbound.is_to_group();
        let ends = (SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to));
        let mut datagram =
            Datagram::long(ends.0, ends.1, frame, umem).with_group(to_group).in_class(inbound.traffic_class);
        let len = datagram.len();
        let Answer::Reply(answer_len) = self.app.datagram(now, &mut datagram) else { return Outcome::Delivered };
        if from == 0 {
            return self.unanswered(UnsentReason::NoReplyPort);
        }
        let Some(our_end) = self.answer_from(inbound) else { return self.unanswered(UnsentReason::NoRoute) };
        if answer_len != len {
            // An answer of its own, which was written over the first part.
            umem.cut_chain(frame);
            if !umem.set_len(frame, answer_len) {
                return self.unanswered(UnsentReason::TooLong);
            }
        }
        let sum = Sum::default().add_pieces(umem.slices(frame));
        let way = self.egress.answer_way(inbound, our_end);
        if !self.egress.write_udp(frame, umem, &way, (to, from), sum) {
            return self.unanswered(UnsentReason::TooLong);
        }
        self.egress.counters.udp_originated += 1;
        self.answer_with(now, inbound, way, ipv4::UDP, frame, umem)
    }

    /// Makes a long echo request its own reply, and shows the application a reply, if they are intact.
    fn echo_long(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let first_len = usize::from(frame.len());
        let is_v4 = inbound.source.is_v4();
        if !Umem::narrow(frame, inbound.payload_at, first_len - inbound.payload_at) {
            return Outcome::Dropped(DropReason::IcmpTruncated);
        }
        let Ok(len) = u16::try_from(inbound.payload_len) else { return Outcome::Dropped(DropReason::IcmpTruncated) };
        let pseudo =
            if is_v4 { Sum::default() } else { pseudo_header(inbound.source, inbound.destination, ipv6::ICMPV6, len) };
        if !pseudo.add_pieces(umem.slices(frame)).is_valid() {
            return Outcome::Dropped(DropReason::IcmpChecksum);
        }
        let (request, reply) =
            if is_v4 { (icmpv4::ECHO_REQUEST, icmpv4::ECHO_REPLY) } else { (icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY) };
        match umem.bytes(frame).split_first_chunk::<{ icmpv4::LEN }>() {
            Some(([kind, ..], _)) if *kind == request => self.turn_echo(now, inbound, frame, umem),
            Some(([kind, 0, _, _, a, b, c, d], first)) if *kind == reply => {
                let (identifier, sequence) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                let payload = Payload::of_chain(first, frame, umem);
                self.echo_reply(now, inbound, Echo { identifier, sequence }, payload)
            }
            _ => Outcome::Dropped(DropReason::IcmpIgnored),
        }
    }
}
