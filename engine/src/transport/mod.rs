//! Transport: UDP, and what TCP is put together from.

pub mod tcp;
pub mod udp;
