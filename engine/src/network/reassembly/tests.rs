//! What reassembly promises, rule by rule.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::base::{ChunkSize, Place, UmemConfig};

mod limits;
mod random;

const UDP: u8 = 17;
/// Where headers begin in a chunk: behind the headroom of the kernel and an Ethernet header.
const HEADER_AT: u16 = 256 + 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn host(self, n: u32) -> IpAddress {
        match self {
            Self::V4 => Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
            Self::V6 => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into(),
        }
    }

    /// Bytes of headers in front of a fragment's payload.
    fn header_len(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 48,
        }
    }

    /// The first fragment of a datagram from host `source`; what comes with it is its offset.
    fn fragment(self, source: u32, identification: u32, offset: usize, more: bool) -> Fragment<u16> {
        Fragment {
            source: self.host(source),
            destination: self.host(0),
            identification,
            protocol: UDP,
            offset: offset as u16,
            more,
            traffic_class: 0,
            header_at: HEADER_AT,
            dont_fragment: false,
            context: offset as u16,
        }
    }
}

/// A reassembly with memory.
struct Bench {
    umem: Umem,
    reassembly: Reassembly<u16>,
    now: Instant,
    chunks: u32,
    evicted: u32,
    /// Frames taken in, and those that have ended, in whatever way.
    received: u32,
    ended: u32,
}

/// What became of a fragment, without frames.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Became {
    Held,
    Whole(Vec<u8>),
    Dropped(DropReason, u32),
    Problem(DropReason, u8, u32),
}

impl Bench {
    fn new(config: ReassemblyConfig) -> Self {
        let chunks = 1024;
        let umem = Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap();
        let now = Instant::ZERO + Duration::from_secs(1000);
        Self { umem, reassembly: Reassembly::new(config), now, chunks, evicted: 0, received: 0, ended: 0 }
    }

    /// A frame of the payload, behind headers of 0xaa.
    fn frame(&mut self, family: Family, payload: &[u8]) -> Frame {
        let mut frame = self.umem.alloc().unwrap();
        let headers = usize::from(family.header_len());
        assert!(self.umem.set_len(&mut frame, 14 + headers + payload.len()));
        let bytes = self.umem.bytes_mut(&mut frame);
        bytes[14..14 + headers].fill(0xaa);
        bytes[14 + headers..].copy_from_slice(payload);
        assert!(Umem::narrow(&mut frame, 14 + headers, payload.len()));
        frame
    }

    fn insert(&mut self, family: Family, fragment: Fragment<u16>, payload: &[u8]) -> Became {
        let frame = self.frame(family, payload);
        self.insert_frame(family, fragment, frame)
    }

    /// Takes in a fragment, and keeps the accounts.
    fn put(&mut self, fragment: Fragment<u16>, frame: Frame) -> Outcome<u16> {
        let Insertion { outcome, evicted } = self.reassembly.insert(&fragment, frame, &mut self.umem, self.now);
        self.evicted += evicted;
        self.received += 1;
        self.ended += evicted;
        self.ended += match &outcome {
            Outcome::Held => 0,
            Outcome::Complete(whole) => whole.frames,
            Outcome::Dropped { frames, .. } => *frames,
            Outcome::Problem { .. } => 1,
        };
        outcome
    }

    /// Takes out what has run out of time.
    fn expire(&mut self) -> Option<Expired<u16>> {
        let expired = self.reassembly.expire(&mut self.umem, self.now)?;
        self.ended += expired.frames;
        Some(expired)
    }

    fn insert_frame(&mut self, family: Family, fragment: Fragment<u16>, frame: Frame) -> Became {
        let became = match self.put(fragment, frame) {
            Outcome::Held => Became::Held,
            Outcome::Complete(mut whole) => {
                assert_eq!(whole.header_at, HEADER_AT);
                let bytes: Vec<u8> = self.umem.slices(&whole.frame).flatten().copied().collect();
                assert_eq!((bytes.len(), whole.context, whole.protocol), (whole.len, 0, UDP));
                self.assert_headers(family, &mut whole.frame);
                self.umem.free(whole.frame);
                Became::Whole(bytes)
            }
            Outcome::Dropped { reason, frames } => Became::Dropped(reason, frames),
            Outcome::Problem { reason, code, pointer, mut frame } => {
                self.assert_headers(family, &mut frame);
                self.umem.free(frame);
                Became::Problem(reason, code, pointer)
            }
        };
        self.assert_sound();
        became
    }

    /// The headers that a frame came with are still in front of it.
    fn assert_headers(&mut self, family: Family, frame: &mut Frame) {
        let len = family.header_len();
        assert_eq!(frame.offset(), HEADER_AT + len);
        assert!(self.umem.prepend_len(frame, len).unwrap().iter().all(|&byte| byte == 0xaa));
        assert!(Umem::narrow(frame, usize::from(len), usize::from(frame.len() - len)));
    }

    fn assert_sound(&self) {
        let held = self.reassembly.held_chunks();
        assert!(held <= self.reassembly.config.chunks);
        assert_eq!((self.umem.free_chunks(), self.umem.count(Place::Queue)), (self.chunks - held, held));
        let deadlines = self.reassembly.datagrams().map(|(_, datagram)| datagram.deadline());
        assert_eq!(self.reassembly.next_deadline(), deadlines.min());
        assert_eq!(self.reassembly.len(), self.reassembly.datagrams().count());
        assert_eq!(self.received, self.ended + self.reassembly.held_frames());
    }

    /// Lets time pass until everything has run out: how many frames ran out with it.
    fn run_out(&mut self) -> u32 {
        let mut frames = 0;
        while let Some(deadline) = self.reassembly.next_deadline() {
            assert!(deadline > self.now);
            self.now = deadline;
            while let Some(expired) = self.expire() {
                frames += expired.frames;
                if let Some(frame) = expired.frame {
                    self.umem.free(frame);
                }
            }
            self.assert_sound();
        }
        assert_eq!((self.reassembly.len(), self.reassembly.held_frames()), (0, 0));
        assert_eq!(self.umem.free_chunks(), self.chunks);
        frames
    }
}

fn bench() -> Bench {
    Bench::new(ReassemblyConfig::default())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + (n >> 8)) as u8).collect()
}

/// Offsets and ends of pieces of `size` bytes.
fn cuts(len: usize, size: usize) -> Vec<(usize, usize)> {
    (0..len).step_by(size).map(|at| (at, len.min(at + size))).collect()
}

/// Puts in the pieces of a datagram, and says what became of the last one of them.
fn insert_all(bench: &mut Bench, family: Family, bytes: &[u8], pieces: &[(usize, usize)]) -> Became {
    let mut became = Became::Held;
    for &(start, end) in pieces {
        assert_eq!(became, Became::Held);
        let fragment = family.fragment(1, 77, start, end < bytes.len());
        became = bench.insert(family, fragment, &bytes[start..end]);
    }
    became
}

#[test]
fn fragments_make_the_datagram_in_whatever_order_they_come() {
    let bytes = pattern(3000);
    let (a, b, c) = ((0, 1480), (1480, 2960), (2960, 3000));
    for family in FAMILIES {
        for order in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
            let mut bench = bench();
            assert_eq!(insert_all(&mut bench, family, &bytes, &order), Became::Whole(bytes.clone()), "{order:?}");
            assert_eq!(bench.run_out(), 0);
        }
    }
}

#[test]
fn a_datagram_in_many_tiny_fragments_is_put_together_in_one_chunk() {
    let bytes = pattern(248);
    for family in FAMILIES {
        for reverse in [false, true] {
            let (mut bench, mut pieces) = (bench(), cuts(248, 8));
            if reverse {
                pieces.reverse();
            }
            let last = pieces.pop().unwrap();
            assert_eq!(insert_all(&mut bench, family, &bytes, &pieces), Became::Held);
            assert_eq!(bench.reassembly.held_chunks(), 1);
            assert_eq!(insert_all(&mut bench, family, &bytes, &[last]), Became::Whole(bytes.clone()));
        }
    }
}

#[test]
fn a_first_fragment_without_the_transport_header_is_no_reason_to_drop_it() {
    // RFC 1858 and RFC 3128 speak of filters; a host sees the whole header.
    let syn = pattern(40);
    assert_eq!(insert_all(&mut bench(), Family::V4, &syn, &[(0, 8), (8, 16), (16, 40)]), Became::Whole(syn.clone()));
}

#[test]
fn the_longest_datagram_passes_in_fragments_of_an_ethernet_and_of_the_smallest_mtu() {
    for (size, most) in [(1480, 45), (552, 42)] {
        let (bytes, mut bench) = (pattern(65_515), bench());
        let mut pieces = cuts(65_515, size);
        let last = pieces.pop().unwrap();
        assert_eq!(insert_all(&mut bench, Family::V4, &bytes, &pieces), Became::Held);
        assert!(bench.reassembly.held_chunks() <= most, "{} chunks", bench.reassembly.held_chunks());
        assert_eq!(insert_all(&mut bench, Family::V4, &bytes, &[last]), Became::Whole(bytes));
    }
    let (bytes, mut bench) = (pattern(65_535), bench());
    assert_eq!(insert_all(&mut bench, Family::V6, &bytes, &cuts(65_535, 1232)), Became::Whole(bytes));
}

#[test]
fn what_does_not_belong_together_is_not_put_together() {
    for family in FAMILIES {
        let first = family.fragment(1, 77, 0, true);
        let last = family.fragment(1, 77, 8, false);
        let others = [
            Fragment { source: family.host(2), ..last },
            Fragment { destination: family.host(2), ..last },
            Fragment { identification: 78, ..last },
        ];
        let mut bench = bench();
        assert_eq!(bench.insert(family, first, &[1; 8]), Became::Held);
        for other in others {
            assert_eq!(bench.insert(family, other, &[2; 8]), Became::Held);
        }
        assert_eq!(bench.reassembly.len(), 4);
        // RFC 791 tells protocols apart. RFC 8200, section 4.5: the Next Header values may differ; that of the first
        // fragment counts.
        let other = bench.insert(family, Fragment { protocol: 99, ..last }, &[2; 8]);
        assert_eq!(other == Became::Held, family == Family::V4, "{other:?}");
        assert_eq!(bench.run_out(), if family == Family::V4 { 5 } else { 3 });
    }
}

#[test]
fn protocol_and_context_are_those_of_the_first_fragment_whenever_it_comes() {
    let mut bench = bench();
    let last = Fragment { protocol: 6, dont_fragment: true, ..Family::V6.fragment(1, 77, 8, false) };
    assert_eq!(bench.insert(Family::V6, last, &[2; 8]), Became::Held);
    let first = Family::V6.fragment(1, 77, 0, true);
    let frame = bench.frame(Family::V6, &[1; 8]);
    let Outcome::Complete(whole) = bench.put(first, frame) else { panic!("not complete") };
    assert_eq!((whole.protocol, whole.context, whole.frames, whole.dont_fragment), (UDP, 0, 2, true));
    bench.umem.free(whole.frame);
}

#[test]
fn exact_duplicates_are_dropped_and_do_no_harm() {
    let bytes = pattern(600);
    for family in FAMILIES {
        let mut bench = bench();
        for (start, became) in [
            (0, Became::Held),
            (0, Became::Dropped(DropReason::FragmentDuplicate, 1)),
            (400, Became::Held),
            (400, Became::Dropped(DropReason::FragmentDuplicate, 1)),
            (0, Became::Dropped(DropReason::FragmentDuplicate, 1)),
            (200, Became::Whole(bytes.clone())),
        ] {
            let fragment = family.fragment(1, 77, start, start < 400);
            assert_eq!(bench.insert(family, fragment, &bytes[start..start + 200]), became);
        }
    }
}

#[test]
fn an_atomic_fragment_has_nothing_to_do_with_others() {
    // RFC 6946, section 4.
    for family in FAMILIES {
        let mut bench = bench();
        assert_eq!(bench.insert(family, family.fragment(1, 77, 0, true), &[1; 8]), Became::Held);
        assert_eq!(bench.insert(family, family.fragment(1, 77, 0, false), &[2; 5]), Became::Whole(vec![2; 5]));
        assert_eq!(bench.insert(family, family.fragment(1, 77, 0, false), &[]), Became::Whole(Vec::new()));
        let whole = [[1; 8], [3; 8]].concat();
        assert_eq!(bench.insert(family, family.fragment(1, 77, 8, false), &[3; 8]), Became::Whole(whole));
    }
}

#[test]
fn in_ipv4_the_first_to_bring_a_byte_wins() {
    // Each fragment is full of its number; the digits are the datagram.
    for (fragments, whole, overlaps) in [
        (&[(0, 40, true), (32, 64, false)][..], "00000111", 1),
        (&[(16, 64, false), (0, 24, true)], "11000000", 1),
        (&[(0, 8, true), (0, 32, true), (32, 40, false)], "01112", 1),
        (&[(8, 16, true), (24, 32, true), (0, 40, true), (40, 48, false)], "202123", 1),
        (&[(8, 16, true), (24, 32, true), (0, 32, true), (32, 40, false)], "20213", 1),
        (&[(8, 16, true), (16, 24, true), (0, 32, true), (32, 40, false)], "20123", 1),
        (&[(0, 16, true), (24, 40, true), (8, 32, true), (40, 48, false)], "002113", 1),
        (&[(32, 40, false), (8, 24, true), (16, 32, true), (0, 16, true)], "31120", 2),
    ] {
        let mut bench = bench();
        let mut became = Became::Held;
        for (n, &(start, end, more)) in fragments.iter().enumerate() {
            assert_eq!(became, Became::Held);
            let payload = vec![b'0' + n as u8; end - start];
            became = bench.insert(Family::V4, Family::V4.fragment(1, 77, start, more), &payload);
        }
        let expected: Vec<u8> = whole.bytes().flat_map(|digit| [digit; 8]).collect();
        assert_eq!((became, bench.reassembly.overlaps()), (Became::Whole(expected), overlaps), "{fragments:?}");
    }
}

#[test]
fn in_ipv6_an_overlap_ends_the_datagram_until_its_time_runs_out() {
    // RFC 5722, section 4.
    let other_overlaps = [(8, 16, true), (0, 24, true), (16, 48, false), (0, 64, true), (24, 32, true)];
    for (start, end, more) in other_overlaps {
        let mut bench = bench();
        let mut insert = |start: usize, end: usize, more| {
            bench.insert(Family::V6, Family::V6.fragment(1, 77, start, more), &vec![1; end - start])
        };
        assert_eq!((insert(0, 16, true), insert(24, 40, true)), (Became::Held, Became::Held));
        assert_eq!(insert(start, end, more), Became::Dropped(DropReason::FragmentOverlap, 3), "{start}..{end}");
        for (start, end) in [(16, 24), (40, 48), (0, 16)] {
            assert_eq!(insert(start, end, start < 40), Became::Dropped(DropReason::FragmentOverlap, 1));
        }
        assert_eq!((bench.reassembly.held_chunks(), bench.reassembly.len()), (0, 1));
        assert_eq!(bench.run_out(), 0);
        let bytes = pattern(48);
        let whole = insert_all(&mut bench, Family::V6, &bytes, &[(0, 24), (24, 48)]);
        assert_eq!(whole, Became::Whole(bytes), "a new one");
    }
}

#[test]
fn a_fragment_beyond_the_longest_datagram_ends_it_in_ipv4_and_is_reported_in_ipv6() {
    let beyond = |family: Family| Fragment { more: false, ..family.fragment(1, 77, 65_528, false) };
    let mut bench = bench();
    assert_eq!(bench.insert(Family::V4, Family::V4.fragment(1, 77, 0, true), &[1; 8]), Became::Held);
    assert_eq!(bench.insert(Family::V4, beyond(Family::V4), &[1; 8]), Became::Dropped(DropReason::FragmentTooLong, 2));
    assert_eq!(bench.insert(Family::V4, beyond(Family::V4), &[1; 8]), Became::Dropped(DropReason::FragmentTooLong, 1));
    assert_eq!(bench.reassembly.len(), 0);

    // RFC 8200, section 4.5: Code 0, pointing to the Fragment Offset field, here 40 + 2. The others stay.
    assert_eq!(bench.insert(Family::V6, Family::V6.fragment(1, 77, 0, true), &[1; 8]), Became::Held);
    let problem = Became::Problem(DropReason::FragmentTooLong, 0, 42);
    assert_eq!(bench.insert(Family::V6, beyond(Family::V6), &[1; 8]), problem);
    assert_eq!(bench.insert(Family::V6, beyond(Family::V6), &[1; 7]), Became::Held, "65,535 bytes are not too many");
    assert_eq!(bench.run_out(), 2);
}

#[test]
fn the_length_field_of_the_whole_counts_the_headers_of_the_first_fragment() {
    // 65,515 bytes fit behind a header of 20 bytes, but not behind one of 24.
    for (options, fits) in [(0, true), (4, false)] {
        let (mut bench, bytes) = (bench(), pattern(65_515));
        let pieces = cuts(65_515, 1480);
        assert_eq!(insert_all(&mut bench, Family::V4, &bytes, &pieces[1..]), Became::Held);
        let first = Fragment { header_at: HEADER_AT - options, ..Family::V4.fragment(1, 77, 0, true) };
        let frame = bench.frame(Family::V4, &bytes[..1480]);
        match bench.put(first, frame) {
            Outcome::Complete(whole) => {
                assert!(fits);
                bench.umem.free(whole.frame);
            }
            Outcome::Dropped { reason, frames } => {
                assert_eq!((fits, reason, frames), (false, DropReason::FragmentTooLong, 45));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.run_out(), 0);
    }
}

#[test]
fn a_length_that_is_no_multiple_of_eight_is_for_the_last_fragment_only() {
    let mut bench = bench();
    let became = bench.insert(Family::V4, Family::V4.fragment(1, 77, 0, true), &[1; 12]);
    assert_eq!(became, Became::Dropped(DropReason::FragmentMalformed, 1));
    // RFC 8200, section 4.5: Code 0, pointing to the Payload Length field.
    let became = bench.insert(Family::V6, Family::V6.fragment(1, 77, 0, true), &[1; 12]);
    assert_eq!(became, Became::Problem(DropReason::FragmentMalformed, 0, 4));
    assert_eq!(bench.reassembly.len(), 0);
}

#[test]
fn a_fragment_without_payload_is_refused() {
    for family in FAMILIES {
        let mut bench = bench();
        for (offset, more) in [(0, true), (8, true), (8, false)] {
            let became = bench.insert(family, family.fragment(1, 77, offset, more), &[]);
            assert_eq!(became, Became::Dropped(DropReason::FragmentMalformed, 1));
        }
        assert_eq!(bench.reassembly.len(), 0);
    }
}

#[test]
fn fragments_that_do_not_agree_on_the_end_end_the_datagram() {
    for family in FAMILIES {
        for [one, two] in [
            [(16, 24, false), (24, 32, false)], // another last one behind the last
            [(16, 24, false), (8, 16, false)],  // or before it
            [(16, 24, false), (24, 32, true)],  // more behind the last one
            [(16, 24, false), (16, 24, true)],  // the last one is not the last
            [(16, 24, true), (16, 24, false)],  // and the other way round
            [(16, 24, true), (8, 16, false)],   // a last one before another
        ] {
            let mut bench = bench();
            let mut insert = |(start, end, more): (usize, usize, bool)| {
                bench.insert(family, family.fragment(1, 77, start, more), &vec![1; end - start])
            };
            assert_eq!(insert(one), Became::Held);
            assert_eq!(insert(two), Became::Dropped(DropReason::FragmentEnd, 2), "{one:?} {two:?}");
            assert_eq!(bench.reassembly.held_chunks(), 0);
        }
    }
}

#[test]
fn congestion_is_passed_on_and_a_mixture_that_nobody_sends_is_dropped() {
    for family in FAMILIES {
        let class = |classes: [u8; 2]| {
            let mut bench = bench();
            let first = Fragment { traffic_class: classes[0], ..family.fragment(1, 77, 0, true) };
            let last = Fragment { traffic_class: classes[1], ..family.fragment(1, 77, 8, false) };
            assert_eq!(bench.insert(family, first, &[1; 8]), Became::Held);
            let frame = bench.frame(family, &[2; 8]);
            match bench.put(last, frame) {
                Outcome::Complete(whole) => {
                    bench.umem.free(whole.frame);
                    Ok(whole.traffic_class)
                }
                Outcome::Dropped { reason, frames } => Err((reason, frames)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(class([0xb8, 0x04]), Ok(0xb8), "DSCP of the first");
        assert_eq!(class([0xb8 | 2, 3]), Ok(0xb8 | 3));
        assert_eq!(class([0xb8 | 3, 2]), Ok(0xb8 | 3));
        assert_eq!(class([0xb8 | 2, 0xb8]), Err((DropReason::FragmentEcn, 2)));
        assert_eq!(class([0xb8, 3]), Err((DropReason::FragmentEcn, 2)));
    }
}

#[test]
fn what_runs_out_of_time_gives_back_its_first_fragment_as_it_came() {
    for (family, seconds) in [(Family::V4, 30), (Family::V6, 60)] {
        let mut bench = bench();
        let begun = bench.now;
        assert_eq!(bench.insert(family, family.fragment(1, 77, 8, true), &[2; 8]), Became::Held);
        bench.now += Duration::from_secs(5);
        assert_eq!(bench.insert(family, family.fragment(1, 77, 0, true), &[1; 8]), Became::Held);
        assert_eq!(bench.insert(family, family.fragment(1, 77, 32, true), &[3; 8]), Became::Held);
        // From the first that arrived, whichever it was: RFC 8200, section 4.5.
        let deadline = begun + Duration::from_secs(seconds);
        assert_eq!(bench.reassembly.next_deadline(), Some(deadline));
        bench.now = Instant::from_ns(deadline.as_ns() - 1);
        assert!(bench.expire().is_none());
        bench.now = deadline;
        let expired = bench.expire().unwrap();
        assert_eq!((expired.frames, expired.source, expired.protocol), (3, family.host(1), UDP));
        assert_eq!((expired.context, expired.header_at), (0, HEADER_AT));
        let mut frame = expired.frame.unwrap();
        assert_eq!(bench.umem.bytes(&frame), [1; 8], "and nothing of what was joined with it");
        bench.assert_headers(family, &mut frame);
        bench.umem.free(frame);
        assert!(bench.expire().is_none());
        assert_eq!(bench.run_out(), 0);
    }
}

#[test]
fn without_its_first_fragment_a_datagram_runs_out_with_nothing_to_quote() {
    let mut bench = bench();
    assert_eq!(bench.insert(Family::V4, Family::V4.fragment(1, 77, 8, true), &[2; 8]), Became::Held);
    bench.now = bench.reassembly.next_deadline().unwrap();
    let expired = bench.expire().unwrap();
    assert!(expired.frame.is_none() && expired.frames == 1);
    assert_eq!(bench.umem.free_chunks(), bench.chunks);
}

#[test]
fn fragments_that_came_in_several_chunks_are_taken_apart_and_put_together() {
    let bytes = pattern(16_000);
    for family in FAMILIES {
        for reverse in [false, true] {
            let (mut bench, mut pieces) = (bench(), cuts(16_000, 5_360));
            if reverse {
                pieces.reverse();
            }
            let mut became = Became::Held;
            for (start, end) in pieces {
                let mut frame = bench.frame(family, &bytes[start..start + 1000]);
                for part in bytes[start + 1000..end].chunks(1700) {
                    let part = bench.frame(family, part);
                    bench.umem.append(&mut frame, part);
                }
                became = bench.insert_frame(family, family.fragment(1, 77, start, end < bytes.len()), frame);
            }
            assert_eq!(became, Became::Whole(bytes.clone()));
        }
    }
}
