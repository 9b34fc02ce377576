//! Which IPv6 packets are for us (RFC 8200; RFC 4291, section 2.8).

use std::net::Ipv6Addr;

use crate::base::DropReason;
use crate::link::address::{AddressState, Addresses};
use crate::wire::ndp::ALL_NODES;

/// Every node of this interface, which is us (RFC 4291, section 2.7.1).
const ALL_NODES_HERE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// Checks that a packet is ours, or to a group that we are in, and from somebody who may send. `to_everybody` says that
/// its frame was sent to a multicast or broadcast MAC address; `is_member` whether an application joined a group.
///
/// The hop limit is not looked at: it is for those who send a packet on (RFC 8200, section 3).
///
/// # Errors
/// The [`DropReason`] of the first check that fails.
#[inline]
pub fn accept(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    addresses: &Addresses,
    to_everybody: bool,
    is_member: impl FnOnce(Ipv6Addr) -> bool,
) -> Result<(), DropReason> {
    let is_group = destination.is_multicast();
    match addresses.state(destination.into()) {
        Some(AddressState::Preferred) => {}
        Some(_) => return Err(DropReason::AddressTentative),
        None if !is_group => return Err(DropReason::Ipv6OtherDestination),
        None => {
            let ours = destination == ALL_NODES
                || destination == ALL_NODES_HERE
                || addresses.solicited_at(destination).is_some()
                || is_member(destination);
            if !ours {
                return Err(DropReason::Ipv6OtherGroup);
            }
        }
    }
    // As RFC 1122, section 3.3.6 for IPv4: one host's packet in a frame to all of them is somebody's mistake or trick.
    if to_everybody && !is_group {
        return Err(DropReason::Ipv6LinkBroadcast);
    }
    // RFC 4862, section 5.4.2: who probes for an address sends from the unspecified one, to a group. Section 5.4.4: who
    // has one of ours says so from it, to all nodes. Nothing but neighbor discovery may come from either.
    let probes_or_claims = is_group && is_of_discovery(source, addresses);
    if probes_or_claims || (is_valid_source(source) && addresses.may_send(source.into())) {
        Ok(())
    } else {
        Err(DropReason::Ipv6SourceInvalid)
    }
}

/// Whether an address is one that nothing but messages of neighbor discovery come from: nobody's, or one of ours.
#[inline]
#[must_use]
pub fn is_of_discovery(source: Ipv6Addr, addresses: &Addresses) -> bool {
    source.is_unspecified() || addresses.state(source.into()).is_some()
}

/// Whether a packet is for us alone and from somebody who can be answered.
#[inline]
#[must_use]
pub fn is_for_us(source: Ipv6Addr, destination: Ipv6Addr, addresses: &Addresses) -> bool {
    is_valid_source(source) && addresses.may_receive(source.into(), destination.into())
}

/// Whether a single host may send from the address: not unspecified, loopback or multicast (RFC 4291, sections 2.5.2, 2.5.3
/// and 2.7).
#[inline]
#[must_use]
pub const fn is_valid_source(source: Ipv6Addr) -> bool {
    !source.is_unspecified() && !source.is_loopback() && !source.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use crate::link::address::Probing;

    fn verdict(probing: Probing, source: &str, destination: &str, to_everybody: bool) -> Result<(), DropReason> {
        let addresses = Addresses::new(&["fd00::2/64".parse().unwrap()], probing, Instant::ZERO);
        let joined = |group: Ipv6Addr| group == "ff15::7".parse::<Ipv6Addr>().unwrap();
        accept(source.parse().unwrap(), destination.parse().unwrap(), &addresses, to_everybody, joined)
    }

    #[test]
    fn ours_is_what_is_sent_to_our_address_and_to_our_groups() {
        for (destination, group) in
            [("fd00::2", false), ("ff02::1", true), ("ff01::1", true), ("ff02::1:ff00:2", true), ("ff15::7", true)]
        {
            assert_eq!(verdict(Probing::Off, "fd00::1", destination, group), Ok(()), "{destination}");
        }
        assert_eq!(verdict(Probing::Off, "::", "ff02::1:ff00:2", true), Ok(()), "a probe for duplicates");
    }

    #[test]
    fn other_destinations_have_their_reasons() {
        let reason = |destination, group| verdict(Probing::Off, "fd00::1", destination, group).unwrap_err();
        assert_eq!(reason("fd00::3", false), DropReason::Ipv6OtherDestination);
        assert_eq!(reason("ff02::1:ff00:3", true), DropReason::Ipv6OtherGroup);
        assert_eq!(reason("fd00::2", true), DropReason::Ipv6LinkBroadcast);
    }

    #[test]
    fn a_tentative_address_gets_nothing_but_its_group_does() {
        assert_eq!(verdict(Probing::Lead, "fd00::1", "fd00::2", false), Err(DropReason::AddressTentative));
        assert_eq!(verdict(Probing::Lead, "fd00::1", "ff02::1:ff00:2", true), Ok(()));
    }

    #[test]
    fn who_claims_our_address_is_heard_when_he_tells_all_nodes() {
        for probing in [Probing::Off, Probing::Lead] {
            assert_eq!(verdict(probing, "fd00::2", "ff02::1", true), Ok(()));
        }
        assert_eq!(verdict(Probing::Off, "fd00::2", "fd00::2", false), Err(DropReason::Ipv6SourceInvalid));
    }

    #[test]
    fn nobody_sends_from_these_addresses() {
        for source in ["::", "::1", "ff02::1", "fd00::2"] {
            assert_eq!(verdict(Probing::Off, source, "fd00::2", false), Err(DropReason::Ipv6SourceInvalid), "{source}");
        }
    }
}
