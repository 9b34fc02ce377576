//! The kernel's TCP with the four small services behind it: what the engine is held against, and a server for it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::netns::Namespace;
use crate::sockets::{Epoll, Interest, copy_files, set_backlog};

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
/// Connections that may wait to be accepted.
const BACKLOG: u16 = 4096;
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Reads and writes on one connection before the next one's turn.
const ROUNDS: usize = 8;

/// Connections that a thread takes at most: a table of open files often holds 20,000, with some of other use.
const CONNECTIONS: usize = 18_000;

/// All four services on an address of a namespace, worked by epoll. They end on drop.
#[derive(Debug)]
pub struct Services {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Threads may have tables of files of their own: what is open in this one is closed here, after their end.
    _listeners: Arc<Listeners>,
}

type Listeners = [TcpListener; Service::ALL.len()];

impl Services {
    /// Starts them on one thread. Connections are accepted from now on.
    ///
    /// # Panics
    /// If the kernel gives no sockets.
    #[must_use]
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Self {
        Self::start_for(namespace, address, CONNECTIONS)
    }

    /// Starts them on as many threads as so many connections need.
    ///
    /// # Panics
    /// If the kernel gives no sockets.
    #[must_use]
    pub fn start_for(namespace: &Namespace, address: Ipv4Addr, connections: usize) -> Self {
        let listeners = namespace.enter(|| Service::ALL.map(|service| TcpListener::bind((address, service.port()))));
        let listeners = Arc::new(listeners.map(|listener| listener.expect("a listening socket")));
        for listener in listeners.iter() {
            listener.set_nonblocking(true).expect("a socket need not block");
            set_backlog(listener, BACKLOG);
        }
        let end = Arc::new(AtomicBool::new(false));
        let count = connections.div_ceil(CONNECTIONS);
        let started = Arc::new(Barrier::new(count + 1));
        let thread = |_| {
            let (listeners, ended, started) = (Arc::clone(&listeners), Arc::clone(&end), Arc::clone(&started));
            thread::spawn(move || {
                if count > 1 {
                    copy_files();
                }
                // Not before the copy: a pipe of the caller's would never end if it were in it.
                started.wait();
                serve(&listeners, &ended);
            })
        };
        let threads = (0..count).map(thread).collect();
        started.wait();
        Self { end, threads, _listeners: listeners }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // One that has failed has said so.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Tokens below this are those of listeners; others are numbers of connections.
const FIRST_CONNECTION: u64 = Service::ALL.len() as u64;

fn serve(listeners: &Listeners, ended: &AtomicBool) {
    let epoll = Epoll::new();
    (0..).zip(listeners).for_each(|(token, listener)| epoll.add(listener.as_fd(), token, Interest::READ));
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut next = FIRST_CONNECTION;
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        epoll.wait(&mut ready, Duration::from_millis(20));
        for &token in &ready {
            if let Some(listener) = listeners.get(token as usize) {
                if connections.len() >= CONNECTIONS {
                    epoll.remove(listener.as_fd());
                    continue;
                }
                if let Ok((stream, _)) = listener.accept() {
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
