//! The table of a comparison: medians and ranges, ratios, and the bars that the project sets itself.

use serde::Serialize;

use super::measure::Measured;
use super::servers::Kind;
use super::stats::{self, Spread};
use super::{NETWORK, Rounds};
use crate::machine::Machine;

/// Figures by round.
type Values = Vec<Option<f64>>;

/// All spreads of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    bars: Vec<Bar>,
}

/// One server.
#[derive(Debug, Serialize)]
struct Row {
    server: &'static str,
    peak_mpps: Option<Spread>,
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

/// A figure that the engine is to reach.
#[derive(Debug, Serialize)]
struct Bar {
    what: &'static str,
    /// "at least" or "at most".
    sense: &'static str,
    limit: f64,
    value: Option<Spread>,
    met: Option<bool>,
}

/// The figures that are compared.
struct Series {
    peak: Values,
    loss_free: Values,
    p50: Values,
}

impl Table {
    pub(crate) fn of(results: &Rounds) -> Self {
        let series = |kind| Series::of(results.get(&kind).map_or(&[][..], Vec::as_slice));
        let (epoll, spin, bare) = (series(Kind::KernelEpoll), series(Kind::KernelSpin), series(Kind::BareAfXdp));
        let kernel = Series {
            peak: stats::better(&epoll.peak, &spin.peak, f64::max),
            loss_free: stats::better(&epoll.loss_free, &spin.loss_free, f64::max),
            p50: stats::better(&epoll.p50, &spin.p50, f64::min),
        };
        let rows = results.iter().map(|(kind, rounds)| Row::of(*kind, rounds, &kernel, &bare)).collect();
        let engine = results.get(&Kind::Barewire);
        let bars = engine.map_or(Vec::new(), |rounds| bars(rounds, &kernel, &epoll, &spin, &bare));
        Self { rows, bars }
    }

    pub(crate) fn print(&self, results: &Rounds, machine: &Machine, frame_len: usize, seconds: f64) {
        let rounds = results.values().map(Vec::len).max().unwrap_or(0);
        println!("UDP echo, {frame_len} B frames, one core each side: median of {rounds} rounds (range)\n");
        let head =
            ["server", "peak Mpps", "loss-free Mpps", "at 2x overload", "p50 us", "p90 us", "p99 us", "core shared %"];
        let rows = self.rows.iter().map(|row| {
            let mpps = |spread| mark(number(spread, 2), row.at_least);
            [
                row.server.to_owned(),
                mpps(row.peak_mpps),
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
        let disturbed = results.values().flatten().filter(|measured| measured.disturbed()).count();
        self.print_bars(disturbed > 0);
        if disturbed > 0 {
            println!(
                "\nNOT ALONE: in {disturbed} measurements other programs had more than 2 % of a core. Stop them, run again."
            );
        }
        self.print_footnotes(results, machine, seconds);
    }

    fn print_bars(&self, disturbed: bool) {
        if self.bars.is_empty() {
            return;
        }
        println!("\nBars for `barewire`\n");
        let head = ["bar", "asked", "seen", ""];
        let rows = self.bars.iter().map(|bar| {
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

    fn print_footnotes(&self, results: &Rounds, machine: &Machine, seconds: f64) {
        println!("\nkernel: the better of both kernel echoes in each round. bare: the AF_XDP loop without a stack.");
        println!("loss-free: highest offered rate with at most 1 % lost and 3 % late. Trials of {seconds} s.");
        println!(
            "core shared: part of the time in which generator or server waited for its core; alone, next to nothing."
        );
        println!("p50, p90, p99: from the intended time, at 100,000 frames a second.");
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
        println!("network: {NETWORK}");
        println!("machine: {}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
        println!("commit {}, `{}`", machine.commit, machine.command);
    }
}

impl Row {
    fn of(kind: Kind, rounds: &[Measured], kernel: &Series, bare: &Series) -> Self {
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
            loss_free_mpps: mpps(&own.loss_free),
            overload: stats::spread(rounds.iter().map(Measured::overload_ratio)),
            p50_us: stats::spread(own.p50.iter().copied()),
            p90_us: stats::spread(rounds.iter().map(|measured| measured.latency_us(|l| l.p90_ns))),
            p99_us: stats::spread(rounds.iter().map(|measured| measured.latency_us(|l| l.p99_ns))),
            core_shared_percent: stats::spread(rounds.iter().map(|measured| Some(100.0 * measured.core_shared))),
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

impl Bar {
    fn at_least(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at least", limit, value, met: value.map(|value| value.median >= limit) }
    }

    fn at_most(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at most", limit, value, met: value.map(|value| value.median <= limit) }
    }
}

/// `1.52 (1.48-1.55)`, or `-` where nothing was measured.
fn number(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".into(),
        Some(Spread { median, min, max, .. }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    }
}

fn mark(text: String, at_least: bool) -> String {
    if at_least && text != "-" { text + "+" } else { text }
}

/// Columns as wide as their widest cell, two spaces apart.
fn print_columns<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let widths: Vec<usize> =
        (0..N).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
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
