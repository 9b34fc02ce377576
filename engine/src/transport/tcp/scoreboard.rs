//! Where to look in a send queue that may be long, so that an acknowledgment costs the same however much is under way
//! (CVE-2019-11478 is what happens otherwise).
//!
//! ```text
//!   una                                                                            nxt
//!    | lost | sent again | SACKED ------------> run | lost | lost | SACKED -> | not judged yet ... |
//!                                                                ^ sack_from  ^ loss_from
//! ```
//!
//! - What the peer reported before brings no news: only what a block adds to those of the last option is looked for.
//! - That mostly lies behind where was looked last; it is found from there.
//! - Frames that the peer has stand in runs, each written on the first frame that a walk came upon
//!   ([`Note::set_run`](crate::base::Note::set_run)): the next walk goes over it in one step.
//! - Frames are lost in the order in which they were sent, so whoever looks for lost ones begins at the first of which that
//!   is not known yet.

use super::Shared;
use super::tcb::{Tcb, mark};
use crate::base::{Queued, Umem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::MAX_SACK_BLOCKS;

/// Frames and runs that one acknowledgment looks at for what brings no news: a block is a hint, and one that is farther
/// away is found by the next ones.
pub(super) const STEPS: u32 = 1024;

/// A frame on the send queue, and its number: no longer there when that is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) place: Queued,
    pub(super) seq: SeqNum,
}

impl Default for Mark {
    fn default() -> Self {
        Self { place: Queued::NONE, seq: SeqNum::default() }
    }
}

/// What is remembered of a connection whose peer has sent SACK options, until it has everything that these told of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scoreboard {
    /// The blocks of the last option, in order.
    pub(super) blocks: [(SeqNum, SeqNum); MAX_SACK_BLOCKS],
    /// Where a block was last looked for.
    pub(super) sack_from: Mark,
    /// The first frame that was sent once and is neither reported nor lost.
    pub(super) loss_from: Mark,
    /// Where the last of what was sent again ends, if that is known.
    pub(super) again_end: Option<SeqNum>,
}

impl Scoreboard {
    /// What a block adds to those of the last option: all of it or what lies behind one that it begins in; `None` if that
    /// is nothing.
    pub(super) fn news_of(&self, (mut start, end): (SeqNum, SeqNum)) -> Option<(SeqNum, SeqNum)> {
        for &(known_start, known_end) in &self.blocks {
            if known_start.before_eq(start) && start.before(known_end) {
                start = known_end;
            }
        }
        start.before(end).then_some((start, end))
    }
}

impl Tcb {
    /// What is remembered; an empty one if there is nothing yet.
    pub(super) fn scoreboard(&mut self, shared: &mut Shared) -> Scoreboard {
        self.recovery.rack.scoreboard.get_or_default(&mut shared.scoreboards).copied().unwrap_or_default()
    }

    /// Remembers it.
    pub(super) fn remember(&self, scoreboard: Scoreboard, shared: &mut Shared) {
        if let Some(place) = self.recovery.rack.scoreboard.get_mut(&mut shared.scoreboards) {
            *place = scoreboard;
        }
    }

    /// Forgets it: nothing that was reported is under way, or it is not believed any more.
    pub(super) fn forget_scoreboard(&mut self, shared: &mut Shared) {
        self.recovery.rack.scoreboard.take(&mut shared.scoreboards);
    }

    /// The frame to begin at: that of a mark, if it is still there and no later than `seq`, or the first one.
    pub(super) fn begin_at(&self, from: Mark, seq: SeqNum, umem: &Umem) -> Option<Queued> {
        let may_be_there = from.seq.within(self.snd.una, self.outstanding()) && from.seq.before_eq(seq);
        let is_there = |place: &Queued| may_be_there && umem.note(*place).seq == from.seq.value();
        from.place.some().filter(is_there).or(self.snd.queue.first())
    }

    /// The frame behind one that the peer has, and behind those that follow it which it has too.
    pub(super) fn behind_run(place: Queued, steps: &mut u32, umem: &mut Umem) -> Option<Queued> {
        let (mut last, _) = umem.note(place).run();
        let mut next = umem.next(last);
        *steps = steps.saturating_sub(1);
        while *steps > 0
            && let Some(behind) = next.filter(|&behind| umem.note(behind).marks & mark::SACKED != 0)
        {
            (last, _) = umem.note(behind).run();
            next = umem.next(last);
            *steps -= 1;
        }
        umem.annotate(place, |note| note.set_run(last, 0));
        next
    }
}
