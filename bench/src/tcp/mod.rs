//! `barewire-bench tcp-rr`, `tcp-crr` and `tcp-stream`: measure one TCP server through kernel sockets.
//!
//! One pinned thread, sockets that never block, and an epoll that is asked again and again instead of waited
//! in: how long it takes the kernel to wake a thread is not the server's. What of its time the client looked
//! in vain is told; where that is next to nothing, the client's core was the limit.

pub(crate) mod connections;
pub(crate) mod requests;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod trial;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::connections::{Connections, Ports};
use self::requests::Requests;
use self::stream::{Direction, Streams};
use self::trial::{Outcome, Plan, StreamFigures, TransactionFigures};
use crate::error::{Context, Error, Result};
use crate::losses::{self, Counters};
use crate::machine::Machine;
use crate::netns::Family;
use crate::report::{self, RunArgs};
use crate::{netns, pin};

/// Longest time to the answer to a SYN when connections are opened that stay.
const OPENING: Duration = Duration::from_secs(3);

/// Options of all three.
#[derive(Args, Debug)]
struct Common {
    /// TCP server; an IPv6 address in brackets
    #[arg(value_name = "ADDR:PORT")]
    target: SocketAddr,
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    duration: f64,
    /// How long to run before, without counting it
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warmup: f64,
    #[command(flatten)]
    run: RunArgs,
}

const RR_EXAMPLES: &str = "Examples:
  Latency over one connection, from inside the namespace `bw-client`:
    ip netns exec bw-client barewire-bench tcp-rr 10.77.0.2:7
  The rate over 64 connections, over IPv6:
    barewire-bench tcp-rr [fd00:77::2]:7 --connections 64";

#[derive(Args, Debug)]
#[command(after_help = RR_EXAMPLES)]
pub(crate) struct RrArgs {
    #[command(flatten)]
    common: Common,
    /// Connections, each with one request outstanding
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50000))]
    connections: u32,
    /// Bytes of a request, and of its response
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1048576))]
    size: u32,
}

const CRR_EXAMPLES: &str = "Examples:
  16 connections at a time:
    barewire-bench tcp-crr 10.77.0.2:7 --connections 16
  With the ports of four addresses of this host:
    barewire-bench tcp-crr 10.77.0.2:7 --source 10.77.0.1,10.77.0.11,10.77.0.12,10.77.0.13

The client closes first, so that TIME-WAIT is its own. It connects from ports 2000 to 32767:
for more than 500 connections a second it needs `sysctl -w net.ipv4.tcp_tw_reuse=1` in its
network namespace and a server with timestamps, for more than 30,000 further addresses.";

#[derive(Args, Debug)]
#[command(after_help = CRR_EXAMPLES)]
pub(crate) struct CrrArgs {
    #[command(flatten)]
    common: Common,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10000))]
    connections: u32,
    /// Bytes of the request on each connection, and of its response
    #[arg(long, value_name = "BYTES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    size: u32,
    /// Addresses to connect from, in turn [default: the one that the route says]
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',')]
    source: Vec<IpAddr>,
}

const STREAM_EXAMPLES: &str = "Examples:
  Into a discard server (RFC 863):
    barewire-bench tcp-stream 10.77.0.2:9 --direction send
  Out of a chargen server (RFC 864):
    barewire-bench tcp-stream 10.77.0.2:19 --direction receive";

#[derive(Args, Debug)]
#[command(after_help = STREAM_EXAMPLES)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    common: Common,
    #[arg(long, value_enum)]
    direction: Direction,
    /// Connections, each with a stream
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10000))]
    connections: u32,
    /// Bytes that are read or written at a time
    #[arg(long, value_name = "BYTES", default_value_t = 131_072,
          value_parser = clap::value_parser!(u32).range(1..=16777216))]
    size: u32,
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report<'a, F> {
    schema: &'static str,
    machine: Machine,
    target: SocketAddr,
    family: Family,
    connections: u32,
    size_bytes: u32,
    direction: Option<Direction>,
    /// Source ports that were passed over because TIME-WAIT still had them.
    ports_skipped: Option<u64>,
    figures: &'a F,
    /// Counters that grew while it ran, by the place they were read in.
    losses: &'a Places,
}

/// Places where it shows that segments were lost or connections failed.
#[derive(Debug, Default, Serialize)]
struct Places {
    kernel_tcp: Counters,
    server_metrics: Counters,
}

/// Runs `tcp-rr`.
///
/// # Errors
/// Bad arguments, or a server that does not answer.
pub(crate) fn run_rr(args: &RrArgs) -> Result<()> {
    let RrArgs { common, connections, size } = args;
    let (outcome, losses) =
        common.measure(|plan| Requests::open(common.target, *connections as usize, *size as usize)?.run(plan))?;
    let figures = outcome.transaction_figures();
    print_transactions("requests", &figures, &format!("{connections} connections, {size} B"));
    report::print_latency(&figures.latency, "from sending to the last byte of the response");
    print_losses(&losses);
    let report = common.report("barewire-bench-tcp-rr/1", *connections, *size, &figures, &losses);
    common.run.write(&report)
}

/// Runs `tcp-crr`.
///
/// # Errors
/// Bad arguments, a server that does not answer, or no port left.
pub(crate) fn run_crr(args: &CrrArgs) -> Result<()> {
    let CrrArgs { common, connections, size, source } = args;
    let mut ports_skipped = 0;
    let (outcome, losses) = common.measure(|plan| {
        let mut ports = Ports::of(source, common.target)?;
        let outcome = Connections::new(common.target, &mut ports, *connections as usize, *size as usize)?.run(plan)?;
        ports_skipped = ports.skipped;
        Ok(outcome)
    })?;
    let figures = outcome.transaction_figures();
    print_transactions("connects", &figures, &format!("{connections} connections at a time, {size} B on each"));
    report::print_latency(&figures.latency, "from connecting to the server's FIN");
    println!("failed    {:>12}     connections", figures.failed);
    print_losses(&losses);
    let report = common.report("barewire-bench-tcp-crr/1", *connections, *size, &figures, &losses);
    common.run.write(&Report { ports_skipped: Some(ports_skipped), ..report })
}

/// Runs `tcp-stream`.
///
/// # Errors
/// Bad arguments, or a server that does not accept or closes.
pub(crate) fn run_stream(args: &StreamArgs) -> Result<()> {
    let StreamArgs { common, direction, connections, size } = args;
    let (outcome, losses) = common
        .measure(|plan| Streams::open(common.target, *direction, *connections as usize, *size as usize)?.run(plan))?;
    let figures: StreamFigures = outcome.stream_figures();
    println!(
        "goodput   {:>12.3} Gb/s   {} bytes of payload in {:.2} s, {connections} connections",
        figures.goodput_gbps, figures.bytes, figures.seconds
    );
    print_client(figures.client_idle, figures.client_limited);
    print_losses(&losses);
    let report = common.report("barewire-bench-tcp-stream/1", *connections, *size, &figures, &losses);
    common.run.write(&Report { direction: Some(*direction), ..report })
}

impl Common {
    /// Checks everything, measures, and says which counters grew meanwhile.
    fn measure(&self, run: impl FnOnce(Plan) -> Result<Outcome>) -> Result<(Outcome, Places)> {
        report::check_duration(self.duration)?;
        if !(0.0..=3600.0).contains(&self.warmup) {
            return Err(Error::usage("--warmup: from 0 to 3600"));
        }
        pin::to_core(self.run.core)?;
        netns::check_target(self.run.i_own_this_target)?;
        let seconds = Duration::from_secs_f64;
        let before = self.places()?;
        let outcome = run(Plan { warmup: seconds(self.warmup), duration: seconds(self.duration) })?;
        let after = self.places()?;
        let grown = Places {
            kernel_tcp: losses::grown(&before.kernel_tcp, &after.kernel_tcp),
            server_metrics: losses::grown(&before.server_metrics, &after.server_metrics),
        };
        Ok((outcome, grown))
    }

    fn places(&self) -> Result<Places> {
        Ok(Places { kernel_tcp: losses::of_kernel_tcp(), server_metrics: self.run.server_metrics()? })
    }

    fn report<'a, F>(
        &self,
        schema: &'static str,
        connections: u32,
        size_bytes: u32,
        figures: &'a F,
        losses: &'a Places,
    ) -> Report<'a, F> {
        Report {
            schema,
            machine: Machine::describe(),
            target: self.target,
            family: Family::of(self.target),
            connections,
            size_bytes,
            direction: None,
            ports_skipped: None,
            figures,
            losses,
        }
    }
}

fn print_transactions(what: &str, figures: &TransactionFigures, how: &str) {
    let TransactionFigures { rate_per_s, transactions, seconds, .. } = figures;
    println!("{what:<9} {rate_per_s:>12.0}/s   {transactions} in {seconds:.2} s, {how}");
    print_client(figures.client_idle, figures.client_limited);
}

fn print_client(idle: f64, limited: bool) {
    println!("client    {:>12.1} %   of its time with nothing to do", idle * 100.0);
    if limited {
        println!("client-limited: its core had no time to spare, so a faster server may not show");
    }
}

fn print_losses(losses: &Places) {
    for (place, counters) in [("kernel TCP", &losses.kernel_tcp), ("server", &losses.server_metrics)] {
        for (name, growth) in counters {
            println!("            {growth:>10}     {place}: {name}");
        }
    }
}

/// A connection that stays: it never blocks, and sends what it is given at once.
///
/// # Errors
/// The server refuses or does not answer.
pub(crate) fn open(target: SocketAddr) -> Result<TcpStream> {
    let failed = || format!("cannot connect to {target}: does the server run, and is there a route to it?");
    let stream = TcpStream::connect_timeout(&target, OPENING).context(failed)?;
    stream.set_nodelay(true).context(failed)?;
    stream.set_nonblocking(true).context(failed)?;
    Ok(stream)
}

/// The server is not what it was taken for.
pub(crate) fn not_an_echo() -> Error {
    Error::run("the server answers with other bytes than it was sent: it is not an echo")
}
