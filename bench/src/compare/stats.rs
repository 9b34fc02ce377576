//! Medians, ranges, and ratios of figures that were measured in rounds.
//!
//! Absolute figures drift from round to round with the machine; within a round they drift together. So a
//! ratio is taken within each round, and the median of these is reported with its range.

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
    fn the_better_of_two_is_chosen_per_round() {
        let best = better(&[Some(1.0), Some(5.0), None], &[Some(2.0), Some(4.0), Some(3.0)], f64::max);
        assert_eq!(best, some(&[2.0, 5.0, 3.0]));
    }
}
