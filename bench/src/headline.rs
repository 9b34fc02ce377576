//! `barewire-bench headline`: the figures that the project is known by, in under ten minutes.
//!
//! ```text
//!  compare udp, 64 B  ----\
//!  compare udp, 1514 B ----+--> one result, with the figures of a server side by side
//!  compare tcp       -----/
//! ```
//!
//! Each part is a comparison that can be run by itself, by the command that is told before it.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::options::OutputArgs;
use crate::result::figures::Figures;
use crate::result::{Contender, Document, Network, Round, SCHEMA};
use crate::signals;

/// A comparison, and what of it is told.
struct Part {
    protocol: &'static str,
    /// What its figures' names begin with.
    prefix: &'static str,
    arguments: &'static [&'static str],
    /// Length of a trial.
    seconds: f64,
    figures: &'static [&'static str],
}

const PARTS: [Part; 3] = [
    Part {
        protocol: "UDP",
        prefix: "64B-",
        arguments: &["udp", "--only", "barewire,kernel-epoll,bare-af-xdp"],
        seconds: 0.4,
        figures: &["peak", "loss-free", "p50"],
    },
    Part {
        protocol: "UDP",
        prefix: "1514B-",
        arguments: &["udp", "--size", "1514", "--only", "barewire,kernel-epoll"],
        seconds: 0.4,
        figures: &["peak", "loss-free", "p50"],
    },
    Part {
        protocol: "TCP",
        prefix: "",
        arguments: &["tcp", "--full", "--only", "barewire,kernel-epoll,smoltcp"],
        seconds: 1.0,
        figures: &["rr-1", "rr-1-p50", "rr-64", "rr-1000", "crr-1", "crr-16", "send", "receive"],
    },
];

/// The server that ratios are to.
const BASELINE: &str = "kernel-epoll";

#[derive(Args, Debug)]
pub(crate) struct HeadlineArgs {
    /// Rounds of each part; a median of fewer than five means little
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of every trial, for a first look [default: 0.4 for UDP, 1 for TCP]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// A part failed, or an interruption; what was measured by then is written.
pub(crate) fn run(args: &HeadlineArgs) -> Result<()> {
    let own = std::env::current_exe().context(|| "cannot find this program".into())?;
    let mut parts = Vec::new();
    let mut ended = Ok(());
    for part in &PARTS {
        let (found, result) = measure(&own, part, args);
        parts.extend(found.map(|document| (part, document)));
        ended = result.and_then(|()| signals::check());
        if ended.is_err() {
            break;
        }
    }
    if !parts.is_empty() {
        args.output.write(&merge(parts, args.rounds))?;
    }
    ended
}

/// Runs one part. Its result, and how it ended.
fn measure(own: &Path, part: &Part, args: &HeadlineArgs) -> (Option<Document>, Result<()>) {
    let file = Scratch(std::env::temp_dir().join(format!("bw-headline-{}.json", std::process::id())));
    let mut words = vec!["compare".to_owned()];
    words.extend(part.arguments.iter().map(ToString::to_string));
    let seconds = args.seconds.unwrap_or(part.seconds).to_string();
    words.extend(["--seconds".to_owned(), seconds, "--rounds".to_owned(), args.rounds.to_string()]);
    println!("\n$ barewire-bench {}\n", words.join(" "));
    let status = Command::new(own).args(&words).arg("--json").arg(&file.0).status();
    let result = match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) if signals::stopping() => Err(Error::Interrupted),
        Ok(status) => {
            Err(Error::run(format!("`barewire-bench {}` failed ({status}), as it says above", words.join(" "))))
        }
        Err(error) => Err(Error::run(format!("cannot run {}: {error}", own.display()))),
    };
    (Document::read(&file.0).ok(), result)
}

/// A file that is gone with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where nothing was measured there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One result of all parts: a server's rounds are put together in their order.
fn merge(parts: Vec<(&Part, Document)>, rounds_asked: u32) -> Document {
    let description =
        |(part, document): &(&Part, Document)| format!("{}: {}", part.protocol, document.network.description);
    let mut descriptions: Vec<String> = parts.iter().map(description).collect();
    descriptions.dedup();
    let Network { family, mtu, interface, target, .. } = parts[0].1.network.clone();
    let cores_ns = parts.iter().filter_map(|(_, document)| document.machine.cores_ns).reduce(f64::min);
    let interrupted = signals::stopping() || parts.iter().any(|(_, document)| document.interrupted);
    let mut servers: Vec<Contender> = Vec::new();
    for (part, document) in parts {
        for contender in document.servers {
            let at = servers.iter().position(|server| server.name == contender.name).unwrap_or_else(|| {
                servers.push(Contender {
                    rounds: Vec::new(),
                    baseline: contender.name == BASELINE,
                    ..contender.clone()
                });
                servers.len() - 1
            });
            for (index, round) in contender.rounds.into_iter().enumerate() {
                let rounds = &mut servers[at].rounds;
                if rounds.len() == index {
                    rounds.push(Round::default());
                }
                add(&mut rounds[index], part, round);
            }
        }
    }
    Document {
        schema: SCHEMA.into(),
        workload: "headline".into(),
        machine: Machine { cores_ns, ..Machine::describe() },
        network: Network { description: descriptions.join("; "), family, mtu, interface, target },
        interrupted,
        rounds_asked,
        servers,
    }
}

/// Puts what a part showed in a round beside what others did.
fn add(round: &mut Round, part: &Part, other: Round) {
    let told = |name: &String| part.figures.contains(&name.as_str());
    let figures = other.figures.into_iter().filter(|(name, _)| told(name));
    round.figures.extend(figures.map(|(name, figure)| (format!("{}{name}", part.prefix), figure)).collect::<Figures>());
    round.trials.extend(other.trials.into_iter().map(|mut trial| {
        trial.measure = format!("{}{}", part.prefix, trial.measure);
        trial
    }));
    round.ready = round.ready.take().or(other.ready);
    round.core_shared = match (round.core_shared, other.core_shared) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    for (place, counters) in other.losses {
        let sums = round.losses.entry(place).or_default();
        counters.into_iter().for_each(|(name, growth)| *sums.entry(name).or_default() += growth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Family;
    use crate::result::figures::Figure;

    fn document(servers: &[&str], figure: &str, values: &[f64]) -> Document {
        let round = |value: &f64| Round {
            figures: Figures::from([(figure.to_owned(), Figure::higher(Some(*value), "k/s", false))]),
            core_shared: Some(value / 100.0),
            ..Round::default()
        };
        let contender = |name: &&str| Contender {
            name: (*name).to_owned(),
            description: String::new(),
            baseline: false,
            rounds: values.iter().map(round).collect(),
        };
        let network =
            Network { description: "veth".into(), family: Family::Ipv4, mtu: None, interface: None, target: None };
        let servers = servers.iter().map(contender).collect();
        Document { servers, ..Document::single("compare", network, Round::default()) }
    }

    #[test]
    fn figures_of_a_server_stand_side_by_side_round_by_round() {
        let udp = document(&["barewire", BASELINE], "peak", &[1.0, 2.0]);
        let tcp = document(&["barewire", BASELINE, "smoltcp"], "rr-1", &[10.0, 20.0]);
        let merged = merge(vec![(&PARTS[0], udp), (&PARTS[2], tcp)], 2);
        let names: Vec<&str> = merged.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["barewire", BASELINE, "smoltcp"]);
        let barewire = &merged.servers[0];
        assert_eq!(barewire.values("64B-peak"), [Some(1.0), Some(2.0)]);
        assert_eq!(barewire.values("rr-1"), [Some(10.0), Some(20.0)]);
        assert_eq!(barewire.rounds[1].core_shared, Some(0.2));
        assert_eq!(merged.servers[2].values("64B-peak"), [None, None]);
        assert!(merged.servers[1].baseline && !barewire.baseline);
    }

    #[test]
    fn what_a_part_is_not_told_for_is_left_out() {
        let merged = merge(vec![(&PARTS[0], document(&["barewire"], "overload", &[1.0]))], 1);
        assert!(merged.servers[0].rounds[0].figures.is_empty());
    }
}
