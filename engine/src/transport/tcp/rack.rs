//! RACK-TLP: losses found by time (RFC 8985).
//!
//! A segment is lost when one that was sent after it has arrived, and there was time for it too. The time is a
//! round trip and a window for reordering, which is as long as the network has shown to need.

use std::time::Duration;

use super::Shared;
use super::sack::seq_len;
use super::scoreboard::{Mark, STEPS};
use super::tcb::{Phase, SendTimer, Tcb, mark};
use crate::base::{Instant, Note, Queued, Umem};
use crate::structure::aside::Aside;
use crate::wire::seq::SeqNum;

/// Segments reported by SACK from which on a gap is a loss even without a reordering window (RFC 8985, section
/// 6.2, step 4: DupThresh).
const DUP_THRESH: u32 = 3;
/// Recoveries for which a wider reordering window is kept (RFC 8985, section 6.2: RACK.reo_wnd_persist).
const PERSIST: u8 = 16;
/// Allowance for a peer that delays the acknowledgment of a single segment (RFC 8985, section 7.2: WCDelAckT).
const WORST_CASE_DELAYED_ACK_NS: u64 = 200_000_000;
/// Allowance in other cases, for the peer's scheduling (Linux: two ticks of its timer).
const LEAST_ALLOWANCE_NS: u64 = 2_000_000;
/// The probe timeout as long as there is no round-trip time (RFC 8985, section 7.2).
const INITIAL_PROBE_TIMEOUT_NS: u64 = 1_000_000_000;

/// State of RACK and of the tail loss probe.
#[derive(Debug, Default)]
pub(super) struct Rack {
    /// RACK.xmit_ts, RACK.end_seq, RACK.rtt: of the segment sent last of those that have arrived.
    sent_at: Instant,
    end: SeqNum,
    rtt_us: u32,
    /// RACK.fack: the highest sequence number that has arrived.
    fack: SeqNum,
    /// RACK.reordering_seen, RACK.dsack_round (and whether there is one), RACK.reo_wnd_mult, RACK.reo_wnd_persist.
    reordering_seen: bool,
    in_dsack_round: bool,
    multiplier: u8,
    persist: u8,
    dsack_round: SeqNum,
    /// TLP.end_seq, whether a probe is under way, and TLP.is_retrans.
    probe_end: SeqNum,
    pub(super) probe_pending: bool,
    probe_retransmitted: bool,
    /// Whether anything under way was sent again, as far as is known.
    sent_again: bool,
    /// Where to look among what is under way, once the peer has sent SACK options: see scoreboard.rs.
    pub(super) scoreboard: Aside,
}

impl Rack {
    /// Nothing has arrived of what is sent from `iss` on.
    pub(super) fn new(iss: SeqNum) -> Self {
        Self { end: iss, fack: iss, ..Self::default() }
    }

    /// Whether the first segment was sent after the second (RFC 8985: RACK_sent_after).
    fn sent_after(first: (Instant, SeqNum), second: (Instant, SeqNum)) -> bool {
        first.0 > second.0 || (first.0 == second.0 && first.1.after(second.1))
    }

    /// Takes note that a probe was sent up to `end`.
    pub(super) const fn probed(&mut self, end: SeqNum, retransmitted: bool) {
        (self.probe_end, self.probe_pending, self.probe_retransmitted) = (end, true, retransmitted);
    }
}

/// A search for lost segments.
struct Search {
    /// RACK.xmit_ts and RACK.end_seq.
    newest: (Instant, SeqNum),
    /// How long after it was sent a segment is lost: RACK.rtt and RACK.reo_wnd.
    patience: Duration,
    now: Instant,
    /// Whether any was found, and when the next one is lost.
    any: bool,
    next_loss: Option<Instant>,
}

impl Tcb {
    /// A segment that was sent once has arrived, and its round trip took so long: the same as
    /// [`delivered_segment`](Self::delivered_segment), for the case that is nearly always.
    #[inline]
    pub(super) fn delivered_original(&mut self, sent_at: Instant, end: SeqNum, rtt_us: u64) {
        let rack = &mut self.recovery.rack;
        if end.after(rack.fack) {
            rack.fack = end;
        } else if end.before(rack.fack) {
            rack.reordering_seen = true;
        }
        if Rack::sent_after((sent_at, end), (rack.sent_at, rack.end)) {
            (rack.sent_at, rack.end, rack.rtt_us) = (sent_at, end, u32::try_from(rtt_us).unwrap_or(u32::MAX));
        }
    }

    /// A segment has arrived, by SACK or in the ordinary way (RFC 8985, section 6.2, steps 2 and 3).
    #[inline]
    pub(super) fn delivered_segment(&mut self, note: &Note, end: SeqNum, now: Instant, ts_ecr: Option<u32>) {
        let rtt_ns = now.ns_since(note.sent_at);
        let again = note.marks & mark::EVER_RETRANSMITTED != 0;
        let rack = &mut self.recovery.rack;
        if end.after(rack.fack) {
            rack.fack = end;
        } else if end.before(rack.fack) && !again {
            rack.reordering_seen = true;
        }
        if again {
            // RFC 8985, section 6.2, step 2: an acknowledgment may be for the original, not for what was sent again: the
            // timestamp tells, or a time that is too short.
            let sent_ts = self.ts.value(note.sent_at);
            let echoes_earlier = ts_ecr.is_some_and(|ecr| (ecr.wrapping_sub(sent_ts) as i32) < 0);
            let too_short = self.rtt.min_rtt().is_some_and(|min| u128::from(rtt_ns) < min.as_nanos());
            if echoes_earlier || too_short {
                return;
            }
        }
        let rack = &mut self.recovery.rack;
        if Rack::sent_after((note.sent_at, end), (rack.sent_at, rack.end)) {
            (rack.sent_at, rack.end) = (note.sent_at, end);
            rack.rtt_us = u32::try_from(rtt_ns / 1000).unwrap_or(u32::MAX);
        }
    }

    /// The reordering window (RFC 8985, section 6.2, step 4).
    fn reordering_window(&self) -> Duration {
        let rack = &self.recovery.rack;
        let repairing = matches!(self.recovery.phase, Phase::Recovery | Phase::Loss);
        let many = self.recovery.sacked >= DUP_THRESH * u32::from(self.snd.mss);
        if !rack.reordering_seen && (repairing || many) {
            return Duration::ZERO;
        }
        let min_rtt = self.rtt.min_rtt().unwrap_or_default();
        let window = min_rtt / 4 * u32::from(rack.multiplier.max(1));
        window.min(self.rtt.srtt().unwrap_or(window))
    }

    /// A segment arrived twice: the reordering window was too narrow, or (RFC 8985, section 6.2, step 4) it is
    /// time to narrow it again.
    pub(super) fn adapt_reordering_window(&mut self, duplicate: bool) {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let rack = &mut self.recovery.rack;
        if rack.in_dsack_round && una.after_eq(rack.dsack_round) {
            rack.in_dsack_round = false;
        }
        if duplicate && !rack.in_dsack_round {
            (rack.in_dsack_round, rack.dsack_round) = (true, nxt);
            rack.multiplier = rack.multiplier.max(1).saturating_add(1);
            rack.persist = PERSIST;
        }
    }

    /// A recovery is over: a wider reordering window lasts for some of them.
    pub(super) fn reordering_window_after_recovery(&mut self) {
        let rack = &mut self.recovery.rack;
        rack.persist = rack.persist.saturating_sub(1);
        if rack.persist == 0 {
            rack.multiplier = 1;
        }
    }

    /// Marks what is lost by now (RFC 8985, section 6.2, step 5), and says whether anything is, and when the next
    /// segment will be if it has not arrived by then.
    pub(super) fn detect_losses(
        &mut self,
        now: Instant,
        umem: &mut Umem,
        shared: &mut Shared,
    ) -> (bool, Option<Instant>) {
        let rack = &self.recovery.rack;
        if rack.sent_at == Instant::ZERO {
            return (false, None);
        }
        let patience = Duration::from_micros(u64::from(rack.rtt_us)) + self.reordering_window();
        let mut search = Search { newest: (rack.sent_at, rack.end), patience, now, any: false, next_loss: None };
        let mut known = self.recovery.rack.scoreboard.get(&shared.scoreboards).copied().unwrap_or_default();
        let from = self.begin_at(known.loss_from, self.snd.nxt, umem);
        if self.recovery.rack.sent_again {
            self.find_lost_again(&mut search, &mut known.again_end, umem);
        }
        known.loss_from = self.find_lost(from, &mut search, umem);
        self.remember(known, shared);
        (search.any, search.next_loss)
    }

    /// Looks for lost ones among those that were sent once, from the first on that is neither reported nor lost: it says
    /// which that is now. They were sent in order, so whatever follows it was sent later.
    fn find_lost(&mut self, from: Option<Queued>, search: &mut Search, umem: &mut Umem) -> Mark {
        let (mut next, mut first) = (from, Mark::default());
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let note = *umem.note(place);
            first = Mark { place, seq: SeqNum::new(note.seq) };
            if note.marks & mark::SACKED != 0 {
                next = Self::behind_run(place, &mut { STEPS }, umem);
                continue;
            }
            let is_settled = note.marks & (mark::LOST | mark::EVER_RETRANSMITTED) != 0;
            if !is_settled && !self.is_lost(place, &note, search, umem) {
                break;
            }
            next = umem.next(place);
        }
        first
    }

    /// Looks for lost ones among those that were sent again. What was sent again lies in front of what is still to be.
    fn find_lost_again(&mut self, search: &mut Search, again_end: &mut Option<SeqNum>, umem: &mut Umem) {
        let (mut next, mut steps) = (self.snd.queue.first(), STEPS);
        let mut last = None;
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let note = *umem.note(place);
            if again_end.is_some_and(|end| SeqNum::new(note.seq).after_eq(end)) {
                break;
            }
            if steps == 0 {
                return;
            }
            if note.marks & mark::SACKED != 0 {
                next = Self::behind_run(place, &mut steps, umem);
                continue;
            }
            let is_unsettled = note.marks & (mark::LOST | mark::RETRANSMITTED) != mark::LOST;
            if note.marks & mark::EVER_RETRANSMITTED != 0 && is_unsettled {
                last = Some(SeqNum::new(note.seq) + seq_len(umem, place));
                self.is_lost(place, &note, search, umem);
            }
            steps -= 1;
            next = umem.next(place);
        }
        self.recovery.rack.sent_again = last.is_some();
        *again_end = last;
    }

    /// Takes note that a segment up to `end` was sent again.
    pub(super) fn note_sent_again(&mut self, end: SeqNum, shared: &mut Shared) {
        let rack = &mut self.recovery.rack;
        if let Some(known) = rack.scoreboard.get_mut(&mut shared.scoreboards) {
            let known_end = if rack.sent_again { known.again_end } else { Some(end) };
            known.again_end = known_end.map(|known| known.max(end));
        }
        rack.sent_again = true;
    }

    /// Whether a frame is lost by now, and marks it if it is.
    fn is_lost(&mut self, place: Queued, note: &Note, search: &mut Search, umem: &mut Umem) -> bool {
        let end = SeqNum::new(note.seq) + seq_len(umem, place);
        if !Rack::sent_after(search.newest, (note.sent_at, end)) {
            return false;
        }
        let lost_at = note.sent_at + search.patience;
        if lost_at > search.now {
            search.next_loss = Some(search.next_loss.map_or(lost_at, |earliest| earliest.min(lost_at)));
            return false;
        }
        self.mark_lost(place, umem);
        search.any = true;
        true
    }

    /// When a tail loss probe is due, if one may be sent (RFC 8985, section 7.2).
    #[inline(always)]
    pub(super) fn probe_timeout_ns(&self) -> Option<u64> {
        let recovery = &self.recovery;
        let eligible = recovery.phase == Phase::Open && recovery.sacked == 0 && !recovery.rack.probe_pending;
        if !self.sack_ok || !eligible || !self.state.is_synchronized() {
            return None;
        }
        let Some(srtt_ns) = self.rtt.srtt_ns() else { return Some(INITIAL_PROBE_TIMEOUT_NS) };
        let single = self.outstanding() <= u32::from(self.snd.mss);
        Some(srtt_ns * 2 + if single { WORST_CASE_DELAYED_ACK_NS } else { LEAST_ALLOWANCE_NS })
    }

    /// Ends a probe's episode when its end is acknowledged, and says whether the probe repaired a loss that the
    /// congestion control has to hear of (RFC 8985, section 7.4.2).
    pub(super) fn settle_probe(&mut self, ack: SeqNum, duplicate: bool, is_pure_duplicate: bool) -> bool {
        let rack = &mut self.recovery.rack;
        if !rack.probe_pending || ack.before(rack.probe_end) {
            return false;
        }
        if !rack.probe_retransmitted || duplicate {
            rack.probe_pending = false;
            return false;
        }
        if ack.after(rack.probe_end) {
            rack.probe_pending = false;
            return true;
        }
        if is_pure_duplicate {
            rack.probe_pending = false;
        }
        false
    }

    /// What the send timer is to wait for while segments are under way: their loss by reordering, a probe, or the
    /// retransmission timeout.
    pub(super) fn arm_send_timer(&mut self, now: Instant, next_loss: Option<Instant>) {
        if self.outstanding() == 0 {
            if self.timers.send_kind != SendTimer::WindowProbe {
                self.timers.send_at = Instant::ZERO;
            }
            return;
        }
        let rto = now.plus_ns(self.rtt.rto_ns());
        let (at, kind) = match (next_loss, self.probe_timeout_ns().map(|pto| now.plus_ns(pto))) {
            // RFC 8985, section 6.3: the reordering timer must not fire at once: 65 us is the timers' tick.
            (Some(at), _) => (at, SendTimer::Reordering),
            (None, Some(at)) if at < rto => (at, SendTimer::LossProbe),
            _ => (rto, SendTimer::Retransmission),
        };
        (self.timers.send_at, self.timers.send_kind) = (at, kind);
    }
}
