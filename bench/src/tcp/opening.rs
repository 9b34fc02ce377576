//! Many connections that stay, opened side by side through kernel sockets.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::connections::Ports;
use super::{OPENING, cannot_connect, socket};
use crate::epoll::{EDGE, Epoll, WRITABLE};
use crate::error::{Context, Error, Result};
use crate::signals;

/// Handshakes under way at most: far fewer than a server's backlog.
const HANDSHAKES: usize = 512;
/// Files that are open besides connections.
const OTHER_FILES: usize = 64;
/// How long is waited for handshakes at a time, milliseconds.
const LOOK_MS: i32 = 10;

/// Opens `count` connections from `ports`, which never block and send what they are given at once; and how long
/// that took.
///
/// # Errors
/// The server does not accept, or the process may not have so many files.
pub(crate) fn open(target: SocketAddr, ports: &mut Ports, count: usize) -> Result<(Vec<TcpStream>, Duration)> {
    socket::allow_files(count + OTHER_FILES).context(|| {
        format!("this process may not have {count} connections open (`ulimit -n`, and as root sysctl fs.nr_open)")
    })?;
    let mut epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
    let (mut streams, mut established) = (Vec::with_capacity(count), vec![false; count]);
    let (begun, mut opened) = (Instant::now(), 0);
    let mut last = begun;
    while opened < count {
        signals::check()?;
        while streams.len() < count && streams.len() - opened < HANDSHAKES {
            let stream: TcpStream = ports.connect(target)?;
            epoll.add(stream.as_fd(), streams.len(), WRITABLE | EDGE).context(|| cannot_connect(target))?;
            streams.push(stream);
        }
        for event in 0..epoll.wait(LOOK_MS) {
            let token = epoll.ready(event).token;
            if let Some(error) = streams[token].take_error().context(|| cannot_connect(target))? {
                return Err(Error::run(format!("{} ({error}, after {opened} connections)", cannot_connect(target))));
            }
            if !std::mem::replace(&mut established[token], true) {
                streams[token].set_nodelay(true).context(|| cannot_connect(target))?;
                (opened, last) = (opened + 1, Instant::now());
            }
        }
        if last.elapsed() > OPENING {
            return Err(Error::run(format!("{} (no answer, after {opened} connections)", cannot_connect(target))));
        }
    }
    Ok((streams, begun.elapsed()))
}
