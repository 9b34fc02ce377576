//! What tests need of TCP sockets that the standard library does not offer.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Tells which of many sockets are ready.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// What a socket is watched for, or ready for: `EPOLLIN` and `EPOLLOUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// To be read from, or that its peer has ended.
    pub read: bool,
    /// To be written to.
    pub write: bool,
}

impl Interest {
    /// To be read from.
    pub const READ: Self = Self { read: true, write: false };
    /// To be written to.
    pub const WRITE: Self = Self { read: false, write: true };

    const fn event(self, token: u64) -> libc::epoll_event {
        let read = if self.read { libc::EPOLLIN } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        libc::epoll_event { events: (read | write) as u32, u64: token }
    }
}

impl Epoll {
    /// Watches nothing yet.
    ///
    /// # Panics
    /// If the kernel gives none.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "epoll: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is fresh and nobody else's.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Watches a socket, under a number of the caller's, until it is closed.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) {
        self.control(libc::EPOLL_CTL_ADD, socket, token, interest);
    }

    /// Watches it for something else from now on.
    ///
    /// # Panics
    /// If it was not watched.
    pub fn change(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) {
        self.control(libc::EPOLL_CTL_MOD, socket, token, interest);
    }

    /// Watches it no more.
    ///
    /// # Panics
    /// If it was not watched.
    pub fn remove(&self, socket: BorrowedFd<'_>) {
        self.control(libc::EPOLL_CTL_DEL, socket, 0, Interest::READ);
    }

    fn control(&self, operation: libc::c_int, socket: BorrowedFd<'_>, token: u64, interest: Interest) {
        let mut event = interest.event(token);
        // SAFETY: both descriptors are open, and the event is a local that is only read.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, socket.as_raw_fd(), &raw mut event) };
        assert_eq!(result, 0, "epoll_ctl: {}", io::Error::last_os_error());
    }

    /// Waits until sockets are ready, or for `timeout` in whole milliseconds. Writes their numbers into `ready`.
    /// One that has failed, or whose peer has gone, is ready.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn wait(&self, ready: &mut Vec<u64>, timeout: Duration) {
        let mut events = [Interest::READ.event(0); 256];
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: there is room for as many events as it says.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, timeout) };
        ready.clear();
        match usize::try_from(count) {
            Ok(count) => ready.extend(events[..count].iter().map(|event| event.u64)),
            Err(_) => {
                let error = io::Error::last_os_error();
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll_wait: {error}");
            }
        }
    }
}

impl Default for Epoll {
    fn default() -> Self {
        Self::new()
    }
}

/// Begins to connect from an address of this host's, in the calling thread's namespace, and does not wait: the
/// socket is writable once it is connected, or has an error ([`TcpStream::take_error`]).
///
/// # Errors
/// As the kernel's.
pub fn start_connecting(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_INET, flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // The port is chosen as late as it can be, so that it may be in use with another target.
    set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32)?;
    let (source, target) = (address(SocketAddrV4::new(source, 0)), address(target));
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address is live and of the given length.
    if unsafe { libc::bind(fd, (&raw const source).cast(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::connect(fd, (&raw const target).cast(), len) } != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(TcpStream::from(socket))
}

/// Lets so many connections wait to be accepted, if the system allows that many: the standard library has 128 wait,
/// which a thread that is not scheduled for a moment lets overflow.
///
/// # Panics
/// If the kernel refuses.
pub fn set_backlog(listener: &TcpListener, connections: u16) {
    // SAFETY: a plain system call on an open descriptor.
    let result = unsafe { libc::listen(listener.as_raw_fd(), connections.into()) };
    assert_eq!(result, 0, "listen: {}", io::Error::last_os_error());
}

/// Closes a connection by a reset, whatever is under way.
///
/// # Panics
/// If the kernel refuses.
pub fn reset(stream: TcpStream) {
    set(stream.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
        .expect("a socket takes SO_LINGER");
    drop(stream);
}

/// Gives the calling thread a table of open files of its own, with none open but standard input, output and error:
/// the limit of open files is one of each table, and to raise it may not be allowed.
///
/// Files that the thread has open already stay open elsewhere, but must not be used or closed by it any more.
///
/// # Panics
/// If the kernel refuses.
pub fn own_files() {
    // SAFETY: plain system calls that concern the calling thread alone, once the table is its own.
    let result = unsafe {
        match libc::unshare(libc::CLONE_FILES) {
            0 => libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32),
            error => error.into(),
        }
    };
    assert_eq!(result, 0, "no table of files of its own: {}", io::Error::last_os_error());
}

/// Gives the calling thread a copy of the table of open files, which may hold as many again as it did before.
///
/// What is open now stays open until the thread has ended, whoever closes it elsewhere.
///
/// # Panics
/// If the kernel refuses.
pub fn copy_files() {
    // SAFETY: a plain system call that concerns the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_FILES) };
    assert_eq!(result, 0, "no table of files of its own: {}", io::Error::last_os_error());
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn set<T>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and of the given length; the kernel reads it as the option's type, and refuses
    // one of another length.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
