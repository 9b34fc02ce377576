//! `barewire-bench attack`: what a flood leaves of the engine's goodput, in rounds with and without it.
//!
//! ```text
//!  round 1   calm     passed   attack          calm:    nothing but the clients
//!  round 2   passed   attack   calm            passed:  as many frames, which the engine never sees
//!  round 3   attack   calm     passed          attack:  the flood
//! ```
//!
//! The flood is live frames (bpf/attack.h) from the generator's core, which is the clients' too: there are two cores,
//! and the other is the engine's. What that costs the clients shows in `passed`: frames at the same rate that the XDP
//! program gives to the kernel, which costs the generator's core more (an skb each) than handing them to the engine does.
//! So goodput in `attack` over that in `calm` is what the flood leaves, and the generator's share of what is missing is at
//! most what is missing in `passed`. Where that is much, nothing is said about the engine.

mod attempts;
mod flood;
mod fragments;
mod syn;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::compare::programs::{ENGINE, Programs};
use crate::compare::table::{self, Part};
use crate::compare::{Lab, rounds};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::losses::{self, Counters};
use crate::netns::{self, ETHERNET_MTU, Family, INTERFACE, Shape};
use crate::options::OutputArgs;
use crate::process::{Readiness, Server};
use crate::progress::Progress;
use crate::result::figures::Figure;
use crate::result::{Contender, Round};
use crate::udp::SOURCE_PORT;
use crate::udp::frame::Path;
use crate::udp::trial::AttackKind;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(crate) struct AttackArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Random fragments of IPv4 against a UDP echo
    Fragments(FloodArgs),
    /// Connection requests from random sources against established and new connections
    Syn(FloodArgs),
}

/// Options of both.
#[derive(Args, Debug)]
struct FloodArgs {
    /// Frames of the flood a second
    #[arg(long, value_name = "PPS", default_value_t = 500_000.0)]
    rate: f64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of each phase of a round
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    #[command(flatten)]
    output: OutputArgs,
}

/// What goes on beside the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Calm,
    Passed,
    Attack,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Calm, Self::Passed, Self::Attack];

    /// Those of a round: each begins with another.
    fn of_round(round: u32) -> impl Iterator<Item = Self> {
        (0..3).map(move |place| Self::ALL[(place + round as usize) % 3])
    }

    /// The frames of a flood of `kind` in this phase.
    fn frames(self, kind: AttackKind) -> Option<AttackKind> {
        match self {
            Self::Calm => None,
            Self::Passed => Some(AttackKind::Passed),
            Self::Attack => Some(kind),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Passed => "passed",
            Self::Attack => "attack",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Calm => "the engine with its clients alone",
            Self::Passed => "the same with frames at the flood's rate that the engine never sees",
            Self::Attack => "the same under the flood",
        }
    }
}

/// What the engine showed in each phase, round by round.
struct Phases(Vec<Contender>);

impl Phases {
    fn new() -> Self {
        let contender = |phase: Phase| Contender {
            name: phase.name().into(),
            description: phase.description().into(),
            baseline: phase == Phase::Calm,
            rounds: Vec::new(),
        };
        Self(Phase::ALL.map(contender).to_vec())
    }

    /// Measures round by round, until the last or a failure.
    fn measure(
        &mut self,
        rounds: u32,
        loads: usize,
        mut measure: impl FnMut(u32, &mut Progress) -> Result<(BTreeMap<Phase, Round>, Round)>,
    ) -> Result<()> {
        let mut progress = Progress::new(u64::from(rounds) * (loads * Phase::ALL.len()) as u64);
        let ended = (0..rounds).try_for_each(|round| {
            let (of_phase, around) = measure(round, &mut progress)?;
            self.enter(of_phase, &around);
            Ok(())
        });
        progress.finish();
        ended
    }

    /// Enters a round; `around` is what its phases have in common.
    fn enter(&mut self, mut of_phase: BTreeMap<Phase, Round>, around: &Round) {
        for (phase, contender) in Phase::ALL.iter().zip(&mut self.0) {
            let Round { figures, trials, .. } = of_phase.remove(phase).unwrap_or_default();
            contender.rounds.push(Round { figures, trials, ..around.clone() });
        }
    }

    /// Prints and writes what was measured until `ended`.
    ///
    /// # Errors
    /// What ended it, or that the file cannot be written.
    fn tell(self, lab: &Lab, args: &FloodArgs, told: Told, ended: Result<()>) -> Result<()> {
        let mut document = lab.document(told.workload, lab.pair.shape.to_string(), args.rounds, self.0);
        document.interrupted = matches!(ended, Err(Error::Interrupted));
        if rounds::any(&document.servers) {
            let mut notes = told.notes;
            notes.extend(document.servers.iter().filter_map(connects));
            table::print(&document, &told.parts, &[], &notes);
        }
        args.output.write(&document)?;
        rounds::end(&document.servers, ended)
    }
}

/// How a result is told.
struct Told {
    workload: &'static str,
    parts: Vec<Part>,
    notes: Vec<String>,
}

/// New connections of a phase, all rounds told, if there were any.
fn connects(phase: &Contender) -> Option<String> {
    let trials = || phase.rounds.iter().flat_map(|round| &round.trials).filter(|trial| trial.measure == "connects");
    let (made, succeeded) = trials().fold((0, 0), |(made, done), trial| (made + trial.sent, done + trial.completed));
    let percent = 100.0 * succeeded as f64 / made as f64;
    (made > 0).then(|| format!("{}: {succeeded} of {made} new connections succeeded ({percent:.2} %)", phase.name))
}

/// Where the engine publishes its counters, in the server's namespace.
const METRICS: &str = "127.0.0.1:9100";

/// Runs the command.
///
/// # Errors
/// Bad arguments, no permission, an engine that does not start or fails, or an interruption.
pub(crate) fn run(args: &AttackArgs) -> Result<()> {
    let (What::Fragments(flood) | What::Syn(flood)) = &args.what;
    if !(flood.seconds > 0.0 && flood.seconds <= 60.0) {
        return Err(Error::usage("--seconds: from a fraction of a second to 60"));
    }
    if !(1.0..=1e7).contains(&flood.rate) {
        return Err(Error::usage("--rate: from 1 to 1e7"));
    }
    let shape = Shape { family: Family::Ipv4, mtu: ETHERNET_MTU };
    let programs = Programs::find(shape)?;
    programs.check(ENGINE.0, ENGINE.1)?;
    let lab = Lab::open(programs, shape)?;
    match &args.what {
        What::Fragments(args) => fragments::run(args, &lab),
        What::Syn(args) => syn::run(args, &lab),
    }
}

/// Starts the engine, for whom made-up sources are reachable by a router: without a route it would drop them early.
fn start_engine(lab: &Lab, ports: &[&str]) -> Result<Server> {
    lab.pair.set_kernel_owns_address(false)?;
    let router = lab.pair.shape.family.client().to_string();
    let args = [ports, &["--gateway", &router, "--metrics", METRICS]].concat();
    Server::start("barewire", &lab.pair.server, &lab.programs.engine("rings", &args), (lab.affinity, Readiness::Line))
}

/// The path from the generator to a port of the engine.
fn path(lab: &Lab, port: u16) -> Result<(Interface, Path)> {
    let client = Interface::find(INTERFACE)?;
    let family = lab.pair.shape.family;
    let path = Path {
        source_mac: client.mac,
        target_mac: Interface::mac_in(&lab.pair.server, INTERFACE)?,
        vlan: None,
        source: (family.client(), SOURCE_PORT).into(),
        target: (family.server(), port).into(),
    };
    Ok((client, path))
}

/// The engine's counters, from inside its namespace.
///
/// # Errors
/// The page cannot be read.
fn metrics(namespace: &str) -> Result<Counters> {
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            netns::enter(namespace)?;
            losses::of_metrics(METRICS)
        });
        reader.join().map_err(|_| Error::run("the reader of the metrics panicked"))?
    })
}

/// Frames that the driver at the server's end has given to the XDP program, whatever became of them.
fn arrived(lab: &Lab) -> u64 {
    let counters = losses::of_interface(&["ip", "netns", "exec", &lab.pair.server], INTERFACE);
    counters.iter().filter(|(name, _)| name.ends_with("_xdp_packets")).map(|(_, value)| value).sum()
}

/// A number of frames, as a figure.
fn frames(count: u64) -> Figure {
    Figure::higher(Some(count as f64), "", false)
}

/// The sum of a family of counters, over all its labels, of those whose name contains `label`.
fn sum(counters: &Counters, family: &str, label: &str) -> u64 {
    let family = format!("barewire_{family}");
    counters.iter().filter(|(name, _)| name.starts_with(&family) && name.contains(label)).map(|(_, value)| value).sum()
}

/// Runs `work`, and says the highest value of a gauge that was seen meanwhile.
fn watching<T>(namespace: &str, gauge: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (done, highest) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            if netns::enter(namespace).is_err() {
                return;
            }
            while !done.load(Ordering::Relaxed) {
                // A page that could not be read is read again.
                if let Ok(counters) = losses::of_metrics(METRICS) {
                    highest.fetch_max(sum(&counters, gauge, ""), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
    .map(|result| (result, highest.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_all_phases_and_begins_with_another() {
        let rounds: Vec<Vec<Phase>> = (0..3).map(|round| Phase::of_round(round).collect()).collect();
        for (at, phases) in rounds.iter().enumerate() {
            assert_eq!(phases[0], Phase::ALL[at]);
            assert!(Phase::ALL.iter().all(|phase| phases.contains(phase)));
        }
    }

    #[test]
    fn every_phase_has_its_own_trials_and_what_all_have_in_common() {
        let mut phases = Phases::new();
        let around = Round { ready: Some("ready".into()), ..Round::default() };
        phases.enter(BTreeMap::from([(Phase::Attack, Round::default())]), &around);
        for contender in &phases.0 {
            assert_eq!((contender.rounds.len(), contender.rounds[0].ready.as_deref()), (1, Some("ready")));
        }
        let baselines: Vec<&str> = phases.0.iter().filter(|one| one.baseline).map(|one| one.name.as_str()).collect();
        assert_eq!(baselines, ["calm"]);
    }
}
