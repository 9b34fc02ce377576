//! A client: opens one connection and joins it with two queues, whose other ends are elsewhere (`barewire connect`:
//! standard input and output).
//!
//! ```text
//!   Ends::input  -> [queue] -> Pipe -> connection        the end of input finishes our side, the other goes on
//!   Ends::output <- [queue] <- Pipe <- connection
//! ```
//!
//! Both queues are bounded, and nobody here waits for them. When the connection has no room, input stays in its queue,
//! and whoever fills that has to wait; when the output queue is full, what was received stays on the connection and
//! closes the peer's window.
//!
//! An application that starts something of its own accord does so in [`poll`](App::poll), and says with
//! [`next_deadline`](App::next_deadline) when it wants to be called next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::{Answer, App, Closed, ConnectError, Connection, ConnectionId, Datagram, Outbox};
use crate::base::Instant;

/// Pieces of input that wait at most. Of the 64 KiB that fit a pipe, they are the megabyte of a send buffer.
const INPUT: usize = 16;
/// Pieces of output that wait at most: of a segment each, they are a megabyte and a half.
const OUTPUT: usize = 1024;
/// Looking into the queues again costs a wake-up, some microseconds; every 100 us is 5 % of a core, for as long as
/// something comes in between.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
/// What a person at a terminal does not notice. At 100 wake-ups a second, silence costs next to nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Why a connection did not come about, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be opened.
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    /// Nobody answered in time.
    #[error("no answer: is the address right, and the host up? Off the link it is reached through --gateway only")]
    NoAnswer,
    /// The peer refused it.
    #[error("the connection is refused: does anybody listen there?")]
    Refused,
    /// The network said that the peer cannot be reached.
    #[error("the network says that this cannot be reached")]
    Unreachable,
    /// The peer reset it.
    #[error("the connection was reset by the peer")]
    Reset,
    /// The peer stopped to acknowledge.
    #[error("the peer no longer answers")]
    TimedOut,
    /// [`Ends::stop`] was set.
    #[error("stopped before the end")]
    Stopped,
    /// The input could not be read.
    #[error("cannot read the input: {0}")]
    Input(io::Error),
    /// Nobody takes the output any more.
    #[error("nobody takes the output any more")]
    OutputClosed,
}

/// The other ends of a [`Pipe`].
#[derive(Debug)]
pub struct Ends {
    /// What is to be sent. To drop it is the end of input.
    pub input: SyncSender<io::Result<Vec<u8>>>,
    /// What was received. It ends when the [`Pipe`] is dropped.
    pub output: Receiver<Vec<u8>>,
    /// How the connection ended.
    pub outcome: oneshot::Receiver<Result<(), Failure>>,
    /// Set it to abort the connection.
    pub stop: Arc<AtomicBool>,
}

/// One connection, joined with two queues.
#[derive(Debug)]
pub struct Pipe {
    peer: SocketAddr,
    patience: Duration,
    /// When the connection must be established.
    give_up_at: Option<Instant>,
    connection: Option<ConnectionId>,
    opened: bool,
    input: Receiver<io::Result<Vec<u8>>>,
    /// A piece of input, and how much of it is sent.
    piece: Vec<u8>,
    sent: usize,
    input_ended: bool,
    output: SyncSender<Vec<u8>>,
    output_full: bool,
    outcome: Option<oneshot::Sender<Result<(), Failure>>>,
    stop: Arc<AtomicBool>,
    /// When something last went through.
    moved_at: Instant,
    next_look: Option<Instant>,
}

impl Pipe {
    /// A connection to `peer`, which must be established within `patience`.
    #[must_use]
    pub fn new(peer: SocketAddr, patience: Duration) -> (Self, Ends) {
        let (to_input, input) = sync_channel(INPUT);
        let (output, from_output) = sync_channel(OUTPUT);
        let (tell, outcome) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Ends { input: to_input, output: from_output, outcome, stop: Arc::clone(&stop) };
        let pipe = Self {
            peer,
            patience,
            give_up_at: None,
            connection: None,
            opened: false,
            input,
            piece: Vec::new(),
            sent: 0,
            input_ended: false,
            output,
            output_full: false,
            outcome: Some(tell),
            stop,
            moved_at: Instant::ZERO,
            next_look: None,
        };
        (pipe, ends)
    }

    /// Tells how it ended. What comes after the first word is a consequence of it.
    fn end(&mut self, outcome: Result<(), Failure>) {
        if let Some(tell) = self.outcome.take() {
            // Whoever wanted to know may have gone.
            let _ = tell.send(outcome);
        }
    }

    fn break_off(&mut self, failure: Failure, connection: &mut impl Connection) {
        self.end(Err(failure));
        connection.abort();
    }

    fn connect(&mut self, now: Instant, outbox: &mut impl Outbox) {
        match outbox.connect(self.peer) {
            Ok(id) => self.connection = Some(id),
            Err(ConnectError::Later) => {}
            Err(error) => self.end(Err(error.into())),
        }
        self.moved_at = now;
    }

    /// Moves what can be moved, both ways.
    fn pump(&mut self, now: Instant, connection: &mut impl Connection) {
        self.take_output(now, connection);
        self.send_input(now, connection);
    }

    fn take_output(&mut self, now: Instant, connection: &mut impl Connection) {
        self.output_full = false;
        while !connection.received().is_empty() {
            let piece = connection.received().to_vec();
            let len = piece.len();
            match self.output.try_send(piece) {
                Ok(()) => connection.consume(len),
                Err(TrySendError::Full(_)) => {
                    self.output_full = true;
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return self.break_off(Failure::OutputClosed, connection),
            };
            self.moved_at = now;
        }
    }

    fn send_input(&mut self, now: Instant, connection: &mut impl Connection) {
        while !self.input_ended {
            if self.sent == self.piece.len() {
                match self.input.try_recv() {
                    Ok(Ok(piece)) => (self.piece, self.sent) = (piece, 0),
                    Ok(Err(error)) => return self.break_off(Failure::Input(error), connection),
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => {
                        self.input_ended = true;
                        return connection.finish();
                    }
                }
                self.moved_at = now;
            }
            self.sent += connection.send(&self.piece[self.sent..]);
            if self.sent < self.piece.len() {
                return;
            }
        }
    }

    /// Whether a queue has to be looked into though no frame comes: input may, and output may have room.
    const fn waits_for_queues(&self) -> bool {
        self.output_full || (!self.input_ended && self.sent == self.piece.len())
    }
}

impl App for Pipe {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.opened = true;
        self.pump(now, connection);
    }

    fn data(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.pump(now, connection);
    }

    fn writable(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.pump(now, connection);
    }

    /// The peer will send no more. We do, until the input ends.
    fn finished(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.pump(now, connection);
    }

    fn closed(&mut self, _now: Instant, (): &mut (), _id: ConnectionId, reason: Closed) {
        self.end(match reason {
            Closed::Finished => Ok(()),
            Closed::Refused => Err(Failure::Refused),
            Closed::Reset => Err(Failure::Reset),
            Closed::TimedOut if self.opened => Err(Failure::TimedOut),
            Closed::TimedOut => Err(Failure::NoAnswer),
            Closed::Unreachable => Err(Failure::Unreachable),
            Closed::Aborted => Err(Failure::Stopped),
        });
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        self.next_look = None;
        if self.outcome.is_none() {
            return;
        }
        let give_up_at = *self.give_up_at.get_or_insert(now + self.patience);
        let Some(id) = self.connection else {
            self.connect(now, outbox);
            self.next_look = Some(now + LONGEST_PAUSE);
            return;
        };
        let Some(mut connection) = outbox.connection(id) else { return };
        if self.stop.load(Ordering::Relaxed) {
            self.break_off(Failure::Stopped, &mut connection);
        } else if self.opened {
            self.pump(now, &mut connection);
            if self.waits_for_queues() {
                let silence = now.since(self.moved_at);
                self.next_look = Some(now + (silence / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
            }
        } else if now >= give_up_at {
            self.break_off(Failure::NoAnswer, &mut connection);
        } else {
            self.next_look = Some(give_up_at);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_look
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeConnection, FakeOutbox};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const MS: Duration = Duration::from_millis(1);

    fn pipe() -> (Pipe, Ends) {
        Pipe::new(([10, 0, 0, 3], 7).into(), PATIENCE)
    }

    /// A pipe whose connection is established.
    fn open(connection: &mut FakeConnection) -> (Pipe, Ends) {
        let (mut pipe, ends) = pipe();
        pipe.poll(Instant::ZERO, &mut FakeOutbox::default());
        pipe.opened(Instant::ZERO, &mut (), connection);
        (pipe, ends)
    }

    #[test]
    fn input_goes_out_as_there_is_room_and_its_end_finishes_our_side() {
        let mut connection = FakeConnection { room: 4, ..FakeConnection::default() };
        let (mut pipe, ends) = open(&mut connection);
        ends.input.send(Ok(b"hello, ".to_vec())).unwrap();
        ends.input.send(Ok(b"world".to_vec())).unwrap();
        drop(ends.input);
        for (room, sent) in [(4, "hell"), (3, "hello, "), (2, "hello, wo")] {
            connection.room = room;
            pipe.writable(Instant::ZERO, &mut (), &mut connection);
            assert_eq!((&connection.sent[..], connection.finished), (sent.as_bytes(), false));
        }
        connection.room = 100;
        pipe.writable(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((&connection.sent[..], connection.finished), (&b"hello, world"[..], true));
    }

    #[test]
    fn what_the_output_queue_has_no_room_for_stays_on_the_connection() {
        let mut connection = FakeConnection::default();
        let (mut pipe, ends) = open(&mut connection);
        for number in 0..OUTPUT + 2 {
            connection.receive(&[number as u8]);
            pipe.data(Instant::ZERO, &mut (), &mut connection);
        }
        assert_eq!((connection.received_len(), pipe.output_full), (2, true));
        assert!((0..OUTPUT).all(|number| ends.output.recv().unwrap() == [number as u8]));
        pipe.data(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((connection.received_len(), pipe.output_full), (0, false));
    }

    #[test]
    fn our_side_goes_on_after_the_peer_finished() {
        let mut connection = FakeConnection { room: 100, ..FakeConnection::default() };
        let (mut pipe, ends) = open(&mut connection);
        pipe.finished(Instant::ZERO, &mut (), &mut connection);
        ends.input.send(Ok(b"more".to_vec())).unwrap();
        pipe.data(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((&connection.sent[..], connection.finished), (&b"more"[..], false));
    }

    #[test]
    fn every_end_of_a_connection_is_told_once() {
        let mut connection = FakeConnection::default();
        for (reason, failure) in [
            (Closed::Finished, None),
            (Closed::Refused, Some("refused")),
            (Closed::Reset, Some("reset")),
            (Closed::TimedOut, Some("no longer answers")),
            (Closed::Unreachable, Some("cannot be reached")),
        ] {
            let (mut pipe, mut ends) = open(&mut connection);
            pipe.closed(Instant::ZERO, &mut (), connection.id(), reason);
            pipe.closed(Instant::ZERO, &mut (), connection.id(), Closed::Aborted);
            match (ends.outcome.try_recv().unwrap(), failure) {
                (Ok(()), None) => {}
                (Err(told), Some(words)) => assert!(told.to_string().contains(words), "{told}"),
                other => panic!("{reason:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_peer_that_does_not_answer_is_given_up() {
        let (mut pipe, mut ends) = pipe();
        let mut outbox = FakeOutbox::default();
        pipe.poll(Instant::ZERO, &mut outbox);
        assert_eq!(outbox.connects, [SocketAddr::from(([10, 0, 0, 3], 7))]);
        pipe.poll(Instant::ZERO + MS, &mut outbox);
        assert_eq!(pipe.next_deadline(), Some(Instant::ZERO + PATIENCE));
        assert!(ends.outcome.try_recv().is_err() && !outbox.connection.aborted);
        pipe.poll(Instant::ZERO + PATIENCE, &mut outbox);
        assert!(matches!(ends.outcome.try_recv().unwrap(), Err(Failure::NoAnswer)) && outbox.connection.aborted);
        pipe.poll(Instant::ZERO + PATIENCE + MS, &mut outbox);
        assert_eq!((outbox.connects.len(), pipe.next_deadline()), (1, None));
    }

    #[test]
    fn what_cannot_be_opened_now_is_tried_again_and_what_never_can_is_told() {
        let (mut pipe, mut ends) = pipe();
        let mut outbox = FakeOutbox { refuse: Some(ConnectError::Later), ..FakeOutbox::default() };
        pipe.poll(Instant::ZERO, &mut outbox);
        pipe.poll(Instant::ZERO + MS, &mut outbox);
        assert_eq!((outbox.connects.len(), pipe.next_deadline()), (2, Some(Instant::ZERO + MS + LONGEST_PAUSE)));
        outbox.refuse = Some(ConnectError::NoRoute);
        pipe.poll(Instant::ZERO + MS, &mut outbox);
        let told = ends.outcome.try_recv().unwrap().unwrap_err().to_string();
        assert!(told.starts_with("cannot connect: no connected prefix"), "{told}");
    }

    #[test]
    fn queues_are_looked_into_less_and_less_often_while_nothing_comes() {
        let mut outbox = FakeOutbox::default();
        let (mut pipe, ends) = open(&mut outbox.connection);
        let mut pause = |at: Duration| {
            let now = Instant::ZERO + at;
            pipe.poll(now, &mut outbox);
            pipe.next_deadline().map(|next| next.since(now))
        };
        assert_eq!(pause(Duration::ZERO), Some(SHORTEST_PAUSE));
        assert_eq!(pause(8 * MS), Some(2 * MS));
        assert_eq!(pause(PATIENCE), Some(LONGEST_PAUSE));
        ends.input.send(Ok(vec![1])).unwrap();
        // The piece waits for room, of which the stack tells.
        assert_eq!(pause(PATIENCE), None);
    }

    #[test]
    fn who_is_told_to_stop_and_who_cannot_read_or_write_aborts() {
        let poll = |act: fn(Ends) -> oneshot::Receiver<Result<(), Failure>>| {
            let mut outbox = FakeOutbox::default();
            let (mut pipe, ends) = open(&mut outbox.connection);
            outbox.connection.receive(b"unread");
            let mut outcome = act(ends);
            pipe.poll(Instant::ZERO, &mut outbox);
            assert!(outbox.connection.aborted);
            outcome.try_recv().unwrap().unwrap_err()
        };
        let stopped = poll(|ends| {
            ends.stop.store(true, Ordering::Relaxed);
            ends.outcome
        });
        assert!(matches!(stopped, Failure::Stopped));
        let unreadable = poll(|ends| {
            ends.input.send(Err(io::ErrorKind::IsADirectory.into())).unwrap();
            // The output's end has to live on.
            std::mem::forget(ends.output);
            ends.outcome
        });
        assert!(matches!(unreadable, Failure::Input(_)));
        assert!(matches!(poll(|ends| ends.outcome), Failure::OutputClosed));
    }
}
