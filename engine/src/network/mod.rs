//! The internet layer: which datagrams are for us, which way others go, and what ICMP says about them.

use crate::wire::ip::IpAddress;

pub mod autoconf;
pub mod fragment;
pub mod icmp;
pub mod identification;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod path_mtu;
pub mod rate_limit;
pub mod reassembly;
pub mod route;
pub mod rss;
pub mod sent_lately;
pub mod source_address;

/// Hops of a packet of ours (RFC 1700 and Linux: 64).
pub const DEFAULT_HOP_LIMIT: u8 = 64;

/// Whether a single host may send from the address.
#[must_use]
pub fn is_valid_source(source: IpAddress) -> bool {
    match (source.to_v4(), source.to_v6()) {
        (Some(v4), _) => ipv4::is_valid_source(v4),
        (_, v6) => v6.is_some_and(ipv6::is_valid_source),
    }
}
