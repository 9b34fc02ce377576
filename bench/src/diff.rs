//! `barewire-bench diff`: two results side by side, and which differences are more than noise.

use std::path::PathBuf;

use clap::Args;

use crate::compare::bootstrap::{Difference, Rounds, Verdict};
use crate::compare::{columns, stats};
use crate::error::{Error, Result};
use crate::result::{Contender, Document};

const NOTES: &str = "Each cell is the median over rounds, with the range. The ratio is that of the medians, with a 95 %
bootstrap interval over rounds. A figure is better or worse where the whole interval,
widened by a quarter, lies more than 2 % beyond 1; it takes five rounds in each file to
say so. Losses in percent are compared by what was not lost. `+` marks rounds in which the
generator was the limit, `#` those in which the host had the two cores apart: they enter no
ratio.";

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct DiffArgs {
    /// The result to compare with
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The other
    #[arg(value_name = "B.json")]
    after: PathBuf,
    /// Exit with 1 if a figure is surely worse, by more than this many percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_on_worse: Option<f64>,
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("a number of percent from 0 to 1000".into()),
    }
}

/// A line of the table.
struct Row {
    server: String,
    figure: String,
    before: String,
    after: String,
    difference: Option<Difference>,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read, results without a server or figure in common, or a figure that is worse than allowed.
pub(crate) fn run(args: &DiffArgs) -> Result<()> {
    let (before, after) = (Document::read(&args.before)?, Document::read(&args.after)?);
    let rows = rows(&before, &after);
    if rows.is_empty() {
        return Err(Error::run("the two results have no server with the same figure: nothing to compare"));
    }
    let conditions = conditions(&before, &after);
    for condition in &conditions {
        println!("NOT ALIKE: {condition}");
    }
    if !conditions.is_empty() {
        println!("Differences below may come from that as well as from the servers.\n");
    }
    columns::print_columns(
        ["server", "figure", "before", "after", "after/before", "95 % interval", "after is"],
        rows.iter().map(cells).collect(),
    );
    println!("\nbefore: commit {}, `{}`", before.machine.commit, before.machine.command);
    println!("after:  commit {}, `{}`", after.machine.commit, after.machine.command);
    args.fail_on_worse.map_or(Ok(()), |percent| check(&rows, percent))
}

/// What else differs but the servers.
fn conditions(before: &Document, after: &Document) -> Vec<String> {
    let text = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
        let (a, b) = (a.to_string(), b.to_string());
        (a != b).then(|| format!("{what}: {a} before, {b} after"))
    };
    let (a, b) = (&before.machine, &after.machine);
    let nic = |document: &Document| {
        let nic = document.network.interface.as_ref();
        nic.map_or("unknown".into(), |nic| format!("{}, {}", nic.driver, nic.offloads.join(" ")))
    };
    let mtu = |document: &Document| document.network.mtu.map_or("unknown".into(), |mtu| mtu.to_string());
    let told = [
        text("workload", &before.workload, &after.workload),
        text("processor", &a.cpu, &b.cpu),
        text("cores", &a.cores, &b.cores),
        text("kernel", &a.kernel, &b.kernel),
        text("network", &before.network.description, &after.network.description),
        text("address family", &before.network.family.name(), &after.network.family.name()),
        text("MTU", &mtu(before), &mtu(after)),
        text("driver and offloads", &nic(before), &nic(after)),
    ];
    told.into_iter().flatten().collect()
}

fn rows(before: &Document, after: &Document) -> Vec<Row> {
    // Results of one server each are compared whatever the servers' names.
    let alone = before.servers.len() == 1 && after.servers.len() == 1;
    let other = |old: &Contender| after.servers.iter().find(|new| alone || new.name == old.name);
    before.servers.iter().filter_map(|old| Some((old, other(old)?))).flat_map(|(old, new)| rows_of(old, new)).collect()
}

/// Figures that both have, in the same unit.
fn rows_of(old: &Contender, new: &Contender) -> Vec<Row> {
    let row = |figure: String| {
        let unit = &old.figure(&figure)?.unit;
        if new.figure(&figure)?.unit != *unit {
            return None;
        }
        let cell = |server: &Contender| {
            let text = columns::number(stats::spread(server.all_values(&figure)), 3);
            format!("{} {unit}", columns::mark(text, server.marks(&figure)))
        };
        Some(Row {
            server: old.name.clone(),
            before: cell(old),
            after: cell(new),
            difference: Difference::of(new, old, &figure, Rounds::Apart),
            figure,
        })
    };
    old.figure_names().into_iter().filter_map(row).collect()
}

fn cells(row: &Row) -> [String; 7] {
    let Row { server, figure, before, after, difference } = row;
    let ratio = difference.map_or("-".into(), |difference| format!("{:.3}", difference.ratio));
    let interval = difference.and_then(|difference| difference.interval);
    let interval = interval.map_or("-".into(), |(low, high)| format!("{low:.3}-{high:.3}"));
    let verdict = difference.map_or("not comparable", |difference| difference.verdict.text());
    [server.clone(), figure.clone(), before.clone(), after.clone(), ratio, interval, verdict.into()]
}

/// Fails if a figure is worse by more than `percent`.
fn check(rows: &[Row], percent: f64) -> Result<()> {
    let worse = |row: &&Row| row.difference.is_some_and(|d| d.verdict == Verdict::Worse && d.worse_percent() > percent);
    let names: Vec<String> = rows.iter().filter(worse).map(|row| format!("{} {}", row.server, row.figure)).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::run(format!("worse by more than {percent} %: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Round;
    use crate::result::figures::{Figure, Figures};

    fn server(name: &str, peaks: &[f64]) -> Contender {
        let round = |peak: &f64| {
            let figures = Figures::from([
                ("peak".into(), Figure::higher(Some(*peak), "Mpps", false)),
                ("p50".into(), Figure::lower(Some(10.0 / peak), "us", false)),
            ]);
            Round { figures, ..Round::default() }
        };
        let rounds = peaks.iter().map(round).collect();
        Contender { name: name.into(), description: String::new(), baseline: false, rounds }
    }

    #[test]
    fn each_common_figure_is_a_row_with_its_verdict() {
        let rows = rows_of(&server("a", &[1.0, 1.1, 1.0, 1.0, 1.05]), &server("a", &[2.0, 2.2, 2.0, 2.1, 2.0]));
        let text: Vec<[String; 7]> = rows.iter().map(cells).collect();
        assert_eq!(text.len(), 2);
        for row in &text {
            assert_eq!(row[6], "better", "{row:?}");
        }
        assert!(check(&rows, 0.0).is_ok());
    }

    #[test]
    fn only_what_is_surely_worse_and_by_more_than_allowed_fails() {
        let rows = rows_of(&server("a", &[2.0; 5]), &server("a", &[1.8; 5]));
        assert!(check(&rows, 15.0).is_ok());
        let error = check(&rows, 5.0).unwrap_err();
        assert!(error.to_string().contains("a peak") && error.exit_code() == 1, "{error}");
        let few = rows_of(&server("a", &[2.0]), &server("a", &[1.0]));
        assert!(check(&few, 5.0).is_ok() && cells(&few[0])[6] == "too few rounds");
    }
}
