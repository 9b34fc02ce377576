//! Which address of ours a datagram is sent from, if nobody has said: for IPv6 by RFC 6724, section 5, as far as its
//! rules concern one interface; for IPv4 as RFC 1122, section 3.3.4.3 wants it.

use std::net::Ipv6Addr;

use crate::wire::ip::IpAddress;

/// An address of ours that a datagram may be sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: IpAddress,
    /// Length of the prefix of its link, bits of its own family's.
    pub prefix_len: u8,
    /// Whether it is to be used no more for what begins (RFC 4862, section 5.5.4).
    pub deprecated: bool,
    /// Whether it is one that changes for the sake of privacy (RFC 8981).
    pub temporary: bool,
}

/// The address to send from to `destination`, out of those of ours that may be used.
///
/// `routed` is the one that the route to `destination` names: for IPv4 it is taken unless we have one on the link of
/// `destination`. `prefer_temporary` is for those who wish not to be recognised.
#[must_use]
pub fn source_for(
    destination: IpAddress,
    routed: Option<IpAddress>,
    prefer_temporary: bool,
    candidates: impl Iterator<Item = Candidate>,
) -> Option<IpAddress> {
    let same_family = candidates.filter(|candidate| candidate.address.is_v4() == destination.is_v4());
    let best = if destination.is_v4() {
        first_best(same_family, |candidate| {
            (candidate.common_bits(destination) == candidate.prefix_len, routed == Some(candidate.address))
        })
    } else {
        first_best(same_family, |candidate| candidate.rank(destination, prefer_temporary))
    };
    best.map(|candidate| candidate.address)
}

/// The one with the highest rank, of equals the first.
fn first_best<R: PartialOrd>(
    candidates: impl Iterator<Item = Candidate>,
    rank: impl Fn(&Candidate) -> R,
) -> Option<Candidate> {
    candidates.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best })
}

impl Candidate {
    /// The rules of RFC 6724, section 5, the one that is asked first first. Rules 4, 5 and 5.5 are about home
    /// addresses, other interfaces and several routers.
    fn rank(&self, destination: IpAddress, prefer_temporary: bool) -> impl PartialOrd + use<> {
        let (scope, wanted) = (scope(self.address), scope(destination));
        (
            // Rule 1: prefer same address.
            self.address == destination,
            // Rule 2: prefer appropriate scope. If Scope(SA) < Scope(SB): if Scope(SA) < Scope(D), then prefer SB.
            // Otherwise, prefer SA.
            if scope < wanted { (false, scope) } else { (true, u8::MAX - scope) },
            // Rule 3: avoid deprecated addresses.
            !self.deprecated,
            // Rule 6: prefer matching label.
            label(self.address) == label(destination),
            // Rule 7: prefer temporary addresses; an application may reverse it.
            self.temporary == prefer_temporary,
            // Rule 8: use longest matching prefix.
            self.common_bits(destination),
        )
    }

    /// RFC 6724, section 2.2, CommonPrefixLen: the longest prefix that the two addresses have in common, up to the
    /// length of the source address's prefix.
    fn common_bits(&self, destination: IpAddress) -> u8 {
        let common = (self.address.to_bits() ^ destination.to_bits()).leading_zeros() as u8;
        let of_family = if self.address.is_v4() { common.saturating_sub(V4_BITS) } else { common };
        of_family.min(self.prefix_len)
    }
}

/// Where an IPv4 address begins in its sixteen bytes.
const V4_BITS: u8 = 96;
/// RFC 4291, section 2.7: the scopes of multicast addresses, to which RFC 6724, section 3.1 maps those of unicast.
const LINK_LOCAL: u8 = 0x2;
const SITE_LOCAL: u8 = 0x5;
const GLOBAL: u8 = 0xe;

/// How far an IPv6 address is valid (RFC 6724, section 3.1).
fn scope(address: IpAddress) -> u8 {
    let [first, second, ..] = *address.octets();
    match (first, second) {
        (0xff, flags_and_scope) => flags_and_scope & 0xf,
        (0xfe, 0x80..=0xbf) => LINK_LOCAL,
        (0xfe, 0xc0..=0xff) => SITE_LOCAL,
        // RFC 6724, section 3.1: the loopback address is treated as having link-local scope.
        _ if address == IpAddress::v6(Ipv6Addr::LOCALHOST) => LINK_LOCAL,
        _ => GLOBAL,
    }
}

/// The default policy table of RFC 6724, section 2.1, longest prefixes first: bits, their number, label.
const POLICY: [(u128, u32, u8); 9] = [
    (1, 128, 0),
    (0xffff << 32, 96, 4),
    (0, 96, 3),
    (0x2001 << 112, 32, 5),
    (0x2002 << 112, 16, 2),
    (0x3ffe << 112, 16, 12),
    (0xfec0 << 112, 10, 11),
    (0xfc00 << 112, 7, 13),
    (0, 0, 1),
];

/// What kind an address is of: Teredo, 6to4, unique local and so on.
fn label(address: IpAddress) -> Option<u8> {
    let matches = |bits: u128, len: u32| (address.to_bits() ^ bits).leading_zeros() >= len;
    POLICY.iter().find(|&&(bits, len, _)| matches(bits, len)).map(|&(_, _, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddress {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    /// `fe80::1/64 deprecated`
    fn candidate(text: &str) -> Candidate {
        let (prefix, marks) = text.split_once(' ').unwrap_or((text, ""));
        let (address, len) = prefix.split_once('/').unwrap_or((prefix, "64"));
        Candidate {
            address: ip(address),
            prefix_len: len.parse().unwrap(),
            deprecated: marks == "deprecated",
            temporary: marks == "temporary",
        }
    }

    fn chosen(destination: &str, routed: Option<&str>, prefer_temporary: bool, candidates: &[&str]) -> String {
        let candidates = candidates.iter().map(|text| candidate(text));
        source_for(ip(destination), routed.map(ip), prefer_temporary, candidates).unwrap().to_string()
    }

    /// Fails unless `expected` is chosen, whichever candidate comes first.
    fn assert_chosen(destination: &str, candidates: [&str; 2], expected: &str, rule: &str) {
        let [one, other] = candidates;
        for candidates in [[one, other], [other, one]] {
            assert_eq!(chosen(destination, None, true, &candidates), expected, "{rule}: {candidates:?}");
        }
    }

    /// RFC 6724, section 10.1, but for the one about home addresses.
    #[test]
    fn the_examples_of_the_rfc_come_out_as_it_says() {
        let global = "2001:db8:1::1";
        assert_chosen(global, ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1", "prefer appropriate scope");
        assert_chosen("ff05::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1", "prefer appropriate scope");
        let same = "2001:db8:1::1 deprecated";
        assert_chosen(global, [same, "2001:db8:2::1"], "2001:db8:1::1", "prefer same address");
        let near = "fe80::2 deprecated";
        assert_chosen("fe80::1", [near, "2001:db8:1::1"], "fe80::2", "prefer appropriate scope");
        assert_chosen(global, ["2001:db8:1::2", "2001:db8:3::2"], "2001:db8:1::2", "longest matching prefix");
        let six_to_four = "2002:c633:6401::d5e3:7953:13eb:22e8 temporary";
        let label = [six_to_four, "2001:db8:1::2"];
        assert_chosen("2002:c633:6401::1", label, "2002:c633:6401:0:d5e3:7953:13eb:22e8", "prefer matching label");
        let temporary = ["2001:db8:1::2", "2001:db8:1::d5e3:7953:13eb:22e8 temporary"];
        let expected = "2001:db8:1:0:d5e3:7953:13eb:22e8";
        assert_chosen("2001:db8:1::d5e3:0:0:1", temporary, expected, "prefer temporary address");
    }

    #[test]
    fn a_deprecated_address_is_used_only_where_no_other_one_fits() {
        let destination = "2001:db8:1::1";
        let candidates = ["2001:db8:1::2 deprecated", "2001:db8:3::2"];
        assert_chosen(destination, candidates, "2001:db8:3::2", "avoid deprecated addresses");
        assert_chosen(destination, ["2001:db8:1::2 deprecated", "fe80::2"], "2001:db8:1::2", "scope counts more");
    }

    #[test]
    fn whoever_wishes_to_be_recognised_gets_the_lasting_address() {
        let candidates = ["2001:db8:1::7 temporary", "2001:db8:1::2"];
        assert_eq!(chosen("2001:db8:1::1", None, false, &candidates), "2001:db8:1::2");
        assert_eq!(chosen("2001:db8:1::1", None, true, &candidates), "2001:db8:1::7");
    }

    #[test]
    fn bits_behind_the_prefix_do_not_count() {
        // 2001:db8:1::3 has 126 bits in common with the destination, of which 64 count.
        let candidates = ["2001:db8:1::8000:0:0:2", "2001:db8:1::3"];
        assert_eq!(chosen("2001:db8:1::1", None, false, &candidates), "2001:db8:1:0:8000::2", "the first of equals");
    }

    #[test]
    fn unique_local_addresses_talk_to_each_other() {
        assert_chosen("fd00:1::1", ["fd77:1::2", "2001:db8::2"], "fd77:1::2", "prefer matching label");
        assert_chosen("2600::1", ["fd77:1::2", "2001:db8::2"], "2001:db8::2", "prefer matching label");
    }

    #[test]
    fn ipv4_sends_from_the_same_subnet_or_as_the_route_says_or_from_the_first() {
        let ours = ["10.0.0.2/24", "10.0.1.2/24", "10.0.2.2/24", "2001:db8::2"];
        assert_eq!(chosen("10.0.1.9", Some("10.0.2.2"), false, &ours), "10.0.1.2");
        assert_eq!(chosen("192.0.2.1", Some("10.0.2.2"), false, &ours), "10.0.2.2");
        assert_eq!(chosen("192.0.2.1", None, false, &ours), "10.0.0.2");
        assert_eq!(chosen("192.0.2.1", Some("10.0.9.9"), false, &ours), "10.0.0.2", "not ours");
        assert_eq!(source_for(ip("10.0.0.9"), None, false, [candidate("fe80::2")].into_iter()), None);
    }
}
