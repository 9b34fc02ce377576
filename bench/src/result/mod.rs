//! What every command writes with `--json`: one schema, which `report` and `diff` read.
//!
//! ```text
//!  Document ── machine, network, command
//!     └─ servers ── one for a single run, several for a comparison
//!          └─ rounds ── what was asked of the server in one go, with the losses around it
//!               ├─ figures   one number each, with its unit: what tables, ratios and differences are made of
//!               └─ trials    what the figures come from: counts, schedule, histograms, the course of time
//! ```
//!
//! A reader refuses a schema that it does not know. Every field is told in bench/results/SCHEMA.md.

mod distribution;
pub(crate) mod figures;
pub(crate) mod placement;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

pub(crate) use self::distribution::Distribution;
use self::figures::{Figure, Figures};
use self::placement::Placement;
use crate::arrivals::{Adherence, Arrivals};
use crate::error::{Context, Error, Result};
use crate::losses::Counters;
use crate::machine::Machine;
use crate::netns::Family;
use crate::udp::sizes::Share;

/// Name and version of the schema. The number grows when a reader of the one before would misread the new one.
pub(crate) const SCHEMA: &str = "barewire-bench/2";

/// A whole result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub schema: String,
    /// The command that measured: `udp`, `tcp-rr`, `compare udp` ...
    pub workload: String,
    pub machine: Machine,
    pub network: Network,
    /// A signal ended it early; what is there is whole.
    pub interrupted: bool,
    pub rounds_asked: u32,
    /// In the order of the table. Ratios are to the first that is marked as baseline.
    pub servers: Vec<Contender>,
}

/// What generator and server are joined by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    /// In words, as it is printed under tables.
    pub description: String,
    pub family: Family,
    pub mtu: Option<u16>,
    pub interface: Option<Nic>,
    pub target: Option<SocketAddr>,
}

/// The generator's interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Nic {
    pub name: String,
    /// The kernel's driver.
    pub driver: String,
    /// Offloads that are on, by ethtool's names.
    pub offloads: Vec<String>,
}

/// A server, round by round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contender {
    pub name: String,
    pub description: String,
    /// Others are told as ratios to this one.
    pub baseline: bool,
    pub rounds: Vec<Round>,
}

/// What one server showed in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// What the server said when it was ready, if it was started here.
    pub ready: Option<String>,
    pub figures: Figures,
    pub trials: Vec<Trial>,
    /// Part of the round in which another program had the core of generator or server.
    pub core_shared: Option<f64>,
    /// Counters that grew meanwhile and tell of losses, by the place they were read in.
    pub losses: BTreeMap<String, Counters>,
}

/// One stretch of load at one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// What for: `latency`, `search`, `rr-64` ... Trials of one name are comparable.
    pub measure: String,
    pub back_end: BackEnd,
    pub arrivals: Arrivals,
    /// Connections, or requests outstanding.
    pub connections: Option<u32>,
    /// Bytes of a frame (UDP, from the Ethernet header on), of a request and its response, or of a read or write.
    /// Of a mix, the mean.
    pub size_bytes: u32,
    /// The lengths of a mix; none if all had the same.
    #[serde(default)]
    pub mix: Vec<Share>,
    /// Of datagrams: ports, and addresses, that requests came from in turn.
    #[serde(default)]
    pub source_ports: Option<u32>,
    #[serde(default)]
    pub source_addresses: Option<u32>,
    /// What is counted.
    pub unit: Unit,
    /// A second; `null` is as many as possible.
    pub asked_per_s: Option<f64>,
    /// How long was counted, without the warm-up.
    pub seconds: f64,
    pub sent: u64,
    pub completed: u64,
    pub completed_per_s: f64,
    /// Of a stream its payload, of datagrams the frames of their answers; else 0.
    pub bytes: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Answers that came after the answer to a later request.
    pub reordered: u64,
    /// Answers to an earlier trial.
    pub stale: u64,
    /// Connections that ended otherwise than they should.
    pub failed: u64,
    /// Part of the time in which the generator found nothing to do, where it is known.
    pub idle: Option<f64>,
    /// The generator, not the server, may have been the limit: enters no ratio.
    pub limited: bool,
    /// Where the cores were, in a comparison.
    #[serde(flatten)]
    pub placement: Placement,
    /// How well the generator kept its schedule, where there was one.
    pub adherence: Option<Adherence>,
    /// Where arrival was read from the clock.
    pub timestamps: Timestamps,
    /// From the moment that a request was due to its complete answer; in a closed loop, from sending.
    pub latency: Option<Distribution>,
    /// From the moment that it was really sent, where that was recorded.
    pub latency_from_sending: Option<Distribution>,
    /// The course of the trial, if it was followed.
    pub slices: Vec<Slice>,
}

/// A part of a trial.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Its beginning, from the first moment that counted.
    pub at_seconds: f64,
    pub seconds: f64,
    pub completed: u64,
    /// Of a stream.
    pub bytes: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

/// What loads the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackEnd {
    /// A BPF program run over live frames
    LiveFrames,
    /// Sockets of the kernel
    Kernel,
    /// Barewire's own stack over AF_XDP
    OwnStack,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Frames,
    Requests,
    Connections,
    /// Reads or writes of a stream.
    Chunks,
}

/// Steps of a ladder, best first: where the moment of arrival comes from. A NIC's own clock is not on it: it is
/// another one than that of the due times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Timestamps {
    /// A BPF program at the interface, on the kernel's clock.
    Interface,
    /// The kernel's time of a datagram's arrival (SO_TIMESTAMPNS).
    Kernel,
    /// Read when the program saw the answer.
    Program,
}

impl Timestamps {
    /// In words: until when latency counts.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Interface => "the interface",
            Self::Kernel => "the kernel's socket",
            Self::Program => "the program",
        }
    }
}

impl Contender {
    /// A figure by round; `None` where it could not be shown, or may not enter a ratio.
    pub(crate) fn values(&self, figure: &str) -> Vec<Option<f64>> {
        self.rounds.iter().map(|round| round.figures.get(figure)?.comparable()).collect()
    }

    /// The same, with what enters no ratio.
    pub(crate) fn all_values(&self, figure: &str) -> Vec<Option<f64>> {
        self.rounds.iter().map(|round| round.figures.get(figure)?.value).collect()
    }

    /// How a figure is marked: `+` if the generator was the limit in any round, `#` if the cores were apart.
    pub(crate) fn marks(&self, figure: &str) -> &'static str {
        let any =
            |what: fn(&Figure) -> bool| self.rounds.iter().filter_map(|round| round.figures.get(figure)).any(what);
        match (any(|figure| figure.limited), any(|figure| figure.cores_apart)) {
            (false, false) => "",
            (true, false) => "+",
            (false, true) => "#",
            (true, true) => "+#",
        }
    }

    /// The first that there is of a figure, for its unit and direction.
    pub(crate) fn figure(&self, name: &str) -> Option<&Figure> {
        self.rounds.iter().find_map(|round| round.figures.get(name))
    }

    /// Names of all figures, in the order of tables.
    pub(crate) fn figure_names(&self) -> Vec<String> {
        figures::in_order(self.rounds.iter().flat_map(|round| &round.figures))
    }
}

impl Nic {
    /// Asks `ethtool`; what it does not tell is left empty.
    pub(crate) fn describe(interface: &str) -> Self {
        let ask = |option: &str| {
            let output = Command::new("ethtool").args([option, interface]).output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let driver = ask("-i").lines().find_map(|line| line.strip_prefix("driver: ").map(str::to_owned));
        let features = ask("-k");
        // `generic-receive-offload: on`, or `on [fixed]`
        let on = features.lines().filter_map(|line| line.trim().split_once(": on").map(|(name, _)| name.to_owned()));
        Self { name: interface.into(), driver: driver.unwrap_or_default(), offloads: on.collect() }
    }
}

impl Document {
    /// The result of a command on one server: one round.
    pub(crate) fn single(workload: &str, network: Network, round: Round) -> Self {
        let target = network.target.map_or_else(|| "server".into(), |target| target.to_string());
        let contender =
            Contender { name: target, description: "as given".into(), baseline: false, rounds: vec![round] };
        Self {
            schema: SCHEMA.into(),
            workload: workload.into(),
            machine: Machine::describe(),
            network,
            interrupted: crate::signals::stopping(),
            rounds_asked: 1,
            servers: vec![contender],
        }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context(|| "cannot write JSON".into())?;
        fs::write(file, text + "\n").context(|| format!("cannot write {}", file.display()))
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, or has another schema.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            schema: Option<String>,
        }
        let name = file.display();
        let text = fs::read_to_string(file).context(|| format!("cannot read {name}"))?;
        let head: Head = serde_json::from_str(&text).context(|| format!("{name} is no JSON object"))?;
        match head.schema.as_deref() {
            Some(SCHEMA) => serde_json::from_str(&text).context(|| format!("{name} does not follow {SCHEMA}")),
            found => Err(Error::usage(format!(
                "{name} has the schema {}, this program reads {SCHEMA}: measure again with `--json`",
                found.unwrap_or("(none)")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_is_refused_by_name() {
        let file = std::env::temp_dir().join(format!("bw-schema-{}.json", std::process::id()));
        for (text, told) in [("{\"schema\":\"barewire-bench-udp/1\"}", "barewire-bench-udp/1"), ("{}", "(none)")] {
            fs::write(&file, text).unwrap();
            let error = Document::read(&file).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains(SCHEMA), "{error}");
        }
        fs::write(&file, "[1").unwrap();
        assert!(Document::read(&file).unwrap_err().to_string().contains("no JSON"));
        fs::remove_file(&file).unwrap();
    }
}
