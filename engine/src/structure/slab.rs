//! Values under small numbers that stay theirs: a vector whose places are used again.
//!
//! ```text
//!   places   | value, gen 0 | vacant, gen 3 | value, gen 1 | vacant, gen 1 | untouched ...        | capacity
//!                             ^ next vacant: 3               ^ last
//! ```
//!
//! The address space for all places is taken at the start and never moves; a place is first written to, and so
//! gets memory from the kernel, when all earlier ones are taken. The place vacated last is used next: it is the
//! likeliest to be in the cache.

/// No place: the end of the list of vacant ones.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Place<T> {
    /// How often a value was removed from here, modulo 2^32.
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Value(T),
    /// And the place that was vacated before this one.
    Vacant(u32),
}

/// Up to a fixed number of values, each under an id below that number.
///
/// An id is used again after its value was removed. Who keeps an id beyond that keeps its
/// [`generation`](Self::generation) too, and compares.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    /// The place that was vacated last.
    vacant: u32,
    len: u32,
    capacity: u32,
}

impl<T> Slab<T> {
    /// An empty slab for `capacity` values.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { places: Vec::with_capacity(capacity as usize), vacant: NONE, len: 0, capacity }
    }

    /// Keeps a value and tells its id. O(1).
    ///
    /// # Errors
    /// The value itself, when the slab is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        if let Some(place) = self.places.get_mut(self.vacant as usize)
            && let Content::Vacant(next) = place.content
        {
            place.content = Content::Value(value);
            self.len += 1;
            return Ok(std::mem::replace(&mut self.vacant, next));
        }
        if self.len == self.capacity {
            return Err(value);
        }
        // With none vacant, `len` places have been used so far. There is room for `capacity`: nothing moves.
        debug_assert!(self.places.len() == self.len as usize && self.places.len() < self.places.capacity());
        self.places.push(Place { generation: 0, content: Content::Value(value) });
        self.len += 1;
        Ok(self.len - 1)
    }

    /// Takes out the value of an id; `None` if it has none. O(1).
    #[inline]
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let place = self.places.get_mut(id as usize).filter(|place| matches!(place.content, Content::Value(_)))?;
        place.generation = place.generation.wrapping_add(1);
        let content = std::mem::replace(&mut place.content, Content::Vacant(self.vacant));
        self.vacant = id;
        self.len -= 1;
        match content {
            Content::Value(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }

    /// The value of an id.
    #[inline]
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&T> {
        match &self.places.get(id as usize)?.content {
            Content::Value(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }

    /// The value of an id, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match &mut self.places.get_mut(id as usize)?.content {
            Content::Value(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }

    /// How often a value of this id was removed: what tells its present value from those before it, until
    /// the count comes round after 2^32 of them.
    #[inline]
    #[must_use]
    pub fn generation(&self, id: u32) -> u32 {
        self.places.get(id as usize).map_or(0, |place| place.generation)
    }

    /// Values in the slab.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most values that the slab takes.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Places that were ever used: every id is below.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// All values with their ids, in the order of ids. Looks at every place that was ever used.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.places).filter_map(|(id, place)| match &place.content {
            Content::Value(value) => Some((id, value)),
            Content::Vacant(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::super::random::Random;
    use super::*;

    #[test]
    fn the_place_vacated_last_is_used_next() {
        let mut slab = Slab::new(8);
        (0..4).for_each(|value| assert_eq!(slab.insert(value), Ok(value)));
        assert_eq!((slab.remove(1), slab.remove(3)), (Some(1), Some(3)));
        assert_eq!([slab.insert(30), slab.insert(10), slab.insert(40)], [Ok(3), Ok(1), Ok(4)]);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(0, &0), (1, &10), (2, &2), (3, &30), (4, &40)]);
    }

    #[test]
    fn a_full_slab_gives_the_value_back() {
        let mut slab = Slab::new(2);
        assert_eq!([slab.insert("a"), slab.insert("b"), slab.insert("c")], [Ok(0), Ok(1), Err("c")]);
        assert_eq!((slab.len(), slab.capacity()), (2, 2));
        assert_eq!(Slab::new(0).insert(1), Err(1));
    }

    #[test]
    fn a_stale_id_is_told_by_its_generation() {
        let mut slab = Slab::new(2);
        let id = slab.insert('a').unwrap();
        let kept = (id, slab.generation(id));
        assert_eq!((slab.remove(id), slab.remove(id), slab.get(id)), (Some('a'), None, None));
        assert_eq!(slab.insert('b'), Ok(id));
        assert_ne!(kept.1, slab.generation(id));
        assert_eq!(slab.generation(id), 1, "the second removal found nothing");
        assert_eq!(slab.generation(1), 0, "never used");
    }

    #[test]
    fn a_value_is_changed_in_place() {
        let mut slab = Slab::new(1);
        let id = slab.insert([0; 500]).unwrap();
        slab.get_mut(id).unwrap()[499] = 7;
        assert_eq!(slab.get(id).unwrap()[499], 7);
        assert!(slab.get_mut(1).is_none() && slab.get(NONE).is_none() && slab.remove(NONE).is_none());
    }

    #[test]
    fn values_are_dropped_once() {
        let (value, mut slab) = (Rc::new(()), Slab::new(3));
        (0..3).for_each(|id| assert_eq!(slab.insert(value.clone()), Ok(id)));
        drop(slab.remove(1));
        assert_eq!(Rc::strong_count(&value), 3);
        assert!(slab.insert(value.clone()).is_ok() && slab.insert(value.clone()).is_err());
        assert_eq!(Rc::strong_count(&value), 4);
        drop(slab);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn random_histories_agree_with_a_map_and_move_nothing() {
        let (mut random, mut slab) = (Random(1), Slab::new(100));
        let start = slab.places.as_ptr();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut generations, mut most) = ([0; 100], 0);
        for step in 0..100_000 {
            let (value, id) = (random.next(), random.below(101));
            // More insertions and more removals in turns, so that the slab is full and empty by times.
            if random.below(8) < if step / 1000 % 2 == 0 { 6 } else { 2 } {
                match slab.insert(value) {
                    Ok(id) => assert_eq!(model.insert(id, value), None),
                    Err(back) => assert_eq!((back, model.len()), (value, 100)),
                }
            } else {
                let removed = slab.remove(id);
                assert_eq!(removed, model.remove(&id));
                let _ = removed.map(|_| generations[id as usize] += 1);
            }
            most = most.max(model.len());
            assert_eq!(slab.get(id), model.get(&id));
            assert_eq!(slab.get_mut(id), model.get_mut(&id));
            assert_eq!((slab.len() as usize, slab.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(slab.places() as usize, most, "a place is used anew only when no other is vacant");
            if step % 128 == 0 {
                assert!(slab.iter().eq(model.iter().map(|(&id, value)| (id, value))));
                (0..100).for_each(|id| assert_eq!(slab.generation(id), generations[id as usize]));
            }
        }
        assert_eq!((slab.places.as_ptr(), most), (start, 100));
    }
}
