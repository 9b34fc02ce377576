//! Where the host of a virtual machine had its cores while something was measured.

use serde::{Deserialize, Serialize};

use super::Document;

/// Cores that are more than so many times as far apart as at the nearest count as apart. Where they stay, what is measured
/// is within 1.35 of its least; on another NUMA node it is six times as much.
const APART: f64 = 2.0;

/// What a trial has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Placement {
    /// Between generator and server, the round trip of a cache line: before or after the trial, whichever was longer.
    pub cores_ns: Option<f64>,
    /// How long it was waited for the cores to be near.
    pub cores_wait_seconds: f64,
    /// How often it was measured before, and the cores were apart at the end.
    pub repeated: u32,
}

/// Whether cores that are `ns` apart are further so than they were. Of what is not known nothing is said.
pub(crate) fn apart(ns: Option<f64>, nearest_ns: Option<f64>) -> bool {
    ns.zip(nearest_ns).is_some_and(|(ns, nearest_ns)| ns > APART * nearest_ns)
}

/// What the host's moving of cores did to a result, if it did anything.
pub(crate) fn told(document: &Document) -> Option<String> {
    let rounds = || document.servers.iter().flat_map(|server| &server.rounds);
    let trials = || rounds().flat_map(|round| &round.trials).map(|trial| trial.placement);
    let figures = rounds().flat_map(|round| round.figures.values()).filter(|figure| figure.cores_apart).count();
    let repeated: u32 = trials().map(|placement| placement.repeated).sum();
    let seconds: f64 = trials().map(|placement| placement.cores_wait_seconds).sum();
    if figures == 0 && repeated == 0 && seconds == 0.0 {
        return None;
    }
    let nearest = document.machine.cores_ns.map_or("an unknown number of".into(), |ns| format!("{ns:.0}"));
    let mut told = format!(
        "The host moves the cores: at the nearest they were {nearest} ns apart (round trip of a cache line). Waited for \
         that: {seconds:.0} s in all. Trials repeated because the cores were moved apart meanwhile: {repeated}."
    );
    if figures > 0 {
        told += &format!(" Figures measured with the cores apart: {figures}; they are marked # and enter no ratio.");
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apart_is_more_than_twice_the_nearest_and_nothing_where_that_is_unknown() {
        assert!(!apart(Some(100.0), Some(50.0)) && apart(Some(100.1), Some(50.0)));
        assert!(!apart(None, Some(50.0)) && !apart(Some(100.1), None));
    }
}
