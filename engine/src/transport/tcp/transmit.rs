//! What a connection sends next: lost segments, new ones, probes, acknowledgments (RFC 9293, section 3.8).

use super::long::{Span, sum_of};
use super::pacing::Rate;
use super::sack::seq_len;
use super::scoreboard::STEPS;
use super::state::State;
use super::tcb::{Phase, Probe, SendTimer, Tcb, mark};
use super::{Outgoing, Shared};
use crate::base::{Instant, Queued, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::Flags;

/// What there is to send.
#[derive(Debug)]
pub(super) enum Next {
    /// A segment.
    Segment(Outgoing),
    /// Nothing.
    Nothing,
    /// Something, but no chunk of packet memory to build it in.
    Starved,
}

/// No retransmission timeout is shorter than the timers' tick.
const SHORTEST_RTO_NS: u64 = 1_000_000;

/// What keeps a new segment back.
enum Hold {
    Nothing,
    /// The peer's window, or silly-window avoidance.
    Window,
    /// The congestion window.
    Congestion,
    /// Nagle's algorithm.
    Nagle,
}

impl Tcb {
    /// The next segment to send.
    #[inline(never)]
    pub(super) fn next_segment(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        if self.timers.probe == Probe::Window {
            self.timers.probe = Probe::No;
            return self.send_control(shared, now, umem, self.snd.una + u32::MAX);
        }
        if !self.waits_for_its_pace(shared, now) {
            match self.next_with_text(shared, now, umem) {
                Next::Nothing => {}
                next => return next,
            }
        }
        if self.rcv.ack_now && self.state != State::SynSent {
            return self.send_control(shared, now, umem, self.snd.nxt);
        }
        Next::Nothing
    }

    /// The next segment that takes up sequence numbers: a lost one, a new one, or a probe.
    fn next_with_text(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        if self.recovery.lost > self.recovery.retransmitted
            && let Some(next) = self.retransmit(shared, now, umem)
        {
            return next;
        }
        if self.finishing && !self.snd.fin_queued {
            self.queue_fin(umem);
            if !self.snd.fin_queued {
                return Next::Starved;
            }
        }
        match self.send_new(shared, now, umem) {
            Next::Nothing => {}
            sent => {
                if self.timers.probe == Probe::Loss && matches!(sent, Next::Segment(_)) {
                    shared.counters.loss_probes += 1;
                    self.recovery.rack.probed(self.snd.nxt, false);
                    self.timers.probe = Probe::No;
                }
                return sent;
            }
        }
        if std::mem::replace(&mut self.timers.probe, Probe::No) == Probe::Loss {
            return self.send_loss_probe(shared, now, umem);
        }
        Next::Nothing
    }

    /// Whether segments are paced, and it is not yet time for the next one.
    #[inline]
    fn waits_for_its_pace(&mut self, shared: &Shared, now: Instant) -> bool {
        let waits = shared.config.pacing && self.pacing.next_send_time() > now;
        self.timers.paced |= waits;
        waits
    }

    /// Takes note that so many bytes were sent.
    #[inline(always)]
    pub(super) fn sent(&mut self, bytes: u32, shared: &Shared, now: Instant) {
        self.congestion.on_sent(bytes);
        self.timers.sent_at = now;
        if shared.config.pacing
            && let Some(srtt) = self.rtt.srtt()
        {
            let rate = Rate { window: self.congestion.window(), ssthresh: self.congestion.ssthresh(), srtt };
            self.pacing.on_sent(now, bytes, &rate);
        }
    }

    /// Whether there may be something to send.
    #[inline]
    pub(super) fn has_something(&self) -> bool {
        self.rcv.ack_now
            || self.timers.probe != Probe::No
            || self.recovery.lost > self.recovery.retransmitted
            || self.snd.unsent != Queued::NONE
            || (self.finishing && !self.snd.fin_queued)
    }

    /// Sends the first lost segment again, if the congestion window allows.
    ///
    /// RFC 9293, section 3.8.6 (SHLD-16, MAY-7): the peer's window, which may have shrunk, is not looked at.
    fn retransmit(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Option<Next> {
        let place = self.first_lost(umem)?;
        let in_flight = self.in_flight();
        // RFC 6582, section 3.2: without SACK, what an acknowledgment of a part tells of is sent again at once.
        let is_next = !self.sack_ok && self.recovery.phase == Phase::Recovery && Some(place) == self.snd.queue.first();
        let window = self.congestion.window();
        if in_flight > 0 && !is_next && in_flight + seq_len(umem, place) > window {
            self.window_limited = true;
            return None;
        }
        let mss = u32::from(self.snd.mss);
        if umem.is_shared(place) || !self.fits(place, mss, shared, umem) {
            return None;
        }
        let span = self.span_of_lost(place, mss.min(window.saturating_sub(in_flight)), umem);
        Some(self.send_again(&span, shared, now, umem))
    }

    /// The first segment that is lost and was not sent again.
    fn first_lost(&mut self, umem: &mut Umem) -> Option<Queued> {
        let mut next = self.recovery.lost_hint.some().or(self.snd.queue.first());
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let marks = umem.note(place).marks;
            if marks & (mark::LOST | mark::RETRANSMITTED) == mark::LOST {
                self.recovery.lost_hint = place;
                return Some(place);
            }
            next = if marks & mark::SACKED != 0 {
                Self::behind_run(place, &mut { STEPS }, umem)
            } else {
                umem.next(place)
            };
        }
        None
    }

    fn send_again(&mut self, span: &Span, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        let next = self.send_queued(span, SeqNum::new(umem.note(span.first).seq), shared, now, umem);
        if !matches!(next, Next::Segment(_)) {
            return next;
        }
        shared.counters.retransmitted += 1;
        self.recovery.retransmits = self.recovery.retransmits.saturating_add(1);
        let mut place = span.first;
        for _ in 0..span.frames {
            self.mark_sent_again(place, shared, now, umem);
            self.recovery.lost_hint = place;
            place = umem.next(place).unwrap_or(place);
        }
        let len = span.len();
        if let Some(repair) = self.recovery.repair.get_mut(&mut shared.repairs) {
            repair.sent_again(SeqNum::new(umem.note(span.first).seq), len, self.ts.value(now));
        }
        self.sent(len, shared, now);
        if self.timers.send_at == Instant::ZERO {
            self.arm_send_timer(now, None);
        }
        next
    }

    fn mark_sent_again(&mut self, place: Queued, shared: &mut Shared, now: Instant, umem: &mut Umem) {
        let (len, marks) = (seq_len(umem, place), umem.note(place).marks);
        if marks & mark::RETRANSMITTED == 0 {
            if marks & mark::LOST == 0 {
                self.recovery.lost += len;
            }
            self.recovery.retransmitted += len;
        }
        self.note_sent_again(SeqNum::new(umem.note(place).seq) + len, shared);
        umem.annotate(place, |note| {
            note.marks |= mark::LOST | mark::RETRANSMITTED | mark::EVER_RETRANSMITTED;
            note.sent_at = now;
            note.sends = note.sends.saturating_add(1);
        });
    }

    /// Sends the first segment that was never sent, if nothing holds it back.
    fn send_new(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        let Some(place) = self.snd.unsent.some() else { return Next::Nothing };
        if !self.state.is_synchronized() && umem.note(place).marks & mark::SYN == 0 {
            return Next::Nothing;
        }
        self.restart_after_idle(shared, now);
        let usable = self.usable_window();
        let mss = u32::from(self.snd.mss);
        let most = mss.min(usable);
        let span = self.span_of_unsent(place, mss, umem);
        // With nothing under way, and room for all of it, nothing can hold it back.
        if self.outstanding() == 0 && span.len() <= most {
            return self.send_unsent(&span, shared, now, umem);
        }
        match self.hold(&span, umem) {
            Hold::Nothing => {}
            // RFC 8985, section 7.3: a probe is new text if there is any that the peer has room for.
            Hold::Congestion | Hold::Nagle if self.timers.probe == Probe::Loss => {}
            Hold::Window => {
                self.wait_for_window(now);
                return Next::Nothing;
            }
            Hold::Congestion => {
                self.window_limited = true;
                return Next::Nothing;
            }
            Hold::Nagle => return Next::Nothing,
        }
        if !self.fits(place, most, shared, umem) {
            return if self.is_cut_up(place, shared) { Next::Nothing } else { Next::Starved };
        }
        let mut span = self.span_of_unsent(place, most, umem);
        // A FIN for which the window has no room goes on its own, later.
        if span.len() > usable {
            if !self.split(span.last, u32::from(umem.queued_len(span.last)), shared, umem) {
                return Next::Starved;
            }
            span.marks &= !mark::FIN;
        }
        self.send_unsent(&span, shared, now, umem)
    }

    /// Sends frames that were never sent before.
    fn send_unsent(&mut self, span: &Span, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        let (seq, len) = (self.snd.nxt, span.len());
        let was_idle = self.outstanding() == 0;
        let next = self.send_queued(span, seq, shared, now, umem);
        if !matches!(next, Next::Segment(_)) {
            return next;
        }
        let (mut place, mut at) = (span.first, seq);
        loop {
            umem.annotate(place, |note| {
                (note.seq, note.sent_at, note.sends) = (at.value(), now, 1);
                note.marks &= mark::SYN | mark::FIN;
            });
            if place == span.last {
                break;
            }
            at += u32::from(umem.queued_len(place));
            place = umem.next(place).unwrap_or(span.last);
        }
        shared.counters.sent += u64::from(span.marks & mark::SYN == 0);
        self.snd.nxt += len;
        self.snd.unsent_len -= span.text;
        self.snd.unsent = umem.next(span.last).unwrap_or(Queued::NONE);
        if self.snd.unsent == Queued::NONE {
            self.window_limited = false;
        }
        self.sent(len, shared, now);
        self.time_new(was_idle, now);
        next
    }

    /// Times what was sent for the first time.
    #[inline(always)]
    pub(super) fn time_new(&mut self, was_idle: bool, now: Instant) {
        if was_idle {
            self.timers.stuck_since = now;
        }
        let rto_ns = self.rtt.rto_ns();
        let probe_ns = self.probe_timeout_ns().filter(|&probe_ns| probe_ns < rto_ns);
        // RFC 6298, section 5.1: the timer is started if it does not run; and RFC 8985, section 7.2: every new segment
        // puts the probe off, but that which is one.
        let puts_off = probe_ns.is_some() && self.timers.probe != Probe::Loss;
        if was_idle || puts_off || self.timers.send_at == Instant::ZERO {
            (self.timers.send_at, self.timers.send_kind) = match probe_ns {
                Some(probe_ns) => (now.plus_ns(probe_ns), SendTimer::LossProbe),
                None => (now.plus_ns(rto_ns), SendTimer::Retransmission),
            };
        }
    }

    /// The next segment, where that is nothing but a frame of text that was never sent, and nothing keeps it back: what
    /// [`next_segment`](Self::next_segment) comes to nearly always.
    #[inline(always)]
    pub(super) fn next_ordinary(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Option<Outgoing> {
        let place = self.snd.unsent.some()?;
        let (note, text, behind) = umem.queued_and_next(place)?;
        if note.marks & (mark::SYN | mark::FIN) != 0 || !self.has_ordinary_text(shared) {
            return None;
        }
        let was_idle = self.outstanding() == 0;
        if !self.may_send_now(text.into(), behind.is_none()) || (was_idle && self.was_idle_for_long(now)) {
            return None;
        }
        let mut frame = umem.share(place)?;
        // RFC 9293, section 3.9.1.2 (MUST-61): the sender MUST set the PSH bit in the last buffered segment.
        let is_last = behind.is_none_or(|next| umem.queued_len(next) == 0);
        let flags = if is_last { Flags::ACK | Flags::PSH } else { Flags::ACK };
        let seq = self.snd.nxt;
        if !self.build_ordinary(&mut frame, flags, (text, sum_of(place, &note, umem)), shared, now, umem) {
            umem.free(frame);
            return None;
        }
        umem.annotate(place, |note| {
            (note.seq, note.sent_at, note.sends, note.marks) = (seq.value(), now, 1, 0);
        });
        shared.counters.sent += 1;
        self.snd.nxt += u32::from(text);
        self.snd.unsent_len -= u32::from(text);
        self.snd.unsent = behind.unwrap_or(Queued::NONE);
        self.window_limited &= behind.is_some();
        self.sent(text.into(), shared, now);
        self.time_new(was_idle, now);
        let doubts_way = std::mem::take(&mut self.timers.doubts_way);
        Some(Outgoing { frame, segments: 1, class: self.wishes.class, shared: true, doubts_way })
    }

    /// Whether there is nothing to send but text, each frame as a segment.
    #[inline(always)]
    pub(super) fn has_ordinary_text(&self, shared: &Shared) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
            && self.timers.probe == Probe::No
            && self.recovery.lost <= self.recovery.retransmitted
            && !(self.snd.urgent | self.ecn.on | shared.config.pacing | self.gathers())
            && self.rcv.out_of_order.is_idle()
    }

    /// Whether neither window, the peer's and that of congestion, nor Nagle's algorithm keeps a segment back: of a whole
    /// frame, the same as [`hold`](Self::hold).
    #[inline(always)]
    fn may_send_now(&self, len: u32, is_last: bool) -> bool {
        let (outstanding, mss) = (self.outstanding(), u32::from(self.snd.mss));
        let fits = len > 0 && len <= mss && outstanding + len <= self.snd.wnd;
        fits && (outstanding == 0
            || (self.in_flight() + len <= self.congestion.window() && !(self.wishes.nagle && is_last && len < mss)))
    }

    /// Whether [`restart_after_idle`](Self::restart_after_idle) may have something to do.
    #[inline(always)]
    pub(super) fn was_idle_for_long(&self, now: Instant) -> bool {
        now.ns_since(self.timers.sent_at) > SHORTEST_RTO_NS && now.ns_since(self.timers.sent_at) > self.rtt.rto_ns()
    }

    /// What keeps the first unsent frames back.
    fn hold(&self, span: &Span, umem: &Umem) -> Hold {
        let (len, text) = (span.len(), span.text);
        let mss = u32::from(self.snd.mss);
        let segment = len.min(mss + 1);
        let usable = self.usable_window();
        // RFC 9293, section 3.8.6.2.1 (MUST-38): a TCP implementation MUST include a SWS avoidance algorithm in the
        // sender: a part of a frame is sent only if it is a whole segment, or half of the largest window ever.
        let needed = if text == 0 { len } else { text.min(mss) };
        let largest = if self.overridden_wnd == 0 { self.snd.max_wnd } else { self.overridden_wnd.into() };
        if needed > usable && usable < mss.min((largest / 2).max(1)) {
            return Hold::Window;
        }
        let in_flight = self.in_flight();
        if in_flight > 0 && in_flight + segment.min(usable) > self.congestion.window() {
            return Hold::Congestion;
        }
        // RFC 9293, section 3.7.4 (SHLD-7, MUST-17, MAY-16): Nagle's algorithm, unless the application has disabled it:
        // what is less than a segment and the last there is waits until everything is acknowledged.
        //
        // RFC 9293, section 3.9.1.2 (MUST-60): data MUST NOT be buffered indefinitely: what is under way is acknowledged, or
        // the connection is given up.
        let is_last = umem.next(span.last).is_none();
        let finishes = span.marks & (mark::FIN | mark::SYN) != 0;
        if self.wishes.nagle && is_last && len < mss && !finishes && self.outstanding() > 0 {
            return Hold::Nagle;
        }
        Hold::Nothing
    }

    /// Makes the frame at most `most` bytes long: what is more goes into a frame of its own behind it. `false` if
    /// there is no memory for that.
    fn fits(&mut self, place: Queued, most: u32, shared: &Shared, umem: &mut Umem) -> bool {
        u32::from(umem.queued_len(place)) <= most || most > 0 && self.split(place, most, shared, umem)
    }

    /// Moves what a frame has behind its first `most` bytes, and a FIN, to a frame of its own behind it. `false` if
    /// there is no memory for that, or if the device still has the frame.
    fn split(&mut self, place: Queued, most: u32, shared: &Shared, umem: &mut Umem) -> bool {
        if self.is_cut_up(place, shared) || umem.is_shared(place) {
            return false;
        }
        let Some(mut rest) = umem.alloc() else { return false };
        let (note, at) = (*umem.note(place), most as u16);
        if !umem.copy_queued(place, at, &mut rest) {
            umem.free(rest);
            return false;
        }
        *umem.note_mut(&rest) = note;
        umem.note_mut(&rest).seq = note.seq.wrapping_add(most);
        let behind = self.snd.queue.insert_after(umem, Some(place), rest);
        umem.truncate(place, at);
        umem.annotate(place, |note| note.marks &= !mark::FIN);
        super::reassembly::sum_anew(umem, place);
        super::reassembly::sum_anew(umem, behind);
        true
    }

    /// Whether a queue holds so many frames that none is cut further but the first, which everything waits for (as Linux does
    /// since CVE-2019-11478): what keeps the others back is acknowledged soon.
    fn is_cut_up(&self, place: Queued, shared: &Shared) -> bool {
        self.snd.queue.len() >= 2 * shared.config.most_frames() && self.snd.queue.first() != Some(place)
    }

    /// Sends new text, or the last segment again (RFC 8985, section 7.3).
    fn send_loss_probe(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        let Some(last) = self.last_sent(umem) else { return Next::Nothing };
        if umem.is_shared(last) || umem.note(last).marks & mark::SACKED != 0 {
            return Next::Nothing;
        }
        let (note, span) = (*umem.note(last), Span::of(last, umem));
        let len = span.len();
        let next = self.send_queued(&span, SeqNum::new(note.seq), shared, now, umem);
        if matches!(next, Next::Segment(_)) {
            shared.counters.loss_probes += 1;
            self.recovery.rack.probed(SeqNum::new(note.seq) + len, true);
            self.note_sent_again(SeqNum::new(note.seq) + len, shared);
            umem.annotate(last, |note| {
                note.marks |= mark::EVER_RETRANSMITTED;
                note.sent_at = now;
                note.sends = note.sends.saturating_add(1);
            });
            self.sent(len, shared, now);
        }
        next
    }

    /// The last frame that was sent.
    fn last_sent(&self, umem: &Umem) -> Option<Queued> {
        if self.snd.unsent == Queued::NONE {
            return self.snd.queue.last();
        }
        let (mut last, mut next) = (None, self.snd.queue.first());
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            last = Some(place);
            next = umem.next(place);
        }
        last
    }

    /// Puts FIN on the last unsent frame, or queues a frame for it alone.
    pub(super) fn queue_fin(&mut self, umem: &mut Umem) {
        if self.snd.unsent != Queued::NONE
            && let Some(last) = self.snd.queue.last()
        {
            umem.annotate(last, |note| note.marks |= mark::FIN);
            self.snd.fin_queued = true;
            return;
        }
        let Some(frame) = umem.alloc() else { return };
        *umem.note_mut(&frame) = crate::base::Note { marks: mark::FIN, ..crate::base::Note::EMPTY };
        let place = self.snd.queue.push(umem, frame);
        if self.snd.unsent == Queued::NONE {
            self.snd.unsent = place;
        }
        self.snd.fin_queued = true;
    }

    /// RFC 5681, section 4.1: after an idle time the window starts anew.
    #[inline]
    fn restart_after_idle(&mut self, shared: &mut Shared, now: Instant) {
        let is_idle = now.ns_since(self.timers.sent_at) > self.rtt.rto_ns();
        if is_idle && self.outstanding() == 0 && self.timers.sent_at != Instant::ZERO {
            let idle = now.since(self.timers.sent_at);
            if self.congestion.on_idle(idle, self.rtt.rto(), u32::from(self.snd.mss)) {
                self.recovery.repair.take(&mut shared.repairs);
            }
            self.timers.sent_at = now;
        }
    }

    /// Nothing is under way, and the peer's window keeps everything back: it has to be probed.
    ///
    /// RFC 9293, section 3.8.6.1 (MUST-35, MUST-36, SHLD-29): the probing of zero (offered) windows MUST be supported;
    /// the first probe is sent when the window was closed for the retransmission timeout.
    fn wait_for_window(&mut self, now: Instant) {
        if self.outstanding() > 0 || self.timers.send_at != Instant::ZERO {
            return;
        }
        if self.timers.stuck_since == Instant::ZERO {
            self.timers.stuck_since = now;
        }
        (self.timers.send_at, self.timers.send_kind) = (now + self.rtt.rto(), SendTimer::WindowProbe);
    }

    /// RFC 9293, section 3.8.6.1 (SHLD-30): the interval between successive probes increases exponentially.
    ///
    /// The window stayed closed, or too small for a segment, for the time that the timer was set to: the second is
    /// overridden (RFC 9293, section 3.8.6.2.1), the first probed.
    pub(super) fn probe_window(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        self.rtt.back_off();
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        (self.timers.send_at, self.timers.send_kind) = (now + self.rtt.rto(), SendTimer::WindowProbe);
        shared.counters.window_probes += 1;
        let usable = self.usable_window();
        if usable > 0
            && let Some(place) = self.snd.unsent.some()
            && self.fits(place, usable, shared, umem)
        {
            self.overridden_wnd = self.snd.wnd.min(u32::from(u16::MAX)) as u16;
        } else {
            self.timers.probe = Probe::Window;
        }
    }
}
