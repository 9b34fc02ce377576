//! Neighbors: whose MAC address is known, and for whom frames wait until it is.
//!
//! ```text
//!   cache      | set 0: 8 entries | set 1: 8 entries | ...      address -> MAC, oldest of its set gives way
//!   searches   | address, attempts, queue of waiting frames |   few, bounded
//! ```
//!
//! The set is chosen by a keyed hash, so nobody can aim at the entries of another. Memory is fixed at the
//! start. Replies do not come by here: they go back to the MAC address that the request came from.

use std::hash::Hasher;
use std::net::Ipv4Addr;
use std::time::Duration;

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher13;

use crate::base::{Frame, FrameQueue, Instant, Umem, UnsentReason};
use crate::wire::ethernet::Mac;

/// Entries that one hash value chooses among.
const WAYS: usize = 8;
/// Neighbors that can be searched for at once: each costs a queue of frames, so an application that sends to
/// a whole silent network must not take all the memory.
const SEARCHES: usize = 64;
/// Requests before a neighbor counts as unreachable (RFC 4861, MAX_MULTICAST_SOLICIT; Linux mcast_solicit).
const ATTEMPTS: u8 = 3;
/// Time between them (RFC 1122, section 2.3.2.1: at most one request per second per destination).
const RETRY: Duration = Duration::from_secs(1);
/// Time after which a neighbor that is sent to is asked again (RFC 1122, section 2.3.2.1: on the order of a minute).
const REACHABLE: Duration = Duration::from_secs(60);

/// Sizes of the tables.
#[derive(Clone, Copy, Debug)]
pub struct NeighborConfig {
    /// Neighbors remembered; rounded up to a power of two.
    pub entries: usize,
    /// Frames that wait for one neighbor at most.
    pub queue: u32,
}

impl Default for NeighborConfig {
    /// 2,048 neighbors are a full /21 and cost 64 KiB; 16 frames a neighbor are 1,024 in all at most.
    fn default() -> Self {
        Self { entries: 2048, queue: 16 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: Ipv4Addr,
    mac: Mac,
    confirmed: Instant,
}

const EMPTY: Entry = Entry { address: Ipv4Addr::UNSPECIFIED, mac: Mac::ZERO, confirmed: Instant::ZERO };

#[derive(Debug)]
struct Search {
    address: Ipv4Addr,
    /// Where requests go: everybody, or the MAC address that is to be confirmed.
    to: Mac,
    attempts_left: u8,
    next: Instant,
    waiting: FrameQueue,
}

/// What is to be done about a search.
#[derive(Debug)]
pub enum Due {
    /// Ask who has the address, by a frame to this MAC address.
    Ask(Ipv4Addr, Mac),
    /// Nobody answered: these frames will not be sent.
    GiveUp(FrameQueue),
}

/// The neighbors of one interface.
#[derive(Debug)]
pub struct Neighbors {
    entries: Box<[Entry]>,
    searches: ArrayVec<Search, SEARCHES>,
    found: ArrayVec<(Mac, FrameQueue), SEARCHES>,
    queue_limit: u32,
    key: [u64; 2],
}

impl Neighbors {
    /// No neighbors yet. `key` keys the hash: it should be unpredictable.
    #[must_use]
    pub fn new(config: NeighborConfig, key: [u64; 2]) -> Self {
        let sets = config.entries.div_ceil(WAYS).next_power_of_two();
        Self {
            entries: vec![EMPTY; sets * WAYS].into_boxed_slice(),
            searches: ArrayVec::new(),
            found: ArrayVec::new(),
            queue_limit: config.queue,
            key,
        }
    }

    /// The MAC address of a neighbor, if it is known. One that was confirmed too long ago is asked again
    /// meanwhile.
    pub fn lookup(&mut self, address: Ipv4Addr, now: Instant) -> Option<Mac> {
        let entry = *self.entry(address)?;
        if now.since(entry.confirmed) > REACHABLE {
            // With no room for a further search the old address simply serves on.
            let _ = self.search(address, entry.mac, now);
        }
        Some(entry.mac)
    }

    /// Hears that a neighbor does not seem to get what is sent to it: it is forgotten, so that the next frame for it has it
    /// searched for anew. Only one that was confirmed a while ago: what was just asked for is as good as it gets.
    pub fn doubt(&mut self, address: Ipv4Addr, now: Instant) {
        if let Some(entry) = self.entry(address)
            && now.since(entry.confirmed) >= RETRY
        {
            *entry = EMPTY;
        }
    }

    /// Takes note that a neighbor has a MAC address, if it is known or searched for; whether it is.
    pub fn confirm(&mut self, address: Ipv4Addr, mac: Mac, now: Instant) -> bool {
        let searched = self.searches.iter().position(|search| search.address == address);
        if let Some(at) = searched {
            let search = self.searches.swap_remove(at);
            // There is room whenever the stack flushes what was found before it receives the next burst.
            if let Err(full) = self.found.try_push((mac, search.waiting)) {
                let (_, waiting) = full.element();
                self.searches.push(Search { address, to: mac, attempts_left: ATTEMPTS, next: now, waiting });
            }
        }
        if let Some(entry) = self.entry(address) {
            (entry.mac, entry.confirmed) = (mac, now);
            return true;
        }
        if searched.is_some() {
            self.learn(address, mac, now);
        }
        searched.is_some()
    }

    /// Enters a neighbor; in a full set the one that was confirmed longest ago gives way.
    pub fn learn(&mut self, address: Ipv4Addr, mac: Mac, now: Instant) {
        let set = self.set(address);
        let known = set.iter().position(|entry| entry.address == address);
        let empty = || set.iter().position(|entry| entry.address.is_unspecified());
        let oldest = || (0..WAYS).min_by_key(|&way| set[way].confirmed);
        if let Some(way) = known.or_else(empty).or_else(oldest) {
            set[way] = Entry { address, mac, confirmed: now };
        }
    }

    /// Keeps a frame (its IPv4 packet; no Ethernet header yet) until the neighbor is found, and searches for it.
    ///
    /// # Errors
    /// The frame and the reason, when it cannot wait.
    pub fn wait(
        &mut self,
        address: Ipv4Addr,
        frame: Frame,
        umem: &mut Umem,
        now: Instant,
    ) -> Result<(), (Frame, UnsentReason)> {
        let limit = self.queue_limit;
        let Some(search) = self.search(address, Mac::BROADCAST, now) else {
            return Err((frame, UnsentReason::NeighborTableFull));
        };
        if search.waiting.len() >= limit {
            return Err((frame, UnsentReason::NeighborQueueFull));
        }
        search.waiting.push(umem, frame);
        Ok(())
    }

    /// The next search that is due.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        let at = self.searches.iter().position(|search| search.next <= now)?;
        let search = &mut self.searches[at];
        if search.attempts_left > 0 {
            search.attempts_left -= 1;
            search.next = now + RETRY;
            return Some(Due::Ask(search.address, search.to));
        }
        let search = self.searches.swap_remove(at);
        if let Some(entry) = self.entry(search.address) {
            *entry = EMPTY;
        }
        Some(Due::GiveUp(search.waiting))
    }

    /// The next frame whose neighbor was found, and the neighbor's MAC address.
    pub fn next_found(&mut self, umem: &mut Umem) -> Option<(Frame, Mac)> {
        while let Some((mac, waiting)) = self.found.last_mut() {
            if let Some(frame) = waiting.pop(umem) {
                return Some((frame, *mac));
            }
            self.found.pop();
        }
        None
    }

    /// Whether [`next_found`](Self::next_found) may have something.
    #[must_use]
    pub fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Frames that wait for a neighbor, or for being sent now that it is found.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let searching = self.searches.iter().map(|search| search.waiting.len());
        let found = self.found.iter().map(|(_, waiting)| waiting.len());
        searching.chain(found).sum()
    }

    /// When [`due`](Self::due) has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.searches.iter().map(|search| search.next).min()
    }

    /// The search for an address: the one under way, or a new one if there is room.
    fn search(&mut self, address: Ipv4Addr, to: Mac, now: Instant) -> Option<&mut Search> {
        let at = match self.searches.iter().position(|search| search.address == address) {
            Some(at) => at,
            None => {
                let search = Search { address, to, attempts_left: ATTEMPTS, next: now, waiting: FrameQueue::default() };
                self.searches.try_push(search).ok()?;
                self.searches.len() - 1
            }
        };
        self.searches.get_mut(at)
    }

    fn entry(&mut self, address: Ipv4Addr) -> Option<&mut Entry> {
        if address.is_unspecified() {
            return None;
        }
        self.set(address).iter_mut().find(|entry| entry.address == address)
    }

    fn set(&mut self, address: Ipv4Addr) -> &mut [Entry] {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write_u32(address.to_bits());
        let sets = self.entries.len() / WAYS;
        let first = (hasher.finish() as usize & (sets - 1)) * WAYS;
        &mut self.entries[first..first + WAYS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, UmemConfig};

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn neighbors() -> Neighbors {
        Neighbors::new(NeighborConfig { entries: 16, queue: 2 }, [1, 2])
    }

    fn umem() -> Umem {
        Umem::new(UmemConfig { chunks: 128, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0000 + n)
    }

    #[test]
    fn frames_wait_for_a_neighbor_and_leave_in_order_when_it_is_found() {
        let (mut neighbors, mut umem) = (neighbors(), umem());
        let frames = [umem.alloc().unwrap(), umem.alloc().unwrap()];
        let order = frames.each_ref().map(Frame::chunk);
        frames.into_iter().for_each(|frame| neighbors.wait(PEER, frame, &mut umem, at(0)).unwrap());
        assert!(matches!(neighbors.due(at(0)), Some(Due::Ask(PEER, Mac::BROADCAST))));
        assert!(neighbors.due(at(0)).is_none(), "not again within the second");
        assert!(neighbors.confirm(PEER, MAC, at(0)));
        for chunk in order {
            let (frame, mac) = neighbors.next_found(&mut umem).unwrap();
            assert_eq!((frame.chunk(), mac), (chunk, MAC));
            umem.free(frame);
        }
        assert!(neighbors.next_found(&mut umem).is_none());
        assert_eq!(neighbors.lookup(PEER, at(0)), Some(MAC));
        assert_eq!(neighbors.next_deadline(), None);
    }

    #[test]
    fn a_silent_neighbor_is_given_up_after_three_requests() {
        let (mut neighbors, mut umem) = (neighbors(), umem());
        let frame = umem.alloc().unwrap();
        neighbors.wait(PEER, frame, &mut umem, at(0)).unwrap();
        for second in 0..3 {
            assert_eq!(neighbors.next_deadline(), Some(at(second)));
            assert!(matches!(neighbors.due(at(second)), Some(Due::Ask(..))));
        }
        let Some(Due::GiveUp(mut waiting)) = neighbors.due(at(3)) else { panic!() };
        assert_eq!(waiting.clear(&mut umem), 1);
        assert_eq!((neighbors.waiting(), neighbors.next_deadline()), (0, None));
    }

    #[test]
    fn queues_and_searches_are_bounded() {
        let (mut neighbors, mut umem) = (neighbors(), umem());
        let mut wait = |n| {
            let frame = umem.alloc().unwrap();
            neighbors.wait(address(n), frame, &mut umem, at(0)).map_err(|(frame, reason)| {
                umem.free(frame);
                reason
            })
        };
        assert_eq!([wait(0), wait(0)], [Ok(()), Ok(())]);
        assert_eq!(wait(0), Err(UnsentReason::NeighborQueueFull));
        (1..SEARCHES as u32).for_each(|n| wait(n).unwrap());
        assert_eq!(wait(999), Err(UnsentReason::NeighborTableFull));
    }

    #[test]
    fn an_old_entry_serves_on_while_it_is_asked_again_and_goes_when_silent() {
        let mut neighbors = neighbors();
        neighbors.learn(PEER, MAC, at(0));
        assert_eq!(neighbors.lookup(PEER, at(60)), Some(MAC));
        assert_eq!(neighbors.next_deadline(), None);
        assert_eq!(neighbors.lookup(PEER, at(61)), Some(MAC));
        for second in 61..64 {
            assert!(matches!(neighbors.due(at(second)), Some(Due::Ask(PEER, MAC))), "unicast");
        }
        assert!(matches!(neighbors.due(at(64)), Some(Due::GiveUp(_))));
        assert_eq!(neighbors.lookup(PEER, at(64)), None);
    }

    #[test]
    fn a_neighbor_in_doubt_is_searched_for_anew_but_not_at_once() {
        let mut neighbors = neighbors();
        neighbors.learn(PEER, MAC, at(0));
        neighbors.doubt(PEER, at(0));
        assert_eq!(neighbors.lookup(PEER, at(0)), Some(MAC), "just confirmed");
        neighbors.doubt(PEER, at(1));
        assert_eq!(neighbors.lookup(PEER, at(1)), None);
    }

    #[test]
    fn a_neighbor_that_moved_is_followed_and_a_stranger_is_not_entered() {
        let mut neighbors = neighbors();
        assert!(!neighbors.confirm(PEER, MAC, at(0)));
        neighbors.learn(PEER, MAC, at(0));
        assert!(neighbors.confirm(PEER, OTHER, at(1)));
        assert_eq!(neighbors.lookup(PEER, at(1)), Some(OTHER));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_never_grows() {
        let mut neighbors = neighbors();
        (1..=1000).for_each(|n| neighbors.learn(address(n), MAC, at(u64::from(n))));
        assert_eq!(neighbors.entries.len(), 16);
        assert_eq!(neighbors.lookup(address(1000), at(1000)), Some(MAC));
        assert_eq!(neighbors.lookup(address(1), at(1000)), None);
    }
}
