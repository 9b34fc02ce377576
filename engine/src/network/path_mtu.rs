//! What the paths to destinations take, as far as routers have said that it is less than the link does (RFC 1191, RFC 8201).
//!
//! For datagrams; a connection of TCP keeps its own estimate. A small table: what has no place in it is learned again
//! with the next datagram that is too long. Whoever writes it has proof of what it writes ([`SentLately`]).
//!
//! [`SentLately`]: super::sent_lately::SentLately

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ip::IpAddress;
use crate::wire::ipv6::MIN_MTU;

/// Destinations that are remembered. With more than so many behind narrow links some lose a datagram now and then.
const ENTRIES: usize = 256;
/// Places that one hash value chooses among.
const WAYS: usize = 4;
/// For how long a router is believed (RFC 8201, section 4: the recommended setting is ten minutes).
const BELIEF: Duration = Duration::from_secs(600);
/// The smallest MTU of an IPv4 path that is believed (Linux: min_pmtu): a forged error costs two packets for one, not 20.
const MIN_MTU_V4: u16 = 552;
/// What a router takes that does not say it (RFC 1191, section 7: of such old routers nearly all are in front of links of
/// 576 bytes).
const OLD_ROUTER_MTU: u16 = 576;

/// The smallest MTU of a path that is believed: what is no longer goes as it is.
#[inline]
#[must_use]
pub const fn least_believed(is_v4: bool) -> u16 {
    if is_v4 { MIN_MTU_V4 } else { MIN_MTU as u16 }
}

/// What is believed of a path when a router says that it takes `mtu` bytes; 0 if it does not say how many.
#[must_use]
pub fn believed(is_v4: bool, mtu: u16) -> u16 {
    // RFC 8201, section 4: a node MUST NOT reduce its estimate below the IPv6 minimum link MTU.
    if is_v4 && mtu == 0 { OLD_ROUTER_MTU } else { mtu.max(least_believed(is_v4)) }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    destination: IpAddress,
    mtu: u16,
    until: Instant,
}

const EMPTY: Entry = Entry { destination: IpAddress::NONE, mtu: u16::MAX, until: Instant::ZERO };

/// The paths that take less than the link.
#[derive(Debug)]
pub struct PathMtus {
    entries: Box<[Entry]>,
    /// What the link takes.
    link: u16,
    /// The least of all, the link's included.
    least: u16,
    /// The least that a route says.
    of_routes: u16,
    /// When the first of the entries is believed no more, if any is.
    next_end: Option<Instant>,
    key: [u64; 2],
}

impl PathMtus {
    /// No path is known to take less than `link` bytes. `key` keys the hash: it should be unpredictable.
    #[must_use]
    pub fn new(link: u16, key: [u64; 2]) -> Self {
        Self {
            entries: vec![EMPTY; ENTRIES].into_boxed_slice(),
            link,
            least: link,
            of_routes: u16::MAX,
            next_end: None,
            key,
        }
    }

    /// Bytes that every path takes: a datagram that is no longer needs no look into the table.
    #[inline]
    #[must_use]
    pub const fn least(&self) -> u16 {
        self.least
    }

    /// Bytes that the link takes.
    #[must_use]
    pub const fn link(&self) -> u16 {
        self.link
    }

    /// Bytes that the path to a destination takes, as far as routers have said.
    #[must_use]
    pub fn to(&self, destination: IpAddress, now: Instant) -> u16 {
        if self.least == self.link {
            return self.link;
        }
        let first = self.set(destination);
        let set = self.entries.get(first..first + WAYS).unwrap_or_default();
        let known = set.iter().find(|entry| entry.destination == destination && now < entry.until);
        known.map_or(self.link, |entry| entry.mtu.min(self.link))
    }

    /// Takes note that a router could not pass a packet on that was longer than `mtu` bytes; 0 if it does not say how long.
    pub fn learn(&mut self, destination: IpAddress, mtu: u16, now: Instant) {
        let mtu = believed(destination.is_v4(), mtu);
        if mtu >= self.to(destination, now) {
            return;
        }
        let first = self.set(destination);
        let set = self.entries.get_mut(first..first + WAYS).unwrap_or_default();
        let known = set.iter().position(|entry| entry.destination == destination);
        let oldest = || (0..set.len()).min_by_key(|&way| set[way].until);
        if let Some(way) = known.or_else(oldest)
            && let Some(entry) = set.get_mut(way)
        {
            *entry = Entry { destination, mtu, until: now + BELIEF };
        }
        self.recompute();
    }

    /// When [`expire`](Self::expire) has something to do.
    #[must_use]
    pub const fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    /// Forgets what is believed no more: then packets as long as the others allow are sent without a look again.
    pub fn expire(&mut self, now: Instant) {
        if self.next_end.is_some_and(|end| end <= now) {
            for entry in self.entries.iter_mut().filter(|entry| entry.until <= now) {
                *entry = EMPTY;
            }
            self.recompute();
        }
    }

    /// The link takes another length from now on.
    pub fn set_link(&mut self, link: u16) {
        self.link = link;
        self.recompute();
    }

    /// Takes note of the least MTU that a route has, if any has one.
    pub fn set_least_of_routes(&mut self, mtu: Option<u16>) {
        self.of_routes = mtu.unwrap_or(u16::MAX);
        self.recompute();
    }

    fn recompute(&mut self) {
        let known = self.entries.iter().filter(|entry| entry.mtu < self.link);
        self.least = known.clone().map(|entry| entry.mtu).min().unwrap_or(self.link).min(self.of_routes);
        self.next_end = known.map(|entry| entry.until).min();
    }

    fn set(&self, destination: IpAddress) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u128(destination.to_bits());
        hasher.finish() as usize % (ENTRIES / WAYS) * WAYS
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(text: &str) -> IpAddress {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_router_is_believed_for_ten_minutes_and_about_that_path_alone() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        let (near, far) = (address("fd00::1"), address("fd00::2"));
        paths.learn(far, 1400, at(0));
        assert_eq!([paths.to(near, at(0)), paths.to(far, at(0)), paths.least()], [1500, 1400, 1400]);
        assert_eq!([paths.to(far, at(599)), paths.to(far, at(600))], [1400, 1500]);
    }

    #[test]
    fn what_every_path_takes_rises_again_when_routers_are_believed_no_more() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        paths.learn(address("fd00::1"), 1300, at(0));
        paths.learn(address("fd00::2"), 1400, at(100));
        assert_eq!((paths.least(), paths.next_end()), (1300, Some(at(600))));
        paths.expire(at(599));
        assert_eq!(paths.least(), 1300);
        paths.expire(at(600));
        assert_eq!((paths.least(), paths.next_end()), (1400, Some(at(700))));
        paths.set_link(1350);
        assert_eq!((paths.least(), paths.next_end()), (1350, None), "the link takes less");
        paths.set_link(1500);
        assert_eq!((paths.least(), paths.next_end()), (1400, Some(at(700))));
        paths.expire(at(700));
        assert_eq!((paths.least(), paths.next_end()), (1500, None));
    }

    #[test]
    fn one_path_that_takes_another_place_does_not_hold_all_others_down() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        paths.learn(address("10.0.0.1"), 600, at(0));
        for n in 0..2000 {
            paths.learn(IpAddress::v4(Ipv4Addr::from_bits(0x0a01_0000 + n)), 1400, at(1));
        }
        assert_eq!((paths.to(address("10.0.0.1"), at(2)), paths.least()), (1500, 1400));
    }

    #[test]
    fn nobody_can_have_us_send_ever_smaller_packets() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        for (destination, mtu, expected) in
            [("10.0.0.1", 68, 552), ("10.0.0.2", 0, 576), ("fd00::1", 68, 1280), ("fd00::2", 0, 1280)]
        {
            paths.learn(address(destination), mtu, at(0));
            assert_eq!(paths.to(address(destination), at(0)), expected, "{destination}");
        }
    }

    #[test]
    fn a_longer_one_than_is_known_teaches_nothing() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        let far = address("10.0.0.1");
        paths.learn(far, 1400, at(0));
        paths.learn(far, 1450, at(1));
        paths.learn(far, 9000, at(1));
        assert_eq!(paths.to(far, at(1)), 1400);
    }

    #[test]
    fn a_thousand_paths_take_no_more_memory_and_the_newest_is_known() {
        let mut paths = PathMtus::new(1500, [1, 2]);
        for n in 0..1000 {
            let far = IpAddress::v4(Ipv4Addr::from_bits(0x0a00_0000 + n));
            paths.learn(far, 1400, at(n.into()));
            assert_eq!(paths.to(far, at(n.into())), 1400);
        }
        assert_eq!(paths.entries.len(), ENTRIES);
    }
}
