//! Our own addresses, from the first probe for duplicates to their defence: by ARP (RFC 5227) for IPv4, by neighbor
//! discovery (RFC 4862, section 5.4) for IPv6.
//!
//! ```text
//!   Tentative --(probes unanswered)--> Preferred --(somebody else claims it)--> Preferred, defended
//!       |
//!       +------(somebody else has it)--> Duplicate: the engine gives up and says who has it
//! ```
//!
//! RFC 5227 spreads its probes over 4 to 7 seconds, for networks with minutes-long outages of the spanning
//! tree, and RFC 4862 waits for a second after its single one. An engine that takes over an address on a running link
//! cannot be silent for that long; three probes 100 ms apart find every host that answers at all. Defence goes by the
//! RFCs' letter.

use std::hash::Hasher;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::wire::ndp::solicited_node;

/// Probes sent before an address is used (RFC 5227, PROBE_NUM).
const PROBE_COUNT: u8 = 3;
/// Time between two probes, and from the last one until the address is ours.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Announcements sent once the address is ours (RFC 5227, ANNOUNCE_NUM).
const ANNOUNCE_COUNT: u8 = 2;
/// Time between announcements (RFC 5227, ANNOUNCE_INTERVAL).
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// The least time between two defences of an address (RFC 5227, DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Addresses that may be gained while the stack runs, besides those that it has from the start.
pub const MAX_GAINED: usize = 12;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// Being probed: not used yet.
    Tentative,
    /// Ours.
    Preferred,
    /// Another host has it: not used.
    Duplicate,
}

/// Who finds out whether an address is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probing {
    /// Nobody: it is known to be ours.
    #[default]
    Off,
    /// We probe for it, and announce it afterwards.
    Lead,
    /// Another worker with the same addresses does: we wait for its word ([`Addresses::settle`]).
    Follow,
}

/// What the stack has to send about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Does anybody have it? (RFC 5227, section 2.1.1: sender address zero. RFC 4862, section 5.4.2: from the unspecified
    /// address.)
    Probe(IpAddress),
    /// It is ours. (RFC 5227, section 2.3: sender and target address alike. RFC 4861, section 7.2.6.)
    Announce(IpAddress),
}

/// What a claim of ours that somebody else makes leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It was still being probed: it is theirs.
    Duplicate,
    /// It is ours: say so.
    Defend,
    /// We said so less than ten seconds ago: nothing, lest two hosts shout at each other for ever.
    Ignore,
}

/// One address of ours.
#[derive(Clone, Debug)]
struct Own {
    address: IpAddress,
    /// The directed broadcast address of the link; a link of two hosts has none (RFC 3021), nor has one of IPv6.
    broadcast: Option<IpAddress>,
    prefix: IpNet,
    state: AddressState,
    probes_left: u8,
    announcements_left: u8,
    next: Option<Instant>,
    last_defence: Option<Instant>,
    /// Of one that was gained while the stack runs.
    gained: Option<Gained>,
}

/// What there is to know of an address that was gained.
#[derive(Clone, Copy, Debug)]
struct Gained {
    deprecated: bool,
    temporary: bool,
    /// Whether it was told that it is ours.
    told: bool,
}

/// An address of ours that a datagram may be sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// The address.
    pub address: IpAddress,
    /// Length of the prefix of its link, bits.
    pub prefix_len: u8,
    /// Whether it is to be used no more for what begins.
    pub deprecated: bool,
    /// Whether it is one that changes for the sake of privacy.
    pub temporary: bool,
}

/// All addresses of ours.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Never longer than it had room for at the start.
    own: Vec<Own>,
}

impl Own {
    fn new(prefix: IpNet, probing: Probing, gained: Option<Gained>, now: Instant) -> Self {
        let lead = probing == Probing::Lead;
        Self {
            address: prefix.addr().into(),
            broadcast: (prefix.addr().is_ipv4() && prefix.prefix_len() < 31).then(|| prefix.broadcast().into()),
            prefix,
            state: if probing == Probing::Off { AddressState::Preferred } else { AddressState::Tentative },
            probes_left: if lead { PROBE_COUNT } else { 0 },
            announcements_left: if lead { ANNOUNCE_COUNT } else { 0 },
            next: lead.then_some(now),
            last_defence: None,
            gained,
        }
    }

    const fn settle(&mut self) {
        if matches!(self.state, AddressState::Tentative) {
            (self.state, self.next, self.probes_left) = (AddressState::Preferred, None, 0);
        }
    }
}

impl Addresses {
    /// Addresses with the prefixes of their links. Who leads probes for them from `now` on.
    #[must_use]
    pub fn new(prefixes: &[IpNet], probing: Probing, now: Instant) -> Self {
        let mut own = Vec::with_capacity(prefixes.len() + MAX_GAINED);
        own.extend(prefixes.iter().map(|&prefix| Own::new(prefix, probing, None, now)));
        Self { own }
    }

    /// Takes the word of the worker that leads: every address that there was at the start is ours.
    pub fn settle(&mut self) {
        self.own.iter_mut().filter(|own| own.gained.is_none()).for_each(Own::settle);
    }

    /// Takes the word of the worker that leads about one address that was gained.
    pub fn settle_gained(&mut self, address: IpAddress) {
        self.own.iter_mut().filter(|own| own.address == address).for_each(Own::settle);
    }

    /// Gains an address with the prefix of its link; `false` if it is ours already or there is no room. Who leads probes
    /// for it from `now` on.
    pub fn gain(&mut self, prefix: IpNet, temporary: bool, probing: Probing, now: Instant) -> bool {
        let is_new = self.state(prefix.addr().into()).is_none() && self.own.len() < self.own.capacity();
        if is_new {
            let gained = Gained { deprecated: false, temporary, told: false };
            self.own.push(Own::new(prefix, probing, Some(gained), now));
        }
        is_new
    }

    /// Loses an address that was gained.
    pub fn lose(&mut self, address: IpAddress) {
        self.own.retain(|own| own.address != address || own.gained.is_none());
    }

    /// Says whether an address that was gained may be used for what begins.
    pub fn set_deprecated(&mut self, address: IpAddress, deprecated: bool) {
        let own = self.own.iter_mut().find(|own| own.address == address);
        if let Some(gained) = own.and_then(|own| own.gained.as_mut()) {
            gained.deprecated = deprecated;
        }
    }

    /// The next address that was gained and turned out to be free since this was asked.
    pub fn next_settled(&mut self) -> Option<IpAddress> {
        let preferred = self.own.iter_mut().filter(|own| own.state == AddressState::Preferred);
        preferred
            .filter_map(|own| Some((own.address, own.gained.as_mut()?)))
            .find_map(|(address, gained)| (!std::mem::replace(&mut gained.told, true)).then_some(address))
    }

    /// Announces every address of ours anew, as after RFC 5227's probing: the link may be another one.
    pub fn announce(&mut self, now: Instant) {
        for own in self.own.iter_mut().filter(|own| own.state == AddressState::Preferred) {
            (own.announcements_left, own.next) = (ANNOUNCE_COUNT, Some(now));
        }
    }

    /// The state of an address; `None` if it is not ours.
    #[inline]
    #[must_use]
    pub fn state(&self, address: IpAddress) -> Option<AddressState> {
        self.own.iter().find(|own| own.address == address).map(|own| own.state)
    }

    /// Whether an address is ours to use.
    #[inline]
    #[must_use]
    pub fn is_ours(&self, address: IpAddress) -> bool {
        self.state(address) == Some(AddressState::Preferred)
    }

    /// Whether every address that there was at the start is ours to use.
    #[must_use]
    pub fn all_preferred(&self) -> bool {
        self.own.iter().filter(|own| own.gained.is_none()).all(|own| own.state == AddressState::Preferred)
    }

    /// Whether an address is the directed broadcast address of a link of ours (RFC 919).
    #[inline]
    #[must_use]
    pub fn is_directed_broadcast(&self, address: IpAddress) -> bool {
        self.own.iter().any(|own| own.broadcast == Some(address))
    }

    /// Whether a datagram can come from an address as far as our own ones tell: it is neither one of them
    /// nor the broadcast address of a link of ours.
    #[inline]
    #[must_use]
    pub fn may_send(&self, address: IpAddress) -> bool {
        self.own.iter().all(|own| own.address != address && own.broadcast != Some(address))
    }

    /// Whether `destination` is ours to use and a datagram can come from `source`: both of the above in one.
    #[inline]
    #[must_use]
    pub fn may_receive(&self, source: IpAddress, destination: IpAddress) -> bool {
        let mut ours = false;
        for own in &self.own {
            if own.address == source || own.broadcast == Some(source) {
                return false;
            }
            ours |= own.address == destination && own.state == AddressState::Preferred;
        }
        ours
    }

    /// The prefixes, with the addresses in them.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.own.iter().map(|own| own.prefix)
    }

    /// The addresses that datagrams may be sent from.
    pub fn usable(&self) -> impl Iterator<Item = Usable> + '_ {
        self.own.iter().filter(|own| own.state == AddressState::Preferred).map(|own| Usable {
            address: own.address,
            prefix_len: own.prefix.prefix_len(),
            deprecated: own.gained.is_some_and(|gained| gained.deprecated),
            temporary: own.gained.is_some_and(|gained| gained.temporary),
        })
    }

    /// A link-local address of IPv6 that is ours to use.
    #[must_use]
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let usable = self.own.iter().filter(|own| own.state == AddressState::Preferred);
        usable.filter_map(|own| own.address.to_v6()).find(Ipv6Addr::is_unicast_link_local)
    }

    /// The address of ours whose solicited-node group this is (RFC 4291, section 2.7.1), in whatever state.
    #[must_use]
    pub fn solicited_at(&self, group: Ipv6Addr) -> Option<IpAddress> {
        let of = |own: &&Own| own.address.to_v6().is_some_and(|address| solicited_node(address) == group);
        self.own.iter().find(of).map(|own| own.address)
    }

    /// Takes note that a host with `mac`, which is not ours, claims `address`; `None` if it is not ours.
    pub fn claimed(&mut self, address: IpAddress, now: Instant) -> Option<Conflict> {
        let own = self.own.iter_mut().find(|own| own.address == address)?;
        if own.state != AddressState::Preferred {
            (own.state, own.next) = (AddressState::Duplicate, None);
            return Some(Conflict::Duplicate);
        }
        // RFC 5227, section 2.4 (b): broadcast one single ARP Announcement, if none was seen in DEFEND_INTERVAL.
        if own.last_defence.is_some_and(|last| now.since(last) < DEFEND_INTERVAL) {
            return Some(Conflict::Ignore);
        }
        own.last_defence = Some(now);
        own.announcements_left = own.announcements_left.max(1);
        own.next = Some(now);
        Some(Conflict::Defend)
    }

    /// The next thing to send about an address that is due, after its state has been brought up to `now`.
    pub fn due(&mut self, now: Instant) -> Option<Claim> {
        let own = self.own.iter_mut().find(|own| own.next.is_some_and(|next| next <= now))?;
        let address = own.address;
        if own.probes_left > 0 {
            own.probes_left -= 1;
            own.next = Some(now + PROBE_INTERVAL);
            return Some(Claim::Probe(address));
        }
        own.state = AddressState::Preferred;
        own.announcements_left = own.announcements_left.saturating_sub(1);
        own.next = (own.announcements_left > 0).then_some(now + ANNOUNCE_INTERVAL);
        Some(Claim::Announce(address))
    }

    /// When [`due`](Self::due) has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.own.iter().filter_map(|own| own.next).min()
    }
}

/// A link-local address of our own (RFC 4291, section 2.5.6), the same whenever we start with the same first address.
///
/// The kernel's has an identifier made from the MAC address, which we share with it; so ours is made from a hash, as
/// RFC 7217 has it.
#[must_use]
pub fn link_local(mac: Mac, first: Ipv6Addr) -> Ipv6Net {
    let [a, b, c, d, e, f] = mac.0;
    let mut hasher = SipHasher13::new_with_keys(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), 0);
    hasher.write_u128(first.to_bits());
    let address = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(hasher.finish()));
    Ipv6Net::new_assert(address, 64)
}

/// Whether `mac` may be another host's claim: one that is neither ours nor nobody's.
#[must_use]
pub fn is_foreign(mac: Mac, ours: Mac) -> bool {
    mac != ours && !mac.is_multicast() && mac != Mac::ZERO
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const OURS: IpAddress = address(2);

    const fn address(last: u8) -> IpAddress {
        IpAddress::v4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn addresses(probing: Probing) -> Addresses {
        Addresses::new(&["10.0.0.2/24".parse().unwrap()], probing, Instant::ZERO)
    }

    /// Runs until `until` and says what was sent when, in milliseconds.
    fn run(addresses: &mut Addresses, until: Duration) -> Vec<(u64, Claim)> {
        let mut sent = Vec::new();
        while let Some(now) = addresses.next_deadline().filter(|&next| next <= Instant::ZERO + until) {
            while let Some(claim) = addresses.due(now) {
                sent.push((now.as_ns() / 1_000_000, claim));
            }
        }
        sent
    }

    #[test]
    fn an_unanswered_address_becomes_ours_after_three_probes() {
        let mut addresses = addresses(Probing::Lead);
        assert!(!addresses.is_ours(OURS));
        let sent = run(&mut addresses, Duration::from_secs(60));
        let (probe, announce) = (Claim::Probe(OURS), Claim::Announce(OURS));
        assert_eq!(sent, [(0, probe), (100, probe), (200, probe), (300, announce), (2300, announce)]);
        assert!(addresses.all_preferred());
    }

    #[test]
    fn an_answered_probe_makes_a_duplicate_that_is_never_used() {
        let mut addresses = addresses(Probing::Lead);
        assert_eq!(addresses.due(Instant::ZERO), Some(Claim::Probe(OURS)));
        assert_eq!(addresses.claimed(OURS, Instant::from_ns(5)), Some(Conflict::Duplicate));
        assert_eq!(addresses.state(OURS), Some(AddressState::Duplicate));
        assert_eq!(addresses.next_deadline(), None);
        assert_eq!(addresses.usable().count(), 0);
    }

    #[test]
    fn an_address_in_use_is_defended_at_most_every_ten_seconds() {
        let mut addresses = addresses(Probing::Off);
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert_eq!(addresses.claimed(OURS, at(1)), Some(Conflict::Defend));
        assert_eq!(addresses.due(at(1)), Some(Claim::Announce(OURS)));
        assert_eq!(addresses.due(at(1)), None);
        assert_eq!(addresses.claimed(OURS, at(10)), Some(Conflict::Ignore));
        assert_eq!(addresses.claimed(OURS, at(11)), Some(Conflict::Defend));
        assert!(addresses.is_ours(OURS));
    }

    #[test]
    fn a_follower_sends_nothing_and_waits_for_the_leaders_word() {
        let mut addresses = addresses(Probing::Follow);
        assert_eq!((addresses.is_ours(OURS), addresses.next_deadline()), (false, None));
        addresses.settle();
        assert_eq!((addresses.is_ours(OURS), addresses.next_deadline()), (true, None));
    }

    #[test]
    fn addresses_are_announced_anew_when_the_link_is_another_one() {
        let mut followed = addresses(Probing::Follow);
        followed.announce(Instant::ZERO);
        assert_eq!(followed.next_deadline(), None, "it is not ours yet");
        let mut ours = addresses(Probing::Off);
        ours.announce(Instant::ZERO);
        let sent = run(&mut ours, Duration::from_secs(60));
        assert_eq!(sent, [(0, Claim::Announce(OURS)), (2000, Claim::Announce(OURS))]);
    }

    #[test]
    fn an_address_that_was_gained_is_probed_told_once_deprecated_and_lost() {
        let mut addresses = addresses(Probing::Off);
        let gained = "2001:db8::2/64".parse::<IpNet>().unwrap();
        let address = IpAddress::from(gained.addr());
        assert!(addresses.gain(gained, true, Probing::Lead, Instant::ZERO));
        assert!(!addresses.gain(gained, true, Probing::Lead, Instant::ZERO), "twice");
        assert!(addresses.all_preferred() && addresses.next_settled().is_none());
        addresses.settle();
        assert!(!addresses.is_ours(address), "the word about the first ones says nothing of it");
        run(&mut addresses, Duration::from_secs(1));
        assert_eq!((addresses.next_settled(), addresses.next_settled()), (Some(address), None));
        addresses.set_deprecated(address, true);
        let usable = Usable { address, prefix_len: 64, deprecated: true, temporary: true };
        assert_eq!(addresses.usable().nth(1), Some(usable));
        addresses.lose(address);
        addresses.lose(OURS);
        assert_eq!((addresses.state(address), addresses.is_ours(OURS)), (None, true), "only what was gained is lost");
    }

    #[test]
    fn no_more_addresses_are_gained_than_there_is_room_for() {
        let mut addresses = addresses(Probing::Off);
        let room = addresses.own.capacity() - 1;
        let gained = (0..100_u16).filter(|&n| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
            addresses.gain(Ipv6Net::new_assert(address, 64).into(), false, Probing::Follow, Instant::ZERO)
        });
        assert_eq!(gained.count(), room);
    }

    #[test]
    fn the_link_local_address_is_stable_and_nobody_elses() {
        let of = |mac, first: &str| link_local(Mac([2, 0, 0, 0, 0, mac]), first.parse().unwrap());
        let ours = of(1, "fd00::1");
        assert_eq!(ours, of(1, "fd00::1"));
        assert!(ours.addr().is_unicast_link_local());
        assert!([of(2, "fd00::1"), of(1, "fd00::2")].iter().all(|other| *other != ours));
    }

    #[test]
    fn strangers_addresses_are_not_our_business() {
        assert_eq!(addresses(Probing::Off).claimed(address(3), Instant::ZERO), None);
    }

    #[test]
    fn the_directed_broadcast_address_is_the_last_of_the_prefix() {
        let addresses = addresses(Probing::Off);
        assert!(addresses.is_directed_broadcast(address(255)));
        assert!(!addresses.is_directed_broadcast(address(254)));
        let pair = Addresses::new(&["10.0.0.0/31".parse().unwrap()], Probing::Off, Instant::ZERO);
        assert!(!pair.is_directed_broadcast(address(1)), "RFC 3021: a /31 has none");
    }
}
