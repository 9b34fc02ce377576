//! An address of either version of IP.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of IPv4 or IPv6, in sixteen bytes: tables, hashes and comparisons need not ask which.
///
/// One of IPv4 is held as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). No such address may come in over a wire in an
/// IPv6 header, so the two families cannot be mistaken for each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpAddress([u8; 16]);

/// What the sixteen bytes of an IPv4 address are besides.
const V4_PREFIX: u128 = 0xffff << 32;

impl IpAddress {
    /// No host: `::`.
    pub const NONE: Self = Self([0; 16]);

    /// An address of IPv4.
    #[inline]
    #[must_use]
    pub const fn v4(address: Ipv4Addr) -> Self {
        // As one number: written in parts and then compared whole, it would stall on the stores.
        Self((V4_PREFIX | address.to_bits() as u128).to_be_bytes())
    }

    /// An address of IPv6.
    #[inline]
    #[must_use]
    pub const fn v6(address: Ipv6Addr) -> Self {
        Self(address.octets())
    }

    /// Whether it is one of IPv4.
    #[inline]
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.to_bits() >> 32 == V4_PREFIX >> 32
    }

    /// The address, if it is one of IPv4.
    #[inline]
    #[must_use]
    pub fn to_v4(self) -> Option<Ipv4Addr> {
        let [.., a, b, c, d] = self.0;
        self.is_v4().then(|| Ipv4Addr::new(a, b, c, d))
    }

    /// The address, if it is one of IPv6.
    #[inline]
    #[must_use]
    pub fn to_v6(self) -> Option<Ipv6Addr> {
        (!self.is_v4()).then(|| Ipv6Addr::from(self.0))
    }

    /// All sixteen bytes.
    #[inline]
    #[must_use]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The sixteen bytes as one number.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// A slot of 256: the upper eight bits of a multiplication by 2^64 over the golden ratio, which spreads addresses
    /// that follow each other. There is no key in it: for caches only, whose worst case is to miss.
    #[inline]
    #[must_use]
    pub const fn slot_of_256(self) -> u8 {
        let bits = self.to_bits();
        let folded = (bits >> 64) as u64 ^ bits as u64;
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }

    /// Whether it is the unspecified address of either family.
    #[inline]
    #[must_use]
    pub fn is_unspecified(self) -> bool {
        self == Self::NONE || self == Self::v4(Ipv4Addr::UNSPECIFIED)
    }

    /// Whether it names a group (of IPv4, broadcast excluded).
    #[inline]
    #[must_use]
    pub fn is_multicast(self) -> bool {
        IpAddr::from(self).is_multicast()
    }
}

impl Default for IpAddress {
    fn default() -> Self {
        Self::NONE
    }
}

impl From<Ipv4Addr> for IpAddress {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address)
    }
}

impl From<Ipv6Addr> for IpAddress {
    #[inline]
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address)
    }
}

impl From<IpAddr> for IpAddress {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<IpAddress> for IpAddr {
    #[inline]
    fn from(address: IpAddress) -> Self {
        match address.to_v4() {
            Some(address) => Self::V4(address),
            None => Self::V6(Ipv6Addr::from(address.0)),
        }
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_as_they_went_in() {
        for text in ["10.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "fe80::1", "2001:db8::ffff:a00:1"] {
            let address: IpAddr = text.parse().unwrap();
            let held = IpAddress::from(address);
            assert_eq!((IpAddr::from(held), held.to_string()), (address, text.to_string()));
            assert_eq!((held.is_v4(), held.to_v4().is_some()), (address.is_ipv4(), address.is_ipv4()));
            assert_eq!(held.to_v6().is_some(), address.is_ipv6());
        }
    }

    #[test]
    fn groups_and_nobody_are_told_in_both_families() {
        let told = |text: &str| {
            let address = IpAddress::from(text.parse::<IpAddr>().unwrap());
            (address.is_multicast(), address.is_unspecified())
        };
        assert_eq!(["224.0.0.1", "ff02::1"].map(told), [(true, false); 2]);
        assert_eq!(["0.0.0.0", "::"].map(told), [(false, true); 2]);
        assert_eq!(["10.0.0.1", "fe80::1", "255.255.255.255"].map(told), [(false, false); 3]);
    }
}
