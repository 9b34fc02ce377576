//! Datagrams and their echoes.

use std::net::{IpAddr, SocketAddr};

use barewire::app::{Answer, App, Datagram, Outbox, SendError, SendOptions};
use barewire::base::Instant;
use tokio::sync::oneshot;

use super::pulse::Pulse;
use crate::arrivals::Arrivals;
use crate::error::{Error, Result};
use crate::netns::Family;
use crate::signals::{self, monotonic_ns};
use crate::udp::SOURCE_PORT;
use crate::udp::frame;
use crate::udp::progress::{DRAIN_NS, Progress};
use crate::udp::trial::{Offer, Outcome};

/// How often the server is asked whether it is there, and how often at most: what is lost while its MAC address is
/// looked for is not the server's loss.
const KNOCK_NS: u64 = 100_000_000;
const KNOCKS: u32 = 10;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The server was asked so often, and last then, whether it is there.
    Knocking(u32, u64),
    /// The trial at this place is sending, since then.
    Sending(usize, u64),
    /// It has sent for so long, and waits for the last replies.
    Draining {
        trial: usize,
        since_ns: u64,
        sent_for_ns: u64,
    },
    Over,
}

/// The client: an application of the stack.
pub(super) struct Datagrams {
    target: SocketAddr,
    /// Where requests come from, in turn; none is wherever the stack likes.
    sources: Vec<IpAddr>,
    /// Trials to run, of which only the last is told of.
    offers: Vec<Offer>,
    progress: Progress,
    number: u32,
    phase: Phase,
    tell: Option<oneshot::Sender<Result<Outcome>>>,
    pulse: Pulse,
}

impl Datagrams {
    /// A client that tells by `tell` what came of the last of its trials.
    pub(super) fn new(
        target: SocketAddr,
        sources: Vec<IpAddr>,
        offers: Vec<Offer>,
        tell: oneshot::Sender<Result<Outcome>>,
    ) -> Self {
        let now_ns = monotonic_ns();
        let number = (now_ns >> 10) as u32;
        // What is sent to knock belongs to no trial.
        let progress = Progress::new(number, Arrivals::Flood, None, now_ns, 1);
        Self {
            target,
            sources,
            offers,
            progress,
            number,
            phase: Phase::Knocking(0, 0),
            tell: Some(tell),
            pulse: Pulse::default(),
        }
    }

    fn end(&mut self, result: Result<Outcome>) {
        self.phase = Phase::Over;
        if let Some(tell) = self.tell.take() {
            // Who was to hear it may have given up.
            let _ = tell.send(result);
        }
    }

    /// Begins the trial at a place, if there is one.
    fn start(&mut self, trial: usize) {
        let Some(offer) = self.offers.get(trial) else { return };
        let start_ns = monotonic_ns();
        self.number = self.number.wrapping_add(1);
        let duration_ns = offer.duration.as_nanos() as u64;
        self.progress =
            Progress::new(self.number, offer.arrivals, offer.rate_pps, start_ns, duration_ns).up_to(offer.limit);
        self.phase = Phase::Sending(trial, start_ns);
    }

    fn knock(&mut self, knocks: u32, last_ns: u64, now_ns: u64, outbox: &mut impl Outbox) {
        if outbox.source_for(self.target.ip()).is_none() || now_ns < last_ns + KNOCK_NS {
            return;
        }
        if knocks == KNOCKS {
            return self.start(0);
        }
        self.phase = Phase::Knocking(knocks + 1, now_ns);
        self.progress.take_due(now_ns);
        self.send(1, 0, now_ns, outbox);
    }

    /// Sends what waits, `count` of them at most, as far as there is room.
    fn send(&mut self, count: usize, trial: usize, now_ns: u64, outbox: &mut impl Outbox) {
        let Some(offer) = self.offers.get(trial) else { return };
        let (sizes, headers_len) = (offer.sizes, frame::headers_len(Family::of(self.target)));
        let (sources, progress) = (&self.sources, &mut self.progress);
        for _ in 0..count.min(progress.waiting()) {
            let sequence = progress.sequence(0);
            let len = sizes.len_of(sequence).saturating_sub(headers_len);
            let source = sources.get(sequence as usize % sources.len().max(1)).copied();
            let options = SendOptions { source, dont_fragment: false, ..SendOptions::default() };
            let sent = outbox.send_with(SOURCE_PORT, self.target, options, |room| {
                // One that is longer than the room is refused by its length.
                if let Some(payload) = room.get_mut(..len) {
                    progress.stamp(0, payload, now_ns);
                }
                len
            });
            match sent {
                Ok(()) => progress.took(1, now_ns),
                Err(SendError::Later) => return,
                Err(error) => return self.end(Err(Error::run(format!("cannot send to {}: {error}", self.target)))),
            }
        }
    }

    fn finish(&mut self, trial: usize, sent_for_ns: u64) {
        let empty = Progress::new(self.number, Arrivals::Flood, None, 0, 1);
        let progress = std::mem::replace(&mut self.progress, empty);
        let last = trial + 1 == self.offers.len();
        if last || signals::stopping() {
            let asked = self.offers.get(trial).and_then(|offer| offer.rate_pps);
            let result = if last {
                Ok(progress.outcome(asked, sent_for_ns, frame::headers_len(Family::of(self.target))))
            } else {
                Err(Error::Interrupted)
            };
            return self.end(result);
        }
        self.start(trial + 1);
    }
}

impl App for Datagrams {
    type Session = ();

    fn datagram(&mut self, turn: Instant, datagram: &mut Datagram<'_>) -> Answer {
        if datagram.source() != self.target {
            return Answer::None;
        }
        let now_ns = self.pulse.now_ns(turn);
        match self.phase {
            Phase::Knocking(..) => self.start(0),
            _ => self.progress.receive(datagram.payload(), now_ns),
        }
        Answer::None
    }

    fn poll(&mut self, turn: Instant, outbox: &mut impl Outbox) {
        let now_ns = self.pulse.now_ns(turn);
        match self.phase {
            Phase::Knocking(..) if signals::stopping() => self.end(Err(Error::Interrupted)),
            Phase::Knocking(knocks, last_ns) => self.knock(knocks, last_ns, now_ns, outbox),
            Phase::Sending(trial, start_ns) => {
                let duration_ns = self.offers.get(trial).map_or(0, |offer| offer.duration.as_nanos() as u64);
                if now_ns >= start_ns + duration_ns || self.progress.is_complete() || signals::stopping() {
                    self.phase = Phase::Draining { trial, since_ns: now_ns, sent_for_ns: now_ns - start_ns };
                    return;
                }
                self.progress.take_due(now_ns);
                self.send(usize::MAX, trial, now_ns, outbox);
                self.progress.tick(now_ns);
            }
            Phase::Draining { trial, since_ns, sent_for_ns } => {
                if !self.progress.is_awaiting() || now_ns > since_ns + DRAIN_NS || signals::stopping() {
                    self.finish(trial, sent_for_ns);
                }
            }
            Phase::Over => {}
        }
    }
}
