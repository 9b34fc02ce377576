//! How much packet memory, in what pieces, and what it came from.

use super::HEADROOM;

/// Sizes of chunks that AF_XDP accepts in aligned mode: powers of two between 2,048 bytes and a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkSize {
    /// Two chunks a page: what copy mode needs for an MTU of 1,500.
    Bytes2048,
    /// One chunk a page: what zero-copy drivers need that round buffers down to whole KiB.
    Bytes4096,
}

impl ChunkSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Bytes2048 => 2048,
            Self::Bytes4096 => 4096,
        }
    }

    /// Bytes behind the headroom that is left in front of every frame.
    #[must_use]
    pub const fn room(self) -> u16 {
        self.bytes() as u16 - HEADROOM
    }
}

/// How much memory, in what pieces.
#[derive(Clone, Copy, Debug)]
pub struct UmemConfig {
    /// Number of chunks.
    pub chunks: u32,
    /// Size of a chunk.
    pub chunk_size: ChunkSize,
    /// Try huge pages first.
    pub huge_pages: bool,
}

/// What the memory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A memfd on huge pages.
    HugePages,
    /// A memfd on ordinary pages.
    Memfd,
    /// Memory that a driver library made.
    Driver,
}

impl Backing {
    /// Word for the start line and for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HugePages => "huge pages",
            Self::Memfd => "memfd",
            Self::Driver => "driver memory",
        }
    }
}
