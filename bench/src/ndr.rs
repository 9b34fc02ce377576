//! `barewire-bench ndr`: the highest rate that a UDP echo answers with no more loss than allowed, by frame size
//! (RFC 2544, section 26.1; the "no drop rate" where nothing may be lost).
//!
//! ```text
//!  each size   search.rs: ladder, then halving to the precision asked for
//!              the rate found, several times over: if one of them loses more, a step down, and again
//! ```
//!
//! Sizes are those of the RFC: with the frame check sequence of 4 bytes, which no program sees. Every request has to
//! hold headers and a stamp, so the smallest is a little longer than 64.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::compare::others::OtherArgs;
use crate::compare::programs::Programs;
use crate::compare::watch::Watch;
use crate::compare::{Lab, columns, contestant, udp as compared};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::netns::{self, ETHERNET_MTU, Family, INTERFACE, Shape};
use crate::options::OutputArgs;
use crate::progress::Progress;
use crate::result::figures::Figure;
use crate::result::{Document, Network, Nic, Round};
use crate::search::{self, Criteria, Point};
use crate::udp::frame::{self, Path};
use crate::udp::generator::Generator;
use crate::udp::receiver::Hook;
use crate::udp::sizes::{self, Asked, FCS, Sizes};
use crate::udp::trial::{Offer, Outcome};
use crate::{pin, signals, udp};

/// Preamble and start of frame (8), and the gap to the next frame (12): what a frame takes of the wire beside itself.
const GAP: usize = 20;
/// Steps down from a rate that does not stand when it is repeated.
const STEPS: usize = 10;

const EXAMPLES: &str = "Examples:
  The engine in namespaces of its own, at all sizes of RFC 2544 (as root):
    barewire-bench ndr
  Without any loss, trials of ten seconds, the kernel's echo:
    barewire-bench ndr --server kernel-spin --loss 0 --seconds 10 --sizes 64,1518
  The simple Internet mix of sizes:
    barewire-bench ndr --mix imix
  A server on the link of an interface:
    barewire-bench ndr --interface eth1 --target 192.0.2.7:7 --i-own-this-target --json ndr.json";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NdrArgs {
    /// A server that `compare udp` knows, in namespaces of its own
    #[arg(long, value_name = "NAME", default_value = "barewire", conflicts_with = "target")]
    server: String,
    /// Interface to send from, in this network namespace
    #[arg(long, value_name = "IF", requires = "target")]
    interface: Option<String>,
    /// UDP echo server, on the link of that interface; an IPv6 address in brackets
    #[arg(long, value_name = "ADDR:PORT", requires = "interface")]
    target: Option<SocketAddr>,
    /// Loss that is allowed, in percent of the requests
    #[arg(long, value_name = "PERCENT", default_value_t = 0.1, value_parser = percent)]
    loss: f64,
    /// How near to the limit the search ends, in percent of the rate
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = precision)]
    precision: f64,
    /// Length of a trial
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// How often the rate found has to stand
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Frame sizes with the frame check sequence, as RFC 2544 has them
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_values_t = [64, 128, 256, 512, 1024, 1280, 1518])]
    sizes: Vec<usize>,
    /// Instead of single sizes, a mix: `imix`, or sizes with their weights as in `64:7,594:4,1518:1`, with the frame check
    /// sequence too. `imix` is 64:7,594:4,1518:1, of which 64 is raised to what holds headers and a stamp
    #[arg(long, value_name = "MIX", value_parser = mix, conflicts_with = "sizes")]
    mix: Option<Asked>,
    /// Over IPv6, in namespaces of its own
    #[arg(long, conflicts_with = "target")]
    ipv6: bool,
    /// MTU of both ends in namespaces of its own, bytes
    #[arg(long, value_name = "BYTES", default_value_t = ETHERNET_MTU, conflicts_with = "target",
          value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,
    /// Where replies are received
    #[arg(long, value_enum, default_value = "tc")]
    receiver: Hook,
    /// Core to send from
    #[arg(long, value_name = "N", default_value_t = 0)]
    core: usize,
    #[command(flatten)]
    output: OutputArgs,
    /// Load a server that is not in a network namespace made for it: it is mine, and so is the network
    #[arg(long)]
    i_own_this_target: bool,
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=50.0).contains(&percent) => Ok(percent),
        _ => Err("a number of percent from 0 to 50".into()),
    }
}

fn mix(text: &str) -> std::result::Result<Asked, String> {
    match sizes::parse(text)? {
        Asked::One(_) => Err("a mix has several sizes: `--sizes` takes single ones".into()),
        asked => Ok(asked),
    }
}

fn precision(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.1..=20.0).contains(&percent) => Ok(percent),
        _ => Err("a number of percent from 0.1 to 20".into()),
    }
}

/// The longest frame of all searches.
fn longest(all: &[Sizes]) -> usize {
    all.iter().map(Sizes::longest).max().unwrap_or(0)
}

/// What figures call it: the size with its frame check sequence, or `mix`.
fn name(sizes: &Sizes) -> String {
    if sizes.is_mix() { "mix".into() } else { (sizes.longest() + FCS).to_string() }
}

/// What is measured, and with what.
struct Bench<'a> {
    args: &'a NdrArgs,
    interface: Interface,
    path: Path,
    hook: Hook,
    round: Round,
}

/// What was found at one size, or with one mix.
struct Row {
    sizes: Sizes,
    rate_pps: Option<f64>,
    limited: bool,
    trials: usize,
}

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, a server that does not start or answer, or an interruption.
pub(crate) fn run(args: &NdrArgs) -> Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 60.0) {
        return Err(Error::usage("--seconds: from a fraction of a second to 60"));
    }
    match (&args.interface, args.target) {
        (Some(interface), Some(target)) => run_target(args, interface, target),
        _ => run_lab(args),
    }
}

/// Against a server that is there.
fn run_target(args: &NdrArgs, interface: &str, target: SocketAddr) -> Result<()> {
    let family = Family::of(target);
    let all = args.all_sizes(family, None)?;
    if target.ip().is_loopback() {
        return Err(Error::usage("the loopback carries no live frames: measure with `udp --sender kernel`"));
    }
    pin::to_core(args.core)?;
    let interface = Interface::find(interface)?;
    netns::check_target(target.ip(), args.i_own_this_target)?;
    interface.carries(longest(&all))?;
    let path = udp::path(&interface, target)?;
    let nic = Nic::describe(&interface.name);
    let mut bench = Bench { args, interface, path, hook: args.receiver, round: Round::default() };
    let (rows, ended) = bench.all(&all);
    let (description, interface) = ("as given".into(), Some(nic));
    let network = Network { description, family, mtu: None, interface, target: Some(target) };
    let document = Document::single("ndr", network, bench.round);
    args.tell(&rows, document, ended)
}

/// Against one of the servers of `compare udp`.
fn run_lab(args: &NdrArgs) -> Result<()> {
    let shape = Shape { family: if args.ipv6 { Family::Ipv6 } else { Family::Ipv4 }, mtu: args.mtu };
    let all = args.all_sizes(shape.family, Some(args.mtu))?;
    let programs = Programs::find(shape)?;
    let longest = longest(&all);
    let known = compared::servers::known(&programs, &OtherArgs::default(), shape)?;
    let only = [args.server.clone()];
    let chosen = contestant::choose(known, &only, &programs, shape, longest)?.pop();
    let contestant = chosen.ok_or_else(|| Error::usage(format!("--server: there is no `{}`", args.server)))?;
    let lab = Lab::open(programs, shape)?;
    if longest > frame::MAX_LIVE_LEN {
        lab.pair.with_checksums()?;
    }
    let server = lab.start(&contestant)?;
    let interface = Interface::find(INTERFACE)?;
    let path = Path {
        source_mac: interface.mac,
        target_mac: Interface::mac_in(&lab.pair.server, INTERFACE)?,
        vlan: contestant.vlan,
        source: SocketAddr::new(shape.family.client(), udp::SOURCE_PORT),
        target: SocketAddr::new(shape.family.server(), 7),
    };
    let watch = Watch::begin(&lab.pair, &server);
    let mut bench = Bench { args, interface, path, hook: contestant.hook, round: Round::default() };
    let (rows, mut ended) = bench.all(&all);
    watch.end(&lab.pair, &server, &mut bench.round);
    if ended.is_ok() {
        ended = server.stop();
    }
    let contender = contestant.contender(vec![bench.round]);
    let document = lab.document("ndr", compared::network(shape, longest), 1, vec![contender]);
    args.tell(&rows, document, ended)
}

impl NdrArgs {
    /// What frames have in each search, as programs see them: without the frame check sequence.
    ///
    /// # Errors
    /// A size that cannot be sent.
    fn all_sizes(&self, family: Family, mtu: Option<u16>) -> Result<Vec<Sizes>> {
        let Some(mix) = &self.mix else {
            return Ok(self.frame_lens(family, mtu)?.into_iter().map(Sizes::one).collect());
        };
        let (mix, mtu) = (mix.sizes(family, FCS)?, mtu.map_or(usize::MAX, usize::from));
        let most = frame::MAX_LIVE_LEN.min(mtu.saturating_add(14));
        if mix.longest() > most {
            let (longest, most) = (mix.longest() + FCS, most + FCS);
            return Err(Error::usage(format!("--mix: {longest} bytes are too many, {most} are the most here")));
        }
        Ok(vec![mix])
    }

    /// Single sizes.
    fn frame_lens(&self, family: Family, mtu: Option<u16>) -> Result<Vec<usize>> {
        let least = frame::headers_len(family) + frame::STAMP_LEN;
        let lens: Vec<usize> = self.sizes.iter().map(|size| size.saturating_sub(FCS)).collect();
        for len in &lens {
            if *len < 64 - FCS {
                return Err(Error::usage(format!("--sizes {}: a frame of Ethernet has 64 bytes at least", len + FCS)));
            }
            frame::check_len(family, (*len).max(least))?;
            if let Some(mtu) = mtu.filter(|mtu| *len > usize::from(*mtu) + 14) {
                let most = usize::from(mtu) + 14 + FCS;
                return Err(Error::usage(format!("--sizes {}: with --mtu {mtu} it is {most} at most", len + FCS)));
            }
        }
        Ok(lens.into_iter().map(|len| len.max(least)).collect())
    }

    /// Prints and writes what was found until `ended`.
    fn tell(&self, rows: &[Row], mut document: Document, ended: Result<()>) -> Result<()> {
        document.interrupted = matches!(ended, Err(Error::Interrupted));
        println!(
            "Highest rate with at most {} % lost, to {} %, that stood {} times in trials of {} s (RFC 2544, 26.1)\n",
            self.loss, self.precision, self.repeats, self.seconds
        );
        let cells = rows.iter().map(|row| {
            let number = |value: Option<f64>, digits| value.map_or("-".into(), |value| format!("{value:.digits$}"));
            let limited = if row.limited { "at least: the generator could send no more" } else { "" };
            let rate = number(row.rate_pps.map(|rate| rate / 1e6), 3);
            [name(&row.sizes), rate, number(row.wire_gbps(), 2), row.trials.to_string(), limited.to_owned()]
        });
        columns::print_columns(["frame B", "Mpps", "Gb/s on the wire", "trials", ""], cells.collect());
        println!("\nframe: with the frame check sequence; 64 is raised to what holds headers and a stamp.");
        if let Some(row) = rows.iter().find(|row| row.sizes.is_mix()) {
            println!("mix: {}, each with {FCS} B more; {:.0} B on average.", row.sizes.describe(), row.wire_len());
        }
        println!("wire: with preamble and gap, {GAP} B a frame.");
        for server in &document.servers {
            let ready = server.rounds.first().and_then(|round| round.ready.as_deref()).unwrap_or("");
            println!("{}: {}   {ready}", server.name, server.description);
        }
        columns::print_origin(&document.network.description, &document.machine);
        self.output.write(&document)?;
        ended
    }
}

impl Row {
    /// Bytes of a frame with its frame check sequence, of a mix on average.
    fn wire_len(&self) -> f64 {
        self.sizes.mean() + FCS as f64
    }

    /// Bits that the frames take of a wire, with what lies between them.
    fn wire_gbps(&self) -> Option<f64> {
        self.rate_pps.map(|rate| rate * (self.wire_len() + GAP as f64) * 8e-9)
    }
}

impl Bench<'_> {
    /// All sizes, as far as they come.
    fn all(&mut self, all: &[Sizes]) -> (Vec<Row>, Result<()>) {
        let mut progress = Progress::new(all.len() as u64);
        let mut rows = Vec::new();
        for sizes in all {
            progress.start(&format!("frames, {} B with FCS", name(sizes)));
            match self.size(*sizes) {
                Ok(row) => {
                    progress.done(&row.rate_pps.map_or("-".into(), |rate| format!("{:.3} Mpps", rate / 1e6)));
                    self.enter(&row);
                    rows.push(row);
                }
                Err(error) => return (rows, Err(error)),
            }
        }
        progress.finish();
        (rows, Ok(()))
    }

    fn enter(&mut self, row: &Row) {
        let (rate, wire) = (row.rate_pps.map(|rate| rate / 1e6), row.wire_gbps());
        let name = format!("ndr-{}", name(&row.sizes));
        self.round.figures.insert(format!("{name}-wire"), Figure::higher(wire, "Gb/s", row.limited));
        self.round.figures.insert(name, Figure::higher(rate, "Mpps", row.limited));
    }

    /// Searches at one size, and repeats what was found until it stands.
    fn size(&mut self, sizes: Sizes) -> Result<Row> {
        let mut sender = Generator::open(&self.interface, self.path, self.hook, sizes.longest())?;
        let (name, before) = (name(&sizes), self.round.trials.len());
        let criteria = Criteria { loss: self.args.loss / 100.0, precision: self.args.precision / 100.0 };
        let start_pps = compared::START * compared::latency_pps(sizes.longest());
        self.warm_up(&mut sender, sizes)?;
        let found = search::highest(start_pps, criteria, |rate| {
            self.offer(&mut sender, &format!("ndr-{name}"), rate, sizes).map(|outcome| Point::of(&outcome))
        })?;
        let mut rate_pps = found.loss_free_pps;
        for _ in 0..STEPS {
            let Some(rate) = rate_pps else { break };
            if self.stands(&mut sender, rate, sizes, criteria)? {
                break;
            }
            rate_pps = Some(rate * (1.0 - criteria.precision));
        }
        if let Some(rate) = rate_pps
            && !self.stood(before, rate, &name)
        {
            rate_pps = None;
        }
        let trials = self.round.trials.len() - before;
        Ok(Row { sizes, rate_pps, limited: found.generator_limited, trials })
    }

    /// Whether as many trials at this rate as were asked for came to their end.
    fn stood(&self, from: usize, rate_pps: f64, name: &str) -> bool {
        let name = format!("ndr-{name}-repeat");
        let repeats = self.round.trials[from..].iter().filter(|trial| trial.measure == name);
        repeats.filter(|trial| trial.asked_per_s == Some(rate_pps)).count() == self.args.repeats as usize
    }

    /// Whether the rate is met by every repeat; the first that is not ends it.
    fn stands(&mut self, sender: &mut Generator, rate: f64, sizes: Sizes, criteria: Criteria) -> Result<bool> {
        for _ in 0..self.args.repeats {
            let name = format!("ndr-{}-repeat", name(&sizes));
            if !criteria.met_by(&Point::of(&self.offer(sender, &name, rate, sizes)?)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills caches and neighbor tables, and makes sure that there is an answer at all.
    fn warm_up(&mut self, sender: &mut Generator, sizes: Sizes) -> Result<()> {
        for _ in 0..10 {
            let answered = self.offer(sender, "warm-up", compared::latency_pps(sizes.longest()), sizes)?.received;
            self.round.trials.pop();
            if answered > 0 {
                return Ok(());
            }
        }
        Err(Error::run(format!("{} answers nothing: try it with `udp`", self.path.target)))
    }

    /// One trial, which is kept.
    fn offer(&mut self, sender: &mut Generator, measure: &str, rate_pps: f64, sizes: Sizes) -> Result<Outcome> {
        let duration = Duration::from_secs_f64(self.args.seconds);
        sender.introduce()?;
        let offer = Offer::constant(rate_pps, duration, sizes);
        let outcome = sender.run(&offer)?;
        signals::check()?;
        self.round.trials.push(outcome.trial(measure, sender.back_end(), &offer));
        Ok(outcome)
    }
}
