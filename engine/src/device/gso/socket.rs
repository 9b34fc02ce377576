//! A packet socket that takes segments to be cut up: made, bound and sent by plain system calls.
//!
//! Source: packet(7), `PACKET_VNET_HDR`; include/uapi/linux/virtio_net.h of Linux.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use arrayvec::ArrayVec;

use super::{CHECKSUM, Joined};
use crate::base::{BURST, Burst, Umem};

/// `PACKET_VNET_HDR`: what is sent begins with a [`VirtioNetHeader`].
const PACKET_VNET_HDR: libc::c_int = 15;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is to be filled in.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6`.
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// `struct virtio_net_hdr`, in the machine's own byte order.
#[repr(C)]
struct VirtioNetHeader {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    /// Text of each segment but the last, bytes.
    gso_size: u16,
    /// Where the checksum starts to count, and where it is from there.
    checksum_start: u16,
    checksum_offset: u16,
}

/// A packet socket of an interface, which receives nothing.
pub(in crate::device) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one for the interface of this index, in the calling thread's network namespace.
    pub(in crate::device) fn open(ifindex: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Of no protocol: nothing is ever received.
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (on, len): (libc::c_int, _) = (1, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: the kernel reads an integer, which lives through the call.
        let result =
            unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, (&raw const on).cast(), len) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero is a value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is a live struct of the given length.
        let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
        if result == 0 { Ok(Self(fd)) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives the kernel the segments at the front of the burst as one, which it copies.
    pub(in crate::device) fn send(&self, joined: &Joined, burst: &Burst, umem: &Umem) -> io::Result<()> {
        let head = VirtioNetHeader {
            flags: NEEDS_CHECKSUM,
            gso_type: if joined.layout.is_v6 { GSO_TCPV6 } else { GSO_TCPV4 },
            header_len: joined.layout.text_at as u16,
            gso_size: joined.segment_len as u16,
            checksum_start: joined.layout.tcp_at as u16,
            checksum_offset: CHECKSUM as u16,
        };
        let part = |memory: *const u8, bytes: usize| libc::iovec { iov_base: memory.cast_mut().cast(), iov_len: bytes };
        let slice = |bytes: &[u8]| part(bytes.as_ptr(), bytes.len());
        let mut parts = ArrayVec::<libc::iovec, { BURST + 2 }>::new();
        parts.push(part((&raw const head).cast(), size_of::<VirtioNetHeader>()));
        parts.push(slice(joined.header()));
        for frame in burst.iter().take(joined.frames) {
            let mut text_at = joined.layout.text_at;
            for chunk in umem.slices(frame) {
                // No packet has more parts than a burst has frames.
                let _ = parts.try_push(slice(chunk.get(std::mem::take(&mut text_at)..).unwrap_or_default()));
            }
        }
        // SAFETY: all-zero is a value of this struct of integers and pointers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len());
        // SAFETY: the kernel reads as many bytes as `parts` say, of memory that is borrowed through the call.
        let result = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
        if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
