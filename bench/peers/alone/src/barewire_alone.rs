//! Barewire's stack with an echo on it, over memory.

use std::collections::VecDeque;

use barewire::apps::echo::Echo;
use barewire::base::{BURST, Burst, ChunkSize, Descriptor, Instant, Umem, UmemConfig};
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::stack::{Stack, StackConfig};
use barewire::transport::tcp::TcpConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::ethernet::Mac;
use barewire_peer_harness::{CLIENT_MAC, SERVER, SERVER_MAC, SERVER_PREFIX_LEN, StackUnderTest, client_addresses};

/// Bytes in front of a received frame: what the kernel leaves there (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;

/// The stack, and the frames before and behind it.
#[derive(Debug)]
pub(crate) struct Alone {
    stack: Stack<Echo>,
    umem: Umem,
    waiting: VecDeque<Vec<u8>>,
    received: Burst,
    out: Burst,
    now: Instant,
}

impl Alone {
    /// A stack for so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        let connections = connections as u32;
        let (address, port) = SERVER;
        let chunks = 4 * connections + 16 * BURST as u32;
        let now = Instant::from_ns(1_000_000_000);
        let fixed = client_addresses(connections as usize).map(|address| (address.into(), Mac(CLIENT_MAC))).collect();
        let config = StackConfig {
            mac: Mac(SERVER_MAC),
            mtu: 1500,
            vlan: None,
            addresses: vec![format!("{address}/{SERVER_PREFIX_LEN}").parse().expect("a prefix")],
            gateways: Vec::new(),
            routes: Vec::new(),
            probing: Probing::Off,
            groups: vec![],
            broadcasts: false,
            autoconf: None,
            udp_ports: vec![],
            checksum: ChecksumPolicy::Verify,
            tcp: Some(TcpConfig {
                ports: vec![port],
                connections,
                chunks: 4 * connections + 8 * BURST as u32,
                ..TcpConfig::default()
            }),
            own_queue: None,
            // So that what is timed is TCP, and no search for the client.
            neighbors: NeighborConfig { fixed, ..NeighborConfig::default() },
            reassembly: barewire::network::reassembly::ReassemblyConfig::default(),
            marking: barewire::stack::Marking::default(),
            secret: [1, 2],
        };
        let umem = UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self {
            stack: Stack::new(&config, Echo, now),
            umem: Umem::new(umem).expect("memory"),
            waiting: VecDeque::new(),
            received: Burst::new(),
            out: Burst::new(),
            now,
        }
    }

    /// Copies frames that wait into chunks, as far as a burst has room.
    fn fill(&mut self) {
        while self.received.room() > 0
            && let Some(bytes) = self.waiting.pop_front()
        {
            let addr = self.umem.lend_empty().expect("a free chunk");
            let descriptor = Descriptor { addr: addr + HEADROOM, len: bytes.len() as u32 };
            let mut frame = self.umem.received(descriptor).expect("a chunk that was lent");
            self.umem.bytes_mut(&mut frame).copy_from_slice(&bytes);
            self.received.push(frame).expect("there is room");
        }
    }
}

impl StackUnderTest for Alone {
    fn deliver(&mut self, frames: &mut Vec<Vec<u8>>) {
        self.waiting.extend(frames.drain(..));
        self.fill();
    }

    fn turn(&mut self, now_us: u64) {
        self.now = self.now.max(Instant::from_ns(now_us * 1_000));
        self.stack.receive(self.now, &mut self.received, &mut self.umem, &mut self.out);
        self.stack.transmit(self.now, &mut self.umem, &mut self.out);
    }

    fn collect(&mut self, frames: &mut Vec<Vec<u8>>) {
        for frame in self.out.drain() {
            frames.push(self.umem.bytes(&frame).to_vec());
            let (descriptor, rest) = self.umem.lend(frame);
            assert!(rest.is_none() && self.umem.complete(descriptor.addr));
        }
        // What did not fit into this turn's burst comes in with the next one.
        self.fill();
    }
}
