//! What loads a server in a comparison, by the length of the frames.

use super::frame::{self, Path};
use super::live_frames::LiveFrames;
use super::receiver::Hook;
use super::socket_frames::SocketFrames;
use super::trial::{Offer, Outcome};
use crate::error::Result;
use crate::interface::Interface;
use crate::result::{BackEnd, Timestamps};

/// A sender with its receiver.
pub(crate) enum Generator {
    Live(Box<LiveFrames>),
    Socket(Box<SocketFrames>),
}

impl Generator {
    /// For frames of `frame_len` bytes.
    ///
    /// # Errors
    /// What the sender says.
    pub(crate) fn open(interface: &Interface, path: Path, hook: Hook, frame_len: usize) -> Result<Self> {
        if frame_len <= frame::MAX_LIVE_LEN {
            return Ok(Self::Live(LiveFrames::open(interface, path, hook)?.into()));
        }
        Ok(Self::Socket(SocketFrames::open(interface, path, hook)?.into()))
    }

    /// What sends, and where the moment of arrival is read: at the interface.
    pub(crate) const fn back_end(&self) -> (BackEnd, Timestamps) {
        match self {
            Self::Live(_) => (BackEnd::LiveFrames, Timestamps::Interface),
            Self::Socket(_) => (BackEnd::Kernel, Timestamps::Interface),
        }
    }

    /// Makes the source known where no kernel answers for it: on a VLAN. What is known so is forgotten after some seconds.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn introduce(&self) -> Result<()> {
        match self {
            Self::Live(sender) => sender.introduce(),
            Self::Socket(_) => Ok(()),
        }
    }

    /// Sends what is offered and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer) -> Result<Outcome> {
        match self {
            Self::Live(sender) => sender.run(offer),
            Self::Socket(sender) => sender.run(offer),
        }
    }
}
