//! Waiting for sockets: epoll, with a number for each socket that tells its owner which one is ready.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Something can be read, or the peer has sent all that it will.
pub(crate) const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
/// There is room to write.
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// Told once for everything that happens, rather than for as long as it lasts.
pub(crate) const EDGE: u32 = libc::EPOLLET as u32;

/// Sockets that are told of at a time.
const EVENTS: usize = 64;

/// A set of sockets.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The number that it was added with.
    pub token: usize,
    flags: u32,
}

impl Ready {
    /// Whether reading tells something: bytes, the end, or an error.
    pub(crate) fn readable(self) -> bool {
        self.flags & (READABLE | (libc::EPOLLHUP | libc::EPOLLERR) as u32) != 0
    }

    /// Whether writing does not have to wait.
    pub(crate) fn writable(self) -> bool {
        self.flags & (WRITABLE | (libc::EPOLLHUP | libc::EPOLLERR) as u32) != 0
    }

    /// Whether the peer has sent all that it will, or is gone.
    pub(crate) fn ended(self) -> bool {
        self.flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no conditions; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS].into() })
    }

    /// Watches a socket until it is closed.
    pub(crate) fn add(&self, socket: BorrowedFd<'_>, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, interest)
    }

    /// Watches a socket for something else from now on.
    pub(crate) fn change(&self, socket: BorrowedFd<'_>, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, interest)
    }

    fn control(&self, operation: libc::c_int, socket: BorrowedFd<'_>, token: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: both descriptors are open, and the event is a local that is only read.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, socket.as_raw_fd(), &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until a socket is ready or `timeout_ms` have passed, and says how many are: up to 64.
    pub(crate) fn wait(&mut self, timeout_ms: i32) -> usize {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: there is room for as many events as are said.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events, room, timeout_ms) };
        // An error can only be an interruption, which is a reason to look around.
        usize::try_from(count).unwrap_or(0)
    }

    /// One of those that the last [`wait`](Self::wait) told of.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        Ready { token: event.u64 as usize, flags: event.events }
    }
}
