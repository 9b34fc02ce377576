//! The search for a server's peak goodput and its highest rate without loss, by short trials.
//!
//! ```text
//!  rate   start --x1.5--> --x1.5--> --x1.5--> lossy        ladder (downwards if the start is lossy)
//!                                 |--bisect--|             loss-free rate, to 1.3 %
//!                                       x1.15, x1.4        goodput may rise a little beyond it
//! ```
//!
//! The peak is the best goodput of all trials; a trial in which the generator did not keep its rate bounds
//! the search but never enters a result.

use crate::error::Result;
use crate::udp::trial::Outcome;

/// More than this part lost is not loss-free.
const LOSS: f64 = 0.01;
/// Goodput below this part of the offered rate is not loss-free either: what a short trial did not lose then
/// still stood in a buffer when it ended. A stall of 6 ms at the end of half a second is 1.2 %.
const KEPT_UP: f64 = 0.97;
/// Between two rungs of the ladder.
const RUNG: f64 = 1.5;
/// Rungs in one direction: 1.5^16 is a factor of 650.
const RUNGS: usize = 16;
/// How near the search for a peak comes to the loss-free rate: five halvings between two rungs, 1.5^(1/32).
const PRECISION: f64 = 0.0128;
/// Rates beyond the loss-free one at which the peak is looked for too.
const BEYOND: [f64; 2] = [1.15, 1.4];

/// What one trial showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub offered_pps: f64,
    pub goodput_pps: f64,
    pub loss_ratio: f64,
    pub generator_limited: bool,
}

/// What the search found. `None` where no trial could show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub peak_pps: Option<f64>,
    pub loss_free_pps: Option<f64>,
    /// The generator, not the server, ended the search: both figures are at least what they say.
    pub generator_limited: bool,
    /// There are rates on either side: one that met the criteria and one that did not.
    bounded: bool,
    /// How many trials it took.
    pub trials: usize,
}

/// What a rate has to meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Criteria {
    /// Part that may be lost.
    pub loss: f64,
    /// Part of the rate by which the lowest that failed may exceed the highest that did not, at the end.
    pub precision: f64,
}

impl Criteria {
    pub(crate) fn met_by(self, point: &Point) -> bool {
        !point.generator_limited && point.loss_ratio <= self.loss && point.goodput_pps >= KEPT_UP * point.offered_pps
    }

    /// Halvings between two rungs.
    fn bisections(self) -> u32 {
        (RUNG.ln() / self.precision.ln_1p()).log2().ceil().max(0.0) as u32
    }
}

impl Point {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Self {
            offered_pps: outcome.sent_pps(),
            goodput_pps: outcome.goodput_pps(),
            loss_ratio: outcome.loss_ratio(),
            generator_limited: outcome.generator_limited(),
        }
    }
}

/// What became of a rate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    LossFree,
    Lossy,
    GeneratorLimited,
}

/// Searches for the loss-free rate and the peak from `start_pps`, with `trial` offering a rate.
///
/// # Errors
/// What a trial says.
pub(crate) fn search(start_pps: f64, mut trial: impl FnMut(f64) -> Result<Point>) -> Result<Found> {
    let criteria = Criteria { loss: LOSS, precision: PRECISION };
    let mut found = highest(start_pps, criteria, &mut trial)?;
    if let Some(good) = found.loss_free_pps.filter(|_| !found.generator_limited && found.bounded) {
        for factor in BEYOND {
            found.enter(trial(good * factor)?, criteria);
        }
    }
    Ok(found)
}

/// Searches for the highest rate that meets `criteria` from `start_pps`, with `trial` offering a rate.
///
/// # Errors
/// What a trial says.
pub(crate) fn highest(
    start_pps: f64,
    criteria: Criteria,
    mut trial: impl FnMut(f64) -> Result<Point>,
) -> Result<Found> {
    let mut found = Found::default();
    let (mut good, mut bad) = (None, None);
    let mut rate = start_pps;
    for _ in 0..RUNGS {
        let verdict = judge(rate, criteria, &mut trial, &mut found)?;
        if verdict == Verdict::LossFree {
            good = Some(rate);
            rate *= RUNG;
        } else {
            bad = Some((rate, verdict));
            rate /= RUNG;
        }
        if good.is_some() && bad.is_some() {
            break;
        }
    }
    let (Some(mut good), Some(mut bad)) = (good, bad) else { return Ok(found) };
    for _ in 0..criteria.bisections() {
        let middle = (good * bad.0).sqrt();
        match judge(middle, criteria, &mut trial, &mut found)? {
            Verdict::LossFree => good = middle,
            verdict => bad = (middle, verdict),
        }
    }
    found.generator_limited = bad.1 == Verdict::GeneratorLimited;
    found.bounded = true;
    Ok(found)
}

/// Offers a rate. A stall of the virtual machine makes a good one look lossy: one that fails is tried once more.
fn judge(
    rate: f64,
    criteria: Criteria,
    trial: &mut impl FnMut(f64) -> Result<Point>,
    found: &mut Found,
) -> Result<Verdict> {
    let mut verdict = Verdict::Lossy;
    for _ in 0..2 {
        let point = trial(rate)?;
        found.enter(point, criteria);
        if criteria.met_by(&point) {
            return Ok(Verdict::LossFree);
        }
        verdict = if point.generator_limited { Verdict::GeneratorLimited } else { Verdict::Lossy };
    }
    Ok(verdict)
}

impl Found {
    fn enter(&mut self, point: Point, criteria: Criteria) {
        if !point.generator_limited {
            let better = |best: Option<f64>, value: f64| Some(best.map_or(value, |best| best.max(value)));
            self.peak_pps = better(self.peak_pps, point.goodput_pps);
            if criteria.met_by(&point) {
                self.loss_free_pps = better(self.loss_free_pps, point.offered_pps);
            }
        }
        self.trials += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers up to its capacity; beyond, goodput falls by `collapse` of what is too much.
    fn server(capacity: f64, collapse: f64) -> impl FnMut(f64) -> Result<Point> {
        move |offered_pps| {
            let goodput_pps = if offered_pps <= capacity {
                offered_pps
            } else {
                (capacity - collapse * (offered_pps - capacity)).max(0.0)
            };
            let loss_ratio = 1.0 - goodput_pps / offered_pps;
            Ok(Point { offered_pps, goodput_pps, loss_ratio, generator_limited: false })
        }
    }

    #[test]
    fn capacity_is_found_to_two_percent_from_far_below_and_far_above() {
        for capacity in [5e3, 3.3e5, 1.47e6, 4.9e6] {
            for start in [2e5, 1e6] {
                for collapse in [0.0, 1.0] {
                    let found = search(start, server(capacity, collapse)).unwrap();
                    let (peak, loss_free) = (found.peak_pps.unwrap(), found.loss_free_pps.unwrap());
                    assert!((loss_free / capacity - 1.0).abs() < 0.02, "{capacity} from {start}: {loss_free}");
                    assert!(peak <= capacity && peak > 0.98 * capacity, "{capacity} from {start}: {peak}");
                    assert!(!found.generator_limited);
                }
            }
        }
    }

    #[test]
    fn a_finer_search_comes_as_near_as_it_is_asked_to() {
        for (loss, precision) in [(0.0, 0.01), (0.001, 0.002), (0.1, 0.05)] {
            let found = highest(2e5, Criteria { loss, precision }, server(1.47e6, 0.0)).unwrap();
            // As much more may be offered as may be lost, but for what has to be kept up with.
            let limit = 1.47e6 / (1.0 - loss.min(1.0 - KEPT_UP));
            let rate = found.loss_free_pps.unwrap();
            assert!(rate <= limit * 1.000_001 && rate > limit / (1.0 + precision), "{loss} {precision}: {rate}");
        }
    }

    #[test]
    fn a_search_takes_at_most_thirty_trials_from_a_usual_start() {
        let found = search(2e5, server(1.5e6, 0.2)).unwrap();
        assert!(found.trials <= 30, "{}", found.trials);
    }

    #[test]
    fn a_rate_that_only_fills_a_buffer_is_not_loss_free() {
        let mut inner = server(1e6, 0.0);
        // The buffer takes in what is too much, and the server works it off after the trial.
        let buffered = |rate: f64| inner(rate).map(|point| Point { loss_ratio: 0.0, ..point });
        assert!(search(2e5, buffered).unwrap().loss_free_pps.unwrap() < 1.04e6);
    }

    #[test]
    fn one_stall_does_not_lower_the_result() {
        let (mut inner, mut count) = (server(1e6, 0.0), 0);
        let stalling = |rate| {
            count += 1;
            let mut point = inner(rate)?;
            if count == 3 {
                point.loss_ratio = 0.5;
            }
            Ok(point)
        };
        assert!(search(2e5, stalling).unwrap().loss_free_pps.unwrap() > 0.98e6);
    }

    #[test]
    fn what_the_generator_could_not_keep_bounds_the_search_and_never_enters() {
        let mut inner = server(9e6, 0.0);
        let limited = |rate: f64| {
            let mut point = inner(rate)?;
            if rate > 5e6 {
                // it sent less, and what it sent came back: goodput without meaning
                (point.generator_limited, point.goodput_pps) = (true, 7e6);
            }
            Ok(point)
        };
        let found = search(1e6, limited).unwrap();
        assert!(found.generator_limited);
        assert!(found.peak_pps.unwrap() <= 5e6 && found.loss_free_pps.unwrap() > 4.8e6);
    }

    #[test]
    fn a_server_that_answers_nothing_has_no_loss_free_rate() {
        let found = search(2e5, server(0.0, 0.0)).unwrap();
        assert_eq!((found.loss_free_pps, found.peak_pps), (None, Some(0.0)));
    }
}
