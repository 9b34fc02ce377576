//! Round-trip times and the retransmission timeout (RFC 6298).
//!
//! ```text
//!   RTO = SRTT + max(min, G, 4 * RTTVAR), doubled by every expiry, never above max
//! ```
//!
//! Here as in Linux, and other than in RFC 6298, section 2.4, the minimum of 200 ms stands in place of the
//! variance, and not in place of the whole RTO of 1 s: on a steady path the timer is 200 ms longer than the
//! round trip, whatever the round trip is, so that an acknowledgment delayed by 40 ms (up to 200 ms elsewhere)
//! expires no timer, and a loss in a data center costs 0.2 s and not 1 s.
//!
//! With timestamps there are several samples in a round trip. RFC 7323, appendix G would divide the gains by
//! their number, so that the history lasts as long. Linux does not, and neither is it done here: with the
//! minimum above, the variance decides only where it is over 50 ms, and there it should be quick to follow.
//!
//! Who calls: an acknowledgment of data that was never retransmitted, or that echoes a timestamp, gives a
//! [`sample`](RttEstimator::sample) (Karn's algorithm); an expiry calls [`back_off`](RttEstimator::back_off).

use std::time::Duration;

use super::windowed_minimum::WindowedMinimum;
use crate::base::Instant;

/// RTO when the SYN had to be sent again.
///
/// > If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less
/// > than 3 seconds, the RTO MUST be re-initialized to 3 seconds when data transmission begins (RFC 6298,
/// > section 5.7)
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);
/// The clock granularity G of RFC 6298, section 4: the timers' tick.
const GRANULARITY_US: u32 = 1000;
/// Samples above are taken for this: eight times it still fit 32 bits. 268 s are beyond any path.
const LONGEST_US: u32 = 1 << 28;
/// More doublings than any limit leaves room for: 1 us * 2^32 are 71 minutes.
const MOST_DOUBLINGS: u8 = 32;

/// Limits of the retransmission timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoLimits {
    /// The least part that is added to the smoothed round-trip time; whole milliseconds, at most 65 s.
    pub min: Duration,
    /// The longest timeout, backed off or not; whole seconds, at most 18 hours.
    pub max: Duration,
    /// Before the first sample; whole milliseconds, at most 65 s.
    pub initial: Duration,
}

impl Default for RtoLimits {
    /// 200 ms and 120 s, as Linux has them (TCP_RTO_MIN, TCP_RTO_MAX; RFC 6298, section 2.5 wants a maximum of
    /// 60 s at least); 1 s initially (RFC 6298, section 2.1).
    fn default() -> Self {
        Self { min: Duration::from_millis(200), max: Duration::from_secs(120), initial: Duration::from_secs(1) }
    }
}

/// What one connection knows about its round-trip time.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimator {
    minimum: WindowedMinimum,
    /// Eight times SRTT, so that a gain of 1/8 loses no bits; zero before the first sample.
    srtt_8_us: u32,
    /// Four times RTTVAR, for a gain of 1/4; by chance also K * RTTVAR.
    rttvar_4_us: u32,
    min_ms: u16,
    initial_ms: u16,
    max_s: u16,
    doublings: u8,
}

impl RttEstimator {
    /// Nothing measured: the RTO is the initial one.
    #[must_use]
    pub fn new(limits: RtoLimits) -> Self {
        Self {
            minimum: WindowedMinimum::new(),
            srtt_8_us: 0,
            rttvar_4_us: 0,
            min_ms: u16::try_from(limits.min.as_millis()).unwrap_or(u16::MAX),
            initial_ms: u16::try_from(limits.initial.as_millis()).unwrap_or(u16::MAX),
            max_s: u16::try_from(limits.max.as_secs()).unwrap_or(u16::MAX),
            doublings: 0,
        }
    }

    /// RFC 9293, section 3.8.1 (MUST-18): the RTO is computed by RFC 6298.
    ///
    /// Takes a measured round-trip time in, and ends the back-off: Karn's algorithm keeps the timeout backed
    /// off until there is a sample of data that was not sent twice.
    pub fn sample(&mut self, rtt: Duration, now: Instant) {
        self.sample_us(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX), now);
    }

    /// The same, of microseconds.
    #[inline(always)]
    pub fn sample_us(&mut self, rtt_us: u64, now: Instant) {
        // At least 1 us, so that zero means that there was no sample.
        let rtt_us = rtt_us.clamp(1, LONGEST_US.into()) as u32;
        // The cast wraps every 49.7 days, which the filter allows for.
        self.minimum.update((now.as_ns() / 1_000_000) as u32, rtt_us);
        self.doublings = 0;
        if self.srtt_8_us == 0 {
            // RFC 6298, section 2.2: SRTT <- R, RTTVAR <- R/2
            self.srtt_8_us = rtt_us * 8;
            self.rttvar_4_us = rtt_us * 2;
            return;
        }
        // RFC 6298, section 2.3: RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'| with beta = 1/4, and only
        // then SRTT <- (1 - alpha) * SRTT + alpha * R' with alpha = 1/8
        let srtt_us = self.srtt_8_us / 8;
        self.rttvar_4_us = self.rttvar_4_us - self.rttvar_4_us / 4 + srtt_us.abs_diff(rtt_us);
        self.srtt_8_us = self.srtt_8_us - srtt_us + rtt_us;
    }

    /// The handshake is over, and a SYN or SYN-ACK had to be sent again: without a sample the RTO is now 3 s
    /// (RFC 6298, section 5.7), and not backed off. A sample that timestamps have given holds, because it was
    /// measured after that.
    pub fn after_lost_syn(&mut self) {
        self.initial_ms = self.initial_ms.max(AFTER_LOST_SYN.as_millis() as u16);
        self.doublings = 0;
    }

    /// The retransmission timeout.
    #[must_use]
    pub fn rto(&self) -> Duration {
        Duration::from_nanos(self.rto_ns())
    }

    /// The retransmission timeout in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub fn rto_ns(&self) -> u64 {
        let base_us = if self.srtt_8_us == 0 {
            u32::from(self.initial_ms) * 1000
        } else {
            // RFC 6298, section 2.3: RTO <- SRTT + max (G, K*RTTVAR), with Linux's minimum
            let min_us = (u32::from(self.min_ms) * 1000).max(GRANULARITY_US);
            self.srtt_8_us / 8 + self.rttvar_4_us.max(min_us)
        };
        // RFC 6298, section 2.5: "A maximum value MAY be placed on RTO provided it is at least 60 seconds."
        (u64::from(base_us) << self.doublings).min(u64::from(self.max_s) * 1_000_000) * 1000
    }

    /// The timer expired.
    ///
    /// RFC 9293, section 3.8.2 (MUST-19): exponential back-off of the retransmission timeout.
    ///
    /// > The host MUST set RTO <- RTO * 2 ("back off the timer"). (RFC 6298, section 5.5)
    pub fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
    }

    /// Ends the back-off without a sample, as when the peer was only out of window.
    pub const fn reset_backoff(&mut self) {
        self.doublings = 0;
    }

    /// Expiries since the last sample; counts to 32.
    #[must_use]
    pub const fn backoff_count(&self) -> u8 {
        self.doublings
    }

    /// The smoothed round-trip time, once there is a sample.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        (self.srtt_8_us != 0).then(|| Duration::from_micros(u64::from(self.srtt_8_us / 8)))
    }

    /// The smoothed round-trip time in nanoseconds, once there is a sample.
    #[inline]
    #[must_use]
    pub fn srtt_ns(&self) -> Option<u64> {
        (self.srtt_8_us != 0).then(|| u64::from(self.srtt_8_us / 8) * 1000)
    }

    /// The round-trip time's mean deviation, once there is a sample.
    #[must_use]
    pub fn rttvar(&self) -> Option<Duration> {
        (self.srtt_8_us != 0).then(|| Duration::from_micros(u64::from(self.rttvar_4_us / 4)))
    }

    /// The least round-trip time of the five minutes before the last sample, which RACK's reordering window
    /// is a part of (RFC 8985, section 6.2).
    #[must_use]
    pub fn min_rtt(&self) -> Option<Duration> {
        self.minimum.minimum().map(|us| Duration::from_micros(u64::from(us)))
    }
}

#[cfg(test)]
mod tests;
