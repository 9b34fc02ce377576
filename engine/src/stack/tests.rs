//! The stack by hand: frames in, frames out.

mod autoconf;
mod fragments;
mod groups;
mod jumbo;
mod paths;
mod ping;
mod vlan;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::plain::Version;
use super::*;
use crate::app::{Answer, Datagram, Outbox, SendError, Traffic};
use crate::apps::echo::Echo;
use crate::base::{ChunkSize, Place, UmemConfig};
use crate::link::neighbor::NeighborConfig;
use crate::wire::checksum::Sum;
use crate::wire::{self, icmpv4, icmpv6};

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OURS_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const PEER_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Bytes in front of the payload of a UDP datagram.
const IPV4_HEADERS: usize = ethernet::LEN + wire::ipv4::LEN + wire::udp::LEN;
const IPV6_HEADERS: usize = ethernet::LEN + wire::ipv6::LEN + wire::udp::LEN;

fn config() -> StackConfig {
    StackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        vlan: None,
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        gateways: vec![],
        routes: vec![],
        probing: Probing::Off,
        groups: vec![],
        broadcasts: false,
        autoconf: None,
        udp_ports: vec![7],
        checksum: ChecksumPolicy::AcceptPartial,
        tcp: None,
        own_queue: None,
        neighbors: NeighborConfig {
            fixed: vec![(PEER.into(), PEER_MAC), (PEER_6.into(), PEER_MAC)],
            ..NeighborConfig::default()
        },
        reassembly: ReassemblyConfig::default(),
        marking: Marking::default(),
        secret: [1, 2],
    }
}

/// The same, with an address of IPv6 too.
fn dual_stack() -> StackConfig {
    let prefixes = ["10.0.0.2/24", "fd00::2/64"];
    StackConfig { addresses: prefixes.map(|prefix| prefix.parse().unwrap()).to_vec(), ..config() }
}

/// The same, of a host that does not know its neighbor yet.
fn newcomer() -> StackConfig {
    StackConfig { neighbors: NeighborConfig::default(), ..config() }
}

/// A stack with memory, to give frames to and take frames from.
struct Host<A: App> {
    stack: Stack<A>,
    umem: Umem,
    now: Instant,
}

impl<A: App> Host<A> {
    fn new(config: &StackConfig, app: A) -> Self {
        let umem = UmemConfig { chunks: 128, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self { stack: Stack::new(config, app, Instant::ZERO), umem: Umem::new(umem).unwrap(), now: Instant::ZERO }
    }

    fn frame(&mut self, bytes: &[u8]) -> Frame {
        let mut frame = self.umem.alloc().unwrap();
        assert!(self.umem.set_len(&mut frame, bytes.len()));
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        frame
    }

    /// One turn; each frame out as its chunk and bytes.
    fn turn(&mut self, frames: &[&[u8]]) -> Vec<(u32, Vec<u8>)> {
        let (mut received, mut out) = (Burst::new(), Burst::new());
        for bytes in frames {
            received.push(self.frame(bytes)).unwrap();
        }
        self.stack.receive(self.now, &mut received, &mut self.umem, &mut out);
        assert!(out.len() <= frames.len(), "no more frames out than in");
        self.stack.transmit(self.now, &mut self.umem, &mut out);
        let mut sent = Vec::new();
        for frame in out.drain() {
            sent.push((frame.chunk(), self.umem.slices(&frame).flatten().copied().collect()));
            self.umem.free(frame);
        }
        let counters = self.stack.counters();
        let digested = counters.delivered + counters.drops.iter().sum::<u64>();
        assert_eq!(counters.received, digested + u64::from(self.stack.fragments()));
        let of_connections = self.stack.tcp_state().map_or(0, |tcp| tcp.held());
        assert_eq!(self.umem.count(Place::Queue), self.stack.queued_chunks() + of_connections);
        assert_eq!(self.umem.count(Place::Held), 0);
        sent
    }

    fn answers(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.turn(&[frame]).into_iter().map(|(_, bytes)| bytes).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stack.counters().drops[reason as usize]
    }
}

fn ethernet(destination: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::LEN];
    let header = ethernet::Header { destination, source: PEER_MAC, tags: ethernet::Tags::default(), ethertype };
    assert!(header.write(&mut bytes));
    bytes.extend(payload);
    bytes
}

fn ipv4(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::ipv4::LEN];
    let payload_len = payload.len() as u16;
    wire::ipv4::Header { traffic_class: 0xb9, payload_len, ttl: 1, protocol, source, destination: OURS }
        .write(&mut header);
    ethernet(OUR_MAC, ethernet::IPV4, &[&header[..], payload].concat())
}

fn udp(source: Ipv4Addr, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::udp::LEN];
    let payload_len = payload.len() as u16;
    wire::udp::Header { source: (source.into(), from), destination: (OURS.into(), to), payload_len }
        .write(&mut header, Sum::default().add_bytes(payload));
    ipv4(source, wire::ipv4::UDP, &[&header[..], payload].concat())
}

fn ipv6(source: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::ipv6::LEN];
    let (payload_len, destination) = (payload.len() as u16, OURS_6);
    let (traffic_class, flow_label, hop_limit) = (0xb9, 0x1_2345, 1);
    wire::ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }
        .write(&mut header);
    ethernet(OUR_MAC, ethernet::IPV6, &[&header[..], payload].concat())
}

fn udp6(source: Ipv6Addr, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; wire::udp::LEN];
    let payload_len = payload.len() as u16;
    wire::udp::Header { source: (source.into(), from), destination: (OURS_6.into(), to), payload_len }
        .write(&mut header, Sum::default().add_bytes(payload));
    ipv6(source, wire::ipv4::UDP, &[&header[..], payload].concat())
}

fn arp(operation: wire::arp::Operation, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = [0; wire::arp::LEN];
    wire::arp::Packet { operation, sender_mac: PEER_MAC, sender, target_mac: Mac::ZERO, target }.write(&mut body);
    ethernet(Mac::BROADCAST, ethernet::ARP, &body)
}

/// The IPv4 packet in a frame of ours, after a look at the Ethernet header.
fn parse(frame: &[u8]) -> wire::ipv4::Packet<'_> {
    let header = ethernet::Header::parse(frame).unwrap();
    assert_eq!((header.source, header.ethertype), (OUR_MAC, ethernet::IPV4));
    wire::ipv4::Packet::parse(&frame[header.len_bytes()..]).unwrap()
}

#[test]
fn an_echo_leaves_in_the_chunk_that_the_request_came_in() {
    let mut host = Host::new(&config(), Echo);
    // The free list is LIFO, so the next allocation tells which chunk the request will lie in.
    let next = host.umem.alloc().unwrap();
    let expected = next.chunk();
    host.umem.free(next);
    let sent = host.turn(&[&udp(PEER, 4000, 7, b"hello")]);
    let [(chunk, bytes)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*chunk, expected);
    let packet = parse(bytes);
    assert_eq!((packet.source(), packet.destination(), packet.ttl()), (OURS, PEER, 64));
    assert_eq!(packet.traffic_class(), 0xb8, "the class stays, the congestion mark goes");
    let datagram = wire::udp::Packet::parse(packet.payload()).unwrap();
    assert_eq!((datagram.source_port(), datagram.destination_port(), datagram.payload()), (7, 4000, &b"hello"[..]));
    assert!(datagram.checksum_is_valid(OURS.into(), PEER.into()));
    assert_eq!(host.stack.counters().udp_delivered, 1);
}

#[test]
fn options_are_left_out_of_the_answer() {
    let mut frame = udp(PEER, 4000, 7, b"hello");
    let at = ethernet::LEN;
    frame.splice(at + wire::ipv4::LEN..at + wire::ipv4::LEN, [1; 40]);
    frame[at] = 0x4f;
    frame[at + 3] += 40;
    frame[at + 10..at + 12].fill(0);
    let checksum = Sum::default().add_bytes(&frame[at..at + 60]).checksum();
    frame[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    let mut host = Host::new(&config(), Echo);
    let answers = host.answers(&frame);
    assert_eq!(parse(&answers[0]).header_len(), wire::ipv4::LEN);
    assert_eq!(answers[0].len(), frame.len() - 40);
}

#[test]
fn a_priority_tag_comes_back() {
    let mut frame = udp(PEER, 4000, 7, b"hello");
    frame.splice(12..12, [0x81, 0, 0xe0, 0]);
    let answers = Host::new(&config(), Echo).answers(&frame);
    assert_eq!(answers[0][12..16], [0x81, 0, 0xe0, 0]);
    let mut host = Host::new(&config(), Echo);
    frame[15] = 5;
    assert!(host.answers(&frame).is_empty());
    assert_eq!(host.dropped(DropReason::OtherVlan), 1);
}

#[test]
fn a_closed_port_is_told_with_the_datagram_quoted() {
    let mut host = Host::new(&config(), Echo);
    let request = udp(PEER, 4000, 9999, b"hello");
    let answers = host.answers(&request);
    let packet = parse(&answers[0]);
    let message = wire::icmpv4::Packet::parse(packet.payload()).unwrap();
    assert_eq!((message.kind(), message.code()), (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE));
    assert_eq!(packet.payload()[icmpv4::LEN..], request[ethernet::LEN..], "the datagram as it came");
    assert_eq!((host.dropped(DropReason::UdpPortClosed), host.stack.counters().icmp_errors_originated), (1, 1));
}

#[test]
fn icmp_errors_are_limited_and_clamped() {
    let mut host = Host::new(&config(), Echo);
    let request = udp(PEER, 4000, 9999, &[7; 1400]);
    let sent: Vec<_> = (0..500).flat_map(|_| host.answers(&request)).collect();
    assert_eq!(sent.len(), 6);
    assert!(sent.iter().all(|frame| frame.len() == ethernet::LEN + 576));
    let counters = host.stack.counters();
    assert_eq!((counters.icmp_errors_suppressed, host.dropped(DropReason::UdpPortClosed)), (494, 500));
}

#[test]
fn an_unknown_protocol_is_refused() {
    let mut host = Host::new(&config(), Echo);
    let answers = host.answers(&ipv4(PEER, 132, &[0; 12]));
    let packet = parse(&answers[0]);
    let message = wire::icmpv4::Packet::parse(packet.payload()).unwrap();
    assert_eq!((message.kind(), message.code()), (icmpv4::UNREACHABLE, icmpv4::PROTOCOL_UNREACHABLE));
    assert_eq!(host.dropped(DropReason::ProtocolUnknown), 1);
}

fn echo_request(code: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = [&[icmpv4::ECHO_REQUEST, code, 0, 0, 0, 1, 0, 2], payload].concat();
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn echo_request_6(source: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut message = [&[icmpv6::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 2], payload].concat();
    icmpv6::set_checksum(&mut message, source, OURS_6);
    message
}

#[test]
fn a_ping_is_answered_with_its_own_data() {
    let mut host = Host::new(&config(), Echo);
    for code in [0, 9] {
        let message = echo_request(code, b"payload of a ping");
        let answers = host.answers(&ipv4(PEER, wire::ipv4::ICMP, &message));
        let packet = parse(&answers[0]);
        let reply = wire::icmpv4::Packet::parse(packet.payload()).unwrap();
        assert_eq!((reply.kind(), reply.code()), (icmpv4::ECHO_REPLY, code));
        assert_eq!(packet.payload()[4..], message[4..]);
    }
    assert_eq!(host.stack.counters().icmp_echoes_answered, 2);
}

#[test]
fn frames_for_others_are_dropped() {
    let mut host = Host::new(&config(), Echo);
    let mut frame = udp(PEER, 4000, 7, b"hello");
    frame[5] = 99;
    assert!(host.answers(&frame).is_empty());
    assert_eq!(host.dropped(DropReason::OtherDestinationMac), 1);
    frame[..6].fill(0xff);
    assert!(host.answers(&frame).is_empty());
    assert_eq!(host.dropped(DropReason::Ipv4LinkBroadcast), 1);
}

#[test]
fn an_off_link_sender_is_answered_only_when_a_gateway_leads_there() {
    let request = udp(REMOTE, 4000, 7, b"hello");
    let mut host = Host::new(&config(), Echo);
    assert!(host.answers(&request).is_empty());
    assert_eq!(host.stack.counters().unsent[UnsentReason::NoRoute as usize], 1);
    let mut host = Host::new(&StackConfig { gateways: vec![PEER.into()], ..config() }, Echo);
    assert_eq!(parse(&host.answers(&request)[0]).destination(), REMOTE);
}

#[test]
fn no_answer_goes_to_port_zero() {
    let mut host = Host::new(&config(), Echo);
    assert!(host.answers(&udp(PEER, 0, 7, b"hello")).is_empty());
    assert_eq!(host.stack.counters().unsent[UnsentReason::NoReplyPort as usize], 1);
}

#[test]
fn nothing_is_answered_while_the_address_is_being_probed() {
    let mut host = Host::new(&StackConfig { probing: Probing::Lead, ..config() }, Echo);
    let probe = host.turn(&[]);
    let body = wire::arp::Packet::parse(&probe[0].1[ethernet::LEN..]).unwrap();
    assert_eq!((body.sender, body.target), (Ipv4Addr::UNSPECIFIED, OURS));
    assert!(host.answers(&udp(PEER, 4000, 7, b"hello")).is_empty());
    assert_eq!(host.dropped(DropReason::AddressTentative), 1);
    let mut frames = 0;
    while host.stack.next_event() != Some(Event::Ready) {
        host.now = host.stack.next_deadline().unwrap();
        frames += host.turn(&[]).len();
    }
    assert_eq!(frames, 3, "two more probes and an announcement");
    assert_eq!(host.now, Instant::ZERO + Duration::from_millis(300));
    assert_eq!(host.answers(&udp(PEER, 4000, 7, b"hello")).len(), 1);
}

#[test]
fn a_duplicate_is_told_with_the_mac_address_that_has_it() {
    let mut host = Host::new(&StackConfig { probing: Probing::Lead, ..config() }, Echo);
    host.turn(&[&arp(wire::arp::Operation::Reply, OURS, Ipv4Addr::UNSPECIFIED)]);
    assert_eq!(host.stack.next_event(), Some(Event::Duplicate(OURS.into(), PEER_MAC)));
    assert_eq!(host.dropped(DropReason::ArpConflict), 1);
}

#[test]
fn a_flood_of_arp_replies_cannot_hide_a_conflict() {
    let mut host = Host::new(&config(), Echo);
    for _ in 0..100 {
        host.turn(&[&arp(wire::arp::Operation::Reply, PEER, OURS)]);
    }
    host.turn(&[&arp(wire::arp::Operation::Reply, OURS, OURS)]);
    let events: Vec<_> = std::iter::from_fn(|| host.stack.next_event()).collect();
    assert!(events.contains(&Event::Contested(OURS.into(), PEER_MAC)), "{events:?}");
}

/// Sends one datagram to each of some addresses, and remembers what came of it.
struct Sender {
    to: Vec<SocketAddr>,
    results: Vec<Result<(), SendError>>,
}

impl App for Sender {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        let write = |room: &mut [u8]| {
            room[..2].copy_from_slice(b"hi");
            2
        };
        self.results.extend(self.to.drain(..).map(|to| outbox.send(5000, to, write)));
    }
}

#[test]
fn a_datagram_waits_until_its_neighbor_is_found() {
    let mut host = Host::new(&newcomer(), Sender { to: vec![(PEER, 9).into()], results: vec![] });
    assert!(host.turn(&[]).is_empty(), "the request is due in the next turn");
    assert_eq!(host.stack.app().results, [Ok(())]);
    assert_eq!(host.stack.next_deadline(), Some(host.now));
    let request = host.turn(&[]);
    let body = wire::arp::Packet::parse(&request[0].1[ethernet::LEN..]).unwrap();
    assert_eq!((body.sender, body.target), (OURS, PEER));
    let sent = host.answers(&arp(wire::arp::Operation::Reply, PEER, OURS));
    let packet = parse(&sent[0]);
    assert_eq!(packet.destination(), PEER);
    let datagram = wire::udp::Packet::parse(packet.payload()).unwrap();
    assert_eq!((datagram.source_port(), datagram.payload()), (5000, &b"hi"[..]));
    assert!(datagram.checksum_is_valid(OURS.into(), PEER.into()));
}

#[test]
fn a_neighbor_that_the_kernel_knows_need_not_be_searched_for() {
    let mut host = Host::new(&newcomer(), Echo);
    host.stack.adopt_neighbor(PEER.into(), PEER_MAC, host.now);
    let answers = host.answers(&udp(PEER, 4000, 7, b"hello"));
    assert_eq!(answers.len(), 1);
    assert_eq!((&answers[0][..6], &answers[0][12..14]), (&PEER_MAC.0[..], &[8, 0][..]));
}

#[test]
fn a_datagram_to_a_silent_neighbor_is_given_up_and_counted() {
    let mut host = Host::new(&newcomer(), Sender { to: vec![(PEER, 9).into(), (REMOTE, 9).into()], results: vec![] });
    host.turn(&[]);
    assert_eq!(host.stack.app().results[1], Err(SendError::Unsent(UnsentReason::NoRoute)));
    while let Some(deadline) = host.stack.next_deadline() {
        host.now = deadline;
        host.turn(&[]);
    }
    assert_eq!(host.now, Instant::ZERO + Duration::from_secs(3));
    let counters = host.stack.counters();
    assert_eq!(counters.unsent[UnsentReason::NeighborUnreachable as usize], 1);
    assert_eq!((counters.arp_requests_originated, host.umem.free_chunks()), (3, host.umem.chunks()));
}

/// Looks once a turn at what went by.
struct Onlooker(Vec<Traffic>);

impl App for Onlooker {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::Reply(1)
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        self.0.push(outbox.traffic());
    }
}

#[test]
fn an_application_sees_whether_anything_went_by() {
    let mut host = Host::new(&config(), Onlooker(Vec::new()));
    let request = udp(PEER, 4000, 7, b"hello");
    host.turn(&[&request, &request, &request[1..]]);
    host.turn(&[]);
    let [first, second] = host.stack.app().0[..] else { panic!("it was asked once a turn") };
    assert_eq!((first, second), (Traffic { received: 3, originated: 2 }, first));
}

/// Says in which class a datagram came.
struct Witness;

impl App for Witness {
    type Session = ();

    fn datagram(&mut self, _now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        let class = [datagram.dscp(), datagram.ecn()];
        datagram.room_mut()[..2].copy_from_slice(&class);
        Answer::Reply(2)
    }
}

/// RFC 3168, section 5: what routers say of congestion reaches the application. Frames of these tests come with class 0xb9.
#[test]
fn an_application_learns_of_the_class_and_of_congestion_by_either_way() {
    for (headers, request) in
        [(IPV4_HEADERS, udp(PEER, 4000, 7, b"hello")), (IPV6_HEADERS, udp6(PEER_6, 4000, 7, b"hello"))]
    {
        let mut host = Host::new(&dual_stack(), Witness);
        let short = host.turn(&[&request]);
        assert_eq!(short[0].1[headers..], [0x2e, 1]);
        let mut long_out = Burst::new();
        let frame = host.frame(&request);
        host.stack.digest(Instant::ZERO, frame, &mut host.umem, &mut long_out);
        assert_eq!(drain(&mut host, long_out)[0][headers..], [0x2e, 1]);
    }
}

/// Answers with more than it was sent.
struct Boaster(usize);

impl App for Boaster {
    type Session = ();

    fn datagram(&mut self, _now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        let len = self.0;
        datagram.room_mut().iter_mut().take(len).for_each(|byte| *byte = b'!');
        Answer::Reply(len)
    }
}

#[test]
fn an_answer_may_be_longer_than_its_request_and_goes_in_fragments_beyond_the_mtu() {
    let most = 1500 - wire::ipv4::LEN - wire::udp::LEN;
    for (len, frames) in [(0, 1), (1000, 1), (most, 1), (most + 1, 2), (100_000, 0)] {
        let mut host = Host::new(&config(), Boaster(len));
        let answers = host.answers(&udp(PEER, 4000, 7, b"hello"));
        assert_eq!(answers.len(), frames, "{len}");
        assert_eq!(host.stack.counters().unsent[UnsentReason::TooLong as usize], u64::from(frames == 0), "{len}");
    }
}

#[test]
fn every_truncation_of_every_kind_of_frame_is_counted_and_survived() {
    let mut host = Host::new(&config(), Echo);
    let frames = [
        udp(PEER, 4000, 7, b"hello"),
        udp(PEER, 4000, 9999, b"hello"),
        ipv4(PEER, wire::ipv4::ICMP, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        arp(wire::arp::Operation::Request, PEER, OURS),
    ];
    let mut count = 0;
    for frame in &frames {
        for len in 0..=frame.len() {
            host.answers(&frame[..len]);
            count += 1;
        }
    }
    assert_eq!(host.stack.counters().received, count);
    assert_eq!(host.umem.free_chunks(), host.umem.chunks());
}

fn drain<A: App>(host: &mut Host<A>, mut out: Burst) -> Vec<Vec<u8>> {
    let sent = out.iter().map(|frame| host.umem.bytes(frame).to_vec()).collect();
    out.drain().for_each(|frame| host.umem.free(frame));
    sent
}

/// Sends back what has an odd number of bytes, and boasts otherwise.
struct Fickle;

impl App for Fickle {
    type Session = ();

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        if datagram.len() % 2 == 1 { Answer::Reply(datagram.len()) } else { Boaster(100).datagram(now, datagram) }
    }
}

/// What comes of a frame by the short way, if it takes that.
fn by_the_short_way<V: Version, A: App>(host: &mut Host<A>, at: usize, frame: &mut Frame) -> Option<Outcome> {
    let plain = host.stack.read_plain::<V>(host.now, at, host.umem.bytes(frame))?;
    host.stack.plain::<V>(host.now, plain, frame, &mut host.umem)
}

/// The same frame by both ways: what comes of it must be the same to the last byte and counter.
#[test]
fn the_short_way_comes_to_the_same_as_the_long_way() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % n
    };
    let [mut short, mut long] = [0, 1].map(|_| Host::new(&dual_stack(), Fickle));
    let mut plain = 0;
    for round in 0..300_000 {
        let payload = vec![round as u8; below(64)];
        let source = [PEER, REMOTE, OURS, Ipv4Addr::new(10, 0, 0, 255)][below(4) * below(2)];
        let source_6 = [PEER_6, OURS_6, Ipv6Addr::LOCALHOST][below(3) * below(2)];
        let ports = ([4000, 0, 7][below(3) * below(2)], [7, 8][below(2) * below(2)]);
        let mut bytes = match round % 4 {
            0 => udp(source, ports.0, ports.1, &payload),
            1 => udp6(source_6, ports.0, ports.1, &payload),
            2 => ipv4(source, wire::ipv4::ICMP, &echo_request(round as u8 / 4 % 2, &payload)),
            _ => ipv6(source_6, wire::ipv6::ICMPV6, &echo_request_6(source_6, &payload)),
        };
        for _ in 0..below(3) {
            let at = below(bytes.len());
            bytes[at] ^= 1 << below(8);
        }
        match below(4) {
            0 => bytes.truncate(below(bytes.len() + 1)),
            1 => bytes.resize(bytes.len() + below(20), 0xee),
            _ => {}
        }
        let (mut by_short, by_long) = (short.frame(&bytes), long.frame(&bytes));
        let before = short.stack.counters().clone();
        let plain_outcome = match short.stack.plain_link.carried(short.umem.bytes(&by_short)) {
            Some((ethernet::IPV4, at)) => by_the_short_way::<plain::V4, _>(&mut short, at, &mut by_short),
            Some((ethernet::IPV6, at)) => by_the_short_way::<plain::V6, _>(&mut short, at, &mut by_short),
            _ => None,
        };
        if let Some(outcome) = plain_outcome {
            plain += 1;
            let [mut short_out, mut long_out] = [Burst::new(), Burst::new()];
            short.stack.conclude(Instant::ZERO, outcome, by_short, &mut short.umem, &mut short_out);
            long.stack.digest(Instant::ZERO, by_long, &mut long.umem, &mut long_out);
            assert_eq!(short.stack.counters(), long.stack.counters(), "{bytes:02x?}");
            assert_eq!(drain(&mut short, short_out), drain(&mut long, long_out), "{bytes:02x?}");
        } else {
            assert_eq!(short.umem.bytes(&by_short), bytes, "the short way left its mark");
            assert_eq!(short.stack.counters(), &before);
            short.umem.free(by_short);
            long.umem.free(by_long);
        }
    }
    assert!(plain > 40_000, "only {plain} frames took the short way");
    assert!(short.stack.counters().udp_originated > 10_000);
    assert!(short.stack.counters().icmp_echoes_answered > 10_000);
}
