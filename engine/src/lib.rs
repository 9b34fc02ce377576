//! skeleton

pub mod base;
pub mod device;
pub mod link;
pub mod network;
pub mod steer;
pub mod transport;
pub mod wire;
pub mod app;
pub mod apps;
pub mod counters;
pub mod stack;
pub mod worker;
pub mod clock;
pub mod nic;
