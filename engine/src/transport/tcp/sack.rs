//! The sender's scoreboard: which segments under way the peer has, by its SACK options (RFC 2018, RFC 6675, RFC 2883).
//!
//! The scoreboard is the send queue itself: a frame that the peer reported is marked, and kept all the same, for
//! a receiver may go back on its word until the ordinary acknowledgment passes (RFC 2018, section 8).

use super::Shared;
use super::scoreboard::{Mark, STEPS};
use super::tcb::{Tcb, mark};
use crate::base::{Instant, Note, Queued, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{MAX_SACK_BLOCKS, SackBlocks};

/// What is known after a block was looked at.
struct Reach {
    /// Bytes that were not known to have arrived before.
    fresh: u32,
    /// Up to where the block can bring no news any more.
    end: SeqNum,
}

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
        shared: &mut Shared,
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
        if sorted.iter().all(|(start, end)| start == end) {
            return news;
        }
        news.any = true;
        let mut scoreboard = self.scoreboard(shared);
        let mut steps = STEPS;
        for block in &mut sorted {
            let Some((start, end)) = scoreboard.news_of(*block) else { continue };
            let reach = self.mark_sacked((start, end), &mut scoreboard.sack_from, &mut steps, now, ts_ecr, umem);
            news.bytes += reach.fresh;
            // What was not reached, or covers a frame in part, is no less news the next time.
            block.1 = reach.end;
        }
        scoreboard.blocks = sorted;
        self.remember(scoreboard, shared);
        news
    }

    /// Marks the frames that lie in a block, from the first that begins in it on, and says how far they are known now and how
    /// many bytes of them are news.
    fn mark_sacked(
        &mut self,
        (start, end): (SeqNum, SeqNum),
        from: &mut Mark,
        steps: &mut u32,
        now: Instant,
        ts_ecr: Option<u32>,
        umem: &mut Umem,
    ) -> Reach {
        let mut reach = Reach { fresh: 0, end };
        let mut next = self.begin_at(*from, start, umem);
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let note = *umem.note(place);
            let seq = SeqNum::new(note.seq);
            if seq.after_eq(end) {
                break;
            }
            *from = Mark { place, seq };
            if *steps == 0 {
                reach.end = seq.max(start);
                break;
            }
            if note.marks & mark::SACKED != 0 {
                next = Self::behind_run(place, steps, umem);
                continue;
            }
            let len = seq_len(umem, place);
            // RFC 2018, section 5.1 goes by whole segments: one that is covered in part is not acknowledged.
            if seq.after_eq(start) && (seq + len).before_eq(end) {
                self.unmark(place, len, umem);
                umem.annotate(place, |note| {
                    note.marks |= mark::SACKED;
                    note.set_run(place, 0);
                });
                self.recovery.sacked += len;
                self.delivered_segment(&note, seq + len, now, ts_ecr);
                reach.fresh += len;
            } else {
                *steps -= 1;
                if seq.after_eq(start) {
                    reach.end = seq;
                }
            }
            next = umem.next(place);
        }
        reach
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
    pub(super) fn mark_all_lost(&mut self, umem: &mut Umem, shared: &mut Shared) {
        self.forget_scoreboard(shared);
        let first = self.snd.queue.first();
        let reneged = first.is_some_and(|place| umem.note(place).marks & mark::SACKED != 0);
        let mut next = first;
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            if reneged || umem.note(place).marks & mark::SACKED == 0 {
                let len = seq_len(umem, place);
                if umem.note(place).marks & mark::SACKED != 0 {
                    self.unmark(place, len, umem);
                    // When it was sent is not known any more.
                    umem.annotate(place, |note| {
                        (note.sent_at, note.marks) = (Instant::ZERO, note.marks | mark::EVER_RETRANSMITTED);
                    });
                }
                self.mark_lost(place, umem);
            }
            next = umem.next(place);
        }
    }

    /// Forgets that anything is lost: the repair was needless.
    pub(super) fn unmark_lost(&mut self, umem: &mut Umem, shared: &mut Shared) {
        if let Some(scoreboard) = self.recovery.rack.scoreboard.get_mut(&mut shared.scoreboards) {
            scoreboard.loss_from = Mark::default();
        }
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
