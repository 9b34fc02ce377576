//! Which port an active open leaves from: double-hash port selection (RFC 6056, section 3.3.4, algorithm 4).
//!
//! ```text
//!   port = first + (F(local address, remote address and port) + counters[G(the same)]++) mod ports
//! ```
//!
//! Towards one destination ports go up one by one, so none comes back before all others were used: the remains
//! of its last connection have time to go. Seen from elsewhere they begin at a random place and move at a pace
//! of their own, so nobody off the path can guess the next.

use std::hash::Hasher;
use std::ops::RangeInclusive;

use siphasher::sip::SipHasher13;

use super::tuple::Tuple;
use crate::wire::ip::IpAddress;

/// Ports to choose from unless configured otherwise: those of Linux (`ip_local_port_range`).
pub const DEFAULT_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Counters that destinations share: the fewer, the more does one destination see of the connections to others.
/// Ten are an improvement already (RFC 6056, section 3.3.4); Linux went from 256 to 65,536 when the former were
/// shown to tell hosts apart. 4,096 are 16 KiB a worker, which does not push packets out of the cache.
const COUNTERS: usize = 4096;

/// Ports that are tried at most. A reply finds our own queue by one port in as many as there are queues: with 64
/// queues 1,024 ports in a row are all wrong once in 10^7 times ((63/64)^1024). Trying all 28,232 would keep the
/// worker from its packets for over a millisecond, at 50 ns for a look at the flow table and at the queue.
const ATTEMPTS: u32 = 1024;

/// The ports of active opens.
#[derive(Debug)]
pub struct SourcePorts {
    first: u16,
    /// How many ports there are, from `first` on.
    len: u32,
    /// Where the destinations of each have got to, below `len`.
    counters: Box<[u32]>,
    key: [u64; 2],
}

impl SourcePorts {
    /// `ports` should leave out zero, which is no port. `key` should be unpredictable.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>, key: [u64; 2]) -> Self {
        let len = ports.len() as u32;
        let counter = |n| {
            let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
            hasher.write_u32(n);
            (hasher.finish() as u32).checked_rem(len).unwrap_or(0)
        };
        Self { first: *ports.start(), len, counters: (0..COUNTERS as u32).map(counter).collect(), key }
    }

    /// A port for a connection from `local` to `remote` that `is_free`: by which there is none yet, and whose
    /// replies come to our own queue.
    ///
    /// `None` if none of the next 1,024 ports is. The next call goes on behind them.
    pub fn choose(
        &mut self,
        local: IpAddress,
        remote: (IpAddress, u16),
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        // The two halves of a keyed hash say nothing about each other: they serve as F and G.
        let hash = Tuple { local: (local, 0), remote }.hash(self.key);
        let offset = (hash as u32).checked_rem(self.len)?;
        let counter = self.counters.get_mut((hash >> 32) as usize % COUNTERS)?;
        for _ in 0..self.len.min(ATTEMPTS) {
            let port = self.first + ((offset + *counter) % self.len) as u16;
            *counter = (*counter + 1) % self.len;
            if is_free(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
    const REMOTE: (IpAddress, u16) = (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2)), 80);

    #[test]
    fn no_port_comes_back_before_all_others_were_used() {
        let mut ports = SourcePorts::new(DEFAULT_PORTS, [1, 2]);
        let mut round =
            || -> Vec<u16> { DEFAULT_PORTS.map(|_| ports.choose(LOCAL, REMOTE, |_| true).unwrap()).collect() };
        let (first, second) = (round(), round());
        assert_eq!(first, second);
        let mut sorted = first;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(DEFAULT_PORTS));
    }

    #[test]
    fn ports_that_are_taken_or_lead_to_another_queue_are_passed_over() {
        let mut ports = SourcePorts::new(DEFAULT_PORTS, [1, 2]);
        for n in 0..1000 {
            let port = ports.choose(LOCAL, (REMOTE.0, n), |port| port % 64 == 7).unwrap();
            assert_eq!((port % 64, DEFAULT_PORTS.contains(&port)), (7, true));
        }
    }

    #[test]
    fn a_search_is_bounded_and_the_next_goes_on_behind_it() {
        let mut ports = SourcePorts::new(DEFAULT_PORTS, [1, 2]);
        let mut tried = Vec::new();
        let searches = DEFAULT_PORTS.len().div_ceil(ATTEMPTS as usize);
        for n in 1..=searches {
            let found = ports.choose(LOCAL, REMOTE, |port| {
                tried.push(port);
                false
            });
            assert_eq!((found, tried.len()), (None, n * ATTEMPTS as usize));
        }
        tried.sort_unstable();
        tried.dedup();
        assert!(tried.into_iter().eq(DEFAULT_PORTS));
    }

    #[test]
    fn small_ranges_are_used_to_the_last_port() {
        let mut one = SourcePorts::new(65_535..=65_535, [1, 2]);
        assert_eq!(one.choose(LOCAL, REMOTE, |_| true), Some(65_535));
        assert_eq!(one.choose(LOCAL, REMOTE, |_| false), None);
        let mut all = SourcePorts::new(1..=65_535, [1, 2]);
        assert!((0..1000).all(|n| all.choose(LOCAL, (REMOTE.0, n), |_| true).is_some_and(|port| port > 0)));
        let none = RangeInclusive::new(2, 1);
        assert_eq!(SourcePorts::new(none, [1, 2]).choose(LOCAL, REMOTE, |_| true), None);
    }

    /// What one destination sees says nothing about another, nor about what another secret would make of it.
    #[test]
    fn destinations_begin_at_places_of_their_own() {
        let mut ports = SourcePorts::new(DEFAULT_PORTS, [1, 2]);
        let mut other = SourcePorts::new(DEFAULT_PORTS, [1, 3]);
        let mut sixteenths = [0_u32; 16];
        let mut same = 0;
        for n in 0..16_000 {
            let remote = (REMOTE.0, n);
            let port = ports.choose(LOCAL, remote, |_| true).unwrap();
            same += u32::from(other.choose(LOCAL, remote, |_| true) == Some(port));
            sixteenths[usize::from(port - DEFAULT_PORTS.start()) * 16 / DEFAULT_PORTS.len()] += 1;
        }
        // 1,000 each on average, with a standard deviation of 31.
        assert!(sixteenths.iter().all(|&count| count.abs_diff(1000) < 190), "{sixteenths:?}");
        assert!(same < 10, "{same}");
    }

    #[test]
    fn connections_to_one_destination_seldom_move_another() {
        let mut ports = SourcePorts::new(DEFAULT_PORTS, [1, 2]);
        let mut moved = 0;
        for n in 0..1000 {
            let (watched, busy) = ((REMOTE.0, n), (Ipv4Addr::new(10, 0, 0, 3).into(), n));
            let before = ports.choose(LOCAL, watched, |_| true).unwrap();
            ports.choose(LOCAL, busy, |_| true);
            let after = ports.choose(LOCAL, watched, |_| true).unwrap();
            moved += u32::from(after != before + 1 && after != *DEFAULT_PORTS.start());
        }
        assert!(moved < 5, "{moved} of 1,000 share one of 4,096 counters");
    }
}
