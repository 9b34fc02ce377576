//! One server in one round: started, warmed up, searched, overloaded, timed, stopped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::compare::Lab;
use crate::compare::contestant::Contestant;
use crate::compare::watch::Watch;
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::netns::INTERFACE;
use crate::process::Server;
use crate::result::figures::{Figure, Figures};
use crate::result::{Round, Trial};
use crate::search::{self, Found, Point};
use crate::signals;
use crate::udp::SOURCE_PORT;
use crate::udp::frame::{self, Path};
use crate::udp::generator::Generator;
use crate::udp::sizes::Sizes;
use crate::udp::trial::{Offer, Outcome};

/// Where latency is measured: well under every server's capacity, so that it is the path and not the queue.
pub(crate) const fn latency_pps(frame_len: usize) -> f64 {
    if frame_len > frame::MAX_LIVE_LEN { 20_000.0 } else { 100_000.0 }
}

/// First rate of the first search, below every server's capacity, by the rate of latency.
pub(crate) const START: f64 = 2.0;
/// The next round's search begins at this part of what was loss-free, which is nearly always loss-free again.
const RESTART: f64 = 0.85;

/// How long an answer is waited for, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often latency is measured anew at most where the generator was late: only for its own lateness, whatever the
/// server showed.
const ANEW: usize = 4;
/// What a trial is called whose generator was late, and which is told for that alone.
pub(super) const LATE: &str = "latency-late";

/// What is measured with.
pub(crate) struct Bench<'lab> {
    lab: &'lab Lab,
    client: Interface,
    path: Path,
    frame_len: usize,
    trial: Duration,
    /// Where the last search of each server ended.
    known_pps: HashMap<String, f64>,
}

/// A server that is being measured.
struct Session<'lab> {
    lab: &'lab Lab,
    server: Server,
    watch: Watch,
    sender: Generator,
    frame_len: usize,
    duration: Duration,
    trials: Vec<Trial>,
}

impl<'lab> Bench<'lab> {
    /// For the thread that opened the lab.
    ///
    /// # Errors
    /// The veth is not there.
    pub(crate) fn new(lab: &'lab Lab, frame_len: usize, trial: Duration) -> Result<Self> {
        let (client, shape) = (Interface::find(INTERFACE)?, lab.pair.shape);
        let path = Path {
            source_mac: client.mac,
            target_mac: Interface::mac_in(&lab.pair.server, INTERFACE)?,
            vlan: None,
            source: SocketAddr::new(shape.family.client(), SOURCE_PORT),
            target: SocketAddr::new(shape.family.server(), 7),
        };
        if frame_len > frame::MAX_LIVE_LEN {
            lab.pair.with_checksums()?;
        }
        let known_pps = HashMap::new();
        Ok(Self { lab, client, path, frame_len, trial, known_pps })
    }

    /// Measures one server.
    ///
    /// # Errors
    /// It does not start, does not answer, or does not end well; or an interruption.
    pub(crate) fn measure(&mut self, contestant: &Contestant) -> Result<Round> {
        let server = self.lab.start(contestant)?;
        let path = Path { vlan: contestant.vlan, ..self.path };
        let sender = Generator::open(&self.client, path, contestant.hook, self.frame_len)?;
        let watch = Watch::begin(&self.lab.pair, &server);
        let (lab, frame_len, duration) = (self.lab, self.frame_len, self.trial);
        let mut session = Session { lab, server, watch, sender, frame_len, duration, trials: Vec::new() };

        session.warm_up(&contestant.name)?;
        let known_pps = self.known_pps.get(&contestant.name).map(|known| known * RESTART);
        let start_pps = known_pps.unwrap_or(START * latency_pps(self.frame_len));
        let found = search::search(start_pps, |rate| session.offer("search", rate, 64).map(|o| Point::of(&o)))?;
        if let Some(loss_free) = found.loss_free_pps {
            self.known_pps.insert(contestant.name.clone(), loss_free);
        }
        let overload = match found.peak_pps {
            Some(peak) if peak > 0.0 => Some(session.offer("overload", 2.0 * peak, 64)?),
            _ => None,
        };
        session.duration = 2 * self.trial;
        let latency = session.latency(latency_pps(self.frame_len))?;

        let Session { server, watch, sender, trials, .. } = session;
        let figures = placed(figures(&found, overload.as_ref(), &latency), &trials);
        let mut round = Round { figures, trials, ..Round::default() };
        watch.end(&self.lab.pair, &server, &mut round);
        drop(sender);
        server.stop()?;
        Ok(round)
    }
}

impl Session<'_> {
    /// Fills caches and neighbor tables, and makes sure that there is an answer at all: how many is for the search.
    fn warm_up(&mut self, name: &str) -> Result<()> {
        let (rate, began, mut answered) = (latency_pps(self.frame_len), Instant::now(), 0);
        for trials in 1.. {
            let outcome = self.send(&self.constant(rate, 64))?;
            answered += outcome.received;
            if outcome.received * 2 > outcome.sent || answered > 0 && trials >= 5 {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        Err(Error::run(format!("the server `{name}` answers none of {rate} frames a second: try it alone with `udp`")))
    }

    /// A trial of latency in which the generator was punctual; if none of a few is, the last of them.
    fn latency(&mut self, rate_pps: f64) -> Result<Outcome> {
        for _ in 0..ANEW {
            let outcome = self.offer("latency", rate_pps, 1)?;
            if !outcome.late() {
                return Ok(outcome);
            }
            if let Some(trial) = self.trials.last_mut() {
                trial.measure = LATE.into();
            }
        }
        self.offer("latency", rate_pps, 1)
    }

    /// One trial, which is kept.
    fn offer(&mut self, measure: &str, rate_pps: f64, batch: u32) -> Result<Outcome> {
        let offer = self.constant(rate_pps, batch);
        let (outcome, placement) = self.lab.cores.borrow_mut().near(|| self.send(&offer))?;
        self.trials.push(Trial { placement, ..outcome.trial(measure, self.sender.back_end(), &offer) });
        Ok(outcome)
    }

    /// Datagrams at one rate.
    fn constant(&self, rate_pps: f64, batch: u32) -> Offer {
        Offer { batch, ..Offer::constant(rate_pps, self.duration, Sizes::one(self.frame_len)) }
    }

    fn send(&mut self, offer: &Offer) -> Result<Outcome> {
        self.sender.introduce()?;
        let outcome = self.watch.during(&self.server, || self.sender.run(offer))?;
        signals::check()?;
        Ok(outcome)
    }
}

/// The figures, each with the longest distance of the cores in all trials that it is from.
fn placed(mut figures: Figures, trials: &[Trial]) -> Figures {
    for (name, figure) in &mut figures {
        let measure = match name.as_str() {
            "peak" | "loss-free" => "search",
            "overload" => "overload",
            _ => "latency",
        };
        let trials = trials.iter().filter(|trial| trial.measure == measure);
        figure.cores_ns = trials.filter_map(|trial| trial.placement.cores_ns).reduce(f64::max);
    }
    figures
}

/// What the trials showed. Goodput at twice the peak and latency are `null` where the generator could not.
fn figures(found: &Found, overload: Option<&Outcome>, latency: &Outcome) -> Figures {
    let mpps = |rate: Option<f64>| rate.map(|rate| rate / 1e6);
    let usable = !latency.generator_limited() && latency.received > 0;
    let summary = latency.latency.summary();
    let us = |ns: u64| Figure::lower(usable.then_some(ns as f64 / 1000.0), "us", latency.late());
    let overload = overload.filter(|outcome| !outcome.generator_limited()).map(|outcome| outcome.goodput_pps());
    Figures::from([
        ("peak".into(), Figure::higher(mpps(found.peak_pps), "Mpps", found.generator_limited)),
        ("loss-free".into(), Figure::higher(mpps(found.loss_free_pps), "Mpps", found.generator_limited)),
        ("overload".into(), Figure::higher(mpps(overload), "Mpps", false)),
        ("p50".into(), us(summary.p50_ns)),
        ("p99".into(), us(summary.p99_ns)),
    ])
}
