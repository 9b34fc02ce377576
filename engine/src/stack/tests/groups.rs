//! Groups and broadcasts: what is delivered, what is answered, and what routers are told.

use std::net::Ipv6Addr;

use super::*;
use crate::app::JoinError;
use crate::wire::{icmpv6, igmp, mld, ndp};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 7);
pub(super) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

fn joined() -> StackConfig {
    let addresses = vec!["10.0.0.2/24".parse().unwrap(), "fe80::2/64".parse().unwrap()];
    let fixed = vec![(PEER.into(), PEER_MAC), (ROUTER_V6.into(), PEER_MAC)];
    let neighbors = NeighborConfig { fixed, ..NeighborConfig::default() };
    StackConfig { addresses, neighbors, groups: vec![GROUP.into(), GROUP_V6.into()], ..config() }
}

/// Answers every datagram, and counts those to groups.
#[derive(Debug, Default)]
struct Counting {
    to_group: u32,
    join: Option<Ipv4Addr>,
    leave: Option<Ipv4Addr>,
}

impl App for Counting {
    type Session = ();

    fn datagram(&mut self, _now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        self.to_group += u32::from(datagram.to_group());
        Answer::Reply(datagram.len())
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        if let Some(group) = self.join.take() {
            assert_eq!(outbox.join(PEER.into()), Err(JoinError::NotAGroup));
            outbox.join(group.into()).unwrap();
        }
        if let Some(group) = self.leave.take() {
            outbox.leave(group.into());
        }
    }
}

/// An IPv4 datagram to several hosts, in a frame to all of them.
fn to(destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::ipv4::LEN];
    let payload_len = payload.len() as u16;
    wire::ipv4::Header { traffic_class: 0, payload_len, ttl: 1, protocol, source: PEER, destination }
        .write(&mut header);
    let mac = if destination.is_multicast() { Mac::of_group(destination.into()) } else { Mac::BROADCAST };
    ethernet(mac, ethernet::IPV4, &[&header[..], payload].concat())
}

fn udp_to(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut header = [0; wire::udp::LEN];
    wire::udp::Header { source: (PEER.into(), 4000), destination: (destination.into(), port), payload_len: 5 }
        .write(&mut header, Sum::default().add_bytes(b"hello"));
    to(destination, wire::ipv4::UDP, &[&header[..], b"hello"].concat())
}

pub(super) fn v6(destination: Ipv6Addr, hop_limit: u8, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::ipv6::LEN];
    let (payload_len, source) = (payload.len() as u16, ROUTER_V6);
    let (traffic_class, flow_label) = (0, 0);
    wire::ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }
        .write(&mut header);
    ethernet(Mac::of_group(destination.into()), ethernet::IPV6, &[&header[..], payload].concat())
}

/// A host that has said all that it says at its start.
fn settled<A: App>(config: &StackConfig, app: A) -> Host<A> {
    let mut host = Host::new(config, app);
    for minutes in 1..3 {
        host.now = Instant::ZERO + Duration::from_secs(60 * minutes);
        host.turn(&[]);
    }
    host
}

/// An IGMP query of version 2, to be answered within a second.
fn igmp_query(group: Ipv4Addr) -> Vec<u8> {
    let mut message = [&[0x11, 10, 0, 0][..], &group.octets()].concat();
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut header = [0; igmp::IPV4_LEN];
    igmp::write_ipv4(&mut header, message.len() as u16, PEER, igmp::ALL_SYSTEMS);
    ethernet(Mac::of_group(igmp::ALL_SYSTEMS.into()), ethernet::IPV4, &[&header[..], &message].concat())
}

/// A general query of MLDv2, to be answered within a second.
fn mld_query() -> Vec<u8> {
    let mut message = [&[icmpv6::LISTENER_QUERY, 0, 0, 0, 3, 232, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat();
    icmpv6::set_checksum(&mut message, ROUTER_V6, ndp::ALL_NODES);
    let alert = [wire::ipv6::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    v6(ndp::ALL_NODES, 1, wire::ipv6::HOP_BY_HOP, &[&alert[..], &message].concat())
}

#[test]
fn a_datagram_to_a_joined_group_is_delivered_and_answered_from_our_own_address() {
    let mut host = settled(&joined(), Counting::default());
    let answers = host.answers(&udp_to(GROUP, 7));
    assert_eq!((parse(&answers[0]).source(), parse(&answers[0]).destination()), (OURS, PEER));
    assert_eq!(answers[0][..6], PEER_MAC.0);
    assert_eq!(host.stack.app().to_group, 1);
    assert!(host.answers(&udp_to(Ipv4Addr::new(239, 1, 1, 2), 7)).is_empty());
    assert_eq!(host.dropped(DropReason::Ipv4Broadcast), 1, "a group that nobody joined");
}

#[test]
fn a_datagram_to_a_joined_group_of_ipv6_is_delivered_too() {
    let mut host = settled(&joined(), Counting::default());
    for (group, delivered) in [(GROUP_V6, 1), ("ff15::8".parse().unwrap(), 0)] {
        let mut header = [0; wire::udp::LEN];
        wire::udp::Header { source: (ROUTER_V6.into(), 4000), destination: (group.into(), 7), payload_len: 0 }
            .write(&mut header, Sum::default());
        assert_eq!(host.answers(&v6(group, 1, wire::ipv4::UDP, &header)).len(), delivered, "{group}");
    }
    assert_eq!((host.stack.app().to_group, host.dropped(DropReason::Ipv6OtherGroup)), (1, 1));
}

#[test]
fn broadcasts_are_delivered_only_where_they_are_asked_for() {
    for broadcasts in [false, true] {
        let mut host = settled(&StackConfig { broadcasts, ..config() }, Counting::default());
        for destination in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255)] {
            let answers = host.answers(&udp_to(destination, 7));
            assert_eq!(answers.len(), usize::from(broadcasts), "{destination}");
            assert!(answers.iter().all(|answer| parse(answer).source() == OURS));
        }
        assert_eq!(host.stack.app().to_group, if broadcasts { 2 } else { 0 });
    }
}

/// RFC 1122, section 3.2.2: no ICMP error about a datagram to a broadcast or multicast address. RFC 9293 (MUST-57).
#[test]
fn nothing_but_applications_answers_a_group_of_ipv4() {
    let mut host = settled(&StackConfig { broadcasts: true, ..joined() }, Counting::default());
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    for destination in [GROUP, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), igmp::ALL_SYSTEMS] {
        for frame in [
            udp_to(destination, 9999),
            to(destination, 99, b"what is this"),
            to(destination, wire::ipv4::ICMP, &echo),
            to(destination, wire::ipv4::TCP, &[0; 20]),
        ] {
            assert!(host.answers(&frame).is_empty(), "{destination} {frame:02x?}");
        }
    }
    assert_eq!(host.stack.counters().icmp_echoes_answered, 0);
}

#[test]
fn an_echo_request_to_a_group_of_ipv6_is_answered_from_our_own_address() {
    let mut host = settled(&joined(), Counting::default());
    for group in [ndp::ALL_NODES, ndp::solicited_node(OURS_V6)] {
        let mut request = [icmpv6::ECHO_REQUEST, 7, 0, 0, 0, 1, 0, 1];
        icmpv6::set_checksum(&mut request, ROUTER_V6, group);
        let answers = host.answers(&v6(group, 1, wire::ipv6::ICMPV6, &request));
        let packet = wire::ipv6::Packet::parse(&answers[0][ethernet::LEN..]).unwrap();
        assert_eq!((packet.source(), packet.destination()), (OURS_V6, ROUTER_V6));
        let reply = icmpv6::Packet::parse(packet.payload(), OURS_V6, ROUTER_V6).unwrap();
        assert_eq!((reply.kind(), reply.code()), (icmpv6::ECHO_REPLY, 7));
    }
}

#[test]
fn the_services_answer_nothing_that_was_sent_to_several_hosts() {
    let mut host = settled(&StackConfig { broadcasts: true, ..joined() }, Echo);
    assert!(host.answers(&udp_to(GROUP, 7)).is_empty() && host.answers(&udp_to(Ipv4Addr::BROADCAST, 7)).is_empty());
    assert_eq!(host.stack.counters().udp_delivered, 2);
}

#[test]
fn a_copy_is_digested_as_a_frame_is_and_counted_once() {
    let mut host = settled(&StackConfig { broadcasts: true, ..config() }, Counting::default());
    let received = host.stack.counters().received;
    let mut out = Burst::new();
    host.stack.hear(host.now, &udp_to(Ipv4Addr::BROADCAST, 7), &mut host.umem, &mut out);
    assert_eq!((host.stack.app().to_group, host.stack.counters().received), (1, received + 1));
    assert_eq!(out.len(), 1);
    out.drain().for_each(|frame| host.umem.free(frame));
    host.stack.hear(host.now, &[0; 4000], &mut host.umem, &mut out);
    assert_eq!(host.dropped(DropReason::FrameTooLong), 1);
    let all: Vec<_> = std::iter::from_fn(|| host.umem.alloc()).collect();
    host.stack.hear(host.now, &udp_to(Ipv4Addr::BROADCAST, 7), &mut host.umem, &mut out);
    assert_eq!(host.dropped(DropReason::CopyNoChunk), 1);
    all.into_iter().for_each(|frame| host.umem.free(frame));
    host.turn(&[]);
}

#[test]
fn a_group_joined_from_the_start_is_reported_with_a_router_alert_and_for_the_link_only() {
    let mut host = Host::new(&joined(), Echo);
    let sent: Vec<_> = host.turn(&[]).into_iter().map(|(_, frame)| frame).collect();
    let [v4, v6] = &sent[..] else { panic!("{sent:02x?}") };
    let packet = parse(v4);
    assert_eq!(v4[..6], Mac::of_group(igmp::ALL_V3_ROUTERS.into()).0);
    assert_eq!((packet.source(), packet.destination(), packet.ttl()), (OURS, igmp::ALL_V3_ROUTERS, 1));
    assert_eq!((packet.header_len(), packet.payload()[0], packet.payload()[8]), (24, 0x22, 4));
    assert_eq!(packet.payload()[12..], GROUP.octets());
    let packet = wire::ipv6::Packet::parse(&v6[ethernet::LEN..]).unwrap();
    assert_eq!((packet.source(), packet.destination(), packet.hop_limit()), (OURS_V6, mld::ALL_V2_ROUTERS, 1));
    let upper = wire::ipv6::walk(&packet).unwrap();
    assert!(upper.router_alert);
    let message = packet.from(upper.at);
    assert!(icmpv6::Packet::parse(message, OURS_V6, mld::ALL_V2_ROUTERS).is_ok());
    assert_eq!((message[7], &message[12..28]), (1, &GROUP_V6.octets()[..]));
    assert_eq!(host.stack.counters().group_reports_originated, 2);
}

#[test]
fn a_query_is_answered_with_the_groups_that_our_addresses_are_solicited_at() {
    let mut host = settled(&joined(), Echo);
    assert!(host.answers(&mld_query()).is_empty(), "after a random time");
    host.now += Duration::from_secs(1);
    let sent = host.turn(&[]);
    let packet = wire::ipv6::Packet::parse(&sent[0].1[ethernet::LEN..]).unwrap();
    let message = packet.from(wire::ipv6::walk(&packet).unwrap().at);
    let groups: Vec<_> = message[8..].chunks(20).map(|record| (record[0], record[4..20].to_vec())).collect();
    let expected = [ndp::solicited_node(OURS_V6), GROUP_V6].map(|group| (2, group.octets().to_vec()));
    assert_eq!((sent.len(), groups), (1, expected.to_vec()));
    assert_eq!(host.stack.counters().group_queries_heard, 1);
}

#[test]
fn an_older_router_is_answered_to_the_group_itself() {
    let mut host = settled(&joined(), Echo);
    host.answers(&igmp_query(Ipv4Addr::UNSPECIFIED));
    host.now += Duration::from_secs(1);
    let sent = host.turn(&[]);
    assert_eq!((parse(&sent[0].1).destination(), parse(&sent[0].1).payload()[0]), (GROUP, 0x16));
    assert_eq!(sent[0].1[..6], Mac::of_group(GROUP.into()).0);
}

#[test]
fn while_an_address_is_probed_its_group_is_reported_from_nowhere_and_again_when_it_is_ours() {
    let mut host = Host::new(&StackConfig { probing: Probing::Lead, groups: vec![], ..joined() }, Echo);
    let mut sources = Vec::new();
    while host.now < Instant::from_ns(400_000_000) {
        for (_, frame) in host.turn(&[]) {
            if let Ok(packet) = wire::ipv6::Packet::parse(&frame[ethernet::LEN..])
                && packet.destination() == mld::ALL_V2_ROUTERS
            {
                sources.push((host.now.as_ns() / 1_000_000, packet.source()));
            }
        }
        host.now += Duration::from_millis(10);
    }
    assert_eq!(sources.first(), Some(&(0, Ipv6Addr::UNSPECIFIED)), "RFC 3590: before the first probe");
    assert!(sources.iter().any(|&(ms, source)| (300..=320).contains(&ms) && source == OURS_V6), "{sources:?}");
}

#[test]
fn an_application_joins_and_leaves_and_the_others_are_told() {
    let mut host = settled(&config(), Counting { join: Some(GROUP), ..Counting::default() });
    let told = |host: &mut Host<Counting>| host.stack.next_group_change();
    assert_eq!(told(&mut host), Some((GROUP.into(), true)));
    assert_eq!(host.answers(&udp_to(GROUP, 7)).iter().filter(|frame| is_udp(frame)).count(), 1);
    host.stack.app_mut().leave = Some(GROUP);
    host.turn(&[]);
    assert!(!host.answers(&udp_to(GROUP, 7)).iter().any(|frame| is_udp(frame)));
    assert_eq!(told(&mut host), Some((GROUP.into(), false)));
}

fn is_udp(frame: &[u8]) -> bool {
    parse(frame).protocol() == wire::ipv4::UDP
}

#[test]
fn a_worker_that_does_not_report_passes_the_question_on() {
    let mut host = Host::new(&StackConfig { probing: Probing::Follow, ..joined() }, Echo);
    host.stack.settle_addresses();
    host.turn(&[&mld_query()]);
    host.now += Duration::from_secs(10);
    assert!(host.turn(&[]).is_empty());
    let events: Vec<_> = std::iter::from_fn(|| host.stack.next_event()).collect();
    let Some(&Event::Query(query, false)) = events.iter().find(|event| matches!(event, Event::Query(..))) else {
        panic!("{events:?}")
    };
    let mut leader = settled(&joined(), Echo);
    leader.stack.hear_query(&query, false, leader.now);
    leader.now += Duration::from_secs(1);
    assert_eq!(leader.turn(&[]).len(), 1);
}
