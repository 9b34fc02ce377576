//! The device on our own rings: an AF_XDP socket on one queue of an interface.
//!
//! ```text
//!            free list of the Umem
//!        lend_empty |           ^ complete
//!                   v           |
//!           fill ring          completion ring
//!                |                  ^
//!  NIC  ---------v--> rx ring       |   tx ring <--- lend ----+
//!                        |                                    |
//!                        +--> received --> Frame --> stack ---+
//! ```
//!
//! Every turn drains the completion ring, tops up the fill ring, takes received frames out and puts frames
//! to send in: each ring's index is read once and published once. Numbers that come out of a ring are checked
//! by the [`Umem`] before they become a [`Frame`]; what it refuses is counted and dropped.

mod ring;
mod socket;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

#[cfg(feature = "xsk-rs")]
pub(super) use self::socket::raise_transmit_budget;
use self::socket::{Socket, XdpDesc, kick_fill, kick_transmit, statistics};
pub(super) use self::socket::{failure, granted, wait_readable};
use super::bind::{BindError, bind};
use super::config::{MAX_RECEIVED_PARTS, MAX_SENT_PARTS};
use super::gso::{Joined, PacketSocket};
use super::{Device, DeviceCounters, Granted, OpenError, SocketConfig};
use crate::base::{BURST, Burst, Descriptor, Frame, Umem};

/// What a frame has at least; the kernel refuses empty ones, and drivers are not written for less.
const ETHERNET_HEADER_BYTES: u16 = 14;

/// System calls that one turn spends on a transmit ring that keeps draining. With a budget of 32 packets a
/// call, of kernels without `XDP_MAX_TX_SKB_BUDGET`, that is four bursts; the next turn goes on.
pub(super) const MAX_KICKS: u32 = 8;

/// A queue of an interface, through our own rings.
pub struct AfXdp {
    socket: Socket,
    granted: Granted,
    multi_buffer: bool,
    /// Chunks that are never given to the fill ring.
    burst_chunks: u32,
    /// The last frame had more parts than any has: the next descriptors belong to it, up to its end.
    in_overlong: bool,
    /// Where the kernel copies: takes segments that it is to cut up.
    gso: Option<PacketSocket>,
    /// Entries that the fill ring has room for, as far as known without looking at the kernel's index: all but the
    /// chunks lent to receive into and not taken out again. So these are never more than the ring has entries, and
    /// the rest of the memory is the stack's.
    fill_due: u32,
    counters: DeviceCounters,
}

impl std::fmt::Debug for AfXdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AfXdp").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl AfXdp {
    /// Opens a queue, with memory for its frames. Nothing is received before the XDP program redirects to
    /// [`fd`](Self::fd).
    ///
    /// To close, drop the device; then [`Umem::reclaim`] takes back what it still had. In zero-copy the kernel
    /// takes its hands off the queue a little later (16 to 37 ms were seen): until the queue can be bound again,
    /// the NIC may still write into chunks that it had to receive into. The kernel keeps their pages until then.
    ///
    /// # Errors
    /// [`OpenError`] says what the operator can do.
    pub fn open(config: &SocketConfig) -> Result<(Self, Umem), OpenError> {
        config.check()?;
        let mut umem = Umem::new(config.umem())?;
        let mut unbound: Option<Self> = None;
        let device = bind(config, |mode| {
            let device = match unbound.take() {
                Some(device) => device,
                None => Self::unbound(config, &mut umem).map_err(BindError::Fatal)?,
            };
            match device.socket.bind(config, mode) {
                Ok(()) => Ok(device),
                Err(source) => {
                    // A socket can be bound after a refusal. But a driver that got as far as taking chunks
                    // does not put them back into the fill ring: then it has to be a new socket.
                    let mut device = device;
                    if device.socket.fill.look() == device.socket.fill.size() - device.fill_due {
                        unbound = Some(device);
                    } else {
                        drop(device);
                        umem.reclaim();
                    }
                    Err(BindError::Refused(source))
                }
            }
        })?;
        let granted = granted(device.fd()).map_err(|source| OpenError::other(config, "XDP_OPTIONS", source))?;
        // Without such a socket all goes by the ring.
        let gso = if config.gso && granted == Granted::Copy { PacketSocket::open(config.ifindex).ok() } else { None };
        Ok((Self { granted, gso, ..device }, umem))
    }

    /// A socket with a full fill ring that belongs to no queue yet.
    fn unbound(config: &SocketConfig, umem: &mut Umem) -> Result<Self, OpenError> {
        let socket = Socket::new(config, umem)?;
        let mut device = Self {
            granted: Granted::Copy,
            multi_buffer: config.multi_buffer,
            burst_chunks: config.burst_chunks(),
            in_overlong: false,
            gso: None,
            fill_due: socket.fill.size(),
            counters: DeviceCounters::default(),
            socket,
        };
        device.fill(umem);
        Ok(device)
    }

    /// The socket, for the map of the XDP program and for `poll`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What the kernel granted.
    #[must_use]
    pub const fn granted(&self) -> Granted {
        self.granted
    }

    /// Frees what was sent.
    fn complete(&mut self, umem: &mut Umem) {
        let ring = &mut self.socket.completion;
        if ring.ready(ring.size()) == 0 {
            return;
        }
        while let Some(addr) = ring.pop() {
            if umem.complete(addr) {
                self.counters.completed += 1;
            } else {
                self.counters.invalid_descriptors += 1;
            }
        }
        ring.release();
    }

    /// Tops up the fill ring, when a batch is due.
    fn fill(&mut self, umem: &mut Umem) {
        let ring = &mut self.socket.fill;
        let batch = (BURST as u32).min(ring.size() / 2);
        if self.fill_due < batch {
            return;
        }
        let spare = umem.free_chunks().saturating_sub(self.burst_chunks);
        let room = ring.room(self.fill_due).min(self.fill_due);
        self.counters.fill_starved += u64::from(spare < room);
        let mut filled = 0;
        while filled < room.min(spare) {
            let Some(addr) = umem.lend_empty() else { break };
            ring.push(addr);
            filled += 1;
        }
        if filled > 0 {
            ring.publish();
            self.fill_due -= filled;
        }
    }

    /// Takes received frames out of the ring.
    fn take(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if self.socket.rx.ready(burst.room() as u32) == 0 {
            return;
        }
        let mut popped = 0;
        while burst.room() > 0 {
            let Some(parts) = self.next_frame() else { break };
            popped += parts;
            let Some(frame) = self.take_frame(umem, parts) else { continue };
            if let Err(frame) = burst.push(frame) {
                umem.free(frame);
            } else {
                self.counters.received += 1;
            }
        }
        if popped > 0 {
            self.socket.rx.release();
            self.fill_due = self.fill_due.saturating_add(popped).min(self.socket.fill.size());
        }
    }

    /// Descriptors of the next frame. `None` if there is no frame, or its end is not there yet.
    #[inline]
    fn next_frame(&mut self) -> Option<u32> {
        let more = |desc: XdpDesc| desc.options & libc::XDP_PKT_CONTD != 0;
        if !more(self.socket.rx.peek(0)?) {
            return Some(1);
        }
        let limit = MAX_RECEIVED_PARTS.min(self.socket.rx.size());
        self.socket.rx.ready(limit);
        for part in 1..limit {
            if !more(self.socket.rx.peek(part)?) {
                return Some(part + 1);
            }
        }
        Some(limit)
    }

    /// Takes a frame of `parts` descriptors out. `None`, and counted, if one of them is not what it should be, or if it
    /// goes on behind the last part that a frame can have.
    #[inline]
    fn take_frame(&mut self, umem: &mut Umem, parts: u32) -> Option<Frame> {
        let mut head: Option<Frame> = None;
        let mut whole = true;
        let mut more = false;
        for _ in 0..parts {
            let desc = self.socket.rx.pop()?;
            more = desc.options & libc::XDP_PKT_CONTD != 0;
            match (umem.received(Descriptor { addr: desc.addr, len: desc.len }), &mut head) {
                (None, _) => whole = false,
                (Some(frame), None) => head = Some(frame),
                (Some(part), Some(head)) => umem.append(head, part),
            }
        }
        let is_rest = std::mem::replace(&mut self.in_overlong, more);
        if whole && !more && !is_rest {
            return head;
        }
        if !is_rest {
            let counters = &mut self.counters;
            *(if more { &mut counters.overlong } else { &mut counters.invalid_descriptors }) += 1;
        }
        if let Some(frame) = head {
            umem.free(frame);
        }
        None
    }

    /// Frames from the front of `burst` that the transmit ring has room for, chains whole or not at all.
    #[inline]
    fn fit(&mut self, umem: &Umem, burst: &Burst) -> usize {
        let (limit, multi_buffer) = (self.part_limit(), self.multi_buffer);
        let want = if multi_buffer { BURST as u32 * limit } else { BURST as u32 };
        let mut room = self.socket.tx.room(want);
        let fits = |frame: &&Frame| {
            let parts = parts_to_send(umem, frame, multi_buffer, limit).unwrap_or(0);
            let fits = parts <= room;
            room = room.saturating_sub(parts);
            fits
        };
        burst.iter().take_while(fits).count()
    }

    /// Most descriptors of one frame to send.
    #[inline]
    fn part_limit(&self) -> u32 {
        MAX_SENT_PARTS.min(self.socket.tx.size())
    }

    /// Puts up to `most` frames from the front of the burst into the ring. How many it took.
    #[inline]
    fn transmit_by_ring(&mut self, umem: &mut Umem, burst: &mut Burst, most: usize) -> usize {
        let fit = self.fit(umem, burst).min(most);
        let (limit, multi_buffer) = (self.part_limit(), self.multi_buffer);
        let ring = &mut self.socket.tx;
        let before = self.counters.transmitted;
        for frame in burst.take(fit) {
            if parts_to_send(umem, &frame, multi_buffer, limit).is_none() {
                self.counters.unsendable += 1;
                umem.free(frame);
                continue;
            }
            let mut next = Some(frame);
            while let Some(part) = next {
                let (Descriptor { addr, len }, rest) = umem.lend(part);
                let options = if rest.is_some() { libc::XDP_PKT_CONTD } else { 0 };
                ring.push(XdpDesc { addr, len, options });
                next = rest;
            }
            self.counters.transmitted += 1;
        }
        if self.counters.transmitted != before {
            ring.publish();
        }
        fit
    }

    /// Sends segments that lie behind each other as one, where the kernel copies, and what lies before them by the ring:
    /// nothing overtakes. Whether what is left may go by the ring.
    fn transmit_joined(&mut self, umem: &mut Umem, burst: &mut Burst) -> bool {
        while let Some(socket) = &self.gso
            && let (before, Some(joined)) = Joined::first(burst, self.multi_buffer, umem)
        {
            if before > 0 || self.socket.tx.waiting() > 0 {
                let taken = self.transmit_by_ring(umem, burst, before);
                self.kick();
                if taken < before || self.socket.tx.look() > 0 {
                    return true;
                }
                continue;
            }
            self.counters.gso_calls += 1;
            match socket.send(&joined, burst, umem) {
                Ok(()) => {
                    self.counters.gso_frames += joined.segments as u64;
                    burst.take(joined.frames).for_each(|frame| umem.free(frame));
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => return false,
                Err(error) => {
                    self.counters.gso_errors += 1;
                    if error.raw_os_error() != Some(libc::ENETDOWN) {
                        self.gso = None;
                    }
                    return true;
                }
            }
        }
        true
    }

    /// Gives the kernel the processor to send, if it wants a system call for that.
    fn kick(&mut self) {
        let mut waiting = self.socket.tx.look();
        for _ in 0..MAX_KICKS {
            if waiting == 0 || !self.socket.tx.needs_wakeup() {
                return;
            }
            self.counters.kicks += 1;
            if let Err(error) = kick_transmit(self.socket.as_fd())
                && error.raw_os_error() != Some(libc::EAGAIN)
            {
                // Busy, without buffers, or down: the frames stay in the ring, and the next turn kicks again.
                self.counters.kick_errors += 1;
                return;
            }
            let left = self.socket.tx.look();
            if left >= waiting {
                return;
            }
            waiting = left;
        }
    }
}

/// Descriptors that a frame takes, or `None` if the kernel would refuse it: then it would never complete it
/// either, and the chunk would be lost.
#[inline]
pub(super) fn parts_to_send(umem: &Umem, frame: &Frame, multi_buffer: bool, limit: u32) -> Option<u32> {
    if frame.len() < ETHERNET_HEADER_BYTES {
        return None;
    }
    if !umem.is_chain(frame) {
        return Some(1);
    }
    let parts = umem.parts(frame);
    (multi_buffer && parts <= limit).then_some(parts)
}

impl Device for AfXdp {
    #[inline]
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if self.socket.tx.waiting() > 0 {
            self.kick();
        }
        self.complete(umem);
        self.fill(umem);
        self.take(umem, burst);
        if self.socket.fill.needs_wakeup() {
            self.counters.fill_kicks += 1;
            // An error says nothing that the next turn, or `failure`, does not see.
            let _ = kick_fill(self.socket.as_fd());
        }
    }

    #[inline]
    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if burst.is_empty() {
            return;
        }
        if self.transmit_joined(umem, burst) {
            self.transmit_by_ring(umem, burst, BURST);
            self.kick();
        }
    }

    fn cuts_segments(&self) -> bool {
        // Where frames are longer than chunks, a chain says nothing of segments.
        self.gso.is_some() && !self.multi_buffer
    }

    fn wait(&mut self, timeout: Duration) {
        wait_readable(self.socket.as_fd(), timeout);
    }

    fn failure(&mut self) -> Option<io::Error> {
        failure(self.fd())
    }

    fn counters(&mut self) -> DeviceCounters {
        if let Ok(kernel) = statistics(self.fd()) {
            self.counters.kernel_rx_dropped = kernel.rx_dropped;
            self.counters.kernel_rx_invalid_descs = kernel.rx_invalid_descs;
            self.counters.kernel_tx_invalid_descs = kernel.tx_invalid_descs;
            self.counters.kernel_rx_ring_full = kernel.rx_ring_full;
            self.counters.kernel_rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs;
            self.counters.kernel_tx_ring_empty = kernel.tx_ring_empty_descs;
        }
        self.counters
    }
}
