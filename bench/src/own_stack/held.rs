//! Connections that stay: opened first, then worked over for as long as the plan says, closed at last.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use barewire::app::{Answer, App, Closed, ConnectError, Connection, ConnectionId, Datagram, Outbox};
use barewire::base::Instant;
use tokio::sync::oneshot;

use super::pulse::Pulse;
use super::work::{Seat, Trial, Work};
use super::{LINGER_NS, why};
use crate::error::{Error, Result};
use crate::signals::{self, monotonic_ns};
use crate::tcp::trial::{Outcome, Plan, Transactions, Window};

/// Connections that are being opened, or closed, at most: far fewer than a server's backlog and rings hold, and enough
/// to be busy over a fast link.
const HANDSHAKES: usize = 512;
/// Longest time in which no handshake succeeds.
const PATIENCE_NS: u64 = 3_000_000_000;
/// What is begun or ended in a turn: as many frames as a burst has.
const A_TURN: usize = 64;
/// Longest time in which no connection closes in order, and how long all of them may take when somebody waits for an
/// end; then they are reset.
const CLOSING_NS: u64 = 1_000_000_000;

/// What came of the trial, and how long it took to open the connections.
type Told = Result<(Outcome, Duration)>;

/// What is going on with the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Running,
    /// So many were told to finish.
    Finishing(usize),
    /// So many were told to go.
    Resetting(usize),
    /// None is left.
    Lingering,
    Over,
}

/// The client: an application of the stack.
pub(super) struct Held<W: Work> {
    target: SocketAddr,
    /// Addresses that connections come from, in turn.
    sources: Vec<IpAddr>,
    wanted: usize,
    plan: Plan,
    work: W,
    tell: Option<oneshot::Sender<Told>>,
    result: Option<Told>,
    phase: Phase,
    /// When the phase began, or a connection was last opened or closed in it.
    since_ns: u64,
    /// When the trial was over.
    over_ns: u64,
    /// Connections that were ever begun to be opened, were established, and ended.
    dialled: usize,
    seats: Vec<Seat<W::State>>,
    ended: usize,
    /// Connections on which the trial has begun.
    begun: usize,
    dialling_since_ns: Option<u64>,
    opening: Duration,
    trial: Option<Trial>,
    moved_before: Option<u64>,
    pulse: Pulse,
}

/// Number of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index(usize);

impl Default for Index {
    /// That of one which is not established.
    fn default() -> Self {
        Self(usize::MAX)
    }
}

impl<W: Work> Held<W> {
    /// A client that tells by `tell` what came of its trial.
    pub(super) fn new(
        target: SocketAddr,
        sources: Vec<IpAddr>,
        wanted: usize,
        plan: Plan,
        work: W,
        tell: oneshot::Sender<Told>,
    ) -> Self {
        Self {
            target,
            sources,
            wanted,
            plan,
            work,
            tell: Some(tell),
            result: None,
            phase: Phase::Opening,
            since_ns: 0,
            over_ns: 0,
            dialled: 0,
            seats: Vec::with_capacity(wanted),
            ended: 0,
            begun: 0,
            dialling_since_ns: None,
            opening: Duration::ZERO,
            trial: None,
            moved_before: None,
            pulse: Pulse::default(),
        }
    }

    /// Ends the trial. What comes after the first word is a consequence of it.
    fn end(&mut self, result: Told) {
        self.result.get_or_insert(result);
        if matches!(self.phase, Phase::Opening | Phase::Running) {
            self.over_ns = monotonic_ns();
            self.enter(if self.work.is_endless() { Phase::Resetting(0) } else { Phase::Finishing(0) });
        }
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since_ns) = (phase, monotonic_ns());
    }

    /// Begins to open connections, as many as may be under way. The first is alone: it finds the neighbor.
    fn dial(&mut self, now_ns: u64, outbox: &mut impl Outbox) {
        if signals::stopping() {
            return self.end(Err(Error::Interrupted));
        }
        let most = if self.seats.is_empty() { 1 } else { HANDSHAKES };
        for _ in 0..A_TURN {
            if self.dialled == self.wanted || self.dialled - self.seats.len() >= most {
                break;
            }
            let source = self.sources[self.dialled % self.sources.len()];
            match outbox.connect_from(source, self.target) {
                Ok(_) => self.dialled += 1,
                Err(ConnectError::Later) => return,
                Err(error) => return self.end(Err(self.unreachable(&error.to_string()))),
            }
            if self.dialling_since_ns.is_none() {
                (self.dialling_since_ns, self.since_ns) = (Some(now_ns), now_ns);
            }
        }
        if self.dialling_since_ns.is_some() && now_ns > self.since_ns + PATIENCE_NS {
            self.end(Err(self.unreachable("no answer")));
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        let before = if self.seats.is_empty() { String::new() } else { format!(" after {}", self.seats.len()) };
        Error::run(format!(
            "cannot connect to {}{before}: {why}; does the server run, and is there a route to it?",
            self.target
        ))
    }

    /// All are open: the trial begins.
    fn start(&mut self, now_ns: u64) {
        self.opening = Duration::from_nanos(now_ns - self.dialling_since_ns.unwrap_or(now_ns));
        let window = Window::open(self.plan);
        self.work.start(&self.plan, &window);
        self.trial = Some(Trial { transactions: Transactions::of(&window), window, now_ns });
        self.enter(Phase::Running);
    }

    fn go_on(&mut self, turn: Instant, idle: bool, outbox: &mut impl Outbox) {
        let Some(trial) = &mut self.trial else { return };
        trial.window.tick(turn.as_ns(), idle);
        trial.transactions.course.tick(turn.as_ns());
        trial.now_ns = self.pulse.now_ns(turn);
        if self.moved_before.is_none() && trial.window.begun() {
            self.moved_before = Some(self.work.moved(&self.seats, outbox));
        }
        if self.work.over(trial) {
            return self.finish_trial(outbox);
        }
        for index in self.begun..self.seats.len().min(self.begun + A_TURN) {
            self.begun += 1;
            let seat = &mut self.seats[index];
            if let Some(mut connection) = outbox.connection(seat.id) {
                self.work.begin(trial, index, &mut seat.state, &mut connection);
            }
        }
        self.work.poll(trial, &mut self.seats, outbox);
    }

    fn finish_trial(&mut self, outbox: &mut impl Outbox) {
        let Some(mut trial) = self.trial.take() else { return };
        let moved = self.work.moved(&self.seats, outbox);
        trial.transactions.bytes = moved.saturating_sub(self.moved_before.unwrap_or(moved));
        let outcome = self.work.outcome(trial);
        self.end(Ok((outcome, self.opening)));
    }

    /// Has connections end, some each turn; by force where that takes too long.
    fn close(&mut self, now_ns: u64, outbox: &mut impl Outbox) {
        let waits = now_ns.saturating_sub(self.since_ns) > CLOSING_NS;
        let hurries = signals::stopping() && now_ns.saturating_sub(self.over_ns) > CLOSING_NS;
        match self.phase {
            _ if self.ended == self.seats.len() => self.enter(Phase::Lingering),
            Phase::Finishing(_) if waits || hurries => self.enter(Phase::Resetting(0)),
            Phase::Finishing(told) if told < self.seats.len() && told < self.ended + HANDSHAKES => {
                self.tell_some(told, outbox, false);
                self.phase = Phase::Finishing(told + A_TURN);
            }
            Phase::Resetting(told) if told < self.seats.len() => {
                self.tell_some(told, outbox, true);
                self.enter(Phase::Resetting(told + A_TURN));
            }
            Phase::Resetting(_) if waits => self.enter(Phase::Lingering),
            _ => {}
        }
    }

    /// Tells connections from number `from` on to end, in order or at once.
    fn tell_some(&self, from: usize, outbox: &mut impl Outbox, at_once: bool) {
        for seat in self.seats.iter().skip(from).take(A_TURN) {
            match outbox.connection(seat.id) {
                Some(mut connection) if at_once => connection.abort(),
                Some(mut connection) => connection.finish(),
                None => {}
            }
        }
    }

    /// An established connection is over, or its peer wants it to be.
    fn lose(&mut self, index: usize, why: &str) {
        if let (Some(seat), Phase::Opening | Phase::Running) = (self.seats.get_mut(index), self.phase)
            && !std::mem::replace(&mut seat.lost, true)
            && let Some(error) = self.work.lost(self.trial.as_mut(), index, &seat.state, why)
        {
            self.end(Err(error));
        }
    }
}

impl<W: Work> App for Held<W> {
    type Session = Index;

    fn datagram(&mut self, _turn: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, turn: Instant, session: &mut Index, connection: &mut impl Connection) {
        if self.phase != Phase::Opening {
            return connection.abort();
        }
        connection.set_nagle(false);
        *session = Index(self.seats.len());
        self.seats.push(Seat { id: connection.id(), lost: false, state: W::State::default() });
        self.since_ns = self.pulse.now_ns(turn);
        if self.seats.len() == self.wanted {
            self.start(self.since_ns);
        }
    }

    fn data(&mut self, turn: Instant, session: &mut Index, connection: &mut impl Connection) {
        let Some(seat) = self.seats.get_mut(session.0).filter(|_| self.result.is_none()) else {
            connection.consume(usize::MAX);
            return;
        };
        if let Some(trial) = &mut self.trial {
            trial.now_ns = self.pulse.now_ns(turn);
        }
        if let Err(error) = self.work.data(self.trial.as_mut(), session.0, &mut seat.state, connection) {
            self.end(Err(error));
        }
    }

    fn writable(&mut self, _turn: Instant, session: &mut Index, connection: &mut impl Connection) {
        if let Some(seat) = self.seats.get_mut(session.0).filter(|_| self.result.is_none()) {
            self.work.writable(&mut seat.state, connection);
        }
    }

    fn finished(&mut self, _turn: Instant, session: &mut Index, connection: &mut impl Connection) {
        self.lose(session.0, "the server closed it");
        connection.finish();
    }

    fn closed(&mut self, turn: Instant, session: &mut Index, _id: ConnectionId, reason: Closed) {
        if session.0 < self.seats.len() {
            self.ended += 1;
            if matches!(self.phase, Phase::Finishing(_)) {
                self.since_ns = self.pulse.now_ns(turn);
            }
            self.lose(session.0, why(reason));
        } else if self.phase == Phase::Opening {
            let error = self.unreachable(why(reason));
            self.end(Err(error));
        }
    }

    fn poll(&mut self, turn: Instant, outbox: &mut impl Outbox) {
        let idle = self.pulse.was_idle(outbox.traffic());
        match self.phase {
            Phase::Opening => self.dial(turn.as_ns(), outbox),
            Phase::Running => self.go_on(turn, idle, outbox),
            Phase::Finishing(_) | Phase::Resetting(_) => self.close(turn.as_ns(), outbox),
            Phase::Lingering if turn.as_ns() < self.since_ns + LINGER_NS => {}
            Phase::Lingering => {
                self.phase = Phase::Over;
                if let (Some(tell), Some(result)) = (self.tell.take(), self.result.take()) {
                    // Who was to hear it may have given up.
                    let _ = tell.send(result);
                }
            }
            Phase::Over => {}
        }
    }
}
