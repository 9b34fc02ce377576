//! Routers' advertisements in the stack: addresses that come, are probed, answer, and go.

use std::net::Ipv6Addr;

use super::groups::{ROUTER_V6, v6};
use super::*;
use crate::network::autoconf::AutoconfConfig;
use crate::wire::{icmpv6, ndp};

/// 2001:db8::/64 as an option, on the link and for addresses, valid and preferred for so many seconds.
fn prefix(valid_s: u32, preferred_s: u32) -> Vec<u8> {
    let network: Ipv6Addr = "2001:db8::".parse().unwrap();
    let lifetimes = [valid_s.to_be_bytes(), preferred_s.to_be_bytes(), [0; 4]];
    [&[3, 4, 64, 0xc0][..], lifetimes.as_flattened(), &network.octets()].concat()
}

/// A frame with an advertisement of a router for half an hour.
fn advertisement(options: &[u8]) -> Vec<u8> {
    advertisement_of(ROUTER_V6, 64, 0, options)
}

/// The same of any router, with a hop limit and a time between solicitations.
fn advertisement_of(router: Ipv6Addr, hop_limit: u8, retransmit_ms: u32, options: &[u8]) -> Vec<u8> {
    let header = [icmpv6::ROUTER_ADVERTISEMENT, 0, 0, 0, hop_limit, 0, 7, 8, 0, 0, 0, 0];
    let mut message = [&header[..], &retransmit_ms.to_be_bytes(), options].concat();
    icmpv6::set_checksum(&mut message, router, ndp::ALL_NODES);
    let mut frame = v6(ndp::ALL_NODES, ndp::HOP_LIMIT, wire::ipv6::ICMPV6, &message);
    frame[ethernet::LEN + 8..ethernet::LEN + 24].copy_from_slice(&router.octets());
    frame
}

fn slaac(probing: Probing) -> StackConfig {
    let autoconf = Some(AutoconfConfig { routes: true, slaac: Slaac::Stable, stable_key: [5, 6] });
    let neighbors = NeighborConfig { fixed: vec![(ROUTER_V6.into(), PEER_MAC)], ..NeighborConfig::default() };
    StackConfig { addresses: vec!["fe80::2/64".parse().unwrap()], probing, neighbors, autoconf, ..config() }
}

impl<A: App> Host<A> {
    /// What is sent until so many milliseconds later, IPv6 alone, with whom it is to.
    fn wait(&mut self, ms: u64) -> Vec<(Ipv6Addr, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..ms / 10 {
            self.now += Duration::from_millis(10);
            for (_, frame) in self.turn(&[]) {
                let packet = wire::ipv6::Packet::parse(&frame[ethernet::LEN..]).unwrap();
                sent.push((packet.destination(), packet.from(wire::ipv6::walk(&packet).unwrap().at).to_vec()));
            }
        }
        sent
    }

    fn address_news(&mut self) -> Vec<(Ipv6Addr, AddressNews)> {
        let events = std::iter::from_fn(|| self.stack.next_event());
        let news = events.filter_map(|event| match event {
            Event::Address(address, news) => Some((address.to_v6().unwrap(), news)),
            _ => None,
        });
        news.collect()
    }

    /// An echo request of the router to `address`: how many answers there are.
    fn ping(&mut self, address: Ipv6Addr) -> usize {
        let mut request = [icmpv6::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 1];
        icmpv6::set_checksum(&mut request, ROUTER_V6, address);
        let mut frame = v6(address, 64, wire::ipv6::ICMPV6, &request);
        frame[..6].copy_from_slice(&OUR_MAC.0);
        let is_reply = |frame: &Vec<u8>| frame.get(54) == Some(&icmpv6::ECHO_REPLY);
        self.answers(&frame).iter().filter(|frame| is_reply(frame)).count()
    }
}

#[test]
fn an_address_of_a_routers_prefix_is_probed_and_then_answers() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    host.turn(&[&advertisement(&prefix(7200, 3600))]);
    let [(address, AddressNews::Probed)] = host.address_news()[..] else { panic!() };
    assert_eq!((address.to_bits() >> 64, host.ping(address)), (0x2001_0db8_0000_0000, 0), "not ours yet");
    let sent = host.wait(400);
    let probes = sent
        .iter()
        .filter(|(to, message)| *to == ndp::solicited_node(address) && message[0] == icmpv6::NEIGHBOR_SOLICITATION);
    assert_eq!(probes.count(), 2, "and the first one with the router's advertisement");
    assert_eq!((host.address_news(), host.ping(address)), (vec![(address, AddressNews::Settled)], 1));
    host.now += Duration::from_secs(7200);
    host.turn(&[]);
    assert_eq!((host.address_news(), host.ping(address)), (vec![(address, AddressNews::Lost)], 0));
}

#[test]
fn a_router_is_the_way_out_once_the_routes_are_settled() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    let away = IpAddress::v6("2001:db8:9::1".parse().unwrap());
    host.turn(&[&advertisement(&prefix(7200, 3600))]);
    assert_eq!(host.stack.egress.routes.next_hop(away), None);
    host.stack.settle_routes();
    assert_eq!(host.stack.egress.routes.next_hop(away), Some(ROUTER_V6.into()));
    let near = IpAddress::v6("2001:db8::1".parse().unwrap());
    assert_eq!(host.stack.egress.routes.next_hop(near), Some(near));
    host.stack.set_routes(Routes::new([], &[]));
    assert_eq!(host.stack.egress.routes.next_hop(away), Some(ROUTER_V6.into()), "beside other routes too");
    host.now += Duration::from_secs(1800);
    host.turn(&[]);
    host.stack.settle_routes();
    assert_eq!(host.stack.egress.routes.next_hop(away), None);
}

#[test]
fn routers_are_asked_from_our_own_address() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    let asked = host.wait(20_000);
    let questions: Vec<_> = asked.iter().filter(|(_, message)| message[0] == icmpv6::ROUTER_SOLICITATION).collect();
    assert_eq!(questions.len(), 3);
    assert!(questions.iter().all(|(to, message)| *to == ndp::ALL_ROUTERS && message[8..] == [1, 1, 2, 0, 0, 0, 0, 2]));
}

#[test]
fn advertisements_are_ignored_unless_they_are_asked_for() {
    let mut host = Host::new(&StackConfig { autoconf: None, ..slaac(Probing::Off) }, Echo);
    host.turn(&[&advertisement(&prefix(7200, 3600))]);
    assert_eq!((host.dropped(DropReason::NdpIgnored), host.address_news()), (1, vec![]));
    assert!(host.wait(10_000).is_empty());
}

#[test]
fn an_address_that_another_host_has_is_replaced_and_nobody_dies() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    host.turn(&[&advertisement(&prefix(7200, 3600))]);
    let first = host.address_news()[0].0;
    let mut claim = [&[icmpv6::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0][..], &first.octets()].concat();
    icmpv6::set_checksum(&mut claim, ROUTER_V6, ndp::ALL_NODES);
    host.turn(&[&v6(ndp::ALL_NODES, ndp::HOP_LIMIT, wire::ipv6::ICMPV6, &claim)]);
    let news = host.address_news();
    let [(_, AddressNews::Taken), (lost, AddressNews::Lost), (second, AddressNews::Probed)] = news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(lost, first);
    host.wait(400);
    assert_eq!((host.ping(first), host.ping(second)), (0, 1));
}

#[test]
fn a_deprecated_address_answers_but_is_not_chosen() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    host.turn(&[&advertisement(&prefix(7200, 60))]);
    host.wait(400);
    let address = host.address_news()[0].0;
    let away = IpAddress::v6("2001:db8:9::1".parse().unwrap());
    assert_eq!(host.stack.egress.source_for(away), Some(address.into()));
    let other = "2001:db8:7::2/64".parse().unwrap();
    host.stack.egress.addresses.gain(other, false, Probing::Off, host.now);
    assert_eq!(host.stack.egress.source_for(away), Some(address.into()), "the first of equals");
    host.now += Duration::from_secs(60);
    host.turn(&[]);
    assert_eq!(host.stack.egress.source_for(away), Some(other.addr().into()));
    assert_eq!(host.ping(address), 1);
}

#[test]
fn the_other_workers_come_to_the_same_and_wait_for_the_leaders_word() {
    let host = |probing| Host::new(&StackConfig { neighbors: NeighborConfig::default(), ..slaac(probing) }, Echo);
    let (mut leader, mut follower) = (host(Probing::Off), host(Probing::Follow));
    let mac = [1, 1, 2, 0, 0, 0, 1, 1];
    leader.turn(&[&advertisement_of(ROUTER_V6, 33, 0, &[&prefix(7200, 3600)[..], &mac].concat())]);
    let events: Vec<_> = std::iter::from_fn(|| leader.stack.next_event()).collect();
    let told = events.iter().find_map(|event| match event {
        Event::Router(source, told) => Some((*source, told.clone())),
        _ => None,
    });
    let (source, told) = told.unwrap();
    follower.stack.settle_addresses();
    follower.stack.hear_of_router(&told, source, follower.now);
    follower.wait(1000);
    leader.wait(1000);
    let learnt = |host: &mut Host<Echo>| {
        let egress = &mut host.stack.egress;
        (egress.neighbors.resolve(ROUTER_V6.into(), host.now), egress.hop_limits.v6)
    };
    assert_eq!([learnt(&mut leader), learnt(&mut follower)], [(Some(Mac([2, 0, 0, 0, 1, 1])), 33); 2]);
    let address = leader.address_news()[0].0;
    assert_eq!((leader.ping(address), follower.ping(address)), (1, 0));
    follower.stack.hear_of_address(address.into(), AddressNews::Settled, follower.now);
    assert_eq!((follower.ping(address), follower.address_news()), (1, vec![]));
}

#[test]
fn a_routers_mtu_is_the_links() {
    let mut host = Host::new(&slaac(Probing::Off), Echo);
    host.turn(&[&advertisement(&[5, 1, 0, 0, 0, 0, 5, 20])]);
    assert_eq!(host.stack.egress.paths.link(), 1300);
    host.turn(&[&advertisement(&[5, 1, 0, 0, 0, 0, 4, 0])]);
    assert_eq!(host.stack.egress.paths.link(), 1300, "less than every link of IPv6 has");
}

#[test]
fn packets_of_ipv6_take_as_many_hops_as_a_router_says_unless_that_is_configured() {
    let hops = |given: Option<u8>| {
        let marking = Marking { hop_limit: given, dscp: None };
        let mut host = Host::new(&StackConfig { marking, ..slaac(Probing::Off) }, Echo);
        host.turn(&[&advertisement_of(ROUTER_V6, 15, 0, &[])]);
        host.turn(&[&advertisement_of(ROUTER_V6, 0, 0, &[])]);
        let ours: Ipv6Addr = "fe80::2".parse().unwrap();
        let mut request = [icmpv6::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 1];
        icmpv6::set_checksum(&mut request, ROUTER_V6, ours);
        let mut frame = v6(ours, 64, wire::ipv6::ICMPV6, &request);
        frame[..6].copy_from_slice(&OUR_MAC.0);
        let answer = host.answers(&frame).pop().unwrap();
        let Egress { hop_limits, tcp_hop_limits, .. } = &host.stack.egress;
        assert_eq!((answer[ethernet::LEN + 7], hop_limits.v4), (hop_limits.v6, given.unwrap_or(64)));
        (hop_limits.v6, tcp_hop_limits.v6)
    };
    assert_eq!([None, Some(9)].map(hops), [(15, 15), (9, 9)]);
}

/// MAC addresses of routers, by the last byte of their addresses.
fn router(n: u8) -> (Ipv6Addr, [u8; 6]) {
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into()), [2, 0, 0, 0, 1, n])
}

#[test]
fn when_a_router_does_not_answer_any_more_packets_go_by_another_one() {
    let autoconf = slaac(Probing::Off);
    let mut host = Host::new(&StackConfig { neighbors: NeighborConfig::default(), ..autoconf }, Echo);
    for n in [1, 3] {
        let (address, mac) = router(n);
        let option = [&[1, 1][..], &mac].concat();
        host.turn(&[&advertisement_of(address, 64, 500, &option)]);
    }
    host.stack.settle_routes();
    let away: Ipv6Addr = "2001:db8:9::1".parse().unwrap();
    let ours: Ipv6Addr = "fe80::2".parse().unwrap();
    let mut request = [icmpv6::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 1];
    icmpv6::set_checksum(&mut request, away, ours);
    let mut ping = v6(ours, 64, wire::ipv6::ICMPV6, &request);
    ping[..6].copy_from_slice(&OUR_MAC.0);
    ping[ethernet::LEN + 8..ethernet::LEN + 24].copy_from_slice(&away.octets());

    let (first, second) = (router(1).1, router(3).1);
    let (mut probes, mut switched) = (Vec::new(), None);
    for ms in (0..12_000_u64).step_by(50) {
        host.now += Duration::from_millis(50);
        for (_, frame) in host.turn(&[&ping]) {
            let kind = frame[ethernet::LEN + wire::ipv6::LEN];
            let to: [u8; 6] = frame[..6].try_into().unwrap();
            match kind {
                icmpv6::NEIGHBOR_SOLICITATION if to == first => probes.push(ms),
                icmpv6::ECHO_REPLY if to == second => _ = switched.get_or_insert(ms),
                icmpv6::ECHO_REPLY => assert_eq!((to, switched), (first, None)),
                _ => {}
            }
        }
        host.stack.settle_routes();
    }
    // RFC 4861: DELAY_FIRST_PROBE_TIME of 5 s, then three probes, as far apart as the routers say.
    let began = probes[0];
    assert_eq!(probes, [0, 500, 1_000].map(|later| began + later));
    assert!(switched.is_some_and(|at| at <= began + 1_600), "{switched:?} after {began}");
}

#[test]
fn addresses_are_made_with_the_mac_address_that_the_interface_has_by_then() {
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x77]);
    let made = |from: Mac, then: Mac| {
        let mut host = Host::new(&StackConfig { mac: from, ..slaac(Probing::Off) }, Echo);
        host.stack.set_mac(then);
        host.turn(&[&advertisement(&prefix(7200, 3600))]);
        let [(address, AddressNews::Probed)] = host.address_news()[..] else { panic!() };
        address
    };
    assert_eq!(made(OUR_MAC, OTHER), made(OTHER, OTHER));
    assert_ne!(made(OUR_MAC, OUR_MAC), made(OTHER, OTHER));
}
