//! How spreads, ratios and bars are printed.

use super::bars::Bar;
use super::bootstrap::{Difference, Verdict};
use super::stats::Spread;
use crate::machine::Machine;

/// The bars of the engine, and whether each is met.
pub(crate) fn print_bars(bars: &[Bar], disturbed: bool) {
    if bars.is_empty() {
        return;
    }
    println!("\nBars for `barewire`\n");
    let head = ["bar", "asked", "seen", ""];
    let rows = bars.iter().map(|bar| {
        let met = match bar.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        let asked = format!("{} {}", bar.sense, bar.limit);
        let met = if disturbed { format!("{met} (cores shared)") } else { met.to_owned() };
        [bar.what.to_owned(), asked, number(bar.value, 2), met]
    });
    print_columns(head, rows.collect());
}

/// Says so if servers or generator did not have their cores to themselves.
pub(crate) fn print_disturbed(measurements: usize) {
    if measurements > 0 {
        println!(
            "\nNOT ALONE: in {measurements} measurements other programs had more than 2 % of a core. Stop them, run again."
        );
    }
}

/// Where a table comes from.
pub(crate) fn print_origin(network: &str, machine: &Machine) {
    println!("network: {network}");
    println!("machine: {}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
    println!("commit {}, `{}`", machine.commit, machine.command);
}

/// `1.52 (1.48-1.55)`, or `-` where nothing was measured.
pub(crate) fn number(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".into(),
        Some(Spread { median, min, max, .. }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    }
}

/// `1.52 [1.48-1.55]`, with a mark where that is no difference; without an interval where there were too few rounds.
pub(crate) fn ratio_cell(difference: Option<Difference>, digits: usize) -> String {
    let Some(Difference { ratio, interval, verdict }) = difference else { return "-".into() };
    let noise = if verdict == Verdict::NoDifference { " ~" } else { "" };
    let interval = interval.map_or(String::new(), |(low, high)| format!(" [{low:.digits$}-{high:.digits$}]"));
    format!("{ratio:.digits$}{interval}{noise}")
}

/// `text` with its marks, if there is anything to mark.
pub(crate) fn mark(text: String, marks: &str) -> String {
    if text == "-" { text } else { text + marks }
}

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn print_columns<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.into_iter().map(Vec::from));
    print_columns_of(&lines);
}

/// The same for lines that all have as many cells as the first.
pub(crate) fn print_columns_of(lines: &[Vec<String>]) {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Option<Spread> {
        Some(Spread { median, min: median, max: median, rounds: 5 })
    }

    #[test]
    fn what_was_not_measured_is_a_dash_without_marks() {
        assert_eq!(number(None, 2), "-");
        assert_eq!(mark(number(None, 2), "+"), "-");
        assert_eq!(mark(number(spread(1.5), 2), "+"), "1.50 (1.50-1.50)+");
    }

    #[test]
    fn a_ratio_that_is_no_difference_is_marked_and_one_of_few_rounds_has_no_interval() {
        let ratio = |interval, verdict| Some(Difference { ratio: 1.02, interval, verdict });
        assert_eq!(ratio_cell(ratio(Some((0.99, 1.04)), Verdict::NoDifference), 2), "1.02 [0.99-1.04] ~");
        assert_eq!(ratio_cell(ratio(Some((1.01, 1.04)), Verdict::Better), 2), "1.02 [1.01-1.04]");
        assert_eq!(ratio_cell(ratio(None, Verdict::Unknown), 2), "1.02");
        assert_eq!(ratio_cell(None, 2), "-");
    }
}
