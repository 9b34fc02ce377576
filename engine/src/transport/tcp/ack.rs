//! What an acceptable acknowledgment does: frees what arrived, opens the window, tells the congestion control, and
//! finds out what is lost (RFC 9293, section 3.10.7.4, fifth; RFC 5681; RFC 6675; RFC 8985).

use std::time::Duration;

use super::Shared;
use super::congestion::{Ack, Before};
use super::path::BlackHole;
use super::sack::{SackNews, seq_len_of};
use super::segment::Segment;
use super::tcb::{Phase, Repair, SendTimer, Tcb, mark};
use crate::base::{Instant, Queued, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::Flags;

/// Duplicate acknowledgments that make a loss where the peer has no SACK (RFC 5681, section 3.2).
const DUPLICATES: u8 = 3;

/// Marks of frames that need a closer look when they are acknowledged.
const UNUSUAL: u8 = mark::SACKED | mark::LOST | mark::RETRANSMITTED | mark::EVER_RETRANSMITTED;

/// What an acknowledgment changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Sequence numbers that it newly acknowledged.
    pub(super) acked: u32,
}

/// What was freed because it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Released {
    /// Sequence numbers.
    acked: u32,
    /// Those of them that SACK had reported.
    known: u32,
    /// A round-trip time.
    rtt_us: Option<u64>,
}

/// What is known of a segment's acknowledgment while it is being digested.
struct News {
    una_before: SeqNum,
    flight_before: u32,
    sacked_before: u32,
    acked: u32,
    /// What arrived, in the ordinary way or by SACK.
    delivered: u32,
    rtt_us: Option<u64>,
    ts_ecr: Option<u32>,
    sack: SackNews,
    is_duplicate: bool,
}

impl Tcb {
    /// Digests the acknowledgment of a segment, SND.UNA =< SEG.ACK =< SND.NXT.
    #[inline(always)]
    pub(super) fn take_ack(
        &mut self,
        segment: &Segment,
        now: Instant,
        umem: &mut Umem,
        shared: &mut Shared,
    ) -> Progress {
        let is_ordinary = segment.ack.after(self.snd.una) && self.snd.wnd > 0 && self.black_hole == BlackHole::No;
        if is_ordinary && self.is_untroubled(segment) {
            return self.take_ordinary_ack(segment, now, umem);
        }
        self.take_any_ack(segment, now, umem, shared)
    }

    /// The same of one that acknowledges something new, of a connection with which nothing is amiss: the case for which
    /// everything is fast.
    #[inline(never)]
    fn take_ordinary_ack(&mut self, segment: &Segment, now: Instant, umem: &mut Umem) -> Progress {
        let flight_before = self.outstanding();
        self.take_window(segment);
        let ts_ecr = if self.ts.on { segment.options.timestamps.map(|(_, ecr)| ecr) } else { None };
        let Released { acked, known, rtt_us } = self.release_acked(segment.ack, now, ts_ecr, umem);
        if let Some(rtt_us) = rtt_us {
            self.rtt.sample_us(rtt_us, now);
        }
        self.note_progress(now);
        self.grow(acked - known.min(acked), flight_before, rtt_us, now);
        self.arm_send_timer(now, None);
        Progress { acked }
    }

    /// Something was newly acknowledged.
    #[inline]
    fn note_progress(&mut self, now: Instant) {
        // RFC 9293, section 3.8.1 (MUST-18): Karn's algorithm: the timeout stays backed off until there is a sample.
        self.recovery.timeouts = 0;
        self.timers.stuck_since = if self.outstanding() > 0 { now } else { Instant::ZERO };
        self.soft_error = None;
        self.snd.urgent &= self.snd.up.after(self.snd.una);
    }

    #[inline(never)]
    fn take_any_ack(&mut self, segment: &Segment, now: Instant, umem: &mut Umem, shared: &mut Shared) -> Progress {
        let (una_before, flight_before, sacked_before) = (self.snd.una, self.outstanding(), self.recovery.sacked);
        let was_closed = self.snd.wnd == 0;
        let window_changed = self.take_window(segment);
        let ts_ecr = if self.ts.on { segment.options.timestamps.map(|(_, ecr)| ecr) } else { None };
        if was_closed && self.snd.wnd > 0 {
            self.window_opened(now);
        }
        if segment.ack == una_before && flight_before == 0 && segment.options.sack.is_empty() {
            return Progress::default();
        }
        let Released { acked, known, rtt_us } = self.release_acked(segment.ack, now, ts_ecr, umem);
        let sack = if self.sack_ok {
            self.take_sack(&segment.options.sack, segment.ack, now, ts_ecr, umem, shared)
        } else {
            SackNews::default()
        };
        if self.recovery.sacked == 0 && segment.options.sack.is_empty() {
            self.forget_scoreboard(shared);
        }
        // RFC 5681, section 2: outstanding data, no text, neither SYN nor FIN, and the same number and window.
        let is_duplicate = acked == 0 && segment.seq_len() == 0 && !window_changed;
        let delivered = acked - known.min(acked) + sack.bytes;
        let news =
            News { una_before, flight_before, sacked_before, acked, delivered, rtt_us, ts_ecr, sack, is_duplicate };
        if let Some(rtt_us) = rtt_us {
            self.rtt.sample_us(rtt_us, now);
        }
        if acked > 0 {
            self.note_progress(now);
        }
        if acked > 0 && self.black_hole != BlackHole::No && self.recovery.phase == Phase::Open {
            self.try_long_segments(now);
        }
        if acked > 0 && self.is_untroubled(segment) {
            self.grow_by(&news, now);
            self.arm_send_timer(now, None);
            return Progress { acked };
        }
        shared.counters.duplicates_reported += u64::from(sack.duplicate.is_some());
        self.adapt_reordering_window(sack.duplicate.is_some());
        let next_loss = self.repair(news, segment, now, umem, shared);
        let rearm = acked > 0 || sack.bytes > 0 || next_loss.is_some();
        if rearm {
            self.arm_send_timer(now, next_loss);
            self.clamp_send_timer();
        }
        Progress { acked }
    }

    /// Whether nothing is or was amiss, so that there is nothing to repair.
    #[inline(always)]
    fn is_untroubled(&self, segment: &Segment) -> bool {
        let recovery = &self.recovery;
        recovery.phase == Phase::Open
            && (recovery.sacked | recovery.lost | recovery.retransmitted) == 0
            && recovery.duplicates == 0
            && !recovery.rack.probe_pending
            && recovery.rack.scoreboard.is_none()
            && segment.options.sack.is_empty()
            && !segment.has(Flags::ECE)
    }

    /// The window that was probed is open: what follows is timed as if it had never been closed.
    fn window_opened(&mut self, now: Instant) {
        self.rtt.reset_backoff();
        self.recovery.timeouts = 0;
        (self.timers.send_at, self.timers.send_kind) = (Instant::ZERO, SendTimer::Retransmission);
        if self.outstanding() > 0 {
            (self.timers.send_at, self.timers.stuck_since) = (now + self.rtt.rto(), now);
        }
    }

    /// RFC 9293, section 3.10.7.4, fifth: the send window is updated, unless the segment is older than the one that
    /// updated it last. Whether it changed.
    ///
    /// A segment that acknowledges something new is not older, whatever its number (it may be a retransmission; Linux:
    /// tcp_may_update_window). Its window has to be taken: the last one, counted from the new SND.UNA, would reach
    /// further than the peer ever offered.
    fn take_window(&mut self, segment: &Segment) -> bool {
        // RFC 9293, section 3.1 (MUST-1): the window size MUST be treated as an unsigned number.
        // RFC 7323, section 2.2: the window field in a segment with SYN is never scaled.
        let wnd = u32::from(segment.window) << if segment.has(Flags::SYN) { 0 } else { self.snd.shift };
        let snd = &mut self.snd;
        let later = snd.wl1.before(segment.seq) || (snd.wl1 == segment.seq && snd.wl2.before_eq(segment.ack));
        if !later && !segment.ack.after(snd.una) {
            return false;
        }
        let changed = snd.wnd != wnd;
        (snd.wnd, snd.wl1, snd.wl2) = (wnd, snd.wl1.max(segment.seq), segment.ack);
        snd.max_wnd = snd.max_wnd.max(wnd);
        if self.overridden_wnd != 0 {
            self.overridden_wnd = self.overridden_wnd.max(wnd.min(u32::from(u16::MAX)) as u16);
        }
        changed
    }

    /// Frees what is acknowledged. A part of both its callers: one of them is the fast path.
    #[inline(always)]
    fn release_acked(&mut self, ack: SeqNum, now: Instant, ts_ecr: Option<u32>, umem: &mut Umem) -> Released {
        let acked = ack.since(self.snd.una);
        if acked == 0 {
            return Released::default();
        }
        let (mut known, mut rtt, mut ever_again, mut longest) = (0, None, false, 0);
        while let Some(first) = self.snd.queue.first().filter(|&first| first != self.snd.unsent) {
            let (note, text) = umem.queued(first);
            let (seq, len) = (SeqNum::new(note.seq), seq_len_of(&note, text));
            let end = seq + len;
            if end.after(ack) {
                self.release_part(first, ack.since(seq), umem);
                break;
            }
            if note.marks & UNUSUAL == 0 {
                let sample_us = now.ns_since(note.sent_at) / 1000;
                rtt = rtt.or(Some(sample_us));
                self.delivered_original(note.sent_at, end, sample_us);
            } else {
                // RFC 6298, section 3: RTT samples MUST NOT be made using segments that were retransmitted.
                ever_again |= note.marks & mark::EVER_RETRANSMITTED != 0;
                known += self.delivered_unusual(first, now, ts_ecr, umem);
            }
            if self.recovery.lost_hint == first {
                self.recovery.lost_hint = Queued::NONE;
            }
            longest = longest.max(text);
            self.snd.queued -= u32::from(text);
            self.snd.queue.release(umem);
        }
        self.snd.una = ack;
        if longest > self.snd.arrived_len || self.black_hole != BlackHole::No || self.snd.doubted_mtu != 0 {
            self.has_arrived(longest);
        }
        // RFC 7323, section 4.1: with timestamps, what was sent again can be measured too.
        let by_timestamp = || {
            let ms = self.ts.value(now).wrapping_sub(ts_ecr.filter(|&ecr| rtt.is_none() && ecr != 0)?);
            (ms < 1 << 20).then(|| u64::from(ms.max(1)) * 1000)
        };
        Released { acked, known, rtt_us: if ever_again { by_timestamp() } else { rtt } }
    }

    /// A frame is acknowledged that was sent again, counted as lost or reported by SACK; says how many of its numbers were
    /// reported.
    #[inline(never)]
    fn delivered_unusual(&mut self, place: Queued, now: Instant, ts_ecr: Option<u32>, umem: &mut Umem) -> u32 {
        let (note, text) = umem.queued(place);
        let len = seq_len_of(&note, text);
        let is_known = note.marks & mark::SACKED != 0;
        if !is_known {
            self.delivered_segment(&note, SeqNum::new(note.seq) + len, now, ts_ecr);
        }
        self.unmark(place, len, umem);
        if is_known { len } else { 0 }
    }

    /// Frees the first bytes of a frame of which only those are acknowledged.
    fn release_part(&mut self, place: Queued, bytes: u32, umem: &mut Umem) {
        let text = bytes.min(u32::from(umem.queued_len(place)));
        let marks = umem.note(place).marks;
        let recovery = &mut self.recovery;
        for (flag, account) in [
            (mark::LOST, &mut recovery.lost),
            (mark::RETRANSMITTED, &mut recovery.retransmitted),
            (mark::SACKED, &mut recovery.sacked),
        ] {
            if marks & flag != 0 {
                *account = account.saturating_sub(text);
            }
        }
        umem.trim_front(place, text as u16);
        umem.annotate(place, |note| note.seq = note.seq.wrapping_add(bytes));
        super::reassembly::sum_anew(umem, place);
        self.snd.queued -= text;
    }

    /// Moves the repair of losses on, and says when the next segment counts as lost.
    fn repair(
        &mut self,
        mut news: News,
        segment: &Segment,
        now: Instant,
        umem: &mut Umem,
        shared: &mut Shared,
    ) -> Option<Instant> {
        if self.settle_probe(segment.ack, news.sack.duplicate.is_some(), news.is_duplicate) {
            // RFC 8985, section 7.4.2: the probe repaired a loss, and congestion control has to hear of it.
            self.enter_recovery(news.flight_before, news.sacked_before, shared);
        }
        let (found, next_loss) = if self.sack_ok {
            self.detect_losses(now, umem, shared)
        } else {
            (self.count_duplicates(&mut news, umem), None)
        };
        let news = &news;
        if self.undo_if_needless(news, umem, shared) {
            return next_loss;
        }
        self.take_ecn_echo(segment, news, shared);
        match self.recovery.phase {
            Phase::Recovery | Phase::Loss | Phase::Reduced if segment.ack.after_eq(self.recovery.point) => {
                self.leave_recovery(segment.ack);
                self.grow_by(news, now);
            }
            Phase::Recovery => self.proceed(news, found),
            Phase::Open | Phase::Disorder | Phase::Reduced if found => {
                self.enter_recovery(news.flight_before, news.sacked_before, shared);
                self.proceed(news, found);
            }
            Phase::Loss | Phase::Reduced => self.grow_by(news, now),
            Phase::Open | Phase::Disorder => {
                let amiss = self.recovery.sacked > 0 || self.recovery.duplicates > 0;
                self.recovery.phase = if amiss { Phase::Disorder } else { Phase::Open };
                self.grow_by(news, now);
            }
        }
        next_loss
    }

    fn grow_by(&mut self, news: &News, now: Instant) {
        if news.acked > 0 {
            // What SACK told of before, and what duplicates stood for, counted then.
            self.grow(news.acked.min(news.delivered), news.flight_before, news.rtt_us, now);
        }
    }

    /// Lets the congestion window grow by what was acknowledged, if it was what limited us.
    #[inline]
    fn grow(&mut self, acked: u32, flight_before: u32, rtt_us: Option<u64>, now: Instant) {
        if !self.window_limited && flight_before * 2 <= self.congestion.window() {
            return self.congestion.hold(now);
        }
        self.congestion.on_ack(&Ack {
            now,
            acked,
            una: self.snd.una,
            nxt: self.snd.nxt,
            rtt: rtt_us.map(Duration::from_micros),
            srtt: self.rtt.srtt(),
            window_limited: true,
            mss: u32::from(self.snd.mss),
        });
    }

    fn proceed(&mut self, news: &News, found: bool) {
        let (in_flight, mss) = (self.in_flight(), u32::from(self.snd.mss));
        self.congestion.on_recovery_ack(news.delivered, in_flight, news.acked > 0, !found, mss);
    }

    pub(super) fn enter_recovery(&mut self, flight: u32, sacked: u32, shared: &mut Shared) {
        let before = self.congestion.enter_recovery(flight, sacked, self.snd.nxt, u32::from(self.snd.mss));
        if before.is_some() || self.recovery.phase != Phase::Recovery {
            shared.counters.recoveries += 1;
            self.recovery.phase = Phase::Recovery;
            self.recovery.point = self.snd.nxt;
            self.tell_of_reduction();
            self.begin_undo(before, shared);
        }
    }

    /// RFC 3168, section 6.1.2: when the window is reduced, because of a loss as well, the sender sets CWR in the first
    /// new segment after that, so that the peer ends an echo that is answered already.
    const fn tell_of_reduction(&mut self) {
        self.ecn.reduced = self.ecn.on;
    }

    /// From now on it is written down whether what is sent again arrives twice.
    fn begin_undo(&mut self, before: Option<Before>, shared: &mut Shared) {
        if let Some(repair) = self.recovery.repair.get_or_default(&mut shared.repairs) {
            *repair = Repair { before, ..Repair::default() };
        }
    }

    fn leave_recovery(&mut self, una: SeqNum) {
        self.congestion.exit_recovery(una);
        let was = std::mem::replace(&mut self.recovery.phase, Phase::Open);
        self.recovery.duplicates = 0;
        if !self.sack_ok {
            self.recovery.sacked = 0;
        }
        if was == Phase::Recovery {
            self.reordering_window_after_recovery();
        }
    }

    /// A repair was needless if the acknowledgment echoes a time before the first retransmission (RFC 3522), or if
    /// everything that was sent again was reported to have arrived twice (RFC 3708): then it is undone. The reports
    /// come a round trip after the retransmissions, when the repair is mostly over.
    fn undo_if_needless(&mut self, news: &News, umem: &mut Umem, shared: &mut Shared) -> bool {
        let recovery = &mut self.recovery;
        let Some(repair) = recovery.repair.get_mut(&mut shared.repairs) else { return false };
        let repairing = matches!(recovery.phase, Phase::Recovery | Phase::Loss);
        if repair.ts == 0 || !(repairing || news.sack.duplicate.is_some()) {
            return false;
        }
        let echoes_earlier = |ecr: u32| ecr != 0 && (ecr.wrapping_sub(repair.ts) as i32) < 0;
        let by_timestamp = repairing && news.acked > 0 && news.ts_ecr.is_some_and(echoes_earlier);
        let by_duplicates = news.sack.duplicate.is_some_and(|block| repair.arrived_twice(block));
        if !by_timestamp && !by_duplicates {
            return false;
        }
        let before = recovery.repair.take(&mut shared.repairs).and_then(|repair| repair.before);
        shared.counters.needless_recoveries += 1;
        self.unmark_lost(umem, shared);
        self.recovery.phase = Phase::Open;
        let (in_flight, mss) = (self.in_flight(), u32::from(self.snd.mss));
        if before.is_some_and(|before| self.congestion.undo(&before, in_flight, news.acked, mss)) {
            self.ecn.reduced = false;
        } else {
            self.congestion.exit_recovery(self.snd.nxt);
        }
        true
    }

    /// RFC 3168, section 6.1.2: an echoed mark reduces the window once for a window of data. What was under way at the
    /// last reduction was that; and what acknowledges no more than that knows nothing of our CWR yet, which stands in the
    /// segment behind it.
    fn take_ecn_echo(&mut self, segment: &Segment, news: &News, shared: &mut Shared) {
        if !self.ecn.on || !segment.has(Flags::ECE) || segment.has(Flags::SYN) {
            return;
        }
        if self.ecn.reduced || segment.ack == self.recovery.point {
            return;
        }
        if self.congestion.on_ecn_echo(news.flight_before, self.snd.nxt, u32::from(self.snd.mss)) {
            self.recovery.repair.take(&mut shared.repairs);
            shared.counters.ecn_reductions += 1;
            self.tell_of_reduction();
            self.recovery.phase = Phase::Reduced;
            self.recovery.point = self.snd.nxt;
        }
    }

    /// Losses where the peer has no SACK: by three duplicates, and in recovery by acknowledgments of a part
    /// (RFC 5681, section 3.2; RFC 6582). Each duplicate stands for a segment that left the network, and so was
    /// delivered (RFC 9937, section 6.1).
    fn count_duplicates(&mut self, news: &mut News, umem: &mut Umem) -> bool {
        let mss = u32::from(self.snd.mss);
        if news.acked > 0 {
            news.delivered = news.acked.saturating_sub(self.recovery.sacked).max(news.acked.min(mss));
            self.recovery.sacked = self.recovery.sacked.saturating_sub(news.acked.saturating_sub(mss));
            self.recovery.duplicates = 0;
            let partial = self.recovery.phase == Phase::Recovery && self.snd.una.before(self.recovery.point);
            return partial && self.mark_first_lost(umem);
        }
        if !news.is_duplicate || news.una_before != self.snd.una {
            return false;
        }
        let behind = self.outstanding().saturating_sub(mss);
        self.recovery.sacked = (self.recovery.sacked + mss).min(behind);
        news.delivered = self.recovery.sacked.saturating_sub(news.sacked_before);
        self.recovery.duplicates = self.recovery.duplicates.saturating_add(1);
        // RFC 6582, section 3.2: not unless more than the last recovery's end is acknowledged: what was sent again
        // without need makes duplicates at that point.
        let begins = matches!(self.recovery.phase, Phase::Open | Phase::Disorder | Phase::Reduced)
            && self.snd.una != self.recovery.point;
        begins && self.recovery.duplicates >= DUPLICATES && self.mark_first_lost(umem)
    }

    fn mark_first_lost(&mut self, umem: &mut Umem) -> bool {
        let Some(first) = self.snd.queue.first().filter(|&first| first != self.snd.unsent) else { return false };
        let fresh = umem.note(first).marks & mark::LOST == 0;
        if fresh {
            self.mark_lost(first, umem);
        }
        fresh
    }

    /// The retransmission timer ran out (RFC 6298, section 5.4 to 5.7).
    pub(super) fn time_out(&mut self, now: Instant, umem: &mut Umem, shared: &mut Shared) {
        shared.counters.timeouts += 1;
        let first = self.recovery.timeouts == 0;
        let flight = self.outstanding();
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        let begins = first && self.recovery.phase != Phase::Loss;
        self.mark_all_lost(umem, shared);
        if !self.sack_ok {
            self.recovery.sacked = 0;
        }
        self.recovery.duplicates = 0;
        self.recovery.phase = Phase::Loss;
        self.recovery.point = self.snd.nxt;
        self.recovery.rack.probe_pending = false;
        let mut before = None;
        if self.state.is_synchronized() {
            before = self.congestion.on_timeout(flight, self.snd.nxt, u32::from(self.snd.mss), first);
            self.tell_of_reduction();
        }
        if begins {
            self.begin_undo(before, shared);
        } else if let Some(repair) = self.recovery.repair.get_mut(&mut shared.repairs) {
            repair.before = before.or(repair.before);
        }
        // RFC 6298, section 5.5: the host MUST set RTO <- RTO * 2 ("back off the timer").
        self.rtt.back_off();
        (self.timers.send_at, self.timers.send_kind) = (now + self.rtt.rto(), SendTimer::Retransmission);
    }
}
