//! What all commands share: options, how long they run, how latency is printed, and the file that `--json` names.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::histogram::LatencySummary;
use crate::losses::{self, Counters};

/// Options of every command that measures one server.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Core to run on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub core: usize,
    /// Metrics page of the server, to look for losses there
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Flood a server outside the network namespaces made for it: it is mine, and so is the network
    #[arg(long)]
    pub i_own_this_target: bool,
}

impl RunArgs {
    /// The counters on the server's metrics page, if one was named.
    ///
    /// # Errors
    /// The page cannot be read.
    pub(crate) fn server_metrics(&self) -> Result<Counters> {
        Ok(self.metrics.as_deref().map(losses::of_metrics).transpose()?.unwrap_or_default())
    }

    /// Writes a report, if a file was asked for.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, report: &impl Serialize) -> Result<()> {
        write(self.json.as_deref(), report)
    }
}

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
