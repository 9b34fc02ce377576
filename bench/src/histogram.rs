//! Latency distributions: how the BPF receiver's buckets become an hdrhistogram.
//!
//! ```text
//!  value, ns   0..64   64..128   128..256   256..512   ...   2^35..2^36
//!  bucket      1 ns    1 ns      2 ns       4 ns             2^29 ns        wide, 64 for each power of two
//! ```
//!
//! No bucket is wider than 1/64 of its value, and each is entered at its middle: what comes out is within
//! 0.8 % of what was measured. The longest latency is kept exactly.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The same as in bpf/receive.bpf.c.
const SUB_BITS: u32 = 6;
const MAX_BITS: u32 = 36;
/// Buckets of the BPF receiver.
pub(crate) const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// Latencies of one trial, or of several merged.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    values: Histogram<u64>,
    max_ns: u64,
}

/// The figures of a distribution, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    pub samples: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { values: histogram(FINE), max_ns: 0 }
    }

    /// With two significant digits: cheaper to clear.
    pub(crate) fn coarse() -> Self {
        Self { values: histogram(2), max_ns: 0 }
    }

    /// From the counts of the BPF receiver's buckets, and the exact longest latency.
    pub(crate) fn from_buckets(counts: &[u64], max_ns: u64) -> Self {
        let mut latency = Self { values: histogram(FINE), max_ns };
        for (bucket, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            latency.values.saturating_record_n(middle_ns(bucket), count);
        }
        latency
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.max_ns = self.max_ns.max(ns);
        self.values.saturating_record(ns.max(1));
    }

    /// The whole distribution.
    pub(crate) fn values(&self) -> &Histogram<u64> {
        &self.values
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.max_ns = 0;
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        // The middle of the last bucket may lie beyond the longest latency, which is known exactly.
        let quantile = |q| self.values.value_at_quantile(q).min(self.max_ns);
        LatencySummary {
            samples: self.values.len(),
            mean_ns: self.values.mean(),
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: self.max_ns,
        }
    }
}

/// Significant digits that are finer than the buckets, so that they add nothing to their error.
const FINE: u8 = 3;

/// Up to 68 s.
fn histogram(digits: u8) -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 1 << MAX_BITS, digits) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that hdrhistogram accepts"),
    }
}

/// First value of a bucket.
fn lower_ns(bucket: usize) -> u64 {
    let (octave, sub) = (bucket >> SUB_BITS, (bucket & ((1 << SUB_BITS) - 1)) as u64);
    match octave {
        0 => sub,
        _ => ((1 << SUB_BITS) + sub) << (octave - 1),
    }
}

fn middle_ns(bucket: usize) -> u64 {
    let (lower, next) = (lower_ns(bucket), lower_ns(bucket + 1));
    (lower + (next - lower) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bpf/receive.bpf.c does, in its own words.
    fn bucket_of(value: u64) -> usize {
        if value >> MAX_BITS != 0 {
            return BUCKETS - 1;
        }
        let bits = u64::from(64 - (value >> SUB_BITS).leading_zeros());
        let bucket = match bits {
            0 => value,
            _ => (bits << SUB_BITS) + ((value >> (bits - 1)) & ((1 << SUB_BITS) - 1)),
        };
        usize::try_from(bucket).unwrap()
    }

    #[test]
    fn every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_a_64th() {
        let near_powers = (0..MAX_BITS).flat_map(|bit| (1u64 << bit).saturating_sub(3)..(1 << bit) + 3);
        for value in near_powers.chain((0..1 << 20).step_by(7)).filter(|value| value >> MAX_BITS == 0) {
            let bucket = bucket_of(value);
            let (lower, next) = (lower_ns(bucket), lower_ns(bucket + 1));
            assert!((lower..next).contains(&value), "{value} in {lower}..{next}");
            assert!(next - lower == 1 || (next - lower) * 64 <= lower, "bucket {lower}..{next}");
        }
    }

    #[test]
    fn buckets_cover_68_seconds_and_what_is_longer_goes_into_the_last() {
        assert_eq!(bucket_of((1 << MAX_BITS) - 1), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(lower_ns(BUCKETS), 1 << MAX_BITS);
    }

    #[test]
    fn percentiles_from_buckets_are_within_one_percent_and_the_maximum_is_exact() {
        let mut counts = vec![0; BUCKETS];
        let values: Vec<u64> = (1..=100_000u64).map(|i| i * 17).collect();
        values.iter().for_each(|value| counts[bucket_of(*value)] += 1);
        let summary = Latency::from_buckets(&counts, 1_700_000).summary();
        for (got, exact) in [(summary.p50_ns, 850_000.0), (summary.p90_ns, 1_530_000.0), (summary.p99_ns, 1_683_000.0)]
        {
            assert!((got as f64 / exact - 1.0).abs() < 0.01, "{got} for {exact}");
        }
        assert_eq!((summary.max_ns, summary.samples), (1_700_000, 100_000));
    }

    #[test]
    fn no_percentile_exceeds_the_maximum() {
        let mut counts = vec![0; BUCKETS];
        counts[bucket_of(1_000_001)] = 1;
        let summary = Latency::from_buckets(&counts, 1_000_001).summary();
        assert_eq!(summary.p999_ns, 1_000_001);
    }
}
