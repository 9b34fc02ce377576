//! SEGMENT ARRIVES for a connection that has a control block, in the order of RFC 9293, section 3.10.7.4.

use std::time::Duration;

use super::ack::Progress;
use super::reassembly::{Insertion, WORTH_JOINING};
use super::segment::{Control, Segment};
use super::state::State;
use super::tcb::{Tcb, mark};
use super::{End, Events, Shared, Verdict};
use crate::base::{DropReason, Frame, Instant, Note, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Options};

/// The longest that an acknowledgment is held back for a second segment or for an answer to travel with. RFC 9293,
/// section 3.8.6.3 (MUST-40): the delay MUST be less than 0.5 seconds; Linux: 40 ms.
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// Answers a second that a connection gives to segments which it does not accept (RFC 5961, section 7).
const CHALLENGES: u8 = 5;

/// A segment with the frame that its text lies in.
pub(super) struct Arrival<'a> {
    pub(super) segment: &'a Segment,
    pub(super) frame: Frame,
    pub(super) now: Instant,
}

impl Tcb {
    /// Digests a segment for this connection.
    #[inline(never)]
    pub(super) fn segment_arrives(&mut self, arrival: Arrival<'_>, shared: &mut Shared, umem: &mut Umem) -> Verdict {
        let (segment, now) = (arrival.segment, arrival.now);
        if self.state == State::SynSent {
            return self.in_syn_sent(arrival, shared, umem);
        }
        // First, check sequence number; before that, RFC 7323, section 5.3 (PAWS).
        if let Err(reason) = self.check_timestamp(segment, now) {
            return self.refuse_with_ack(arrival.frame, segment, reason, shared, now);
        }
        let ends_handshake = self.is_ack_of_both_syns(segment);
        if !ends_handshake && !self.is_acceptable(segment) {
            if segment.has(Flags::RST) {
                return Verdict::dropped(arrival.frame, DropReason::TcpOutOfWindow);
            }
            self.note_old_text(segment, shared);
            if self.is_sent_again(segment) {
                // It did not hear our acknowledgment.
                self.timers.doubts_way = true;
            }
            return self.refuse_with_ack(arrival.frame, segment, DropReason::TcpOutOfWindow, shared, now);
        }
        // Second, check the RST bit.
        if segment.has(Flags::RST) {
            return self.take_reset(arrival.frame, segment, shared, now);
        }
        // Fourth, check the SYN bit.
        if segment.has(Flags::SYN) && !ends_handshake {
            return self.take_syn(arrival.frame, segment, shared, now);
        }
        // Fifth, check the ACK field.
        if !segment.has(Flags::ACK) {
            return Verdict::dropped(arrival.frame, DropReason::TcpNoAck);
        }
        self.synchronized(arrival, shared, umem)
    }

    /// From the fifth step on.
    fn synchronized(&mut self, arrival: Arrival<'_>, shared: &mut Shared, umem: &mut Umem) -> Verdict {
        let Arrival { segment, frame, now, .. } = arrival;
        let mut events = Events::default();
        let in_handshake = self.state == State::SynReceived;
        // RFC 9293, section 3.10.7.4: if SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state.
        if in_handshake && !(segment.ack.after(self.snd.una) && segment.ack.before_eq(self.snd.nxt)) {
            return shared.answered(frame, DropReason::TcpBadAck, Control::reset_for(segment));
        }
        if segment.ack.after(self.snd.nxt) {
            // RFC 9293, section 3.10.7.4: if the ACK acks something not yet sent, then send an ACK, drop the segment.
            return self.refuse_with_ack(frame, segment, DropReason::TcpBadAck, shared, now);
        }
        if segment.ack.before(self.snd.una) && self.snd.una.since(segment.ack) > self.snd.max_wnd {
            // RFC 9293, section 3.10.7.4 (MAY-12): RFC 5961, section 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK, or else it
            // is discarded and an ACK sent back.
            return self.refuse_with_ack(frame, segment, DropReason::TcpBadAck, shared, now);
        }
        // Only now is anything of it believed: whoever knows the ports alone guesses a number in the window more easily
        // than one that is acknowledged, too.
        self.update_recent_timestamp(segment, now);
        self.take_congestion_mark(segment);
        (self.timers.heard_at, self.timers.keep_alive_probes) = (now, 0);
        if in_handshake {
            if self.recovery.timeouts > 0 {
                self.begin_with_care();
            }
            self.establish(segment, shared, now);
            events.opened = true;
        }
        if segment.ack.after_eq(self.snd.una) {
            let Progress { acked } = self.take_ack(segment, now, umem, shared);
            events.writable = acked > 0 && self.wishes.wants_room && self.state.may_send();
            if self.fin_is_acknowledged()
                && let Some(end) = self.our_fin_is_acknowledged(now, shared)
            {
                return Verdict { events: Events { closed: Some(end), ..events }, ..Verdict::taken(Some(frame)) };
            }
        }
        // Sixth, check the URG bit.
        if segment.has(Flags::URG) {
            events.urgent = self.take_urgent(segment);
        }
        // Seventh, process the segment text; eighth, check the FIN bit.
        self.take_text(frame, segment, events, shared, now, umem)
    }

    /// The handshake is over.
    pub(super) fn establish(&mut self, segment: &Segment, shared: &mut Shared, now: Instant) {
        self.state = if self.finishing { State::FinWait1 } else { State::Established };
        // RFC 9293, section 3.10.7.4: SND.WND <- SEG.WND, SND.WL1 <- SEG.SEQ, SND.WL2 <- SEG.ACK.
        let snd = &mut self.snd;
        snd.wnd = u32::from(segment.window) << if segment.has(Flags::SYN) { 0 } else { snd.shift };
        (snd.wl1, snd.wl2, snd.max_wnd) = (segment.seq, segment.ack, snd.wnd);
        self.timers.idle_at = Instant::ZERO;
        self.timers.heard_at = now;
        self.arm_keep_alive(now);
        shared.counters.opened += 1;
    }

    /// RFC 9293, section 3.10.7.4, first: whether a part of the segment lies in the receive window.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let (nxt, wnd, len) = (self.rcv.nxt, self.receive_window(), segment.seq_len());
        if wnd == 0 {
            // RFC 9293, section 3.4 (MUST-66): with a window of zero, RST and URG of incoming segments still have to be
            // processed, and so has ACK: the text is cut off.
            return segment.seq == nxt;
        }
        segment.seq.within(nxt, wnd)
            || (len > 0 && (segment.end() + u32::MAX).within(nxt, wnd))
            || (len > 0 && segment.seq.before(nxt) && segment.end().after(nxt))
            // A pure acknowledgment from the right edge of a window that was filled meanwhile.
            || (len == 0 && segment.seq == nxt + wnd)
    }

    /// RFC 9293, section 3.5, figure 7: when both sides asked at once, the peer's SYN comes again and with it the
    /// acknowledgment of ours. Its number lies before the window by then, but it ends the handshake all the same (as on
    /// Linux).
    fn is_ack_of_both_syns(&self, segment: &Segment) -> bool {
        self.state == State::SynReceived
            && segment.has(Flags::SYN | Flags::ACK)
            && !segment.has(Flags::RST)
            && (segment.end(), segment.seq_len()) == (self.rcv.nxt, 1)
            && segment.ack == self.snd.nxt
    }

    /// RFC 7323, section 5.3: protection against wrapped sequence numbers; and section 3.2: once timestamps were
    /// agreed on, a segment without them SHOULD be dropped, but for RST.
    fn check_timestamp(&self, segment: &Segment, now: Instant) -> Result<(), DropReason> {
        if !self.ts.on || segment.has(Flags::RST) {
            return Ok(());
        }
        let Some((value, _)) = segment.options.timestamps else {
            return Err(DropReason::TcpNoTimestamp);
        };
        let older = (value.wrapping_sub(self.ts.recent) as i32) < 0;
        if older && !self.ts.recent_is_stale(now) { Err(DropReason::TcpOldTimestamp) } else { Ok(()) }
    }

    /// RFC 7323, section 4.3, (2): TS.Recent is what the segment says that the acknowledgment point lies in.
    fn update_recent_timestamp(&mut self, segment: &Segment, now: Instant) {
        if self.ts.on
            && let Some((value, _)) = segment.options.timestamps
            && segment.seq.before_eq(self.rcv.acked)
            && ((value.wrapping_sub(self.ts.recent) as i32) >= 0 || self.ts.recent_is_stale(now))
        {
            self.ts.set_recent(value, now);
        }
    }

    /// RFC 9293, section 3.8.2 (SHLD-8): ECN; RFC 3168, section 6.1.3: a mark is echoed in every acknowledgment until
    /// the sender says CWR.
    fn take_congestion_mark(&mut self, segment: &Segment) {
        if !self.ecn.on {
            return;
        }
        if segment.has(Flags::CWR) {
            self.ecn.echo = false;
        }
        if segment.congestion_experienced {
            self.ecn.echo = true;
        }
    }

    /// Whether it is text that was received lately: its acknowledgment did not arrive, perhaps because it was sent the
    /// wrong way.
    fn is_sent_again(&self, segment: &Segment) -> bool {
        let span = u32::from(u16::MAX);
        segment.len > 0
            && segment.has(Flags::ACK)
            && (self.rcv.nxt - span).before_eq(segment.seq)
            && segment.end().before_eq(self.rcv.nxt)
            && segment.ack.before_eq(self.snd.nxt)
            && segment.ack.after_eq(self.snd.una - self.snd.max_wnd.min(1 << 30))
    }

    /// RFC 2883, section 4: what arrived long ago and arrives again is reported.
    fn note_old_text(&mut self, segment: &Segment, shared: &mut Shared) {
        if self.sack_ok && segment.len > 0 && segment.end().before_eq(self.rcv.nxt) {
            self.rcv.out_of_order.note_duplicate(&mut shared.gaps, segment.seq, segment.seq + segment.len);
        }
    }

    /// Drops a segment that is not accepted, and answers with an acknowledgment (RFC 9293, section 3.10.7.4): always
    /// where there was text, for that may be a retransmission whose acknowledgment was lost; otherwise within a limit,
    /// so that two ends that disagree do not talk for ever. Like all acknowledgments it goes out when all segments of
    /// the turn are processed.
    fn refuse_with_ack(
        &mut self,
        frame: Frame,
        segment: &Segment,
        reason: DropReason,
        shared: &mut Shared,
        now: Instant,
    ) -> Verdict {
        if reason == DropReason::TcpNoTimestamp {
            return Verdict::dropped(frame, reason);
        }
        let is_old_text = segment.seq_len() > 0 && !segment.has(Flags::SYN) && reason != DropReason::TcpBadAck;
        if !is_old_text && !self.may_challenge(now) {
            shared.counters.challenges_suppressed += 1;
            return Verdict::dropped(frame, reason);
        }
        self.rcv.ack_now = true;
        Verdict::dropped(frame, reason)
    }

    /// RFC 5961, section 7: the number of challenge ACKs is limited, here for each connection by itself: a common
    /// limit would tell one peer about the connections of another (CVE-2016-5696).
    fn may_challenge(&mut self, now: Instant) -> bool {
        let second = (now.as_ns() / 1_000_000_000) as u16;
        if self.timers.challenge_second != second {
            (self.timers.challenge_second, self.timers.challenges) = (second, 0);
        }
        self.timers.challenges = self.timers.challenges.saturating_add(1);
        self.timers.challenges <= CHALLENGES
    }

    /// RFC 5961, section 3.2: a reset counts if it is exactly the next number; elsewhere in the window it is
    /// challenged.
    ///
    /// RFC 9293, section 3.5.3 (SHLD-2): a received RST segment may include data, which nobody looks at. Section 3.6
    /// (MUST-12): the application is told that the connection was aborted.
    fn take_reset(&mut self, frame: Frame, segment: &Segment, shared: &mut Shared, now: Instant) -> Verdict {
        if segment.seq != self.rcv.nxt {
            shared.counters.challenges += 1;
            return self.refuse_with_ack(frame, segment, DropReason::TcpReset, shared, now);
        }
        let end = match self.state {
            // RFC 9293, section 3.10.7.4: initiated with an active OPEN: signal "connection refused".
            State::SynReceived => End::Refused,
            // RFC 1337, section 3 (F1): an old reset does not end what is over already.
            State::TimeWait => return Verdict::dropped(frame, DropReason::TcpReset),
            _ => End::Reset,
        };
        shared.counters.resets_received += 1;
        Verdict { events: Events { closed: Some(end), ..Events::default() }, ..Verdict::taken(Some(frame)) }
    }

    /// RFC 5961, section 4.2: a SYN in a synchronized state is challenged, wherever its number lies. In SYN-RECEIVED
    /// it is the peer's own again (both asked at once), whose acknowledgment was lost.
    fn take_syn(&mut self, frame: Frame, segment: &Segment, shared: &mut Shared, now: Instant) -> Verdict {
        shared.counters.challenges += 1;
        self.refuse_with_ack(frame, segment, DropReason::TcpSyn, shared, now)
    }

    /// Our FIN is acknowledged: the connection is over, if that was the last thing to wait for.
    fn our_fin_is_acknowledged(&mut self, now: Instant, shared: &Shared) -> Option<End> {
        let Some(next) = self.state.fin_acknowledged() else { return Some(End::Finished) };
        if next == State::FinWait2 && self.state == State::FinWait1 && !self.active {
            self.timers.idle_at = now + shared.config.fin_wait_2;
        }
        let is_over = next == State::TimeWait && self.state == State::Closing;
        self.state = next;
        if next == State::FinWait2 && self.active {
            self.arm_keep_alive(now);
        }
        is_over.then_some(End::Finished)
    }

    /// RFC 9293, section 3.10.7.4, sixth: RCV.UP <- max(RCV.UP, SEG.UP). Whether it is news that urgent data lies
    /// ahead; the text itself stays in line (RFC 6093).
    ///
    /// RFC 9293, section 3.8.5 (MUST-30, MUST-32): the application is told when there was no urgent data before, and
    /// whenever the pointer advances. (MUST-31, MUST-62): the pointer names the octet behind the urgent data, of any
    /// length.
    fn take_urgent(&mut self, segment: &Segment) -> bool {
        let up = segment.seq + u32::from(segment.urgent);
        let is_news = self.state.takes_text() && up.after(self.rcv.nxt) && (!self.rcv.urgent || up.after(self.rcv.up));
        if is_news {
            (self.rcv.up, self.rcv.urgent) = (up, true);
        }
        is_news
    }

    /// RFC 9293, section 3.10.7.4, seventh and eighth.
    ///
    /// A part of its one caller on the fast path, whatever else calls it.
    #[inline(always)]
    pub(super) fn take_text(
        &mut self,
        mut frame: Frame,
        segment: &Segment,
        mut events: Events,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> Verdict {
        if segment.len == 0 && !segment.has(Flags::FIN) {
            return Verdict { events, ..Verdict::taken(Some(frame)) };
        }
        if !self.state.takes_text() {
            // RFC 9293, section 3.10.7.4: this should not occur, since a FIN has been received from the remote side:
            // ignore the segment text. A FIN that comes again is acknowledged again.
            self.rcv.ack_now = true;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpAfterFin) };
        }
        if umem.is_chain(&frame) {
            return self.take_long_text(frame, segment, events, shared, now, umem);
        }
        let Some(fin) = self.cut_to_window(&mut frame, segment, shared, umem) else {
            self.rcv.ack_now = true;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpOutOfWindow) };
        };
        let seq = SeqNum::new(umem.note_mut(&frame).seq);
        if frame.is_empty() && !fin {
            self.rcv.ack_now = true;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpDuplicate) };
        }
        // A FIN alone needs no chunk, where it is next.
        let has_room = (frame.is_empty() && seq == self.rcv.nxt)
            || shared.memory.receive.allows(self.holdings().receive)
            || self.is_promised(&shared.memory);
        if !has_room && !self.make_room(shared, umem, seq) {
            shared.counters.out_of_memory += 1;
            self.rcv.ack_now = true;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpNoMemory) };
        }
        if seq != self.rcv.nxt {
            return self.take_out_of_order(frame, events, shared, umem);
        }
        let queued_before = self.rcv.queued;
        let mut finished = self.append(frame, fin, umem);
        let filled_a_gap = !self.rcv.out_of_order.is_empty();
        if filled_a_gap && !finished {
            finished = self.append_what_follows(shared, umem);
        }
        self.rcv.out_of_order.acknowledged(&mut shared.gaps, self.rcv.nxt);
        events.data = self.rcv.queued > queued_before;
        self.schedule_ack(filled_a_gap || finished, now);
        if finished {
            self.rcv.out_of_order.clear(&mut shared.gaps, umem);
            events.finished = true;
            self.peer_finished(now);
        }
        Verdict { events, ..Verdict::taken(None) }
    }

    /// Text behind a gap: held, and the peer told at once (RFC 5681, section 4.2).
    ///
    /// RFC 9293, section 3.10.7.4 (SHLD-31, MAY-13): segments with higher beginning sequence numbers SHOULD be held;
    /// each is answered by an acknowledgment of RCV.NXT.
    fn take_out_of_order(&mut self, frame: Frame, events: Events, shared: &mut Shared, umem: &mut Umem) -> Verdict {
        self.rcv.ack_now = true;
        // What was promised room has it; but small pieces take more of that than they were promised.
        let is_piece = u32::from(frame.len()) <= WORTH_JOINING;
        if shared.memory.receive.is_short() && (is_piece || !self.is_promised(&shared.memory)) {
            shared.counters.out_of_memory += 1;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpNoMemory) };
        }
        match self.rcv.out_of_order.insert(&mut shared.gaps, umem, frame) {
            Insertion::Held => {
                shared.counters.out_of_order += 1;
                Verdict { events, ..Verdict::taken(None) }
            }
            Insertion::Duplicate(frame) => Verdict { events, ..Verdict::dropped(frame, DropReason::TcpDuplicate) },
            Insertion::NoRoom(frame) => {
                shared.counters.out_of_memory += 1;
                Verdict { events, ..Verdict::dropped(frame, DropReason::TcpNoMemory) }
            }
        }
    }

    /// Appends what lay behind a gap that is filled now. Whether the peer finished with it.
    fn append_what_follows(&mut self, shared: &mut Shared, umem: &mut Umem) -> bool {
        let mut finished = false;
        while !finished && let Some(next) = self.rcv.out_of_order.take(&mut shared.gaps, umem, self.rcv.nxt) {
            let fin = umem.note_mut(&next).marks & mark::FIN != 0;
            finished = self.append(next, fin, umem);
        }
        finished
    }

    /// Cuts off what was received before; what stays has its number on its note. Whether there is a FIN at its end;
    /// `None` if it goes beyond the window.
    #[inline]
    fn cut_to_window(
        &mut self,
        frame: &mut Frame,
        segment: &Segment,
        shared: &mut Shared,
        umem: &mut Umem,
    ) -> Option<bool> {
        let (nxt, wnd) = (self.rcv.nxt, self.receive_window());
        if segment.seq == nxt && segment.len <= wnd && !segment.has(Flags::FIN) {
            *umem.note_mut(frame) = Note { seq: nxt.value(), sum: segment.sum, ..Note::EMPTY };
            return Some(false);
        }
        self.cut(frame, segment, shared, umem)
    }

    /// The same of a segment that is not simply the next one.
    #[inline(never)]
    fn cut(&mut self, frame: &mut Frame, segment: &Segment, shared: &mut Shared, umem: &mut Umem) -> Option<bool> {
        let (nxt, wnd) = (self.rcv.nxt, self.receive_window());
        let mut seq = segment.seq;
        let mut fin = segment.has(Flags::FIN);
        let mut sum = segment.sum;
        let mut cut = false;
        if seq.before(nxt) {
            let old = nxt.since(seq).min(u32::from(frame.len()));
            if self.sack_ok && old > 0 {
                self.rcv.out_of_order.note_duplicate(&mut shared.gaps, seq, seq + old);
            }
            let keep = usize::from(frame.len()) - old as usize;
            if !Umem::narrow(frame, old as usize, keep) {
                return None;
            }
            fin &= segment.end().after(nxt);
            (seq, cut) = (seq + old, old > 0);
        }
        // A segment that goes beyond the window is not cut to pieces: what is left of a window that closes is less than
        // a segment (silly-window avoidance keeps it from opening by less), and such a segment probes it. A FIN needs
        // no buffer: the number that it takes up may lie just beyond.
        let room = (nxt + wnd).since(seq).min(wnd);
        if u32::from(frame.len()) > room {
            return None;
        }
        if cut {
            sum = crate::wire::checksum::Sum::default().add_bytes(umem.bytes(frame)).fold();
        }
        let marks = if fin { mark::FIN } else { 0 };
        *umem.note_mut(frame) = Note { seq: seq.value(), sum, marks, ..Note::EMPTY };
        Some(fin)
    }

    /// Memory is short: what lies behind gaps goes first, so that the segment before them has room.
    fn make_room(&mut self, shared: &mut Shared, umem: &mut Umem, seq: SeqNum) -> bool {
        if seq != self.rcv.nxt || self.rcv.out_of_order.is_empty() {
            return false;
        }
        shared.counters.out_of_order_dropped += u64::from(self.rcv.out_of_order.clear(&mut shared.gaps, umem));
        true
    }

    /// Appends text that is next in order to what the application can take. Whether the peer finished with it.
    #[inline(always)]
    pub(super) fn append(&mut self, frame: Frame, fin: bool, umem: &mut Umem) -> bool {
        let len = u32::from(frame.len());
        self.rcv.nxt += len + u32::from(fin);
        self.rcv.queued += len;
        if len == 0 {
            umem.free(frame);
            return fin;
        }
        self.rcv.unacked_segments = self.rcv.unacked_segments.saturating_add(1);
        // Small pieces that the application does not take are moved together, or each would hold a whole chunk.
        let is_small = len < super::SMALL || (self.is_crowded() && len <= u32::from(self.snd.chunk_room / 2));
        if is_small && !self.rcv.queue.is_empty() && self.join_last_received(&frame, umem) {
            umem.free(frame);
            return fin;
        }
        self.rcv.queue.push(umem, frame);
        fin
    }

    /// RFC 9293, section 3.8.6.3 (SHLD-18, SHLD-19): acknowledgments are delayed, but not that of every second
    /// segment; RFC 5681, section 4.2: nor one of a segment that fills a gap.
    #[inline]
    pub(super) fn schedule_ack(&mut self, at_once: bool, now: Instant) {
        if at_once || self.rcv.unacked_segments >= 2 || !self.rcv.out_of_order.is_empty() {
            self.rcv.ack_now = true;
        } else if self.timers.ack_at == Instant::ZERO {
            self.timers.ack_at = now + DELAYED_ACK;
        }
    }

    /// The peer's FIN is in order.
    ///
    /// RFC 9293, section 3.6 (MUST-12): the application is told that the peer finished, and when both have, that the
    /// connection closed normally.
    fn peer_finished(&mut self, now: Instant) {
        self.rcv.ack_now = true;
        self.state = self.state.fin_received();
        self.timers.idle_at = Instant::ZERO;
        if self.state == State::TimeWait {
            // Told when the acknowledgment of the FIN is on its way.
            self.ended = self.ended.or(Some(End::Finished));
        } else {
            self.arm_keep_alive(now);
        }
    }

    /// RFC 9293, section 3.10.7.3: SEGMENT ARRIVES in SYN-SENT.
    fn in_syn_sent(&mut self, arrival: Arrival<'_>, shared: &mut Shared, umem: &mut Umem) -> Verdict {
        let Arrival { segment, frame, now } = arrival;
        let acceptable = segment.ack.after(self.snd.una) && segment.ack.before_eq(self.snd.nxt);
        if segment.has(Flags::ACK) && !acceptable {
            if segment.has(Flags::RST) {
                return Verdict::dropped(frame, DropReason::TcpReset);
            }
            return shared.answered(frame, DropReason::TcpBadAck, Control::reset_for(segment));
        }
        if segment.has(Flags::RST) {
            if !segment.has(Flags::ACK) {
                return Verdict::dropped(frame, DropReason::TcpReset);
            }
            shared.counters.resets_received += 1;
            let events = Events { closed: Some(End::Refused), ..Events::default() };
            return Verdict { events, ..Verdict::taken(Some(frame)) };
        }
        if !segment.has(Flags::SYN) {
            return Verdict::dropped(frame, DropReason::TcpNoSyn);
        }
        self.timers.heard_at = now;
        self.learn_from_syn(segment, shared, now);
        let mut events = Events::default();
        if segment.has(Flags::ACK) {
            let again = self.recovery.timeouts > 0;
            self.snd.shift = segment.options.window_scale.unwrap_or(0).min(14);
            self.take_ack_of_syn(segment, again, shared, now, umem);
            self.establish(segment, shared, now);
            self.rcv.ack_now = true;
            events.opened = true;
        } else {
            // RFC 9293, section 3.5 (MUST-10): simultaneous open: enter SYN-RECEIVED, and send
            // <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>.
            self.state = State::SynReceived;
            self.snd.wnd = u32::from(segment.window);
            self.send_syn_again(umem);
        }
        // Text with a SYN is not taken: the peer sends it again.
        Verdict { events, ..Verdict::taken(Some(frame)) }
    }

    /// The peer's SYN: its numbers and its options.
    fn learn_from_syn(&mut self, segment: &Segment, shared: &Shared, now: Instant) {
        let options: &Options = &segment.options;
        self.rcv.nxt = segment.seq + 1;
        (self.rcv.acked, self.rcv.adv, self.rcv.up) = (self.rcv.nxt, self.rcv.nxt, self.rcv.nxt);
        self.rcv.adv = self.rcv.nxt + self.rcv.limit.min(u32::from(u16::MAX));
        if let Some((value, _)) = options.timestamps {
            self.ts.on = true;
            self.ts.set_recent(value, now);
        } else {
            self.ts.on = false;
        }
        self.sack_ok = options.sack_permitted;
        self.ecn.on = segment.has(Flags::ECE) && !segment.has(Flags::CWR) && self.ecn.on;
        self.snd.scaled = options.window_scale.is_some();
        self.snd.shift = options.window_scale.unwrap_or(0).min(14);
        self.rcv.shift = if self.snd.scaled { self.rcv.shift_offered } else { 0 };
        self.set_peer_mss(options.mss, shared);
    }

    /// Our SYN arrived: the frame that stood for it is done with.
    fn take_ack_of_syn(&mut self, segment: &Segment, again: bool, shared: &mut Shared, now: Instant, umem: &mut Umem) {
        self.take_ack(segment, now, umem, shared);
        if again {
            self.begin_with_care();
        }
    }

    /// RFC 5681, section 3.1 and RFC 6298, section 5.7: what follows a SYN that had to be sent again.
    pub(super) fn begin_with_care(&mut self) {
        self.congestion.after_lost_syn(u32::from(self.snd.mss));
        self.rtt.after_lost_syn();
    }

    /// Marks our SYN as lost, so that it goes out again with what is known now.
    fn send_syn_again(&mut self, umem: &mut Umem) {
        if let Some(first) = self.snd.queue.first().filter(|&first| first != self.snd.unsent) {
            self.mark_lost(first, umem);
        }
    }
}
