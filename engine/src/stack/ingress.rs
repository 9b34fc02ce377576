//! The way in: from a frame to the protocol that its packet is for.

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, Instant, Umem};
use crate::network::icmp::Problem;
use crate::network::{ipv4, ipv6};
use crate::wire;
use crate::wire::ethernet;
use crate::wire::ipv6::ChainError;

use super::{Inbound, Outcome, Stack};

/// A packet that is ours, and what it carries.
struct Accepted {
    inbound: Inbound,
    protocol: u8,
    /// Where the field stands that names the protocol, from the IP header's start.
    named_at: usize,
}

/// Why a packet is not taken.
enum Refusal {
    Drop(DropReason),
    /// Its sender is to be told.
    Tell(DropReason, Problem, Inbound),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl<A: App> Stack<A> {
    /// The long way. A call of its own, so that it takes no registers from the short one.
    #[inline(never)]
    pub(super) fn digest(&mut self, now: Instant, mut frame: Frame, umem: &mut Umem, out: &mut Burst) {
        let outcome = match self.accept_frame(umem.bytes(&frame)) {
            _ if umem.is_chain(&frame) => Outcome::Dropped(DropReason::FrameTooLong),
            Ok(header) => self.digest_packet(now, header, &mut frame, umem),
            Err(reason) => Outcome::Dropped(reason),
        };
        self.conclude(now, outcome, frame, umem, out);
    }

    fn digest_packet(&mut self, now: Instant, header: ethernet::Header, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let bytes = umem.bytes(frame);
        let accepted = match header.ethertype {
            ethernet::ARP => return self.arp(now, header, frame, umem),
            ethernet::IPV4 => self.accept_ipv4(header, bytes),
            ethernet::IPV6 => self.accept_ipv6(header, bytes),
            _ => return Outcome::Dropped(DropReason::EtherTypeUnknown),
        };
        match accepted {
            Ok(accepted) => self.dispatch(now, &accepted, frame, umem),
            Err(Refusal::Drop(reason)) => Outcome::Dropped(reason),
            Err(Refusal::Tell(reason, problem, inbound)) => self.refuse(now, reason, problem, &inbound, frame, umem),
        }
    }

    fn dispatch(&mut self, now: Instant, accepted: &Accepted, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let Accepted { inbound, protocol, named_at } = accepted;
        match (*protocol, inbound.source.is_v4()) {
            (wire::ipv4::UDP, _) => self.udp(now, inbound, frame, umem),
            // RFC 9293, section 3.9.2.3 (MUST-57): a SYN that is addressed to a group MUST be silently discarded.
            (wire::ipv4::TCP, _) if inbound.is_to_group() => Outcome::Dropped(DropReason::TcpToGroup),
            (wire::ipv4::TCP, _) if self.tcp.is_some() => Outcome::Tcp(*inbound),
            (wire::ipv4::ICMP, true) => self.icmpv4(now, inbound, frame, umem),
            (wire::ipv6::ICMPV6, false) => self.icmpv6(now, inbound, frame, umem),
            _ => {
                let problem = Problem::ProtocolUnknown { named_at: *named_at as u32 };
                self.refuse(now, DropReason::ProtocolUnknown, problem, inbound, frame, umem)
            }
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

    fn accept_ipv4(&self, ethernet: ethernet::Header, bytes: &[u8]) -> Result<Accepted, Refusal> {
        let packet = wire::ipv4::Packet::parse(bytes.get(ethernet.len_bytes()..).unwrap_or_default())?;
        ipv4::accept(&packet, &self.egress.addresses, ethernet.destination.is_multicast())?;
        let inbound = Inbound {
            ethernet,
            payload_at: ethernet.len_bytes() + packet.header_len(),
            payload_len: packet.payload().len(),
            traffic_class: packet.traffic_class(),
            hop_limit: packet.ttl(),
            flow_label: 0,
            in_fragments: false,
            source: packet.source().into(),
            destination: packet.destination().into(),
        };
        Ok(Accepted { inbound, protocol: packet.protocol(), named_at: wire::ipv4::PROTOCOL_AT })
    }

    fn accept_ipv6(&self, ethernet: ethernet::Header, bytes: &[u8]) -> Result<Accepted, Refusal> {
        if !self.speaks_ipv6 {
            return Err(DropReason::Ipv6NotConfigured.into());
        }
        let packet = wire::ipv6::Packet::parse(bytes.get(ethernet.len_bytes()..).unwrap_or_default())?;
        let (source, destination) = (packet.source(), packet.destination());
        ipv6::accept(source, destination, &self.egress.addresses, ethernet.destination.is_multicast(), |_| false)?;
        let mut inbound = Inbound {
            ethernet,
            payload_at: ethernet.len_bytes() + wire::ipv6::LEN,
            payload_len: packet.payload().len(),
            traffic_class: packet.traffic_class(),
            hop_limit: packet.hop_limit(),
            flow_label: packet.flow_label(),
            in_fragments: false,
            source: source.into(),
            destination: destination.into(),
        };
        let upper = wire::ipv6::walk(&packet).map_err(|error| match error {
            ChainError::Drop(reason) => Refusal::Drop(reason),
            ChainError::Problem { code, pointer, reason, even_to_multicast } => {
                let problem = Problem::Header { code, pointer, even_to_group: even_to_multicast };
                Refusal::Tell(reason, problem, inbound)
            }
        })?;
        if upper.fragment.is_some() {
            return Err(DropReason::Ipv6Fragment.into());
        }
        inbound.payload_at = ethernet.len_bytes() + upper.at;
        inbound.payload_len = packet.from(upper.at).len();
        inbound.in_fragments = upper.atomic_fragment;
        if source.is_unspecified() && upper.protocol != wire::ipv6::ICMPV6 {
            return Err(DropReason::Ipv6SourceInvalid.into());
        }
        Ok(Accepted { inbound, protocol: upper.protocol, named_at: upper.next_header_at })
    }
}

/// The IP payload of a frame.
pub(super) fn payload<'a>(bytes: &'a [u8], inbound: &Inbound) -> &'a [u8] {
    bytes.get(inbound.payload_at..inbound.payload_at + inbound.payload_len).unwrap_or_default()
}
