//! One TCP server in one round: started, asked, connected to, streamed into and out of, stopped.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::compare::Lab;
use crate::compare::contestant::Contestant;
use crate::compare::watch::Watch;
use crate::error::{Context, Error, Result};
use crate::netns::{self, INTERFACE};
use crate::result::figures::{Figure, Figures};
use crate::result::{BackEnd, Round, Trial, Unit};
use crate::signals;
use crate::tcp::connections::{Connections, Ports};
use crate::tcp::requests::Requests;
use crate::tcp::stream::{Direction, Streams};
use crate::tcp::trial::{Outcome, Plan, Setting};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;

/// Bytes that a stream reads or writes at a time.
const CHUNK: u32 = 128 * 1024;
/// Far more than an ARP request and its answer take.
const ARP_TIME: Duration = Duration::from_millis(20);

/// What is measured of each server, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Requests over so many connections that stay.
    Requests(u32),
    /// Connections for one request each, so many at a time.
    Connections(u32),
    Send,
    Receive,
}

impl Measure {
    pub(super) const ALL: [Self; 7] = [
        Self::Requests(1),
        Self::Requests(64),
        Self::Requests(1000),
        Self::Connections(1),
        // Enough that neither side waits for the other, few enough for a stack that keeps a socket for each.
        Self::Connections(16),
        Self::Send,
        Self::Receive,
    ];

    /// Its name, in results and tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Requests(connections) => format!("rr-{connections}"),
            Self::Connections(connections) => format!("crr-{connections}"),
            Self::Send => "send".into(),
            Self::Receive => "receive".into(),
        }
    }

    /// Whether it is bytes that are counted.
    pub(super) const fn is_stream(self) -> bool {
        matches!(self, Self::Send | Self::Receive)
    }

    fn setting(self, size_bytes: u32) -> Setting {
        let (unit, connections, size_bytes) = match self {
            Self::Requests(connections) => (Unit::Requests, connections, size_bytes),
            Self::Connections(connections) => (Unit::Connections, connections, 1),
            Self::Send | Self::Receive => (Unit::Chunks, 1, CHUNK),
        };
        Setting { back_end: BackEnd::Kernel, unit, connections, size_bytes }
    }
}

/// What is measured with.
pub(super) struct Bench<'lab> {
    lab: &'lab Lab,
    measures: Vec<Measure>,
    size: u32,
    plan: Plan,
    /// Goes on from server to server, so that a port rests as long as can be.
    ports: Ports,
}

impl<'lab> Bench<'lab> {
    /// Prepares the lab's network for TCP. For the thread that opened it.
    ///
    /// # Errors
    /// What `ip`, `ethtool` and `sysctl` say.
    pub(super) fn new(lab: &'lab Lab, measures: Vec<Measure>, size: u32, trial: Duration) -> Result<Self> {
        let sources = lab.pair.prepare_for_tcp()?;
        let ports = Ports::of(&sources, SocketAddr::new(lab.pair.shape.family.server(), ECHO))?;
        Ok(Self { lab, measures, size, plan: Plan::closed(trial / 4, trial), ports })
    }

    /// Measures one server.
    ///
    /// # Errors
    /// It does not start, does not answer, or does not end well; or an interruption.
    pub(super) fn measure(&mut self, contestant: &Contestant) -> Result<Round> {
        let server = self.lab.start(contestant)?;
        self.introduce()?;
        let mut watch = Watch::begin(&self.lab.pair, &server);
        let mut round = Round::default();
        for measure in self.measures.clone() {
            let measured = self.lab.cores.borrow_mut().near(|| {
                let outcome = watch.during(&server, || self.trial(measure))?;
                signals::check()?;
                Ok(outcome)
            });
            let (outcome, placement) = measured.map_err(|error| match error {
                Error::Run(why) => Error::run(format!("{} of `{}`: {why}", measure.name(), contestant.name)),
                other => other,
            })?;
            let placed = |figure| Figure { cores_ns: placement.cores_ns, ..figure };
            round.figures.extend(figures(measure, &outcome).into_iter().map(|(name, figure)| (name, placed(figure))));
            let trial = outcome.trial(&measure.name(), measure.setting(self.size), &self.plan);
            round.trials.push(Trial { placement, ..trial });
        }
        watch.end(&self.lab.pair, &server, &mut round);
        server.stop()?;
        Ok(round)
    }

    /// Makes the client's addresses known to a stack that learns them from ARP requests alone. The kernel asks
    /// from the address that it is about to send from, if it has to ask.
    fn introduce(&self) -> Result<()> {
        for source in self.ports.sources() {
            netns::command(&["ip", "neighbor", "flush", "dev", INTERFACE])?;
            let probe = UdpSocket::bind((*source, 0)).context(|| format!("cannot bind to {source}"))?;
            // An empty datagram to a port of TCP only: what becomes of it does not matter.
            let _ = probe.send_to(&[], self.server(DISCARD));
            std::thread::sleep(ARP_TIME);
        }
        Ok(())
    }

    /// A port of the server.
    fn server(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.pair.shape.family.server(), port)
    }

    fn trial(&mut self, measure: Measure) -> Result<Outcome> {
        let Setting { connections, size_bytes, .. } = measure.setting(self.size);
        let (count, size, plan) = (connections as usize, size_bytes as usize, self.plan);
        let [echo, discard, chargen] = [ECHO, DISCARD, CHARGEN].map(|port| self.server(port));
        match measure {
            Measure::Requests(_) => Requests::open(echo, count, size)?.run(plan),
            Measure::Connections(_) => Connections::new(echo, &mut self.ports, count, size)?.run(plan),
            Measure::Send => Streams::open(discard, Direction::Send, count, size)?.run(plan),
            Measure::Receive => Streams::open(chargen, Direction::Receive, count, size)?.run(plan),
        }
    }
}

/// What a trial showed: a rate or goodput, and of requests and connections their latency. Nothing is shown where
/// nothing came.
fn figures(measure: Measure, outcome: &Outcome) -> Figures {
    let (name, limited) = (measure.name(), outcome.limited());
    if measure.is_stream() {
        let goodput = Some(outcome.goodput_gbps()).filter(|goodput| *goodput > 0.0);
        return Figures::from([(name, Figure::higher(goodput, "Gb/s", limited))]);
    }
    let any = outcome.transactions > 0;
    let latency = outcome.latency.summary();
    let us = |ns: u64| Figure::lower(any.then_some(ns as f64 / 1000.0), "us", limited);
    Figures::from([
        (format!("{name}-p50"), us(latency.p50_ns)),
        (format!("{name}-p99"), us(latency.p99_ns)),
        (name, Figure::higher(any.then_some(outcome.rate_per_s() / 1000.0), "k/s", limited)),
    ])
}
