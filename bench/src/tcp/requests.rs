//! Requests and responses over connections that stay: one outstanding on each.
//!
//! The server echoes, and every byte that comes back is compared: a request ends in the number of times that
//! its connection has asked, so that an old response is not taken for a new one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use super::trial::{Outcome, Plan, Transactions, Window};
use super::{not_an_echo, open};
use crate::epoll::{EDGE, Epoll, READABLE, WRITABLE};
use crate::error::{Context, Error, Result};
use crate::signals::monotonic_ns;

/// What a connection is doing.
struct Connection {
    stream: TcpStream,
    /// Requests before this one.
    asked: u64,
    /// Bytes of this request that the kernel took, and of its response that have come.
    written: usize,
    read: usize,
    begun_ns: u64,
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
            opened.push(Connection { stream, asked: 0, written: 0, read: 0, begun_ns: 0 });
        }
        let request = (0..size).map(|i| (i * 7) as u8).collect();
        Ok(Self { epoll, connections: opened, request, response: vec![0; size].into() })
    }

    /// Asks on all connections for as long as the plan says, each again as soon as it has its response.
    ///
    /// # Errors
    /// The server closes a connection, or answers with something else than it was sent.
    pub(crate) fn run(&mut self, plan: Plan) -> Result<Outcome> {
        let mut window = Window::open(plan);
        let mut transactions = Transactions::new();
        for index in 0..self.connections.len() {
            self.connections[index].begun_ns = monotonic_ns();
            self.write(index)?;
        }
        while !window.over() {
            let count = self.epoll.wait(0);
            for event in 0..count {
                let ready = self.epoll.ready(event);
                if ready.writable() {
                    self.write(ready.token)?;
                }
                if ready.readable() && self.read(ready.token)? {
                    let now_ns = monotonic_ns();
                    let connection = &mut self.connections[ready.token];
                    if window.counts(now_ns) {
                        transactions.record(connection.begun_ns, now_ns);
                    }
                    connection.begun_ns = now_ns;
                    self.write(ready.token)?;
                }
            }
            window.tick(monotonic_ns(), count == 0);
        }
        Ok(window.outcome(transactions))
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
