//! `barewire-bench compare`: several servers in turn over one veth, interleaved in rounds.
//!
//! ```text
//!  round 1   A: all its trials   B: ...   C: ...
//!  round 2   B: ...   C: ...   A: ...               each round begins with another
//! ```
//!
//! One core generates, one serves; each server runs alone, in a process of its own. How far apart the host has the two
//! cores is looked at around each trial: see `cores.rs`.

pub(crate) mod bars;
pub(crate) mod bootstrap;
pub(crate) mod columns;
pub(crate) mod contestant;
pub(crate) mod cores;
pub(crate) mod others;
pub(crate) mod programs;
pub(crate) mod rounds;
pub(crate) mod stats;
pub(crate) mod table;
mod tcp;
pub(crate) mod udp;
pub(crate) mod watch;

use std::cell::RefCell;
use std::net::SocketAddr;

use clap::{Args, Subcommand};

use self::contestant::Contestant;
use self::cores::Cores;
use self::others::OtherArgs;
use self::programs::{GENERATOR_CORE, Programs, SERVER_CORE};
use crate::error::{Error, Result};
use crate::interface::{self, Interface};
use crate::machine::Machine;
use crate::netns::{self, INTERFACE, Pair, Shape};
use crate::options::OutputArgs;
use crate::pin;
use crate::process::{Affinity, Readiness, Server};
use crate::result::{Contender, Document, Network, Nic, SCHEMA};

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
    /// Compare these alone
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    others: OtherArgs,
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

    /// Whom to compare; none are the usual ones.
    fn only(&self) -> Vec<String> {
        if self.only.is_empty() { self.others.usual() } else { self.only.clone() }
    }
}

/// What a comparison runs in: this thread is pinned, and in the client's namespace.
pub(crate) struct Lab {
    pub machine: Machine,
    pub pair: Pair,
    pub programs: Programs,
    pub affinity: Affinity,
    pub cores: RefCell<Cores>,
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
        // Before this thread is pinned, and sees no other core.
        let cores = RefCell::new(Cores::new(pin::check(SERVER_CORE).ok()));
        pin::to_core(GENERATOR_CORE)?;
        Ok(Self { machine, pair, programs, affinity, cores })
    }

    /// Starts a server in the other namespace.
    ///
    /// # Errors
    /// It does not get ready.
    pub(crate) fn start(&self, contestant: &Contestant) -> Result<Server> {
        let Contestant { name, command, readiness, core, kernel_owns_address, .. } = contestant;
        self.pair.set_kernel_owns_address(*kernel_owns_address)?;
        if let Readiness::Echoes(server) = readiness {
            // Who has no kernel may answer no ARP and compute no checksums: the question comes with all it takes.
            self.pair.with_checksums()?;
            let mac = Interface::mac_in(&self.pair.server, INTERFACE)?;
            interface::set_neighbor(server.ip(), mac, INTERFACE)?;
        }
        let affinity = core.map_or(self.affinity, Affinity::of_core);
        Server::start(name, &self.pair.server, command, (affinity, *readiness))
    }

    /// What was measured here, as it is written; `description` is how both ends are joined.
    pub(crate) fn document(
        &self,
        workload: &str,
        description: String,
        rounds: u32,
        servers: Vec<Contender>,
    ) -> Document {
        let Shape { family, mtu } = self.pair.shape;
        let network = Network {
            description,
            family,
            mtu: Some(mtu),
            interface: Some(Nic::describe(INTERFACE)),
            target: Some(SocketAddr::new(family.server(), 7)),
        };
        Document {
            schema: SCHEMA.into(),
            workload: workload.into(),
            machine: Machine { cores_ns: self.cores.borrow().nearest_ns(), ..self.machine.clone() },
            network,
            interrupted: false,
            rounds_asked: rounds,
            servers,
        }
    }
}

/// Marks the server that ratios are to: the first of `names` that there is, or else the first of all.
fn mark_baseline(contenders: &mut [Contender], names: &[&str]) {
    let found = names.iter().find_map(|name| contenders.iter().position(|contender| contender.name == *name));
    if let Some(contender) = contenders.get_mut(found.unwrap_or(0)) {
        contender.baseline = true;
    }
}

/// The buffers of all, as lines under the table.
fn buffers(contestants: &[Contestant]) -> Vec<String> {
    let rows = contestants.iter().map(|one| format!("    {}: {}", one.name, one.buffers));
    std::iter::once("buffers, each side of a server for about as many frames as the others':".to_owned())
        .chain(rows)
        .collect()
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
