//! What TCP tells those who call it: what became of a segment, what an application has to hear, what is to be sent.

use crate::base::{DropReason, Frame};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With FIN both ways.
    Finished,
    /// By a reset of the peer.
    Reset,
    /// By a reset of the peer, before it was established.
    Refused,
    /// The peer did not answer.
    TimedOut,
    /// By an ICMP error, before it was established.
    Unreachable,
    /// By our application.
    Aborted,
}

/// Trouble that a connection lives through (RFC 5461).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// ICMP: unreachable.
    Unreachable,
    /// ICMP: parameter problem.
    ParameterProblem,
    /// ICMP: time exceeded.
    TimeExceeded,
    /// Segments are sent again and again.
    NotResponding,
}

/// What an application has to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The connection is established.
    pub opened: bool,
    /// Text was received.
    pub data: bool,
    /// The peer called text urgent.
    pub urgent: bool,
    /// There is room to send.
    pub writable: bool,
    /// The peer finished.
    pub finished: bool,
    /// The connection is over.
    pub closed: Option<End>,
}

/// What became of a segment.
#[derive(Debug)]
#[must_use = "it may hold the segment's frame"]
pub struct Verdict {
    /// Whether it served a purpose.
    pub outcome: Result<(), DropReason>,
    /// Its frame, unless it is kept.
    pub frame: Option<Frame>,
    /// Whether there is something to be sent at once: [`Tcp::take_control`](super::Tcp::take_control) gives it.
    pub replies: bool,
    /// The connection that it belongs to.
    pub connection: Option<u32>,
    /// What that connection's application has to hear of.
    pub events: Events,
}

impl Events {
    pub(super) const NONE: Self =
        Self { opened: false, data: false, urgent: false, writable: false, finished: false, closed: None };
}

impl Verdict {
    #[inline]
    pub(super) const fn taken(frame: Option<Frame>) -> Self {
        Self { outcome: Ok(()), frame, replies: false, connection: None, events: Events::NONE }
    }

    #[inline]
    pub(super) const fn dropped(frame: Frame, reason: DropReason) -> Self {
        Self { outcome: Err(reason), frame: Some(frame), replies: false, connection: None, events: Events::NONE }
    }
}

/// A segment on its way out: the frame starts with the TCP header.
#[derive(Debug)]
pub struct Outgoing {
    /// The segment. Where it has text, the connection has the same frame on its queue.
    pub frame: Frame,
    /// Segments that the device is to make of it.
    pub segments: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// Whether the frame also lies on a queue, so that it cannot wait on another one.
    pub shared: bool,
    /// Whether what the neighbor table says is to be doubted: nothing has come back for a while.
    pub doubts_way: bool,
}

/// What [`Tcp::poll`](super::Tcp::poll) gives out.
#[derive(Debug)]
pub enum Output {
    /// A segment to send, and its connection, to whose [`Tcp::tuple`](super::Tcp::tuple) it belongs.
    Segment(Outgoing, u32),
    /// A segment without text to build, which [`Tcp::take_control`](super::Tcp::take_control) gives.
    Control,
    /// There is room to send on a connection: tell its application.
    Writable(u32),
    /// A connection is over: tell its application, then [`Tcp::close`](super::Tcp::close) it.
    Closed(u32, End),
}
