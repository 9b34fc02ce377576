//! What can be done with a frame while it lies on a queue.

use super::super::queue::{Note, ON_QUEUE, Queued};
use super::{Copied, Extent, Frame, NONE, Place, Umem};

#[cfg(test)]
thread_local! {
    /// Steps from one frame of a queue to the next, for tests of how many there are.
    pub(crate) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Umem {
    /// What is written on a frame in hand.
    #[inline]
    pub fn note_mut(&mut self, frame: &Frame) -> &mut Note {
        &mut self.meta[frame.chunk() as usize].note
    }

    /// What is written on a queued frame.
    #[inline]
    #[must_use]
    pub fn note(&self, place: Queued) -> &Note {
        self.meta.get(place.0 as usize).map_or(&Note::EMPTY, |meta| &meta.note)
    }

    /// What is written on a queued frame, and its bytes: in one look.
    #[inline]
    #[must_use]
    pub fn queued(&self, place: Queued) -> (Note, u16) {
        self.meta.get(place.0 as usize).map_or((Note::EMPTY, 0), |meta| (meta.note, meta.extent.len()))
    }

    /// The same of one that is there, and the frame behind it.
    #[inline]
    #[must_use]
    pub fn queued_and_next(&self, place: Queued) -> Option<(Note, u16, Option<Queued>)> {
        let meta = self.meta.get(place.0 as usize)?;
        Some((meta.note, meta.extent.len(), Queued(meta.next).some()))
    }

    /// Changes what is written on a queued frame.
    #[inline]
    pub fn annotate(&mut self, place: Queued, change: impl FnOnce(&mut Note)) {
        if let Some(meta) = self.meta.get_mut(place.0 as usize) {
            change(&mut meta.note);
        }
    }

    /// The frame behind a queued one.
    #[inline]
    #[must_use]
    pub fn next(&self, place: Queued) -> Option<Queued> {
        #[cfg(test)]
        STEPS.with(|steps| steps.set(steps.get() + 1));
        Queued(self.meta.get(place.0 as usize)?.next).some()
    }

    /// Bytes of a queued frame.
    #[inline]
    #[must_use]
    pub fn queued_len(&self, place: Queued) -> u16 {
        self.meta.get(place.0 as usize).map_or(0, |meta| meta.extent.len())
    }

    /// The bytes of a queued frame.
    #[inline]
    #[must_use]
    pub fn queued_bytes(&self, place: Queued) -> &[u8] {
        self.meta.get(place.0 as usize).map_or(&[], |meta| self.slice(place.0, meta.extent.offset(), meta.extent.len()))
    }

    /// Cuts bytes off the start of a queued frame.
    pub fn trim_front(&mut self, place: Queued, bytes: u16) {
        if let Some(meta) = self.meta.get_mut(place.0 as usize) {
            let bytes = bytes.min(meta.extent.len());
            meta.extent = Extent::new(meta.extent.offset() + bytes, meta.extent.len() - bytes);
            if meta.copied != Copied::No {
                meta.cut += bytes;
            }
        }
    }

    /// Cuts a queued frame off behind its first `len` bytes.
    pub fn truncate(&mut self, place: Queued, len: u16) {
        if let Some(meta) = self.meta.get_mut(place.0 as usize) {
            meta.extent = Extent::new(meta.extent.offset(), meta.extent.len().min(len));
        }
    }

    /// Copies what a queued frame has behind its first `from` bytes into a frame in hand; `false`, and no change, if
    /// it does not fit there.
    #[must_use]
    pub fn copy_queued(&mut self, place: Queued, from: u16, to: &mut Frame) -> bool {
        let Some(meta) = self.meta.get(place.0 as usize).copied() else { return false };
        let len = meta.extent.len().saturating_sub(from);
        if to.chunk() == place.0 || !self.set_len(to, usize::from(len)) {
            return false;
        }
        self.copy((place.0, meta.extent.offset() + from), (to.chunk(), to.offset()), len)
    }

    /// Appends the bytes of a frame in hand to a queued one of which there is no copy; `false`, and no change, if
    /// they do not fit.
    #[must_use]
    pub fn extend_by_frame(&mut self, place: Queued, frame: &Frame) -> bool {
        let chunk_bytes = self.chunk_bytes() as usize;
        let Some(meta) = self.meta.get_mut(place.0 as usize) else { return false };
        let end = meta.extent.end();
        if meta.copied != Copied::No || end + usize::from(frame.len()) > chunk_bytes || frame.chunk() == place.0 {
            return false;
        }
        meta.extent = Extent::new(meta.extent.offset(), meta.extent.len() + frame.len());
        self.copy((frame.chunk(), frame.offset()), (place.0, end as u16), frame.len())
    }

    /// Appends the bytes of a queued frame to those of another of which there is no copy; `false`, and no change, if
    /// they do not fit, or one of the two is a chain.
    #[must_use]
    pub fn extend_by_queued(&mut self, place: Queued, from: Queued) -> bool {
        let Some(from) = self.meta.get(from.0 as usize).map(|meta| (Frame::at(from.0, meta.extent), meta.more)) else {
            return false;
        };
        let is_single = |place: &Queued| self.meta.get(place.0 as usize).is_some_and(|meta| meta.more == NONE);
        is_single(&place) && from.1 == NONE && self.extend_by_frame(place, &from.0)
    }

    /// Writes the bytes of a queued frame over those of a frame in hand, from its byte `at` on; `false`, and no change,
    /// if that has fewer.
    #[must_use]
    pub fn overlay(&mut self, to: &mut Frame, at: u16, place: Queued) -> bool {
        let Some(&meta) = self.meta.get(place.0 as usize) else { return false };
        if usize::from(at) + usize::from(meta.extent.len()) > usize::from(to.len()) || to.chunk() == place.0 {
            return false;
        }
        self.copy((place.0, meta.extent.offset()), (to.chunk(), to.offset() + at), meta.extent.len())
    }

    /// A frame of its own with the same bytes, in as many chunks, unless memory is short.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.duplicate_part(frame)?;
        let mut next = self.behind(frame.chunk());
        while let Some(part) = next {
            let Some(part_copy) = self.duplicate_part(&part) else {
                self.free(copy);
                return None;
            };
            self.append(&mut copy, part_copy);
            next = self.behind(part.chunk());
        }
        Some(copy)
    }

    /// A frame of its own with the bytes of the first chunk of another.
    fn duplicate_part(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.alloc()?;
        if !self.set_len(&mut copy, usize::from(frame.len()))
            || !self.copy((frame.chunk(), frame.offset()), (copy.chunk(), copy.offset()), frame.len())
        {
            self.free(copy);
            return None;
        }
        Some(copy)
    }

    /// Appends bytes to a queued frame of which there is no copy; `false`, and no change, if they do not fit.
    #[must_use]
    pub fn extend(&mut self, place: Queued, bytes: &[u8]) -> bool {
        let chunk_bytes = self.chunk_bytes() as usize;
        let Some(meta) = self.meta.get_mut(place.0 as usize) else { return false };
        let end = meta.extent.end();
        if meta.copied != Copied::No || end + bytes.len() > chunk_bytes {
            return false;
        }
        meta.extent = Extent::new(meta.extent.offset(), meta.extent.len() + bytes.len() as u16);
        self.slice_mut(place.0, end as u16, bytes.len() as u16).copy_from_slice(bytes);
        true
    }

    /// A second owner of a queued frame, to send it while it stays on its queue. `None` while there is one
    /// already: the device reads those headers still, and they must not be written anew. `None` for a chain as well,
    /// which the device takes apart; but what is shared can be made one.
    #[inline(always)]
    #[must_use]
    pub fn share(&mut self, place: Queued) -> Option<Frame> {
        let meta = self.meta.get_mut(place.0 as usize)?;
        debug_assert_eq!(meta.place, ON_QUEUE);
        if meta.copied != Copied::No || meta.place != ON_QUEUE || meta.more != NONE {
            return None;
        }
        meta.copied = Copied::Held;
        Some(Frame::at(place.0, meta.extent))
    }

    /// The same of so many queued frames, one behind the other, as one packet. What is written on each is changed: `change`
    /// is told its bytes too.
    #[must_use]
    pub fn share_run(&mut self, first: Queued, frames: u32, mut change: impl FnMut(&mut Note, u16)) -> Option<Frame> {
        let packet = self.share(first)?;
        let mut last = first;
        for left in (0..frames).rev() {
            let meta = &mut self.meta[last.0 as usize];
            change(&mut meta.note, meta.extent.len());
            if left == 0 {
                break;
            }
            let next = Queued(meta.next);
            if self.share(next).is_none() {
                self.free(packet);
                return None;
            }
            self.meta[last.0 as usize].more = next.0;
            last = next;
        }
        Some(packet)
    }

    /// Whether somebody has a copy of a queued frame.
    #[inline]
    #[must_use]
    pub fn is_shared(&self, place: Queued) -> bool {
        self.meta.get(place.0 as usize).is_some_and(|meta| meta.copied != Copied::No)
    }

    #[inline(always)]
    pub(in super::super) fn park(&mut self, frame: Frame) -> u32 {
        let meta = &mut self.meta[frame.chunk() as usize];
        debug_assert_eq!((meta.place, meta.copied), (Place::Held, Copied::No));
        (meta.next, meta.extent, meta.place) = (NONE, frame.extent(), ON_QUEUE);
        let more = meta.more;
        if more != NONE {
            self.place_chain(more, ON_QUEUE);
        }
        frame.chunk()
    }

    #[inline]
    pub(in super::super) fn unpark(&mut self, chunk: u32) -> Option<Frame> {
        let meta = self.meta.get_mut(chunk as usize)?;
        debug_assert_eq!((meta.place, meta.copied), (ON_QUEUE, Copied::No));
        meta.place = Place::Held;
        let (frame, more) = (Frame::at(chunk, meta.extent), meta.more);
        if more != NONE {
            self.place_chain(more, Place::Held);
        }
        Some(frame)
    }

    /// Frees a packet that has just left its queue, or leaves it to whoever has a copy.
    #[inline]
    pub(in super::super) fn release(&mut self, chunk: u32) {
        let more = self.release_one(chunk);
        if more != NONE {
            self.release_chain(more);
        }
    }

    #[inline(never)]
    fn release_chain(&mut self, mut chunk: u32) {
        while chunk != NONE {
            chunk = self.release_one(chunk);
        }
    }

    /// The same of one chunk; says which one of its packet is next, if that is to be freed too.
    #[inline]
    fn release_one(&mut self, chunk: u32) -> u32 {
        let Some(meta) = self.meta.get_mut(chunk as usize) else { return NONE };
        debug_assert_eq!(meta.place, ON_QUEUE);
        let more = meta.more;
        match std::mem::replace(&mut meta.copied, Copied::No) {
            Copied::No => {
                self.push_free(chunk);
                more
            }
            Copied::Held => {
                // From now on the chunk, and what its packet goes on in, is that one's alone.
                (meta.extent, meta.place, meta.cut) = (meta.sent_extent(), Place::Held, 0);
                NONE
            }
            Copied::Transmit => {
                (meta.place, meta.cut) = (Place::Transmit, 0);
                NONE
            }
        }
    }

    #[inline]
    pub(in super::super) fn set_next(&mut self, chunk: u32, next: u32) {
        self.meta[chunk as usize].next = next;
    }
}
