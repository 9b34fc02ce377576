//! Reassembly: a byte string says how a datagram is cut, in which order its pieces come, which come twice, with other
//! bytes, or with lies about where they belong.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use barewire::base::{ChunkSize, DropReason, Frame, Instant, Place, Umem, UmemConfig};
use barewire::network::reassembly::{Fragment, Insertion, Outcome, Reassembly, ReassemblyConfig};
use barewire::wire::ip::IpAddress;

use super::Input;

/// Few, so that limits are met.
const LIMITS: ReassemblyConfig = ReassemblyConfig {
    datagrams: 4,
    per_source: 2,
    chunks: 24,
    fragments: 16,
    timeout_v4: Duration::from_secs(30),
    timeout_v6: Duration::from_secs(60),
};
const CHUNKS: u32 = 64;
/// Where headers begin in a chunk, and how many bytes they take: an Ethernet header, IPv6, a fragment header.
const HEADERS: usize = 14 + 48;
/// More pieces tell nothing new.
const PIECES: usize = 200;

/// Byte `at` of every datagram, whichever fragment it comes in.
const fn byte(at: usize) -> u8 {
    (at * 7 + at / 256) as u8
}

struct Bench {
    umem: Umem,
    reassembly: Reassembly<()>,
    now: Instant,
    received: u64,
    ended: u64,
    /// Whether any fragment so far had other bytes than the datagram has there.
    lied: bool,
}

thread_local! {
    /// Made once, as its memory costs more than an input. Nothing is left in it from one input to the next.
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

/// Feeds fragments. A datagram comes out as it was or not at all, memory stays within its bounds, and in the end every
/// chunk is free and every frame accounted for.
///
/// # Panics
/// If not.
pub fn reassembly(bytes: &[u8]) {
    BENCH.with_borrow_mut(|bench| bench.feed(bytes));
}

impl Bench {
    fn new() -> Self {
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let umem = Umem::new(umem).expect("packet memory");
        let now = Instant::ZERO + Duration::from_secs(1);
        Self { umem, reassembly: Reassembly::new(LIMITS), now, received: 0, ended: 0, lied: false }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.lied = false;
        let mut input = Input(bytes);
        for _ in 0..PIECES {
            if input.is_empty() {
                break;
            }
            self.piece(&mut input);
            assert!(self.reassembly.held_chunks() <= LIMITS.chunks, "more chunks than may be");
            assert!(self.reassembly.len() <= LIMITS.datagrams);
            let held = u64::from(self.reassembly.held_frames());
            assert_eq!(self.received, self.ended + held, "frames that nobody accounts for");
            let free = CHUNKS - self.umem.count(Place::Queue);
            assert_eq!(self.umem.free_chunks(), free, "a chunk is lost");
        }
        self.now += LIMITS.timeout_v6 + Duration::from_secs(1);
        self.expire();
        assert_eq!((self.reassembly.held_chunks(), self.umem.free_chunks()), (0, CHUNKS), "something is left");
        assert_eq!(self.received, self.ended);
        assert!(self.reassembly.is_empty());
    }

    /// One fragment: a byte of kinds, two of where it belongs, one of how long it is.
    fn piece(&mut self, input: &mut Input<'_>) {
        let kinds = input.byte();
        let offset = usize::from(input.word() & 0x1fff) * 8;
        // Mostly near the start, or else hardly ever two meet.
        let offset = if kinds & 1 == 0 { offset % 4096 } else { offset };
        let len = usize::from(input.byte()) * 8 % 1_600;
        // The last one may have any length.
        let (more, len) = if kinds & 2 == 0 { (true, len) } else { (false, len + usize::from(kinds >> 5)) };
        let v4 = kinds & 4 == 0;
        let host = u32::from(kinds >> 3 & 1);
        let address = |n: u32| {
            let v6 = Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n));
            IpAddress::from(if v4 { IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)) } else { IpAddr::V6(v6) })
        };
        if kinds >> 4 == 15 {
            self.now += Duration::from_secs(u64::from(input.byte()));
            self.expire();
        }
        let lies = kinds >> 4 & 7 == 6;
        let Some(frame) = self.frame(offset, len, lies) else { return };
        let fragment = Fragment {
            source: address(1 + host),
            destination: address(9),
            identification: u32::from(kinds >> 4 & 1),
            protocol: 17,
            offset: offset as u16,
            more,
            traffic_class: 0,
            header_at: 256 + 14,
            dont_fragment: false,
            context: (),
        };
        self.lied |= lies;
        self.received += 1;
        let Insertion { outcome, evicted } = self.reassembly.insert(&fragment, frame, &mut self.umem, self.now);
        self.ended += u64::from(evicted);
        match outcome {
            Outcome::Held => {}
            Outcome::Dropped { frames, reason } => {
                assert!(reason.is_of_fragments() || reason == DropReason::Ipv6FragmentLength, "{}", reason.name());
                self.ended += u64::from(frames);
            }
            Outcome::Problem { frame, .. } => {
                self.ended += 1;
                self.umem.free(frame);
            }
            Outcome::Complete(whole) => {
                self.ended += u64::from(whole.frames);
                let bytes: Vec<u8> = self.umem.slices(&whole.frame).flatten().copied().collect();
                assert_eq!(bytes.len(), whole.len);
                let expected = (0..bytes.len()).map(byte);
                assert!(self.lied || bytes.iter().copied().eq(expected), "another datagram than was sent");
                self.umem.free(whole.frame);
            }
        }
    }

    fn frame(&mut self, offset: usize, len: usize, lies: bool) -> Option<Frame> {
        let mut frame = self.umem.alloc()?;
        assert!(self.umem.set_len(&mut frame, HEADERS + len));
        let payload = &mut self.umem.bytes_mut(&mut frame)[HEADERS..];
        payload.iter_mut().enumerate().for_each(|(at, out)| *out = byte(offset + at) ^ u8::from(lies));
        assert!(Umem::narrow(&mut frame, HEADERS, len));
        Some(frame)
    }

    fn expire(&mut self) {
        while let Some(expired) = self.reassembly.expire(&mut self.umem, self.now) {
            self.ended += u64::from(expired.frames);
            if let Some(frame) = expired.frame {
                self.umem.free(frame);
            }
        }
    }
}
