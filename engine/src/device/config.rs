//! What an AF_XDP socket is opened with, whichever driver opens it, and how much memory that takes.

use super::OpenError;
use crate::base::{BURST, ChunkSize, UmemConfig};

/// Which way of moving packets between NIC and memory is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy where the driver can, copy otherwise; [`Granted`] tells.
    #[default]
    Auto,
    /// The NIC reads and writes our memory itself, or it is an error.
    ZeroCopy,
    /// The kernel copies between its memory and ours.
    Copy,
}

/// Which way of moving packets the kernel granted (`XDP_OPTIONS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The NIC reads and writes our memory itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

impl Granted {
    /// Word for the start line and for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        }
    }
}

/// Entries of the four rings of a socket; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Chunks given to the kernel to receive into.
    pub fill: u32,
    /// Chunks given back after transmission.
    pub completion: u32,
    /// Frames received.
    pub rx: u32,
    /// Frames to transmit.
    pub tx: u32,
}

impl RingSizes {
    /// All four of `size` entries.
    #[must_use]
    pub const fn all(size: u32) -> Self {
        Self { fill: size, completion: size, rx: size, tx: size }
    }

    /// The sizes with the name that each has for the operator.
    fn named(self) -> [(&'static str, u32); 4] {
        [("fill", self.fill), ("completion", self.completion), ("receive", self.rx), ("transmit", self.tx)]
    }
}

impl Default for RingSizes {
    /// 8192 each: at 1 Mpps that is 8 ms, longer than the stalls of 3 to 6 ms in which a virtual machine does
    /// not run us and smaller rings overflow.
    fn default() -> Self {
        Self::all(8192)
    }
}

/// Everything that [`AfXdp::open`](super::AfXdp::open) needs to know.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Name of the interface.
    pub interface: String,
    /// Index of the interface in the network namespace of the calling thread.
    pub ifindex: u32,
    /// Queue of the interface.
    pub queue: u32,
    /// Zero-copy or copy.
    pub mode: BindMode,
    /// Frames may be spread over several chunks (`XDP_USE_SG`), for an MTU that one chunk does not hold. Needs
    /// an XDP program that declares fragments, and Linux 6.6.
    pub multi_buffer: bool,
    /// Entries of the rings.
    pub rings: RingSizes,
    /// Size of a chunk.
    pub chunk_size: ChunkSize,
    /// Chunks beyond what rings and bursts take: as many as the stack may hold in its queues.
    pub extra_chunks: u32,
    /// Try huge pages first.
    pub huge_pages: bool,
    /// Where the kernel copies, give it TCP segments that lie behind each other as one that it cuts up (generic segmentation
    /// offload), through a packet socket. [`AfXdp`](super::AfXdp) alone can.
    pub gso: bool,
}

/// Chunks that are never given to the fill ring, so that the stack can always answer: a burst being received, one
/// being transmitted, one that waits, and one for what the stack says of its own accord.
const BURST_CHUNKS: u32 = 4 * BURST as u32;

/// Chunks of an ordinary frame of those that are spread: of 9,000 bytes.
const USUAL_PARTS: u32 = 3;

/// Chunks of a received frame at most: Linux builds packets of no more (`MAX_SKB_FRAGS` + 1). What has more is not a
/// frame but a fault.
pub(super) const MAX_RECEIVED_PARTS: u32 = 18;

/// Chunks of a frame to send at most: as many as every kernel with multi-buffer support takes (`MAX_SKB_FRAGS` can be
/// configured down to 17, and the limit of the copy path is one below it).
pub(super) const MAX_SENT_PARTS: u32 = 16;

/// The same in zero-copy mode: descriptors that i40e and ice take for a frame.
const MAX_ZERO_COPY_PARTS: u32 = 8;

/// What a frame is longer than its IP packet, bytes: an Ethernet header with two tags, and the check sequence,
/// which drivers such as igb count too.
const LINK_OVERHEAD: u32 = 26;

/// Bytes of a received frame that a chunk holds. Where the NIC itself writes, drivers round the chunk's room down to
/// whole KiB (igb cuts longer frames silently); the kernel, where it copies, does not.
const fn room(chunk_size: ChunkSize, zero_copy: bool) -> u32 {
    // The kernel leaves as much free in front of a received frame, and of each of its parts.
    let room = chunk_size.room() as u32;
    if zero_copy { room / 1024 * 1024 } else { room }
}

/// The longest IP packet whose frame one chunk holds, bytes.
#[must_use]
pub const fn most_mtu(chunk_size: ChunkSize, zero_copy: bool) -> u32 {
    room(chunk_size, zero_copy) - LINK_OVERHEAD
}

/// The longest IP packet whose frame can be received into and sent from several chunks, bytes.
#[must_use]
pub const fn most_mtu_of_chain(chunk_size: ChunkSize, zero_copy: bool) -> u32 {
    let parts = if zero_copy { MAX_ZERO_COPY_PARTS } else { MAX_SENT_PARTS };
    parts * room(chunk_size, zero_copy) - LINK_OVERHEAD
}

/// The number of chunks is a multiple of this, a page or more in either chunk size.
const CHUNK_GRAIN: u32 = 64;

/// Size of a huge page, which memory on huge pages is a multiple of.
const HUGE_PAGE_BYTES: u32 = 2 << 20;

impl SocketConfig {
    /// Default rings, 2,048-byte chunks and no more of them than needed, segmentation by the kernel, on `queue` of `interface`.
    #[must_use]
    pub fn new(interface: &str, ifindex: u32, queue: u32) -> Self {
        Self {
            interface: interface.to_owned(),
            ifindex,
            queue,
            mode: BindMode::Auto,
            multi_buffer: false,
            rings: RingSizes::default(),
            chunk_size: ChunkSize::Bytes2048,
            extra_chunks: 0,
            huge_pages: false,
            gso: true,
        }
    }

    /// Memory for the rings: those to receive, those to transmit, and the rest for the stack.
    ///
    /// Chunks to receive into are in the fill or in the receive ring, those to transmit in the transmit or in
    /// the completion ring. Both rings of a pair are full at once only while nobody takes anything out, and
    /// then there is nothing to gain from more memory: the larger of the two counts.
    #[must_use]
    pub fn umem(&self) -> UmemConfig {
        let RingSizes { fill, completion, rx, tx } = self.rings;
        let rings = fill.max(rx).saturating_add(completion.max(tx));
        let chunks = rings.saturating_add(self.burst_chunks()).saturating_add(self.extra_chunks);
        let grain = if self.huge_pages { HUGE_PAGE_BYTES / self.chunk_size.bytes() } else { CHUNK_GRAIN };
        let chunks = chunks.checked_next_multiple_of(grain).unwrap_or(chunks);
        UmemConfig { chunks, chunk_size: self.chunk_size, huge_pages: self.huge_pages }
    }

    /// Chunks that are never given to the fill ring.
    pub(super) const fn burst_chunks(&self) -> u32 {
        if self.multi_buffer { BURST_CHUNKS * USUAL_PARTS } else { BURST_CHUNKS }
    }

    /// Checks what the kernel would refuse without a word of explanation.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        for (ring, size) in self.rings.named() {
            if !size.is_power_of_two() || !(2..=MAX_RING).contains(&size) {
                return Err(OpenError::RingSize { ring, size });
            }
        }
        Ok(())
    }
}

/// Largest ring: 2^20 frames are a second of 1 Mpps, and more would only be delay.
const MAX_RING: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_rings_bursts_and_what_the_stack_keeps() {
        let mut config = SocketConfig::new("bw0", 1, 0);
        config.extra_chunks = 1;
        let chunks = config.umem().chunks;
        assert_eq!(chunks % CHUNK_GRAIN, 0);
        assert!(chunks > 2 * 8192 + 4 * 64);
        assert!(chunks < 2 * 8192 + 4 * 64 + 1 + CHUNK_GRAIN);
    }

    #[test]
    fn memory_on_huge_pages_is_whole_huge_pages() {
        for chunk_size in [ChunkSize::Bytes2048, ChunkSize::Bytes4096] {
            let config = SocketConfig { huge_pages: true, chunk_size, ..SocketConfig::new("bw0", 1, 0) };
            assert_eq!(config.umem().chunks * chunk_size.bytes() % HUGE_PAGE_BYTES, 0);
        }
    }

    #[test]
    fn ring_sizes_that_are_not_powers_of_two_are_refused_by_name() {
        for size in [0, 1, 3, 8191, 1 << 21, u32::MAX] {
            let mut config = SocketConfig::new("bw0", 1, 0);
            config.rings.tx = size;
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains("transmit") && error.contains(&size.to_string()), "{error}");
        }
        assert!(SocketConfig::new("bw0", 1, 0).check().is_ok());
    }
}
