//! `barewire-bench compare udp`: a warm-up, then search, overload and latency for each server in each round.

mod measure;
pub(crate) mod servers;

use std::time::Duration;

use clap::Args;

use self::measure::{Bench, LATE};
pub(crate) use self::measure::{START, latency_pps};
use self::servers::{DPDK, TESTPMD};
use super::others::BASELINE;
use super::programs::Programs;
use super::table::{self, Part};
use super::{Lab, RoundArgs, bars, buffers, contestant, mark_baseline, rounds};
use crate::error::{Error, Result};
use crate::netns::{ETHERNET_MTU, Family, Shape};
use crate::result::{Contender, Round};
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

/// How the two ends are joined, as printed under every table.
pub(crate) fn network(shape: Shape, frame_len: usize) -> String {
    let checksums =
        if frame_len > frame::MAX_LIVE_LEN { "; the client's socket computes checksums (tx off)" } else { "" };
    format!("{shape}, GRO on at the server's end (live frames need it), default offloads otherwise{checksums}")
}

/// How often latency was measured anew, if it was.
fn measured_anew(servers: &[Contender]) -> Option<String> {
    let rounds = || servers.iter().flat_map(|server| &server.rounds);
    let late = |round: &Round| round.trials.iter().filter(|trial| trial.measure == LATE).count();
    let (again, times) = (rounds().filter(|round| late(round) > 0).count(), rounds().map(late).sum::<usize>());
    (times > 0).then(|| {
        format!(
            "Latency measured anew, as the generator was late: in {again} of {} rounds, {times} times in all.",
            rounds().count()
        )
    })
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or fails, or an interruption.
pub(super) fn run(args: &UdpArgs) -> Result<()> {
    let (shape, frame_len) = args.shape()?;
    let (rounds, seconds) = args.rounds.plan(args.seconds, 0.15)?;
    let programs = Programs::find(shape)?;
    let (known, only) = (servers::known(&programs, &args.rounds.others, shape)?, args.rounds.only());
    let without_dpdk = !servers::is_installed(TESTPMD);
    if without_dpdk && only.iter().any(|name| name == TESTPMD) {
        return Err(Error::run(format!("`{TESTPMD}` is not installed: `{DPDK}`")));
    }
    let contestants = contestant::choose(known, &only, &programs, shape, frame_len)?;
    let lab = Lab::open(programs, shape)?;
    lab.cores.borrow_mut().expect(rounds * Duration::from_secs_f64(seconds));
    let mut bench = Bench::new(&lab, frame_len, Duration::from_secs_f64(seconds))?;
    let (mut contenders, ended) =
        rounds::measure(&lab.cores, &contestants, rounds, |contestant| bench.measure(contestant));
    mark_baseline(&mut contenders, &[BASELINE, "kernel-epoll"]);
    let mut document = lab.document("compare udp", network(shape, frame_len), rounds, contenders);
    document.interrupted = matches!(ended, Err(Error::Interrupted));
    if rounds::any(&document.servers) {
        let title = format!("UDP echo, {frame_len} B frames, one core each side: median of {rounds} rounds (range)");
        let part = Part::new(title, &["peak", "loss-free", "overload", "p50", "p99"]);
        let mut notes = vec![
            "peak: best goodput of all trials. overload: goodput at twice the peak.".to_owned(),
            "loss-free: highest offered rate with at most 1 % lost and 3 % late.".to_owned(),
            format!("p50, p99: from the intended time, at {} frames a second.", latency_pps(frame_len)),
            format!("Trials of {seconds} s, of latency twice as long."),
        ];
        notes.extend(measured_anew(&document.servers));
        if without_dpdk && only.is_empty() {
            notes.push(format!("{TESTPMD} is not installed and was left out: `{DPDK}`"));
        }
        notes.extend(buffers(&contestants));
        table::print(&document, &[part], &bars::of_engine(&document.servers, bars::udp), &notes);
    }
    args.rounds.output.write(&document)?;
    rounds::end(&document.servers, ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{BackEnd, Timestamps};
    use crate::udp::sizes::Sizes;
    use crate::udp::trial::{Offer, Outcome};

    #[test]
    fn how_often_latency_was_measured_anew_is_told_by_rounds_and_times() {
        let outcome = Outcome::empty();
        let trial = |measure: &str| {
            let offer = Offer::constant(1.0, Duration::from_secs(1), Sizes::one(64));
            outcome.trial(measure, (BackEnd::LiveFrames, Timestamps::Interface), &offer)
        };
        let round = |measures: &[&str]| Round {
            trials: measures.iter().map(|measure| trial(measure)).collect(),
            ..Round::default()
        };
        let server = |rounds: &[&[&str]]| Contender {
            name: "x".into(),
            description: String::new(),
            baseline: false,
            rounds: rounds.iter().map(|measures| round(measures)).collect(),
        };
        assert_eq!(measured_anew(&[server(&[&["search", "latency"]])]), None);
        let told = measured_anew(&[
            server(&[&["latency"], &[LATE, LATE, "latency"]]),
            server(&[&[LATE, "latency"], &["latency"], &["latency"]]),
        ]);
        assert!(told.unwrap().ends_with("in 2 of 5 rounds, 3 times in all."));
    }
}
