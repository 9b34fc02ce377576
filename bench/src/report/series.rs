//! What of a result is plotted, and what its axes are called.
//!
//! Trials of one name are comparable: each name makes plots of its own. Trials at one rate show the percentiles of
//! their latency and their course over time; trials at many rates, as a search makes them, show latency and goodput
//! against what was asked. Rounds are merged: distributions into one, courses by the median.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::axis::{Axis, Scale, number};
use super::plots::{Plot, Series};
use crate::compare::stats;
use crate::error::{Error, Result};
use crate::result::{BackEnd, Contender, Distribution, Document, Slice, Trial, Unit};

/// Rates from which on they make a curve.
const RATES: usize = 3;
/// Rates that are nearer to each other than a tenth are one.
const NEAR_PER_DECADE: f64 = 24.0;
/// From this ratio of highest to lowest load on, their axis is logarithmic.
const WIDE: f64 = 20.0;
/// Points of a percentile curve for each nine.
const STEPS: u32 = 50;
const LATENCY: &str = "latency, us";
/// What the dashed line is.
const OF_LATENCY: [&str; 2] = ["from the intended time", "from sending"];
const OF_LOAD: [&str; 2] = ["p50", "p99"];

/// All plots of a result; `prefix` begins their names.
///
/// # Errors
/// A histogram that cannot be read.
pub(super) fn plots(document: &Document, prefix: &str) -> Result<Vec<Plot>> {
    let mut measures: Vec<&str> = Vec::new();
    // What was measured anew for the generator's lateness is told, and shows nothing of a server.
    for trial in trials_of(document).filter(|trial| !trial.measure.ends_with("-late")) {
        if !measures.contains(&trial.measure.as_str()) {
            measures.push(&trial.measure);
        }
    }
    let mut plots = Vec::new();
    for measure in measures {
        let group = Group { document, measure, prefix };
        plots.extend(if group.is_sweep() {
            [group.load_latency(), group.load_goodput()]
        } else {
            [group.percentiles()?, group.course()]
        });
    }
    Ok(plots.into_iter().flatten().collect())
}

fn trials_of(document: &Document) -> impl Iterator<Item = &Trial> {
    document.servers.iter().flat_map(|server| &server.rounds).flat_map(|round| &round.trials)
}

/// The trials of one name.
struct Group<'a> {
    document: &'a Document,
    measure: &'a str,
    prefix: &'a str,
}

impl Group<'_> {
    fn trials<'s>(&'s self, server: &'s Contender) -> impl Iterator<Item = &'s Trial> + Clone {
        let trials = server.rounds.iter().flat_map(|round| &round.trials);
        trials.filter(|trial| trial.measure == self.measure)
    }

    fn servers(&self) -> impl Iterator<Item = (usize, &Contender)> {
        self.document.servers.iter().enumerate()
    }

    /// Any trial, for what all have in common.
    fn sample(&self) -> Option<&Trial> {
        trials_of(self.document).find(|trial| trial.measure == self.measure)
    }

    /// Whether a server was asked at several rates in one round.
    fn is_sweep(&self) -> bool {
        self.document.servers.iter().flat_map(|server| &server.rounds).any(|round| {
            let trials = round.trials.iter().filter(|trial| trial.measure == self.measure);
            let mut rates: Vec<f64> = trials.filter_map(|trial| trial.asked_per_s).collect();
            rates.sort_by(f64::total_cmp);
            rates.dedup();
            rates.len() >= RATES
        })
    }

    /// Whether all of its trials were asked at one rate.
    fn is_one_rate(&self) -> bool {
        let mut rates = self.servers().flat_map(|(_, server)| self.trials(server)).map(|trial| trial.asked_per_s);
        let first = rates.next();
        rates.all(|rate| Some(rate) == first)
    }

    fn plot(&self, kind: &str, title: &str, axes: [Option<Axis>; 2], series: Vec<Series>) -> Option<Plot> {
        let [Some(x), Some(y)] = axes else { return None };
        let mut caption = caption(self.sample()?, self.is_one_rate());
        if series.iter().any(|line| line.name.ends_with('+') || line.marks.iter().any(|mark| !mark.2)) {
            caption.push_str(" Hollow points, or a + behind the name: the load generator was the limit.");
        }
        Some(Plot {
            id: slug(&format!("{}-{}-{kind}", self.prefix, self.measure)),
            title: format!("{title}: {}", self.measure),
            caption,
            x,
            y,
            series,
            styles: None,
        })
    }

    /// Latency by percentile, of all rounds together.
    fn percentiles(&self) -> Result<Option<Plot>> {
        let mut series = Vec::new();
        for (index, server) in self.servers() {
            // Where some trials were not the generator's, only those.
            let own = self.trials(server).any(is_own);
            let trials = self.trials(server).filter(|trial| !own || is_own(trial));
            let name = if own { server.name.clone() } else { format!("{}+", server.name) };
            let intended = self.merged(trials.clone().map(|trial| trial.latency.as_ref()))?;
            let sending = self.merged(trials.map(|trial| trial.latency_from_sending.as_ref()))?;
            for (dashed, latency) in [(false, intended), (true, sending)] {
                let Some(latency) = latency else { continue };
                let points = percentiles(&latency);
                // One at each nine.
                let marks = points.iter().step_by(STEPS as usize).skip(1).map(|(x, y)| (*x, *y, true));
                let marks = if dashed { Vec::new() } else { marks.collect() };
                series.push(Series { name: name.clone(), server: Some(index), dashed, points, marks });
            }
        }
        let axes = axes(&series, ["percentile, %".into(), LATENCY.into()], [Scale::Nines, Scale::Log]);
        let styles = series.iter().any(|line| line.dashed).then_some(OF_LATENCY);
        let plot = self.plot("percentiles", "Latency by percentile", axes, series);
        Ok(plot.map(|plot| Plot { styles, ..plot }))
    }

    /// One distribution of several.
    fn merged<'a>(
        &self,
        distributions: impl Iterator<Item = Option<&'a Distribution>>,
    ) -> Result<Option<Histogram<u64>>> {
        let unreadable = || Error::run(format!("a histogram of `{}` cannot be read: is the file whole?", self.measure));
        let mut all: Option<Histogram<u64>> = None;
        for distribution in distributions.flatten() {
            let histogram = distribution.values().ok_or_else(unreadable)?;
            match &mut all {
                None => all = Some(histogram),
                Some(all) => all.add(histogram).map_err(|_| unreadable())?,
            }
        }
        Ok(all)
    }

    /// Rate over time: the median of the rounds, slice by slice.
    fn course(&self) -> Option<Plot> {
        let unit = self.sample()?.unit;
        let value = |slice: &Slice| match unit {
            Unit::Chunks => slice.bytes as f64 * 8e-9 / slice.seconds,
            _ => slice.completed as f64 / slice.seconds,
        };
        let most = self.servers().flat_map(|(_, server)| self.trials(server)).flat_map(|trial| &trial.slices);
        let (scale, label) = rate_unit(unit, most.map(value).fold(0.0, f64::max));
        let mut series = Vec::new();
        for (index, server) in self.servers() {
            let courses: Vec<&[Slice]> = self.trials(server).map(|trial| whole(&trial.slices)).collect();
            let longest = courses.iter().map(|slices| slices.len()).max().unwrap_or(0);
            let points = (0..longest).filter_map(|at| {
                let slices = || courses.iter().filter_map(|slices| slices.get(at));
                let time = slices().next().map(|slice| slice.at_seconds + slice.seconds / 2.0)?;
                Some((time, stats::spread(slices().map(|slice| Some(value(slice) / scale)))?.median))
            });
            let points: Vec<_> = points.collect();
            if points.len() > 1 {
                let marks = points.iter().step_by(points.len().div_ceil(12)).map(|(x, y)| (*x, *y, true)).collect();
                series.push(Series { name: server.name.clone(), server: Some(index), dashed: false, points, marks });
            }
        }
        let axes = axes(&series, ["time, s".into(), format!("throughput, {label}")], [Scale::Linear, Scale::Linear]);
        self.plot("course", "Throughput over time", axes, series)
    }

    /// p50 and p99 against the rate asked for.
    fn load_latency(&self) -> Option<Plot> {
        let (scale, label) = self.load_unit()?;
        let latency_us = |trial: &Trial, dashed: bool| {
            let latency = trial.latency.as_ref()?;
            Some(if dashed { latency.p99_ns } else { latency.p50_ns } as f64 / 1000.0)
        };
        let lines = self.servers().flat_map(|server| [(server, false), (server, true)]);
        let series: Vec<_> = lines
            .filter_map(|(server, dashed)| self.against_load(server, dashed, scale, |trial| latency_us(trial, dashed)))
            .collect();
        let scales = [load_scale(&series), Scale::Log];
        let axes = axes(&series, [format!("offered load, {label}"), LATENCY.into()], scales);
        let plot = self.plot("load-latency", "Latency against offered load", axes, series)?;
        Some(Plot { styles: Some(OF_LOAD), ..plot })
    }

    /// What came back against the rate asked for.
    fn load_goodput(&self) -> Option<Plot> {
        let (scale, label) = self.load_unit()?;
        let goodput = |trial: &Trial| Some(trial.completed_per_s / scale);
        let lines = self.servers().filter_map(|server| self.against_load(server, false, scale, goodput));
        let mut series: Vec<Series> = lines.collect();
        let scale = load_scale(&series);
        let marks = || series.iter().flat_map(|line| &line.marks);
        let highest = marks().map(|mark| mark.1).fold(0.0, f64::max);
        let lowest = if scale == Scale::Log { marks().map(|mark| mark.0).fold(highest, f64::min) } else { 0.0 };
        let points = vec![(lowest, lowest), (highest, highest)];
        series.push(Series { name: "all answered".into(), server: None, dashed: true, points, marks: Vec::new() });
        let labels = [format!("offered load, {label}"), format!("goodput, {label}")];
        let axes = axes(&series, labels, [scale, scale]);
        self.plot("load-goodput", "Goodput against offered load", axes, series)
    }

    /// A line through the trials of a server by their asked rate. The rates that a search asks for are near each other
    /// in all rounds, not the same: the line goes through the medians of those that are near.
    fn against_load(
        &self,
        (index, server): (usize, &Contender),
        dashed: bool,
        scale: f64,
        value: impl Fn(&Trial) -> Option<f64>,
    ) -> Option<Series> {
        let mut near = BTreeMap::<i32, Vec<(f64, f64, bool)>>::new();
        for trial in self.trials(server) {
            if let (Some(asked), Some(value)) = (trial.asked_per_s, value(trial)) {
                let bin = (asked.log10() * NEAR_PER_DECADE).round() as i32;
                near.entry(bin).or_default().push((asked / scale, value, is_own(trial)));
            }
        }
        let mut marks = Vec::with_capacity(near.len());
        for trials in near.values() {
            let own = trials.iter().any(|trial| trial.2);
            let used = || trials.iter().filter(|trial| trial.2 || !own);
            let [x, y] =
                [stats::spread(used().map(|trial| Some(trial.0))), stats::spread(used().map(|trial| Some(trial.1)))];
            marks.push((x?.median, y?.median, own));
        }
        let points = marks.iter().filter(|mark| mark.2).map(|(x, y, _)| (*x, *y)).collect();
        let marks = if dashed { Vec::new() } else { marks };
        let name = server.name.clone();
        (!near.is_empty()).then_some(Series { name, server: Some(index), dashed, points, marks })
    }

    /// What asked rates are divided by, and the unit then.
    fn load_unit(&self) -> Option<(f64, String)> {
        let asked = self.servers().flat_map(|(_, server)| self.trials(server)).filter_map(|trial| trial.asked_per_s);
        Some(rate_unit(self.sample()?.unit, asked.fold(0.0, f64::max)))
    }
}

/// Logarithmic where the servers' loads are of different orders.
fn load_scale(series: &[Series]) -> Scale {
    let loads = || series.iter().flat_map(|line| &line.marks).map(|mark| mark.0);
    let (lowest, highest) = (loads().fold(f64::INFINITY, f64::min), loads().fold(0.0, f64::max));
    if highest > WIDE * lowest { Scale::Log } else { Scale::Linear }
}

/// Axes that show all of the series.
fn axes(series: &[Series], labels: [String; 2], scales: [Scale; 2]) -> [Option<Axis>; 2] {
    let points = || {
        let marks = series.iter().flat_map(|line| line.marks.iter().map(|(x, y, _)| (*x, *y)));
        series.iter().flat_map(|line| line.points.iter().copied()).chain(marks)
    };
    let [x, y] = labels;
    [Axis::of(x, scales[0], points().map(|point| point.0)), Axis::of(y, scales[1], points().map(|point| point.1))]
}

/// Whether latency is the server's, and not the generator's that sent too little or too late.
fn is_own(trial: &Trial) -> bool {
    !trial.limited && trial.adherence.is_none_or(|adherence| adherence.punctual)
}

/// Nines and microseconds, up to the last sample.
fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let last = (latency.len().max(2) as f64).log10();
    let steps = (last * f64::from(STEPS)) as u32;
    let places = (0..=steps).map(|step| f64::from(step) / f64::from(STEPS)).chain([last]);
    let us = |nines: f64| latency.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64 / 1000.0;
    let mut points: Vec<_> = places.map(|nines| (nines, us(nines))).collect();
    points.push((last, latency.max() as f64 / 1000.0));
    points
}

/// Without a last slice that is much shorter than the others.
fn whole(slices: &[Slice]) -> &[Slice] {
    match slices {
        [first, .., last] if last.seconds < first.seconds * 0.7 => &slices[..slices.len() - 1],
        _ => slices,
    }
}

/// What rates up to `most` are divided by, and the unit then.
fn rate_unit(unit: Unit, most: f64) -> (f64, String) {
    let what = match unit {
        Unit::Chunks => return (1.0, "Gb/s".into()),
        Unit::Frames => "frames/s",
        Unit::Requests => "requests/s",
        Unit::Connections => "connections/s",
    };
    match most {
        _ if most >= 1e6 => (1e6, format!("million {what}")),
        _ if most >= 1e4 => (1e3, format!("thousand {what}")),
        _ => (1.0, what.into()),
    }
}

/// What was asked, and how it was measured.
fn caption(trial: &Trial, one_rate: bool) -> String {
    let bytes = number(f64::from(trial.size_bytes));
    let what = match trial.unit {
        Unit::Frames if !trial.mix.is_empty() => format!("UDP echo, frames of mixed sizes, {bytes} bytes on average"),
        Unit::Frames => format!("UDP echo, frames of {bytes} bytes"),
        Unit::Requests => format!("TCP requests and responses of {bytes} bytes"),
        Unit::Connections => format!("TCP connections, one request of {bytes} bytes on each"),
        Unit::Chunks => format!("TCP stream, {bytes} bytes at a time"),
    };
    let connections = match trial.connections {
        None => String::new(),
        Some(1) => ", 1 connection".into(),
        Some(connections) => format!(", {} connections", number(f64::from(connections))),
    };
    let how = if one_rate { trial.arrivals.describe(trial.asked_per_s) } else { "asked at different rates".into() };
    let by = match trial.back_end {
        BackEnd::LiveFrames => "BPF live frames",
        BackEnd::Kernel => "kernel sockets",
        BackEnd::OwnStack => "Barewire's own stack",
    };
    let from = trial.arrivals.latency_from();
    format!("{what}{connections}, {how}. Sent by {by}; latency {from} to {}.", trial.timestamps.describe())
}

/// Letters, digits and hyphens.
fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(plain).collect()
}
