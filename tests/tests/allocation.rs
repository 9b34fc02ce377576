//! Nothing on the packet path allocates after the start: a counting allocator watches every turn of a worker.
//! And an answer leaves in the very chunk that the request came in.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use barewire::app::{Answer, App, Connection, Datagram, Outbox};
use barewire::apps::echo::Echo;
use barewire::base::{Burst, ChunkSize, Descriptor, DropReason, Frame, Instant, Umem, UmemConfig, UnsentReason};
use barewire::device::{Device, DeviceCounters};
use barewire::stack::{Event, Stack};
use barewire::transport::tcp::{Counters, TcpConfig};
use barewire::wire::ethernet::Mac;
use barewire::wire::ip::IpAddress;
use barewire::worker::Worker;
use barewire_tests::sim::tcp::Side;
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

fn worker<A: App>(app: A, frames: Vec<Vec<u8>>, burst: usize, fixed: Vec<(IpAddress, Mac)>) -> Worker<Replay, A> {
    let umem = UmemConfig { chunks: 2048, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
    let mut config = stack_config(SERVER_MAC, SERVER, [PORT].into_iter());
    config.neighbors.fixed = fixed;
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
    let mut worker = worker(Restless::default(), traffic(), 64, Vec::new());
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
    let requests = vec![request(b"first"), request(b"second"), request(&[9; 1472])];
    let mut worker = worker(Echo, requests, 3, vec![(STRANGER.into(), STRANGER_MAC)]);
    for turn in 1..=1000 {
        worker.turn(Instant::from_ns(turn));
        let device = worker.device_mut();
        assert_eq!(device.came.len(), 3);
        assert_eq!(device.went, device.came, "turn {turn}");
        assert_eq!(device.last[42..], [9; 1472]);
    }
}

/// Frames on their way between two hosts, in room that is there from the beginning.
struct Cable {
    under_way: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

/// One end of two cables. Of what comes out one frame in so many is lost, and where the text of frames lay is noted.
struct Plug {
    incoming: Rc<RefCell<Cable>>,
    outgoing: Rc<RefCell<Cable>>,
    lost_in_a_thousand: u32,
    rng: Rng,
    /// Chunk, address and length of texts that came and that went.
    came: Vec<(u32, usize, usize)>,
    went: Vec<(u32, usize, usize)>,
}

/// Where the text of a TCP segment lies.
fn text_of(umem: &Umem, frame: &Frame) -> Option<(u32, usize, usize)> {
    let bytes = umem.bytes(frame);
    let header_len = 34 + usize::from(bytes.get(46)? >> 4) * 4;
    let text = bytes.get(header_len..).filter(|text| bytes[23] == frames::TCP && !text.is_empty())?;
    Some((frame.chunk(), text.as_ptr().addr(), text.len()))
}

impl Plug {
    /// Both ends.
    fn pair(lost_in_a_thousand: u32) -> [Self; 2] {
        let cable = || {
            let spare = (0..512).map(|_| Vec::with_capacity(2048)).collect();
            Rc::new(RefCell::new(Cable { under_way: VecDeque::with_capacity(512), spare }))
        };
        let (one, other) = (cable(), cable());
        let end = |incoming: &Rc<RefCell<Cable>>, outgoing: &Rc<RefCell<Cable>>, seed| Self {
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            lost_in_a_thousand,
            rng: Rng::new(seed),
            came: Vec::with_capacity(64),
            went: Vec::with_capacity(64),
        };
        [end(&one, &other, 1), end(&other, &one, 2)]
    }
}

impl Device for Plug {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let mut cable = self.incoming.borrow_mut();
        self.came.clear();
        while burst.room() > 0
            && umem.free_chunks() > 64
            && let Some(bytes) = cable.under_way.pop_front()
        {
            let addr = umem.lend_empty().expect("some are free") + 256;
            let descriptor = Descriptor { addr, len: bytes.len() as u32 };
            let mut frame = umem.received(descriptor).expect("the chunk was lent");
            umem.bytes_mut(&mut frame).copy_from_slice(&bytes);
            self.came.extend(text_of(umem, &frame));
            cable.spare.push(bytes);
            burst.push(frame).expect("room");
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let mut cable = self.outgoing.borrow_mut();
        self.went.clear();
        for frame in burst.drain() {
            self.went.extend(text_of(umem, &frame));
            if !self.rng.chance(self.lost_in_a_thousand)
                && let Some(mut bytes) = cable.spare.pop()
            {
                bytes.clear();
                bytes.extend_from_slice(umem.bytes(&frame));
                cable.under_way.push_back(bytes);
            }
            let (descriptor, _) = umem.lend(frame);
            assert!(umem.complete(descriptor.addr), "the chunk was lent");
        }
    }

    fn counters(&mut self) -> DeviceCounters {
        DeviceCounters::default()
    }
}

/// Ports of the services: what comes goes back, or is taken.
const ECHO: u16 = 7;
const SINK: u16 = 9;

/// Opens connections, several each millisecond if there is room, and does something else on each: sends in pieces of
/// many sizes, half-closes, aborts, reads late.
struct Busy {
    rng: Rng,
    calls: bool,
    next_at: Instant,
}

/// What is left to do on a connection.
#[derive(Debug, Default)]
struct Task {
    left: usize,
    aborts: bool,
}

impl Busy {
    fn say(&mut self, task: &mut Task, connection: &mut impl Connection) {
        static WORDS: [u8; 4000] = [7; 4000];
        while task.left > 0 {
            let asked = task.left.min(1 + self.rng.below(4000) as usize);
            let fill = |out: &mut [u8]| {
                let len = asked.min(out.len());
                out[..len].fill(9);
                len
            };
            let sent = if self.rng.chance(500) { connection.send(&WORDS[..asked]) } else { connection.reserve(fill) };
            task.left -= sent;
            if sent == 0 {
                return;
            }
        }
        if task.aborts { connection.abort() } else { connection.finish() }
    }
}

impl App for Busy {
    type Session = Task;

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _now: Instant, task: &mut Task, connection: &mut impl Connection) {
        if connection.local().port() >= 1024 {
            *task = Task { left: self.rng.scale(1, 40_000) as usize, aborts: self.rng.chance(100) };
            self.say(task, connection);
        }
    }

    fn data(&mut self, _now: Instant, _task: &mut Task, connection: &mut impl Connection) {
        if connection.local().port() == ECHO {
            connection.send_back(if self.rng.chance(800) { usize::MAX } else { 1 + self.rng.below(2000) as usize });
        } else {
            connection.consume(if self.rng.chance(800) { usize::MAX } else { 100 });
        }
        if connection.is_finished() && connection.received_len() == 0 {
            connection.finish();
        }
    }

    fn writable(&mut self, now: Instant, task: &mut Task, connection: &mut impl Connection) {
        if connection.local().port() >= 1024 { self.say(task, connection) } else { self.data(now, task, connection) }
    }

    fn finished(&mut self, now: Instant, task: &mut Task, connection: &mut impl Connection) {
        self.data(now, task, connection);
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        while self.calls && self.next_at <= now {
            self.next_at = now + Duration::from_micros(self.rng.below(2000));
            let port = self.rng.pick(&[ECHO, SINK, SINK, 11]);
            if outbox.connect(SocketAddr::from((Side::Far.address(), port))).is_err() {
                return;
            }
        }
    }
}

fn speakers<A: App>(lost: u32, apps: [A; 2]) -> [Worker<Plug, A>; 2] {
    let mut plugs = Plug::pair(lost).into_iter();
    let mut apps = apps.into_iter();
    Side::BOTH.map(|side| {
        let mut config = stack_config(side.mac(), side.address(), std::iter::empty());
        config.tcp = Some(TcpConfig {
            ports: vec![ECHO, SINK],
            connections: 64,
            backlog: 8,
            time_wait: 32,
            chunks: 256,
            receive_buffer: 30_000,
            ask_for_ecn: true,
            time_wait_for: Duration::from_secs(1),
            ..TcpConfig::default()
        });
        let umem = UmemConfig { chunks: 512, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let stack = Stack::new(&config, apps.next().expect("two"), Instant::ZERO);
        Worker::new(plugs.next().expect("two"), Umem::new(umem).unwrap(), stack)
    })
}

fn counters<A: App>(worker: &Worker<Plug, A>) -> &Counters {
    worker.stack().tcp_state().expect("TCP").counters()
}

#[test]
fn no_turn_with_tcp_allocates() {
    const TURNS: u64 = 20_000;
    let app = |calls| Busy { rng: Rng::new(7), calls, next_at: Instant::ZERO };
    let mut workers = speakers(20, [app(true), app(false)]);
    let mut now = Instant::from_ns(1_000_000_000);
    let mut total = 0;
    for turn in 0..TURNS {
        // A pause now and then, in which timers run out.
        now += Duration::from_micros(if turn % 50 == 0 { 30_000 } else { 50 });
        for worker in &mut workers {
            total += allocations(|| worker.turn(now)).1;
            while worker.stack_mut().next_event().is_some() {}
        }
    }
    assert_eq!(total, 0, "allocations in {TURNS} turns of each");
    // All of that was on the way, or it proves nothing.
    let [caller, callee] = [counters(&workers[0]), counters(&workers[1])];
    assert!(caller.connects > 500 && callee.opened > 400, "{caller:?}");
    assert!(callee.finished > 100 && caller.aborted > 10 && caller.reset > 10, "{caller:?} {callee:?}");
    assert!(caller.retransmitted > 100 && caller.recoveries > 10 && caller.timeouts > 10, "{caller:?}");
    assert!(callee.out_of_order > 100 && callee.delayed_acknowledgments > 10, "{callee:?}");
    assert!(caller.loss_probes > 0 && callee.time_wait_evicted + caller.time_wait_evicted > 0, "{caller:?} {callee:?}");
    println!("{caller:?}\n{callee:?}");
}

/// An echo over TCP answers in the frames that it received: same chunk, same address, and no byte moved.
#[test]
fn tcp_echoes_in_the_frames_that_it_received() {
    let mut workers = speakers(0, [Either::Caller { left: 200_000, open: false }, Either::Echo]);
    let mut now = Instant::from_ns(1_000_000_000);
    let (mut came, mut went, mut last) = (VecDeque::new(), 0, None);
    for _ in 0..5000 {
        now += Duration::from_micros(50);
        for worker in &mut workers {
            worker.turn(now);
        }
        let echo = workers[1].device_mut();
        came.extend(echo.came.iter().copied());
        for text in &echo.went {
            // A loss probe sends the last one again.
            if last != Some(*text) {
                assert_eq!(came.pop_front(), Some(*text), "chunk, address and length of a text");
                went += text.2;
                last = Some(*text);
            }
        }
    }
    assert_eq!((went, came.len()), (200_000, 0));
    assert_eq!(counters(&workers[1]).retransmitted, 0);
}

/// A caller that says something, or the echo that it speaks to.
enum Either {
    Caller { left: usize, open: bool },
    Echo,
}

impl App for Either {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        self.writable(now, session, connection);
    }

    fn data(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        match self {
            Self::Caller { .. } => drop(connection.consume(usize::MAX)),
            Self::Echo => Echo.data(now, session, connection),
        }
    }

    fn writable(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        match self {
            Self::Caller { left, .. } => {
                while *left > 0 {
                    let sent = connection.reserve(|out| out.len().min(*left));
                    *left -= sent;
                    if sent == 0 {
                        break;
                    }
                }
            }
            Self::Echo => Echo.writable(now, session, connection),
        }
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        if let Self::Caller { open, .. } = self
            && !*open
        {
            *open = outbox.connect(SocketAddr::from((Side::Far.address(), ECHO))).is_ok();
        }
    }
}
