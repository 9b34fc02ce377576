//! Connections that live for one request: connect, ask, get the answer, close; each is followed by the next.
//!
//! We close first, by a half-close, and wait for the server to close too, as the kernel back end does.
//! TIME-WAIT is then ours: the stack remembers the last connections, fewer than there are ports, and lets the
//! oldest go when there are more.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use barewire::app::{Answer, App, Closed, ConnectError, Connection, ConnectionId, Datagram, Outbox};
use barewire::base::Instant;
use tokio::sync::oneshot;

use super::pulse::Pulse;
use super::work::Trial;
use super::{LINGER_NS, why};
use crate::error::{Error, Result};
use crate::signals::{self, monotonic_ns};
use crate::tcp::connections::{DRAIN_NS, HOPELESS};
use crate::tcp::exchange::{Exchange, Pattern};
use crate::tcp::trial::{Outcome, Plan, Transactions, Window};

/// Connections that are begun in a turn: as many frames as a burst has.
const A_TURN: usize = 64;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new ones.
    Draining,
    /// None is left.
    Lingering,
    Over,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The answer.
    #[default]
    Answer,
    /// The server's FIN.
    End,
    /// Nothing: it was counted.
    Done,
}

/// What is kept beside a connection.
#[derive(Debug, Default)]
pub(super) struct Visit {
    stage: Stage,
    exchange: Exchange,
}

/// The client: an application of the stack.
pub(super) struct Visits {
    target: SocketAddr,
    /// Addresses that connections come from, in turn.
    sources: Vec<IpAddr>,
    at_a_time: usize,
    pattern: Pattern,
    plan: Plan,
    tell: Option<oneshot::Sender<Result<Outcome>>>,
    /// Begins with the first connection.
    trial: Option<Trial>,
    result: Option<Result<Outcome>>,
    phase: Phase,
    /// When the phase began.
    since_ns: u64,
    /// Connections, and when each was begun: nothing is kept beside them before they are established.
    live: HashMap<ConnectionId, u64>,
    /// How many were ever begun.
    dialled: usize,
    /// Connections that were complete, warm-up included.
    complete: u64,
    pulse: Pulse,
}

impl Visits {
    /// A client that tells by `tell` what came of its trial: `at_a_time` connections, each for a request of `size`
    /// bytes.
    pub(super) fn new(
        target: SocketAddr,
        sources: Vec<IpAddr>,
        (at_a_time, size): (usize, usize),
        plan: Plan,
        tell: oneshot::Sender<Result<Outcome>>,
    ) -> Self {
        Self {
            target,
            sources,
            at_a_time,
            pattern: Pattern::new(size),
            plan,
            tell: Some(tell),
            trial: None,
            result: None,
            phase: Phase::Running,
            since_ns: 0,
            live: HashMap::with_capacity(at_a_time),
            dialled: 0,
            complete: 0,
            pulse: Pulse::default(),
        }
    }

    fn end(&mut self, result: Result<Outcome>) {
        self.result.get_or_insert(result);
        if self.phase == Phase::Running {
            self.enter(Phase::Draining);
        }
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since_ns) = (phase, monotonic_ns());
    }

    /// Lets what is under way end in its own time, and resets what does not.
    fn drain(&mut self, now_ns: u64, outbox: &mut impl Outbox) {
        let waited_ns = now_ns.saturating_sub(self.since_ns);
        if self.live.is_empty() || waited_ns > DRAIN_NS {
            for &id in self.live.keys() {
                if let Some(mut connection) = outbox.connection(id) {
                    connection.abort();
                }
            }
            self.enter(Phase::Lingering);
        }
    }

    fn tell(&mut self) {
        if let (Some(result), Some(tell)) = (self.result.take(), self.tell.take()) {
            // Who was to hear it may have given up.
            let _ = tell.send(result);
        }
        self.phase = Phase::Over;
    }

    /// Begins connections, as many as there should be.
    fn dial(&mut self, now_ns: u64, outbox: &mut impl Outbox) {
        for _ in 0..A_TURN.min(self.at_a_time - self.live.len()) {
            let source = self.sources[self.dialled % self.sources.len()];
            match outbox.connect_from(source, self.target) {
                Ok(id) => {
                    self.live.insert(id, now_ns);
                    self.dialled += 1;
                }
                Err(ConnectError::Later) => return,
                Err(error) => {
                    return self.end(Err(Error::run(format!("cannot connect to {}: {error}", self.target))));
                }
            }
        }
    }

    /// A connection ended otherwise than it should.
    fn fail(&mut self, why: &str) {
        let Some(trial) = &mut self.trial else { return };
        trial.transactions.failed += 1;
        if self.complete == 0 && trial.transactions.failed == HOPELESS {
            self.end(Err(Error::run(format!("no connection to {} succeeds: {why}", self.target))));
        }
    }

    fn complete(&mut self, begun_ns: u64) {
        self.complete += 1;
        if let Some(trial) = &mut self.trial
            && trial.window.counts(trial.now_ns)
        {
            trial.transactions.record(begun_ns, trial.now_ns);
        }
    }

    fn go_on(&mut self, turn: Instant, idle: bool, outbox: &mut impl Outbox) {
        if let Some(trial) = &mut self.trial {
            trial.window.tick(turn.as_ns(), idle);
            trial.transactions.course.tick(turn.as_ns());
            if trial.window.over() {
                let Some(trial) = self.trial.take() else { return };
                return self.end(Ok(trial.window.outcome(trial.transactions)));
            }
        }
        if signals::stopping() {
            return self.end(Err(Error::Interrupted));
        }
        self.dial(turn.as_ns(), outbox);
        if self.trial.is_none() && self.dialled > 0 {
            let window = Window::open(self.plan);
            self.trial = Some(Trial { transactions: Transactions::of(&window), window, now_ns: turn.as_ns() });
        }
    }
}

impl App for Visits {
    type Session = Visit;

    fn datagram(&mut self, _turn: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _turn: Instant, visit: &mut Visit, connection: &mut impl Connection) {
        connection.set_nagle(false);
        let begun_ns = self.live.get(&connection.id()).copied().unwrap_or_default();
        visit.exchange.ask(begun_ns, begun_ns);
        // A fresh connection has room for far more than the longest request.
        connection.send(self.pattern.rest(&visit.exchange));
    }

    fn data(&mut self, turn: Instant, visit: &mut Visit, connection: &mut impl Connection) {
        if let Some(trial) = &mut self.trial {
            trial.now_ns = self.pulse.now_ns(turn);
        }
        loop {
            let bytes = connection.received();
            let len = bytes.len();
            if len == 0 {
                return;
            }
            match self.pattern.answered(&mut visit.exchange, bytes) {
                Ok(true) => {
                    visit.stage = Stage::End;
                    connection.finish();
                }
                Ok(false) => {}
                Err(error) => return self.end(Err(error)),
            }
            connection.consume(len);
        }
    }

    fn finished(&mut self, turn: Instant, visit: &mut Visit, connection: &mut impl Connection) {
        if let Some(trial) = &mut self.trial {
            trial.now_ns = self.pulse.now_ns(turn);
        }
        match std::mem::replace(&mut visit.stage, Stage::Done) {
            Stage::Answer => self.fail("closed before it answered"),
            Stage::End => self.complete(visit.exchange.due_ns),
            Stage::Done => {}
        }
        connection.finish();
    }

    fn closed(&mut self, _turn: Instant, visit: &mut Visit, id: ConnectionId, reason: Closed) {
        self.live.remove(&id);
        if visit.stage != Stage::Done {
            self.fail(why(reason));
        }
    }

    fn poll(&mut self, turn: Instant, outbox: &mut impl Outbox) {
        let idle = self.pulse.was_idle(outbox.traffic());
        match self.phase {
            Phase::Running => self.go_on(turn, idle, outbox),
            Phase::Draining => self.drain(turn.as_ns(), outbox),
            Phase::Lingering if turn.as_ns() < self.since_ns + LINGER_NS => {}
            Phase::Lingering => self.tell(),
            Phase::Over => {}
        }
    }
}
