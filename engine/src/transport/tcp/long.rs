//! Segments whose text lies in several chunks of packet memory, as they do where the MTU is larger than a chunk.
//!
//! ```text
//!   a segment   | headers, 3774 | 3840 | 1334 |      a chain, as the device received it
//!   received    | seq 0 | seq 3774 | seq 7614 |      frames of their own, each with its number, from here on
//!   to be sent  | 3774 | 3840 | 1334 | 3774 | ...    the same frames, and others
//!   a segment   | headers, 3774 | 3840 | 1334 |      as many of them as it may carry: none is copied
//! ```
//!
//! So queues hold frames of one chunk, whatever the MTU, and what is sent, lost, reported or acknowledged is written on
//! each of them.

use super::segment::Segment;
use super::tcb::{Tcb, mark};
use super::{Events, Shared, Verdict};
use crate::base::{DropReason, Frame, Instant, Note, Queued, Umem};
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::Flags;
use crate::wire::{ethernet, ipv6, tcp};

/// Frames of a segment that is sent at most: of those that zero-copy drivers take (i40e, ice: 8 descriptors).
const MOST_FRAMES: u8 = 8;
/// What all headers together are long at most, bytes: what has to be free in front of a frame that is to be sent.
const MOST_HEADERS: u16 = (ethernet::MAX_LEN + ipv6::LEN + tcp::MAX_LEN) as u16;
/// The same without options of TCP, and with a frame check sequence: what a segment is longer than its IP packet.
const LINK_OVERHEAD: u32 = ethernet::MAX_LEN as u32 + 4;

/// Bytes of text that a chunk with room for `room` bytes of a frame holds, of segments with `mss` bytes of text in IP
/// packets of `mtu`: all of them, or equal parts.
pub(super) fn text_per_chunk(mss: u16, mtu: u32, room: u16) -> u16 {
    let parts = (mtu + LINK_OVERHEAD).div_ceil(u32::from(room.max(1)));
    (u32::from(mss) / parts.max(1)) as u16
}

/// Frames that lie one behind the other in the send queue and go into one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: Queued,
    pub(super) last: Queued,
    pub(super) frames: u8,
    /// Marks of all.
    pub(super) marks: u8,
    /// Sum of their text, folded.
    pub(super) sum: u16,
    /// Bytes of text.
    pub(super) text: u32,
}

impl Span {
    /// One frame.
    #[inline]
    pub(super) fn of(place: Queued, umem: &Umem) -> Self {
        let (note, text) = umem.queued(place);
        Self {
            first: place,
            last: place,
            frames: 1,
            marks: note.marks,
            sum: sum_of(place, &note, umem),
            text: text.into(),
        }
    }

    /// Sequence numbers that it takes up.
    #[inline]
    pub(super) const fn len(&self) -> u32 {
        self.text + (self.marks & mark::SYN != 0) as u32 + (self.marks & mark::FIN != 0) as u32
    }

    /// Takes in what follows, as long as it is text of which nobody has a copy, `belongs`, and comes to no more than
    /// `most` bytes with what is there.
    #[inline(never)]
    fn extend(mut self, most: u32, umem: &Umem, belongs: impl Fn(&Note) -> bool) -> Self {
        while self.frames < MOST_FRAMES
            && self.text > 0
            && self.marks & (mark::SYN | mark::FIN) == 0
            && let Some(next) = umem.next(self.last)
        {
            let (note, text) = umem.queued(next);
            if text == 0 || self.text + u32::from(text) > most || umem.is_shared(next) || !belongs(&note) {
                break;
            }
            let sum = Sum::default().add_piece(self.sum, 0).add_piece(sum_of(next, &note, umem), self.text as usize);
            (self.sum, self.last, self.frames) = (sum.fold(), next, self.frames + 1);
            (self.marks, self.text) = (self.marks | note.marks, self.text + u32::from(text));
        }
        self
    }

    /// A packet of all of it for the device, while it stays on its queue.
    #[inline]
    pub(super) fn share(&self, umem: &mut Umem) -> Option<Frame> {
        if self.frames == 1 {
            umem.share(self.first)
        } else {
            umem.share_run(self.first, self.frames.into(), |_, _| ())
        }
    }
}

/// The sum of a queued frame, folded. Of one that was left open it is 0, as of one that holds nothing but zeros.
#[inline(always)]
pub(super) fn sum_of(place: Queued, note: &Note, umem: &Umem) -> u16 {
    if note.sum != 0 { note.sum } else { add_up(place, umem) }
}

#[inline(never)]
fn add_up(place: Queued, umem: &Umem) -> u16 {
    Sum::default().add_bytes(umem.queued_bytes(place)).fold()
}

impl Tcb {
    /// Whether a segment can be made of several frames.
    #[inline]
    pub(super) const fn gathers(&self) -> bool {
        self.snd.per_chunk < self.snd.mss
    }

    /// The first unsent frames that make a segment with at most `most` bytes of text; the first one in any case.
    #[inline]
    pub(super) fn span_of_unsent(&self, place: Queued, most: u32, umem: &Umem) -> Span {
        let span = Span::of(place, umem);
        if self.gathers() { span.extend(most, umem, |_| true) } else { span }
    }

    /// The same of lost ones that were not sent again.
    #[inline]
    pub(super) fn span_of_lost(&self, place: Queued, most: u32, umem: &Umem) -> Span {
        let span = Span::of(place, umem);
        if !self.gathers() {
            return span;
        }
        span.extend(most, umem, |note| note.marks & (mark::LOST | mark::RETRANSMITTED) == mark::LOST)
    }

    /// RFC 9293, section 3.10.7.4, seventh and eighth, of a segment that lies in several chunks, as if it had come in as
    /// many segments at once, of which only the last has the FIN.
    #[inline(never)]
    pub(super) fn take_long_text(
        &mut self,
        frame: Frame,
        segment: &Segment,
        events: Events,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> Verdict {
        let (nxt, edge, end) = (self.rcv.nxt, self.rcv.adv.max(self.rcv.nxt), segment.seq + segment.len);
        if end.after(edge) {
            // As one of a single chunk, it is not cut to what the window has room for.
            self.rcv.ack_now = true;
            return Verdict { events, ..Verdict::dropped(frame, DropReason::TcpOutOfWindow) };
        }
        let accounts = (self.rcv.unacked_segments, shared.counters.out_of_order);
        let mut long = Long {
            segment,
            events,
            seq: segment.seq,
            taken: false,
            refusal: None,
            left: self.receivable_chunks(&shared.memory).max(1),
        };
        let mut rest = Some(frame);
        while let Some(chain) = rest.take() {
            let (part, behind) = umem.split(chain);
            rest = behind;
            // It is one segment, in however many chunks.
            (self.rcv.unacked_segments, shared.counters.out_of_order) = accounts;
            self.take_part(part, rest.is_none(), &mut long, shared, now, umem);
        }
        if self.sack_ok && segment.seq.before(nxt) {
            self.rcv.out_of_order.note_duplicate(&mut shared.gaps, segment.seq, nxt.min(end));
        } else if self.sack_ok && !long.taken && long.refusal == Some(DropReason::TcpDuplicate) {
            self.rcv.out_of_order.note_duplicate(&mut shared.gaps, segment.seq, end);
        }
        let outcome = long.refusal.filter(|_| !long.taken).map_or(Ok(()), Err);
        Verdict { events: long.events, outcome, ..Verdict::taken(None) }
    }

    #[inline(never)]
    fn take_part(
        &mut self,
        mut part: Frame,
        is_last: bool,
        long: &mut Long<'_>,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) {
        let (seq, len) = (long.seq, u32::from(part.len()));
        long.seq += len;
        // Perhaps it is to be sent back, and then a segment may begin with it.
        let has_room = part.offset() >= MOST_HEADERS || umem.shift(&mut part, MOST_HEADERS);
        if (len == 0 && !is_last) || long.left == 0 || !has_room {
            if len > 0 {
                long.refusal = long.refusal.or(Some(DropReason::TcpNoMemory));
                self.rcv.ack_now = true;
            }
            return umem.free(part);
        }
        let flags = if is_last { long.segment.flags } else { long.segment.flags.without(Flags::FIN) };
        let segment = Segment { seq, len, flags, sum: umem.note_mut(&part).sum, ..*long.segment };
        let held = self.holdings().receive;
        let verdict = self.take_text(part, &segment, Events::default(), shared, now, umem);
        long.left = long.left.saturating_sub(self.holdings().receive.saturating_sub(held));
        long.events.data |= verdict.events.data;
        long.events.finished |= verdict.events.finished;
        match verdict.outcome {
            Ok(()) => long.taken = true,
            Err(reason) => long.refusal = long.refusal.or(Some(reason)),
        }
        if let Some(frame) = verdict.frame {
            umem.free(frame);
        }
    }
}

/// A segment of several chunks that is being taken in.
struct Long<'a> {
    segment: &'a Segment,
    events: Events,
    /// Number of the next chunk's first byte.
    seq: SeqNum,
    /// Whether anything of it was new.
    taken: bool,
    /// Why the first chunk was dropped that was.
    refusal: Option<DropReason>,
    /// Chunks that the connection may still take.
    left: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_spread_over_chunks_in_equal_parts() {
        assert_eq!(text_per_chunk(1448, 1500, 1792), 1448);
        assert_eq!(text_per_chunk(1726 - 12, 1766, 1792), 1714, "the longest packet that a chunk of 2,048 bytes holds");
        assert_eq!(text_per_chunk(8948, 9000, 3840), 2982);
        assert_eq!(text_per_chunk(3762, 3814, 3840), 3762);
        assert_eq!(text_per_chunk(3763, 3815, 3840), 1881);
        assert_eq!(text_per_chunk(48, 1500, 0), 0);
    }
}
