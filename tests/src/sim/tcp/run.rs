//! The run of a simulation of TCP: step by step while there are faults, and then until nothing is left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use barewire::app::Closed;
use barewire::base::{DropReason, Instant, UnsentReason};
use barewire::wire::ethernet::Mac;

use super::super::forge::draw_frame;
use super::super::frames::{self, Ip};
use super::super::nic::{Nic, Virtual};
use super::super::pcap::Records;
use super::super::rng::{Rng, hash};
use super::super::scenario::STRANGER_MAC;
use super::super::wire::{Lane, Transmission};
use super::app::Talker;
use super::book::SharedBook;
use super::host::TcpHost;
use super::observer::Observer;
use super::scenario::TcpScenario;
use super::stream::{ECHO, Family, Flow, Side};

/// Steps of the part with faults at most.
const FAULTY_STEPS: u64 = 6_000;
/// Virtual time of the part with faults at most.
const FAULTY_TIME: Duration = Duration::from_secs(120);
/// In which everything that is still to be said has arrived once the faults are over: a timeout that was backed off
/// as far as it goes, a neighbor whose MAC address was damaged (53 s), a handshake that began anew; keep-alives of
/// what the other side has forgotten (nine of them, 75 s apart, find out about a host that is gone).
const HEALING: Duration = Duration::from_secs(300);
/// In which the rest of a handshake (63 s) or of TIME-WAIT (60 s) is over, twice for what began anew.
const FORGETTING: Duration = Duration::from_secs(200);

/// What happened in a simulation, to be compared and summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOutcome {
    /// Hash of everything that was on the wire, and when.
    pub trace: u64,
    /// Steps made.
    pub steps: u64,
    /// Segments sent by both hosts.
    pub segments: u64,
    /// Connections that both sides opened at the same time.
    pub crossings: u64,
    /// Bytes that applications took.
    pub received: u64,
    /// Connections by how they ended, each side for itself.
    pub ends: BTreeMap<String, u64>,
    /// What both TCPs counted, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// Frames dropped by the two stacks, by reason.
    pub drops: [u64; DropReason::COUNT],
    /// Frames unsent by the two stacks, by reason.
    pub unsent: [u64; UnsentReason::COUNT],
    /// Frames on the wire, by what became of them.
    pub wire: BTreeMap<&'static str, u64>,
}

/// Two hosts with TCP, a wire between them, and the time.
#[derive(Debug)]
pub struct TcpSimulation<D> {
    /// The scenario.
    pub scenario: TcpScenario,
    /// The hosts, near and far.
    pub hosts: [TcpHost<D>; 2],
    /// The ways from them.
    pub lanes: [Lane; 2],
    /// The virtual clock.
    pub now: Instant,
    book: SharedBook,
    observer: Observer,
    rng: Rng,
    calm: bool,
    steps: u64,
    trace: u64,
    records: Option<Rc<RefCell<Records>>>,
}

impl<D: Virtual> TcpSimulation<D> {
    /// Puts a simulation together, with `wrap` around each NIC (it is told whose).
    pub fn new(scenario: TcpScenario, wrap: impl Fn(Mac, Nic) -> D) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x7c95eed);
        let (now, book) = (Instant::from_ns(1_000_000_000), SharedBook::default());
        let hosts = Side::BOTH.map(|side| {
            let host = &scenario.hosts[side as usize];
            let app = Talker::new(side, scenario.seed, host.calls.clone(), book.clone(), now);
            let wrap = |nic| wrap(side.mac(), nic);
            TcpHost::new(side, &host.config, host.plan.clone(), app, wrap, rng.fork(), now)
        });
        Self {
            hosts,
            lanes: scenario.lanes.map(|faults| Lane::new(faults, rng.fork())),
            scenario,
            now,
            book,
            observer: Observer::default(),
            rng,
            calm: false,
            steps: 0,
            trace: 0,
            records: None,
        }
    }

    /// Keeps every frame on the wire.
    pub fn record(&mut self, records: Rc<RefCell<Records>>) {
        self.records = Some(records);
    }

    /// The whole of it: faults, then a sound wire until everything is said, then until everything is forgotten.
    pub fn run(mut self) -> TcpOutcome {
        let end = self.now + FAULTY_TIME;
        self.run_until(end, |sim| sim.steps >= FAULTY_STEPS || sim.hosts.iter_mut().all(TcpHost::is_empty));
        self.calm_down();
        let end = self.now + HEALING;
        let said = |sim: &mut Self| sim.hosts.iter().all(|host| host.worker().stack().app().left() == 0);
        let mut all_said = self.run_until(end, said);
        if !all_said && self.is_haunted() {
            self.hosts.iter_mut().for_each(|host| host.app_mut().give_up());
            all_said = self.run_until(end + HEALING, said);
        }
        assert!(all_said, "connections are not over {HEALING:?} after the faults: {}", self.describe());
        let end = self.now + FORGETTING;
        let forgotten = self.run_until(end, |sim| sim.is_at_rest());
        assert!(forgotten, "something is left {FORGETTING:?} after all connections were over: {}", self.describe());
        self.hosts.iter_mut().for_each(TcpHost::check_rest);
        self.book.borrow().check_end();
        self.outcome()
    }

    /// Makes steps until `done`, or until a point in time. Says whether it was done.
    pub fn run_until(&mut self, end: Instant, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    /// Ends all faults and whims.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.hosts.iter_mut().for_each(TcpHost::calm);
        self.lanes.iter_mut().for_each(Lane::calm);
    }

    /// Whether a SYN cookie that was used twice made a connection of which the other side knows nothing: if neither has
    /// something to say, both ask for ever whether the other is there.
    fn is_haunted(&self) -> bool {
        let cookies: u64 = self.hosts.iter().map(|host| host.tcp().counters().cookies_accepted).sum();
        cookies > 0 && self.book.borrow().mixed
    }

    fn is_at_rest(&mut self) -> bool {
        self.hosts.iter_mut().all(TcpHost::is_empty) && self.lanes.iter().all(|lane| lane.in_flight() == 0)
    }

    /// What is still there, for a message.
    fn describe(&self) -> String {
        let mut text = String::new();
        for (side, host) in Side::BOTH.into_iter().zip(&self.hosts) {
            let population = host.tcp().population();
            text += &format!("\n{}: {population:?}, {} frames wait", side.name(), host.worker().stack().waiting());
            host.tcp().connections(self.now).for_each(|info| text += &format!("\n  {info:?}"));
            host.worker().stack().app().calls().iter().for_each(|call| text += &format!("\n  {call:?}"));
        }
        text
    }

    /// One step: the clock goes on to the next thing that happens, or nearly; frames arrive; both workers turn.
    fn step(&mut self, end: Instant) {
        self.steps += 1;
        self.now = self.next_time(end);
        self.disturb();
        for side in Side::BOTH {
            while let Some(frame) = self.lanes[side as usize].arrive(self.now) {
                self.note(1 + side as u64, &frame.bytes, frame.damaged);
                self.hosts[side.other() as usize].arrive(frame);
            }
        }
        let first = if self.rng.chance(500) { Side::Near } else { Side::Far };
        self.turn(first);
        self.turn(first.other());
    }

    fn next_time(&mut self, end: Instant) -> Instant {
        let (now, clock) = (self.now, self.scenario.clock);
        let soon = now + Duration::from_nanos(self.rng.scale(1_000, if self.calm { 20_000 } else { 1_000_000 }));
        let deadlines = self.hosts.iter().filter_map(TcpHost::next_deadline);
        // What is overdue has to wait until a worker that naps wakes up.
        let deadlines = deadlines.map(|at| if at <= now { soon } else { at });
        let arrivals = self.lanes.iter().filter_map(Lane::next_arrival).min();
        let next = deadlines.chain(arrivals).min();
        let busy = self.hosts.iter_mut().any(TcpHost::is_busy).then_some(soon);
        let next = next.into_iter().chain(busy).min().unwrap_or(end).min(end);
        let mut next = next.max(now) + Duration::from_nanos(1 + self.rng.below(20_000));
        if !self.calm && self.rng.chance(clock.jumps) {
            next += Duration::from_nanos(self.rng.below(clock.jump_ns));
        }
        if !self.calm && self.rng.chance(clock.slow_steps) {
            next += Duration::from_nanos(self.rng.below(clock.slow_ns));
        }
        next
    }

    /// Strangers put their frames on the wire: of any kind, and connection requests that nobody will complete.
    fn disturb(&mut self) {
        let TcpScenario { family, strangers, flood, attacks, .. } = self.scenario;
        if self.calm || strangers + flood + attacks == 0 {
            return;
        }
        let to = if self.rng.chance(500) { Side::Near } else { Side::Far };
        let lane = &mut self.lanes[to.other() as usize];
        if self.rng.chance(strangers) {
            lane.forge(draw_frame(&mut self.rng, to.mac(), to.address_of(family)), self.now);
        }
        if self.rng.chance(flood) {
            let port = self.rng.between(1024, 65_535) as u16;
            let syn = frames::Tcp { seq: self.rng.bits() as u32, flags: 2, window: 1000, ..frames::Tcp::default() };
            let (source, destination) = (family.stranger(), to.address_of(family));
            let segment = frames::tcp((source, port), (destination, ECHO), &syn);
            let ip = Ip::new(frames::TCP, source, destination);
            lane.forge(frames::frame(to.mac(), STRANGER_MAC, ip, &segment), self.now);
        }
        if self.rng.chance(attacks)
            && let Some((flow, from, reached)) = self.observer.any_flow(&mut self.rng)
        {
            let frame = attack(&mut self.rng, family, flow, from, reached);
            self.lanes[from as usize].forge(frame, self.now);
        }
    }

    fn turn(&mut self, side: Side) {
        let Self { hosts, observer, .. } = self;
        let host = &mut hosts[side as usize];
        host.turn(self.now, |frame| observer.arrives(side, &frame.bytes));
        while let Some((bytes, doubts)) = self.hosts[side as usize].depart() {
            self.note(3 + side as u64, &bytes, true);
            self.observer.departs(side, &bytes, doubts);
            let lane = &mut self.lanes[side as usize];
            if let Some(too_long) = lane.send(Transmission { bytes, damaged: false }, self.now) {
                self.route(side, &too_long.bytes);
            }
        }
        self.book.borrow_mut().remembers[side as usize] = self.hosts[side as usize].remembers();
        self.check_closed();
    }

    /// A router found a packet from `side` too long for the next link (RFC 1191, section 4).
    fn route(&mut self, side: Side, frame: &[u8]) {
        let mtu = (self.scenario.lanes[side as usize].max_frame - 14) as u16;
        let TcpScenario { family, router, .. } = self.scenario;
        let Some(report) = router.report(family.stranger(), &frame[14..], mtu) else { return };
        self.lanes[side.other() as usize].forge(frames::with_packet(side.mac(), STRANGER_MAC, &report), self.now);
    }

    /// A connection that is said to be finished: everything that was sent on it has arrived.
    fn check_closed(&mut self) {
        let mut book = self.book.borrow_mut();
        while let Some((side, flow, record)) = book.next_closed() {
            if record.closed == Some(Closed::Finished) && !book.mixed {
                let arrived = self.observer.arrived(flow, side);
                assert!(arrived >= record.sent, "{flow:?}: {} finished, of {record:?} {arrived} arrived", side.name());
            }
        }
    }

    /// Writes down what is on the wire.
    fn note(&mut self, what: u64, bytes: &[u8], keep: bool) {
        self.trace = hash(hash(self.trace ^ what, &self.now.as_ns().to_le_bytes()), bytes);
        if let Some(records) = self.records.as_ref().filter(|_| keep) {
            records.borrow_mut().push((self.now, bytes.to_vec()));
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn outcome(&self) -> TcpOutcome {
        let (ends, received) = self.book.borrow().totals();
        let mut outcome = TcpOutcome {
            trace: self.trace,
            steps: self.steps,
            segments: self.observer.segments,
            crossings: self.observer.crossings(),
            received,
            ends,
            counters: BTreeMap::new(),
            drops: [0; DropReason::COUNT],
            unsent: [0; UnsentReason::COUNT],
            wire: BTreeMap::new(),
        };
        for host in &self.hosts {
            for (name, _, count) in host.tcp().counters().each() {
                *outcome.counters.entry(name).or_default() += count;
            }
            let counters = host.worker().stack().counters();
            outcome.drops.iter_mut().zip(counters.drops).for_each(|(sum, count)| *sum += count);
            outcome.unsent.iter_mut().zip(counters.unsent).for_each(|(sum, count)| *sum += count);
            *outcome.wire.entry("dropped by NIC").or_default() += host.dropped_by_nic;
            *outcome.wire.entry("cut up by NIC").or_default() += host.cut_by_nic;
        }
        for lane in &self.lanes {
            let counters = lane.counters();
            let gone = [("lost", counters.lost), ("too long", counters.too_long), ("queue full", counters.queue_full)];
            let spoilt = [("corrupted", counters.corrupted), ("truncated", counters.truncated)];
            let others = [("duplicated", counters.duplicated), ("reordered", counters.reordered)];
            let marked = [("remarked", counters.remarked), ("marked", counters.marked)];
            for (name, count) in [gone.as_slice(), &spoilt, &others, &marked].concat() {
                *outcome.wire.entry(name).or_default() += count;
            }
        }
        outcome
    }
}

/// What somebody sends who knows the ends of a connection, but not its numbers: further ahead than any window reaches.
/// Nothing of it may have an effect.
fn attack(rng: &mut Rng, family: Family, flow: Flow, from: Side, reached: u32) -> Vec<u8> {
    const NO_WINDOW: u64 = 1 << 21;
    let to = from.other();
    let seq = reached.wrapping_add(rng.between(NO_WINDOW, 1 << 31) as u32);
    let (source, destination) = ((from.address_of(family), flow.port(from)), (to.address_of(family), flow.port(to)));
    let text = [0; 20];
    let flags = rng.pick(&[0x04, 0x14, 0x10, 0x11, 0x18, 0x00, 0x3f]) & !0x02;
    let options = [1, 1, 8, 10, rng.bits() as u8, 0, 0, 0, 0, 0, 0, 0];
    let segment = frames::Tcp {
        seq,
        ack: rng.bits() as u32,
        flags,
        window: rng.bits() as u16,
        urgent: 0,
        options: if rng.chance(500) { &options } else { &[] },
        text: if rng.chance(500) { &text } else { &[] },
    };
    let packet = if rng.chance(700) {
        let segment = frames::tcp(source, destination, &segment);
        frames::packet(Ip::new(frames::TCP, source.0, destination.0), &segment)
    } else {
        // An error about a segment that was never sent.
        let segment = frames::tcp(destination, source, &segment);
        let about = frames::packet(Ip::new(frames::TCP, destination.0, source.0), &segment);
        let (kind, code) = match family {
            Family::V4 => rng.pick(&[(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (4, 0), (11, 0), (12, 0)]),
            Family::V6 => rng.pick(&[(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (3, 0), (4, 0), (4, 1)]),
        };
        let quoted = &about[..about.len() - segment.len() + 8];
        let error = [&[0, 0, 2, 0], quoted].concat();
        frames::icmp_packet(Ip::new(0, family.stranger(), destination.0), kind, code, &error)
    };
    frames::with_packet(to.mac(), STRANGER_MAC, &packet)
}
