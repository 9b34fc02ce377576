//! Which connection requests are answered while there are more than anybody could mean.
//!
//! When the backlog is full, answers carry SYN cookies and cost no memory; but each costs the processor as much as a
//! segment of a connection, and a flood takes that away from those. A flood's sources are made up, so it asks each time
//! from another one, and never twice from the same. A host that means it asks again after a second. So up to a rate
//! every request is answered, and beyond it those that come again:
//!
//! ```text
//!   hash of the tuple -> a bit, of this period or of the last?   yes: answer
//!                                                                no:  set it, and drop the request
//! ```
//!
//! Bits are not told apart from those of others, so a part of the flood is answered all the same: at 500,000 a second a
//! million bits of 16 million are set in a period, and one request in nine finds its bit set.

use std::time::Duration;

use crate::base::Instant;

/// Answers a second whatever comes: a busy server's honest requests, and some percent of a core.
const RATE: u64 = 20_000;
/// Answers at once.
const BURST: u64 = 10_000;
/// How long requests are remembered, at the least: a host asks again after 1 s, and then after 2 (RFC 6298, section 2.1).
const PERIOD: Duration = Duration::from_millis(2_500);
/// Bits of a period: 2 MiB, which nobody touches as long as there is no flood.
const BITS: usize = 1 << 24;

/// What was asked for lately.
#[derive(Debug)]
pub(super) struct SynGuard {
    /// When the bucket will be full.
    full_at: Instant,
    seen: [Box<[u64]>; 2],
    /// Which of them is this period's.
    current: usize,
    since: Instant,
    /// Whether the other one has bits of the period before.
    has_last: bool,
}

impl SynGuard {
    pub(super) fn new() -> Self {
        let bits = || vec![0; BITS / 64].into_boxed_slice();
        Self { full_at: Instant::ZERO, seen: [bits(), bits()], current: 0, since: Instant::ZERO, has_last: false }
    }

    /// Whether a request is answered, by the keyed hash of its tuple.
    pub(super) fn admits(&mut self, hash: u64, now: Instant) -> bool {
        self.take_token(now) || self.comes_again(hash, now)
    }

    fn take_token(&mut self, now: Instant) -> bool {
        const INTERVAL_NS: u64 = 1_000_000_000 / RATE;
        let full_at = self.full_at.max(now);
        let has_token = full_at.ns_since(now) < BURST * INTERVAL_NS;
        if has_token {
            self.full_at = full_at.plus_ns(INTERVAL_NS);
        }
        has_token
    }

    fn comes_again(&mut self, hash: u64, now: Instant) -> bool {
        let age = now.since(self.since);
        if age >= PERIOD {
            self.current ^= 1;
            self.seen[self.current].fill(0);
            self.has_last = age < PERIOD * 2;
            self.since = now;
        }
        // The low bits choose a place in the flow table: these are others.
        let bit = (hash >> 20) as usize % BITS;
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        let is_set = |bits: &[u64]| bits.get(word).is_some_and(|word| word & mask != 0);
        if is_set(&self.seen[self.current]) || (self.has_last && is_set(&self.seen[self.current ^ 1])) {
            return true;
        }
        if let Some(word) = self.seen[self.current].get_mut(word) {
            *word |= mask;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_ns(1_000_000_000_000) + Duration::from_millis(ms)
    }

    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn requests_are_answered_up_to_a_rate_and_beyond_it_when_they_come_again() {
        let mut guard = SynGuard::new();
        assert!((0..BURST).all(|n| guard.admits(hash(n), at(0))));
        // 500,000 a second for five seconds, each from another source; one honest host among them.
        let (mut answered, mut n) = (0_u32, BURST);
        let honest = hash(u64::MAX);
        let mut tries = Vec::new();
        for ms in 0..5_000 {
            for _ in 0..500 {
                n += 1;
                answered += u32::from(guard.admits(hash(n), at(ms)));
            }
            if [100, 1_100, 3_100].contains(&ms) {
                tries.push(guard.admits(honest, at(ms)));
            }
        }
        assert!(tries[1] && tries[2], "it asks again, and is answered: {tries:?}");
        let share = f64::from(answered) / 2_500_000.0;
        assert!(share < 0.2, "{share} of the flood are answered");
    }

    #[test]
    fn what_was_asked_for_long_ago_is_forgotten() {
        let mut guard = SynGuard::new();
        (0..BURST).for_each(|n| assert!(guard.admits(hash(n), at(0))));
        assert!(!guard.comes_again(hash(77_777), at(0)));
        assert!(guard.comes_again(hash(77_777), at(2_400)));
        assert!(!guard.comes_again(hash(77_777), at(60_000)));
    }
}
