//! The sender's scoreboard: which segments under way the peer has, by its SACK options (RFC 2018, RFC 6675, RFC 2883).
//!
//! The scoreboard is the send queue itself: a frame that the peer reported is marked, and kept all the same, for
//! a receiver may go back on its word until the ordinary acknowledgment passes (RFC 2018, section 8).

use super::tcb::{Tcb, mark};
use crate::base::{Instant, Note, Queued, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{MAX_SACK_BLOCKS, SackBlocks};

/// What the blocks of one acknowledgment said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SackNews {
    /// Bytes that were not known to have arrived before.
    pub(super) bytes: u32,
    /// What arrived twice (RFC 2883).
    pub(super) duplicate: Option<(SeqNum, SeqNum)>,
    /// The block of highest sequence number that was taken.
    pub(super) any: bool,
}

impl Tcb {
    /// Marks what `blocks` report. `ack` is the segment's acknowledgment number; `una` the SND.UNA before it.
    pub(super) fn take_sack(
        &mut self,
        blocks: &SackBlocks,
        ack: SeqNum,
        now: Instant,
        ts_ecr: Option<u32>,
        umem: &mut Umem,
    ) -> SackNews {
        let mut news = SackNews::default();
        let blocks = blocks.as_slice();
        let Some((&first, rest)) = blocks.split_first() else { return news };
        // RFC 2883, section 4: the first block is a duplicate if it lies below the acknowledgment number, or
        // within the second block.
        let below = first.1.before_eq(ack) && first.0.before(ack);
        let within = rest.first().is_some_and(|second| first.0.after_eq(second.0) && first.1.before_eq(second.1));
        let ordinary = if below || within {
            let oldest = ack + 0u32.wrapping_sub(self.snd.max_wnd.max(1 << 16));
            if first.0.before(first.1) && first.0.after(oldest) {
                news.duplicate = Some(first);
            }
            rest
        } else {
            blocks
        };
        // In the order in which they were sent: the latest comes first in the option, and what lies below it would look
        // as if it had been overtaken.
        let una = self.snd.una;
        let mut sorted = [(una, una); MAX_SACK_BLOCKS];
        for (place, &block) in sorted.iter_mut().zip(ordinary) {
            // What was never sent, or is acknowledged already, is no report about the scoreboard.
            let (start, end) = block;
            if start.before(end) && end.before_eq(self.snd.nxt) && end.after(una) {
                *place = block;
            }
        }
        sorted.sort_unstable_by_key(|&(_, end)| end.since(una));
        for (start, end) in sorted.into_iter().filter(|(start, end)| start != end) {
            news.bytes += self.mark_sacked(start, end, now, ts_ecr, umem);
            news.any = true;
        }
        news
    }

    /// Marks the frames that lie in a block, and says how many bytes of them are news.
    fn mark_sacked(&mut self, start: SeqNum, end: SeqNum, now: Instant, ts_ecr: Option<u32>, umem: &mut Umem) -> u32 {
        let mut fresh = 0;
        let mut next = self.snd.queue.first();
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let note = *umem.note(place);
            let seq = SeqNum::new(note.seq);
            if seq.after_eq(end) {
                break;
            }
            let len = seq_len(umem, place);
            // RFC 2018, section 5.1 goes by whole segments: one that is covered in part is not acknowledged.
            if seq.after_eq(start) && (seq + len).before_eq(end) && note.marks & mark::SACKED == 0 {
                self.unmark(place, len, umem);
                umem.annotate(place, |note| note.marks |= mark::SACKED);
                self.recovery.sacked += len;
                self.delivered_segment(&note, seq + len, now, ts_ecr);
                fresh += len;
            }
            next = umem.next(place);
        }
        fresh
    }

    /// Takes a frame's bytes out of the accounts of what is lost, sent again, or acknowledged by SACK.
    pub(super) fn unmark(&mut self, place: Queued, len: u32, umem: &mut Umem) {
        let marks = umem.note(place).marks;
        if marks & (mark::LOST | mark::RETRANSMITTED | mark::SACKED) == 0 {
            return;
        }
        let recovery = &mut self.recovery;
        if marks & mark::LOST != 0 {
            recovery.lost = recovery.lost.saturating_sub(len);
        }
        if marks & mark::RETRANSMITTED != 0 {
            recovery.retransmitted = recovery.retransmitted.saturating_sub(len);
        }
        if marks & mark::SACKED != 0 {
            recovery.sacked = recovery.sacked.saturating_sub(len);
        }
        umem.annotate(place, |note| note.marks &= !(mark::LOST | mark::RETRANSMITTED | mark::SACKED));
    }

    /// Marks a frame as lost; one that was sent again already, as lost once more.
    pub(super) fn mark_lost(&mut self, place: Queued, umem: &mut Umem) {
        let (marks, len) = (umem.note(place).marks, seq_len(umem, place));
        let recovery = &mut self.recovery;
        if marks & mark::LOST == 0 {
            recovery.lost += len;
        }
        if marks & mark::RETRANSMITTED != 0 {
            recovery.retransmitted = recovery.retransmitted.saturating_sub(len);
        }
        umem.annotate(place, |note| note.marks = (note.marks | mark::LOST) & !mark::RETRANSMITTED);
        let hint = recovery.lost_hint.some();
        if hint.is_none_or(|hint| SeqNum::new(umem.note(place).seq).before(SeqNum::new(umem.note(hint).seq))) {
            recovery.lost_hint = place;
        }
    }

    /// Marks everything under way as lost that the peer did not report. After a timeout (RFC 6675, section 5.1).
    ///
    /// RFC 2018, section 8: the data sender MUST retransmit the segment at the left edge of the window after a
    /// retransmit timeout, whether or not the SACKed bit is on for that segment: a receiver that went back on its
    /// word is not believed again, and all its reports are forgotten.
    pub(super) fn mark_all_lost(&mut self, umem: &mut Umem) {
        let first = self.snd.queue.first();
        let reneged = first.is_some_and(|place| umem.note(place).marks & mark::SACKED != 0);
        let mut next = first;
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            if reneged || umem.note(place).marks & mark::SACKED == 0 {
                let len = seq_len(umem, place);
                if umem.note(place).marks & mark::SACKED != 0 {
                    self.unmark(place, len, umem);
                }
                self.mark_lost(place, umem);
            }
            next = umem.next(place);
        }
    }

    /// Forgets that anything is lost: the repair was needless.
    pub(super) fn unmark_lost(&mut self, umem: &mut Umem) {
        let mut next = self.snd.queue.first();
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            umem.annotate(place, |note| note.marks &= !(mark::LOST | mark::RETRANSMITTED));
            next = umem.next(place);
        }
        (self.recovery.lost, self.recovery.retransmitted, self.recovery.lost_hint) = (0, 0, Queued::NONE);
    }
}

/// Sequence numbers that a queued frame takes up: text, SYN and FIN.
#[inline]
pub(super) fn seq_len(umem: &Umem, place: Queued) -> u32 {
    let (note, text) = umem.queued(place);
    seq_len_of(&note, text)
}

/// The same, of a frame with this note and so many bytes of text.
#[inline]
pub(super) const fn seq_len_of(note: &Note, text: u16) -> u32 {
    text as u32 + (note.marks & mark::SYN != 0) as u32 + (note.marks & mark::FIN != 0) as u32
}
