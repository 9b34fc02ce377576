//! What every layer stands on: frames, the memory they lie in, time, and the closed lists of what can
//! become of a packet. Imports nothing of the other layers.

mod drop_reason;
mod frame;
mod prefetch;
mod queue;
mod time;
mod umem;

pub use drop_reason::{DropReason, UnsentReason};
pub use frame::{BURST, Burst, Frame};
pub(crate) use prefetch::prefetch;
pub use queue::{FrameQueue, Note, Queued};
pub use time::Instant;
#[cfg(test)]
pub(crate) use umem::STEPS;
pub use umem::{Backing, ChunkSize, Descriptor, Place, Umem, UmemConfig, UmemError};
