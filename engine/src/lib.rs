//! skeleton

pub mod base;
pub mod device;
