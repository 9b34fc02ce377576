//! The way in: from a frame to the protocol that its packet is for.

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, Instant, Umem};
use crate::network::icmp::Problem;
use crate::network::reassembly::Fragment;
use crate::network::{ipv4, ipv6};
use crate::wire;
use crate::wire::ethernet;
use crate::wire::ipv6::ChainError;

use super::{Inbound, Outcome, Stack};

/// A packet that is ours, and what it carries.
pub(super) struct Accepted {
    pub(super) inbound: Inbound,
    pub(super) protocol: u8,
    /// Where the field stands that names the protocol, from the IP header's start.
    pub(super) named_at: usize,
}

/// What a packet that is ours is.
enum Ours {
    Arp(ethernet::Header),
    Whole(Accepted),
    Fragment(Fragment<Inbound>),
}

/// Why a packet is not taken.
pub(super) enum Refusal {
    Drop(DropReason),
    /// Its sender is to be told.
    Tell(DropReason, Problem, Inbound),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl Refusal {
    pub(super) const fn of(error: ChainError, inbound: Inbound) -> Self {
        match error {
            ChainError::Drop(reason) => Self::Drop(reason),
            ChainError::Problem { code, pointer, reason, even_to_multicast } => {
                Self::Tell(reason, Problem::Header { code, pointer, even_to_group: even_to_multicast }, inbound)
            }
        }
    }
}

impl<A: App> Stack<A> {
    /// The long way. A call of its own, so that it takes no registers from the short one.
    #[inline(never)]
    pub(super) fn digest(&mut self, now: Instant, mut frame: Frame, umem: &mut Umem, out: &mut Burst) {
        self.egress.hurry_upkeep();
        let outcome = match self.accept(&frame, umem) {
            Ok(Ours::Whole(accepted)) if umem.is_chain(&frame) => {
                umem.truncate_chain(&mut frame, accepted.inbound.end());
                self.dispatch_long(now, &accepted, &mut frame, umem)
            }
            Ok(Ours::Arp(header)) => self.arp(now, header, &mut frame, umem),
            Ok(Ours::Whole(accepted)) => self.dispatch(now, &accepted, &mut frame, umem),
            Ok(Ours::Fragment(fragment)) => return self.take_fragment(now, &fragment, frame, umem, out),
            Err(refusal) => self.refused(now, refusal, &mut frame, umem),
        };
        self.conclude(now, outcome, frame, umem, out);
    }

    pub(super) fn refused(&mut self, now: Instant, refusal: Refusal, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        match refusal {
            Refusal::Drop(reason) => Outcome::Dropped(reason),
            Refusal::Tell(reason, problem, inbound) => self.refuse(now, reason, problem, &inbound, frame, umem),
        }
    }

    fn accept(&self, frame: &Frame, umem: &Umem) -> Result<Ours, Refusal> {
        let bytes = umem.bytes(frame);
        let header = self.accept_frame(bytes)?;
        if umem.is_chain(frame) {
            return self.accept_chain(header, bytes, umem.packet_len(frame));
        }
        match header.ethertype {
            ethernet::ARP => Ok(Ours::Arp(header)),
            ethernet::IPV4 => self.accept_ipv4(header, bytes, bytes.len()),
            ethernet::IPV6 => self.accept_ipv6(header, bytes, bytes.len()),
            _ => Err(DropReason::EtherTypeUnknown.into()),
        }
    }

    /// The same of a frame of `len` bytes that goes on in further chunks behind `bytes`.
    fn accept_chain(&self, header: ethernet::Header, bytes: &[u8], len: usize) -> Result<Ours, Refusal> {
        if len - header.len_bytes() > usize::from(self.egress.paths.link()) {
            return Err(DropReason::FrameTooLong.into());
        }
        let ours = match header.ethertype {
            ethernet::ARP => return Err(DropReason::FrameTooLong.into()),
            ethernet::IPV4 => self.accept_ipv4(header, bytes, len),
            ethernet::IPV6 => self.accept_ipv6(header, bytes, len),
            _ => return Err(DropReason::EtherTypeUnknown.into()),
        }?;
        let inbound = match &ours {
            Ours::Whole(accepted) => &accepted.inbound,
            Ours::Fragment(fragment) => &fragment.context,
            Ours::Arp(_) => return Ok(ours),
        };
        if inbound.payload_at < bytes.len() { Ok(ours) } else { Err(DropReason::HeadersSplit.into()) }
    }

    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        let Accepted { inbound, protocol, named_at } = accepted;
        match (*protocol, inbound.source.is_v4()) {
            (wire::ipv4::UDP, _) => self.udp(now, inbound, frame, umem),
            // RFC 9293, section 3.9.2.3 (MUST-57): a SYN that is addressed to a group MUST be silently discarded.
            (wire::ipv4::TCP, _) if inbound.is_to_group() => Outcome::Dropped(DropReason::TcpToGroup),
            (wire::ipv4::TCP, _) if self.tcp.is_some() => Outcome::Tcp(*inbound),
            (wire::ipv4::IGMP, true) => self.igmp(now, inbound, umem.bytes(frame)),
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
        if header.tags.are_of_vlan_of(&self.egress.tags) { Ok(header) } else { Err(DropReason::OtherVlan) }
    }

    fn accept_ipv4(&self, ethernet: ethernet::Header, bytes: &[u8], len: usize) -> Result<Ours, Refusal> {
        let start = bytes.get(ethernet.len_bytes()..).unwrap_or_default();
        let packet = wire::ipv4::Packet::parse_start(start, len.saturating_sub(ethernet.len_bytes()))?;
        let is_heard = |group| self.hears_v4(group, packet.protocol());
        ipv4::accept(&packet, &self.egress.addresses, ethernet.destination.is_multicast(), is_heard)?;
        let inbound = Inbound {
            ethernet,
            payload_at: ethernet.len_bytes() + packet.header_len(),
            payload_len: packet.payload_len(),
            traffic_class: packet.traffic_class(),
            hop_limit: packet.ttl(),
            flow_label: 0,
            in_fragments: false,
            source: packet.source().into(),
            destination: packet.destination().into(),
        };
        if packet.is_fragment() {
            return Ok(Ours::Fragment(Fragment {
                source: inbound.source,
                destination: inbound.destination,
                identification: packet.identification().into(),
                protocol: packet.protocol(),
                offset: packet.fragment_offset(),
                more: packet.more_fragments(),
                traffic_class: packet.traffic_class(),
                header_at: 0,
                dont_fragment: packet.dont_fragment(),
                context: inbound,
            }));
        }
        Ok(Ours::Whole(Accepted { inbound, protocol: packet.protocol(), named_at: wire::ipv4::PROTOCOL_AT }))
    }

    fn accept_ipv6(&self, ethernet: ethernet::Header, bytes: &[u8], len: usize) -> Result<Ours, Refusal> {
        if !self.speaks_ipv6 {
            return Err(DropReason::Ipv6NotConfigured.into());
        }
        let start = bytes.get(ethernet.len_bytes()..).unwrap_or_default();
        let packet = wire::ipv6::Packet::parse_start(start, len.saturating_sub(ethernet.len_bytes()))?;
        let (source, destination) = (packet.source(), packet.destination());
        ipv6::accept(source, destination, &self.egress.addresses, ethernet.destination.is_multicast(), |group| {
            self.egress.members.is_member(group.into())
        })?;
        let mut inbound = Inbound {
            ethernet,
            payload_at: ethernet.len_bytes() + wire::ipv6::LEN,
            payload_len: packet.len_from(wire::ipv6::LEN),
            traffic_class: packet.traffic_class(),
            hop_limit: packet.hop_limit(),
            flow_label: packet.flow_label(),
            in_fragments: false,
            source: source.into(),
            destination: destination.into(),
        };
        let is_of_discovery = ipv6::is_of_discovery(source, &self.egress.addresses);
        let upper = match wire::ipv6::walk(&packet) {
            Ok(upper) if is_of_discovery && upper.protocol != wire::ipv6::ICMPV6 => {
                return Err(DropReason::Ipv6SourceInvalid.into());
            }
            Ok(upper) => upper,
            Err(error) if is_of_discovery => return Err(error.reason().into()),
            Err(error) => return Err(Refusal::of(error, inbound)),
        };
        inbound.payload_at = ethernet.len_bytes() + upper.at;
        inbound.payload_len = packet.len_from(upper.at);
        inbound.in_fragments = upper.atomic_fragment;
        if let Some(fragment) = upper.fragment {
            return Ok(Ours::Fragment(Fragment {
                source: inbound.source,
                destination: inbound.destination,
                identification: fragment.identification,
                protocol: upper.protocol,
                offset: fragment.offset,
                more: fragment.more,
                traffic_class: packet.traffic_class(),
                header_at: 0,
                dont_fragment: false,
                context: inbound,
            }));
        }
        Ok(Ours::Whole(Accepted { inbound, protocol: upper.protocol, named_at: upper.next_header_at }))
    }
}

/// The IP payload of a frame.
pub(super) fn payload<'a>(bytes: &'a [u8], inbound: &Inbound) -> &'a [u8] {
    bytes.get(inbound.payload_at..inbound.payload_at + inbound.payload_len).unwrap_or_default()
}
