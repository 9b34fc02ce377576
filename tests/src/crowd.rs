//! Very many clients of an echo service.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::lab::{PATIENCE, until};
use crate::sockets::{Epoll, Interest, own_files, start_connecting};

/// Connections that are being established at a time: few enough for any listener's backlog.
const CONNECTING: usize = 100;
/// Bytes that a client sends at a time.
const MESSAGE: usize = 64;
/// How often each client sends.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the crowd is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Addresses that the clients have, the same number each, and each worked by a thread of its own: an address
    /// has ports for some 28,000, and a thread may have some 20,000 files open.
    pub sources: Vec<Ipv4Addr>,
    /// The echo service.
    pub target: SocketAddrV4,
    /// Number of clients of each address.
    pub clients: usize,
    /// How long each goes on sending a message every second.
    pub lasts: Duration,
}

/// What it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How long it took until all were connected.
    pub connected_in: Duration,
    /// Messages that came back.
    pub messages: u64,
    /// Times that a client did not send because its message before had not come back within [`INTERVAL`].
    pub late: u64,
    /// How long it took from the end of all clients' sides to that of all connections.
    pub ended_in: Duration,
}

impl Outcome {
    fn with(self, other: Self) -> Self {
        Self {
            connected_in: self.connected_in.max(other.connected_in),
            messages: self.messages + other.messages,
            late: self.late + other.late,
            ended_in: self.ended_in.max(other.ended_in),
        }
    }
}

/// Connects all clients of the plan in the calling thread's namespace, then has all send, then ends all.
///
/// # Panics
/// If one is refused, reset or not answered, or gets other bytes than it sent.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let (connected, heard) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let everyone_is = |what: &str, number: &AtomicUsize| {
        number.fetch_add(1, Ordering::Relaxed);
        until(what, || (number.load(Ordering::Relaxed) == plan.sources.len()).then_some(()));
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&plan.sources)
            .map(|(index, &source)| {
                let (connected, heard) = (&connected, &heard);
                scope.spawn(move || {
                    own_files();
                    let mut crowd = Crowd::new(index << 32, plan.clients);
                    let start = Instant::now();
                    crowd.connect(source, plan.target);
                    let connected_in = start.elapsed();
                    everyone_is("all clients are connected", connected);
                    let late = crowd.talk(plan.lasts);
                    everyone_is("all clients are answered", heard);
                    let start = Instant::now();
                    crowd.end();
                    Outcome { connected_in, messages: crowd.messages, late, ended_in: start.elapsed() }
                })
            })
            .collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        outcomes.fold(Outcome::default(), Outcome::with)
    })
}

struct Client {
    stream: TcpStream,
    content: Content,
    sent: u64,
    received: u64,
}

/// The clients of one address.
struct Crowd {
    epoll: Epoll,
    /// What the first one sends is the content of this seed; what the others send, of those after it.
    first_seed: u64,
    wanted: usize,
    clients: Vec<Client>,
    ready: Vec<u64>,
    messages: u64,
    last_progress: Instant,
}

impl Crowd {
    fn new(first_seed: u64, wanted: usize) -> Self {
        Self {
            epoll: Epoll::new(),
            first_seed,
            wanted,
            clients: Vec::with_capacity(wanted),
            ready: Vec::new(),
            messages: 0,
            last_progress: Instant::now(),
        }
    }

    fn connect(&mut self, source: Ipv4Addr, target: SocketAddrV4) {
        let mut connected = 0;
        while connected < self.wanted {
            while self.clients.len() < self.wanted.min(connected + CONNECTING) {
                let number = self.clients.len() as u64;
                let stream = start_connecting(source, target)
                    .unwrap_or_else(|error| panic!("client {number} from {source}: {error}"));
                self.epoll.add(stream.as_fd(), number, Interest::WRITE);
                let content = Content::new(self.first_seed + number);
                self.clients.push(Client { stream, content, sent: 0, received: 0 });
            }
            self.wait(Duration::from_secs(1), "connected");
            for &number in &self.ready {
                let client = &self.clients[number as usize];
                let error = client.stream.take_error().expect("a socket says how it is");
                assert!(error.is_none(), "client {number} from {source}: {error:?}");
                self.epoll.change(client.stream.as_fd(), number, Interest::READ);
                connected += 1;
            }
        }
    }

    /// Has every client send once an [`INTERVAL`], evenly spread. Says how often one had to wait for an answer.
    fn talk(&mut self, lasts: Duration) -> u64 {
        let start = Instant::now();
        let (mut turns, mut late) = (0_u64, 0);
        let count = self.clients.len() as u64;
        while start.elapsed() < lasts {
            let due = (start.elapsed().as_secs_f64() / INTERVAL.as_secs_f64() * count as f64) as u64;
            // Not more at a time than what answers are looked for after.
            let until = due.min(turns + CONNECTING as u64);
            while turns < until {
                let number = turns % count;
                turns += 1;
                let client = &mut self.clients[number as usize];
                if client.sent == client.received {
                    client.send().unwrap_or_else(|error| panic!("client {number}: {error}"));
                } else {
                    late += 1;
                }
            }
            let timeout = if turns < due { Duration::ZERO } else { Duration::from_millis(1) };
            self.epoll.wait(&mut self.ready, timeout);
            self.receive();
        }
        self.last_progress = Instant::now();
        while self.clients.iter().any(|client| client.sent != client.received) {
            self.wait(Duration::from_millis(10), "answered");
            self.receive();
        }
        late
    }

    fn end(&mut self) {
        for client in &self.clients {
            client.stream.shutdown(Shutdown::Write).expect("a connection that is open");
        }
        let mut left = self.clients.len();
        self.last_progress = Instant::now();
        while left > 0 {
            self.wait(Duration::from_secs(1), "ended");
            for &number in &self.ready {
                let client = &mut self.clients[number as usize];
                let end = client.stream.read(&mut [0; 1]);
                assert!(matches!(end, Ok(0)), "client {number} does not end well: {end:?}");
                // It would stay ready for its end.
                self.epoll.remove(client.stream.as_fd());
                left -= 1;
            }
        }
    }

    /// Waits for a client to be ready, but not for ever.
    fn wait(&mut self, timeout: Duration, what: &str) {
        self.epoll.wait(&mut self.ready, timeout);
        if !self.ready.is_empty() {
            self.last_progress = Instant::now();
        }
        assert!(self.last_progress.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for a client to be {what}");
    }

    fn receive(&mut self) {
        for &number in &self.ready {
            let client = &mut self.clients[number as usize];
            match client.receive() {
                Ok(()) => self.messages += u64::from(client.sent == client.received),
                Err(error) => panic!("client {number}: {error}"),
            }
        }
    }
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
        let mut message = [0; MESSAGE];
        self.content.fill(self.sent, &mut message);
        let len = self.stream.write(&message)?;
        assert_eq!(len, MESSAGE, "an empty queue takes a message whole");
        self.sent += MESSAGE as u64;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2 * MESSAGE];
        let len = self.stream.read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(offset) = self.content.differs_at(self.received, &buffer[..len]) {
            return Err(io::Error::other(format!("a wrong byte at {offset}")));
        }
        self.received += len as u64;
        Ok(())
    }
}
