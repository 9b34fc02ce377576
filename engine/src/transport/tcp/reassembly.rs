//! What arrives behind a gap: held in the frames that it came in, sorted, and told to the peer (RFC 2018, RFC 2883).
//!
//! ```text
//!    rcv.nxt                                              window's right edge
//!      |   gap    [ 100..200 )[ 200..250 )   gap   [ 400..500 )      |
//!                 \_____ one SACK block _/         \ another /
//! ```
//!
//! A new frame usually belongs at the end, which is found at once; otherwise the queue is walked, which the limit on
//! a connection's chunks keeps short. Where data overlaps, what was there first stays, unless a new frame covers all of
//! it, or it overlaps what is next in order (RFC 9293 leaves it open; so does Linux).

use super::tcb::mark;
use crate::base::{Frame, FrameQueue, Queued, Umem};
use crate::structure::aside::Aside;
use crate::structure::slab::Slab;
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::SackBlocks;

/// Blocks that are remembered: as many as fit into a SACK option beside timestamps (RFC 2018, section 3).
const BLOCKS: usize = 3;

/// Frames behind gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    queue: FrameQueue,
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
    /// The table of gaps is full.
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
        let before = self.place_before(umem, seq);
        if let Some(before) = before
            && end_of(umem, before).after_eq(end)
        {
            self.note_duplicate(seq, end);
            return Insertion::Duplicate(frame);
        }
        let place = self.queue.insert_after(umem, before, frame);
        self.bytes += len;
        if let Some(before) = before {
            let overlap = end_of(umem, before).since(seq);
            if end_of(umem, before).after(seq) {
                self.cut_front(umem, place, overlap);
            }
        }
        self.swallow_behind(umem, place);
        let start = SeqNum::new(umem.note(place).seq);
        let end = end_of(umem, place);
        self.report(start, end);
        Insertion::Held
    }

    /// Takes out the first frame if it continues at `nxt`; what lies before `nxt` is cut off.
    fn take(&mut self, umem: &mut Umem, nxt: SeqNum) -> Option<Frame> {
        let first = self.queue.first()?;
        let start = SeqNum::new(umem.note(first).seq);
        if start.after(nxt) {
            return None;
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
        (self.bytes, self.count) = (0, 0);
        self.queue.clear(umem)
    }

    /// The last frame that starts at or before `seq`.
    fn place_before(&self, umem: &Umem, seq: SeqNum) -> Option<Queued> {
        if let Some(last) = self.queue.last()
            && SeqNum::new(umem.note(last).seq).before_eq(seq)
        {
            return Some(last);
        }
        let (mut before, mut next) = (None, self.queue.first());
        while let Some(place) = next
            && SeqNum::new(umem.note(place).seq).before_eq(seq)
        {
            before = Some(place);
            next = umem.next(place);
        }
        before
    }

    /// Frees frames that a new one covers, and cuts the new one off where the one behind it starts.
    fn swallow_behind(&mut self, umem: &mut Umem, place: Queued) {
        while let Some(next) = umem.next(place) {
            let (start, end) = (SeqNum::new(umem.note(next).seq), end_of(umem, next));
            let own_end = end_of(umem, place);
            if own_end.before_eq(start) {
                return;
            }
            if end.after(own_end) {
                let own_start = SeqNum::new(umem.note(place).seq);
                let (old, new) = (u32::from(umem.queued_len(place)), start.since(own_start));
                umem.truncate(place, new as u16);
                umem.annotate(place, |note| note.marks &= !mark::FIN);
                self.bytes -= old.saturating_sub(new);
                sum_anew(umem, place);
                return;
            }
            self.bytes -= u32::from(umem.queued_len(next));
            self.queue.release_after(umem, Some(place));
        }
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
