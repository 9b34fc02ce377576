//! Requests and responses over connections that stay: one outstanding on each.
//!
//! In a closed loop the next goes as soon as the last is answered; in an open loop when it is due, over the
//! connection that has been free for longest.

use barewire::app::{Connection, Outbox};

use super::work::{Seat, Trial, Work};
use crate::error::{Error, Result};
use crate::tcp::backlog::Backlog;
use crate::tcp::exchange::{Exchange, Pattern};
use crate::tcp::not_an_echo;
use crate::tcp::trial::{Outcome, Plan, Window};

/// What is asked.
pub(super) struct Requests {
    pattern: Pattern,
    /// Of an open loop.
    backlog: Option<Backlog>,
    /// Whether a lost connection is counted, and does not end the trial.
    tolerant: bool,
}

impl Requests {
    /// Requests of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self { pattern: Pattern::new(size), backlog: None, tolerant: false }
    }

    /// The same, and lost connections are only counted.
    pub(super) fn tolerant(self) -> Self {
        Self { tolerant: true, ..self }
    }

    /// Sends as much of a request as there is room for.
    fn send(pattern: &mut Pattern, exchange: &mut Exchange, connection: &mut impl Connection) {
        let rest = pattern.rest(exchange);
        if !rest.is_empty() {
            exchange.written += connection.send(rest);
        }
    }

    fn ask(&mut self, due_ns: u64, now_ns: u64, exchange: &mut Exchange, connection: &mut impl Connection) {
        exchange.ask(due_ns, now_ns);
        Self::send(&mut self.pattern, exchange, connection);
    }

    /// A response is complete: it is counted, and in a closed loop the next request goes.
    fn answered(&mut self, trial: &mut Trial, index: usize, exchange: &mut Exchange, connection: &mut impl Connection) {
        let Trial { window, transactions, now_ns } = trial;
        let now_ns = *now_ns;
        if let Some(backlog) = &mut self.backlog {
            return backlog.answered(index, exchange, now_ns, window, transactions);
        }
        if window.counts(now_ns) {
            transactions.record(exchange.due_ns, now_ns);
        }
        self.ask(now_ns, now_ns, exchange, connection);
    }
}

impl Work for Requests {
    type State = Exchange;

    fn start(&mut self, plan: &Plan, window: &Window) {
        self.backlog = plan.schedule(window).map(Backlog::new);
    }

    fn begin(&mut self, trial: &mut Trial, index: usize, exchange: &mut Exchange, connection: &mut impl Connection) {
        match &mut self.backlog {
            Some(backlog) => backlog.join(index),
            None => self.ask(trial.now_ns, trial.now_ns, exchange, connection),
        }
    }

    fn data(
        &mut self,
        mut trial: Option<&mut Trial>,
        index: usize,
        exchange: &mut Exchange,
        connection: &mut impl Connection,
    ) -> Result<()> {
        loop {
            let bytes = connection.received();
            let len = bytes.len();
            if len == 0 {
                return Ok(());
            }
            let Some(trial) = &mut trial else { return Err(not_an_echo()) };
            let complete = self.pattern.answered(exchange, bytes)?;
            connection.consume(len);
            if complete {
                self.answered(trial, index, exchange, connection);
            }
        }
    }

    fn writable(&mut self, exchange: &mut Exchange, connection: &mut impl Connection) {
        Self::send(&mut self.pattern, exchange, connection);
    }

    fn poll(&mut self, trial: &mut Trial, seats: &mut [Seat<Exchange>], outbox: &mut impl Outbox) {
        let Some(backlog) = &mut self.backlog else { return };
        backlog.take_due(trial.now_ns, &trial.window);
        while let Some((index, due_ns)) = backlog.next() {
            let Seat { id, state: exchange, .. } = &mut seats[index];
            let Some(mut connection) = outbox.connection(*id) else { continue };
            exchange.ask(due_ns, trial.now_ns);
            Self::send(&mut self.pattern, exchange, &mut connection);
        }
    }

    fn over(&self, trial: &Trial) -> bool {
        self.backlog.as_ref().map_or(trial.window.over(), |backlog| backlog.is_over(&trial.window))
    }

    fn outcome(&mut self, trial: Trial) -> Outcome {
        match self.backlog.take() {
            Some(backlog) => backlog.outcome(&trial.window, trial.transactions),
            None => trial.window.outcome(trial.transactions),
        }
    }

    fn lost(&mut self, trial: Option<&mut Trial>, index: usize, exchange: &Exchange, why: &str) -> Option<Error> {
        let Some(trial) = trial.filter(|_| self.tolerant) else { return Some(exchange.lost(index, &why)) };
        trial.transactions.failed += 1;
        if let Some(backlog) = &mut self.backlog {
            backlog.lose(index);
        }
        None
    }
}
