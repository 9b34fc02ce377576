//! How sure a ratio is: bootstrap intervals over rounds, and what they allow to say.
//!
//! Rounds are drawn again with replacement, many times, and the median of the drawn ones taken each time; 95 % of
//! what comes out is the interval. A difference is told where the whole interval lies clearly on one side of 1: with a
//! [margin](MARGIN) of its own width, and beyond what is [no matter](NO_MATTER). Of five rounds that is: every one of
//! them says the same.

use crate::result::Contender;
use crate::result::figures::Better;

/// A ratio that is closer to 1 than this is no difference that matters, however sure it is: where code lies in memory
/// makes as much.
const NO_MATTER: f64 = 0.02;
/// Part of its width that the interval is wider for a verdict, at each end. A run tells about five figures at a time,
/// and each 95 % interval is wrong by itself in one case of twenty: so one of them would often be.
const MARGIN: f64 = 0.125;
/// With fewer rounds not even their whole range is a 95 % interval (of five: 1 - 2 / 2^5 = 94 %).
const FEWEST_ROUNDS: usize = 5;
/// Draws: a hundred lie beyond each end of the interval.
const DRAWS: usize = 4000;
/// The same figures give the same interval.
const SEED: u64 = 1;

/// What rounds have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// One interleaved run: the machine's drift in a round is that of both.
    Interleaved,
    /// Two runs.
    Apart,
}

/// What may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    NoDifference,
    /// Too few rounds.
    Unknown,
}

/// One figure of two servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Difference {
    /// The median over rounds, or of medians where the runs were two.
    pub ratio: f64,
    /// 95 % of what drawing rounds again gives; `None` with too few rounds.
    pub interval: Option<(f64, f64)>,
    pub verdict: Verdict,
}

impl Verdict {
    /// In words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::Unknown => "too few rounds",
        }
    }
}

impl Difference {
    /// A figure of `new` against that of `old`; `None` if one of them has nothing that may enter a ratio.
    ///
    /// A loss in percent is often 0, which has no ratio: what is compared then is the part that was *not* lost.
    pub(crate) fn of(new: &Contender, old: &Contender, figure: &str, rounds: Rounds) -> Option<Self> {
        let kind = old.figure(figure)?;
        let (mut over, mut under) = (new.values(figure), old.values(figure));
        if kind.unit == "%" && kind.better == Better::Lower {
            over.iter_mut().chain(&mut under).flatten().for_each(|value| *value = 100.0 - *value);
            return difference(&over, &under, Better::Higher, rounds);
        }
        difference(&over, &under, kind.better, rounds)
    }

    /// How much worse it is, in percent of the old one; 0 if that is not sure.
    pub(crate) fn worse_percent(&self) -> f64 {
        if self.verdict == Verdict::Worse { (self.ratio - 1.0).abs() * 100.0 } else { 0.0 }
    }
}

/// The figures `over` against those `under`, by round.
fn difference(over: &[Option<f64>], under: &[Option<f64>], better: Better, rounds: Rounds) -> Option<Difference> {
    let usable = |value: &f64| value.is_finite() && *value > 0.0;
    if rounds == Rounds::Interleaved && over.len() == under.len() {
        let pairs = over.iter().zip(under).filter_map(|(over, under)| Some((*over)? / (*under)?));
        let ratios: Vec<f64> = pairs.filter(usable).collect();
        return tell(median(&mut ratios.clone())?, ratios.len(), better, |random| draw(&ratios, random));
    }
    let [over, under] = [over, under].map(|side| side.iter().flatten().copied().filter(usable).collect::<Vec<_>>());
    let ratio = median(&mut over.clone())? / median(&mut under.clone())?;
    tell(ratio, over.len().min(under.len()), better, |random| Some(draw(&over, random)? / draw(&under, random)?))
}

/// The interval of what `draw` gives, and what follows from it.
fn tell(
    ratio: f64,
    rounds: usize,
    better: Better,
    mut draw: impl FnMut(&mut fastrand::Rng) -> Option<f64>,
) -> Option<Difference> {
    if rounds < FEWEST_ROUNDS {
        return Some(Difference { ratio, interval: None, verdict: Verdict::Unknown });
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut drawn: Vec<f64> = (0..DRAWS).filter_map(|_| draw(&mut random)).collect();
    drawn.sort_by(f64::total_cmp);
    let tail = DRAWS / 40;
    let (low, high) = (*drawn.get(tail)?, *drawn.get(DRAWS - 1 - tail)?);
    let margin = MARGIN * (high - low) + NO_MATTER;
    let verdict = match better {
        _ if low <= 1.0 + margin && high >= 1.0 - margin => Verdict::NoDifference,
        Better::Higher if low > 1.0 => Verdict::Better,
        Better::Lower if high < 1.0 => Verdict::Better,
        _ => Verdict::Worse,
    };
    Some(Difference { ratio, interval: Some((low, high)), verdict })
}

/// The median of as many values as there are, each drawn from all.
fn draw(values: &[f64], random: &mut fastrand::Rng) -> Option<f64> {
    let mut drawn: Vec<f64> = (0..values.len()).map(|_| values[random.usize(..values.len())]).collect();
    median(&mut drawn)
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Round;
    use crate::result::figures::{Figure, Figures};

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    fn verdict(over: &[f64], under: &[f64], better: Better, rounds: Rounds) -> Verdict {
        difference(&some(over), &some(under), better, rounds).unwrap().verdict
    }

    #[test]
    fn a_difference_in_every_round_is_told_in_the_figures_own_direction() {
        let (fast, slow) = ([2.0, 2.2, 2.1, 1.9, 2.0], [1.0, 1.1, 1.0, 1.0, 1.05]);
        for rounds in [Rounds::Interleaved, Rounds::Apart] {
            assert_eq!(verdict(&fast, &slow, Better::Higher, rounds), Verdict::Better);
            assert_eq!(verdict(&fast, &slow, Better::Lower, rounds), Verdict::Worse);
            assert_eq!(verdict(&slow, &fast, Better::Higher, rounds), Verdict::Worse);
            assert_eq!(verdict(&slow, &fast, Better::Lower, rounds), Verdict::Better);
        }
    }

    #[test]
    fn drift_that_both_have_hides_nothing_in_one_run_and_much_in_two() {
        let slow = [1.0, 2.0, 3.0, 4.0, 5.0];
        let fast = slow.map(|value| value * 1.1);
        assert_eq!(verdict(&fast, &slow, Better::Higher, Rounds::Interleaved), Verdict::Better);
        assert_eq!(verdict(&fast, &slow, Better::Higher, Rounds::Apart), Verdict::NoDifference);
    }

    #[test]
    fn what_is_sure_but_small_is_no_difference() {
        assert_eq!(verdict(&[1.01; 9], &[1.0; 9], Better::Higher, Rounds::Interleaved), Verdict::NoDifference);
        assert_eq!(verdict(&[1.03; 9], &[1.0; 9], Better::Higher, Rounds::Interleaved), Verdict::Better);
    }

    #[test]
    fn fewer_than_five_rounds_say_nothing_and_none_are_no_ratio() {
        let four = difference(&some(&[9.0; 4]), &some(&[1.0; 4]), Better::Higher, Rounds::Interleaved).unwrap();
        assert_eq!((four.ratio, four.interval, four.verdict), (9.0, None, Verdict::Unknown));
        assert_eq!(difference(&[None], &some(&[1.0]), Better::Higher, Rounds::Interleaved), None);
        assert_eq!(difference(&[], &[], Better::Higher, Rounds::Apart), None);
    }

    #[test]
    fn the_same_rounds_give_the_same_interval_which_holds_the_ratio() {
        let (over, under) = (some(&[1.0, 1.3, 0.9, 1.2, 1.1, 1.0, 0.8]), some(&[1.0; 7]));
        let first = difference(&over, &under, Better::Higher, Rounds::Apart).unwrap();
        assert_eq!(difference(&over, &under, Better::Higher, Rounds::Apart), Some(first));
        let (low, high) = first.interval.unwrap();
        assert!(low < first.ratio && first.ratio < high && low >= 0.8 && high <= 1.3, "{first:?}");
    }

    /// A sum of twelve uniform variables is normal enough.
    fn normal(random: &mut fastrand::Rng) -> f64 {
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    #[test]
    fn the_interval_holds_the_true_ratio_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        for (rounds, count) in [(Rounds::Interleaved, 5), (Rounds::Interleaved, 15), (Rounds::Apart, 9)] {
            let held = (0..400)
                .filter(|_| {
                    let mut side = |mean: f64| -> Vec<_> {
                        (0..count).map(|_| Some(mean * (1.0 + 0.05 * normal(&mut random)))).collect()
                    };
                    let (over, under) = (side(1.5), side(1.0));
                    let (low, high) = difference(&over, &under, Better::Higher, rounds).unwrap().interval.unwrap();
                    low <= 1.5 && 1.5 <= high
                })
                .count();
            assert!(held >= 360, "{rounds:?}, {count} rounds: {held} of 400");
        }
    }

    #[test]
    fn a_build_against_itself_shows_no_difference_in_nine_of_ten_runs() {
        const FIGURES: usize = 5;
        let mut random = fastrand::Rng::with_seed(3);
        for noise in [0.01, 0.03, 0.1] {
            let mut round = || (0..5).map(|_| Some(1.0 + noise * normal(&mut random))).collect::<Vec<_>>();
            let runs = (0..200).filter(|_| {
                (0..FIGURES).all(|_| {
                    let told = difference(&round(), &round(), Better::Higher, Rounds::Interleaved).unwrap();
                    told.verdict == Verdict::NoDifference
                })
            });
            let quiet = runs.count();
            assert!(quiet >= 180, "noise {noise}: {quiet} of 200 runs");
        }
    }

    #[test]
    fn a_loss_of_nothing_is_compared_by_what_arrived() {
        let server = |loss: f64| {
            let figures = Figures::from([("loss".into(), Figure::lower(Some(loss), "%", false))]);
            Contender {
                name: "x".into(),
                description: String::new(),
                baseline: false,
                rounds: vec![Round { figures, ..Round::default() }; 5],
            }
        };
        let against = |new, old| Difference::of(&server(new), &server(old), "loss", Rounds::Apart).unwrap();
        assert_eq!(against(0.0, 0.0).verdict, Verdict::NoDifference);
        assert_eq!(against(0.5, 0.0).verdict, Verdict::NoDifference);
        let worse = against(30.0, 0.0);
        assert_eq!((worse.verdict, worse.worse_percent().round()), (Verdict::Worse, 30.0));
    }
}
