//! What tells the connections of a host apart.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::wire::ip::IpAddress;
use crate::wire::{ipv4, ipv6, tcp};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Our address and port.
    pub local: (IpAddress, u16),
    /// The peer's address and port.
    pub remote: (IpAddress, u16),
}

impl Tuple {
    /// No connection's.
    pub const NONE: Self = Self { local: (IpAddress::NONE, 0), remote: (IpAddress::NONE, 0) };

    /// A hash that nobody can aim at who does not know `key`.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: [u64; 2]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        self.write_addresses(&mut hasher);
        hasher.write_u32(self.ports());
        hasher.finish()
    }

    /// Bits that tell most connections apart: for guesses, as anybody can have several with the same.
    #[inline]
    #[must_use]
    pub fn mark(&self) -> u64 {
        let bits = self.remote.0.to_bits();
        (bits >> 64) as u64 ^ bits as u64 ^ u64::from(self.ports()) << 32
    }

    /// The same, of the two ends and two numbers; never the hash of the two ends alone, as it is of more bytes.
    #[inline]
    pub(super) fn hash_with(&self, key: [u64; 2], first: u32, second: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        self.write_addresses(&mut hasher);
        hasher.write_u64(u64::from(self.ports()) << 32 | u64::from(first));
        hasher.write_u64(second);
        hasher.finish()
    }

    /// Bytes of the IP and TCP headers without options.
    #[inline]
    #[must_use]
    pub fn headers_len(&self) -> u16 {
        let ip = if self.remote.0.is_v4() { ipv4::LEN } else { ipv6::LEN };
        (ip + tcp::LEN) as u16
    }

    /// Of IPv4 only what differs, in one word: no pair of the one family is hashed from as many bytes as one of the other.
    #[inline]
    fn write_addresses(&self, hasher: &mut SipHasher13) {
        let (local, remote) = (self.local.0.to_bits(), self.remote.0.to_bits());
        if self.remote.0.is_v4() {
            return hasher.write_u64(u64::from(local as u32) << 32 | u64::from(remote as u32));
        }
        for half in [local >> 64, local, remote >> 64, remote] {
            hasher.write_u64(half as u64);
        }
    }

    #[inline]
    fn ports(&self) -> u32 {
        u32::from(self.local.1) << 16 | u32::from(self.remote.1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const TUPLE: Tuple = Tuple {
        local: (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1)), 80),
        remote: (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2)), 50_000),
    };
    const TUPLE_6: Tuple = Tuple {
        local: (IpAddress::v6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 80),
        remote: (IpAddress::v6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)), 50_000),
    };

    #[test]
    fn every_bit_of_the_addresses_counts() {
        for (tuple, bits) in [(TUPLE, 32), (TUPLE_6, 128)] {
            let hash = tuple.hash([1, 2]);
            for bit in 0..bits {
                let flipped = |address: IpAddress| match address.to_v4() {
                    Some(v4) => IpAddress::v4(Ipv4Addr::from_bits(v4.to_bits() ^ 1 << bit)),
                    None => IpAddress::v6(Ipv6Addr::from_bits(address.to_bits() ^ 1 << bit)),
                };
                assert_ne!(Tuple { local: (flipped(tuple.local.0), 80), ..tuple }.hash([1, 2]), hash);
                assert_ne!(Tuple { remote: (flipped(tuple.remote.0), 50_000), ..tuple }.hash([1, 2]), hash);
            }
        }
    }

    #[test]
    fn headers_are_as_long_as_the_family_has_them() {
        assert_eq!([TUPLE, TUPLE_6].map(|tuple| tuple.headers_len()), [40, 60]);
    }

    #[test]
    fn every_bit_of_the_ports_of_the_key_and_of_the_numbers_counts() {
        let hash = TUPLE.hash([1, 2]);
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
