//! Batches of datagrams: `recvmmsg` and `sendmmsg` over buffers that stay where they are.
//!
//! ```text
//!  headers[i] --> vectors[i] --> memory[i * SLOT .. ]       pointers set once: nothing moves after `new`
//!             \-> addresses[i]
//!             \-> controls[i]                            the kernel's time of arrival, if the socket asks for it
//! ```
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Datagrams a system call, as many as a burst of the engine holds.
pub(crate) const BATCH: usize = 64;
/// Bytes kept for each: more than the largest frame that is sent, with an MTU of 9,000.
const SLOT: usize = 9216;

/// Room for [`BATCH`] datagrams with their addresses.
pub(crate) struct Datagrams {
    memory: Box<[u8]>,
    vectors: Box<[libc::iovec]>,
    /// Room for addresses of either family. Only reached through the pointers in `headers`, except by tests.
    #[cfg_attr(not(test), expect(dead_code))]
    addresses: Box<[libc::sockaddr_in6]>,
    /// Only reached through the pointers in `headers`.
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
}

/// Room for one control message with a time, aligned as control messages are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LEN]);

/// A control message's header and a timespec, of 16 bytes each.
const CONTROL_LEN: usize = 32;

impl Datagrams {
    pub(crate) fn new() -> Self {
        let mut memory = vec![0; BATCH * SLOT].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = memory
            .chunks_mut(SLOT)
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT })
            .collect();
        // SAFETY: all-zero socket addresses and message headers are valid: no pointers, no lengths.
        let (mut addresses, mut headers): (Box<[libc::sockaddr_in6]>, Box<[libc::mmsghdr]>) =
            unsafe { (vec![std::mem::zeroed(); BATCH].into(), vec![std::mem::zeroed(); BATCH].into()) };
        for (header, (vector, address)) in headers.iter_mut().zip(vectors.iter_mut().zip(addresses.iter_mut())) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
        }
        let mut controls: Box<[Control]> = vec![Control([0; CONTROL_LEN]); BATCH].into();
        for (header, control) in headers.iter_mut().zip(&mut controls) {
            header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
        }
        Self { memory, vectors, addresses, controls, headers }
    }

    /// Receives up to `limit` datagrams without waiting; 0 if there are none.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let limit = limit.min(BATCH);
        for (header, vector) in self.headers.iter_mut().zip(&mut self.vectors).take(limit) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
            vector.iov_len = SLOT;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `limit` headers exist; their pointers are to vectors, addresses, controls and memory that `self`
        // owns, of the lengths set beside them, and no reference to any of these is alive.
        let count = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), limit as _, flags as _, std::ptr::null_mut())
        };
        count_of(count)
    }

    /// Sends the first `count` datagrams as they are, without waiting. Says how many the kernel took.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let count = count.min(BATCH);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: as in `receive`; the kernel only reads.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count as _, flags as _) };
        count_of(sent)
    }

    /// Makes the first `count` datagrams just received the ones to send: same bytes, same addresses.
    pub(crate) fn turn_around(&mut self, count: usize) {
        for (header, vector) in self.headers.iter().zip(&mut self.vectors).take(count) {
            vector.iov_len = header.msg_len as usize;
        }
        self.headers.iter_mut().take(count).for_each(|header| header.msg_hdr.msg_controllen = 0);
    }

    /// When the kernel received a datagram, on CLOCK_REALTIME in nanoseconds, if its socket was asked to tell.
    pub(crate) fn arrived_ns(&self, index: usize) -> Option<u64> {
        if self.headers[index].msg_hdr.msg_controllen < CONTROL_LEN {
            return None;
        }
        let Control(bytes) = self.controls[index];
        let word = |from: usize| bytes[from..][..8].try_into().map_or(0, u64::from_ne_bytes);
        // cmsghdr: length 8, level 4, type 4; then seconds and nanoseconds.
        let kind = word(8);
        let expected = u64::from(libc::SOL_SOCKET as u32) | u64::from(libc::SCM_TIMESTAMPNS as u32) << 32;
        (kind == expected.to_le()).then(|| word(16) * 1_000_000_000 + word(24))
    }

    /// The bytes of a datagram that was received.
    pub(crate) fn received(&self, index: usize) -> &[u8] {
        let len = self.headers[index].msg_len as usize;
        &self.memory[index * SLOT..][..len.min(SLOT)]
    }

    /// Prepares a datagram of `len` bytes to a connected socket's peer, and hands out its bytes.
    pub(crate) fn prepare(&mut self, index: usize, len: usize) -> &mut [u8] {
        self.headers[index].msg_hdr.msg_controllen = 0;
        self.headers[index].msg_hdr.msg_namelen = 0;
        self.headers[index].msg_hdr.msg_name = std::ptr::null_mut();
        self.vectors[index].iov_len = len;
        &mut self.memory[index * SLOT..][..len]
    }

    /// The port that a datagram came from: it stands in the same place in addresses of both families.
    #[cfg(test)]
    pub(crate) fn source_port(&self, index: usize) -> u16 {
        u16::from_be(self.addresses[index].sin6_port)
    }
}

fn count_of(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).or_else(|_| match io::Error::last_os_error() {
        error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        // An ICMP error that came back for an earlier datagram.
        error if error.kind() == io::ErrorKind::ConnectionRefused => Ok(0),
        error => Err(error),
    })
}

/// A UDP socket with `buffer_bytes` of receive and transmit buffer, beyond the system's limit where this
/// process may.
pub(crate) fn socket(address: SocketAddr, buffer_bytes: u32) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    for (forced, asked) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(socket.as_fd(), forced, buffer_bytes).is_err() {
            set_option(socket.as_fd(), asked, buffer_bytes)?;
        }
    }
    Ok(socket)
}

/// Has the kernel tell when it received each datagram.
pub(crate) fn ask_for_arrival_times(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SO_TIMESTAMPNS, 1)
}

fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: u32) -> io::Result<()> {
    let pointer = std::ptr::from_ref(&value).cast();
    // SAFETY: the option's value is an int of four bytes, and `value` outlives the call.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, pointer, 4) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals;

    #[test]
    fn a_batch_comes_back_byte_for_byte_to_whoever_sent_it() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            a_batch_comes_back(any.parse().unwrap());
        }
    }

    fn a_batch_comes_back(any: SocketAddr) {
        let (server, client) = (socket(any, 1 << 20).unwrap(), socket(any, 1 << 20).unwrap());
        client.connect(server.local_addr().unwrap()).unwrap();
        let (mut at_server, mut at_client) = (Datagrams::new(), Datagrams::new());
        for (index, len) in [0usize, 1, 22, 1472].into_iter().enumerate() {
            at_client.prepare(index, len).fill(index as u8 + 1);
        }
        assert_eq!(at_client.send(client.as_fd(), 4).unwrap(), 4);
        let count = at_server.receive(server.as_fd(), BATCH).unwrap();
        assert_eq!(count, 4);
        assert_eq!(at_server.source_port(3), client.local_addr().unwrap().port());
        at_server.turn_around(count);
        assert_eq!(at_server.send(server.as_fd(), count).unwrap(), 4);
        assert_eq!(at_client.receive(client.as_fd(), BATCH).unwrap(), 4);
        assert_eq!(at_client.received(3), [4; 1472]);
        assert!(at_client.received(0).is_empty());
        assert_eq!(at_client.receive(client.as_fd(), BATCH).unwrap(), 0, "nothing is left");
        assert_eq!(at_client.arrived_ns(0), None, "nobody asked");
    }

    #[test]
    fn the_kernel_tells_when_a_datagram_came_if_it_is_asked() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (server, client) = (socket(any, 1 << 20).unwrap(), socket(any, 1 << 20).unwrap());
        ask_for_arrival_times(server.as_fd()).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let mut datagrams = Datagrams::new();
        let before = signals::realtime_ns();
        for _ in 0..2 {
            client.send(b"x").unwrap();
            assert_eq!(datagrams.receive(server.as_fd(), BATCH).unwrap(), 1);
            let arrived = datagrams.arrived_ns(0).unwrap();
            assert!((before..=signals::realtime_ns()).contains(&arrived), "{arrived} after {before}");
        }
    }
}
