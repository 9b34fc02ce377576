//! What all commands share: how long they run, how latency is printed, and the file that `--json` names.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::histogram::LatencySummary;

/// Lengths that a measurement may have.
///
/// # Errors
/// Says the range when `seconds` is outside it.
pub(crate) fn check_duration(seconds: f64) -> Result<()> {
    if seconds > 0.0 && seconds <= 3600.0 {
        return Ok(());
    }
    Err(Error::usage("--duration: from a fraction of a second to 3600"))
}

/// The line of a distribution; `from` is the moment that it counts from.
pub(crate) fn print_latency(latency: &LatencySummary, from: &str) {
    let us = |ns: u64| ns as f64 / 1000.0;
    println!(
        "latency   p50 {:.2} us, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}   {from}, {} samples",
        us(latency.p50_ns),
        us(latency.p90_ns),
        us(latency.p99_ns),
        us(latency.p999_ns),
        us(latency.max_ns),
        latency.samples
    );
}

/// Writes a report, if a file was asked for.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(file: Option<&Path>, report: &impl Serialize) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).context(|| "cannot write JSON".into())?;
    fs::write(file, text + "\n").context(|| format!("cannot write {}", file.display()))
}
