//! What is done over connections that stay.

use std::fmt::Debug;

use barewire::app::{Connection, ConnectionId, Outbox};

use crate::error::{Error, Result};
use crate::tcp::trial::{Outcome, Plan, Transactions, Window};

/// A trial while it goes on, as the callbacks of one turn see it.
#[derive(Debug)]
pub(super) struct Trial {
    pub window: Window,
    pub transactions: Transactions,
    /// When this turn's burst had come in.
    pub now_ns: u64,
}

/// A connection, by its number, and what is kept of it.
#[derive(Debug)]
pub(super) struct Seat<S> {
    pub id: ConnectionId,
    pub lost: bool,
    pub state: S,
}

/// What workloads differ in. All calls are from the worker's turns.
pub(super) trait Work: Send {
    /// What is kept of a connection.
    type State: Default + Send + Debug;

    /// The trial has begun, and it is the turn of connection `index` to begin.
    fn begin(&mut self, trial: &mut Trial, index: usize, state: &mut Self::State, connection: &mut impl Connection);

    /// Bytes came; `trial` is `None` before it has begun.
    ///
    /// # Errors
    /// They are not what was expected.
    fn data(
        &mut self,
        trial: Option<&mut Trial>,
        index: usize,
        state: &mut Self::State,
        connection: &mut impl Connection,
    ) -> Result<()>;

    /// There is room to send again.
    fn writable(&mut self, state: &mut Self::State, connection: &mut impl Connection);

    /// The trial is about to begin.
    fn start(&mut self, _plan: &Plan, _window: &Window) {}

    /// Does what is due by the clock.
    fn poll(&mut self, _trial: &mut Trial, _seats: &mut [Seat<Self::State>], _outbox: &mut impl Outbox) {}

    /// Bytes of a stream that have arrived at their end so far.
    fn moved(&self, _seats: &[Seat<Self::State>], _outbox: &mut impl Outbox) -> u64 {
        0
    }

    /// Whether the trial is over.
    fn over(&self, trial: &Trial) -> bool {
        trial.window.over()
    }

    /// What came of it.
    fn outcome(&mut self, trial: Trial) -> Outcome {
        trial.window.outcome(trial.transactions)
    }

    /// Whether connections cannot be closed in order.
    fn is_endless(&self) -> bool {
        false
    }

    /// Connection `index` ended, `why`. An error, if that ends the trial.
    fn lost(&mut self, trial: Option<&mut Trial>, index: usize, state: &Self::State, why: &str) -> Option<Error>;
}
