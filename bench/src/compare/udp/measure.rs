//! One server in one round: started, warmed up, searched, overloaded, timed, stopped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::search::{self, Found, Point};
use super::servers::Kind;
use crate::compare::rounds::Shown;
use crate::compare::watch::{Around, Watch};
use crate::compare::{Contestant, Lab};
use crate::error::{Error, Result};
use crate::histogram::LatencySummary;
use crate::interface::Interface;
use crate::netns::INTERFACE;
use crate::signals;
use crate::udp::SOURCE_PORT;
use crate::udp::frame::{self, Path};
use crate::udp::generator::Generator;
use crate::udp::trial::{Offer, Outcome};

/// Where latency is measured: well under every server's capacity, so that it is the path and not the queue.
pub(super) const fn latency_pps(frame_len: usize) -> f64 {
    if frame_len > frame::MAX_LIVE_LEN { 20_000.0 } else { 100_000.0 }
}

/// First rate of the first search, below every server's capacity, by the rate of latency.
const START: f64 = 2.0;
/// The next round's search begins at this part of what was loss-free, which is nearly always loss-free again.
const RESTART: f64 = 0.85;

/// What a server showed in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// What it said when it was ready.
    pub ready: String,
    pub found: Found,
    /// Twice the peak offered; `None` where the generator could not.
    pub overload: Option<Point>,
    /// At the rate of [`latency_pps`], handed over one by one; `None` where the generator could not.
    pub latency: Option<LatencySummary>,
    #[serde(flatten)]
    pub around: Around,
}

/// What is measured with.
pub(crate) struct Bench<'lab> {
    lab: &'lab Lab,
    client: Interface,
    path: Path,
    frame_len: usize,
    trial: Duration,
    /// Where the last search of each server ended.
    known_pps: HashMap<Kind, f64>,
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
    pub(crate) fn measure(&mut self, kind: Kind) -> Result<Measured> {
        let server = self.lab.start(kind)?;
        let path = Path { vlan: kind.vlan(), ..self.path };
        let mut sender = Generator::open(&self.client, path, kind.hook(), self.frame_len)?;
        let watch = Watch::begin(&self.lab.pair, &server);

        self.warm_up(kind, &mut sender)?;
        let start_pps = self.known_pps.get(&kind).map_or(START * latency_pps(self.frame_len), |known| known * RESTART);
        let found = search::search(start_pps, |rate| self.offer(&mut sender, rate, 64).map(|outcome| point(&outcome)))?;
        if let Some(loss_free) = found.loss_free_pps {
            self.known_pps.insert(kind, loss_free);
        }
        let overload = match found.peak_pps {
            Some(peak) if peak > 0.0 => Some(point(&self.offer(&mut sender, 2.0 * peak, 64)?)),
            _ => None,
        };
        let latency = self.latency(&mut sender)?;

        let around = watch.end(&self.lab.pair, &server);
        drop(sender);
        let ready = server.ready.clone();
        server.stop()?;
        Ok(Measured { ready, found, overload: overload.filter(|point| !point.generator_limited), latency, around })
    }

    /// Fills caches and neighbor tables, and makes sure that there is an answer at all.
    fn warm_up(&self, kind: Kind, sender: &mut Generator) -> Result<()> {
        for _ in 0..5 {
            let outcome = self.offer(sender, latency_pps(self.frame_len), 64)?;
            if outcome.received * 2 > outcome.sent {
                return Ok(());
            }
        }
        Err(Error::run(format!(
            "the server `{}` answers less than half of {rate} frames a second: try it alone with `udp`",
            kind.name(),
            rate = latency_pps(self.frame_len),
        )))
    }

    fn offer(&self, sender: &mut Generator, rate_pps: f64, batch: u32) -> Result<Outcome> {
        let (duration, frame_len) = (self.trial, self.frame_len);
        sender.introduce()?;
        let outcome = sender.run(&Offer { rate_pps: Some(rate_pps), duration, frame_len, batch, attack: None })?;
        signals::check()?;
        Ok(outcome)
    }

    fn latency(&self, sender: &mut Generator) -> Result<Option<LatencySummary>> {
        let (duration, frame_len) = (2 * self.trial, self.frame_len);
        sender.introduce()?;
        let outcome = sender.run(&Offer {
            rate_pps: Some(latency_pps(frame_len)),
            duration,
            frame_len,
            batch: 1,
            attack: None,
        })?;
        signals::check()?;
        let usable = !outcome.late() && outcome.received > 0;
        Ok(usable.then(|| outcome.latency.summary()))
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

impl Measured {
    pub(crate) fn peak_pps(&self) -> Option<f64> {
        self.found.peak_pps
    }

    pub(crate) fn loss_free_pps(&self) -> Option<f64> {
        self.found.loss_free_pps
    }

    /// Goodput at twice the peak, as part of the peak.
    pub(crate) fn overload_ratio(&self) -> Option<f64> {
        Some(self.overload?.goodput_pps / self.found.peak_pps?)
    }

    pub(crate) fn latency_us(&self, quantile: fn(&LatencySummary) -> u64) -> Option<f64> {
        self.latency.as_ref().map(|latency| quantile(latency) as f64 / 1000.0)
    }
}

impl Shown for Measured {
    fn brief(&self) -> String {
        let mpps = |rate: Option<f64>| rate.map_or("-".into(), |rate| format!("{:.3}", rate / 1e6));
        let p50 = self.latency_us(|l| l.p50_ns).map_or("-".into(), |us| format!("{us:.2}"));
        let (peak, loss_free) = (mpps(self.peak_pps()), mpps(self.loss_free_pps()));
        format!("peak {peak} Mpps, loss-free {loss_free} Mpps, p50 {p50} us{}", self.around.brief())
    }
}
