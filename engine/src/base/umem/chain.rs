//! What can be done with a packet that is spread over several chunks.

use super::{Copied, Extent, Frame, NONE, Note, Place, Umem};

impl Umem {
    /// Appends `part` to the chain of `frame`.
    pub fn append(&mut self, frame: &mut Frame, part: Frame) {
        let mut last = frame.chunk();
        while self.meta[last as usize].more != NONE {
            last = self.meta[last as usize].more;
        }
        let meta = &mut self.meta[part.chunk() as usize];
        if meta.copied == Copied::No {
            meta.extent = part.extent();
        } else {
            debug_assert_eq!(meta.sent_extent(), part.extent(), "as it lies on its queue");
        }
        self.meta[last as usize].more = part.chunk();
    }

    /// Whether the packet goes on in further chunks.
    #[inline]
    #[must_use]
    pub fn is_chain(&self, frame: &Frame) -> bool {
        self.meta.get(frame.chunk() as usize).is_some_and(|meta| meta.more != NONE)
    }

    /// Number of chunks that the packet is spread over.
    #[must_use]
    pub fn parts(&self, frame: &Frame) -> u32 {
        let mut parts = 1;
        let mut chunk = frame.chunk();
        while let Some(meta) = self.meta.get(chunk as usize)
            && meta.more != NONE
        {
            chunk = meta.more;
            parts += 1;
        }
        parts
    }

    /// Bytes of the packet in all its chunks.
    #[must_use]
    pub fn packet_len(&self, frame: &Frame) -> usize {
        let mut len = usize::from(frame.len());
        let mut chunk = self.more(frame.chunk());
        while let Some(meta) = self.meta.get(chunk as usize) {
            len += usize::from(meta.sent_extent().len());
            chunk = meta.more;
        }
        len
    }

    /// The packet's bytes, chunk by chunk, in order.
    pub fn slices(&self, frame: &Frame) -> impl Iterator<Item = &[u8]> {
        let first = Frame::new(frame.chunk(), frame.offset(), frame.len());
        let next = |part: &Frame| self.behind(part.chunk());
        std::iter::successors(Some(first), next).map(|part| self.slice(part.chunk(), part.offset(), part.len()))
    }

    /// Writes on every chunk of a packet what `note` makes of its bytes.
    pub fn annotate_parts(&mut self, frame: &Frame, mut note: impl FnMut(&[u8]) -> Note) {
        let mut next = Some(Frame::new(frame.chunk(), frame.offset(), frame.len()));
        while let Some(part) = next {
            next = self.behind(part.chunk());
            let written = note(self.slice(part.chunk(), part.offset(), part.len()));
            *self.note_mut(&part) = written;
        }
    }

    /// Takes the first chunk of a packet off the rest of its chain.
    pub fn split(&mut self, frame: Frame) -> (Frame, Option<Frame>) {
        let more = self.take_more(frame.chunk());
        let rest = self.part(more);
        (frame, rest)
    }

    /// Cuts a packet off behind its first chunk.
    pub fn cut_chain(&mut self, frame: &Frame) {
        let more = self.take_more(frame.chunk());
        if let Some(rest) = self.part(more) {
            self.free(rest);
        }
    }

    /// Cuts off what a packet has behind its first `len` bytes, and frees the chunks that this empties but the first.
    pub fn truncate_chain(&mut self, frame: &mut Frame, len: usize) {
        let kept = usize::from(frame.len()).min(len);
        frame.place_at(frame.offset(), kept as u16);
        let (mut last, mut left) = (frame.chunk(), len - kept);
        while left > 0
            && let Some(part) = self.behind(last)
        {
            let kept = usize::from(part.len()).min(left);
            if let Some(meta) = self.meta.get_mut(part.chunk() as usize).filter(|meta| meta.copied == Copied::No) {
                meta.extent = Extent::new(meta.extent.offset(), kept as u16);
            }
            (last, left) = (part.chunk(), left - kept);
        }
        let more = self.take_more(last);
        if let Some(rest) = self.part(more) {
            self.free(rest);
        }
    }

    /// Cuts `bytes` off the start of a packet and frees the chunks that this empties; `None` if nothing is left.
    pub fn trim_chain(&mut self, frame: Frame, mut bytes: usize) -> Option<Frame> {
        let mut left = Some(frame);
        while let Some(mut frame) = left {
            let len = usize::from(frame.len());
            if bytes < len {
                let _ = Self::narrow(&mut frame, bytes, len - bytes);
                return Some(frame);
            }
            bytes -= len;
            let (emptied, rest) = self.split(frame);
            self.free(emptied);
            left = rest;
        }
        None
    }

    /// Appends up to `len` of a packet's bytes to `to`, a frame of one chunk, as far as its chunk has room: how many
    /// they were.
    pub fn copy_chain(&mut self, from: &Frame, len: usize, to: &mut Frame) -> usize {
        let (mut chunk, mut offset, mut part) = (from.chunk(), from.offset(), from.len());
        let mut copied = 0;
        loop {
            let end = usize::from(to.offset()) + usize::from(to.len());
            let room = (self.chunk_bytes() as usize).saturating_sub(end);
            let count = usize::from(part).min(len - copied).min(room) as u16;
            if !self.copy((chunk, offset), (to.chunk(), end as u16), count) {
                return copied;
            }
            to.place_at(to.offset(), to.len() + count);
            copied += usize::from(count);
            match self.behind(chunk) {
                Some(next) if count == part => (chunk, offset, part) = (next.chunk(), next.offset(), next.len()),
                _ => return copied,
            }
        }
    }

    /// Moves bytes of the following chunks up, so that the first `len` of the packet lie in its first chunk; `false`,
    /// and no change, if they do not fit there or the packet is shorter.
    ///
    /// Chunks that this empties are freed. The packet stays where it starts, and so does what is in front of it.
    #[must_use]
    pub fn pull(&mut self, frame: &mut Frame, len: usize) -> bool {
        let missing = len.saturating_sub(usize::from(frame.len()));
        if missing == 0 {
            return true;
        }
        if usize::from(frame.offset()) + len > self.chunk_bytes() as usize || self.packet_len(frame) < len {
            return false;
        }
        let (mut first, rest) = self.split(Frame::new(frame.chunk(), frame.offset(), frame.len()));
        let rest = rest.and_then(|rest| {
            self.copy_chain(&rest, missing, &mut first);
            self.trim_chain(rest, missing)
        });
        if let Some(rest) = rest {
            self.append(&mut first, rest);
        }
        *frame = first;
        true
    }

    /// The chunk that continues the packet which `chunk` belongs to.
    #[inline]
    fn more(&self, chunk: u32) -> u32 {
        self.meta.get(chunk as usize).map_or(NONE, |meta| meta.more)
    }

    /// Takes off what continues the packet behind `chunk`.
    #[inline]
    fn take_more(&mut self, chunk: u32) -> u32 {
        self.meta.get_mut(chunk as usize).map_or(NONE, |meta| std::mem::replace(&mut meta.more, NONE))
    }

    /// The part of a packet that lies in `chunk`, which is not its first one.
    #[inline]
    pub(super) fn part(&self, chunk: u32) -> Option<Frame> {
        self.meta.get(chunk as usize).map(|meta| Frame::at(chunk, meta.sent_extent()))
    }

    /// The part of a packet behind the one in `chunk`.
    #[inline]
    pub(super) fn behind(&self, chunk: u32) -> Option<Frame> {
        self.part(self.more(chunk))
    }

    /// Has the packet that `chunk` begins go on in `next`, behind its last chunk.
    pub(in super::super) fn link_behind(&mut self, chunk: u32, next: u32) {
        let mut last = chunk;
        while self.more(last) != NONE {
            last = self.more(last);
        }
        if let Some(meta) = self.meta.get_mut(last as usize) {
            meta.more = next;
        }
    }

    /// Writes down where the chunks of a chain are, from `chunk` on.
    #[inline(never)]
    pub(super) fn place_chain(&mut self, mut chunk: u32, place: Place) {
        while let Some(meta) = self.meta.get_mut(chunk as usize) {
            meta.place = place;
            chunk = meta.more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{ChunkSize, FrameQueue, UmemConfig};
    use super::*;

    fn umem(chunks: u32) -> Umem {
        Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
    }

    /// A chain whose parts have these lengths, and whose bytes count up from `first`.
    fn chain(umem: &mut Umem, first: u8, lens: &[usize]) -> Frame {
        let mut byte = first;
        let mut whole: Option<Frame> = None;
        for &len in lens {
            let mut part = umem.alloc().unwrap();
            assert!(umem.set_len(&mut part, len));
            for at in umem.bytes_mut(&mut part) {
                *at = byte;
                byte = byte.wrapping_add(1);
            }
            match &mut whole {
                Some(whole) => umem.append(whole, part),
                None => whole = Some(part),
            }
        }
        whole.unwrap()
    }

    fn bytes(umem: &Umem, frame: &Frame) -> Vec<u8> {
        let bytes: Vec<u8> = umem.slices(frame).flatten().copied().collect();
        assert_eq!(bytes.len(), umem.packet_len(frame));
        bytes
    }

    fn count(first: u8, len: usize) -> Vec<u8> {
        (0..len).map(|n| first.wrapping_add(n as u8)).collect()
    }

    #[test]
    fn the_bytes_of_a_chain_are_those_of_its_parts_in_order() {
        let mut umem = umem(4);
        let frame = chain(&mut umem, 7, &[100, 1, 0, 300]);
        assert_eq!(umem.slices(&frame).map(<[u8]>::len).collect::<Vec<_>>(), [100, 1, 0, 300]);
        assert_eq!(bytes(&umem, &frame), count(7, 401));
        let (first, rest) = umem.split(frame);
        let rest = rest.unwrap();
        assert_eq!((umem.is_chain(&first), bytes(&umem, &first)), (false, count(7, 100)));
        assert_eq!((umem.parts(&rest), bytes(&umem, &rest)), (3, count(107, 301)));
        umem.free(first);
        umem.free(rest);
        assert_eq!(umem.free_chunks(), 4);
    }

    #[test]
    fn a_chain_is_cut_at_any_place_and_loses_the_chunks_before_it() {
        let mut umem = umem(3);
        for cut in 0..=310 {
            let frame = chain(&mut umem, 0, &[100, 10, 200]);
            let left = umem.trim_chain(frame, cut);
            let parts = left.as_ref().map_or(0, |left| umem.parts(left));
            assert_eq!(parts, [100, 110, 310].iter().filter(|&&end| cut < end).count() as u32);
            assert_eq!(umem.free_chunks(), 3 - parts);
            if let Some(left) = left {
                assert_eq!(bytes(&umem, &left), &count(0, 310)[cut..]);
                umem.free(left);
            }
        }
    }

    #[test]
    fn bytes_are_copied_out_of_a_chain_as_far_as_there_is_room() {
        let mut umem = umem(4);
        let frame = chain(&mut umem, 0, &[1000, 10, 1700]);
        for len in [0, 1, 999, 1000, 1001, 1010, 1500, 1772, 1773, 2710, 5000] {
            let mut copy = umem.alloc().unwrap();
            assert!(umem.set_len(&mut copy, 20));
            let copied = umem.copy_chain(&frame, len, &mut copy);
            assert_eq!(copied, len.min(2048 - 256 - 20));
            assert_eq!(umem.bytes(&copy)[20..], count(0, copied));
            umem.free(copy);
        }
        umem.free(frame);
        assert_eq!(umem.free_chunks(), 4);
    }

    #[test]
    fn a_header_that_is_spread_over_chunks_is_pulled_together() {
        let mut umem = umem(3);
        for len in 0..=600 {
            let mut frame = chain(&mut umem, 3, &[8, 12, 500]);
            let offset = frame.offset();
            assert_eq!(umem.pull(&mut frame, len), len <= 520);
            if len <= 520 {
                let parts = [20, 520].iter().filter(|&&end| len < end).count() as u32 + 1;
                assert_eq!(umem.parts(&frame), if len <= 8 { 3 } else { parts }, "{len}");
                assert!(usize::from(frame.len()) >= len);
            }
            assert_eq!((bytes(&umem, &frame), frame.offset()), (count(3, 520), offset));
            umem.free(frame);
            assert_eq!(umem.free_chunks(), 3);
        }
        let mut long = chain(&mut umem, 3, &[1000, 1000]);
        assert!(!umem.pull(&mut long, 1793), "the chunk ends there");
        assert!(umem.pull(&mut long, 1792));
        assert_eq!(bytes(&umem, &long), count(3, 2000));
        umem.free(long);
    }

    #[test]
    fn a_chain_is_cut_off_anywhere_and_loses_the_chunks_behind() {
        let mut umem = umem(3);
        for len in 0..=320 {
            let mut frame = chain(&mut umem, 0, &[100, 10, 200]);
            umem.truncate_chain(&mut frame, len);
            let parts = 1 + [100, 110].iter().filter(|&&end| len > end).count() as u32;
            assert_eq!((umem.parts(&frame), umem.free_chunks()), (parts, 3 - parts), "{len}");
            assert_eq!(bytes(&umem, &frame), count(0, len.min(310)));
            umem.free(frame);
        }
        assert_eq!(umem.free_chunks(), 3);
    }

    #[test]
    fn every_chunk_of_a_packet_has_a_note_of_its_own() {
        let (mut umem, mut queue) = (umem(3), FrameQueue::default());
        let frame = chain(&mut umem, 0, &[10, 0, 30]);
        umem.annotate_parts(&frame, |bytes| Note { seq: bytes.len() as u32, ..Note::EMPTY });
        let mut rest = Some(frame);
        for len in [10, 0, 30] {
            let (part, behind) = umem.split(rest.unwrap());
            let place = queue.push(&mut umem, part);
            assert_eq!(umem.note(place).seq, len);
            rest = behind;
        }
        assert!(rest.is_none());
        queue.clear(&mut umem);
    }

    /// Frames on a queue, of these lengths and with bytes that count up, and a packet that is made of all of them.
    fn shared(umem: &mut Umem, queue: &mut FrameQueue, lens: &[usize]) -> Frame {
        let mut whole: Option<Frame> = None;
        let mut first = 0;
        for &len in lens {
            let frame = chain(umem, first, &[len]);
            first = first.wrapping_add(len as u8);
            let place = queue.push(umem, frame);
            let part = umem.share(place).unwrap();
            match &mut whole {
                Some(whole) => umem.append(whole, part),
                None => whole = Some(part),
            }
        }
        whole.unwrap()
    }

    #[test]
    fn queued_frames_are_sent_as_one_packet_and_stay_on_their_queue() {
        let (mut umem, mut queue) = (umem(3), FrameQueue::default());
        let mut packet = shared(&mut umem, &mut queue, &[100, 10, 200]);
        umem.prepend_len(&mut packet, 20).unwrap().fill(0xff);
        assert_eq!((umem.parts(&packet), umem.packet_len(&packet), umem.count_copied()), (3, 330, (3, 0)));
        let mut next = Some(packet);
        let mut lent = Vec::new();
        while let Some(part) = next {
            let (descriptor, rest) = umem.lend(part);
            lent.push(descriptor);
            next = rest;
        }
        assert_eq!(
            (lent.iter().map(|part| part.len).collect::<Vec<_>>(), umem.count_copied()),
            (vec![120, 10, 200], (0, 3))
        );
        assert!(lent.iter().all(|part| umem.complete(part.addr)));
        let again = umem.share(queue.first().unwrap()).unwrap();
        assert_eq!((umem.parts(&again), bytes(&umem, &again)), (1, count(0, 100)));
        umem.free(again);
        assert_eq!(umem.count(Place::Queue), 3);
        queue.clear(&mut umem);
        assert_eq!(umem.free_chunks(), 3);
    }

    #[test]
    fn a_packet_of_queued_frames_that_is_given_up_leaves_the_queue_alone() {
        let (mut umem, mut queue) = (umem(3), FrameQueue::default());
        let packet = shared(&mut umem, &mut queue, &[100, 10, 200]);
        umem.free(packet);
        assert_eq!((umem.count_copied(), umem.count(Place::Queue)), ((0, 0), 3));
        let alone = umem.share(queue.first().unwrap()).unwrap();
        assert!(!umem.is_chain(&alone));
        umem.free(alone);
        queue.clear(&mut umem);
    }

    /// Whatever is acknowledged while a packet waits for the device, the packet stays what its headers say.
    #[test]
    fn what_leaves_the_queue_or_is_cut_there_stays_in_the_packet() {
        for released in 0..=3 {
            let (mut umem, mut queue) = (umem(4), FrameQueue::default());
            let packet = shared(&mut umem, &mut queue, &[100, 10, 200]);
            (0..released).for_each(|_| assert!(queue.release(&mut umem)));
            if let Some(first) = queue.first() {
                umem.trim_front(first, 7);
                umem.trim_front(first, 2);
                assert_eq!(umem.queued_len(first), [100, 10, 200][released] - 9);
            }
            assert_eq!(bytes(&umem, &packet), count(0, 310), "{released} released");
            let copy = umem.duplicate(&packet);
            assert!(copy.is_none(), "three chunks more there are not");
            assert_eq!(umem.free_chunks(), 1);
            let (first, rest) = umem.split(packet);
            let (second, third) = umem.split(rest.unwrap());
            assert_eq!(bytes(&umem, &second), count(100, 10));
            [first, second, third.unwrap()].into_iter().for_each(|part| umem.free(part));
            queue.clear(&mut umem);
            assert_eq!((umem.free_chunks(), umem.count_copied()), (4, (0, 0)));
        }
    }

    #[test]
    fn a_copy_of_a_chain_is_a_chain() {
        let mut umem = umem(6);
        let frame = chain(&mut umem, 0, &[100, 10, 200]);
        let copy = umem.duplicate(&frame).unwrap();
        assert_eq!((bytes(&umem, &copy), umem.parts(&copy)), (count(0, 310), 3));
        umem.free(frame);
        umem.free(copy);
        assert_eq!(umem.free_chunks(), 6);
    }

    #[test]
    fn a_chain_keeps_its_parts_on_a_queue_and_is_freed_whole() {
        let (mut umem, mut queue) = (umem(7), FrameQueue::default());
        let (one, two, three) =
            (chain(&mut umem, 1, &[10, 20]), chain(&mut umem, 2, &[30]), chain(&mut umem, 3, &[40, 50, 60]));
        let place = queue.push(&mut umem, one);
        let last = queue.push(&mut umem, three);
        queue.insert_after(&mut umem, Some(place), two);
        assert_eq!((umem.count(Place::Queue), umem.count(Place::Held)), (6, 0));
        assert!(umem.share(last).is_none(), "the device would take it apart");
        let one = queue.pop(&mut umem).unwrap();
        assert_eq!((umem.count(Place::Queue), umem.count(Place::Held)), (4, 2));
        assert_eq!(bytes(&umem, &one), count(1, 30));
        umem.free(one);
        assert!(queue.release_after(&mut umem, queue.first()));
        assert_eq!(umem.free_chunks(), 6);
        queue.clear(&mut umem);
        assert_eq!(umem.free_chunks(), 7);
    }

    #[test]
    fn a_queue_becomes_one_chain() {
        let (mut umem, mut queue) = (umem(5), FrameQueue::default());
        assert!(queue.take_chain(&mut umem).is_none());
        for (first, lens) in [(0, &[10, 20][..]), (30, &[30]), (60, &[40, 50])] {
            let frame = chain(&mut umem, first, lens);
            queue.push(&mut umem, frame);
        }
        let whole = queue.take_chain(&mut umem).unwrap();
        assert!(queue.is_empty());
        assert_eq!((umem.count(Place::Held), bytes(&umem, &whole)), (5, count(0, 150)));
        umem.free(whole);
        assert_eq!(umem.free_chunks(), 5);
    }

    #[test]
    fn neighbors_on_a_queue_are_joined_where_there_is_room() {
        let (mut umem, mut queue) = (umem(5), FrameQueue::default());
        for (first, len) in [(0, 1000), (232, 792), (0, 1)] {
            let frame = chain(&mut umem, first, &[len]);
            queue.push(&mut umem, frame);
        }
        let first = queue.first().unwrap();
        assert!(queue.merge_behind(&mut umem, first));
        assert_eq!((umem.queued_bytes(first), queue.len()), (&*count(0, 1792), 2));
        assert!(!queue.merge_behind(&mut umem, first), "the chunk is full");
        let second = umem.next(first).unwrap();
        assert!(!queue.merge_behind(&mut umem, second), "nothing behind it");
        let two = chain(&mut umem, 0, &[1, 1]);
        let two = queue.push(&mut umem, two);
        assert!(!queue.merge_behind(&mut umem, second), "a chain");
        assert_eq!((umem.queued_len(two), queue.clear(&mut umem), umem.free_chunks()), (1, 3, 5));
    }

    #[test]
    fn bytes_on_a_queue_are_laid_over_those_of_a_frame() {
        let (mut umem, mut queue) = (umem(2), FrameQueue::default());
        let held = chain(&mut umem, 100, &[5]);
        let place = queue.push(&mut umem, held);
        let mut frame = chain(&mut umem, 0, &[10]);
        assert!(!umem.overlay(&mut frame, 6, place));
        assert!(umem.overlay(&mut frame, 3, place));
        assert_eq!(umem.bytes(&frame), [0, 1, 2, 100, 101, 102, 103, 104, 8, 9]);
        umem.free(frame);
        queue.clear(&mut umem);
    }
}
