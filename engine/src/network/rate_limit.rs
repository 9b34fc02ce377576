//! How many ICMP errors may go out: a token bucket for each kind of problem, so that none keeps the others from being told,
//! and one for each receiver (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::network::icmp::Problem;
use crate::wire::ip::IpAddress;

/// Errors of a kind a second, and how many at once (Linux: icmp_msgs_per_sec 10,000 and icmp_msgs_burst 10,000
/// on 6.x, 1,000 and 50 before; a scan sees no more of us than it needs).
const KIND: Rate = Rate { interval: Duration::from_millis(1), burst: 50 };
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
    kinds: [Bucket; Problem::KINDS],
    each: Box<[Bucket]>,
    key: [u64; 2],
}

impl RateLimit {
    /// Full buckets. `key` keys the hash that spreads the receivers.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        let each = vec![Bucket::default(); RECEIVERS].into_boxed_slice();
        Self { kinds: [Bucket::default(); Problem::KINDS], each, key }
    }

    /// Takes a token for an error that tells `receiver` of a problem; `false` if there is none.
    #[must_use]
    pub fn allow(&mut self, problem: Problem, receiver: IpAddress, now: Instant) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u128(receiver.to_bits());
        let (Some(each), Some(kind)) =
            (self.each.get_mut(hasher.finish() as usize % RECEIVERS), self.kinds.get_mut(problem.kind()))
        else {
            return false;
        };
        let allowed = kind.has_token(KIND, now) && each.has_token(EACH, now);
        if allowed {
            kind.take(KIND, now);
            each.take(EACH, now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PROBLEMS: [Problem; Problem::KINDS] = [
        Problem::PortUnreachable,
        Problem::ProtocolUnknown { named_at: 9 },
        Problem::Header { code: 0, pointer: 4, even_to_group: false },
        Problem::ReassemblyTimeout,
    ];

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_receiver_gets_six_errors_at_once_and_then_one_a_second() {
        let mut limit = RateLimit::new([1, 2]);
        let peer = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
        let allowed = (0..500).filter(|n| limit.allow(PROBLEMS[n % 2], peer, at(0))).count();
        assert_eq!(allowed, 6);
        assert!(!limit.allow(PROBLEMS[0], peer, at(999)));
        assert!(limit.allow(PROBLEMS[0], peer, at(1000)));
        assert!(!limit.allow(PROBLEMS[1], peer, at(1001)));
    }

    #[test]
    fn all_receivers_together_get_fifty_of_a_kind_at_once_and_then_one_a_millisecond() {
        let mut limit = RateLimit::new([1, 2]);
        let mut flood = |problem, first: u32, ms| {
            let receivers = (first..first + 500).map(|n| Ipv4Addr::from_bits(n).into());
            receivers.filter(|&receiver| limit.allow(problem, receiver, at(ms))).count()
        };
        assert_eq!(flood(PROBLEMS[0], 0, 0), 50);
        for (n, problem) in PROBLEMS.into_iter().enumerate().skip(1) {
            assert_eq!(flood(problem, 1_000 * n as u32, 0), 50, "whatever goes out of another kind");
        }
        assert_eq!(flood(PROBLEMS[0], 10_000, 10), 10);
    }
}
