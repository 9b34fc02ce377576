//! What tells the connections of a host apart.

use std::hash::Hasher;
use std::net::Ipv4Addr;

use siphasher::sip::SipHasher13;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Our address and port.
    pub local: (Ipv4Addr, u16),
    /// The peer's address and port.
    pub remote: (Ipv4Addr, u16),
}

impl Tuple {
    /// No connection's.
    pub const NONE: Self = Self { local: (Ipv4Addr::UNSPECIFIED, 0), remote: (Ipv4Addr::UNSPECIFIED, 0) };

    /// A hash that nobody can aim at who does not know `key`.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write_u64(self.addresses());
        hasher.write_u32(self.ports());
        hasher.finish()
    }

    /// The same, of the two ends and two numbers; never the hash of the two ends alone, as it is of more bytes.
    #[inline]
    pub(super) fn hash_with(&self, key: [u64; 2], first: u32, second: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write_u64(self.addresses());
        hasher.write_u64(u64::from(self.ports()) << 32 | u64::from(first));
        hasher.write_u64(second);
        hasher.finish()
    }

    #[inline]
    fn addresses(&self) -> u64 {
        u64::from(self.local.0.to_bits()) << 32 | u64::from(self.remote.0.to_bits())
    }

    #[inline]
    fn ports(&self) -> u32 {
        u32::from(self.local.1) << 16 | u32::from(self.remote.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUPLE: Tuple =
        Tuple { local: (Ipv4Addr::new(10, 0, 0, 1), 80), remote: (Ipv4Addr::new(10, 0, 0, 2), 50_000) };

    #[test]
    fn every_bit_of_the_ends_of_the_key_and_of_the_numbers_counts() {
        let hash = TUPLE.hash([1, 2]);
        for bit in 0..32 {
            let flipped = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() ^ 1 << bit);
            assert_ne!(Tuple { local: (flipped(TUPLE.local.0), 80), ..TUPLE }.hash([1, 2]), hash);
            assert_ne!(Tuple { remote: (flipped(TUPLE.remote.0), 50_000), ..TUPLE }.hash([1, 2]), hash);
        }
        for bit in 0..16 {
            assert_ne!(Tuple { local: (TUPLE.local.0, 80 ^ 1 << bit), ..TUPLE }.hash([1, 2]), hash);
            assert_ne!(Tuple { remote: (TUPLE.remote.0, 50_000 ^ 1 << bit), ..TUPLE }.hash([1, 2]), hash);
        }
        let with = TUPLE.hash_with([1, 2], 3, 4);
        assert_ne!(with, hash);
        for bit in 0..32 {
            assert_ne!(TUPLE.hash_with([1, 2], 3 ^ 1 << bit, 4), with);
        }
        for bit in 0..64 {
            assert_ne!(TUPLE.hash_with([1, 2], 3, 4 ^ 1 << bit), with);
            assert_ne!(TUPLE.hash([1 ^ 1 << bit, 2]), hash);
            assert_ne!(TUPLE.hash([1, 2 ^ 1 << bit]), hash);
        }
        let turned = Tuple { local: TUPLE.remote, remote: TUPLE.local };
        assert_ne!(turned.hash([1, 2]), hash, "the ends are not interchangeable");
    }
}
