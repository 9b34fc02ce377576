//! Deadlines of many ids: a hierarchical timing wheel (Varghese, Lauck: "Hashed and hierarchical timing wheels",
//! SOSP 1987, scheme 7), exact to the nanosecond.
//!
//! ```text
//!   deadline   | ... | bits 18-23 | bits 12-17 | bits 6-11 | bits 0-5 |     ns; six bits a level
//!                        level 3      level 2     level 1     level 0
//!
//!   level 3    | 64 lists, a slot of 262 us each |   deadlines that first differ from `now` in bits 18-23
//!   level 2    | 64 lists, a slot of 4.1 us each |   deadlines that first differ from `now` in bits 12-17
//!   ...
//! ```
//!
//! The level of a deadline is that of the highest bit in which it differs from `now`, its slot there is the six
//! bits of that level. From this follows all that the wheel relies on:
//!
//! 1. Whatever is on a level comes before everything on the levels above, since it agrees with `now` in more bits.
//!    So the first slot taken on the lowest level taken holds the earliest deadline: two bit scans find it, over
//!    however many empty slots the clock jumps.
//! 2. As long as `now` does not reach the start of a slot that is taken, every id remains where it belongs.
//! 3. A slot of level 0 is one nanosecond: who is in it is due when it starts. No list is searched for ids that
//!    are due, however many wait for the same tick of a coarser clock.
//! 4. The levels have room for all 64 bits, so no deadline is too far off.
//!
//! When `now` reaches a slot above level 0, its ids cascade: those that are due by then go to the slot of `now`,
//! the others to levels below. The finest timers (RACK and TLP on a LAN, some 100 us) start on level 2 or 3; that
//! there are levels below costs an id that expires a move or two, and one that is disarmed before, as most are,
//! nothing.

use crate::base::Instant;

/// Bits of a deadline that a level tells apart: one word says which of its 64 slots are taken.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Levels for all 64 bits of a deadline. The two-hour keepalive of TCP (RFC 9293, section 3.8.4) spans 8 of
/// them; each of the others costs 264 bytes.
const LEVELS: usize = u64::BITS.div_ceil(SLOT_BITS) as usize;

/// No id: the end of a list.
const NONE: u32 = u32::MAX;
/// The `previous` of an id that is not armed.
const UNARMED: u32 = u32::MAX;
/// Marks the `previous` of the first id of a list, whose number is in the lower bits. So only the first id knows
/// its list, which is enough: only when it leaves does the list's head change.
const FIRST: u32 = 1 << 31;

/// What is kept for an id: four of them to a cache line.
#[derive(Clone, Copy, Debug)]
struct Timer {
    /// Nanoseconds.
    deadline: u64,
    next: u32,
    previous: u32,
}

const _: () = assert!(size_of::<Timer>() == 16);

/// A slot of the wheel.
#[derive(Clone, Copy, Debug)]
struct Slot {
    level: usize,
    index: usize,
}

impl Slot {
    const fn list(self) -> usize {
        self.level * SLOTS + self.index
    }
}

/// One deadline at most for each id below a capacity.
///
/// Memory is 16 bytes for each id and less than 3 KiB for the lists, all taken at the start. Time comes from the
/// caller, who calls [`expire`](Self::expire) until it says `None`, and may then sleep until
/// [`next_deadline`](Self::next_deadline).
#[derive(Debug)]
pub struct TimerWheel {
    timers: Box<[Timer]>,
    /// The first id of every list.
    heads: [u32; LEVELS * SLOTS],
    /// Which slots of a level hold an id.
    taken: [u64; LEVELS],
    /// Which levels hold an id.
    levels: u16,
    /// How far the wheel has turned, nanoseconds: never past the start of a slot with ids in it.
    now: u64,
    len: u32,
}

impl TimerWheel {
    /// A wheel for the ids below `capacity` (at most 2^31), none of them armed.
    #[must_use]
    pub fn new(capacity: u32, now: Instant) -> Self {
        let unarmed = Timer { deadline: 0, next: NONE, previous: UNARMED };
        Self {
            timers: vec![unarmed; capacity.min(FIRST) as usize].into_boxed_slice(),
            heads: [NONE; LEVELS * SLOTS],
            taken: [0; LEVELS],
            levels: 0,
            now: now.as_ns(),
            len: 0,
        }
    }

    /// Sets the deadline of an id, in place of the one it may have. O(1). A deadline that has passed is due at
    /// once. The id has to be below the capacity.
    #[inline]
    pub fn arm(&mut self, id: u32, at: Instant) {
        let slot = self.slot_of(at.as_ns());
        let Some(timer) = self.timers.get(id as usize).copied() else {
            debug_assert!(false, "no such id: {id}");
            return;
        };
        if timer.previous == UNARMED {
            self.len += 1;
        } else if self.slot_of(timer.deadline).list() == slot.list() {
            // A timer that is restarted with every segment mostly stays in its slot: no other id is touched.
            if let Some(timer) = self.timers.get_mut(id as usize) {
                timer.deadline = at.as_ns();
            }
            return;
        } else {
            self.unlink(timer);
        }
        self.link(id, at.as_ns(), slot);
    }

    /// Takes away the deadline of an id, if it has one. O(1).
    #[inline]
    pub fn disarm(&mut self, id: u32) {
        let Some(timer) = self.timers.get_mut(id as usize) else { return };
        let was = *timer;
        if was.previous != UNARMED {
            timer.previous = UNARMED;
            self.unlink(was);
            self.len -= 1;
        }
    }

    /// The deadline of an id, as it was armed.
    #[must_use]
    pub fn deadline(&self, id: u32) -> Option<Instant> {
        let timer = self.timers.get(id as usize).filter(|timer| timer.previous != UNARMED)?;
        Some(Instant::from_ns(timer.deadline))
    }

    /// An id whose deadline is `now` or has passed, and disarms it; `None` when no more are due. Of several that
    /// are due, any may come first. `now` must not go back; if it does, no id is due twice or is lost.
    ///
    /// An id moves down at most once for each level between its arming and its end, and empty slots cost nothing:
    /// O(1) for each id that was armed, whatever the clock does.
    #[inline]
    pub fn expire(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_ns().max(self.now);
        if self.first().is_some_and(|(_, start)| start <= now) {
            return self.expire_first(now);
        }
        self.now = now;
        None
    }

    /// The same if ids have to be moved at least. A call of its own, so that nothing due costs nothing.
    #[inline(never)]
    fn expire_first(&mut self, now: u64) -> Option<u32> {
        while let Some((slot, start)) = self.first()
            && start <= now
        {
            if slot.level > 0 {
                self.cascade(slot, now);
                continue;
            }
            self.now = start;
            let id = self.heads[slot.list()];
            debug_assert!(self.deadline(id).is_some_and(|deadline| deadline.as_ns() <= now), "due too early");
            self.disarm(id);
            return Some(id);
        }
        self.now = now;
        None
    }

    /// When to call [`expire`](Self::expire) next: at the earliest deadline, or before it by less than the width of
    /// its slot, when ids have to be moved to finer ones. While an id is due already, a time that has come.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.first().map(|(_, start)| Instant::from_ns(start))
    }

    /// Ids that are armed.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no id is armed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where an id with this deadline belongs. One that has passed belongs to the slot of `now`.
    #[inline]
    fn slot_of(&self, deadline: u64) -> Slot {
        let due = deadline.max(self.now);
        let level = ((due ^ self.now) | 1).ilog2() / SLOT_BITS;
        Slot { level: level as usize, index: (due >> (level * SLOT_BITS)) as usize % SLOTS }
    }

    /// The slot with the earliest deadline, and when it starts.
    #[inline]
    fn first(&self) -> Option<(Slot, u64)> {
        let level = self.levels.trailing_zeros() as usize;
        // No level is taken if there is no such one.
        let index = self.taken.get(level)?.trailing_zeros();
        let shift = level as u32 * SLOT_BITS;
        // In the bits above its level, a slot agrees with `now`.
        let above = self.now >> shift & !(SLOTS as u64 - 1);
        Some((Slot { level, index: index as usize }, (above | u64::from(index)) << shift))
    }

    /// Turns the wheel into a slot that starts by `now`, and moves its ids to where they then belong.
    fn cascade(&mut self, slot: Slot, now: u64) {
        let mut id = self.set_head(slot.list(), NONE);
        // As far as the next slot allows: the ids that are due by then all go to the slot of `now`, in one move.
        let next_start = self.first().map_or(u64::MAX, |(_, start)| start);
        self.now = now.min(next_start - 1);
        while let Some(&Timer { deadline, next, .. }) = self.timers.get(id as usize) {
            self.link(id, deadline, self.slot_of(deadline));
            id = next;
        }
    }

    /// Puts an id that is on no list at the head of a slot's.
    #[inline]
    fn link(&mut self, id: u32, deadline: u64, slot: Slot) {
        let next = self.set_head(slot.list(), id);
        if let Some(after) = self.timers.get_mut(next as usize) {
            after.previous = id;
        }
        if let Some(timer) = self.timers.get_mut(id as usize) {
            *timer = Timer { deadline, next, previous: FIRST | slot.list() as u32 };
        }
    }

    /// Takes an id out of its list, given what was kept for it.
    #[inline]
    fn unlink(&mut self, Timer { next, previous, .. }: Timer) {
        if let Some(after) = self.timers.get_mut(next as usize) {
            after.previous = previous;
        }
        if previous & FIRST != 0 {
            self.set_head((previous & !FIRST) as usize, next);
        } else if let Some(before) = self.timers.get_mut(previous as usize) {
            before.next = next;
        }
    }

    /// Makes an id, or [`NONE`], the first of a list, notes whether the list is taken, and tells who was first.
    #[inline]
    fn set_head(&mut self, list: usize, id: u32) -> u32 {
        let (level, bit) = (list / SLOTS, 1 << (list % SLOTS));
        let (Some(head), Some(taken)) = (self.heads.get_mut(list), self.taken.get_mut(level)) else { return NONE };
        *taken = if id == NONE { *taken & !bit } else { *taken | bit };
        self.levels = self.levels & !(1 << level) | u16::from(*taken != 0) << level;
        std::mem::replace(head, id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::random::Random;
    use super::*;

    const HOUR: u64 = 3600 * 1_000_000_000;

    fn at(ns: u64) -> Instant {
        Instant::from_ns(ns)
    }

    /// All ids that are due, in the order of ids.
    fn due(wheel: &mut TimerWheel, ns: u64) -> Vec<u32> {
        let mut ids: Vec<u32> = std::iter::from_fn(|| wheel.expire(at(ns))).collect();
        ids.sort_unstable();
        ids
    }

    fn width(level: usize) -> u64 {
        1 << (level as u32 * SLOT_BITS)
    }

    /// Every id that is armed is on the one list where it belongs, and the words say which lists are taken.
    fn check(wheel: &TimerWheel) {
        let mut linked = 0;
        for (list, &head) in wheel.heads.iter().enumerate() {
            let (mut id, mut previous) = (head, FIRST | list as u32);
            while id != NONE {
                let timer = wheel.timers[id as usize];
                assert_eq!((timer.previous, wheel.slot_of(timer.deadline).list()), (previous, list));
                (previous, id) = (id, timer.next);
                linked += 1;
            }
            assert_eq!(wheel.taken[list / SLOTS] >> (list % SLOTS) & 1 == 1, head != NONE);
            assert_eq!(wheel.levels >> (list / SLOTS) & 1 == 1, wheel.taken[list / SLOTS] != 0);
        }
        assert_eq!(linked, wheel.len());
        assert_eq!(wheel.timers.iter().filter(|timer| timer.previous != UNARMED).count(), linked as usize);
    }

    #[test]
    fn an_id_expires_at_its_deadline_and_not_a_nanosecond_before() {
        for start in [0, 63, 12_345_678_901, u64::MAX / 2] {
            for after in [1, 63, 64, 65_535, 65_536, 100_000, 200_000_000, 2 * HOUR, 20 * HOUR, 100_000 * HOUR] {
                let mut wheel = TimerWheel::new(1, at(start));
                wheel.arm(0, at(start + after));
                assert_eq!(wheel.expire(at(start + after - 1)), None);
                assert_eq!(wheel.deadline(0), Some(at(start + after)));
                assert_eq!(wheel.next_deadline(), Some(at(start + after)));
                assert_eq!(wheel.expire(at(start + after)), Some(0));
                assert_eq!((wheel.deadline(0), wheel.next_deadline(), wheel.is_empty()), (None, None, true));
            }
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let mut wheel = TimerWheel::new(3, at(1000));
        wheel.arm(0, at(1000));
        wheel.arm(1, at(10));
        assert_eq!((wheel.deadline(1), wheel.next_deadline()), (Some(at(10)), Some(at(1000))));
        assert_eq!(due(&mut wheel, 1000), [0, 1]);
        wheel.arm(2, Instant::ZERO);
        assert_eq!(due(&mut wheel, 1000), [2]);
    }

    #[test]
    fn arming_again_replaces_the_deadline_and_disarming_takes_it_away() {
        let mut wheel = TimerWheel::new(4, at(0));
        wheel.arm(0, at(100));
        wheel.arm(1, at(100));
        wheel.arm(2, at(100));
        wheel.arm(3, at(100));
        wheel.arm(0, at(101));
        wheel.arm(1, at(HOUR));
        wheel.disarm(2);
        wheel.disarm(2);
        assert_eq!((wheel.len(), wheel.deadline(2)), (3, None));
        check(&wheel);
        assert_eq!(due(&mut wheel, 100), [3]);
        assert_eq!(due(&mut wheel, 101), [0]);
        assert_eq!(due(&mut wheel, HOUR), [1]);
    }

    #[test]
    fn an_id_armed_anew_while_it_is_due_waits_for_its_new_deadline() {
        // Both are due; the second is given more time before its turn comes.
        for later in [1_000_001, 1_000_100, 1_100_000, HOUR] {
            let mut wheel = TimerWheel::new(2, at(0));
            wheel.arm(0, at(999_990));
            wheel.arm(1, at(999_991));
            let first = wheel.expire(at(1_000_000)).unwrap();
            wheel.arm(1 - first, at(later));
            assert_eq!(wheel.expire(at(1_000_000)), None);
            assert_eq!(wheel.expire(at(later - 1)), None);
            assert_eq!(wheel.expire(at(later)), Some(1 - first));
        }
    }

    #[test]
    fn the_end_of_time_is_a_deadline_like_any_other() {
        let mut wheel = TimerWheel::new(2, at(5));
        wheel.arm(0, Instant::ZERO + Duration::MAX);
        assert_eq!(due(&mut wheel, u64::MAX - 1), []);
        wheel.arm(1, at(u64::MAX));
        assert_eq!(due(&mut wheel, u64::MAX), [0, 1]);
        wheel.arm(1, at(u64::MAX));
        assert_eq!(due(&mut wheel, u64::MAX), [1]);
    }

    #[test]
    fn a_clock_that_goes_back_neither_loses_ids_nor_brings_them_twice() {
        let mut wheel = TimerWheel::new(3, at(1000));
        (0..3).for_each(|id| wheel.arm(id, at(2000 + u64::from(id))));
        assert!(wheel.expire(at(2001)).is_some());
        wheel.arm(2, at(1500));
        assert_eq!(due(&mut wheel, 10).len() + due(&mut wheel, 2001).len(), 2);
        check(&wheel);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_jump_of_the_clock_empties_each_slot_once() {
        let (mut random, mut wheel) = (Random(7), TimerWheel::new(10_000, at(123_456_789)));
        (0..10_000).for_each(|id| wheel.arm(id, at(123_456_789 + random.up_to_bits(55))));
        let slots = |wheel: &TimerWheel| wheel.taken.iter().map(|level| level.count_ones()).sum::<u32>();
        let (taken, end) = (slots(&wheel), 123_456_789 + (1 << 55));
        let (mut cascades, mut expired) = (0, 0);
        while let Some((slot, _)) = wheel.first() {
            if slot.level > 0 {
                wheel.cascade(slot, end);
                cascades += 1;
            }
            while wheel.first().is_some_and(|(slot, _)| slot.level == 0) {
                expired += u32::from(wheel.expire(at(end)).is_some());
            }
        }
        assert_eq!(expired, 10_000);
        assert!(cascades <= taken, "{cascades} cascades, {taken} slots");
    }

    #[test]
    fn a_sleeper_wakes_at_most_once_for_each_level() {
        let mut random = Random(8);
        for _ in 0..1000 {
            let start = random.next() >> 1;
            let (mut wheel, deadline) = (TimerWheel::new(1, at(start)), start + 1 + random.up_to_bits(60));
            wheel.arm(0, at(deadline));
            let mut wakes = 1;
            while wheel.expire(wheel.next_deadline().unwrap()).is_none() {
                wakes += 1;
            }
            assert!(wakes <= LEVELS && wheel.now == deadline, "{wakes} wakes");
        }
    }

    /// Expires all that are due, in the wheel and in the model, and compares; now and then arms or disarms one
    /// meanwhile, as an owner would that handles them one by one.
    fn expire_and_compare(wheel: &mut TimerWheel, model: &mut BTreeSet<(u64, u32)>, random: &mut Random, now: u64) {
        let capacity = wheel.timers.len() as u32;
        while let Some(id) = wheel.expire(at(now)) {
            let armed = model.iter().find(|(_, other)| *other == id).copied();
            let (deadline, _) = armed.expect("an id that is not armed");
            assert!(deadline <= now, "{id} came {} ns early", deadline - now);
            model.remove(&(deadline, id));
            assert_eq!(wheel.deadline(id), None);
            if random.below(4) == 0 {
                let other = random.below(capacity);
                model.retain(|(_, id)| *id != other);
                wheel.disarm(other);
                if random.below(2) == 0 {
                    let deadline = (now - 100).saturating_add(101 + random.up_to_bits(40));
                    wheel.arm(other, at(deadline));
                    model.insert((deadline, other));
                }
            }
        }
        if let Some((earliest, _)) = model.first() {
            assert!(*earliest > now, "one is overdue by {} ns", now - earliest);
        }
    }

    /// The bounds of `next_deadline`, when nothing is due.
    fn compare_next_deadline(wheel: &TimerWheel, model: &BTreeSet<(u64, u32)>) {
        let next = wheel.next_deadline().map(Instant::as_ns);
        assert_eq!(next.is_some(), !model.is_empty());
        if let (Some(next), Some((earliest, _))) = (next, model.first()) {
            let width = width(wheel.slot_of(*earliest).level);
            assert!(next <= *earliest && earliest - next < width, "{next} for {earliest}, slot of {width} ns");
            assert!(next > wheel.now, "a sleeper must not spin");
        }
    }

    fn compare_with_a_set(seed: u64, capacity: u32, start: u64, reach_bits: u32, jump_bits: u32) {
        let mut random = Random(seed);
        let (mut wheel, mut model) = (TimerWheel::new(capacity, at(start)), BTreeSet::new());
        let mut now = start;
        for step in 0..200_000 {
            let id = random.below(capacity);
            match random.below(8) {
                0..4 => {
                    let ahead = now.saturating_add(random.up_to_bits(reach_bits));
                    let deadline = if random.below(16) == 0 { now - random.up_to_bits(20).min(now) } else { ahead };
                    model.retain(|(_, other)| *other != id);
                    model.insert((deadline, id));
                    wheel.arm(id, at(deadline));
                    assert_eq!(wheel.deadline(id), Some(at(deadline)));
                }
                4 => {
                    model.retain(|(_, other)| *other != id);
                    wheel.disarm(id);
                    assert_eq!(wheel.deadline(id), None);
                }
                kind => {
                    // To the earliest deadline, just before it, or anywhere.
                    let earliest = model.first().map_or(now, |(deadline, _)| *deadline);
                    now = now.max(match kind {
                        5 => earliest,
                        6 => earliest.saturating_sub(1),
                        _ => now.saturating_add(random.up_to_bits(jump_bits)),
                    });
                    expire_and_compare(&mut wheel, &mut model, &mut random, now);
                    compare_next_deadline(&wheel, &model);
                }
            }
            assert_eq!(wheel.len() as usize, model.len());
            if step % 1024 == 0 {
                check(&wheel);
            }
        }
    }

    #[test]
    fn random_histories_agree_with_an_ordered_set() {
        // Microseconds as on a LAN, up to hours as with keepalives, and ids that crowd into few slots.
        compare_with_a_set(1, 64, 1_000_000_007, 20, 16);
        compare_with_a_set(2, 64, 0xffff_ffff_ff00, 44, 40);
        compare_with_a_set(3, 16, 500, 8, 6);
        compare_with_a_set(4, 3, HOUR, 44, 20);
        compare_with_a_set(5, 64, (1 << 48) - 1000, 36, 45);
    }
}
