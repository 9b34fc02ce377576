//! What all commands share: options, how long they run, and how figures are printed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::arrivals::Adherence;
use crate::error::{Error, Result};
use crate::histogram::{Latency, LatencySummary};
use crate::losses::{self, Counters};
use crate::report;
use crate::result::Document;

/// Options of every command that measures one server.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Core to run on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub core: usize,
    /// Metrics page of the server, to look for losses there
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Load a server that is neither in a network namespace made for it nor on this host's loopback: it is mine,
    /// and so is the network
    #[arg(long)]
    pub i_own_this_target: bool,
}

/// Where results go, besides standard output.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with tables and plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl OutputArgs {
    /// Writes what was asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&self, document: &Document) -> Result<()> {
        if let Some(file) = &self.json {
            document.write(file)?;
        }
        self.html.as_deref().map_or(Ok(()), |file| report::write_page(document, file))
    }
}

impl RunArgs {
    /// The counters on the server's metrics page, if one was named.
    ///
    /// # Errors
    /// The page cannot be read.
    pub(crate) fn server_metrics(&self) -> Result<Counters> {
        Ok(self.metrics.as_deref().map(losses::of_metrics).transpose()?.unwrap_or_default())
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

/// From the due time and from sending, where both were recorded, and how the schedule was kept.
pub(crate) fn print_open_loop(from_sending: Option<&Latency>, adherence: Option<&Adherence>) {
    if let Some(latency) = from_sending {
        print_latency(&latency.summary(), "from sending");
    }
    let Some(adherence) = adherence else { return };
    let us = |ns: u64| ns as f64 / 1000.0;
    println!(
        "schedule  {:.2} % taken, late by p50 {:.2} us, p99 {:.2}, max {:.2}",
        adherence.taken * 100.0,
        us(adherence.lag_p50_ns),
        us(adherence.lag_p99_ns),
        us(adherence.lag_max_ns)
    );
    if !adherence.kept {
        println!("schedule not kept: the generator sent too little, so this says nothing of the server");
    }
    if !adherence.punctual {
        println!("not punctual: the generator was late itself, so the latency is not the server's alone");
    }
}

/// Counters that grew, by place.
pub(crate) fn print_losses(losses: &BTreeMap<String, Counters>) {
    for (place, counters) in losses {
        for (name, growth) in counters {
            println!("            {growth:>10}     {place}: {name}");
        }
    }
}
