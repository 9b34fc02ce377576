//! `barewire-bench compare udp`: a warm-up, then search, overload and latency for each server in each round.

mod measure;
mod search;
mod servers;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::measure::{Bench, Measured};
use self::servers::Kind;
use self::table::Table;
use super::programs::Programs;
use super::rounds::{self, Rounds};
use super::{Contestant, Heading, Lab, RoundArgs};
use crate::error::{Error, Result};
use crate::report;
use crate::udp::frame;

const EXAMPLES: &str = "Examples:
  All servers, five rounds (about five minutes, as root):
    barewire-bench compare udp --json udp.json
  A first look in about a minute:
    barewire-bench compare udp --quick
  The engine against the kernel only:
    barewire-bench compare udp --only barewire,kernel-epoll,kernel-spin";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UdpArgs {
    #[command(flatten)]
    rounds: RoundArgs,
    /// Length of a throughput trial; latency is measured for twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    seconds: f64,
    /// Compare these alone
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
    /// Bytes from the Ethernet header to the end of the payload
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: usize,
}

/// Every server's figures, round by round.
pub(crate) type Results = Rounds<Kind, Measured>;

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    heading: Heading<'a>,
    frame_len_bytes: usize,
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
pub(super) fn run(args: &UdpArgs) -> Result<()> {
    frame::check_len(args.size)?;
    let (rounds, seconds) = args.rounds.plan(args.seconds, 0.15)?;
    let kinds = Kind::chosen(&args.only);
    let programs = Programs::find()?;
    if kinds.iter().any(|kind| matches!(kind, Kind::Barewire | Kind::BarewireXskRs)) {
        programs.check("barewire", "barewire")?;
    }
    let lab = Lab::open(programs)?;
    let mut bench = Bench::new(&lab, args.size, Duration::from_secs_f64(seconds))?;
    let (results, interrupted) = rounds::measure(&kinds, rounds, |kind| bench.measure(kind))?;
    let table = Table::of(&results);
    table.print(&results, &lab.machine, args.size, seconds);
    let servers = results.iter().map(|(kind, rounds)| {
        let report = ServerReport { description: kind.description(), receiver: kind.hook(), rounds };
        (kind.name(), report)
    });
    let report = Report {
        heading: Heading {
            schema: "barewire-bench-compare-udp/1",
            machine: &lab.machine,
            trial_seconds: seconds,
            rounds_asked: rounds,
            interrupted,
            network: NETWORK,
        },
        frame_len_bytes: args.size,
        servers: servers.collect(),
        table: &table,
    };
    report::write(args.rounds.json.as_deref(), &report)?;
    if interrupted { Err(Error::Interrupted) } else { Ok(()) }
}
