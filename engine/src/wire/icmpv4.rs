//! ICMP for IPv4 (RFC 792).
//!
//! ```text
//!  | type 1 | code 1 | checksum 2 | 4 bytes that depend on the type | data
//! ```

use super::be16;
use super::checksum::{Sum, updated};
use crate::base::DropReason;

/// Bytes of a header.
pub const LEN: usize = 8;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;

/// Source quench, which is obsolete (RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: the host does not answer its router.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: the protocol is not spoken here.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`TIME_EXCEEDED`]: fragments did not all arrive in time.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;
/// Code of [`UNREACHABLE`]: the datagram is too long for a link on its way, and may not be fragmented.
pub const FRAGMENTATION_NEEDED: u8 = 4;

/// Whether a message of this type is no error: a query or its answer (RFC 1122, section 3.2.2). Of types that are not known
/// that cannot be said.
#[must_use]
pub const fn is_query(kind: u8) -> bool {
    // Router discovery (9, 10), then timestamps, information, and address masks.
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
}

/// A received message whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
}

impl<'a> Packet<'a> {
    /// Checks length and checksum.
    ///
    /// # Errors
    /// [`DropReason::IcmpTruncated`] or [`DropReason::IcmpChecksum`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<LEN>().ok_or(DropReason::IcmpTruncated)?;
        if !Sum::default().add_bytes(bytes).is_valid() {
            return Err(DropReason::IcmpChecksum);
        }
        Ok(Self { header })
    }

    /// The message's type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// The MTU of the link that the datagram was too long for (RFC 1191, section 4).
    #[must_use]
    pub const fn next_hop_mtu(&self) -> u16 {
        be16(self.header, 6)
    }

    /// The message's code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Of [`PARAMETER_PROBLEM`]: which byte of the datagram it is about (RFC 792).
    #[must_use]
    pub const fn pointer(&self) -> u8 {
        self.header[4]
    }

    /// Of [`ECHO_REPLY`]: identifier and sequence number of the request.
    #[must_use]
    pub const fn echo(&self) -> (u16, u16) {
        (be16(self.header, 4), be16(self.header, 6))
    }
}

/// Writes the header of an echo request, of whose payload `payload` is the sum.
pub fn write_echo_request(out: &mut [u8; LEN], identifier: u16, sequence: u16, payload: Sum) {
    let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
    *out = [ECHO_REQUEST, 0, 0, 0, a, b, c, d];
    let checksum = payload.add_bytes(&out[..]).checksum();
    out[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// Makes an echo reply of an echo request, in place: the type, and the checksum for it.
pub fn make_echo_reply(header: &mut [u8; LEN]) {
    let old = be16(header, 0);
    let new = u16::from_be_bytes([ECHO_REPLY, header[1]]);
    // An update cannot tell a sum of nothing but zeros, whose checksum is all ones, from one that wrapped
    // round to zero, for which all ones are as right as zero.
    let checksum = match updated(be16(header, 2), old, new) {
        0 => 0xffff,
        checksum => checksum,
    };
    header[0] = ECHO_REPLY;
    header[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes the header of an error message that carries `quoted`, the packet that it is about.
pub fn write_error(out: &mut [u8; LEN], kind: u8, code: u8, parameter: u32, quoted: &[u8]) {
    let [a, b, c, d] = parameter.to_be_bytes();
    *out = [kind, code, 0, 0, a, b, c, d];
    let checksum = Sum::default().add_bytes(&out[..]).add_bytes(quoted).checksum();
    out[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_reply_has_a_right_checksum_whatever_the_request_held() {
        for seed in 0..=255_u8 {
            let mut bytes = [ECHO_REQUEST, 0, 0, 0, seed, seed.wrapping_mul(7), 0xff, seed, seed, 1, 2];
            let checksum = Sum::default().add_bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
            make_echo_reply(bytes.first_chunk_mut().unwrap());
            assert_eq!(Packet::parse(&bytes).unwrap().kind(), ECHO_REPLY);
        }
    }

    #[test]
    fn an_echo_reply_to_zeros_has_a_right_checksum() {
        for rest in [[0, 0, 0, 0], [0xff, 0xff, 0, 0]] {
            let mut bytes = [ECHO_REQUEST, 0, 0, 0, rest[0], rest[1], rest[2], rest[3]];
            let checksum = Sum::default().add_bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
            make_echo_reply(&mut bytes);
            assert_eq!(Packet::parse(&bytes).unwrap().kind(), ECHO_REPLY, "{rest:?}");
        }
    }

    #[test]
    fn damage_and_truncation_have_their_reasons() {
        let mut bytes = [0; 12];
        let (header, quoted) = bytes.split_first_chunk_mut::<LEN>().unwrap();
        quoted.copy_from_slice(&[1, 2, 3, 4]);
        write_error(header, UNREACHABLE, PORT_UNREACHABLE, 0, quoted);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.kind(), packet.code()), (UNREACHABLE, PORT_UNREACHABLE));
        assert_eq!(Packet::parse(&bytes[..7]).unwrap_err(), DropReason::IcmpTruncated);
        bytes[11] ^= 4;
        assert_eq!(Packet::parse(&bytes).unwrap_err(), DropReason::IcmpChecksum);
    }
}
