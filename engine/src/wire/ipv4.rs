//! IPv4 (RFC 791).
//!
//! ```text
//!  | version 4, ihl 4 | dscp 6, ecn 2 | total length 2 | identification 2 | flags 3, offset 13
//!  | ttl 1 | protocol 1 | checksum 2 | source 4 | destination 4 | options 0..40 | payload
//! ```

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::{be16, four};
use crate::base::DropReason;

/// Bytes of a header without options.
pub const LEN: usize = 20;

/// Where the field stands that names the protocol, bytes from the header's start.
pub const PROTOCOL_AT: usize = 9;

/// ICMP.
pub const ICMP: u8 = 1;
/// IGMP.
pub const IGMP: u8 = 2;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of eight bytes.
const OFFSET: u16 = 0x1fff;
/// Zero in a whole datagram.
const FRAGMENT: u16 = MORE_FRAGMENTS | OFFSET;

/// Bytes of header and payload.
#[inline]
#[must_use]
pub const fn total_len(header: &[u8; LEN]) -> u16 {
    be16(header, 2)
}

/// DSCP and ECN.
#[inline]
#[must_use]
pub const fn traffic_class(header: &[u8; LEN]) -> u8 {
    header[1]
}

/// Hops left.
#[inline]
#[must_use]
pub const fn ttl(header: &[u8; LEN]) -> u8 {
    header[8]
}

/// Sender.
#[inline]
#[must_use]
pub fn source(header: &[u8; LEN]) -> Ipv4Addr {
    four(header, 12).into()
}

/// Receiver.
#[inline]
#[must_use]
pub fn destination(header: &[u8; LEN]) -> Ipv4Addr {
    four(header, 16).into()
}

/// Sum of both addresses.
#[inline(always)]
#[must_use]
pub fn address_sum(header: &[u8; LEN]) -> Sum {
    Sum::default().add_bytes(&header[12..])
}

/// Whether it is the header of a fragment of a datagram, first or later.
#[inline]
#[must_use]
pub const fn is_fragment(header: &[u8; LEN]) -> bool {
    be16(header, 6) & FRAGMENT != 0
}

/// What the payload is.
#[inline]
#[must_use]
pub const fn protocol(header: &[u8; LEN]) -> u8 {
    header[PROTOCOL_AT]
}

/// Whether it is a header without options of a whole datagram.
#[inline]
#[must_use]
pub const fn is_plain(header: &[u8; LEN]) -> bool {
    header[0] == 0x45 && !is_fragment(header)
}

/// A received packet: header, options and payload, with any padding behind its total length cut off.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
    header_len: usize,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version, lengths and header checksum. Options are not looked into, and not passed up.
    ///
    /// RFC 9293, section 3.9.2 (MUST-50): a TCP implementation MUST ignore options that it does not understand: it
    /// never hears of any.
    ///
    /// # Errors
    /// The [`DropReason`] of the first check that fails, in the order of the header's fields.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::parse_start(bytes, bytes.len())
    }

    /// The same of a packet of `len` bytes, padding included, of which only the first ones are here: then so is of the
    /// payload.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    #[inline]
    pub fn parse_start(bytes: &'a [u8], len: usize) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<LEN>().ok_or(DropReason::Ipv4Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(DropReason::Ipv4Version);
        }
        let header_len = usize::from(header[0] & 0x0f) * 4;
        if header_len < LEN {
            return Err(DropReason::Ipv4HeaderLength);
        }
        let with_options = bytes.get(..header_len).ok_or(DropReason::Ipv4HeaderLength)?;
        let total_len = usize::from(total_len(header));
        if total_len > len {
            return Err(DropReason::Ipv4TotalLength);
        }
        let payload = bytes.get(header_len..total_len.min(bytes.len())).ok_or(DropReason::Ipv4TotalLength)?;
        // RFC 1122, section 3.2.1.2: a host MUST verify the checksum and silently discard every bad datagram.
        let sum = Sum::default().add_bytes(header);
        let sum = if header_len == LEN { sum } else { sum.add_bytes(&with_options[LEN..]) };
        if !sum.is_valid() {
            return Err(DropReason::Ipv4Checksum);
        }
        Ok(Self { header, header_len, payload })
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// Bytes of what the datagram carries, here or not.
    #[inline]
    #[must_use]
    pub fn payload_len(&self) -> usize {
        usize::from(total_len(self.header)).saturating_sub(self.header_len)
    }

    /// The former type-of-service byte: DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.header[1]
    }

    /// Whether it is a fragment of a datagram, first or later.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        is_fragment(self.header)
    }

    /// What the fragments of a datagram have in common.
    #[must_use]
    pub const fn identification(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Where in the datagram's payload this fragment begins, bytes.
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        (be16(self.header, 6) & OFFSET) << 3
    }

    /// Whether further fragments follow behind this one.
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        be16(self.header, 6) & MORE_FRAGMENTS != 0
    }

    /// Whether no router may cut it.
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        be16(self.header, 6) & DONT_FRAGMENT != 0
    }

    /// Hops left.
    #[inline]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        ttl(self.header)
    }

    /// What the payload is.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Sender.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        source(self.header)
    }

    /// Receiver.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        destination(self.header)
    }

    /// What the datagram carries.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header to send: without options, "don't fragment" set.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// Hops it may take.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Writes the header with its checksum.
    ///
    /// The identification is zero: a datagram that may not be fragmented is atomic, and its field has no
    /// meaning (RFC 6864, section 4.1).
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; LEN]) {
        self.write_with(out, 0, DONT_FRAGMENT);
    }

    /// Writes the header of a fragment that begins `offset` bytes (a multiple of eight) behind the start of a datagram's
    /// payload, with its checksum.
    ///
    /// Routers may cut it again (RFC 791, section 2.3), as they may the fragments that Linux makes: whoever let us cut the
    /// datagram does not forbid it to them, and "don't fragment" would lose all of it on a path that takes less but does
    /// not get to tell us (RFC 8900, section 3.8).
    pub fn write_fragment(&self, out: &mut [u8; LEN], identification: u16, offset: u16, more: bool) {
        self.write_with(out, identification, offset >> 3 | if more { MORE_FRAGMENTS } else { 0 });
    }

    #[inline(always)]
    fn write_with(&self, out: &mut [u8; LEN], identification: u16, flags_and_offset: u16) {
        let total_len = self.payload_len + LEN as u16;
        let first = u32::from_be_bytes([0x45, self.traffic_class, 0, 0]) | u32::from(total_len);
        let second = u32::from(identification) << 16 | u32::from(flags_and_offset);
        let third = u32::from_be_bytes([self.ttl, self.protocol, 0, 0]);
        // Summed up from the fields: reading back what was just written would stall on the stores.
        let sum = Sum::default().add_words([first, second, third]).add_ipv4([self.source, self.destination]);
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..8].copy_from_slice(&second.to_be_bytes());
        out[8..12].copy_from_slice(&(third | u32::from(sum.checksum())).to_be_bytes());
        out[12..16].copy_from_slice(&self.source.octets());
        out[16..20].copy_from_slice(&self.destination.octets());
    }
}

/// Makes the header of a datagram that of its answer, with so many bytes behind it: as [`Header::write`] writes it.
#[inline(always)]
pub fn turn_round(header: &mut [u8; LEN], traffic_class: u8, ttl: u8, payload_len: u16) {
    let (protocol, source, destination) = (protocol(header), destination(header), source(header));
    Header { traffic_class, payload_len, ttl, protocol, source, destination }.write(header);
}

/// Makes a written header one of a datagram that may be fragmented on its way (RFC 791, section 2.3): with an
/// identification that no other datagram between the two has (RFC 6864, section 4.2), and "don't fragment" not set.
pub fn allow_fragments(header: &mut [u8; LEN], identification: u16) {
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[6..8].fill(0);
    header[10..12].fill(0);
    let checksum = Sum::default().add_bytes(&header[..]).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_says_where_it_belongs() {
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let header = Header { traffic_class: 0, payload_len: 0, ttl: 64, protocol: UDP, source, destination };
        for (offset, more) in [(0, true), (1480, true), (65_528, false)] {
            let mut out = [0; LEN];
            header.write_fragment(&mut out, 0xabcd, offset, more);
            let packet = Packet::parse(&out).unwrap();
            assert_eq!((packet.fragment_offset(), packet.more_fragments()), (offset, more));
            assert_eq!((packet.identification(), packet.dont_fragment(), packet.is_fragment()), (0xabcd, false, true));
        }
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let header = Header {
            traffic_class: 0xb8,
            payload_len: payload.len() as u16,
            ttl: 64,
            protocol: UDP,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut out = [0; LEN];
        header.write(&mut out);
        [&out[..], payload].concat()
    }

    /// Sets a byte and mends the checksum, so that only the field under test is wrong.
    fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
        bytes[at] = value;
        bytes[10..12].fill(0);
        let header_len = (usize::from(bytes[0] & 15) * 4).min(bytes.len());
        let checksum = Sum::default().add_bytes(&bytes[..header_len]).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        let bytes = packet(b"hello");
        let parsed = Packet::parse(&bytes).unwrap();
        assert_eq!(parsed.payload(), b"hello");
        assert_eq!((parsed.ttl(), parsed.protocol(), parsed.traffic_class()), (64, UDP, 0xb8));
        assert_eq!(parsed.source(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(parsed.destination(), Ipv4Addr::new(10, 0, 0, 2));
        assert!(!parsed.is_fragment());
    }

    #[test]
    fn each_wrong_field_has_its_reason() {
        let good = packet(b"hello");
        let reason = |bytes: &[u8]| Packet::parse(bytes).unwrap_err();
        for len in 0..LEN {
            assert_eq!(reason(&good[..len]), DropReason::Ipv4Truncated);
        }
        assert_eq!(reason(&with(good.clone(), 0, 0x65)), DropReason::Ipv4Version);
        assert_eq!(reason(&with(good.clone(), 0, 0x44)), DropReason::Ipv4HeaderLength);
        assert_eq!(reason(&with(good.clone(), 0, 0x4f)), DropReason::Ipv4HeaderLength);
        assert_eq!(reason(&with(good.clone(), 3, 19)), DropReason::Ipv4TotalLength);
        assert_eq!(reason(&with(good.clone(), 3, 26)), DropReason::Ipv4TotalLength);
        let mut damaged = good;
        damaged[8] ^= 1;
        assert_eq!(reason(&damaged), DropReason::Ipv4Checksum);
    }

    #[test]
    fn padding_is_cut_and_options_are_tolerated() {
        let padded = [packet(b"hi"), vec![0; 20]].concat();
        assert_eq!(Packet::parse(&padded).unwrap().payload(), b"hi");
        // Four no-operation options (RFC 791, section 3.1) between header and payload.
        let mut bytes = packet(b"hi");
        bytes.splice(LEN..LEN, [1; 4]);
        let bytes = with(with(bytes, 0, 0x46), 3, 26);
        let parsed = Packet::parse(&bytes).unwrap();
        assert_eq!((parsed.header_len(), parsed.payload()), (24, &b"hi"[..]));
    }

    #[test]
    fn both_ends_of_a_fragmented_datagram_are_fragments() {
        assert!(Packet::parse(&with(packet(b"a"), 6, 0x20)).unwrap().is_fragment(), "more fragments");
        assert!(Packet::parse(&with(packet(b"a"), 7, 1)).unwrap().is_fragment(), "offset");
        assert!(!Packet::parse(&with(packet(b"a"), 6, 0x40)).unwrap().is_fragment(), "don't fragment");
    }
}
