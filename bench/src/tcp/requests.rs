//! Requests and responses over connections that stay: one outstanding on each.
//!
//! In a closed loop each connection asks again as soon as it has its response. In an open loop requests are due
//! by the clock and go over whatever connection is free; those that find none wait, and their latency counts
//! from when they were due: a server that stalls delays them all, and that shows.
//!
//! The server echoes, and every byte that comes back is compared: a request ends in the number of times that
//! its connection has asked, so that an old response is not taken for a new one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use super::trial::{Outcome, Plan, Transactions, Window};
use super::{not_an_echo, open};
use crate::arrivals::Schedule;
use crate::epoll::{EDGE, Epoll, READABLE, WRITABLE};
use crate::error::{Context, Error, Result};
use crate::signals::{self, monotonic_ns};

/// After the end of an open loop, how long requests that were due are still waited for.
const DRAIN_NS: u64 = 1_000_000_000;

/// What a connection is doing.
struct Connection {
    stream: TcpStream,
    /// Requests before this one.
    asked: u64,
    /// Bytes of this request that the kernel took, and of its response that have come.
    written: usize,
    read: usize,
    /// When the request was due; in a closed loop, when it was sent.
    due_ns: u64,
    sent_ns: u64,
}

/// Connections to an echo, and the request that each of them sends.
pub(crate) struct Requests {
    epoll: Epoll,
    connections: Vec<Connection>,
    request: Box<[u8]>,
    response: Box<[u8]>,
}

impl Requests {
    /// Opens `connections` connections for requests of `size` bytes.
    ///
    /// # Errors
    /// The server does not accept them.
    pub(crate) fn open(target: SocketAddr, connections: usize, size: usize) -> Result<Self> {
        let epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
        let mut opened = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = open(target)?;
            // Both at once and edge-triggered: being writable is told only after there was no room.
            epoll
                .add(stream.as_fd(), index, READABLE | WRITABLE | EDGE)
                .context(|| "cannot watch a connection".into())?;
            opened.push(Connection { stream, asked: 0, written: 0, read: 0, due_ns: 0, sent_ns: 0 });
        }
        let request = (0..size).map(|i| (i * 7) as u8).collect();
        Ok(Self { epoll, connections: opened, request, response: vec![0; size].into() })
    }

    /// Asks for as long as the plan says.
    ///
    /// # Errors
    /// The server closes a connection, or answers with something else than it was sent.
    pub(crate) fn run(&mut self, plan: Plan) -> Result<Outcome> {
        let window = Window::open(plan);
        match plan.schedule(&window) {
            None => self.run_closed(window),
            Some(schedule) => self.run_open(window, schedule),
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
                    transactions.record(self.connections[index].due_ns, now_ns);
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
    fn run_open(&mut self, mut window: Window, mut schedule: Schedule) -> Result<Outcome> {
        let mut transactions = Transactions::of(&window);
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let mut waiting = VecDeque::new();
        let (mut due, mut last_ns) = (0, 0);
        loop {
            let count = self.epoll.wait(0);
            for event in 0..count {
                let Some(index) = self.step(event)? else { continue };
                let now_ns = monotonic_ns();
                let Connection { due_ns, sent_ns, .. } = self.connections[index];
                if window.counts(due_ns) {
                    transactions.record_due(due_ns, sent_ns, now_ns);
                    last_ns = now_ns;
                }
                free.push(index);
            }
            let now_ns = monotonic_ns();
            while let Some(due_ns) = schedule.take(now_ns) {
                schedule.turned_to(due_ns, now_ns);
                due += u64::from(window.counts(due_ns));
                waiting.push_back(due_ns);
            }
            while let (Some(index), Some(due_ns)) = (free.last().copied(), waiting.front().copied()) {
                free.pop();
                waiting.pop_front();
                self.ask(index, due_ns, monotonic_ns())?;
            }
            window.tick(now_ns, count == 0);
            transactions.course.tick(now_ns);
            let all_answered = waiting.is_empty() && free.len() == self.connections.len();
            if window.over() && (all_answered || window.since_end_ns() > DRAIN_NS || signals::stopping()) {
                break;
            }
        }
        let adherence = schedule.adherence(window.ran_ns());
        Ok(window.outcome_of_open_loop(transactions, due, last_ns, adherence))
    }

    /// Begins the next request of a connection.
    fn ask(&mut self, index: usize, due_ns: u64, now_ns: u64) -> Result<()> {
        let connection = &mut self.connections[index];
        (connection.due_ns, connection.sent_ns) = (due_ns, now_ns);
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
        let connection = &mut self.connections[index];
        if connection.written == self.request.len() {
            return Ok(());
        }
        stamp(&mut self.request, connection.asked);
        match connection.stream.write(&self.request[connection.written..]) {
            Ok(written) => connection.written += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(lost(index, connection.asked, &error)),
        }
        Ok(())
    }

    /// Reads what has come of a connection's response. Whether it is complete, so that the next request may go.
    fn read(&mut self, index: usize) -> Result<bool> {
        let connection = &mut self.connections[index];
        let awaited = &mut self.response[connection.read..];
        let count = match connection.stream.read(awaited) {
            Ok(0) => return Err(lost(index, connection.asked, &"the server closed it")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(lost(index, connection.asked, &error)),
        };
        stamp(&mut self.request, connection.asked);
        if awaited[..count] != self.request[connection.read..][..count] {
            return Err(not_an_echo());
        }
        connection.read += count;
        if connection.read < self.request.len() {
            return Ok(false);
        }
        (connection.asked, connection.written, connection.read) = (connection.asked + 1, 0, 0);
        Ok(true)
    }
}

/// Ends a request in the low bytes of a number.
fn stamp(request: &mut [u8], number: u64) {
    let bytes = number.to_be_bytes();
    let len = bytes.len().min(request.len());
    let at = request.len() - len;
    request[at..].copy_from_slice(&bytes[bytes.len() - len..]);
}

fn lost(index: usize, asked: u64, why: &dyn std::fmt::Display) -> Error {
    Error::run(format!("connection {index} was lost after {asked} requests: {why}"))
}

#[cfg(test)]
mod tests {
    use super::stamp;

    #[test]
    fn a_request_of_any_length_ends_in_the_low_bytes_of_its_number() {
        let mut long = [9; 10];
        stamp(&mut long, 0x0102);
        assert_eq!(long, [9, 9, 0, 0, 0, 0, 0, 0, 1, 2]);
        let mut short = [9];
        stamp(&mut short, 0x0102);
        assert_eq!(short, [2]);
    }
}
