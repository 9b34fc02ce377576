//! What is told of neighbors. All this looks at the whole table: it is not for the packet path.

use super::{Neighbors, State};
use crate::base::Instant;
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// A neighbor as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Its address.
    pub address: IpAddress,
    /// Its MAC address; none while it is searched for.
    pub mac: Option<Mac>,
    /// How well it is known; one whose MAC address is given counts as reachable.
    pub state: State,
    /// Whether it said that it is a router.
    pub is_router: bool,
    /// Whether its MAC address is given.
    pub is_fixed: bool,
}

impl Neighbors {
    /// All neighbors, in no order.
    pub fn entries(&self, now: Instant) -> impl Iterator<Item = Neighbor> {
        let fixed = self.fixed.iter().map(|&(address, mac)| Neighbor {
            address,
            mac: Some(mac),
            state: State::Reachable,
            is_router: false,
            is_fixed: true,
        });
        let known = self.cache.iter().map(move |entry| Neighbor {
            address: entry.address,
            mac: Some(entry.mac),
            state: entry.state_at(now),
            is_router: entry.is_router,
            is_fixed: false,
        });
        let searched = self.searches.addresses().map(|address| Neighbor {
            address,
            mac: None,
            state: State::Incomplete,
            is_router: false,
            is_fixed: false,
        });
        fixed.chain(known).chain(searched)
    }

    /// How many neighbors there are in each [`State`].
    #[must_use]
    pub fn population(&self, now: Instant) -> [u32; State::COUNT] {
        let mut population = [0; State::COUNT];
        for neighbor in self.entries(now) {
            if let Some(count) = population.get_mut(neighbor.state as usize) {
                *count += 1;
            }
        }
        population
    }

    /// Whether a neighbor is known to be a router.
    #[must_use]
    pub fn is_router(&self, address: IpAddress) -> bool {
        self.cache.peek(address).is_some_and(|entry| entry.is_router)
    }

    /// How well a neighbor is known; `None` for a stranger.
    #[must_use]
    pub fn state(&self, address: IpAddress, now: Instant) -> Option<State> {
        let known = || self.cache.peek(address).map(|entry| entry.state_at(now));
        let given = self.given(address).map(|_| State::Reachable);
        given.or_else(known).or_else(|| self.searches.is_asking(address).then_some(State::Incomplete))
    }
}
