//! Headers as they are on the wire: no state, no I/O.
//!
//! Every file has the same shape. `Packet::parse(bytes)` checks all lengths once and gives a view whose
//! getters cannot fail, because it holds fixed-size arrays; where the bytes are wrong, the [`DropReason`]
//! says how. `Header { .. }.write(&mut [u8; LEN])` puts a header together. TCP's, whose
//! options vary in length, goes to a slice.
//!
//! [`DropReason`]: crate::base::DropReason

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod mld;
pub mod ndp;
pub mod seq;
pub mod tcp;
pub mod udp;

/// Two bytes of a header, in network byte order.
#[inline]
pub(crate) const fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes of a header.
#[inline]
pub(crate) const fn four<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    /// Cheap pseudo-random bytes, the same in every run: the upper half of a linear congruential generator
    /// (Knuth's MMIX).
    #[derive(Default)]
    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn byte(&mut self) -> u8 {
            self.word().to_be_bytes()[0]
        }

        pub(super) fn fill(&mut self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(4) {
                let word = self.word().to_be_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
        }

        fn word(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 32) as u32
        }
    }
}
