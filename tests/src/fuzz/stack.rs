//! The whole stack: a byte string is a row of frames, each with its length in front, and time that passes.

use std::cell::RefCell;
use std::time::Duration;

use barewire::apps::daytime::Daytime;
use barewire::apps::services::{ServicePorts, Services};
use barewire::base::{BURST, Burst, ChunkSize, Descriptor, Instant, Place, Umem, UmemConfig};
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::network::reassembly::ReassemblyConfig;
use barewire::stack::{Stack, StackConfig};
use barewire::transport::tcp::TcpConfig;
use barewire::wire::ethernet::Mac;

use etherparse::{IpNumber, NetSlice, SlicedPacket};

use super::Input;
use crate::forgery::{checksum, pseudo_sum};
use crate::lab::Lab;
use crate::netns::Veth;
use crate::sim::stack_config;

/// Bytes in front of a received frame.
const HEADROOM: u64 = 256;
const CHUNKS: u32 = 1024;
/// The longest frame.
const LONGEST: usize = 1514;

struct Host {
    stack: Stack<Services>,
    umem: Umem,
    now: Instant,
    received: Burst,
    out: Burst,
}

thread_local! {
    /// Made once: what one input leaves behind (connections, neighbors, fragments) the next one meets.
    static HOST: RefCell<Host> = RefCell::new(Host::new());
}

/// Feeds frames. Each frame is counted once, at most one comes out of `receive` for each that goes in, all that come out
/// are sound, and no chunk is lost.
///
/// # Panics
/// If not.
pub fn stack(bytes: &[u8]) {
    HOST.with_borrow_mut(|host| host.feed(bytes));
}

fn config() -> StackConfig {
    let ports = vec![7, 9, 13, 19];
    let [address, address_6] = [Lab::ADDRESS, Lab::ADDRESS_6].map(|address| address.parse().expect("a prefix"));
    StackConfig {
        addresses: vec![address, address_6],
        gateways: vec![Lab::PEER.into(), Lab::PEER_6.into()],
        probing: Probing::Off,
        tcp: Some(TcpConfig {
            ports: ports.clone(),
            connections: 64,
            backlog: 32,
            chunks: 256,
            ..TcpConfig::default()
        }),
        neighbors: NeighborConfig { entries: 16, queue: 4, ..NeighborConfig::default() },
        reassembly: ReassemblyConfig { datagrams: 8, chunks: 128, ..ReassemblyConfig::default() },
        ..stack_config(Mac(Veth::NEAR_MAC), Lab::ENGINE, ports.into_iter())
    }
}

impl Host {
    fn new() -> Self {
        let now = Instant::ZERO + Duration::from_secs(1);
        let ports = ServicePorts {
            udp_echo: Some(7),
            tcp_echo: Some(7),
            discard: Some(9),
            daytime: Some(13),
            chargen: Some(19),
        };
        let services = Services::new(&ports, Daytime::new(Duration::ZERO));
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self {
            stack: Stack::new(&config(), services, now),
            umem: Umem::new(umem).expect("packet memory"),
            now,
            received: Burst::new(),
            out: Burst::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut input = Input(bytes);
        while !input.is_empty() {
            let len = usize::from(input.word() & 0x7ff).min(LONGEST);
            let frame = input.bytes(len);
            self.take(frame);
            // Two bits of how many come together, and how much time passes.
            let and = input.byte();
            if and & 1 == 0 || self.received.room() == 0 {
                self.turn();
                self.now += Duration::from_micros(10 << (and >> 4));
            }
        }
        self.turn();
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(addr) = self.umem.lend_empty() else { return };
        let descriptor = Descriptor { addr: addr + HEADROOM, len: bytes.len() as u32 };
        let mut frame = self.umem.received(descriptor).expect("the chunk was lent");
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        self.received.push(frame).expect("room in the burst");
    }

    fn turn(&mut self) {
        let frames = self.received.len();
        self.stack.receive(self.now, &mut self.received, &mut self.umem, &mut self.out);
        assert!(self.out.len() <= frames, "{} frames out for {frames} in", self.out.len());
        self.stack.transmit(self.now, &mut self.umem, &mut self.out);
        assert!(self.out.len() <= BURST);
        let counters = self.stack.counters();
        let ended = counters.delivered + counters.drops.iter().sum::<u64>();
        assert_eq!(counters.received, ended + u64::from(self.stack.fragments()), "each is counted once");
        for frame in self.out.drain() {
            let bytes = self.umem.bytes(&frame);
            check(bytes).unwrap_or_else(|wrong| panic!("{wrong}\n{bytes:02x?}"));
            self.umem.free(frame);
        }
        while self.stack.next_event().is_some() {}
        let held = self.umem.count(Place::Queue);
        assert_eq!(self.umem.free_chunks() + held, CHUNKS, "a chunk is lost");
        let tcp = self.stack.tcp_state().map_or(0, |tcp| tcp.held());
        assert_eq!(held, self.stack.queued_chunks() + tcp, "chunks that nobody knows of");
    }
}

/// Whether an independent parser understands a frame, and its checksums are right.
fn check(frame: &[u8]) -> Result<(), String> {
    let parsed = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let packet = frame.get(14..).unwrap_or_default();
    let (is_v6, protocol, payload) = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().slice();
            if checksum(header, 0) != 0 {
                return Err("a wrong header checksum".into());
            }
            if ip.is_payload_fragmented() {
                return Ok(());
            }
            (false, ip.header().protocol().0, ip.payload().payload)
        }
        Some(NetSlice::Ipv6(ip)) => {
            if ip.header().next_header() == IpNumber::IPV6_FRAGMENTATION_HEADER {
                return Ok(());
            }
            (true, ip.header().next_header().0, ip.payload().payload)
        }
        Some(NetSlice::Arp(_)) => return Ok(()),
        None => return Err("neither ARP nor IP".into()),
    };
    let pseudo = if protocol == 1 { 0 } else { pseudo_sum(packet, is_v6, protocol, payload.len()) };
    if checksum(payload, pseudo) == 0 { Ok(()) } else { Err(format!("a wrong checksum of protocol {protocol}")) }
}
