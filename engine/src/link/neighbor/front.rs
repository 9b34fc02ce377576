//! What was looked up last, in front of the table: so that a neighbor in use costs no keyed hash for each frame.

use crate::base::Instant;
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// Slots: 8 KiB, a quarter of a core's first cache at most, and more neighbors than a worker speaks to in turns.
const SLOTS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: IpAddress,
    mac: Mac,
    good_until: Instant,
}

/// No address is looked up before the clock's zero.
const EMPTY: Slot = Slot { address: IpAddress::NONE, mac: Mac::ZERO, good_until: Instant::ZERO };

/// A direct-mapped cache of the table's answers. The hash has no key: whoever aims at a slot makes frames pay for the
/// lookup behind it, and nothing else.
#[derive(Debug)]
pub(super) struct Front {
    slots: Box<[Slot; SLOTS]>,
    /// Counts what was forgotten, for those who remember what is said here.
    epoch: u32,
}

impl Front {
    pub(super) fn new() -> Self {
        Self { slots: Box::new([EMPTY; SLOTS]), epoch: 0 }
    }

    #[inline]
    pub(super) fn resolve(&self, address: IpAddress, now: Instant) -> Option<(Mac, Instant)> {
        let slot = &self.slots[index(address)];
        (slot.address == address && now < slot.good_until).then_some((slot.mac, slot.good_until))
    }

    #[inline]
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    pub(super) fn put(&mut self, address: IpAddress, mac: Mac, good_until: Instant) {
        self.slots[index(address)] = Slot { address, mac, good_until };
    }

    pub(super) fn forget(&mut self, address: IpAddress) {
        self.begin_epoch();
        let slot = &mut self.slots[index(address)];
        if slot.address == address {
            *slot = EMPTY;
        }
    }
}

#[inline]
fn index(address: IpAddress) -> usize {
    address.slot_of_256().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_a_row_take_slots_of_their_own() {
        for first in [0x0a00_0001_u32, 0xc0a8_0000] {
            let mut taken = [false; SLOTS];
            (0..128).for_each(|n| taken[index(IpAddress::v4((first + n).into()))] = true);
            let slots = taken.iter().filter(|taken| **taken).count();
            assert!(slots >= 120, "{slots} slots for 128 addresses from {first:x}");
        }
    }

    #[test]
    fn a_slot_serves_its_own_address_and_no_longer_than_it_is_good() {
        let (address, at) = (IpAddress::v4([10, 0, 0, 1].into()), Instant::from_ns);
        let mut front = Front::new();
        assert_eq!(front.resolve(IpAddress::NONE, at(0)), None, "an empty slot");
        front.put(address, Mac::BROADCAST, at(9));
        assert_eq!([8, 9].map(|ns| front.resolve(address, at(ns))), [Some((Mac::BROADCAST, at(9))), None]);
        let other = (0..).map(|n: u32| IpAddress::v4(n.into())).find(|other| index(*other) == index(address)).unwrap();
        front.forget(other);
        assert_eq!([other, address].map(|of| front.resolve(of, at(0))), [None, Some((Mac::BROADCAST, at(9)))]);
        front.forget(address);
        assert_eq!(front.resolve(address, at(0)), None);
    }
}
