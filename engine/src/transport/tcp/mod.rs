//! TCP (RFC 9293): how fast a connection may send, and how long it waits for an answer.
//!
//! Pure arithmetic: nothing here reads a clock, sends or allocates. Windows are bytes, and `mss` is the SMSS of
//! RFC 5681, at most 65,535.

pub mod congestion;
pub mod pacing;
pub mod rtt;

mod cubic;
mod hystart;
mod prr;
mod reno;
mod windowed_minimum;
