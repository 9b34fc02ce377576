//! Axes: where a value stands, and which values are labelled.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Powers of ten are as far from each other as the next.
    Log,
    /// Values are "nines": 0, 1, 2, 3 stand for the percentiles 0, 90, 99, 99.9.
    Nines,
}

/// An axis that shows all of what it was made for.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub label: String,
    scale: Scale,
    from: f64,
    to: f64,
    /// Values that are labelled, with their labels.
    ticks: Vec<(f64, String)>,
    /// Values with lines that are not.
    between: Vec<f64>,
}

/// Labels of a linear axis.
const LABELS: f64 = 6.0;

impl Axis {
    /// With room for all `values`; a linear one begins at 0. `None` if there are none.
    pub(super) fn of(label: String, scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let usable = |value: &f64| value.is_finite() && (scale != Scale::Log || *value > 0.0);
        let (low, high) = values.filter(usable).fold(None, |found: Option<(f64, f64)>, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let (from, to, ticks, between) = match scale {
            Scale::Linear => linear(high),
            Scale::Log => log(low, high),
            Scale::Nines => nines(high),
        };
        Some(Self { label, scale, from, to, ticks, between })
    }

    /// Where a value stands, from 0 to 1; what has no place (0 on a logarithmic axis) stands at the beginning.
    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Log if value > 0.0 => (value / self.from).log10() / (self.to / self.from).log10(),
            Scale::Log => 0.0,
            Scale::Linear | Scale::Nines => (value - self.from) / (self.to - self.from),
        };
        part.clamp(0.0, 1.0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (f64::from(last - first) * self.place(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return self.between.clone();
        }
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

type Parts = (f64, f64, Vec<(f64, String)>, Vec<f64>);

/// From 0, with labels at 1, 2 or 5 times a power of ten.
fn linear(high: f64) -> Parts {
    let high = if high > 0.0 { high } else { 1.0 };
    let step = step_above(high / LABELS);
    let steps = (high * 1.02 / step).ceil().max(1.0);
    let ticks = (0..=steps as u32).map(|i| f64::from(i) * step).map(|value| (value, number(value))).collect();
    (0.0, steps * step, ticks, Vec::new())
}

/// The first of 1, 2, 5, 10 ... that is not below `least`.
fn step_above(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= least * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// The last of 1, 2, 5, 10 ... that is not above `most`.
fn step_below(most: f64) -> f64 {
    let power = 10f64.powf(most.log10().floor());
    let step = [5.0, 2.0].into_iter().find(|step| step * power <= most * (1.0 + 1e-9));
    step.unwrap_or(1.0) * power
}

/// Powers of ten, and where these are few also twice and five times them.
fn log(low: f64, high: f64) -> Parts {
    let (low, mut high) = (step_below(low), step_above(high));
    if high <= low {
        high = step_above(low * 1.5);
    }
    let decades = (high / low).log10();
    let labelled: &[u32] = if decades <= 3.5 { &[1, 2, 5] } else { &[1] };
    let (mut ticks, mut between) = (Vec::new(), Vec::new());
    for power in low.log10().floor() as i32..=high.log10().ceil() as i32 {
        for digit in 1..10 {
            let value = f64::from(digit) * 10f64.powi(power);
            if value < low * (1.0 - 1e-9) || value > high * (1.0 + 1e-9) {
                continue;
            }
            between.push(value);
            if labelled.contains(&digit) {
                ticks.push((value, number(value)));
            }
        }
    }
    (low, high, ticks, between)
}

/// Percentiles up to the first with so many nines.
fn nines(high: f64) -> Parts {
    let last = high.ceil().clamp(1.0, 9.0);
    let label = |nines: u32| match nines {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        _ => format!("99.{}", "9".repeat(nines as usize - 2)),
    };
    let mut ticks: Vec<_> = (0..=last as u32).map(|nines| (f64::from(nines), label(nines))).collect();
    ticks.insert(1, (2f64.log10(), "50".to_owned()));
    (0.0, last, ticks, Vec::new())
}

/// Without superfluous digits, thousands apart: `0.5`, `2,500`.
pub(super) fn number(value: f64) -> String {
    let decimals = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize };
    let text = format!("{value:.decimals$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = part.trim_end_matches('0');
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if part.is_empty() { grouped } else { format!("{grouped}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::of("x, us".into(), scale, values.iter().copied()).unwrap();
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_0_and_has_a_handful_of_round_labels() {
        assert_eq!(labels(Scale::Linear, &[1.04]), ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"]);
        assert_eq!(labels(Scale::Linear, &[700.0, 2300.0]), ["0", "500", "1,000", "1,500", "2,000", "2,500"]);
        assert_eq!(labels(Scale::Linear, &[0.0]).first().unwrap(), "0");
    }

    #[test]
    fn a_logarithmic_axis_has_few_labels_over_many_decades_and_more_over_few() {
        assert_eq!(labels(Scale::Log, &[3.0, 45.0]), ["2", "5", "10", "20", "50"]);
        assert_eq!(labels(Scale::Log, &[0.4, 90_000.0]), ["1", "10", "100", "1,000", "10,000", "100,000"]);
        assert_eq!(labels(Scale::Log, &[10.0]), ["10", "20"]);
        let axis = Axis::of(String::new(), Scale::Log, [1.0, 100.0].into_iter()).unwrap();
        assert_eq!((axis.place(10.0), axis.place(0.0)), (0.5, 0.0));
        assert_eq!((axis.map(&10.0, (0, 200)), axis.map(&10.0, (300, 100))), (100, 200));
    }

    #[test]
    fn percentiles_are_labelled_by_their_nines() {
        assert_eq!(labels(Scale::Nines, &[0.0, 4.2]), ["0", "50", "90", "99", "99.9", "99.99", "99.999"]);
    }

    #[test]
    fn an_axis_of_nothing_is_none() {
        assert!(Axis::of(String::new(), Scale::Log, [0.0, f64::NAN].into_iter()).is_none());
    }

    #[test]
    fn numbers_have_their_thousands_apart_and_no_superfluous_digit() {
        let cases = [(0.0, "0"), (0.05, "0.05"), (1.0, "1"), (999.0, "999"), (1e6, "1,000,000"), (-1500.0, "-1,500")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
