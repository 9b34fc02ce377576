//! Whose turn it is: ids in a row, each at most once.

const NONE: u32 = u32::MAX;
/// In the place of a link: the id is not in the row.
const ABSENT: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    behind: u32,
}

/// A first-in first-out row of ids, from which any can be taken out. All operations are O(1).
#[derive(Debug)]
pub struct ReadyList {
    links: Box<[Links]>,
    first: u32,
    last: u32,
    len: u32,
}

impl ReadyList {
    /// An empty row for ids below `capacity`: 8 bytes each.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let links = vec![Links { before: ABSENT, behind: ABSENT }; capacity as usize].into_boxed_slice();
        Self { links, first: NONE, last: NONE, len: 0 }
    }

    /// The id whose turn it is.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> Option<u32> {
        if self.first == NONE { None } else { Some(self.first) }
    }

    /// Ids in the row.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Whether an id is in the row.
    #[inline]
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.links.get(id as usize).is_some_and(|links| links.before != ABSENT)
    }

    /// Puts an id at the end, unless it is in the row already.
    #[inline]
    pub fn push(&mut self, id: u32) {
        if self.contains(id) {
            return;
        }
        let last = self.last;
        let Some(links) = self.links.get_mut(id as usize) else { return };
        *links = Links { before: last, behind: NONE };
        match self.links.get_mut(last as usize) {
            Some(before) => before.behind = id,
            None => self.first = id,
        }
        self.last = id;
        self.len += 1;
    }

    /// Takes an id out, if it is in the row.
    #[inline(always)]
    pub fn remove(&mut self, id: u32) {
        if !self.contains(id) {
            return;
        }
        let Some(links) = self.links.get_mut(id as usize) else { return };
        let Links { before, behind } = std::mem::replace(links, Links { before: ABSENT, behind: ABSENT });
        match self.links.get_mut(before as usize) {
            Some(links) => links.behind = behind,
            None => self.first = behind,
        }
        match self.links.get_mut(behind as usize) {
            Some(links) => links.before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn it_is_a_queue_in_which_each_id_stands_once() {
        let mut list = ReadyList::new(32);
        let mut model: VecDeque<u32> = VecDeque::new();
        let mut rng = 7_u32;
        for _ in 0..20_000 {
            rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (rng >> 16) % 32;
            if rng >> 31 == 0 {
                list.push(id);
                if !model.contains(&id) {
                    model.push_back(id);
                }
            } else {
                list.remove(id);
                model.retain(|&other| other != id);
            }
            assert_eq!((list.first(), list.len() as usize), (model.front().copied(), model.len()));
            assert_eq!(list.contains(id), model.contains(&id));
        }
        list.push(32);
        assert!(!list.contains(32), "beyond the capacity");
    }
}
