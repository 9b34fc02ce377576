//! The internet layer: which datagrams are for us, which way others go, and what ICMP says about them.

pub mod icmp;
pub mod ipv4;
pub mod rate_limit;
pub mod route;
pub mod rss;
pub mod source_address;
