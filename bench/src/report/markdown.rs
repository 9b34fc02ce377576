//! The table of figures in Markdown, as the README shows it.

use super::table::{Cell, Table};
use crate::result::{Document, placement};

/// Figures of which more do not stand beside each other on a page.
const WIDE: usize = 7;

/// The table, and where it comes from.
pub(super) fn of(document: &Document) -> String {
    let table = Table::of(document);
    let mut text = if table.columns.len() > WIDE { by_figure(&table) } else { by_server(&table) };
    text.push('\n');
    for note in notes(document, &table) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// Servers below each other, and their figures beside each other.
fn by_server(table: &Table) -> String {
    let head = table.columns.iter().map(|column| escaped(&column.title()));
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| format!("{}{}", cell.median(), range(cell)));
        std::iter::once(escaped(&row.server)).chain(cells).collect()
    });
    lines(std::iter::once("server".to_owned()).chain(head).collect(), rows)
}

/// The other way round, with ratios to the baseline.
fn by_figure(table: &Table) -> String {
    let head = table.rows.iter().map(|row| escaped(&row.server));
    let rows = table.columns.iter().enumerate().map(|(index, column)| {
        let cells = table.rows.iter().map(|row| {
            let cell = &row.cells[index];
            let ratio = cell.ratio.as_ref().map(|ratio| format!(", {:.2}x", ratio.ratio)).unwrap_or_default();
            format!("{}{}{ratio}", cell.median(), range(cell))
        });
        std::iter::once(escaped(&column.title())).chain(cells).collect()
    });
    lines(std::iter::once("figure".to_owned()).chain(head).collect(), rows)
}

fn range(cell: &Cell) -> String {
    cell.range().map(|range| format!(" ({range})")).unwrap_or_default()
}

fn lines(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows: String = rows.map(|cells| line(&cells)).collect();
    line(&head) + &rule + &rows
}

/// Lines under the table.
fn notes(document: &Document, table: &Table) -> Vec<String> {
    let rounds = document.servers.iter().map(|server| server.rounds.len()).max().unwrap_or(0);
    let machine = &document.machine;
    let mut notes = vec![match rounds {
        0 => "No round was whole.".into(),
        1 => "One round.".into(),
        _ => format!("Medians of {rounds} rounds, with the range."),
    }];
    if table.any_limited() {
        notes.push("`+`: at least as good; the generator was the limit.".into());
    }
    notes.extend(placement::told(document));
    if table.disturbed() > 0 {
        let measurements: usize = document.servers.iter().map(|server| server.rounds.len()).sum();
        notes.push(format!(
            "In {} of {measurements} measurements other programs had more than 2 % of a core.",
            table.disturbed()
        ));
    }
    notes.push(format!(
        "{}, {} cores, Linux {}; {}.",
        machine.cpu, machine.cores, machine.kernel, document.network.description
    ));
    if let Some(baseline) = table.baseline.as_ref().filter(|_| table.columns.len() > WIDE) {
        notes.push(format!("`x`: to {}, of ratios round by round.", escaped(baseline)));
    }
    notes.push(format!("Commit {}, `{}`", machine.commit, machine.command));
    notes.iter().map(|note| if note.starts_with("Commit") { note.clone() } else { escaped(note) }).collect()
}

/// What would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
