//! How long something that a router told of lasts.

use std::time::Duration;

use crate::base::Instant;

/// RFC 4862, section 5.5.3 (e): no unauthenticated advertisement leaves an address less than two hours to live.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3600);
/// RFC 4861, section 4.6.2: all one bits represent infinity.
const INFINITY_S: u32 = u32::MAX;

/// Until when something lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lifetime {
    Until(Instant),
    Forever,
}

impl Lifetime {
    /// So many seconds from `now` on.
    pub(super) fn of(seconds: u32, now: Instant) -> Self {
        if seconds == INFINITY_S { Self::Forever } else { Self::Until(now + Duration::from_secs(seconds.into())) }
    }

    /// The same of a router, which cannot last for ever.
    pub(super) fn of_router(seconds: u16, now: Instant) -> Self {
        Self::Until(now + Duration::from_secs(seconds.into()))
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    pub(super) const fn end(self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(end),
            Self::Forever => None,
        }
    }

    /// The valid lifetime of an address after an advertisement of so many seconds.
    pub(super) fn updated(self, seconds: u32, now: Instant) -> Self {
        let told = Self::of(seconds, now);
        let two_hours = Self::Until(now + TWO_HOURS);
        // RFC 4862, section 5.5.3 (e): 1. If the received Valid Lifetime is greater than 2 hours or greater than
        // RemainingLifetime, set the valid lifetime to it.
        if told > two_hours || told > self {
            return told;
        }
        // 2. If RemainingLifetime is less than or equal to 2 hours, ignore it. 3. Otherwise, reset it to 2 hours.
        self.min(two_hours)
    }
}
