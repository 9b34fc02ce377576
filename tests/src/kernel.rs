//! The few things that tests ask of the kernel by hand.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Number of `SOL_XDP`'s option for the size of the receive ring, `<linux/if_xdp.h>`.
const XDP_RX_RING: libc::c_int = 2;

/// An AF_XDP socket with a receive ring, bound to nothing: the least that an XSKMAP accepts.
///
/// # Panics
///
/// If the kernel gives none, with what to do about it.
#[must_use]
pub fn unbound_xdp_socket() -> OwnedFd {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(
        fd >= 0,
        "no AF_XDP socket ({}): run as root on a kernel with CONFIG_XDP_SOCKETS",
        io::Error::last_os_error()
    );
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let descriptors: u32 = 64;
    // SAFETY: the pointer is to 4 live bytes, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            XDP_RX_RING,
            (&raw const descriptors).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "no receive ring: {}", io::Error::last_os_error());
    socket
}

/// `CLOCK_MONOTONIC`, ns: the clock that heartbeats are written in.
///
/// # Panics
///
/// Never: the clock exists on every Linux.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Moves the calling thread into a network namespace of its own, with nothing but a loopback that is down. It
/// vanishes, and what was made in it, with the last process or thread inside.
///
/// # Panics
///
/// If the kernel refuses, with what to do about it.
pub fn enter_new_network_namespace() {
    // SAFETY: the call takes no pointers and concerns the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "no network namespace ({}): run as root", io::Error::last_os_error());
}

/// Capabilities by their numbers in `<linux/capability.h>`.
pub mod capability {
    /// Network administration: XDP programs.
    pub const NET_ADMIN: u32 = 12;
    /// Raw sockets: AF_XDP.
    pub const NET_RAW: u32 = 13;
    /// Loading BPF programs.
    pub const BPF: u32 = 39;
}

/// Takes all capabilities but `kept` from the calling thread, for good.
///
/// # Panics
///
/// If the kernel refuses.
pub fn keep_only_capabilities(kept: &[u32]) {
    /// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
    const VERSION: u32 = 0x2008_0522;
    let set = kept.iter().fold(0u64, |set, capability| set | 1 << capability);
    let header = [VERSION, 0];
    // Of each half: effective, permitted, inheritable.
    let halves = [set as u32, set as u32, 0, (set >> 32) as u32, (set >> 32) as u32, 0];
    // SAFETY: the pointers are to a live header (version, this thread) and to the two sets that this version has.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), halves.as_ptr()) };
    assert_eq!(result, 0, "capabilities not given up: {}", io::Error::last_os_error());
}
