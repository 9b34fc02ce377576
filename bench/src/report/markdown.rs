//! The table of figures in Markdown, as the README shows it.

use std::fmt::Write;

use super::table::Table;
use crate::result::Document;

/// The table, and where it comes from.
pub(super) fn of(document: &Document) -> String {
    let table = Table::of(document);
    let mut text = String::from("| server |");
    for column in &table.columns {
        let _ = write!(text, " {} |", escaped(&column.title()));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(table.columns.len()));
    text.push('\n');
    for row in &table.rows {
        let _ = write!(text, "| {} |", escaped(&row.server));
        for cell in &row.cells {
            let range = cell.range().map(|range| format!(" ({range})")).unwrap_or_default();
            let _ = write!(text, " {}{range} |", cell.median());
        }
        text.push('\n');
    }
    text.push('\n');
    for note in notes(document, &table) {
        text.push_str(&note);
        text.push('\n');
    }
    text
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
    notes.push(format!("Commit {}, `{}`", machine.commit, machine.command));
    notes.iter().map(|note| if note.starts_with("Commit") { note.clone() } else { escaped(note) }).collect()
}

/// What would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
