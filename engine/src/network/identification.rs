//! Which identification the fragments of a datagram carry (RFC 6864; RFC 7739, section 5.3).
//!
//! ```text
//!   identification = F(source, destination, protocol) + counters[G(the same)]
//!   counter       += 1 + a random part of the milliseconds since it was last used
//! ```
//!
//! Towards one destination identifications go up, so that none comes back before all others were used. Seen from
//! elsewhere they begin at a random place. Counters are shared, and a counter that went up by exactly one for each
//! datagram would tell one destination how many went to others that share it ("idle scan"): so it also goes up by
//! itself with time, as Linux's do.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ip::IpAddress;

/// Counters that destinations share. Linux has at least 2,048; these are 32 KiB a worker.
const COUNTERS: usize = 4096;
/// How often a counter may go up by itself: at most once a millisecond on average. The 65,536 identifications of
/// IPv4 then last for 65 s however few datagrams are sent, twice as long as fragments wait for each other.
const TICK_NS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Counter {
    value: u32,
    /// When it was last used, in ticks.
    used_at: u32,
}

/// The identifications of datagrams that may be fragmented.
#[derive(Debug)]
pub struct Identifications {
    counters: Box<[Counter]>,
    key: [u64; 2],
}

impl Identifications {
    /// `key` should be unpredictable.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        let counter = |n: u32| {
            let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
            hasher.write_u32(n);
            Counter { value: hasher.finish() as u32, used_at: 0 }
        };
        Self { counters: (0..COUNTERS as u32).map(counter).collect(), key }
    }

    /// The identification of the next datagram. IPv4 takes the lower 16 bits.
    ///
    /// RFC 6864, section 4.1: datagrams of IPv4 that are neither fragments nor may become any can have any identification.
    #[must_use]
    pub fn next(&mut self, source: IpAddress, destination: IpAddress, protocol: u8, now: Instant) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(source.octets());
        hasher.write(destination.octets());
        hasher.write_u8(protocol);
        // The two halves of a keyed hash say nothing about each other: they serve as F and G.
        let hash = hasher.finish();
        let Some(counter) = self.counters.get_mut((hash >> 32) as usize % COUNTERS) else { return 0 };
        let ticks = (now.as_ns() / TICK_NS) as u32;
        let idle = ticks.wrapping_sub(counter.used_at);
        if idle > 0 {
            let mut random = SipHasher13::new_with_keys(self.key[1], self.key[0]);
            random.write_u64(u64::from(counter.value) << 32 | u64::from(ticks));
            let jump = (random.finish() as u32).checked_rem(idle).unwrap_or(0);
            counter.value = counter.value.wrapping_add(jump);
            counter.used_at = ticks;
        }
        counter.value = counter.value.wrapping_add(1);
        (hash as u32).wrapping_add(counter.value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    const UDP: u8 = 17;

    fn v4(n: u32) -> IpAddress {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn at(ms: u64) -> Instant {
        Instant::from_ns(1_000_000_000_000) + Duration::from_millis(ms)
    }

    #[test]
    fn none_comes_back_before_all_others_were_used() {
        let mut identifications = Identifications::new([1, 2]);
        let seen: HashSet<u16> = (0..65_536).map(|_| identifications.next(v4(1), v4(2), UDP, at(0)) as u16).collect();
        assert_eq!(seen.len(), 65_536);
    }

    #[test]
    fn none_of_ipv4_comes_back_within_a_minute_of_few_datagrams() {
        let mut identifications = Identifications::new([1, 2]);
        let first = identifications.next(v4(1), v4(2), UDP, at(0));
        for s in (10..=60).step_by(10) {
            let moved = identifications.next(v4(1), v4(2), UDP, at(s * 1000)).wrapping_sub(first);
            assert!((1..65_536).contains(&moved), "{moved} in {s} s");
        }
    }

    #[test]
    fn a_counter_moves_by_itself_so_that_its_pace_tells_nothing() {
        let mut identifications = Identifications::new([1, 2]);
        let mut last = identifications.next(v4(1), v4(2), UDP, at(0));
        let mut moved = Vec::new();
        for n in 1..=100 {
            let next = identifications.next(v4(1), v4(2), UDP, at(n * 1000));
            moved.push(next.wrapping_sub(last));
            last = next;
        }
        assert!(moved.iter().all(|moved| (1..=1000).contains(moved)), "{moved:?}");
        let mean = moved.iter().sum::<u32>() / 100;
        assert!((400..600).contains(&mean), "{mean}");
        let different: HashSet<u32> = moved.into_iter().collect();
        assert!(different.len() > 80);
    }

    #[test]
    fn destinations_sources_protocols_and_secrets_begin_at_places_of_their_own() {
        let mut one = Identifications::new([1, 2]);
        let mut other = Identifications::new([1, 3]);
        let (us, them): (IpAddress, IpAddress) = (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::from_bits(0x20 << 120).into());
        let mut seen = HashSet::new();
        let mut sixteenths = [0_u32; 16];
        for n in 0..4000 {
            let values = [
                one.next(v4(1), v4(n), UDP, at(0)),
                one.next(v4(n), us, UDP, at(0)),
                one.next(v4(n), them, 58, at(0)),
                other.next(v4(1), v4(n), UDP, at(0)),
            ];
            for value in values {
                seen.insert(value);
                sixteenths[(value >> 28) as usize] += 1;
            }
        }
        assert!(seen.len() > 15_990, "{}", seen.len());
        // 1,000 each on average, with a standard deviation of 31.
        assert!(sixteenths.iter().all(|&count| count.abs_diff(1000) < 190), "{sixteenths:?}");
    }
}
