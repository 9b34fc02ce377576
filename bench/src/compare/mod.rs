//! `barewire-bench compare`: several servers in turn over one veth, interleaved in rounds.
//!
//! ```text
//!  round 1   A: warm-up, search, overload, latency   B: ...   C: ...
//!  round 2   B: ...   C: ...   A: ...                               each round begins with another
//! ```
//!
//! One core generates, one serves; each server runs alone, in a process of its own.

mod measure;
mod search;
mod servers;
mod stats;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::measure::{Bench, Measured};
use self::servers::{GENERATOR_CORE, Kind, Programs};
use self::table::Table;
use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::netns::{self, Pair};
use crate::process::Affinity;
use crate::progress::Progress;
use crate::udp::frame;
use crate::{pin, signals};

const EXAMPLES: &str = "Examples:
  All servers, five rounds (about five minutes, as root):
    barewire-bench compare udp --json udp.json
  A first look in about a minute:
    barewire-bench compare udp --quick
  The engine against the kernel only:
    barewire-bench compare udp --only barewire,kernel-epoll,kernel-spin";

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// UDP echo: peak goodput, loss-free rate, goodput at twice the peak, latency at 100,000 a second
    #[command(after_help = EXAMPLES)]
    Udp(UdpArgs),
}

#[derive(Args, Debug)]
struct UdpArgs {
    /// Rounds; a median of fewer than five means little
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a throughput trial; latency is measured for twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    seconds: f64,
    /// Write everything, including every round's figures, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare these alone
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
    /// Three rounds of short trials: a first look
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Bytes from the Ethernet header to the end of the payload
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: usize,
}

/// Every server's figures, round by round.
pub(crate) type Rounds = BTreeMap<Kind, Vec<Measured>>;

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    machine: &'a Machine,
    frame_len_bytes: usize,
    trial_seconds: f64,
    rounds_asked: u32,
    interrupted: bool,
    network: &'static str,
    servers: BTreeMap<&'static str, ServerReport<'a>>,
    table: &'a Table,
}

#[derive(Serialize)]
struct ServerReport<'a> {
    description: &'static str,
    receiver: crate::udp::receiver::Hook,
    rounds: &'a [Measured],
}

/// How the two ends are joined, as printed under every table.
pub(crate) const NETWORK: &str =
    "veth with 1 queue, no IPv6, GRO on at the server's end (live frames need it), default offloads otherwise";

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or fails, or an interruption.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let What::Udp(args) = &args.what;
    frame::check_len(args.size)?;
    if !(args.seconds > 0.0 && args.seconds <= 60.0) {
        return Err(Error::usage("--seconds: from a fraction of a second to 60"));
    }
    let (rounds, seconds) = if args.quick { (3, 0.15) } else { (args.rounds, args.seconds) };
    let kinds = kinds(&args.only);
    let programs = Programs::find(&kinds)?;
    let machine = Machine::describe();
    if machine.cores < 2 {
        return Err(Error::run("a comparison needs two cores: one generates, one serves"));
    }
    let affinity = Affinity::current();
    let pair = Pair::create()?;
    netns::enter(&pair.client)?;
    pin::to_core(GENERATOR_CORE)?;

    let trial = Duration::from_secs_f64(seconds);
    let mut bench = Bench::new(&pair, programs, affinity, args.size, trial)?;
    let mut results = Rounds::new();
    let outcome = measure_rounds(&mut bench, &kinds, rounds, &mut results);
    let interrupted = matches!(outcome, Err(Error::Interrupted));
    if outcome.is_err() && !interrupted {
        return outcome;
    }
    if results.is_empty() {
        return Err(Error::Interrupted);
    }
    let table = Table::of(&results);
    table.print(&results, &machine, args.size, seconds);
    if let Some(file) = &args.json {
        let servers = results.iter().map(|(kind, rounds)| {
            let report = ServerReport { description: kind.description(), receiver: kind.hook(), rounds };
            (kind.name(), report)
        });
        let report = Report {
            schema: "barewire-bench-compare-udp/1",
            machine: &machine,
            frame_len_bytes: args.size,
            trial_seconds: seconds,
            rounds_asked: rounds,
            interrupted,
            network: NETWORK,
            servers: servers.collect(),
            table: &table,
        };
        let text = serde_json::to_string_pretty(&report).context(|| "cannot write JSON".into())?;
        fs::write(file, text + "\n").context(|| format!("cannot write {}", file.display()))?;
    }
    outcome
}

/// Those asked for, without repetition, in the table's order.
fn kinds(only: &[Kind]) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| only.is_empty() || only.contains(kind)).collect()
}

/// Enters whole rounds into `results`; what an interruption cuts off is left out.
fn measure_rounds(bench: &mut Bench<'_>, kinds: &[Kind], rounds: u32, results: &mut Rounds) -> Result<()> {
    let mut progress = Progress::new(u64::from(rounds) * kinds.len() as u64);
    for round in 0..rounds {
        let mut of_round = Vec::with_capacity(kinds.len());
        for place in 0..kinds.len() {
            // Each round begins with another server, so that none always follows the same one.
            let kind = kinds[(place + round as usize) % kinds.len()];
            progress.start(&format!("round {}/{rounds}  {}", round + 1, kind.name()));
            let measured = bench.measure(kind)?;
            progress.done(&measured.brief());
            of_round.push((kind, measured));
            signals::check()?;
        }
        of_round.into_iter().for_each(|(kind, measured)| results.entry(kind).or_default().push(measured));
    }
    progress.finish();
    Ok(())
}
