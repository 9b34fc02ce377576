//! `barewire-bench compare tcp`: requests, connections and streams for each server in each round, through
//! kernel sockets.

mod measure;
mod servers;

use std::time::Duration;

use clap::Args;

use self::measure::{Bench, Measure};
use super::others::BASELINE;
use super::programs::Programs;
use super::table::{self, Part};
use super::{Lab, RoundArgs, bars, buffers, contestant, mark_baseline, rounds};
use crate::error::{Error, Result};
use crate::netns::{ETHERNET_MTU, Family, Shape};
use crate::result::Contender;

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
    let shape = Shape { family: if args.ipv6 { Family::Ipv6 } else { Family::Ipv4 }, mtu: ETHERNET_MTU };
    let programs = Programs::find(shape)?;
    let known = servers::known(&programs, &args.rounds.others, shape)?;
    let contestants = contestant::choose(known, &args.rounds.only(), &programs, shape, 0)?;
    let measures: Vec<Measure> =
        Measure::ALL.into_iter().filter(|measure| args.full || *measure != Measure::Requests(1000)).collect();
    let lab = Lab::open(programs, shape)?;
    lab.cores.borrow_mut().expect(rounds * Duration::from_secs_f64(seconds));
    let mut bench = Bench::new(&lab, measures.clone(), args.size, Duration::from_secs_f64(seconds))?;
    let (mut contenders, ended) =
        rounds::measure(&lab.cores, &contestants, rounds, |contestant| bench.measure(contestant));
    mark_baseline(&mut contenders, &[BASELINE, "kernel-epoll"]);
    let mut document = lab.document("compare tcp", network(shape), rounds, contenders);
    document.interrupted = matches!(ended, Err(Error::Interrupted));
    if rounds::any(&document.servers) {
        let mut notes = vec![
            "rr-N: requests over N connections, one outstanding on each. crr-N: connect, 1 B there and back, close,"
                .into(),
            "N at a time, the client closing first. send: into discard, as acknowledged. receive: from chargen.".into(),
            format!("Trials of {seconds} s after {} s of warm-up.", seconds / 4.0),
        ];
        notes.extend(failures(&document.servers));
        notes.extend(buffers(&contestants));
        let parts = parts(&measures, args.size, rounds);
        table::print(&document, &parts, &bars::of_engine(&document.servers, bars::tcp), &notes);
    }
    args.rounds.output.write(&document)?;
    rounds::end(&document.servers, ended)
}

/// Rates, then the latency of what is no stream.
fn parts(measures: &[Measure], size: u32, rounds: u32) -> Vec<Part> {
    let transactions = || measures.iter().filter(|measure| !measure.is_stream());
    vec![
        Part {
            title: format!("TCP, {size} B requests, one core each side: median of {rounds} rounds (range)"),
            figures: measures.iter().map(|measure| measure.name()).collect(),
        },
        Part {
            title: "Latency of a request, or of a whole connection".into(),
            figures: transactions().flat_map(|one| ["p50", "p99"].map(|q| format!("{}-{q}", one.name()))).collect(),
        },
    ]
}

/// Servers of which connections failed.
fn failures(contenders: &[Contender]) -> impl Iterator<Item = String> {
    contenders.iter().filter_map(|contender| {
        let failed: u64 = contender.rounds.iter().flat_map(|round| &round.trials).map(|trial| trial.failed).sum();
        (failed > 0).then(|| format!("{}: {failed} connections FAILED", contender.name))
    })
}
