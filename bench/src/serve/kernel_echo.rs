//! The baseline: a UDP echo over kernel sockets, as good as one core and the usual system calls make it.
//!
//! Batches of 64 by `recvmmsg` and `sendmmsg`, answered from the very buffers that they came in; waiting by
//! epoll or by asking again and again.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::epoll::{Epoll, READABLE};
use crate::error::{Context, Result};
use crate::mmsg::{self, BATCH, Datagrams};
use crate::signals;

/// Receive buffer, of which the kernel makes the double. A small frame that came in by XDP is charged with
/// its whole page and more (4.7 KiB as measured), so this holds about 8192 of them: as many as the rings of
/// the AF_XDP servers.
pub(crate) const BUFFER_BYTES: u32 = 20 << 20;

/// How the server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Epoll,
    Spin,
}

/// Echoes until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be bound, or the socket fails.
pub(crate) fn serve(address: SocketAddr, wait: Wait) -> Result<()> {
    let socket = mmsg::socket(address, BUFFER_BYTES)
        .context(|| format!("cannot serve on {address} (`ss -lun` shows who has the port)"))?;
    let socket = socket.as_fd();
    let mut epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
    epoll.add(socket, 0, READABLE).context(|| "cannot watch a socket".into())?;
    let mut datagrams = Datagrams::new();
    println!("ready address={address} wait={wait:?} batch={BATCH} receive_buffer_bytes={BUFFER_BYTES}");
    while !signals::stopping() {
        let count = datagrams.receive(socket, BATCH).context(|| "cannot receive".into())?;
        if count == 0 {
            if wait == Wait::Epoll {
                epoll.wait(100);
            }
            continue;
        }
        datagrams.turn_around(count);
        // What the kernel does not take (its transmit buffer is full) is lost, as with any UDP server.
        datagrams.send(socket, count).context(|| "cannot send".into())?;
    }
    Ok(())
}
