//! The packet memory of one worker: chunks of equal size, a free list, and metadata beside every chunk.
//!
//! ```text
//!  memory    | chunk 0       | chunk 1       | chunk 2       | ...        shared with the kernel, chunk-aligned
//!              ^ headroom ^ packet ^ tailroom
//!  metadata  | next more note place offset len | ...                      ours alone
//!  free      LIFO: the chunk freed last is the one used next, so few chunks stay in the cache
//! ```
//!
//! Every chunk is in exactly one [`Place`], written down in its metadata. A number that comes back from a
//! ring is checked against it before it becomes a [`Frame`] again: a NIC that hands out a chunk twice, or
//! one that it was never given, is told no and counted, and memory stays sound.
#![allow(unsafe_code)]

mod chain;
mod config;
mod parked;

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::frame::{Extent, Frame};
use super::queue::Note;
pub use config::{Backing, ChunkSize, UmemConfig};
#[cfg(test)]
pub(crate) use parked::STEPS;

/// No chunk: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes in front of a frame that the stack builds itself: as much as the kernel leaves in front of those it
/// receives (`XDP_PACKET_HEADROOM`), so that headers can be put before any payload.
const HEADROOM: u16 = 256;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// On the free list.
    Free,
    /// Owned by a [`Frame`] in somebody's hands: a burst, or a function at work.
    Held,
    /// On a [`FrameQueue`](super::FrameQueue).
    Queue,
    /// With the device, to receive into: in the fill ring, or received and not yet taken out.
    Fill,
    /// With the device, to transmit: in the transmit ring, or sent and not yet completed.
    Transmit,
}

/// Where a second owner of a chunk's bytes is: a frame on a queue may at the same time be on its way to the
/// device (RFC 9293 keeps what is sent until it is acknowledged, and nothing is copied for that).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Copied {
    /// There is none.
    No,
    /// A [`Frame`] in somebody's hands.
    Held,
    /// The device: in the transmit ring, or sent and not yet completed.
    Transmit,
}

#[derive(Clone, Copy, Debug)]
struct ChunkMeta {
    /// Next chunk of the list that the chunk is on.
    next: u32,
    /// The chunk that continues the packet, when it is a chain. Of a chunk that has two owners it is the second one's
    /// packet: on a queue only those that are no chain are shared.
    more: u32,
    note: Note,
    extent: Extent,
    /// Bytes that were cut off the front on the queue since the second owner got the chunk, who still has them.
    cut: u16,
    place: Place,
    copied: Copied,
}

impl ChunkMeta {
    /// Where the second owner's bytes are, or the only one's.
    #[inline]
    const fn sent_extent(&self) -> Extent {
        Extent::new(self.extent.offset().wrapping_sub(self.cut), self.extent.len().wrapping_add(self.cut))
    }
}

// Two of them in a cache line.
const _: () = assert!(size_of::<ChunkMeta>() == 32);

/// The memory could not be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "no memory for packets: {bytes} bytes in {chunks} chunks ({source}); use a smaller --ring-size or --tcp-memory, \
     or give the process more memory (ulimit -v, the cgroup's memory.max)"
)]
pub struct UmemError {
    bytes: u64,
    chunks: u32,
    source: io::Error,
}

/// Descriptor of a packet's bytes as AF_XDP rings have it (`struct xdp_desc` without its options).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Offset of the first byte from the start of the UMEM, bytes.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
}

/// The packet memory of one worker. See the module's text.
pub struct Umem {
    memory: NonNull<u8>,
    bytes: usize,
    chunk_shift: u32,
    meta: Box<[ChunkMeta]>,
    free: u32,
    free_count: u32,
    backing: Backing,
    owner: Owner,
}

/// What has to be released with the memory.
enum Owner {
    /// The mapping is ours.
    Memfd(OwnedFd),
    /// The value keeps the memory mapped for as long as it lives.
    Driver { _keep: Box<dyn Any + Send> },
}

// SAFETY: the memory is owned by the value (through `owner`), which reaches it only through `&self` and `&mut self`.
unsafe impl Send for Umem {}

impl std::fmt::Debug for Umem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Umem").field("chunks", &self.meta.len()).field("free", &self.free_count).finish_non_exhaustive()
    }
}

impl Umem {
    /// Makes a memory of `config.chunks` chunks, all free, backed by a memfd: on huge pages if asked and there
    /// are any, on ordinary ones otherwise ([`Umem::backing`] tells).
    ///
    /// # Errors
    /// [`UmemError`] when the kernel refuses the memory.
    pub fn new(config: UmemConfig) -> Result<Self, UmemError> {
        let bytes = u64::from(config.chunks) * u64::from(config.chunk_size.bytes());
        let error = |source| UmemError { bytes, chunks: config.chunks, source };
        let len = usize::try_from(bytes).map_err(|_| error(io::ErrorKind::OutOfMemory.into()))?;
        if len == 0 || config.chunks == NONE {
            return Err(error(io::ErrorKind::InvalidInput.into()));
        }
        let huge = if config.huge_pages { map_memfd(len, libc::MFD_HUGETLB).ok() } else { None };
        let (backing, (fd, memory)) = match huge {
            Some(mapped) => (Backing::HugePages, mapped),
            None => (Backing::Memfd, map_memfd(len, 0).map_err(error)?),
        };
        Ok(Self::with_memory(memory, config, len, backing, Owner::Memfd(fd)))
    }

    /// Takes over memory that a driver library made: `config.chunks` chunks from `memory` on.
    ///
    /// # Safety
    /// The memory must be mapped readable and writable, aligned to the chunk size, and stay so while `keep`
    /// lives; apart from the kernel, nobody else may touch it.
    pub unsafe fn from_driver(memory: NonNull<u8>, config: UmemConfig, keep: Box<dyn Any + Send>) -> Self {
        let bytes = config.chunks as usize * config.chunk_size.bytes() as usize;
        Self::with_memory(memory, config, bytes, Backing::Driver, Owner::Driver { _keep: keep })
    }

    fn with_memory(memory: NonNull<u8>, config: UmemConfig, bytes: usize, backing: Backing, owner: Owner) -> Self {
        let last = config.chunks - 1;
        let free = |chunk| ChunkMeta {
            next: if chunk == last { NONE } else { chunk + 1 },
            more: NONE,
            note: Note::EMPTY,
            extent: Extent::new(0, 0),
            cut: 0,
            place: Place::Free,
            copied: Copied::No,
        };
        Self {
            memory,
            bytes,
            chunk_shift: config.chunk_size.bytes().trailing_zeros(),
            meta: (0..config.chunks).map(free).collect(),
            free: 0,
            free_count: config.chunks,
            backing,
            owner,
        }
    }

    /// Number of chunks in all.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.meta.len() as u32
    }

    /// Number of chunks on the free list.
    #[must_use]
    pub fn free_chunks(&self) -> u32 {
        self.free_count
    }

    /// Size of a chunk in bytes.
    #[must_use]
    pub const fn chunk_bytes(&self) -> u32 {
        1 << self.chunk_shift
    }

    /// What the memory came from.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// Address and length in bytes, to register with the kernel.
    #[must_use]
    pub fn region(&self) -> (NonNull<u8>, usize) {
        (self.memory, self.bytes)
    }

    /// The memfd behind the memory, unless a driver library made it.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.owner {
            Owner::Memfd(fd) => Some(fd.as_fd()),
            Owner::Driver { .. } => None,
        }
    }

    /// Takes a chunk from the free list: an empty frame with headroom before it.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.pop_free()?;
        self.meta[chunk as usize].place = Place::Held;
        Some(Frame::new(chunk, HEADROOM, 0))
    }

    /// Puts the chunks of a frame back on the free list. What also lies on a queue stays there.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        let mut chunk = frame.chunk();
        while let Some(meta) = self.meta.get_mut(chunk as usize) {
            let more = meta.more;
            if meta.copied == Copied::Held {
                (meta.copied, meta.more, meta.cut) = (Copied::No, NONE, 0);
            } else {
                debug_assert_eq!(meta.place, Place::Held, "chunk {chunk}");
                self.push_free(chunk);
            }
            chunk = more;
        }
    }

    /// The packet's bytes (of a chain: those in its first chunk).
    #[inline]
    #[must_use]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        self.slice(frame.chunk(), frame.offset(), frame.len())
    }

    /// The packet's bytes (of a chain: those in its first chunk), to write.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.slice_mut(frame.chunk(), frame.offset(), frame.len())
    }

    /// All bytes from the packet's start to the end of its chunk, to write a longer packet.
    #[inline]
    #[must_use]
    pub fn room_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let room = self.chunk_bytes().saturating_sub(u32::from(frame.offset()));
        self.slice_mut(frame.chunk(), frame.offset(), room as u16)
    }

    /// Makes the packet `len` bytes long; `false`, and no change, if the chunk has no room for it.
    #[inline]
    #[must_use]
    pub fn set_len(&self, frame: &mut Frame, len: usize) -> bool {
        let fits = len <= (self.chunk_bytes() as usize).saturating_sub(usize::from(frame.offset()));
        if fits {
            frame.place_at(frame.offset(), len as u16);
        }
        fits
    }

    /// Cuts `front` bytes off the packet's start, which become headroom, and everything behind the next `len`.
    /// `false`, and no change, if the packet is shorter than that.
    #[inline]
    #[must_use]
    pub const fn narrow(frame: &mut Frame, front: usize, len: usize) -> bool {
        let fits = front + len <= frame.len() as usize;
        if fits {
            frame.place_at(frame.offset() + front as u16, len as u16);
        }
        fits
    }

    /// Makes the packet `len` bytes longer at its start, out of the headroom: those bytes, to write a header
    /// into. `None`, and no change, if the headroom is shorter than that.
    #[inline(always)]
    #[must_use]
    pub fn prepend_len(&mut self, frame: &mut Frame, len: u16) -> Option<&mut [u8]> {
        if !frame.grow_front(len) {
            return None;
        }
        self.bytes_mut(frame).get_mut(..usize::from(len))
    }

    /// Makes the packet `N` bytes longer at its start, out of the headroom: those bytes, to write a header
    /// into. `None`, and no change, if the headroom is shorter than that.
    #[inline]
    #[must_use]
    pub fn prepend<const N: usize>(&mut self, frame: &mut Frame) -> Option<&mut [u8; N]> {
        if !frame.grow_front(N as u16) {
            return None;
        }
        self.bytes_mut(frame).first_chunk_mut()
    }

    /// Moves the packet's bytes within its (first) chunk, to start at `offset`; `false`, and no change, if they
    /// do not fit there.
    #[must_use]
    pub fn shift(&mut self, frame: &mut Frame, offset: u16) -> bool {
        let chunk_bytes = self.chunk_bytes() as usize;
        let (from, len) = (usize::from(frame.offset()), usize::from(frame.len()));
        if usize::from(offset) + len > chunk_bytes {
            return false;
        }
        let chunk = self.slice_mut(frame.chunk(), 0, chunk_bytes as u16);
        if from + len > chunk.len() {
            return false;
        }
        chunk.copy_within(from..from + len, usize::from(offset));
        if let Some(meta) = self.meta.get_mut(frame.chunk() as usize).filter(|meta| meta.copied == Copied::Held) {
            // The queue that the bytes also lie on finds them where they are now.
            let queued_at = meta.extent.offset().wrapping_add(offset).wrapping_sub(frame.offset());
            meta.extent = Extent::new(queued_at, meta.extent.len());
        }
        frame.place_at(offset, frame.len());
        true
    }

    /// Hands the first chunk of a packet to the device for transmission; the rest of its chain comes back.
    #[inline]
    pub fn lend(&mut self, frame: Frame) -> (Descriptor, Option<Frame>) {
        let meta = &mut self.meta[frame.chunk() as usize];
        if meta.copied == Copied::Held {
            meta.copied = Copied::Transmit;
        } else {
            debug_assert_eq!(meta.place, Place::Held);
            meta.place = Place::Transmit;
        }
        let more = std::mem::replace(&mut meta.more, NONE);
        let rest = self.part(more);
        let addr = (u64::from(frame.chunk()) << self.chunk_shift) + u64::from(frame.offset());
        (Descriptor { addr, len: u32::from(frame.len()) }, rest)
    }

    /// Takes back a chunk that the device says is sent, and frees it unless it also lies on a queue. `false` if
    /// the device never had it.
    #[inline]
    #[must_use]
    pub fn complete(&mut self, addr: u64) -> bool {
        let Some(chunk) = self.chunk_of(addr) else { return false };
        let meta = &mut self.meta[chunk as usize];
        if meta.copied == Copied::Transmit {
            (meta.copied, meta.cut) = (Copied::No, 0);
        } else if meta.place == Place::Transmit {
            self.push_free(chunk);
        } else {
            return false;
        }
        true
    }

    /// Hands a free chunk to the device to receive into: its address in the UMEM.
    #[inline]
    pub fn lend_empty(&mut self) -> Option<u64> {
        let chunk = self.pop_free()?;
        self.meta[chunk as usize].place = Place::Fill;
        Some(u64::from(chunk) << self.chunk_shift)
    }

    /// Takes back a chunk that the device says it received into. `None` if it never had it, or if the bytes
    /// do not lie within the chunk (the chunk is then freed).
    #[inline]
    pub fn received(&mut self, descriptor: Descriptor) -> Option<Frame> {
        let chunk = self.chunk_of(descriptor.addr)?;
        if self.meta[chunk as usize].place != Place::Fill {
            return None;
        }
        let offset = (descriptor.addr as u32) & (self.chunk_bytes() - 1);
        if u64::from(offset) + u64::from(descriptor.len) > u64::from(self.chunk_bytes()) {
            self.push_free(chunk);
            return None;
        }
        self.meta[chunk as usize].place = Place::Held;
        let frame = Frame::new(chunk, offset as u16, descriptor.len as u16);
        self.prefetch(&frame);
        Some(frame)
    }

    /// Has the frame's headers on their way into the nearest cache.
    ///
    /// Once as it is taken in, for another core or the NIC wrote them; and once more just before its turn: the
    /// chunks of a burst lie a power of two apart, and the nearest cache holds only a few such lines.
    #[inline]
    pub(crate) fn prefetch(&self, frame: &Frame) {
        if let Some(first) = self.bytes(frame).first() {
            super::prefetch::prefetch(first);
        }
    }

    /// Takes back every chunk that the device still has: only when it is closed and can write no more.
    pub fn reclaim(&mut self) {
        for chunk in 0..self.chunks() {
            let meta = &mut self.meta[chunk as usize];
            if meta.copied == Copied::Transmit {
                (meta.copied, meta.cut) = (Copied::No, 0);
            }
            if matches!(self.meta[chunk as usize].place, Place::Fill | Place::Transmit) {
                self.push_free(chunk);
            }
        }
    }

    /// Number of chunks in `place`, by looking at every one: for tests and for reports, not for the path.
    #[must_use]
    pub fn count(&self, place: Place) -> u32 {
        self.meta.iter().filter(|meta| meta.place == place).count() as u32
    }

    /// Number of chunks on queues that are also in a frame in somebody's hands, and of those that the device
    /// also has: by looking at every one.
    #[must_use]
    pub fn count_copied(&self) -> (u32, u32) {
        let count = |copied| self.meta.iter().filter(|meta| meta.copied == copied).count() as u32;
        (count(Copied::Held), count(Copied::Transmit))
    }

    #[inline]
    fn pop_free(&mut self) -> Option<u32> {
        let chunk = self.free;
        self.free = self.meta.get(chunk as usize)?.next;
        self.free_count -= 1;
        Some(chunk)
    }

    #[inline]
    fn push_free(&mut self, chunk: u32) {
        let meta = &mut self.meta[chunk as usize];
        (meta.next, meta.more, meta.place) = (self.free, NONE, Place::Free);
        self.free = chunk;
        self.free_count += 1;
    }

    /// The chunk that `addr` lies in, if there is one.
    #[inline]
    fn chunk_of(&self, addr: u64) -> Option<u32> {
        u32::try_from(addr >> self.chunk_shift).ok().filter(|&chunk| (chunk as usize) < self.meta.len())
    }

    /// The address of a range within one chunk, if it lies in the memory.
    #[inline]
    fn at(&self, chunk: u32, offset: u16, len: u16) -> Option<NonNull<u8>> {
        let start = ((chunk as usize) << self.chunk_shift) + usize::from(offset);
        // SAFETY: start + len <= bytes, so the address lies in the mapping.
        (start + usize::from(len) <= self.bytes).then(|| unsafe { self.memory.add(start) })
    }

    #[inline]
    fn slice(&self, chunk: u32, offset: u16, len: u16) -> &[u8] {
        match self.at(chunk, offset, len) {
            // SAFETY: `at` checked that the range lies in the mapped memory. The shared borrow of `self` keeps
            // every mutable slice away. The kernel writes only to chunks in the fill ring, which are in no frame
            // and on no queue.
            Some(first) => unsafe { std::slice::from_raw_parts(first.as_ptr(), usize::from(len)) },
            None => &[],
        }
    }

    /// Copies bytes from one place to another, each a chunk and an offset in it; `false`, and no change, if one of
    /// them is not in the memory.
    fn copy(&mut self, from: (u32, u16), to: (u32, u16), len: u16) -> bool {
        let (Some(from), Some(to)) = (self.at(from.0, from.1, len), self.at(to.0, to.1, len)) else { return false };
        // SAFETY: `at` checked that both ranges lie in the mapped memory; the exclusive borrow of `self` keeps every
        // slice of it away, and the ranges may overlap.
        unsafe { std::ptr::copy(from.as_ptr(), to.as_ptr(), usize::from(len)) };
        true
    }

    #[inline]
    fn slice_mut(&mut self, chunk: u32, offset: u16, len: u16) -> &mut [u8] {
        match self.at(chunk, offset, len) {
            // SAFETY: as in `slice`; the exclusive borrow of `self` keeps every other slice away.
            Some(first) => unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), usize::from(len)) },
            None => &mut [],
        }
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        if let Owner::Memfd(_) = self.owner {
            // SAFETY: the range is the one that `map_memfd` mapped, and no slice of it outlives `self`.
            unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
        }
    }
}

/// A new memfd of `len` bytes and where it is mapped, every page present.
fn map_memfd(len: usize, flags: libc::c_uint) -> io::Result<(OwnedFd, NonNull<u8>)> {
    // SAFETY: the name is a C string; the result is checked.
    let fd = unsafe { libc::memfd_create(c"barewire-umem".as_ptr(), flags | libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // SAFETY: a plain system call on our own descriptor.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (prot, map) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, map, fd.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let memory = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
    Ok((fd, memory))
}

#[cfg(test)]
mod tests;
