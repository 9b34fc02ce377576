//! `barewire-bench`: a load generator for UDP and TCP servers, and an honest comparison of several.
//!
//! ```text
//!  udp         a UDP echo: rate, goodput, losses by place, latency by intended time
//!  tcp-rr      a TCP echo: requests a second and their latency, over connections that stay
//!  tcp-crr     a TCP echo: connections a second, each for one request
//!  tcp-stream  a TCP discard or chargen: goodput
//!  tcp-idle    a TCP echo: how fast many connections open, and what a request costs while they are held
//!  compare     several servers in turn, in network namespaces of its own, interleaved
//!  ndr         a UDP echo: the highest rate with at most so much loss, by frame size
//!  report      results as a page, as plots, as a table
//!  diff        two results side by side
//!  headline    the figures of the README, from three comparisons
//!  attack      the engine under floods of fragments and of SYNs, interleaved with rounds without
//!  serve       the servers that Barewire is compared with (hidden; `compare` starts them)
//! ```
//!
//! Exit code 0 is a result, 1 a failure at run time, 2 bad arguments.

mod arrivals;
mod attack;
mod bpf;
mod compare;
mod core_distance;
mod course;
mod diff;
mod epoll;
mod error;
mod headline;
mod histogram;
mod interface;
mod losses;
mod machine;
mod mmsg;
mod ndr;
mod netns;
mod options;
mod own_stack;
mod pin;
mod process;
mod progress;
mod report;
mod result;
mod search;
mod serve;
mod signals;
mod tcp;
mod udp;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;

/// Measures UDP and TCP servers, and compares them in one interleaved run.
#[derive(Parser, Debug)]
#[command(name = "barewire-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand, Debug)]
enum Cmd {
    /// Measure one UDP echo server
    Udp(udp::UdpArgs),
    /// Measure a TCP echo server by requests over connections that stay
    TcpRr(tcp::RrArgs),
    /// Measure a TCP echo server by connections that live for one request
    TcpCrr(tcp::CrrArgs),
    /// Measure a TCP discard or chargen server by a stream of bytes
    TcpStream(tcp::StreamArgs),
    /// Hold many connections to a TCP echo server, and ask some of them now and then
    TcpIdle(tcp::idle::IdleArgs),
    /// Compare several servers in one interleaved run, in network namespaces of its own (as root)
    Compare(compare::CompareArgs),
    /// Make a page, plots or a table of what `--json` wrote
    Report(report::ReportArgs),
    /// Search for the highest rate with at most so much loss, by frame size (RFC 2544)
    Ndr(ndr::NdrArgs),
    /// Show two results of `--json` side by side
    Diff(diff::DiffArgs),
    /// The figures of the README, in under ten minutes: three comparisons in one result (as root)
    Headline(headline::HeadlineArgs),
    /// What attacks leave of the engine's goodput, in network namespaces of its own (as root)
    Attack(attack::AttackArgs),
    /// A server to compare with
    #[command(hide = true)]
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("barewire-bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    signals::install(netns::remove_own)?;
    match &cli.command {
        Cmd::Udp(args) => udp::run(args),
        Cmd::TcpRr(args) => tcp::run_rr(args),
        Cmd::TcpCrr(args) => tcp::run_crr(args),
        Cmd::TcpStream(args) => tcp::run_stream(args),
        Cmd::TcpIdle(args) => tcp::idle::run(args),
        Cmd::Compare(args) => compare::run(args),
        Cmd::Report(args) => report::run(args),
        Cmd::Ndr(args) => ndr::run(args),
        Cmd::Diff(args) => diff::run(args),
        Cmd::Headline(args) => headline::run(args),
        Cmd::Attack(args) => attack::run(args),
        Cmd::Serve(args) => serve::run(args),
    }
}
