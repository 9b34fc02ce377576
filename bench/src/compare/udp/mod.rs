//! `barewire-bench compare udp`: a warm-up, then search, overload and latency for each server in each round.

mod measure;
pub(crate) mod search;
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
use crate::netns::{ETHERNET_MTU, Family, Shape};
use crate::options;
use crate::udp::frame;

const EXAMPLES: &str = "Examples:
  All servers, five rounds (about five minutes, as root):
    barewire-bench compare udp --json udp.json
  A first look in about a minute:
    barewire-bench compare udp --quick
  Over IPv6, and with long frames:
    barewire-bench compare udp --ipv6
    barewire-bench compare udp --size 8900 --mtu 9000 --only barewire,kernel-epoll,kernel-spin
  The engine with and without a tag in every frame:
    barewire-bench compare udp --only barewire,barewire-vlan
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
    /// Bytes from the Ethernet header to the end of the payload, without a tag [default: 64, over IPv6 84]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
    /// MTU of both ends, bytes: 9000 for `--size 8900`
    #[arg(long, value_name = "BYTES", default_value_t = ETHERNET_MTU, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,
}

impl UdpArgs {
    /// The network, and the frame size.
    ///
    /// # Errors
    /// A size that cannot be sent.
    fn shape(&self) -> Result<(Shape, usize)> {
        let family = if self.ipv6 { Family::Ipv6 } else { Family::Ipv4 };
        let size = self.size.unwrap_or(frame::default_len(family));
        frame::check_len(family, size)?;
        if size > usize::from(self.mtu) + 14 {
            return Err(Error::usage(format!(
                "--size {size}: with --mtu {} a frame has {} bytes at most",
                self.mtu,
                self.mtu + 14
            )));
        }
        Ok((Shape { family, mtu: self.mtu }, size))
    }
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
fn network(shape: Shape, frame_len: usize) -> String {
    let checksums =
        if frame_len > frame::MAX_LIVE_LEN { "; the client's socket computes checksums (tx off)" } else { "" };
    format!("{shape}, GRO on at the server's end (live frames need it), default offloads otherwise{checksums}")
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or fails, or an interruption.
pub(super) fn run(args: &UdpArgs) -> Result<()> {
    let (shape, frame_len) = args.shape()?;
    let (rounds, seconds) = args.rounds.plan(args.seconds, 0.15)?;
    let kinds = Kind::chosen(if args.only.is_empty() { &Kind::USUAL } else { &args.only });
    let able = |kind: Kind| kind.knows(frame_len);
    if let Some(kind) = args.only.iter().find(|kind| !able(**kind)) {
        return Err(Error::usage(format!("`{}` knows no frames longer than a page: leave it out", kind.name())));
    }
    let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| able(*kind)).collect();
    if args.ipv6 && kinds.contains(&Kind::BarewireVlan) {
        return Err(Error::usage("`barewire-vlan` is measured over IPv4: leave out --ipv6"));
    }
    let programs = Programs::find(shape)?;
    if kinds.iter().any(|kind| matches!(kind, Kind::Barewire | Kind::BarewireXskRs | Kind::BarewireVlan)) {
        programs.check("barewire", "barewire")?;
    }
    let lab = Lab::open(programs, shape)?;
    let mut bench = Bench::new(&lab, frame_len, Duration::from_secs_f64(seconds))?;
    let (results, interrupted) = rounds::measure(&kinds, rounds, |kind| bench.measure(kind))?;
    let table = Table::of(&results, frame_len);
    table.print(&results, &lab.machine, &network(shape, frame_len), seconds);
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
            network: network(shape, frame_len),
            shape,
        },
        frame_len_bytes: frame_len,
        servers: servers.collect(),
        table: &table,
    };
    options::write(args.rounds.json.as_deref(), &report)?;
    if interrupted { Err(Error::Interrupted) } else { Ok(()) }
}
