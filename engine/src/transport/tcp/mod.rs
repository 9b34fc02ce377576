//! TCP (RFC 9293): sans-IO, with connections in bounded tables and their data in the frames that it came in.
//!
//! ```text
//!   segment -> flows --+-- connection: Tcb    receive.rs: SEGMENT ARRIVES, in the RFC's order; expected.rs: mostly
//!                      |                        ack.rs -> sack.rs, rack.rs, congestion.rs: what arrived, what is lost
//!                      |                        reassembly.rs: what lies behind gaps
//!                      +-- embryo              listen.rs: SYN-RECEIVED; SYN cookies when there are too many
//!                      +-- time-wait           time_wait.rs
//!                      +-- nothing             listen.rs on open ports, a reset elsewhere
//!
//!   poll:  timers.rs -> ready list -> transmit.rs: lost segments, new ones, probes, acknowledgments
//! ```
//!
//! Who calls, in every turn: [`Tcp::receive`] for each segment, then, when the application was told of its events and
//! did what it wanted (user.rs), [`Tcp::settle`]; at last [`Tcp::expire`], and [`Tcp::poll`] until there is nothing more or no room to
//! send. A [`Verdict`] says what became of a segment's frame, and may ask for an answer at once.
//!
//! Work for a segment does not depend on the number of connections. A table that is full refuses: it never grows.

mod config;
pub mod congestion;
mod counters;
mod info;
pub mod isn;
pub mod pacing;
pub mod path;
pub mod rtt;
pub mod segment;
pub mod source_port;
pub mod state;
pub mod syn_cookie;
pub mod tuple;

mod ack;
mod ahead;
mod answer_limit;
mod audit;
mod build;
mod connect;
mod cubic;
mod expected;
mod hunger;
mod hystart;
mod listen;
mod long;
mod memory;
mod outcome;
mod promise;
mod prr;
mod rack;
mod reassembly;
mod receive;
mod reno;
mod sack;
mod scoreboard;
mod segmentation;
mod syn_guard;
mod tcb;
mod time_wait;
mod timers;
mod transmit;
mod user;
mod window;
mod windowed_minimum;

#[cfg(test)]
mod tests;

pub use self::config::TcpConfig;
pub use self::connect::ConnectFailure;
pub use self::counters::Counters;
use self::hunger::Hungry;
pub use self::info::ConnectionInfo;
use self::isn::InitialNumbers;
use self::listen::Embryos;
use self::memory::{Holdings, Memory};
pub use self::outcome::{End, Events, Outgoing, Output, Trouble, Verdict};
use self::path::PathError;
use self::reassembly::Gaps;
use self::receive::Arrival;
use self::scoreboard::Scoreboard;
use self::segment::{Control, Segment};
use self::source_port::SourcePorts;
use self::syn_cookie::SynCookies;
use self::syn_guard::SynGuard;
use self::tcb::{Repair, Tcb};
use self::time_wait::TimeWaits;
use self::transmit::Next;
use self::tuple::Tuple;
use crate::base::{DropReason, Frame, Instant, Umem};
use crate::network::route::Routes;
use crate::structure::flow_table::FlowTable;
use crate::structure::ready_list::ReadyList;
use crate::structure::recent::Recent;
use crate::structure::slab::Slab;
use crate::structure::timer_wheel::TimerWheel;
use crate::transport::udp::Ports;
use crate::wire::ip::IpAddress;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::Flags;
use crate::wire::{ipv6, tcp};

/// RFC 9293, section 3.7.1 (MUST-15): if an MSS option is not received, a default send MSS of 536 is assumed for IPv4, and
/// of 1220 for IPv6.
const fn default_mss(is_v4: bool) -> u16 {
    if is_v4 { 576 - 40 } else { 1280 - 60 }
}

/// The smallest send MSS that a peer can impose (Linux: tcp_min_snd_mss): with less, a peer could make us cut a
/// megabyte into a million packets (CVE-2019-11479).
const SMALLEST_MSS: u16 = 48;
/// What takes such a segment of either family.
const SMALLEST_MTU: u16 = SMALLEST_MSS + (ipv6::LEN + tcp::LEN) as u16;
/// Bytes of text below which it is worth copying it behind other text, instead of holding a chunk for it alone.
const SMALL: u32 = 256;
/// Segments that one connection sends before it is another's turn.
const QUANTUM: u32 = 16;
/// Timers that are looked after in one call, so that a thousand that run out at once do not hold up packets.
const EXPIRED_AT_ONCE: usize = 64;

/// What all connections share, beside the tables.
#[derive(Debug)]
struct Shared {
    config: TcpConfig,
    counters: Counters,
    memory: Memory,
    numbers: InitialNumbers,
    cookies: SynCookies,
    /// What connections have behind gaps.
    gaps: Slab<Gaps>,
    /// What is written down of the repairs of connections.
    repairs: Slab<Repair>,
    /// Where connections look among what is under way.
    scoreboards: Slab<Scoreboard>,
    /// A segment without text that is to be sent at once. Kept apart, because it is large and seldom there.
    control: Option<Control>,
    /// The ways out, if any of them takes less than the link.
    routes: Option<Routes>,
    /// Whether the sum of what an application writes is left open, for there is a device that mostly needs none.
    leaves_sums: bool,
    /// What a router said lately of a path, if that was less than was known.
    narrowed: Option<u16>,
}

impl Shared {
    /// Drops a segment, and answers it.
    fn answered(&mut self, frame: Frame, reason: DropReason, reply: Control) -> Verdict {
        self.control = Some(reply);
        Verdict { replies: true, ..Verdict::dropped(frame, reason) }
    }

    /// Takes a segment in, and answers it.
    fn replied(&mut self, frame: Frame, reply: Control) -> Verdict {
        self.control = Some(reply);
        Verdict { replies: true, ..Verdict::taken(Some(frame)) }
    }
}

/// What the turn of a connection came to.
enum Turn {
    /// It has something to send or to tell.
    Output(Output),
    /// It had nothing, and has left the list.
    Over,
    /// It had something, but there is no memory for it.
    Starved,
}

/// What a value of the flow table names: its upper two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connection = 0,
    Embryo = 1,
    TimeWait = 2,
}

impl Kind {
    const fn tag(self, index: u32) -> u32 {
        (self as u32) << 30 | index
    }

    const fn of(value: u32) -> (Self, u32) {
        let kind = match value >> 30 {
            0 => Self::Connection,
            1 => Self::Embryo,
            _ => Self::TimeWait,
        };
        (kind, value & ((1 << 30) - 1))
    }
}

/// The TCP of one stack.
#[derive(Debug)]
pub struct Tcp {
    shared: Shared,
    ports: Ports,
    tables: Tables,
    /// Connections that segments were for lately, by their tuples' marks.
    recent: Recent,
    wheel: TimerWheel,
    ready: ReadyList,
    /// Those that wait for packet memory, see hunger.rs.
    hungry: Hungry,
    /// Segments that the first of the ready list may send before it is another's turn.
    quantum: u32,
    source_ports: SourcePorts,
    syn_guard: SynGuard,
}

/// Who is known, in which state.
#[derive(Debug)]
struct Tables {
    /// Keys the hash of the flow table.
    key: [u64; 2],
    flows: FlowTable,
    connections: Slab<Tcb>,
    embryos: Embryos,
    time_waits: TimeWaits,
}

impl Tables {
    #[inline]
    fn find(&self, tuple: &Tuple) -> Option<(Kind, u32)> {
        let is = |value| match Kind::of(value) {
            (Kind::Connection, index) => self.connections.get(index).is_some_and(|tcb| tcb.tuple == *tuple),
            (Kind::Embryo, index) => self.embryos.slab.get(index).is_some_and(|embryo| embryo.opening.tuple == *tuple),
            (Kind::TimeWait, index) => self.time_waits.get(index).is_some_and(|entry| entry.tuple == *tuple),
        };
        self.flows.find(tuple.hash(self.key), is).map(Kind::of)
    }
}

impl Tcp {
    /// No connections yet. `keys` should be unpredictable.
    #[must_use]
    pub fn new(config: TcpConfig, keys: [[u64; 2]; 5], now: Instant) -> Self {
        let [flow_key, sequence_key, timestamp_key, cookie_key, port_key] = keys;
        let flows = config.connections.saturating_add(config.time_wait);
        Self {
            ports: Ports::new(config.ports.iter().copied()),
            tables: Tables {
                key: flow_key,
                flows: FlowTable::new(flows),
                connections: Slab::new(config.connections),
                embryos: Embryos::new(config.backlog, now),
                time_waits: TimeWaits::new(config.time_wait, config.time_wait_for),
            },
            recent: Recent::new(),
            wheel: TimerWheel::new(config.connections, now),
            ready: ReadyList::new(config.connections),
            hungry: Hungry::new(config.connections),
            quantum: QUANTUM,
            source_ports: SourcePorts::new(config.source_ports.clone(), port_key),
            syn_guard: SynGuard::new(),
            shared: Shared {
                counters: Counters::default(),
                memory: Memory::new(config.chunks, config.chunks_per_segment(), config.received_per_chunk()),
                numbers: InitialNumbers::new(sequence_key, timestamp_key).replaced_by(config.guessable_numbers),
                cookies: SynCookies::new(cookie_key),
                gaps: Slab::new(config.connections),
                repairs: Slab::new(config.connections),
                scoreboards: Slab::new(config.connections),
                control: None,
                routes: None,
                leaves_sums: false,
                narrowed: None,
                config,
            },
        }
    }

    /// Digests a segment. `frame` holds its text.
    #[inline(always)]
    pub fn receive(&mut self, segment: &Segment, frame: Frame, now: Instant, umem: &mut Umem) -> Verdict {
        if let Some(index) = self.recent.guess(segment.mark)
            && self.tables.connections.get(index).is_some_and(|tcb| tcb.tuple == segment.tuple)
        {
            return self.in_connection(index, segment, frame, now, umem);
        }
        self.receive_by_search(segment, frame, now, umem)
    }

    #[inline(never)]
    fn receive_by_search(&mut self, segment: &Segment, frame: Frame, now: Instant, umem: &mut Umem) -> Verdict {
        match self.tables.find(&segment.tuple) {
            Some((Kind::Connection, index)) => {
                self.recent.found(segment.mark, index);
                self.in_connection(index, segment, frame, now, umem)
            }
            Some((Kind::Embryo, index)) => self.in_handshake(index, segment, frame, now, umem),
            Some((Kind::TimeWait, index)) => self.in_time_wait(index, segment, frame, now),
            None if self.listens_at(segment.tuple.local) => self.in_listen(segment, frame, now, umem),
            None => self.in_closed(segment, frame),
        }
    }

    #[inline(always)]
    fn in_connection(&mut self, index: u32, segment: &Segment, frame: Frame, now: Instant, umem: &mut Umem) -> Verdict {
        let Some(tcb) = self.tables.connections.get_mut(index) else {
            return Verdict::dropped(frame, DropReason::TcpNoConnection);
        };
        let before = tcb.holdings();
        let arrival = Arrival { segment, frame, now };
        debug_assert!(segment.is_long || !umem.is_chain(&arrival.frame), "a chain is a long segment");
        let mut verdict = if tcb.expects(segment) {
            tcb.take_expected(arrival, &mut self.shared, umem)
        } else {
            tcb.segment_arrives(arrival, &mut self.shared, umem)
        };
        self.shared.memory.account(before, tcb.holdings());
        verdict.events.writable &= !self.must_wait(index);
        verdict.connection = Some(index);
        verdict
    }

    /// RFC 9293, section 3.10.7.1: SEGMENT ARRIVES in CLOSED.
    fn in_closed(&mut self, segment: &Segment, frame: Frame) -> Verdict {
        if segment.has(Flags::RST) {
            return Verdict::dropped(frame, DropReason::TcpReset);
        }
        self.shared.counters.resets_sent += 1;
        self.shared.answered(frame, DropReason::TcpPortClosed, Control::reset_for(segment))
    }

    /// Digests an ICMP error that quotes a segment of ours from `tuple`, starting at `seq`. Whether it was of use.
    pub fn path_error(&mut self, error: PathError, tuple: &Tuple, seq: SeqNum, now: Instant, umem: &mut Umem) -> bool {
        let Some((Kind::Connection, index)) = self.tables.find(tuple) else {
            self.shared.counters.icmp_ignored += 1;
            return false;
        };
        let Some(tcb) = self.tables.connections.get_mut(index) else { return false };
        let taken = self.shared.counters.icmp_taken;
        tcb.ended = tcb.ended.or(tcb.path_error(error, seq, now, &mut self.shared, umem));
        self.settle(index);
        self.shared.counters.icmp_taken > taken
    }

    /// Sends no IP packets longer than `mtu` bytes from now on, on any connection.
    pub fn set_mtu(&mut self, mtu: u16, umem: &mut Umem) {
        let mtu = mtu.max(SMALLEST_MTU);
        self.shared.config.mtu = mtu;
        for index in 0..self.tables.connections.places() {
            if let Some(tcb) = self.tables.connections.get_mut(index) {
                tcb.link_has_changed(mtu, umem);
                self.settle(index);
            }
        }
    }

    /// After anything was done to a connection: it stands in the ready list if it has something to send or an end to
    /// tell of, and otherwise its timer is armed.
    #[inline(always)]
    pub fn settle(&mut self, index: u32) {
        let Some(tcb) = self.tables.connections.get(index) else { return };
        if tcb.is_hungry() {
            self.hungry.push(index);
        }
        if tcb.has_something() || tcb.is_over() {
            self.ready.push(index);
        } else {
            let deadline = tcb.deadline();
            self.arm(index, deadline);
        }
    }

    /// Whether the sums of what applications write are added up only when they are needed.
    #[inline]
    pub const fn leave_sums(&mut self, on: bool) {
        self.shared.leaves_sums = on;
    }

    /// The next thing to send or to tell, after [`expire`](Self::expire). `JOINED` segments of text, for a device that cuts
    /// them up, come as many in one as `most` says, which is told between whom.
    #[inline]
    pub fn poll<const JOINED: bool>(
        &mut self,
        now: Instant,
        most: impl Fn(&Tuple) -> u32,
        umem: &mut Umem,
    ) -> Option<Output> {
        if !self.tables.embryos.wheel.is_empty()
            && let Some(control) = self.expire_embryos(now)
        {
            self.shared.control = Some(control);
            return Some(Output::Control);
        }
        while let Some(index) = self.ready.first() {
            match self.turn::<JOINED>(index, now, &most, umem) {
                Turn::Output(output) => return Some(output),
                Turn::Over => {}
                Turn::Starved => return None,
            }
        }
        None
    }

    /// The segment without text that a [`Verdict`] or an [`Output`] told of.
    pub const fn take_control(&mut self) -> Option<Control> {
        self.shared.control.take()
    }

    /// What the connection whose turn it is has to send or to tell.
    #[inline]
    fn turn<const JOINED: bool>(
        &mut self,
        index: u32,
        now: Instant,
        most: impl Fn(&Tuple) -> u32,
        umem: &mut Umem,
    ) -> Turn {
        let Some(tcb) = self.tables.connections.get_mut(index) else {
            self.ready.remove(index);
            return Turn::Over;
        };
        if let Some(end) = tcb.ended.filter(|_| tcb.is_over()) {
            if end == End::Aborted
                && let Some(reset) = tcb.reset()
            {
                self.shared.counters.resets_sent += 1;
                self.shared.control = Some(reset);
                return Turn::Output(Output::Control);
            }
            return Turn::Output(Output::Closed(index, end));
        }
        if std::mem::take(&mut tcb.wishes.has_room) {
            return Turn::Output(Output::Writable(index));
        }
        // One that has the device for itself is not interrupted.
        let quantum = if self.ready.len() > 1 { self.quantum } else { u32::MAX };
        let several =
            if JOINED { tcb.next_several(quantum.min(most(&tcb.tuple)), &mut self.shared, now, umem) } else { None };
        let next = if let Some(segment) = several {
            Next::Segment(segment)
        } else if let Some(segment) = tcb.next_ordinary(&mut self.shared, now, umem) {
            Next::Segment(segment)
        } else {
            let before = tcb.holdings();
            let next = tcb.next_segment(&mut self.shared, now, umem);
            self.shared.memory.account(before, tcb.holdings());
            next
        };
        match next {
            Next::Segment(segment) => {
                let (goes_on, deadline) = (tcb.has_something() || tcb.is_over(), tcb.deadline());
                self.quantum = self.quantum.saturating_sub(if JOINED { segment.segments.into() } else { 1 });
                if !goes_on || self.quantum == 0 {
                    self.quantum = QUANTUM;
                    self.ready.remove(index);
                    if goes_on { self.ready.push(index) } else { self.arm(index, deadline) }
                }
                Turn::Output(Output::Segment(segment, index))
            }
            Next::Nothing => {
                let deadline = tcb.deadline();
                self.quantum = QUANTUM;
                self.ready.remove(index);
                self.arm(index, deadline);
                Turn::Over
            }
            Next::Starved => Turn::Starved,
        }
    }

    /// Looks after timers that ran out, of some connections at a time: once a turn.
    #[inline]
    pub fn expire(&mut self, now: Instant, umem: &mut Umem) {
        self.shared.memory.send.contended = !self.hungry.is_empty();
        if !self.hungry.is_empty() {
            self.feed(now, umem);
        }
        self.look_for_idle(now);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(index) = self.wheel.expire(now) else { break };
            self.expire_timer(index, now, umem);
        }
        if self.tables.time_waits.oldest().is_some() {
            self.expire_time_waits(now);
        }
    }

    /// A connection's timer ran out.
    #[inline(never)]
    fn expire_timer(&mut self, index: u32, now: Instant, umem: &mut Umem) {
        let Some(tcb) = self.tables.connections.get_mut(index) else { return };
        let before = tcb.holdings();
        let end = tcb.expire(now, &mut self.shared, umem);
        tcb.ended = tcb.ended.or(end);
        self.shared.memory.account(before, tcb.holdings());
        self.settle(index);
    }

    /// Forgets a connection that ended, after its application has heard of it; one that finished first waits on.
    pub fn close(&mut self, index: u32, end: End, now: Instant, umem: &mut Umem) {
        self.wheel.disarm(index);
        self.ready.remove(index);
        self.hungry.remove(index);
        let Some(mut tcb) = self.tables.connections.remove(index) else { return };
        self.shared.memory.account(tcb.holdings(), Holdings::default());
        self.shared.memory.promises.count(tcb.rcv.counted(), 0);
        tcb.free_queues(&mut self.shared, umem);
        let counters = &mut self.shared.counters;
        match end {
            End::Finished => counters.finished += 1,
            End::Reset | End::Refused => counters.reset += 1,
            End::Aborted => counters.aborted += 1,
            End::TimedOut | End::Unreachable => {}
        }
        let hash = tcb.tuple.hash(self.tables.key);
        let old = Kind::Connection.tag(index);
        if tcb.state != state::State::TimeWait || end != End::Finished {
            self.tables.flows.remove(hash, old);
            return;
        }
        if self.tables.time_waits.is_full()
            && let Some(oldest) = self.tables.time_waits.oldest()
        {
            self.shared.counters.time_wait_evicted += 1;
            self.forget_time_wait(oldest);
        }
        match self.tables.time_waits.insert(&tcb, now) {
            Some(entry) => {
                self.tables.flows.replace(hash, old, Kind::TimeWait.tag(entry));
            }
            None => {
                self.tables.flows.remove(hash, old);
            }
        }
    }

    /// When [`poll`](Self::poll) has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(Instant::ZERO);
        }
        let embryos = self.tables.embryos.wheel.next_deadline();
        [self.wheel.next_deadline(), embryos, self.tables.time_waits.next_deadline(), self.next_meal()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether somebody listens at an address and port of ours.
    ///
    /// RFC 9293, section 3.9.1.1 (MUST-41, MUST-42): connections, whatever state they are in, and ports that are listened
    /// on know nothing of each other. (MUST-43): a passive OPEN may name the local address, too.
    #[inline]
    #[must_use]
    pub fn listens_at(&self, (address, port): (IpAddress, u16)) -> bool {
        let at = &self.shared.config.listen_at;
        self.ports.contains(port) && (at.is_empty() || at.contains(&address))
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Chunks of packet memory that connections hold.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.shared.memory.held()
    }

    /// Connections, handshakes under way, and connections in TIME-WAIT.
    #[must_use]
    pub const fn population(&self) -> (u32, u32, u32) {
        (self.tables.connections.len(), self.tables.embryos.slab.len(), self.tables.time_waits.len())
    }
}
