//! The figures of a round: a name, a number, a unit, and which way is better.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The figures of one round by name, such as `peak` or `p50`.
pub(crate) type Figures = BTreeMap<String, Figure>;

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// `null` where the trials could not show it.
    pub value: Option<f64>,
    /// `Mpps`, `k/s`, `Gb/s`, `us` ...
    pub unit: String,
    pub better: Better,
    /// The generator was the limit: the server's own is at least as good, and the value enters no ratio.
    pub limited: bool,
    /// The longest round trip of a cache line between the cores of generator and server around its trials, if known.
    #[serde(default)]
    pub cores_ns: Option<f64>,
    /// The host had them further apart than they can be: the value enters no ratio.
    #[serde(default)]
    pub cores_apart: bool,
}

/// Which of two values is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// How names begin, in the order of tables; others follow.
const ORDER: [&str; 9] = ["peak", "loss-free", "overload", "goodput", "rate", "rr-", "crr", "send", "receive"];

/// Names in the order of tables, each once: what is better when higher comes first, and numbers in names count as
/// such.
pub(crate) fn in_order<'a>(figures: impl Iterator<Item = (&'a String, &'a Figure)>) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|head| name.starts_with(head)).unwrap_or(ORDER.len());
    let key = |(name, figure): (&String, &Figure)| {
        let (size, rest) = split_size(name);
        (figure.better == Better::Lower, size, place(rest), natural(rest))
    };
    let sorted: BTreeMap<_, _> = figures.map(|figure| (key(figure), figure.0.clone())).collect();
    sorted.into_values().collect()
}

/// The frame size that a name begins with, as `64B-peak` does; names without one come last.
fn split_size(name: &str) -> (u32, &str) {
    let split = name.split_once("B-").and_then(|(size, rest)| Some((size.parse().ok()?, rest)));
    split.unwrap_or((u32::MAX, name))
}

/// A name with numbers of one length, so that `rr-64` comes before `rr-1000`.
fn natural(name: &str) -> String {
    let mut text = String::new();
    for part in name.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        let zeros = if digits > 0 { 9_usize.saturating_sub(digits) } else { 0 };
        text.extend(std::iter::repeat_n('0', zeros));
        text.push_str(part);
    }
    text
}

impl Figure {
    /// A rate or goodput.
    pub(crate) fn higher(value: Option<f64>, unit: &str, limited: bool) -> Self {
        Self { value, unit: unit.into(), better: Better::Higher, limited, cores_ns: None, cores_apart: false }
    }

    /// A latency or loss.
    pub(crate) fn lower(value: Option<f64>, unit: &str, limited: bool) -> Self {
        Self { better: Better::Lower, ..Self::higher(value, unit, limited) }
    }

    /// The value, if it may enter a ratio.
    pub(crate) fn comparable(&self) -> Option<f64> {
        self.value.filter(|_| !self.limited && !self.cores_apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_before_latencies_and_numbers_by_size() {
        let [higher, lower] = [Figure::higher(None, "k/s", false), Figure::lower(None, "us", false)];
        let names = ["p99", "rr-1000", "crr-16", "p50", "rr-64", "peak", "rr-1", "rr-64"].map(String::from);
        let figures =
            names.iter().map(|name| (name, if name.starts_with("p5") || name == "p99" { &lower } else { &higher }));
        let sized = ["1514B-loss-free", "rr-1", "64B-peak", "1514B-peak"].map(String::from);
        let sized = sized.iter().map(|name| (name, &higher));
        assert_eq!(in_order(sized), ["64B-peak", "1514B-peak", "1514B-loss-free", "rr-1"]);
        assert_eq!(in_order(figures), ["peak", "rr-1", "rr-64", "rr-1000", "crr-16", "p50", "p99"]);
    }
}
