//! The metrics that an engine shows, as tests look at them.

use std::collections::BTreeMap;

/// Samples by name with labels, as they are written: `barewire_drops_total{queue="0",reason="ipv4_version"}`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// Reads a page of metrics.
    ///
    /// # Panics
    /// If a line is neither a sample nor a comment.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(samples.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// Sum of the samples of `barewire_<name>` that have all of `labels` (`queue="0"`).
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let of_family =
            |sample: &str| sample.strip_prefix("barewire_")?.strip_prefix(name)?.strip_prefix('{').map(str::len);
        let found: Vec<u64> = self
            .0
            .iter()
            .filter(|(sample, _)| of_family(sample).is_some() && labels.iter().all(|label| sample.contains(label)))
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "no barewire_{name} with {labels:?} among {:?}", self.0.keys());
        found.iter().sum()
    }

    /// Frames of a verdict of the XDP program.
    #[must_use]
    pub fn verdict(&self, name: &str) -> u64 {
        self.sum("xdp_verdicts_total", &[&format!("verdict=\"{name}\"")])
    }

    /// Frames dropped by the stack for a reason.
    #[must_use]
    pub fn drops(&self, reason: &str) -> u64 {
        self.sum("drops_total", &[&format!("reason=\"{reason}\"")])
    }

    /// For messages.
    #[must_use]
    pub fn that_are_not_zero(&self) -> BTreeMap<&str, u64> {
        self.0.iter().filter(|(_, value)| **value != 0).map(|(name, value)| (name.as_str(), *value)).collect()
    }
}
