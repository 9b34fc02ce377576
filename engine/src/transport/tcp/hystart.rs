//! HyStart++ (RFC 9406): leaves slow start when the round trip grows, before the queue overflows.
//!
//! ```text
//!   slow start --- round trip grew ---> conservative slow start --- 5 rounds ---> congestion avoidance
//!        ^                                        |
//!        +---- round trip shrank again -----------+
//! ```
//!
//! Only for the initial slow start: later ones end at an ssthresh that was found out (section 4.3).

use std::time::Duration;

use crate::wire::seq::SeqNum;

// The constants of RFC 9406, section 4.3.

/// Least growth of the round trip that counts: less than this is noise.
const MIN_RTT_THRESH_US: u32 = 4_000;
/// Growth that always counts: on a long path an eighth would be a queue of its own.
const MAX_RTT_THRESH_US: u32 = 16_000;
/// The part of a round trip in between.
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples of a round before its least one is trusted.
const N_RTT_SAMPLE: u8 = 8;
/// How much slower conservative slow start grows.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// Rounds of conservative slow start before congestion avoidance.
const CSS_ROUNDS: u8 = 5;

/// No round-trip time yet, as in the RFC.
const INFINITY: u32 = u32::MAX;

/// The variables of RFC 9406, section 4.2, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// `windowEnd`; meaningless before the first round.
    window_end: SeqNum,
    /// `lastRoundMinRTT`.
    last_round_min_us: u32,
    /// `currentRoundMinRTT`.
    current_round_min_us: u32,
    /// `cssBaselineMinRtt`, infinity outside of conservative slow start.
    css_baseline_us: u32,
    /// `rttSampleCount`.
    samples: u8,
    /// Rounds of conservative slow start that are complete.
    css_rounds: u8,
    /// Whether the first round has begun.
    started: bool,
}

impl HyStart {
    pub(super) const fn new(start: SeqNum) -> Self {
        Self {
            window_end: start,
            last_round_min_us: INFINITY,
            current_round_min_us: INFINITY,
            css_baseline_us: INFINITY,
            samples: 0,
            css_rounds: 0,
            started: false,
        }
    }

    /// Whether this is conservative slow start.
    pub(super) const fn is_conservative(&self) -> bool {
        self.css_baseline_us != INFINITY
    }

    /// What an acknowledgment of so many bytes adds to the window.
    ///
    /// > cwnd = cwnd + (min(N, L * SMSS) / CSS_GROWTH_DIVISOR) (section 4.2)
    pub(super) const fn growth(&self, bytes: u32) -> u32 {
        if self.is_conservative() { bytes / CSS_GROWTH_DIVISOR } else { bytes }
    }

    /// Takes an acknowledgment in. Whether slow start is over:
    ///
    /// > If CSS_ROUNDS rounds are complete, enter congestion avoidance by setting the ssthresh to the current
    /// > cwnd. (section 4.2)
    pub(super) fn on_ack(&mut self, una: SeqNum, nxt: SeqNum, rtt: Option<Duration>) -> bool {
        if !self.started {
            self.started = true;
            self.start_round(nxt);
        }
        if let Some(rtt) = rtt {
            let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(INFINITY);
            self.current_round_min_us = self.current_round_min_us.min(rtt_us);
            self.samples = self.samples.saturating_add(1);
        }
        if self.samples >= N_RTT_SAMPLE {
            self.compare();
        }
        // "When windowEnd is ACKed, the current round ends" (section 4.2)
        if una.before(self.window_end) {
            return false;
        }
        self.start_round(nxt);
        // "If the transition into CSS happens in the middle of a round, that partial round counts towards the
        // limit." (section 4.2)
        self.css_rounds += u8::from(self.is_conservative());
        self.css_rounds >= CSS_ROUNDS
    }

    fn start_round(&mut self, nxt: SeqNum) {
        self.window_end = nxt;
        self.last_round_min_us = self.current_round_min_us;
        self.current_round_min_us = INFINITY;
        self.samples = 0;
    }

    /// Compares the round trip of this round with the one of the last, or with the one that slow start was left
    /// for.
    fn compare(&mut self) {
        let current_us = self.current_round_min_us;
        if self.is_conservative() {
            // "[...] if the current round's minRTT drops below baseline (cssBaselineMinRtt) indicating that slow
            // start exit was spurious: [...] resume slow start including HyStart++" (section 4.2)
            if current_us < self.css_baseline_us {
                self.css_baseline_us = INFINITY;
                self.css_rounds = 0;
            }
            return;
        }
        // "RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH))"
        let last_us = self.last_round_min_us;
        let threshold_us = (last_us / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH_US, MAX_RTT_THRESH_US);
        // "if (currentRoundMinRTT >= (lastRoundMinRTT + RttThresh)) [...] exit slow start and enter CSS"
        if last_us != INFINITY && current_us >= last_us.saturating_add(threshold_us) {
            self.css_baseline_us = current_us;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten acknowledgments of one round, each with the same round trip, and then the data of the next is sent;
    /// whether slow start ended.
    fn round(hystart: &mut HyStart, una: &mut SeqNum, rtt_us: u64) -> bool {
        let end = *una + 10;
        let mut over = false;
        while una.before(end) {
            *una += 1;
            let nxt = if *una == end { end + 10 } else { end };
            over |= hystart.on_ack(*una, nxt, Some(Duration::from_micros(rtt_us)));
        }
        over
    }

    /// Whether a growth from one round trip to another leads into conservative slow start.
    fn leaves(from_us: u64, to_us: u64) -> bool {
        // Near the end of the sequence numbers, so that they wrap on the way.
        let mut una = SeqNum::new(u32::MAX - 15);
        let mut hystart = HyStart::new(una);
        (0..3).for_each(|_| assert!(!round(&mut hystart, &mut una, from_us)));
        (0..2).for_each(|_| assert!(!round(&mut hystart, &mut una, to_us)));
        hystart.is_conservative()
    }

    /// RFC 9406, section 4.3: 4 ms, an eighth, 16 ms.
    #[test]
    fn slow_start_is_left_when_the_round_trip_grows_by_the_threshold_and_not_for_less() {
        for (rtt_us, threshold_us) in [(1_000, 4_000), (32_000, 4_000), (80_000, 10_000), (300_000, 16_000)] {
            assert!(leaves(rtt_us, rtt_us + threshold_us), "{rtt_us}");
            assert!(!leaves(rtt_us, rtt_us + threshold_us - 1), "{rtt_us}");
            assert!(!leaves(rtt_us, rtt_us / 2), "{rtt_us}");
        }
    }

    #[test]
    fn seven_samples_are_not_enough() {
        let mut una = SeqNum::new(0);
        let mut hystart = HyStart::new(una);
        round(&mut hystart, &mut una, 10_000);
        let mut conservative_after = |rtt| {
            // All in one round, because una stays.
            assert!(!hystart.on_ack(una, una + 10, rtt));
            hystart.is_conservative()
        };
        let slow = Some(Duration::from_millis(50));
        assert!((0..7).all(|_| !conservative_after(slow)));
        assert!((0..20).all(|_| !conservative_after(None)));
        assert!(conservative_after(slow));
    }

    #[test]
    fn slow_start_is_over_after_five_rounds_at_a_quarter_of_the_growth() {
        let mut una = SeqNum::new(7);
        let mut hystart = HyStart::new(una);
        (0..4).for_each(|_| assert!(!round(&mut hystart, &mut una, 20_000)));
        assert_eq!(hystart.growth(1460), 1460);
        let rounds = (1..20).find(|_| round(&mut hystart, &mut una, 40_000));
        assert_eq!(hystart.growth(1460), 365);
        // The first of them only in part: its first seven acknowledgments came before.
        assert_eq!(rounds, Some(5));
    }

    #[test]
    fn slow_start_goes_on_when_the_round_trip_shrinks_again() {
        let mut una = SeqNum::new(7);
        let mut hystart = HyStart::new(una);
        (0..4).for_each(|_| assert!(!round(&mut hystart, &mut una, 20_000)));
        (0..3).for_each(|_| assert!(!round(&mut hystart, &mut una, 40_000)));
        assert!(hystart.is_conservative());
        (0..20).for_each(|_| assert!(!round(&mut hystart, &mut una, 20_000)));
        assert!(!hystart.is_conservative());
        // And can be left once more, for five whole rounds.
        assert_eq!((1..20).find(|_| round(&mut hystart, &mut una, 40_000)), Some(5));
    }
}
