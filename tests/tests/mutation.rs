//! Ten million frames, drawn at random or damaged at random, through the stack: it never panics, counts
//! every frame in exactly one place, answers at most once, and loses no chunk of memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use barewire::apps::echo::Echo;
use barewire::base::{BURST, Burst, ChunkSize, Descriptor, DropReason, Instant, Place, Umem, UmemConfig};
use barewire::link::address::Probing;
use barewire::stack::Stack;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::ethernet::Mac;
use barewire_tests::sim::{
    Answers, PORT, Reference, Rng, SERVER, SERVER_MAC, SERVER_V6, STRANGER_MAC, check_strictly, draw_frame, frames,
    ndp, stack_config,
};

/// Frames in all.
const FRAMES: u64 = 10_000_000;
/// The longest frame.
const MAX_LEN: u64 = 1600;
/// Bytes in front of a received frame.
const HEADROOM: u64 = 256;
/// Valid frames that are mutated before new ones are drawn: each is put together slowly.
const TEMPLATES: usize = 512;
/// How many times each one is used.
const USES: u64 = 64;

/// Reasons that none of these frames is dropped for.
fn is_impossible(reason: DropReason) -> bool {
    let never =
        [DropReason::FrameTooLong, DropReason::CopyNoChunk, DropReason::Ipv6NotConfigured, DropReason::HeadersSplit];
    never.contains(&reason) || (reason.is_of_tcp() && reason != DropReason::TcpToGroup)
}

/// Reasons that depend on what happens to fit together, or that few frames come near.
fn is_rare(reason: DropReason) -> bool {
    reason.is_of_fragments()
        || reason == DropReason::TcpToGroup
        || ["mld_", "igmp_"].iter().any(|kind| reason.name().starts_with(kind))
}

/// The reference is asked about one burst in so many.
const ASKED: u64 = 8;

/// Where frames come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Bytes without any sense; some of them begin as a frame for us.
    Random,
    /// Frames of every kind, damaged or not, with the IPv4 header's checksum mended or not.
    Mutated,
}

/// A stack with memory, and what came out of it.
struct Host {
    stack: Stack<Echo>,
    umem: Umem,
    reference: Reference,
    answers: Answers,
    now: Instant,
    received: Burst,
    out: Burst,
    /// Frames of this burst, when the reference is asked about it.
    asked: Option<Vec<Vec<u8>>>,
    bursts: u64,
    turns_asked: u64,
    sent: u64,
    checked: u64,
}

impl Host {
    fn new(policy: ChecksumPolicy, probing: Probing) -> Self {
        let mut config = stack_config(SERVER_MAC, SERVER, [PORT].into_iter());
        (config.checksum, config.probing) = (policy, probing);
        config.addresses.push(format!("{SERVER_V6}/120").parse().unwrap());
        // What waits for neighbors leaves enough for a burst.
        config.neighbors.waiting = BURST as u32;
        if probing == Probing::Off {
            // No datagram is put together of fragments: the reference does not do that.
            config.reassembly.chunks = 0;
            // All that can be on its link, so that each answer has to leave at once.
            let v4 = (0..255).map(|last| (Ipv4Addr::new(10, 0, 0, last).into(), mac_of(4, last)));
            let v6 =
                (0..=255).map(|last| (Ipv6Addr::from_bits(0xfd << 120 | u128::from(last)).into(), mac_of(6, last)));
            config.neighbors.fixed = v4.chain(v6).collect();
        }
        let chunks = 4 * BURST as u32;
        let umem = Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap();
        Self {
            stack: Stack::new(&config, Echo, Instant::ZERO),
            umem,
            answers: Answers::new(&config),
            reference: Reference::new(config, true),
            now: Instant::ZERO,
            received: Burst::new(),
            out: Burst::new(),
            asked: None,
            bursts: 0,
            turns_asked: 0,
            sent: 0,
            checked: 0,
        }
    }

    /// Receives a frame into a chunk, as a device does.
    fn take(&mut self, bytes: &[u8]) {
        let addr = self.umem.lend_empty().expect("a free chunk") + HEADROOM;
        let descriptor = Descriptor { addr, len: bytes.len() as u32 };
        let mut frame = self.umem.received(descriptor).expect("the chunk was lent");
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        self.received.push(frame).expect("room in the burst");
        if let Some(asked) = &mut self.asked {
            asked.push(bytes.to_vec());
        }
    }

    /// Digests the burst and balances the books.
    fn turn(&mut self) {
        let (before, frames) = (self.stack.counters().clone(), self.received.len());
        let held_before = u64::from(self.stack.fragments());
        self.stack.receive(self.now, &mut self.received, &mut self.umem, &mut self.out);
        let after = self.stack.counters().clone();
        let held = u64::from(self.stack.fragments());
        let accounted = |c: &barewire::counters::StackCounters| c.delivered + c.drops.iter().sum::<u64>();
        assert_eq!(after.received - before.received, frames as u64, "all were taken");
        assert_eq!(accounted(&after) + held - accounted(&before) - held_before, frames as u64, "each was counted once");
        assert!(self.out.len() <= frames, "{} frames out for {frames} in", self.out.len());
        self.stack.transmit(self.now, &mut self.umem, &mut self.out);
        let held = self.umem.count(Place::Held) as usize;
        assert_eq!((held, self.umem.count(Place::Queue)), (self.out.len(), self.stack.queued_chunks()));
        let elsewhere = held as u32 + self.stack.queued_chunks();
        assert_eq!(self.umem.free_chunks() + elsewhere, self.umem.chunks(), "no chunk is lost");
        let delivered = after.udp_delivered - before.udp_delivered;
        self.compare(delivered);
        for frame in self.out.drain() {
            self.sent += 1;
            self.umem.free(frame);
        }
        while self.stack.next_event().is_some() {}
        // Slowly, so that rate limits hold errors back and let others through.
        self.now += Duration::from_micros(200);
        self.bursts += 1;
        // The second opinion and the parser are slower than the stack. While the address is probed for, or
        // once it was lost to a claim that a mutation made, only the stack knows which.
        let is_due = self.bursts.is_multiple_of(ASKED) && self.reference.config().probing == Probing::Off;
        self.asked = is_due.then(Vec::new);
    }

    /// Compares what the stack made of a burst with what the reference makes of it.
    fn compare(&mut self, delivered: u64) {
        let Some(asked) = self.asked.take() else { return };
        let reactions: Vec<_> = asked.iter().map(|bytes| self.reference.digest(bytes, true)).collect();
        let expected = reactions.iter().filter(|reaction| reaction.delivery.is_some()).count();
        assert_eq!(delivered, expected as u64, "datagrams delivered, and what the reference says");
        self.answers.begin_turn();
        self.turns_asked += 1;
        reactions.iter().for_each(|reaction| self.answers.digest(reaction, true));
        for frame in self.out.iter() {
            let bytes = self.umem.bytes(frame);
            check_strictly(bytes).unwrap_or_else(|wrong| panic!("{wrong}\n{bytes:02x?}"));
            if self.answers.recognise(bytes, self.turns_asked).is_some() {
                self.checked += 1;
                continue;
            }
            assert!(is_of_own_accord(bytes), "answers nothing: {bytes:02x?}");
        }
        self.answers.settle();
        assert_eq!(self.answers.missing(), (0, 0), "answers that were not given");
    }
}

/// Where the neighbors of a host are that knows them all: not where their frames come from.
const fn mac_of(version: u8, last: u8) -> Mac {
    Mac([2, 0, 0, 0, version, last])
}

/// Whether a frame is sent of the stack's own accord: in defence of its address, or to tell of its groups.
fn is_of_own_accord(bytes: &[u8]) -> bool {
    match bytes[12..14] {
        [0x08, 0x06] => bytes[20..22] == [0, 1],
        [0x86, 0xdd] => bytes[20] == 0 || (bytes[20] == frames::ICMPV6 && bytes[54] == ndp::ADVERTISEMENT),
        _ => false,
    }
}

/// Sends so many frames through a stack.
fn run(seed: u64, frames: u64, source: Source, policy: ChecksumPolicy, probing: Probing) -> Host {
    let mut rng = Rng::new(seed);
    let mut host = Host::new(policy, probing);
    let mut templates: Vec<Vec<u8>> = Vec::new();
    let mut bytes = Vec::with_capacity(MAX_LEN as usize);
    for n in 0..frames {
        if matches!(source, Source::Mutated) && n.is_multiple_of(TEMPLATES as u64 * USES) {
            templates.clear();
            let both: [IpAddr; 2] = [SERVER.into(), SERVER_V6.into()];
            let addresses = both.into_iter().cycle();
            templates.extend(addresses.take(TEMPLATES).map(|address| draw_frame(&mut rng, SERVER_MAC, address)));
            templates[0] = claim();
        }
        match source {
            Source::Random => random(&mut rng, &mut bytes),
            Source::Mutated => {
                let template = &templates[rng.below(TEMPLATES as u64) as usize];
                mutate(&mut rng, template, &mut bytes);
            }
        }
        host.take(&bytes);
        if host.received.room() == 0 {
            host.turn();
        }
    }
    host.turn();
    host
}

/// A frame in which another host says that it has the address of IPv6.
fn claim() -> Vec<u8> {
    let news = ndp::news(SERVER_V6, ndp::ALL_NODES, SERVER_V6, ndp::OVERRIDE, STRANGER_MAC);
    frames::ethernet(ndp::group_mac(ndp::ALL_NODES), STRANGER_MAC, &[], frames::IPV6, &news)
}

/// Random bytes; half of them behind the start of a frame for us.
fn random(rng: &mut Rng, out: &mut Vec<u8>) {
    let len = if rng.chance(900) { rng.below(100) } else { rng.below(MAX_LEN) } as usize;
    out.clear();
    out.resize(len, 0);
    rng.fill(out);
    if len >= 34 && rng.chance(500) {
        let ethertype = rng.pick(&[[8, 0], [8, 0], [8, 6], [0x81, 0], [0x86, 0xdd], [0x86, 0xdd]]);
        out[..6].copy_from_slice(&SERVER_MAC.0);
        out[6] &= 0xfe;
        out[12..14].copy_from_slice(&ethertype);
        out[14] = if ethertype == [0x86, 0xdd] { 0x60 } else { 0x45 };
    }
}

/// A frame with up to eight changes, but mostly few or none.
fn mutate(rng: &mut Rng, template: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(template);
    let most = rng.pick(&[0, 1, 2, 8]);
    for _ in 0..rng.below(most + 1) {
        if out.is_empty() {
            return;
        }
        // Most in the headers.
        let reach = if rng.chance(800) { out.len().min(64) } else { out.len() };
        let at = rng.below(reach as u64) as usize;
        match rng.below(6) {
            0 => out[at] ^= 1 << rng.below(8),
            1 => out[at] = rng.bits() as u8,
            2 => out[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => out.truncate(at),
            4 => out.insert(at, rng.bits() as u8),
            _ => {
                out.remove(at);
            }
        }
    }
    out.truncate(MAX_LEN as usize);
    mend(rng, out);
}

/// Makes some checksums right again, so that what was changed is looked at.
fn mend(rng: &mut Rng, frame: &mut [u8]) {
    if frame.len() < 34 || !rng.chance(500) {
        return;
    }
    if frame[12..14] == [0x86, 0xdd] {
        return mend_v6(frame);
    }
    frame[24..26].fill(0);
    let header_len = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
    let checksum = frames::checksum(&frame[14..14 + header_len]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    if frame.len() < 42 || !rng.chance(500) {
        return;
    }
    match frame[23] {
        // No checksum at all.
        frames::UDP => frame[40..42].fill(0),
        frames::ICMP => {
            let end = (14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))).clamp(42, frame.len());
            frame[36..38].fill(0);
            let checksum = frames::checksum(&frame[34..end]);
            frame[36..38].copy_from_slice(&checksum.to_be_bytes());
        }
        _ => {}
    }
}

/// The same for what stands behind an IPv6 header at once.
fn mend_v6(frame: &mut [u8]) {
    let Some((header, rest)) = frame[14..].split_first_chunk_mut::<40>() else { return };
    let len = usize::from(u16::from_be_bytes([header[4], header[5]])).min(rest.len());
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]));
    let (segment, place) = match header[6] {
        frames::UDP => (&mut rest[..len], 6),
        frames::ICMPV6 => (&mut rest[..len], 2),
        _ => return,
    };
    let Some(checksum) = segment.get_mut(place..place + 2) else { return };
    checksum.fill(0);
    let checksum = !frames::transport_sum(address(8), address(24), header[6], segment);
    segment[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn ten_million_random_and_mutated_frames_are_each_counted_once() {
    use ChecksumPolicy::{AcceptPartial, Trust, Verify};
    use Source::{Mutated, Random};
    // Two threads; on each the same number of frames of both sources.
    let halves = [
        [(Random, Verify), (Mutated, Verify), (Mutated, Trust), (Random, AcceptPartial)],
        [(Random, Trust), (Mutated, AcceptPartial), (Mutated, Verify), (Random, Verify)],
    ];
    let frames = FRAMES / 8;
    let half = move |half: usize| {
        let mut seed = 10 * half as u64;
        halves[half].map(|(source, policy)| {
            seed += 1;
            // One of them begins by probing for its address.
            let probing = if seed == 13 { Probing::Lead } else { Probing::Off };
            (source, policy, run(seed, frames, source, policy, probing))
        })
    };
    let other = thread::spawn(move || half(1));
    let hosts = half(0).into_iter().chain(other.join().expect("the other half"));
    let mut total = 0;
    let mut seen = [0; DropReason::COUNT];
    for (source, policy, host) in hosts {
        let counters = host.stack.counters();
        total += counters.received;
        seen.iter_mut().zip(counters.drops).for_each(|(sum, drops)| *sum += drops);
        println!(
            "{source:?} {policy:?}: {} received, {} delivered, {} answered, {} checked",
            counters.received, counters.delivered, host.sent, host.checked
        );
        let is_compared = matches!(source, Mutated) && host.reference.config().probing == Probing::Off;
        assert!(!is_compared || host.checked > 1000, "too few answers to have proved anything");
    }
    assert_eq!(total, FRAMES);
    for (reason, count) in DropReason::ALL.iter().zip(seen) {
        // A chain cannot be received here, and is dropped before anything else is looked at. Nobody looks into TCP.
        let possible = !is_impossible(*reason);
        assert!(count > 0 || !possible || is_rare(*reason), "{}: {count} frames", reason.name());
        assert!(count == 0 || possible, "{}: {count} frames", reason.name());
    }
}
