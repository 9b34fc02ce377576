//! The table of a TCP comparison: medians and ranges, ratios, and the bars that the project sets itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Results;
use super::measure::{Measure, Measured};
use super::servers::Kind;
use crate::compare::Contestant;
use crate::compare::columns::{self, Bar, Values, mark, number};
use crate::compare::stats::{self, Spread};
use crate::machine::Machine;

/// All spreads of a comparison.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    rows: Vec<Row>,
    bars: Vec<Bar>,
    #[serde(skip)]
    measures: Vec<Measure>,
}

/// One server.
#[derive(Debug, Serialize)]
struct Row {
    server: &'static str,
    cells: BTreeMap<Measure, Cell>,
    core_shared_percent: Option<Spread>,
}

/// One measure of one server.
#[derive(Debug, Serialize)]
struct Cell {
    /// Thousands a second, or Gb/s of payload.
    rate: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    /// Ratios of rates within each round.
    over_kernel_epoll: Option<Spread>,
    over_smoltcp: Option<Spread>,
    /// In some round the client's core was the limit.
    at_least: bool,
    client_idle_percent: Option<Spread>,
    /// Connections that failed, all rounds told.
    failed: u64,
}

impl Table {
    pub(super) fn of(results: &Results, measures: &[Measure]) -> Self {
        let rows = results.iter().map(|(kind, rounds)| Row {
            server: kind.name(),
            cells: measures.iter().map(|measure| (*measure, Cell::of(results, rounds, *measure))).collect(),
            core_shared_percent: stats::spread(rounds.iter().map(|round| Some(100.0 * round.around.core_shared))),
        });
        let rows = rows.collect();
        let bars = if results.contains_key(&Kind::Barewire) { bars(results) } else { Vec::new() };
        Self { rows, bars, measures: measures.to_vec() }
    }

    pub(super) fn print(&self, results: &Results, machine: &Machine, network: &str, size: u32, seconds: f64) {
        let rounds = results.values().map(Vec::len).max().unwrap_or(0);
        println!("TCP, {size} B requests, one core each side: median of {rounds} rounds (range)\n");
        self.print_part(
            |measure| measure.title().to_owned(),
            &self.measures,
            |cell| mark(number(cell.rate, 1), cell.at_least),
        );
        println!("\nLatency of a request, or of a whole connection, in us\n");
        let transactions: Vec<Measure> = self.measures.iter().copied().filter(|measure| !measure.is_stream()).collect();
        let name = |measure: Measure| measure.title().trim_end_matches(" k/s");
        self.print_part(|measure| format!("{} p50", name(measure)), &transactions, |cell| number(cell.p50_us, 2));
        println!();
        self.print_part(|measure| format!("{} p99", name(measure)), &transactions, |cell| number(cell.p99_us, 1));
        println!("\nRates over those of kernel-epoll, round by round\n");
        let short = |measure: Measure| measure.title().rsplit_once(' ').map_or("", |(name, _)| name).to_owned();
        self.print_part(short, &self.measures, |cell| number(cell.over_kernel_epoll, 2));
        println!("\nRates over those of smoltcp, round by round\n");
        self.print_part(short, &self.measures, |cell| number(cell.over_smoltcp, 2));
        println!("\nThe client's time with nothing to do, in %\n");
        self.print_part(short, &self.measures, |cell| number(cell.client_idle_percent, 1));
        let disturbed = results.values().flatten().filter(|measured| measured.around.disturbed()).count();
        columns::print_bars(&self.bars, disturbed > 0);
        columns::print_disturbed(disturbed);
        self.print_footnotes(results, seconds);
        columns::print_origin(network, machine);
    }

    /// A row for each server, with a cell for each of `measures`.
    fn print_part(&self, title: impl Fn(Measure) -> String, measures: &[Measure], cell: impl Fn(&Cell) -> String) {
        let mut lines = vec![vec!["server".to_owned()]];
        lines[0].extend(measures.iter().copied().map(title));
        for row in &self.rows {
            let cells = measures.iter().map(|measure| row.cells.get(measure).map_or_else(|| "-".into(), &cell));
            lines.push(std::iter::once(row.server.to_owned()).chain(cells).collect());
        }
        columns::print_lines(&lines);
    }

    fn print_footnotes(&self, results: &Results, seconds: f64) {
        println!(
            "\nrr N: requests over N connections, one outstanding on each. crr: connect, 1 B there and back, close;"
        );
        println!("16 at a time, the client closing first. send: into discard, as acknowledged. receive: from chargen.");
        println!(
            "Trials of {seconds} s after {} s of warm-up. +: at least; the client's core was the limit.",
            seconds / 4.0
        );
        for row in &self.rows {
            let failed: u64 = row.cells.values().map(|cell| cell.failed).sum();
            if failed > 0 {
                println!("{}: {failed} connections FAILED", row.server);
            }
            if let Some(spread) = row.core_shared_percent {
                println!("{}: cores shared with others for {} % of the time", row.server, number(Some(spread), 1));
            }
        }
        for (kind, rounds) in results {
            println!("{}: {}", kind.name(), kind.description());
            println!("    {}", rounds.last().map_or("", |measured| measured.ready.as_str()));
        }
    }
}

impl Cell {
    fn of(results: &Results, rounds: &[Measured], measure: Measure) -> Self {
        let own = rates(rounds, measure);
        let over = |kind| stats::ratio(&own, &rates(results.get(&kind).map_or(&[][..], Vec::as_slice), measure));
        let figures = || rounds.iter().filter_map(|round| round.figures.get(&measure));
        Self {
            rate: stats::spread(own.iter().copied()),
            p50_us: stats::spread(rounds.iter().map(|round| round.latency_us(measure, |l| l.p50_ns))),
            p99_us: stats::spread(rounds.iter().map(|round| round.latency_us(measure, |l| l.p99_ns))),
            over_kernel_epoll: over(Kind::KernelEpoll),
            over_smoltcp: over(Kind::Smoltcp),
            at_least: rounds.iter().any(|round| round.client_limited(measure)),
            client_idle_percent: stats::spread(figures().map(|figure| Some(100.0 * figure.client_idle))),
            failed: figures().map(|figure| figure.failed).sum(),
        }
    }
}

fn rates(rounds: &[Measured], measure: Measure) -> Values {
    rounds.iter().map(|round| round.rate(measure)).collect()
}

fn bars(results: &Results) -> Vec<Bar> {
    let over = |kind, measure| {
        let of = |kind| rates(results.get(&kind).map_or(&[][..], Vec::as_slice), measure);
        stats::ratio(&of(Kind::Barewire), &of(kind))
    };
    vec![
        Bar::at_least(
            "requests over 1 connection, of the kernel's epoll echo",
            1.5,
            over(Kind::KernelEpoll, Measure::Rr1),
        ),
        Bar::at_least("requests over 1 connection, of smoltcp's echo", 1.05, over(Kind::Smoltcp, Measure::Rr1)),
        Bar::at_least("connections, of the kernel's", 1.4, over(Kind::KernelEpoll, Measure::Crr)),
        Bar::at_least("bulk into discard, of the kernel's", 1.0, over(Kind::KernelEpoll, Measure::Send)),
        Bar::at_least("bulk from chargen, of the kernel's", 1.0, over(Kind::KernelEpoll, Measure::Receive)),
    ]
}
