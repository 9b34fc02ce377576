//! Active opens: CLOSED to SYN-SENT (RFC 9293, section 3.10.1).

use super::congestion::Congestion;
use super::memory::Holdings;
use super::pacing::Pacing;
use super::path::BlackHole;
use super::rack::Rack;
use super::rtt::RttEstimator;
use super::state::State;
use super::tcb::{Ecn, Phase, Receive, Recovery, Send, Tcb, Timers, Timestamps, Wishes, mark};
use super::timers::keep_alive_seconds;
use super::tuple::Tuple;
use super::{Kind, Shared, Tcp, window};
use crate::base::{FrameQueue, Instant, Note, Queued, Umem};
use crate::wire::ip::IpAddress;
use crate::wire::seq::SeqNum;

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The table is full.
    TooMany,
    /// No source port is free.
    NoPort,
    /// No chunk of packet memory is free.
    NoMemory,
}

impl Tcp {
    /// Opens a connection from `local`: its index. `is_ours` says whether a peer's answers to a tuple come to this
    /// stack at all.
    ///
    /// RFC 9293, section 3.9.1.1 (MUST-44, MUST-45): the caller chose the local address by the route before; it stays.
    ///
    /// # Errors
    /// [`ConnectFailure`].
    pub fn connect(
        &mut self,
        local: IpAddress,
        remote: (IpAddress, u16),
        is_ours: impl Fn(&Tuple) -> bool,
        now: Instant,
        umem: &mut Umem,
    ) -> Result<u32, ConnectFailure> {
        if !self.has_place() {
            return Err(ConnectFailure::TooMany);
        }
        let tuple = |port| Tuple { local: (local, port), remote };
        let Self { source_ports, tables, ports, .. } = self;
        let is_free = |port| !ports.contains(port) && is_ours(&tuple(port)) && tables.find(&tuple(port)).is_none();
        let tuple = tuple(source_ports.choose(local, remote, is_free).ok_or(ConnectFailure::NoPort)?);
        let iss = self.shared.numbers.isn(now, &tuple);
        let mut tcb = Tcb::new(tuple, iss, State::SynSent, true, &self.shared, now);
        let frame = umem.alloc().ok_or(ConnectFailure::NoMemory)?;
        *umem.note_mut(&frame) = Note { marks: mark::SYN, ..Note::EMPTY };
        tcb.snd.unsent = tcb.snd.queue.push(umem, frame);
        // Room for the SYN itself: the peer's window is not known yet.
        (tcb.snd.wnd, tcb.snd.max_wnd) = (1, 1);
        (tcb.ts.on, tcb.ecn.on) = (true, self.shared.config.ask_for_ecn);
        tcb.timers.stuck_since = now;
        tcb.set_peer_mss(Some(self.shared.mss(&tuple)), &self.shared);
        let holdings = tcb.holdings();
        self.make_place();
        let index = match self.tables.connections.insert(tcb) {
            Ok(index) => index,
            Err(mut tcb) => {
                tcb.free_queues(&mut self.shared, umem);
                return Err(ConnectFailure::TooMany);
            }
        };
        if !self.tables.flows.insert(tuple.hash(self.tables.key), Kind::Connection.tag(index)) {
            if let Some(mut tcb) = self.tables.connections.remove(index) {
                tcb.free_queues(&mut self.shared, umem);
            }
            return Err(ConnectFailure::TooMany);
        }
        self.shared.memory.account(Holdings::default(), holdings);
        self.count_promise(index);
        self.shared.counters.connects += 1;
        self.settle(index);
        Ok(index)
    }
}

impl Tcb {
    /// A connection of which only our side is known.
    pub(super) fn new(tuple: Tuple, iss: SeqNum, state: State, active: bool, shared: &Shared, now: Instant) -> Self {
        let config = &shared.config;
        Self {
            tuple,
            state,
            active,
            sack_ok: false,
            finishing: false,
            window_limited: false,
            snd: Send {
                una: iss,
                nxt: iss,
                wnd: 0,
                wl1: SeqNum::default(),
                wl2: SeqNum::default(),
                max_wnd: 0,
                queue: FrameQueue::default(),
                unsent: Queued::NONE,
                queued: 0,
                unsent_len: 0,
                mss: 0,
                peer_mss: 0,
                per_chunk: 0,
                chunk_room: config.chunk_room,
                shift: 0,
                scaled: false,
                arrived_len: 0,
                doubted_mtu: 0,
                up: iss,
                urgent: false,
                fin_queued: false,
            },
            rcv: Receive {
                nxt: SeqNum::default(),
                adv: SeqNum::default(),
                acked: SeqNum::default(),
                up: SeqNum::default(),
                urgent: false,
                queue: FrameQueue::default(),
                queued: 0,
                limit: shared.memory.promises.first(config.receive_buffer),
                counts: false,
                out_of_order: Default::default(),
                shift: 0,
                shift_offered: window::shift_for(config.receive_buffer),
                unacked_segments: 0,
                ack_now: false,
            },
            ts: Timestamps::new(shared.numbers.ts_offset(&tuple)),
            ecn: Ecn::default(),
            wishes: Wishes {
                nagle: true,
                class: 0,
                keep_alive_s: keep_alive_seconds(config.keep_alive),
                user_timeout_ms: u32::try_from(config.user_timeout.as_millis()).unwrap_or(u32::MAX),
                wants_room: false,
                has_room: false,
            },
            timers: Timers { heard_at: now, ..Timers::default() },
            recovery: Recovery {
                phase: Phase::Open,
                duplicates: 0,
                timeouts: 0,
                point: iss,
                sacked: 0,
                lost: 0,
                retransmitted: 0,
                lost_hint: Queued::NONE,
                rack: Rack::new(iss),
                retransmits: 0,
                repair: Default::default(),
            },
            rtt: RttEstimator::new(config.rto),
            congestion: Congestion::new(config.algorithm, u32::from(shared.mss(&tuple))),
            pacing: Pacing::default(),
            black_hole: BlackHole::No,
            soft_error: None,
            ended: None,
            overridden_wnd: 0,
        }
    }

    /// Frees everything that the connection holds.
    pub(super) fn free_queues(&mut self, shared: &mut Shared, umem: &mut Umem) {
        self.snd.queue.clear(umem);
        self.rcv.queue.clear(umem);
        self.rcv.out_of_order.clear(&mut shared.gaps, umem);
        self.recovery.repair.take(&mut shared.repairs);
        self.forget_scoreboard(shared);
    }
}
