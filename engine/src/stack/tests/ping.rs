//! What an application sends as it likes, and what it hears of that by ICMP.

use std::net::IpAddr;

use super::*;
use crate::app::{Echo as Number, IcmpError, IcmpMessage, Outbox, SendOptions};
use crate::wire::checksum::pseudo_header;
use crate::wire::icmpv6;

const DONT_FRAGMENT: SendOptions = SendOptions { source: None, hop_limit: None, dscp: 0, ecn: 0, dont_fragment: true };
const MAY_FRAGMENT: SendOptions = SendOptions { dont_fragment: false, ..DONT_FRAGMENT };
const NUMBER: Number = Number { identifier: 0x1234, sequence: 7 };

/// Sends what it is told to, once each, and remembers what it hears.
#[derive(Default)]
struct Pinger {
    pings: Vec<(IpAddr, SendOptions, usize)>,
    datagrams: Vec<(SocketAddr, SendOptions)>,
    long: Vec<(SocketAddr, SendOptions, usize)>,
    results: Vec<Result<(), SendError>>,
    heard: Vec<String>,
    /// Whether it waited for what it hears.
    takes: bool,
}

impl App for Pinger {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn icmp(&mut self, _now: Instant, message: &IcmpMessage<'_>) -> bool {
        self.heard.push(match message {
            IcmpMessage::EchoReply { source, echo, hop_limit, payload } => {
                let bytes: Vec<u8> = payload.pieces().flatten().copied().collect();
                format!("{source} {} {} {hop_limit} {}", echo.identifier, echo.sequence, bytes.escape_ascii())
            }
            IcmpMessage::Error { source, error, destination, protocol, transport } => {
                format!("{source} {error:?} {destination} {protocol} {transport:?}")
            }
        });
        self.takes
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        let write = |at: usize, piece: &mut [u8]| piece.iter_mut().zip(at..).for_each(|(byte, at)| *byte = at as u8);
        for (to, options, len) in self.long.drain(..) {
            self.results.push(outbox.send_long(5000, to, options, len, write));
        }
        for (to, options, len) in self.pings.drain(..) {
            self.results.push(outbox.ping(to, NUMBER, options, len, write));
        }
        for (to, options) in self.datagrams.drain(..) {
            self.results.push(outbox.send_with(5000, to, options, |room| {
                room[..3].copy_from_slice(b"hey");
                3
            }));
        }
    }
}

/// All that a host sends when it pings.
fn pinged(
    config: &StackConfig,
    to: impl Into<IpAddr>,
    options: SendOptions,
    len: usize,
) -> (Host<Pinger>, Vec<Vec<u8>>) {
    let mut host = Host::new(config, Pinger { pings: vec![(to.into(), options, len)], ..Pinger::default() });
    let sent = host.turn(&[]);
    (host, sent.into_iter().map(|(_, bytes)| bytes).collect())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8).collect()
}

fn speaker() -> Pinger {
    Pinger { takes: true, ..Pinger::default() }
}

/// An ICMP error about a packet that carried `transport`.
pub(super) fn error(kind: u8, code: u8, parameter: u32, source: Ipv4Addr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut quoted = vec![0; wire::ipv4::LEN];
    let payload_len = transport.len() as u16;
    wire::ipv4::Header { traffic_class: 0, payload_len, ttl: 1, protocol, source, destination: REMOTE }
        .write(quoted.first_chunk_mut().unwrap());
    quoted.extend(transport);
    let mut header = [0; icmpv4::LEN];
    icmpv4::write_error(&mut header, kind, code, parameter, &quoted);
    ipv4(PEER, wire::ipv4::ICMP, &[&header[..], &quoted].concat())
}

#[test]
fn an_echo_request_travels_as_it_should() {
    let options = SendOptions { hop_limit: Some(3), dscp: 46, ecn: 1, ..DONT_FRAGMENT };
    let (host, sent) = pinged(&config(), PEER, options, 5);
    let packet = parse(&sent[0]);
    assert_eq!((packet.source(), packet.destination(), packet.ttl(), packet.traffic_class()), (OURS, PEER, 3, 0xb9));
    assert!(packet.dont_fragment());
    let message = icmpv4::Packet::parse(packet.payload()).unwrap();
    assert_eq!((message.kind(), message.code(), message.echo()), (icmpv4::ECHO_REQUEST, 0, (0x1234, 7)));
    assert_eq!(packet.payload()[icmpv4::LEN..], [0, 1, 2, 3, 4]);
    assert_eq!((sent.len(), host.stack.counters().icmp_echoes_originated), (1, 1));
}

#[test]
fn an_echo_request_of_ipv6_has_a_checksum_over_its_addresses() {
    for len in [0, 1, 1000, 1452] {
        let (_, sent) = pinged(&dual_stack(), PEER_6, SendOptions { hop_limit: Some(9), ..DONT_FRAGMENT }, len);
        let packet = wire::ipv6::Packet::parse(&sent[0][ethernet::LEN..]).unwrap();
        assert_eq!((packet.source(), packet.destination(), packet.hop_limit()), (OURS_6, PEER_6, 9));
        let message = icmpv6::Packet::parse(packet.payload(), OURS_6, PEER_6).unwrap();
        assert_eq!(
            (message.kind(), message.echo(), message.body()),
            (icmpv6::ECHO_REQUEST, (0x1234, 7), &pattern(len)[..])
        );
    }
}

#[test]
fn a_datagram_comes_from_the_address_that_the_application_names_if_it_is_ours() {
    let second: Ipv4Addr = [10, 0, 0, 77].into();
    let mut config = dual_stack();
    config.addresses.push("10.0.0.77/24".parse().unwrap());
    let from = |source: IpAddr| SendOptions { source: Some(source), ..DONT_FRAGMENT };
    let to = (PEER, 9).into();
    let datagrams =
        vec![(to, from(second.into())), (to, from(OURS_6.into())), (to, from(REMOTE.into())), (to, DONT_FRAGMENT)];
    let mut host = Host::new(&config, Pinger { datagrams, ..Pinger::default() });
    let sent = host.turn(&[]);
    let sources: Vec<_> = sent.iter().map(|(_, bytes)| parse(bytes).source()).collect();
    assert_eq!(sources, [second, OURS]);
    let refused = Err(SendError::Unsent(UnsentReason::NotOurs));
    assert_eq!(host.stack.app().results, [Ok(()), refused, refused, Ok(())]);
    assert_eq!(host.stack.counters().unsent[UnsentReason::NotOurs as usize], 2);
}

#[test]
fn a_datagram_that_others_may_cut_has_an_identification_of_its_own() {
    let to = (PEER, 9).into();
    let options = SendOptions { hop_limit: Some(2), ..MAY_FRAGMENT };
    let app = Pinger { datagrams: vec![(to, options), (to, options), (to, DONT_FRAGMENT)], ..Pinger::default() };
    let mut host = Host::new(&config(), app);
    let sent = host.turn(&[]);
    let packets: Vec<_> = sent.iter().map(|(_, bytes)| parse(bytes)).collect();
    assert_eq!(packets.iter().map(wire::ipv4::Packet::dont_fragment).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(packets.iter().map(wire::ipv4::Packet::ttl).collect::<Vec<_>>(), [2, 2, 64]);
    let identifications = [packets[0].identification(), packets[1].identification()];
    assert!(identifications[0] != identifications[1] && packets[2].identification() == 0, "{identifications:?}");
    let datagram = wire::udp::Packet::parse(packets[0].payload()).unwrap();
    assert_eq!((datagram.source_port(), datagram.destination_port(), datagram.payload()), (5000, 9, &b"hey"[..]));
}

#[test]
fn a_long_echo_request_goes_in_fragments_or_not_at_all() {
    let (host, sent) = pinged(&config(), PEER, MAY_FRAGMENT, 65_507);
    let mut fragments: Vec<_> = sent.iter().map(|bytes| parse(bytes)).collect();
    fragments.sort_by_key(wire::ipv4::Packet::fragment_offset);
    let whole: Vec<u8> = fragments.iter().flat_map(|packet| packet.payload()).copied().collect();
    assert_eq!(icmpv4::Packet::parse(&whole).unwrap().echo(), (0x1234, 7));
    assert!(whole[icmpv4::LEN..] == pattern(65_507));
    assert_eq!(host.stack.app().results, [Ok(())]);
    for (to, len) in [(IpAddr::from(PEER), 1473), (PEER_6.into(), 1453), (PEER.into(), 65_507)] {
        let (host, sent) = pinged(&dual_stack(), to, DONT_FRAGMENT, len);
        assert_eq!(host.stack.app().results, [Err(SendError::Unsent(UnsentReason::TooLong))]);
        assert!(sent.is_empty() && host.stack.counters().unsent[UnsentReason::TooLong as usize] == 1);
    }
    // Longer than any packet of either version of IP.
    for (to, len) in [(IpAddr::from(PEER), 65_508), (PEER_6.into(), 65_528), (PEER.into(), 1 << 20)] {
        let (host, sent) = pinged(&dual_stack(), to, MAY_FRAGMENT, len);
        assert!(sent.is_empty() && host.stack.counters().icmp_echoes_originated <= 1, "{len}");
        assert_eq!(host.stack.counters().unsent[UnsentReason::TooLong as usize], 1, "{len}");
    }
}

/// RFC 768 and RFC 8200, section 3: the longest datagrams of both versions of IP.
#[test]
fn a_long_datagram_goes_in_fragments_in_one_piece_or_not_at_all() {
    let sent = |config: &StackConfig, to: IpAddr, options, len| {
        let app = Pinger { long: vec![((to, 9).into(), options, len)], ..Pinger::default() };
        let mut host = Host::new(config, app);
        let mut sent: Vec<_> = host.turn(&[]).into_iter().map(|(_, bytes)| bytes).collect();
        // By the offset, which has its flags in other places.
        let at = ethernet::LEN + if to.is_ipv4() { 6 } else { 42 };
        let offset = |bytes: &Vec<u8>| {
            let field = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            if to.is_ipv4() { field & 0x1fff } else { field >> 3 }
        };
        sent.sort_by_key(offset);
        (host, sent)
    };
    for (to, len) in [(IpAddr::from(PEER), 65_507), (PEER_6.into(), 65_527), (PEER.into(), 3000), (PEER.into(), 5)] {
        let (host, sent) = sent(&dual_stack(), to, MAY_FRAGMENT, len);
        assert_eq!(host.stack.app().results, [Ok(())]);
        let (headers, least) = if to.is_ipv4() { (20, 1480) } else { (48, 1448) };
        assert_eq!(sent.len(), (len + wire::udp::LEN).div_ceil(least));
        let whole: Vec<u8> = sent.iter().flat_map(|bytes| &bytes[ethernet::LEN + headers..]).copied().collect();
        let pseudo = if to.is_ipv4() {
            pseudo_header(OURS.into(), PEER.into(), wire::ipv4::UDP, (len + 8) as u16)
        } else {
            pseudo_header(OURS_6.into(), PEER_6.into(), wire::ipv4::UDP, (len + 8) as u16)
        };
        assert!(pseudo.add_bytes(&whole).is_valid() && whole[wire::udp::LEN..] == pattern(len), "{to} {len}");
        let counters = host.stack.counters();
        assert_eq!((counters.udp_originated, counters.datagrams_fragmented), (1, u64::from(sent.len() > 1)));
    }
    let too_long = [(IpAddr::from(PEER), MAY_FRAGMENT, 65_508), (PEER_6.into(), MAY_FRAGMENT, 65_528)];
    for (to, options, len) in too_long.into_iter().chain([(PEER.into(), DONT_FRAGMENT, 1473)]) {
        let (host, sent) = sent(&dual_stack(), to, options, len);
        assert_eq!(host.stack.app().results, [Err(SendError::Unsent(UnsentReason::TooLong))]);
        assert!(sent.is_empty() && host.stack.counters().unsent[UnsentReason::TooLong as usize] == 1);
    }
    // A link for jumbo frames takes what lies in several chunks.
    let jumbo = StackConfig { mtu: 9000, ..dual_stack() };
    for options in [DONT_FRAGMENT, MAY_FRAGMENT] {
        let (host, sent) = sent(&jumbo, PEER.into(), options, 8972);
        assert_eq!((sent.len(), host.stack.app().results.clone()), (1, vec![Ok(())]));
        assert_eq!(sent[0].len(), ethernet::LEN + 9000);
    }
}

#[test]
fn replies_are_delivered_if_the_application_waited_for_them() {
    let mut reply = [&[0, 0, 0, 0, 0x12, 0x34, 0, 7][..], b"data"].concat();
    let checksum = Sum::default().add_bytes(&reply).checksum();
    reply[2..4].copy_from_slice(&checksum.to_be_bytes());
    let frame = ipv4(PEER, wire::ipv4::ICMP, &reply);
    for takes in [true, false] {
        let mut host = Host::new(&config(), Pinger { takes, ..Pinger::default() });
        assert!(host.answers(&frame).is_empty());
        assert_eq!(host.stack.app().heard, ["10.0.0.1 4660 7 1 data"]);
        let counters = host.stack.counters();
        assert_eq!((counters.delivered, counters.icmp_delivered), (u64::from(takes), u64::from(takes)));
        assert_eq!(host.dropped(DropReason::IcmpIgnored), u64::from(!takes));
    }
    // One that the whole link hears is no answer to us.
    let mut to_all = frame;
    to_all[..6].fill(0xff);
    let mut host = Host::new(&config(), speaker());
    host.answers(&to_all);
    assert!(host.stack.app().heard.is_empty());
}

#[test]
fn errors_are_told_with_what_they_are_about() {
    let transport = [0x13, 0x88, 0x82, 0x9a, 0, 40, 1, 2];
    let mut host = Host::new(&config(), speaker());
    for (kind, code, parameter) in [(3, 1, 0), (3, 4, 1400), (11, 0, 0), (12, 0, 8 << 24), (3, 13, 0), (4, 0, 0)] {
        host.answers(&error(kind, code, parameter, OURS, wire::ipv4::UDP, &transport));
    }
    let kinds = [
        "Unreachable { code: 1 }",
        "TooLong { mtu: 1400 }",
        "TimeExceeded { code: 0 }",
        "ParameterProblem { code: 0, pointer: 8 }",
        "Unreachable { code: 13 }",
    ];
    let heard = kinds.map(|kind| format!("10.0.0.1 {kind} 192.0.2.1 17 {transport:?}"));
    assert_eq!(host.stack.app().heard, heard, "and nothing about source quench");
    assert_eq!((host.stack.counters().delivered, host.dropped(DropReason::IcmpIgnored)), (5, 1));
}

#[test]
fn errors_about_what_others_sent_and_about_tcp_are_not_told() {
    let mut host = Host::new(&config(), speaker());
    host.answers(&error(11, 0, 0, PEER, wire::ipv4::UDP, &[0; 8]));
    host.answers(&error(11, 0, 0, OURS, wire::ipv4::TCP, &[0; 8]));
    host.answers(&error(11, 0, 0, OURS, 50, &[0; 8]));
    assert!(host.stack.app().heard.is_empty());
    assert_eq!(host.dropped(DropReason::IcmpIgnored), 3);
    host.answers(&error(11, 0, 0, OURS, wire::ipv4::ICMP, &[8, 0, 0, 0, 0x12, 0x34, 0, 7]));
    assert_eq!(host.stack.app().heard.len(), 1);
}

#[test]
fn a_neighbor_that_is_not_there_is_told_by_ourselves() {
    let app = Pinger {
        pings: vec![(PEER.into(), DONT_FRAGMENT, 0)],
        datagrams: vec![((PEER, 9).into(), DONT_FRAGMENT)],
        ..speaker()
    };
    let mut host = Host::new(&newcomer(), app);
    host.turn(&[]);
    while let Some(next) = host.stack.next_deadline() {
        host.now = next;
        host.turn(&[]);
    }
    let unreachable = IcmpError::Unreachable { code: icmpv4::HOST_UNREACHABLE };
    let [ping, datagram] = &host.stack.app().heard[..] else { panic!("{:?}", host.stack.app().heard) };
    assert!(ping.starts_with(&format!("10.0.0.2 {unreachable:?} 10.0.0.1 1 [8, 0, ")), "{ping}");
    assert!(ping.ends_with("18, 52, 0, 7]"), "{ping}");
    assert!(datagram.starts_with(&format!("10.0.0.2 {unreachable:?} 10.0.0.1 17 [19, 136, 0, 9, ")), "{datagram}");
    assert_eq!(host.stack.counters().unsent[UnsentReason::NeighborUnreachable as usize], 2);
}
