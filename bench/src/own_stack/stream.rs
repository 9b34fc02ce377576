//! A stream of bytes on each connection, one way, as fast as it goes.

use barewire::app::{Connection, Outbox};

use super::work::{Seat, Trial, Work};
use crate::error::{Error, Result};
use crate::tcp::stream::Direction;

/// What goes which way.
pub(super) struct Streams {
    direction: Direction,
    /// What is sent again and again.
    buffer: Box<[u8]>,
    /// Bytes that were received, or queued to be sent, all told.
    moved: u64,
    /// Of them, how many the course of the trial knows of.
    told: u64,
}

impl Streams {
    /// Writes are of up to `size` bytes.
    pub(super) fn new(direction: Direction, size: usize) -> Self {
        Self { direction, buffer: (0..size).map(|i| (i * 7) as u8).collect(), moved: 0, told: 0 }
    }

    /// Sends until there is no room, of which [`Work::writable`] tells.
    fn fill(&mut self, connection: &mut impl Connection) {
        while self.direction == Direction::Send {
            let taken = connection.send(&self.buffer);
            self.moved += taken as u64;
            if taken < self.buffer.len() {
                return;
            }
        }
    }
}

impl Work for Streams {
    type State = ();

    fn begin(&mut self, _trial: &mut Trial, _index: usize, (): &mut (), connection: &mut impl Connection) {
        self.fill(connection);
    }

    fn data(
        &mut self,
        _trial: Option<&mut Trial>,
        _index: usize,
        (): &mut (),
        connection: &mut impl Connection,
    ) -> Result<()> {
        let taken = connection.consume(usize::MAX) as u64;
        self.moved += if self.direction == Direction::Receive { taken } else { 0 };
        Ok(())
    }

    fn writable(&mut self, (): &mut (), connection: &mut impl Connection) {
        self.fill(connection);
    }

    fn poll(&mut self, trial: &mut Trial, _seats: &mut [Seat<()>], _outbox: &mut impl Outbox) {
        let news = self.moved - std::mem::replace(&mut self.told, self.moved);
        if trial.window.begun() {
            trial.transactions.course.moved(news);
        }
    }

    fn moved(&self, seats: &[Seat<()>], outbox: &mut impl Outbox) -> u64 {
        let mut under_way = 0;
        if self.direction == Direction::Send {
            for seat in seats {
                under_way += outbox.connection(seat.id).map_or(0, |connection| connection.unacknowledged() as u64);
            }
        }
        self.moved.saturating_sub(under_way)
    }

    /// A chargen server never closes of its own accord.
    fn is_endless(&self) -> bool {
        self.direction == Direction::Receive
    }

    fn lost(&mut self, _trial: Option<&mut Trial>, index: usize, (): &(), why: &str) -> Option<Error> {
        Some(Error::run(format!("connection {index} was lost: {why}")))
    }
}
