//! What routers say of packets that are too long: believed with proof alone.

use std::net::IpAddr;

use super::*;
use crate::app::{Closed, Connection, ConnectionId, Echo as Number, SendOptions};

const MAY_FRAGMENT: SendOptions = SendOptions { source: None, hop_limit: None, dscp: 0, ecn: 0, dont_fragment: false };
const DONT_FRAGMENT: SendOptions = SendOptions { dont_fragment: true, ..MAY_FRAGMENT };

/// A host behind a router that leads to everybody.
fn routed() -> StackConfig {
    StackConfig { gateways: vec![PEER.into(), PEER_6.into()], ..dual_stack() }
}

/// What a router says of a packet in a frame of ours: that the next link takes no more than `mtu` bytes.
fn too_long(frame: &[u8], mtu: u16) -> Vec<u8> {
    let packet = &frame[ethernet::LEN..];
    if packet[0] >> 4 == 4 {
        let mut header = [0; icmpv4::LEN];
        let quoted = &packet[..28];
        icmpv4::write_error(&mut header, 3, 4, mtu.into(), quoted);
        return ipv4(PEER, wire::ipv4::ICMP, &[&header[..], quoted].concat());
    }
    let mut header = [0; icmpv6::LEN];
    let quoted = &packet[..packet.len().min(1232)];
    icmpv6::write_error(&mut header, 2, 0, mtu.into(), quoted, PEER_6, OURS_6);
    ipv6(PEER_6, wire::ipv6::ICMPV6, &[&header[..], quoted].concat())
}

/// Requests from somebody behind the router, by either version of IP, and by UDP and ICMP: each with so many bytes.
fn requests(len: usize) -> [Vec<u8>; 4] {
    let remote_6 = "2001:db8::1".parse().unwrap();
    let text = vec![7; len];
    [
        udp(REMOTE, 4000, 7, &text),
        udp6(remote_6, 4000, 7, &text),
        ipv4(REMOTE, wire::ipv4::ICMP, &echo_request(0, &text)),
        ipv6(remote_6, wire::ipv6::ICMPV6, &echo_request_6(remote_6, &text)),
    ]
}

#[test]
fn who_sees_a_long_answer_can_say_that_it_was_too_long() {
    for request in requests(1400) {
        let mut host = Host::new(&routed(), Echo);
        let answers = host.answers(&request);
        assert_eq!(answers.len(), 1);
        host.answers(&too_long(&answers[0], 1300));
        assert_eq!(host.stack.counters().drops.iter().sum::<u64>(), 0, "it is of use");
        let pieces = host.answers(&request);
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| piece.len() <= ethernet::LEN + 1300));
        // By the long way it is remembered as well, and the path gets narrower still.
        host.answers(&too_long(&pieces[0], 1290));
        assert_eq!(host.stack.counters().drops.iter().sum::<u64>(), 0);
        assert!(host.answers(&request).iter().all(|piece| piece.len() <= ethernet::LEN + 1290));
    }
}

#[test]
fn nobody_is_believed_about_what_was_not_sent() {
    for (at, request) in requests(1400).into_iter().enumerate() {
        let is_v4 = at % 2 == 0;
        let transport = ethernet::LEN + if is_v4 { wire::ipv4::LEN } else { wire::ipv6::LEN };
        let destination = ethernet::LEN + if is_v4 { 19 } else { 39 };
        let mut host = Host::new(&routed(), Echo);
        let long = host.answers(&request).remove(0);
        let short = host.answers(&requests(500)[at]).remove(0);
        // A port or number, the length that is quoted, and who it was to.
        let changed = |at: usize, value: u8| {
            let mut frame = long.clone();
            frame[at] ^= value;
            frame
        };
        let number_at = transport + if at < 2 { 3 } else { 7 };
        let shorter = changed(ethernet::LEN + if is_v4 { 2 } else { 4 }, 4);
        for forged in [changed(number_at, 1), changed(destination, 1), shorter, short] {
            host.answers(&too_long(&forged, 1300));
        }
        // It would have fitted, and a link that takes more is none that it did not fit through.
        host.answers(&too_long(&long, 1450));
        assert_eq!(host.dropped(DropReason::IcmpIgnored), 5);
        host.now += Duration::from_secs(11);
        host.answers(&too_long(&long, 1300));
        assert_eq!(host.dropped(DropReason::IcmpIgnored), 6, "that was long ago");
        assert_eq!(host.stack.egress.paths.least(), 1500);
        assert_eq!(host.answers(&request).len(), 1);
    }
}

#[test]
fn packets_take_the_short_way_again_when_routers_are_believed_no_more() {
    let mut host = Host::new(&routed(), Echo);
    let request = requests(1400)[0].clone();
    let answer = host.answers(&request).remove(0);
    host.answers(&too_long(&answer, 600));
    assert_eq!((host.stack.egress.paths.least(), host.answers(&request).len()), (600, 3));
    host.now += Duration::from_secs(599);
    host.turn(&[]);
    assert_eq!((host.stack.egress.paths.least(), host.answers(&request).len()), (600, 3));
    host.now += Duration::from_secs(1);
    host.turn(&[]);
    assert_eq!((host.stack.egress.paths.least(), host.answers(&request).len()), (1500, 1));
}

/// Sends one echo request of so many bytes, as often as it is told to.
struct Prober {
    pings: Vec<(IpAddr, SendOptions)>,
}

impl App for Prober {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        for (to, options) in self.pings.drain(..) {
            let number = Number { identifier: 0x1234, sequence: 7 };
            outbox.ping(to, number, options, 1472, |_, room| room.fill(1)).unwrap();
        }
    }
}

#[test]
fn an_echo_request_that_was_too_long_is_sent_in_fragments_the_next_time() {
    let mut host = Host::new(&routed(), Prober { pings: vec![(REMOTE.into(), MAY_FRAGMENT)] });
    let sent = host.turn(&[]);
    assert_eq!((sent.len(), parse(&sent[0].1).is_fragment()), (1, false));
    host.answers(&too_long(&sent[0].1, 1400));
    host.stack.app_mut().pings.push((REMOTE.into(), MAY_FRAGMENT));
    assert_eq!(host.turn(&[]).len(), 2);
    // Who wants to find out what the path takes still can.
    host.stack.app_mut().pings.push((REMOTE.into(), DONT_FRAGMENT));
    assert_eq!(host.turn(&[])[0].1.len(), ethernet::LEN + 1500);
}

/// The events that are about errors, and what they say.
fn errors(host: &mut Host<impl App>) -> Vec<NetworkError> {
    let events = std::iter::from_fn(|| host.stack.next_event());
    events.filter_map(|event| if let Event::NetworkError(error) = event { Some(error) } else { None }).collect()
}

#[test]
fn an_error_that_comes_to_another_worker_is_of_use_to_the_one_that_sent_the_packet() {
    for request in requests(1400) {
        let [mut sender, mut other] = [0, 1].map(|_| Host::new(&routed(), Echo));
        let answer = sender.answers(&request).remove(0);
        other.answers(&too_long(&answer, 1300));
        assert_eq!(other.dropped(DropReason::IcmpIgnored), 1);
        let [error] = errors(&mut other)[..] else { panic!("it is passed on") };
        sender.stack.hear_network_error(sender.now, &error, &mut sender.umem);
        assert_eq!((sender.answers(&request).len(), errors(&mut sender)), (2, vec![]));
        // A third one cannot use it, and says nothing of it either.
        let mut third = Host::new(&routed(), Echo);
        third.stack.hear_network_error(third.now, &error, &mut third.umem);
        assert_eq!((third.answers(&request).len(), errors(&mut third)), (1, vec![]));
    }
}

#[test]
fn only_some_errors_are_passed_on_at_a_time_and_none_about_what_others_sent() {
    let mut host = Host::new(&routed(), Echo);
    let answer = Host::new(&routed(), Echo).answers(&requests(1400)[0]).remove(0);
    let mut foreign = answer.clone();
    foreign[ethernet::LEN + 15] = 99;
    let port = super::ping::error(3, 3, 0, OURS, wire::ipv4::UDP, &[0, 7, 0x9c, 0x40, 0, 0, 0, 0]);
    let quench = super::ping::error(4, 0, 0, OURS, wire::ipv4::UDP, &[0, 7, 0x9c, 0x40, 0, 0, 0, 0]);
    for _ in 0..100 {
        for frame in [&too_long(&foreign, 1300), &quench, &port] {
            host.answers(frame);
        }
    }
    let passed = errors(&mut host);
    assert_eq!((passed.len(), passed[0].kind), (4, crate::network::icmp::ErrorKind::Refused));
    for _ in 0..100 {
        host.answers(&port);
        host.answers(&too_long(&answer, 1300));
    }
    assert_eq!(errors(&mut host).len(), 8, "those that change a path have places of their own");
    for _ in 0..100 {
        host.answers(&too_long(&answer, 1300));
        host.answers(&arp(wire::arp::Operation::Reply, PEER, OURS));
    }
    host.answers(&arp(wire::arp::Operation::Reply, OURS, OURS));
    let events: Vec<_> = std::iter::from_fn(|| host.stack.next_event()).collect();
    assert!(events.contains(&Event::Contested(OURS.into(), PEER_MAC)), "{events:?}");
}

/// Opens connections, one after another, sends a page on each, and remembers how they ended.
#[derive(Default)]
struct Dialer {
    calls: u32,
    closed: Option<Closed>,
}

impl App for Dialer {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        assert_eq!(connection.send(&[7; 1400]), 1400);
    }

    fn closed(&mut self, _now: Instant, (): &mut (), _id: ConnectionId, reason: Closed) {
        self.closed = Some(reason);
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        if self.calls > 0 {
            self.calls -= 1;
            outbox.connect((REMOTE, 80).into()).unwrap();
        }
    }
}

fn dialer(routes: Vec<Route>) -> Host<Dialer> {
    let tcp = TcpConfig { chunks: 32, connections: 4, backlog: 4, time_wait: 4, ..TcpConfig::default() };
    Host::new(&StackConfig { tcp: Some(tcp), routes, ..routed() }, Dialer::default())
}

impl Host<Dialer> {
    /// One turn with these frames: what is sent. TCP keeps its segments, so that more is on queues than waits for neighbors.
    fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut received, mut out) = (Burst::new(), Burst::new());
        for bytes in frames {
            received.push(self.frame(bytes)).unwrap();
        }
        self.stack.receive(self.now, &mut received, &mut self.umem, &mut out);
        self.stack.transmit(self.now, &mut self.umem, &mut out);
        let frames: Vec<_> = out.drain().collect();
        let bytes = frames.iter().map(|frame| self.umem.bytes(frame).to_vec()).collect();
        for frame in frames {
            let (descriptor, _) = self.umem.lend(frame);
            assert!(self.umem.complete(descriptor.addr));
        }
        bytes
    }

    /// Opens a connection: its SYN, and what is sent as soon as it is established.
    fn call(&mut self) -> (Vec<u8>, Vec<Vec<u8>>) {
        self.stack.app_mut().calls = 1;
        let syn = self.exchange(&[]).remove(0);
        let sent = self.exchange(&[syn_ack(&syn)]);
        (syn, sent)
    }
}

/// What `REMOTE` answers to a SYN: it takes segments of 1,460 bytes.
fn syn_ack(syn: &[u8]) -> Vec<u8> {
    let segment = wire::tcp::Packet::parse(parse(syn).payload()).unwrap();
    let header = wire::tcp::Header {
        source: (REMOTE.into(), 80),
        destination: (OURS.into(), segment.source_port()),
        sequence: crate::wire::seq::SeqNum::new(1000),
        acknowledgment: segment.sequence() + 1,
        flags: wire::tcp::Flags::SYN | wire::tcp::Flags::ACK,
        window: 65_000,
        urgent: 0,
        options: &wire::tcp::Options { mss: Some(1460), ..wire::tcp::Options::EMPTY },
        payload_len: 0,
    };
    let mut bytes = vec![0; header.header_len()];
    header.write(&mut bytes, Sum::default());
    ipv4(REMOTE, wire::ipv4::TCP, &bytes)
}

/// The lengths of IP packets.
fn lengths(frames: &[Vec<u8>]) -> Vec<usize> {
    frames.iter().map(|frame| frame.len() - ethernet::LEN).collect()
}

/// RFC 1191, section 6.3: the estimate is one for all that go to a destination.
#[test]
fn a_connection_begins_with_what_another_was_told_of_the_path() {
    let mut host = dialer(vec![]);
    let (_, sent) = host.call();
    assert_eq!(lengths(&sent), [1440]);
    let again = host.exchange(&[too_long(&sent[0], 1000)]);
    assert_eq!(lengths(&again), [1000, 480]);
    assert_eq!(host.stack.egress.path_mtu(REMOTE.into(), host.now), 1000);
    let (syn, sent) = host.call();
    assert_eq!(lengths(&sent), [1000], "and what is left waits for an acknowledgment");
    assert_eq!(announced(&syn), 1460, "what we take is another matter");
    // A forged one, about what is not under way, changes nothing.
    let mut host = dialer(vec![]);
    let mut forged = host.call().1.remove(0);
    forged[ethernet::LEN + wire::ipv4::LEN + 4] ^= 0x40;
    host.exchange(&[too_long(&forged, 1000)]);
    assert_eq!(host.stack.egress.path_mtu(REMOTE.into(), host.now), 1500);
}

/// The maximum segment size that a SYN announces.
fn announced(syn: &[u8]) -> u16 {
    let options = &parse(syn).payload()[wire::tcp::LEN..];
    assert_eq!(options[..2], [2, 4]);
    u16::from_be_bytes([options[2], options[3]])
}

fn narrow_route(mtu: u16) -> Route {
    Route { mtu: Some(mtu), ..Route::via("192.0.2.0/24".parse().unwrap(), PEER.into()) }
}

#[test]
fn a_connection_keeps_to_the_mtu_of_its_route() {
    let (syn, sent) = dialer(vec![narrow_route(1000)]).call();
    assert_eq!((announced(&syn), lengths(&sent)), (960, vec![1000]));
    let (syn, sent) = dialer(vec![narrow_route(9000)]).call();
    assert_eq!((announced(&syn), lengths(&sent)), (1460, vec![1440]), "the link takes less");
}

#[test]
fn answers_keep_to_the_mtu_of_their_route() {
    let near = udp(PEER, 4000, 7, &[7; 1400]);
    let far = requests(1400)[0].clone();
    let mut host = Host::new(&StackConfig { routes: vec![narrow_route(1000)], ..routed() }, Echo);
    assert_eq!(lengths(&host.answers(&far)), [996, 452]);
    assert_eq!(lengths(&host.answers(&near)), [1428], "another route");
    let routes = || Routes::new(["10.0.0.2/24".parse().unwrap()], &[PEER.into()]);
    host.stack.set_routes(routes());
    assert_eq!(lengths(&host.answers(&far)), [1428]);
    host.stack.set_routes(routes().with(vec![narrow_route(600)]));
    assert_eq!(lengths(&host.answers(&far)).len(), 3);
}

#[test]
fn a_connection_is_given_up_when_another_worker_hears_that_nobody_listens() {
    let [mut caller, mut other] = [0, 1].map(|_| dialer(vec![]));
    caller.stack.app_mut().calls = 1;
    let syn = caller.exchange(&[]).remove(0);
    let transport: [u8; 8] = parse(&syn).payload()[..8].try_into().unwrap();
    other.exchange(&[super::ping::error(3, 3, 0, OURS, wire::ipv4::TCP, &transport)]);
    let [error] = errors(&mut other)[..] else { panic!("it is passed on") };
    caller.stack.hear_network_error(caller.now, &error, &mut caller.umem);
    assert!(caller.exchange(&[]).is_empty());
    assert_eq!(caller.stack.app().closed, Some(Closed::Unreachable));
}
