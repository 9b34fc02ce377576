//! `barewire-bench diff`: two results side by side.

use std::path::PathBuf;

use clap::Args;

use crate::compare::columns;
use crate::compare::stats;
use crate::error::{Error, Result};
use crate::result::{Contender, Document};

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The result to compare with
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The other
    #[arg(value_name = "B.json")]
    after: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read, or results without a server or figure in common.
pub(crate) fn run(args: &DiffArgs) -> Result<()> {
    let (before, after) = (Document::read(&args.before)?, Document::read(&args.after)?);
    let mut rows = Vec::new();
    // Results of one server each are compared whatever the servers' names.
    let alone = before.servers.len() == 1 && after.servers.len() == 1;
    for old in &before.servers {
        if let Some(new) = after.servers.iter().find(|new| alone || new.name == old.name) {
            rows.extend(rows_of(old, new));
        }
    }
    if rows.is_empty() {
        return Err(Error::run("the two results have no server with the same figure: nothing to compare"));
    }
    columns::print_columns(["server", "figure", "before", "after", "after/before"], rows);
    Ok(())
}

fn rows_of(old: &Contender, new: &Contender) -> Vec<[String; 5]> {
    let Some(first) = old.rounds.first() else { return Vec::new() };
    let row = |name: &String| {
        let (a, b) = (old.values(name), new.values(name));
        let spread = |values: &[Option<f64>]| stats::spread(values.iter().copied());
        let (a, b) = (spread(&a)?, spread(&b)?);
        let unit = &first.figures[name].unit;
        let ratio = if a.median == 0.0 { "-".into() } else { format!("{:.3}", b.median / a.median) };
        let cell = |spread| format!("{} {unit}", columns::number(Some(spread), 3));
        Some([old.name.clone(), name.clone(), cell(a), cell(b), ratio])
    };
    first.figures.keys().filter_map(row).collect()
}
