//! ICMP in the stack, of both families: what is asked, what the network says, and what we have to say.

use crate::app::{App, Echo, IcmpError, IcmpMessage, Payload};
use crate::base::{DropReason, Frame, Instant, Umem, UnsentReason};
use crate::network::icmp::{self, ErrorKind, Message, Problem, Quoted};
use crate::network::ipv6::is_of_discovery;
use crate::network::path_mtu;
use crate::network::sent_lately::Flow;
use crate::transport::tcp::path::PathError;
use crate::wire::ip::IpAddress;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, ndp};

use super::egress::Way;
use super::ingress::payload;
use super::{Event, GOSSIP_EVENTS, Inbound, Outcome, Stack};

/// Errors that wait to be told to other workers, at most; those that only applications may want, half as many. A worker
/// takes them out about every 10 ms, so that it has the others look at no more than some hundred a second, however many
/// come in.
const ERROR_EVENTS: usize = 8;

/// What somebody says about a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError {
    /// Who says it.
    pub source: IpAddress,
    /// What is wrong, in the words for transports.
    pub kind: ErrorKind,
    /// The same in those for applications, if they have to know.
    pub told: Option<IcmpError>,
    /// The packet.
    pub quoted: Quoted,
}

impl<A: App> Stack<A> {
    pub(super) fn icmpv4(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let message = payload(umem.bytes(frame), inbound);
        // Errors about datagrams of ours come to us alone.
        if inbound.is_to_group() {
            return Outcome::Dropped(DropReason::IcmpIgnored);
        }
        let packet = match icmpv4::Packet::parse(message) {
            Ok(packet) => packet,
            Err(reason) => return Outcome::Dropped(reason),
        };
        match icmp::accept_v4(&packet, message) {
            Ok(Message::EchoRequest) => self.echo(now, inbound, frame, umem),
            Ok(Message::EchoReply(identifier, sequence)) => {
                let payload = Payload::from(message.get(icmpv4::LEN..).unwrap_or_default());
                self.echo_reply(now, inbound, Echo { identifier, sequence }, payload)
            }
            Ok(Message::Error(kind, quoted)) => {
                let error = NetworkError { source: inbound.source, kind, told: error_v4(&packet), quoted };
                self.network_error(now, error, umem)
            }
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    pub(super) fn icmpv6(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let (Some(source), Some(destination)) = (inbound.source.to_v6(), inbound.destination.to_v6()) else {
            return Outcome::Dropped(DropReason::IcmpIgnored);
        };
        let message = payload(umem.bytes(frame), inbound);
        let packet = match icmpv6::Packet::parse(message, source, destination) {
            Ok(packet) => packet,
            Err(reason) => return Outcome::Dropped(reason),
        };
        match packet.kind() {
            // RFC 6980, section 5: Neighbor Discovery in fragments, even a single one, is silently ignored.
            icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT if inbound.in_fragments => {
                return Outcome::Dropped(DropReason::NdpFragment);
            }
            icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT => {
                return match ndp::Message::parse(&packet, inbound.hop_limit, source, destination) {
                    Ok(message) => self.ndp(now, &message, source, inbound, frame, umem),
                    Err(reason) => Outcome::Dropped(reason),
                };
            }
            icmpv6::LISTENER_QUERY => return self.mld(now, &packet, inbound, umem.bytes(frame)),
            _ if is_of_discovery(source, &self.egress.addresses) => {
                return Outcome::Dropped(DropReason::Ipv6SourceInvalid);
            }
            _ => {}
        }
        match icmp::accept_v6(&packet) {
            Ok(Message::EchoRequest) => self.echo(now, inbound, frame, umem),
            Ok(Message::EchoReply(identifier, sequence)) => {
                let payload = Payload::from(packet.body());
                self.echo_reply(now, inbound, Echo { identifier, sequence }, payload)
            }
            Ok(Message::Error(kind, quoted)) => {
                let error = NetworkError { source: inbound.source, kind, told: error_v6(&packet), quoted };
                self.network_error(now, error, umem)
            }
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    /// Makes an echo request its own reply.
    pub(super) fn echo(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        // RFC 1122, section 3.2.2.6: an echo request to a broadcast or multicast address MAY be silently discarded. Of IPv6
        // it SHOULD be answered (RFC 4443, section 4.2), from an address of ours.
        if !Umem::narrow(frame, inbound.payload_at, inbound.payload_len) {
            return Outcome::Dropped(DropReason::IcmpTruncated);
        }
        self.turn_echo(now, inbound, frame, umem)
    }

    /// The same where the frame holds the message alone.
    pub(super) fn turn_echo(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        if inbound.source.is_v4() && inbound.is_to_group() {
            return Outcome::Dropped(DropReason::IcmpIgnored);
        }
        let Some(our_end) = self.answer_from(inbound) else { return Outcome::Dropped(DropReason::IcmpIgnored) };
        let Some(header) = umem.bytes_mut(frame).first_chunk_mut() else {
            return Outcome::Dropped(DropReason::IcmpTruncated);
        };
        let protocol = match (inbound.destination.to_v6(), our_end.to_v6()) {
            (Some(asked), Some(ours)) => {
                icmpv6::make_echo_reply(header, asked, ours);
                ipv6::ICMPV6
            }
            _ => {
                icmpv4::make_echo_reply(header);
                ipv4::ICMP
            }
        };
        self.egress.counters.icmp_echoes_answered += 1;
        let way = self.egress.answer_way(inbound, our_end);
        self.answer_with(now, inbound, way, protocol, frame, umem)
    }

    /// Answers with the payload that the frame holds: as one packet if the path takes it.
    pub(super) fn answer_with(
        &mut self,
        now: Instant,
        inbound: &Inbound,
        way: Way,
        protocol: u8,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        self.egress.note_sent(umem, frame, &way, protocol, now);
        if !self.egress.fits(umem.packet_len(frame), way.destination, now) {
            return Outcome::Cut(way, protocol, inbound.ethernet.tags.priority());
        }
        if self.egress.write_ip(frame, umem, &way, protocol) {
            Outcome::Answer(*inbound)
        } else {
            self.unanswered(UnsentReason::TooLong)
        }
    }

    /// Shows the application an echo reply.
    pub(super) fn echo_reply(&mut self, now: Instant, inbound: &Inbound, echo: Echo, payload: Payload<'_>) -> Outcome {
        if inbound.is_to_group() {
            return Outcome::Dropped(DropReason::IcmpIgnored);
        }
        let (source, hop_limit) = (inbound.source.into(), inbound.hop_limit);
        if self.take_icmp(now, &IcmpMessage::EchoReply { source, echo, hop_limit, payload }) {
            Outcome::Delivered
        } else {
            Outcome::Dropped(DropReason::IcmpIgnored)
        }
    }

    /// Hears what somebody says about a packet, and has others hear it if it is of no use here.
    fn network_error(&mut self, now: Instant, error: NetworkError, umem: &mut Umem) -> Outcome {
        if self.take_error(now, &error, umem) {
            return Outcome::Delivered;
        }
        self.pass_on(error);
        Outcome::Dropped(DropReason::IcmpIgnored)
    }

    /// Hears of an error that came to another worker of the same addresses. It is told to nobody else, so that it goes no
    /// further than once round.
    pub fn hear_network_error(&mut self, now: Instant, error: &NetworkError, umem: &mut Umem) {
        self.take_error(now, error, umem);
    }

    /// Whether an error is of use: to a connection, to the estimate of a path, or to the application.
    fn take_error(&mut self, now: Instant, error: &NetworkError, umem: &mut Umem) -> bool {
        let NetworkError { source, kind, told, quoted } = error;
        let mut useful = match (*kind, quoted.protocol) {
            (kind, ipv4::TCP) => path_error(kind).is_some_and(|error| self.tcp_error(now, error, quoted, umem)),
            (ErrorKind::TooLong(mtu), _) => self.learn_path(now, mtu, quoted),
            _ => false,
        };
        // Errors about what others sent are no business of an application's.
        if let Some(message) = told.and_then(|error| about_app(*source, error, quoted))
            && self.egress.addresses.is_ours(quoted.source)
            && self.take_icmp(now, &message)
        {
            useful = true;
        }
        useful
    }

    /// Has the other workers hear of an error that may be about a packet of theirs: a NIC chooses the queue of an error by
    /// the addresses of its own header, and not by those of the flow that it is about.
    fn pass_on(&mut self, error: NetworkError) {
        let Quoted { source, protocol, .. } = error.quoted;
        let is_known = matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::ICMP | ipv6::ICMPV6);
        let changes_path = protocol == ipv4::TCP || matches!(error.kind, ErrorKind::TooLong(_));
        let most = if changes_path { ERROR_EVENTS } else { ERROR_EVENTS / 2 };
        let waiting = self.events.iter().filter(|event| matches!(event, Event::NetworkError(_))).count();
        if is_known
            && error.kind != ErrorKind::SourceQuench
            && waiting < most
            && self.events.len() < GOSSIP_EVENTS
            && self.egress.addresses.is_ours(source)
        {
            self.tell(Event::NetworkError(error));
        }
    }

    /// Shows the application a message. Whether it waited for that.
    fn take_icmp(&mut self, now: Instant, message: &IcmpMessage<'_>) -> bool {
        let taken = self.app.icmp(now, message);
        self.egress.counters.icmp_delivered += u64::from(taken);
        taken
    }

    /// Hears that a packet was too long for its path, and believes it if it is about one that we sent.
    ///
    /// RFC 1191, section 8: a denial-of-service attack is a false message that indicates a PMTU much smaller than reality.
    /// So it has to quote what was longer than is said to fit.
    fn learn_path(&mut self, now: Instant, mtu: u16, quoted: &Quoted) -> bool {
        let Quoted { source, destination, len, protocol, transport } = *quoted;
        let believed = path_mtu::believed(destination.is_v4(), mtu);
        let is_proved = len > believed
            && self.egress.addresses.is_ours(source)
            && self.egress.sent.knows(&Flow::new(destination, protocol, transport), believed, now);
        if is_proved {
            self.egress.paths.learn(destination, mtu, now);
            self.egress.hurry_upkeep();
        }
        is_proved
    }

    /// Which address of ours an answer comes from: the one that was asked, or any where that was a group.
    pub(super) fn answer_from(&self, inbound: &Inbound) -> Option<IpAddress> {
        if self.egress.addresses.is_ours(inbound.destination) {
            return Some(inbound.destination);
        }
        self.egress.source_for(inbound.source)
    }

    /// Drops a datagram and makes an ICMP error of its frame, if one is allowed.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        reason: DropReason,
        problem: Problem,
        inbound: &Inbound,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Outcome {
        // RFC 1122, section 3.2.2: an ICMP error message MUST NOT be sent as the result of receiving an ICMP error message,
        // a datagram destined to a broadcast or multicast address, or one whose source address does not define a single
        // host. RFC 4443, section 2.4 (e), has the same.
        let to_group = inbound.is_to_group() && !problem.is_told_to_group();
        if to_group || inbound.source.is_unspecified() || is_about_error(inbound, umem.bytes(frame)) {
            return Outcome::Dropped(reason);
        }
        if !self.icmp_limit.allow(problem, inbound.source, now) {
            self.egress.counters.icmp_errors_suppressed += 1;
            return Outcome::Dropped(reason);
        }
        let Some(our_end) = self.answer_from(inbound) else { return Outcome::Dropped(reason) };
        umem.cut_chain(frame);
        let is_v4 = inbound.source.is_v4();
        let datagram_at = inbound.ethernet.len_bytes();
        let quoted = icmp::quoted_len(inbound.payload_at + inbound.payload_len - datagram_at, is_v4);
        if !Umem::narrow(frame, datagram_at, quoted) || !write_error(frame, umem, problem, our_end, inbound.source) {
            return Outcome::Dropped(reason);
        }
        let protocol = if is_v4 { ipv4::ICMP } else { ipv6::ICMPV6 };
        if !self.egress.write_ip(frame, umem, &self.egress.answer_way(inbound, our_end), protocol) {
            return Outcome::Dropped(reason);
        }
        self.egress.counters.icmp_errors_originated += 1;
        Outcome::Refused(reason, *inbound)
    }
}

/// Whether a packet carries an ICMP error: of IPv6 behind whatever headers.
fn is_about_error(inbound: &Inbound, bytes: &[u8]) -> bool {
    let packet_at = inbound.ethernet.len_bytes();
    if inbound.source.is_v4() {
        // Only the first fragment of a message may come here in part, and that has its type.
        let kind = bytes.get(inbound.payload_at).copied();
        return bytes.get(packet_at + ipv4::PROTOCOL_AT) == Some(&ipv4::ICMP) && !kind.is_some_and(icmpv4::is_query);
    }
    bytes.get(packet_at..bytes.len().min(inbound.end())).is_some_and(ipv6::carries_icmp_error)
}

/// Puts the header of an ICMP error in front of the datagram that the frame holds and that it is about.
fn write_error(frame: &mut Frame, umem: &mut Umem, problem: Problem, ours: IpAddress, sender: IpAddress) -> bool {
    if umem.prepend::<{ icmpv4::LEN }>(frame).is_none() {
        return false;
    }
    let Some((header, quoted)) = umem.bytes_mut(frame).split_first_chunk_mut() else { return false };
    let message = problem.message(sender.is_v4());
    match (ours.to_v6(), sender.to_v6()) {
        (Some(ours), Some(sender)) => {
            icmpv6::write_error(header, message.kind, message.code, message.parameter, quoted, ours, sender);
        }
        _ => icmpv4::write_error(header, message.kind, message.code, message.parameter, quoted),
    }
    true
}

/// What an ICMP error means to a connection; `None` for one that no transport has to know of.
const fn path_error(kind: ErrorKind) -> Option<PathError> {
    match kind {
        ErrorKind::Unreachable => Some(PathError::Unreachable),
        ErrorKind::Refused => Some(PathError::Refused),
        ErrorKind::TooLong(mtu) => Some(PathError::TooLong(mtu)),
        ErrorKind::TimeExceeded => Some(PathError::TimeExceeded),
        ErrorKind::ParameterProblem => Some(PathError::ParameterProblem),
        // RFC 9293, section 3.9.2.2 (MUST-55): an implementation MUST silently discard ICMP Source Quench messages.
        ErrorKind::SourceQuench => None,
    }
}

/// What a message of IPv4 says, if it is an error that an application has to know of.
fn error_v4(packet: &icmpv4::Packet<'_>) -> Option<IcmpError> {
    let code = packet.code();
    match packet.kind() {
        icmpv4::UNREACHABLE if code == icmpv4::FRAGMENTATION_NEEDED => {
            Some(IcmpError::TooLong { mtu: packet.next_hop_mtu().into() })
        }
        icmpv4::UNREACHABLE => Some(IcmpError::Unreachable { code }),
        icmpv4::TIME_EXCEEDED => Some(IcmpError::TimeExceeded { code }),
        icmpv4::PARAMETER_PROBLEM => Some(IcmpError::ParameterProblem { code, pointer: packet.pointer().into() }),
        // RFC 6633: Source Quench is obsolete, and transports ignore it.
        _ => None,
    }
}

/// The same of IPv6.
fn error_v6(packet: &icmpv6::Packet<'_>) -> Option<IcmpError> {
    let code = packet.code();
    match packet.kind() {
        icmpv6::UNREACHABLE => Some(IcmpError::Unreachable { code }),
        icmpv6::TOO_BIG => Some(IcmpError::TooLong { mtu: packet.mtu() }),
        icmpv6::TIME_EXCEEDED => Some(IcmpError::TimeExceeded { code }),
        icmpv6::PARAMETER_PROBLEM => Some(IcmpError::ParameterProblem { code, pointer: packet.pointer() }),
        _ => None,
    }
}

/// The error as an application sees it, if it is about something that applications send.
fn about_app(source: IpAddress, error: IcmpError, quoted: &Quoted) -> Option<IcmpMessage<'static>> {
    let Quoted { destination, protocol, transport, .. } = *quoted;
    let icmp = if destination.is_v4() { ipv4::ICMP } else { ipv6::ICMPV6 };
    let (source, destination) = (source.into(), destination.into());
    let message = IcmpMessage::Error { source, error, destination, protocol, transport };
    (protocol == icmp || protocol == ipv4::UDP).then_some(message)
}

/// Tells the application of a packet of ours whose neighbor was not found, in the words that a router has for a host that
/// does not respond to ARP (RFC 1812, section 5.2.7.1), or whose link address cannot be resolved (RFC 4443, section 3.1).
pub(super) fn tell_unreachable<A: App>(app: &mut A, now: Instant, packet: &[u8]) {
    let Some(quoted) = icmp::quoted(packet) else { return };
    let code = if quoted.source.is_v4() { icmpv4::HOST_UNREACHABLE } else { icmpv6::ADDRESS_UNREACHABLE };
    if let Some(message) = about_app(quoted.source, IcmpError::Unreachable { code }, &quoted) {
        // Nothing was received: whether it was waited for is not counted.
        app.icmp(now, &message);
    }
}
