//! Medians, ranges, and ratios of figures that were measured in rounds.
//!
//! Absolute figures drift from round to round with the machine; within a round they drift together. So a
//! ratio is taken within each round, and the median of these is reported with its range.

/// Samples that a bootstrap draws: its interval is the same to a thousandth whatever the seed.
const RESAMPLES: usize = 10_000;
/// So that a result always has the same interval.
const SEED: u64 = 1;

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Rounds in which there was a figure.
    pub rounds: usize,
}

/// The spread of what was measured; `None` if nothing was.
pub(crate) fn spread(values: impl IntoIterator<Item = Option<f64>>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().flatten().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    Some(Spread { median: middle(&values), min, max, rounds: values.len() })
}

/// A ratio of two figures over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub spread: Spread,
    /// Where the median lies with the confidence asked for.
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Whether as much can be chance: the interval includes 1.
    pub(crate) fn within_noise(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// The ratio of two figures, round by round, with its bootstrap interval; rounds that lack one of them are left out.
pub(crate) fn compare(over: &[Option<f64>], under: &[Option<f64>], confidence: f64) -> Option<Ratio> {
    let ratios = ratios(over, under);
    let spread = spread(ratios.iter().copied().map(Some))?;
    let (low, high) = interval(&ratios, confidence);
    Some(Ratio { spread, low, high })
}

/// The spread of the ratios of two figures, round by round; rounds that lack one of them are left out.
pub(crate) fn ratio(over: &[Option<f64>], under: &[Option<f64>]) -> Option<Spread> {
    spread(ratios(over, under).into_iter().map(Some))
}

fn ratios(over: &[Option<f64>], under: &[Option<f64>]) -> Vec<f64> {
    let of_round = |(over, under): (&Option<f64>, &Option<f64>)| match (over, under) {
        (Some(over), Some(under)) if *under > 0.0 => Some(over / under).filter(|ratio| ratio.is_finite()),
        _ => None,
    };
    over.iter().zip(under).filter_map(of_round).collect()
}

/// Where the median of `values` lies with so much confidence, by the percentile bootstrap (Efron 1979). There has to
/// be a value. Of fewer than six values no interval covers 95 %: it is their range then, which five cover by 94 %.
fn interval(values: &[f64], confidence: f64) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut sample = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            sample.fill_with(|| values[random.usize(..values.len())]);
            sample.sort_by(f64::total_cmp);
            middle(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let outside = (RESAMPLES as f64 * (1.0 - confidence) / 2.0) as usize;
    (medians[outside], medians[RESAMPLES - 1 - outside])
}

/// The median of values in order, of which there has to be one.
fn middle(sorted: &[f64]) -> f64 {
    let at = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[at] } else { f64::midpoint(sorted[at - 1], sorted[at]) }
}

/// The better of two figures in each round, `pick` saying which that is.
pub(crate) fn better(a: &[Option<f64>], b: &[Option<f64>], pick: fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    let rounds = a.len().max(b.len());
    let at = |values: &[Option<f64>], round: usize| values.get(round).copied().flatten();
    (0..rounds)
        .map(|round| match (at(a, round), at(b, round)) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (one, other) => one.or(other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_median_is_the_middle_and_the_range_both_ends() {
        let odd = spread(some(&[3.0, 1.0, 2.0])).unwrap();
        assert_eq!((odd.median, odd.min, odd.max, odd.rounds), (2.0, 1.0, 3.0, 3));
        assert_eq!(spread(some(&[4.0, 1.0, 2.0, 3.0])).unwrap().median, 2.5);
        assert_eq!(spread([None, None]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The machine became twice as slow in the second round: the ratio does not move.
        let ratio = ratio(&some(&[30.0, 15.0, 30.0]), &some(&[10.0, 5.0, 10.0])).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (3.0, 3.0, 3.0));
    }

    #[test]
    fn rounds_without_a_figure_or_divided_by_zero_are_left_out() {
        let over = [Some(2.0), None, Some(2.0), Some(2.0)];
        let under = [Some(1.0), Some(1.0), None, Some(0.0)];
        assert_eq!(ratio(&over, &under).unwrap().rounds, 1);
    }

    #[test]
    fn an_interval_is_the_range_of_a_few_rounds_and_narrower_of_many() {
        let few = compare(&some(&[1.1, 1.3, 1.2, 1.0, 1.4]), &some(&[1.0; 5]), 0.95).unwrap();
        assert_eq!((few.low, few.high), (1.0, 1.4));
        assert!(few.within_noise());
        let values: Vec<f64> = (0..30).map(|i| 1.0 + f64::from(i) / 100.0).collect();
        let many = compare(&some(&values), &some(&[1.0; 30]), 0.95).unwrap();
        assert!(many.low > 1.05 && many.low < many.spread.median && many.high < 1.25, "{many:?}");
        assert!(!many.within_noise());
    }

    #[test]
    fn the_interval_covers_the_median_about_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let covered = (0..300)
            .filter(|_| {
                let values: Vec<f64> = (0..15).map(|_| 0.9 + 0.2 * random.f64()).collect();
                compare(&some(&values), &some(&[1.0; 15]), 0.95).unwrap().within_noise()
            })
            .count();
        assert!((270..=297).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn the_better_of_two_is_chosen_per_round() {
        let best = better(&[Some(1.0), Some(5.0), None], &[Some(2.0), Some(4.0), Some(3.0)], f64::max);
        assert_eq!(best, some(&[2.0, 5.0, 3.0]));
    }
}
