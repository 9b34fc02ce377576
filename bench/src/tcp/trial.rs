//! One trial: for how long, what came of it, and whether the client was what limited it.

use std::time::Duration;

use serde::Serialize;

use crate::histogram::{Latency, LatencySummary};
use crate::signals::{self, monotonic_ns};

/// A client that had less than this part of its time to spare measured itself as much as the server.
const SPARE: f64 = 0.02;

/// How long a trial takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What comes before anything counts: windows open, caches fill.
    pub warmup: Duration,
    /// What counts.
    pub duration: Duration,
}

/// The part of a trial that counts, and what of it the client spent asking in vain whether anything is ready.
#[derive(Debug)]
pub(crate) struct Window {
    from_ns: u64,
    until_ns: u64,
    last_ns: u64,
    idle_ns: u64,
}

impl Window {
    /// The trial begins now.
    pub(crate) fn open(plan: Plan) -> Self {
        Self::at(monotonic_ns(), plan)
    }

    fn at(now_ns: u64, plan: Plan) -> Self {
        let from_ns = now_ns + plan.warmup.as_nanos() as u64;
        Self { from_ns, until_ns: from_ns + plan.duration.as_nanos() as u64, last_ns: now_ns, idle_ns: 0 }
    }

    /// Takes note of the time; nothing was ready since the last note if `idle`.
    pub(crate) fn tick(&mut self, now_ns: u64, idle: bool) {
        if idle && self.counts(now_ns) {
            self.idle_ns += now_ns - self.last_ns.max(self.from_ns);
        }
        self.last_ns = now_ns;
    }

    /// Whether what happens at `now_ns` counts.
    pub(crate) fn counts(&self, now_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&now_ns)
    }

    /// Whether the warm-up is over.
    pub(crate) fn begun(&self) -> bool {
        self.last_ns >= self.from_ns
    }

    /// Whether the trial is over, be it because a signal asks to stop.
    pub(crate) fn over(&self) -> bool {
        self.last_ns >= self.until_ns || signals::stopping()
    }

    /// How long it counted so far.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.last_ns.min(self.until_ns).saturating_sub(self.from_ns)).as_secs_f64()
    }

    /// What this window and `transactions` make.
    pub(crate) fn outcome(&self, transactions: Transactions) -> Outcome {
        let seconds = self.seconds();
        let idle = if seconds > 0.0 { self.idle_ns as f64 / 1e9 / seconds } else { 0.0 };
        let Transactions { done, failed, bytes, latency } = transactions;
        Outcome { seconds, transactions: done, failed, bytes, client_idle: idle, latency }
    }
}

/// What is counted while the window is open.
#[derive(Debug)]
pub(crate) struct Transactions {
    pub done: u64,
    /// Connections that ended otherwise than they should.
    pub failed: u64,
    /// Payload of a stream.
    pub bytes: u64,
    pub latency: Latency,
}

impl Transactions {
    pub(crate) fn new() -> Self {
        Self { done: 0, failed: 0, bytes: 0, latency: Latency::new() }
    }

    /// A transaction that began at `begun_ns` is complete.
    pub(crate) fn record(&mut self, begun_ns: u64, now_ns: u64) {
        self.done += 1;
        self.latency.record(now_ns - begun_ns);
    }
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How long was counted.
    pub seconds: f64,
    pub transactions: u64,
    pub failed: u64,
    pub bytes: u64,
    /// Part of the time in which nothing was ready for the client.
    pub client_idle: f64,
    pub latency: Latency,
}

/// The figures of request/response and of connections, as they are printed and written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TransactionFigures {
    pub transactions: u64,
    pub rate_per_s: f64,
    pub failed: u64,
    pub seconds: f64,
    /// Part of the time in which nothing was ready for the client.
    pub client_idle: f64,
    /// Nearly none: the client's core was the limit, or nearly so.
    pub client_limited: bool,
    pub latency: LatencySummary,
}

/// The figures of a stream.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StreamFigures {
    pub bytes: u64,
    /// Payload, in 10^9 bits a second.
    pub goodput_gbps: f64,
    pub seconds: f64,
    pub client_idle: f64,
    pub client_limited: bool,
}

impl Outcome {
    pub(crate) fn rate_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.transactions as f64 / self.seconds } else { 0.0 }
    }

    pub(crate) fn goodput_gbps(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 * 8.0 / 1e9 / self.seconds } else { 0.0 }
    }

    /// Whether the client had nothing to spare, so that a faster server might not have shown.
    pub(crate) fn client_limited(&self) -> bool {
        self.client_idle < SPARE
    }

    pub(crate) fn transaction_figures(&self) -> TransactionFigures {
        TransactionFigures {
            transactions: self.transactions,
            rate_per_s: self.rate_per_s(),
            failed: self.failed,
            seconds: self.seconds,
            client_idle: self.client_idle,
            client_limited: self.client_limited(),
            latency: self.latency.summary(),
        }
    }

    pub(crate) fn stream_figures(&self) -> StreamFigures {
        StreamFigures {
            bytes: self.bytes,
            goodput_gbps: self.goodput_gbps(),
            seconds: self.seconds,
            client_idle: self.client_idle,
            client_limited: self.client_limited(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::at(1000, Plan { warmup: Duration::from_nanos(500), duration: Duration::from_nanos(1000) })
    }

    #[test]
    fn only_what_lies_between_warm_up_and_end_counts() {
        let mut window = window();
        assert!(!window.counts(1499) && window.counts(1500) && window.counts(2499) && !window.counts(2500));
        window.tick(1499, false);
        assert!(!window.begun() && !window.over() && window.seconds() == 0.0);
        window.tick(2500, false);
        assert!(window.begun() && window.over() && window.seconds() == 1e-6);
    }

    #[test]
    fn idle_is_the_time_before_a_look_in_vain_as_far_as_it_counts() {
        let mut window = window();
        window.tick(1400, true);
        window.tick(1600, true);
        window.tick(1700, false);
        window.tick(1750, true);
        window.tick(2600, false);
        let outcome = window.outcome(Transactions::new());
        assert!((outcome.client_idle - 0.15).abs() < 1e-9, "{}", outcome.client_idle);
        assert!(!outcome.client_limited());
    }

    #[test]
    fn a_client_without_time_to_spare_is_limited_and_rates_are_of_the_counted_time() {
        let mut window = Window::at(0, Plan { warmup: Duration::ZERO, duration: Duration::from_secs(2) });
        window.tick(2_000_000_000, false);
        let mut transactions = Transactions::new();
        transactions.record(5, 25);
        transactions.bytes = 1_000_000_000;
        let outcome = window.outcome(transactions);
        assert!(outcome.client_limited());
        assert_eq!((outcome.rate_per_s(), outcome.goodput_gbps()), (0.5, 4.0));
        assert_eq!(outcome.transaction_figures().latency.p50_ns, 20);
    }
}
