//! One TCP server in one round: started, asked, connected to, streamed into and out of, stopped.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde::Serialize;

use super::servers::Kind;
use crate::compare::rounds::Shown;
use crate::compare::watch::{Around, Watch};
use crate::compare::{Contestant, Lab};
use crate::error::{Context, Error, Result};
use crate::histogram::LatencySummary;
use crate::netns::{self, INTERFACE};
use crate::signals;
use crate::tcp::connections::{Connections, Ports};
use crate::tcp::requests::Requests;
use crate::tcp::stream::{Direction, Streams};
use crate::tcp::trial::{Outcome, Plan};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;

/// Bytes that a stream reads or writes at a time.
const CHUNK: usize = 128 * 1024;
/// Connections at a time where it is connections that are counted: enough that neither side waits for the
/// other, few enough for a stack that keeps a socket for each.
const CRR_CONNECTIONS: usize = 16;

/// Far more than an ARP request and its answer take.
const ARP_TIME: Duration = Duration::from_millis(20);

/// What is measured of each server, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measure {
    Rr1,
    Rr64,
    Rr1000,
    Crr,
    Send,
    Receive,
}

impl Measure {
    pub(super) const ALL: [Self; 6] = [Self::Rr1, Self::Rr64, Self::Rr1000, Self::Crr, Self::Send, Self::Receive];

    /// Its name and unit, for the head of a column.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Rr1 => "rr 1 k/s",
            Self::Rr64 => "rr 64 k/s",
            Self::Rr1000 => "rr 1000 k/s",
            Self::Crr => "crr k/s",
            Self::Send => "send Gb/s",
            Self::Receive => "receive Gb/s",
        }
    }

    /// Whether it is bytes that are counted.
    pub(super) const fn is_stream(self) -> bool {
        matches!(self, Self::Send | Self::Receive)
    }
}

/// What one trial showed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// Thousands a second, or Gb/s of payload.
    pub rate: f64,
    /// From the request (or SYN) to the end of the response (or the server's FIN); `None` for streams.
    pub latency: Option<LatencySummary>,
    /// Connections that failed.
    pub failed: u64,
    /// Part of the time in which the client had nothing to do.
    pub client_idle: f64,
    /// The client had nothing to spare: `rate` is what it could do, and the server's may be higher.
    pub client_limited: bool,
}

/// What a server showed in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    /// What it said when it was ready.
    pub ready: String,
    pub figures: BTreeMap<Measure, Figure>,
    #[serde(flatten)]
    pub around: Around,
}

/// What is measured with.
pub(super) struct Bench<'lab> {
    lab: &'lab Lab,
    measures: Vec<Measure>,
    size: usize,
    plan: Plan,
    /// Goes on from server to server, so that a port rests as long as can be.
    ports: Ports,
}

impl<'lab> Bench<'lab> {
    /// Prepares the lab's network for TCP. For the thread that opened it.
    ///
    /// # Errors
    /// What `ip`, `ethtool` and `sysctl` say.
    pub(super) fn new(lab: &'lab Lab, measures: Vec<Measure>, size: usize, trial: Duration) -> Result<Self> {
        let sources = lab.pair.prepare_for_tcp()?;
        let ports = Ports::of(&sources, SocketAddr::new(lab.pair.shape.family.server(), ECHO))?;
        Ok(Self { lab, measures, size, plan: Plan::closed(trial / 4, trial), ports })
    }

    /// Measures one server.
    ///
    /// # Errors
    /// It does not start, does not answer, or does not end well; or an interruption.
    pub(super) fn measure(&mut self, kind: Kind) -> Result<Measured> {
        let server = self.lab.start(kind)?;
        self.introduce()?;
        let watch = Watch::begin(&self.lab.pair, &server);
        let mut figures = BTreeMap::new();
        for measure in self.measures.clone() {
            let outcome = self.trial(measure).map_err(|error| match error {
                Error::Run(why) => Error::run(format!("{} of `{}`: {why}", measure.title(), kind.name())),
                other => other,
            })?;
            signals::check()?;
            figures.insert(measure, Figure::of(measure, &outcome));
        }
        let around = watch.end(&self.lab.pair, &server);
        let ready = server.ready.clone();
        server.stop()?;
        Ok(Measured { ready, figures, around })
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
        let (size, plan) = (self.size, self.plan);
        let [echo, discard, chargen] = [ECHO, DISCARD, CHARGEN].map(|port| self.server(port));
        match measure {
            Measure::Rr1 => Requests::open(echo, 1, size)?.run(plan),
            Measure::Rr64 => Requests::open(echo, 64, size)?.run(plan),
            Measure::Rr1000 => Requests::open(echo, 1000, size)?.run(plan),
            Measure::Crr => Connections::new(echo, &mut self.ports, CRR_CONNECTIONS, 1)?.run(plan),
            Measure::Send => Streams::open(discard, Direction::Send, 1, CHUNK)?.run(plan),
            Measure::Receive => Streams::open(chargen, Direction::Receive, 1, CHUNK)?.run(plan),
        }
    }
}

impl Figure {
    fn of(measure: Measure, outcome: &Outcome) -> Self {
        let stream = measure.is_stream();
        Self {
            rate: if stream { outcome.goodput_gbps() } else { outcome.rate_per_s() / 1000.0 },
            latency: (!stream && outcome.transactions > 0).then(|| outcome.latency.summary()),
            failed: outcome.failed,
            client_idle: outcome.client_idle,
            client_limited: outcome.client_limited(),
        }
    }
}

impl Measured {
    /// What was counted, if it was measured and anything came.
    pub(super) fn rate(&self, measure: Measure) -> Option<f64> {
        self.figures.get(&measure).map(|figure| figure.rate).filter(|rate| *rate > 0.0)
    }

    pub(super) fn latency_us(&self, measure: Measure, quantile: fn(&LatencySummary) -> u64) -> Option<f64> {
        self.figures.get(&measure)?.latency.as_ref().map(|latency| quantile(latency) as f64 / 1000.0)
    }

    pub(super) fn client_limited(&self, measure: Measure) -> bool {
        self.figures.get(&measure).is_some_and(|figure| figure.client_limited)
    }
}

impl Shown for Measured {
    fn brief(&self) -> String {
        let one = |(measure, figure): (&Measure, &Figure)| {
            let limited = if figure.client_limited { "+" } else { "" };
            let failed = if figure.failed > 0 { format!(" ({} failed)", figure.failed) } else { String::new() };
            let (name, unit) = measure.title().rsplit_once(' ').unwrap_or((measure.title(), ""));
            format!("{name} {:.1}{limited} {unit}{failed}", figure.rate)
        };
        self.figures.iter().map(one).collect::<Vec<_>>().join(", ") + self.around.brief()
    }
}
