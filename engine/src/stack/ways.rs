//! Which neighbor takes what goes between two addresses, as it was found out last: so that a packet of a pair in use costs
//! one comparison, and no look at our addresses, the routes and the neighbors.
//!
//! A pair is known only if datagrams may come in by it, too: to an address of ours, from one that can be answered. So what
//! is known here says both, that a packet is for us and where its answer goes.

use crate::base::Instant;
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// Slots: 14 KiB, of which those are in the cache that are in use.
const SLOTS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Slot {
    ours: IpAddress,
    theirs: IpAddress,
    good_until: Instant,
    epoch: u32,
    mac: Mac,
}

/// No pair is looked up before the clock's zero.
const EMPTY: Slot =
    Slot { ours: IpAddress::NONE, theirs: IpAddress::NONE, good_until: Instant::ZERO, epoch: 0, mac: Mac::ZERO };

/// A direct-mapped cache. The hash has no key: whoever aims at a slot makes packets pay for the look-up behind it, and
/// nothing else.
///
/// What was found out holds in one epoch: whoever has other addresses, routes or neighbors than before begins another.
#[derive(Debug)]
pub(super) struct Ways {
    slots: Box<[Slot; SLOTS]>,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self { slots: Box::new([EMPTY; SLOTS]) }
    }

    /// The MAC address to send to by from `ours` to `theirs`.
    #[inline(always)]
    pub(super) fn find(&self, ours: IpAddress, theirs: IpAddress, epoch: u32, now: Instant) -> Option<Mac> {
        let slot = &self.slots[index(theirs)];
        let is_good = slot.theirs == theirs && slot.ours == ours && slot.epoch == epoch && now < slot.good_until;
        is_good.then_some(slot.mac)
    }

    pub(super) fn put(
        &mut self,
        (ours, theirs): (IpAddress, IpAddress),
        (mac, good_until): (Mac, Instant),
        epoch: u32,
    ) {
        self.slots[index(theirs)] = Slot { ours, theirs, good_until, epoch, mac };
    }
}

#[inline]
fn index(address: IpAddress) -> usize {
    address.slot_of_256().into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_way_is_known_for_its_pair_its_epoch_and_its_time() {
        let (ours, theirs) = (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2)), IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1)));
        let at = Instant::from_ns;
        let mut ways = Ways::new();
        assert_eq!(ways.find(IpAddress::NONE, IpAddress::NONE, 0, at(0)), None, "an empty slot");
        ways.put((ours, theirs), (Mac::BROADCAST, at(9)), 7);
        assert_eq!([8, 9].map(|ns| ways.find(ours, theirs, 7, at(ns))), [Some(Mac::BROADCAST), None]);
        assert_eq!([6, 8].map(|epoch| ways.find(ours, theirs, epoch, at(0))), [None; 2]);
        assert_eq!(ways.find(theirs, theirs, 7, at(0)), None, "another address of ours");
        let other = (0..).map(|n: u32| IpAddress::v4(n.into())).find(|other| index(*other) == index(theirs));
        assert_eq!(ways.find(ours, other.unwrap(), 7, at(0)), None);
    }
}
