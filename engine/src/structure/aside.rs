//! Values that few of many owners have at a time: they stand in a table of their own, and an owner without one pays four
//! bytes for it.

use super::slab::Slab;

const NONE: u32 = u32::MAX;

/// Where the value of an owner stands in the table, if it has one. The owner hands in the same table every time, and takes
/// the value out before it goes.
#[derive(Debug)]
pub struct Aside(u32);

impl Default for Aside {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Aside {
    /// Whether there is no value.
    #[inline]
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == NONE
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get<'a, T>(&self, table: &'a Slab<T>) -> Option<&'a T> {
        table.get(self.0)
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get_mut<'a, T>(&self, table: &'a mut Slab<T>) -> Option<&'a mut T> {
        table.get_mut(self.0)
    }

    /// The value; a new one if there was none, and `None` if the table has no room for that.
    pub fn get_or_default<'a, T: Default>(&mut self, table: &'a mut Slab<T>) -> Option<&'a mut T> {
        if self.is_none() {
            self.0 = table.insert(T::default()).unwrap_or(NONE);
        }
        self.get_mut(table)
    }

    /// Takes the value out.
    pub fn take<T>(&mut self, table: &mut Slab<T>) -> Option<T> {
        if self.is_none() {
            return None;
        }
        table.remove(std::mem::replace(&mut self.0, NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_finds_its_own_value_until_it_takes_it() {
        let mut table = Slab::new(2);
        let (mut one, mut other, mut third) = (Aside::default(), Aside::default(), Aside::default());
        assert!(one.is_none() && one.get(&table).is_none() && one.take(&mut table).is_none());
        *one.get_or_default(&mut table).unwrap() = 1;
        *other.get_or_default(&mut table).unwrap() = 2;
        assert_eq!((one.get(&table), other.get(&table)), (Some(&1), Some(&2)));
        assert!(third.get_or_default(&mut table).is_none() && third.is_none(), "the table is full");
        assert_eq!((one.take(&mut table), one.is_none()), (Some(1), true));
        assert_eq!(third.get_or_default(&mut table), Some(&mut 0), "a place that is free again");
        assert_eq!(other.get(&table), Some(&2));
    }
}
