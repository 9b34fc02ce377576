//! Queues of frames, linked through their chunks' metadata: no allocation, O(1), like a list of sk_buffs.
//!
//! ```text
//!   FrameQueue   head -> chunk 7 -> chunk 2 -> chunk 9 <- tail        the links are in the chunks' metadata
//!                        note       note       note                   what the queue's owner wrote on each
//!                          \
//!                           share: a second Frame for the device, while chunk 7 stays on the queue
//! ```

use super::frame::Frame;
use super::time::Instant;
use super::umem::{NONE, Place, Umem};

/// What the owner of a frame writes on it: kept with its chunk while the frame is in hand or on a queue, and not
/// looked at here. Its fields are named after what TCP keeps in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// When it was sent last.
    pub sent_at: Instant,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// Sum of its bytes, folded to 16 bits.
    pub sum: u16,
    /// Flags.
    pub marks: u8,
    /// Times that it was sent, as far as that can be counted in a byte.
    pub sends: u8,
}

impl Note {
    /// Nothing written.
    pub const EMPTY: Self = Self { sent_at: Instant::ZERO, seq: 0, sum: 0, marks: 0, sends: 0 };

    /// Writes down that this frame is the first of a run of frames on its queue that ends with `last`, at the number `end`:
    /// whoever walks over the queue goes on behind it. It takes the place of `sent_at`.
    #[inline]
    pub const fn set_run(&mut self, last: Queued, end: u32) {
        self.sent_at = Instant::from_ns((last.0 as u64) << 32 | end as u64);
    }

    /// The last frame of the run that this one is the first of, and the number at which it ends.
    #[inline]
    #[must_use]
    pub const fn run(&self) -> (Queued, u32) {
        let both = self.sent_at.as_ns();
        (Queued((both >> 32) as u32), both as u32)
    }
}

/// A frame's place on a queue: good until the frame leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued(pub(super) u32);

impl Queued {
    /// No frame: what stands for `None` where a connection has to be small.
    pub const NONE: Self = Self(NONE);

    /// `None` for [`Queued::NONE`].
    #[inline]
    #[must_use]
    pub const fn some(self) -> Option<Self> {
        if self.0 == NONE { None } else { Some(self) }
    }
}

/// A first-in first-out queue of frames.
///
/// The queue belongs to the [`Umem`] whose frames it holds and has to be emptied into it before it goes.
#[derive(Debug)]
pub struct FrameQueue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for FrameQueue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl FrameQueue {
    /// Frames in the queue.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no frame in the queue.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The oldest frame.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> Option<Queued> {
        Queued(self.head).some()
    }

    /// The newest frame.
    #[inline]
    #[must_use]
    pub const fn last(&self) -> Option<Queued> {
        Queued(self.tail).some()
    }

    /// Appends a frame.
    #[inline(always)]
    pub fn push(&mut self, umem: &mut Umem, frame: Frame) -> Queued {
        let chunk = umem.park(frame);
        self.link_last(umem, chunk)
    }

    /// Moves the oldest frame to the end of another queue.
    #[inline(always)]
    pub fn pass_on(&mut self, to: &mut Self, umem: &mut Umem) -> Option<Queued> {
        let chunk = self.unlink_first(umem)?;
        umem.set_next(chunk, NONE);
        Some(to.link_last(umem, chunk))
    }

    #[inline(always)]
    fn link_last(&mut self, umem: &mut Umem, chunk: u32) -> Queued {
        if self.tail == NONE {
            self.head = chunk;
        } else {
            umem.set_next(self.tail, chunk);
        }
        self.tail = chunk;
        self.len += 1;
        Queued(chunk)
    }

    /// Puts a frame behind `place`, a frame of this queue; in front of all where that is `None`.
    pub fn insert_after(&mut self, umem: &mut Umem, place: Option<Queued>, frame: Frame) -> Queued {
        let before = place.unwrap_or(Queued::NONE).0;
        if before == self.tail {
            return self.push(umem, frame);
        }
        let chunk = umem.park(frame);
        if before == NONE {
            umem.set_next(chunk, self.head);
            self.head = chunk;
        } else {
            let after = umem.next(Queued(before)).unwrap_or(Queued::NONE).0;
            umem.set_next(chunk, after);
            umem.set_next(before, chunk);
        }
        self.len += 1;
        Queued(chunk)
    }

    /// Takes out the oldest frame, of which nobody else may have a copy.
    #[inline]
    pub fn pop(&mut self, umem: &mut Umem) -> Option<Frame> {
        let chunk = self.unlink_first(umem)?;
        umem.unpark(chunk)
    }

    /// Takes out the oldest frame and frees it; where the device has a copy, as soon as that is done with.
    #[inline]
    pub fn release(&mut self, umem: &mut Umem) -> bool {
        let first = self.unlink_first(umem);
        first.is_some_and(|chunk| {
            umem.release(chunk);
            true
        })
    }

    /// Takes out and frees the frame behind `place`, or the first one where that is `None`.
    pub fn release_after(&mut self, umem: &mut Umem, place: Option<Queued>) -> bool {
        let Some(before) = place else { return self.release(umem) };
        let Some(chunk) = umem.next(before) else { return false };
        let after = umem.next(chunk);
        umem.set_next(before.0, after.unwrap_or(Queued::NONE).0);
        if after.is_none() {
            self.tail = before.0;
        }
        self.len -= 1;
        umem.release(chunk.0);
        true
    }

    /// Joins the frame behind `place` to it, in one chunk; `false`, and no change, if there is none or no room.
    pub fn merge_behind(&mut self, umem: &mut Umem, place: Queued) -> bool {
        let Some(next) = umem.next(place) else { return false };
        umem.extend_by_queued(place, next) && self.release_after(umem, Some(place))
    }

    /// Takes out all frames as one packet, in order.
    pub fn take_chain(&mut self, umem: &mut Umem) -> Option<Frame> {
        let Self { head, .. } = std::mem::take(self);
        let mut place = Queued(head).some();
        while let Some(chunk) = place {
            place = umem.next(chunk);
            let next = place.unwrap_or(Queued::NONE).0;
            umem.link_behind(chunk.0, next);
        }
        umem.unpark(head)
    }

    /// Frees all frames and says how many there were.
    pub fn clear(&mut self, umem: &mut Umem) -> u32 {
        let count = self.len;
        while self.release(umem) {}
        count
    }

    #[inline]
    fn unlink_first(&mut self, umem: &Umem) -> Option<u32> {
        let first = self.first()?;
        self.head = umem.next(first).unwrap_or(Queued::NONE).0;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.len -= 1;
        Some(first.0)
    }
}

/// What a place on a queue is, by the chunk's metadata.
pub(super) const ON_QUEUE: Place = Place::Queue;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, UmemConfig};

    fn umem(chunks: u32) -> Umem {
        Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
    }

    fn frame(umem: &mut Umem, seq: u32) -> Frame {
        let mut frame = umem.alloc().unwrap();
        assert!(umem.set_len(&mut frame, 10));
        umem.bytes_mut(&mut frame).fill(seq as u8);
        umem.note_mut(&frame).seq = seq;
        frame
    }

    fn order(queue: &FrameQueue, umem: &Umem) -> Vec<u32> {
        let mut next = queue.first();
        let mut order = Vec::new();
        while let Some(place) = next {
            order.push(umem.note(place).seq);
            next = umem.next(place);
        }
        assert_eq!(order.len(), queue.len() as usize);
        order
    }

    #[test]
    fn frames_can_be_put_in_and_taken_out_anywhere() {
        let (mut umem, mut queue) = (umem(8), FrameQueue::default());
        let (one, three, zero, four) =
            (frame(&mut umem, 1), frame(&mut umem, 3), frame(&mut umem, 0), frame(&mut umem, 4));
        let first = queue.insert_after(&mut umem, None, one);
        let third = queue.insert_after(&mut umem, Some(first), three);
        queue.insert_after(&mut umem, None, zero);
        queue.insert_after(&mut umem, Some(third), four);
        let two = frame(&mut umem, 2);
        queue.insert_after(&mut umem, Some(first), two);
        assert_eq!(order(&queue, &umem), [0, 1, 2, 3, 4]);
        assert!(queue.release_after(&mut umem, Some(third)));
        assert!(!queue.release_after(&mut umem, Some(third)), "nothing behind the last one");
        assert!(queue.release_after(&mut umem, Some(first)));
        assert!(queue.release_after(&mut umem, None));
        assert_eq!(order(&queue, &umem), [1, 3]);
        let five = frame(&mut umem, 5);
        queue.push(&mut umem, five);
        assert_eq!(order(&queue, &umem), [1, 3, 5]);
        assert_eq!(queue.clear(&mut umem), 3);
        assert_eq!((umem.free_chunks(), queue.first(), queue.last()), (8, None, None));
    }

    #[test]
    fn frames_pass_from_one_queue_to_another() {
        let (mut umem, mut from, mut to) = (umem(3), FrameQueue::default(), FrameQueue::default());
        for seq in [1, 2, 3] {
            let frame = frame(&mut umem, seq);
            from.push(&mut umem, frame);
        }
        let first = from.pass_on(&mut to, &mut umem);
        assert_eq!((first, to.first(), to.last()), (first, first, first));
        assert_eq!((order(&from, &umem), order(&to, &umem)), (vec![2, 3], vec![1]));
        let passed = [(); 3].map(|()| from.pass_on(&mut to, &mut umem).is_some());
        assert_eq!((passed, from.first(), from.last()), ([true, true, false], None, None));
        assert_eq!((order(&from, &umem), order(&to, &umem)), (vec![], vec![1, 2, 3]));
        assert_eq!(umem.queued_bytes(to.last().unwrap()), [3; 10]);
        assert_eq!((to.clear(&mut umem), umem.free_chunks()), (3, 3));
    }

    #[test]
    fn a_shared_frame_stays_on_its_queue_until_it_is_released_and_in_its_chunk_until_it_is_sent() {
        let (mut umem, mut queue) = (umem(1), FrameQueue::default());
        let only = frame(&mut umem, 7);
        let place = queue.push(&mut umem, only);
        let copy = umem.share(place).unwrap();
        assert!(umem.share(place).is_none(), "one copy at a time");
        assert_eq!(umem.count_copied(), (1, 0));
        let (descriptor, _) = umem.lend(copy);
        assert_eq!(umem.count_copied(), (0, 1));
        assert!(umem.is_shared(place));
        assert!(umem.complete(descriptor.addr) && !umem.complete(descriptor.addr), "once");
        assert_eq!((umem.free_chunks(), umem.queued_bytes(place)), (0, &[7; 10][..]));

        let copy = umem.share(place).unwrap();
        let (descriptor, _) = umem.lend(copy);
        assert!(queue.release(&mut umem));
        assert_eq!(umem.free_chunks(), 0, "the device still sends it");
        assert!(umem.complete(descriptor.addr));
        assert_eq!(umem.free_chunks(), 1);
    }

    #[test]
    fn a_copy_that_is_given_up_leaves_the_queue_alone() {
        let (mut umem, mut queue) = (umem(1), FrameQueue::default());
        let only = frame(&mut umem, 7);
        let place = queue.push(&mut umem, only);
        let copy = umem.share(place).unwrap();
        umem.free(copy);
        let copy = umem.share(place).unwrap();
        assert!(queue.release(&mut umem));
        assert_eq!((umem.free_chunks(), umem.count_copied()), (0, (0, 0)), "it is in one hand now");
        umem.free(copy);
        assert_eq!(umem.free_chunks(), 1);
    }

    #[test]
    fn headers_before_a_copy_and_its_moves_leave_the_queued_bytes_whole() {
        let (mut umem, mut queue) = (umem(1), FrameQueue::default());
        let only = frame(&mut umem, 7);
        let place = queue.push(&mut umem, only);
        let mut copy = umem.share(place).unwrap();
        umem.prepend_len(&mut copy, 20).unwrap().fill(0xff);
        assert!(umem.shift(&mut copy, 300));
        assert_eq!(umem.queued_bytes(place), &[7; 10]);
        umem.trim_front(place, 4);
        assert_eq!((umem.queued_len(place), umem.queued_bytes(place)), (6, &[7; 6][..]));
        umem.free(copy);
        queue.clear(&mut umem);
    }
}
