//! The table of figures, whatever it is printed as.

use super::axis;
use crate::compare::bootstrap::{Difference, Rounds};
use crate::compare::stats::{self, Spread};
use crate::compare::watch;
use crate::result::{Contender, Document, figures};

/// Servers by figures.
#[derive(Debug)]
pub(super) struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Whom ratios are to.
    pub baseline: Option<String>,
}

/// A figure.
#[derive(Debug)]
pub(super) struct Column {
    pub name: String,
    pub unit: String,
}

/// A server.
#[derive(Debug)]
pub(super) struct Row {
    pub server: String,
    pub baseline: bool,
    /// Rounds in which other programs had a core.
    pub disturbed: usize,
    pub cells: Vec<Cell>,
}

/// A figure of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub spread: Option<Spread>,
    /// `+` if the generator was the limit in some round, `#` if the cores were apart.
    pub marks: &'static str,
    /// Against the baseline.
    pub ratio: Option<Difference>,
}

impl Column {
    /// `peak, Mpps`; what is only counted has no unit.
    pub(super) fn title(&self) -> String {
        if self.unit.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.unit) }
    }
}

impl Table {
    pub(super) fn of(document: &Document) -> Self {
        let servers = &document.servers;
        let all = servers.iter().flat_map(|server| &server.rounds).flat_map(|round| &round.figures);
        let names = figures::in_order(all);
        let baseline = servers.iter().find(|server| server.baseline).filter(|_| servers.len() > 1);
        let rows = servers.iter().map(|server| Row {
            server: server.name.clone(),
            baseline: baseline.is_some_and(|baseline| baseline.name == server.name),
            disturbed: server.rounds.iter().filter(|round| watch::disturbed(round)).count(),
            cells: names.iter().map(|name| cell(server, baseline, name)).collect(),
        });
        let rows = rows.collect();
        let column = |name: String| {
            let unit = servers.iter().find_map(|server| server.figure(&name)).map(|figure| figure.unit.clone());
            Column { unit: unit.unwrap_or_default(), name }
        };
        let baseline = baseline.map(|baseline| baseline.name.clone());
        Self { rows, columns: names.into_iter().map(column).collect(), baseline }
    }

    /// Whether any figure is the generator's.
    pub(super) fn any_limited(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.marks.contains('+'))
    }

    /// Rounds in which other programs had a core, of all servers.
    pub(super) fn disturbed(&self) -> usize {
        self.rows.iter().map(|row| row.disturbed).sum()
    }
}

fn cell(server: &Contender, baseline: Option<&Contender>, name: &str) -> Cell {
    let other = baseline.filter(|baseline| baseline.name != server.name);
    Cell {
        spread: stats::spread(server.all_values(name)),
        marks: server.marks(name),
        ratio: other.and_then(|other| Difference::of(server, other, name, Rounds::Interleaved)),
    }
}

/// A number with three digits that mean something, thousands apart.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 999.5 => axis::number(value.round()),
        _ if size >= 99.95 || size == 0.0 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Cell {
    /// `1.08`, or `1.08+` with its marks; a dash where nothing was measured.
    pub(super) fn median(&self) -> String {
        let Some(spread) = self.spread else { return "-".into() };
        figure(spread.median) + self.marks
    }

    /// `1.03-1.14`, where there were several rounds.
    pub(super) fn range(&self) -> Option<String> {
        let spread = self.spread.filter(|spread| spread.rounds > 1)?;
        Some(format!("{}-{}", figure(spread.min), figure(spread.max)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        let cases = [(0.0, "0"), (0.0123, "0.012"), (0.5, "0.50"), (1.084, "1.08"), (12.34, "12.3"), (216.5, "216")];
        for (value, text) in cases.into_iter().chain([(999.9, "1,000"), (353_107.97, "353,108")]) {
            assert_eq!(figure(value), text);
        }
    }
}
