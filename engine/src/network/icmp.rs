//! What a received ICMP message asks for, and which error a datagram deserves (RFC 792, RFC 1122 section 3.2.2).

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

/// Whether a message is an echo request, the one kind that is answered.
///
/// # Errors
/// The [`DropReason`] of everything else.
pub fn accept(packet: &icmpv4::Packet<'_>) -> Result<(), DropReason> {
    match (packet.kind(), packet.code()) {
        (icmpv4::ECHO_REQUEST, 0) => Ok(()),
        _ => Err(DropReason::IcmpIgnored),
    }
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
            let verdict = accept(&icmpv4::Packet::parse(&bytes).unwrap());
            assert_eq!(verdict.is_ok(), kind == icmpv4::ECHO_REQUEST, "{kind}");
        }
    }

    #[test]
    fn an_error_message_never_exceeds_576_bytes() {
        assert_eq!(quoted_len(28), 28);
        assert_eq!(ipv4::LEN + icmpv4::LEN + quoted_len(1500), 576);
    }
}
