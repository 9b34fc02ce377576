//! How many ICMP errors may go out: a token bucket for all, and one for each receiver (RFC 1812, section 4.3.2.8).

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ip::IpAddress;

/// Errors a second in all, and how many at once (Linux: icmp_msgs_per_sec 10,000 and icmp_msgs_burst 10,000
/// on 6.x, 1,000 and 50 before; a scan sees no more of us than it needs).
const ALL: Rate = Rate { interval: Duration::from_millis(1), burst: 50 };
/// Errors to one receiver (Linux: icmp_ratelimit, one a second, six at once).
const EACH: Rate = Rate { interval: Duration::from_secs(1), burst: 6 };
/// Receivers that are told apart. Those that share a place share a bucket, which errs on the quiet side.
const RECEIVERS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// A token bucket, kept as the time at which it will be full: one number instead of a count and a time.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn has_token(self, rate: Rate, now: Instant) -> bool {
        self.full_at.since(now) + rate.interval <= rate.interval * rate.burst
    }

    fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }
}

/// The limits of one interface.
#[derive(Debug)]
pub struct RateLimit {
    all: Bucket,
    each: Box<[Bucket]>,
    key: [u64; 2],
}

impl RateLimit {
    /// Full buckets. `key` keys the hash that spreads the receivers.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        Self { all: Bucket::default(), each: vec![Bucket::default(); RECEIVERS].into_boxed_slice(), key }
    }

    /// Takes a token for an error to `receiver`; `false` if there is none.
    #[must_use]
    pub fn allow(&mut self, receiver: IpAddress, now: Instant) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u128(receiver.to_bits());
        let Some(each) = self.each.get_mut(hasher.finish() as usize % RECEIVERS) else { return false };
        let allowed = self.all.has_token(ALL, now) && each.has_token(EACH, now);
        if allowed {
            self.all.take(ALL, now);
            each.take(EACH, now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_receiver_gets_six_errors_at_once_and_then_one_a_second() {
        let mut limit = RateLimit::new([1, 2]);
        let peer = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
        let allowed = (0..500).filter(|_| limit.allow(peer, at(0))).count();
        assert_eq!(allowed, 6);
        assert!(!limit.allow(peer, at(999)));
        assert!(limit.allow(peer, at(1000)));
        assert!(!limit.allow(peer, at(1001)));
    }

    #[test]
    fn all_receivers_together_get_fifty_at_once_and_then_one_a_millisecond() {
        let mut limit = RateLimit::new([1, 2]);
        let mut flood = |ms| (0..10_000).filter(|&n| limit.allow(Ipv4Addr::from_bits(n).into(), at(ms))).count();
        assert_eq!(flood(0), 50);
        assert_eq!(flood(10), 10);
    }
}
