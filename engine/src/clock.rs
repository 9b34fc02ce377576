//! The one place where clocks are read.
#![allow(unsafe_code)]

use std::time::Duration;

use crate::base::Instant;

/// Now, by `CLOCK_MONOTONIC`: the clock that the XDP program compares heartbeats with.
#[must_use]
pub fn now() -> Instant {
    Instant::from_ns(read(libc::CLOCK_MONOTONIC))
}

/// When the clock of [`now`] was zero: so long after the start of 1970 (UTC), by what the wall clock says now.
#[must_use]
pub fn zero() -> Duration {
    Duration::from_nanos(read(libc::CLOCK_REALTIME).saturating_sub(read(libc::CLOCK_MONOTONIC)))
}

/// Nanoseconds.
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to. The call cannot fail: every Linux has these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn time_goes_on() {
        let start = super::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(super::now().since(start) >= Duration::from_millis(2));
    }

    #[test]
    fn both_clocks_together_give_the_time_of_day() {
        let ours = super::zero() + Duration::from_nanos(super::now().as_ns());
        let theirs = std::time::UNIX_EPOCH.elapsed().unwrap();
        assert!(ours.abs_diff(theirs) < Duration::from_secs(1), "{ours:?}, {theirs:?}");
    }
}
