//! `barewire-bench tcp-rr`, `tcp-crr`, `tcp-stream` and `tcp-idle`: measure one TCP server, through kernel sockets or from our own
//! stack ([`own_stack`](crate::own_stack)).
//!
//! Of the kernel: one pinned thread, sockets that never block, and an epoll that is asked again and again instead of waited
//! in: how long it takes the kernel to wake a thread is not the server's. What of its time the client looked
//! in vain is told; where that is next to nothing, the client's core was the limit.

pub(crate) mod backlog;
pub(crate) mod connections;
pub(crate) mod exchange;
pub(crate) mod idle;
mod opening;
pub(crate) mod requests;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use self::connections::{Connections, Ports};
use self::requests::Requests;
use self::stream::{Direction, Streams};
use self::trial::{Measured, OpenLoop, Outcome, Plan, Setting};
use crate::arrivals::ArrivalArgs;
use crate::error::{Context, Error, Result};
use crate::losses::{self, Counters};
use crate::netns;
use crate::netns::Family;
use crate::options::{self, RunArgs};
use crate::own_stack::{BackEndArgs, Client};
use crate::result::figures::{Figure, Figures};
use crate::result::{Document, Network, Nic, Round, Unit};

/// Longest time to the answer to a SYN when connections are opened that stay.
const OPENING: Duration = Duration::from_secs(3);

/// Options of all of them.
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
    back_end: BackEndArgs,
    #[command(flatten)]
    run: RunArgs,
}

const RR_EXAMPLES: &str = "Examples:
  Latency over one connection, from inside the namespace `bw-client`:
    ip netns exec bw-client barewire-bench tcp-rr 10.77.0.2:7
  The rate over 64 connections, over IPv6:
    barewire-bench tcp-rr [fd00:77::2]:7 --connections 64
  Latency at 20,000 requests a second, due as from independent users:
    barewire-bench tcp-rr 10.77.0.2:7 --connections 64 --rate 20000 --arrivals poisson
  1,000 connections from our own stack, at an address that no host has:
    barewire-bench tcp-rr 10.77.0.2:7 --connections 1000 \\
        --back-end own-stack --interface bw0 --address 10.77.0.21/24

On a veth the XDP program of our own stack slows a kernel server at the other end down: to compare
servers there, use the kernel back end.";

#[derive(Args, Debug)]
#[command(after_help = RR_EXAMPLES)]
pub(crate) struct RrArgs {
    #[command(flatten)]
    common: Common,
    /// Connections, each with one request outstanding
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100000))]
    connections: u32,
    /// Bytes of a request, and of its response
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1048576))]
    size: u32,
    /// Requests a second, due by the clock [default: each connection asks again when it has its answer]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    #[command(flatten)]
    arrivals: ArrivalArgs,
}

const CRR_EXAMPLES: &str = "Examples:
  16 connections at a time:
    barewire-bench tcp-crr 10.77.0.2:7 --connections 16
  With the ports of four addresses of this host:
    barewire-bench tcp-crr 10.77.0.2:7 --source 10.77.0.1,10.77.0.11,10.77.0.12,10.77.0.13

The client closes first, so that TIME-WAIT is its own. Kernel sockets connect from ports 2000 to
32767: for more than 500 connections a second they need `sysctl -w net.ipv4.tcp_tw_reuse=1` in their
network namespace and a server with timestamps, for more than 30,000 further addresses. Our own
stack needs neither: it forgets the oldest when it runs short.";

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

/// Runs `tcp-rr`.
///
/// # Errors
/// Bad arguments, or a server that does not answer.
pub(crate) fn run_rr(args: &RrArgs) -> Result<()> {
    let RrArgs { common, connections, size, rate, arrivals } = args;
    let open_loop = rate.map(|rate| OpenLoop { arrivals: arrivals.open_loop(), rate_per_s: rate.into() });
    let plan = Plan { open_loop, ..common.plan()? };
    let (count, len) = (*connections as usize, *size as usize);
    let measured = common.measure(|client| match client {
        Client::Kernel => Requests::open(common.target, count, len)?.run(plan).map(Measured::from),
        Client::OwnStack(client) => client.requests(plan, (count, len)),
    })?;
    let outcome = &measured.outcome;
    let paced = open_loop.map_or(String::new(), |o| format!(", {}", o.arrivals.describe(Some(o.rate_per_s))));
    print_transactions("requests", outcome, &format!("{connections} connections, {size} B{paced}"));
    let from =
        if open_loop.is_some() { "from the intended time" } else { "from sending to the last byte of the response" };
    options::print_latency(&outcome.latency.summary(), from);
    options::print_open_loop(outcome.from_sending.as_ref(), outcome.adherence.as_ref());
    options::print_losses(&measured.losses);
    common.write("tcp-rr", &plan, measured, common.setting(Unit::Requests, *connections, *size), Figures::new())
}

/// Runs `tcp-crr`.
///
/// # Errors
/// Bad arguments, a server that does not answer, or no port left.
pub(crate) fn run_crr(args: &CrrArgs) -> Result<()> {
    let CrrArgs { common, connections, size, source } = args;
    let plan = common.plan()?;
    if !source.is_empty() && common.back_end.is_own_stack() {
        return Err(Error::usage("--source is for kernel sockets: our own stack connects from every --address"));
    }
    let (count, len) = (*connections as usize, *size as usize);
    let mut measured = common.measure(|client| match client {
        Client::Kernel => {
            let mut ports = Ports::of(source, common.target)?;
            let outcome = Connections::new(common.target, &mut ports, count, len)?.run(plan)?;
            // Not a loss, but what the client had to go round: ports that TIME-WAIT still had.
            let skipped = Counters::from([("ports_skipped".into(), ports.skipped)]);
            Ok(Measured::from(outcome).with_losses("client", skipped))
        }
        Client::OwnStack(client) => client.visits(plan, (count, len)),
    })?;
    measured.losses.retain(|_, counters| counters.values().any(|value| *value > 0));
    let outcome = &measured.outcome;
    print_transactions("connects", outcome, &format!("{connections} connections at a time, {size} B on each"));
    options::print_latency(&outcome.latency.summary(), "from connecting to the server's FIN");
    println!("failed    {:>12}     connections", outcome.failed);
    options::print_losses(&measured.losses);
    common.write("tcp-crr", &plan, measured, common.setting(Unit::Connections, *connections, *size), Figures::new())
}

/// Runs `tcp-stream`.
///
/// # Errors
/// Bad arguments, or a server that does not accept or closes.
pub(crate) fn run_stream(args: &StreamArgs) -> Result<()> {
    let StreamArgs { common, direction, connections, size } = args;
    let plan = common.plan()?;
    let (count, len) = (*connections as usize, *size as usize);
    let measured = common.measure(|client| match client {
        Client::Kernel => Streams::open(common.target, *direction, count, len)?.run(plan).map(Measured::from),
        Client::OwnStack(client) => client.streams(plan, (count, len), *direction),
    })?;
    let outcome = &measured.outcome;
    println!(
        "goodput   {:>12.3} Gb/s   {} bytes of payload in {:.2} s, {connections} connections",
        outcome.goodput_gbps(),
        outcome.bytes,
        outcome.seconds
    );
    print_client(outcome);
    options::print_losses(&measured.losses);
    let measure = match direction {
        Direction::Send => "tcp-stream-send",
        Direction::Receive => "tcp-stream-receive",
    };
    common.write(measure, &plan, measured, common.setting(Unit::Chunks, *connections, *size), Figures::new())
}

/// Counters that grew, by place.
type Losses = BTreeMap<String, Counters>;

impl Common {
    /// A closed loop of the length asked for.
    ///
    /// # Errors
    /// A length that is none.
    fn plan(&self) -> Result<Plan> {
        options::check_duration(self.duration)?;
        if !(0.0..=3600.0).contains(&self.warmup) {
            return Err(Error::usage("--warmup: from 0 to 3600"));
        }
        Ok(Plan::closed(Duration::from_secs_f64(self.warmup), Duration::from_secs_f64(self.duration)))
    }

    /// Checks who is to measure and where, measures, and says which counters grew meanwhile.
    fn measure(&self, run: impl FnOnce(&Client) -> Result<Measured>) -> Result<Measured> {
        let client = self.back_end.client(self.run.core, self.target)?;
        netns::check_target(self.target.ip(), self.run.i_own_this_target)?;
        let before = self.places()?;
        let mut measured = run(&client)?;
        if let Some(how) = &measured.how {
            println!("back end  {how}");
        }
        measured.losses.extend(losses::grown_by_place(&before, &self.places()?));
        Ok(measured)
    }

    /// Places where it shows that segments were lost or connections failed.
    fn places(&self) -> Result<Losses> {
        let kernel = ("kernel TCP".to_owned(), losses::of_kernel_tcp());
        Ok(BTreeMap::from([kernel, ("server".to_owned(), self.run.server_metrics()?)]))
    }

    fn setting(&self, unit: Unit, connections: u32, size_bytes: u32) -> Setting {
        Setting { back_end: self.back_end.name(), unit, connections, size_bytes }
    }

    /// Writes the result, with `more` figures than those of every trial, if a file was asked for.
    fn write(&self, measure: &str, plan: &Plan, measured: Measured, setting: Setting, mut more: Figures) -> Result<()> {
        let Measured { outcome, losses, how, .. } = measured;
        let network = Network {
            description: how.unwrap_or_else(|| "as given".into()),
            family: Family::of(self.target),
            mtu: None,
            interface: self.back_end.interface().map(Nic::describe),
            target: Some(self.target),
        };
        let trial = outcome.trial(measure, setting, plan);
        more.extend(figures(&outcome, setting.unit));
        let round = Round { figures: more, trials: vec![trial], losses, ..Round::default() };
        self.run.output.write(&Document::single(measure, network, round))
    }
}

/// What is told of a trial.
fn figures(outcome: &Outcome, unit: Unit) -> Figures {
    let limited = outcome.limited();
    if unit == Unit::Chunks {
        return Figures::from([("goodput".into(), Figure::higher(Some(outcome.goodput_gbps()), "Gb/s", limited))]);
    }
    let latency = outcome.latency.summary();
    let us = |ns: u64| (latency.samples > 0).then_some(ns as f64 / 1000.0);
    Figures::from([
        ("rate".into(), Figure::higher(Some(outcome.rate_per_s() / 1000.0), "k/s", limited)),
        ("p50".into(), Figure::lower(us(latency.p50_ns), "us", outcome.late())),
        ("p99".into(), Figure::lower(us(latency.p99_ns), "us", outcome.late())),
    ])
}

fn print_transactions(what: &str, outcome: &Outcome, how: &str) {
    let Outcome { transactions, seconds, .. } = outcome;
    println!("{what:<9} {:>12.0}/s   {transactions} in {seconds:.2} s, {how}", outcome.rate_per_s());
    print_client(outcome);
}

fn print_client(outcome: &Outcome) {
    println!("client    {:>12.1} %   of its time with nothing to do", outcome.client_idle * 100.0);
    if outcome.client_limited() {
        println!("client-limited: its core had no time to spare, so a faster server may not show");
    }
}

/// A connection that stays: it never blocks, and sends what it is given at once.
///
/// # Errors
/// The server refuses or does not answer.
pub(crate) fn open(target: SocketAddr) -> Result<TcpStream> {
    let failed = || cannot_connect(target);
    let stream = TcpStream::connect_timeout(&target, OPENING).context(failed)?;
    stream.set_nodelay(true).context(failed)?;
    stream.set_nonblocking(true).context(failed)?;
    Ok(stream)
}

fn cannot_connect(target: SocketAddr) -> String {
    format!("cannot connect to {target}: does the server run, and is there a route to it?")
}

/// The server is not what it was taken for.
pub(crate) fn not_an_echo() -> Error {
    Error::run("the server answers with other bytes than it was sent: it is not an echo")
}
