//! What TCP costs a segment, without a kernel: requests in, responses out, on so many connections in turn.
//!
//! ```text
//!   tcp_cost --time [CONNECTIONS ...]       nanoseconds a request and its response: median, least and most of many runs
//!   tcp_cost --packets N PATH               exactly N packets, for callgrind
//! ```
//!
//! As in stack_cost, only what the stack does in a turn is counted. The peers are kept by hand: sequence numbers and
//! nothing else, for nothing is lost here.

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
use barewire::transport::tcp::TcpConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::checksum::Sum;
use barewire::wire::ethernet::{self, Mac, Tags};
use barewire::wire::ip::IpAddress;
use barewire::wire::seq::SeqNum;
use barewire::wire::tcp::{Flags, Header, Options};
use barewire::wire::{ipv4, ipv6, tcp};

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const PORT: u16 = 7;
/// Bytes of text in a request: with the headers, a frame of 64 bytes.
const REQUEST: usize = 10;
/// Ports that peers of one address have.
const PORTS: u32 = 60_000;
/// Bytes in front of a received frame: what the kernel leaves there (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;
/// Virtual time between two turns: a round trip on a LAN.
const TURN: Duration = Duration::from_micros(50);

/// What is counted: connections, and whether segments carry timestamps and go over IPv6.
struct Path {
    name: &'static str,
    connections: u32,
    timestamps: bool,
    text: usize,
    v6: bool,
}

impl Path {
    const fn over_v4(name: &'static str, connections: u32) -> Self {
        Self { name, connections, timestamps: true, text: REQUEST, v6: false }
    }
}

const PATHS: [Path; 7] = [
    Path::over_v4("tcp_rr_1", 1),
    Path::over_v4("tcp_rr_100", 100),
    Path { timestamps: false, ..Path::over_v4("tcp_rr_100_plain", 100) },
    Path { text: 1448, ..Path::over_v4("tcp_rr_100_1448", 100) },
    Path { v6: true, ..Path::over_v4("tcp_rr_1_ipv6", 1) },
    Path { v6: true, ..Path::over_v4("tcp_rr_100_ipv6", 100) },
    // As much text as a frame of 1,514 bytes has room for behind the longer header.
    Path { v6: true, text: 1428, ..Path::over_v4("tcp_rr_100_1428_ipv6", 100) },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--time", ref connections @ ..] => {
            PATHS.iter().for_each(time);
            for count in connections {
                let Ok(connections) = count.parse() else { return usage() };
                time(&Path::over_v4("tcp_rr", connections));
            }
            ExitCode::SUCCESS
        }
        ["--packets", packets, name] => {
            let path = PATHS.iter().find(|path| path.name == name);
            let (Ok(packets), Some(path)) = (packets.parse::<u64>(), path) else { return usage() };
            run(path, packets / u64::from(path.connections.min(BURST as u32)));
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
    eprintln!(
        "usage: tcp_cost --time [CONNECTIONS ...] | tcp_cost --packets N PATH, where PATH is one of: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}

/// Prints what a request and its response cost on `path`.
fn time(path: &Path) {
    const RUNS: usize = 15;
    let turns = u64::from(path.connections / BURST as u32 + 1).max(2_000);
    let mut ns: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (elapsed, segments) = run(path, turns);
            elapsed.as_nanos() as f64 / segments as f64
        })
        .collect();
    ns.sort_by(f64::total_cmp);
    println!(
        "{:<20} {:>7} connections {:7.1} ns a request and response (least {:.1}, most {:.1}, {RUNS} runs)",
        path.name,
        path.connections,
        ns[RUNS / 2],
        ns[0],
        ns[RUNS - 1],
    );
}

/// A peer's end of a connection.
#[derive(Clone, Copy)]
struct Peer {
    address: (IpAddress, u16),
    seq: SeqNum,
    ack: SeqNum,
}

impl Peer {
    fn number(n: u32, v6: bool) -> Self {
        let host = 0x100 + n / PORTS;
        let address = match v6 {
            true => Ipv6Addr::from_bits(OURS_V6.to_bits() & !0xffff_ffff | u128::from(host)).into(),
            false => Ipv4Addr::from_bits(0x0a00_0000 + host).into(),
        };
        let address = (address, 1_024 + (n % PORTS) as u16);
        Self { address, seq: SeqNum::new(u32::MAX - 1000), ack: SeqNum::default() }
    }

    /// The address that it knows us by.
    fn ours(&self) -> IpAddress {
        if self.address.0.is_v4() { OURS.into() } else { OURS_V6.into() }
    }

    /// A segment to us.
    fn frame(&self, flags: Flags, options: &Options, text: &[u8]) -> Vec<u8> {
        let header = Header {
            source: self.address,
            destination: (self.ours(), PORT),
            sequence: self.seq,
            acknowledgment: self.ack,
            flags,
            window: 0xffff,
            urgent: 0,
            options,
            payload_len: text.len() as u16,
        };
        let ip = self.ip_header((header.header_len() + text.len()) as u16);
        let ethertype = if self.address.0.is_v4() { ethernet::IPV4 } else { ethernet::IPV6 };
        let mut frame = vec![0; ethernet::LEN + ip.len() + header.header_len()];
        let (link, rest) = frame.split_at_mut(ethernet::LEN);
        assert!(
            ethernet::Header { destination: OUR_MAC, source: PEER_MAC, tags: Tags::default(), ethertype }.write(link)
        );
        let (network, segment) = rest.split_at_mut(ip.len());
        network.copy_from_slice(&ip);
        header.write(segment, Sum::default().add_bytes(text));
        frame.extend_from_slice(text);
        frame
    }

    fn ip_header(&self, payload_len: u16) -> Vec<u8> {
        match (self.address.0.to_v4(), self.address.0.to_v6()) {
            (Some(source), _) => {
                let mut out = [0; ipv4::LEN];
                let (protocol, destination) = (ipv4::TCP, OURS);
                ipv4::Header { traffic_class: 0, payload_len, ttl: 64, protocol, source, destination }.write(&mut out);
                out.to_vec()
            }
            (None, Some(source)) => {
                let mut out = [0; ipv6::LEN];
                let (next_header, hop_limit, destination) = (ipv6::TCP, 64, OURS_V6);
                // A flow label as Linux gives one to every connection.
                let flow_label = 0x7_1234;
                ipv6::Header { traffic_class: 0, flow_label, payload_len, next_header, hop_limit, source, destination }
                    .write(&mut out);
                out.to_vec()
            }
            (None, None) => unreachable!("an address is of one family"),
        }
    }
}

/// Takes so many turns of requests through the stack, and says for how long they were in it and how many they were.
fn run(path: &Path, turns: u64) -> (Duration, u64) {
    let mut bed = Bed::new(path);
    let text: Vec<u8> = (0..path.text).map(|i| (i * 7) as u8).collect();
    let per_turn = BURST.min(path.connections as usize);
    let (mut elapsed, mut next, mut segments) = (Duration::ZERO, 0, 0);
    // The first time round is not counted: every connection's memory is touched then.
    let warm_up = u64::from(path.connections) / per_turn as u64 + 1;
    for turn_number in 0..turns + warm_up {
        let mut frames = Vec::with_capacity(per_turn);
        for _ in 0..per_turn {
            let options = bed.options();
            let peer = &mut bed.peers[next];
            frames.push(peer.frame(Flags::PSH | Flags::ACK, &options, &text));
            peer.seq += text.len() as u32;
            peer.ack += text.len() as u32;
            next = (next + 1) % path.connections as usize;
        }
        let start_frames = frames.len() as u64;
        let spent = bed.exchange(&frames, start_frames);
        if turn_number >= warm_up {
            elapsed += spent;
            segments += start_frames;
        }
    }
    (elapsed, segments)
}

/// A stack with its peers.
struct Bed {
    stack: Stack<Echo>,
    umem: Umem,
    now: base::Instant,
    peers: Vec<Peer>,
    timestamps: bool,
    received: Burst,
    out: Burst,
    sent: Vec<Vec<u8>>,
    keep: bool,
}

impl Bed {
    /// Opens all connections.
    fn new(path: &Path) -> Self {
        let chunks = path.connections + 4 * BURST as u32;
        let umem = UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let now = base::Instant::from_ns(1_000_000_000);
        let mut bed = Self {
            stack: Stack::new(&config(path), Echo, now),
            umem: Umem::new(umem).expect("memory"),
            now,
            peers: (0..path.connections).map(|n| Peer::number(n, path.v6)).collect(),
            timestamps: path.timestamps,
            received: Burst::new(),
            out: Burst::new(),
            sent: Vec::new(),
            keep: true,
        };
        let ip_len = if path.v6 { ipv6::LEN } else { ipv4::LEN };
        for at in 0..path.connections as usize {
            let mut options = bed.options();
            (options.mss, options.sack_permitted, options.window_scale) = (Some(1460), true, Some(7));
            let syn = bed.peers[at].frame(Flags::SYN, &options, &[]);
            bed.exchange(&[syn], 1);
            let answer = bed.sent.pop().expect("an answer to a SYN");
            let peer = &mut bed.peers[at];
            let packet = tcp::Packet::parse(&answer[ethernet::LEN + ip_len..]).expect("a segment");
            (peer.seq, peer.ack) = (peer.seq + 1, packet.sequence() + 1);
            let options = bed.options();
            let ack = bed.peers[at].frame(Flags::ACK, &options, &[]);
            bed.exchange(&[ack], 0);
        }
        assert_eq!(bed.stack.tcp_state().expect("TCP").population().0, path.connections);
        bed.keep = false;
        bed
    }

    fn options(&self) -> Options {
        let timestamps = self.timestamps.then(|| ((self.now.as_ns() / 1_000_000) as u32, 0));
        Options { timestamps, ..Options::default() }
    }

    /// Gives frames to the stack, and checks how many come out; says how long the stack was at it.
    fn exchange(&mut self, frames: &[Vec<u8>], answers: u64) -> Duration {
        for bytes in frames {
            let addr = self.umem.lend_empty().expect("a free chunk");
            let descriptor = Descriptor { addr: addr + HEADROOM, len: bytes.len() as u32 };
            let mut frame = self.umem.received(descriptor).expect("a chunk that was lent");
            self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            self.received.push(frame).expect("there is room");
        }
        self.now += TURN;
        let start = Instant::now();
        turn(&mut self.stack, self.now, &mut self.received, &mut self.umem, &mut self.out);
        let elapsed = start.elapsed();
        assert_eq!(self.out.len() as u64, answers, "answers in a turn");
        for frame in self.out.drain() {
            if self.keep {
                self.sent.push(self.umem.bytes(&frame).to_vec());
            }
            let (descriptor, rest) = self.umem.lend(frame);
            assert!(rest.is_none() && self.umem.complete(descriptor.addr));
        }
        elapsed
    }
}

/// The measured function.
#[inline(never)]
fn turn<A: App>(stack: &mut Stack<A>, now: base::Instant, received: &mut Burst, umem: &mut Umem, out: &mut Burst) {
    stack.receive(now, received, umem, out);
    stack.transmit(now, umem, out);
}

/// Where the peers are: nobody here answers when he is searched for.
fn peers(path: &Path) -> Vec<(IpAddress, Mac)> {
    let first_ports = (0..path.connections).step_by(PORTS as usize);
    first_ports.map(|n| (Peer::number(n, path.v6).address.0, PEER_MAC)).collect()
}

fn config(path: &Path) -> StackConfig {
    let connections = path.connections;
    StackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        vlan: None,
        addresses: ["10.0.0.2/8", "fd00::2/64"].map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
        gateways: Vec::new(),
        routes: Vec::new(),
        probing: Probing::Off,
        groups: vec![],
        broadcasts: false,
        autoconf: None,
        udp_ports: vec![PORT],
        checksum: ChecksumPolicy::Verify,
        tcp: Some(TcpConfig { ports: vec![PORT], connections, chunks: 2 * connections + 64, ..TcpConfig::default() }),
        own_queue: None,
        reassembly: ReassemblyConfig::default(),
        neighbors: NeighborConfig { fixed: peers(path), ..NeighborConfig::default() },
        marking: barewire::stack::Marking::default(),
        secret: [1, 2],
    }
}
