//! An endpoint on a VLAN: all that comes in has to be of it, and all that goes out is.

use super::*;
use crate::transport::tcp::TcpConfig;
use crate::wire::ethernet::Vlan;

const SINGLE: Vlan = Vlan::new(5, None);
const SERVICE: Vlan = Vlan { outer_type: ethernet::SERVICE_VLAN, ..SINGLE };
const DOUBLE: Vlan = Vlan::new(5, Some(7));
const CUSTOMERS: Vlan = Vlan { outer_type: ethernet::VLAN, ..DOUBLE };
/// The tags of frames that the stack sends of its own accord.
const SINGLE_TAG: [u8; 4] = [0x81, 0, 0, 5];
const SERVICE_TAG: [u8; 4] = [0x88, 0xa8, 0, 5];
const DOUBLE_TAG: [u8; 8] = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 7];
const CUSTOMERS_TAG: [u8; 8] = [0x81, 0, 0, 5, 0x81, 0, 0, 7];
const KINDS: [(Vlan, &[u8]); 4] =
    [(SINGLE, &SINGLE_TAG), (SERVICE, &SERVICE_TAG), (DOUBLE, &DOUBLE_TAG), (CUSTOMERS, &CUSTOMERS_TAG)];

fn on(vlan: Vlan) -> StackConfig {
    let tcp = TcpConfig { ports: vec![7], chunks: 64, connections: 8, backlog: 4, time_wait: 8, ..Default::default() };
    StackConfig { vlan: Some(vlan), tcp: Some(tcp), ..config() }
}

/// `frame` with tags in front of its EtherType.
fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn segment(sequence: u32, acknowledgment: u32, flags: wire::tcp::Flags, text: &[u8]) -> Vec<u8> {
    use wire::seq::SeqNum;
    use wire::tcp::{Header, LEN, Options};
    let header = Header {
        source: (PEER.into(), 4000),
        destination: (OURS.into(), 7),
        sequence: SeqNum::new(sequence),
        acknowledgment: SeqNum::new(acknowledgment),
        flags,
        window: 1000,
        urgent: 0,
        options: &Options::default(),
        payload_len: text.len() as u16,
    };
    let mut segment = [0; LEN];
    header.write(&mut segment, Sum::default().add_bytes(text));
    ipv4(PEER, wire::ipv4::TCP, &[&segment, text].concat())
}

fn syn() -> Vec<u8> {
    segment(1, 0, wire::tcp::Flags::SYN, b"")
}

/// Lets time pass until something is sent.
fn sent_in_time<A: App>(host: &mut Host<A>) -> Vec<Vec<u8>> {
    loop {
        host.now = host.stack.next_deadline().unwrap();
        let sent = host.turn(&[]);
        if !sent.is_empty() {
            return sent.into_iter().map(|(_, frame)| frame).collect();
        }
    }
}

/// The same tags with priority 5 in each.
fn urgent(tags: &[u8]) -> Vec<u8> {
    tags.chunks(4).flat_map(|tag| [tag[0], tag[1], 0xa0 | tag[2], tag[3]]).collect()
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
        (SERVICE, &[0x88, 0xa8, 0x60, 5]),
        (DOUBLE, &DOUBLE_TAG),
        (DOUBLE, &[0x88, 0xa8, 0xe0, 5, 0x81, 0, 0x20, 7]),
        (CUSTOMERS, &[0x81, 0, 0xe0, 5, 0x81, 0, 0x20, 7]),
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
        (SINGLE, &SERVICE_TAG),
        (SINGLE, &DOUBLE_TAG),
        (SERVICE, &SINGLE_TAG),
        (CUSTOMERS, &DOUBLE_TAG),
        (DOUBLE, &CUSTOMERS_TAG),
        (DOUBLE, &[0x88, 0xa8, 0, 5, 0x88, 0xa8, 0, 7]),
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
    for (vlan, tags) in KINDS {
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
    for (vlan, tags) in KINDS {
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
    for (vlan, tags) in KINDS {
        let mut host = Host::new(&on(vlan), Echo);
        let syn = tagged(&syn(), tags);
        let first = host.answers(&syn);
        // Nobody acknowledges it.
        let again = sent_in_time(&mut host);
        assert_eq!(again[0], first[0]);
        assert_eq!(again[0][12..][..tags.len()], *tags);
    }
}

#[test]
fn segments_of_a_connection_keep_its_tags_and_the_priority_that_it_was_opened_with() {
    use wire::tcp::Flags;
    for (vlan, tags) in KINDS {
        let mut host = Host::new(&on(vlan), Echo);
        let urgent = urgent(tags);
        let answer = host.answers(&tagged(&syn(), &urgent));
        let ours = parse_tagged(&answer[0], tags.len()) + 1;
        // Priorities of what comes later may be others, as those of acknowledgments often are.
        let echo = host.answers(&tagged(&segment(2, ours, Flags::ACK, b""), &urgent));
        assert!(echo.is_empty());
        let echo = host.answers(&tagged(&segment(2, ours, Flags::ACK, b"hello"), tags));
        assert_eq!((&echo[0][12..][..tags.len()], echo.len()), (&urgent[..], 1));
        assert_eq!(echo[0][echo[0].len() - 5..], *b"hello");
        let again = sent_in_time(&mut host);
        assert_eq!(again[0][12..][..tags.len()], urgent, "of one that is sent again");
        let closed = host.answers(&tagged(&segment(7, ours + 5, Flags::RST | Flags::ACK, b""), tags));
        assert!(closed.is_empty());
        // The next connection in its place is another.
        host.now += Duration::from_secs(1);
        let answer = host.answers(&tagged(&syn(), tags));
        let ours = parse_tagged(&answer[0], tags.len()) + 1;
        let echo = host.answers(&tagged(&segment(2, ours, Flags::ACK, b"hello"), tags));
        assert_eq!(echo[0][12..][..tags.len()], *tags);
    }
}

/// The sequence number of a segment behind tags of so many bytes.
fn parse_tagged(frame: &[u8], tags_len: usize) -> u32 {
    let at = ethernet::LEN + tags_len + wire::ipv4::LEN + 4;
    u32::from_be_bytes(*frame[at..].first_chunk().unwrap())
}

#[test]
fn an_answer_that_waits_for_its_neighbor_keeps_the_priority_of_its_request() {
    for (vlan, tags) in KINDS {
        let urgent = urgent(tags);
        let mut host = Host::new(&StackConfig { neighbors: NeighborConfig::default(), ..on(vlan) }, Echo);
        let question = host.answers(&tagged(&udp(PEER, 4000, 7, b"hello"), &urgent));
        assert_eq!(question[0][12..][..tags.len() + 2], [tags, &[8, 6]].concat());
        let answer = host.answers(&tagged(&arp(wire::arp::Operation::Reply, PEER, OURS), tags));
        assert_eq!(answer[0][12..][..tags.len() + 2], [&urgent[..], &[8, 0]].concat());
    }
}

#[test]
fn the_fragments_of_an_answer_have_the_priority_of_its_request() {
    for (vlan, tags) in KINDS {
        let urgent = urgent(tags);
        for neighbors in [config().neighbors, NeighborConfig::default()] {
            let mut host = Host::new(&StackConfig { neighbors, ..on(vlan) }, Boaster(1600));
            let mut sent = host.answers(&tagged(&udp(PEER, 4000, 7, b"?"), &urgent));
            sent.extend(host.turn(&[]).into_iter().map(|(_, frame)| frame));
            sent.extend(host.answers(&tagged(&arp(wire::arp::Operation::Reply, PEER, OURS), tags)));
            sent.retain(|frame| frame[12 + tags.len()..][..2] == [8, 0]);
            assert_eq!(sent.len(), 2);
            for frame in sent {
                assert_eq!(frame[12..][..tags.len()], urgent);
            }
        }
    }
}
