//! skeleton

pub mod base;
pub mod device;
pub mod wire;
