//! `barewire-bench udp`: measures one UDP echo server.

pub(crate) mod frame;
pub(crate) mod generator;
pub(crate) mod live_frames;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod receiver;
mod sequences;
pub(crate) mod sizes;
pub(crate) mod socket_frames;
pub(crate) mod sockets;
pub(crate) mod sources;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::frame::Path;
use self::live_frames::LiveFrames;
use self::receiver::Hook;
use self::sizes::{Asked, Sizes};
use self::sockets::Sockets;
use self::sources::Sources;
use self::trial::{Flows, Offer, Outcome};
use crate::arrivals::{ArrivalArgs, Arrivals};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::losses::{self, Counters};
use crate::netns::Family;
use crate::options::{self, RunArgs};
use crate::own_stack::{self, AddressArgs, Place};
use crate::result::{BackEnd, Document, Network, Nic, Round, Timestamps};
use crate::{netns, pin, signals};

/// Source port of requests: outside the ephemeral range, so that no other socket's replies are taken for ours.
pub(crate) const SOURCE_PORT: u16 = 9007;

/// Length of the warm-up.
const WARMUP: Duration = Duration::from_millis(500);

/// What sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sender {
    /// A BPF program run over live frames in the kernel: several million a second from one core
    LiveFrames,
    /// A UDP socket with sendmmsg and recvmmsg: about half a million a second
    Kernel,
    /// Barewire's own stack over AF_XDP, from an address that no host has
    OwnStack,
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
  A thousand requests and no more:
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --rate 10000 --count 1000
  The simple Internet mix of sizes, and another one:
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --rate 100000 --size imix
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --rate 100000 --size 64:1,512:2,1514:1
  Ten thousand flows, and a million: 250 from each of 4,094 addresses
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --flows 10000
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --flows 250 --source 10.99.0.0/20
  Ping-pong through a socket, over IPv6:
    barewire-bench udp --interface bw0 --target [fd00:77::2]:7 --sender kernel --closed-loop --window 1
  From our own stack, as from independent users:
    barewire-bench udp --interface bw0 --target 10.77.0.2:7 --sender own-stack --address 10.77.0.21/24 \\
        --rate 100000 --arrivals poisson

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
    /// What carries the load
    #[arg(long, visible_alias = "back-end", value_enum, default_value = "live-frames")]
    sender: Sender,
    #[command(flatten)]
    addresses: AddressArgs,
    /// Frames a second, or `max`
    #[arg(long, value_name = "PPS|max", value_parser = parse_rate, default_value = "max")]
    rate: Rate,
    /// Send when replies come instead of by the clock (not for live frames)
    #[arg(long, conflicts_with = "rate")]
    closed_loop: bool,
    /// Requests that a closed loop keeps outstanding
    #[arg(long, value_name = "N", default_value_t = 1, requires = "closed_loop",
          value_parser = clap::value_parser!(u64).range(1..=65536))]
    window: u64,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    /// Bytes from the Ethernet header to the end of the payload, so without the frame check sequence of 4; or a mix of
    /// sizes with their weights, as `64:7,594:4,1514:1`; or `imix`, the simple Internet mix: 64, 594 and 1518 bytes with
    /// the frame check sequence, 7:4:1, of which 64 is raised to what holds headers and a stamp
    /// [default: 64, over IPv6 84]
    #[arg(long, value_name = "BYTES|MIX", value_parser = sizes::parse)]
    size: Option<Asked>,
    /// How long to send, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    duration: f64,
    /// Send so many requests at most
    #[arg(long, value_name = "N", conflicts_with = "warmup", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Send from so many ports in turn, from 9007 on: as many flows to the server, with --source from each address. A
    /// socket of the kernel's for each costs a system call for each request (not for our own stack)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50000))]
    flows: u16,
    /// Send from the hosts of this prefix in turn: of a lab's or a private network's, up to a million for live frames,
    /// some 1,000 for our own stack. The server needs a route for them that leads to --address, or to this interface's
    /// own address for live frames
    #[arg(long, value_name = "PREFIX", value_parser = sources::parse)]
    source: Option<Sources>,
    /// Send for half a second before, without counting it
    #[arg(long)]
    warmup: bool,
    /// Frames that the live-frame sender hands over at once: 1 for latency, and to keep --arrivals to a frame; 64 for
    /// throughput, where the first of 64 waits for the last [default: 1 up to 200,000 frames a second, else 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Option<u32>,
    /// Where replies to live frames are received
    #[arg(long, value_enum, default_value = "tc")]
    receiver: Hook,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, no such interface or target.
pub(crate) fn run(args: &UdpArgs) -> Result<()> {
    check(args)?;
    match args.sender {
        // Its worker is pinned; this thread only waits.
        Sender::OwnStack => pin::check(args.run.core).map(drop)?,
        _ => pin::to_core(args.run.core)?,
    }
    let interface = Interface::find(&args.interface)?;
    netns::check_target(args.target.ip(), args.run.i_own_this_target)?;
    let offer = offer(args)?;
    interface.carries(offer.sizes.longest())?;
    let before = places(args)?;
    let (mut own_losses, mut how) = (Counters::new(), None);
    let (outcome, back_end, timestamps) = match args.sender {
        Sender::LiveFrames => {
            let path = args.path(&interface)?;
            let mut sender = LiveFrames::open(&interface, path, args.receiver)?;
            let outcome = measure(args, &offer, |offer| sender.run(offer))?;
            (outcome, BackEnd::LiveFrames, Timestamps::Interface)
        }
        Sender::Kernel => {
            let source = SocketAddr::new(interface.address_towards(args.target)?, SOURCE_PORT);
            let mut sender = Sockets::open(source, args.target, args.flows)?;
            let outcome = measure(args, &offer, |offer| sender.run(offer))?;
            (outcome, BackEnd::Kernel, sender.timestamps())
        }
        Sender::OwnStack => {
            let warmup = args.warmup.then_some(Offer { duration: WARMUP, ..offer });
            let offers = warmup.into_iter().chain([offer]).collect();
            let (interface, addresses) = (Some(interface.name.clone()), args.addresses.clone());
            let place = Place { interface, addresses, core: args.run.core, target: args.target };
            let ran = place.datagrams(offers, args.source)?;
            println!("back end  {}", ran.how);
            (own_losses, how) = (ran.losses, Some(ran.how));
            (ran.told, BackEnd::OwnStack, Timestamps::Program)
        }
    };
    let mut losses = losses::grown_by_place(&before, &places(args)?);
    if !own_losses.is_empty() {
        losses.insert(own_stack::PLACE.into(), own_losses);
    }
    print(&offer, timestamps, &outcome, &losses);
    let network = Network {
        description: how.unwrap_or_else(|| "as given".into()),
        family: Family::of(args.target),
        mtu: None,
        interface: Some(Nic::describe(&interface.name)),
        target: Some(args.target),
    };
    let trial = outcome.trial("udp", (back_end, timestamps), &offer);
    let round = Round { figures: outcome.figures(), trials: vec![trial], losses, ..Round::default() };
    args.run.output.write(&Document::single("udp", network, round))
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
    /// The path of requests, from the first of the sources.
    fn path(&self, interface: &Interface) -> Result<Path> {
        let path = path(interface, self.target)?;
        let source = self.source.map_or(path.source.ip(), |sources| sources.first());
        Ok(Path { source: SocketAddr::new(source, SOURCE_PORT), ..path })
    }

    fn flows(&self) -> Flows {
        Flows { ports: self.flows, addresses: self.source.map_or(1, |sources| sources.count()) }
    }

    fn sizes(&self) -> Result<Sizes> {
        let family = Family::of(self.target);
        self.size.as_ref().map_or_else(|| Ok(Sizes::one(frame::default_len(family))), |asked| asked.sizes(family, 0))
    }
}

fn check(args: &UdpArgs) -> Result<()> {
    let longest = args.sizes()?.longest();
    if args.sender == Sender::LiveFrames && longest > frame::MAX_LIVE_LEN {
        return Err(Error::usage(format!(
            "--size {longest}: live frames have at most {} bytes; `--sender kernel` sends longer ones",
            frame::MAX_LIVE_LEN
        )));
    }
    if args.sender == Sender::OwnStack && args.flows > 1 {
        return Err(Error::usage(
            "--flows: our own stack sends from one port; --source has it send from many addresses",
        ));
    }
    if let Some(sources) = args.source {
        if args.sender == Sender::Kernel {
            return Err(Error::usage(
                "--source: kernel sockets send from addresses that this host has. Leave out --sender, or use \
                 `--sender own-stack`; with kernel sockets, --flows makes many flows",
            ));
        }
        sources.check(args.target.ip())?;
    }
    if args.sender != Sender::Kernel && args.target.ip().is_loopback() {
        return Err(Error::usage("the loopback carries no frames of XDP: use `--sender kernel`"));
    }
    options::check_duration(args.duration)?;
    if args.sender != Sender::OwnStack {
        args.addresses.refuse("--sender own-stack")?;
    }
    if args.closed_loop && args.sender == Sender::LiveFrames {
        return Err(Error::usage("live frames cannot wait for replies: use `--sender kernel` with --closed-loop"));
    }
    if args.arrivals.open_loop() != Arrivals::Constant {
        let Some(rate) = args.rate.0.filter(|_| !args.closed_loop) else {
            return Err(Error::usage("--arrivals spreads a rate over time: give it one, as with `--rate 20000`"));
        };
        let due = args.count.map_or(f64::MAX, |count| count as f64).min(rate * args.duration);
        if args.sender == Sender::LiveFrames && due > plan::MOST_DUE as f64 {
            let most = plan::MOST_DUE;
            return Err(Error::usage(format!(
                "--arrivals: live frames are told {most} due times at most, and these are {due:.0}: a lower --rate, a \
                 shorter --duration or a --count, or `--sender own-stack`"
            )));
        }
    }
    Ok(())
}

fn offer(args: &UdpArgs) -> Result<Offer> {
    let rate_pps = args.rate.0.filter(|_| !args.closed_loop);
    // Up to 200,000 a second, the time between two frames is more than what a lone frame costs.
    let batch = args.batch.unwrap_or(if rate_pps.is_some_and(|rate| rate <= 200_000.0) { 1 } else { 64 });
    // So many are sent in so long, and then it is over; a ramp takes longer, and ends by the count.
    let all = args.count.zip(rate_pps).filter(|_| args.arrivals.open_loop() != Arrivals::Ramp);
    let seconds = all.map_or(args.duration, |(count, rate)| args.duration.min(count as f64 / rate));
    Ok(Offer {
        rate_pps,
        duration: Duration::from_secs_f64(seconds),
        arrivals: arrivals(args),
        sizes: args.sizes()?,
        flows: args.flows(),
        batch,
        limit: args.count,
        attack: None,
    })
}

fn arrivals(args: &UdpArgs) -> Arrivals {
    match (args.closed_loop, args.rate.0) {
        (true, _) => Arrivals::Closed { outstanding: args.window },
        (false, None) => Arrivals::Flood,
        (false, Some(_)) => args.arrivals.open_loop(),
    }
}

fn measure(args: &UdpArgs, offer: &Offer, mut run: impl FnMut(&Offer) -> Result<Outcome>) -> Result<Outcome> {
    if args.warmup {
        run(&Offer { duration: WARMUP, ..*offer })?;
        signals::check()?;
    }
    run(offer)
}

/// Places outside server and receiver where packets can be lost.
fn places(args: &UdpArgs) -> Result<BTreeMap<String, Counters>> {
    Ok(BTreeMap::from([
        ("interface".to_owned(), losses::of_interface(&[], &args.interface)),
        ("kernel UDP".to_owned(), losses::of_kernel_udp()),
        ("server".to_owned(), args.run.server_metrics()?),
    ]))
}

fn print(offer: &Offer, timestamps: Timestamps, outcome: &Outcome, losses: &BTreeMap<String, Counters>) {
    let Outcome { sent, received, duplicated, reordered, seconds, .. } = outcome;
    println!(
        "sent      {:>12.0}/s   {sent} frames of {}{} in {seconds:.2} s, {}",
        outcome.sent_pps(),
        offer.sizes.describe(),
        offer.flows.describe(),
        offer.arrivals.describe(outcome.asked_pps)
    );
    println!(
        "goodput   {:>12.0}/s   {received} answered, {duplicated} twice, {reordered} late; {:.3} Gb/s of frames",
        outcome.goodput_pps(),
        outcome.goodput_gbps()
    );
    println!("lost      {:>12}     {:.3} %", outcome.lost(), outcome.loss_ratio() * 100.0);
    options::print_losses(losses);
    let from = format!("{} to {}", offer.arrivals.latency_from(), timestamps.describe());
    options::print_latency(&outcome.latency.summary(), &from);
    options::print_open_loop(outcome.from_sending.as_ref(), outcome.adherence.as_ref());
    if outcome.generator_limited() && outcome.adherence.is_none() {
        println!("generator-limited: it sent less than 90 % of the asked rate, so this says nothing of the server");
    }
    if *sent > 0 && *received == 0 {
        println!("no reply at all: does the server run, and has its end of a veth `gro on` (kernel sockets)?");
    }
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
