//! What RFC 9293 asks of TCP together with the layers below it (sections 3.9.1 and 3.9.2), frame by frame.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::app::{Answer, Closed, ConnectError, Connection, ConnectionId, Datagram, KEEP_ALIVE, Outbox, SoftError};
use crate::apps::echo::Echo;
use crate::base::{ChunkSize, UmemConfig};
use crate::transport::tcp::TcpConfig;
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{self, Flags, Options};
use crate::wire::{self, icmpv4};

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Another address of ours, on another link.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 7;
const PEER_PORT: u16 = 40_000;
/// The peer's numbers begin here, and wrap soon.
const IRS: SeqNum = SeqNum::new(u32::MAX - 1);

fn config() -> TcpConfig {
    TcpConfig { ports: vec![PORT], connections: 8, backlog: 4, time_wait: 4, chunks: 64, ..TcpConfig::default() }
}

/// A stack with two addresses.
struct Host<A: App> {
    stack: Stack<A>,
    umem: Umem,
    now: Instant,
}

impl<A: App> Host<A> {
    fn new(app: A, tcp: TcpConfig) -> Self {
        Self::knowing(vec![(PEER.into(), PEER_MAC)], app, tcp)
    }

    fn knowing(fixed: Vec<(IpAddress, Mac)>, app: A, tcp: TcpConfig) -> Self {
        Self::at(vec!["10.0.0.2/24".parse().unwrap(), "10.0.1.2/24".parse().unwrap()], fixed, app, tcp)
    }

    fn at(addresses: Vec<IpNet>, fixed: Vec<(IpAddress, Mac)>, app: A, tcp: TcpConfig) -> Self {
        let config = StackConfig {
            mac: OUR_MAC,
            mtu: 1500,
            vlan: None,
            addresses,
            gateways: vec![PEER.into()],
            routes: vec![],
            probing: Probing::Off,
            groups: vec![],
            broadcasts: false,
            autoconf: None,
            udp_ports: vec![PORT],
            checksum: ChecksumPolicy::Verify,
            tcp: Some(tcp),
            own_queue: None,
            neighbors: NeighborConfig { fixed, ..NeighborConfig::default() },
            reassembly: ReassemblyConfig::default(),
            marking: Marking::default(),
            secret: [1, 2],
        };
        let now = Instant::from_ns(1 << 40);
        let umem = UmemConfig { chunks: 128, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self { stack: Stack::new(&config, app, now), umem: Umem::new(umem).unwrap(), now }
    }

    /// One turn; each frame out in bytes.
    fn turn(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut received, mut out) = (Burst::new(), Burst::new());
        for bytes in frames {
            let mut frame = self.umem.alloc().unwrap();
            assert!(self.umem.set_len(&mut frame, bytes.len()));
            self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            received.push(frame).unwrap();
        }
        self.stack.receive(self.now, &mut received, &mut self.umem, &mut out);
        self.stack.transmit(self.now, &mut self.umem, &mut out);
        let mut sent = Vec::new();
        for frame in out.drain() {
            sent.push(self.umem.bytes(&frame).to_vec());
            let (descriptor, _) = self.umem.lend(frame);
            assert!(self.umem.complete(descriptor.addr));
        }
        sent
    }

    /// The answers to a frame, of which all are TCP.
    fn answers(&mut self, frame: Vec<u8>) -> Vec<Seen> {
        self.turn(&[frame]).iter().map(|bytes| Seen::parse(bytes)).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stack.counters().drops[reason as usize]
    }

    /// A connection that the peer opened to an address of ours: our number behind the SYN.
    fn open(&mut self, to: Ipv4Addr) -> SeqNum {
        let answers = self.answers(Sent { to, ..SYN }.frame());
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        let nxt = answer.seq + 1;
        assert_eq!(self.answers(Sent { to, flags: Flags::ACK, seq: IRS + 1, ack: nxt, ..SYN }.frame()).len(), 0);
        nxt
    }
}

/// A segment of the peer.
#[derive(Clone, Copy)]
struct Sent<'a> {
    mac: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    seq: SeqNum,
    ack: SeqNum,
    flags: Flags,
    text: &'a [u8],
    ip_options: &'a [u8],
}

/// The peer asks for a connection.
const SYN: Sent<'static> = Sent {
    mac: OUR_MAC,
    from: PEER,
    to: OURS,
    seq: IRS,
    ack: SeqNum::new(0),
    flags: Flags::SYN,
    text: b"",
    ip_options: b"",
};

impl Sent<'_> {
    fn frame(&self) -> Vec<u8> {
        let options = Options::default();
        let header = tcp::Header {
            source: (self.from.into(), PEER_PORT),
            destination: (self.to.into(), PORT),
            sequence: self.seq,
            acknowledgment: self.ack,
            flags: self.flags,
            window: 65_535,
            urgent: 0,
            options: &options,
            payload_len: self.text.len() as u16,
        };
        let mut segment = vec![0; header.header_len()];
        header.write(&mut segment, Sum::default().add_bytes(self.text));
        segment.extend(self.text);
        ethernet(self.mac, &ipv4(self.from, self.to, wire::ipv4::TCP, self.ip_options, &segment))
    }
}

fn ethernet(destination: Mac, packet: &[u8]) -> Vec<u8> {
    let tags = ethernet::Tags::default();
    let mut bytes = vec![0; ethernet::LEN];
    assert!(ethernet::Header { destination, source: PEER_MAC, tags, ethertype: ethernet::IPV4 }.write(&mut bytes));
    bytes.extend(packet);
    bytes
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut fixed = [0; wire::ipv4::LEN];
    let payload_len = (options.len() + payload.len()) as u16;
    wire::ipv4::Header { traffic_class: 0, payload_len, ttl: 64, protocol, source, destination }.write(&mut fixed);
    let mut header = [&fixed[..], options].concat();
    header[0] = 0x40 | (header.len() / 4) as u8;
    header[10..12].fill(0);
    let checksum = Sum::default().add_bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header.extend(payload);
    header
}

/// A segment of ours.
#[derive(Clone, Debug)]
struct Seen {
    from: Ipv4Addr,
    to: Ipv4Addr,
    ttl: u8,
    seq: SeqNum,
    flags: Flags,
    text: Vec<u8>,
    /// The datagram, to be quoted.
    datagram: Vec<u8>,
}

impl Seen {
    fn parse(frame: &[u8]) -> Self {
        let datagram = &frame[ethernet::LEN..];
        let packet = wire::ipv4::Packet::parse(datagram).unwrap();
        assert_eq!(packet.protocol(), wire::ipv4::TCP);
        let segment = tcp::Packet::parse(packet.payload()).unwrap();
        assert!(segment.checksum_is_valid(packet.source().into(), packet.destination().into()));
        Self {
            from: packet.source(),
            to: packet.destination(),
            ttl: packet.ttl(),
            seq: segment.sequence(),
            flags: segment.flags(),
            text: segment.payload().to_vec(),
            datagram: datagram.to_vec(),
        }
    }
}

/// RFC 9293, section 3.1 (MUST-3): the receiver MUST check the checksum.
#[test]
fn a_segment_with_a_wrong_checksum_is_dropped() {
    let mut host = Host::new(Echo, config());
    let good = SYN.frame();
    for at in ethernet::LEN + wire::ipv4::LEN..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert_eq!(host.turn(&[bad]).len(), 0);
    }
    let tcp = host.stack.tcp_state().unwrap();
    assert_eq!((tcp.population(), host.dropped(DropReason::TcpChecksum)), ((0, 0, 0), 19), "but for the data offset");
    assert_eq!(host.answers(good).len(), 1);
}

/// RFC 9293, section 3.9.2 (MUST-49): the TTL of TCP segments is configurable.
#[test]
fn segments_have_the_configured_ttl() {
    for (config, ttl) in [(config(), 64), (TcpConfig { ttl: Some(3), ..config() }, 3)] {
        let mut host = Host::new(Echo, config);
        assert_eq!(host.answers(SYN.frame())[0].ttl, ttl);
        let mut host = Host::new(Echo, TcpConfig { ttl: Some(ttl), ..self::config() });
        let ack = host.open(OURS);
        let echo = host.answers(Sent { flags: Flags::ACK, seq: IRS + 1, ack, text: b"hello", ..SYN }.frame());
        assert_eq!((echo[0].ttl, &echo[0].text[..]), (ttl, &b"hello"[..]));
    }
}

/// RFC 9293, section 3.9.2 (MUST-50): IP options that TCP does not understand are ignored.
#[test]
fn ip_options_are_ignored() {
    // Record route, router alert, a timestamp, and one that nobody has heard of.
    for ip_options in [&[7, 7, 4, 0, 0, 0, 0, 0][..], &[148, 4, 0, 0], &[68, 8, 5, 0, 0, 0, 0, 0], &[99, 4, 1, 2]] {
        let mut host = Host::new(Echo, config());
        let answers = host.answers(Sent { ip_options, ..SYN }.frame());
        assert_eq!(answers[0].flags, Flags::SYN | Flags::ACK);
        let (ack, flags) = (answers[0].seq + 1, Flags::ACK);
        let echo = host.answers(Sent { flags, seq: IRS + 1, ack, text: b"hello", ip_options, ..SYN }.frame());
        assert_eq!(echo[0].text, b"hello");
    }
}

/// RFC 9293, section 3.9.2.3 (MUST-57): a SYN that is addressed to a broadcast or multicast address is silently
/// discarded.
#[test]
fn a_syn_to_everybody_is_discarded() {
    let mut host = Host::new(Echo, config());
    let groups = [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(224, 0, 0, 1)];
    for (to, mac) in groups.into_iter().flat_map(|to| [(to, OUR_MAC), (to, Mac::BROADCAST)]) {
        assert_eq!(host.turn(&[Sent { to, mac, ..SYN }.frame()]).len(), 0);
    }
    // To us alone, in a frame to everybody.
    assert_eq!(host.turn(&[Sent { mac: Mac::BROADCAST, ..SYN }.frame()]).len(), 0);
    assert_eq!((host.dropped(DropReason::Ipv4Broadcast), host.dropped(DropReason::Ipv4LinkBroadcast)), (6, 1));
    assert_eq!(host.stack.tcp_state().unwrap().population(), (0, 0, 0));
}

/// RFC 9293, section 3.9.2.3 (MUST-63): a SYN with an invalid source address is ignored.
#[test]
fn a_syn_from_nobody_is_ignored() {
    let mut host = Host::new(Echo, config());
    let invalid = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "10.0.0.255", "10.0.0.2"];
    for from in invalid {
        assert_eq!(host.turn(&[Sent { from: from.parse().unwrap(), ..SYN }.frame()]).len(), 0, "{from}");
    }
    assert_eq!(host.dropped(DropReason::Ipv4SourceInvalid), invalid.len() as u64);
    assert_eq!(host.stack.tcp_state().unwrap().population(), (0, 0, 0));
}

/// RFC 9293, section 3.9.1.1 (MUST-45): the local address of the segments before is used.
#[test]
fn a_connection_keeps_the_address_that_it_was_opened_to() {
    for to in [OURS, SECOND] {
        let mut host = Host::new(Echo, config());
        let ack = host.open(to);
        let echo = host.answers(Sent { to, flags: Flags::ACK, seq: IRS + 1, ack, text: b"hello", ..SYN }.frame());
        assert_eq!((echo[0].from, echo[0].to, &echo[0].text[..]), (to, PEER, &b"hello"[..]));
        host.now += Duration::from_secs(1);
        let again: Vec<_> = host.turn(&[]).iter().map(|bytes| Seen::parse(bytes)).collect();
        assert_eq!((again[0].from, &again[0].text[..]), (to, &b"hello"[..]));
    }
}

/// RFC 9293, section 3.9.1.1 (MUST-43): who listens at one address is not reached at another.
#[test]
fn a_port_may_be_listened_on_at_one_address() {
    let mut host = Host::new(Echo, TcpConfig { listen_at: vec![SECOND.into()], ..config() });
    assert!(host.answers(SYN.frame())[0].flags.contains(Flags::RST));
    host.open(SECOND);
}

/// Wants to know whether its peers still live, and has no reason for an interval of its own.
#[derive(Debug)]
struct Patient;

impl App for Patient {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        connection.set_keep_alive(Some(KEEP_ALIVE));
    }
}

/// RFC 9293, section 3.8.4 (MUST-28): the interval of keep-alives defaults to no less than two hours.
#[test]
fn the_usual_keep_alive_comes_after_two_hours() {
    let mut host = Host::new(Patient, config());
    let nxt = host.open(OURS);
    host.now += Duration::from_secs(7199);
    assert_eq!(host.turn(&[]).len(), 0);
    host.now += Duration::from_secs(1);
    let sent = host.turn(&[]);
    assert_eq!((sent.len(), Seen::parse(&sent[0]).seq), (1, nxt - 1));
}

/// Opens connections, and remembers what came of it.
#[derive(Debug, Default)]
struct Caller {
    wanted: Vec<(Option<IpAddr>, SocketAddr)>,
    results: Vec<Result<ConnectionId, ConnectError>>,
    closed: Vec<Closed>,
    trouble: Option<SoftError>,
}

impl App for Caller {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        for (from, to) in self.wanted.drain(..) {
            self.results.push(match from {
                None => outbox.connect(to),
                Some(from) => outbox.connect_from(from, to),
            });
        }
        let first = self.results.first().and_then(|result| result.ok());
        self.trouble = first.and_then(|id| outbox.connection(id).and_then(|connection| connection.soft_error()));
    }

    fn closed(&mut self, _now: Instant, (): &mut (), _id: ConnectionId, reason: Closed) {
        self.closed.push(reason);
    }
}

fn caller(from: Option<&str>, to: &str) -> Host<Caller> {
    let from = from.map(|from| from.parse().unwrap());
    let app = Caller { wanted: vec![(from, SocketAddr::new(to.parse().unwrap(), 80))], ..Caller::default() };
    Host::knowing(vec![], app, TcpConfig { ports: vec![], ..config() })
}

impl Host<Caller> {
    /// The SYN of the connection that is opened, after its way was asked for.
    fn syn(&mut self, neighbor: Ipv4Addr) -> Seen {
        assert_eq!(self.turn(&[]).len(), 0);
        let asked = self.turn(&[]);
        let ethertype = asked.first().map(|frame| ethernet::Header::parse(frame).unwrap().ethertype);
        assert_eq!((asked.len(), ethertype), (1, Some(ethernet::ARP)));
        self.stack.confirm_neighbor(neighbor.into(), PEER_MAC, true, self.now);
        let sent = self.turn(&[]);
        assert_eq!(sent.len(), 1);
        Seen::parse(&sent[0])
    }
}

/// RFC 9293, section 3.9.1.1 (MUST-44): the IP layer selects the local address, unless the application names one
/// (MUST-43).
#[test]
fn the_local_address_is_that_of_the_route_or_of_the_application() {
    let (second, elsewhere) = (SECOND.to_string(), Ipv4Addr::new(10, 0, 1, 9));
    for (from, to, neighbor, expected) in [
        (None, "10.0.0.1", PEER, OURS),
        (None, "192.0.2.1", PEER, OURS),
        (None, "10.0.1.9", elsewhere, SECOND),
        (Some(&*second), "10.0.0.1", PEER, SECOND),
    ] {
        let syn = caller(from, to).syn(neighbor);
        assert_eq!((syn.from, syn.to.to_string(), syn.flags), (expected, to.to_string(), Flags::SYN));
    }
    for from in ["10.0.0.3", "0.0.0.0", "::1"] {
        let mut host = caller(Some(from), "10.0.0.1");
        assert_eq!(host.turn(&[]).len(), 0);
        assert_eq!(host.stack.app().results, [Err(ConnectError::NotOurs)]);
    }
}

/// RFC 9293, section 3.9.1.1 (MUST-46): an OPEN to a broadcast or multicast address is an error.
#[test]
fn nobody_connects_to_everybody() {
    let invalid = ["255.255.255.255", "10.0.0.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "10.0.0.2"];
    for to in invalid {
        let mut host = caller(None, to);
        assert_eq!(host.turn(&[]).len(), 0);
        assert_eq!(host.stack.app().results, [Err(ConnectError::InvalidAddress)], "{to}");
    }
}

/// An ICMP error about a datagram of ours.
fn icmp(kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
    let mut message = [0; icmpv4::LEN];
    let quoted = &about[..wire::ipv4::LEN + 8];
    icmpv4::write_error(&mut message, kind, code, 0, quoted);
    ethernet(OUR_MAC, &ipv4(PEER, OURS, wire::ipv4::ICMP, b"", &[&message[..], quoted].concat()))
}

/// RFC 9293, section 3.9.2.2 (MUST-54, MUST-56): an error goes to the connection that it is about; section 3.9.1.8
/// (MUST-47): and the application can learn of it.
#[test]
fn an_icmp_error_comes_to_the_application_of_its_connection() {
    let mut host = caller(None, "10.0.0.1");
    let syn = host.syn(PEER);
    host.turn(&[icmp(icmpv4::UNREACHABLE, 1, &syn.datagram)]);
    host.turn(&[]);
    assert_eq!((host.stack.app().trouble, &host.stack.app().closed[..]), (Some(SoftError::Unreachable), &[][..]));
    host.turn(&[icmp(icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, &syn.datagram)]);
    host.turn(&[]);
    assert_eq!(host.stack.app().closed, [Closed::Unreachable]);
}

/// RFC 9293, section 3.9.2.2 (MUST-55): Source Quench is silently discarded.
#[test]
fn source_quench_is_discarded() {
    let mut host = Host::new(Echo, config());
    let ack = host.open(OURS);
    let text = &[b'x'; 1000];
    let echo = host.answers(Sent { flags: Flags::ACK, seq: IRS + 1, ack, text, ..SYN }.frame());
    let now = host.now;
    let window = |host: &Host<Echo>| host.stack.tcp_state().unwrap().connections(now).next().unwrap().cwnd;
    let before = window(&host);
    assert_eq!(host.turn(&[icmp(icmpv4::SOURCE_QUENCH, 0, &echo[0].datagram)]).len(), 0);
    assert_eq!((window(&host), host.dropped(DropReason::IcmpIgnored)), (before, 1));
}

/// RFC 9293, section 3.7.1 (MUST-15): if an MSS option is not received, a send MSS of 1220 is assumed for IPv6.
#[test]
fn without_an_mss_option_segments_over_ipv6_carry_1220_bytes() {
    let [ours, peer] = [2, 1].map(|n| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
    let fixed = vec![(peer.into(), PEER_MAC)];
    let mut host = Host::at(vec!["fd00::2/64".parse().unwrap()], fixed, Echo, config());
    // Sends a segment: number and bytes of text of each answer.
    let mut send = |seq: SeqNum, ack: SeqNum, flags: Flags, text: &[u8]| {
        let (options, payload_len) = (Options::default(), text.len() as u16);
        let (source, destination) = ((peer.into(), PEER_PORT), (ours.into(), PORT));
        let (sequence, acknowledgment, window, urgent) = (seq, ack, 65_535, 0);
        let header = tcp::Header {
            source,
            destination,
            sequence,
            acknowledgment,
            flags,
            window,
            urgent,
            options: &options,
            payload_len,
        };
        let mut segment = vec![0; header.header_len()];
        header.write(&mut segment, Sum::default().add_bytes(text));
        segment.extend(text);
        let (payload_len, next_header) = (segment.len() as u16, wire::ipv4::TCP);
        let (traffic_class, flow_label, hop_limit, source, destination) = (0, 0, 64, peer, ours);
        let mut ip = [0; wire::ipv6::LEN];
        wire::ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination }
            .write(&mut ip);
        let mut frame = ethernet(OUR_MAC, &[&ip[..], &segment].concat());
        frame[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
        let read = |frame: &Vec<u8>| {
            let packet = wire::ipv6::Packet::parse(&frame[ethernet::LEN..]).unwrap();
            let segment = tcp::Packet::parse(packet.payload()).unwrap();
            (segment.sequence(), segment.payload().len())
        };
        host.turn(&[frame]).iter().map(read).collect::<Vec<_>>()
    };
    let nxt = send(IRS, SeqNum::new(0), Flags::SYN, b"")[0].0 + 1;
    assert_eq!(send(IRS + 1, nxt, Flags::ACK, &[7; 1440]), [(nxt, 1220), (nxt + 1220, 220)]);
}

/// RFC 4861, section 7.3.1: what a connection sends arrives, so nobody need be asked whether the neighbor is there.
#[test]
fn a_neighbor_is_asked_only_while_no_connection_goes_on() {
    let questions = |acknowledges: bool| {
        let mut host = Host::knowing(vec![], Echo, config());
        host.stack.egress.neighbors.heard_from(PEER.into(), PEER_MAC, host.now);
        host.stack.egress.neighbors.advertised(PEER.into(), Advertisement::arp_reply(PEER_MAC), host.now);
        let mut ack = host.open(OURS);
        let (mut seq, mut asked) = (IRS + 1, 0);
        for _ in 0..200 {
            host.now += Duration::from_millis(500);
            let mut frames = Vec::new();
            if acknowledges {
                frames.push(Sent { flags: Flags::ACK, seq, ack, text: b"hello", ..SYN }.frame());
                (seq, ack) = (seq + 5, ack + 5);
            }
            for frame in host.turn(&frames) {
                asked += usize::from(frame[12..14] == ethernet::ARP.to_be_bytes());
            }
            if !acknowledges {
                host.stack.egress.neighbors.resolve(PEER.into(), host.now);
            }
        }
        asked
    };
    assert_eq!(questions(true), 0);
    assert!(questions(false) > 0, "otherwise it is asked within 50 s");
}
