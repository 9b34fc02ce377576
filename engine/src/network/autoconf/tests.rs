//! Routers' advertisements, with virtual time.

use super::*;
use crate::wire::ip::IpAddress;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn new(slaac: Slaac) -> Autoconf {
    with_keys(slaac, MAC, [1, 2], [3, 4])
}

fn with_keys(slaac: Slaac, mac: Mac, stable_key: [u64; 2], secret: [u64; 2]) -> Autoconf {
    let config = AutoconfConfig { routes: true, slaac, stable_key };
    Autoconf::new(config, mac, 1500, secret, true, Instant::ZERO)
}

fn prefix(text: &str, valid_s: u32, preferred_s: u32) -> PrefixInformation {
    let net: Ipv6Net = text.parse().unwrap();
    let (prefix, len) = (net.network(), net.prefix_len());
    PrefixInformation { prefix, len, on_link: true, autonomous: true, valid_s, preferred_s }
}

fn advertisement(lifetime_s: u16, prefixes: &[PrefixInformation]) -> RouterAdvertisement {
    RouterAdvertisement {
        hop_limit: 64,
        managed: false,
        other: false,
        lifetime_s,
        reachable_ms: 0,
        retransmit_ms: 0,
        source_mac: None,
        mtu: None,
        prefixes: prefixes.iter().copied().collect(),
    }
}

fn changes(autoconf: &mut Autoconf, now: Instant) -> Vec<Change> {
    autoconf.due(now);
    std::iter::from_fn(|| autoconf.next_change()).collect()
}

fn added(changes: &[Change]) -> Vec<(Ipv6Net, bool)> {
    let added = changes.iter().filter_map(|change| match *change {
        Change::Add { address, temporary } => Some((address, temporary)),
        _ => None,
    });
    added.collect()
}

/// The lasting address of 2001:db8::/64 after one advertisement.
fn one(autoconf: &mut Autoconf, valid_s: u32, preferred_s: u32) -> Ipv6Addr {
    autoconf.receive(&advertisement(1800, &[prefix("2001:db8::/64", valid_s, preferred_s)]), ROUTER, at(0));
    added(&changes(autoconf, at(0)))[0].0.addr()
}

#[test]
fn routers_are_asked_three_times_unless_one_shows_itself() {
    let asked = |answered_after: usize| {
        let mut autoconf = new(Slaac::Off);
        let mut times = Vec::new();
        while let Some(now) = autoconf.next_deadline().filter(|_| times.len() < 9) {
            if autoconf.due(now) {
                times.push(now);
            }
            if times.len() == answered_after {
                autoconf.receive(&advertisement(0, &[]), ROUTER, now);
                autoconf.receive(&advertisement(9000, &[]), ROUTER, now);
                break;
            }
        }
        (times, autoconf.next_deadline())
    };
    let (times, _) = asked(9);
    assert!(times[0] <= at(1));
    assert_eq!(times, [0, 4, 8].map(|later| times[0] + Duration::from_secs(later)));
    let (times, next) = asked(1);
    assert_eq!(
        (times.len(), next),
        (1, Some(times[0] + Duration::from_secs(9000))),
        "the router's end and no question"
    );
}

#[test]
fn a_router_is_a_way_out_for_as_long_as_it_says() {
    let mut autoconf = new(Slaac::Off);
    let to_all = |autoconf: &Autoconf| autoconf.routes().iter().filter(|route| route.gateway.is_some()).count();
    autoconf.receive(&advertisement(1800, &[]), ROUTER, at(0));
    assert!(autoconf.routes_changed() && !autoconf.routes_changed());
    assert_eq!(autoconf.routes()[0].gateway, Some(ROUTER.into()));
    autoconf.receive(&advertisement(1800, &[]), ROUTER, at(1000));
    assert!(!autoconf.routes_changed(), "the same for longer");
    autoconf.due(at(2799));
    assert_eq!(to_all(&autoconf), 1);
    autoconf.due(at(2800));
    assert!(autoconf.routes_changed() && to_all(&autoconf) == 0);
    autoconf.receive(&advertisement(1800, &[]), ROUTER, at(3000));
    autoconf.receive(&advertisement(0, &[]), ROUTER, at(3000));
    assert_eq!(to_all(&autoconf), 0, "it resigns");
}

/// Routers of a link, of which the first `count` have shown themselves.
fn with_routers(count: u16) -> (Autoconf, impl Fn(u16) -> Ipv6Addr) {
    let router = |n| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
    let mut autoconf = new(Slaac::Off);
    (0..count).for_each(|n| autoconf.receive(&advertisement(1800, &[]), router(n), at(0)));
    (autoconf, router)
}

fn used(autoconf: &mut Autoconf, known: &[Ipv6Addr]) -> Option<Ipv6Addr> {
    autoconf.choose_router(|router| known.contains(&router));
    let first = autoconf.routes().into_iter().find_map(|route| route.gateway);
    first.and_then(IpAddress::to_v6)
}

#[test]
fn a_router_that_is_reachable_is_preferred_and_kept() {
    let (mut autoconf, router) = with_routers(3);
    assert_eq!(used(&mut autoconf, &[router(1), router(2)]), Some(router(1)), "the first of those that are");
    assert!(autoconf.routes_changed());
    autoconf.receive(&advertisement(1800, &[]), router(3), at(1));
    assert_eq!(used(&mut autoconf, &[router(0), router(1)]), Some(router(1)));
    autoconf.lost(router(2));
    autoconf.lost(router(9));
    assert_eq!(used(&mut autoconf, &[router(0)]), Some(router(1)), "another one is lost");
    autoconf.lost(router(1));
    assert_eq!(used(&mut autoconf, &[router(0)]), Some(router(0)));
    assert_eq!(autoconf.routes().len(), 4, "the others are still there");
}

#[test]
fn of_routers_none_of_which_is_reachable_each_has_its_turn() {
    let (mut autoconf, router) = with_routers(3);
    for turn in 0..7 {
        let used = used(&mut autoconf, &[]).unwrap();
        assert_eq!(used, router(turn % 3));
        assert!(autoconf.routes_changed());
        autoconf.lost(used);
    }
    let (mut autoconf, router) = with_routers(1);
    for _ in 0..3 {
        assert_eq!(used(&mut autoconf, &[]), Some(router(0)), "there is no other");
        autoconf.lost(router(0));
    }
}

#[test]
fn when_the_router_in_use_resigns_or_ends_another_one_is_used() {
    let (mut autoconf, router) = with_routers(2);
    assert_eq!(used(&mut autoconf, &[router(0)]), Some(router(0)));
    autoconf.receive(&advertisement(0, &[]), router(0), at(1));
    assert_eq!(used(&mut autoconf, &[router(0)]), Some(router(1)));
    autoconf.receive(&advertisement(9000, &[]), router(2), at(1));
    autoconf.due(at(1800));
    assert_eq!(used(&mut autoconf, &[]), Some(router(2)));
    autoconf.due(at(9001));
    assert_eq!(used(&mut autoconf, &[]), None);
}

#[test]
fn parameters_are_what_a_router_said_last_unless_it_left_them_open() {
    let mut autoconf = new(Slaac::Off);
    let told = |hop_limit, retransmit_ms| RouterAdvertisement { hop_limit, retransmit_ms, ..advertisement(0, &[]) };
    let heard = |autoconf: &Autoconf| (autoconf.hop_limit(), autoconf.retransmit_time().map(|time| time.as_millis()));
    autoconf.receive(&told(0, 0), ROUTER, at(0));
    assert_eq!(heard(&autoconf), (None, None));
    autoconf.receive(&told(15, 5000), ROUTER, at(0));
    assert_eq!(heard(&autoconf), (Some(15), Some(5000)));
    autoconf.receive(&told(0, 0), ROUTER, at(0));
    assert_eq!(heard(&autoconf), (Some(15), Some(5000)));
    for unbelievable in [1, 9, 10_001, u32::MAX] {
        autoconf.receive(&told(255, unbelievable), ROUTER, at(0));
        assert_eq!(heard(&autoconf), (Some(255), Some(5000)), "{unbelievable}");
    }
}

#[test]
fn prefixes_on_the_link_need_no_router() {
    let mut autoconf = new(Slaac::Off);
    let not_on_link = PrefixInformation { on_link: false, ..prefix("2001:db8:2::/64", 100, 100) };
    let link_local = prefix("fe80::/64", 100, 100);
    autoconf.receive(&advertisement(0, &[prefix("2001:db8:1::/56", 100, 50), not_on_link, link_local]), ROUTER, at(0));
    let expected = Route { metric: METRIC, ..Route::connected("2001:db8:1::/56".parse().unwrap()) };
    assert_eq!(autoconf.routes(), [expected]);
    autoconf.receive(&advertisement(0, &[prefix("2001:db8:1::/56", 0, 0)]), ROUTER, at(1));
    assert_eq!(autoconf.routes(), []);
    assert_eq!(changes(&mut autoconf, at(1)), [], "no addresses unless they are asked for");
}

#[test]
fn the_mtu_is_believed_between_the_least_and_the_links() {
    for (mtu, expected) in [(1279, None), (1280, Some(1280)), (1500, Some(1500)), (1501, None), (65_536 + 1400, None)] {
        let mut autoconf = new(Slaac::Off);
        let told = RouterAdvertisement { mtu: Some(mtu), ..advertisement(1800, &[]) };
        autoconf.receive(&told, ROUTER, at(0));
        assert_eq!(autoconf.mtu(), expected, "{mtu}");
    }
}

#[test]
fn an_address_stays_the_same_on_its_link_and_tells_nothing_elsewhere() {
    let address = |mac, key, secret| one(&mut with_keys(Slaac::Stable, mac, key, secret), 3600, 1800);
    let first = address(MAC, [1, 2], [3, 4]);
    assert_eq!(first, address(MAC, [1, 2], [5, 6]), "after a new start");
    assert_eq!(first.to_bits() >> 64, 0x2001_0db8_0000_0000);
    assert_ne!(first, address(Mac([2, 0, 0, 0, 0, 3]), [1, 2], [3, 4]));
    assert_ne!(first, address(MAC, [1, 3], [3, 4]));
    let mut autoconf = new(Slaac::Stable);
    autoconf.receive(&advertisement(0, &[prefix("2001:db8:9::/64", 3600, 1800)]), ROUTER, at(0));
    let other = added(&changes(&mut autoconf, at(0)))[0].0.addr();
    assert_ne!(first.to_bits() as u64, other.to_bits() as u64, "on another link");
}

#[test]
fn not_every_prefix_makes_an_address() {
    let good = prefix("2001:db8::/64", 3600, 1800);
    for bad in [
        PrefixInformation { autonomous: false, ..good },
        PrefixInformation { preferred_s: 3601, ..good },
        PrefixInformation { valid_s: 0, preferred_s: 0, ..good },
        prefix("2001:db8::/56", 3600, 1800),
        prefix("fe80::/64", 3600, 1800),
    ] {
        let mut autoconf = new(Slaac::Stable);
        autoconf.receive(&advertisement(1800, &[bad]), ROUTER, at(0));
        assert_eq!(changes(&mut autoconf, at(0)), [], "{bad:?}");
    }
}

#[test]
fn an_address_is_deprecated_and_then_gone() {
    let mut autoconf = new(Slaac::Stable);
    let address = one(&mut autoconf, 3600, 1800);
    assert_eq!(changes(&mut autoconf, at(1799)), []);
    assert_eq!(changes(&mut autoconf, at(1800)), [Change::Deprecate(address, true)]);
    autoconf.receive(&advertisement(1800, &[prefix("2001:db8::/64", 3600, 1800)]), ROUTER, at(2000));
    assert_eq!(changes(&mut autoconf, at(2000)), [Change::Deprecate(address, false)], "preferred again");
    assert_eq!(changes(&mut autoconf, at(5600)), [Change::Remove(address)]);
    assert!(!autoconf.owns(address));
}

/// RFC 4862, section 5.5.3 (e).
#[test]
fn nobody_can_end_an_address_within_two_hours() {
    let mut autoconf = new(Slaac::Stable);
    let address = one(&mut autoconf, 86_400, 1800);
    autoconf.receive(&advertisement(0, &[prefix("2001:db8::/64", 0, 0)]), ROUTER, at(10));
    assert_eq!(changes(&mut autoconf, at(10)), [Change::Deprecate(address, true)], "at once");
    autoconf.receive(&advertisement(0, &[prefix("2001:db8::/64", 5, 0)]), ROUTER, at(3600));
    assert_eq!(changes(&mut autoconf, at(10 + 2 * HOUR - 1)), []);
    assert_eq!(changes(&mut autoconf, at(10 + 2 * HOUR)), [Change::Remove(address)]);
    let mut short = new(Slaac::Stable);
    let address = one(&mut short, 100, 50);
    short.receive(&advertisement(0, &[prefix("2001:db8::/64", 200, 50)]), ROUTER, at(10));
    assert_eq!(changes(&mut short, at(209)), [Change::Deprecate(address, true)], "longer is always believed");
    assert_eq!(changes(&mut short, at(210)), [Change::Remove(address)]);
}

#[test]
fn an_address_for_ever_lasts() {
    let mut autoconf = new(Slaac::Stable);
    one(&mut autoconf, u32::MAX, u32::MAX);
    assert_eq!(changes(&mut autoconf, at(1_000_000_000)), []);
    assert_eq!(autoconf.next_deadline(), None);
}

#[test]
fn an_address_that_is_taken_gives_way_to_another_a_few_times() {
    let mut autoconf = new(Slaac::Stable);
    let mut address = one(&mut autoconf, 3600, 1800);
    for retry in 1..=IDENTIFIER_RETRIES {
        autoconf.taken(address, at(1));
        let changes = changes(&mut autoconf, at(1));
        assert!(changes.contains(&Change::Remove(address)), "{changes:?}");
        let next = added(&changes);
        assert_eq!(next.len(), usize::from(retry < IDENTIFIER_RETRIES), "{retry}");
        address = next.first().map_or(address, |(next, _)| next.addr());
    }
    autoconf.taken(address, at(2));
    assert_eq!(changes(&mut autoconf, at(2)), []);
}

#[test]
fn a_temporary_address_lasts_for_a_day_and_its_successor_comes_before_that() {
    let mut autoconf = new(Slaac::Temporary);
    let always = advertisement(1800, &[prefix("2001:db8::/64", u32::MAX, u32::MAX)]);
    autoconf.receive(&always, ROUTER, at(0));
    let both = added(&changes(&mut autoconf, at(0)));
    assert_eq!(both.iter().map(|(_, temporary)| *temporary).collect::<Vec<_>>(), [false, true]);
    let first = both[1].0.addr();
    let mut told = Vec::new();
    while let Some(now) = autoconf.next_deadline().filter(|&next| next < at(3 * DAY)) {
        autoconf.receive(&always, ROUTER, now);
        told.extend(changes(&mut autoconf, now).into_iter().map(|change| (now.as_ns() / 1_000_000_000, change)));
    }
    let of_first = told.iter().filter(|(_, change)| match change {
        Change::Deprecate(address, _) | Change::Remove(address) => *address == first,
        Change::Add { .. } => false,
    });
    let of_first: Vec<_> = of_first.collect();
    let [(deprecated, Change::Deprecate(_, true)), (removed, Change::Remove(_))] = of_first[..] else {
        panic!("{told:?}")
    };
    assert!((DAY * 6 / 10..=DAY).contains(deprecated), "{deprecated}");
    assert_eq!(*removed, 2 * DAY, "RFC 8981, section 3.4: no longer, whatever routers say");
    let next = told.iter().find(|(_, change)| matches!(change, Change::Add { temporary: true, .. })).unwrap();
    assert_eq!(next.0, deprecated - 5);
    assert!(autoconf.addresses.len() <= 4, "{:?}", autoconf.addresses);
}

#[test]
fn temporary_addresses_differ_from_start_to_start_and_not_from_worker_to_worker() {
    let temporary = |secret| {
        let mut autoconf = with_keys(Slaac::Temporary, MAC, [1, 2], secret);
        autoconf.receive(&advertisement(0, &[prefix("2001:db8::/64", 3600, 1800)]), ROUTER, at(0));
        added(&changes(&mut autoconf, at(0)))[1].0
    };
    assert_eq!(temporary([3, 4]), temporary([3, 4]));
    assert_ne!(temporary([3, 4]), temporary([3, 5]));
}

#[test]
fn a_prefix_that_is_hardly_preferred_makes_no_temporary_address() {
    let mut autoconf = new(Slaac::Temporary);
    autoconf.receive(&advertisement(0, &[prefix("2001:db8::/64", 3600, 5)]), ROUTER, at(0));
    assert_eq!(added(&changes(&mut autoconf, at(0))).len(), 1);
}

#[test]
fn made_up_advertisements_fill_no_more_than_the_tables() {
    let mut autoconf = new(Slaac::Temporary);
    for n in 0..1000_u16 {
        let net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64);
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
        autoconf.receive(&advertisement(1800, &[prefix(&net.to_string(), 3600, 1800)]), router, at(0));
        changes(&mut autoconf, at(0));
    }
    assert_eq!(autoconf.routes().len(), MAX_ROUTERS + MAX_PREFIXES);
    assert_eq!(autoconf.addresses.len(), 2 * MAX_PREFIXES);
    assert_eq!(changes(&mut autoconf, at(3600)).len(), 2 * MAX_PREFIXES, "all of them end");
    assert!(autoconf.addresses.is_empty() && autoconf.prefixes.is_empty());
}
