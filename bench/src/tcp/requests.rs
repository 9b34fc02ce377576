//! Requests and responses over connections that stay: one outstanding on each.
//!
//! In a closed loop each connection asks again as soon as it has its response. In an open loop requests are due
//! by the clock and go over whatever connection is free; those that find none wait, and their latency counts
//! from when they were due: a server that stalls delays them all, and that shows.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use super::backlog::Backlog;
use super::exchange::{Exchange, Pattern};
use super::open;
use super::trial::{Outcome, Plan, Transactions, Window};
use crate::epoll::{EDGE, Epoll, READABLE, WRITABLE};
use crate::error::{Context, Result};
use crate::signals::monotonic_ns;

/// A connection, and what it is doing.
struct Connection {
    /// `None` once it is lost.
    stream: Option<TcpStream>,
    exchange: Exchange,
}

/// Connections to an echo, and what each of them asks.
pub(crate) struct Requests {
    epoll: Epoll,
    connections: Vec<Connection>,
    pattern: Pattern,
    response: Box<[u8]>,
    /// Whether a lost connection is counted, and does not end the trial.
    tolerant: bool,
    lost: Vec<usize>,
}

impl Requests {
    /// Opens `connections` connections for requests of `size` bytes.
    ///
    /// # Errors
    /// The server does not accept them.
    pub(crate) fn open(target: SocketAddr, connections: usize, size: usize) -> Result<Self> {
        Self::over((0..connections).map(|_| open(target)), size)
    }

    /// The same over connections that are `opened` one after another.
    ///
    /// # Errors
    /// One is not.
    pub(crate) fn over(opened: impl Iterator<Item = Result<TcpStream>>, size: usize) -> Result<Self> {
        let epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
        let mut connections = Vec::with_capacity(opened.size_hint().0);
        for (index, stream) in opened.enumerate() {
            let stream = stream?;
            // Both at once and edge-triggered: being writable is told only after there was no room.
            epoll
                .add(stream.as_fd(), index, READABLE | WRITABLE | EDGE)
                .context(|| "cannot watch a connection".into())?;
            connections.push(Connection { stream: Some(stream), exchange: Exchange::default() });
        }
        let (pattern, response) = (Pattern::new(size), vec![0; size].into());
        Ok(Self { epoll, connections, pattern, response, tolerant: false, lost: Vec::new() })
    }

    /// The same, and lost connections are only counted.
    pub(crate) fn tolerant(self) -> Self {
        Self { tolerant: true, ..self }
    }

    /// Asks for as long as the plan says.
    ///
    /// # Errors
    /// The server closes a connection, or answers with something else than it was sent.
    pub(crate) fn run(&mut self, plan: Plan) -> Result<Outcome> {
        let window = Window::open(plan);
        match plan.schedule(&window) {
            None => self.run_closed(window),
            Some(schedule) => self.run_open(window, Backlog::new(schedule)),
        }
    }

    /// Each connection asks again as soon as it has its response.
    fn run_closed(&mut self, mut window: Window) -> Result<Outcome> {
        let mut transactions = Transactions::of(&window);
        for index in 0..self.connections.len() {
            self.ask(index, monotonic_ns(), monotonic_ns())?;
        }
        while !window.over() {
            let count = self.epoll.wait(0);
            for event in 0..count {
                let Some(index) = self.step(event)? else { continue };
                let now_ns = monotonic_ns();
                if window.counts(now_ns) {
                    transactions.record(self.connections[index].exchange.due_ns, now_ns);
                }
                self.ask(index, now_ns, now_ns)?;
            }
            let now_ns = monotonic_ns();
            window.tick(now_ns, count == 0);
            transactions.course.tick(now_ns);
        }
        Ok(window.outcome(transactions))
    }

    /// Requests go when they are due, over whatever connection is free.
    fn run_open(&mut self, mut window: Window, mut backlog: Backlog) -> Result<Outcome> {
        let mut transactions = Transactions::of(&window);
        (0..self.connections.len()).for_each(|index| backlog.join(index));
        while !backlog.is_over(&window) {
            let count = self.epoll.wait(0);
            for event in 0..count {
                let Some(index) = self.step(event)? else { continue };
                let exchange = &self.connections[index].exchange;
                backlog.answered(index, exchange, monotonic_ns(), &window, &mut transactions);
            }
            for index in self.lost.drain(..) {
                backlog.lose(index);
                transactions.failed += 1;
            }
            let now_ns = monotonic_ns();
            backlog.take_due(now_ns, &window);
            while let Some((index, due_ns)) = backlog.next() {
                self.ask(index, due_ns, monotonic_ns())?;
            }
            window.tick(now_ns, count == 0);
            transactions.course.tick(now_ns);
        }
        Ok(backlog.outcome(&window, transactions))
    }

    /// Begins the next request of a connection.
    fn ask(&mut self, index: usize, due_ns: u64, now_ns: u64) -> Result<()> {
        self.connections[index].exchange.ask(due_ns, now_ns);
        self.write(index)
    }

    /// Does what a connection is ready for. Its index, if its response is complete.
    fn step(&mut self, event: usize) -> Result<Option<usize>> {
        let ready = self.epoll.ready(event);
        if ready.writable() {
            self.write(ready.token)?;
        }
        Ok((ready.readable() && self.read(ready.token)?).then_some(ready.token))
    }

    /// Writes what is left of a connection's request.
    fn write(&mut self, index: usize) -> Result<()> {
        let Connection { stream: Some(stream), exchange } = &mut self.connections[index] else { return Ok(()) };
        let rest = self.pattern.rest(exchange);
        if rest.is_empty() {
            return Ok(());
        }
        match stream.write(rest) {
            Ok(written) => exchange.written += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.lose(index, &error)?,
        }
        Ok(())
    }

    /// Reads what has come of a connection's response. Whether it is complete, so that the next request may go.
    fn read(&mut self, index: usize) -> Result<bool> {
        let Connection { stream: Some(stream), exchange } = &mut self.connections[index] else { return Ok(false) };
        let awaited = &mut self.response[exchange.read..];
        match stream.read(awaited) {
            Ok(0) => self.lose(index, &"the server closed it").map(|()| false),
            Ok(count) => self.pattern.answered(exchange, &awaited[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => self.lose(index, &error).map(|()| false),
        }
    }

    /// A connection is lost.
    ///
    /// # Errors
    /// That ends the trial.
    fn lose(&mut self, index: usize, why: &dyn std::fmt::Display) -> Result<()> {
        if !self.tolerant {
            return Err(self.connections[index].exchange.lost(index, why));
        }
        self.connections[index].stream = None;
        self.lost.push(index);
        Ok(())
    }
}
