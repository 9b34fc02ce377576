//! The simulator: two production workers on a virtual wire, a virtual clock, and one seed.
//!
//! ```text
//!   client app                                                                echo app
//!   [Worker] -- Nic -- strict check -- Lane (loss, delay, damage ...) -- Nic -- [Worker]
//!      |                                                                           |
//!   Reference  <---- every frame that a stack digested, and every one it sent --> Reference
//! ```
//!
//! Everything is drawn from the seed, so a seed that fails once fails always, and one run of it is the same
//! as the next, frame by frame. After every turn the books are balanced: every chunk in one place, every frame
//! counted once. Every frame that leaves must parse and be either one that the reference expects as an answer
//! or one that the application wrote. When the faults stop, everything has to arrive again.

mod accord;
mod answers;
mod client;
mod folk;
mod forge;
pub mod fragments;
pub mod frames;
mod host;
pub mod ndp;
mod nic;
mod outages;
mod pcap;
mod reference;
mod rng;
pub mod routed;
mod run;
mod scenario;
mod seeds;
mod segmentation;
mod strict;
pub mod tcp;
mod too_long;
mod wire;

pub use answers::Answers;
pub use client::{Client, Traffic};
pub use folk::Folk;
pub use forge::draw_frame;
pub use host::{Digested, Emission, Host, HostPlan};
pub use nic::{Mood, Nic, Rings, Virtual};
pub use outages::Outages;
pub use reference::{Answer, Originates, Reaction, Reference, Timing, Told, Way};
pub use rng::{Rng, hash};
pub use run::{Outcome, Simulation};
pub use scenario::{
    CLIENT, CLIENT_MAC, CLIENT_V6, ClockFaults, PORT, REMOTE, REMOTE_V6, SERVER, SERVER_MAC, SERVER_V6, STRANGER,
    STRANGER_MAC, STRANGER_V6, Scenario, Strangers, sound_host, stack_config,
};
pub use seeds::{attempt, run_seed, run_tcp_seed};
pub use strict::check as check_strictly;
pub use too_long::Manner;
pub use wire::{Faults, Lane, LaneCounters, Transmission};
