//! What arrives behind a gap: held in the frames that it came in, sorted, and told to the peer (RFC 2018, RFC 2883).
//!
//! ```text
//!    rcv.nxt                                              window's right edge
//!      |   gap    [ 100..200 )[ 200..250 )   gap   [ 400..500 )      |
//!                 \_____ one SACK block _/         \ another /
//! ```
//!
//! Frames without a gap between them make a run, of which the first knows the last ([`Note::set_run`](crate::base::Note)):
//! whoever looks for the place of a new one goes from run to run, and there are not many (CVE-2018-5390 is what happens
//! otherwise). It usually belongs at the end, which is found at once. Where data overlaps, what was there first stays,
//! unless a new frame covers a run, or overlaps what is next in order (RFC 9293 leaves it open; so does Linux).

use super::tcb::mark;
use crate::base::{Frame, FrameQueue, Queued, Umem};
use crate::structure::aside::Aside;
use crate::structure::slab::Slab;
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::SackBlocks;

/// Blocks that are remembered: as many as fit into a SACK option beside timestamps (RFC 2018, section 3).
const BLOCKS: usize = 3;

/// Runs of a connection at most: a window of a megabyte of which every other segment is lost has 362, and a peer that
/// sends every other byte any number. Text that would make one more is dropped, and comes again.
const RUNS: u32 = 512;

/// Text that is copied behind what it continues, bytes at most: half of what the smallest chunk holds.
pub(super) const WORTH_JOINING: u32 = 896;

/// Frames behind gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    queue: FrameQueue,
    /// Runs in it, and the last one's first frame.
    runs: u32,
    last_run: Option<Queued>,
    /// Text in it, bytes.
    bytes: u32,
    /// The block that the latest frame is in, then those reported before it (RFC 2018, section 4).
    blocks: [(SeqNum, SeqNum); BLOCKS],
    count: u8,
    /// What arrived a second time and is to be reported once (RFC 2883, section 4).
    duplicate: Option<(SeqNum, SeqNum)>,
}

/// What became of a frame.
#[derive(Debug)]
pub(super) enum Insertion {
    /// It is held.
    Held,
    /// Everything in it was there already.
    Duplicate(Frame),
    /// The table of gaps is full, or there are too many.
    NoRoom(Frame),
}

/// What a connection has behind gaps: of most connections nothing, which takes eight bytes.
#[derive(Debug, Default)]
pub(super) struct OutOfOrder {
    gaps: Aside,
    frames: u32,
}

impl OutOfOrder {
    /// Frames held.
    #[inline]
    pub(super) const fn len(&self) -> u32 {
        self.frames
    }

    /// Whether none is held.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Whether there is nothing held and nothing to report.
    #[inline]
    pub(super) const fn is_idle(&self) -> bool {
        self.gaps.is_none()
    }

    /// What there is.
    pub(super) fn get<'a>(&self, all: &'a Slab<Gaps>) -> Option<&'a Gaps> {
        self.gaps.get(all)
    }

    /// Whether there is something to report.
    #[inline]
    pub(super) fn has_report(&self, all: &Slab<Gaps>) -> bool {
        self.get(all).is_some_and(Gaps::has_report)
    }

    /// See [`Gaps::note_duplicate`].
    pub(super) fn note_duplicate(&mut self, all: &mut Slab<Gaps>, start: SeqNum, end: SeqNum) {
        if let Some(gaps) = self.gaps.get_or_default(all) {
            gaps.note_duplicate(start, end);
        }
    }

    /// See [`Gaps::insert`].
    pub(super) fn insert(&mut self, all: &mut Slab<Gaps>, umem: &mut Umem, frame: Frame) -> Insertion {
        let Some(gaps) = self.gaps.get_or_default(all) else { return Insertion::NoRoom(frame) };
        let insertion = gaps.insert(umem, frame);
        self.frames = gaps.len();
        insertion
    }

    /// See [`Gaps::take`].
    pub(super) fn take(&mut self, all: &mut Slab<Gaps>, umem: &mut Umem, nxt: SeqNum) -> Option<Frame> {
        let gaps = self.gaps.get_mut(all)?;
        let frame = gaps.take(umem, nxt);
        self.frames = gaps.len();
        frame
    }

    /// See [`Gaps::acknowledged`].
    #[inline]
    pub(super) fn acknowledged(&mut self, all: &mut Slab<Gaps>, nxt: SeqNum) {
        if let Some(gaps) = self.gaps.get_mut(all) {
            gaps.acknowledged(nxt);
            self.leave_if_idle(all);
        }
    }

    /// See [`Gaps::sack_blocks`].
    pub(super) fn sack_blocks(&mut self, all: &mut Slab<Gaps>, most: usize) -> SackBlocks {
        let blocks = self.gaps.get_mut(all).map_or_else(SackBlocks::default, |gaps| gaps.sack_blocks(most));
        self.leave_if_idle(all);
        blocks
    }

    /// See [`Gaps::clear`].
    pub(super) fn clear(&mut self, all: &mut Slab<Gaps>, umem: &mut Umem) -> u32 {
        self.frames = 0;
        self.gaps.take(all).map_or(0, |mut gaps| gaps.clear(umem))
    }

    fn leave_if_idle(&mut self, all: &mut Slab<Gaps>) {
        if self.get(all).is_some_and(Gaps::is_idle) {
            self.gaps.take(all);
        }
    }
}

impl Gaps {
    /// Frames held.
    #[inline]
    pub(super) const fn len(&self) -> u32 {
        self.queue.len()
    }

    /// Whether there is nothing held and nothing to report.
    #[inline]
    const fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.has_report()
    }

    /// Text held, bytes.
    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether the runs are written down as they are. For audits.
    pub(super) fn runs_hold(&self, umem: &Umem) -> bool {
        let (mut runs, mut last_run, mut next) = (0, None, self.queue.first());
        while let Some(first) = next {
            let run = Run::of(umem, first);
            let mut last = first;
            while let Some(behind) = umem.next(last)
                && SeqNum::new(umem.note(behind).seq) == end_of(umem, last)
            {
                last = behind;
            }
            if (run.last, run.end) != (last, end_of(umem, last)) {
                return false;
            }
            (runs, last_run, next) = (runs + 1, Some(first), umem.next(last));
        }
        (runs, last_run) == (self.runs, self.last_run)
    }

    /// The first frame held.
    #[inline]
    pub(super) const fn first(&self) -> Option<Queued> {
        self.queue.first()
    }

    /// Takes note that text arrived which was there already.
    const fn note_duplicate(&mut self, start: SeqNum, end: SeqNum) {
        self.duplicate = Some((start, end));
    }

    /// Holds a frame of text that starts at its note's sequence number.
    fn insert(&mut self, umem: &mut Umem, frame: Frame) -> Insertion {
        let note = *umem.note_mut(&frame);
        let (seq, len) = (SeqNum::new(note.seq), u32::from(frame.len()));
        let end = seq + len + fin_len(note.marks);
        let before = self.run_before(umem, seq);
        let known = before.map_or(seq, |before| before.end);
        if before.is_some() && known.after_eq(end) {
            self.note_duplicate(seq, end);
            return Insertion::Duplicate(frame);
        }
        // The run that it belongs to, if it does not begin one.
        let run = before.filter(|_| known.after_eq(seq));
        if run.is_none() && self.runs >= RUNS {
            return Insertion::NoRoom(frame);
        }
        self.bytes += len;
        let place = match run {
            Some(run) if known == seq && is_joinable(umem, run.last, &frame) && join(umem, run.last, &frame) => {
                umem.free(frame);
                run.last
            }
            _ => {
                let place = self.queue.insert_after(umem, before.map(|before| before.last), frame);
                if run.is_some() {
                    self.cut_front(umem, place, known.since(seq));
                }
                place
            }
        };
        let first = run.map_or(place, |run| run.first);
        self.runs += u32::from(run.is_none());
        let (last, end) = self.meet_next(umem, place);
        umem.annotate(first, |note| note.set_run(last, end.value()));
        if umem.next(last).is_none() {
            self.last_run = Some(first);
        }
        self.report(SeqNum::new(umem.note(first).seq), end);
        Insertion::Held
    }

    /// The last run that starts at or before `seq`.
    fn run_before(&self, umem: &Umem, seq: SeqNum) -> Option<Run> {
        let starts_before = |run: &Run| SeqNum::new(umem.note(run.first).seq).before_eq(seq);
        if let Some(last) = self.last_run.map(|first| Run::of(umem, first)).filter(starts_before) {
            return Some(last);
        }
        let mut before = None;
        let mut next = self.queue.first().map(|first| Run::of(umem, first));
        while let Some(run) = next.filter(starts_before) {
            next = umem.next(run.last).map(|first| Run::of(umem, first));
            before = Some(run);
        }
        before
    }

    /// Frees runs that the frame at the end of another covers, cuts the frame off where the run behind it starts, and joins
    /// the two if they touch. Says what the run ends with, and where.
    fn meet_next(&mut self, umem: &mut Umem, place: Queued) -> (Queued, SeqNum) {
        while let Some(first) = umem.next(place) {
            let (next, end) = (Run::of(umem, first), end_of(umem, place));
            let start = SeqNum::new(umem.note(first).seq);
            if end.before(start) {
                break;
            }
            if next.end.after(end) {
                if end.after(start) {
                    let (len, left) = (umem.queued_len(place), start.since(SeqNum::new(umem.note(place).seq)));
                    umem.truncate(place, left as u16);
                    umem.annotate(place, |note| note.marks &= !mark::FIN);
                    self.bytes -= u32::from(len).saturating_sub(left);
                    sum_anew(umem, place);
                }
                self.runs -= 1;
                return (next.last, next.end);
            }
            let mut is_last = false;
            while !is_last && let Some(covered) = umem.next(place) {
                is_last = covered == next.last;
                self.bytes -= u32::from(umem.queued_len(covered));
                self.queue.release_after(umem, Some(place));
            }
            self.runs -= 1;
        }
        (place, end_of(umem, place))
    }

    /// Takes out the first frame if it continues at `nxt`; what lies before `nxt` is cut off.
    fn take(&mut self, umem: &mut Umem, nxt: SeqNum) -> Option<Frame> {
        let first = self.queue.first()?;
        let (note, run) = (*umem.note(first), Run::of(umem, first));
        let start = SeqNum::new(note.seq);
        if start.after(nxt) {
            return None;
        }
        if run.last == first {
            self.runs -= 1;
            self.last_run = self.last_run.filter(|&last| last != first);
        } else if let Some(next) = umem.next(first) {
            umem.annotate(next, |note| note.set_run(run.last, run.end.value()));
            self.last_run = self.last_run.map(|last| if last == first { next } else { last });
        }
        self.cut_front(umem, first, nxt.since(start));
        self.bytes -= u32::from(umem.queued_len(first));
        self.queue.pop(umem)
    }

    /// Forgets blocks that lie before `nxt`: they are acknowledged in the ordinary way now.
    fn acknowledged(&mut self, nxt: SeqNum) {
        if self.queue.is_empty() {
            self.count = 0;
            return;
        }
        let mut kept = 0;
        for at in 0..usize::from(self.count) {
            if self.blocks[at].1.after(nxt) {
                self.blocks[kept] = self.blocks[at];
                kept += 1;
            }
        }
        self.count = kept as u8;
    }

    /// The blocks to report, at most `most`, of which a duplicate comes first (RFC 2883, section 4) and only once.
    fn sack_blocks(&mut self, most: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if most == 0 {
            return blocks;
        }
        if let Some((start, end)) = self.duplicate.take() {
            blocks.push(start, end);
        }
        for &(start, end) in self.blocks.iter().take(usize::from(self.count).min(most - blocks.len())) {
            blocks.push(start, end);
        }
        blocks
    }

    /// Whether there is something to report.
    #[inline]
    const fn has_report(&self) -> bool {
        self.count > 0 || self.duplicate.is_some()
    }

    /// Frees everything: the peer keeps what was not acknowledged in the ordinary way (RFC 2018, section 8 allows
    /// a receiver to discard what it reported), and says how many frames there were.
    fn clear(&mut self, umem: &mut Umem) -> u32 {
        (self.bytes, self.count, self.runs, self.last_run) = (0, 0, 0, None);
        self.queue.clear(umem)
    }

    fn cut_front(&mut self, umem: &mut Umem, place: Queued, bytes: u32) {
        if bytes == 0 {
            return;
        }
        let cut = bytes.min(u32::from(umem.queued_len(place)));
        umem.trim_front(place, cut as u16);
        umem.annotate(place, |note| note.seq = note.seq.wrapping_add(bytes));
        sum_anew(umem, place);
        self.bytes -= cut;
    }

    /// Puts the block that a new frame belongs to in front of the others (RFC 2018, section 4).
    fn report(&mut self, mut start: SeqNum, mut end: SeqNum) {
        let mut kept = 0;
        for at in 0..usize::from(self.count) {
            let block = self.blocks[at];
            if block.0.after(end) || block.1.before(start) {
                self.blocks[kept] = block;
                kept += 1;
            } else {
                (start, end) = (start.min(block.0), end.max(block.1));
            }
        }
        let count = kept.min(BLOCKS - 1);
        self.blocks.copy_within(..count, 1);
        self.blocks[0] = (start, end);
        self.count = count as u8 + 1;
    }
}

/// Frames without a gap between them.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Queued,
    last: Queued,
    /// The number behind the last one.
    end: SeqNum,
}

impl Run {
    /// The run of which this is the first frame.
    fn of(umem: &Umem, first: Queued) -> Self {
        let (last, end) = umem.note(first).run();
        Self { first, last, end: SeqNum::new(end) }
    }
}

/// Whether a frame is small enough to be copied behind another, and neither has a FIN.
fn is_joinable(umem: &mut Umem, last: Queued, frame: &Frame) -> bool {
    (umem.note(last).marks | umem.note_mut(frame).marks) == 0 && u32::from(frame.len()) <= WORTH_JOINING
}

/// Copies a frame's text, with its sum on its note, behind that of a queued one; `false`, and no change, if it does not fit
/// there.
pub(super) fn join(umem: &mut Umem, place: Queued, frame: &Frame) -> bool {
    let (before, behind) = (umem.note(place).sum, umem.note_mut(frame).sum);
    let len = usize::from(umem.queued_len(place));
    let joined = umem.extend_by_frame(place, frame);
    if joined {
        let sum = Sum::default().add_piece(before, 0).add_piece(behind, len).fold();
        umem.annotate(place, |note| note.sum = sum);
    }
    joined
}

/// Makes a queued frame's sum that of the bytes that it has now.
pub(super) fn sum_anew(umem: &mut Umem, place: Queued) {
    let sum = Sum::default().add_bytes(umem.queued_bytes(place)).fold();
    umem.annotate(place, |note| note.sum = sum);
}

#[inline]
pub(super) const fn fin_len(marks: u8) -> u32 {
    (marks & mark::FIN != 0) as u32
}

/// The sequence number behind a frame.
fn end_of(umem: &Umem, place: Queued) -> SeqNum {
    let note = umem.note(place);
    SeqNum::new(note.seq) + u32::from(umem.queued_len(place)) + fin_len(note.marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, UmemConfig};

    fn umem() -> Umem {
        Umem::new(UmemConfig { chunks: 64, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
    }

    /// Sequence numbers in these tests start shortly before they wrap.
    const BASE: u32 = u32::MAX - 150;

    fn seq(n: u32) -> SeqNum {
        SeqNum::new(BASE) + n
    }

    /// Text of which each byte says where in the stream it belongs.
    fn insert(ooo: &mut Gaps, umem: &mut Umem, range: std::ops::Range<u32>) -> bool {
        let mut frame = umem.alloc().unwrap();
        assert!(umem.set_len(&mut frame, range.len()));
        let bytes = umem.bytes_mut(&mut frame);
        range.clone().zip(bytes).for_each(|(n, byte)| *byte = n as u8);
        umem.note_mut(&frame).seq = seq(range.start).value();
        match ooo.insert(umem, frame) {
            Insertion::Held => true,
            Insertion::Duplicate(frame) | Insertion::NoRoom(frame) => {
                umem.free(frame);
                false
            }
        }
    }

    fn blocks(ooo: &mut Gaps) -> Vec<(u32, u32)> {
        ooo.sack_blocks(4).as_slice().iter().map(|&(a, b)| (a.since(seq(0)), b.since(seq(0)))).collect()
    }

    fn drain(ooo: &mut Gaps, umem: &mut Umem, from: u32) -> u32 {
        let mut nxt = from;
        while let Some(frame) = ooo.take(umem, seq(nxt)) {
            for &byte in umem.bytes(&frame) {
                assert_eq!(byte, nxt as u8);
                nxt += 1;
            }
            umem.free(frame);
        }
        ooo.acknowledged(seq(nxt));
        nxt
    }

    /// RFC 2018, section 4: the first SACK block MUST specify the contiguous block of data containing the segment
    /// which triggered this ACK; then the most recently reported ones.
    #[test]
    fn the_latest_block_is_reported_first() {
        let (mut umem, mut ooo) = (umem(), Gaps::default());
        assert!(insert(&mut ooo, &mut umem, 100..200));
        assert!(insert(&mut ooo, &mut umem, 300..400));
        assert!(insert(&mut ooo, &mut umem, 500..600));
        assert_eq!(blocks(&mut ooo), [(500, 600), (300, 400), (100, 200)]);
        assert!(insert(&mut ooo, &mut umem, 200..300));
        assert_eq!(blocks(&mut ooo), [(100, 400), (500, 600)]);
        assert_eq!(drain(&mut ooo, &mut umem, 100), 400);
        assert_eq!(blocks(&mut ooo), [(500, 600)]);
        assert_eq!(ooo.clear(&mut umem), 1);
        assert_eq!(umem.free_chunks(), 64);
    }

    /// RFC 2883, section 4: duplicate contiguous sequences of data are reported at most once, in the first block.
    #[test]
    fn a_duplicate_is_reported_once_and_in_front() {
        let (mut umem, mut ooo) = (umem(), Gaps::default());
        insert(&mut ooo, &mut umem, 100..200);
        assert!(!insert(&mut ooo, &mut umem, 120..180));
        assert_eq!(blocks(&mut ooo), [(120, 180), (100, 200)]);
        assert_eq!(blocks(&mut ooo), [(100, 200)]);
        ooo.clear(&mut umem);
    }

    #[test]
    fn overlaps_are_cut_and_every_byte_comes_out_once() {
        let mut rng = 12345_u32;
        for round in 0..2000 {
            let (mut umem, mut ooo) = (umem(), Gaps::default());
            let mut covered = [false; 300];
            for _ in 0..12 {
                rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let start = 1 + (rng >> 8) % 250;
                let len = 1 + (rng >> 20) % 40;
                insert(&mut ooo, &mut umem, start..start + len);
                covered[start as usize..(start + len) as usize].fill(true);
                let held = covered.iter().filter(|&&byte| byte).count();
                assert_eq!(ooo.bytes() as usize, held, "round {round}");
            }
            let mut nxt = 0;
            while let Some(start) = (nxt..300).find(|&n| covered[n as usize]) {
                let end = (start..300).find(|&n| !covered[n as usize]).unwrap_or(300);
                assert_eq!(drain(&mut ooo, &mut umem, start), end, "round {round}");
                nxt = end;
            }
            assert_eq!((umem.free_chunks(), ooo.bytes()), (64, 0));
        }
    }
}
