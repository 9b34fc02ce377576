//! What runs on the stack: an application is a value with callbacks, run to completion on the worker's core.
//!
//! ```text
//!   UDP    datagram ----------------------------------> Answer::Reply: the same frame goes back
//!   TCP    opened -> data, data, writable ... -> finished -> closed
//!                     |        \
//!                     |         the send buffer has room again
//!                     received bytes lie on the connection until they are consumed or sent back: an
//!                     application that takes less closes the window on its peer
//! ```

mod icmp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::{Frame, Instant, Umem, UnsentReason};
pub use icmp::{Echo, IcmpError, IcmpMessage, Payload, SendOptions};

/// An application.
///
/// The worker owns it, so it needs no lock; each worker has one of its own. Callbacks must not wait, and what
/// they allocate is on the packet path.
pub trait App {
    /// What the application keeps beside each TCP connection.
    type Session: Default + Send + std::fmt::Debug;

    /// A datagram arrived on a port that the application listens on.
    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer;

    /// An echo reply came, or an error about a datagram or an echo request. `true` says that the application waited for it;
    /// what nobody waited for is counted as dropped. Errors about connections do not come here.
    ///
    /// Anybody can make such messages up: what they quote has to be compared with what was sent.
    fn icmp(&mut self, now: Instant, message: &IcmpMessage<'_>) -> bool {
        let _ = (now, message);
        false
    }

    /// A connection is established: one that a peer opened, or one of [`Outbox::connect`].
    fn opened(&mut self, now: Instant, session: &mut Self::Session, connection: &mut impl Connection) {
        let _ = (now, session, connection);
    }

    /// There are received bytes, some of them new. What is not consumed or sent back stays.
    fn data(&mut self, now: Instant, session: &mut Self::Session, connection: &mut impl Connection) {
        let _ = (now, session);
        connection.consume(usize::MAX);
    }

    /// There is room to send again, after the application was told that there was none.
    fn writable(&mut self, now: Instant, session: &mut Self::Session, connection: &mut impl Connection) {
        let _ = (now, session, connection);
    }

    /// The peer will send no more than what was received already. Unless this is overridden, neither will we.
    fn finished(&mut self, now: Instant, session: &mut Self::Session, connection: &mut impl Connection) {
        let _ = (now, session);
        connection.finish();
    }

    /// A connection is over, or one of [`Outbox::connect`] did not come about. Called once for each, last of all.
    fn closed(&mut self, now: Instant, session: &mut Self::Session, id: ConnectionId, reason: Closed) {
        let _ = (now, session, id, reason);
    }

    /// Once a turn, when there is room to send: the place to start something without being asked.
    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        let _ = (now, outbox);
    }

    /// When [`poll`](App::poll) has something to do next, if no frame comes before.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
}

/// What becomes of a datagram's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is answered.
    None,
    /// The first so many bytes of [`Datagram::room_mut`] go back to the sender, in the same frame. As many as the datagram
    /// has are the datagram itself, in however many chunks it lies.
    Reply(usize),
}

/// Where a datagram's payload lies.
#[derive(Debug)]
enum Memory<'a> {
    /// At the start of what is left of a chunk.
    Chunk(&'a mut [u8]),
    /// It is what the chunks of a frame hold.
    Chain(&'a mut Umem, &'a mut Frame),
}

/// A received datagram, in the frame that it came in.
#[derive(Debug)]
pub struct Datagram<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    memory: Memory<'a>,
    len: usize,
    to_group: bool,
    /// The application may have written into it.
    touched: bool,
    traffic_class: u8,
}

impl<'a> Datagram<'a> {
    /// A datagram whose payload is the first `len` bytes of `room`.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, room: &'a mut [u8], len: usize) -> Self {
        let len = len.min(room.len());
        let memory = Memory::Chunk(room);
        Self { source, destination, memory, len, to_group: false, touched: false, traffic_class: 0 }
    }

    /// A datagram whose payload is what a frame holds, in however many chunks.
    #[must_use]
    pub fn long(source: SocketAddr, destination: SocketAddr, frame: &'a mut Frame, umem: &'a mut Umem) -> Self {
        let len = umem.packet_len(frame);
        let memory = Memory::Chain(umem, frame);
        Self { source, destination, memory, len, to_group: false, touched: false, traffic_class: 0 }
    }

    /// The same, and the traffic class that it came in.
    #[must_use]
    pub fn in_class(self, traffic_class: u8) -> Self {
        Self { traffic_class, ..self }
    }

    /// The Differentiated Services code point that it came with (RFC 2474), 0 to 63.
    #[must_use]
    pub const fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// What it says of congestion (RFC 3168, section 5): 0 if it cannot be marked, 3 if it was marked on its way. Of a
    /// datagram that came in fragments, 3 if any of them was marked.
    #[must_use]
    pub const fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }

    /// The same, and whether it was sent to several hosts.
    #[must_use]
    pub fn with_group(self, to_group: bool) -> Self {
        Self { to_group, ..self }
    }

    /// Whether it was sent to several hosts: to a multicast group or a broadcast address, which
    /// [`destination`](Self::destination) is then. If all of them answer, whose address the sender wrote into it gets many
    /// times as much as was sent.
    #[must_use]
    pub const fn to_group(&self) -> bool {
        self.to_group
    }

    /// Who sent it.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// The address and port of ours that it was sent to.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// What it carries; of one that is longer than a chunk of packet memory, the part in the first chunk.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.memory {
            Memory::Chunk(room) => room.get(..self.len).unwrap_or_default(),
            Memory::Chain(umem, frame) => umem.bytes(frame),
        }
    }

    /// All that it carries, in however many pieces that lies.
    #[must_use]
    pub fn whole(&self) -> Payload<'_> {
        match &self.memory {
            Memory::Chunk(_) => Payload::from(self.payload()),
            Memory::Chain(umem, frame) => Payload::of_chain(umem.bytes(frame), frame, umem),
        }
    }

    /// Bytes that it carries: more than [`payload`](Self::payload) has if it is longer than a chunk.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it carries nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that the payload lies at the start of, up to the end of the frame: to write an answer into.
    #[must_use]
    pub fn room_mut(&mut self) -> &mut [u8] {
        self.touched = true;
        match &mut self.memory {
            Memory::Chunk(room) => room,
            Memory::Chain(umem, frame) => umem.room_mut(frame),
        }
    }

    /// Whether its bytes may be others than those that came.
    #[inline]
    pub(crate) const fn is_touched(&self) -> bool {
        self.touched
    }
}

/// Where an application sends datagrams that answer nothing.
pub trait Outbox {
    /// Sends a datagram from a port of ours: `write` fills the payload in and says how many bytes it is long.
    ///
    /// # Errors
    /// [`SendError`]; `write` was not called then, unless the payload turned out too long.
    fn send(&mut self, from: u16, to: SocketAddr, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), SendError> {
        self.send_with(from, to, SendOptions::default(), write)
    }

    /// The same, and says how the datagram travels.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn send_with(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), SendError>;

    /// Sends a datagram of `len` bytes, however many chunks of packet memory that takes: up to 65,507 by IPv4 and 65,527
    /// by IPv6, in fragments where the path takes no more in one piece and `options` allow it. `write` fills them in,
    /// piece by piece: it is given the memory, and where in the payload that lies.
    ///
    /// # Errors
    /// [`SendError`]; `write` was not called then, unless it turned out that memory ran short.
    fn send_long(
        &mut self,
        from: u16,
        to: SocketAddr,
        options: SendOptions,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError>;

    /// Sends an ICMP echo request that carries `len` bytes. `write` fills them in, piece by piece: it is given the
    /// memory, and where in the payload that lies. [`App::icmp`] tells what comes of it.
    ///
    /// # Errors
    /// [`SendError`]; `write` was not called then.
    fn ping(
        &mut self,
        to: IpAddr,
        echo: Echo,
        options: SendOptions,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), SendError>;

    /// The address of ours that a packet to `to` leaves from; `None` as long as there is none of its family that may be
    /// used.
    fn source_for(&self, to: IpAddr) -> Option<IpAddr>;

    /// Longest packet that the interface sends, bytes with the IP header.
    fn mtu(&self) -> u16;

    /// Frames that went by so far, whoever they were for.
    fn traffic(&self) -> Traffic;

    /// Opens a connection to a peer (RFC 9293, section 3.9.1.1: an active OPEN). [`App::opened`] or [`App::closed`]
    /// tells what came of it.
    ///
    /// # Errors
    /// [`ConnectError`].
    fn connect(&mut self, to: SocketAddr) -> Result<ConnectionId, ConnectError>;

    /// The same, from an address of ours that the application chooses (RFC 9293, section 3.9.1.1: the "local IP
    /// address" parameter), and not by the route to the peer.
    ///
    /// # Errors
    /// [`ConnectError`].
    fn connect_from(&mut self, from: IpAddr, to: SocketAddr) -> Result<ConnectionId, ConnectError>;

    /// A connection of this application, unless it is closed.
    fn connection(&mut self, id: ConnectionId) -> Option<impl Connection + '_>;

    /// Joins a multicast group: its datagrams for ports that the application listens on are delivered to it. Each join is
    /// undone by a [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`JoinError`].
    fn join(&mut self, group: IpAddr) -> Result<(), JoinError>;

    /// Leaves a multicast group that was joined.
    fn leave(&mut self, group: IpAddr);
}

/// Frames that a stack has had to do with. An application that measures compares two of them, to know whether there was
/// anything to do in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Taken in.
    pub received: u64,
    /// Made to be sent.
    pub originated: u64,
}

/// Names a connection for as long as it lives, and nothing afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Its place in the table.
    pub(crate) index: u32,
    /// Which of the connections that were in that place one after another.
    pub(crate) generation: u32,
}

/// The usual idle time before a keep-alive.
///
/// RFC 9293, section 3.8.4 (MUST-28): the interval MUST default to no less than two hours.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2 * 3600);

/// A TCP connection, as its application sees it.
///
/// Received bytes lie in the very frames that the NIC filled, in order. [`send_back`](Connection::send_back) queues
/// such a frame to be sent: of an echo no byte is moved.
pub trait Connection {
    /// Its name.
    fn id(&self) -> ConnectionId;

    /// Our address and port.
    fn local(&self) -> SocketAddr;

    /// Those of the peer.
    fn peer(&self) -> SocketAddr;

    /// The first of the received bytes, as many as lie in one frame; empty if there are none.
    fn received(&self) -> &[u8];

    /// Received bytes in all.
    fn received_len(&self) -> usize;

    /// Of the received bytes, how many at the front the sender called urgent (RFC 9293, section 3.8.5; the last of
    /// them may not have been received yet). They are delivered in line (RFC 6093).
    fn urgent_len(&self) -> usize;

    /// Takes received bytes, at most `len`, and says how many. The window opens by as much.
    fn consume(&mut self, len: usize) -> usize;

    /// Queues received bytes to be sent back, at most `len` and at most as many as there is [`room`](Connection::room)
    /// for, and says how many. None is copied as long as they are whole frames.
    fn send_back(&mut self, len: usize) -> usize;

    /// Queues a copy of bytes to be sent, as many as there is room for, and says how many.
    fn send(&mut self, bytes: &[u8]) -> usize;

    /// The same, and calls everything up to their end urgent.
    ///
    /// RFC 9293, section 3.8.5 (MUST-30): for applications that have always done so. (SHLD-13): new applications SHOULD
    /// NOT employ the TCP urgent mechanism.
    fn send_urgent(&mut self, bytes: &[u8]) -> usize;

    /// Hands out the memory of a frame, to write at most one segment's payload into, and queues what `write` says
    /// it wrote. 0, without calling `write`, if there is no room.
    fn reserve(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> usize;

    /// Bytes that could be queued to be sent now. After 0, or after less was taken than given,
    /// [`App::writable`] tells when there is room.
    fn room(&self) -> usize;

    /// Bytes queued and not acknowledged by the peer.
    fn unacknowledged(&self) -> usize;

    /// Whether the peer will send no more.
    fn is_finished(&self) -> bool;

    /// Sends no more than what is queued (a half-close: FIN follows); receiving goes on.
    fn finish(&mut self);

    /// Ends the connection at once: what is queued is lost, and the peer is sent RST.
    fn abort(&mut self);

    /// Whether small segments wait while others are unacknowledged (Nagle's algorithm; on by default).
    fn set_nagle(&mut self, on: bool);

    /// The idle time after which the peer is asked whether it still lives; `None`, the default, for never.
    /// [`KEEP_ALIVE`] for those who have no reason for another.
    fn set_keep_alive(&mut self, idle: Option<Duration>);

    /// How long data may stay unacknowledged before the connection is given up (RFC 9293: R2, USER TIMEOUT). Unless it is the
    /// usual 300 s, it also says for how long keep-alives may be without an answer, in place of their number.
    fn set_user_timeout(&mut self, timeout: Duration);

    /// The Differentiated Services code point of segments, 0 to 63 (RFC 2474).
    ///
    /// RFC 9293, section 3.9.2 (SHLD-23): generally, an application SHOULD NOT change it during the course of a
    /// connection.
    fn set_dscp(&mut self, dscp: u8);

    /// The last error that network and peer told of and that did not end the connection (RFC 1122, section 4.2.4.1).
    fn soft_error(&self) -> Option<SoftError>;
}

/// Why a connection is over.
///
/// RFC 9293, section 3.6 (MUST-12): whether it closed normally or was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Both sides finished, and everything sent was acknowledged.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer refused it.
    Refused,
    /// The peer did not answer for too long.
    TimedOut,
    /// The network said, before it was established, that the peer cannot be reached.
    Unreachable,
    /// Our application aborted it.
    Aborted,
}

/// An error that a connection lives through (RFC 5461).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SoftError {
    /// ICMP: the peer's network or host cannot be reached.
    Unreachable,
    /// ICMP: a header field was said to be wrong.
    ParameterProblem,
    /// ICMP: a packet was too long under way, or it took too many hops.
    TimeExceeded,
    /// The peer does not acknowledge: segments were sent again R1 times (RFC 9293, section 3.8.3).
    NotResponding,
}

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Our address is not ours yet: try again in the next turn.
    #[error("not now: try again in the next turn")]
    Later,
    /// No host can have that address.
    #[error("no single host has that address")]
    InvalidAddress,
    /// The address to connect from is not one of ours.
    #[error("that is no address of ours")]
    NotOurs,
    /// There is no way to that address.
    #[error("no connected prefix and no gateway leads there")]
    NoRoute,
    /// The table of connections is full.
    #[error("the limit of connections is reached")]
    TooMany,
    /// Every port that was tried has a connection to that peer already, or would get its answers on another queue.
    #[error("no source port is free")]
    NoPort,
    /// This stack has no TCP.
    #[error("TCP is not configured")]
    NoTcp,
}

/// Why a group could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is no multicast address.
    #[error("that is no multicast address")]
    NotAGroup,
    /// As many groups as a host may be in are joined already.
    #[error("the limit of groups is reached")]
    TooMany,
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This turn's burst is full, or memory is short, or our address is not ours yet: try again in the next
    /// turn.
    #[error("not now: try again in the next turn")]
    Later,
    /// It was counted as unsent for this reason.
    #[error("unsent: {}", .0.name())]
    Unsent(UnsentReason),
}
