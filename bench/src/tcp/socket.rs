//! What the standard library's TCP sockets lack: connecting from a chosen port without waiting, accepting
//! sockets that never block, counters of a connection, and how many there may be.
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Connections that wait for their `accept`: as many as net.core.somaxconn allows by default.
const BACKLOG: libc::c_int = 4096;

/// Begins to connect `source` to `target` and does not wait: the socket turns writable when it has.
///
/// # Errors
/// `AddrInUse` and `AddrNotAvailable` if the port is somebody's, or a connection that was there before
/// forbids it (TIME-WAIT).
pub(crate) fn connect(source: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no conditions; the result is checked.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the descriptor is fresh and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Without it no port could be taken again that a connection in TIME-WAIT has.
    switch_on(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    let (source, target) = (Address::of(source), Address::of(target));
    // SAFETY: the address is a local of at least the length given, which is only read.
    check(unsafe { libc::bind(fd, source.pointer(), source.len()) })?;
    // SAFETY: as above.
    match check(unsafe { libc::connect(fd, target.pointer(), target.len()) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A socket that listens, with room for [`BACKLOG`] connections that nobody has accepted yet. What is accepted
/// sends what it is given at once.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // SAFETY: the socket is open, and listens already: this only widens its backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    // Accepted sockets inherit it.
    switch_on(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    Ok(listener)
}

/// The next connection that came in, as a socket that never blocks; `None` if there is none.
///
/// # Errors
/// Whatever the kernel says, such as that there are too many open files.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    let (nobody, no_len, flags) =
        (std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    // SAFETY: the socket is open; null pointers mean that the peer's address is not wanted.
    match check(unsafe { libc::accept4(listener.as_raw_fd(), nobody, no_len, flags) }) {
        // SAFETY: the descriptor is fresh and nobody else's.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }.into())),
        // It went away before it was accepted.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets this process have `count` files open at least.
///
/// # Errors
/// It may not.
pub(crate) fn allow_files(count: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a local of the right type, which the kernel writes to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let count = count as libc::rlim_t;
    if limit.rlim_cur >= count {
        return Ok(());
    }
    limit = libc::rlimit { rlim_cur: count, rlim_max: limit.rlim_max.max(count) };
    // SAFETY: as above; it is only read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Bytes that the peer has acknowledged since the connection began; the client's SYN counts as one.
///
/// # Errors
/// A kernel before 4.1, which does not count them.
pub(crate) fn bytes_acked(stream: &TcpStream) -> io::Result<u64> {
    /// `tcpi_bytes_acked` of `struct tcp_info` (include/uapi/linux/tcp.h), which libc knows only the start of.
    const AT: usize = 120;
    let mut info = [0u8; AT + 8];
    let mut len = info.len() as libc::socklen_t;
    let value = info.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes to `info`, which has so many, and says in `len` how many.
    check(unsafe { libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut len) })?;
    match info[AT..].try_into() {
        Ok(bytes) if len as usize == info.len() => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

/// Has the kernel send at most so many bytes a second (socket(7), `SO_MAX_PACING_RATE`), headers included.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn pace(stream: &TcpStream, bytes_per_s: u64) -> io::Result<()> {
    set(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &bytes_per_s)
}

fn switch_on(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    set::<libc::c_int>(fd, level, option, &1)
}

fn set<T: Copy>(fd: RawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let (pointer, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads at most `len` bytes of `value`, which has so many and outlives the call.
    check(unsafe { libc::setsockopt(fd, level, option, pointer, len) }).map(drop)
}

/// A socket address as the kernel has it.
enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl Address {
    fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }

    const fn pointer(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => std::ptr::from_ref(address).cast(),
            Self::V6(address) => std::ptr::from_ref(address).cast(),
        }
    }

    const fn len(&self) -> libc::socklen_t {
        let len = match self {
            Self::V4(_) => size_of::<libc::sockaddr_in>(),
            Self::V6(_) => size_of::<libc::sockaddr_in6>(),
        };
        len as libc::socklen_t
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;
    use crate::epoll::{Epoll, READABLE, WRITABLE};

    #[test]
    fn a_connection_comes_from_the_port_that_was_asked_for_and_counts_its_bytes() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let any: SocketAddr = loopback.parse().unwrap();
            a_connection_counts_its_bytes(any, SocketAddr::new(any.ip(), 9017));
        }
    }

    fn a_connection_counts_its_bytes(any: SocketAddr, source: SocketAddr) {
        let listener = listen(any).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let mut client = connect(source, listener.local_addr().unwrap()).unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(client.as_fd(), 3, WRITABLE).unwrap();
        assert_eq!(epoll.wait(1000), 1);
        assert!(epoll.ready(0).token == 3 && epoll.ready(0).writable() && !epoll.ready(0).ended());
        assert_eq!(client.local_addr().unwrap(), source);

        let mut server = accept(&listener).unwrap().unwrap();
        assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(&[1; 5]).unwrap();
        epoll.add(server.as_fd(), 4, READABLE).unwrap();
        epoll.change(client.as_fd(), 3, READABLE).unwrap();
        assert_eq!(epoll.wait(1000), 1);
        assert!(epoll.ready(0).token == 4 && epoll.ready(0).readable());
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 5);
        assert_eq!(bytes_acked(&client).unwrap(), 6, "its SYN counts as one");
    }
}
