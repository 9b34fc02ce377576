//! `barewire-bench compare tcp`: requests, connections and streams for each server in each round, through
//! kernel sockets.

mod measure;
mod servers;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::measure::{Bench, Measure, Measured};
use self::servers::{Kind, PEER};
use self::table::Table;
use super::programs::Programs;
use super::rounds::{self, Rounds};
use super::{Contestant, Heading, Lab, RoundArgs};
use crate::error::{Error, Result};
use crate::netns::{ETHERNET_MTU, Family, Shape};
use crate::options;

const EXAMPLES: &str = "Examples:
  All servers, five rounds (about three minutes, as root):
    barewire-bench compare tcp --json tcp.json
  A first look in half a minute:
    barewire-bench compare tcp --quick
  The kernel against smoltcp, over 1,000 connections too:
    barewire-bench compare tcp --only kernel-epoll,smoltcp --full";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TcpArgs {
    #[command(flatten)]
    rounds: RoundArgs,
    /// Length of a trial, after a warm-up of a quarter of it
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Compare these alone
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
    /// Requests over 1,000 connections too
    #[arg(long)]
    full: bool,
    /// Bytes of a request, and of its response
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: u32,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
}

/// Every server's figures, round by round.
type Results = Rounds<Kind, Measured>;

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    heading: Heading<'a>,
    request_bytes: u32,
    servers: BTreeMap<&'static str, ServerReport<'a>>,
    table: &'a Table,
}

#[derive(Serialize)]
struct ServerReport<'a> {
    description: &'static str,
    rounds: &'a [Measured],
}

/// How the two ends are joined, as printed under every table.
fn network(shape: Shape) -> String {
    format!(
        "{shape}, offloads off at both ends (tx, rx, tso, gso, gro); kernel TCP at both ends with reno, without saved \
         metrics; the client with tcp_tw_reuse"
    )
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or fails, or an interruption.
pub(super) fn run(args: &TcpArgs) -> Result<()> {
    let (rounds, seconds) = args.rounds.plan(args.seconds, 0.4)?;
    let kinds = Kind::chosen(&args.only);
    let shape = Shape { family: if args.ipv6 { Family::Ipv6 } else { Family::Ipv4 }, mtu: ETHERNET_MTU };
    if args.ipv6 && args.only.contains(&Kind::Smoltcp) {
        return Err(Error::usage("the server on smoltcp speaks IPv4 only: leave it out with --ipv6"));
    }
    let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| !(args.ipv6 && *kind == Kind::Smoltcp)).collect();
    let programs = Programs::find(shape)?;
    for kind in &kinds {
        match kind {
            Kind::Barewire => programs.check("barewire", "barewire")?,
            Kind::Smoltcp => programs.check(PEER, PEER)?,
            Kind::KernelEpoll | Kind::KernelSpin => {}
        }
    }
    let measures: Vec<Measure> =
        Measure::ALL.into_iter().filter(|measure| args.full || *measure != Measure::Rr1000).collect();
    let lab = Lab::open(programs, shape)?;
    let mut bench = Bench::new(&lab, measures.clone(), args.size as usize, Duration::from_secs_f64(seconds))?;
    let (results, interrupted) = rounds::measure(&kinds, rounds, |kind| bench.measure(kind))?;
    let table = Table::of(&results, &measures);
    table.print(&results, &lab.machine, &network(shape), args.size, seconds);
    let servers = results.iter().map(|(kind, rounds)| {
        let report = ServerReport { description: kind.description(), rounds };
        (kind.name(), report)
    });
    let report = Report {
        heading: Heading {
            schema: "barewire-bench-compare-tcp/1",
            machine: &lab.machine,
            trial_seconds: seconds,
            rounds_asked: rounds,
            interrupted,
            network: network(shape),
            shape,
        },
        request_bytes: args.size,
        servers: servers.collect(),
        table: &table,
    };
    options::write(args.rounds.json.as_deref(), &report)?;
    if interrupted { Err(Error::Interrupted) } else { Ok(()) }
}
