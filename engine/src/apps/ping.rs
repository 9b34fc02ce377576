//! Echo requests to one host, and what comes of them (`barewire ping`).
//!
//! ```text
//!   poll     every interval  -> request: sequence number, pattern     slot of that number: sent at
//!   icmp     reply           -> slot: first one, or a duplicate       -> Event::Reply
//!            error           -> slot: no reply will come              -> Event::Error
//!   all sent, and each answered or given up   -> the statistics
//! ```
//!
//! Times are those of the stack: the clock is read once a turn, before frames are received, so a request and its reply are
//! each stamped up to a turn (some microseconds, or what a burst takes) before they are sent or after they came.

mod statistics;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::app::{Answer, App, Datagram, Echo, IcmpError, IcmpMessage, Outbox, Payload, SendError, SendOptions};
use crate::base::{Instant, UnsentReason};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};
pub use statistics::{RoundTrips, Statistics};

/// Longest payload, bytes: what 65,535 leave for the headers of IPv4 and ICMP (RFC 791, section 3.1).
pub const MAX_SIZE: u16 = 65_507;
/// Requests that replies are known to belong to: one for each sequence number.
const SLOTS: usize = 1 << 16;
/// Events that may wait to be shown. A terminal that takes no more misses lines; the statistics miss nothing.
const EVENTS: usize = 1024;
/// How long a reply to the last request is waited for when none has come at all: as long as `ping` does, and longer than
/// it takes to find out that a neighbor is not there.
const SILENCE: Duration = Duration::from_secs(10);
/// The least that is waited for it when others came, whatever their round trips: a host may pause for so long.
const LEAST_LINGER: Duration = Duration::from_secs(1);
/// When the address that requests leave from is looked for again. Probing it takes 300 ms.
const PAUSE: Duration = Duration::from_millis(1);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PingConfig {
    /// Who is asked.
    pub destination: IpAddr,
    /// How many times; `None` for until [`Ends::stop`] is set.
    pub count: Option<u64>,
    /// Time from one request to the next.
    pub interval: Duration,
    /// Bytes that a request carries, up to [`MAX_SIZE`].
    pub size: u16,
    /// How requests travel.
    pub options: SendOptions,
    /// How long replies are waited for after the last request; `None`: twice the longest round trip and at least a second,
    /// or ten seconds as long as there was none.
    pub timeout: Option<Duration>,
    /// What tells our requests from those of others.
    pub identifier: u16,
}

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first request is about to be sent.
    Started {
        /// Address that requests leave from.
        source: IpAddr,
    },
    /// A reply came.
    Reply(Reply),
    /// The network says that a request did not arrive.
    Error {
        /// Who says so: perhaps we ourselves.
        source: IpAddr,
        /// Which request.
        sequence: u16,
        /// What it says.
        error: IcmpError,
    },
    /// A request was not sent.
    Unsent {
        /// Which request.
        sequence: u16,
        /// Why.
        reason: UnsentReason,
        /// Longest packet that the interface sends, bytes.
        mtu: u16,
    },
}

/// An echo reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who sent it.
    pub source: IpAddr,
    /// Which request it answers.
    pub sequence: u16,
    /// Bytes with the ICMP header.
    pub len_bytes: usize,
    /// Hops that it had left.
    pub hop_limit: u8,
    /// Time since the request.
    pub round_trip: Duration,
    /// Whether there was one to the same request before.
    pub duplicate: bool,
    /// What is wrong with its payload.
    pub damage: Option<Damage>,
}

/// How a payload differs from what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A byte is another one; the first of them.
    Byte {
        /// Where in the payload.
        at: usize,
        /// What was sent.
        wanted: u8,
        /// What came.
        found: u8,
    },
    /// It is longer or shorter: so many bytes.
    Length(usize),
}

/// Why there are no statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing leads there.
    #[error("no connected prefix and no gateway leads there: give --gateway")]
    NoRoute,
}

/// The other ends of a [`Ping`].
#[derive(Debug)]
pub struct Ends {
    /// What there is to show. It ends when the [`Ping`] is dropped.
    pub events: mpsc::Receiver<Event>,
    /// How it ended.
    pub outcome: oneshot::Receiver<Result<Statistics, Failure>>,
    /// Set it to send no more, and to wait no longer.
    pub stop: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Unused,
    Waiting {
        sent_at: Instant,
    },
    Answered {
        sent_at: Instant,
    },
    /// There was an error.
    Failed {
        sent_at: Instant,
    },
}

/// Pings one host.
#[derive(Debug)]
pub struct Ping {
    config: PingConfig,
    started: bool,
    /// By sequence number.
    slots: Box<[Slot]>,
    /// Slots that are waiting.
    outstanding: u32,
    /// When the next request is due, or else the last one was sent.
    next_at: Instant,
    last_sent_at: Instant,
    statistics: Statistics,
    events: mpsc::Sender<Event>,
    outcome: Option<oneshot::Sender<Result<Statistics, Failure>>>,
    stop: Arc<AtomicBool>,
    next_look: Option<Instant>,
}

impl Ping {
    /// Pings as soon as it is polled.
    #[must_use]
    pub fn new(config: PingConfig) -> (Self, Ends) {
        let (events, to_events) = mpsc::channel(EVENTS);
        let (outcome, to_outcome) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Ends { events: to_events, outcome: to_outcome, stop: Arc::clone(&stop) };
        let ping = Self {
            config,
            started: false,
            slots: vec![Slot::Unused; SLOTS].into_boxed_slice(),
            outstanding: 0,
            next_at: Instant::ZERO,
            last_sent_at: Instant::ZERO,
            statistics: Statistics::default(),
            events,
            outcome: Some(outcome),
            stop,
            next_look: None,
        };
        (ping, ends)
    }

    fn tell(&self, event: Event) {
        // Lines that nobody takes are not kept.
        let _ = self.events.try_send(event);
    }

    fn end(&mut self, outcome: Result<Statistics, Failure>) {
        if let Some(tell) = self.outcome.take() {
            // Whoever wanted to know may have gone.
            let _ = tell.send(outcome);
        }
    }

    fn all_sent(&self) -> bool {
        self.config.count.is_some_and(|count| self.statistics.transmitted >= count)
    }

    /// When nobody waits any longer for replies, once all requests are sent.
    fn linger_until(&self) -> Instant {
        let longest = self.statistics.round_trips().map(|times| times.max);
        let linger = longest.map_or(SILENCE, |longest| (longest * 2).max(LEAST_LINGER));
        self.last_sent_at + self.config.timeout.unwrap_or(linger)
    }

    fn send(&mut self, now: Instant, outbox: &mut impl Outbox) {
        let sequence = (self.statistics.transmitted as u16).wrapping_add(1);
        let PingConfig { destination, options, identifier, size, .. } = self.config;
        let write = |at: usize, piece: &mut [u8]| {
            piece.iter_mut().zip(at..).for_each(|(byte, at)| *byte = pattern(sequence, at));
        };
        let slot = match outbox.ping(destination, Echo { identifier, sequence }, options, size.into(), write) {
            Ok(()) => Slot::Waiting { sent_at: now },
            Err(SendError::Later) => return,
            Err(SendError::Unsent(UnsentReason::NoRoute)) => return self.end(Err(Failure::NoRoute)),
            Err(SendError::Unsent(reason)) => {
                self.statistics.errors += 1;
                self.tell(Event::Unsent { sequence, reason, mtu: outbox.mtu() });
                Slot::Failed { sent_at: now }
            }
        };
        if let Some(place) = self.slots.get_mut(usize::from(sequence)) {
            let before = std::mem::replace(place, slot);
            // A request of 65,536 requests ago is lost for good.
            self.outstanding -= u32::from(matches!(before, Slot::Waiting { .. }));
            self.outstanding += u32::from(matches!(slot, Slot::Waiting { .. }));
        }
        self.statistics.sent(now);
        self.last_sent_at = now;
        // Whoever is late does not make up for it: requests would come in bursts.
        self.next_at = (self.next_at + self.config.interval).max(now);
    }

    fn reply(&mut self, now: Instant, source: IpAddr, sequence: u16, hop_limit: u8, payload: &Payload<'_>) -> bool {
        let Some(slot) = self.slots.get_mut(usize::from(sequence)) else { return false };
        let before = *slot;
        let (Slot::Waiting { sent_at } | Slot::Answered { sent_at } | Slot::Failed { sent_at }) = before else {
            return false;
        };
        *slot = Slot::Answered { sent_at };
        self.outstanding -= u32::from(matches!(before, Slot::Waiting { .. }));
        let duplicate = matches!(before, Slot::Answered { .. });
        let round_trip = now.since(sent_at);
        let damage = damage(sequence, self.config.size.into(), payload);
        self.statistics.received(now, round_trip, duplicate, damage.is_some());
        let len_bytes = payload.len_bytes() + icmpv4::LEN;
        self.tell(Event::Reply(Reply { source, sequence, len_bytes, hop_limit, round_trip, duplicate, damage }));
        true
    }

    fn error(&mut self, source: IpAddr, error: IcmpError, sequence: u16) -> bool {
        let Some(slot) = self.slots.get_mut(usize::from(sequence)) else { return false };
        // An error about a request that was answered is forged, or about a duplicate of it.
        let Slot::Waiting { sent_at } = *slot else { return false };
        *slot = Slot::Failed { sent_at };
        self.outstanding -= 1;
        self.statistics.errors += 1;
        self.tell(Event::Error { source, sequence, error });
        true
    }
}

/// The byte that a request carries at a place: others at each place nearby, and in each request.
fn pattern(sequence: u16, at: usize) -> u8 {
    ((at ^ at >> 8) as u8).wrapping_add(sequence as u8)
}

/// What is wrong with the payload of a reply.
fn damage(sequence: u16, size: usize, payload: &Payload<'_>) -> Option<Damage> {
    let bytes = payload.pieces().flatten().zip(0..size);
    let byte = |(&found, at)| {
        let wanted = pattern(sequence, at);
        (found != wanted).then_some(Damage::Byte { at, wanted, found })
    };
    let len = payload.len_bytes();
    bytes.filter_map(byte).next().or((len != size).then_some(Damage::Length(len)))
}

/// The echo request that an error is about: the first bytes of its ICMP header, by the version of `destination`.
pub(super) fn quoted_echo(destination: IpAddr, protocol: u8, transport: [u8; 8]) -> Option<Echo> {
    let (icmp, request) =
        if destination.is_ipv4() { (ipv4::ICMP, icmpv4::ECHO_REQUEST) } else { (ipv6::ICMPV6, icmpv6::ECHO_REQUEST) };
    let [kind, code, _, _, a, b, c, d] = transport;
    let echo = Echo { identifier: u16::from_be_bytes([a, b]), sequence: u16::from_be_bytes([c, d]) };
    ((protocol, kind, code) == (icmp, request, 0)).then_some(echo)
}

impl App for Ping {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn icmp(&mut self, now: Instant, message: &IcmpMessage<'_>) -> bool {
        if self.outcome.is_none() {
            return false;
        }
        let PingConfig { destination, identifier, .. } = self.config;
        match *message {
            IcmpMessage::EchoReply { source, echo, hop_limit, ref payload } => {
                echo.identifier == identifier
                    && source == destination
                    && self.reply(now, source, echo.sequence, hop_limit, payload)
            }
            IcmpMessage::Error { source, error, destination: to, protocol, transport } => {
                let echo = quoted_echo(to, protocol, transport);
                let ours = echo.filter(|echo| to == destination && echo.identifier == identifier);
                ours.is_some_and(|echo| self.error(source, error, echo.sequence))
            }
        }
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        self.next_look = None;
        if self.outcome.is_none() {
            return;
        }
        if self.stop.load(Ordering::Relaxed) {
            return self.end(Ok(self.statistics));
        }
        if !self.started {
            let Some(source) = outbox.source_for(self.config.destination) else {
                self.next_look = Some(now + PAUSE);
                return;
            };
            self.started = true;
            self.next_at = now;
            self.tell(Event::Started { source });
        }
        if !self.all_sent() && now >= self.next_at {
            self.send(now, outbox);
        }
        if !self.all_sent() {
            self.next_look = Some(self.next_at.max(now + PAUSE.min(self.config.interval)));
        } else if self.outstanding == 0 || now >= self.linger_until() {
            self.end(Ok(self.statistics));
        } else {
            self.next_look = Some(self.linger_until());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_look
    }
}

#[cfg(test)]
mod tests;
