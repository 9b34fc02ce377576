//! A latency distribution in a result: its usual percentiles in the open, the whole as a compressed histogram.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::histogram::Latency;

/// Nanoseconds throughout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub samples: u64,
    pub min_ns: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub p9999_ns: u64,
    /// Exact.
    pub max_ns: u64,
    /// HdrHistogram's compressed form (V2, DEFLATE) in base64: `HISTFAAA...` as other tools read it.
    pub histogram: String,
}

impl Distribution {
    /// `None` without samples.
    pub(crate) fn of(latency: &Latency) -> Option<Self> {
        let values = latency.values();
        if values.is_empty() {
            return None;
        }
        let mut compressed = Vec::new();
        // Writing into memory does not fail, and every histogram here has the same small bounds.
        V2DeflateSerializer::new().serialize(values, &mut compressed).ok()?;
        let summary = latency.summary();
        Some(Self {
            samples: summary.samples,
            min_ns: values.min(),
            mean_ns: summary.mean_ns,
            p50_ns: summary.p50_ns,
            p90_ns: summary.p90_ns,
            p99_ns: summary.p99_ns,
            p999_ns: summary.p999_ns,
            p9999_ns: values.value_at_quantile(0.9999).min(summary.max_ns),
            max_ns: summary.max_ns,
            histogram: BASE64.encode(compressed),
        })
    }

    /// The whole distribution, in nanoseconds; `None` if it is not what [`of`](Self::of) writes.
    pub(crate) fn values(&self) -> Option<Histogram<u64>> {
        Deserializer::new().deserialize(&mut BASE64.decode(&self.histogram).ok()?.as_slice()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_survives_its_compressed_form() {
        let mut latency = Latency::new();
        (1..=10_000u64).for_each(|i| latency.record(i * 100));
        let distribution = Distribution::of(&latency).unwrap();
        assert!(distribution.histogram.starts_with("HISTFAAA"), "{}", distribution.histogram);
        let text = serde_json::to_string(&distribution).unwrap();
        let read: Distribution = serde_json::from_str(&text).unwrap();
        assert_eq!(read, distribution);
        assert_eq!(&read.values().unwrap(), latency.values());
        assert_eq!((read.samples, read.max_ns), (10_000, 1_000_000));
        assert!((read.p9999_ns as f64 / 999_900.0 - 1.0).abs() < 0.001, "{}", read.p9999_ns);
    }

    #[test]
    fn without_samples_there_is_none() {
        assert_eq!(Distribution::of(&Latency::new()), None);
    }
}
