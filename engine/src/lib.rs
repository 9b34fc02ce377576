//! Barewire: a kernel-bypass packet engine for Linux servers.
//!
//! An XDP program steers the frames of an address to AF_XDP rings; one pinned worker for each queue runs an
//! IP stack to completion over each burst, in place, in the frames that the NIC filled.
//!
//! ```text
//!   app       applications: what is done with what arrives          apps, app
//!   stack     transport <- network <- link <- wire                  sans-IO: frames, time, randomness come in
//!   worker    receive -> stack -> transmit                          where stack and device meet
//!   device    AF_XDP rings over packet memory                       or one of yours
//! ```
//!
//! The parts can be used apart. [`stack::Stack`] digests frames wherever they come from;
//! [`worker::Worker`] runs it over anything that implements [`device::Device`] (see
//! `examples/in_memory.rs`); [`engine::Engine`] is the whole on a network interface, as the `barewire` command
//! runs it.

pub mod app;
pub mod apps;
pub mod base;
pub mod clock;
pub mod config;
pub mod counters;
pub mod device;
pub mod engine;
pub mod link;
pub mod network;
pub mod nic;
pub mod stack;
pub mod steer;
pub mod structure;
pub mod transport;
pub mod wire;
pub mod worker;
