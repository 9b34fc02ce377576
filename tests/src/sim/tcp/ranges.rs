//! Which bytes of a stream have arrived.

use std::ops::Range;

/// A set of numbers, as ranges in order that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<Range<i64>>);

impl Ranges {
    /// Adds all of a range.
    pub(super) fn add(&mut self, range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let behind = self.0.partition_point(|known| known.start <= range.end);
        let start = self.0.get(first).map_or(range.start, |known| known.start.min(range.start));
        let end = if behind > first { self.0[behind - 1].end.max(range.end) } else { range.end };
        self.0.splice(first..behind, std::iter::once(start..end));
    }

    /// Whether all of a range is in it.
    #[must_use]
    pub(super) fn contains(&self, range: &Range<i64>) -> bool {
        range.is_empty() || self.0.iter().any(|known| known.start <= range.start && range.end <= known.end)
    }

    /// The end of what is there from 0 on.
    #[must_use]
    pub(super) fn reach(&self) -> i64 {
        self.0.first().filter(|first| first.start <= 0).map_or(0, |first| first.end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rng::Rng;
    use super::*;

    #[test]
    fn the_set_is_what_was_added() {
        let mut rng = Rng::new(1);
        for _ in 0..200 {
            let (mut ranges, mut members) = (Ranges::default(), [false; 64]);
            for _ in 0..12 {
                let start = rng.below(60) as usize;
                let end = start + rng.below(64 - start as u64) as usize;
                ranges.add(start as i64..end as i64);
                members[start..end].fill(true);
                assert!(ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
                let reach = members.iter().position(|member| !member).unwrap_or(64);
                assert_eq!(ranges.reach(), reach as i64, "{ranges:?}");
                for at in 0..64 {
                    assert_eq!(ranges.contains(&(at..at + 1)), members[at as usize], "{ranges:?} {at}");
                }
            }
        }
    }
}
