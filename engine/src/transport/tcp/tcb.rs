//! The transmission control block: everything that is known of one connection (RFC 9293, section 3.3.1).
//!
//! ```text
//!   send space       una .......... nxt ............ una + wnd
//!                     | sent, kept   | queued, unsent
//!                     +- snd.queue: the frames themselves, each with its note: seq, sent_at, marks
//!
//!   receive space    ........ nxt ..... adv
//!                      |       |   gaps: rcv.out_of_order, by sequence number
//!                      +- rcv.queue: in order, not taken by the application yet
//! ```
//!
//! Times are absolute; zero stands for "not set" where an `Option` would cost a word.

use super::congestion::{Before, Congestion};
use super::memory::Holdings;
use super::pacing::Pacing;
use super::path::BlackHole;
use super::rack::Rack;
use super::reassembly::OutOfOrder;
use super::rtt::RttEstimator;
use super::state::State;
use super::tuple::Tuple;
use super::{End, Trouble};
use crate::base::{FrameQueue, Instant, Queued};
use crate::structure::aside::Aside;
use crate::wire::seq::SeqNum;

/// Marks on the notes of queued frames.
pub(super) mod mark {
    /// The peer has it, by a SACK option.
    pub(in super::super) const SACKED: u8 = 1;
    /// It counts as lost.
    pub(in super::super) const LOST: u8 = 2;
    /// It was sent again, and that is not acknowledged yet.
    pub(in super::super) const RETRANSMITTED: u8 = 4;
    /// The segment carries SYN.
    pub(in super::super) const SYN: u8 = 8;
    /// The segment carries FIN.
    pub(in super::super) const FIN: u8 = 16;
    /// It was sent again at least once: its acknowledgment tells no round-trip time (Karn's algorithm).
    pub(in super::super) const EVER_RETRANSMITTED: u8 = 32;
}

/// The send sequence space.
#[derive(Debug)]
pub(super) struct Send {
    /// SND.UNA: the oldest sequence number that is not acknowledged.
    pub(super) una: SeqNum,
    /// SND.NXT: the next to be sent. It never goes back: what is lost is marked in the queue.
    pub(super) nxt: SeqNum,
    /// SND.WND, in bytes.
    ///
    /// RFC 9293, section 3.1 (REC-1): 32-bit fields for the windows, and 32-bit computations.
    pub(super) wnd: u32,
    /// SND.WL1 and SND.WL2: the segment that the window is from.
    pub(super) wl1: SeqNum,
    pub(super) wl2: SeqNum,
    /// The largest window that the peer ever offered, MAX.SND.WND.
    pub(super) max_wnd: u32,
    /// Everything from `una` on: sent first, then unsent.
    pub(super) queue: FrameQueue,
    /// Text in the queue, bytes.
    pub(super) queued: u32,
    /// The first frame that was never sent.
    pub(super) unsent: Queued,
    /// Text in the queue that was never sent, bytes.
    pub(super) unsent_len: u32,
    /// Text that a segment may carry, bytes: what peer and path allow, without our options.
    pub(super) mss: u16,
    /// The same as the peer said it, to be lowered by the path.
    pub(super) peer_mss: u16,
    /// Text of such segments that a chunk holds, bytes: less than the segment where it is spread over several.
    pub(super) per_chunk: u16,
    /// Bytes of a frame that a chunk holds.
    pub(super) chunk_room: u16,
    /// Text of the longest segment that arrived since there was a shorter MSS, bytes.
    pub(super) arrived_len: u16,
    /// The MTU that a router told of although longer packets had arrived; 0: there is none.
    pub(super) doubted_mtu: u16,
    /// Snd.Wind.Shift, and whether both sides scale (RFC 7323, section 2).
    pub(super) shift: u8,
    pub(super) scaled: bool,
    /// SND.UP, and whether it lies ahead of what is acknowledged.
    pub(super) up: SeqNum,
    pub(super) urgent: bool,
    /// The FIN is on the queue.
    pub(super) fin_queued: bool,
}

/// The receive sequence space.
#[derive(Debug)]
pub(super) struct Receive {
    /// RCV.NXT.
    pub(super) nxt: SeqNum,
    /// The right edge of the window that the peer was told: RCV.NXT + RCV.WND.
    pub(super) adv: SeqNum,
    /// RCV.NXT as it was acknowledged last (Last.ACK.sent).
    pub(super) acked: SeqNum,
    /// RCV.UP, and whether it lies ahead of what was taken.
    pub(super) up: SeqNum,
    pub(super) urgent: bool,
    /// In order, not taken by the application yet.
    pub(super) queue: FrameQueue,
    /// Text in it, bytes.
    pub(super) queued: u32,
    /// Bytes that may be queued and promised room together, and whether they are counted: see promise.rs.
    pub(super) limit: u32,
    pub(super) counts: bool,
    /// What arrived behind gaps.
    pub(super) out_of_order: OutOfOrder,
    /// Rcv.Wind.Shift, and the one that we offered.
    pub(super) shift: u8,
    pub(super) shift_offered: u8,
    /// Segments with text since the last acknowledgment.
    pub(super) unacked_segments: u8,
    /// Whether an acknowledgment has to go out in this turn.
    ///
    /// RFC 9293, section 3.10.7.4 (MUST-58, MUST-59): acknowledgments are aggregated: this is set while the segments of
    /// a turn are processed, and heeded when all of them are.
    pub(super) ack_now: bool,
}

/// The timestamps option (RFC 7323).
#[derive(Debug)]
pub(super) struct Timestamps {
    /// Snd.TS.OK.
    pub(super) on: bool,
    /// TS.Recent.
    pub(super) recent: u32,
    /// When it was set, in units of [`AGE_UNIT_NS`].
    recent_at: u32,
    /// What is added to our clock, so that it tells nobody how long we run.
    pub(super) offset: u32,
}

/// About a second: fine enough for an age of days, and no division.
const AGE_UNIT_NS: u64 = 1 << 30;
/// A TS.Recent older than this says nothing any more (RFC 7323, section 5.5: 24 days).
const STALE: u32 = (24 * 24 * 3600 * 1_000_000_000 / AGE_UNIT_NS) as u32;

impl Timestamps {
    /// Not agreed on yet.
    pub(super) const fn new(offset: u32) -> Self {
        Self { on: false, recent: 0, recent_at: 0, offset }
    }

    /// Sets TS.Recent.
    #[inline]
    pub(super) const fn set_recent(&mut self, value: u32, now: Instant) {
        (self.recent, self.recent_at) = (value, (now.as_ns() / AGE_UNIT_NS) as u32);
    }

    /// Whether the connection was idle for so long that TS.Recent is invalidated.
    pub(super) const fn recent_is_stale(&self, now: Instant) -> bool {
        ((now.as_ns() / AGE_UNIT_NS) as u32).wrapping_sub(self.recent_at) > STALE
    }

    /// TSval of a segment that is sent now.
    #[inline]
    pub(super) const fn value(&self, now: Instant) -> u32 {
        clock(now).wrapping_add(self.offset)
    }
}

/// The timestamp clock: milliseconds, as on Linux (RFC 7323, section 5.4: a tick between 1 ms and 1 s).
#[inline]
pub(super) const fn clock(now: Instant) -> u32 {
    (now.as_ns() / 1_000_000) as u32
}

/// How far the repair of losses is (RFC 6675, RFC 8985), in the words of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is amiss.
    Open,
    /// Acknowledgments are out of the ordinary.
    Disorder,
    /// The congestion window is reduced because of an ECN mark.
    Reduced,
    /// Lost segments are sent again.
    Recovery,
    /// A retransmission timeout is being recovered from.
    Loss,
}

/// What is known of segments under way.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    /// Duplicate acknowledgments in a row, where the peer has no SACK.
    pub(super) duplicates: u8,
    /// Times that the retransmission timer ran out without an answer.
    pub(super) timeouts: u8,
    /// SND.NXT when the repair began: acknowledged, it is over.
    pub(super) point: SeqNum,
    /// Bytes in flight by mark: acknowledged by SACK; lost; sent again after being lost.
    pub(super) sacked: u32,
    pub(super) lost: u32,
    pub(super) retransmitted: u32,
    /// Where to begin to look for the first lost segment.
    pub(super) lost_hint: Queued,
    pub(super) rack: Rack,
    /// Retransmitted segments in all.
    pub(super) retransmits: u32,
    /// The last repair, as long as it can be undone.
    pub(super) repair: Aside,
}

/// What is written down of a repair, in case that it turns out to have been needless.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// What is to be restored.
    pub(super) before: Option<Before>,
    /// TSval of the first retransmission; zero before that.
    pub(super) ts: u32,
    /// Bytes retransmitted whose duplicate arrival was not reported yet.
    pub(super) bytes: u32,
    /// Where they lie: from the first number to behind the last.
    pub(super) range: (SeqNum, SeqNum),
}

impl Repair {
    /// Something was sent again at `now`, by the clock of timestamps.
    pub(super) fn sent_again(&mut self, seq: SeqNum, len: u32, now: u32) {
        let end = seq + len;
        self.range = if self.bytes == 0 { (seq, end) } else { (self.range.0.min(seq), self.range.1.max(end)) };
        self.bytes = self.bytes.saturating_add(len);
        if self.ts == 0 {
            self.ts = now;
        }
    }

    /// A segment was reported to have arrived twice. Whether nothing of what was sent again was needed, then.
    ///
    /// RFC 3708: the network copies segments as well, and a report from before may come late: only what was
    /// sent again in this repair counts.
    pub(super) fn arrived_twice(&mut self, (start, end): (SeqNum, SeqNum)) -> bool {
        let (first, last) = self.range;
        if self.bytes == 0 || start.before(first) || end.after(last) {
            return false;
        }
        self.bytes = self.bytes.saturating_sub(end.since(start));
        self.bytes == 0
    }
}

/// Deadlines, of which the wheel knows the earliest.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Retransmission, loss probe, reordering or window probe: one of them at a time.
    pub(super) send_at: Instant,
    pub(super) send_kind: SendTimer,
    /// Delayed acknowledgment.
    pub(super) ack_at: Instant,
    /// Keep-alive, FIN-WAIT-2, or the handshake.
    pub(super) idle_at: Instant,
    /// Whether a segment waits for its pace.
    pub(super) paced: bool,
    /// A segment to send out of turn.
    pub(super) probe: Probe,
    /// What the neighbor table says is to be doubted: nothing has come back for a while.
    pub(super) doubts_way: bool,
    /// When something acceptable last came from the peer.
    pub(super) heard_at: Instant,
    /// When a segment with text was last sent.
    pub(super) sent_at: Instant,
    /// Since when data waits for an acknowledgment, or a closed window for its opening, without any progress.
    pub(super) stuck_since: Instant,
    /// Keep-alives in a row without an answer.
    pub(super) keep_alive_probes: u8,
    /// Challenge ACKs within a second, and which second: one in 18 hours.
    pub(super) challenges: u8,
    pub(super) challenge_second: u16,
}

/// What the send timer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SendTimer {
    /// RFC 6298.
    #[default]
    Retransmission,
    /// RFC 8985, section 7.
    LossProbe,
    /// RFC 8985, section 6.
    Reordering,
    /// RFC 9293, section 3.8.6.1.
    WindowProbe,
}

/// What an application set.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) nagle: bool,
    /// The DSCP in its place in the traffic class.
    pub(super) class: u8,
    /// 0: never.
    pub(super) keep_alive_s: u32,
    pub(super) user_timeout_ms: u32,
    /// The application was told that there is no room.
    pub(super) wants_room: bool,
    /// There is room now, and the application has to be told.
    pub(super) has_room: bool,
}

/// ECN (RFC 3168).
#[derive(Debug, Default)]
pub(super) struct Ecn {
    /// Both sides agreed.
    pub(super) on: bool,
    /// A mark arrived: ECE is set until the peer says CWR.
    pub(super) echo: bool,
    /// The window was reduced: the next new segment says CWR.
    pub(super) reduced: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Tcb {
    pub(super) tuple: Tuple,
    pub(super) state: State,
    /// Opened by us (RFC 9293, section 3.5, MUST-11).
    pub(super) active: bool,
    pub(super) sack_ok: bool,
    /// Our application has no more to send: a FIN is queued, or will be when there is a chunk for it.
    pub(super) finishing: bool,
    /// The congestion window held something back.
    pub(super) window_limited: bool,
    pub(super) snd: Send,
    pub(super) rcv: Receive,
    pub(super) ts: Timestamps,
    pub(super) ecn: Ecn,
    pub(super) wishes: Wishes,
    pub(super) timers: Timers,
    pub(super) recovery: Recovery,
    pub(super) rtt: RttEstimator,
    pub(super) congestion: Congestion,
    pub(super) pacing: Pacing,
    pub(super) black_hole: BlackHole,
    pub(super) soft_error: Option<Trouble>,
    /// How it ended, until the application has heard of it.
    pub(super) ended: Option<End>,
    /// The largest window since one was too small for a segment and was used all the same; 0: there was none. As far as
    /// it matters: half of it is no less than a segment.
    pub(super) overridden_wnd: u16,
}

/// A segment to be sent out of turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Probe {
    #[default]
    No,
    /// The last segment again, or new text (tail loss probe).
    Loss,
    /// Something unacceptable, to hear the peer's window, or whether it lives.
    Window,
}

impl Tcb {
    /// Sequence numbers that were sent and not acknowledged.
    #[inline]
    pub(super) fn outstanding(&self) -> u32 {
        self.snd.nxt.since(self.snd.una)
    }

    /// Bytes that are under way, as far as is known ("pipe", RFC 6675).
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        let Recovery { sacked, lost, retransmitted, .. } = self.recovery;
        (self.outstanding() + retransmitted).saturating_sub(sacked + lost)
    }

    /// Bytes that the peer's window lets us send beyond SND.NXT.
    ///
    /// RFC 9293, section 3.8.6 (MUST-34, SHLD-15): the usable window may become negative when the window shrinks: it is
    /// 0 then, so that nothing new is sent, and nothing is taken back.
    #[inline]
    pub(super) fn usable_window(&self) -> u32 {
        self.snd.wnd.saturating_sub(self.outstanding())
    }

    /// Whether our FIN is acknowledged.
    #[inline]
    pub(super) fn fin_is_acknowledged(&self) -> bool {
        self.snd.fin_queued && self.snd.queue.is_empty()
    }

    /// Bytes of options in each of our segments with text, outside of SACK.
    #[inline]
    pub(super) const fn option_len(&self) -> u16 {
        if self.ts.on { 12 } else { 0 }
    }

    /// The earliest deadline.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        let Timers { send_at, ack_at, idle_at, paced, .. } = self.timers;
        let pace_at = if paced { self.pacing.next_send_time() } else { Instant::ZERO };
        // A step down, so that zero, which is not set, comes last.
        let earliest = [send_at, ack_at, idle_at, pace_at].map(|at| at.as_ns().wrapping_sub(1)).into_iter().min()?;
        (earliest != u64::MAX).then(|| Instant::from_ns(earliest + 1))
    }

    /// Chunks of packet memory that the connection holds.
    #[inline]
    pub(super) fn holdings(&self) -> Holdings {
        Holdings { send: self.snd.queue.len(), receive: self.rcv.queue.len() + self.rcv.out_of_order.len() }
    }
}
