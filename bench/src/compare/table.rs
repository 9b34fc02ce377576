//! The table of a comparison: servers by figures, with medians, ranges, and ratios to the baseline.

use super::bars::Bar;
use super::bootstrap::{Difference, Rounds, Verdict};
use super::columns::{self, mark, number, print_columns_of, ratio_cell};
use super::others::BASELINE;
use super::rounds::digits;
use super::{stats, watch};
use crate::result::{Contender, Document, placement};

/// Columns that are shown together.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub title: String,
    /// Names of figures.
    pub figures: Vec<String>,
}

impl Part {
    pub(crate) fn new(title: impl Into<String>, figures: &[&str]) -> Self {
        Self { title: title.into(), figures: figures.iter().map(ToString::to_string).collect() }
    }
}

/// Prints all parts, the ratios, the bars, what disturbed the measurement, and then `notes`.
pub(crate) fn print(document: &Document, parts: &[Part], bars: &[Bar], notes: &[String]) {
    let servers = &document.servers;
    for (index, part) in parts.iter().enumerate() {
        println!("{}{}\n", if index == 0 { "" } else { "\n" }, part.title);
        print_part(servers, part, index == 0);
    }
    let baseline = servers.iter().find(|server| server.baseline);
    if let Some(baseline) = baseline.filter(|_| servers.len() > 1) {
        for (index, part) in parts.iter().enumerate() {
            match index {
                0 => println!(
                    "\nRatios to `{}`, round by round: median [95 % interval], ~ no difference, - not comparable\n",
                    baseline.name
                ),
                _ => println!(),
            }
            print_ratios(servers, baseline, &part.figures);
        }
    }
    if let Some(baseline) = baseline.filter(|one| one.name == BASELINE) {
        let figures: Vec<&String> = parts.iter().flat_map(|part| &part.figures).collect();
        servers
            .iter()
            .filter(|server| server.name == "barewire")
            .for_each(|server| print_verdict(server, baseline, &figures));
    }
    let disturbed = servers.iter().flat_map(|server| &server.rounds).filter(|round| watch::disturbed(round)).count();
    columns::print_bars(bars, disturbed > 0);
    columns::print_disturbed(disturbed);
    if let Some(told) = placement::told(document) {
        println!("\n{told}");
    }
    println!();
    if servers.iter().flat_map(|server| &server.rounds).any(|round| round.figures.values().any(|one| one.limited)) {
        println!("+: at least as good; in some round the generator was the limit, and that round enters no ratio.");
    }
    notes.iter().for_each(|note| println!("{note}"));
    for server in servers {
        println!("{}: {}", server.name, server.description);
        println!("    {}", server.rounds.last().and_then(|round| round.ready.as_deref()).unwrap_or("(not measured)"));
    }
    columns::print_origin(&document.network.description, &document.machine);
}

fn print_part(servers: &[Contender], part: &Part, with_shared: bool) {
    let mut head = vec!["server".to_owned()];
    head.extend(part.figures.iter().map(|name| format!("{name} {}", unit(servers, name))));
    head.extend(with_shared.then(|| "core shared %".to_owned()));
    let mut lines = vec![head];
    for server in servers {
        let mut line = vec![server.name.clone()];
        line.extend(part.figures.iter().map(|name| cell(server, name)));
        let shared = server.rounds.iter().map(|round| round.core_shared.map(|part| part * 100.0));
        line.extend(with_shared.then(|| number(stats::spread(shared), 1)));
        lines.push(line);
    }
    print_columns_of(&lines);
}

fn print_ratios(servers: &[Contender], baseline: &Contender, figures: &[String]) {
    let mut lines = vec![std::iter::once("server".to_owned()).chain(figures.iter().cloned()).collect()];
    for server in servers.iter().filter(|server| server.name != baseline.name) {
        let ratio = |name: &String| ratio_cell(Difference::of(server, baseline, name, Rounds::Interleaved), 2);
        lines.push(std::iter::once(server.name.clone()).chain(figures.iter().map(ratio)).collect());
    }
    print_columns_of(&lines);
}

/// Whether other programs had the cores of generator or server in any round.
fn is_disturbed(server: &Contender) -> bool {
    server.rounds.iter().any(watch::disturbed)
}

/// What may be said of one build against the other.
fn print_verdict(server: &Contender, baseline: &Contender, figures: &[&String]) {
    let differences =
        figures.iter().filter_map(|name| Some((name, Difference::of(server, baseline, name, Rounds::Interleaved)?)));
    let told: Vec<_> = differences.collect();
    println!("\n`{}` against `{}`\n", server.name, baseline.name);
    let rows = told.iter().map(|(name, difference)| {
        let interval = difference.interval.map_or("-".into(), |(low, high)| format!("{low:.3}-{high:.3}"));
        [(**name).clone(), format!("{:.3}", difference.ratio), interval, difference.verdict.text().into()]
    });
    columns::print_columns(["figure", "ratio", "95 % interval", "verdict"], rows.collect());
    let unknown: Vec<&str> = told
        .iter()
        .filter(|(_, difference)| difference.verdict == Verdict::Unknown)
        .map(|(name, _)| name.as_str())
        .collect();
    if !unknown.is_empty() {
        println!("\nnothing is said of {}: too few rounds had it", unknown.join(", "));
    }
    let verdicts: Vec<(&str, Verdict)> = told.iter().map(|(name, told)| (name.as_str(), told.verdict)).collect();
    println!("\nverdict: {}", verdict(&verdicts, is_disturbed(server) || is_disturbed(baseline)));
}

/// All figures in a sentence; `disturbed` is whether other programs had the cores in any round.
fn verdict(figures: &[(&str, Verdict)], disturbed: bool) -> String {
    let sure = figures.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Better | Verdict::Worse));
    let differ: Vec<String> = sure.map(|(name, verdict)| format!("{name} {}", verdict.text())).collect();
    if !differ.is_empty() {
        let doubt = if disturbed { "; but other programs had the cores, so it may be theirs" } else { "" };
        return differ.join(", ") + doubt;
    }
    if figures.iter().all(|(_, verdict)| *verdict == Verdict::Unknown) {
        return "too few rounds: five at least, each with its figures".into();
    }
    Verdict::NoDifference.text().into()
}

/// The unit of a figure, from whoever has it.
fn unit<'a>(servers: &'a [Contender], name: &str) -> &'a str {
    servers.iter().find_map(|server| server.figure(name)).map_or("", |figure| &figure.unit)
}

/// `1.52 (1.48-1.55)`, with a mark if it is at least so much.
fn cell(server: &Contender, name: &str) -> String {
    let unit = unit(std::slice::from_ref(server), name);
    mark(number(stats::spread(server.all_values(name)), digits(unit)), server.marks(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_names_what_differs_and_doubts_it_where_the_cores_were_shared() {
        let figures = [("peak", Verdict::Worse), ("p50", Verdict::NoDifference), ("p99", Verdict::Unknown)];
        assert_eq!(verdict(&figures, false), "peak worse");
        assert!(verdict(&figures, true).starts_with("peak worse; but other programs"));
        for disturbed in [false, true] {
            assert_eq!(verdict(&figures[1..], disturbed), "no difference");
            assert!(verdict(&figures[2..], disturbed).starts_with("too few rounds"));
        }
    }
    use crate::result::Round;
    use crate::result::figures::{Figure, Figures};

    fn server(values: &[(Option<f64>, bool)]) -> Contender {
        let round = |(value, limited): &(Option<f64>, bool)| Round {
            figures: Figures::from([("peak".into(), Figure::higher(*value, "Mpps", *limited))]),
            ..Round::default()
        };
        let rounds = values.iter().map(round).collect();
        Contender { name: "one".into(), description: String::new(), baseline: false, rounds }
    }

    #[test]
    fn a_cell_has_the_digits_of_its_unit_and_tells_what_was_limited_or_not_measured() {
        assert_eq!(cell(&server(&[(Some(1.5), false), (Some(1.75), false)]), "peak"), "1.625 (1.500-1.750)");
        assert_eq!(cell(&server(&[(Some(1.5), true)]), "peak"), "1.500 (1.500-1.500)+");
        assert_eq!(cell(&server(&[(None, false)]), "peak"), "-");
        assert_eq!(cell(&server(&[]), "peak"), "-");
    }
}
