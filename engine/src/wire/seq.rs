//! Sequence numbers of TCP (RFC 9293, section 3.4).

use core::ops::{Add, AddAssign, Sub};

/// A place in a stream of bytes, modulo 2^32.
///
/// It has no `<`: an order exists only between numbers less than 2^31 apart, which all that lie in one window
/// are (RFC 7323, section 2.3 keeps windows below 2^30). Of two that lie exactly 2^31 apart each is both before
/// and after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(u32);

impl SeqNum {
    /// The number as it is in a header.
    #[inline]
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The number for a header.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Bytes from `earlier` to here, modulo 2^32.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether it comes before `other`.
    #[inline]
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        self.since(other).cast_signed() < 0
    }

    /// Whether it comes after `other`.
    #[inline]
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Whether it comes before `other` or is the same.
    #[inline]
    #[must_use]
    pub const fn before_eq(self, other: Self) -> bool {
        self.since(other).cast_signed() <= 0
    }

    /// Whether it comes after `other` or is the same.
    #[inline]
    #[must_use]
    pub const fn after_eq(self, other: Self) -> bool {
        other.before_eq(self)
    }

    /// The later of two.
    #[inline]
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    #[inline]
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.before(self) { other } else { self }
    }

    /// Whether it is one of the `len` numbers from `start` on. Holds for any `len`, beyond 2^31 too.
    #[inline]
    #[must_use]
    pub const fn within(self, start: Self, len: u32) -> bool {
        self.since(start) < len
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where order is most easily got wrong: around zero, and around the sign bit.
    const PLACES: [u32; 7] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fffe, 0xffff_ffff];

    #[test]
    fn order_does_not_depend_on_where_numbers_wrap() {
        for place in PLACES.map(SeqNum::new) {
            for distance in [1, 2, 65_535, 0x7fff_ffff] {
                let later = place + distance;
                assert!(place.before(later) && place.before_eq(later) && later.after(place) && later.after_eq(place));
                assert!(!later.before(place) && !later.before_eq(place));
                assert!(!place.after(later) && !place.after_eq(later));
                assert_eq!((place.max(later), later.max(place)), (later, later));
                assert_eq!((place.min(later), later.min(place)), (place, place));
                assert_eq!((later.since(place), later - distance), (distance, place));
            }
            assert!(place.before_eq(place) && place.after_eq(place) && !place.before(place) && !place.after(place));
        }
    }

    #[test]
    fn half_the_circle_away_is_both_before_and_after() {
        for place in PLACES.map(SeqNum::new) {
            let opposite = place + 0x8000_0000;
            assert!(place.before(opposite) && place.before_eq(opposite));
            assert!(place.after(opposite) && place.after_eq(opposite));
        }
    }

    #[test]
    fn a_window_holds_its_first_number_and_not_the_one_behind_its_last() {
        for start in PLACES.map(SeqNum::new) {
            assert!(!start.within(start, 0));
            for len in [1, 1460, 0xffff_ffff] {
                assert!(start.within(start, len) && (start + (len - 1)).within(start, len));
                assert!(!(start + len).within(start, len) && !(start - 1).within(start, len));
            }
        }
        let mut moved = SeqNum::new(u32::MAX);
        moved += 2;
        assert_eq!((moved, moved.value()), (SeqNum::new(1), 1));
    }
}
