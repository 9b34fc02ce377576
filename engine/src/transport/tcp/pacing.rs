//! Pacing: a window's segments spread over the round trip, so that they fill no queue in a burst.

use std::time::Duration;

use crate::base::Instant;

/// Percent of cwnd / SRTT while the window may still double (Linux: tcp_pacing_ss_ratio).
const SLOW_START_PERCENT: u64 = 200;
/// Percent of cwnd / SRTT after it: enough for the window to be used up within the round trip, with room for the
/// growth of it (Linux: tcp_pacing_ca_ratio).
const AVOIDANCE_PERCENT: u64 = 120;
/// Lateness that may be made up for: a tick of the timers. So much goes out in one burst at most, as in Linux,
/// which builds packets of a millisecond's data (tcp_tso_autosize).
const TICK: Duration = Duration::from_millis(1);

/// How fast a connection sends: the time that a number of bytes takes.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The window, in bytes.
    pub window: u32,
    /// The slow start threshold, in bytes.
    pub ssthresh: u32,
    /// The smoothed round-trip time; zero if it is not known, which is as fast as can be.
    pub srtt: Duration,
}

impl Rate {
    /// The time that so many bytes take: `bytes / (ratio * cwnd / SRTT)`.
    #[must_use]
    pub fn interval(&self, bytes: u32) -> Duration {
        // Above half of ssthresh a doubling would overshoot it, so the slower ratio holds already, as in Linux.
        let percent = if self.window < self.ssthresh / 2 { SLOW_START_PERCENT } else { AVOIDANCE_PERCENT };
        let srtt_ns = u64::try_from(self.srtt.as_nanos()).unwrap_or(u64::MAX);
        let share = u64::from(bytes).saturating_mul(100).saturating_mul(srtt_ns);
        Duration::from_nanos(share / (u64::from(self.window.max(1)) * percent))
    }
}

/// When the next segment may be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacing {
    next: Instant,
}

impl Pacing {
    /// When the next segment may be sent; the past, if it may be at once.
    #[must_use]
    pub const fn next_send_time(&self) -> Instant {
        self.next
    }

    /// A segment of so many bytes was sent.
    pub fn on_sent(&mut self, now: Instant, bytes: u32, rate: &Rate) {
        self.next = self.next.max(now - TICK) + rate.interval(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant::from_ns(ms * 1_000_000)
    }

    #[test]
    fn slow_start_sends_two_windows_in_a_round_trip_and_congestion_avoidance_six_fifths() {
        let slow_start = Rate { window: 10_000, ssthresh: u32::MAX, srtt: SRTT };
        assert_eq!(slow_start.interval(1000), Duration::from_millis(5));
        let avoidance = Rate { ssthresh: 10_000, ..slow_start };
        assert_eq!(avoidance.interval(12_000), SRTT);
    }

    #[test]
    fn segments_leave_an_interval_apart_and_idle_time_saves_up_no_burst() {
        let rate = Rate { window: 10_000, ssthresh: u32::MAX, srtt: SRTT };
        let mut pacing = Pacing::default();
        assert_eq!(pacing.next_send_time(), Instant::ZERO);
        pacing.on_sent(at(1000), 1000, &rate);
        assert_eq!(pacing.next_send_time(), at(1004), "5 ms, less the tick that it may be late");
        pacing.on_sent(pacing.next_send_time(), 1000, &rate);
        pacing.on_sent(pacing.next_send_time(), 1000, &rate);
        assert_eq!(pacing.next_send_time(), at(1014));
    }

    #[test]
    fn a_timer_that_ticks_every_millisecond_costs_no_rate() {
        let rate = Rate { window: 100_000, ssthresh: u32::MAX, srtt: SRTT };
        let mut pacing = Pacing::default();
        // A segment takes half a millisecond.
        let sent = (0..1000).map(|ms| {
            let mut sent = 0;
            while pacing.next_send_time() <= at(ms) {
                pacing.on_sent(at(ms), 1000, &rate);
                sent += 1;
            }
            sent
        });
        let sent: u32 = sent.sum();
        assert!((1999..=2003).contains(&sent), "{sent} of 2,000 in a second");
    }

    #[test]
    fn extremes_do_not_overflow() {
        let rate = Rate { window: 0, ssthresh: 0, srtt: Duration::MAX };
        let mut pacing = Pacing::default();
        pacing.on_sent(at(1), u32::MAX, &rate);
        pacing.on_sent(at(2), u32::MAX, &rate);
        assert!(pacing.next_send_time() > at(2));
        assert_eq!(Rate { srtt: Duration::ZERO, ..rate }.interval(u32::MAX), Duration::ZERO);
    }
}
