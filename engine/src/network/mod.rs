//! The internet layer: which datagrams are for us, which way others go, and what ICMP says about them.

pub mod fragment;
pub mod icmp;
pub mod identification;
pub mod ipv4;
pub mod rate_limit;
pub mod reassembly;
pub mod route;
pub mod rss;
