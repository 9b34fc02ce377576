//! Neighbors: whose MAC address is known and how well, and for whom frames wait until it is. One cache for both
//! versions of IP: ARP and neighbor discovery tell it what they hear, and send what it asks for.
//!
//! ```text
//!   front      | slot: address -> MAC, good until | ...           hit by nearly every frame
//!   cache      | set 0: 8 entries | set 1: 8 entries | ...        all that is known; STALE ones give way first
//!   searches   | address, attempts, queue of waiting frames |     INCOMPLETE, few
//!   probes     | address, attempts |                              timers of DELAY and PROBE
//!
//!                            confirmed: solicited advertisement, progress of a connection
//!              answered   +---------------------------------------------------------------+
//!                         v                                                               |
//!   INCOMPLETE -------> REACHABLE -- time --> STALE -- sent to --> DELAY -- 5 s --> PROBE-+
//!       | 3 s                                   ^                                     | 3 s
//!       v                                       +-- heard from, not confirmed         v
//!     given up                                                                      gone
//! ```
//!
//! RFC 4861, section 7.3. Memory is fixed at the start. Each turn, the stack takes out
//! [`next_found`](Neighbors::next_found) and acts on [`due`](Neighbors::due).

use std::time::Duration;

use crate::base::{Frame, FrameQueue, Instant, Umem, UnsentReason};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

mod cache;
mod front;
mod report;
mod search;

use cache::{Cache, Entry, Key};
use front::Front;
pub use report::Neighbor;
use search::{Pace, Probe, Probes, Searches};

/// Time from the last confirmation until a neighbor counts as STALE, before it is varied (RFC 4861, section 10,
/// `REACHABLE_TIME`).
const REACHABLE_TIME: Duration = Duration::from_secs(30);
/// How long a neighbor that is sent to may take to show by other ways that it is there, before it is asked (RFC 4861,
/// section 10).
const DELAY_FIRST_PROBE_TIME: Duration = Duration::from_secs(5);
/// Time between two solicitations (RFC 4861, section 10, `RETRANS_TIMER`, unless routers have another one; RFC 1122, section
/// 2.3.2.1).
const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// Solicitations before a neighbor counts as unreachable (RFC 4861, section 10, `MAX_MULTICAST_SOLICIT` and
/// `MAX_UNICAST_SOLICIT`).
const MAX_SOLICIT: u8 = 3;
/// How often a neighbor in DELAY or PROBE is looked for hints of connections: within the 40 ms that acknowledgments of theirs
/// are delayed by at most.
const LOOK_FOR_HINTS: Duration = Duration::from_millis(10);
/// The clock's end.
const FOREVER: Instant = Instant::from_ns(u64::MAX);

/// Sizes of the tables, and what stands in them from the start.
#[derive(Clone, Debug)]
pub struct NeighborConfig {
    /// Neighbors remembered; rounded up to a power of two.
    pub entries: usize,
    /// Frames that wait for one neighbor at most; at least one does.
    pub queue: u32,
    /// Frames that wait for all of them together at most; at least one does.
    pub waiting: u32,
    /// Neighbors whose MAC addresses are given: they never age, and nothing on the network changes them.
    pub fixed: Vec<(IpAddress, Mac)>,
}

impl Default for NeighborConfig {
    /// 2,048 neighbors are a full /21 and cost 80 KiB. 64 frames are what comes up within a few milliseconds of a
    /// search at some 10,000 frames a second.
    fn default() -> Self {
        Self { entries: 2048, queue: 64, waiting: 1024, fixed: Vec::default() }
    }
}

/// How well a neighbor is known (RFC 4861, section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Its MAC address is searched for.
    Incomplete,
    /// It was confirmed a short while ago that it gets what is sent to it.
    Reachable,
    /// That was longer ago, or never; nothing is sent to it.
    Stale,
    /// Something was sent to it, and some time is left for a confirmation.
    Delay,
    /// It is asked to confirm.
    Probe,
}

impl State {
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// What a neighbor says of itself (RFC 4861, section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Its MAC address, unless it was left out.
    pub mac: Option<Mac>,
    /// Whether it answers a solicitation, and so confirms that the neighbor gets what is sent to it.
    pub solicited: bool,
    /// Whether it may change the MAC address that is known.
    pub override_: bool,
    /// Whether the neighbor is a router.
    pub router: bool,
}

impl Advertisement {
    /// What an ARP reply to us says.
    #[must_use]
    pub const fn arp_reply(mac: Mac) -> Self {
        Self { mac: Some(mac), solicited: true, override_: true, router: false }
    }
}

/// What is to be done about a neighbor.
#[derive(Debug)]
pub enum Due {
    /// Ask who has the address.
    Solicit {
        /// The address.
        address: IpAddress,
        /// Whom to ask: the neighbor itself at the MAC address that is to be confirmed, or everybody.
        to: Option<Mac>,
    },
    /// The neighbor did not answer and is forgotten: these frames, if any, will not be sent.
    GiveUp(IpAddress, FrameQueue),
}

/// The neighbors of one interface.
#[derive(Debug)]
pub struct Neighbors {
    front: Front,
    cache: Cache,
    /// Those whose MAC addresses are given, in the order of their addresses.
    fixed: Vec<(IpAddress, Mac)>,
    searches: Searches,
    probes: Probes,
    pace: Pace,
    /// When the first of the timers is due.
    earliest: Option<Instant>,
    key: Key,
    /// Times that a REACHABLE time was drawn.
    draws: u64,
    /// Of which it was drawn.
    reachable: Duration,
}

impl Neighbors {
    /// No neighbors yet but those that are given. `key` keys the hash: it should be unpredictable.
    #[must_use]
    pub fn new(config: &NeighborConfig, key: [u64; 2]) -> Self {
        let (key, mut fixed) = (Key(key), config.fixed.clone());
        fixed.sort_unstable_by_key(|(address, _)| *address);
        Self {
            front: Front::new(),
            cache: Cache::new(config.entries, key),
            fixed,
            searches: Searches::new(config.queue, config.waiting),
            probes: Probes::default(),
            pace: Pace::new(key),
            earliest: None,
            key,
            draws: 0,
            reachable: REACHABLE_TIME,
        }
    }

    /// The MAC address to send to a neighbor by, if it is known.
    #[inline]
    pub fn resolve(&mut self, address: IpAddress, now: Instant) -> Option<Mac> {
        self.resolve_until(address, now).map(|(mac, _)| mac)
    }

    /// The same, and until when that may be relied on as long as the [`epoch`](Self::epoch) is the same.
    #[inline]
    pub fn resolve_until(&mut self, address: IpAddress, now: Instant) -> Option<(Mac, Instant)> {
        match self.front.resolve(address, now) {
            Some(known) => Some(known),
            None => self.look_up(address, now),
        }
    }

    /// Another one begins whenever what was said of any neighbor may not hold any more.
    #[inline]
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.front.epoch()
    }

    /// Begins another epoch: addresses or routes are others than before.
    pub const fn begin_epoch(&mut self) {
        self.front.begin_epoch();
    }

    /// What the front cache does not know. A call of its own, so that it takes no registers from the short way.
    #[inline(never)]
    fn look_up(&mut self, address: IpAddress, now: Instant) -> Option<(Mac, Instant)> {
        if let Some(mac) = self.given(address) {
            self.front.put(address, mac, FOREVER);
            return Some((mac, FOREVER));
        }
        let entry = self.cache.get(address)?;
        let mac = entry.mac;
        let good_until = match entry.state_at(now) {
            State::Reachable => entry.until,
            State::Stale => {
                // RFC 4861, section 7.3.3: the first time a node sends a packet to a neighbor whose entry is STALE, the
                // sender changes the state to DELAY. With no room for a further timer the old address serves on.
                let delayed = self.probes.delay(address, now);
                entry.state = if delayed { State::Delay } else { State::Stale };
                self.set_earliest();
                now + if delayed { LOOK_FOR_HINTS } else { RETRANS_TIMER }
            }
            State::Incomplete | State::Delay | State::Probe => now + LOOK_FOR_HINTS,
        };
        self.front.put(address, mac, good_until);
        Some((mac, good_until))
    }

    /// Keeps a frame (its IP packet; no Ethernet header yet) until the neighbor is found, and searches for it. Returns
    /// the frame that had to give way, if any: it will not be sent, for [`UnsentReason::NeighborQueueFull`].
    ///
    /// # Errors
    /// The frame and the reason, when it cannot wait.
    pub fn wait(
        &mut self,
        address: IpAddress,
        frame: Frame,
        umem: &mut Umem,
        now: Instant,
    ) -> Result<Option<Frame>, (Frame, UnsentReason)> {
        let pushed_out = self.searches.wait(address, frame, umem, now)?;
        self.set_earliest();
        Ok(pushed_out)
    }

    /// Takes another base of the time for which a neighbor counts as reachable (RFC 4861, section 6.3.2, BaseReachableTime).
    pub const fn set_reachable_time(&mut self, reachable: Duration) {
        self.reachable = reachable;
    }

    /// Takes another time between two solicitations of IPv6 (RFC 4861, section 6.3.2, RetransTimer).
    pub const fn set_retransmit_time(&mut self, interval: Duration) {
        self.pace.set_interval(interval);
    }

    /// What is due next.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        while self.earliest.is_some_and(|earliest| earliest <= now) {
            let due = self.searches.due(&mut self.pace, now).or_else(|| self.probe_due(now));
            self.set_earliest();
            if due.is_some() {
                return due;
            }
        }
        None
    }

    fn probe_due(&mut self, now: Instant) -> Option<Due> {
        match self.probes.due(&mut self.pace, now)? {
            Probe::Solicit(address) => {
                let entry = self.cache.get(address)?;
                entry.state = State::Probe;
                Some(Due::Solicit { address, to: Some(entry.mac) })
            }
            Probe::Failed(address) => {
                self.front.forget(address);
                self.cache.remove(address);
                Some(Due::GiveUp(address, FrameQueue::default()))
            }
        }
    }

    /// When [`due`](Self::due) has something next.
    #[inline]
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// The next frame whose neighbor was found, the neighbor, and its MAC address.
    pub fn next_found(&mut self, umem: &mut Umem) -> Option<(Frame, IpAddress, Mac)> {
        self.searches.next_found(umem)
    }

    /// Whether [`next_found`](Self::next_found) may have something.
    #[inline]
    #[must_use]
    pub const fn has_found(&self) -> bool {
        self.searches.has_found()
    }

    /// Chunks of the frames that wait.
    #[must_use]
    pub fn waiting_chunks(&self) -> u32 {
        self.searches.waiting_chunks()
    }

    /// Frames that wait for a neighbor, or for being sent now that it is found.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.searches.waiting()
    }
}

/// What is heard of neighbors.
impl Neighbors {
    /// Hears what a neighbor says of itself; whether it is known or searched for (RFC 4861, section 7.2.5).
    pub fn advertised(&mut self, address: IpAddress, advertisement: Advertisement, now: Instant) -> bool {
        let Advertisement { mac, solicited, override_, router } = advertisement;
        if self.given(address).is_some() {
            return true;
        }
        if mac.is_some_and(|mac| !is_of_a_host(mac)) {
            return false;
        }
        let Some(entry) = self.cache.get(address) else {
            // If no entry exists, the advertisement SHOULD be silently discarded.
            let is_searched = self.searches.is_asking(address);
            // If no Target Link-Layer Address option is included, the receiving node SHOULD silently discard it. If the
            // entry is INCOMPLETE, the Override flag is ignored.
            if let (true, Some(mac)) = (is_searched, mac) {
                let state = if solicited { State::Reachable } else { State::Stale };
                self.enter(address, mac, state, router, now);
            }
            return is_searched;
        };
        let told = mac.unwrap_or(entry.mac);
        let differs = told != entry.mac;
        if differs && !override_ {
            // I. a. If the state of the entry is REACHABLE, then set it to STALE, but do not update the entry in any
            // other way. b. Otherwise, the received advertisement should be ignored.
            if entry.state == State::Reachable {
                (entry.state, entry.until) = (State::Stale, now);
                self.front.forget(address);
            }
        } else if solicited {
            // II. If the Solicited flag is set, the state of the entry MUST be set to REACHABLE.
            self.enter(address, told, State::Reachable, router, now);
        } else if differs {
            // If it is zero and the link-layer address was updated with a different address, it MUST be set to STALE.
            self.enter(address, told, State::Stale, router, now);
        } else {
            // Otherwise, the entry's state remains unchanged.
            (entry.is_router, entry.heard) = (router, now);
        }
        true
    }

    /// Hears from a neighbor that asks for an address of ours: an ARP request, a neighbor solicitation; in the same way
    /// a router solicitation or advertisement, a redirect. Whether it was known or searched for before.
    pub fn heard_from(&mut self, address: IpAddress, mac: Mac, now: Instant) -> bool {
        let known = self.merge(address, mac, now);
        // RFC 4861, section 7.2.3: if an entry does not already exist, the node SHOULD create a new one and set its
        // reachability state to STALE.
        if !known && is_of_a_host(mac) && !address.is_unspecified() {
            self.enter(address, mac, State::Stale, false, now);
        }
        known
    }

    /// Hears of a neighbor in what is not for us; whether it is known or searched for. If not, it is not entered: RFC
    /// 826 updates an entry *if it is there already*, so nobody can fill the table with addresses that we never spoke
    /// to.
    pub fn merge(&mut self, address: IpAddress, mac: Mac, now: Instant) -> bool {
        if self.given(address).is_some() {
            return true;
        }
        if !is_of_a_host(mac) {
            return false;
        }
        // RFC 4861, section 7.2.3: if an entry already exists, and the cached link-layer address differs from the one
        // in the received option, the cached address should be replaced, and the entry's reachability state MUST be set
        // to STALE. From INCOMPLETE that is the state, too (appendix C).
        let is_router = match self.cache.get(address) {
            Some(entry) if entry.mac == mac => {
                entry.heard = now;
                return true;
            }
            Some(entry) => entry.is_router,
            None if self.searches.is_asking(address) => false,
            None => return false,
        };
        self.enter(address, mac, State::Stale, is_router, now);
        true
    }

    /// Takes over from the kernel what MAC address a neighbor has. Whether it gets what is sent to it the kernel does not say,
    /// so it is STALE: the first packet to it goes out at once, and it is asked to confirm if nothing else shows that it
    /// is there.
    pub fn adopt(&mut self, address: IpAddress, mac: Mac, now: Instant) {
        self.heard_from(address, mac, now);
    }

    /// Hears that a connection had a sign of progress at `heard_at`: that its peer got what was sent by way of this neighbor
    /// (RFC 4861, section 7.3.1). To be told before the neighbor is looked up for the connection's next segment; of one that
    /// is not in doubt that changes nothing.
    pub fn progressed(&mut self, address: IpAddress, heard_at: Instant, now: Instant) {
        if self.front.resolve(address, now).is_none() {
            self.confirm(address, heard_at, now);
        }
    }

    /// It counts as confirmed since then, unless that was before what put it in doubt, or is too long ago.
    fn confirm(&mut self, address: IpAddress, heard_at: Instant, now: Instant) {
        // The shortest time that REACHABLE lasts: see [`draw_reachable_time`](Self::draw_reachable_time).
        let until = heard_at + self.reachable / 2;
        let Some(&mut Entry { mac, state, is_router, until: since, .. }) = self.cache.get(address) else { return };
        // Of one that became STALE by the clock alone any hint will do that is fresh enough.
        let is_later = state == State::Reachable || heard_at > since;
        if until > now && is_later {
            self.enter_until(address, mac, State::Reachable, is_router, until, now);
        }
    }

    /// Hears that a neighbor does not seem to get what is sent to it: it is asked at once, unless it was heard from
    /// just now, and serves on until it turns out that it does not answer.
    pub fn doubt(&mut self, address: IpAddress, now: Instant) {
        let Some(entry) = self.cache.get(address) else { return };
        if entry.state == State::Probe || now.since(entry.heard) < RETRANS_TIMER {
            return;
        }
        let hurried = self.probes.hurry(address, now);
        (entry.state, entry.until) = (if hurried { State::Probe } else { State::Stale }, now);
        self.front.forget(address);
        self.set_earliest();
    }

    /// Takes note whether a neighbor is a router, if it is known: a router advertisement says that it is.
    pub fn set_router(&mut self, address: IpAddress, is_router: bool) {
        if let Some(entry) = self.cache.get(address) {
            entry.is_router = is_router;
        }
    }

    /// Takes down what is known of a neighbor now, in a state without a timer, and lets go what waits for it.
    fn enter(&mut self, address: IpAddress, mac: Mac, state: State, is_router: bool, now: Instant) {
        let until = if state == State::Reachable { now + self.draw_reachable_time() } else { now };
        self.enter_until(address, mac, state, is_router, until, now);
    }

    fn enter_until(
        &mut self,
        address: IpAddress,
        mac: Mac,
        state: State,
        is_router: bool,
        until: Instant,
        now: Instant,
    ) {
        let new = Entry { address, mac, state, is_router, until, heard: now };
        let before = match self.cache.get(address) {
            Some(entry) => Some(std::mem::replace(entry, new)),
            None => self.cache.enter(new, now),
        };
        if let Some(before) = before {
            self.front.forget(before.address);
            if before.is_timed() {
                self.probes.stop(before.address);
            }
        }
        self.searches.found(address, mac);
        self.set_earliest();
    }

    /// RFC 4861, section 6.3.2: a uniformly distributed random value between 0.5 and 1.5 times the base, so that hosts
    /// do not fall into step.
    fn draw_reachable_time(&mut self) -> Duration {
        self.draws = self.draws.wrapping_add(1);
        let thousandths = 500 + self.key.hash(&self.draws.to_ne_bytes()) % 1_001;
        self.reachable.saturating_mul(thousandths as u32) / 1_000
    }

    /// The MAC address that the configuration gives to a neighbor.
    fn given(&self, address: IpAddress) -> Option<Mac> {
        let at = self.fixed.binary_search_by_key(&address, |(address, _)| *address).ok()?;
        self.fixed.get(at).map(|(_, mac)| *mac)
    }

    /// Kept rather than looked for each turn: timers change far less often.
    fn set_earliest(&mut self) {
        self.earliest = [self.searches.next_deadline(), self.probes.next_deadline()].into_iter().flatten().min();
    }
}

/// Whether a MAC address can be that of one host.
fn is_of_a_host(mac: Mac) -> bool {
    mac != Mac::ZERO && !mac.is_multicast()
}

#[cfg(test)]
mod tests;
