//! A million idle established connections: what each costs in memory, all told, and that they cost no time.

use std::net::Ipv4Addr;
use std::time::Duration;

use barewire::base::{BURST, Burst, ChunkSize, Descriptor, Instant, Umem, UmemConfig};
use barewire::stack::{Stack, StackConfig};
use barewire::transport::tcp::TcpConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire_tests::sim::tcp::Side;
use barewire_tests::sim::tcp::peer::{Services, flag, frame, port};
use barewire_tests::sim::{frames, stack_config};

const CONNECTIONS: u32 = 1_000_000;
/// Of these the control block in its place is 456; the flow table, the timer and the two rows are the rest.
const MOST_BYTES: u64 = 512;
/// Where things are in a frame: the source address, the TCP header.
const SOURCE_AT: usize = 26;
const TCP_AT: usize = 34;

/// Memory of this process that is there, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("resident pages");
    pages * 4096
}

/// A host with room for a million connections, and frames for it.
struct Crowd {
    stack: Stack<Services>,
    umem: Umem,
    now: Instant,
    received: Burst,
    out: Burst,
    template: Vec<u8>,
}

fn config() -> StackConfig {
    let mut config = stack_config(Side::Far.mac(), Side::Far.address(), std::iter::empty());
    config.gateways = vec![Side::Near.address().into()];
    config.neighbors.fixed = vec![(Side::Near.address().into(), Side::Near.mac())];
    config.checksum = ChecksumPolicy::Trust;
    config.tcp = Some(TcpConfig {
        ports: port::ALL.to_vec(),
        connections: CONNECTIONS,
        backlog: 1024,
        time_wait: 1024,
        chunks: 256,
        ..TcpConfig::default()
    });
    config
}

impl Crowd {
    fn new(umem: Umem) -> Self {
        let now = Instant::from_ns(1_000_000_000);
        Self {
            stack: Stack::new(&config(), Services::default(), now),
            umem,
            now,
            received: Burst::new(),
            out: Burst::new(),
            // With timestamps and everything else that is agreed on today.
            template: frame((0, port::ECHO), &frames::Tcp { options: &[1; 20], ..frames::Tcp::default() }),
        }
    }

    /// A segment arrives from the peer with a number; the answers are given to `answered`.
    fn give(&mut self, peer: u32, header: (u32, u32, u8), text: &[u8], mut answered: impl FnMut(u32, &[u8])) {
        self.arrive(peer, header, text);
        self.turn(|bytes| answered(word(bytes, TCP_AT + 4), text_of(bytes)));
    }

    /// A segment arrives from the peer with a number, to be digested in the next turn.
    fn arrive(&mut self, peer: u32, (seq, ack, flags): (u32, u32, u8), text: &[u8]) {
        let mut bytes = std::mem::take(&mut self.template);
        bytes.truncate(TCP_AT + 40);
        bytes[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&address(peer).octets());
        bytes[TCP_AT..TCP_AT + 2].copy_from_slice(&(1024 + (peer % 50_000) as u16).to_be_bytes());
        bytes[TCP_AT + 4..TCP_AT + 8].copy_from_slice(&seq.to_be_bytes());
        bytes[TCP_AT + 8..TCP_AT + 12].copy_from_slice(&ack.to_be_bytes());
        bytes[TCP_AT + 13] = flags;
        bytes[TCP_AT + 14] = 0xff;
        let time = ((self.now.as_ns() / 1_000_000) as u32).to_be_bytes();
        let options = &mut bytes[TCP_AT + 20..TCP_AT + 40];
        options.fill(1);
        if flags & flag::SYN != 0 {
            options.copy_from_slice(&[
                2, 4, 5, 180, 4, 2, 8, 10, time[0], time[1], time[2], time[3], 0, 0, 0, 0, 1, 3, 3, 7,
            ]);
        } else {
            options[..10].copy_from_slice(&[8, 10, time[0], time[1], time[2], time[3], 0, 0, 0, 1]);
        }
        bytes.extend(text);
        let total = (bytes.len() - 14) as u16;
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        bytes[24..26].fill(0);
        let checksum = frames::checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
        let addr = self.umem.lend_empty().expect("a free chunk") + 256;
        let mut chunk = self.umem.received(Descriptor { addr, len: bytes.len() as u32 }).expect("it was lent");
        self.umem.bytes_mut(&mut chunk).copy_from_slice(&bytes);
        self.received.push(chunk).expect("room");
        self.template = bytes;
    }

    fn turn(&mut self, mut sent: impl FnMut(&[u8])) {
        loop {
            self.stack.receive(self.now, &mut self.received, &mut self.umem, &mut self.out);
            self.stack.transmit(self.now, &mut self.umem, &mut self.out);
            let full = self.out.len() == BURST;
            for frame in self.out.drain() {
                sent(self.umem.bytes(&frame));
                self.umem.free(frame);
            }
            if !full {
                return;
            }
        }
    }

    /// Opens the connection with a number: the next number of the host.
    fn open(&mut self, peer: u32) -> u32 {
        let mut iss = None;
        self.give(peer, (100, 0, flag::SYN), &[], |seq, _| iss = Some(seq));
        let ack = iss.expect("an answer to the SYN").wrapping_add(1);
        self.give(peer, (101, ack, flag::ACK), &[], |_, _| panic!("an answer to the end of a handshake"));
        ack
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The text of a segment.
fn text_of(frame: &[u8]) -> &[u8] {
    &frame[TCP_AT + usize::from(frame[TCP_AT + 12] >> 4) * 4..]
}

/// Twenty addresses with 50,000 ports each.
fn address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0001 + peer / 50_000)
}

#[test]
fn a_million_idle_connections_take_little_memory_and_no_time() {
    let umem = UmemConfig { chunks: 512, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
    let umem = Umem::new(umem).expect("memory");
    // Whatever else this process needs is there before.
    let before = resident();
    let mut crowd = Crowd::new(umem);
    let acks: Vec<u32> = {
        let mut acks = vec![0; CONNECTIONS as usize];
        for (peer, ack) in acks.iter_mut().enumerate() {
            *ack = crowd.open(peer as u32);
        }
        acks
    };
    let tcp = crowd.stack.tcp_state().expect("TCP");
    assert_eq!((tcp.population(), tcp.held()), ((CONNECTIONS, 0, 0), 0));
    // What the test itself keeps is not the stack's.
    let own = 4 * u64::from(CONNECTIONS);
    let each = (resident() - before - own) / u64::from(CONNECTIONS);
    println!("{each} bytes a connection");
    assert!(each <= MOST_BYTES, "{each} bytes a connection");

    // They wait for nothing, so there is nothing to do for as long as nothing comes.
    assert_eq!(tcp.next_deadline(), None);
    crowd.now += Duration::from_secs(3600);
    crowd.turn(|_| panic!("an idle connection sends nothing"));

    // And each is there when it is spoken to, in the midst of many that are, and of strangers.
    let peers: Vec<u32> = (0..CONNECTIONS).step_by(9973).collect();
    for peers in peers.chunks(BURST / 2) {
        for &peer in peers {
            let header = (101, acks[peer as usize], flag::ACK | flag::PSH);
            crowd.arrive(peer, header, &peer.to_be_bytes());
            crowd.arrive(CONNECTIONS + peer, header, b"who am I?");
        }
        let (mut echoed, mut resets) = (Vec::new(), 0);
        crowd.turn(|bytes| match bytes[TCP_AT + 13] & flag::RST {
            0 => echoed.push((word(text_of(bytes), 0), word(bytes, TCP_AT + 4))),
            _ => resets += 1,
        });
        let asked: Vec<(u32, u32)> = peers.iter().map(|&peer| (peer, acks[peer as usize])).collect();
        assert_eq!((echoed, resets), (asked, peers.len()));
    }
    // One more is too many.
    crowd.give(CONNECTIONS, (1, 0, flag::SYN), &[], |_, _| panic!("the limit is reached"));
}
