//! IPv6 (RFC 8200).
//!
//! ```text
//!  | version 4, traffic class 8, flow label 20 | payload length 2 | next header 1 | hop limit 1
//!  | source 16 | destination 16 | extension headers | payload
//! ```

mod extension;

use std::net::Ipv6Addr;

use super::be16;
use super::checksum::Sum;
pub use super::ipv4::{TCP, UDP};
use crate::base::DropReason;
pub use extension::{
    ChainError, FRAGMENT_LEN, FragmentHeader, MAX_EXTENSIONS, ROUTER_ALERT, Upper, carries_icmp_error, walk,
    walk_reassembled, write_fragment_header,
};

/// Bytes of the header without extensions.
pub const LEN: usize = 40;

/// Hop-by-Hop Options header.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication Header of IPsec (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Nothing follows (RFC 8200, section 4.7).
pub const NO_NEXT_HEADER: u8 = 59;
/// Destination Options header.
pub const DESTINATION_OPTIONS: u8 = 60;

/// The least MTU that a link may have (RFC 8200, section 5), in bytes: what no router on the way will refuse.
pub const MIN_MTU: usize = 1280;

/// Where the Payload Length field stands, for Parameter Problems.
pub const PAYLOAD_LEN_AT: usize = 4;
/// Where the Next Header field stands.
pub const NEXT_HEADER_AT: usize = 6;

/// DSCP and ECN.
#[inline]
#[must_use]
pub const fn traffic_class(header: &[u8; LEN]) -> u8 {
    (be16(header, 0) >> 4) as u8
}

/// Which flow the sender counts the packet to (RFC 6437); 20 bits.
#[inline]
#[must_use]
pub const fn flow_label(header: &[u8; LEN]) -> u32 {
    u32::from_be_bytes([0, header[1] & 0x0f, header[2], header[3]])
}

/// Bytes behind the header, extension headers included.
#[inline]
#[must_use]
pub const fn payload_len(header: &[u8; LEN]) -> u16 {
    be16(header, PAYLOAD_LEN_AT)
}

/// What follows the header: an extension header or the payload's protocol.
#[inline]
#[must_use]
pub const fn next_header(header: &[u8; LEN]) -> u8 {
    header[NEXT_HEADER_AT]
}

/// Hops left.
#[inline]
#[must_use]
pub const fn hop_limit(header: &[u8; LEN]) -> u8 {
    header[7]
}

/// Sender.
#[inline]
#[must_use]
pub fn source(header: &[u8; LEN]) -> Ipv6Addr {
    sixteen(header, 8)
}

/// Receiver.
#[inline]
#[must_use]
pub fn destination(header: &[u8; LEN]) -> Ipv6Addr {
    sixteen(header, 24)
}

/// Sum of both addresses.
#[inline(always)]
#[must_use]
pub fn address_sum(header: &[u8; LEN]) -> Sum {
    Sum::default().add_bytes(&header[8..])
}

/// Whether it is a header of IPv6 between addresses that may stand in one.
#[inline]
#[must_use]
pub fn is_plain(header: &[u8; LEN]) -> bool {
    header[0] >> 4 == 6 && !has_mapped_address(header)
}

/// Whether sender or receiver is an IPv4 address in IPv6's form, which
/// [`IpAddress`](super::ip::IpAddress) would take for the IPv4 one.
#[inline]
#[must_use]
pub fn has_mapped_address(header: &[u8; LEN]) -> bool {
    is_mapped(source(header)) || is_mapped(destination(header))
}

/// Whether it is an IPv4 address in IPv6's form (RFC 4291, section 2.5.5.2), which stands in no packet.
#[inline]
#[must_use]
pub fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_bits() >> 32 == 0xffff
}

/// The address that stands at `at`, sixteen bytes or more before the end.
#[inline]
pub(super) fn sixteen<const N: usize>(bytes: &[u8; N], at: usize) -> Ipv6Addr {
    bytes[at..].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |&octets| octets.into())
}

/// A received packet: header and what follows it, with any padding behind its payload length cut off.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version, length and that the addresses are IPv6's own. A payload length of zero is what it says: the
    /// jumbograms of RFC 2675 are not spoken.
    ///
    /// # Errors
    /// The [`DropReason`] of the first check that fails, in the order of the header's fields.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::parse_start(bytes, bytes.len())
    }

    /// The same of a packet of `len` bytes, padding included, of which only the first ones are here.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    #[inline]
    pub fn parse_start(bytes: &'a [u8], len: usize) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<LEN>().ok_or(DropReason::Ipv6Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(DropReason::Ipv6Version);
        }
        let whole = LEN + usize::from(payload_len(header));
        if whole > len {
            return Err(DropReason::Ipv6PayloadLength);
        }
        let bytes = bytes.get(..whole.min(bytes.len())).ok_or(DropReason::Ipv6PayloadLength)?;
        if has_mapped_address(header) {
            return Err(DropReason::Ipv6MappedAddress);
        }
        Ok(Self { header, bytes })
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        traffic_class(self.header)
    }

    /// Which flow the sender counts the packet to (RFC 6437); 20 bits.
    #[inline]
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        flow_label(self.header)
    }

    /// What follows the header: an extension header or the payload's protocol.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        next_header(self.header)
    }

    /// Hops left.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        hop_limit(self.header)
    }

    /// Sender.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        source(self.header)
    }

    /// Receiver.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        destination(self.header)
    }

    /// Bytes of the packet from `at` on, here or not.
    #[inline]
    #[must_use]
    pub fn len_from(&self, at: usize) -> usize {
        (LEN + usize::from(payload_len(self.header))).saturating_sub(at)
    }

    /// The whole packet, from its header on.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: extension headers and what they lead to.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.from(LEN)
    }

    /// The packet from `at` on, counted from the header's start, as [`Upper::at`] is; nothing beyond the end.
    #[inline]
    #[must_use]
    pub fn from(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }
}

/// A header to send.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Which flow the packet is of (RFC 6437); of 20 bits.
    pub flow_label: u32,
    /// Bytes behind the header, extension headers included.
    pub payload_len: u16,
    /// What follows the header.
    pub next_header: u8,
    /// Hops it may take.
    pub hop_limit: u8,
    /// Sender.
    pub source: Ipv6Addr,
    /// Receiver.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Writes the header.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; LEN]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        out[6] = self.next_header;
        out[7] = self.hop_limit;
        out[8..24].copy_from_slice(&self.source.octets());
        out[24..40].copy_from_slice(&self.destination.octets());
    }
}

/// Makes the header of a packet that of its answer in the same flow, with so many bytes behind it.
#[inline(always)]
pub fn turn_round(header: &mut [u8; LEN], traffic_class: u8, hop_limit: u8, payload_len: u16) {
    let (flow_label, next_header) = (flow_label(header), next_header(header));
    let (source, destination) = (destination(header), source(header));
    Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }.write(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    fn header(payload_len: u16) -> Header {
        Header {
            traffic_class: 0xb8,
            flow_label: 0xf_1234,
            payload_len,
            next_header: UDP,
            hop_limit: 64,
            source: A,
            destination: B,
        }
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut out = [0; LEN];
        header(payload.len() as u16).write(&mut out);
        [&out[..], payload].concat()
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        let bytes = packet(b"hello");
        let parsed = Packet::parse(&bytes).unwrap();
        assert_eq!((parsed.payload(), parsed.bytes()), (&b"hello"[..], &bytes[..]));
        assert_eq!((parsed.traffic_class(), parsed.flow_label()), (0xb8, 0xf_1234));
        assert_eq!((parsed.hop_limit(), parsed.next_header()), (64, UDP));
        assert_eq!((parsed.source(), parsed.destination()), (A, B));
    }

    #[test]
    fn a_flow_label_of_more_than_20_bits_spoils_no_other_field() {
        let mut out = [0; LEN];
        Header { flow_label: u32::MAX, ..header(0) }.write(&mut out);
        assert_eq!((out[0] >> 4, traffic_class(&out), flow_label(&out)), (6, 0xb8, 0xf_ffff));
    }

    #[test]
    fn each_wrong_field_has_its_reason() {
        let good = packet(b"hello");
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Packet::parse(&bytes).map(|packet| packet.payload().len())
        };
        for len in 0..LEN {
            assert_eq!(Packet::parse(&good[..len]).unwrap_err(), DropReason::Ipv6Truncated);
        }
        assert_eq!(with(0, 0x45), Err(DropReason::Ipv6Version));
        assert_eq!(with(5, 6), Err(DropReason::Ipv6PayloadLength));
        assert_eq!(with(4, 1), Err(DropReason::Ipv6PayloadLength));
        assert_eq!(with(5, 4), Ok(4), "padding is cut");
        assert_eq!(with(5, 0), Ok(0), "no jumbogram");
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_header_is_refused() {
        let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        for (source, destination) in [(mapped, B), (A, mapped)] {
            let mut out = [0; LEN];
            Header { source, destination, ..header(0) }.write(&mut out);
            assert_eq!(Packet::parse(&out).unwrap_err(), DropReason::Ipv6MappedAddress);
            assert!(!is_plain(&out));
        }
        let mut out = [0; LEN];
        header(0).write(&mut out);
        assert!(is_plain(&out));
    }
}
