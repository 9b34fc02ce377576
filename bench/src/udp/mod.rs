//! `barewire-bench udp`: measures one UDP echo server.

pub(crate) mod frame;
pub(crate) mod generator;
pub(crate) mod live_frames;
pub(crate) mod receiver;
pub(crate) mod socket_frames;
pub(crate) mod sockets;
pub(crate) mod trial;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::frame::Path;
use self::live_frames::LiveFrames;
use self::receiver::Hook;
use self::sockets::{Loop, Sockets};
use self::trial::{Figures, Offer, Outcome};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::losses::{self, Counters};
use crate::machine::Machine;
use crate::netns::Family;
use crate::report::{self, RunArgs};
use crate::{netns, pin, signals};

/// Source port of requests: outside the ephemeral range, so that no other socket's replies are taken for ours.
pub(crate) const SOURCE_PORT: u16 = 9007;

/// What sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sender {
    /// A BPF program run over live frames in the kernel: several million a second from one core
    LiveFrames,
    /// A UDP socket with sendmmsg and recvmmsg: about half a million a second
    Kernel,
}

/// Frames a second: a number, or as many as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(Option<f64>);

fn parse_rate(text: &str) -> std::result::Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    match text.parse::<f64>() {
        Ok(rate) if (1.0..=1e8).contains(&rate) => Ok(Rate(Some(rate))),
        _ => Err("a rate is a number of frames a second from 1 to 1e8, or `max`".into()),
    }
}

const EXAMPLES: &str = "Examples:
  Latency at 100,000 requests a second, from inside the namespace `bw-client`:
    ip netns exec bw-client barewire-bench udp --interface bw0 --target 10.77.0.2:7 --rate 100000
  As many as possible, for five seconds:
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --rate max --duration 5
  Ping-pong through a socket, over IPv6:
    barewire-bench udp --interface bw0 --target [fd00:77::2]:7 --sender kernel --closed-loop --window 1

Kernel sockets behind live frames over veth lose everything unless the server's end has
`ethtool -K DEV gro on`; a server that reflects with XDP_TX needs `--receiver xdp`.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UdpArgs {
    /// Interface to send from, in this network namespace
    #[arg(long, value_name = "IF")]
    interface: String,
    /// UDP echo server, on the link of that interface; an IPv6 address in brackets
    #[arg(long, value_name = "ADDR:PORT")]
    target: SocketAddr,
    #[arg(long, value_enum, default_value = "live-frames")]
    sender: Sender,
    /// Frames a second, or `max`
    #[arg(long, value_name = "PPS|max", value_parser = parse_rate, default_value = "max")]
    rate: Rate,
    /// Send when replies come instead of by the clock (kernel sender)
    #[arg(long, conflicts_with = "rate")]
    closed_loop: bool,
    /// Requests that a closed loop keeps outstanding
    #[arg(long, value_name = "N", default_value_t = 1, requires = "closed_loop",
          value_parser = clap::value_parser!(u64).range(1..=65536))]
    window: u64,
    /// Bytes from the Ethernet header to the end of the payload [default: 64, over IPv6 84]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// How long to send, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    duration: f64,
    /// Send for half a second before, without counting it
    #[arg(long)]
    warmup: bool,
    /// Frames that the live-frame sender hands over at once: 1 for latency, 64 for throughput
    /// [default: 1 up to 200,000 frames a second, else 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Option<u32>,
    /// Where replies to live frames are received
    #[arg(long, value_enum, default_value = "tc")]
    receiver: Hook,
    #[command(flatten)]
    run: RunArgs,
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    machine: Machine,
    interface: &'a str,
    target: SocketAddr,
    family: Family,
    sender: Sender,
    receiver: Option<Hook>,
    batch: u32,
    closed_loop_window: Option<u64>,
    frame_len_bytes: usize,
    figures: &'a Figures,
    /// Counters that grew while it ran, by the place they were read in.
    losses: &'a Places,
}

/// Places outside server and receiver where packets can be lost.
#[derive(Debug, Default, Serialize)]
struct Places {
    interface: Counters,
    kernel_udp: Counters,
    server_metrics: Counters,
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, no such interface or target.
pub(crate) fn run(args: &UdpArgs) -> Result<()> {
    check(args)?;
    pin::to_core(args.run.core)?;
    let interface = Interface::find(&args.interface)?;
    netns::check_target(args.run.i_own_this_target)?;
    let offer = offer(args);
    let before = places(args)?;
    let outcome = match args.sender {
        Sender::LiveFrames => {
            let path = path(&interface, args.target)?;
            let mut sender = LiveFrames::open(&interface, path, args.receiver)?;
            measure(args, &offer, |offer| sender.run(offer))?
        }
        Sender::Kernel => {
            let source = SocketAddr::new(interface.address_towards(args.target)?, SOURCE_PORT);
            let mut sender = Sockets::open(source, args.target)?;
            let mode = if args.closed_loop { Loop::Closed(args.window) } else { Loop::Open };
            measure(args, &offer, |offer| sender.run(offer, mode))?
        }
    };
    let after = places(args)?;
    let losses = Places {
        interface: losses::grown(&before.interface, &after.interface),
        kernel_udp: losses::grown(&before.kernel_udp, &after.kernel_udp),
        server_metrics: losses::grown(&before.server_metrics, &after.server_metrics),
    };
    let figures = outcome.figures();
    print(args, &offer, &figures, &losses);
    write_json(args, &offer, &figures, &losses)
}

/// The path of requests from an interface to a server on its link.
///
/// # Errors
/// The server does not answer ARP, or neighbor solicitations.
pub(crate) fn path(interface: &Interface, target: SocketAddr) -> Result<Path> {
    let target_mac = interface.resolve(target)?;
    let source = SocketAddr::new(interface.address_towards(target)?, SOURCE_PORT);
    Ok(Path { source_mac: interface.mac, target_mac, vlan: None, source, target })
}

impl UdpArgs {
    fn frame_len(&self) -> usize {
        self.size.unwrap_or(frame::default_len(Family::of(self.target)))
    }
}

fn check(args: &UdpArgs) -> Result<()> {
    frame::check_len(Family::of(args.target), args.frame_len())?;
    if args.sender == Sender::LiveFrames && args.frame_len() > frame::MAX_LIVE_LEN {
        return Err(Error::usage(format!(
            "--size {}: live frames have at most {} bytes; `--sender kernel` sends longer ones",
            args.frame_len(),
            frame::MAX_LIVE_LEN
        )));
    }
    report::check_duration(args.duration)?;
    if args.closed_loop && args.sender == Sender::LiveFrames {
        return Err(Error::usage("live frames cannot wait for replies: use `--sender kernel` with --closed-loop"));
    }
    Ok(())
}

fn offer(args: &UdpArgs) -> Offer {
    let rate_pps = args.rate.0.filter(|_| !args.closed_loop);
    // Up to 200,000 a second, the time between two frames is more than what a lone frame costs.
    let batch = args.batch.unwrap_or(if rate_pps.is_some_and(|rate| rate <= 200_000.0) { 1 } else { 64 });
    Offer {
        rate_pps,
        duration: Duration::from_secs_f64(args.duration),
        frame_len: args.frame_len(),
        batch,
        attack: None,
    }
}

fn measure(args: &UdpArgs, offer: &Offer, mut run: impl FnMut(&Offer) -> Result<Outcome>) -> Result<Outcome> {
    if args.warmup {
        run(&Offer { duration: Duration::from_millis(500), ..*offer })?;
        signals::check()?;
    }
    run(offer)
}

fn places(args: &UdpArgs) -> Result<Places> {
    Ok(Places {
        interface: losses::of_interface(&[], &args.interface),
        kernel_udp: losses::of_kernel_udp(),
        server_metrics: args.run.server_metrics()?,
    })
}

fn print(args: &UdpArgs, offer: &Offer, figures: &Figures, losses: &Places) {
    let asked = match (args.closed_loop, offer.rate_pps) {
        (true, _) => format!("closed loop, window {}", args.window),
        (false, Some(rate)) => format!("asked {rate:.0}/s"),
        (false, None) => "as many as possible".into(),
    };
    println!(
        "sent      {:>12.0}/s   {} frames of {} B in {:.2} s, {asked}",
        figures.sent_pps,
        figures.sent,
        args.frame_len(),
        figures.seconds
    );
    println!("goodput   {:>12.0}/s   {} replies", figures.goodput_pps, figures.received);
    println!("lost      {:>12}     {:.3} %", figures.lost, figures.loss_ratio * 100.0);
    for (place, counters) in
        [("interface", &losses.interface), ("kernel UDP", &losses.kernel_udp), ("server", &losses.server_metrics)]
    {
        for (name, growth) in counters {
            println!("            {growth:>10}     {place}: {name}");
        }
    }
    report::print_latency(&figures.latency, if args.closed_loop { "from sending" } else { "from the intended time" });
    if figures.generator_limited {
        println!("generator-limited: it sent less than 90 % of the asked rate, so this says nothing of the server");
    }
    if figures.sent > 0 && figures.received == 0 {
        println!("no reply at all: does the server run, and has its end of a veth `gro on` (kernel sockets)?");
    }
}

fn write_json(args: &UdpArgs, offer: &Offer, figures: &Figures, losses: &Places) -> Result<()> {
    args.run.write(&Report {
        schema: "barewire-bench-udp/1",
        machine: Machine::describe(),
        interface: &args.interface,
        target: args.target,
        family: Family::of(args.target),
        sender: args.sender,
        receiver: (args.sender == Sender::LiveFrames).then_some(args.receiver),
        batch: offer.batch,
        closed_loop_window: args.closed_loop.then_some(args.window),
        frame_len_bytes: args.frame_len(),
        figures,
        losses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        assert_eq!(parse_rate("max"), Ok(Rate(None)));
        assert_eq!(parse_rate("1e5"), Ok(Rate(Some(1e5))));
        for wrong in ["0", "-1", "fast", "1e9", "NaN", "inf"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
