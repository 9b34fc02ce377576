//! What a host makes of routers' advertisements: default routers and prefixes on the link (RFC 4861, section 6.3), and
//! addresses of its own (RFC 4862, section 5.5), with identifiers that stay (RFC 7217) and ones that change (RFC 8981).
//!
//! ```text
//!   solicitations, at most 3, 4 s apart <-- due()
//!   advertisement --> receive() --> routers, prefixes on the link --> routes()
//!                               --> prefixes for addresses -----> next_change(): add, deprecate, remove
//!   time -----------> due() ----^
//! ```
//!
//! Each worker of an endpoint digests each advertisement, and comes to the same results, as identifiers depend on keys
//! that all of them have and on counts. Anybody on the link can make up advertisements: tables are small, what came
//! first stays, and what is configured by hand comes before everything that is here.

use std::hash::Hasher;
use std::net::Ipv6Addr;
use std::time::Duration;

use arrayvec::ArrayVec;
use ipnet::{IpNet, Ipv6Net};
use siphasher::sip::SipHasher13;

use super::route::Route;
use crate::base::Instant;
use crate::link::address::MAX_GAINED;
use crate::wire::ethernet::Mac;
use crate::wire::ipv6::MIN_MTU;
use crate::wire::ndp::{PrefixInformation, RouterAdvertisement};

mod lifetime;
use lifetime::Lifetime;

/// Default routers that are remembered. RFC 4861, section 6.3.4: at least two; more than a link has.
pub const MAX_ROUTERS: usize = 4;
/// Prefixes that are remembered, for each of the two uses: those of two providers while both renumber.
pub const MAX_PREFIXES: usize = 4;
/// Addresses that are made of prefixes: of each prefix one that stays, one that changes, and the one before that.
pub const MAX_ADDRESSES: usize = 3 * MAX_PREFIXES;

const _: () = assert!(MAX_ADDRESSES <= MAX_GAINED, "there is room for all of them among our own");

/// RFC 4861, section 10: MAX_RTR_SOLICITATION_DELAY, RTR_SOLICITATION_INTERVAL, MAX_RTR_SOLICITATIONS.
const SOLICITATION_DELAY: Duration = Duration::from_secs(1);
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
const SOLICITATIONS: u8 = 3;
/// RFC 7217, section 7, IDGEN_RETRIES; RFC 8981, section 3.8, TEMP_IDGEN_RETRIES.
const IDENTIFIER_RETRIES: u8 = 3;
/// RFC 8981, section 3.8: TEMP_VALID_LIFETIME, TEMP_PREFERRED_LIFETIME, and REGEN_ADVANCE with one probe of a second.
const TEMPORARY_VALID: Duration = Duration::from_secs(2 * 86_400);
const TEMPORARY_PREFERRED: Duration = Duration::from_secs(86_400);
const REGENERATE_BEFORE: Duration = Duration::from_secs(5);
/// RFC 8981, section 3.8: MAX_DESYNC_FACTOR, 0.4 of TEMP_PREFERRED_LIFETIME.
const MAX_DESYNC_S: u64 = 86_400 * 4 / 10;
/// Between which bounds a router's Retrans Timer is believed: as Linux takes no less, and so that a forged one does not have us
/// wait for dead neighbors for minutes.
const RETRANSMIT_MS: std::ops::RangeInclusive<u32> = 10..=10_000;
/// Metric of a route that a router told of: any that is configured counts more. (Linux: 1024.)
const METRIC: u32 = 1024;

/// Which addresses are made of prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slaac {
    /// None.
    #[default]
    Off,
    /// Of each prefix one that is the same whenever the host is on that link.
    Stable,
    /// And one that changes every day, which connections are opened from.
    Temporary,
}

/// What is to be made of advertisements.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutoconfConfig {
    /// Whether routers and prefixes become routes.
    pub routes: bool,
    /// Which addresses are made.
    pub slaac: Slaac,
    /// A secret that is the same whenever the host starts (RFC 7217, section 5).
    pub stable_key: [u64; 2],
}

/// What becomes of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is to be probed for duplicates, and used.
    Add {
        /// The address, with the prefix of its link.
        address: Ipv6Net,
        /// Whether it is one that changes.
        temporary: bool,
    },
    /// Whether it is not to be used any more for what begins.
    Deprecate(Ipv6Addr, bool),
    /// It is not valid any more.
    Remove(Ipv6Addr),
}

/// The state of autoconfiguration of one interface.
#[derive(Clone, Debug)]
pub struct Autoconf {
    config: AutoconfConfig,
    mac: Mac,
    /// Keys what has to be different at each start.
    secret: [u64; 2],
    link_mtu: u16,
    routers: ArrayVec<Router, MAX_ROUTERS>,
    /// The router in use, and whether another one may have to be chosen.
    chosen: Option<Ipv6Addr>,
    is_choice_due: bool,
    on_link: ArrayVec<OnLink, MAX_PREFIXES>,
    prefixes: ArrayVec<Prefix, MAX_PREFIXES>,
    addresses: ArrayVec<Address, MAX_ADDRESSES>,
    mtu: Option<u16>,
    hop_limit: Option<u8>,
    reachable: Option<Duration>,
    retransmit: Option<Duration>,
    solicitations_left: u8,
    solicit_at: Option<Instant>,
    routes_changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Router {
    address: Ipv6Addr,
    until: Lifetime,
}

#[derive(Clone, Copy, Debug)]
struct OnLink {
    prefix: Ipv6Net,
    until: Lifetime,
}

/// A prefix that addresses are made of.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    prefix: Ipv6Net,
    valid: Lifetime,
    preferred: Lifetime,
    /// Identifiers that were taken (RFC 7217: DAD_Counter).
    taken: u8,
    /// Temporary addresses that were made, and how many of the last ones were taken.
    generation: u64,
    temporary_taken: u8,
    /// When the next temporary address is made.
    regenerate_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    address: Ipv6Net,
    temporary: bool,
    valid: Lifetime,
    preferred: Lifetime,
    /// Lifetimes end then at the latest, whatever routers say (of temporary ones).
    latest: (Lifetime, Lifetime),
    deprecated: bool,
    gone: bool,
    /// What was told of it: whether it is deprecated; `None`: nothing yet.
    told: Option<bool>,
}

impl Autoconf {
    /// Knows nothing yet, and asks after a random time. `mac` and `link_mtu` are those of the interface, `secret` is
    /// different at each start; `solicits` says whether routers are asked.
    #[must_use]
    pub fn new(
        config: AutoconfConfig,
        mac: Mac,
        link_mtu: u16,
        secret: [u64; 2],
        solicits: bool,
        now: Instant,
    ) -> Self {
        // RFC 4861, section 6.3.7: a host SHOULD delay the transmission for a random amount of time.
        let delay = hash(secret, &[0x5011_c17e]) % SOLICITATION_DELAY.as_nanos() as u64;
        Self {
            config,
            mac,
            secret,
            link_mtu,
            routers: ArrayVec::new(),
            chosen: None,
            is_choice_due: false,
            on_link: ArrayVec::new(),
            prefixes: ArrayVec::new(),
            addresses: ArrayVec::new(),
            mtu: None,
            hop_limit: None,
            reachable: None,
            retransmit: None,
            solicitations_left: if solicits { SOLICITATIONS } else { 0 },
            solicit_at: solicits.then(|| now.plus_ns(delay)),
            routes_changed: false,
        }
    }

    /// Takes in what the router `source` tells.
    pub fn receive(&mut self, told: &RouterAdvertisement, source: Ipv6Addr, now: Instant) {
        if told.lifetime_s > 0 {
            // RFC 4861, section 6.3.7: once a valid advertisement with a non-zero Router Lifetime came, the host desists from
            // soliciting.
            (self.solicitations_left, self.solicit_at) = (0, None);
        }
        if self.config.routes {
            self.take_router(source, told.lifetime_s, now);
            self.take_parameters(told);
        }
        for prefix in &told.prefixes {
            let Ok(net) = Ipv6Net::new(prefix.prefix, prefix.len) else { continue };
            // RFC 4861, section 6.3.4, and RFC 4862, section 5.5.3 (b): a prefix that is the link-local prefix is ignored.
            if net.addr().is_unicast_link_local() || net.addr().is_multicast() {
                continue;
            }
            if prefix.on_link && self.config.routes {
                self.take_on_link(net, prefix.valid_s, now);
            }
            if prefix.autonomous && self.config.slaac != Slaac::Off {
                self.take_prefix(net, prefix, now);
            }
        }
    }

    /// RFC 4861, section 6.3.4: the default router list.
    fn take_router(&mut self, address: Ipv6Addr, lifetime_s: u16, now: Instant) {
        let at = self.routers.iter().position(|router| router.address == address);
        match (at, lifetime_s) {
            // If the Router Lifetime value is zero, immediately time-out the entry.
            (Some(at), 0) => {
                self.routers.remove(at);
                (self.routes_changed, self.is_choice_due) = (true, true);
            }
            (None, 0) => {}
            (Some(at), lifetime_s) => {
                let known = self.routers.get_mut(at);
                known.into_iter().for_each(|known| known.until = Lifetime::of_router(lifetime_s, now));
            }
            (None, lifetime_s) => {
                let router = Router { address, until: Lifetime::of_router(lifetime_s, now) };
                let is_new = self.routers.try_push(router).is_ok();
                self.routes_changed |= is_new;
                self.is_choice_due |= is_new;
            }
        }
    }

    /// Hears that a neighbor does not answer.
    pub fn lost(&mut self, address: Ipv6Addr) {
        self.is_choice_due |= self.chosen == Some(address);
    }

    /// Whether another router may have to be chosen.
    #[must_use]
    pub const fn is_choice_due(&self) -> bool {
        self.is_choice_due
    }

    /// Chooses the router to use anew, if that may have to be another one. `is_known` says whether a neighbor is in the
    /// cache with its MAC address.
    ///
    /// RFC 4861, section 6.3.6: routers that are reachable or probably reachable (i.e., in any state other than INCOMPLETE)
    /// SHOULD be preferred over routers whose reachability is unknown or suspect. When no routers are known to be reachable
    /// or probably reachable, routers SHOULD be selected in a round-robin fashion.
    pub fn choose_router(&mut self, is_known: impl Fn(Ipv6Addr) -> bool) {
        if !std::mem::take(&mut self.is_choice_due) {
            return;
        }
        let before = self.chosen;
        let at = self.routers.iter().position(|router| Some(router.address) == before);
        // Those behind the one in use, and it itself last, unless it will do.
        let next = at.map_or(0, |at| at + 1);
        let in_turn = self.routers.iter().cycle().skip(next).take(self.routers.len()).map(|router| router.address);
        let kept = before.filter(|&router| at.is_some() && is_known(router));
        self.chosen =
            kept.or_else(|| in_turn.clone().find(|&router| is_known(router))).or_else(|| in_turn.clone().next());
        self.routes_changed |= self.chosen != before;
    }

    /// RFC 4861, section 6.3.4: unspecified values are ignored. The MTU is believed between the least one of IPv6 and the
    /// interface's.
    fn take_parameters(&mut self, told: &RouterAdvertisement) {
        let believed = |mtu: &u16| (MIN_MTU as u16..=self.link_mtu).contains(mtu);
        if let Some(mtu) = told.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(believed) {
            self.mtu = Some(mtu);
        }
        self.hop_limit = Some(told.hop_limit).filter(|told| *told != 0).or(self.hop_limit);
        if RETRANSMIT_MS.contains(&told.retransmit_ms) {
            self.retransmit = Some(Duration::from_millis(told.retransmit_ms.into()));
        }
        // RFC 4861, section 6.2.1: AdvReachableTime is no greater than an hour.
        if (1..=3_600_000).contains(&told.reachable_ms) {
            self.reachable = Some(Duration::from_millis(told.reachable_ms.into()));
        }
    }

    /// RFC 4861, section 6.3.4: the prefix list.
    fn take_on_link(&mut self, prefix: Ipv6Net, valid_s: u32, now: Instant) {
        let at = self.on_link.iter().position(|known| known.prefix == prefix);
        match (at, valid_s) {
            (Some(at), 0) => {
                self.on_link.remove(at);
                self.routes_changed = true;
            }
            (None, 0) => {}
            (Some(at), valid_s) => {
                self.on_link.get_mut(at).into_iter().for_each(|known| known.until = Lifetime::of(valid_s, now));
            }
            (None, valid_s) => {
                let known = OnLink { prefix, until: Lifetime::of(valid_s, now) };
                self.routes_changed |= self.on_link.try_push(known).is_ok();
            }
        }
    }

    /// RFC 4862, section 5.5.3.
    fn take_prefix(&mut self, prefix: Ipv6Net, told: &PrefixInformation, now: Instant) {
        // (c): if the preferred lifetime is greater than the valid lifetime, silently ignore the option.
        if told.preferred_s > told.valid_s {
            return;
        }
        let (valid, preferred) = (Lifetime::of(told.valid_s, now), Lifetime::of(told.preferred_s, now));
        if let Some(known) = self.prefixes.iter_mut().find(|known| known.prefix == prefix) {
            // (e)
            known.preferred = preferred;
            known.valid = known.valid.updated(told.valid_s, now);
            let (valid, preferred) = (known.valid, known.preferred);
            for address in self.addresses.iter_mut().filter(|address| address.address.trunc() == prefix) {
                // RFC 8981, section 3.4 (1): but never beyond the lifetimes that a temporary address was made with.
                address.valid = valid.min(address.latest.0);
                address.preferred = preferred.min(address.latest.1);
            }
            return;
        }
        // (d): if no address of the prefix is there, and the valid lifetime is not 0; and if the sum of the prefix length and
        // the interface identifier length equals 128.
        if told.valid_s == 0 || prefix.prefix_len() != 64 {
            return;
        }
        let new = Prefix {
            prefix,
            valid,
            preferred,
            taken: 0,
            generation: 0,
            temporary_taken: 0,
            regenerate_at: (self.config.slaac == Slaac::Temporary).then_some(now),
        };
        if self.prefixes.try_push(new).is_ok() {
            self.make_stable(self.prefixes.len() - 1);
        }
    }

    /// Makes the lasting address of a prefix.
    fn make_stable(&mut self, at: usize) {
        let Some(&Prefix { prefix, valid, preferred, taken, .. }) = self.prefixes.get(at) else { return };
        // RFC 7217, section 5: F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key).
        let [a, b, c, d, e, f] = self.mac.0;
        let interface = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let upper = (prefix.network().to_bits() >> 64) as u64;
        let address =
            identified(prefix, |again| hash(self.config.stable_key, &[upper, interface, u64::from(taken), again]));
        self.enter(address, false, (valid, preferred), (Lifetime::Forever, Lifetime::Forever));
    }

    /// Makes the next temporary address of a prefix (RFC 8981, section 3.4).
    fn make_temporary(&mut self, at: usize, now: Instant) {
        let Some(known) = self.prefixes.get_mut(at) else { return };
        known.generation += 1;
        let Prefix { prefix, valid, preferred, generation, .. } = *known;
        let upper = (prefix.network().to_bits() >> 64) as u64;
        let desync = Duration::from_secs(hash(self.secret, &[upper, generation, 1]) % MAX_DESYNC_S);
        let latest =
            (Lifetime::Until(now + TEMPORARY_VALID), Lifetime::Until(now + TEMPORARY_PREFERRED.saturating_sub(desync)));
        let lifetimes = (valid.min(latest.0), preferred.min(latest.1));
        // (4): a temporary address is created only if its preferred lifetime is greater than REGEN_ADVANCE.
        if !lifetimes.1.is_over(now + REGENERATE_BEFORE) {
            known.regenerate_at = lifetimes.1.end().map(|end| end - REGENERATE_BEFORE);
            let secret = self.secret;
            let address = identified(prefix, |again| hash(secret, &[upper, generation, 2, again]));
            self.enter(address, true, lifetimes, latest);
        } else {
            known.regenerate_at = None;
        }
    }

    fn enter(
        &mut self,
        address: Ipv6Net,
        temporary: bool,
        (valid, preferred): (Lifetime, Lifetime),
        latest: (Lifetime, Lifetime),
    ) {
        // Without room it is not made.
        let new = Address { address, temporary, valid, preferred, latest, deprecated: false, gone: false, told: None };
        let _ = self.addresses.try_push(new);
    }

    /// Whether an address was made here.
    #[must_use]
    pub fn owns(&self, address: Ipv6Addr) -> bool {
        self.addresses.iter().any(|own| own.address.addr() == address && !own.gone)
    }

    /// Hears that another host has an address that was made here: another one is made, a few times.
    pub fn taken(&mut self, address: Ipv6Addr, now: Instant) {
        let Some(own) = self.addresses.iter_mut().find(|own| own.address.addr() == address && !own.gone) else {
            return;
        };
        own.gone = true;
        let (prefix, temporary) = (own.address.trunc(), own.temporary);
        let Some(at) = self.prefixes.iter().position(|known| known.prefix == prefix) else { return };
        let Some(known) = self.prefixes.get_mut(at) else { return };
        let taken = if temporary { &mut known.temporary_taken } else { &mut known.taken };
        *taken += 1;
        // RFC 7217, section 6: with IDGEN_RETRIES tentative addresses taken, the host gives up; so does RFC 8981, section
        // 3.3 (7).
        match (*taken < IDENTIFIER_RETRIES, temporary) {
            (false, true) => known.regenerate_at = None,
            (false, false) => {}
            (true, true) => self.make_temporary(at, now),
            (true, false) => self.make_stable(at),
        }
    }

    /// Brings everything up to `now`, and says whether routers are to be asked now.
    pub fn due(&mut self, now: Instant) -> bool {
        let known = (self.routers.len(), self.on_link.len());
        self.routers.retain(|router| !router.until.is_over(now));
        self.on_link.retain(|known| !known.until.is_over(now));
        self.routes_changed |= known != (self.routers.len(), self.on_link.len());
        self.is_choice_due |= known.0 != self.routers.len();
        self.prefixes.retain(|known| !known.valid.is_over(now));
        for own in &mut self.addresses {
            own.gone |= own.valid.is_over(now);
            own.deprecated = own.preferred.is_over(now);
        }
        for at in 0..self.prefixes.len() {
            if let Some(known) = self.prefixes.get_mut(at)
                && known.regenerate_at.is_some_and(|next| next <= now)
            {
                known.temporary_taken = 0;
                self.make_temporary(at, now);
            }
        }
        if self.solicit_at.take_if(|next| *next <= now).is_none() {
            return false;
        }
        self.solicitations_left = self.solicitations_left.saturating_sub(1);
        self.solicit_at = (self.solicitations_left > 0).then_some(now + SOLICITATION_INTERVAL);
        true
    }

    /// When [`due`](Self::due) has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let routers = self.routers.iter().filter_map(|router| router.until.end());
        let on_link = self.on_link.iter().filter_map(|known| known.until.end());
        let prefixes = self.prefixes.iter().flat_map(|known| [known.valid.end(), known.regenerate_at]).flatten();
        let lives = self.addresses.iter().filter(|own| !own.gone);
        let addresses = lives
            .flat_map(|own| [own.valid.end(), own.preferred.end().filter(|_| !own.deprecated)].into_iter().flatten());
        routers.chain(on_link).chain(prefixes).chain(addresses).chain(self.solicit_at).min()
    }

    /// The next thing that becomes of an address. Ask until there is none, after each of the others.
    pub fn next_change(&mut self) -> Option<Change> {
        // What was never told of need not be taken back.
        self.addresses.retain(|own| !(own.gone && own.told.is_none()));
        let at = self.addresses.iter().position(|own| own.gone || own.told != Some(own.deprecated))?;
        let own = self.addresses.get_mut(at)?;
        let address = own.address.addr();
        if own.gone {
            self.addresses.remove(at);
            return Some(Change::Remove(address));
        }
        if own.told.is_none() {
            own.told = Some(false);
            return Some(Change::Add { address: own.address, temporary: own.temporary });
        }
        own.told = Some(own.deprecated);
        Some(Change::Deprecate(address, own.deprecated))
    }

    /// Whether [`routes`](Self::routes) gives others than when this was asked last.
    pub fn routes_changed(&mut self) -> bool {
        std::mem::take(&mut self.routes_changed)
    }

    /// The ways out that routers told of, the router in use before others.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let told = |route: Route| Route { metric: METRIC, ..route };
        let on_link = self.on_link.iter().map(|known| Route::connected(IpNet::V6(known.prefix)));
        let all = self.routers.iter().map(|router| router.address);
        let (chosen, others): (Vec<_>, Vec<_>) = all.partition(|&router| Some(router) == self.chosen);
        let routers = chosen.into_iter().chain(others).map(|router| Route::default_via(router.into()));
        on_link.chain(routers).map(told).collect()
    }

    /// Longest IP packet for the link, bytes, if routers say that it is shorter than the interface's.
    #[must_use]
    pub const fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// Hears that the interface has another MAC address: addresses of prefixes that are new are made with that one.
    pub const fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }

    /// Hears that the interface has another MTU, bytes. What routers said of the one before no longer counts.
    pub const fn set_link_mtu(&mut self, link_mtu: u16) {
        (self.link_mtu, self.mtu) = (link_mtu, None);
    }

    /// Hops that packets may take, if routers say so.
    #[must_use]
    pub const fn hop_limit(&self) -> Option<u8> {
        self.hop_limit
    }

    /// Time between two solicitations, if routers say so (RFC 4861, section 6.3.2, RetransTimer).
    #[must_use]
    pub const fn retransmit_time(&self) -> Option<Duration> {
        self.retransmit
    }

    /// For how long a neighbor counts as reachable, if routers say so.
    #[must_use]
    pub const fn reachable_time(&self) -> Option<Duration> {
        self.reachable
    }
}

/// An address of a /64, with the first identifier that is not reserved (RFC 5453): not the routers' anycast address, nor
/// one of those of other anycast services.
fn identified(prefix: Ipv6Net, identifier: impl Fn(u64) -> u64) -> Ipv6Net {
    let is_reserved = |id: &u64| *id == 0 || *id >> 7 == 0xfdff_ffff_ffff_ff80 >> 7;
    let identifier = (0..u64::MAX).map(identifier).find(|id| !is_reserved(id)).unwrap_or(1);
    let address = Ipv6Addr::from_bits(prefix.network().to_bits() | u128::from(identifier));
    Ipv6Net::new_assert(address, prefix.prefix_len())
}

fn hash(key: [u64; 2], words: &[u64]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
    for word in words {
        hasher.write_u64(*word);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
