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

use std::net::Ipv4Addr;
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
use barewire::wire::ethernet::{self, Mac, Tags};
use barewire::wire::{arp, ipv4, udp};

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 7;

/// Bytes in front of a received frame: what the kernel leaves there (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;

/// A way through the stack.
struct Path {
    name: &'static str,
    frame: fn() -> Vec<u8>,
    /// Frames that go out for each that came in: 1 or 0. One that takes another way is measured in vain.
    answers: u64,
}

/// Lengths are those of frames from the Ethernet header to the end of the payload.
const PATHS: [Path; 6] = [
    Path { name: "udp_echo_64", frame: || udp_frame(PORT, 64), answers: 1 },
    Path { name: "udp_echo_1514", frame: || udp_frame(PORT, 1514), answers: 1 },
    Path { name: "icmp_echo_98", frame: icmp_frame, answers: 1 },
    Path { name: "arp_request", frame: arp_frame, answers: 1 },
    Path { name: "udp_port_closed_rate_limited", frame: || udp_frame(PORT + 1, 64), answers: 0 },
    Path { name: "other_destination_mac", frame: other_frame, answers: 0 },
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
    let mut stack = Stack::new(&config(), Echo, now);
    let mut nic = Nic { frame: (path.frame)(), received: Burst::new(), out: Burst::new() };
    // What a limit lets through at first goes through before the measurement.
    nic.receive(&mut umem);
    stack.receive(now, &mut nic.received, &mut umem, &mut nic.out);
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

fn config() -> StackConfig {
    StackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        vlan: None,
        addresses: vec!["10.0.0.2/24".parse().expect("a prefix")],
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
        marking: barewire::stack::Marking::default(),
        neighbors: NeighborConfig { fixed: vec![(PEER.into(), PEER_MAC)], ..NeighborConfig::default() },
        secret: [1, 2],
    }
}

/// A NIC that receives full bursts of one and the same frame, and sends everything at once.
struct Nic {
    frame: Vec<u8>,
    received: Burst,
    out: Burst,
}

impl Nic {
    fn receive(&mut self, umem: &mut Umem) {
        while self.received.room() > 0 {
            let addr = umem.lend_empty().expect("a free chunk");
            let descriptor = Descriptor { addr: addr + HEADROOM, len: self.frame.len() as u32 };
            let mut frame = umem.received(descriptor).expect("a chunk that was lent");
            umem.bytes_mut(&mut frame).copy_from_slice(&self.frame);
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

fn ipv4_frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv4::LEN];
    let payload_len = payload.len() as u16;
    ipv4::Header { traffic_class: 0, payload_len, ttl: 64, protocol, source: PEER, destination: OURS }
        .write(&mut header);
    ethernet_frame(OUR_MAC, ethernet::IPV4, &[&header, payload].concat())
}

fn udp_frame(port: u16, frame_len: usize) -> Vec<u8> {
    let payload = pattern(frame_len - ethernet::LEN - ipv4::LEN - udp::LEN);
    let mut header = [0; udp::LEN];
    udp::Header { source: (PEER.into(), 40_000), destination: (OURS.into(), port), payload_len: payload.len() as u16 }
        .write(&mut header, Sum::default().add_bytes(&payload));
    ipv4_frame(ipv4::UDP, &[&header[..], &payload].concat())
}

/// What `ping` sends when nobody tells it a size.
fn icmp_frame() -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &pattern(56)].concat();
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4_frame(ipv4::ICMP, &message)
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
