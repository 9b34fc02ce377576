//! What is fetched for a segment before its turn, where no cache holds all connections: see stack/ahead.rs.

use super::tuple::Tuple;
use super::{Kind, Tcp};
use crate::base::prefetch;

/// Connections that the caches near a core hold: one takes half a kibibyte, and such a cache has a megabyte or two.
const CROWD: u32 = 2048;

/// What is known of a segment before its turn.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen {
    mark: u64,
    hash: u64,
}

impl Tcp {
    /// Whether there are more connections than caches near the core hold.
    #[inline]
    #[must_use]
    pub const fn is_crowded(&self) -> bool {
        self.tables.connections.len() > CROWD
    }

    /// Has what a search for a connection begins with on its way into the nearest cache.
    #[inline]
    #[must_use]
    pub fn foresee(&self, tuple: &Tuple) -> Foreseen {
        let hash = tuple.hash(self.tables.key);
        self.tables.flows.fetch(hash);
        Foreseen { mark: tuple.mark(), hash }
    }

    /// Has the connection that a search is likely to find on its way into the nearest cache; which one that is.
    #[inline]
    pub fn fetch(&mut self, Foreseen { mark, hash }: &Foreseen) -> Option<u32> {
        let (Kind::Connection, index) = self.tables.flows.find(*hash, |_| true).map(Kind::of)? else { return None };
        prefetch(self.tables.connections.get(index)?);
        self.recent.found(*mark, index);
        Some(index)
    }
}
