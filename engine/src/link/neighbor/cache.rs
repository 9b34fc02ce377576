//! The neighbors themselves: a table of fixed size, in sets of eight.

use siphasher::sip::SipHasher13;

use super::State;
use crate::base::Instant;
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// Entries that one hash value chooses among.
const WAYS: usize = 8;

/// The key of the hash that places addresses, so that nobody can aim at the entry of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) [u64; 2]);

impl Key {
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0[0], self.0[1]).hash(bytes)
    }
}

/// A neighbor whose MAC address is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) address: IpAddress,
    pub(super) mac: Mac,
    /// As of the last change: one that is REACHABLE becomes STALE by the clock alone. Never INCOMPLETE.
    pub(super) state: State,
    pub(super) is_router: bool,
    /// When REACHABLE ends or ended; of one that something else put in doubt, when that was.
    pub(super) until: Instant,
    /// When it was heard from last.
    pub(super) heard: Instant,
}

/// A place that is free.
const EMPTY: Entry = Entry {
    address: IpAddress::NONE,
    mac: Mac::ZERO,
    state: State::Stale,
    is_router: false,
    until: Instant::ZERO,
    heard: Instant::ZERO,
};

impl Entry {
    pub(super) fn state_at(&self, now: Instant) -> State {
        if self.state == State::Reachable && now >= self.until { State::Stale } else { self.state }
    }

    /// Whether a timer runs for it.
    pub(super) const fn is_timed(&self) -> bool {
        matches!(self.state, State::Delay | State::Probe)
    }

    /// In a full set the least of this gives way: of those that nobody sends to before those in use, and last one that
    /// is being asked.
    fn worth(&self, now: Instant) -> (u8, Instant) {
        let rank = match self.state_at(now) {
            _ if self.address == IpAddress::NONE => 0,
            State::Stale => 1,
            State::Reachable => 2,
            State::Incomplete | State::Delay | State::Probe => 3,
        };
        (rank, self.heard)
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    sets: Box<[[Entry; WAYS]]>,
    key: Key,
}

impl Cache {
    /// Room for so many neighbors, rounded up to a power of two of at least eight.
    pub(super) fn new(entries: usize, key: Key) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { sets: vec![[EMPTY; WAYS]; sets].into_boxed_slice(), key }
    }

    pub(super) fn get(&mut self, address: IpAddress) -> Option<&mut Entry> {
        if address == IpAddress::NONE {
            return None;
        }
        self.set(address)?.iter_mut().find(|entry| entry.address == address)
    }

    pub(super) fn peek(&self, address: IpAddress) -> Option<&Entry> {
        let set = self.sets.get(self.index(address))?;
        set.iter().find(|entry| entry.address == address && address != IpAddress::NONE)
    }

    /// Enters a neighbor that is not there; returns the one that gave way.
    pub(super) fn enter(&mut self, entry: Entry, now: Instant) -> Option<Entry> {
        let place = self.set(entry.address)?.iter_mut().min_by_key(|place| place.worth(now))?;
        let before = std::mem::replace(place, entry);
        (before.address != IpAddress::NONE).then_some(before)
    }

    pub(super) fn remove(&mut self, address: IpAddress) -> Option<Entry> {
        self.get(address).map(|entry| std::mem::replace(entry, EMPTY))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.sets.iter().flatten().filter(|entry| entry.address != IpAddress::NONE)
    }

    fn set(&mut self, address: IpAddress) -> Option<&mut [Entry; WAYS]> {
        let index = self.index(address);
        self.sets.get_mut(index)
    }

    fn index(&self, address: IpAddress) -> usize {
        self.key.hash(address.octets()) as usize & (self.sets.len() - 1)
    }
}
