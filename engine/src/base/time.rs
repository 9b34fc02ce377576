//! Points in time as an argument: nothing below the worker reads a clock.

use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// Nanoseconds of a monotonic clock whose zero means nothing.
///
/// In production it is `CLOCK_MONOTONIC`, the clock that the XDP program's heartbeat is compared with;
/// in the simulator it is virtual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self { ns: 0 };

    /// The point `ns` nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// Nanoseconds since `earlier`; zero if that lies in the future.
    ///
    /// [`since`](Self::since) takes a nanosecond number apart into seconds and the rest, which costs as much as all
    /// else that is done with a time on the packet path.
    #[inline]
    #[must_use]
    pub const fn ns_since(self, earlier: Self) -> u64 {
        self.ns.saturating_sub(earlier.ns)
    }

    /// The point so many nanoseconds later.
    #[inline]
    #[must_use]
    pub const fn plus_ns(self, ns: u64) -> Self {
        Self { ns: self.ns.saturating_add(ns) }
    }

    /// Time since `earlier`; zero if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

/// A duration in nanoseconds; 584 years are enough for a timer.
const fn ns(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self { ns: self.ns.saturating_add(ns(duration)) }
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self { ns: self.ns.saturating_sub(ns(duration)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let end = Instant::from_ns(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(end), Duration::ZERO);
        assert_eq!(end + Duration::MAX, end);
    }
}
