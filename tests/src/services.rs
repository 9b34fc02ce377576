//! The kernel's TCP with the four small services behind it: what the engine is held against, and a server for it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::netns::Namespace;
use crate::sockets::{Epoll, Interest};

/// Who serves: each on its own port, as at the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// RFC 862: what comes in goes back.
    Echo,
    /// RFC 863: what comes in is gone.
    Discard,
    /// RFC 867: a line, and the end.
    Daytime,
    /// RFC 864: lines, until the peer ends.
    Chargen,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Echo, Self::Discard, Self::Daytime, Self::Chargen];

    /// Its port.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Daytime => 13,
            Self::Chargen => 19,
        }
    }
}

/// The line that daytime says here; it has no clock.
const DAYTIME: &[u8] = b"Tuesday, February 22, 1982 17:37:43-PST\r\n";
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Reads and writes on one connection before the next one's turn.
const ROUNDS: usize = 8;

/// All four services on an address of a namespace, worked by one thread by epoll. They end on drop.
#[derive(Debug)]
pub struct Services {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Starts them. Connections are accepted from now on.
    ///
    /// # Panics
    /// If the kernel gives no sockets.
    #[must_use]
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Self {
        let listeners = namespace.enter(|| Service::ALL.map(|service| TcpListener::bind((address, service.port()))));
        let listeners = listeners.map(|listener| listener.expect("a listening socket"));
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || serve(&listeners, &ended));
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // If it has failed, it has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Tokens below this are those of listeners; others are numbers of connections.
const FIRST_CONNECTION: u64 = Service::ALL.len() as u64;

fn serve(listeners: &[TcpListener], ended: &AtomicBool) {
    let epoll = Epoll::new();
    for (token, listener) in (0..).zip(listeners) {
        listener.set_nonblocking(true).expect("a socket need not block");
        epoll.add(listener.as_fd(), token, Interest::READ);
    }
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut next = FIRST_CONNECTION;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        epoll.wait(&mut ready, Duration::from_millis(20));
        for &token in &ready {
            if let Some(listener) = listeners.get(token as usize) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket need not block");
                    let connection = Connection::new(stream, Service::ALL[token as usize]);
                    epoll.add(connection.stream.as_fd(), next, connection.watched);
                    connections.insert(next, connection);
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&token) {
                match connection.work(&mut buffer) {
                    Ok(Some(wanted)) if wanted == connection.watched => {}
                    Ok(Some(wanted)) => {
                        connection.watched = wanted;
                        epoll.change(connection.stream.as_fd(), token, wanted);
                    }
                    // It has ended, or was reset.
                    Ok(None) | Err(_) => drop(connections.remove(&token)),
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    service: Service,
    watched: Interest,
    /// What is still to be written, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// The peer has ended its side.
    ended: bool,
    /// Lines of chargen so far.
    lines: usize,
}

impl Connection {
    fn new(stream: TcpStream, service: Service) -> Self {
        let (pending, watched) = match service {
            Service::Echo | Service::Discard => (Vec::new(), Interest::READ),
            Service::Daytime => (DAYTIME.to_vec(), Interest::WRITE),
            Service::Chargen => (Vec::new(), Interest::WRITE),
        };
        Self { stream, service, watched, pending, written: 0, ended: false, lines: 0 }
    }

    /// Reads and writes what it can. Says what it waits for, or that it is done.
    fn work(&mut self, buffer: &mut [u8]) -> io::Result<Option<Interest>> {
        for _ in 0..ROUNDS {
            if !self.write()? {
                // Nothing is read that could not be given back.
                return Ok(Some(Interest::WRITE));
            }
            match self.service {
                Service::Chargen if !self.ended => self.add_lines(),
                Service::Daytime => self.stream.shutdown(Shutdown::Write)?,
                _ if self.ended => return Ok(None),
                _ => {}
            }
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(len) if self.service == Service::Echo => self.pending.extend_from_slice(&buffer[..len]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.pending.is_empty() {
                        return Ok(Some(Interest::READ));
                    }
                }
                Err(error) => return Err(error),
            }
            if self.service == Service::Daytime && self.ended {
                return Ok(None);
            }
        }
        Ok(Some(Interest { read: true, write: !self.pending.is_empty() }))
    }

    /// Writes what is pending. `false` if the socket took only part of it.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.pending.len() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(true)
    }

    /// The next lines of RFC 864: 72 characters each, of the 95 that can be printed, one further in each line.
    fn add_lines(&mut self) {
        const LINES: usize = 95;
        for line in self.lines..self.lines + LINES {
            self.pending.extend((0..72).map(|column| b' ' + ((line + column) % 95) as u8));
            self.pending.extend(b"\r\n");
        }
        self.lines += LINES;
    }
}
