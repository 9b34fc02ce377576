//! Messages of neighbor discovery put together by hand, as RFC 4861 has them.

use std::net::Ipv6Addr;

use barewire::wire::ethernet::Mac;

use super::frames::{self, Ip};

/// Types of messages.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// See [`ROUTER_ADVERTISEMENT`].
pub const SOLICITATION: u8 = 135;
/// See [`ROUTER_ADVERTISEMENT`].
pub const ADVERTISEMENT: u8 = 136;

/// Options with the MAC address of the sender, and with that of the target.
pub const SOURCE_MAC: u8 = 1;
/// See [`SOURCE_MAC`].
pub const TARGET_MAC: u8 = 2;

/// Flags of an advertisement: it answers a solicitation.
pub const SOLICITED: u8 = 0x40;
/// Flags of an advertisement: it replaces what is known.
pub const OVERRIDE: u8 = 0x20;

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group at which an address is asked for (RFC 4291, section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The MAC address that a group of IPv6 is sent to (RFC 2464, section 7).
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// An option with a MAC address.
#[must_use]
pub fn mac_option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

/// The packet of a message about `target`, with what stands in front of that and the options behind it.
#[must_use]
pub fn packet(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let rest = [&[flags, 0, 0, 0][..], &target.octets(), options].concat();
    let message = frames::icmpv6(source, destination, kind, 0, &rest);
    frames::ipv6(Ip { ttl: 255, ..Ip::new(frames::ICMPV6, source, destination) }, &message)
}

/// The packet in which a host with `mac` asks for `target` at the group; `None` for one that has no address yet.
#[must_use]
pub fn question(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac>) -> Vec<u8> {
    let options = mac.map_or(Vec::new(), |mac| mac_option(SOURCE_MAC, mac));
    packet((source, destination), SOLICITATION, 0, target, &options)
}

/// The packet in which a host says that `target` has a MAC address.
#[must_use]
pub fn news(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr, flags: u8, mac: Mac) -> Vec<u8> {
    packet((source, destination), ADVERTISEMENT, flags, target, &mac_option(TARGET_MAC, mac))
}
