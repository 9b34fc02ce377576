//! What the stack costs a packet, without a kernel: bursts of frames in, bursts of answers out.
//!
//! ```text
//!   stack_cost --time                 nanoseconds a packet, on every path: median, least and most of many runs
//!   stack_cost --packets N PATH       exactly N packets, for callgrind
//! ```
//!
//! Counted is what [`turn`] does, and nothing else: callgrind is told to collect within it
//! (`--toggle-collect`), and with `--time` the clock is read before and after it, which adds some 0.5 ns a
//! packet. What a NIC does, and what the engine's ring layer does, is done by [`Nic`] outside of it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use barewire::app::App;
use barewire::apps::echo::Echo;
use barewire::base::{self, BURST, Burst, ChunkSize, Descriptor, Umem, UmemConfig};
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::network::reassembly::ReassemblyConfig;
use barewire::stack::{Stack, StackConfig};
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::checksum::Sum;
use barewire::wire::ethernet::{self, Mac, Tags, Vlan};
use barewire::wire::ip::IpAddress;
use barewire::wire::{arp, icmpv6, ipv4, ipv6, ndp, udp};

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 7;
/// Where a path is on a VLAN, this one.
const VLAN: Vlan = Vlan::new(77, None);

/// Bytes in front of a received frame: what the kernel leaves there (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;

/// A way through the stack.
struct Path {
    name: &'static str,
    /// Frames that come in one after the other, again and again.
    frames: fn() -> Vec<Vec<u8>>,
    vlan: Option<Vlan>,
    /// Frames that go out for each that came in: 1 or 0. One that takes another way is measured in vain.
    answers: u64,
}

impl Path {
    const fn answered(name: &'static str, frames: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, frames, vlan: None, answers: 1 }
    }
}

/// Lengths are those of frames from the Ethernet header to the end of the payload. Where a name has none, the payload
/// is as long as that of udp_echo_64 or icmp_echo_98: the headers alone make the difference.
const PATHS: [Path; 11] = [
    Path::answered("udp_echo_64", || vec![udp_frame(PORT, 64)]),
    Path::answered("udp_echo_1514", || vec![udp_frame(PORT, 1514)]),
    Path::answered("udp_echo_ipv6", || vec![udp_frame_v6(&pattern(22))]),
    Path { vlan: Some(VLAN), ..Path::answered("udp_echo_vlan", || vec![tagged(&udp_frame(PORT, 64))]) },
    // Two fragments each way: of 2,000 bytes of payload, and not by copying them together.
    Path::answered("udp_echo_fragmented", || fragments(&pattern(2_000))),
    Path::answered("icmp_echo_98", || vec![icmp_frame()]),
    Path::answered("icmpv6_echo", || vec![icmpv6_frame()]),
    Path::answered("arp_request", || vec![arp_frame()]),
    Path::answered("neighbor_solicitation", || vec![solicitation_frame()]),
    Path { answers: 0, ..Path::answered("udp_port_closed_rate_limited", || vec![udp_frame(PORT + 1, 64)]) },
    Path { answers: 0, ..Path::answered("other_destination_mac", || vec![other_frame()]) },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--time"] => {
            PATHS.iter().for_each(time);
            return ExitCode::SUCCESS;
        }
        ["--packets", packets, name] => {
            let path = PATHS.iter().find(|path| path.name == name);
            if let (Ok(packets), Some(path)) = (packets.parse::<u64>(), path) {
                run(path, packets / BURST as u64);
                return ExitCode::SUCCESS;
            }
        }
        _ => {}
    }
    let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
    eprintln!("usage: stack_cost --time | --packets N PATH, where PATH is one of: {}", names.join(" "));
    ExitCode::from(2)
}

/// Prints what a packet costs on `path`.
fn time(path: &Path) {
    const RUNS: usize = 31;
    const TURNS: u64 = 2_000;
    let mut ns: Vec<f64> =
        (0..RUNS).map(|_| run(path, TURNS).as_nanos() as f64 / (TURNS * BURST as u64) as f64).collect();
    ns.sort_by(f64::total_cmp);
    println!(
        "{:<30} {:6.1} ns a packet (least {:.1}, most {:.1}, {RUNS} runs of {} packets)",
        path.name,
        ns[RUNS / 2],
        ns[0],
        ns[RUNS - 1],
        TURNS * BURST as u64
    );
}

/// Takes so many full bursts through the stack, and says for how long they were in it.
fn run(path: &Path, turns: u64) -> Duration {
    let umem = UmemConfig { chunks: 4 * BURST as u32, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
    let mut umem = Umem::new(umem).expect("half a megabyte of memory");
    // Time stands still, so that no rate limit lets a packet of a measured run through.
    let now = base::Instant::from_ns(1_000_000_000);
    let mut stack = Stack::new(&config(path.vlan), Echo, now);
    let mut nic = Nic { frames: (path.frames)(), received: Burst::new(), out: Burst::new() };
    // What a limit lets through at first goes through before the measurement.
    nic.receive(&mut umem);
    turn(&mut stack, now, &mut nic, &mut umem);
    nic.transmit(&mut umem);
    let (mut answers, mut elapsed) = (0, Duration::ZERO);
    for _ in 0..turns {
        nic.receive(&mut umem);
        let start = Instant::now();
        turn(&mut stack, now, &mut nic, &mut umem);
        elapsed += start.elapsed();
        answers += nic.transmit(&mut umem);
    }
    assert_eq!(answers, turns * BURST as u64 * path.answers, "{} takes another way", path.name);
    elapsed
}

/// The measured function.
#[inline(never)]
fn turn<A: App>(stack: &mut Stack<A>, now: base::Instant, nic: &mut Nic, umem: &mut Umem) {
    stack.receive(now, &mut nic.received, umem, &mut nic.out);
    stack.transmit(now, umem, &mut nic.out);
}

fn config(vlan: Option<Vlan>) -> StackConfig {
    let peers = [PEER.into(), PEER_V6.into()].map(|address: IpAddress| (address, PEER_MAC));
    StackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        vlan,
        addresses: ["10.0.0.2/24", "fd00::2/64"].map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
        gateways: Vec::new(),
        routes: Vec::new(),
        probing: Probing::Off,
        groups: vec![],
        broadcasts: false,
        autoconf: None,
        udp_ports: vec![PORT],
        checksum: ChecksumPolicy::Verify,
        tcp: None,
        own_queue: None,
        reassembly: ReassemblyConfig::default(),
        neighbors: NeighborConfig { fixed: peers.to_vec(), ..NeighborConfig::default() },
        marking: barewire::stack::Marking::default(),
        secret: [1, 2],
    }
}

/// A NIC that receives full bursts of the same frames, and sends everything at once.
struct Nic {
    frames: Vec<Vec<u8>>,
    received: Burst,
    out: Burst,
}

impl Nic {
    fn receive(&mut self, umem: &mut Umem) {
        let mut frames = self.frames.iter().cycle();
        while self.received.room() > 0 {
            let bytes = frames.next().expect("a path has frames");
            let addr = umem.lend_empty().expect("a free chunk");
            let descriptor = Descriptor { addr: addr + HEADROOM, len: bytes.len() as u32 };
            let mut frame = umem.received(descriptor).expect("a chunk that was lent");
            umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            self.received.push(frame).expect("there is room");
        }
    }

    /// Sends all frames and says how many there were.
    fn transmit(&mut self, umem: &mut Umem) -> u64 {
        let frames = self.out.len() as u64;
        for frame in self.out.drain() {
            let (descriptor, rest) = umem.lend(frame);
            assert!(rest.is_none() && umem.complete(descriptor.addr));
        }
        frames
    }
}

fn ethernet_frame(destination: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ethernet::LEN];
    assert!(ethernet::Header { destination, source: PEER_MAC, tags: Tags::default(), ethertype }.write(&mut header));
    [&header, payload].concat()
}

/// The same frame on [`VLAN`].
fn tagged(frame: &[u8]) -> Vec<u8> {
    let header = ethernet::Header::parse(frame).expect("an Ethernet header");
    let mut out = [0; ethernet::LEN + ethernet::TAG_LEN];
    assert!(ethernet::Header { tags: Tags::of(VLAN), ..header }.write(&mut out));
    [&out, &frame[ethernet::LEN..]].concat()
}

fn ipv4_frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv4::LEN];
    ipv4_header(protocol, payload).write(&mut header);
    ethernet_frame(OUR_MAC, ethernet::IPV4, &[&header, payload].concat())
}

fn ipv4_header(protocol: u8, payload: &[u8]) -> ipv4::Header {
    let payload_len = payload.len() as u16;
    ipv4::Header { traffic_class: 0, payload_len, ttl: 64, protocol, source: PEER, destination: OURS }
}

fn ipv6_frame(mac: Mac, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let (payload_len, hop_limit) = (payload.len() as u16, ndp::HOP_LIMIT);
    let mut header = [0; ipv6::LEN];
    // A flow label as Linux gives one to every datagram.
    ipv6::Header {
        traffic_class: 0,
        flow_label: 0x7_1234,
        payload_len,
        next_header,
        hop_limit,
        source: PEER_V6,
        destination,
    }
    .write(&mut header);
    ethernet_frame(mac, ethernet::IPV6, &[&header, payload].concat())
}

fn udp_frame(port: u16, frame_len: usize) -> Vec<u8> {
    let payload = pattern(frame_len - ethernet::LEN - ipv4::LEN - udp::LEN);
    ipv4_frame(ipv4::UDP, &datagram(PEER.into(), (OURS.into(), port), &payload))
}

fn udp_frame_v6(payload: &[u8]) -> Vec<u8> {
    ipv6_frame(OUR_MAC, OURS_V6, ipv6::UDP, &datagram(PEER_V6.into(), (OURS_V6.into(), PORT), payload))
}

fn datagram(source: IpAddress, destination: (IpAddress, u16), payload: &[u8]) -> Vec<u8> {
    let mut header = [0; udp::LEN];
    udp::Header { source: (source, 40_000), destination, payload_len: payload.len() as u16 }
        .write(&mut header, Sum::default().add_bytes(payload));
    [&header[..], payload].concat()
}

/// A datagram in as few fragments as an MTU of 1,500 bytes allows.
fn fragments(payload: &[u8]) -> Vec<Vec<u8>> {
    const ROOM: usize = 1_480;
    let datagram = datagram(PEER.into(), (OURS.into(), PORT), payload);
    let fragment = |(index, part): (usize, &[u8])| {
        let mut header = [0; ipv4::LEN];
        let offset = index * ROOM;
        let more = offset + part.len() < datagram.len();
        ipv4_header(ipv4::UDP, part).write_fragment(&mut header, 1, offset as u16, more);
        ethernet_frame(OUR_MAC, ethernet::IPV4, &[&header, part].concat())
    };
    datagram.chunks(ROOM).enumerate().map(fragment).collect()
}

/// What `ping` sends when nobody tells it a size.
fn icmp_frame() -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &pattern(56)].concat();
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4_frame(ipv4::ICMP, &message)
}

fn icmpv6_frame() -> Vec<u8> {
    let mut message = [&[icmpv6::ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, 1][..], &pattern(56)].concat();
    let checksum = Sum::default()
        .add_addresses([PEER_V6.into(), OURS_V6.into()])
        .add_values([message.len() as u16, u16::from(ipv6::ICMPV6)])
        .add_bytes(&message)
        .checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv6_frame(OUR_MAC, OURS_V6, ipv6::ICMPV6, &message)
}

/// What the kernel sends before it sends to us for the first time.
fn solicitation_frame() -> Vec<u8> {
    let (group, asked) =
        (ndp::solicited_node(OURS_V6), ndp::Solicitation { target: OURS_V6, source_mac: Some(PEER_MAC) });
    let mut message = [0; ndp::MAX_LEN];
    let len = ndp::write_solicitation(&mut message, &asked, PEER_V6, group).expect("there is room");
    ipv6_frame(Mac::of_group(group.into()), group, ipv6::ICMPV6, &message[..len])
}

fn arp_frame() -> Vec<u8> {
    let operation = arp::Operation::Request;
    let request = arp::Packet { operation, sender_mac: PEER_MAC, sender: PEER, target_mac: Mac::ZERO, target: OURS };
    let mut body = [0; arp::LEN];
    request.write(&mut body);
    ethernet_frame(Mac::BROADCAST, ethernet::ARP, &body)
}

/// A frame to another host, as a switch floods it.
fn other_frame() -> Vec<u8> {
    ethernet_frame(Mac([2, 0, 0, 0, 0, 3]), ethernet::IPV4, &pattern(50))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7) as u8).collect()
}
