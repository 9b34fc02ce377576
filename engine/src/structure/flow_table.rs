//! From the hash of a flow to the id of what belongs to it: open addressing with linear probing.
//!
//! ```text
//!   slots   | hash value | hash value |  vacant  | hash value | ...      8 bytes each, 8 to a cache line
//!             ^ home of both           ^ a search ends here
//! ```
//!
//! An entry stands in its home slot, which its hash names, or behind it with no vacant slot between. At most
//! half of the slots are taken, so a search looks at 1.5 slots on average when it finds something and at 2.5
//! when not (Knuth, The Art of Computer Programming, section 6.4), mostly in one cache line. Removal moves
//! entries back into the gap (algorithm R there) and leaves no tombstones: searches do not get slower with time.
//!
//! The keys are kept elsewhere: the table has 32 bits of their hash and asks about those that agree.

use crate::base::prefetch;

/// The value of a slot that is free.
const VACANT: u32 = u32::MAX;
/// The most entries: the home slot comes from the 32 bits of hash in an entry, and they name 2^32 slots.
const MOST: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash, whose lower bits name the home slot.
    hash: u32,
    value: u32,
}

const _: () = assert!(size_of::<Slot>() == 8);

const EMPTY: Slot = Slot { hash: 0, value: VACANT };

/// The half of a hash that is kept.
#[inline]
const fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// An index from hashes to values of 32 bits, any but `u32::MAX`.
///
/// Hashes may be shared by several entries; a hash and a value together are there once. Only the upper 32 bits
/// of a hash count. Where peers choose what is hashed, the hash has to be keyed, or they could make it one long
/// search.
#[derive(Debug)]
pub struct FlowTable {
    slots: Box<[Slot]>,
    len: u32,
    capacity: u32,
}

impl FlowTable {
    /// An empty table for `capacity` entries (at most 2^31), in twice as many slots, rounded up to a power of two.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.min(MOST);
        let slots = (capacity as usize * 2).next_power_of_two();
        Self { slots: vec![EMPTY; slots].into_boxed_slice(), len: 0, capacity }
    }

    /// The value that was entered with `hash` and of which `is` says that it is the one. `is` is asked about
    /// values whose kept hash agrees, so nearly always about the right one or about none.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.search(kept(hash), is).map(|(_, value)| value)
    }

    /// Has the slots where a search for `hash` begins on their way into the nearest cache.
    #[inline]
    pub fn fetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(kept(hash))) {
            prefetch(slot);
        }
    }

    /// Enters a value; `false` when the table is full. The pair of `hash` and `value` must not be there yet.
    #[must_use]
    pub fn insert(&mut self, hash: u64, value: u32) -> bool {
        debug_assert!(value != VACANT, "the value that marks vacant slots");
        debug_assert!(self.find(hash, |other| other == value).is_none(), "entered twice");
        if self.len == self.capacity {
            return false;
        }
        let mask = self.mask();
        let mut at = self.home(kept(hash));
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.value == VACANT {
                *slot = Slot { hash: kept(hash), value };
                self.len += 1;
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    /// Puts `new` in the place of `old`, which was entered with `hash`; whether it was there. The pair of `hash`
    /// and `new` must not be there yet.
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) -> bool {
        debug_assert!(new != VACANT, "the value that marks vacant slots");
        debug_assert!(old == new || self.find(hash, |other| other == new).is_none(), "entered twice");
        let found = self.search(kept(hash), |value| value == old);
        let Some(slot) = found.and_then(|(at, _)| self.slots.get_mut(at)) else { return false };
        slot.value = new;
        true
    }

    /// Takes out a value that was entered with `hash`; whether it was there.
    pub fn remove(&mut self, hash: u64, value: u32) -> bool {
        let Some((at, _)) = self.search(kept(hash), |other| other == value) else { return false };
        self.close_gap(at);
        self.len -= 1;
        true
    }

    /// Entries in the table.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most entries that the table takes.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of memory that the slots take.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The slot and the value that `is` accepts. Ends because half of the slots are vacant.
    #[inline]
    fn search(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let mask = self.mask();
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get(at)
            && slot.value != VACANT
        {
            if slot.hash == hash && is(slot.value) {
                return Some((at, slot.value));
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Vacates a slot, after moving into it what could not be found past a vacant one.
    fn close_gap(&mut self, gap: usize) {
        let mask = self.mask();
        let (mut gap, mut at) = (gap, gap);
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.slots.get(at).copied().filter(|slot| slot.value != VACANT) else { break };
            // The entry may only move back as far as its home. Distances count backwards from it, round the end.
            let to_home = at.wrapping_sub(self.home(slot.hash)) & mask;
            let to_gap = at.wrapping_sub(gap) & mask;
            if to_gap <= to_home
                && let Some(hole) = self.slots.get_mut(gap)
            {
                *hole = slot;
                gap = at;
            }
        }
        if let Some(hole) = self.slots.get_mut(gap) {
            *hole = EMPTY;
        }
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & self.mask()
    }

    #[inline]
    const fn mask(&self) -> usize {
        self.slots.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::random::Random;
    use super::*;

    /// A hash whose entry has its home in slot `home` of a table of up to 2^16 slots.
    fn hash(home: u64, other: u64) -> u64 {
        (other << 16 | home) << 32
    }

    /// Every entry stands behind its home without a vacant slot between, and they are as many as is said.
    fn check(table: &FlowTable) {
        let mask = table.mask();
        let taken = |at: usize| table.slots[at & mask].value != VACANT;
        for at in (0..table.slots.len()).filter(|&at| taken(at)) {
            let home = table.home(table.slots[at].hash);
            let between = at.wrapping_sub(home) & mask;
            assert!((0..between).all(|step| taken(home + step)), "slot {at} cannot be found from {home}");
        }
        assert_eq!((0..table.slots.len()).filter(|&at| taken(at)).count(), table.len() as usize);
    }

    #[test]
    fn candidates_of_the_same_hash_are_told_apart_by_the_caller() {
        let mut table = FlowTable::new(4);
        assert!(table.insert(hash(1, 1), 10) && table.insert(hash(1, 1), 11) && table.insert(hash(1, 2), 12));
        let mut asked = Vec::new();
        let found = table.find(hash(1, 1), |value| {
            asked.push(value);
            value == 11
        });
        assert_eq!((found, asked), (Some(11), vec![10, 11]));
        assert_eq!(table.find(hash(1, 3), |_| panic!("no hash agrees")), None);
        assert_eq!(table.find(hash(1, 2), |_| false), None);
    }

    #[test]
    fn a_full_table_refuses_and_takes_again_after_a_removal() {
        let mut table = FlowTable::new(3);
        assert_eq!((table.capacity(), table.memory_bytes(), table.is_empty()), (3, 64, true));
        assert!((0..3).all(|value| table.insert(hash(7, 0), value)));
        assert!(!table.insert(hash(0, 0), 3));
        assert!(table.remove(hash(7, 0), 1) && !table.remove(hash(7, 0), 1));
        assert!(table.insert(hash(0, 0), 3));
        assert_eq!(table.len(), 3);
        check(&table);
    }

    #[test]
    fn a_table_for_nothing_holds_nothing() {
        let mut table = FlowTable::new(0);
        assert!(!table.insert(1, 1) && !table.remove(1, 1));
        assert_eq!(table.find(1, |_| true), None);
    }

    #[test]
    fn a_gap_at_the_end_is_closed_from_the_start() {
        let mut table = FlowTable::new(4);
        // Homes 7, 7, 7, 0 of eight slots: they stand in 7, 0, 1 and 2.
        let homes = [7, 7, 7, 0];
        assert!((0..4).all(|value| table.insert(hash(homes[value as usize], 0), value)));
        assert!(table.remove(hash(7, 0), 0));
        let values: Vec<u32> = [7, 0, 1, 2].map(|at: usize| table.slots[at].value).to_vec();
        assert_eq!(values, [1, 2, 3, VACANT]);
        check(&table);
    }

    #[test]
    fn an_entry_at_home_stays_when_the_one_before_it_goes() {
        let mut table = FlowTable::new(4);
        assert!((0..4).all(|value| table.insert(hash(u64::from(value), 0), value)));
        assert!(table.remove(hash(1, 0), 1));
        assert_eq!(table.slots[2].value, 2);
        check(&table);
    }

    #[test]
    fn a_value_is_replaced_where_it_stands() {
        let mut table = FlowTable::new(4);
        assert!(table.insert(5, 1));
        assert!(table.replace(5, 1, 2) && !table.replace(5, 1, 3));
        assert_eq!((table.find(5, |_| true), table.len()), (Some(2), 1));
    }

    /// Does what a map from values to hashes does, with homes and hashes that collide often.
    fn compare_with_a_map(seed: u64, capacity: u32, homes: u32, first_home: u32) {
        let mut random = Random(seed);
        let mut table = FlowTable::new(capacity);
        let mut model: HashMap<u32, u64> = HashMap::new();
        for step in 0..20_000 {
            let value = random.below(capacity * 2);
            let drawn = hash(u64::from(first_home + random.below(homes)), u64::from(random.below(3)));
            match (random.below(8), model.get(&value).copied()) {
                // More insertions and more removals in turns, so that the table is full and empty by times.
                (kind, None) if kind < if step / 2000 % 2 == 0 { 6 } else { 2 } => {
                    let fits = model.len() < capacity as usize;
                    assert_eq!(table.insert(drawn, value), fits);
                    let _ = fits.then(|| model.insert(value, drawn));
                }
                (0, Some(old)) => {
                    assert!(table.replace(old, value, value + capacity * 2));
                    assert!(table.replace(old, value + capacity * 2, value));
                }
                (kind, Some(old)) if kind < if step / 2000 % 2 == 0 { 3 } else { 6 } => {
                    assert!(table.remove(old, value));
                    model.remove(&value);
                }
                (_, None) => assert!(!table.remove(drawn, value) && !table.replace(drawn, value, capacity * 2)),
                (_, Some(old)) => assert_eq!(table.find(old, |other| other == value), Some(value)),
            }
            assert_eq!(table.len() as usize, model.len());
            if step % 64 == 0 {
                check(&table);
                assert!(model.iter().all(|(&value, &hash)| table.find(hash, |other| other == value) == Some(value)));
            }
        }
    }

    #[test]
    fn random_histories_agree_with_a_map() {
        for seed in 0..8 {
            compare_with_a_map(seed, 100, 256, 0);
            compare_with_a_map(seed, 8, 16, 0);
            // All homes in four slots at the end, so that every cluster goes round it.
            compare_with_a_map(seed, 32, 4, 60);
        }
    }
}
