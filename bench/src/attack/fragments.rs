//! Random fragments against a UDP echo: what is left of its goodput, and how many chunks are held.
//!
//! Requests and attacker's frames come from one program (bpf/generate.bpf.c), each by due times of its own, so the flood
//! takes nothing from the requests that the generator's core has to give, as long as it keeps both rates.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{FloodArgs, Phase, metrics, path, start_engine, sum, watching};
use crate::compare::Lab;
use crate::compare::columns::{number, print_columns, print_origin};
use crate::compare::stats::{self, Spread};
use crate::compare::udp::search::{self, Point};
use crate::compare::watch::{Around, Watch};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::udp::live_frames::LiveFrames;
use crate::udp::receiver::Hook;
use crate::udp::trial::{Attack, AttackKind, Offer, Outcome};
use crate::{options, signals};

/// Offered load, by what the engine answers without loss in calm.
const LOADS: [f64; 2] = [0.5, 1.0];
/// Bytes of a request.
const FRAME_LEN: usize = 64;
/// Length of a trial of the search, and where that begins.
const TRIAL: Duration = Duration::from_millis(300);
const START_PPS: f64 = 400_000.0;
/// What is held at most, in the engine as it is configured.
const MOST_CHUNKS: u64 = 512;

/// One phase at one load.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    load: f64,
    phase: Phase,
    offered_pps: f64,
    goodput_pps: f64,
    loss_ratio: f64,
    flood_pps: f64,
    /// Requests or flood came at less than nine tenths of their rates.
    generator_limited: bool,
    highest_fragment_chunks: u64,
    /// Fragments that the engine dropped, by whatever reason.
    fragments_dropped: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    machine: &'a Machine,
    flood_pps: f64,
    phase_seconds: f64,
    loss_free_pps: f64,
    rounds: &'a [Vec<Measured>],
    around: &'a [Around],
    /// Goodput over that in calm, by load and phase.
    goodput_over_calm: BTreeMap<String, Option<Spread>>,
}

pub(super) fn run(args: &FloodArgs, lab: &Lab) -> Result<()> {
    let server = start_engine(lab, &["--udp-port", "7"])?;
    let (client, path) = path(lab, 7)?;
    let mut sender = LiveFrames::open(&client, path, Hook::Tc)?;
    let offer =
        |rate, duration| Offer { rate_pps: Some(rate), duration, frame_len: FRAME_LEN, batch: 64, attack: None };
    sender.run(&offer(START_PPS, TRIAL))?;
    let found = search::search(START_PPS, |rate| {
        signals::check()?;
        sender.run(&offer(rate, TRIAL)).map(|outcome| point(&outcome))
    })?;
    let loss_free_pps = found.loss_free_pps.ok_or_else(|| Error::run("the engine answers no rate without loss"))?;

    let duration = Duration::from_secs_f64(args.seconds);
    let mut progress = Progress::new(u64::from(args.rounds) * LOADS.len() as u64 * 3);
    let (mut rounds, mut around) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let watch = Watch::begin(&lab.pair, &server);
        let mut measured = Vec::new();
        for (load, phase) in LOADS.into_iter().flat_map(|load| Phase::of_round(round).map(move |phase| (load, phase))) {
            progress.start(&format!("round {}/{}  {} at {load}", round + 1, args.rounds, phase.name()));
            let attack = phase.frames(AttackKind::Fragments).map(|kind| Attack { kind, rate_pps: Some(args.rate) });
            let offer = Offer { attack, ..offer(load * loss_free_pps, duration) };
            let dropped = || metrics(&lab.pair.server).map(|counters| sum(&counters, "drops", "reason=\"fragment"));
            let before = dropped()?;
            let (outcome, highest) = watching(&lab.pair.server, "fragment_chunks", || sender.run(&offer))?;
            signals::check()?;
            let one = Measured::of(load, phase, args.rate, &outcome, highest, dropped()? - before);
            progress.done(&format!(
                "{:.3} of {:.3} Mpps, flood {:.0} k/s, {highest} chunks held",
                one.goodput_pps / 1e6,
                one.offered_pps / 1e6,
                one.flood_pps / 1e3
            ));
            measured.push(one);
        }
        rounds.push(measured);
        around.push(watch.end(&lab.pair, &server));
    }
    progress.finish();
    let ready = server.ready.clone();
    server.stop()?;
    print(args, lab, loss_free_pps, &rounds, &around, &ready);
    let cells = LOADS.into_iter().flat_map(|load| Phase::ALL.map(|phase| (load, phase)));
    options::write(
        args.json.as_deref(),
        &Report {
            schema: "barewire-bench-attack-fragments/1",
            machine: &lab.machine,
            flood_pps: args.rate,
            phase_seconds: args.seconds,
            loss_free_pps,
            rounds: &rounds,
            around: &around,
            goodput_over_calm: cells
                .map(|(load, phase)| (format!("{} at {load}", phase.name()), over_calm(&rounds, load, phase)))
                .collect(),
        },
    )
}

impl Measured {
    fn of(load: f64, phase: Phase, flood_pps: f64, outcome: &Outcome, highest: u64, dropped: u64) -> Self {
        let flooded_pps = if outcome.seconds > 0.0 { outcome.attacked as f64 / outcome.seconds } else { 0.0 };
        let behind = phase != Phase::Calm && flooded_pps < 0.9 * flood_pps;
        Self {
            load,
            phase,
            offered_pps: outcome.sent_pps(),
            goodput_pps: outcome.goodput_pps,
            loss_ratio: outcome.loss_ratio(),
            flood_pps: flooded_pps,
            generator_limited: outcome.generator_limited() || behind,
            highest_fragment_chunks: highest,
            fragments_dropped: dropped,
        }
    }
}

fn point(outcome: &Outcome) -> Point {
    Point {
        offered_pps: outcome.sent_pps(),
        goodput_pps: outcome.goodput_pps,
        loss_ratio: outcome.loss_ratio(),
        generator_limited: outcome.generator_limited(),
    }
}

/// What one figure was in each round.
fn series(rounds: &[Vec<Measured>], load: f64, phase: Phase, of: fn(&Measured) -> f64) -> Vec<Option<f64>> {
    let found = |round: &Vec<Measured>| round.iter().find(|one| one.load == load && one.phase == phase).map(of);
    rounds.iter().map(found).collect()
}

fn over_calm(rounds: &[Vec<Measured>], load: f64, phase: Phase) -> Option<Spread> {
    let goodput = |phase| series(rounds, load, phase, |one| one.goodput_pps);
    stats::ratio(&goodput(phase), &goodput(Phase::Calm))
}

fn print(args: &FloodArgs, lab: &Lab, loss_free_pps: f64, rounds: &[Vec<Measured>], around: &[Around], ready: &str) {
    println!(
        "Random fragments at {:.0} k/s against a UDP echo of {FRAME_LEN} B frames: median of {} rounds of {} s (range)\n",
        args.rate / 1e3,
        rounds.len(),
        args.seconds
    );
    let head = ["load", "phase", "goodput Mpps", "of calm", "flood k/s", "chunks held", "fragments dropped k/s", ""];
    let cells = LOADS.into_iter().flat_map(|load| Phase::ALL.map(|phase| (load, phase)));
    let rows = cells.map(|(load, phase)| {
        let spread = |of| stats::spread(series(rounds, load, phase, of));
        let limited =
            rounds.iter().flatten().any(|one| one.load == load && one.phase == phase && one.generator_limited);
        let dropped = spread(|one| one.fragments_dropped as f64 / 1e3).map(|spread| spread.median / args.seconds);
        [
            format!("{load}"),
            phase.name().to_owned(),
            number(spread(|one| one.goodput_pps / 1e6), 3),
            number(over_calm(rounds, load, phase), 3),
            number(spread(|one| one.flood_pps / 1e3), 0),
            number(spread(|one| one.highest_fragment_chunks as f64), 0),
            dropped.map_or("-".into(), |dropped| format!("{dropped:.0}")),
            if limited { "GENERATOR-LIMITED".into() } else { String::new() },
        ]
    });
    print_columns(head, rows.collect());
    let held = rounds.iter().flatten().map(|one| one.highest_fragment_chunks).max().unwrap_or(0);
    println!("\nload 1 is {:.3} Mpps: what the engine answered without loss in calm.", loss_free_pps / 1e6);
    println!("chunks held at most: {held} of {MOST_CHUNKS} that reassembly may hold");
    crate::compare::columns::print_disturbed(around.iter().filter(|around| around.disturbed()).count());
    println!("    {ready}");
    print_origin(&lab.pair.shape.to_string(), &lab.machine);
}
