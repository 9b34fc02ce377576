//! When requests are due, and how well the generator kept to that.
//!
//! ```text
//!  closed      the next when an answer has come: the server sets the pace, and its stalls hide most requests
//!  constant    | | | | | | | |       one every 1/rate
//!  poisson     ||  | |||   |  |      independent users: gaps with an exponential distribution
//!  ramp        |   |  |  | | ||||    from nothing to the rate at the end
//!  burst       ||||    ||||    ||||  so many at once, the rate on average
//! ```
//!
//! All but the first are open loops: a request is due at its time whatever came back before, and latency counts
//! from there. What a stall of the server delays is so counted in full.

use serde::{Deserialize, Serialize};

use crate::histogram::Latency;

/// Sent less than this part of what was due: the trial shows the generator, not the server.
const KEPT: f64 = 0.9;
/// One request in a hundred later than this: latency, which counts from the due time, shows the generator too.
const LATE_NS: u64 = 1_000_000;

/// What decides when the next request goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// As fast as the generator can, whatever comes back.
    Flood,
    /// So many outstanding, each followed by the next.
    Closed {
        outstanding: u64,
    },
    Constant,
    Poisson {
        seed: u64,
    },
    Ramp,
    /// So many due at once.
    Burst {
        len: u64,
    },
}

/// The open loops, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Process {
    /// Evenly spaced
    Constant,
    /// Independent of each other, as from many users
    Poisson,
    /// Ever more, up to the rate at the end
    Ramp,
    /// Several at once (`--burst`), evenly spaced
    Burst,
}

/// How the open loop is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct ArrivalArgs {
    /// How requests are spread over time
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Process,
    /// Requests that are due at once, with `--arrivals burst`
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(2..=65536))]
    pub burst: u64,
    /// Seed of the arrivals, to repeat a Poisson process
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl ArrivalArgs {
    /// What was asked for.
    pub(crate) fn open_loop(&self) -> Arrivals {
        match self.arrivals {
            Process::Constant => Arrivals::Constant,
            Process::Poisson => Arrivals::Poisson { seed: self.seed },
            Process::Ramp => Arrivals::Ramp,
            Process::Burst => Arrivals::Burst { len: self.burst },
        }
    }
}

impl Arrivals {
    /// In words.
    pub(crate) fn describe(self, rate_per_s: Option<f64>) -> String {
        let rate = rate_per_s.unwrap_or_default();
        match self {
            Self::Flood => "as many as possible".into(),
            Self::Closed { outstanding } => format!("closed loop, {outstanding} outstanding"),
            Self::Constant => format!("asked {rate:.0}/s"),
            Self::Poisson { .. } => format!("asked {rate:.0}/s, Poisson"),
            Self::Ramp => format!("asked a ramp up to {rate:.0}/s"),
            Self::Burst { len } => format!("asked {rate:.0}/s in bursts of {len}"),
        }
    }

    /// What latency counts from.
    pub(crate) const fn latency_from(self) -> &'static str {
        match self {
            Self::Closed { .. } => "from sending",
            _ => "from the intended time",
        }
    }
}

/// The moments at which requests are due, one after the other.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    start_ns: u64,
    interval_ns: f64,
    duration_ns: f64,
    /// Requests taken.
    index: u64,
    /// Requests that the generator turned to.
    served: u64,
    /// When the next is due, from the start.
    offset_ns: f64,
    random: fastrand::Rng,
    /// Before this, lag does not count.
    warm_ns: u64,
    lag: Latency,
}

impl Schedule {
    /// `rate_per_s` on average (of a ramp: at its end) from `start_ns` on, for `duration_ns`.
    pub(crate) fn new(arrivals: Arrivals, rate_per_s: f64, start_ns: u64, duration_ns: u64) -> Self {
        let seed = if let Arrivals::Poisson { seed } = arrivals { seed } else { 0 };
        let mut schedule = Self {
            arrivals,
            start_ns,
            interval_ns: 1e9 / rate_per_s,
            duration_ns: duration_ns as f64,
            index: 0,
            served: 0,
            offset_ns: 0.0,
            random: fastrand::Rng::with_seed(seed),
            warm_ns: start_ns,
            lag: Latency::new(),
        };
        if let Arrivals::Poisson { .. } | Arrivals::Ramp = arrivals {
            schedule.step();
        }
        schedule
    }

    /// The same, but what is due before `warm_ns` is warm-up, whose lag does not count.
    pub(crate) fn warm_from(self, warm_ns: u64) -> Self {
        Self { warm_ns, ..self }
    }

    /// When the next request is due.
    pub(crate) fn next_ns(&self) -> u64 {
        self.start_ns + self.offset_ns as u64
    }

    /// The due time of the next request, if that is not later than `now_ns`; it is taken then.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns();
        if due_ns > now_ns || self.offset_ns >= self.duration_ns {
            return None;
        }
        self.index += 1;
        self.step();
        Some(due_ns)
    }

    /// The generator turned to a request that it had taken.
    pub(crate) fn turned_to(&mut self, due_ns: u64, now_ns: u64) {
        self.served += 1;
        if due_ns >= self.warm_ns {
            self.lag.record(now_ns - due_ns);
        }
    }

    /// Requests that are due by the end.
    pub(crate) fn due_by_the_end(&self) -> u64 {
        match self.arrivals {
            Arrivals::Ramp => (self.duration_ns / self.interval_ns / 2.0) as u64,
            _ => (self.duration_ns / self.interval_ns) as u64,
        }
    }

    /// How well it was kept.
    pub(crate) fn adherence(&self, ran_ns: u64) -> Adherence {
        let part = (ran_ns as f64 / self.duration_ns).min(1.0);
        // A ramp interrupted at half its time has asked for a quarter.
        let part = if self.arrivals == Arrivals::Ramp { part * part } else { part };
        let due = self.due_by_the_end() as f64 * part;
        Adherence::of(if due >= 1.0 { self.served as f64 / due } else { 1.0 }, &self.lag)
    }

    /// Moves on to the next due time.
    fn step(&mut self) {
        let index = self.index as f64;
        match self.arrivals {
            Arrivals::Poisson { .. } => self.offset_ns -= (1.0 - self.random.f64()).ln() * self.interval_ns,
            // n requests are due after t where n = t^2 / (2 * duration * interval).
            Arrivals::Ramp => self.offset_ns = ((index + 1.0) * 2.0 * self.duration_ns * self.interval_ns).sqrt(),
            Arrivals::Burst { len } => self.offset_ns = (self.index / len * len) as f64 * self.interval_ns,
            _ => self.offset_ns = index * self.interval_ns,
        }
    }
}

/// When requests are due, from the start of a trial that lasts so long.
pub(crate) fn due_times(arrivals: Arrivals, rate_per_s: f64, duration_ns: u64) -> impl Iterator<Item = u64> {
    let mut schedule = Schedule::new(arrivals, rate_per_s, 0, duration_ns);
    std::iter::from_fn(move || schedule.take(u64::MAX))
}

/// How well a generator kept its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adherence {
    /// Requests that the generator turned to, of those due: near 1.
    pub taken: f64,
    /// From the moment that a request was due to the moment that the generator turned to it.
    pub lag_p50_ns: u64,
    pub lag_p99_ns: u64,
    pub lag_max_ns: u64,
    /// Enough was sent for the rate to be the server's.
    pub kept: bool,
    /// Early enough for the latency to be the server's.
    pub punctual: bool,
}

impl Adherence {
    /// Of a generator that took the part `taken` of what was due, each so late.
    pub(crate) fn of(taken: f64, lag: &Latency) -> Self {
        let lag = lag.summary();
        Self {
            taken,
            lag_p50_ns: lag.p50_ns,
            lag_p99_ns: lag.p99_ns,
            lag_max_ns: lag.max_ns,
            kept: taken >= KEPT,
            punctual: lag.p99_ns <= LATE_NS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// All due times of a second at 1,000 a second, from 5 s on.
    fn all(arrivals: Arrivals) -> Vec<u64> {
        let mut schedule = Schedule::new(arrivals, 1000.0, 5 * SECOND, SECOND);
        std::iter::from_fn(|| schedule.take(u64::MAX)).map(|due| due - 5 * SECOND).collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced_and_the_first_is_due_at_the_start() {
        let due = all(Arrivals::Constant);
        assert_eq!((due.len(), due[0], due[1], due[999]), (1000, 0, 1_000_000, 999_000_000));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential_distribution_and_repeat_by_seed() {
        let mut schedule = Schedule::new(Arrivals::Poisson { seed: 7 }, 1e5, 0, SECOND);
        let due: Vec<f64> = std::iter::from_fn(|| schedule.take(u64::MAX)).map(|due| due as f64).collect();
        // 100,000 expected with a standard deviation of 316.
        assert!((98_500..101_500).contains(&due.len()), "{}", due.len());
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.03, "{deviation} {mean}");
        assert_eq!(all(Arrivals::Poisson { seed: 7 }), all(Arrivals::Poisson { seed: 7 }));
        assert_ne!(all(Arrivals::Poisson { seed: 7 }), all(Arrivals::Poisson { seed: 8 }));
    }

    #[test]
    fn a_ramp_asks_for_half_in_all_and_for_a_quarter_of_that_in_its_first_half() {
        let due = all(Arrivals::Ramp);
        let first_half = due.iter().filter(|due| **due < SECOND / 2).count();
        assert!((498..=500).contains(&due.len()) && (123..=126).contains(&first_half), "{} {first_half}", due.len());
        assert!(due.is_sorted());
    }

    #[test]
    fn bursts_are_due_at_once_and_keep_the_rate_on_average() {
        let due = all(Arrivals::Burst { len: 10 });
        assert_eq!((due.len(), due[9], due[10], due[19]), (1000, 0, 10_000_000, 10_000_000));
    }

    #[test]
    fn nothing_is_taken_before_it_is_due_and_what_is_late_is_told() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1000.0, 0, SECOND);
        assert_eq!((schedule.take(0), schedule.take(999_999)), (Some(0), None));
        schedule.turned_to(0, 0);
        for index in 1..1000 {
            let now_ns = index * 1_000_000 + 500;
            let due_ns = schedule.take(now_ns).unwrap();
            schedule.turned_to(due_ns, now_ns);
        }
        let adherence = schedule.adherence(SECOND);
        assert!(adherence.kept && adherence.punctual && adherence.taken == 1.0, "{adherence:?}");
        assert!((495..=505).contains(&adherence.lag_p99_ns), "{adherence:?}");
    }

    #[test]
    fn a_generator_that_takes_too_few_did_not_keep_its_schedule_and_one_that_is_late_was_not_punctual() {
        let mut few = Schedule::new(Arrivals::Constant, 1000.0, 0, SECOND);
        (0..800).for_each(|index| few.turned_to(index * 1_000_000, index * 1_000_000));
        assert!(!few.adherence(SECOND).kept);
        assert!(few.adherence(SECOND * 8 / 10).kept, "it was interrupted, not slow");
        let mut late = Schedule::new(Arrivals::Constant, 1000.0, 0, SECOND);
        while let Some(due_ns) = late.take(2 * SECOND) {
            late.turned_to(due_ns, 2 * SECOND);
        }
        let adherence = late.adherence(SECOND);
        assert!(adherence.kept && !adherence.punctual, "{adherence:?}");
    }
}
