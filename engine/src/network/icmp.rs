//! What a received ICMP message asks for, and which error a datagram deserves (RFC 792, RFC 1122 section 3.2.2;
//! RFC 4443).

use super::ipv4::MIN_REASSEMBLY_LEN;
use crate::base::DropReason;
use crate::wire::ip::IpAddress;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// What is wrong with a datagram, for its sender to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody listens on the port.
    PortUnreachable,
    /// Nobody here speaks the protocol; of IPv6 packets, the field that names it stands this many bytes behind the start.
    ProtocolUnknown {
        /// Bytes from the start of the IP header.
        named_at: u32,
    },
    /// A header of an IPv6 packet cannot be followed (RFC 4443, section 3.4).
    Header {
        /// What is wrong with it.
        code: u8,
        /// Where, in bytes from the start of the IP header.
        pointer: u32,
        /// Whether those who send to a group are told too (RFC 4443, section 2.4 (e.3)).
        even_to_group: bool,
    },
    /// Its fragments did not all arrive in time.
    ReassemblyTimeout,
}

/// The message that tells of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// What stands between header and quoted datagram.
    pub parameter: u32,
}

impl Problem {
    /// The message of RFC 792, or of RFC 4443 where the datagram came by IPv6.
    #[must_use]
    pub const fn message(self, is_v4: bool) -> ErrorMessage {
        use icmpv6::{PARAMETER_PROBLEM, REASSEMBLY_TIME_EXCEEDED, TIME_EXCEEDED, UNKNOWN_NEXT_HEADER};
        let (kind, code, parameter) = match (self, is_v4) {
            (Self::PortUnreachable, true) => (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, 0),
            (Self::PortUnreachable, false) => (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE, 0),
            (Self::ProtocolUnknown { .. }, true) => (icmpv4::UNREACHABLE, icmpv4::PROTOCOL_UNREACHABLE, 0),
            (Self::ProtocolUnknown { named_at }, false) => (PARAMETER_PROBLEM, UNKNOWN_NEXT_HEADER, named_at),
            (Self::Header { code, pointer, .. }, true) => (icmpv4::PARAMETER_PROBLEM, code, pointer << 24),
            (Self::Header { code, pointer, .. }, false) => (PARAMETER_PROBLEM, code, pointer),
            (Self::ReassemblyTimeout, true) => (icmpv4::TIME_EXCEEDED, icmpv4::REASSEMBLY_TIME_EXCEEDED, 0),
            (Self::ReassemblyTimeout, false) => (TIME_EXCEEDED, REASSEMBLY_TIME_EXCEEDED, 0),
        };
        ErrorMessage { kind, code, parameter }
    }

    /// How many kinds there are.
    pub const KINDS: usize = 4;

    /// Which of them it is of.
    #[must_use]
    pub const fn kind(self) -> usize {
        match self {
            Self::PortUnreachable => 0,
            Self::ProtocolUnknown { .. } => 1,
            Self::Header { .. } => 2,
            Self::ReassemblyTimeout => 3,
        }
    }

    /// Whether those are told who sent to several hosts at once.
    #[must_use]
    pub const fn is_told_to_group(self) -> bool {
        matches!(self, Self::Header { even_to_group: true, .. })
    }
}

/// What an ICMP error says (RFC 792, RFC 1122 section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A network or host cannot be reached.
    Unreachable,
    /// Nobody speaks the protocol there, or listens on the port.
    Refused,
    /// The datagram was longer than the MTU of a link on its way; 0 from routers that do not say (RFC 1191).
    TooLong(u16),
    /// It took too many hops, or its fragments did not all arrive in time.
    TimeExceeded,
    /// A header field was wrong.
    ParameterProblem,
    /// A request to send slower, which is obsolete (RFC 6633).
    SourceQuench,
}

/// What an ICMP error quotes of the datagram that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its sender: we, if anybody.
    pub source: IpAddress,
    /// Its receiver.
    pub destination: IpAddress,
    /// Bytes of the whole packet, as its header says.
    pub len: u16,
    /// What it carried.
    pub protocol: u8,
    /// The first eight bytes of that.
    pub transport: [u8; 8],
}

/// A message that means something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To be answered.
    EchoRequest,
    /// The answer to a request that had this identifier and this sequence number.
    EchoReply(u16, u16),
    /// An error about a datagram of ours.
    Error(ErrorKind, Quoted),
}

/// What a message of IPv4 is; `bytes` are all of it.
///
/// # Errors
/// The [`DropReason`] of one that asks nothing of us and tells us nothing.
pub fn accept_v4(packet: &icmpv4::Packet<'_>, bytes: &[u8]) -> Result<Message, DropReason> {
    let kind = match (packet.kind(), packet.code()) {
        // RFC 792 names no code but 0, and hosts do not look (nor does Linux): the reply has that of the request.
        (icmpv4::ECHO_REQUEST, _) => return Ok(Message::EchoRequest),
        (icmpv4::ECHO_REPLY, 0) => {
            let (identifier, sequence) = packet.echo();
            return Ok(Message::EchoReply(identifier, sequence));
        }
        (icmpv4::UNREACHABLE, icmpv4::PROTOCOL_UNREACHABLE | icmpv4::PORT_UNREACHABLE) => ErrorKind::Refused,
        (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => ErrorKind::TooLong(packet.next_hop_mtu()),
        (icmpv4::UNREACHABLE, _) => ErrorKind::Unreachable,
        (icmpv4::SOURCE_QUENCH, _) => ErrorKind::SourceQuench,
        (icmpv4::TIME_EXCEEDED, _) => ErrorKind::TimeExceeded,
        (icmpv4::PARAMETER_PROBLEM, _) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpIgnored),
    };
    let quoted = bytes.get(icmpv4::LEN..).and_then(quoted_v4).ok_or(DropReason::IcmpTruncated)?;
    Ok(Message::Error(kind, quoted))
}

/// What a message of IPv6 is, neighbor discovery and multicast listener discovery apart.
///
/// # Errors
/// The [`DropReason`] of one that asks nothing of us and tells us nothing.
pub fn accept_v6(packet: &icmpv6::Packet<'_>) -> Result<Message, DropReason> {
    let kind = match (packet.kind(), packet.code()) {
        (icmpv6::ECHO_REQUEST, _) => return Ok(Message::EchoRequest),
        (icmpv6::ECHO_REPLY, 0) => {
            let (identifier, sequence) = packet.echo();
            return Ok(Message::EchoReply(identifier, sequence));
        }
        (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE) => ErrorKind::Refused,
        (icmpv6::UNREACHABLE, _) => ErrorKind::Unreachable,
        (icmpv6::TOO_BIG, _) => ErrorKind::TooLong(u16::try_from(packet.mtu()).unwrap_or(u16::MAX)),
        (icmpv6::TIME_EXCEEDED, _) => ErrorKind::TimeExceeded,
        (icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER) => ErrorKind::Refused,
        (icmpv6::PARAMETER_PROBLEM, _) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpIgnored),
    };
    let quoted = quoted_v6(packet.body()).ok_or(DropReason::IcmpTruncated)?;
    Ok(Message::Error(kind, quoted))
}

/// What an error would quote of a packet, without extension headers but for the fragment header.
#[must_use]
pub fn quoted(packet: &[u8]) -> Option<Quoted> {
    quoted_v4(packet).or_else(|| quoted_v6(packet))
}

/// Reads what an error quotes: an IPv4 header, whose datagram is cut off, and eight bytes behind it.
fn quoted_v4(bytes: &[u8]) -> Option<Quoted> {
    let header = bytes.first_chunk::<{ ipv4::LEN }>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let transport = bytes.get(header_len..)?.first_chunk::<8>()?;
    (header[0] >> 4 == 4 && header_len >= ipv4::LEN).then(|| Quoted {
        source: ipv4::source(header).into(),
        destination: ipv4::destination(header).into(),
        len: u16::from_be_bytes([header[2], header[3]]),
        protocol: header[9],
        transport: *transport,
    })
}

/// The same of IPv6. Of extension headers we send none but the fragment header.
fn quoted_v6(bytes: &[u8]) -> Option<Quoted> {
    let (header, rest) = bytes.split_first_chunk::<{ ipv6::LEN }>()?;
    let (protocol, rest) = match ipv6::next_header(header) {
        ipv6::FRAGMENT => (*rest.first()?, rest.get(ipv6::FRAGMENT_LEN..)?),
        protocol => (protocol, rest),
    };
    let transport = *rest.first_chunk::<8>()?;
    let (source, destination) = (ipv6::source(header).into(), ipv6::destination(header).into());
    let len = ipv6::payload_len(header).saturating_add(ipv6::LEN as u16);
    (header[0] >> 4 == 6).then_some(Quoted { source, destination, len, protocol, transport })
}

/// Bytes of the offending datagram that an error message quotes: as many as fit into a packet that every
/// host can take (RFC 1812, section 4.3.2.3, as Linux does; RFC 4443, section 2.4 (c)).
#[must_use]
pub fn quoted_len(datagram_len: usize, is_v4: bool) -> usize {
    let room =
        if is_v4 { MIN_REASSEMBLY_LEN - ipv4::LEN - icmpv4::LEN } else { ipv6::MIN_MTU - ipv6::LEN - icmpv6::LEN };
    datagram_len.min(room)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::checksum::Sum;

    #[test]
    fn only_echo_is_taken_without_a_quoted_packet() {
        for kind in 0..=255_u8 {
            let mut bytes = [kind, 0, 0, 0, 0x12, 0x34, 0, 7];
            let checksum = Sum::default().add_bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
            let verdict = accept_v4(&icmpv4::Packet::parse(&bytes).unwrap(), &bytes);
            let wanted = match kind {
                icmpv4::ECHO_REQUEST => Some(Message::EchoRequest),
                icmpv4::ECHO_REPLY => Some(Message::EchoReply(0x1234, 7)),
                _ => None,
            };
            assert_eq!(verdict.ok(), wanted, "{kind}");
        }
    }

    #[test]
    fn an_error_tells_what_it_is_about() {
        let mut datagram = [0; ipv4::LEN + 8];
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        let header =
            ipv4::Header { traffic_class: 0, payload_len: 1000, ttl: 1, protocol: ipv4::TCP, source, destination };
        header.write(datagram.first_chunk_mut().unwrap());
        datagram[ipv4::LEN..].copy_from_slice(&[0, 7, 0x9c, 0x40, 1, 2, 3, 4]);
        let mut bytes = [&[3, 4, 0, 0, 0, 0, 5, 0x14][..], &datagram].concat();
        let checksum = Sum::default().add_bytes(&bytes).checksum();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        let transport = [0, 7, 0x9c, 0x40, 1, 2, 3, 4];
        let (source, destination) = (source.into(), destination.into());
        let quoted = Quoted { source, destination, len: 1020, protocol: ipv4::TCP, transport };
        let message = accept_v4(&icmpv4::Packet::parse(&bytes).unwrap(), &bytes);
        assert_eq!(message, Ok(Message::Error(ErrorKind::TooLong(1300), quoted)));
        for len in icmpv4::LEN..bytes.len() {
            let packet = icmpv4::Packet::parse(&bytes).unwrap();
            assert_eq!(accept_v4(&packet, &bytes[..len]), Err(DropReason::IcmpTruncated), "{len}");
        }
    }

    #[test]
    fn an_error_message_is_no_longer_than_every_host_takes() {
        assert_eq!([quoted_len(28, true), quoted_len(28, false)], [28, 28]);
        assert_eq!(ipv4::LEN + icmpv4::LEN + quoted_len(1500, true), 576);
        assert_eq!(ipv6::LEN + icmpv6::LEN + quoted_len(1500, false), 1280);
    }
}
