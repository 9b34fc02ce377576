//! The one place where time is read.
#![allow(unsafe_code)]

use crate::base::Instant;

/// Now, by `CLOCK_MONOTONIC`: the clock that the XDP program compares heartbeats with.
#[must_use]
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to. The call cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_ns(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_goes_on() {
        let start = super::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(super::now().since(start) >= std::time::Duration::from_millis(2));
    }
}
