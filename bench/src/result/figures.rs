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
}

/// Which of two values is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Figure {
    /// A rate or goodput.
    pub(crate) fn higher(value: Option<f64>, unit: &str, limited: bool) -> Self {
        Self { value, unit: unit.into(), better: Better::Higher, limited }
    }

    /// A latency or loss.
    pub(crate) fn lower(value: Option<f64>, unit: &str, limited: bool) -> Self {
        Self { value, unit: unit.into(), better: Better::Lower, limited }
    }

    /// The value, if it may enter a ratio.
    pub(crate) fn comparable(&self) -> Option<f64> {
        self.value.filter(|_| !self.limited)
    }
}
