//! Header prediction (Van Jacobson; RFC 7323, section 4.2): the segment that is expected next on a connection with which
//! nothing is amiss. Nearly all are, and what SEGMENT ARRIVES comes to for them is a part of what it does for all; what it
//! checks one thing after the other, one look tells.

use super::ack::Progress;
use super::receive::Arrival;
use super::segment::Segment;
use super::state::State;
use super::tcb::Tcb;
use super::{Events, Shared, Verdict};
use crate::base::{Frame, Instant, Note, Umem};
use crate::wire::tcp::Flags;

/// Control bits of a segment that is expected, PSH aside.
const USUAL: Flags = Flags::ACK;

impl Tcb {
    /// Whether a segment is the next one in order, in one chunk, and says nothing but how much arrived.
    #[inline(always)]
    pub(super) fn expects(&self, segment: &Segment) -> bool {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        self.state == State::Established
            && segment.flags.without(Flags::PSH) == USUAL
            && segment.seq == self.rcv.nxt
            && segment.len <= self.receive_window()
            && segment.ack.since(una) <= nxt.since(una)
            && !(self.ecn.on && segment.congestion_experienced)
            && !segment.is_long
            && self.rcv.out_of_order.is_idle()
            && self.has_expected_timestamps(segment)
    }

    /// Whether timestamps are there where they were agreed on, and not older than what was seen (RFC 7323, section 5.3).
    #[inline(always)]
    fn has_expected_timestamps(&self, segment: &Segment) -> bool {
        let is_new = |(value, _): (u32, u32)| value.wrapping_sub(self.ts.recent).cast_signed() >= 0;
        !self.ts.on || segment.options.timestamps.is_some_and(is_new)
    }

    /// Digests such a segment.
    #[inline(always)]
    pub(super) fn take_expected(&mut self, arrival: Arrival<'_>, shared: &mut Shared, umem: &mut Umem) -> Verdict {
        let Arrival { segment, frame, now } = arrival;
        // RFC 7323, section 4.3, (2): TS.Recent is what the segment says that the acknowledgment point lies in.
        if let Some((value, _)) = segment.options.timestamps
            && self.ts.on
            && segment.seq == self.rcv.acked
        {
            self.ts.set_recent(value, now);
        }
        (self.timers.heard_at, self.timers.keep_alive_probes) = (now, 0);
        let Progress { acked } = self.take_ack(segment, now, umem, shared);
        let events = Events { writable: acked > 0 && self.wishes.wants_room, ..Events::NONE };
        if segment.len == 0 {
            return Verdict { events, ..Verdict::taken(Some(frame)) };
        }
        if !shared.memory.receive.allows(self.holdings().receive) {
            return self.take_text_somehow(frame, segment, events, shared, now, umem);
        }
        *umem.note_mut(&frame) = Note { seq: segment.seq.value(), sum: segment.sum, ..Note::EMPTY };
        self.append(frame, false, umem);
        self.schedule_ack(false, now);
        Verdict { events: Events { data: true, ..events }, ..Verdict::taken(None) }
    }

    /// Text for which memory is short.
    #[inline(never)]
    fn take_text_somehow(
        &mut self,
        frame: Frame,
        segment: &Segment,
        events: Events,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> Verdict {
        self.take_text(frame, segment, events, shared, now, umem)
    }
}
