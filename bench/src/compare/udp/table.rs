//! The table of a comparison: medians and ranges, ratios, and the bars that the project sets itself.

use serde::Serialize;

use super::Results;
use super::measure::{Measured, latency_pps};
use super::servers::Kind;
use crate::compare::Contestant;
use crate::compare::columns::{self, Bar, Values, mark, number, print_columns};
use crate::compare::stats::{self, Spread};
use crate::machine::Machine;

/// All spreads of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    bars: Vec<Bar>,
    #[serde(skip)]
    frame_len: usize,
}

/// One server.
#[derive(Debug, Serialize)]
struct Row {
    server: &'static str,
    peak_mpps: Option<Spread>,
    /// The same in 10^9 bits of frames a second, each way.
    peak_gbps: Option<Spread>,
    loss_free_mpps: Option<Spread>,
    /// Goodput at twice the own peak, as part of the peak.
    overload: Option<Spread>,
    p50_us: Option<Spread>,
    p90_us: Option<Spread>,
    p99_us: Option<Spread>,
    core_shared_percent: Option<Spread>,
    over_kernel: Ratios,
    over_bare: Ratios,
    /// In some round the generator ended the search.
    at_least: bool,
}

/// Ratios within each round.
#[derive(Debug, Serialize)]
struct Ratios {
    peak: Option<Spread>,
    loss_free: Option<Spread>,
    p50: Option<Spread>,
}

/// The figures that are compared.
struct Series {
    peak: Values,
    loss_free: Values,
    p50: Values,
}

impl Table {
    pub(crate) fn of(results: &Results, frame_len: usize) -> Self {
        let series = |kind| Series::of(results.get(&kind).map_or(&[][..], Vec::as_slice));
        let (epoll, spin, bare) = (series(Kind::KernelEpoll), series(Kind::KernelSpin), series(Kind::BareAfXdp));
        let kernel = Series {
            peak: stats::better(&epoll.peak, &spin.peak, f64::max),
            loss_free: stats::better(&epoll.loss_free, &spin.loss_free, f64::max),
            p50: stats::better(&epoll.p50, &spin.p50, f64::min),
        };
        let rows = results.iter().map(|(kind, rounds)| Row::of(*kind, rounds, frame_len, &kernel, &bare)).collect();
        let engine = results.get(&Kind::Barewire);
        let bars = engine.map_or(Vec::new(), |rounds| bars(rounds, &kernel, &epoll, &spin, &bare));
        Self { rows, bars, frame_len }
    }

    pub(crate) fn print(&self, results: &Results, machine: &Machine, network: &str, seconds: f64) {
        let rounds = results.values().map(Vec::len).max().unwrap_or(0);
        println!("UDP echo, {} B frames, one core each side: median of {rounds} rounds (range)\n", self.frame_len);
        let head = [
            "server",
            "peak Mpps",
            "peak Gb/s",
            "loss-free Mpps",
            "at 2x overload",
            "p50 us",
            "p90 us",
            "p99 us",
            "core shared %",
        ];
        let rows = self.rows.iter().map(|row| {
            let mpps = |spread| mark(number(spread, 2), row.at_least);
            [
                row.server.to_owned(),
                mpps(row.peak_mpps),
                mark(number(row.peak_gbps, 2), row.at_least),
                mpps(row.loss_free_mpps),
                number(row.overload, 2),
                number(row.p50_us, 2),
                number(row.p90_us, 2),
                number(row.p99_us, 1),
                number(row.core_shared_percent, 1),
            ]
        });
        print_columns(head, rows.collect());
        println!("\nRatios, round by round (peak, loss-free: more is better; p50: less is better)\n");
        let head = ["server", "peak/kernel", "loss-free/k.", "p50/kernel", "peak/bare", "loss-free/b.", "p50/bare"];
        let rows = self.rows.iter().map(|row| {
            let Row { over_kernel: k, over_bare: b, .. } = row;
            let name = row.server.to_owned();
            let [k1, k2, k3, b1, b2, b3] =
                [k.peak, k.loss_free, k.p50, b.peak, b.loss_free, b.p50].map(|spread| number(spread, 2));
            [name, k1, k2, k3, b1, b2, b3]
        });
        print_columns(head, rows.collect());
        let disturbed = results.values().flatten().filter(|measured| measured.around.disturbed()).count();
        columns::print_bars(&self.bars, disturbed > 0);
        columns::print_disturbed(disturbed);
        self.print_footnotes(results, machine, network, seconds);
    }

    fn print_footnotes(&self, results: &Results, machine: &Machine, network: &str, seconds: f64) {
        println!("\nkernel: the better of both kernel echoes in each round. bare: the AF_XDP loop without a stack.");
        println!("loss-free: highest offered rate with at most 1 % lost and 3 % late. Trials of {seconds} s.");
        println!(
            "core shared: part of the time in which generator or server waited for its core; alone, next to nothing."
        );
        println!("p50, p90, p99: from the intended time, at {} frames a second.", latency_pps(self.frame_len));
        if self.rows.iter().any(|row| row.at_least) {
            println!("+: at least; the generator could send no more.");
        }
        for (kind, rounds) in results {
            let hook = match kind.hook() {
                crate::udp::receiver::Hook::Tc => "TC",
                crate::udp::receiver::Hook::Xdp => "XDP",
            };
            let ready = rounds.last().map_or("", |measured| measured.ready.as_str());
            println!("{}: {}; replies received at {hook}", kind.name(), kind.description());
            println!("    {ready}");
        }
        columns::print_origin(network, machine);
    }
}

impl Row {
    fn of(kind: Kind, rounds: &[Measured], frame_len: usize, kernel: &Series, bare: &Series) -> Self {
        let own = Series::of(rounds);
        let over = |other: &Series| Ratios {
            peak: stats::ratio(&own.peak, &other.peak),
            loss_free: stats::ratio(&own.loss_free, &other.loss_free),
            p50: stats::ratio(&own.p50, &other.p50),
        };
        let mpps = |values: &Values| stats::spread(values.iter().map(|value| value.map(|pps| pps / 1e6)));
        Self {
            server: kind.name(),
            peak_mpps: mpps(&own.peak),
            peak_gbps: stats::spread(own.peak.iter().map(|value| value.map(|pps| pps * frame_len as f64 * 8e-9))),
            loss_free_mpps: mpps(&own.loss_free),
            overload: stats::spread(rounds.iter().map(Measured::overload_ratio)),
            p50_us: stats::spread(own.p50.iter().copied()),
            p90_us: stats::spread(rounds.iter().map(|measured| measured.latency_us(|l| l.p90_ns))),
            p99_us: stats::spread(rounds.iter().map(|measured| measured.latency_us(|l| l.p99_ns))),
            core_shared_percent: stats::spread(rounds.iter().map(|measured| Some(100.0 * measured.around.core_shared))),
            over_kernel: over(kernel),
            over_bare: over(bare),
            at_least: rounds.iter().any(|measured| measured.found.generator_limited),
        }
    }
}

impl Series {
    fn of(rounds: &[Measured]) -> Self {
        Self {
            peak: rounds.iter().map(Measured::peak_pps).collect(),
            loss_free: rounds.iter().map(Measured::loss_free_pps).collect(),
            p50: rounds.iter().map(|measured| measured.latency_us(|l| l.p50_ns)).collect(),
        }
    }
}

fn bars(rounds: &[Measured], kernel: &Series, epoll: &Series, spin: &Series, bare: &Series) -> Vec<Bar> {
    let own = Series::of(rounds);
    let overload = stats::spread(rounds.iter().map(Measured::overload_ratio));
    vec![
        Bar::at_least("peak, of the better kernel echo", 2.0, stats::ratio(&own.peak, &kernel.peak)),
        Bar::at_least("peak, of the bare AF_XDP loop", 0.95, stats::ratio(&own.peak, &bare.peak)),
        Bar::at_least("loss-free rate, of the kernel", 1.5, stats::ratio(&own.loss_free, &kernel.loss_free)),
        Bar::at_least("goodput at 2x overload, of own peak", 0.8, overload),
        Bar::at_most("p50, of the epoll echo", 0.25, stats::ratio(&own.p50, &epoll.p50)),
        Bar::at_most("p50, of the spinning kernel echo", 0.6, stats::ratio(&own.p50, &spin.p50)),
        Bar::at_most("p50, of the bare AF_XDP loop", 1.1, stats::ratio(&own.p50, &bare.p50)),
    ]
}
