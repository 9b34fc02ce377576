//! What a received ICMP message asks for, and which error a datagram deserves (RFC 792, RFC 1122 section 3.2.2).

use std::net::Ipv4Addr;

use super::ipv4::MIN_REASSEMBLY_LEN;
use crate::base::DropReason;
use crate::wire::{icmpv4, ipv4};

/// An error message to answer a datagram with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
}

impl ErrorMessage {
    /// Nobody here speaks the protocol.
    pub const PROTOCOL_UNREACHABLE: Self = Self { kind: icmpv4::UNREACHABLE, code: icmpv4::PROTOCOL_UNREACHABLE };
    /// Nobody listens on the port.
    pub const PORT_UNREACHABLE: Self = Self { kind: icmpv4::UNREACHABLE, code: icmpv4::PORT_UNREACHABLE };
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
    pub source: Ipv4Addr,
    /// Its receiver.
    pub destination: Ipv4Addr,
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
    /// An error about a datagram of ours.
    Error(ErrorKind, Quoted),
}

/// What a message is; `bytes` are all of it.
///
/// # Errors
/// The [`DropReason`] of one that asks nothing of us and tells us nothing.
pub fn accept(packet: &icmpv4::Packet<'_>, bytes: &[u8]) -> Result<Message, DropReason> {
    let kind = match (packet.kind(), packet.code()) {
        (icmpv4::ECHO_REQUEST, 0) => return Ok(Message::EchoRequest),
        (icmpv4::UNREACHABLE, icmpv4::PROTOCOL_UNREACHABLE | icmpv4::PORT_UNREACHABLE) => ErrorKind::Refused,
        (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => ErrorKind::TooLong(packet.next_hop_mtu()),
        (icmpv4::UNREACHABLE, _) => ErrorKind::Unreachable,
        (icmpv4::SOURCE_QUENCH, _) => ErrorKind::SourceQuench,
        (icmpv4::TIME_EXCEEDED, _) => ErrorKind::TimeExceeded,
        (icmpv4::PARAMETER_PROBLEM, _) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpIgnored),
    };
    let quoted = bytes.get(icmpv4::LEN..).and_then(quoted).ok_or(DropReason::IcmpTruncated)?;
    Ok(Message::Error(kind, quoted))
}

/// Reads what an error quotes: an IPv4 header, whose datagram is cut off, and eight bytes behind it.
fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let header = bytes.first_chunk::<{ ipv4::LEN }>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let transport = bytes.get(header_len..)?.first_chunk::<8>()?;
    (header[0] >> 4 == 4 && header_len >= ipv4::LEN).then(|| Quoted {
        source: ipv4::source(header),
        destination: ipv4::destination(header),
        protocol: header[9],
        transport: *transport,
    })
}

/// Bytes of the offending datagram that an error message quotes: as many as fit into a packet that every
/// host can take (RFC 1812, section 4.3.2.3, as Linux does).
#[must_use]
pub fn quoted_len(datagram_len: usize) -> usize {
    datagram_len.min(MIN_REASSEMBLY_LEN - ipv4::LEN - icmpv4::LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;

    #[test]
    fn only_echo_requests_are_answered() {
        for kind in 0..=255_u8 {
            let mut bytes = [kind, 0, 0, 0, 0, 0, 0, 0];
            let checksum = Sum::default().add_bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
            let verdict = accept(&icmpv4::Packet::parse(&bytes).unwrap(), &bytes);
            assert_eq!(verdict.is_ok(), kind == icmpv4::ECHO_REQUEST, "{kind}");
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
        let quoted = Quoted { source, destination, protocol: ipv4::TCP, transport };
        let message = accept(&icmpv4::Packet::parse(&bytes).unwrap(), &bytes);
        assert_eq!(message, Ok(Message::Error(ErrorKind::TooLong(1300), quoted)));
        for len in icmpv4::LEN..bytes.len() {
            let packet = icmpv4::Packet::parse(&bytes).unwrap();
            assert_eq!(accept(&packet, &bytes[..len]), Err(DropReason::IcmpTruncated), "{len}");
        }
    }

    #[test]
    fn an_error_message_never_exceeds_576_bytes() {
        assert_eq!(quoted_len(28), 28);
        assert_eq!(ipv4::LEN + icmpv4::LEN + quoted_len(1500), 576);
    }
}
