//! The Internet checksum: the one's complement of the one's complement sum of 16-bit words (RFC 1071).

use std::net::Ipv4Addr;

use super::ip::IpAddress;

/// Bytes from which on a sum is worth a call.
const BLOCK: usize = 64;

/// A one's complement sum under way: of 64 bits, whose carries come in again at the low end.
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
        if bytes.len() >= BLOCK {
            return self.add_long(bytes);
        }
        let mut sum = self;
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            if let ([first, second], _) = pair.as_chunks() {
                sum = sum.add(u64::from_le_bytes(*first)).add(u64::from_le_bytes(*second));
            }
        }
        let (single, tail) = rest.as_chunks();
        if let [single] = single {
            sum = sum.add(u64::from_le_bytes(*single));
        }
        if tail.is_empty() { sum } else { sum.add(last_word(bytes, tail)) }
    }

    /// Adds many bytes: two sums side by side, whose carries gather in their upper halves, so that no addition
    /// waits for the one before.
    #[inline(never)]
    fn add_long(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let (mut even, mut odd) = (0_u128, 0_u128);
        for pair in blocks.as_flattened().as_chunks::<16>().0 {
            if let ([first, second], _) = pair.as_chunks() {
                even += u128::from(u64::from_le_bytes(*first));
                odd += u128::from(u64::from_le_bytes(*second));
            }
        }
        let both = even + odd;
        self.add(both as u64).add((both >> 64) as u64).add_bytes(rest)
    }

    /// Adds bytes that lie in pieces, of any length each.
    #[must_use]
    pub fn add_pieces<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut odd = false;
        pieces.into_iter().fold(self, |sum, piece| {
            let own = Self::default().add_bytes(piece);
            let own = if odd { own.shifted() } else { own };
            odd ^= piece.len() % 2 == 1;
            sum.add(own.0)
        })
    }

    /// Adds a piece of which the sum is known, as a number, that begins behind `before` bytes.
    #[inline]
    #[must_use]
    pub fn add_piece(self, sum: u16, before: usize) -> Self {
        let own = Self::default().add_values([sum]);
        self.add(if before % 2 == 1 { own.shifted().0 } else { own.0 })
    }

    /// The sum of the same bytes one place further on: each counts for the other half of a word, so that it is the sum
    /// with its halves swapped (RFC 1071, section 2 (B)).
    const fn shifted(self) -> Self {
        Self(self.fold() as u64)
    }

    /// Adds the sum of bytes that begin at an even place.
    #[inline]
    #[must_use]
    pub const fn add_sum(self, other: Self) -> Self {
        self.add(other.0)
    }

    /// Adds 16-bit values.
    #[inline]
    #[must_use]
    pub fn add_values<const N: usize>(self, values: [u16; N]) -> Self {
        self.add(values.iter().map(|value| u64::from(value.swap_bytes())).sum())
    }

    /// Adds 32-bit values.
    #[inline]
    #[must_use]
    pub fn add_words<const N: usize>(self, words: [u32; N]) -> Self {
        self.add(words.iter().map(|word| u64::from(word.swap_bytes())).sum())
    }

    /// Adds IPv4 addresses.
    #[inline]
    #[must_use]
    pub fn add_ipv4<const N: usize>(self, addresses: [Ipv4Addr; N]) -> Self {
        self.add(addresses.iter().map(|address| u64::from(u32::from_le_bytes(address.octets()))).sum())
    }

    /// Adds addresses of either family. What an IPv4 address is held with, `::ffff`, adds nothing: all ones are a zero
    /// of the one's complement.
    #[inline]
    #[must_use]
    pub fn add_addresses<const N: usize>(self, addresses: [IpAddress; N]) -> Self {
        addresses.iter().fold(self, |sum, address| {
            let bits = u128::from_le_bytes(*address.octets());
            sum.add(bits as u64).add((bits >> 64) as u64)
        })
    }

    #[inline]
    const fn add(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64)
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

/// Sum of the pseudo header of UDP, TCP and ICMPv6 (RFC 768; RFC 9293, section 3.1; RFC 8200, section 8.1). `len` is the
/// length of the transport header and payload in bytes.
#[inline]
#[must_use]
pub fn pseudo_header(source: IpAddress, destination: IpAddress, protocol: u8, len: u16) -> Sum {
    Sum::default().add_addresses([source, destination]).add_values([u16::from(protocol), len])
}

/// A checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().add_values([!checksum, !old, new]).checksum()
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
    fn the_pseudo_header_of_ipv6_is_that_of_rfc_8200() {
        let (source, destination) = ("2001:db8::1:fffe", "ff02::1:ff00:42");
        let [source, destination] = [source, destination].map(|text| text.parse::<std::net::Ipv6Addr>().unwrap());
        let len = 0x2345;
        let bytes =
            [&source.octets()[..], &destination.octets(), &u32::from(len).to_be_bytes(), &[0, 0, 0, 58]].concat();
        let sum = pseudo_header(source.into(), destination.into(), 58, len);
        assert_eq!(sum.fold(), word_by_word(&bytes));
    }

    #[test]
    fn pieces_of_any_length_add_up_to_the_whole() {
        let bytes: Vec<u8> = (0..997_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 1..200 {
            let pieces = Sum::default().add_pieces(bytes.chunks(len));
            assert_eq!(pieces.fold(), Sum::default().add_bytes(&bytes).fold(), "{len}");
        }
    }

    #[test]
    fn pieces_whose_sums_are_known_add_up_as_well() {
        let bytes: Vec<u8> = (0..997_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 1..200 {
            let add =
                |sum: Sum, (at, piece): (usize, &[u8])| sum.add_piece(Sum::default().add_bytes(piece).fold(), at * len);
            let whole = bytes.chunks(len).enumerate().fold(Sum::default(), add);
            assert_eq!(whole.fold(), Sum::default().add_bytes(&bytes).fold(), "{len}");
        }
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let (before, after) = ([8, 0, 0, 0, 0x12, 0x34, 9, 9], [0, 0, 0, 0, 0x12, 0x34, 9, 9]);
        let old = Sum::default().add_bytes(&before).checksum();
        assert_eq!(updated(old, 0x0800, 0x0000), Sum::default().add_bytes(&after).checksum());
    }
}
