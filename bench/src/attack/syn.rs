//! A SYN flood from random sources: what an established connection keeps of its goodput, and whether new ones come about.
//!
//! The clients are kernel sockets on the generator's core, and the flood has the time that these leave. A stream into the
//! engine would take that core nearly whole: so it is paced to a part of what it carries in calm. Beside both directions is
//! told how much of its core the client took, and a flood that did not keep its rate is marked.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::attempts::Attempts;
use super::flood::{Flood, Sent};
use super::{FloodArgs, Phase, Phases, Told, arrived, frames, metrics, path, start_engine, sum};
use crate::compare::Lab;
use crate::compare::rounds::brief;
use crate::compare::table::Part;
use crate::compare::watch::Watch;
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::process::{Server, own_ran_ns};
use crate::progress::Progress;
use crate::result::figures::{Figure, Figures};
use crate::result::{BackEnd, Round, Unit};
use crate::signals;
use crate::tcp::stream::{Direction, Streams};
use crate::tcp::trial::{Outcome, Plan, Setting};
use crate::udp::frame::Path;
use crate::udp::trial::AttackKind;

const ECHO: u16 = 7;
/// Which way the established connection's bytes go, and the port for that.
const STREAMS: [(Direction, u16); 2] = [(Direction::Send, 9), (Direction::Receive, 19)];
/// Bytes that a stream reads or writes at a time.
const CHUNK: u32 = 128 * 1024;
const WARMUP: Duration = Duration::from_millis(300);
/// The part of what a stream into the engine carries in calm that it is paced to.
const SENT_PART: f64 = 0.25;
/// Length of the trial that finds what it carries.
const TRIAL: Duration = Duration::from_secs(1);
/// A flood with less than this part of its rate was limited by the generator.
const KEPT: f64 = 0.9;
/// Connections in a row that come about at once where there is no flood, and what "at once" is: before a request is
/// repeated.
const CALM: u32 = 5;
const AT_ONCE: Duration = Duration::from_millis(300);
/// How long that is waited for after a flood.
const PATIENCE: Duration = Duration::from_secs(15);

/// Measures the phases.
struct Bench<'lab> {
    args: &'lab FloodArgs,
    lab: &'lab Lab,
    server: Server,
    client: Interface,
    path: Path,
    /// What the stream into the engine is paced to, bytes a second.
    sent_per_s: f64,
}

pub(super) fn run(args: &FloodArgs, lab: &Lab) -> Result<()> {
    lab.pair.prepare_for_tcp()?;
    let ports = ["--tcp-port", "7", "--discard-port", "9", "--chargen-port", "19"];
    let server = start_engine(lab, &ports)?;
    let (client, path) = path(lab, ECHO)?;
    let carried = stream(&path, STREAMS[0])?.run(Plan::closed(WARMUP, TRIAL))?;
    let sent_per_s = SENT_PART * carried.bytes as f64 / carried.seconds;
    let bench = Bench { args, lab, server, client, path, sent_per_s };
    let mut phases = Phases::new();
    let mut ended = phases.measure(args.rounds, STREAMS.len(), |round, progress| bench.round(round, progress));
    if ended.is_ok() {
        ended = bench.server.stop();
    }
    let title = format!(
        "SYNs from random sources at {:.0} k/s beside one established connection: median of {} rounds of {} s (range)",
        args.rate / 1e3,
        args.rounds,
        args.seconds
    );
    let of_both =
        |figures: &[&str]| figures.iter().flat_map(|f| ["send", "receive"].map(|d| format!("{d}{f}"))).collect();
    let told = Told {
        workload: "attack syn",
        parts: vec![
            Part { title, figures: of_both(&["", "-busy", "-flood"]) },
            Part { title: "New connections meanwhile".into(), figures: of_both(&["-connects", "-connects-p50"]) },
        ],
        notes: vec![
            format!(
                "send, receive: goodput of the established connection, by the way its bytes go; send is paced to {:.2} Gb/s, \
                 {SENT_PART} of what it carries in calm, so that the flood has time.",
                8.0 * sent_per_s / 1e9
            ),
            "busy: part of its core that the client had. flood: frames of the flood. connects: those that succeeded."
                .into(),
        ],
    };
    phases.tell(lab, args, told, ended)
}

impl Bench<'_> {
    /// All phases in both directions, and what went on around them.
    fn round(&self, round: u32, progress: &mut Progress) -> Result<(BTreeMap<Phase, Round>, Round)> {
        let watch = Watch::begin(&self.lab.pair, &self.server);
        let mut of_phase: BTreeMap<Phase, Round> = BTreeMap::new();
        for (direction, port) in STREAMS {
            // Established before anything happens to it.
            let stream = stream(&self.path, (direction, port))?;
            let mut stream = match direction {
                Direction::Send => stream.paced(self.sent_per_s)?,
                Direction::Receive => stream,
            };
            for phase in Phase::of_round(round) {
                let (number, rounds) = (round + 1, self.args.rounds);
                progress.start(&format!("round {number}/{rounds}  {} {}", phase.name(), name(direction)));
                let measured = self.measure(&mut stream, (direction, phase))?;
                signals::check()?;
                if phase == Phase::Attack {
                    self.wait_for_calm()?;
                }
                progress.done(&brief(&measured));
                let entry = of_phase.entry(phase).or_default();
                entry.figures.extend(measured.figures);
                entry.trials.extend(measured.trials);
            }
        }
        let mut around = Round::default();
        watch.end(&self.lab.pair, &self.server, &mut around);
        Ok((of_phase, around))
    }

    /// A server may stay on its guard for a while after a flood, which is not to be measured as what comes next: waits
    /// until new connections come about at once again, several in a row, as one may by chance.
    fn wait_for_calm(&self) -> Result<()> {
        let (mut in_a_row, began) = (0, Instant::now());
        while in_a_row < CALM && began.elapsed() < PATIENCE {
            let comes_about = TcpStream::connect_timeout(&self.path.target, AT_ONCE).is_ok();
            in_a_row = if comes_about { in_a_row + 1 } else { 0 };
            signals::check()?;
        }
        Ok(())
    }

    /// The stream and the attempts for a phase; the flood lasts until the last attempt has ended.
    fn measure(&self, stream: &mut Streams, (direction, phase): (Direction, Phase)) -> Result<Round> {
        let (before, arrived_before) = (metrics(&self.lab.pair.server)?, arrived(self.lab));
        let flood =
            phase.frames(AttackKind::Syn).map(|kind| Flood::start(kind, self.args.rate, self.client.index, self.path));
        let attempts = Attempts::default();
        let plan = Plan::closed(WARMUP, Duration::from_secs_f64(self.args.seconds));
        let mut client_busy = 0.0;
        let outcome: Result<Outcome> = thread::scope(|scope| {
            attempts.start(scope, self.path.target);
            let (began, ran_ns) = (Instant::now(), own_ran_ns());
            let outcome = stream.run(plan);
            client_busy = (own_ran_ns() - ran_ns) as f64 / began.elapsed().as_nanos() as f64;
            attempts.end();
            outcome
        });
        let Sent { frames: flood_frames, per_s: flood_pps } = flood.map_or(Ok(Sent::default()), Flood::stop)?;
        let outcome = outcome.map_err(|error| Error::run(format!("the established connection: {error}")))?;
        let after = metrics(&self.lab.pair.server)?;
        let grown = |family: &str| sum(&after, family, "").saturating_sub(sum(&before, family, "")) as f64;
        let (tally, name) = (attempts.tally(), name(direction));
        let limited = phase != Phase::Calm && flood_pps < KEPT * self.args.rate;
        let mut figures = Figures::from([
            (name.into(), Figure::higher(Some(outcome.goodput_gbps()), "Gb/s", limited)),
            (format!("{name}-busy"), Figure::lower(Some(100.0 * client_busy), "%", false)),
            (format!("{name}-flood"), Figure::higher(Some(flood_pps / 1e3), "k/s", limited)),
            (format!("{name}-flood-sent"), frames(flood_frames)),
            (format!("{name}-frames-arrived"), frames(arrived(self.lab) - arrived_before)),
            (format!("{name}-engine-received"), Figure::higher(Some(grown("received_total")), "", false)),
            (format!("{name}-engine-ring-full"), Figure::lower(Some(grown("xdp_rx_ring_full")), "", false)),
        ]);
        figures.extend(tally.figures(name));
        let setting = Setting { back_end: BackEnd::Kernel, unit: Unit::Chunks, connections: 1, size_bytes: CHUNK };
        let trials = vec![outcome.trial(name, setting, &plan), tally.trial(outcome.seconds)];
        Ok(Round { figures, trials, ..Round::default() })
    }
}

/// A stream that leaves the core to the flood while it has nothing to do.
fn stream(path: &Path, (direction, port): (Direction, u16)) -> Result<Streams> {
    let target = SocketAddr::new(path.target.ip(), port);
    Ok(Streams::open(target, direction, 1, CHUNK as usize)?.patient())
}

const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Send => "send",
        Direction::Receive => "receive",
    }
}
