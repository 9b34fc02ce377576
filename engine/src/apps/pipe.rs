//! A client: opens one connection and joins it with two queues, whose other ends are elsewhere (`barewire connect`:
//! standard input and output).
//!
//! ```text
//!   Ends::input  -> [pieces] -> Pipe -> connection        the end of input finishes our side, the other goes on
//!                <- [spares] <-
//!   Ends::output <- [pieces] <- Pipe <- connection
//!                -> [spares] ->
//! ```
//!
//! Pieces of memory go round: whoever has emptied one gives it back, and whoever has none to fill must wait. Only the
//! other ends do that, never the worker: what the connection has no room for stays on its piece, and what there is no
//! piece for stays on the connection and closes the peer's window. Nothing is allocated after the start.
//!
//! An application that starts something of its own accord does so in [`poll`](App::poll), and says with
//! [`next_deadline`](App::next_deadline) when it wants to be called next.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::{Answer, App, Closed, ConnectError, Connection, ConnectionId, Datagram, Outbox, SoftError};
use crate::base::Instant;

/// Bytes of a piece: what a pipe holds.
const PIECE: usize = 64 << 10;
/// Pieces each way: together the megabyte of a send or receive buffer.
const PIECES: usize = 16;
/// Looking into the queues again costs a wake-up, some microseconds; every 100 us is 5 % of a core, for as long as
/// something comes in between.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
/// What a person at a terminal does not notice. At 100 wake-ups a second, silence costs next to nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// A piece of memory with bytes in it.
#[derive(Debug)]
pub struct Piece {
    memory: Box<[u8]>,
    len: usize,
}

impl Piece {
    fn new() -> Self {
        Self { memory: vec![0; PIECE].into_boxed_slice(), len: 0 }
    }

    /// The bytes in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Puts what one read gives in place of what was in it, and says how many bytes that are.
    ///
    /// # Errors
    /// As the read's.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.len = from.read(&mut self.memory)?;
        Ok(self.len)
    }

    /// Appends as many of `bytes` as there is room for, and says how many.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.memory[self.len..];
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.len += len;
        len
    }
}

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
    pub input: SyncSender<io::Result<Piece>>,
    /// Pieces to fill with it.
    pub input_spares: Receiver<Piece>,
    /// What was received. It ends when the [`Pipe`] is dropped.
    pub output: Receiver<Piece>,
    /// Where its pieces go back.
    pub output_spares: SyncSender<Piece>,
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
    /// The network says that the peer cannot be reached.
    unreachable: bool,
    input: Receiver<io::Result<Piece>>,
    input_spares: SyncSender<Piece>,
    /// A piece of input, of which some bytes are sent.
    sending: Option<(Piece, usize)>,
    input_ended: bool,
    output: SyncSender<Piece>,
    output_spares: Receiver<Piece>,
    /// There was no piece for what was received.
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
        let (to_input, input) = sync_channel(PIECES);
        let (input_spares, from_input_spares) = sync_channel(PIECES);
        let (output, from_output) = sync_channel(PIECES);
        let (to_output_spares, output_spares) = sync_channel(PIECES);
        for spares in [&input_spares, &to_output_spares] {
            // There is room, and the other end is here.
            (0..PIECES).for_each(|_| drop(spares.try_send(Piece::new())));
        }
        let (tell, outcome) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Ends {
            input: to_input,
            input_spares: from_input_spares,
            output: from_output,
            output_spares: to_output_spares,
            outcome,
            stop: Arc::clone(&stop),
        };
        let pipe = Self {
            peer,
            patience,
            give_up_at: None,
            connection: None,
            opened: false,
            unreachable: false,
            input,
            input_spares,
            sending: None,
            input_ended: false,
            output,
            output_spares,
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

    /// Why the connection did not come about in time.
    const fn no_answer(&self) -> Failure {
        if self.unreachable { Failure::Unreachable } else { Failure::NoAnswer }
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
            let mut piece = match self.output_spares.try_recv() {
                Ok(piece) => piece,
                Err(TryRecvError::Empty) => {
                    self.output_full = true;
                    return;
                }
                Err(TryRecvError::Disconnected) => return self.break_off(Failure::OutputClosed, connection),
            };
            piece.len = 0;
            loop {
                let taken = piece.append(connection.received());
                if taken == 0 {
                    break;
                }
                connection.consume(taken);
            }
            // The queue has room for every piece that there is.
            if self.output.try_send(piece).is_err() {
                return self.break_off(Failure::OutputClosed, connection);
            }
            self.moved_at = now;
        }
    }

    fn send_input(&mut self, now: Instant, connection: &mut impl Connection) {
        while !self.input_ended {
            let (piece, sent) = match self.sending.take() {
                Some(sending) => sending,
                None => match self.input.try_recv() {
                    Ok(Ok(piece)) => (piece, 0),
                    Ok(Err(error)) => return self.break_off(Failure::Input(error), connection),
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => {
                        self.input_ended = true;
                        return connection.finish();
                    }
                },
            };
            let sent = sent + connection.send(&piece.bytes()[sent..]);
            self.moved_at = now;
            if sent < piece.len {
                self.sending = Some((piece, sent));
                return;
            }
            // Whoever filled it may have ended: then it has served its purpose.
            let _ = self.input_spares.try_send(piece);
        }
    }

    /// Whether a queue has to be looked into though no frame comes: input may, and output may have room.
    const fn waits_for_queues(&self) -> bool {
        self.output_full || (!self.input_ended && self.sending.is_none())
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
            Closed::TimedOut => Err(self.no_answer()),
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
        } else {
            // RFC 9293, section 3.9.2.2 (MUST-56): such an error does not end a connection. It may have another way soon.
            let error = connection.soft_error();
            self.unreachable |= matches!(error, Some(SoftError::Unreachable | SoftError::TimeExceeded));
            if now >= give_up_at {
                self.break_off(self.no_answer(), &mut connection);
            } else {
                self.next_look = Some(give_up_at);
            }
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

    /// Puts bytes into the input.
    fn feed(ends: &Ends, mut bytes: &[u8]) {
        let mut piece = ends.input_spares.recv().unwrap();
        piece.read(&mut bytes).unwrap();
        ends.input.send(Ok(piece)).unwrap();
    }

    #[test]
    fn input_goes_out_as_there_is_room_and_its_end_finishes_our_side() {
        let mut connection = FakeConnection { room: 4, ..FakeConnection::default() };
        let (mut pipe, ends) = open(&mut connection);
        feed(&ends, b"hello, ");
        feed(&ends, b"world");
        let (_output, input) = (ends.output, ends.input);
        drop(input);
        for (room, sent) in [(4, "hell"), (3, "hello, "), (2, "hello, wo")] {
            connection.room = room;
            pipe.writable(Instant::ZERO, &mut (), &mut connection);
            assert_eq!((&connection.sent[..], connection.finished), (sent.as_bytes(), false));
        }
        connection.room = 100;
        pipe.writable(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((&connection.sent[..], connection.finished), (&b"hello, world"[..], true));
        assert_eq!(ends.input_spares.try_iter().count(), PIECES, "they are all back");
    }

    #[test]
    fn what_there_is_no_piece_for_stays_on_the_connection() {
        let mut connection = FakeConnection::default();
        let (mut pipe, ends) = open(&mut connection);
        let bytes: Vec<u8> = (0..PIECES * PIECE + 2).map(|at| (at % 251) as u8).collect();
        connection.receive(&bytes);
        pipe.data(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((connection.received_len(), pipe.output_full), (2, true));
        let mut taken: Vec<u8> = Vec::new();
        for piece in ends.output.try_iter() {
            taken.extend(piece.bytes());
            ends.output_spares.try_send(piece).unwrap();
        }
        pipe.data(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((connection.received_len(), pipe.output_full), (0, false));
        taken.extend(ends.output.recv().unwrap().bytes());
        assert!(taken == bytes);
    }

    #[test]
    fn our_side_goes_on_after_the_peer_finished() {
        let mut connection = FakeConnection { room: 100, ..FakeConnection::default() };
        let (mut pipe, ends) = open(&mut connection);
        pipe.finished(Instant::ZERO, &mut (), &mut connection);
        feed(&ends, b"more");
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
    fn who_gives_up_says_what_the_network_said() {
        for (trouble, unreachable) in [
            (SoftError::Unreachable, true),
            (SoftError::TimeExceeded, true),
            (SoftError::ParameterProblem, false),
            (SoftError::NotResponding, false),
        ] {
            // It is told when the time is over, or TCP gives up before.
            for is_patient in [true, false] {
                let mut outbox = FakeOutbox::default();
                let (mut pipe, mut ends) = pipe();
                pipe.poll(Instant::ZERO, &mut outbox);
                outbox.connection.trouble = Some(trouble);
                pipe.poll(Instant::ZERO + MS, &mut outbox);
                assert!(!outbox.connection.aborted, "it may have another way soon");
                if is_patient {
                    pipe.poll(Instant::ZERO + PATIENCE, &mut outbox);
                } else {
                    let id = ConnectionId { index: 0, generation: 0 };
                    pipe.closed(Instant::ZERO + MS, &mut (), id, Closed::TimedOut);
                }
                let outcome = ends.outcome.try_recv().unwrap().unwrap_err();
                assert_eq!(matches!(outcome, Failure::Unreachable), unreachable, "{trouble:?}: {outcome}");
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
        feed(&ends, b"!");
        // The piece waits for room, of which the stack tells.
        assert_eq!(pause(PATIENCE), None);
    }

    #[test]
    fn who_is_told_to_stop_and_who_cannot_read_or_write_aborts() {
        let after = |act: fn(&mut Option<Ends>)| {
            let mut outbox = FakeOutbox::default();
            let (mut pipe, mut ends) = open(&mut outbox.connection);
            let (_, other) = oneshot::channel();
            let mut outcome = std::mem::replace(&mut ends.outcome, other);
            outbox.connection.receive(b"unread");
            let mut ends = Some(ends);
            act(&mut ends);
            pipe.poll(Instant::ZERO, &mut outbox);
            assert!(outbox.connection.aborted);
            outcome.try_recv().unwrap().unwrap_err()
        };
        let stopped = after(|ends| ends.as_ref().unwrap().stop.store(true, Ordering::Relaxed));
        assert!(matches!(stopped, Failure::Stopped));
        let unreadable = after(|ends| {
            let error = Err(io::ErrorKind::IsADirectory.into());
            ends.as_ref().unwrap().input.send(error).unwrap();
        });
        assert!(matches!(unreadable, Failure::Input(_)));
        assert!(matches!(after(|ends| *ends = None), Failure::OutputClosed));
    }
}
