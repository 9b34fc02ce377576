//! A SYN flood from random sources: what an established connection keeps of its goodput, and whether new ones come about.
//!
//! The clients are kernel sockets on the generator's core. What goes into the engine costs that core most of its time,
//! what comes out of it little: so both directions are told, and beside each how much of its core the client took.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::attempts::{Attempts, Tally};
use super::flood::Flood;
use super::{FloodArgs, Phase, metrics, path, start_engine, sum};
use crate::compare::Lab;
use crate::compare::columns::{number, print_columns, print_disturbed, print_origin};
use crate::compare::stats::{self, Spread};
use crate::compare::watch::{Around, Watch};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::machine::Machine;
use crate::process::own_ran_ns;
use crate::progress::Progress;
use crate::tcp::stream::{Direction, Streams};
use crate::tcp::trial::{Outcome, Plan};
use crate::udp::frame::Path;
use crate::udp::trial::AttackKind;
use crate::{options, signals};

const ECHO: u16 = 7;
/// Which way the established connection's bytes go, and the port for that.
const STREAMS: [(Direction, u16); 2] = [(Direction::Send, 9), (Direction::Receive, 19)];
/// Bytes that a stream reads or writes at a time.
const CHUNK: usize = 128 * 1024;
const WARMUP: Duration = Duration::from_millis(300);

/// One phase with one direction.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    direction: Direction,
    phase: Phase,
    goodput_gbps: f64,
    /// Part of its core that the client's thread of this stream had.
    client_busy: f64,
    flood_pps: f64,
    connects: Tally,
    /// Connection requests that the engine took in, and frames that it dropped.
    engine_received: u64,
    engine_ring_full: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    machine: &'a Machine,
    flood_pps: f64,
    phase_seconds: f64,
    rounds: &'a [Vec<Measured>],
    around: &'a [Around],
    /// Goodput over that in calm, by direction and phase.
    goodput_over_calm: BTreeMap<String, Option<Spread>>,
    connects_under_attack: u64,
    connects_succeeded_under_attack: u64,
}

pub(super) fn run(args: &FloodArgs, lab: &Lab) -> Result<()> {
    lab.pair.prepare_for_tcp()?;
    let ports = ["--tcp-port", "7", "--discard-port", "9", "--chargen-port", "19"];
    let server = start_engine(lab, &ports)?;
    let (client, path) = path(lab, ECHO)?;
    let mut progress = Progress::new(u64::from(args.rounds) * STREAMS.len() as u64 * 3);
    let (mut rounds, mut around) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let watch = Watch::begin(&lab.pair, &server);
        let mut measured = Vec::new();
        for (direction, port) in STREAMS {
            // Established before anything happens to it.
            let mut stream = Streams::open(SocketAddr::new(path.target.ip(), port), direction, 1, CHUNK)?.patient();
            for phase in Phase::of_round(round) {
                progress.start(&format!("round {}/{}  {} {}", round + 1, args.rounds, phase.name(), name(direction)));
                let one = measure(args, lab, &client, path, &mut stream, (direction, phase))?;
                signals::check()?;
                progress.done(&one.brief());
                measured.push(one);
            }
        }
        rounds.push(measured);
        around.push(watch.end(&lab.pair, &server));
    }
    progress.finish();
    let ready = server.ready.clone();
    server.stop()?;
    print(args, lab, &rounds, &around, &ready);
    let (made, succeeded) = connects(&rounds, Phase::Attack);
    let cells = STREAMS.into_iter().flat_map(|(direction, _)| Phase::ALL.map(|phase| (direction, phase)));
    options::write(
        args.json.as_deref(),
        &Report {
            schema: "barewire-bench-attack-syn/1",
            machine: &lab.machine,
            flood_pps: args.rate,
            phase_seconds: args.seconds,
            rounds: &rounds,
            around: &around,
            goodput_over_calm: cells
                .map(|(direction, phase)| {
                    (format!("{} {}", phase.name(), name(direction)), over_calm(&rounds, direction, phase))
                })
                .collect(),
            connects_under_attack: made,
            connects_succeeded_under_attack: succeeded,
        },
    )
}

/// The stream and the attempts for a phase; the flood lasts until the last attempt has ended.
fn measure(
    args: &FloodArgs,
    lab: &Lab,
    client: &Interface,
    path: Path,
    stream: &mut Streams,
    (direction, phase): (Direction, Phase),
) -> Result<Measured> {
    let before = metrics(&lab.pair.server)?;
    let flood = phase.frames(AttackKind::Syn).map(|kind| Flood::start(kind, args.rate, client.index, path));
    let attempts = Attempts::default();
    let plan = Plan::closed(WARMUP, Duration::from_secs_f64(args.seconds));
    let mut client_busy = 0.0;
    let outcome: Result<Outcome> = thread::scope(|scope| {
        attempts.start(scope, path.target);
        let (began, ran_ns) = (Instant::now(), own_ran_ns());
        let outcome = stream.run(plan);
        client_busy = (own_ran_ns() - ran_ns) as f64 / began.elapsed().as_nanos() as f64;
        attempts.end();
        outcome
    });
    let flood_pps = flood.map_or(Ok(0.0), Flood::stop)?;
    let outcome = outcome.map_err(|error| Error::run(format!("the established connection: {error}")))?;
    let after = metrics(&lab.pair.server)?;
    let grown = |family: &str| sum(&after, family, "").saturating_sub(sum(&before, family, ""));
    Ok(Measured {
        direction,
        phase,
        goodput_gbps: outcome.goodput_gbps(),
        client_busy,
        flood_pps,
        connects: attempts.tally(),
        engine_received: grown("received_total"),
        engine_ring_full: grown("xdp_rx_ring_full"),
    })
}

impl Measured {
    fn brief(&self) -> String {
        let Tally { made, succeeded, median_ms, .. } = self.connects;
        format!(
            "{:.2} Gb/s, client busy {:.0} %, flood {:.0} k/s, {succeeded} of {made} connects, median {median_ms:.1} ms",
            self.goodput_gbps,
            100.0 * self.client_busy,
            self.flood_pps / 1e3
        )
    }
}

const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Send => "send",
        Direction::Receive => "receive",
    }
}

/// What one figure was in each round.
fn series(rounds: &[Vec<Measured>], direction: Direction, phase: Phase, of: fn(&Measured) -> f64) -> Vec<Option<f64>> {
    let is = |one: &&Measured| one.direction == direction && one.phase == phase;
    rounds.iter().map(|round| round.iter().find(is).map(of)).collect()
}

fn over_calm(rounds: &[Vec<Measured>], direction: Direction, phase: Phase) -> Option<Spread> {
    let goodput = |phase| series(rounds, direction, phase, |one| one.goodput_gbps);
    stats::ratio(&goodput(phase), &goodput(Phase::Calm))
}

/// Attempts in a phase, all rounds told, and how many succeeded.
fn connects(rounds: &[Vec<Measured>], phase: Phase) -> (u64, u64) {
    let of_phase = || rounds.iter().flatten().filter(|one| one.phase == phase);
    (of_phase().map(|one| one.connects.made).sum(), of_phase().map(|one| one.connects.succeeded).sum())
}

fn print(args: &FloodArgs, lab: &Lab, rounds: &[Vec<Measured>], around: &[Around], ready: &str) {
    println!(
        "SYNs from random sources at {:.0} k/s beside one connection: median of {} rounds of {} s (range)\n",
        args.rate / 1e3,
        rounds.len(),
        args.seconds
    );
    let head = ["stream", "phase", "Gb/s", "of calm", "client busy %", "flood k/s", "connect median ms"];
    let cells = STREAMS.into_iter().flat_map(|(direction, _)| Phase::ALL.map(|phase| (direction, phase)));
    let rows = cells.map(|(direction, phase)| {
        let spread = |of| stats::spread(series(rounds, direction, phase, of));
        [
            name(direction).to_owned(),
            phase.name().to_owned(),
            number(spread(|one| one.goodput_gbps), 2),
            number(over_calm(rounds, direction, phase), 3),
            number(spread(|one| 100.0 * one.client_busy), 1),
            number(spread(|one| one.flood_pps / 1e3), 0),
            number(spread(|one| one.connects.median_ms), 1),
        ]
    });
    print_columns(head, rows.collect());
    println!();
    for phase in Phase::ALL {
        let (made, succeeded) = connects(rounds, phase);
        let percent = 100.0 * succeeded as f64 / made.max(1) as f64;
        println!("{}: {succeeded} of {made} new connections succeeded ({percent:.2} %)", phase.name());
    }
    print_disturbed(around.iter().filter(|around| around.disturbed()).count());
    println!("    {ready}");
    print_origin(&lab.pair.shape.to_string(), &lab.machine);
}
