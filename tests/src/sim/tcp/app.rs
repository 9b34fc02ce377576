//! The application at either end: many connections at once, some of its own and some of the other's, each with
//! [`Manners`] of its own.

use std::net::SocketAddr;
use std::time::Duration;

use barewire::app::{Answer, App, Closed, Connection, ConnectionId, Datagram, Outbox};
use barewire::base::Instant;

use super::super::rng::Rng;
use super::book::{Record, SharedBook};
use super::manners::{Manners, Reading, Writing};
use super::stream::{self, Family, Flow, Side};

/// How long it waits after the stack took nothing for lack of memory or because it was not ready.
const RETRY: Duration = Duration::from_millis(5);
/// Idle time before a peer is asked whether it still lives, once there are no more faults.
const HASTY_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The connections that an application opens.
#[derive(Clone, Debug)]
pub struct Calls {
    /// By which version of IP.
    pub family: Family,
    /// How many.
    pub count: u32,
    /// The longest time between two.
    pub gap_ns: u64,
    /// Ports of the other side that they go to.
    pub ports: Vec<u16>,
    /// Bytes said on one at the most.
    pub most: u64,
}

/// What the stack keeps beside a connection: shows that it is given back with the right one.
#[derive(Debug, Default)]
pub struct Badge(Option<ConnectionId>);

/// A connection, as its application sees it.
#[derive(Debug)]
pub struct Call {
    id: ConnectionId,
    flow: Flow,
    manners: Manners,
    rng: Rng,
    record: Record,
    /// When it reads and writes again, if it rests.
    reads_at: Instant,
    writes_at: Instant,
    /// What it may still say in this breath.
    breath: u64,
    /// The other side finished.
    heard_all: bool,
    aborted: bool,
}

/// The application.
#[derive(Debug)]
pub struct Talker {
    side: Side,
    seed: u64,
    rng: Rng,
    book: SharedBook,
    calls: Vec<Call>,
    plan: Calls,
    next_call: Instant,
    calm: bool,
    now: Instant,
    /// Connections that the stack would not open, told at once.
    pub refused: u64,
}

impl Talker {
    /// Opens connections as planned, and answers those of the other side.
    #[must_use]
    pub fn new(side: Side, seed: u64, plan: Calls, book: SharedBook, now: Instant) -> Self {
        let rng = Rng::new(seed ^ side as u64 ^ 0xca11);
        Self { side, seed, rng, book, calls: Vec::new(), plan, next_call: now, calm: false, now, refused: 0 }
    }

    /// Opens no more connections, and ends those that there are as soon as everything is said.
    pub fn calm(&mut self) {
        self.calm = true;
        self.plan.count = 0;
        for call in &mut self.calls {
            call.manners.hurry();
            (call.reads_at, call.writes_at, call.breath) = (self.now, self.now, u64::MAX);
        }
    }

    /// Aborts whatever is left.
    pub fn give_up(&mut self) {
        for call in &mut self.calls {
            (call.manners.patience, call.reads_at) = (Some(0), self.now);
        }
    }

    /// Opens as many more connections.
    pub fn call(&mut self, count: u32) {
        self.plan.count += count;
    }

    /// Connections that are not closed, and those that are still to be opened.
    #[must_use]
    pub fn left(&self) -> usize {
        self.calls.len() + self.plan.count as usize
    }

    /// Connections that are not closed, to look at.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn step(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {:?} to {now:?}", self.now);
        self.now = now;
    }

    fn begin(&mut self, connection: &mut impl Connection) -> usize {
        let (id, local, peer) = (connection.id(), connection.local(), connection.peer());
        assert_eq!(
            (local.ip(), peer.ip()),
            [self.side, self.side.other()].map(|side| side.address_of(self.plan.family)).into()
        );
        let flow = Flow::between(self.side, &local, &peer);
        let mut rng = Rng::new(flow.key(self.side) ^ self.seed ^ self.side as u64);
        let mut manners = Manners::drawn(&mut rng, self.plan.most);
        if self.calm {
            manners.hurry();
        }
        connection.set_nagle(manners.nagle);
        connection.set_keep_alive(if self.calm { Some(HASTY_KEEP_ALIVE) } else { manners.keep_alive });
        self.book.borrow_mut().open(self.side, flow);
        let breath = manners.breath;
        self.calls.push(Call {
            id,
            flow,
            manners,
            rng,
            record: Record::default(),
            reads_at: self.now,
            writes_at: self.now,
            breath,
            heard_all: false,
            aborted: false,
        });
        self.calls.len() - 1
    }

    fn find(&self, session: &Badge, id: ConnectionId) -> usize {
        assert_eq!(session.0, Some(id), "the session of another connection");
        let at = self.calls.iter().position(|call| call.id == id);
        at.unwrap_or_else(|| panic!("{}: told of {id:?}, which is closed", self.side.name()))
    }

    /// Does what there is to do on a connection.
    fn act(&mut self, at: usize, connection: &mut impl Connection) {
        let (now, side, calm) = (self.now, self.side, self.calm);
        let call = &mut self.calls[at];
        if call.aborted {
            return;
        }
        if calm {
            connection.set_keep_alive(Some(HASTY_KEEP_ALIVE));
        }
        if call.flow.echo() == Some(side) {
            call.echo(now, connection);
        } else {
            call.read(now, side, connection);
            call.write(now, side, connection);
        }
        let call = &mut self.calls[at];
        let spoken = call.record.sent + call.record.received;
        if call.manners.patience.is_some_and(|patience| spoken >= patience) {
            call.aborted = true;
            connection.abort();
        }
        self.book.borrow_mut().enter(side, call.flow, call.record);
    }
}

impl Call {
    fn echo(&mut self, now: Instant, connection: &mut impl Connection) {
        while now >= self.reads_at && !connection.received().is_empty() {
            let there = connection.received().len();
            let some = self.rng.between(1, there as u64) as usize;
            let (moved, asked) = if self.manners.copies {
                let bytes = connection.received()[..some].to_vec();
                let sent = connection.send(&bytes);
                assert_eq!(connection.consume(sent), sent, "what was there can be taken");
                (sent, some)
            } else {
                let asked = if self.rng.chance(700) { usize::MAX } else { some };
                (connection.send_back(asked), asked.min(there))
            };
            self.record.sent += moved as u64;
            self.record.received += moved as u64;
            if moved < asked {
                // The stack says when there is room.
                break;
            }
            self.rest_from_reading(now);
        }
        if connection.is_finished() && connection.received_len() == 0 {
            self.finish(connection);
        }
    }

    fn read(&mut self, now: Instant, side: Side, connection: &mut impl Connection) {
        let key = self.flow.key(side.other());
        while now >= self.reads_at && !connection.received().is_empty() {
            let there = connection.received();
            let some = match self.manners.reading {
                Reading::Sips(_) => self.rng.between(1, there.len() as u64) as usize,
                _ => there.len(),
            };
            if let Some(place) = stream::differs(key, self.record.received, &there[..some]) {
                panic!("{:?}: {} received a wrong byte at {place}", self.flow, side.name());
            }
            assert_eq!(connection.consume(some), some, "what was there can be taken");
            self.record.received += some as u64;
            if matches!(self.manners.reading, Reading::Sips(_)) || connection.received().is_empty() {
                self.rest_from_reading(now);
            }
        }
    }

    fn rest_from_reading(&mut self, now: Instant) {
        if let Reading::Sips(ns) | Reading::Seldom(ns) = self.manners.reading {
            self.reads_at = now + Duration::from_nanos(self.rng.below(ns));
        }
    }

    fn write(&mut self, now: Instant, side: Side, connection: &mut impl Connection) {
        let (key, total) = (self.flow.key(side), self.manners.total);
        while self.record.sent < total && now >= self.writes_at && !self.record.finished {
            if self.breath == 0 {
                self.breath = self.manners.breath;
                self.writes_at = now + Duration::from_nanos(self.rng.below(self.manners.thinking_ns));
                break;
            }
            let most = (total - self.record.sent).min(self.breath);
            let (sent, asked) = self.write_some(key, most, connection);
            self.record.sent += sent;
            self.breath -= sent;
            if sent < asked {
                // The stack says when there is room.
                break;
            }
        }
        let may_finish = !self.manners.polite || self.heard_all;
        if self.record.sent == total && may_finish && self.record.opened {
            self.finish(connection);
        }
    }

    /// Writes at most `most` bytes: how many the stack took, and how many there were.
    fn write_some(&mut self, key: u64, most: u64, connection: &mut impl Connection) -> (u64, u64) {
        let writing = match self.manners.writing {
            Writing::Mixed => {
                let size = self.rng.scale(1, 5000);
                self.rng.pick(&[Writing::Bytes, Writing::Pieces(size), Writing::Frames(size)])
            }
            other => other,
        };
        let at = self.record.sent;
        let room = connection.room();
        let (sent, asked) = match writing {
            Writing::Frames(size) => {
                let asked = most.min(self.rng.between(1, size));
                let mut given = None;
                let sent = connection.reserve(|out| {
                    let len = out.len().min(asked as usize);
                    stream::write(key, at, &mut out[..len]);
                    given = Some(len);
                    len
                });
                assert!(given.is_none_or(|given| given == sent), "reserved {given:?} bytes and sent {sent}");
                // A frame holds no more than a segment: less is no sign of a lack of room.
                (sent, if sent > 0 { sent } else { asked as usize })
            }
            Writing::Pieces(size) => {
                let asked = most.min(self.rng.between(1, size)) as usize;
                let mut bytes = vec![0; asked];
                stream::write(key, at, &mut bytes);
                (connection.send(&bytes), asked)
            }
            _ => {
                let mut byte = [0];
                stream::write(key, at, &mut byte);
                (connection.send(&byte), 1)
            }
        };
        assert!(sent <= room, "{sent} bytes were taken where there was room for {room}");
        (sent as u64, asked as u64)
    }

    fn finish(&mut self, connection: &mut impl Connection) {
        if !self.record.finished {
            self.record.finished = true;
            connection.finish();
            assert_eq!((connection.send(b"more"), connection.room()), (0, 0), "nothing is taken after the end");
        }
    }

    /// When there is something to do without being told.
    fn wakes_at(&self) -> Option<Instant> {
        [self.reads_at, self.writes_at].into_iter().filter(|&at| at != Instant::ZERO && !self.aborted).min()
    }
}

impl App for Talker {
    type Session = Badge;

    fn datagram(&mut self, now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        self.step(now);
        Answer::None
    }

    fn opened(&mut self, now: Instant, session: &mut Badge, connection: &mut impl Connection) {
        self.step(now);
        let id = connection.id();
        assert!(session.0.replace(id).is_none(), "a session of somebody before");
        let known = self.calls.iter().position(|call| call.id == id);
        let at = known.unwrap_or_else(|| self.begin(connection));
        assert!(!self.calls[at].record.opened, "opened twice");
        self.calls[at].record.opened = true;
        self.act(at, connection);
    }

    fn data(&mut self, now: Instant, session: &mut Badge, connection: &mut impl Connection) {
        self.step(now);
        let at = self.find(session, connection.id());
        self.act(at, connection);
    }

    fn writable(&mut self, now: Instant, session: &mut Badge, connection: &mut impl Connection) {
        self.data(now, session, connection);
    }

    fn finished(&mut self, now: Instant, session: &mut Badge, connection: &mut impl Connection) {
        let at = self.find(session, connection.id());
        assert!(connection.is_finished() && !self.calls[at].heard_all, "finished is told once");
        self.calls[at].heard_all = true;
        self.data(now, session, connection);
    }

    fn closed(&mut self, now: Instant, session: &mut Badge, id: ConnectionId, reason: Closed) {
        self.step(now);
        let at = self.calls.iter().position(|call| call.id == id);
        let call =
            self.calls.swap_remove(at.unwrap_or_else(|| panic!("{id:?} is closed once more, or was never open")));
        assert_eq!(session.0.is_some(), call.record.opened, "the session of another connection");
        assert!(reason != Closed::Aborted || call.aborted || !call.record.opened, "aborted by nobody");
        self.book.borrow_mut().close(
            self.side,
            call.flow,
            Record { closed: Some(reason), closed_at: now, ..call.record },
        );
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        self.step(now);
        while self.plan.count > 0 && self.next_call <= now {
            let port = self.rng.pick(&self.plan.ports);
            let Ok(id) = outbox.connect(SocketAddr::from((self.side.other().address_of(self.plan.family), port)))
            else {
                self.refused += 1;
                self.next_call = now + RETRY;
                break;
            };
            let mut connection = outbox.connection(id).expect("it was just opened");
            let at = self.begin(&mut connection);
            // What is written before it is open waits for that.
            if self.rng.chance(300) {
                self.act(at, &mut connection);
            }
            self.plan.count -= 1;
            self.next_call += Duration::from_nanos(self.rng.below(self.plan.gap_ns + 1));
        }
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let due = |at: Instant| at != Instant::ZERO && at <= now;
            let (reads, writes) = (due(call.reads_at), due(call.writes_at));
            if !reads && !writes {
                continue;
            }
            let id = call.id;
            let call = &mut self.calls[at];
            call.reads_at = if reads { Instant::ZERO } else { call.reads_at };
            call.writes_at = if writes { Instant::ZERO } else { call.writes_at };
            let mut connection = outbox.connection(id).unwrap_or_else(|| panic!("{id:?} ended, and nobody was told"));
            self.act(at, &mut connection);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let call = (self.plan.count > 0).then_some(self.next_call);
        let wakes = self.calls.iter().filter_map(Call::wakes_at);
        call.into_iter().chain(wakes).min()
    }
}
