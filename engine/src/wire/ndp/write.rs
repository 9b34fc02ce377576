//! The messages that a host sends, each with its checksum.
//!
//! RFC 4861, sections 4.1, 4.3 and 4.4. All go out with the hop limit [`HOP_LIMIT`](super::HOP_LIMIT).

use std::net::Ipv6Addr;

use super::{Advertisement, SOURCE_LINK_LAYER_ADDRESS, Solicitation, TARGET_LINK_LAYER_ADDRESS};
use crate::wire::ethernet::Mac;
use crate::wire::icmpv6::{self, set_checksum};

/// Bytes of the longest message that is written: header, target and a MAC address.
pub const MAX_LEN: usize = icmpv6::LEN + 16 + MAC_OPTION_LEN;

/// Bytes of an option with a MAC address.
const MAC_OPTION_LEN: usize = 8;

/// Writes a Neighbor Solicitation and gives its length in bytes; none if `out` is too short.
#[must_use]
pub fn write_solicitation(
    out: &mut [u8],
    message: &Solicitation,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Option<usize> {
    let header = [icmpv6::NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let option = message.source_mac.map(|mac| mac_option(SOURCE_LINK_LAYER_ADDRESS, mac));
    write(out, [&header, &message.target.octets(), option.as_slice().as_flattened()], source, destination)
}

/// Writes a Neighbor Advertisement and gives its length in bytes; none if `out` is too short.
#[must_use]
pub fn write_advertisement(
    out: &mut [u8],
    message: &Advertisement,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Option<usize> {
    let flags = u8::from(message.router) << 7 | u8::from(message.solicited) << 6 | u8::from(message.override_) << 5;
    let header = [icmpv6::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    let option = message.target_mac.map(|mac| mac_option(TARGET_LINK_LAYER_ADDRESS, mac));
    write(out, [&header, &message.target.octets(), option.as_slice().as_flattened()], source, destination)
}

/// Writes a Router Solicitation and gives its length in bytes; none if `out` is too short. From the unspecified
/// address there must be no `source_mac` (RFC 4861, section 4.1).
#[must_use]
pub fn write_router_solicitation(
    out: &mut [u8],
    source_mac: Option<Mac>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Option<usize> {
    let header = [icmpv6::ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let option = source_mac.map(|mac| mac_option(SOURCE_LINK_LAYER_ADDRESS, mac));
    write(out, [&header, &[], option.as_slice().as_flattened()], source, destination)
}

const fn mac_option(kind: u8, Mac([a, b, c, d, e, f]): Mac) -> [u8; MAC_OPTION_LEN] {
    [kind, 1, a, b, c, d, e, f]
}

/// Writes the parts of a message one behind the other, and its checksum.
fn write(out: &mut [u8], parts: [&[u8]; 3], source: Ipv6Addr, destination: Ipv6Addr) -> Option<usize> {
    let len = parts.iter().map(|part| part.len()).sum();
    let message = out.get_mut(..len)?;
    let mut rest = &mut message[..];
    for part in parts {
        let (place, after) = rest.split_at_mut_checked(part.len())?;
        place.copy_from_slice(part);
        rest = after;
    }
    set_checksum(message, source, destination);
    Some(len)
}
