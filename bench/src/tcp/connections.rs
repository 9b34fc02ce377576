//! Connections that live for one request: connect, ask, get the answer, close.
//!
//! ```text
//!  client    SYN ------->   ask ------->   FIN ------->       TIME-WAIT, and the next port
//!  server       <--- SYN-ACK   <--- answer    <--- ACK, FIN
//! ```
//!
//! The client closes first, by a half-close, and waits for the server to close too: every connection ends by
//! FINs both ways. TIME-WAIT is then the client's, whose ports it ties up for a minute. So ports and source
//! addresses are taken in turn, and after the last the first comes again, which the kernel allows a second
//! after it was closed where timestamps prove that nothing old can be mistaken (net.ipv4.tcp_tw_reuse).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use super::trial::{Outcome, Plan, Transactions, Window};
use super::{not_an_echo, socket};
use crate::epoll::{EDGE, Epoll, READABLE, Ready, WRITABLE};
use crate::error::{Context, Error, Result};
use crate::netns::Family;
use crate::signals::{self, monotonic_ns};

/// Source ports: above those of most services, and below those that the kernel gives to whoever asks for none
/// (net.ipv4.ip_local_port_range), which it would not find free otherwise.
const FIRST_PORT: u16 = 2_000;
const PORTS: u64 = 32_768 - FIRST_PORT as u64;
/// So many connections that failed before one succeeded are no accident.
pub(crate) const HOPELESS: u64 = 1000;
/// After the end, how long connections that are not complete are waited for.
pub(crate) const DRAIN_NS: u64 = 300_000_000;

/// Source addresses and ports, in turn.
#[derive(Debug)]
pub(crate) struct Ports {
    sources: Vec<IpAddr>,
    next: u64,
    /// Those passed over because the kernel would not have them yet.
    pub skipped: u64,
}

impl Ports {
    /// All ports of these addresses. Without any, of the address that the kernel takes for `target`.
    ///
    /// # Errors
    /// There is no route to it.
    pub(crate) fn of(sources: &[IpAddr], target: SocketAddr) -> Result<Self> {
        let mut sources = sources.to_vec();
        if sources.is_empty() {
            let failed = || format!("no route to {target}");
            let probe = UdpSocket::bind((Family::of(target).unspecified(), 0)).context(failed)?;
            // Sends nothing: connecting a datagram socket only looks the route up.
            probe.connect(target).context(failed)?;
            sources.push(probe.local_addr().context(failed)?.ip());
        }
        // Another run may just have used the first ports.
        Ok(Self { sources, next: monotonic_ns() >> 10, skipped: 0 })
    }

    /// The addresses.
    pub(crate) fn sources(&self) -> &[IpAddr] {
        &self.sources
    }

    /// The next of them.
    fn take(&mut self) -> SocketAddr {
        let (source, port) = (self.next / PORTS % self.sources.len() as u64, self.next % PORTS);
        self.next += 1;
        SocketAddr::new(self.sources[source as usize], FIRST_PORT + port as u16)
    }

    /// How many there are.
    fn count(&self) -> u64 {
        self.sources.len() as u64 * PORTS
    }

    /// Begins to connect to `target` from the next port that the kernel gives.
    ///
    /// # Errors
    /// There is none, or no way to the target.
    pub(crate) fn connect(&mut self, target: SocketAddr) -> Result<TcpStream> {
        for _ in 0..self.count() {
            match socket::connect(self.take(), target) {
                Ok(stream) => return Ok(stream),
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {
                    self.skipped += 1;
                }
                Err(error) => return Err(Error::run(format!("cannot connect to {target}: {error}"))),
            }
        }
        Err(Error::run(
            "no port is free: all are in TIME-WAIT (or --source is not an address of this host). \
             `sysctl -w net.ipv4.tcp_tw_reuse=1` in this network namespace, or more addresses for --source",
        ))
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Answer,
    End,
}

/// What came of looking after a connection.
enum Step {
    Waiting,
    Complete,
    NotAnEcho,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    read: usize,
    begun_ns: u64,
}

/// A number of connections at a time, each followed by the next.
pub(crate) struct Connections<'ports> {
    target: SocketAddr,
    ports: &'ports mut Ports,
    epoll: Epoll,
    slots: Vec<Option<Connection>>,
    request: Box<[u8]>,
    response: Box<[u8]>,
}

impl<'ports> Connections<'ports> {
    /// `connections` at a time, for a request of `size` bytes on each.
    ///
    /// # Errors
    /// No epoll.
    pub(crate) fn new(target: SocketAddr, ports: &'ports mut Ports, connections: usize, size: usize) -> Result<Self> {
        let epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
        let slots = (0..connections).map(|_| None).collect();
        let request = (0..size).map(|i| (i * 7) as u8).collect();
        Ok(Self { target, ports, epoll, slots, request, response: vec![0; size].into() })
    }

    /// Connects for as long as the plan says.
    ///
    /// # Errors
    /// The server refuses, there is no port left, or the answer is not the request.
    pub(crate) fn run(&mut self, plan: Plan) -> Result<Outcome> {
        let mut window = Window::open(plan);
        let mut transactions = Transactions::of(&window);
        // Those before the window opens count for the question whether there is a server at all.
        let mut ever = 0;
        for index in 0..self.slots.len() {
            self.begin(index, monotonic_ns())?;
        }
        while !window.over() {
            let count = self.epoll.wait(0);
            for event in 0..count {
                let ready = self.epoll.ready(event);
                let step = self.step(ready);
                if matches!(step, Ok(Step::Waiting)) {
                    continue;
                }
                let (now_ns, connection) = (monotonic_ns(), self.slots[ready.token].take());
                match (step, connection) {
                    (Ok(Step::NotAnEcho), _) => return Err(not_an_echo()),
                    (Ok(_), Some(connection)) => {
                        ever += 1;
                        if window.counts(now_ns) {
                            transactions.record(connection.begun_ns, now_ns);
                        }
                    }
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        transactions.failed += 1;
                        if ever == 0 && transactions.failed == HOPELESS {
                            return Err(Error::run(format!("no connection to {} succeeds: {error}", self.target)));
                        }
                    }
                }
                self.begin(ready.token, now_ns)?;
            }
            let now_ns = monotonic_ns();
            window.tick(now_ns, count == 0);
            transactions.course.tick(now_ns);
        }
        let outcome = window.outcome(transactions);
        self.drain();
        Ok(outcome)
    }

    /// Begins a connection from the next port that the kernel gives.
    fn begin(&mut self, index: usize, now_ns: u64) -> Result<()> {
        let stream = self.ports.connect(self.target)?;
        self.epoll
            .add(stream.as_fd(), index, READABLE | WRITABLE | EDGE)
            .context(|| "cannot watch a connection".into())?;
        self.slots[index] = Some(Connection { stream, stage: Stage::Connecting, read: 0, begun_ns: now_ns });
        Ok(())
    }

    /// Does what a connection is ready for.
    ///
    /// # Errors
    /// The connection failed.
    fn step(&mut self, ready: Ready) -> io::Result<Step> {
        let Some(connection) = &mut self.slots[ready.token] else { return Ok(Step::Waiting) };
        if connection.stage == Stage::Connecting {
            if ready.writable() {
                // A fresh connection has room for far more than the longest request.
                connection.stream.write_all(&self.request)?;
                connection.stage = Stage::Answer;
            }
            return Ok(Step::Waiting);
        }
        loop {
            let count = match connection.stream.read(&mut self.response[connection.read..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Waiting),
                result => result?,
            };
            match connection.stage {
                Stage::End => return Ok(if count == 0 { Step::Complete } else { Step::NotAnEcho }),
                _ if count == 0 => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before it answered")),
                _ => connection.read += count,
            }
            if connection.read < self.request.len() {
                continue;
            }
            if self.response != self.request {
                return Ok(Step::NotAnEcho);
            }
            connection.stream.shutdown(Shutdown::Write)?;
            // One byte of room is left, to see whether anything comes where the end should.
            (connection.stage, connection.read) = (Stage::End, self.request.len() - 1);
            if !ready.ended() {
                return Ok(Step::Waiting);
            }
        }
    }

    /// Lets what is under way end in its own time, so that it does not disturb what comes after.
    fn drain(&mut self) {
        let give_up_ns = monotonic_ns() + DRAIN_NS;
        while self.slots.iter().any(Option::is_some) && monotonic_ns() < give_up_ns && !signals::stopping() {
            for event in 0..self.epoll.wait(1) {
                let ready = self.epoll.ready(event);
                if !matches!(self.step(ready), Ok(Step::Waiting)) {
                    self.slots[ready.token] = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_turn_from_every_address_before_one_comes_again() {
        let sources = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut ports = Ports { sources: sources.to_vec(), next: PORTS - 2, skipped: 0 };
        let first: Vec<SocketAddr> = (0..4).map(|_| ports.take()).collect();
        let expected = ["10.0.0.1:32766", "10.0.0.1:32767", "10.0.0.2:2000", "10.0.0.2:2001"];
        assert_eq!(first, expected.map(|text| text.parse().unwrap()));
        (4..ports.count()).for_each(|_| assert!(!first.contains(&ports.take())));
        assert_eq!(ports.take(), first[0]);
    }
}
