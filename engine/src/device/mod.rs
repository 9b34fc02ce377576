//! Devices: what frames come from and go to. Sees frames and memory, never the stack.
//!
//! [`AfXdp`] is the device for production, on rings of our own. With the cargo feature `xsk-rs` there is a
//! second one on the crate of that name: the same in everything but speed, to check the first one against. [`Memory`]
//! needs neither a NIC nor a kernel, and is for tests of what runs on the stack.

mod af_xdp;
mod bind;
mod config;
mod error;
mod gso;
mod memory;
#[cfg(feature = "xsk-rs")]
mod xsk_rs;

use std::io;
use std::time::Duration;

pub use self::af_xdp::AfXdp;
pub use self::config::{BindMode, Granted, RingSizes, SocketConfig, most_mtu, most_mtu_of_chain};
pub use self::error::OpenError;
pub use self::memory::Memory;
#[cfg(feature = "xsk-rs")]
pub use self::xsk_rs::XskRs;
use crate::base::{Burst, Umem};

/// A queue of a network interface, or what stands for one.
///
/// The worker calls, once a turn each: [`receive`](Device::receive), then [`transmit`](Device::transmit).
/// Neither waits, and each makes at most a bounded number of system calls per burst.
pub trait Device {
    /// Takes back chunks that were sent, gives free ones to receive into, and appends received frames to
    /// `burst` as far as it has room.
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst);

    /// Sends frames from the front of `burst`, in order. Those for which there is no room stay in it:
    /// the caller offers them again or frees them.
    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst);

    /// Whether it makes several frames of one whose packet of TCP is longer than the link takes: a chain, with headers in its
    /// first chunk, as many bytes of text there as in each of the others, and a last one that may have fewer. The TCP
    /// checksum is filled in by the device.
    fn cuts_segments(&self) -> bool {
        false
    }

    /// Waits until there may be something to receive, or for `timeout`. A device that cannot wait returns at
    /// once.
    fn wait(&mut self, timeout: Duration) {
        let _ = timeout;
    }

    /// What the device counted since it was opened. Asks the kernel: for housekeeping, not for every turn.
    fn counters(&mut self) -> DeviceCounters;

    /// Why the device can never go on, if it cannot: its interface is gone, say. For housekeeping.
    fn failure(&mut self) -> Option<io::Error> {
        None
    }
}

/// What a device counts, in frames unless it says otherwise; every one only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Frames taken out of the receive ring.
    pub received: u64,
    /// Frames put into the transmit ring.
    pub transmitted: u64,
    /// Frames completed by the device.
    pub completed: u64,
    /// Descriptors from a ring that named memory which was not the device's to return.
    pub invalid_descriptors: u64,
    /// Received frames of more parts than any can have, which were freed.
    pub overlong: u64,
    /// System calls made to start transmission.
    pub kicks: u64,
    /// Times that one of them was refused for a reason other than "again".
    pub kick_errors: u64,
    /// System calls made to have the fill ring looked at.
    pub fill_kicks: u64,
    /// System calls that gave the kernel segments to cut up.
    pub gso_calls: u64,
    /// Frames that those were made of: they do not go through the transmit ring.
    pub gso_frames: u64,
    /// Times that the kernel refused one for a reason other than a lack of room: what it held went by the ring.
    pub gso_errors: u64,
    /// Frames given to [`Device::transmit`] that no kernel would send, and freed: shorter than an Ethernet
    /// header, or a chain where the device has no multi-buffer support.
    pub unsendable: u64,
    /// Frames whose bytes had to be moved within their chunk before they could be sent: the price of a driver
    /// library that cannot describe a frame that starts elsewhere.
    pub moved: u64,
    /// Times that there was no free chunk to receive into while the fill ring had room.
    pub fill_starved: u64,
    /// `xdp_statistics.rx_dropped`: dropped by the kernel for other reasons, among them a frame too long.
    pub kernel_rx_dropped: u64,
    /// `xdp_statistics.rx_invalid_descs`.
    pub kernel_rx_invalid_descs: u64,
    /// `xdp_statistics.tx_invalid_descs`.
    pub kernel_tx_invalid_descs: u64,
    /// `xdp_statistics.rx_ring_full`: dropped by the kernel because the receive ring was full.
    pub kernel_rx_ring_full: u64,
    /// `xdp_statistics.rx_fill_ring_empty_descs`: times that the kernel found no chunk to receive into.
    pub kernel_rx_fill_ring_empty: u64,
    /// `xdp_statistics.tx_ring_empty_descs`: times that the kernel found nothing to send.
    pub kernel_tx_ring_empty: u64,
}
