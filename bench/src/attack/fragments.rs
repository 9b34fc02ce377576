//! Random fragments against a UDP echo: what is left of its goodput, and how many chunks are held.
//!
//! Requests and attacker's frames come from one program (bpf/generate.bpf.c), each by due times of its own, so the flood
//! takes nothing from the requests that the generator's core has to give, as long as it keeps both rates.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{FloodArgs, Phase, Phases, Told, arrived, frames, metrics, path, start_engine, sum, watching};
use crate::compare::Lab;
use crate::compare::rounds::brief;
use crate::compare::table::Part;
use crate::compare::watch::Watch;
use crate::error::{Error, Result};
use crate::process::Server;
use crate::progress::Progress;
use crate::result::figures::{Figure, Figures};
use crate::result::{BackEnd, Round, Timestamps};
use crate::search::{self, Point};
use crate::signals;
use crate::udp::live_frames::LiveFrames;
use crate::udp::receiver::Hook;
use crate::udp::sizes::Sizes;
use crate::udp::trial::{Attack, AttackKind, Offer, Outcome};

/// Offered load, by what the engine answers without loss in calm.
const LOADS: [f64; 2] = [0.5, 1.0];
/// Bytes of a request.
const FRAME_LEN: usize = 64;
/// Length of a trial of the search, and where that begins.
const TRIAL: Duration = Duration::from_millis(300);
const START_PPS: f64 = 400_000.0;
/// What is held at most, in the engine as it is configured.
const MOST_CHUNKS: u64 = 512;

/// Measures the phases.
struct Bench<'lab> {
    args: &'lab FloodArgs,
    lab: &'lab Lab,
    server: Server,
    sender: LiveFrames,
    loss_free_pps: f64,
}

pub(super) fn run(args: &FloodArgs, lab: &Lab) -> Result<()> {
    let mut bench = Bench::open(args, lab)?;
    let mut phases = Phases::new();
    let mut ended = phases.measure(args.rounds, LOADS.len(), |round, progress| bench.round(round, progress));
    let loss_free_pps = bench.loss_free_pps;
    if ended.is_ok() {
        ended = bench.server.stop();
    }
    let title = format!(
        "Random fragments at {:.0} k/s against a UDP echo of {FRAME_LEN} B frames: median of {} rounds of {} s (range)",
        args.rate / 1e3,
        args.rounds,
        args.seconds
    );
    let of_loads = |name: &str| LOADS.map(|load| format!("{name}-{load}"));
    let figures = [&of_loads("goodput")[..], &of_loads("flood"), &["chunks".into(), "dropped".into()]].concat();
    let told = Told {
        workload: "attack fragments",
        parts: vec![Part { title, figures }],
        notes: vec![
            format!("load 1 is {:.3} Mpps: what the engine answered without loss in calm.", loss_free_pps / 1e6),
            format!("chunks: most that reassembly held at a time, of {MOST_CHUNKS} that it may hold."),
            "dropped: fragments that the engine dropped, by whatever reason.".into(),
        ],
    };
    phases.tell(lab, args, told, ended)
}

impl<'lab> Bench<'lab> {
    /// Starts the engine and finds what it answers without loss in calm.
    fn open(args: &'lab FloodArgs, lab: &'lab Lab) -> Result<Self> {
        let server = start_engine(lab, &["--udp-port", "7"])?;
        let (client, path) = path(lab, 7)?;
        let mut sender = LiveFrames::open(&client, path, Hook::Tc)?;
        sender.run(&offer(START_PPS, TRIAL))?;
        let found = search::search(START_PPS, |rate| {
            signals::check()?;
            sender.run(&offer(rate, TRIAL)).map(|outcome| Point::of(&outcome))
        })?;
        let loss_free_pps = found.loss_free_pps.ok_or_else(|| Error::run("the engine answers no rate without loss"))?;
        Ok(Self { args, lab, server, sender, loss_free_pps })
    }

    /// All phases at all loads, and what went on around them.
    fn round(&mut self, round: u32, progress: &mut Progress) -> Result<(BTreeMap<Phase, Round>, Round)> {
        let watch = Watch::begin(&self.lab.pair, &self.server);
        let mut of_phase: BTreeMap<Phase, Round> = BTreeMap::new();
        for (load, phase) in LOADS.into_iter().flat_map(|load| Phase::of_round(round).map(move |phase| (load, phase))) {
            progress.start(&format!("round {}/{}  {} at {load}", round + 1, self.args.rounds, phase.name()));
            let measured = self.measure(load, phase)?;
            signals::check()?;
            progress.done(&brief(&measured));
            let entry = of_phase.entry(phase).or_default();
            entry.trials.extend(measured.trials);
            for (name, figure) in measured.figures {
                // Of what both loads have in common, the worse is told.
                let worse = entry.figures.get(&name).is_none_or(|other| other.value < figure.value);
                if worse {
                    entry.figures.insert(name, figure);
                }
            }
        }
        let mut around = Round::default();
        watch.end(&self.lab.pair, &self.server, &mut around);
        Ok((of_phase, around))
    }

    /// One phase at one load.
    fn measure(&mut self, load: f64, phase: Phase) -> Result<Round> {
        let Self { args, lab, .. } = *self;
        let attack = phase.frames(AttackKind::Fragments).map(|kind| Attack { kind, rate_pps: Some(args.rate) });
        let duration = Duration::from_secs_f64(args.seconds);
        let offer = Offer { attack, ..offer(load * self.loss_free_pps, duration) };
        let dropped = || metrics(&lab.pair.server).map(|counters| sum(&counters, "drops", "reason=\"fragment"));
        let (before, arrived_before) = (dropped()?, arrived(lab));
        let (outcome, chunks) = watching(&lab.pair.server, "fragment_chunks", || self.sender.run(&offer))?;
        let dropped_ks = (dropped()? - before) as f64 / args.seconds / 1e3;
        let mut figures = figures(load, &outcome, (attack, chunks, dropped_ks));
        figures.insert(format!("frames-sent-{load}"), frames(outcome.sent + outcome.attacked));
        figures.insert(format!("frames-arrived-{load}"), frames(arrived(lab) - arrived_before));
        let measure = format!("{}-{load}", phase.name());
        let trial = outcome.trial(&measure, (BackEnd::LiveFrames, Timestamps::Interface), &offer);
        Ok(Round { figures, trials: vec![trial], ..Round::default() })
    }
}

fn offer(rate_pps: f64, duration: Duration) -> Offer {
    Offer::constant(rate_pps, duration, Sizes::one(FRAME_LEN))
}

/// Limited where requests or flood came at less than nine tenths of their rates.
fn figures(load: f64, outcome: &Outcome, (attack, chunks, dropped_ks): (Option<Attack>, u64, f64)) -> Figures {
    let flood_pps = if outcome.seconds > 0.0 { outcome.attacked as f64 / outcome.seconds } else { 0.0 };
    let asked_pps = attack.and_then(|attack| attack.rate_pps).unwrap_or(0.0);
    let limited = outcome.generator_limited() || flood_pps < 0.9 * asked_pps;
    Figures::from([
        (format!("goodput-{load}"), Figure::higher(Some(outcome.goodput_pps() / 1e6), "Mpps", limited)),
        (format!("flood-{load}"), Figure::higher(Some(flood_pps / 1e3), "k/s", limited)),
        ("chunks".into(), Figure::lower(Some(chunks as f64), "", false)),
        ("dropped".into(), Figure::lower(Some(dropped_ks), "k/s", false)),
    ])
}
