//! A stream of bytes one way, as fast as it goes: into a discard server, or out of a chargen server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use clap::ValueEnum;
use serde::Serialize;

use super::trial::{Outcome, Plan, Transactions, Window};
use super::{open, socket};
use crate::epoll::{Epoll, READABLE, WRITABLE};
use crate::error::{Context, Error, Result};
use crate::signals::monotonic_ns;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    /// From the client into a server that discards them
    Send,
    /// From a server that never stops (chargen) to the client
    Receive,
}

/// Connections that carry a stream each.
pub(crate) struct Streams {
    epoll: Epoll,
    streams: Vec<TcpStream>,
    direction: Direction,
    buffer: Box<[u8]>,
    /// Bytes that were read, all told.
    received: u64,
    /// How long is waited where nothing is ready, in milliseconds; 0 is to ask again and again.
    patience_ms: i32,
}

impl Streams {
    /// Opens `connections` connections; each read or write is of up to `size` bytes.
    ///
    /// # Errors
    /// The server does not accept them.
    pub(crate) fn open(target: SocketAddr, direction: Direction, connections: usize, size: usize) -> Result<Self> {
        let epoll = Epoll::new().context(|| "cannot make an epoll".into())?;
        let interest = match direction {
            Direction::Send => WRITABLE,
            Direction::Receive => READABLE,
        };
        let mut streams = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = open(target)?;
            epoll.add(stream.as_fd(), index, interest).context(|| "cannot watch a connection".into())?;
            streams.push(stream);
        }
        let buffer = (0..size).map(|i| (i * 7) as u8).collect();
        Ok(Self { epoll, streams, direction, buffer, received: 0, patience_ms: 0 })
    }

    /// The same, but the core is left to others while nothing is ready.
    pub(crate) fn patient(self) -> Self {
        Self { patience_ms: 1, ..self }
    }

    /// The same, but all together send at most so many bytes a second.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub(crate) fn paced(self, bytes_per_s: f64) -> Result<Self> {
        let each = bytes_per_s / self.streams.len() as f64;
        let pace = |stream| socket::pace(stream, each as u64).context(|| "cannot pace a connection".into());
        self.streams.iter().try_for_each(pace)?;
        Ok(self)
    }

    /// Moves bytes for as long as the plan says. Counted are, between the end of the warm-up and the end: of
    /// what is sent, the bytes that the server's end has acknowledged; of what is received, those that were read.
    ///
    /// # Errors
    /// A connection ends.
    pub(crate) fn run(&mut self, plan: Plan) -> Result<Outcome> {
        let mut window = Window::open(plan);
        let mut transactions = Transactions::of(&window);
        let mut before = None;
        while !window.over() {
            let count = self.epoll.wait(self.patience_ms);
            for event in 0..count {
                let token = self.epoll.ready(event).token;
                let moved =
                    self.step(token).map_err(|error| Error::run(format!("connection {token} was lost: {error}")))?;
                if window.begun() {
                    transactions.course.moved(moved);
                }
            }
            let now_ns = monotonic_ns();
            window.tick(now_ns, count == 0);
            transactions.course.tick(now_ns);
            if before.is_none() && window.begun() {
                before = Some(self.moved()?);
            }
        }
        transactions.bytes = self.moved()? - before.unwrap_or(0);
        Ok(window.outcome(transactions))
    }

    /// One read or write, so that all connections get their turn. The bytes that it moved.
    fn step(&mut self, index: usize) -> io::Result<u64> {
        let moved = match self.direction {
            Direction::Send => self.streams[index].write(&self.buffer),
            Direction::Receive => self.streams[index].read(&mut self.buffer),
        };
        match moved {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed it")),
            Ok(count) => {
                self.received += if self.direction == Direction::Receive { count as u64 } else { 0 };
                Ok(count as u64)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Bytes that have arrived at their end so far.
    fn moved(&self) -> Result<u64> {
        match self.direction {
            Direction::Receive => Ok(self.received),
            Direction::Send => {
                let acked = self.streams.iter().map(socket::bytes_acked);
                acked.sum::<io::Result<u64>>().context(|| "cannot read the connection's counters (TCP_INFO)".into())
            }
        }
    }
}
