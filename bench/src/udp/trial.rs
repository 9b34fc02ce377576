//! One trial: what is offered, and what came of it.

use std::time::Duration;

use serde::Serialize;

use crate::histogram::{Latency, LatencySummary};

/// Below this part of the asked rate a trial measures the generator, not the server.
const KEPT: f64 = 0.9;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Frames a second; `None` is as many as the generator can.
    pub rate_pps: Option<f64>,
    pub duration: Duration,
    /// Ethernet header to end of payload, in bytes.
    pub frame_len: usize,
    /// Frames that the generator sends before it lets the kernel take them to the server: 1 for latency,
    /// 64 for throughput (which delays the first of 64 paced frames until the last is due).
    pub batch: u32,
    /// What else the live-frame sender sends meanwhile.
    pub attack: Option<Attack>,
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
    pub received: u64,
    /// Replies of an earlier trial.
    pub stale: u64,
    /// Times that the BPF sender gave a frame back because the next was not due yet; nothing was lost by it.
    pub deferred: u64,
    /// Attacker's frames sent.
    pub attacked: u64,
    /// How long was sent.
    pub seconds: f64,
    /// Replies divided by the time from the start to the last reply (or the end of sending, if later).
    pub goodput_pps: f64,
    pub latency: Latency,
}

/// The figures of an [`Outcome`] as they are printed and written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// `null`: as fast as possible.
    pub asked_pps: Option<f64>,
    pub sent_pps: f64,
    pub goodput_pps: f64,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub loss_ratio: f64,
    pub stale: u64,
    pub deferred: u64,
    pub seconds: f64,
    pub generator_limited: bool,
    pub latency: LatencySummary,
}

impl Outcome {
    pub(crate) fn sent_pps(&self) -> f64 {
        if self.seconds > 0.0 { self.sent as f64 / self.seconds } else { 0.0 }
    }

    /// Whether the generator fell behind what it was asked for.
    pub(crate) fn generator_limited(&self) -> bool {
        self.asked_pps.is_some_and(|asked| self.sent_pps() < KEPT * asked)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    pub(crate) fn loss_ratio(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            asked_pps: self.asked_pps,
            sent_pps: self.sent_pps(),
            goodput_pps: self.goodput_pps,
            sent: self.sent,
            received: self.received,
            lost: self.lost(),
            loss_ratio: self.loss_ratio(),
            stale: self.stale,
            deferred: self.deferred,
            seconds: self.seconds,
            generator_limited: self.generator_limited(),
            latency: self.latency.summary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(asked_pps: Option<f64>, sent: u64, received: u64) -> Outcome {
        Outcome {
            asked_pps,
            sent,
            received,
            stale: 0,
            deferred: 0,
            attacked: 0,
            seconds: 0.5,
            goodput_pps: 0.0,
            latency: Latency::new(),
        }
    }

    #[test]
    fn a_trial_below_nine_tenths_of_the_asked_rate_is_generator_limited() {
        assert!(outcome(Some(1000.0), 449, 449).generator_limited());
        assert!(!outcome(Some(1000.0), 450, 450).generator_limited());
        assert!(!outcome(None, 1, 1).generator_limited(), "nothing was asked");
    }

    #[test]
    fn loss_is_what_was_sent_and_did_not_come_back() {
        let figures = outcome(None, 200, 150).figures();
        assert_eq!((figures.lost, figures.loss_ratio, figures.sent_pps), (50, 0.25, 400.0));
        assert_eq!(outcome(None, 0, 0).loss_ratio(), 0.0);
    }
}
