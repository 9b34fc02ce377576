//! Ten million mutated segments of live connections: TCP never panics, counts every frame once, loses no chunk, and its
//! books balance. `SEGMENTS=1000000000` in the environment makes it more.

use std::thread;
use std::time::Duration;

use barewire::base::{BURST, Burst, ChunkSize, Descriptor, DropReason, Instant, Place, Umem, UmemConfig};
use barewire::stack::Stack;
use barewire::transport::tcp::TcpConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire_tests::sim::tcp::Side;
use barewire_tests::sim::tcp::peer::{Services, flag, frame, port};
use barewire_tests::sim::{Rng, frames, stack_config};

/// Segments in all.
const SEGMENTS: u64 = 10_000_000;
/// Segments of one seed.
const PART: u64 = 20_000;
/// Connections at once.
const PEERS: usize = 24;
/// Chunks of packet memory.
const CHUNKS: u32 = 512;
/// The books are made up anew after so many bursts.
const AUDITED: u64 = 8;

/// Bytes in front of the TCP header.
const TCP_AT: usize = 34;

/// A connection, as its peer has it.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    port: u16,
    service: u16,
    seq: u32,
    ack: u32,
    /// The host's timestamp.
    echo: u32,
    timestamps: bool,
    open: bool,
    /// The host has finished.
    finished: bool,
}

/// The host, and those who torment it.
struct Torment {
    stack: Stack<Services>,
    umem: Umem,
    now: Instant,
    rng: Rng,
    peers: [Peer; PEERS],
    next_port: u16,
    received: Burst,
    out: Burst,
    bursts: u64,
    template: Vec<u8>,
}

impl Torment {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = Instant::from_ns(1_000_000_000);
        let mut config = stack_config(Side::Far.mac(), Side::Far.address(), std::iter::empty());
        // Nobody here answers for the peers.
        config.neighbors.fixed = vec![(Side::Near.address().into(), Side::Near.mac())];
        // Checksums would only keep mutations out.
        config.checksum = ChecksumPolicy::Trust;
        config.tcp = Some(TcpConfig {
            ports: port::ALL.to_vec(),
            connections: rng.pick(&[20, 200, 1000]),
            backlog: rng.pick(&[1, 4, 16]),
            time_wait: rng.pick(&[1, 8, 64]),
            chunks: rng.pick(&[16, 64, 256]),
            receive_buffer: rng.pick(&[3000, 65_535, 200_000]),
            send_buffer: rng.pick(&[3000, 65_535, 200_000]),
            user_timeout: Duration::from_secs(20),
            ..TcpConfig::default()
        });
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self {
            stack: Stack::new(&config, Services::default(), now),
            umem: Umem::new(umem).expect("memory"),
            now,
            rng,
            peers: [Peer::default(); PEERS],
            next_port: 1024,
            received: Burst::new(),
            out: Burst::new(),
            bursts: 0,
            template: frame((0, 0), &frames::Tcp::default()),
        }
    }

    fn run(&mut self, segments: u64) {
        for n in 0..segments.div_ceil(BURST as u64) {
            while self.received.room() > 0 {
                self.give();
            }
            self.turn();
            // Mostly as fast as a network is, now and then so slowly that timers run out.
            let pause = if n % 64 == 0 { self.rng.scale(1, 3_000_000_000) } else { self.rng.scale(1, 300_000) };
            self.now += Duration::from_nanos(pause);
        }
    }

    /// Puts a mutated segment of some connection into the burst.
    fn give(&mut self) {
        let at = self.rng.below(PEERS as u64) as usize;
        // A new one in place of one that never was, or has been for long enough.
        let old = if self.peers[at].open { 2 } else { 100 };
        if self.rng.chance(old) {
            self.peers[at] = self.newcomer();
        }
        let mut bytes = std::mem::take(&mut self.template);
        self.write(&self.peers[at].clone(), &mut bytes);
        if self.rng.chance(300) {
            for _ in 0..self.rng.between(1, 4) {
                let place = 14 + self.rng.below(bytes.len() as u64 - 14).min(self.rng.below(80)) as usize;
                bytes[place] = self.rng.bits() as u8;
            }
        }
        if self.rng.chance(20) {
            bytes.truncate(14 + self.rng.below(bytes.len() as u64 - 14) as usize);
        }
        if self.rng.chance(900)
            && let Some(header) = bytes.get_mut(14..TCP_AT)
        {
            header[10..12].fill(0);
            let checksum = frames::checksum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        let addr = self.umem.lend_empty().expect("a free chunk") + 256;
        let mut chunk = self.umem.received(Descriptor { addr, len: bytes.len() as u32 }).expect("it was lent");
        self.umem.bytes_mut(&mut chunk).copy_from_slice(&bytes);
        self.received.push(chunk).expect("room in the burst");
        self.template = bytes;
    }

    fn newcomer(&mut self) -> Peer {
        self.next_port = self.next_port.wrapping_add(1).max(1024);
        let seq = u32::MAX - self.rng.below(5000) as u32;
        let service = self.rng.pick(&port::ALL);
        Peer { port: self.next_port, service, seq, timestamps: self.rng.chance(500), ..Peer::default() }
    }

    /// Writes the next segment of a connection: its SYN, or one that is right but for a number now and then.
    fn write(&mut self, peer: &Peer, bytes: &mut Vec<u8>) {
        let rng = &mut self.rng;
        bytes.truncate(TCP_AT);
        bytes.resize(TCP_AT, 0);
        bytes[12..16].copy_from_slice(&[8, 0, 0x45, if rng.chance(50) { 3 } else { 0 }]);
        bytes[18..24].copy_from_slice(&[0, 0, 0x40, 0, 64, frames::TCP]);
        bytes[26..30].copy_from_slice(&Side::Near.address().octets());
        bytes[30..34].copy_from_slice(&Side::Far.address().octets());
        let stray = |rng: &mut Rng, number: u32| match rng.below(10) {
            0 => number.wrapping_add(rng.below(4000) as u32),
            1 => number.wrapping_sub(rng.below(4000) as u32),
            2 if rng.chance(200) => rng.bits() as u32,
            _ => number,
        };
        let (seq, ack) = if peer.open { (stray(rng, peer.seq), stray(rng, peer.ack)) } else { (peer.seq, 0) };
        let flags = match rng.below(200) {
            _ if !peer.open => flag::SYN,
            0 => rng.bits() as u8,
            1 => flag::ACK | flag::FIN,
            4..100 if peer.finished => flag::ACK | flag::FIN,
            2 => flag::RST,
            3 => flag::ACK | flag::URG,
            _ => flag::ACK,
        };
        bytes.extend(peer.port.to_be_bytes());
        bytes.extend(peer.service.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
        bytes.extend(ack.to_be_bytes());
        bytes.extend([0x50, flags]);
        let window = if rng.chance(100) { rng.below(3) } else { rng.bits() & 0xffff } as u16;
        bytes.extend(window.to_be_bytes());
        bytes.extend([0, 0, 0, rng.bits() as u8]);
        self.write_options(peer, bytes);
        let header_len = bytes.len() - TCP_AT;
        bytes[TCP_AT + 12] = (header_len as u8) << 2;
        let text = if peer.open && self.rng.chance(500) { self.rng.scale(1, 1400) as usize } else { 0 };
        bytes.resize(TCP_AT + header_len + text, 0x55);
        let total = (bytes.len() - 14) as u16;
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
    }

    fn write_options(&mut self, peer: &Peer, bytes: &mut Vec<u8>) {
        let rng = &mut self.rng;
        if !peer.open {
            bytes.extend([2, 4, rng.below(8) as u8, rng.bits() as u8, 1, 3, 3, rng.below(16) as u8, 4, 2, 1, 1]);
        }
        if peer.timestamps {
            bytes.extend([1, 1, 8, 10]);
            let value = (self.now.as_ns() / 1_000_000) as u32;
            bytes.extend(if rng.chance(30) { rng.bits() as u32 } else { value }.to_be_bytes());
            bytes.extend(peer.echo.to_be_bytes());
        }
        if peer.open && rng.chance(200) {
            bytes.extend([1, 1, 5, 18]);
            for _ in 0..4 {
                bytes.extend(peer.ack.wrapping_add(rng.below(20_000) as u32).wrapping_sub(2000).to_be_bytes());
            }
        }
    }

    /// The host digests the burst, and its peers learn from what it sends.
    fn turn(&mut self) {
        let before = self.stack.counters().clone();
        let frames = self.received.len();
        while !self.received.is_empty() {
            self.stack.receive(self.now, &mut self.received, &mut self.umem, &mut self.out);
            self.send();
        }
        for _ in 0..64 {
            self.stack.transmit(self.now, &mut self.umem, &mut self.out);
            if self.out.is_empty() {
                break;
            }
            self.send();
        }
        let after = self.stack.counters();
        let accounted = |c: &barewire::counters::StackCounters| c.delivered + c.drops.iter().sum::<u64>();
        assert_eq!(after.received - before.received, frames as u64, "all were taken");
        assert_eq!(accounted(after) - accounted(&before), frames as u64, "each was counted once");
        let tcp = self.stack.tcp_state().expect("TCP");
        let elsewhere = tcp.held() + self.stack.waiting();
        assert_eq!(self.umem.free_chunks() + elsewhere, CHUNKS, "no chunk is lost");
        self.bursts += 1;
        if self.bursts.is_multiple_of(AUDITED) {
            assert_eq!(tcp.audit(&self.umem), Ok(()));
            assert_eq!(self.umem.count(Place::Queue), elsewhere);
        }
    }

    fn send(&mut self) {
        for frame in self.out.drain() {
            let bytes = self.umem.bytes(&frame);
            if bytes.len() >= TCP_AT + 20 && bytes[23] == frames::TCP {
                learn(&mut self.peers, bytes);
            }
            self.umem.free(frame);
        }
        while self.stack.next_event().is_some() {}
    }
}

/// A peer learns the numbers from a segment that it was sent.
fn learn(peers: &mut [Peer], bytes: &[u8]) {
    let half = |at: usize| u16::from_be_bytes([bytes[TCP_AT + at], bytes[TCP_AT + at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    let Some(peer) = peers.iter_mut().find(|peer| (peer.service, peer.port) == (half(0), half(2))) else { return };
    let (flags, header_len) = (bytes[TCP_AT + 13], usize::from(bytes[TCP_AT + 12] >> 4) * 4);
    if flags & flag::RST != 0 {
        peer.open = false;
        peer.port = 0;
        return;
    }
    let text = (bytes.len() - TCP_AT - header_len) as u32;
    let end = word(4).wrapping_add(text + u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0));
    if flags & flag::SYN != 0 || end.wrapping_sub(peer.ack).cast_signed() > 0 {
        peer.ack = end;
    }
    (peer.seq, peer.open) = (word(8), true);
    peer.finished |= flags & flag::FIN != 0;
    if peer.timestamps && header_len >= 32 {
        peer.echo = if flags & flag::SYN != 0 { word(28) } else { word(24) };
    }
}

#[test]
fn ten_million_mutated_segments_neither_panic_nor_unbalance_the_books() {
    let segments = std::env::var("SEGMENTS").map_or(SEGMENTS, |text| text.parse().expect("SEGMENTS: a number"));
    let work = |first: u64| {
        let (mut opened, mut drops) = (0, vec![0_u64; DropReason::COUNT]);
        for seed in (first..segments / PART).step_by(2) {
            let mut torment = Torment::new(seed);
            torment.run(PART);
            opened += torment.stack.tcp_state().expect("TCP").counters().opened;
            drops.iter_mut().zip(torment.stack.counters().drops).for_each(|(sum, count)| *sum += count);
        }
        (opened, drops)
    };
    let results: Vec<(u64, Vec<u64>)> = thread::scope(|scope| {
        let work = &work;
        let workers = [0, 1].map(|first| scope.spawn(move || work(first)));
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let opened: u64 = results.iter().map(|(opened, _)| opened).sum();
    println!("{opened} connections were opened");
    assert!(opened > 10_000, "only {opened} connections were opened");
    for &reason in DropReason::ALL.iter().filter(|reason| reason.is_of_tcp()) {
        let count: u64 = results.iter().map(|(_, drops)| drops[reason as usize]).sum();
        println!("{:9} {}", count, reason.name());
        // Requests come too seldom for a flood, and what is sent to a group by IPv4 does not get as far as TCP.
        let never = [DropReason::TcpChecksum, DropReason::TcpNoSyn, DropReason::TcpSynFlood, DropReason::TcpToGroup];
        assert_eq!(count == 0, never.contains(&reason), "{}", reason.name());
    }
}
