//! The device on the `xsk-rs` crate, and through it on libxdp: a second implementation of the same thing, to
//! check the first one against and to measure it by.
//!
//! It behaves like [`AfXdp`](super::AfXdp) but for what the crate does not offer:
//! - Memory is the crate's own mapping, not a memfd.
//! - A descriptor can be taken from the crate but not made, and its address is where the chunk's frame started
//!   when the crate last said so. A frame that now starts elsewhere, because headers grew or shrank at its
//!   front, is moved within its chunk before it is sent. [`DeviceCounters::moved`] counts these; answers in
//!   place have none.
//!   A frame that fills its chunk cannot be moved: of those spread over several chunks only such can be sent as start
//!   where they were received.
//! - A received descriptor cannot be looked at without being taken. One whose frame is not complete, or for
//!   which the burst has no room, waits in `taken`.
//!
//! What it costs beside [`AfXdp`](super::AfXdp), in user space and per frame, on the machine that this was
//! written on: 30 ns against 13 to receive and refill, 20 to 24 ns against 11 to transmit.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::CString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::time::Duration;

use ::xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, UmemConfig};
use ::xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

use super::af_xdp::{MAX_KICKS, parts_to_send};
use super::af_xdp::{failure, granted, raise_transmit_budget, wait_readable};
use super::bind::{BindError, bind};
use super::config::{MAX_RECEIVED_PARTS, MAX_SENT_PARTS};
use super::{Device, DeviceCounters, Granted, OpenError, SocketConfig};
use crate::base::{BURST, Burst, Descriptor, Frame, Umem};

/// A queue of an interface, through the `xsk-rs` crate.
pub struct XskRs {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    memory: ::xsk_rs::Umem,
    /// For each chunk a descriptor that says where its frame started last.
    descs: Box<[FrameDesc]>,
    /// Received descriptors that are not frames yet: their chunks are still the device's.
    taken: VecDeque<FrameDesc>,
    granted: Granted,
    config: SocketConfig,
    /// The last frame had more parts than any has: the next descriptors belong to it, up to its end.
    in_overlong: bool,
    /// Entries that the fill ring has room for.
    fill_due: u32,
    /// There are frames in the transmit ring that the kernel had not taken when we last looked.
    unsent: bool,
    counters: DeviceCounters,
}

impl std::fmt::Debug for XskRs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XskRs").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl XskRs {
    /// Opens a queue, with memory for its frames; as [`AfXdp::open`](super::AfXdp::open).
    ///
    /// # Errors
    /// [`OpenError`] says what the operator can do.
    pub fn open(config: &SocketConfig) -> Result<(Self, Umem), OpenError> {
        config.check()?;
        let (memory, descs) = make_memory(config)?;
        let interface = CString::new(config.interface.as_str())
            .map_err(|error| OpenError::other(config, "reading the interface's name", error.into()))?;
        let interface = Interface::new(interface);
        let ((tx, rx, queues), _) = bind(config, |mode| {
            let socket_config = socket_config(config, mode).map_err(BindError::Fatal)?;
            // SAFETY: no other socket uses this memory, and it lives as long as the queues, which hold it.
            let queues = unsafe { Socket::new(socket_config, &memory, &interface, config.queue) };
            queues.map(|queues| (queues, mode)).map_err(|error| BindError::Refused(os_error(&error)))
        })?;
        let Some((fill, completion)) = queues else {
            return Err(OpenError::other(config, "making the fill ring", io::ErrorKind::NotFound.into()));
        };
        let mut umem = adopt(config, &memory, &descs)?;
        let mut device = Self {
            rx,
            tx,
            fill,
            completion,
            memory,
            descs: descs.into(),
            taken: VecDeque::with_capacity(2 * BURST),
            granted: Granted::Copy,
            config: config.clone(),
            in_overlong: false,
            fill_due: config.rings.fill,
            unsent: false,
            counters: DeviceCounters::default(),
        };
        raise_transmit_budget(device.fd(), config.rings.tx);
        device.granted = granted(device.fd()).map_err(|source| OpenError::other(config, "XDP_OPTIONS", source))?;
        device.fill(&mut umem);
        Ok((device, umem))
    }

    /// The socket, for the map of the XDP program and for `poll`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the queues, which `self` owns.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// What the kernel granted.
    #[must_use]
    pub const fn granted(&self) -> Granted {
        self.granted
    }

    /// Frees what was sent.
    fn complete(&mut self, umem: &mut Umem) {
        let mut batch = [FrameDesc::default(); BURST];
        for _ in 0..self.config.rings.completion.div_ceil(BURST as u32) {
            // SAFETY: addresses in this ring are of this memory; the `Umem` checks each before it is used.
            let count = unsafe { self.completion.consume(&mut batch) };
            for desc in &batch[..count] {
                if umem.complete(desc.addr() as u64) {
                    self.counters.completed += 1;
                } else {
                    self.counters.invalid_descriptors += 1;
                }
            }
            if count < BURST {
                return;
            }
        }
    }

    /// Tops up the fill ring, when a batch is due.
    fn fill(&mut self, umem: &mut Umem) {
        if self.fill_due < (BURST as u32).min(self.config.rings.fill / 2) {
            return;
        }
        let spare = umem.free_chunks().saturating_sub(self.config.burst_chunks());
        let room = self.fill.nb_free(self.fill_due).min(self.fill_due);
        self.counters.fill_starved += u64::from(spare < room);
        let mut left = room.min(spare);
        let mut batch = [FrameDesc::default(); BURST];
        while left > 0 {
            let mut count = 0;
            for slot in batch.iter_mut().take(left as usize) {
                let Some(addr) = umem.lend_empty() else { break };
                let Some(desc) = self.descs.get((addr / u64::from(umem.chunk_bytes())) as usize) else { break };
                *slot = *desc;
                count += 1;
            }
            if count == 0 {
                return;
            }
            // SAFETY: the chunks were free and are the device's from here on.
            let filled = unsafe { self.fill.produce(&batch[..count]) };
            debug_assert_eq!(filled, count, "the ring had room");
            self.fill_due -= count as u32;
            left -= count as u32;
        }
    }

    /// Takes received frames out of the ring.
    fn take(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if self.taken.len() < burst.room() {
            let mut batch = [FrameDesc::default(); BURST];
            let want = burst.room() - self.taken.len();
            // SAFETY: addresses in this ring are of this memory; the `Umem` checks each before it is used.
            let count = unsafe { self.rx.consume(&mut batch[..want]) };
            self.taken.extend(&batch[..count]);
            self.fill_due = self.fill_due.saturating_add(count as u32).min(self.config.rings.fill);
        }
        while burst.room() > 0 {
            let Some(parts) = self.next_frame() else { return };
            let Some(frame) = self.take_frame(umem, parts) else { continue };
            match burst.push(frame) {
                Ok(()) => self.counters.received += 1,
                Err(frame) => umem.free(frame),
            }
        }
    }

    /// Descriptors of the next frame. `None` if there is no frame, or its end is not there yet.
    fn next_frame(&self) -> Option<usize> {
        let most = MAX_RECEIVED_PARTS as usize;
        if let Some(last) = self.taken.iter().take(most).position(|desc| !desc.has_more_frames()) {
            return Some(last + 1);
        }
        (self.taken.len() >= most).then_some(most)
    }

    /// Takes a frame of `parts` descriptors out. `None`, and counted, if one of them is not what it should be.
    fn take_frame(&mut self, umem: &mut Umem, parts: usize) -> Option<Frame> {
        let mut head: Option<Frame> = None;
        let mut whole = true;
        let mut more = false;
        for mut desc in self.taken.drain(..parts) {
            more = desc.has_more_frames();
            let descriptor = Descriptor { addr: desc.addr() as u64, len: desc.lengths().data() as u32 };
            let Some(frame) = umem.received(descriptor) else {
                whole = false;
                continue;
            };
            if let Some(slot) = self.descs.get_mut(frame.chunk() as usize) {
                desc.set_options(0);
                *slot = desc;
            }
            match &mut head {
                None => head = Some(frame),
                Some(head) => umem.append(head, frame),
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

    /// Writes the descriptors of a frame to the front of `descs`, and says how many there are. `None` if no
    /// kernel would send it, or if it does not fit where it would have to be moved; then it is freed.
    fn describe(&mut self, umem: &mut Umem, frame: Frame, descs: &mut [FrameDesc]) -> Option<usize> {
        let mut count = 0;
        let mut next = Some(frame);
        while let Some(mut part) = next {
            let desc = self.descs.get(part.chunk() as usize).copied();
            let (Some(mut desc), Some(slot)) = (desc, descs.get_mut(count)) else {
                umem.free(part);
                return Self::undo(umem, &descs[..count]);
            };
            let start = (desc.addr() as u32 & (umem.chunk_bytes() - 1)) as u16;
            if start != part.offset() {
                if !umem.shift(&mut part, start) {
                    umem.free(part);
                    return Self::undo(umem, &descs[..count]);
                }
                self.counters.moved += 1;
            }
            let (descriptor, rest) = umem.lend(part);
            // SAFETY: the descriptor is of this memory, and the chunk is ours until it is in the ring; the slice
            // that the crate makes of it is gone at the end of the statement.
            unsafe { self.memory.data_mut(&mut desc) }.cursor().set_pos(descriptor.len as usize);
            desc.set_options(if rest.is_some() { libc::XDP_PKT_CONTD } else { 0 });
            *slot = desc;
            count += 1;
            next = rest;
        }
        Some(count)
    }

    /// Frees chunks that were to be sent and are not in the ring.
    fn undo(umem: &mut Umem, descs: &[FrameDesc]) -> Option<usize> {
        for desc in descs {
            let ours = umem.complete(desc.addr() as u64);
            debug_assert!(ours, "just lent");
        }
        None
    }

    /// Gives the kernel the processor to send, if it wants a system call for that.
    fn kick(&mut self) {
        let mut free = self.tx.nb_free_exact();
        for _ in 0..MAX_KICKS {
            self.unsent = free < self.config.rings.tx;
            if !self.unsent || !self.tx.needs_wakeup() {
                return;
            }
            self.counters.kicks += 1;
            if self.tx.wakeup().is_err() {
                self.counters.kick_errors += 1;
                return;
            }
            let now_free = self.tx.nb_free_exact();
            if now_free <= free {
                return;
            }
            free = now_free;
        }
        self.unsent = free < self.config.rings.tx;
    }
}

impl Device for XskRs {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if self.unsent {
            self.kick();
        }
        self.complete(umem);
        self.fill(umem);
        self.take(umem, burst);
        if self.fill.needs_wakeup() {
            self.counters.fill_kicks += 1;
            // An error says nothing that the next turn does not see.
            let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if burst.is_empty() {
            return;
        }
        let limit = MAX_SENT_PARTS.min(self.config.rings.tx);
        let mut room = self.tx.nb_free(BURST as u32).min(BURST as u32);
        let multi_buffer = self.config.multi_buffer;
        let parts = |umem: &Umem, frame: &Frame| parts_to_send(umem, frame, multi_buffer, limit);
        let fits = |frame: &&Frame| {
            let parts = parts(umem, frame).unwrap_or(0);
            let fits = parts <= room;
            room = room.saturating_sub(parts);
            fits
        };
        let fit = burst.iter().take_while(fits).count();
        let mut batch = [FrameDesc::default(); BURST];
        let mut count = 0;
        for frame in burst.take(fit) {
            if parts(umem, &frame).is_none() {
                self.counters.unsendable += 1;
                umem.free(frame);
            } else if let Some(parts) = self.describe(umem, frame, &mut batch[count..]) {
                self.counters.transmitted += 1;
                count += parts;
            } else {
                self.counters.unsendable += 1;
            }
        }
        // SAFETY: the descriptors are of this memory, and their chunks are the device's from here on.
        let sent = unsafe { self.tx.produce(&batch[..count]) };
        debug_assert_eq!(sent, count, "the ring had room");
        self.kick();
    }

    fn wait(&mut self, timeout: Duration) {
        wait_readable(self.fd(), timeout);
    }

    fn failure(&mut self) -> Option<io::Error> {
        failure(self.fd())
    }

    fn counters(&mut self) -> DeviceCounters {
        if let Ok(kernel) = self.rx.fd().xdp_statistics() {
            self.counters.kernel_rx_dropped = kernel.rx_dropped();
            self.counters.kernel_rx_invalid_descs = kernel.rx_invalid_descs();
            self.counters.kernel_tx_invalid_descs = kernel.tx_invalid_descs();
            self.counters.kernel_rx_ring_full = kernel.rx_ring_full();
            self.counters.kernel_rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs();
            self.counters.kernel_tx_ring_empty = kernel.tx_ring_empty_descs();
        }
        self.counters
    }
}

/// Memory of the crate's own making, on huge pages if asked and there are any.
fn make_memory(config: &SocketConfig) -> Result<(::xsk_rs::Umem, Vec<FrameDesc>), OpenError> {
    let wanted = config.umem();
    let bytes = wanted.chunks as usize * wanted.chunk_size.bytes() as usize;
    let failed = |source| OpenError::at(config, "making the UMEM", bytes, source);
    let chunks = NonZeroU32::new(wanted.chunks).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let layout = UmemConfig::builder()
        .frame_size(FrameSize::new(wanted.chunk_size.bytes()).map_err(|error| failed(io::Error::other(error)))?)
        .fill_queue_size(queue_size(config, config.rings.fill)?)
        .comp_queue_size(queue_size(config, config.rings.completion)?)
        .build()
        .map_err(|error| failed(io::Error::other(error)))?;
    if wanted.huge_pages
        && let Ok(made) = ::xsk_rs::Umem::new(layout, chunks, true)
    {
        return Ok(made);
    }
    ::xsk_rs::Umem::new(layout, chunks, false).map_err(|error| failed(os_error(&error)))
}

/// Our account of the crate's memory.
fn adopt(config: &SocketConfig, memory: &::xsk_rs::Umem, descs: &[FrameDesc]) -> Result<Umem, OpenError> {
    let missing = || OpenError::other(config, "finding the UMEM", io::ErrorKind::NotFound.into());
    let first = descs.first().ok_or_else(missing)?;
    // SAFETY: the descriptor is of this memory, nothing is received yet, and the slice is gone at once.
    let frame = unsafe { memory.data(first) }.contents().as_ptr();
    // The mapping's provenance is exposed: its address went to the kernel.
    let base = std::ptr::with_exposed_provenance_mut(frame.addr() - first.addr());
    let base = NonNull::new(base).ok_or_else(missing)?;
    // SAFETY: the mapping has this many chunks of this size, begins on a page, and lives as long as the clone.
    Ok(unsafe { Umem::from_driver(base, config.umem(), Box::new(memory.clone())) })
}

fn socket_config(config: &SocketConfig, mode: Granted) -> Result<::xsk_rs::config::SocketConfig, OpenError> {
    let mode = match mode {
        Granted::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Granted::Copy => BindFlags::XDP_COPY,
    };
    let fragments = if config.multi_buffer { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
    Ok(::xsk_rs::config::SocketConfig::builder()
        .rx_queue_size(queue_size(config, config.rings.rx)?)
        .tx_queue_size(queue_size(config, config.rings.tx)?)
        // Our own program is on the interface: libxdp is not to load one of its own.
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP | mode | fragments)
        .build())
}

fn queue_size(config: &SocketConfig, size: u32) -> Result<QueueSize, OpenError> {
    QueueSize::new(size).map_err(|error| OpenError::other(config, "checking a ring size", io::Error::other(error)))
}

/// What the system said, which the crate's errors have as their source.
fn os_error(error: &dyn Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}
