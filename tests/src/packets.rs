//! Whole frames through the kernel, many a system call: `recvmmsg` and `sendmmsg` on AF_PACKET sockets.
#![allow(unsafe_code)]

use std::array;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::netns::PacketSocket;

/// Frames a system call.
pub const BATCH: usize = 64;

/// The longest frame that is received whole: an MTU of 1,500, with room for tags.
const FRAME_BYTES: usize = 2048;

/// Memory of one frame.
#[derive(Clone, Debug)]
pub struct Frame {
    memory: Box<[u8; FRAME_BYTES]>,
    len: usize,
    truncated: bool,
}

impl Default for Frame {
    /// An empty one.
    fn default() -> Self {
        Self { memory: Box::new([0; FRAME_BYTES]), len: 0, truncated: false }
    }
}

impl Frame {
    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// The same, to change it.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    /// Whether the frame that was received is longer than what it holds.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Makes it hold `bytes`.
    ///
    /// # Panics
    /// If they are too many.
    pub fn set(&mut self, bytes: &[u8]) {
        self.memory[..bytes.len()].copy_from_slice(bytes);
        (self.len, self.truncated) = (bytes.len(), false);
    }

    /// Makes it hold what another one holds.
    pub fn copy_from(&mut self, other: &Self) {
        self.set(other.bytes());
    }
}

/// Receives up to [`BATCH`] frames without waiting, and says how many: the first ones of `frames` hold them.
///
/// # Panics
/// If the socket fails.
pub fn receive(socket: &PacketSocket, frames: &mut [Frame]) -> usize {
    let mut vectors = frames
        .iter_mut()
        .take(BATCH)
        .map(|frame| libc::iovec { iov_base: frame.memory.as_mut_ptr().cast(), iov_len: FRAME_BYTES });
    let mut vectors: [libc::iovec; BATCH] = array::from_fn(|_| vectors.next().unwrap_or(NOTHING));
    let mut headers = headers(&mut vectors);
    let (fd, limit) = (socket.as_raw_fd(), frames.len().min(BATCH));
    // SAFETY: `limit` headers exist, each with a vector to as many bytes of a frame as it says; frames and
    // vectors live until the call returns, and nobody else looks at them.
    let count =
        unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), limit as _, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
    let count = count_or_none(count, "recvmmsg");
    for (frame, header) in frames.iter_mut().zip(&headers).take(count) {
        frame.len = (header.msg_len as usize).min(FRAME_BYTES);
        frame.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
    }
    count
}

/// Sends the first [`BATCH`] of `frames` without waiting. Says how many the kernel took, in order; 0 if it refuses
/// the first one.
pub fn send<'a>(socket: &PacketSocket, frames: impl IntoIterator<Item = &'a Frame>) -> usize {
    let mut vectors = [NOTHING; BATCH];
    let mut limit = 0;
    for (vector, frame) in vectors.iter_mut().zip(frames) {
        // The kernel only reads.
        *vector = libc::iovec { iov_base: frame.memory.as_ptr().cast_mut().cast(), iov_len: frame.len };
        limit += 1;
    }
    let mut headers = headers(&mut vectors);
    // SAFETY: `limit` headers exist, each with a vector to as many bytes of a frame as it says; frames and
    // vectors live until the call returns. The kernel does not write to what it sends.
    let count =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), limit as _, libc::MSG_DONTWAIT as _) };
    usize::try_from(count).unwrap_or(0)
}

/// Waits until a frame has come in at one of the sockets, or for `timeout`.
pub fn wait(sockets: &[&PacketSocket; 2], timeout: Duration) {
    let mut polls = sockets.map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: two live descriptors' pollfds, and a live time. An error can only be an interruption, which is a
    // reason to look.
    unsafe { libc::ppoll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, &raw const timeout, std::ptr::null()) };
}

/// Of a header without a frame.
const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn headers(vectors: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
    let mut vectors = vectors.iter_mut();
    array::from_fn(|_| {
        // SAFETY: all-zero is a header without address, vectors and control data.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        if let Some(vector) = vectors.next() {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        header
    })
}

/// What a system call gave, with nothing to be had as 0.
fn count_or_none(result: libc::c_int, call: &str) -> usize {
    usize::try_from(result).unwrap_or_else(|_| match io::Error::last_os_error() {
        error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
        // The interface has gone down, or away with its namespace: nothing comes in any more.
        error if error.raw_os_error() == Some(libc::ENETDOWN) => 0,
        error => panic!("{call}: {error}"),
    })
}
