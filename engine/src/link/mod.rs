//! The link: own addresses and their defence, neighbors and how they are found (ARP, neighbor discovery).
//!
//! Nothing here sends: each function says what is next as a value, and the stack does it.

pub mod address;
pub mod arp;
pub mod ndp;
pub mod neighbor;
