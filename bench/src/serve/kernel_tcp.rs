//! The baseline of TCP: echo (RFC 862), discard (RFC 863) and chargen (RFC 864) over kernel sockets, as good
//! as one core and the usual system calls make them.
//!
//! One thread, an epoll that is edge-triggered for the echo, and no system call too many: a request costs one
//! `recv` and one `send`, into and out of a buffer that all connections share. Only what the kernel does not
//! take is kept with its connection, which then waits for room before it reads on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::kernel_echo::Wait;
use crate::epoll::{EDGE, Epoll, READABLE, Ready, WRITABLE};
use crate::error::{Context, Result};
use crate::signals;
use crate::tcp::socket;

/// Bytes that are read at a time.
const READ: usize = 256 * 1024;
/// Files that may be open, and so connections: as many as there are ports of sixteen addresses.
const FILES: usize = 1 << 20;
/// The pattern of chargen repeats after 95 lines of 72 characters and line end.
const LINES: usize = 95;
const LINE: usize = 72;
const PERIOD: usize = LINES * (LINE + 2);
/// Bytes that chargen writes at a time, in periods: about as many as are read at a time.
const PERIODS: usize = READ / PERIOD;

/// What is done on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Echo,
    Discard,
    Chargen,
}

const SERVICES: [Service; 3] = [Service::Echo, Service::Discard, Service::Chargen];

struct Connection {
    stream: TcpStream,
    service: Service,
    /// Echo: what was read and the kernel did not take.
    unsent: Vec<u8>,
    /// Chargen: where in the pattern it goes on.
    at: usize,
}

/// What the server did, to hold against what a client says.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    /// Bytes of payload.
    received: u64,
    sent: u64,
}

struct Server {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    /// By token, after those of the listeners.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Box<[u8]>,
    pattern: Box<[u8]>,
    counts: Counts,
}

/// Serves echo on `address`, discard and chargen on the other ports, until SIGINT or SIGTERM.
///
/// # Errors
/// A port is taken, or the kernel accepts no more.
pub(crate) fn serve(address: SocketAddr, discard_port: u16, chargen_port: u16, wait: Wait) -> Result<()> {
    // Where it may not have so many, the kernel tells when they are used up.
    let _ = socket::allow_files(FILES);
    let mut server = Server::bind(address, discard_port, chargen_port)?;
    println!(
        "ready address={address} discard_port={discard_port} chargen_port={chargen_port} wait={wait:?} read_bytes={READ}"
    );
    let timeout_ms = if wait == Wait::Spin { 0 } else { 100 };
    while !signals::stopping() {
        server.turn(timeout_ms).context(|| "cannot accept connections".into())?;
    }
    let Counts { accepted, received, sent } = server.counts;
    println!("served accepted={accepted} received_bytes={received} sent_bytes={sent}");
    Ok(())
}

impl Server {
    fn bind(address: SocketAddr, discard_port: u16, chargen_port: u16) -> Result<Self> {
        let epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
        let mut listeners = Vec::new();
        for (token, port) in [address.port(), discard_port, chargen_port].into_iter().enumerate() {
            let address = SocketAddr::new(address.ip(), port);
            let failed = || format!("cannot serve on {address} (`ss -ltn` shows who has the port)");
            let listener = socket::listen(address).context(failed)?;
            epoll.add(listener.as_fd(), token, READABLE).context(failed)?;
            listeners.push(listener);
        }
        let pattern = pattern(PERIODS + 1).into();
        let (connections, free) = (Vec::new(), Vec::new());
        let (buffer, counts) = (vec![0; READ].into(), Counts::default());
        Ok(Self { epoll, listeners, connections, free, buffer, pattern, counts })
    }

    /// Waits, and does everything that there is to do.
    fn turn(&mut self, timeout_ms: i32) -> io::Result<()> {
        for event in 0..self.epoll.wait(timeout_ms) {
            let ready = self.epoll.ready(event);
            if ready.token < self.listeners.len() {
                self.accept(ready.token)?;
            } else {
                self.serve(ready);
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        while let Some(stream) = socket::accept(&self.listeners[listener])? {
            self.counts.accepted += 1;
            let service = SERVICES[listener];
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = match service {
                Service::Echo => READABLE | EDGE,
                // Told for as long as there is something to do: one step each time, so that all get their turn.
                Service::Discard => READABLE,
                Service::Chargen => READABLE | WRITABLE,
            };
            self.epoll.add(stream.as_fd(), self.listeners.len() + slot, interest)?;
            self.connections[slot] = Some(Connection { stream, service, unsent: Vec::new(), at: 0 });
        }
        Ok(())
    }

    fn serve(&mut self, ready: Ready) {
        let slot = ready.token - self.listeners.len();
        let Some(connection) = &mut self.connections[slot] else { return };
        let (buffer, counts) = (&mut self.buffer, &mut self.counts);
        let alive = match connection.service {
            Service::Echo => connection.echo(ready, &self.epoll, buffer, counts),
            Service::Discard => connection.discard(buffer, counts),
            Service::Chargen => connection.generate(ready, buffer, &self.pattern, counts),
        };
        if !matches!(alive, Ok(true)) {
            // Closes it, and takes it off the epoll with that.
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    /// Sends back what comes. `false` once the peer has sent all and has it back.
    fn echo(&mut self, ready: Ready, epoll: &Epoll, buffer: &mut [u8], counts: &mut Counts) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = written(self.stream.write(&self.unsent))?;
            counts.sent += sent as u64;
            self.unsent.drain(..sent);
            if !self.unsent.is_empty() {
                return Ok(true);
            }
            epoll.change(self.stream.as_fd(), ready.token, READABLE | EDGE)?;
        }
        loop {
            let Some(count) = received(self.stream.read(buffer))? else { return Ok(true) };
            if count == 0 {
                return Ok(false);
            }
            counts.received += count as u64;
            let sent = written(self.stream.write(&buffer[..count]))?;
            counts.sent += sent as u64;
            if sent < count {
                self.unsent.extend_from_slice(&buffer[sent..count]);
                epoll.change(self.stream.as_fd(), ready.token, READABLE | WRITABLE | EDGE)?;
                return Ok(true);
            }
            // A short read took all that there was: what comes later is told of again.
            if count < buffer.len() && !ready.ended() {
                return Ok(true);
            }
        }
    }

    /// Throws away what comes. `false` once the peer has sent all.
    fn discard(&mut self, buffer: &mut [u8], counts: &mut Counts) -> io::Result<bool> {
        let count = received(self.stream.read(buffer))?;
        counts.received += count.unwrap_or(0) as u64;
        Ok(count != Some(0))
    }

    /// Writes on in the pattern, and throws away what comes. `false` once the peer closes.
    fn generate(&mut self, ready: Ready, buffer: &mut [u8], pattern: &[u8], counts: &mut Counts) -> io::Result<bool> {
        if ready.readable() && received(self.stream.read(buffer))? == Some(0) {
            return Ok(false);
        }
        if ready.writable() {
            let sent = written(self.stream.write(&pattern[self.at..][..PERIODS * PERIOD]))?;
            self.at = (self.at + sent) % PERIOD;
            counts.sent += sent as u64;
        }
        Ok(true)
    }
}

/// Bytes that were written: none where there was no room.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    Ok(received(result)?.unwrap_or(0))
}

/// Bytes that were read; `None` where there were none to read.
fn received(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// So many periods of chargen's pattern (RFC 864): each line begins one character later.
fn pattern(periods: usize) -> Vec<u8> {
    let character = |i: usize| b' ' + (i % LINES) as u8;
    let line = |first: usize| (first..first + LINE).map(character).chain(*b"\r\n");
    (0..periods * LINES).flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_that_of_rfc_864_and_repeats() {
        let bytes = pattern(2);
        assert_eq!(bytes.len(), 2 * PERIOD);
        let mut lines = bytes.chunks(LINE + 2);
        assert!(lines.next().unwrap().starts_with(b" !\"#$%&'()*+,-./0123456789"));
        assert!(lines.next().unwrap().starts_with(b"!\"#$") && bytes.ends_with(b"\r\n"));
        assert_eq!(bytes[..PERIOD], bytes[PERIOD..]);
        assert!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')));
    }
}
