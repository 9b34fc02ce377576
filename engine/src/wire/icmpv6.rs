//! ICMP for IPv6 (RFC 4443).
//!
//! ```text
//!  | type 1 | code 1 | checksum 2 | 4 bytes that depend on the type | data
//! ```

use std::net::Ipv6Addr;

use super::checksum::{self, Sum};
use super::ipv6::ICMPV6;
use super::{be16, four};
use crate::base::DropReason;

/// Bytes of a header.
pub const LEN: usize = 8;

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Types from here on are no errors (RFC 4443, section 2.1).
pub const FIRST_INFORMATIONAL: u8 = 128;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Multicast Listener Query (RFC 2710, RFC 3810).
pub const LISTENER_QUERY: u8 = 130;
/// Multicast Listener Report of MLDv1 (RFC 2710).
pub const LISTENER_REPORT: u8 = 131;
/// Multicast Listener Done of MLDv1 (RFC 2710).
pub const LISTENER_DONE: u8 = 132;
/// Router Solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router Advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbor Solicitation (RFC 4861).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbor Advertisement (RFC 4861).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861).
pub const REDIRECT: u8 = 137;
/// Multicast Listener Report of MLDv2 (RFC 3810).
pub const LISTENER_REPORT_V2: u8 = 143;

/// Code of [`UNREACHABLE`]: no route to destination.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: communication administratively prohibited.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: beyond scope of source address.
pub const BEYOND_SCOPE: u8 = 2;
/// Code of [`UNREACHABLE`]: address unreachable.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`UNREACHABLE`]: source address failed ingress or egress policy.
pub const SOURCE_POLICY: u8 = 5;
/// Code of [`UNREACHABLE`]: reject route to destination.
pub const REJECT_ROUTE: u8 = 6;
/// Code of [`UNREACHABLE`]: error in source routing header (RFC 6550, section 20.18).
pub const SOURCE_ROUTE_ERROR: u8 = 7;

/// Code of [`TIME_EXCEEDED`]: hop limit exceeded in transit.
pub const HOP_LIMIT_EXCEEDED: u8 = 0;
/// Code of [`TIME_EXCEEDED`]: fragment reassembly time exceeded.
pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;

/// Code of [`PARAMETER_PROBLEM`]: erroneous header field.
pub const ERRONEOUS_FIELD: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: unrecognized Next Header type.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: unrecognized IPv6 option.
pub const UNKNOWN_OPTION: u8 = 2;
/// Code of [`PARAMETER_PROBLEM`]: first fragment with incomplete header chain (RFC 7112, section 7).
pub const INCOMPLETE_FIRST_FRAGMENT: u8 = 3;

/// A received message whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks length and checksum, which is over the addresses too. No type in use has less than eight bytes.
    ///
    /// # Errors
    /// [`DropReason::IcmpTruncated`] or [`DropReason::IcmpChecksum`].
    pub fn parse(bytes: &'a [u8], source: Ipv6Addr, destination: Ipv6Addr) -> Result<Self, DropReason> {
        let (header, body) = bytes.split_first_chunk::<LEN>().ok_or(DropReason::IcmpTruncated)?;
        if !pseudo_header(source, destination, bytes.len()).add_bytes(bytes).is_valid() {
            return Err(DropReason::IcmpChecksum);
        }
        Ok(Self { header, body })
    }

    /// A message whatever its checksum, for tests that look into a million of them.
    #[cfg(test)]
    pub(super) fn unchecked(bytes: &'a [u8]) -> Option<Self> {
        bytes.split_first_chunk().map(|(header, body)| Self { header, body })
    }

    /// The message's type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// The message's code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Whether it is about a packet of ours: not to be answered with an error (RFC 4443, section 2.4 (e.1)).
    #[must_use]
    pub const fn is_error(&self) -> bool {
        self.kind() < FIRST_INFORMATIONAL
    }

    /// The four bytes that depend on the type.
    #[must_use]
    pub const fn parameter(&self) -> [u8; 4] {
        four(self.header, 4)
    }

    /// Of [`TOO_BIG`]: the MTU of the link that the packet was too long for, in bytes (RFC 4443, section 3.2).
    #[must_use]
    pub const fn mtu(&self) -> u32 {
        u32::from_be_bytes(self.parameter())
    }

    /// Of [`PARAMETER_PROBLEM`]: which byte of the packet it is about (RFC 4443, section 3.4).
    #[must_use]
    pub const fn pointer(&self) -> u32 {
        u32::from_be_bytes(self.parameter())
    }

    /// Of [`ECHO_REPLY`]: identifier and sequence number of the request (RFC 4443, section 4.2).
    #[must_use]
    pub const fn echo(&self) -> (u16, u16) {
        (be16(self.header, 4), be16(self.header, 6))
    }

    /// What follows the header: the quoted packet in errors.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// Makes an echo reply of an echo request that was to `destination`, in place: the type, and the checksum for it and
/// for `source`, which the reply is from. That is `destination` itself unless the request was to a group.
pub fn make_echo_reply(header: &mut [u8; LEN], destination: Ipv6Addr, source: Ipv6Addr) {
    let (old, new) = (be16(header, 0), u16::from_be_bytes([ECHO_REPLY, header[1]]));
    // RFC 1624, equation 3. The sum is over `new`, which is not zero: it cannot be one of nothing but zeros.
    let mut sum = Sum::default().add_values([!be16(header, 2), !old, new]);
    if source != destination {
        sum = sum.add_bytes(&(!destination.to_bits()).to_be_bytes()).add_bytes(&source.octets());
    }
    header[0] = ECHO_REPLY;
    header[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// Writes the header of an echo request from `source` to `destination` that carries `len` bytes, of which `payload` is
/// the sum (RFC 4443, section 4.1).
pub fn write_echo_request(
    out: &mut [u8; LEN],
    (identifier, sequence): (u16, u16),
    (payload, len): (Sum, u16),
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
    *out = [ECHO_REQUEST, 0, 0, 0, a, b, c, d];
    let pseudo = checksum::pseudo_header(source.into(), destination.into(), ICMPV6, len.saturating_add(LEN as u16));
    let sum = payload.add_words([pseudo.fold().into()]).add_bytes(&out[..]);
    out[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// Writes the header of an error message from `source` to `destination` that carries `quoted`, the packet that it is
/// about. `parameter` is the MTU or the pointer, and zero in the other errors.
pub fn write_error(
    out: &mut [u8; LEN],
    kind: u8,
    code: u8,
    parameter: u32,
    quoted: &[u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    out[..4].copy_from_slice(&[kind, code, 0, 0]);
    out[4..].copy_from_slice(&parameter.to_be_bytes());
    let sum = pseudo_header(source, destination, LEN + quoted.len()).add_bytes(&out[..]).add_bytes(quoted);
    out[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// Sets the checksum of a message from `source` to `destination` that is written but for it.
pub fn set_checksum(message: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    let Some(field) = message.get_mut(2..4) else { return };
    field.fill(0);
    let checksum = pseudo_header(source, destination, message.len()).add_bytes(message).checksum();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[inline]
fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, len: usize) -> Sum {
    checksum::pseudo_header(source.into(), destination.into(), ICMPV6, len as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0xff, 0xfe00, 2);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn an_echo_reply_has_a_right_checksum_whatever_the_request_held() {
        for seed in 0..=u16::MAX {
            let [high, low] = seed.to_be_bytes();
            let mut bytes = [ECHO_REQUEST, 0, 0, 0, high, low, low, 0xff, 0xff, 1, 2];
            for to in [B, GROUP] {
                bytes[0] = ECHO_REQUEST;
                set_checksum(&mut bytes, A, to);
                make_echo_reply(bytes.first_chunk_mut().unwrap(), to, B);
                assert_eq!(Packet::parse(&bytes, B, A).unwrap().kind(), ECHO_REPLY, "{seed} {to}");
            }
        }
    }

    #[test]
    fn a_reply_to_a_checksum_of_all_ones_is_right() {
        // All ones are as good a zero as zero: the same request, as another sender might write it.
        let zero = (0..=u16::MAX).find(|value| {
            let [high, low] = value.to_be_bytes();
            let mut bytes = [ECHO_REQUEST, 0, 0, 0, high, low, 0, 0];
            set_checksum(&mut bytes, A, B);
            be16(&bytes, 2) == 0
        });
        let [high, low] = zero.unwrap().to_be_bytes();
        let mut bytes = [ECHO_REQUEST, 0, 0xff, 0xff, high, low, 0, 0];
        assert!(Packet::parse(&bytes, A, B).is_ok());
        make_echo_reply(&mut bytes, B, B);
        assert!(Packet::parse(&bytes, B, A).is_ok());
    }

    #[test]
    fn damage_truncation_and_other_addresses_have_their_reasons() {
        let mut bytes = [0; 12];
        let (header, quoted) = bytes.split_first_chunk_mut::<LEN>().unwrap();
        quoted.copy_from_slice(&[1, 2, 3, 4]);
        write_error(header, TOO_BIG, 0, 1280, quoted, A, B);
        let packet = Packet::parse(&bytes, A, B).unwrap();
        assert_eq!((packet.kind(), packet.code(), packet.mtu(), packet.body()), (TOO_BIG, 0, 1280, &[1, 2, 3, 4][..]));
        assert!(packet.is_error());
        assert_eq!(Packet::parse(&bytes[..7], A, B).unwrap_err(), DropReason::IcmpTruncated);
        assert_eq!(Packet::parse(&bytes, A, A).unwrap_err(), DropReason::IcmpChecksum);
        bytes[11] ^= 4;
        assert_eq!(Packet::parse(&bytes, A, B).unwrap_err(), DropReason::IcmpChecksum);
    }
}
