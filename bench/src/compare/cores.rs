//! Trials are measured while the cores of generator and server are near each other, as far as the host lets them.
//!
//! The host of a virtual machine [moves its cores](crate::core_distance), and everything is slower by half while they
//! are apart. A ratio of one server near to another apart would be the host's. So it is looked at before and after each
//! trial:
//!
//! ```text
//!  apart --- wait, not for ever ---> near --- trial ---> still near ---> kept
//!    ^                                                       |
//!    '------------------------ apart, twice at most ---------'
//! ```
//!
//! What cannot be had near is kept too, but is marked and enters no ratio. Which distance is near is learned: the least
//! that was seen. Where cores do not move, nothing waits.

use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::core_distance;
use crate::error::Result;
use crate::progress;
use crate::result::Contender;
use crate::result::placement::{self, Placement};
use crate::signals;

/// Looks at the beginning for how near the cores can be: over 2.5 s.
const LEARNING: usize = 25;
/// The host moves cores after seconds to tens of seconds.
const PATIENCE_OF_TRIAL: Duration = Duration::from_secs(30);
/// Together, at the beginning: the cores may never come back to where they were nearest.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same in a short comparison: so many times what a server's trials of one kind take. Nobody who wants a first look
/// wants to wait for it.
const SHARE: u32 = 4;
/// It grows by as many times as trials take: a long comparison may wait for longer.
const GROWTH: u32 = 3;
/// Between two looks while waiting.
const PAUSE: Duration = Duration::from_millis(200);
/// Distances up to so many times the nearest are taken as they are; longer ones are measured again, a few times. Beside
/// busy programs one measurement of the same distance was up to twice the least, the shortest of four up to 1.35 times.
const SURE: f64 = 1.2;
const PROBES: usize = 4;
/// How often a trial is measured again at most.
const REPEATS: u32 = 2;

/// The cores of generator and server.
pub(crate) struct Cores {
    probe: Box<dyn FnMut() -> Option<f64>>,
    nearest_ns: Option<f64>,
    /// How long may be waited yet.
    patience: Duration,
    pause: Duration,
}

impl Cores {
    /// The calling thread's core, and the server's; `None` is one that this program may not use.
    pub(crate) fn new(server: Option<CoreId>) -> Self {
        let probe = move || server.and_then(core_distance::round_trip_ns);
        Self { probe: Box::new(probe), nearest_ns: None, patience: PATIENCE, pause: PAUSE }
    }

    /// Cores that are as far apart as `probe` says, of which nothing is known yet, and for which nobody waits.
    #[cfg(test)]
    pub(crate) fn made_up(probe: impl FnMut() -> Option<f64> + 'static) -> Self {
        Self { probe: Box::new(probe), nearest_ns: None, patience: Duration::ZERO, pause: Duration::ZERO }
    }

    /// A server's trials of one kind take so long together.
    pub(crate) fn expect(&mut self, trials: Duration) {
        self.patience = self.patience.min(SHARE * trials);
    }

    /// Looks for a while how near they can be.
    ///
    /// # Errors
    /// An interruption.
    pub(crate) fn learn(&mut self) -> Result<()> {
        for _ in 0..LEARNING {
            signals::check()?;
            if self.look().is_none() {
                break;
            }
            thread::sleep(self.pause / 2);
        }
        Ok(())
    }

    /// The least that was seen.
    pub(crate) fn nearest_ns(&self) -> Option<f64> {
        self.nearest_ns
    }

    /// Whether that is further apart than they can be.
    pub(crate) fn apart(&self, ns: Option<f64>) -> bool {
        placement::apart(ns, self.nearest_ns)
    }

    /// Marks the figures that were measured with the cores apart, by what is known now.
    pub(crate) fn mark(&self, contenders: &mut [Contender]) {
        let rounds = contenders.iter_mut().flat_map(|contender| &mut contender.rounds);
        for figure in rounds.flat_map(|round| round.figures.values_mut()) {
            figure.cores_apart = self.apart(figure.cores_ns);
        }
    }

    /// Runs a trial with the cores near, again if they were moved apart meanwhile.
    ///
    /// # Errors
    /// That of the trial, or an interruption.
    pub(crate) fn near<T>(&mut self, mut trial: impl FnMut() -> Result<T>) -> Result<(T, Placement)> {
        let mut placement = Placement::default();
        loop {
            let before = self.wait(&mut placement.cores_wait_seconds)?;
            let began = Instant::now();
            let outcome = trial()?;
            self.patience += GROWTH * began.elapsed();
            let after = self.look();
            if !self.apart(before) && self.apart(after) && placement.repeated < REPEATS {
                placement.repeated += 1;
                continue;
            }
            placement.cores_ns = before.into_iter().chain(after).reduce(f64::max);
            return Ok((outcome, placement));
        }
    }

    /// Waits until they are near, or for long enough. How far apart they are then.
    fn wait(&mut self, waited_seconds: &mut f64) -> Result<Option<f64>> {
        let began = Instant::now();
        let most = PATIENCE_OF_TRIAL.saturating_sub(Duration::from_secs_f64(*waited_seconds)).min(self.patience);
        let mut told = None;
        loop {
            let ns = self.look();
            if !self.apart(ns) || began.elapsed() >= most {
                if told.is_some() {
                    *waited_seconds += began.elapsed().as_secs_f64();
                    self.patience = self.patience.saturating_sub(began.elapsed());
                }
                return Ok(ns);
            }
            told.get_or_insert_with(|| progress::waiting("waiting for the host to place the cores near each other"))
                .tick();
            signals::check()?;
            thread::sleep(self.pause);
        }
    }

    /// How far apart they are. Whatever else runs on them can only make that look longer: the shortest of a few counts.
    fn look(&mut self) -> Option<f64> {
        let mut ns = None;
        for _ in 0..PROBES {
            ns = ns.into_iter().chain((self.probe)()).reduce(f64::min);
            self.nearest_ns = self.nearest_ns.into_iter().chain(ns).reduce(f64::min);
            if ns.zip(self.nearest_ns).is_some_and(|(ns, nearest_ns)| ns <= SURE * nearest_ns) {
                break;
            }
        }
        ns
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::result::Round;
    use crate::result::figures::{Figure, Figures};

    const NEAR: Option<f64> = Some(50.0);
    const APART: Option<f64> = Some(300.0);

    /// Cores that were near once, and of which these looks are taken in turn.
    fn cores(looks: &[Option<f64>], patience: Duration) -> Cores {
        // What is not near is looked at again.
        let times = |ns: &Option<f64>| if ns.is_some_and(|ns| ns <= SURE * 50.0) { 1 } else { PROBES };
        let mut looks: VecDeque<_> = looks.iter().flat_map(|ns| vec![*ns; times(ns)]).collect();
        Cores { nearest_ns: NEAR, patience, ..Cores::made_up(move || looks.pop_front().unwrap()) }
    }

    /// How often a trial was run with these looks, and what was told of it.
    fn trials(looks: &[Option<f64>], patience: Duration) -> (u32, Placement) {
        let mut runs = 0;
        let mut trial = || {
            runs += 1;
            Ok(())
        };
        let placement = cores(looks, patience).near(&mut trial).unwrap().1;
        (runs, placement)
    }

    #[test]
    fn a_trial_with_the_cores_near_runs_once_and_one_that_they_left_again_but_not_for_ever() {
        let of = |ns, repeated| Placement { cores_ns: ns, cores_wait_seconds: 0.0, repeated };
        assert_eq!(trials(&[NEAR, Some(60.0)], PATIENCE), (1, of(Some(60.0), 0)));
        assert_eq!(trials(&[NEAR, APART, NEAR, NEAR], PATIENCE), (2, of(NEAR, 1)));
        assert_eq!(trials(&[NEAR, APART, NEAR, APART, NEAR, APART], PATIENCE), (3, of(APART, 2)));
    }

    #[test]
    fn cores_that_are_apart_are_waited_for_as_long_as_there_is_patience() {
        let (runs, placement) = trials(&[APART, APART, NEAR, NEAR], PATIENCE);
        assert!(runs == 1 && placement.cores_ns == NEAR && placement.cores_wait_seconds > 0.0, "{placement:?}");
        let (runs, placement) = trials(&[APART, APART], Duration::ZERO);
        assert_eq!((runs, placement), (1, Placement { cores_ns: APART, ..Placement::default() }));
    }

    #[test]
    fn a_short_comparison_waits_for_a_short_time() {
        let patience = |trials| {
            let mut cores = cores(&[], PATIENCE);
            cores.expect(trials);
            cores.patience
        };
        assert_eq!(patience(Duration::from_millis(50)), Duration::from_millis(200));
        assert_eq!([5, 60].map(|seconds| patience(Duration::from_secs(seconds))), [PATIENCE; 2]);
    }

    #[test]
    fn one_longer_look_of_a_few_is_none() {
        let mut looks = VecDeque::from([APART, None, NEAR]);
        let mut cores = Cores { nearest_ns: NEAR, ..Cores::made_up(move || looks.pop_front().unwrap()) };
        assert_eq!(cores.look(), NEAR);
    }

    #[test]
    fn where_the_distance_is_unknown_nothing_waits() {
        assert_eq!(trials(&[None, None], PATIENCE), (1, Placement::default()));
        assert_eq!(trials(&[None, NEAR], PATIENCE).1.cores_ns, NEAR);
    }

    #[test]
    fn a_figure_of_before_the_cores_were_seen_nearer_is_marked_and_enters_no_ratio() {
        let figure = |ns| Figure { cores_ns: ns, ..Figure::higher(Some(1.0), "Gb/s", false) };
        let figures = Figures::from([("far".into(), figure(Some(290.0))), ("near".into(), figure(NEAR))]);
        let round = Round { figures, ..Round::default() };
        let mut servers =
            [Contender { name: "x".into(), description: String::new(), baseline: false, rounds: vec![round] }];
        let mut cores = cores(&[NEAR, NEAR], PATIENCE);
        cores.nearest_ns = APART;
        cores.mark(&mut servers);
        assert_eq!(servers[0].values("far"), [Some(1.0)]);
        cores.near(|| Ok(())).unwrap();
        cores.mark(&mut servers);
        assert_eq!((servers[0].values("far"), servers[0].values("near")), (vec![None], vec![Some(1.0)]));
        assert_eq!((servers[0].all_values("far"), servers[0].marks("far")), (vec![Some(1.0)], "#"));
    }
}
