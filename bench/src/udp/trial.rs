//! One trial: what is offered, and what came of it.

use std::time::Duration;

use serde::Serialize;

use super::sizes::Sizes;
use crate::arrivals::{Adherence, Arrivals};
use crate::histogram::Latency;
use crate::result::figures::{Figure, Figures};
use crate::result::placement::Placement;
use crate::result::{BackEnd, Distribution, Slice, Timestamps, Trial, Unit};

/// Below this part of the asked rate a trial measures the generator, not the server.
const KEPT: f64 = 0.9;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Frames a second; `None` is as many as the generator can.
    pub rate_pps: Option<f64>,
    pub duration: Duration,
    /// How they are due.
    pub arrivals: Arrivals,
    /// Ethernet header to end of payload.
    pub sizes: Sizes,
    pub flows: Flows,
    /// Frames that the generator sends before it lets the kernel take them to the server: 1 for latency,
    /// 64 for throughput (which delays the first of 64 paced frames until the last is due).
    pub batch: u32,
    /// Requests at most.
    pub limit: Option<u64>,
    /// What else the live-frame sender sends meanwhile.
    pub attack: Option<Attack>,
}

/// Where requests come from, in turn: all addresses from one port, then from the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    pub ports: u16,
    pub addresses: u32,
}

impl Flows {
    /// All from the same.
    pub(crate) const ONE: Self = Self { ports: 1, addresses: 1 };

    /// In words, unless there is but one.
    pub(crate) fn describe(self) -> String {
        match self {
            Self { ports: 1, addresses: 1 } => String::new(),
            Self { ports, addresses: 1 } => format!(" from {ports} ports"),
            Self { ports: 1, addresses } => format!(" from {addresses} addresses"),
            Self { ports, addresses } => format!(" from {ports} ports of {addresses} addresses"),
        }
    }
}

impl Offer {
    /// A constant rate of frames of `frame_len` bytes, in batches, for throughput.
    pub(crate) const fn constant(rate_pps: f64, duration: Duration, sizes: Sizes) -> Self {
        let arrivals = Arrivals::Constant;
        let (rate_pps, flows) = (Some(rate_pps), Flows::ONE);
        Self { rate_pps, duration, arrivals, sizes, flows, batch: 64, limit: None, attack: None }
    }
}

/// Frames that are sent to do harm, or in place of such.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub kind: AttackKind,
    /// Frames a second; `None` is as many as the sender is run for.
    pub rate_pps: Option<f64>,
}

/// What they are: the same numbers as in bpf/attack.h, where they are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AttackKind {
    Fragments = 1,
    Syn = 2,
    /// No attack: frames that the server's kernel gets.
    Passed = 3,
    /// No attack: the frame that the sender is run with.
    AsIs = 4,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub asked_pps: Option<f64>,
    pub sent: u64,
    /// Requests that were answered.
    pub received: u64,
    /// Bytes of the frames of their answers, Ethernet header to end of payload.
    pub received_bytes: u64,
    /// Second replies to a request.
    pub duplicated: u64,
    /// Replies that came after the reply to a later request.
    pub reordered: u64,
    /// Replies of an earlier trial.
    pub stale: u64,
    /// Attacker's frames sent.
    pub attacked: u64,
    /// How long was sent.
    pub seconds: f64,
    /// From the start to the last reply, or to the end of sending, if that was later.
    pub window_seconds: f64,
    /// From the due time, in a closed loop from sending.
    pub latency: Latency,
    /// From sending, where a socket sent by due times.
    pub from_sending: Option<Latency>,
    pub adherence: Option<Adherence>,
    pub slices: Vec<Slice>,
}

impl Outcome {
    /// Replies a second, over all the time in which they came.
    pub(crate) fn goodput_pps(&self) -> f64 {
        per_second(self.received, self.window_seconds)
    }

    /// Bits of the replies' frames a second, Ethernet header to end of payload.
    pub(crate) fn goodput_gbps(&self) -> f64 {
        per_second(self.received_bytes, self.window_seconds) * 8e-9
    }

    /// Nothing came of it.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self {
            asked_pps: None,
            sent: 0,
            received: 0,
            received_bytes: 0,
            duplicated: 0,
            reordered: 0,
            stale: 0,
            attacked: 0,
            seconds: 0.0,
            window_seconds: 0.0,
            latency: Latency::new(),
            from_sending: None,
            adherence: None,
            slices: Vec::new(),
        }
    }

    pub(crate) fn sent_pps(&self) -> f64 {
        per_second(self.sent, self.seconds)
    }

    /// Whether the generator fell behind what it was asked for.
    pub(crate) fn generator_limited(&self) -> bool {
        match self.adherence {
            Some(adherence) => !adherence.kept,
            None => self.asked_pps.is_some_and(|asked| self.sent_pps() < KEPT * asked),
        }
    }

    /// Whether latency is the generator's too.
    pub(crate) fn late(&self) -> bool {
        self.generator_limited() || self.adherence.is_some_and(|adherence| !adherence.punctual)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    pub(crate) fn loss_ratio(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// What is told of it.
    pub(crate) fn figures(&self) -> Figures {
        let limited = self.generator_limited();
        let latency = self.latency.summary();
        let us = |ns: u64| (latency.samples > 0).then_some(ns as f64 / 1000.0);
        Figures::from([
            ("goodput".into(), Figure::higher(Some(self.goodput_pps() / 1e6), "Mpps", limited)),
            ("goodput-bits".into(), Figure::higher(Some(self.goodput_gbps()), "Gb/s", limited)),
            ("loss".into(), Figure::lower(Some(self.loss_ratio() * 100.0), "%", limited)),
            ("p50".into(), Figure::lower(us(latency.p50_ns), "us", self.late())),
            ("p99".into(), Figure::lower(us(latency.p99_ns), "us", self.late())),
        ])
    }

    /// The trial as it is written.
    pub(crate) fn trial(&self, measure: &str, (back_end, timestamps): (BackEnd, Timestamps), offer: &Offer) -> Trial {
        Trial {
            measure: measure.into(),
            back_end,
            arrivals: offer.arrivals,
            connections: None,
            size_bytes: offer.sizes.mean().round() as u32,
            mix: offer.sizes.shares(),
            source_ports: Some(offer.flows.ports.into()),
            source_addresses: Some(offer.flows.addresses),
            unit: Unit::Frames,
            asked_per_s: self.asked_pps,
            seconds: self.seconds,
            sent: self.sent,
            completed: self.received,
            completed_per_s: self.goodput_pps(),
            bytes: self.received_bytes,
            lost: self.lost(),
            duplicated: self.duplicated,
            reordered: self.reordered,
            stale: self.stale,
            failed: 0,
            idle: None,
            limited: self.generator_limited(),
            placement: Placement::default(),
            adherence: self.adherence,
            timestamps,
            latency: Distribution::of(&self.latency),
            latency_from_sending: self.from_sending.as_ref().and_then(Distribution::of),
            slices: self.slices.clone(),
        }
    }
}

/// So many in so long; nothing in no time.
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(asked_pps: Option<f64>, sent: u64, received: u64) -> Outcome {
        let received_bytes = 64 * received;
        Outcome { asked_pps, sent, received, received_bytes, seconds: 0.5, window_seconds: 0.5, ..Outcome::empty() }
    }

    #[test]
    fn a_trial_below_nine_tenths_of_the_asked_rate_is_generator_limited() {
        assert!(outcome(Some(1000.0), 449, 449).generator_limited());
        assert!(!outcome(Some(1000.0), 450, 450).generator_limited());
        assert!(!outcome(None, 1, 1).generator_limited(), "nothing was asked");
    }

    #[test]
    fn goodput_in_bits_is_made_of_the_bytes_that_came_back() {
        let figures = outcome(None, 2_000_000, 1_000_000).figures();
        let value = |name: &str| figures[name].value.unwrap();
        assert!((value("goodput") - 2.0).abs() < 1e-9, "{figures:?}");
        assert!((value("goodput-bits") - 1.024).abs() < 1e-9, "{figures:?}");
    }

    #[test]
    fn loss_is_what_was_sent_and_did_not_come_back() {
        let outcome_of_some = outcome(None, 200, 150);
        assert_eq!((outcome_of_some.lost(), outcome_of_some.sent_pps()), (50, 400.0));
        assert_eq!(outcome_of_some.figures()["loss"].value, Some(25.0));
        assert_eq!(outcome(None, 0, 0).loss_ratio(), 0.0);
    }
}
