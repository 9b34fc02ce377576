//! `barewire-bench attack`: what a flood leaves of the engine's goodput, in rounds with and without it.
//!
//! ```text
//!  round 1   calm     passed   attack          calm:    nothing but the clients
//!  round 2   passed   attack   calm            passed:  as many frames, which the engine never sees
//!  round 3   attack   calm     passed          attack:  the flood
//! ```
//!
//! The flood is live frames (bpf/attack.h) from the generator's core, which is the clients' too: there are two cores,
//! and the other is the engine's. What that costs the clients shows in `passed`: frames at the same rate that the XDP
//! program gives to the kernel, which costs the generator's core more (an skb each) than handing them to the engine does.
//! So goodput in `attack` over that in `calm` is what the flood leaves, and the generator's share of what is missing is at
//! most what is missing in `passed`. Where that is much, as of a stream into the engine, which takes the generator's core
//! nearly whole, nothing is said about the engine.

mod attempts;
mod flood;
mod fragments;
mod syn;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::compare::Lab;
use crate::compare::programs::Programs;
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::losses::{self, Counters};
use crate::netns::{self, ETHERNET_MTU, Family, INTERFACE, Shape};
use crate::process::Server;
use crate::udp::SOURCE_PORT;
use crate::udp::frame::Path;
use crate::udp::trial::AttackKind;

#[derive(Args, Debug)]
pub(crate) struct AttackArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Random fragments of IPv4 against a UDP echo
    Fragments(FloodArgs),
    /// Connection requests from random sources against established and new connections
    Syn(FloodArgs),
}

/// Options of both.
#[derive(Args, Debug)]
struct FloodArgs {
    /// Frames of the flood a second
    #[arg(long, value_name = "PPS", default_value_t = 500_000.0)]
    rate: f64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of each phase of a round
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// Write everything, including every round's figures, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What goes on beside the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Calm,
    Passed,
    Attack,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Calm, Self::Passed, Self::Attack];

    /// Those of a round: each begins with another.
    fn of_round(round: u32) -> impl Iterator<Item = Self> {
        (0..3).map(move |place| Self::ALL[(place + round as usize) % 3])
    }

    /// The frames of a flood of `kind` in this phase.
    fn frames(self, kind: AttackKind) -> Option<AttackKind> {
        match self {
            Self::Calm => None,
            Self::Passed => Some(AttackKind::Passed),
            Self::Attack => Some(kind),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Passed => "passed",
            Self::Attack => "attack",
        }
    }
}

/// Where the engine publishes its counters, in the server's namespace.
const METRICS: &str = "127.0.0.1:9100";

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, an engine that does not start or fails, or an interruption.
pub(crate) fn run(args: &AttackArgs) -> Result<()> {
    let (What::Fragments(flood) | What::Syn(flood)) = &args.what;
    if !(flood.seconds > 0.0 && flood.seconds <= 60.0) {
        return Err(Error::usage("--seconds: from a fraction of a second to 60"));
    }
    if !(1.0..=1e7).contains(&flood.rate) {
        return Err(Error::usage("--rate: from 1 to 1e7"));
    }
    let shape = Shape { family: Family::Ipv4, mtu: ETHERNET_MTU };
    let programs = Programs::find(shape)?;
    programs.check("barewire", "barewire")?;
    let lab = Lab::open(programs, shape)?;
    match &args.what {
        What::Fragments(args) => fragments::run(args, &lab),
        What::Syn(args) => syn::run(args, &lab),
    }
}

/// Starts the engine, for whom made-up sources are reachable by a router: without a route it would drop them early.
fn start_engine(lab: &Lab, ports: &[&str]) -> Result<Server> {
    lab.pair.set_kernel_owns_address(false)?;
    let router = lab.pair.shape.family.client().to_string();
    let args = [ports, &["--gateway", &router, "--metrics", METRICS]].concat();
    Server::start("barewire", &lab.pair.server, &lab.programs.engine("rings", &args), lab.affinity)
}

/// The path from the generator to a port of the engine.
fn path(lab: &Lab, port: u16) -> Result<(Interface, Path)> {
    let client = Interface::find(INTERFACE)?;
    let family = lab.pair.shape.family;
    let path = Path {
        source_mac: client.mac,
        target_mac: Interface::mac_in(&lab.pair.server, INTERFACE)?,
        vlan: None,
        source: (family.client(), SOURCE_PORT).into(),
        target: (family.server(), port).into(),
    };
    Ok((client, path))
}

/// The engine's counters, from inside its namespace.
///
/// # Errors
/// The page cannot be read.
fn metrics(namespace: &str) -> Result<Counters> {
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            netns::enter(namespace)?;
            losses::of_metrics(METRICS)
        });
        reader.join().map_err(|_| Error::run("the reader of the metrics panicked"))?
    })
}

/// The sum of a family of counters, over all its labels, of those whose name contains `label`.
fn sum(counters: &Counters, family: &str, label: &str) -> u64 {
    let family = format!("barewire_{family}");
    counters.iter().filter(|(name, _)| name.starts_with(&family) && name.contains(label)).map(|(_, value)| value).sum()
}

/// Runs `work`, and says the highest value of a gauge that was seen meanwhile.
fn watching<T>(namespace: &str, gauge: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (done, highest) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            if netns::enter(namespace).is_err() {
                return;
            }
            while !done.load(Ordering::Relaxed) {
                // A page that could not be read is read again.
                if let Ok(counters) = losses::of_metrics(METRICS) {
                    highest.fetch_max(sum(&counters, gauge, ""), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
    .map(|result| (result, highest.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_all_phases_and_begins_with_another() {
        let rounds: Vec<Vec<Phase>> = (0..3).map(|round| Phase::of_round(round).collect()).collect();
        for (at, phases) in rounds.iter().enumerate() {
            assert_eq!(phases[0], Phase::ALL[at]);
            assert!(Phase::ALL.iter().all(|phase| phases.contains(phase)));
        }
    }
}
