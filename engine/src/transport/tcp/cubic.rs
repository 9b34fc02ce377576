//! CUBIC (RFC 9438): the window is a cubic function of the time since the last loss, flat where that loss was.
//!
//! ```text
//!   window                                         /      W_cubic(t) = C * (t - K)^3 + W_max
//!   W_max  |           . - - - - - - - - - - - - - /
//!          |\        /        ______------------'         concave until K, where W_max is reached again,
//!          | \      /      /                              convex after it
//!          |  \    /    /
//!   0.7    |   `--'--'
//!          +---------|--------------------|---------- t
//!                    0                    K
//! ```
//!
//! All in integers, so that a simulation gives the same on every machine. Time is counted in milliseconds, as
//! in Linux: where round trips are shorter, the window follows Reno's (section 4.3).
//!
//! An increase is per byte acknowledged, and not per acknowledgment as sections 4.4 and 4.5 have it: the same
//! for whole segments, and a receiver that cuts its acknowledgments into pieces gains nothing.

use std::time::Duration;

use crate::base::Instant;

/// beta_cubic = 0.7 (RFC 9438, section 4.6), as a fraction.
const BETA: (u32, u32) = (7, 10);
/// (1 + beta_cubic) / 2 = 0.85 (section 4.7), as a fraction.
const FAST_CONVERGENCE: (u32, u32) = (17, 20);
/// alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic) = 0.9 / 1.7 (section 4.3), as a fraction.
const ALPHA: (u64, u64) = (9, 17);
/// Distances from K that are told apart: 2^21 ms are 35 minutes, after which C * t^3 alone is 3.7 * 10^9
/// segments. Its cube fits 64 bits.
const LONGEST_MS: u32 = (1 << 21) - 1;

/// An acknowledgment in congestion avoidance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) now: Instant,
    /// Bytes acknowledged.
    pub(super) acked: u32,
    /// The smoothed round-trip time.
    pub(super) srtt: Duration,
    pub(super) mss: u32,
}

/// What CUBIC remembers: section 4.1.2's variables, in bytes and milliseconds.
///
/// It begins without a `W_max` and with a `cwnd_prior` below any window. So where HyStart++ ends the first slow
/// start without a loss, congestion avoidance starts at its plateau, as section 4.10 wants it: "K is set to 0, and
/// W_max is set to the congestion window size at the beginning of the current congestion avoidance stage."
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cubic {
    /// `W_max`; zero where there is none, before the first loss and after a timeout.
    w_max: u32,
    /// `K`.
    k_ms: u32,
    /// `t_epoch`: when the current stage of congestion avoidance began, moved on by all the time in which the
    /// window could not grow. Meaningless outside of one.
    epoch_ms: u32,
    /// The last acknowledgment.
    last_ms: u32,
    /// `W_est`.
    w_est: u32,
    /// What is left of `W_est`'s growth, in bytes times the window.
    w_est_rest: u32,
    /// What is left of the window's growth, in bytes times the window.
    growth_rest: u32,
    /// `cwnd_prior`; zero before the first loss.
    cwnd_prior: u32,
    /// Whether a stage of congestion avoidance has begun.
    in_epoch: bool,
}

impl Cubic {
    /// The window after an acknowledgment in congestion avoidance that may grow it.
    ///
    /// > To summarize, CUBIC computes both W_cubic(t) and W_est (see Section 4.3) on receiving a new ACK in
    /// > congestion avoidance and chooses the larger of the two values. (section 4.2)
    pub(super) fn on_ack(&mut self, window: u32, ack: &Growth) -> u32 {
        self.last_ms = milliseconds(ack.now);
        if !self.in_epoch {
            self.start_epoch(window, ack.mss);
        }
        // No acknowledgment counts for more than a round trip.
        let acked = ack.acked.min(window);
        self.grow_estimate(window, acked, ack.mss);
        let t_ms = since(self.last_ms, self.epoch_ms);
        // "[...] CUBIC is in the Reno-friendly region and cwnd SHOULD be set to W_est at each reception of a new
        // ACK." (section 4.3)
        if self.w_cubic(t_ms, ack.mss) < self.w_est {
            return window.max(self.w_est);
        }
        // "The lower and upper bounds below ensure that CUBIC's congestion window increase rate is
        // non-decreasing and is less than the increase rate of slow start." (section 4.2)
        let rtt_ms = u32::try_from(ack.srtt.as_millis()).unwrap_or(LONGEST_MS);
        let next = self.w_cubic(t_ms.saturating_add(rtt_ms), ack.mss);
        let target = next.clamp(window, window.saturating_add(window / 2));
        // "[...] cwnd MUST be incremented by (target - cwnd) / cwnd for each received new ACK" (sections 4.4, 4.5)
        let growth = u64::from(target - window) * u64::from(acked) + u64::from(self.growth_rest);
        self.growth_rest = (growth % u64::from(window)) as u32;
        window.saturating_add((growth / u64::from(window)) as u32)
    }

    /// An acknowledgment that may not grow the window.
    ///
    /// > The elapsed time t in Figure 1 MUST NOT include periods during which cwnd has not been updated due to
    /// > application-limited behavior (section 4.2)
    #[inline]
    pub(super) const fn hold(&mut self, now: Instant) {
        let now_ms = milliseconds(now);
        self.epoch_ms = self.epoch_ms.wrapping_add(since(now_ms, self.last_ms));
        self.last_ms = now_ms;
    }

    /// Nothing was sent for `idle`, which does not count either.
    pub(super) fn on_idle(&mut self, idle: Duration) {
        // As much as can matter, and far from where the clock wraps.
        let idle_ms = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX).min(i32::MAX as u32);
        self.epoch_ms = self.epoch_ms.wrapping_add(idle_ms);
        self.last_ms = self.last_ms.wrapping_add(idle_ms);
    }

    /// The slow start threshold after a congestion event at this window, before its floor.
    pub(super) fn reduce(&mut self, window: u32, flight_size: u32) -> u32 {
        // "[...] if cwnd < W_max and fast convergence enabled, further reduce W_max; otherwise, remember cwnd
        // before reduction" (section 4.7)
        self.w_max = if window < self.w_max { fraction(window, FAST_CONVERGENCE) } else { window };
        self.cwnd_prior = window;
        self.in_epoch = false;
        // "ssthresh = flight_size * beta_cubic" (section 4.6)
        fraction(flight_size, BETA)
    }

    /// The slow start threshold after a timeout at this window, before its floor.
    ///
    /// > In case of a timeout, CUBIC follows Reno to reduce cwnd [...] but sets ssthresh using beta_cubic (section 4.8)
    ///
    /// The next stage begins at its plateau: "K is set to 0, and W_max is set to the congestion window size at
    /// the beginning of the current congestion avoidance stage".
    pub(super) fn reduce_by_timeout(&mut self, window: u32, flight_size: u32) -> u32 {
        let ssthresh = self.reduce(window, flight_size);
        self.w_max = 0;
        ssthresh
    }

    /// Segments shrank, and the window with them, from `old` to `new` bytes: the curve starts anew.
    pub(super) fn scale(&mut self, old: u32, new: u32) {
        let scale = |bytes: u32| (u64::from(bytes) * u64::from(new) / u64::from(old.max(1))) as u32;
        self.w_max = scale(self.w_max);
        self.cwnd_prior = scale(self.cwnd_prior);
        self.in_epoch = false;
    }

    fn start_epoch(&mut self, window: u32, mss: u32) {
        self.in_epoch = true;
        self.epoch_ms = self.last_ms;
        // "W_est is set equal to cwnd_epoch at the start of the congestion avoidance stage." (section 4.3)
        self.w_est = window;
        (self.w_est_rest, self.growth_rest) = (0, 0);
        // "K = cubic_root((W_max - cwnd_epoch) / C)" (section 4.2, figure 2) in seconds and segments. With C = 0.4
        // K^3 is 2.5 * 10^9 times the distance in segments, for milliseconds. 2^32 times that fits 64 bits.
        self.w_max = self.w_max.max(window);
        self.k_ms = cube_root(u64::from(self.w_max - window) * 2_500_000_000 / u64::from(mss.max(1)));
    }

    /// `W_est = W_est + alpha_cubic * segments_acked / cwnd` (section 4.3, figure 4).
    fn grow_estimate(&mut self, window: u32, acked: u32, mss: u32) {
        // "Once W_est has grown to reach the cwnd at the time of most recently setting ssthresh -- that is,
        // W_est >= cwnd_prior -- the sender SHOULD set alpha_cubic to 1" (section 4.3)
        let (alpha, per) = if self.w_est < self.cwnd_prior { ALPHA } else { (1, 1) };
        // Bytes times bytes: 2^32 * 2^16 * 9 fits 64 bits.
        let growth = u64::from(acked) * u64::from(mss) * alpha / per + u64::from(self.w_est_rest);
        self.w_est_rest = (growth % u64::from(window)) as u32;
        self.w_est = self.w_est.saturating_add((growth / u64::from(window)) as u32);
    }

    /// `W_cubic(t) = C * (t - K)^3 + W_max` (section 4.2, figure 1).
    fn w_cubic(&self, t_ms: u32, mss: u32) -> u32 {
        // Thousandths of cubic seconds, of segments times C = 4/10: 2^63 / 10^6 * 2^18 fits 64 bits.
        let distance_ms = u64::from(t_ms.abs_diff(self.k_ms).min(LONGEST_MS));
        let bytes = distance_ms.pow(3) / 1_000_000 * (u64::from(mss) * 4) / 10_000;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if t_ms < self.k_ms { self.w_max.saturating_sub(bytes) } else { self.w_max.saturating_add(bytes) }
    }
}

/// Milliseconds of the clock. They wrap every 49.7 days, so only differences mean something.
const fn milliseconds(now: Instant) -> u32 {
    (now.as_ns() / 1_000_000) as u32
}

/// Milliseconds since `earlier_ms`; zero if that lies in the future.
const fn since(now_ms: u32, earlier_ms: u32) -> u32 {
    match now_ms.wrapping_sub(earlier_ms).cast_signed() {
        passed @ 0.. => passed.cast_unsigned(),
        _ => 0,
    }
}

fn fraction(bytes: u32, (numerator, denominator): (u32, u32)) -> u32 {
    (u64::from(bytes) * u64::from(numerator) / u64::from(denominator)) as u32
}

/// The greatest number whose cube is no more than `cube`: bit by bit, as one takes a root by hand. Only at the
/// start of an epoch.
fn cube_root(cube: u64) -> u32 {
    // The cube root of 2^64 has 22 bits.
    (0..22).rev().fold(0_u64, |root, bit| {
        let next = root | 1 << bit;
        let fits = next.checked_pow(3).is_some_and(|power| power <= cube);
        if fits { next } else { root }
    }) as u32
}

#[cfg(test)]
mod tests;
