//! Tables of spreads, and the bars that the project sets itself.

use serde::Serialize;

use super::stats::Spread;
use crate::machine::Machine;

/// Figures by round.
pub(crate) type Values = Vec<Option<f64>>;

/// A figure that the engine is to reach.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    what: &'static str,
    /// "at least" or "at most".
    sense: &'static str,
    limit: f64,
    value: Option<Spread>,
    met: Option<bool>,
}

impl Bar {
    pub(crate) fn at_least(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at least", limit, value, met: value.map(|value| value.median >= limit) }
    }

    pub(crate) fn at_most(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at most", limit, value, met: value.map(|value| value.median <= limit) }
    }
}

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

pub(crate) fn mark(text: String, at_least: bool) -> String {
    if at_least && text != "-" { text + "+" } else { text }
}

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn print_columns<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.into_iter().map(Vec::from));
    print_lines(&lines);
}

/// The same for lines that all have as many cells as the first.
pub(crate) fn print_lines(lines: &[Vec<String>]) {
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
    fn a_bar_is_met_by_its_median_and_unknown_without_one() {
        assert_eq!(Bar::at_least("x", 2.0, spread(2.0)).met, Some(true));
        assert_eq!(Bar::at_least("x", 2.0, spread(1.99)).met, Some(false));
        assert_eq!(Bar::at_most("x", 0.6, spread(0.61)).met, Some(false));
        assert_eq!(Bar::at_most("x", 0.6, None).met, None);
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_never_at_least() {
        assert_eq!(number(None, 2), "-");
        assert_eq!(mark(number(None, 2), true), "-");
        assert_eq!(mark(number(spread(1.5), 2), true), "1.50 (1.50-1.50)+");
    }
}
