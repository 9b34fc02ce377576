//! The least value of the last five minutes in constant memory (Kathleen Nichols' filter; Linux: win_minmax).
//!
//! ```text
//!            | first quarter | to the half |    second half   |
//!   best ----^      second --^     third --^     each the least since its own time, so each no less than the one before
//! ```
//!
//! When the best grows too old, the second takes its place: the answer is exact while values fall, and never
//! older than the window.

/// Milliseconds that a value counts (RFC 8985, section 6.2 gives no number; Linux: tcp_min_rtt_wlen, 300 s).
const WINDOW_MS: u32 = 300_000;

/// What there is before the first value.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Milliseconds of a clock that wraps; see [`WindowedMinimum::update`].
    at_ms: u32,
    value: u32,
}

impl Sample {
    fn age_ms(self, now_ms: u32) -> u32 {
        now_ms.wrapping_sub(self.at_ms)
    }
}

/// The filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowedMinimum {
    best: Sample,
    second: Sample,
    third: Sample,
}

impl WindowedMinimum {
    /// Nothing measured.
    pub(super) const fn new() -> Self {
        let none = Sample { at_ms: 0, value: NONE };
        Self { best: none, second: none, third: none }
    }

    /// The least value of the window that ended with the last update; `None` before the first.
    pub(super) fn minimum(&self) -> Option<u32> {
        (self.best.value != NONE).then_some(self.best.value)
    }

    /// Takes a value in. `now_ms` may wrap (every 49.7 days): only a connection that measures nothing for
    /// just that long would take an old value for a new one.
    pub(super) fn update(&mut self, now_ms: u32, value: u32) {
        let sample = Sample { at_ms: now_ms, value };
        // A new least value, or a first one in a long time: what came before no longer matters.
        if value <= self.best.value || self.third.age_ms(now_ms) > WINDOW_MS {
            (self.best, self.second, self.third) = (sample, sample, sample);
            return;
        }
        if value <= self.second.value {
            (self.second, self.third) = (sample, sample);
        } else if value <= self.third.value {
            self.third = sample;
        }
        self.shift(sample);
    }

    /// Lets the second take over from a best that is too old, and sees to it that the three lie apart in time.
    fn shift(&mut self, sample: Sample) {
        let age = self.best.age_ms(sample.at_ms);
        if age > WINDOW_MS {
            (self.best, self.second, self.third) = (self.second, self.third, sample);
            // Cannot happen twice more: the third was not too old above.
            if self.best.age_ms(sample.at_ms) > WINDOW_MS {
                (self.best, self.second) = (self.second, self.third);
            }
        } else if self.second.at_ms == self.best.at_ms && age > WINDOW_MS / 4 {
            (self.second, self.third) = (sample, sample);
        } else if self.third.at_ms == self.second.at_ms && age > WINDOW_MS / 2 {
            self.third = sample;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_forgotten_after_the_window_and_not_before() {
        let mut filter = WindowedMinimum::new();
        assert_eq!(filter.minimum(), None);
        filter.update(0, 10);
        (1..=300).for_each(|s| filter.update(s * 1000, 50));
        assert_eq!(filter.minimum(), Some(10));
        filter.update(300_001, 50);
        assert_eq!(filter.minimum(), Some(50));
    }

    #[test]
    fn a_new_least_value_counts_at_once() {
        let mut filter = WindowedMinimum::new();
        [30, 20, 25, 7, 8].iter().zip(0..).for_each(|(&value, ms)| filter.update(ms, value));
        assert_eq!(filter.minimum(), Some(7));
    }

    #[test]
    fn after_a_silence_longer_than_the_window_only_the_new_value_counts() {
        let mut filter = WindowedMinimum::new();
        filter.update(u32::MAX - 5, 10);
        filter.update(WINDOW_MS + 5, 90);
        assert_eq!(filter.minimum(), Some(90));
    }

    #[test]
    fn the_answer_lies_between_the_least_of_the_window_and_the_least_of_its_second_half() {
        let mut filter = WindowedMinimum::new();
        let (mut random, mut history) = (1_u32, Vec::new());
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The clock wraps on the way.
            let now = (u32::MAX - 2_000_000).wrapping_add(step * 1000);
            let value = 1000 + (random >> 20);
            filter.update(now, value);
            history.push(value);
            let least = |seconds: usize| *history.iter().rev().take(seconds).min().unwrap();
            let minimum = filter.minimum().unwrap();
            assert!(minimum >= least(301) && minimum <= least(150), "step {step}");
        }
    }
}
