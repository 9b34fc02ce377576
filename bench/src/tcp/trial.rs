//! One trial: for how long, what came of it, and whether the client was what limited it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::arrivals::{Adherence, Arrivals, Schedule};
use crate::course::Course;
use crate::histogram::Latency;
use crate::losses::Counters;
use crate::result::placement::Placement;
use crate::result::{BackEnd, Distribution, Slice, Timestamps, Trial, Unit};
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
    /// Requests go by this clock; `None` is a closed loop.
    pub open_loop: Option<OpenLoop>,
}

/// Requests that are due by the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLoop {
    pub arrivals: Arrivals,
    pub rate_per_s: f64,
}

impl Plan {
    /// A closed loop.
    pub(crate) const fn closed(warmup: Duration, duration: Duration) -> Self {
        Self { warmup, duration, open_loop: None }
    }

    /// The due times from now on, warm-up included, if there are any.
    pub(crate) fn schedule(&self, window: &Window) -> Option<Schedule> {
        let OpenLoop { arrivals, rate_per_s } = self.open_loop?;
        let length_ns = window.until_ns - window.began_ns;
        Some(Schedule::new(arrivals, rate_per_s, window.began_ns, length_ns).warm_from(window.from_ns))
    }
}

/// The part of a trial that counts, and what of it the client spent asking in vain whether anything is ready.
#[derive(Debug)]
pub(crate) struct Window {
    began_ns: u64,
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
        let until_ns = from_ns + plan.duration.as_nanos() as u64;
        Self { began_ns: now_ns, from_ns, until_ns, last_ns: now_ns, idle_ns: 0 }
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

    /// How long ago it ended, by the last note of the time.
    pub(crate) fn since_end_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.until_ns)
    }

    /// From the beginning of the warm-up to the last note of the time.
    pub(crate) fn ran_ns(&self) -> u64 {
        self.last_ns.min(self.until_ns) - self.began_ns
    }

    /// How long it counted so far.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.last_ns.min(self.until_ns).saturating_sub(self.from_ns)).as_secs_f64()
    }

    /// What this window and `transactions` make.
    pub(crate) fn outcome(&self, transactions: Transactions) -> Outcome {
        let seconds = self.seconds();
        let idle = if seconds > 0.0 { self.idle_ns as f64 / 1e9 / seconds } else { 0.0 };
        let Transactions { done, failed, bytes, latency, from_sending, course } = transactions;
        Outcome {
            seconds,
            sent: done,
            transactions: done,
            failed,
            bytes,
            client_idle: idle,
            latency,
            from_sending,
            adherence: None,
            slices: course.finish(self.last_ns),
        }
    }

    /// The same for an open loop with `due` requests, the last answer to which came at `last_ns`: an answer that
    /// came after the end makes the time longer that its rate is told for.
    pub(crate) fn outcome_of_open_loop(
        &self,
        transactions: Transactions,
        due: u64,
        last_ns: u64,
        adherence: Adherence,
    ) -> Outcome {
        let late_ns = last_ns.saturating_sub(self.until_ns);
        let outcome = self.outcome(transactions);
        let seconds = outcome.seconds + Duration::from_nanos(late_ns).as_secs_f64();
        Outcome { seconds, sent: due, adherence: Some(adherence), ..outcome }
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
    /// In an open loop, from the moment of sending.
    from_sending: Option<Latency>,
    pub course: Course,
}

impl Transactions {
    pub(crate) fn of(window: &Window) -> Self {
        let course = Course::new(window.from_ns, window.until_ns);
        Self { done: 0, failed: 0, bytes: 0, latency: Latency::new(), from_sending: None, course }
    }

    /// A transaction that began at `begun_ns` is complete.
    pub(crate) fn record(&mut self, begun_ns: u64, now_ns: u64) {
        self.done += 1;
        self.latency.record(now_ns - begun_ns);
        self.course.record(now_ns - begun_ns);
    }

    /// One is complete that was due before it could be sent.
    pub(crate) fn record_due(&mut self, due_ns: u64, sent_ns: u64, now_ns: u64) {
        self.record(due_ns, now_ns);
        self.from_sending.get_or_insert_with(Latency::new).record(now_ns - sent_ns);
    }
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How long was counted.
    pub seconds: f64,
    /// Requests of which an answer was due.
    pub sent: u64,
    pub transactions: u64,
    pub failed: u64,
    pub bytes: u64,
    /// Part of the time in which nothing was ready for the client.
    pub client_idle: f64,
    /// From the due time, in a closed loop from sending.
    pub latency: Latency,
    pub from_sending: Option<Latency>,
    pub adherence: Option<Adherence>,
    pub slices: Vec<Slice>,
}

/// What a client has to tell.
#[derive(Debug)]
pub(crate) struct Measured {
    pub outcome: Outcome,
    /// From the first SYN to the last connection's being established, where that was looked at.
    pub opening: Option<Duration>,
    /// Counters of its own that grew, by place.
    pub losses: BTreeMap<String, Counters>,
    /// How its frames travelled, if that is known.
    pub how: Option<String>,
}

impl From<Outcome> for Measured {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, opening: None, losses: BTreeMap::new(), how: None }
    }
}

impl Measured {
    /// The same, with further counters.
    pub(crate) fn with_losses(mut self, place: &str, counters: Counters) -> Self {
        if !counters.is_empty() {
            self.losses.insert(place.into(), counters);
        }
        self
    }
}

/// What a trial was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub back_end: BackEnd,
    pub unit: Unit,
    pub connections: u32,
    pub size_bytes: u32,
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

    /// The client may have been the limit: it had no time to spare, or did not keep its schedule.
    pub(crate) fn limited(&self) -> bool {
        self.adherence.map_or(self.client_limited(), |adherence| !adherence.kept)
    }

    /// Latency is the client's too.
    pub(crate) fn late(&self) -> bool {
        self.limited() || self.adherence.is_some_and(|adherence| !adherence.punctual)
    }

    /// The trial as it is written.
    pub(crate) fn trial(&self, measure: &str, setting: Setting, plan: &Plan) -> Trial {
        let Setting { back_end, unit, connections, size_bytes } = setting;
        Trial {
            measure: measure.into(),
            back_end,
            arrivals: plan
                .open_loop
                .map_or(Arrivals::Closed { outstanding: connections.into() }, |open_loop| open_loop.arrivals),
            connections: Some(connections),
            size_bytes,
            mix: Vec::new(),
            source_ports: None,
            source_addresses: None,
            unit,
            asked_per_s: plan.open_loop.map(|open_loop| open_loop.rate_per_s),
            seconds: self.seconds,
            sent: self.sent,
            completed: self.transactions,
            completed_per_s: self.rate_per_s(),
            bytes: self.bytes,
            lost: self.sent.saturating_sub(self.transactions),
            duplicated: 0,
            reordered: 0,
            stale: 0,
            failed: self.failed,
            idle: Some(self.client_idle),
            limited: self.limited(),
            placement: Placement::default(),
            adherence: self.adherence,
            timestamps: Timestamps::Program,
            latency: Distribution::of(&self.latency),
            latency_from_sending: self.from_sending.as_ref().and_then(Distribution::of),
            slices: self.slices.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::at(1000, Plan::closed(Duration::from_nanos(500), Duration::from_nanos(1000)))
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
        let outcome = window.outcome(Transactions::of(&window));
        assert!((outcome.client_idle - 0.15).abs() < 1e-9, "{}", outcome.client_idle);
        assert!(!outcome.client_limited());
    }

    #[test]
    fn a_client_without_time_to_spare_is_limited_and_rates_are_of_the_counted_time() {
        let mut window = Window::at(0, Plan::closed(Duration::ZERO, Duration::from_secs(2)));
        window.tick(2_000_000_000, false);
        let mut transactions = Transactions::of(&window);
        transactions.record(5, 25);
        transactions.bytes = 1_000_000_000;
        let outcome = window.outcome(transactions);
        assert!(outcome.client_limited());
        assert_eq!((outcome.rate_per_s(), outcome.goodput_gbps()), (0.5, 4.0));
        assert_eq!(outcome.latency.summary().p50_ns, 20);
    }
}
