//! Which IPv4 datagrams are for us (RFC 1122, section 3.2).

use std::net::Ipv4Addr;

use crate::base::DropReason;
use crate::link::address::{AddressState, Addresses};
use crate::wire::ipv4::{IGMP, Packet};

/// Bytes that every host can reassemble (RFC 1122, section 3.3.2), and to which ICMP errors are clamped.
pub const MIN_REASSEMBLY_LEN: usize = 576;

/// Checks that a datagram, or a fragment of one, is ours and from somebody who can be answered. `to_everybody` says that
/// its frame was sent to a multicast or broadcast MAC address; `is_heard` whether datagrams to a group or a broadcast address
/// are wanted here.
///
/// RFC 9293, section 3.9.2.3 (MUST-57, MUST-63): with them go SYNs that are addressed to a broadcast or multicast
/// address, or whose source address is invalid.
///
/// The time to live is not looked at: RFC 1122, section 3.2.1.7 forbids a host to discard a datagram for it.
///
/// # Errors
/// The [`DropReason`] of the first check that fails.
#[inline]
pub fn accept(
    packet: &Packet<'_>,
    addresses: &Addresses,
    to_everybody: bool,
    is_heard: impl FnOnce(Ipv4Addr) -> bool,
) -> Result<(), DropReason> {
    let (source, destination) = (packet.source(), packet.destination());
    // Multicast in a frame to us alone is what some access points make of it; a broadcast in one is nobody's.
    let is_broadcast =
        || to_everybody && (destination.is_broadcast() || addresses.is_directed_broadcast(destination.into()));
    match addresses.state(destination.into()) {
        Some(AddressState::Preferred) => {}
        Some(_) => return Err(DropReason::AddressTentative),
        None if (destination.is_multicast() || is_broadcast()) && is_heard(destination) => {
            // RFC 4541, section 2.1.1: switches without an address ask for members, too.
            let asks = packet.protocol() == IGMP && source.is_unspecified();
            let valid = asks || (is_valid_source(source) && addresses.may_send(source.into()));
            return if valid { Ok(()) } else { Err(DropReason::Ipv4SourceInvalid) };
        }
        None if destination.is_broadcast() || destination.is_multicast() => return Err(DropReason::Ipv4Broadcast),
        None if addresses.is_directed_broadcast(destination.into()) => return Err(DropReason::Ipv4Broadcast),
        None => return Err(DropReason::Ipv4OtherDestination),
    }
    // RFC 1122, section 3.3.6: a host SHOULD silently discard a datagram that is received via a link-layer
    // broadcast but does not specify an IP multicast or broadcast destination address.
    if to_everybody {
        return Err(DropReason::Ipv4LinkBroadcast);
    }
    // RFC 1122, section 3.2.1.3: a host MUST silently discard an incoming datagram containing an IP source
    // address that is invalid.
    if !is_valid_source(source) || !addresses.may_send(source.into()) {
        return Err(DropReason::Ipv4SourceInvalid);
    }
    Ok(())
}

/// Whether a datagram is for us and from somebody who can be answered.
#[inline]
#[must_use]
pub fn is_for_us(source: Ipv4Addr, destination: Ipv4Addr, addresses: &Addresses) -> bool {
    is_valid_source(source) && addresses.may_receive(source.into(), destination.into())
}

/// Whether a single host may send from the address: not zero, loopback, multicast or reserved.
#[must_use]
pub fn is_valid_source(source: Ipv4Addr) -> bool {
    let first = source.octets()[0];
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use crate::link::address::Probing;
    use crate::wire::ipv4::{Header, LEN, UDP};

    const JOINED: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);

    fn verdict(source: &str, destination: &str, to_everybody: bool) -> Result<(), DropReason> {
        let addresses = Addresses::new(&["10.0.0.2/24".parse().unwrap()], Probing::Off, Instant::ZERO);
        let mut bytes = [0; LEN];
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Header { traffic_class: 0, payload_len: 0, ttl: 0, protocol: UDP, source, destination }.write(&mut bytes);
        let is_heard = |group: Ipv4Addr| group == JOINED || group.is_broadcast();
        accept(&Packet::parse(&bytes).unwrap(), &addresses, to_everybody, is_heard)
    }

    #[test]
    fn a_datagram_for_us_is_taken_whatever_its_time_to_live() {
        assert_eq!(verdict("10.0.0.1", "10.0.0.2", false), Ok(()));
    }

    #[test]
    fn other_destinations_have_their_reasons() {
        assert_eq!(verdict("10.0.0.1", "10.0.0.3", false), Err(DropReason::Ipv4OtherDestination));
        for everybody in ["10.0.0.255", "224.0.0.1"] {
            assert_eq!(verdict("10.0.0.1", everybody, true), Err(DropReason::Ipv4Broadcast), "{everybody}");
        }
        assert_eq!(verdict("10.0.0.1", "10.0.0.2", true), Err(DropReason::Ipv4LinkBroadcast));
    }

    #[test]
    fn what_was_asked_for_is_taken_from_whoever_can_send() {
        for (destination, to_everybody) in [("239.1.1.1", true), ("239.1.1.1", false), ("255.255.255.255", true)] {
            assert_eq!(verdict("10.0.0.1", destination, to_everybody), Ok(()), "{destination}");
            assert_eq!(verdict("0.0.0.0", destination, to_everybody), Err(DropReason::Ipv4SourceInvalid));
        }
        assert_eq!(verdict("10.0.0.1", "255.255.255.255", false), Err(DropReason::Ipv4Broadcast), "to us alone");
    }

    #[test]
    fn nobody_sends_from_these_addresses() {
        for source in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "10.0.0.255", "10.0.0.2"]
        {
            assert_eq!(verdict(source, "10.0.0.2", false), Err(DropReason::Ipv4SourceInvalid), "{source}");
        }
    }
}
