//! An endpoint on a VLAN: all that comes in has to be of it, and all that goes out is.

use super::*;
use crate::transport::tcp::TcpConfig;
use crate::wire::ethernet::Vlan;

const SINGLE: Vlan = Vlan { outer: 5, inner: None };
const DOUBLE: Vlan = Vlan { outer: 5, inner: Some(7) };
/// The tags of frames that the stack sends of its own accord.
const SINGLE_TAG: [u8; 4] = [0x81, 0, 0, 5];
const DOUBLE_TAG: [u8; 8] = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7];

fn on(vlan: Vlan) -> StackConfig {
    let tcp = TcpConfig { ports: vec![7], chunks: 64, connections: 8, backlog: 4, time_wait: 8, ..Default::default() };
    StackConfig { vlan: Some(vlan), tcp: Some(tcp), ..config() }
}

/// `frame` with tags in front of its EtherType.
fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn syn() -> Vec<u8> {
    use wire::seq::SeqNum;
    use wire::tcp::{Flags, Header, LEN, Options};
    let header = Header {
        source: (PEER.into(), 4000),
        destination: (OURS.into(), 7),
        sequence: SeqNum::new(1),
        acknowledgment: SeqNum::new(0),
        flags: Flags::SYN,
        window: 1000,
        urgent: 0,
        options: &Options::default(),
        payload_len: 0,
    };
    let mut segment = [0; LEN];
    header.write(&mut segment, Sum::default());
    ipv4(PEER, wire::ipv4::TCP, &segment)
}

/// One frame of each kind that is answered.
fn requests() -> [Vec<u8>; 5] {
    [
        udp(PEER, 4000, 7, b"hello"),
        udp(PEER, 4000, 9999, b"refused"),
        ipv4(PEER, wire::ipv4::ICMP, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        arp(wire::arp::Operation::Request, PEER, OURS),
        syn(),
    ]
}

#[test]
fn a_request_is_answered_with_its_own_tags_and_priority() {
    for (vlan, tags) in [
        (SINGLE, &SINGLE_TAG[..]),
        (SINGLE, &[0x81, 0, 0xf0, 5]),
        (SINGLE, &[0x88, 0xa8, 0x60, 5]),
        (DOUBLE, &DOUBLE_TAG),
        (DOUBLE, &[0x81, 0, 0xe0, 5, 0x81, 0, 0x20, 7]),
    ] {
        for request in requests() {
            let mut host = Host::new(&on(vlan), Echo);
            let answers = host.answers(&tagged(&request, tags));
            assert_eq!(answers.len(), 1, "{tags:02x?}: {request:02x?}");
            assert_eq!(answers[0][12..][..tags.len()], *tags, "{request:02x?}");
            assert_eq!(answers[0][12 + tags.len()..][..2], request[12..14], "and the EtherType behind them");
            assert_eq!(host.dropped(DropReason::OtherVlan), 0);
        }
    }
}

#[test]
fn frames_without_exactly_the_tags_of_the_vlan_are_dropped() {
    let untagged = &[][..];
    let priority = &[0x81, 0, 0xe0, 0][..];
    let other = &[0x81, 0, 0, 6][..];
    for (vlan, tags) in [
        (SINGLE, untagged),
        (SINGLE, priority),
        (SINGLE, other),
        (SINGLE, &DOUBLE_TAG),
        (DOUBLE, untagged),
        (DOUBLE, priority),
        (DOUBLE, &SINGLE_TAG),
        (DOUBLE, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]),
        (DOUBLE, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 8]),
        (DOUBLE, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 0]),
    ] {
        let mut host = Host::new(&on(vlan), Echo);
        for (count, request) in requests().iter().enumerate() {
            assert!(host.answers(&tagged(request, tags)).is_empty(), "{tags:02x?}: {request:02x?}");
            assert_eq!(host.dropped(DropReason::OtherVlan), count as u64 + 1);
        }
    }
}

#[test]
fn probes_and_announcements_of_addresses_are_tagged() {
    for (vlan, tags) in [(SINGLE, &SINGLE_TAG[..]), (DOUBLE, &DOUBLE_TAG)] {
        let mut host = Host::new(&StackConfig { probing: Probing::Lead, ..on(vlan) }, Echo);
        let mut sent = host.turn(&[]);
        while host.stack.next_event() != Some(Event::Ready) {
            host.now = host.stack.next_deadline().unwrap();
            sent.extend(host.turn(&[]));
        }
        assert_eq!(sent.len(), 4);
        for (_, frame) in sent {
            assert_eq!(frame[..12], [&Mac::BROADCAST.0[..], &OUR_MAC.0].concat());
            assert_eq!(frame[12..][..tags.len() + 2], [tags, &[8, 6]].concat());
        }
    }
}

#[test]
fn datagrams_of_the_applications_own_are_tagged_and_so_is_the_search_for_their_neighbor() {
    for (vlan, tags) in [(SINGLE, &SINGLE_TAG[..]), (DOUBLE, &DOUBLE_TAG)] {
        let config = StackConfig { neighbors: NeighborConfig::default(), ..on(vlan) };
        let mut host = Host::new(&config, Sender { to: vec![(PEER, 9).into()], results: vec![] });
        host.turn(&[]);
        let request = host.turn(&[]);
        assert_eq!(request[0].1[12..][..tags.len() + 2], [tags, &[8, 6]].concat());
        let reply = arp(wire::arp::Operation::Reply, PEER, OURS);
        let waited = host.answers(&tagged(&reply, tags));
        assert_eq!(waited[0][12..][..tags.len()], *tags);
        assert_eq!(parse(&waited[0]).destination(), PEER);
        host.stack.app_mut().to.push((PEER, 9).into());
        let sent = host.turn(&[]);
        assert_eq!(sent[0].1[12..][..tags.len()], *tags, "to a neighbor that is known");
        assert_eq!(parse(&sent[0].1).destination(), PEER);
    }
}

#[test]
fn segments_that_a_timer_sends_are_tagged() {
    for (vlan, tags) in [(SINGLE, &SINGLE_TAG[..]), (DOUBLE, &DOUBLE_TAG)] {
        let mut host = Host::new(&on(vlan), Echo);
        let syn = tagged(&syn(), tags);
        let first = host.answers(&syn);
        // Nobody acknowledges it. The wheel of timers may turn a few times before it sends.
        let mut again = vec![];
        while again.is_empty() {
            host.now = host.stack.next_deadline().unwrap();
            again = host.turn(&[]);
        }
        assert_eq!(again[0].1, first[0]);
        assert_eq!(again[0].1[12..][..tags.len()], *tags);
    }
}
