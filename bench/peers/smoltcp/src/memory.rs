//! A device of memory: what is put in comes out of `receive`, what is transmitted can be taken out.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Ethernet header and an MTU of 1500.
const FRAME: usize = 1514;

/// Frames on their way in and out. Nothing is allocated by [`Device::receive`] and [`Device::transmit`] as
/// long as [`refill`](Self::refill) is called in time.
#[derive(Debug, Default)]
pub struct Memory {
    /// Frames to be received.
    pub incoming: VecDeque<Vec<u8>>,
    /// Frames that were transmitted.
    pub outgoing: Vec<Vec<u8>>,
    /// Buffers for frames to be transmitted.
    empty: Vec<Vec<u8>>,
    /// Buffers of frames that were received.
    used: Vec<Vec<u8>>,
}

impl Memory {
    /// Provides buffers for `frames` frames.
    pub fn refill(&mut self, frames: usize) {
        self.used.clear();
        while self.empty.len() < frames {
            self.empty.push(Vec::with_capacity(FRAME));
        }
    }
}

impl Device for Memory {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let frame = self.incoming.pop_front()?;
        let outgoing = Outgoing { empty: &mut self.empty, frames: &mut self.outgoing };
        Some((Incoming { frame, used: &mut self.used }, outgoing))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { empty: &mut self.empty, frames: &mut self.outgoing })
    }
}

/// A frame that was received.
#[derive(Debug)]
pub struct Incoming<'a> {
    frame: Vec<u8>,
    used: &'a mut Vec<Vec<u8>>,
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.frame);
        self.used.push(self.frame);
        result
    }
}

/// Room for a frame to be transmitted.
#[derive(Debug)]
pub struct Outgoing<'a> {
    empty: &'a mut Vec<Vec<u8>>,
    frames: &'a mut Vec<Vec<u8>>,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.empty.pop().unwrap_or_default();
        frame.resize(len, 0);
        let result = f(&mut frame);
        self.frames.push(frame);
        result
    }
}
