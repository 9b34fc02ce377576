//! Why a queue could not be opened, and what the operator can do about it.

use std::io;

use super::config::{SocketConfig, most_mtu};
use crate::base::UmemError;

/// A queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may not use AF_XDP.
    #[error(
        "no permission to open an AF_XDP socket ({step}: {source}); run with sudo, or give the command \
         CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"
    )]
    NoPermission {
        /// What was refused.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel knows no AF_XDP.
    #[error("this kernel has no AF_XDP sockets; Barewire needs Linux 5.15 or later with CONFIG_XDP_SOCKETS=y")]
    NoAfXdp,
    /// There is no such interface in this network namespace.
    #[error("there is no interface {interface} (index {ifindex}) in this network namespace; `ip link` lists them")]
    NoInterface {
        /// Its name.
        interface: String,
        /// Its index.
        ifindex: u32,
    },
    /// The interface is down.
    #[error("interface {interface} is down; bring it up with `ip link set {interface} up`")]
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// The interface has fewer queues.
    #[error("{interface} has no queue {queue}; `ethtool -l {interface}` shows how many it has (from 0 on)")]
    NoQueue {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
    },
    /// The interface has fewer queues, or the kernel cannot spread frames over chunks.
    #[error(
        "{interface} has no queue {queue}, or this kernel (before Linux 6.6) has no frames of several chunks; \
         `ethtool -l {interface}` shows the queues, and an MTU of {most} needs no such frames: \
         `ip link set {interface} mtu {most}`"
    )]
    NoQueueOrMultiBuffer {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// The longest MTU for which a chunk does, bytes.
        most: u32,
    },
    /// The queue is bound by somebody else.
    #[error("queue {queue} of {interface} is taken by another AF_XDP socket; `ss --xdp -p` shows whose")]
    QueueTaken {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
    },
    /// Zero-copy was demanded, and the driver cannot.
    #[error(
        "the driver of {interface} refuses zero-copy on queue {queue} ({source}); use `--mode copy`, or \
         `--mode auto` to take what there is"
    )]
    ZeroCopyRefused {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// What the driver said.
        source: io::Error,
    },
    /// Zero-copy was demanded, and the driver cannot spread a frame over chunks.
    #[error(
        "the driver of {interface} refuses zero-copy on queue {queue} with frames of several chunks, which an MTU above \
         {most} needs ({source}); use `--mode copy`, or `ip link set {interface} mtu {most}` if it has zero-copy at all"
    )]
    ZeroCopyMultiBufferRefused {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// The longest MTU for which a chunk does, bytes.
        most: u32,
        /// What the driver said.
        source: io::Error,
    },
    /// The kernel may not keep that much memory in place for this process.
    #[error(
        "not allowed to lock {bytes} bytes of packet memory ({step}: {source}); raise the limit (`ulimit -l \
         unlimited`, LimitMEMLOCK= of a unit), give the command CAP_IPC_LOCK, or use a smaller \
         --ring-size or --tcp-memory"
    )]
    MemoryLimit {
        /// Bytes to lock.
        bytes: usize,
        /// What was refused.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no memory for the packets, in a step that the system or a library takes.
    #[error(
        "no memory for packets: {bytes} bytes ({step}: {source}); use a smaller --ring-size or --tcp-memory, or \
         give the process more memory (ulimit -v, the cgroup's memory.max)"
    )]
    NoMemory {
        /// Bytes of packet memory.
        bytes: usize,
        /// What was refused.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no memory for the packets.
    #[error(transparent)]
    Memory(#[from] UmemError),
    /// A ring size that no ring has.
    #[error("the {ring} ring cannot have {size} entries; use a power of two from 2 to 1048576, such as 8192")]
    RingSize {
        /// Which ring.
        ring: &'static str,
        /// The size asked for.
        size: u32,
    },
    /// Anything else.
    #[error("cannot open queue {queue} of {interface}: {step} failed ({source}); `dmesg` may say more")]
    Other {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// What failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The step that locks memory, where a missing permission means the limit.
pub(super) const REGISTER: &str = "XDP_UMEM_REG";

impl OpenError {
    /// The variant for a failed `step` other than binding.
    pub(super) fn at(config: &SocketConfig, step: &'static str, bytes: usize, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => Self::NoAfXdp,
            // What is beyond the limit of locked memory is ENOBUFS (xdp_umem_account_pages in the kernel).
            Some(libc::ENOBUFS) => Self::MemoryLimit { bytes, step, source },
            Some(libc::ENOMEM) => Self::NoMemory { bytes, step, source },
            Some(libc::EPERM) if step == REGISTER => Self::MemoryLimit { bytes, step, source },
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { step, source },
            _ => Self::other(config, step, source),
        }
    }

    /// The variant for a bind that was refused in copy mode, where no driver has a say.
    pub(super) fn bind(config: &SocketConfig, source: io::Error) -> Self {
        let (interface, queue) = (config.interface.clone(), config.queue);
        match source.raw_os_error() {
            Some(libc::EINVAL) if config.multi_buffer => {
                Self::NoQueueOrMultiBuffer { interface, queue, most: most_mtu(config.chunk_size, false) }
            }
            Some(libc::EINVAL) => Self::NoQueue { interface, queue },
            Some(libc::EBUSY) => Self::QueueTaken { interface, queue },
            Some(libc::ENODEV) => Self::NoInterface { interface, ifindex: config.ifindex },
            Some(libc::ENETDOWN) => Self::InterfaceDown { interface },
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { step: "bind", source },
            _ => Self::other(config, "bind", source),
        }
    }

    pub(super) fn other(config: &SocketConfig, step: &'static str, source: io::Error) -> Self {
        Self::Other { interface: config.interface.clone(), queue: config.queue, step, source }
    }
}
