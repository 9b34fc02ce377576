//! Where the sequence numbers and the timestamps of a connection begin (RFC 6528; RFC 7323, section 5.4).
//!
//! ```text
//!   ISN   = M + F(local address and port, remote address and port, secret)      M counts every 4 us
//!   TSval = clock + F(the same, another secret)
//! ```
//!
//! Seen from one peer port both grow with time, from one connection to the next, so that what is left of the
//! last is told from what belongs to this one. Seen from any other they are random, so that nobody can guess
//! his way into a connection that he is not on the path of.

use super::tuple::Tuple;
use crate::base::Instant;
use crate::wire::seq::SeqNum;

/// How often M counts (RFC 9293, section 3.4.1: roughly every 4 microseconds, which is once around in 4.77
/// hours). Linux counts every 64 ns, once around in 275 seconds, so that even a connection that sent at
/// 15 MB/s is followed by one with higher numbers. Here the letter of the RFC goes first: of a faster
/// connection TIME-WAIT and timestamps keep the remains away.
const TICK_NS: u64 = 4_000;

/// Numbers that anybody can guess, for tests: there all connections begin shortly before the numbers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessableNumbers {
    /// Connections begin at one of the 4,096 sequence numbers from here on, whatever the time.
    pub sequence: SeqNum,
    /// What is added to the clock in all timestamps.
    pub timestamp: u32,
}

/// The secrets behind both numbers: they stay the same as long as the host runs.
#[derive(Clone, Debug)]
pub struct InitialNumbers {
    sequence_key: [u64; 2],
    timestamp_key: [u64; 2],
    guessable: Option<GuessableNumbers>,
}

impl InitialNumbers {
    /// Both keys should be unpredictable, and different from each other.
    #[must_use]
    pub const fn new(sequence_key: [u64; 2], timestamp_key: [u64; 2]) -> Self {
        Self { sequence_key, timestamp_key, guessable: None }
    }

    /// Takes other numbers, in tests.
    #[must_use]
    pub fn replaced_by(self, guessable: Option<GuessableNumbers>) -> Self {
        Self { guessable, ..self }
    }

    /// The initial sequence number of a connection that is opened now.
    #[inline]
    #[must_use]
    pub fn isn(&self, now: Instant, tuple: &Tuple) -> SeqNum {
        // RFC 9293, section 3.4.1 (MUST-8, MUST-9, SHLD-1): ISN = M + F(localip, localport, remoteip, remoteport,
        // secretkey), where M is clock-driven and F() MUST NOT be computable from the outside.
        let hash = tuple.hash(self.sequence_key) as u32;
        match self.guessable {
            None => SeqNum::new(hash) + (now.as_ns() / TICK_NS) as u32,
            Some(GuessableNumbers { sequence, .. }) => sequence + hash % 4096,
        }
    }

    /// What is added to the clock in the timestamps of a connection.
    #[inline]
    #[must_use]
    pub fn ts_offset(&self, tuple: &Tuple) -> u32 {
        // RFC 7323, section 5.4: the same function with a different secret key can be used to generate the
        // per-connection timestamp offset.
        self.guessable.map_or_else(|| tuple.hash(self.timestamp_key) as u32, |numbers| numbers.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const NUMBERS: InitialNumbers = InitialNumbers::new([1, 2], [3, 4]);

    fn tuple(port: u16) -> Tuple {
        Tuple { local: (Ipv4Addr::new(10, 0, 0, 1).into(), 80), remote: (Ipv4Addr::new(10, 0, 0, 2).into(), port) }
    }

    fn at(us: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(us)
    }

    #[test]
    fn a_port_that_comes_back_gets_higher_numbers_at_250_khz() {
        // RFC 9293, section 3.4.1 (MUST-8, SHLD-1): a clock that counts every 4 microseconds.
        for port in 0..1000 {
            // At every place of the clock, and where M wraps.
            for start in [0, 1_000_003, (1 << 32) * 4 - 1] {
                let first = NUMBERS.isn(at(start), &tuple(port));
                assert_eq!(NUMBERS.isn(at(start + 4), &tuple(port)).since(first), 1);
                assert_eq!(NUMBERS.isn(at(start + 1_000_000), &tuple(port)).since(first), 250_000);
            }
            assert_eq!(NUMBERS.ts_offset(&tuple(port)), NUMBERS.ts_offset(&tuple(port)));
        }
    }

    /// Half of the bits differ on average, whichever two connections or secrets are compared.
    #[test]
    fn numbers_of_one_connection_say_nothing_about_another() {
        // RFC 9293, section 3.4.1 (MUST-9): F() MUST NOT be computable from the outside.
        let other = InitialNumbers::new([1, 3], [3, 5]);
        let mut differ = [0_u32; 4];
        for port in 0..10_000 {
            let (a, b) = (&tuple(port), &tuple(port + 1));
            let isn = |numbers: &InitialNumbers, tuple| numbers.isn(at(0), tuple).value();
            differ[0] += (isn(&NUMBERS, a) ^ isn(&NUMBERS, b)).count_ones();
            differ[1] += (isn(&NUMBERS, a) ^ isn(&other, a)).count_ones();
            differ[2] += (NUMBERS.ts_offset(a) ^ NUMBERS.ts_offset(b)).count_ones();
            differ[3] += (NUMBERS.ts_offset(a) ^ isn(&NUMBERS, a)).count_ones();
        }
        // Of 320,000 bits; the standard deviation is 283.
        assert!(differ.iter().all(|bits| bits.abs_diff(160_000) < 1700), "{differ:?}");
    }
}
