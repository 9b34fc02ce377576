//! Which neighbor a datagram goes to: the route with the longest prefix that its destination has (RFC 1122, section
//! 3.3.1; RFC 4291, section 2.3; RFC 1812, section 5.2.4.3).
//!
//! A table is made beside the packet path and never changes; whoever has new routes makes another one and swaps them.
//!
//! ```text
//!   few:   prefixes, longest first     10.0.0.0/24   ...   0.0.0.0/0        one comparison for a neighbor
//!   many:  where the answer changes    ...|10.0.0.0 -> /24|10.0.1.0 -> /0|...     13 steps for 4,096 routes
//! ```
//!
//! Prefixes nest or lie apart. So they cut the numbers from 0 to 2^128 into at most two pieces each and one, of which
//! every one has one answer, and a binary search finds the piece whatever lengths there are.

use ipnet::{IpNet, Ipv6Net};

use crate::wire::ip::IpAddress;

/// Routes that a table holds at most, besides the entry for IPv4 that leads nowhere. More than any host needs that is
/// not a router of the Internet; with the pieces they take 650 KB of a worker.
pub const MAX_ROUTES: usize = 4096;
/// Routes up to which they are gone through one by one: the last of eight takes as long as a search (7 ns where it was
/// measured; 15 ns of 4,096), and the first, which nearly all datagrams need, a fifth.
const FEW: usize = 8;
/// Prefix of all addresses that are valid on one link only (RFC 4291, section 2.5.6).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// Where the prefix of an IPv4 address begins in its sixteen bytes.
const V4_BITS: u8 = 96;

/// One way to some destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who is reached by it. Bits behind the prefix do not matter.
    pub destination: IpNet,
    /// The router to send to; `None`: the destinations are on the link.
    pub gateway: Option<IpAddress>,
    /// The address of ours to send from, if there is a choice.
    pub source: Option<IpAddress>,
    /// Of routes with the same prefix the one with the lowest counts, and the first of these.
    pub metric: u32,
    /// Longest IP packet that fits through, bytes, if it is known to be less than the link's.
    pub mtu: Option<u16>,
}

/// The ways out of one interface.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Longest prefix first, no prefix twice.
    entries: Box<[Entry]>,
    /// For a search, if there are many.
    pieces: Option<Pieces>,
}

/// A route as it is searched for.
#[derive(Clone, Copy, Debug)]
struct Entry {
    bits: u128,
    mask: u128,
    /// `None`: there is no way, whatever shorter prefixes say.
    route: Option<Route>,
}

/// Where the answer changes, in ascending order from 0.
#[derive(Clone, Debug)]
struct Pieces(Box<[Cut]>);

/// From here on, up to the next cut, this entry is the answer.
#[derive(Clone, Copy, Debug)]
struct Cut {
    start: u128,
    entry: u32,
}

/// An entry that there is not.
const NOWHERE: u32 = u32::MAX;

impl Route {
    /// To a prefix on the link.
    #[must_use]
    pub const fn connected(destination: IpNet) -> Self {
        Self { destination, gateway: None, source: None, metric: 0, mtu: None }
    }

    /// To a prefix through a router.
    #[must_use]
    pub const fn via(destination: IpNet, gateway: IpAddress) -> Self {
        Self { destination, gateway: Some(gateway), source: None, metric: 0, mtu: None }
    }

    /// To everything of its family through a router.
    #[must_use]
    pub fn default_via(gateway: IpAddress) -> Self {
        let everything = if gateway.is_v4() { IpNet::V4(ipnet::Ipv4Net::default()) } else { Ipv6Net::default().into() };
        Self::via(everything, gateway)
    }
}

impl Routes {
    /// The prefixes on the link, and at most one gateway a family to everything else. One of IPv6 may be a link-local
    /// address.
    ///
    /// If one of the prefixes is that of a link-local address, all such addresses are on the link.
    #[must_use]
    pub fn new(connected: impl IntoIterator<Item = IpNet>, gateways: &[IpAddress]) -> Self {
        let mut routes: Vec<Route> = connected.into_iter().map(Route::connected).collect();
        if routes.iter().any(|route| matches!(route.destination, IpNet::V6(net) if LINK_LOCAL.contains(&net.addr()))) {
            routes.push(Route::connected(IpNet::V6(LINK_LOCAL)));
        }
        routes.extend(gateways.iter().copied().map(Route::default_via));
        Self::of(routes)
    }

    /// These routes and `more`, as far as they are not more than [`MAX_ROUTES`].
    #[must_use]
    pub fn with(self, more: Vec<Route>) -> Self {
        let own = self.entries.iter().filter_map(|entry| entry.route);
        Self::of(own.chain(more))
    }

    fn of(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut entries: Vec<Entry> = routes.into_iter().take(MAX_ROUTES).map(Entry::of).collect();
        // An IPv6 prefix may contain the form that IPv4 addresses are held in, but says nothing about them.
        entries.push(Entry::IPV4_NOWHERE);
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.mask), entry.bits, entry.metric()));
        entries.dedup_by_key(|entry| (entry.bits, entry.mask));
        let pieces = (entries.len() > FEW).then(|| Pieces::new(&entries));
        Self { entries: entries.into(), pieces }
    }

    /// The neighbor to send a datagram for `destination` to.
    #[inline]
    #[must_use]
    pub fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        self.lookup(destination).map(|route| route.gateway.unwrap_or(destination))
    }

    /// Whether an address is on the link.
    #[inline]
    #[must_use]
    pub fn is_connected(&self, address: IpAddress) -> bool {
        self.lookup(address).is_some_and(|route| route.gateway.is_none())
    }

    /// The route to `destination`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, destination: IpAddress) -> Option<&Route> {
        let bits = destination.to_bits();
        let entry = match &self.pieces {
            None => self.entries.iter().find(|entry| bits & entry.mask == entry.bits),
            Some(pieces) => self.entries.get(pieces.find(bits)? as usize),
        };
        entry?.route.as_ref()
    }

    /// The least MTU that a route has, if any has one.
    #[must_use]
    pub fn least_mtu(&self) -> Option<u16> {
        self.iter().filter_map(|route| route.mtu).min()
    }

    /// All routes, those with the longest prefixes first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.entries.iter().filter_map(|entry| entry.route.as_ref())
    }
}

impl Entry {
    /// What IPv4 addresses come to that no IPv4 route leads to.
    const IPV4_NOWHERE: Self = Self { bits: 0xffff << 32, mask: mask(V4_BITS), route: None };

    fn of(route: Route) -> Self {
        let address = IpAddress::from(route.destination.addr());
        let mask = mask(route.destination.prefix_len() + if address.is_v4() { V4_BITS } else { 0 });
        Self { bits: address.to_bits() & mask, mask, route: Some(route) }
    }

    /// None at all is worse than the worst.
    fn metric(&self) -> u64 {
        self.route.map_or(u64::MAX, |route| route.metric.into())
    }

    /// The last address that it is for.
    const fn end(&self) -> u128 {
        self.bits | !self.mask
    }
}

const fn mask(prefix_len: u8) -> u128 {
    if prefix_len == 0 { 0 } else { u128::MAX << (128 - prefix_len) }
}

impl Pieces {
    fn new(entries: &[Entry]) -> Self {
        let entry = |at: u32| &entries[at as usize];
        let mut cuts = Vec::with_capacity(2 * entries.len() + 1);
        cuts.push(Cut { start: 0, entry: NOWHERE });
        let mut walk: Vec<u32> = (0..entries.len() as u32).collect();
        // A longer mask is a greater number: where two start alike, the one that contains the other comes first.
        walk.sort_by_key(|&at| (entry(at).bits, entry(at).mask));
        // Those that the walk is within, the innermost last.
        let mut around: Vec<u32> = Vec::with_capacity(128);
        for next in walk.into_iter().map(Some).chain([None]) {
            while let Some(&at) = around.last()
                && next.is_none_or(|next| entry(at).end() < entry(next).bits)
            {
                around.pop();
                if let Some(start) = entry(at).end().checked_add(1) {
                    cuts.push(Cut { start, entry: around.last().copied().unwrap_or(NOWHERE) });
                }
            }
            if let Some(at) = next {
                cuts.push(Cut { start: entry(at).bits, entry: at });
                around.push(at);
            }
        }
        // Of several that start alike the last one is right: it is the innermost.
        cuts.reverse();
        cuts.dedup_by_key(|cut| cut.start);
        cuts.reverse();
        Self(cuts.into())
    }

    /// The entry that is the answer for an address. A call of its own, so that hosts with few routes need not carry it.
    #[inline(never)]
    fn find(&self, bits: u128) -> Option<u32> {
        let behind = self.0.partition_point(|cut| cut.start <= bits);
        self.0.get(behind.checked_sub(1)?).map(|cut| cut.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddress {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn via(destination: &str, gateway: &str) -> Route {
        Route::via(net(destination), ip(gateway))
    }

    /// Ways of a host with addresses of both families.
    fn dual() -> Routes {
        Routes::new(["10.0.0.2/24", "2001:db8::2/64"].map(net), &[ip("10.0.0.254"), ip("fe80::1")])
    }

    #[test]
    fn neighbors_are_reached_directly_and_others_through_their_familys_gateway() {
        let routes = dual();
        let cases = [
            ("10.0.0.9", "10.0.0.9"),
            ("10.0.1.9", "10.0.0.254"),
            ("2001:db8::9", "2001:db8::9"),
            ("2001:db8:0:1::9", "fe80::1"),
        ];
        for (destination, next_hop) in cases {
            assert_eq!(routes.next_hop(ip(destination)), Some(ip(next_hop)), "{destination}");
            assert_eq!(routes.is_connected(ip(destination)), destination == next_hop, "{destination}");
        }
    }

    #[test]
    fn without_a_gateway_there_is_no_way_off_the_link() {
        let routes = Routes::new(["10.0.0.2/32", "2001:db8::2/128"].map(net), &[]);
        assert_eq!(["10.0.0.3", "2001:db8::3"].map(|to| routes.next_hop(ip(to))), [None, None]);
    }

    #[test]
    fn a_gateway_of_one_family_is_no_way_for_the_other() {
        let routes = Routes::new([net("2001:db8::2/64")], &[ip("2001:db8::1")]);
        assert_eq!(routes.next_hop(ip("10.0.0.1")), None, "::/0 contains ::ffff:10.0.0.1");
        assert_eq!(routes.next_hop(ip("2001:db9::1")), Some(ip("2001:db8::1")));
        let routes = Routes::new([net("10.0.0.2/24")], &[ip("10.0.0.1")]);
        assert_eq!(routes.next_hop(ip("2001:db9::1")), None);
    }

    #[test]
    fn link_local_addresses_are_on_the_link_of_a_host_that_has_one() {
        assert_eq!(dual().next_hop(ip("fe80::7")), Some(ip("fe80::1")), "as anything else");
        let routes = Routes::new([net("fe80::2/64")], &[]);
        assert!(routes.is_connected(ip("fe80::7")) && routes.is_connected(ip("febf::7")));
        assert_eq!(routes.next_hop(ip("fec0::7")), None);
    }

    #[test]
    fn the_longest_prefix_wins_and_of_equal_ones_the_lowest_metric() {
        let with_metric = |route: Route, metric| Route { metric, ..route };
        let routes = dual().with(vec![
            via("192.0.2.0/24", "10.0.0.1"),
            via("192.0.2.128/25", "10.0.0.2"),
            with_metric(via("198.51.100.0/24", "10.0.0.3"), 20),
            with_metric(via("198.51.100.0/24", "10.0.0.4"), 10),
            with_metric(via("198.51.100.0/24", "10.0.0.5"), 10),
        ]);
        for (destination, gateway) in
            [("192.0.2.1", "10.0.0.1"), ("192.0.2.200", "10.0.0.2"), ("198.51.100.1", "10.0.0.4")]
        {
            assert_eq!(routes.next_hop(ip(destination)), Some(ip(gateway)), "{destination}");
        }
    }

    #[test]
    fn a_destination_has_the_mtu_of_its_route_alone() {
        let narrow = Route { mtu: Some(1400), ..via("192.0.2.0/24", "10.0.0.1") };
        let narrower = Route { mtu: Some(1300), ..via("192.0.2.128/25", "10.0.0.1") };
        let routes = dual().with(vec![narrow, narrower]);
        let mtu = |to: &str| routes.lookup(ip(to)).and_then(|route| route.mtu);
        assert_eq!(["192.0.2.7", "192.0.2.200", "10.0.0.9"].map(mtu), [Some(1400), Some(1300), None]);
        assert_eq!((routes.least_mtu(), dual().least_mtu()), (Some(1300), None));
    }

    #[test]
    fn a_table_is_full_at_its_limit_and_keeps_what_was_there_first() {
        let many = (0..MAX_ROUTES as u32 + 10).map(|n| {
            let destination = ipnet::Ipv4Net::new(n.wrapping_shl(8).into(), 24).unwrap();
            Route::via(destination.into(), ip("10.0.0.1"))
        });
        let routes = dual().with(many.collect());
        assert_eq!(routes.iter().count(), MAX_ROUTES);
        assert!(routes.is_connected(ip("10.0.0.9")));
    }

    /// What a table must answer, found the slow way.
    fn expected(routes: &[Route], destination: IpAddress) -> Option<IpAddress> {
        let address = std::net::IpAddr::from(destination);
        let fitting = routes.iter().filter(|route| route.destination.contains(&address));
        // The first of the best ones, as `max_by_key` would give the last.
        let best = fitting.rev().max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric)));
        best.map(|route| route.gateway.unwrap_or(destination))
    }

    #[test]
    fn few_and_many_routes_answer_as_a_search_through_all_does() {
        // SplitMix64, as elsewhere.
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        for count in [0, 1, 2, 5, 7, 8, 9, 20, 100, 1000] {
            for _ in 0..20 {
                // All within a few bits, at the ends of each family too, so that they nest, meet and repeat.
                let mut address = || {
                    let bits = random() as u32 & 0x0103_0107 | if random() % 4 == 0 { 0xfe00_0000 } else { 0 };
                    let wide = u128::from(bits) << (random() % 2 * 96)
                        | if bits.is_multiple_of(5) { u128::MAX << 99 } else { 0 };
                    match random() % 2 {
                        0 => std::net::IpAddr::V4(bits.into()),
                        _ => std::net::IpAddr::V6(wide.into()),
                    }
                };
                let mut addresses: Vec<_> = (0..200).map(|_| address()).collect();
                let routes: Vec<_> = (0..count)
                    .map(|n: u32| {
                        let destination = address();
                        let most = if destination.is_ipv4() { 32 } else { 128 };
                        let len = (n.wrapping_mul(2_654_435_761) >> 8) as u8 % (most + 1);
                        let gateway = std::net::Ipv4Addr::from(n).into();
                        Route { metric: n % 3, ..Route::via(IpNet::new(destination, len).unwrap(), gateway) }
                    })
                    .collect();
                addresses.extend(routes.iter().flat_map(|r| [r.destination.network(), r.destination.broadcast()]));
                let table = Routes::new([], &[]).with(routes.clone());
                for address in addresses {
                    let to = IpAddress::from(address);
                    // Such an address is never in an IPv6 header.
                    if address.is_ipv4() == to.is_v4() {
                        assert_eq!(table.next_hop(to), expected(&routes, to), "{to} among {count}");
                    }
                }
            }
        }
    }
}
