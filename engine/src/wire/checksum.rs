//! The Internet checksum: the one's complement of the one's complement sum of 16-bit words (RFC 1071).

use std::net::Ipv4Addr;

/// A one's complement sum under way.
///
/// Words are added in little-endian order, which the sum allows (RFC 1071, section 2 (B)): only
/// [`fold`](Sum::fold) brings it into network order. Pieces must be added at even offsets, except the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd one at the end is padded with zero.
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // The carries of 64-bit words gather in the upper half: an add and an add-with-carry for eight bytes.
        let mut wide = u128::from(self.0);
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            wide += u128::from(u64::from_le_bytes(*word));
        }
        if !tail.is_empty() {
            wide += u128::from(last_word(bytes, tail));
        }
        // What is left has 34 bits: some thousand millions of further words fit.
        let narrow = |part: u64| (part & 0xffff_ffff) + (part >> 32);
        Self(narrow(wide as u64) + narrow((wide >> 64) as u64))
    }

    /// Adds a 16-bit value.
    #[inline]
    #[must_use]
    pub const fn add_u16(self, value: u16) -> Self {
        Self(self.0 + value.swap_bytes() as u64)
    }

    /// Adds an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn add_ipv4(self, address: Ipv4Addr) -> Self {
        Self(self.0 + u32::from_le_bytes(address.octets()) as u64)
    }

    /// The sum, folded to 16 bits, as a number (network order resolved).
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        // End-around carries: of 64 bits to 32, and of 32 to the upper 16.
        let (low, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = low + carry as u32;
        ((sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16).swap_bytes()
    }

    /// The checksum of what was added: the complement of the sum.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether what was added, its checksum field included, is intact.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The one to seven bytes behind the last whole word of `bytes`, padded with zeros to a word.
#[inline]
fn last_word(bytes: &[u8], tail: &[u8]) -> u64 {
    match bytes.last_chunk() {
        // Read together with those before them, which are shifted out.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * tail.len()),
        None => tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// Sum of the pseudo header of UDP and TCP over IPv4 (RFC 768, RFC 9293 section 3.1). `len` is the length
/// of the transport header and payload in bytes.
#[inline]
#[must_use]
pub const fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> Sum {
    Sum(0).add_ipv4(source).add_ipv4(destination).add_u16(protocol as u16).add_u16(len)
}

/// A checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
#[must_use]
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    Sum(0).add_u16(!checksum).add_u16(!old).add_u16(new).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 3: the numerical example.
    #[test]
    fn example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add_bytes(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::default().add_bytes(&bytes).checksum(), 0x220d);
    }

    fn word_by_word(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        let bytes: Vec<u8> = (0..1600_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(Sum::default().add_bytes(&bytes[..len]).fold(), word_by_word(&bytes[..len]), "{len}");
        }
        assert_eq!(Sum::default().add_bytes(&[0xff; 1500]).fold(), 0xffff);
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let (before, after) = ([8, 0, 0, 0, 0x12, 0x34, 9, 9], [0, 0, 0, 0, 0x12, 0x34, 9, 9]);
        let old = Sum::default().add_bytes(&before).checksum();
        assert_eq!(updated(old, 0x0800, 0x0000), Sum::default().add_bytes(&after).checksum());
    }
}
