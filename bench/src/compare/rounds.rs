//! The rounds of a comparison: every server in turn, each round beginning with another.

use std::cell::RefCell;

use super::contestant::Contestant;
use super::cores::Cores;
use super::watch;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::result::{Contender, Round};
use crate::signals;

/// How often a comparison begins anew at most.
const ANEW: u32 = 2;

/// Measures the contestants in so many rounds. What ended it early, be it an interruption or a failure, stands
/// beside all that was whole by then.
pub(crate) fn measure(
    cores: &RefCell<Cores>,
    contestants: &[Contestant],
    rounds: u32,
    measure: impl FnMut(&Contestant) -> Result<Round>,
) -> (Vec<Contender>, Result<()>) {
    let mut contenders: Vec<Contender> =
        contestants.iter().map(|contestant| contestant.contender(Vec::new())).collect();
    let ended = fill(cores, contestants, rounds, measure, &mut contenders);
    (contenders, ended)
}

/// Enters what is measured into `contenders`.
fn fill(
    cores: &RefCell<Cores>,
    contestants: &[Contestant],
    rounds: u32,
    mut measure: impl FnMut(&Contestant) -> Result<Round>,
    contenders: &mut [Contender],
) -> Result<()> {
    let mut progress = Progress::new(u64::from(rounds) * contestants.len() as u64);
    cores.borrow_mut().learn()?;
    let (mut round, mut anew) = (0, 0);
    while round < rounds as usize {
        let nearest_ns = cores.borrow().nearest_ns();
        for place in 0..contestants.len() {
            // Each round begins with another server, so that none always follows the same one.
            let at = (place + round) % contestants.len();
            progress.start(&format!("round {}/{rounds}  {}", round + 1, contestants[at].name));
            let measured = measure(&contestants[at])?;
            contenders[at].rounds.truncate(round);
            contenders[at].rounds.push(measured);
            cores.borrow().mark(contenders);
            progress.done(&brief(&contenders[at].rounds[round]));
            signals::check()?;
        }
        round += 1;
        // The cores came nearer than ever before: all until then was measured with them apart.
        if cores.borrow().apart(nearest_ns) && anew < ANEW {
            progress.more((round * contestants.len()) as u64);
            (round, anew) = (0, anew + 1);
        }
    }
    progress.finish();
    Ok(())
}

/// One line for the progress report.
pub(crate) fn brief(round: &Round) -> String {
    let figures = round.figures.iter().map(|(name, figure)| {
        let value = figure.value.map_or("-".into(), |value| format!("{value:.*}", digits(&figure.unit)));
        let limited = if figure.limited { "+" } else { "" };
        format!("{name} {value}{limited}{} {}", if figure.cores_apart { "#" } else { "" }, figure.unit)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::result::figures::{Figure, Figures};

    #[test]
    fn a_comparison_begins_anew_where_its_cores_were_apart_from_the_beginning() {
        let distance_ns = Rc::new(Cell::new(300.0));
        let probed_ns = Rc::clone(&distance_ns);
        let cores = RefCell::new(Cores::made_up(move || Some(probed_ns.get())));
        let contestants = ["a", "b"].map(|name| Contestant::new(name, "", "", Vec::new()));
        let mut order = String::new();
        let (servers, ended) = measure(&cores, &contestants, 2, |contestant| {
            order += &contestant.name;
            // In the second round the host places them near each other.
            distance_ns.set(if order.len() > 3 { 50.0 } else { 300.0 });
            let ((), placement) = cores.borrow_mut().near(|| Ok(()))?;
            let figure = Figure { cores_ns: placement.cores_ns, ..Figure::higher(Some(1.0), "k/s", false) };
            Ok(Round { figures: Figures::from([("rate".into(), figure)]), ..Round::default() })
        });
        ended.unwrap();
        assert_eq!(order, "ab".to_owned() + "ba" + "ab" + "ba");
        for server in servers {
            assert_eq!(server.values("rate"), [Some(1.0), Some(1.0)], "{}", server.name);
        }
    }
}
