//! The rounds of a comparison: every server in turn, each round beginning with another.

use super::contestant::Contestant;
use super::watch;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::result::{Contender, Round};
use crate::signals;

/// Measures the contestants in so many rounds. What ended it early, be it an interruption or a failure, stands
/// beside all that was whole by then.
pub(crate) fn measure(
    contestants: &[Contestant],
    rounds: u32,
    measure: impl FnMut(&Contestant) -> Result<Round>,
) -> (Vec<Contender>, Result<()>) {
    let mut contenders: Vec<Contender> =
        contestants.iter().map(|contestant| contestant.contender(Vec::new())).collect();
    let ended = fill(contestants, rounds, measure, &mut contenders);
    (contenders, ended)
}

/// Enters what is measured into `contenders`.
fn fill(
    contestants: &[Contestant],
    rounds: u32,
    mut measure: impl FnMut(&Contestant) -> Result<Round>,
    contenders: &mut [Contender],
) -> Result<()> {
    let mut progress = Progress::new(u64::from(rounds) * contestants.len() as u64);
    for round in 0..rounds {
        for place in 0..contestants.len() {
            // Each round begins with another server, so that none always follows the same one.
            let at = (place + round as usize) % contestants.len();
            progress.start(&format!("round {}/{rounds}  {}", round + 1, contestants[at].name));
            let measured = measure(&contestants[at])?;
            progress.done(&brief(&measured));
            contenders[at].rounds.push(measured);
            signals::check()?;
        }
    }
    progress.finish();
    Ok(())
}

/// One line for the progress report.
pub(crate) fn brief(round: &Round) -> String {
    let figures = round.figures.iter().map(|(name, figure)| {
        let value = figure.value.map_or("-".into(), |value| format!("{value:.*}", digits(&figure.unit)));
        format!("{name} {value}{} {}", if figure.limited { "+" } else { "" }, figure.unit)
    });
    let shared = if watch::disturbed(round) { ", CORES SHARED with other programs" } else { "" };
    figures.collect::<Vec<_>>().join(", ") + shared
}

/// Digits behind the point that a unit is told with.
pub(crate) fn digits(unit: &str) -> usize {
    match unit {
        "Mpps" => 3,
        "k/s" | "%" | "ms" => 1,
        "" => 0,
        _ => 2,
    }
}

/// Whether what ended a comparison leaves a result that is worth telling.
pub(crate) fn any(contenders: &[Contender]) -> bool {
    contenders.iter().any(|contender| !contender.rounds.is_empty())
}

/// Says what became of a comparison that ended early.
///
/// # Errors
/// What ended it.
pub(crate) fn end(contenders: &[Contender], ended: Result<()>) -> Result<()> {
    if let Err(Error::Interrupted) = &ended {
        let rounds = contenders.iter().map(|contender| contender.rounds.len()).min().unwrap_or(0);
        eprintln!("barewire-bench: interrupted after {rounds} whole rounds; what was measured by then is told");
    }
    ended
}
