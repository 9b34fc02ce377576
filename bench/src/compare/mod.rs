//! `barewire-bench compare`: several servers in turn over one veth, interleaved in rounds.
//!
//! ```text
//!  round 1   A: all its trials   B: ...   C: ...
//!  round 2   B: ...   C: ...   A: ...               each round begins with another
//! ```
//!
//! One core generates, one serves; each server runs alone, in a process of its own.

pub(crate) mod bootstrap;
pub(crate) mod columns;
pub(crate) mod programs;
mod rounds;
pub(crate) mod stats;
mod tcp;
pub(crate) mod udp;
pub(crate) mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::programs::{GENERATOR_CORE, Programs};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::netns::{self, Pair, Shape};
use crate::pin;
use crate::process::{Affinity, Server};

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// UDP echo: peak goodput, loss-free rate, goodput at twice the peak, latency at 100,000 a second
    Udp(udp::UdpArgs),
    /// TCP: requests a second over 1 and over 64 connections, connections a second, bulk both ways
    Tcp(tcp::TcpArgs),
}

/// Options of every comparison.
#[derive(Args, Debug)]
struct RoundArgs {
    /// Rounds; a median of fewer than five means little
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Write everything, including every round's figures, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Three rounds of short trials: a first look
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
}

impl RoundArgs {
    /// Rounds and the length of a trial.
    ///
    /// # Errors
    /// A length that is none.
    fn plan(&self, seconds: f64, quick_seconds: f64) -> Result<(u32, f64)> {
        if !(seconds > 0.0 && seconds <= 60.0) {
            return Err(Error::usage("--seconds: from a fraction of a second to 60"));
        }
        Ok(if self.quick { (3, quick_seconds) } else { (self.rounds, seconds) })
    }
}

/// One row of a comparison: a server, how it is started, and what it needs from the namespaces.
trait Contestant: Copy + Ord + 'static {
    /// All of them, in the order of the table.
    const ALL: &'static [Self];

    /// Its name in tables, in JSON and for `--only`.
    fn name(self) -> &'static str;

    /// What it is, for the table's footnotes.
    fn description(self) -> &'static str;

    /// Whether the server's kernel has to have the address, or the server takes it all for itself.
    fn kernel_owns_address(self) -> bool;

    /// The command that starts it.
    fn command(self, programs: &Programs) -> Vec<String>;

    /// Those asked for, without repetition, in the table's order.
    fn chosen(only: &[Self]) -> Vec<Self> {
        Self::ALL.iter().copied().filter(|kind| only.is_empty() || only.contains(kind)).collect()
    }
}

/// What a comparison runs in: this thread is pinned, and in the client's namespace.
pub(crate) struct Lab {
    pub machine: Machine,
    pub pair: Pair,
    pub programs: Programs,
    pub affinity: Affinity,
}

impl Lab {
    /// Makes the namespaces and enters the client's.
    ///
    /// # Errors
    /// No permission, or too few cores.
    pub(crate) fn open(programs: Programs, shape: Shape) -> Result<Self> {
        let machine = Machine::describe();
        if machine.cores < 2 {
            return Err(Error::run("a comparison needs two cores: one generates, one serves"));
        }
        let affinity = Affinity::current();
        let pair = Pair::create(shape)?;
        netns::enter(&pair.client)?;
        pin::to_core(GENERATOR_CORE)?;
        Ok(Self { machine, pair, programs, affinity })
    }

    /// Starts a server in the other namespace.
    ///
    /// # Errors
    /// It does not get ready.
    fn start(&self, kind: impl Contestant) -> Result<Server> {
        self.pair.set_kernel_owns_address(kind.kernel_owns_address())?;
        Server::start(kind.name(), &self.pair.server, &kind.command(&self.programs), self.affinity)
    }
}

/// The start of what `--json` writes.
#[derive(Serialize)]
struct Heading<'a> {
    schema: &'static str,
    machine: &'a Machine,
    trial_seconds: f64,
    rounds_asked: u32,
    interrupted: bool,
    network: String,
    #[serde(flatten)]
    shape: Shape,
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or fails, or an interruption.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    match &args.what {
        What::Udp(args) => udp::run(args),
        What::Tcp(args) => tcp::run(args),
    }
}
