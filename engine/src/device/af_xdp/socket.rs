//! An AF_XDP socket: made, bound, asked and torn down by plain system calls.
//!
//! ```text
//!  socket -> XDP_UMEM_REG -> ring sizes -> mmap of four rings -> (fill ring filled) -> bind
//!                                                                                        |
//!  drop: munmap of the rings, then close: the socket lives, and keeps its queue, as long as one is mapped
//! ```
//! Source: Documentation/networking/af_xdp.rst and include/uapi/linux/if_xdp.h of Linux.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use super::ring::{Consumer, Producer, RingMemory};
use crate::base::Umem;
use crate::device::error::REGISTER;
use crate::device::{Granted, OpenError, SocketConfig};

/// Descriptor in the receive and transmit rings.
pub(super) type XdpDesc = libc::xdp_desc;

/// `XDP_MAX_TX_SKB_BUDGET`, of Linux 6.18: packets that one system call sends in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A socket with its rings. Nothing moves before [`bind`](Socket::bind).
pub(super) struct Socket {
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) rx: Consumer<XdpDesc>,
    pub(super) tx: Producer<XdpDesc>,
    // The order of the fields is the order in which they are dropped: rings are unmapped before the socket is
    // closed. The halves above are plain pointers into the mappings.
    _mappings: [Mapping; 4],
    fd: OwnedFd,
}

impl Socket {
    /// Makes a socket with `umem` registered and its rings mapped.
    pub(super) fn new(config: &SocketConfig, umem: &Umem) -> Result<Self, OpenError> {
        let failed = |step| move |source| OpenError::at(config, step, umem.region().1, source);
        let fd = new_socket().map_err(failed("socket"))?;
        register(&fd, umem).map_err(failed(REGISTER))?;
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, config.rings.fill),
            (libc::XDP_UMEM_COMPLETION_RING, config.rings.completion),
            (libc::XDP_RX_RING, config.rings.rx),
            (libc::XDP_TX_RING, config.rings.tx),
        ] {
            set_option(fd.as_fd(), option, &size).map_err(failed("setting a ring size"))?;
        }
        raise_transmit_budget(fd.as_fd(), config.rings.tx);

        // SAFETY: all-zero is a value of this struct of integers.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        option(fd.as_fd(), libc::XDP_MMAP_OFFSETS, &mut offsets).map_err(failed("XDP_MMAP_OFFSETS"))?;
        let map = |page_offset: u64, ring: &libc::xdp_ring_offset, size: u32, entry_bytes: usize| {
            Mapping::new(&fd, page_offset, ring, size, entry_bytes).map_err(failed("mapping a ring"))
        };
        let (addr, desc) = (size_of::<u64>(), size_of::<XdpDesc>());
        let fill = map(libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, config.rings.fill, addr)?;
        let completion = map(libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, config.rings.completion, addr)?;
        let rx = map(libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, config.rings.rx, desc)?;
        let tx = map(libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, config.rings.tx, desc)?;

        // SAFETY: the mappings live in the same value as the halves, `Mapping::new` checked that words and
        // entries lie within them, sizes were checked to be powers of two, and there is one half of each.
        let (fill_half, completion_half, rx_half, tx_half) = unsafe {
            (
                Producer::new(fill.ring(&offsets.fr, config.rings.fill)),
                Consumer::new(completion.ring(&offsets.cr, config.rings.completion)),
                Consumer::new(rx.ring(&offsets.rx, config.rings.rx)),
                Producer::new(tx.ring(&offsets.tx, config.rings.tx)),
            )
        };
        Ok(Self {
            fill: fill_half,
            completion: completion_half,
            rx: rx_half,
            tx: tx_half,
            _mappings: [fill, completion, rx, tx],
            fd,
        })
    }

    /// Asks once for the queue, in the given way.
    pub(super) fn bind(&self, config: &SocketConfig, mode: Granted) -> io::Result<()> {
        let mode = match mode {
            Granted::ZeroCopy => libc::XDP_ZEROCOPY,
            Granted::Copy => libc::XDP_COPY,
        };
        let fragments = if config.multi_buffer { libc::XDP_USE_SG } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP | mode | fragments,
            sxdp_ifindex: config.ifindex,
            sxdp_queue_id: config.queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is a live struct of the given length.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets one system call send all of a transmit ring of `size` entries, in copy mode.
///
/// Without this the kernel sends 32 packets a call and says "again". A kernel that does not know the option,
/// or a ring below 32, stays at that: then kicks are repeated.
pub(in crate::device) fn raise_transmit_budget(fd: BorrowedFd<'_>, size: u32) {
    let _ = set_option(fd, XDP_MAX_TX_SKB_BUDGET, &size);
}

/// What the kernel granted to a bound socket (`XDP_OPTIONS`).
pub(in crate::device) fn granted(fd: BorrowedFd<'_>) -> io::Result<Granted> {
    let mut options = libc::xdp_options { flags: 0 };
    option(fd, libc::XDP_OPTIONS, &mut options)?;
    let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
    Ok(if zero_copy { Granted::ZeroCopy } else { Granted::Copy })
}

/// What the kernel counted for the socket (`XDP_STATISTICS`).
pub(super) fn statistics(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    // SAFETY: all-zero is a value of this struct of integers.
    let mut statistics: libc::xdp_statistics = unsafe { std::mem::zeroed() };
    option(fd, libc::XDP_STATISTICS, &mut statistics)?;
    Ok(statistics)
}

/// Makes the kernel send what is in the transmit ring.
#[inline]
pub(super) fn kick_transmit(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are given.
    let result = unsafe { libc::sendto(fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the driver look at the fill ring.
#[inline]
pub(super) fn kick_fill(fd: BorrowedFd<'_>) -> io::Result<()> {
    let (none, no_address) = (std::ptr::null_mut(), std::ptr::null_mut());
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: no buffer and no address are given.
    let result = unsafe { libc::recvfrom(fd.as_raw_fd(), none, 0, flags, no_address, std::ptr::null_mut()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Why the socket is dead, if it is: the kernel unbinds it when its interface goes (`ENXIO`). An interface that
/// is merely down can come back.
pub(in crate::device) fn failure(fd: BorrowedFd<'_>) -> Option<io::Error> {
    kick_fill(fd).err().filter(|error| error.raw_os_error() == Some(libc::ENXIO))
}

/// Waits until there is something to receive, or for `timeout`.
pub(in crate::device) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: one pollfd and one timespec, both live. Whatever ends the wait, the caller looks at the rings.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
}

fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn register(fd: &OwnedFd, umem: &Umem) -> io::Result<()> {
    let (memory, len) = umem.region();
    let region = libc::xdp_umem_reg {
        addr: memory.as_ptr() as u64,
        len: len as u64,
        chunk_size: umem.chunk_bytes(),
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(fd.as_fd(), libc::XDP_UMEM_REG, &region)
}

fn set_option<T>(fd: BorrowedFd<'_>, name: libc::c_int, value: &T) -> io::Result<()> {
    let (value, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the value is live and `len` bytes long; options are plain integers.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, value, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option<T>(fd: BorrowedFd<'_>, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_mut(value).cast();
    // SAFETY: the value is live and `len` bytes long; every bit pattern of these structs of integers is valid.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, value, &raw mut len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A mapped ring.
struct Mapping {
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is nothing but an address range of the process.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the ring of `size` entries at `page_offset`. The kernel refuses a mapping larger than the ring is.
    fn new(
        fd: &OwnedFd,
        page_offset: u64,
        ring: &libc::xdp_ring_offset,
        size: u32,
        entry_bytes: usize,
    ) -> io::Result<Self> {
        let entries = size as usize * entry_bytes;
        let bytes = usize::try_from(ring.desc).ok().and_then(|start| start.checked_add(entries));
        let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
        let words_fit = [ring.producer, ring.consumer, ring.flags]
            .iter()
            .all(|word| word.is_multiple_of(4) && word.checked_add(4).is_some_and(|end| end <= ring.desc));
        if !words_fit || !ring.desc.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let offset = libc::off_t::try_from(page_offset).map_err(|_| io::ErrorKind::InvalidData)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, fd.as_raw_fd(), offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { memory, bytes })
    }

    /// The parts of the ring. `new` has checked these offsets and this size.
    fn ring<T>(&self, ring: &libc::xdp_ring_offset, size: u32) -> RingMemory<T> {
        let at = |offset: u64| {
            debug_assert!((offset as usize) < self.bytes);
            // SAFETY: the offset lies within the mapping.
            unsafe { self.memory.add(offset as usize) }
        };
        RingMemory {
            producer: at(ring.producer).cast(),
            consumer: at(ring.consumer).cast(),
            flags: at(ring.flags).cast(),
            entries: at(ring.desc).cast(),
            size,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped; the halves that point into it go with the same socket.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}
