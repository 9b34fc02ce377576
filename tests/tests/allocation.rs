//! Nothing on the packet path allocates after the start: a counting allocator watches every turn of a worker.
//! And an answer leaves in the very chunk that the request came in.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use barewire::app::{Answer, App, Datagram, Outbox};
use barewire::apps::echo::Echo;
use barewire::base::{Burst, ChunkSize, Descriptor, DropReason, Instant, Umem, UmemConfig, UnsentReason};
use barewire::device::{Device, DeviceCounters};
use barewire::stack::{Event, Stack};
use barewire::wire::ethernet::Mac;
use barewire::worker::Worker;
use barewire_tests::sim::{PORT, Rng, SERVER, SERVER_MAC, STRANGER, STRANGER_MAC, draw_frame, frames, stack_config};

thread_local! {
    /// Allocations of this thread while [`COUNTING`].
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

struct Counter;

fn count() {
    // A thread that is about to end has no such variable any more, and counts nothing.
    let counting = COUNTING.try_with(Cell::get).unwrap_or(false);
    if counting {
        let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    }
}

// SAFETY: every call goes on to the system's allocator with the same arguments, so its contract is kept; the
// counter itself allocates nothing, for its variables are initialised by constants and need no destructor.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the memory came from the system's allocator, by the functions here.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the memory came from the system's allocator, by the functions here.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counter = Counter;

/// Runs something; how many times this thread allocated meanwhile.
fn allocations<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.get();
    COUNTING.set(true);
    let result = run();
    COUNTING.set(false);
    (result, ALLOCATIONS.get() - before)
}

/// A device that brings the same frames again and again, and notes which chunks they came and went in. It
/// makes room for all that before the first turn.
struct Replay {
    frames: Vec<Vec<u8>>,
    next: usize,
    came: Vec<u32>,
    went: Vec<u32>,
    last: Vec<u8>,
    burst: usize,
}

impl Replay {
    fn new(frames: Vec<Vec<u8>>, burst: usize) -> Self {
        let room = || Vec::with_capacity(64);
        Self { frames, next: 0, came: room(), went: room(), last: Vec::with_capacity(2048), burst }
    }
}

impl Device for Replay {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        self.came.clear();
        while burst.len() < self.burst
            && !self.frames.is_empty()
            && let Some(addr) = umem.lend_empty()
        {
            let bytes = &self.frames[self.next % self.frames.len()];
            self.next += 1;
            let descriptor = Descriptor { addr: addr + 256, len: bytes.len() as u32 };
            let mut frame = umem.received(descriptor).expect("the chunk was lent");
            umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            self.came.push(frame.chunk());
            burst.push(frame).expect("room");
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        self.went.clear();
        for frame in burst.drain() {
            self.went.push(frame.chunk());
            self.last.clear();
            self.last.extend_from_slice(umem.bytes(&frame));
            let (descriptor, _) = umem.lend(frame);
            assert!(umem.complete(descriptor.addr), "the chunk was lent");
        }
    }

    fn counters(&mut self) -> DeviceCounters {
        DeviceCounters::default()
    }
}

/// Echoes, and each turn sends to a neighbor that never answers, to a new one each time.
#[derive(Default)]
struct Restless {
    turn: u32,
}

impl App for Restless {
    type Session = ();

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        Echo.datagram(now, datagram)
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        self.turn += 1;
        let host = (self.turn % 100 + 100) as u8;
        let _ = outbox.send(PORT, ([10, 0, 0, host], 9).into(), |room| room.len().min(100));
    }
}

fn worker<A: App>(app: A, frames: Vec<Vec<u8>>, burst: usize) -> Worker<Replay, A> {
    let umem = UmemConfig { chunks: 2048, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
    let config = stack_config(SERVER_MAC, SERVER, [PORT].into_iter());
    let stack = Stack::new(&config, app, Instant::ZERO);
    Worker::new(Replay::new(frames, burst), Umem::new(umem).unwrap(), stack)
}

fn request(payload: &[u8]) -> Vec<u8> {
    let (theirs, ours) = ((STRANGER, 40_000), (SERVER, PORT));
    let datagram = frames::udp(theirs, ours, payload, frames::UdpChecksum::Right);
    let packet = frames::ipv4(frames::Ip::new(frames::UDP, STRANGER, SERVER), &[], &datagram);
    frames::ethernet(SERVER_MAC, STRANGER_MAC, &[], frames::IPV4, &packet)
}

/// Echo traffic, ARP, ICMP, closed ports, unknown protocols, everything else that a stranger may send; and a
/// claim of the server's address now and then.
fn traffic() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(1);
    let mut all: Vec<Vec<u8>> = (0..2000).map(|_| draw_frame(&mut rng, SERVER_MAC, SERVER)).collect();
    all.extend((0..500).map(|len| request(&vec![7; len])));
    let claim = frames::arp(2, (STRANGER_MAC, SERVER), (Mac::ZERO, STRANGER));
    all.push(frames::ethernet(Mac::BROADCAST, STRANGER_MAC, &[], frames::ARP, &claim));
    all
}

#[test]
fn no_turn_of_a_worker_allocates() {
    const TURNS: u64 = 20_000;
    let mut worker = worker(Restless::default(), traffic(), 64);
    let mut now = Instant::ZERO;
    let mut total = 0;
    for _ in 0..TURNS {
        now += Duration::from_micros(500);
        total += allocations(|| worker.turn(now)).1;
        while let Some(event) = worker.stack_mut().next_event() {
            assert!(!matches!(event, Event::Duplicate(..)), "the address was never probed for");
        }
    }
    assert_eq!(total, 0, "allocations in {TURNS} turns");
    // All of that was on the way, or it proves nothing.
    let counters = worker.stack().counters();
    assert!(counters.udp_originated > 100_000 && counters.icmp_echoes_answered > 10_000);
    assert!(counters.icmp_errors_originated > 10 && counters.icmp_errors_suppressed > 10);
    assert!(counters.arp_requests_answered > 10 && counters.arp_requests_originated > 10);
    assert!(counters.address_conflicts > 0);
    for reason in [DropReason::UdpPortClosed, DropReason::ProtocolUnknown, DropReason::EtherTypeUnknown] {
        assert!(counters.drops[reason as usize] > 0, "{}", reason.name());
    }
    for reason in [UnsentReason::NeighborUnreachable, UnsentReason::NeighborTableFull, UnsentReason::NoRoute] {
        assert!(counters.unsent[reason as usize] > 0, "{}", reason.name());
    }
}

#[test]
fn the_counting_allocator_counts() {
    let (boxed, counted) = allocations(|| std::hint::black_box(Box::new([0_u8; 100])));
    assert_eq!((boxed.len(), counted), (100, 1));
    let (_, counted) = allocations(|| std::hint::black_box(1 + 1));
    assert_eq!(counted, 0);
}

#[test]
fn a_reply_leaves_in_the_chunk_that_the_request_came_in() {
    let mut worker = worker(Echo, vec![request(b"first"), request(b"second"), request(&[9; 1472])], 3);
    for turn in 1..=1000 {
        worker.turn(Instant::from_ns(turn));
        let device = worker.device_mut();
        assert_eq!(device.came.len(), 3);
        assert_eq!(device.went, device.came, "turn {turn}");
        assert_eq!(device.last[42..], [9; 1472]);
    }
}
