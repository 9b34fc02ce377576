//! `barewire-bench tcp-idle`: holds many connections open, and asks some of them now and then.
//!
//! What it shows: how long it takes to open them, whether the server keeps them, and what a request costs where
//! the connection that it comes on has been silent for long. Requests are due by the clock and go over all
//! connections in turn.

use std::net::IpAddr;

use clap::Args;

use super::connections::Ports;
use super::requests::Requests;
use super::trial::{Measured, OpenLoop, Plan};
use super::{Common, opening, print_transactions};
use crate::arrivals::ArrivalArgs;
use crate::error::{Error, Result};
use crate::options;
use crate::own_stack::Client;
use crate::result::Unit;
use crate::result::figures::{Figure, Figures};

const EXAMPLES: &str = "Examples:
  10,000 connections through kernel sockets, 1,000 requests a second:
    ip netns exec bw-client barewire-bench tcp-idle 10.77.0.2:7 --connections 10000
  100,000 from our own stack, which has 64,512 ports for each address:
    ip netns exec bw-client barewire-bench tcp-idle 10.77.0.2:7 --connections 100000 \\
        --back-end own-stack --interface bw0 --address 10.77.0.21/24 --address 10.77.0.22/24

Kernel sockets connect from ports 2000 to 32767: for more than 30,000 connections they need further
addresses (--source).";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    common: Common,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000000))]
    connections: u32,
    /// Bytes of a request, and of its response
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    size: u32,
    /// Requests a second over all connections together
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000000))]
    rate: u32,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    /// Kernel sockets: addresses to connect from, in turn [default: the one that the route says]
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',')]
    source: Vec<IpAddr>,
}

/// Runs `tcp-idle`.
///
/// # Errors
/// Bad arguments, or a server that does not accept.
pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    let IdleArgs { common, connections, size, rate, arrivals, source } = args;
    if !source.is_empty() && common.back_end.is_own_stack() {
        return Err(Error::usage("--source is for kernel sockets: our own stack connects from every --address"));
    }
    let (count, len) = (*connections as usize, *size as usize);
    let open_loop = OpenLoop { arrivals: arrivals.open_loop(), rate_per_s: (*rate).into() };
    let plan = Plan { open_loop: Some(open_loop), ..common.plan()? };
    let measured = common.measure(|client| match client {
        Client::Kernel => {
            let (streams, opening) = opening::open(common.target, &mut Ports::of(source, common.target)?, count)?;
            let outcome = Requests::over(streams.into_iter().map(Ok), len)?.tolerant().run(plan)?;
            Ok(Measured { opening: Some(opening), ..Measured::from(outcome) })
        }
        Client::OwnStack(client) => client.samples(plan, (count, len)),
    })?;
    let outcome = &measured.outcome;
    let seconds = measured.opening.unwrap_or_default().as_secs_f64();
    let opened_per_s = f64::from(*connections) / seconds.max(1e-9);
    println!("opened    {opened_per_s:>12.0}/s   {connections} connections in {seconds:.3} s");
    println!("held      {:>12}     connections, {} lost", u64::from(*connections) - outcome.failed, outcome.failed);
    let paced = open_loop.arrivals.describe(Some(open_loop.rate_per_s));
    print_transactions("requests", outcome, &format!("over all in turn, {size} B, {paced}"));
    options::print_latency(&outcome.latency.summary(), "from the intended time");
    options::print_open_loop(outcome.from_sending.as_ref(), outcome.adherence.as_ref());
    options::print_losses(&measured.losses);
    let figures = Figures::from([("opening".into(), Figure::higher(Some(opened_per_s / 1000.0), "k/s", false))]);
    let setting = common.setting(Unit::Requests, *connections, *size);
    common.write("tcp-idle", &plan, measured, setting, figures)
}
