//! What was found last: so that what comes again, as most does, need not be searched for by a keyed hash.

/// Slots: 8 KiB of a core's first cache, for as many flows as take turns on a worker in a short time.
const SLOTS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Bits of the hash that do not name the slot: they keep nearly all wrong guesses from being looked at.
    tag: u32,
    value: u32,
}

/// A value that no table has.
const NONE: u32 = u32::MAX;

/// A direct-mapped cache of guesses. Whoever takes one has to look whether it is right: nothing is ever taken out here.
///
/// The hash has no key: whoever aims at a slot makes packets pay for the search, and nothing else.
#[derive(Debug)]
pub struct Recent {
    slots: Box<[Slot; SLOTS]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

impl Recent {
    /// Nothing was found yet.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: Box::new([Slot { tag: 0, value: NONE }; SLOTS]) }
    }

    /// The value that was found last under these bits.
    #[inline]
    #[must_use]
    pub fn guess(&self, bits: u64) -> Option<u32> {
        let (at, tag) = hash(bits);
        let slot = self.slots[at];
        (slot.tag == tag).then_some(slot.value)
    }

    /// Takes note of what was found.
    #[inline]
    pub fn found(&mut self, bits: u64, value: u32) {
        let (at, tag) = hash(bits);
        self.slots[at] = Slot { tag, value };
    }
}

/// An index below [`SLOTS`], and a tag: the upper ten bits and those in the middle of a multiplication by 2^64 over the
/// golden ratio, which spreads numbers that follow each other.
#[inline]
const fn hash(bits: u64) -> (usize, u32) {
    let product = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((product >> 54) as usize, (product >> 20) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_take_slots_of_their_own() {
        for shift in [0, 32] {
            let mut recent = Recent::new();
            (0..500).for_each(|n| recent.found(u64::from(n) << shift | 7 << 48, n));
            let right = (0..500).filter(|&n| recent.guess(u64::from(n) << shift | 7 << 48) == Some(n)).count();
            assert!(right > 480, "{right} of 500 are guessed");
        }
    }

    #[test]
    fn what_was_never_found_is_no_guess_or_one_that_names_nothing() {
        assert!((0..10_000).all(|bits| Recent::new().guess(bits).is_none_or(|value| value == NONE)));
    }
}
