//! Hops that packets of ours may take.

use crate::network::DEFAULT_HOP_LIMIT;
use crate::wire::ip::IpAddress;

/// Hops that packets of each family may take, unless an application says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct HopLimits {
    pub(super) v4: u8,
    pub(super) v6: u8,
    is_given: bool,
}

impl HopLimits {
    /// As it is configured, if it is.
    pub(super) fn new(given: Option<u8>) -> Self {
        let hops = given.unwrap_or(DEFAULT_HOP_LIMIT);
        Self { v4: hops, v6: hops, is_given: given.is_some() }
    }

    /// Of a packet to an address.
    #[inline]
    pub(super) fn to(&self, destination: IpAddress) -> u8 {
        if destination.is_v4() { self.v4 } else { self.v6 }
    }

    /// Hears what a router says.
    ///
    /// RFC 4861, section 6.3.4: if the received Cur Hop Limit value is non-zero, the host SHOULD set its CurHopLimit
    /// variable to the received value.
    pub(super) const fn hear(&mut self, told: u8) {
        if !self.is_given && told != 0 {
            self.v6 = told;
        }
    }
}
