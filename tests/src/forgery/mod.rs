//! Packets of every kind that a host knows, each with the names and places of its fields, so that a test can change
//! some and say which. Built byte by byte from the RFCs, without the code that they test.
//!
//! ```text
//!   Kind::draw -> Packet: one frame, or several fragments -> Packet::mutate: 1 to 3 fields -> checksums mended
//! ```

mod kinds;
mod parts;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sim::Rng;
pub use kinds::{KINDS, draw, draw_kind};
pub use parts::{checksum, pseudo_sum};

/// Who sends a packet, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// MAC addresses: sender, receiver.
    pub macs: ([u8; 6], [u8; 6]),
    /// IPv4 addresses: sender, receiver.
    pub v4: (Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses: sender, receiver.
    pub v6: (Ipv6Addr, Ipv6Addr),
    /// Addresses on the receiver's link that nobody has, which neighbors send from.
    pub neighbors: (Ipv4Addr, Ipv6Addr),
}

/// A field that can be changed.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    /// Where its bytes stand, from the frame's start.
    pub at: usize,
    /// How many.
    pub len: usize,
    /// Which bits of them, read as a number, it is.
    pub mask: u32,
}

/// A frame with what is known about it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What can be changed.
    pub fields: Vec<Field>,
    /// Where the message with a checksum of its own begins, its protocol, and where in it the checksum stands.
    upper: Option<(usize, u8, usize)>,
}

/// One frame, or the fragments of one datagram.
#[derive(Clone, Debug)]
pub struct Packet {
    /// What it was before it was changed.
    pub kind: &'static str,
    /// What was changed, in order of their names.
    pub changed: Vec<&'static str>,
    /// In the order of sending.
    pub frames: Vec<Frame>,
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

impl Packet {
    /// Changes one to three fields, and mends the checksums unless one of them is that.
    pub fn mutate(&mut self, rng: &mut Rng) {
        for _ in 0..rng.between(1, 3) {
            let which = rng.below(self.frames.len() as u64) as usize;
            let frame = &mut self.frames[which];
            let name = match rng.below(20) {
                0 => frame.truncate(rng),
                1 => frame.append(rng),
                _ => frame.change(rng),
            };
            self.changed.push(name);
        }
        self.changed.sort_unstable();
        self.changed.dedup();
        if self.frames.len() == 1 && !self.changed.contains(&"checksum") {
            self.frames[0].mend_upper();
        }
        for frame in &mut self.frames {
            if !self.changed.contains(&"header checksum") {
                frame.mend_header();
            }
        }
    }

    /// Whether it comes from the link, and not by way of a gateway.
    #[must_use]
    pub fn is_from_neighbor(&self) -> bool {
        ["arp request", "v6 solicitation", "v6 group solicitation", "v6 advertisement", "v6 router", "v6 redirect"]
            .contains(&self.kind)
    }

    /// Whether it was sent to several hosts.
    #[must_use]
    pub fn is_to_group(&self) -> bool {
        self.frames[0].bytes[0] & 1 != 0
    }

    /// Whether its frames are of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.frames[0].bytes[12..14] == [0x86, 0xdd]
    }
}

impl Frame {
    fn change(&mut self, rng: &mut Rng) -> &'static str {
        let field = rng.pick(&self.fields);
        if self.bytes.len() < field.at + field.len {
            return self.append(rng);
        }
        let bytes = &mut self.bytes[field.at..field.at + field.len];
        let old = bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        let unit = field.mask & field.mask.wrapping_neg();
        let new = match rng.below(5) {
            0 => rng.bits() as u32,
            1 => old.wrapping_add(unit),
            2 => old.wrapping_sub(unit),
            3 => old ^ unit.wrapping_shl(rng.below(u64::from(field.mask.count_ones())) as u32),
            _ => rng.pick(&[0, u32::MAX, 0x7f7f_7f7f, 0x8080_8080]),
        };
        let new = old & !field.mask | new & field.mask;
        bytes.copy_from_slice(&new.to_be_bytes()[4 - field.len..]);
        field.name
    }

    /// Cuts the end off.
    fn truncate(&mut self, rng: &mut Rng) -> &'static str {
        if self.bytes.len() <= ETHERNET {
            return self.append(rng);
        }
        let len = rng.between(ETHERNET as u64, self.bytes.len() as u64 - 1) as usize;
        self.bytes.truncate(len);
        "truncated"
    }

    /// Puts bytes behind the end, as Ethernet's padding is.
    fn append(&mut self, rng: &mut Rng) -> &'static str {
        let start = self.bytes.len();
        let room = 1514_usize.saturating_sub(start).clamp(1, 64);
        self.bytes.resize(start + rng.between(1, room as u64) as usize, 0);
        rng.fill(&mut self.bytes[start..]);
        "padding"
    }

    /// Makes the checksum of an IPv4 header right, as long as the header says that it is.
    fn mend_header(&mut self) {
        let Some(header) = self.bytes.get_mut(ETHERNET..) else { return };
        if self.fields.iter().all(|field| field.name != "header checksum") || header.len() < 20 {
            return;
        }
        let len = (usize::from(header[0] & 15) * 4).clamp(20, header.len());
        header[10..12].fill(0);
        let sum = checksum(&header[..len], 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// Makes the checksum of what the packet carries right, for as many bytes as its headers say that there are.
    fn mend_upper(&mut self) {
        let Some((at, protocol, checksum_at)) = self.upper else { return };
        let end = self.end().min(self.bytes.len());
        if end < at + checksum_at + 2 {
            return;
        }
        let pseudo = match (protocol, self.is_v6()) {
            (parts::ICMP | parts::IGMP, _) => 0,
            (_, v6) => pseudo_sum(&self.bytes[ETHERNET..], v6, protocol, end - at),
        };
        self.bytes[at + checksum_at..at + checksum_at + 2].fill(0);
        let mut sum = checksum(&self.bytes[at..end], pseudo);
        if protocol == parts::UDP && sum == 0 {
            sum = 0xffff;
        }
        self.bytes[at + checksum_at..at + checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn is_v6(&self) -> bool {
        self.bytes[12..14] == [0x86, 0xdd]
    }

    /// Where the packet ends by its length field.
    fn end(&self) -> usize {
        let word = |at: usize| {
            self.bytes.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
        };
        if self.is_v6() { ETHERNET + 40 + word(ETHERNET + 4) } else { ETHERNET + word(ETHERNET + 2) }
    }
}
