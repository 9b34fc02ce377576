//! skeleton

pub mod base;
pub mod device;
pub mod link;
pub mod network;
pub mod transport;
pub mod wire;
