//! What became of all requests together.

use std::time::Duration;

use crate::base::Instant;

/// Counts and times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests, sent or refused.
    pub transmitted: u64,
    /// Requests that were answered.
    pub received: u64,
    /// Further replies to requests that were answered before.
    pub duplicates: u64,
    /// Requests that there was an error about.
    pub errors: u64,
    /// Replies that do not carry what the request did.
    pub damaged: u64,
    first_at: Option<Instant>,
    last_at: Instant,
    shortest_ns: u64,
    longest_ns: u64,
    /// Sums over all requests that were answered.
    sum_ns: u128,
    sum_of_squares: u128,
}

/// How long replies took, duplicates left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrips {
    /// The shortest time.
    pub min: Duration,
    /// The mean.
    pub avg: Duration,
    /// The longest time.
    pub max: Duration,
    /// The standard deviation, which `ping` has called so since it was a mean deviation.
    pub mdev: Duration,
}

impl Statistics {
    pub(super) fn sent(&mut self, now: Instant) {
        self.transmitted += 1;
        self.first_at.get_or_insert(now);
        self.last_at = now;
    }

    pub(super) fn received(&mut self, now: Instant, round_trip: Duration, duplicate: bool, damaged: bool) {
        self.last_at = now;
        self.damaged += u64::from(damaged);
        if duplicate {
            self.duplicates += 1;
            return;
        }
        let ns = round_trip.as_nanos() as u64;
        self.shortest_ns = if self.received == 0 { ns } else { self.shortest_ns.min(ns) };
        self.longest_ns = self.longest_ns.max(ns);
        self.sum_ns += u128::from(ns);
        self.sum_of_squares += u128::from(ns) * u128::from(ns);
        self.received += 1;
    }

    /// Requests that were not answered, of a hundred.
    #[must_use]
    pub fn loss_percent(&self) -> f64 {
        if self.transmitted == 0 {
            return 0.0;
        }
        (self.transmitted - self.received) as f64 * 100.0 / self.transmitted as f64
    }

    /// Time from the first request to the last request or reply.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.first_at.map_or(Duration::ZERO, |first| self.last_at.since(first))
    }

    /// How long replies took, if there were any.
    #[must_use]
    pub fn round_trips(&self) -> Option<RoundTrips> {
        let count = u128::from(self.received);
        let avg_ns = self.sum_ns.checked_div(count)?;
        // Not below zero but for what the divisions cut off.
        let variance = self.sum_of_squares.checked_div(count)?.saturating_sub(avg_ns * avg_ns);
        let from_ns = |ns: u128| Duration::from_nanos(ns as u64);
        Some(RoundTrips {
            min: Duration::from_nanos(self.shortest_ns),
            avg: from_ns(avg_ns),
            max: Duration::from_nanos(self.longest_ns),
            mdev: from_ns(variance.isqrt()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn times_are_of_replies_but_not_of_duplicates() {
        let mut statistics = Statistics::default();
        assert_eq!((statistics.round_trips(), statistics.span()), (None, Duration::ZERO));
        let at = |ms: u32| Instant::ZERO + MS * ms;
        for (sent, took) in [(0, 2), (10, 4), (20, 4), (30, 4), (40, 5), (50, 5), (60, 7), (70, 9)] {
            statistics.sent(at(sent));
            statistics.received(at(sent + took), MS * took, false, false);
        }
        statistics.received(at(90), 90 * MS, true, true);
        let times = RoundTrips { min: 2 * MS, avg: 5 * MS, max: 9 * MS, mdev: 2 * MS };
        assert_eq!(statistics.round_trips(), Some(times));
        assert_eq!((statistics.received, statistics.duplicates, statistics.damaged), (8, 1, 1));
        assert_eq!(statistics.span(), 90 * MS);
    }

    #[test]
    fn loss_is_told_in_percent() {
        let mut statistics = Statistics::default();
        assert_eq!(statistics.loss_percent().to_bits(), 0.0_f64.to_bits());
        for _ in 0..3 {
            statistics.sent(Instant::ZERO);
        }
        statistics.received(Instant::ZERO, MS, false, false);
        assert!((statistics.loss_percent() - 66.666_666).abs() < 1e-4);
    }
}
