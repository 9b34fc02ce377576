//! Ownership of packet memory: one frame, a burst of them.

use arrayvec::ArrayVec;

/// The most frames that one turn takes in, and the most it puts out.
///
/// 64 descriptors are what one cache-resident pass over a batch costs least with on AF_XDP (the kernel's
/// own copy-mode transmit works in batches of 32), and a burst at 1 Mpps is then 64 us of work.
pub const BURST: usize = 64;

/// Ownership of one chunk of a [`Umem`](super::Umem), or of a chain of them, holding a packet.
///
/// Neither `Copy` nor `Clone`: whoever has the frame, and nobody else, may touch the chunk's bytes, and has
/// to pass it on: to a burst, a ring, a [`FrameQueue`](super::FrameQueue) or back with [`Umem::free`](super::Umem::free). A frame that is merely
/// dropped is a leaked chunk, which the simulator's account of all chunks finds.
///
/// `offset` and `len` say where in the first chunk the packet lies (bytes). The memory before it is headroom.
#[must_use = "a frame that is dropped is a chunk lost: pass it on or free it"]
///
/// All three are kept in one word: written in parts and read whole, as bursts do, they would stall every time
/// on the store (some 12 cycles).
#[derive(Debug)]
pub struct Frame(u64);

const _: () = assert!(size_of::<Frame>() == 8);

/// Where in its chunk a packet lies: the lower half of a [`Frame`], for what is kept beside the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent(u32);

impl Extent {
    #[inline]
    pub(super) const fn new(offset: u16, len: u16) -> Self {
        Self((offset as u32) << 16 | len as u32)
    }

    #[inline]
    pub(super) const fn offset(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    pub(super) const fn len(self) -> u16 {
        self.0 as u16
    }

    /// Where it ends, bytes from the start of the chunk.
    #[inline]
    pub(super) const fn end(self) -> usize {
        self.offset() as usize + self.len() as usize
    }
}

impl Frame {
    #[inline]
    pub(super) const fn new(chunk: u32, offset: u16, len: u16) -> Self {
        Self::at(chunk, Extent::new(offset, len))
    }

    #[inline]
    pub(super) const fn at(chunk: u32, extent: Extent) -> Self {
        Self((chunk as u64) << 32 | extent.0 as u64)
    }

    #[inline]
    pub(super) const fn extent(&self) -> Extent {
        Extent(self.0 as u32)
    }

    #[inline]
    pub(super) const fn place_at(&mut self, offset: u16, len: u16) {
        *self = Self::new(self.chunk(), offset, len);
    }

    /// Makes the packet `len` bytes longer at its start; `false`, and no change, if there is less in front of it.
    #[inline]
    pub(super) const fn grow_front(&mut self, len: u16) -> bool {
        let fits = len <= self.offset();
        if fits {
            // One sum for both halves: it lies in one chunk as before, so that neither carries over.
            debug_assert!(self.extent().end() <= u16::MAX as usize);
            self.0 = self.0 - ((len as u64) << 16) + len as u64;
        }
        fits
    }

    /// Number of the chunk in its UMEM.
    #[inline]
    #[must_use]
    pub const fn chunk(&self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where the packet starts, in bytes from the start of the chunk.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> u16 {
        self.extent().offset()
    }

    /// Bytes of the packet in this chunk: all of them unless the frame is a chain.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u16 {
        self.extent().len()
    }

    /// Whether the packet has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Up to [`BURST`] frames on their way between device and stack.
#[derive(Debug, Default)]
pub struct Burst(ArrayVec<Frame, BURST>);

impl Burst {
    /// A burst without frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Frames in the burst.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no frame in the burst.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frames that can still be pushed.
    #[must_use]
    pub fn room(&self) -> usize {
        self.0.remaining_capacity()
    }

    /// Appends a frame, or gives it back when the burst is full.
    ///
    /// # Errors
    /// The frame itself, when there is no room.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        self.0.try_push(frame).map_err(|full| full.element())
    }

    /// Takes out the first `count` frames, or all if there are fewer, in order.
    #[inline]
    pub fn take(&mut self, count: usize) -> impl Iterator<Item = Frame> + '_ {
        let count = count.min(self.0.len());
        self.0.drain(..count)
    }

    /// Takes out all frames, in order.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.0.drain(..)
    }

    /// The frames, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter()
    }
}
