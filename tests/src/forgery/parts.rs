//! Headers, as fields in a row.

use super::{ETHERNET, Ends, Field, Frame};

pub(super) const ICMP: u8 = 1;
pub(super) const IGMP: u8 = 2;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// The Internet checksum (RFC 1071) of bytes, in addition to a sum.
#[must_use]
pub fn checksum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of the pseudo-header of what an IP packet carries (RFC 9293, section 3.1; RFC 8200, section 8.1).
#[must_use]
pub fn pseudo_sum(packet: &[u8], v6: bool, protocol: u8, len: usize) -> u32 {
    let addresses = if v6 { packet.get(8..40) } else { packet.get(12..20) };
    u32::from(!checksum(addresses.unwrap_or_default(), 0)) + u32::from(protocol) + len as u32
}

/// A frame under construction.
pub(super) struct Builder {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    upper: Option<(usize, u8, usize)>,
}

impl Builder {
    pub(super) fn ethernet(ends: &Ends, ethertype: u16) -> Self {
        let bytes = [&ends.macs.1[..], &ends.macs.0, &ethertype.to_be_bytes()].concat();
        Self { bytes, fields: Vec::new(), upper: None }
    }

    /// Appends bytes that are one field.
    pub(super) fn field(&mut self, name: &'static str, bytes: &[u8]) -> &mut Self {
        let mask = u32::MAX >> (32 - 8 * bytes.len());
        self.fields.push(Field { name, at: self.bytes.len(), len: bytes.len(), mask });
        self.raw(bytes)
    }

    /// Appends bytes that are several fields, by their bits.
    pub(super) fn bits(&mut self, bytes: &[u8], fields: &[(&'static str, u32)]) -> &mut Self {
        let (at, len) = (self.bytes.len(), bytes.len());
        self.fields.extend(fields.iter().map(|&(name, mask)| Field { name, at, len, mask }));
        self.raw(bytes)
    }

    /// Appends bytes that stay as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Says that what carries a checksum begins here.
    pub(super) fn upper(&mut self, protocol: u8, checksum_at: usize) -> &mut Self {
        self.upper = Some((self.bytes.len(), protocol, checksum_at));
        self
    }

    /// An IPv4 header (RFC 791) for a payload of `len` bytes, behind options of whole words.
    pub(super) fn ipv4(&mut self, ends: &Ends, protocol: u8, options: &[u8], len: usize, fragment: u16) -> &mut Self {
        let header_len = 20 + options.len();
        self.bits(&[0x40 | (header_len / 4) as u8], &[("version", 0xf0), ("header length", 0x0f)])
            .bits(&[0], &[("DSCP", 0xfc), ("ECN", 0x03)])
            .field("total length", &((header_len + len) as u16).to_be_bytes())
            .field("identification", &[0x12, 0x34])
            .bits(
                &fragment.to_be_bytes(),
                &[("reserved flag", 0x8000), ("DF", 0x4000), ("MF", 0x2000), ("offset", 0x1fff)],
            )
            .field("TTL", &[64])
            .field("protocol", &[protocol])
            .field("header checksum", &[0, 0])
            .field("source", &ends.v4.0.octets())
            .field("destination", &ends.v4.1.octets());
        for (number, option) in options.iter().enumerate() {
            self.field(if number == 0 { "option type" } else { "option" }, &[*option]);
        }
        self
    }

    /// An IPv6 header (RFC 8200) for `len` bytes of extension headers and payload.
    pub(super) fn ipv6(&mut self, ends: &Ends, next_header: u8, hop_limit: u8, len: usize) -> &mut Self {
        let [source, destination] = [ends.v6.0, ends.v6.1].map(|address| address.octets());
        self.bits(
            &[0x60, 0, 0, 0],
            &[("version", 0xf000_0000), ("traffic class", 0x0ff0_0000), ("flow label", 0xf_ffff)],
        )
        .field("payload length", &(len as u16).to_be_bytes())
        .field("next header", &[next_header])
        .field("hop limit", &[hop_limit])
        .field("source prefix", &source[..2])
        .raw(&source[2..15])
        .field("source", &source[15..])
        .field("destination prefix", &destination[..2])
        .raw(&destination[2..15])
        .field("destination", &destination[15..])
    }

    /// Ends the frame, with checksums.
    pub(super) fn end(&mut self) -> Frame {
        let (bytes, fields) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fields));
        let mut frame = Frame { bytes, fields, upper: self.upper };
        frame.mend_upper();
        frame.mend_header();
        frame
    }

    /// What comes behind the Ethernet header so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - ETHERNET
    }
}
