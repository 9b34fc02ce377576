//! The way to a host, router by router (`barewire traceroute`).
//!
//! ```text
//!   probe     0  1  2 | 3  4  5 | 6  7  8 | ...     each with a UDP port or a sequence number of its own
//!   hop limit    1    |    2    |    3    | ...     "time exceeded" comes from the router where it runs out
//!             \__________________________/
//!              up to 16 of them are on their way at once; a hop is told of when all of its own are settled
//!              the first one alone: what finding the gateway takes is in its time, and in no other's
//! ```
//!
//! The way ends where the destination answers, or where somebody says that it cannot be reached. When the MTU is looked
//! for, each hop's probes begin as long as the interface can send, and are sent again shorter when a router says so: those
//! of hop 5 find out what the first five links can carry.
//!
//! Times are those of the stack, as in [`ping`](super::ping).

mod hop;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::ping::quoted_echo;
use crate::app::{Answer, App, Datagram, Echo, IcmpError, IcmpMessage, Outbox, SendError, SendOptions};
use crate::base::{Instant, UnsentReason};
use crate::wire::{ipv4, ipv6, udp};
pub use hop::{Finding, Hop, MAX_PROBES, Outcome};
use hop::{shorter, verdict};

/// First of the ports that probes are sent to: nobody listens there, by an old custom.
pub const FIRST_PORT: u16 = 33_434;
/// Probes on their way at once, as traceroute(8) has them: a router that answers six at once and then one a second, as
/// Linux does, is asked three times.
const AT_ONCE: usize = 16;
/// When a probe that could not be sent is tried again.
const PAUSE: Duration = Duration::from_millis(1);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct TracerouteConfig {
    /// Where the way leads.
    pub destination: IpAddr,
    /// What probes are.
    pub probe: Probe,
    /// Hop limit of the first probes; at least 1.
    pub first_hop: u8,
    /// Hop limit of the last ones.
    pub max_hops: u8,
    /// Probes a hop, 1 to [`MAX_PROBES`].
    pub probes: u8,
    /// How long an answer is waited for.
    pub wait: Duration,
    /// Bytes of a packet, with the IP header, unless the MTU is looked for.
    pub packet_len: u16,
    /// Whether to find out how long a packet each hop can be sent.
    pub find_mtu: bool,
    /// What tells our probes from those of others: the source port, or the identifier.
    pub identifier: u16,
}

/// What a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A datagram to a port where nobody listens.
    Udp,
    /// An echo request.
    Icmp,
}

/// Why there is no way to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing leads there.
    #[error("no connected prefix and no gateway leads there: give --gateway")]
    NoRoute,
    /// Probes cannot be sent.
    #[error("probes cannot be sent: {}", .0.name())]
    Unsent(UnsentReason),
}

/// What the whole way is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whether the destination answered.
    pub reached: bool,
}

/// The other ends of a [`Traceroute`].
#[derive(Debug)]
pub struct Ends {
    /// The hops in order, each when it is settled.
    pub hops: mpsc::Receiver<Hop>,
    /// How it ended.
    pub outcome: oneshot::Receiver<Result<Summary, Failure>>,
    /// Set it to wait no longer.
    pub stop: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, for the first time or again.
    Due,
    Waiting {
        sent_at: Instant,
        /// Bytes of the packet.
        len: u16,
    },
    Settled(Finding),
}

/// Finds the way to one host.
#[derive(Debug)]
pub struct Traceroute {
    config: TracerouteConfig,
    /// Hop by hop.
    probes: Box<[State]>,
    /// What the links up to each hop can carry, as far as is known; bytes.
    lengths: Box<[u16]>,
    /// Hops up to here are of interest: from the first on.
    hops: usize,
    /// Hops that were told of.
    told: usize,
    reached: bool,
    started: bool,
    hops_to: mpsc::Sender<Hop>,
    outcome: Option<oneshot::Sender<Result<Summary, Failure>>>,
    stop: Arc<AtomicBool>,
    next_look: Option<Instant>,
}

impl Traceroute {
    /// Begins as soon as it is polled.
    #[must_use]
    pub fn new(config: TracerouteConfig) -> (Self, Ends) {
        let config = TracerouteConfig {
            first_hop: config.first_hop.max(1),
            probes: config.probes.clamp(1, MAX_PROBES as u8),
            ..config
        };
        let hops = usize::from(config.max_hops.saturating_sub(config.first_hop)) + 1;
        let (hops_to, hops_from) = mpsc::channel(hops);
        let (outcome, to_outcome) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Ends { hops: hops_from, outcome: to_outcome, stop: Arc::clone(&stop) };
        let traceroute = Self {
            probes: vec![State::Due; hops * usize::from(config.probes)].into_boxed_slice(),
            lengths: vec![config.packet_len; hops].into_boxed_slice(),
            config,
            hops,
            told: 0,
            reached: false,
            started: false,
            hops_to,
            outcome: Some(outcome),
            stop,
            next_look: None,
        };
        (traceroute, ends)
    }

    fn end(&mut self, outcome: Result<Summary, Failure>) {
        if let Some(tell) = self.outcome.take() {
            // Whoever wanted to know may have gone.
            let _ = tell.send(outcome);
        }
    }

    /// The hop that a probe is for, from zero.
    fn hop_of(&self, probe: usize) -> usize {
        probe / usize::from(self.config.probes)
    }

    /// Bytes of the packet that a probe is sent in next.
    fn len_of(&self, probe: usize) -> u16 {
        self.lengths.get(self.hop_of(probe)).copied().unwrap_or_default()
    }

    /// The probes of the hops that are of interest.
    fn of_interest(&mut self) -> &mut [State] {
        let end = self.hops * usize::from(self.config.probes);
        self.probes.get_mut(..end).unwrap_or_default()
    }

    /// Probes on their way. Those beyond the end of the way are not waited for.
    fn outstanding(&mut self) -> usize {
        self.of_interest().iter().filter(|state| matches!(state, State::Waiting { .. })).count()
    }

    /// Whether probes can be sent now.
    fn start(&mut self, outbox: &impl Outbox) -> bool {
        if !self.started && outbox.source_for(self.config.destination).is_some() {
            self.started = true;
            if self.config.find_mtu {
                self.lengths.fill(outbox.mtu());
            }
        }
        self.started
    }

    /// Gives up on probes that were waited for long enough, and says when the next ones are.
    fn give_up(&mut self, now: Instant) -> Option<Instant> {
        let wait = self.config.wait;
        let mut next: Option<Instant> = None;
        for state in self.of_interest() {
            let State::Waiting { sent_at, .. } = *state else { continue };
            if now >= sent_at + wait {
                *state = State::Settled(Finding::Silence);
            } else {
                next = Some(next.map_or(sent_at + wait, |next| next.min(sent_at + wait)));
            }
        }
        next
    }

    /// Whether a probe was answered, or would have been by now: the neighbor by which they go is not searched for any more.
    fn is_way_out_known(&self) -> bool {
        self.probes.iter().any(|state| matches!(state, State::Settled(_)))
    }

    /// Sends as many probes as may be on their way. Whether all that are due were sent.
    fn send_due(&mut self, now: Instant, outbox: &mut impl Outbox) -> bool {
        let at_once = if self.is_way_out_known() { AT_ONCE } else { 1 };
        let mut outstanding = self.outstanding();
        while outstanding < at_once
            && let Some(probe) = self.of_interest().iter().position(|state| *state == State::Due)
        {
            match self.send(probe, outbox) {
                Ok(()) => {}
                Err(SendError::Later) => return false,
                Err(SendError::Unsent(UnsentReason::NoRoute)) => {
                    self.end(Err(Failure::NoRoute));
                    return true;
                }
                Err(SendError::Unsent(reason)) => {
                    self.end(Err(Failure::Unsent(reason)));
                    return true;
                }
            }
            let len = self.len_of(probe);
            if let Some(state) = self.probes.get_mut(probe) {
                *state = State::Waiting { sent_at: now, len };
                outstanding += 1;
            }
        }
        true
    }

    fn send(&self, probe: usize, outbox: &mut impl Outbox) -> Result<(), SendError> {
        let TracerouteConfig { destination, first_hop, identifier, .. } = self.config;
        let hop = self.hop_of(probe);
        let len = usize::from(self.len_of(probe));
        let ip_len = if destination.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
        let hop_limit = Some(first_hop.saturating_add(hop as u8));
        let options = SendOptions { hop_limit, dont_fragment: self.config.find_mtu, ..SendOptions::default() };
        // Headers of UDP and ICMP are of the same length.
        let len = len.saturating_sub(ip_len + udp::LEN);
        match self.config.probe {
            Probe::Udp => {
                let to = SocketAddr::new(destination, FIRST_PORT.saturating_add(probe as u16));
                outbox.send_with(identifier, to, options, |room| {
                    let len = len.min(room.len());
                    room.iter_mut().take(len).zip(0..).for_each(|(byte, at): (_, usize)| *byte = at as u8);
                    len
                })
            }
            Probe::Icmp => {
                let echo = Echo { identifier, sequence: probe as u16 };
                let write = |at: usize, piece: &mut [u8]| {
                    piece.iter_mut().zip(at..).for_each(|(byte, at)| *byte = at as u8);
                };
                outbox.ping(destination, echo, options, len, write)
            }
        }
    }

    /// Which probe an error is about.
    fn quoted(&self, destination: IpAddr, protocol: u8, transport: [u8; 8]) -> Option<usize> {
        let identifier = self.config.identifier;
        match self.config.probe {
            Probe::Icmp => {
                let echo = quoted_echo(destination, protocol, transport)?;
                (echo.identifier == identifier).then_some(usize::from(echo.sequence))
            }
            Probe::Udp => {
                let [a, b, c, d, ..] = transport;
                let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let ours = protocol == ipv4::UDP && from == identifier;
                to.checked_sub(FIRST_PORT).filter(|_| ours).map(usize::from)
            }
        }
    }

    /// An answer to a probe came. Whether it was waited for.
    fn answered(&mut self, now: Instant, probe: usize, source: IpAddr, error: Option<IcmpError>) -> bool {
        let hop = self.hop_of(probe);
        let is_v4 = self.config.destination.is_ipv4();
        let (Some(state), Some(known)) = (self.probes.get_mut(probe), self.lengths.get_mut(hop)) else { return false };
        let State::Waiting { sent_at, len } = *state else { return false };
        if let Some(IcmpError::TooLong { mtu }) = error
            && self.config.find_mtu
        {
            let Some(shorter) = shorter(len, mtu, is_v4) else { return false };
            *known = shorter.min(*known);
            *state = State::Due;
            return true;
        }
        let outcome = verdict(error, source == self.config.destination, is_v4);
        *state = State::Settled(Finding::Answer { source, round_trip: now.since(sent_at), outcome });
        self.reached |= outcome == Outcome::Reached;
        if outcome != Outcome::OnTheWay {
            self.hops = self.hops.min(hop + 1);
        }
        true
    }

    /// Tells of the hops that are settled.
    fn tell(&mut self) {
        while self.told < self.hops {
            let probes = usize::from(self.config.probes);
            let states = self.probes.iter().skip(self.told * probes).take(probes);
            let number = self.config.first_hop.saturating_add(self.told as u8);
            let mut hop = Hop { number, findings: arrayvec::ArrayVec::default(), mtu: None };
            for state in states {
                let State::Settled(finding) = *state else { return };
                // No hop has more of them.
                let _ = hop.findings.try_push(finding);
            }
            let answered = hop.findings.iter().any(|finding| matches!(finding, Finding::Answer { .. }));
            hop.mtu = self.lengths.get(self.told).copied().filter(|_| self.config.find_mtu && answered);
            // There is room for all hops.
            let _ = self.hops_to.try_send(hop);
            self.told += 1;
        }
        self.end(Ok(Summary { reached: self.reached }));
    }
}

impl App for Traceroute {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn icmp(&mut self, now: Instant, message: &IcmpMessage<'_>) -> bool {
        let TracerouteConfig { destination, identifier, probe, .. } = self.config;
        match *message {
            _ if self.outcome.is_none() => false,
            IcmpMessage::EchoReply { source, echo, .. } => {
                let ours = probe == Probe::Icmp && echo.identifier == identifier && source == destination;
                ours && self.answered(now, echo.sequence.into(), source, None)
            }
            IcmpMessage::Error { source, error, destination: to, protocol, transport } => {
                let probe = self.quoted(to, protocol, transport).filter(|_| to == destination);
                probe.is_some_and(|probe| self.answered(now, probe, source, Some(error)))
            }
        }
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        self.next_look = None;
        if self.outcome.is_none() {
            return;
        }
        if self.stop.load(Ordering::Relaxed) {
            return self.end(Ok(Summary { reached: self.reached }));
        }
        if !self.start(outbox) {
            self.next_look = Some(now + PAUSE);
            return;
        }
        let next = self.give_up(now);
        let all_sent = self.send_due(now, outbox);
        self.tell();
        if self.outcome.is_some() {
            let retry = (!all_sent).then_some(now + PAUSE);
            // What was sent just now is given up last of all.
            self.next_look = [next, retry, Some(now + self.config.wait)].into_iter().flatten().min();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_look
    }
}

#[cfg(test)]
mod tests;
