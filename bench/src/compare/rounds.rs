//! The rounds of a comparison: every server in turn, each round beginning with another.

use std::collections::BTreeMap;

use super::Contestant;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::signals;

/// Every server's figures, round by round.
pub(crate) type Rounds<K, M> = BTreeMap<K, Vec<M>>;

/// What a server showed in one round.
pub(crate) trait Shown {
    /// One line for the progress report.
    fn brief(&self) -> String;
}

/// Measures `kinds` in so many rounds. An interruption cuts the round off that it comes in; it is told beside
/// the whole rounds before.
///
/// # Errors
/// A measurement failed, or there was an interruption before the first round was whole.
pub(crate) fn measure<K: Contestant, M: Shown>(
    kinds: &[K],
    rounds: u32,
    measure: impl FnMut(K) -> Result<M>,
) -> Result<(Rounds<K, M>, bool)> {
    let mut results = Rounds::new();
    match fill(kinds, rounds, measure, &mut results) {
        Ok(()) => Ok((results, false)),
        Err(Error::Interrupted) if !results.is_empty() => Ok((results, true)),
        Err(error) => Err(error),
    }
}

/// Enters whole rounds into `results`.
fn fill<K: Contestant, M: Shown>(
    kinds: &[K],
    rounds: u32,
    mut measure: impl FnMut(K) -> Result<M>,
    results: &mut Rounds<K, M>,
) -> Result<()> {
    let mut progress = Progress::new(u64::from(rounds) * kinds.len() as u64);
    for round in 0..rounds {
        let mut of_round = Vec::with_capacity(kinds.len());
        for place in 0..kinds.len() {
            // Each round begins with another server, so that none always follows the same one.
            let kind = kinds[(place + round as usize) % kinds.len()];
            progress.start(&format!("round {}/{rounds}  {}", round + 1, kind.name()));
            let measured = measure(kind)?;
            progress.done(&measured.brief());
            of_round.push((kind, measured));
            signals::check()?;
        }
        of_round.into_iter().for_each(|(kind, measured)| results.entry(kind).or_default().push(measured));
    }
    progress.finish();
    Ok(())
}
