//! Barewire's TCP alone and smoltcp's alone, over memory, in one interleaved run.
//!
//! ```text
//!   stack_alone                     both, at 1, 64 and 1,000 connections, and Barewire at 100 and 100,000
//!   stack_alone --pairs N LOAD      at least N pairs through Barewire, for callgrind
//! ```
//!
//! With bursts of 64, a turn handles a request of each of 64 connections; with bursts of 1 each request comes by
//! itself, as it does behind clients that do not move in step. A stack that looks at all its connections in every
//! turn pays for that once a burst, so both are shown.

mod barewire_alone;

use std::process::ExitCode;

use barewire_peer_harness::{Driver, Load, StackUnderTest};
use barewire_peer_smoltcp::alone::Alone as Smoltcp;

use crate::barewire_alone::Alone as Barewire;

/// Rounds, in each of which every stack has a run.
const ROUNDS: usize = 15;
/// Pairs of a run.
const PAIRS: u64 = 20_000;
/// The same where a pair takes microseconds.
const FEW_PAIRS: u64 = 2_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            println!(
                "{:<22} {:>22} {:>26} {:>14}",
                "connections x burst", "barewire, ns a pair", "smoltcp, ns a pair", "ratio"
            );
            for (load, pairs) in
                [("1x1", PAIRS), ("64", PAIRS), ("64x1", PAIRS), ("1000", PAIRS), ("1000x1", FEW_PAIRS)]
            {
                compare(load.parse().expect("a load"), pairs);
            }
            for load in ["100", "100000"] {
                alone(load.parse().expect("a load"));
            }
            ExitCode::SUCCESS
        }
        ["--pairs", pairs, load] => match (pairs.parse(), load.parse::<Load>()) {
            (Ok(pairs), Ok(load)) => {
                Driver::establish(Barewire::new(load.connections), load).run(pairs);
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: stack_alone | stack_alone --pairs N LOAD, where LOAD is CONNECTIONS or CONNECTIONSxBURST");
    ExitCode::from(2)
}

/// Prints what a pair costs both under a load, and how many times faster Barewire is.
fn compare(load: Load, pairs: u64) {
    let mut ours = Driver::establish(Barewire::new(load.connections), load);
    let mut theirs = Driver::establish(Smoltcp::new(), load);
    let rounds: Vec<(f64, f64)> =
        (0..=ROUNDS).map(|_| (ns(&mut ours, pairs), ns(&mut theirs, pairs))).skip(1).collect();
    let ratios = spread(rounds.iter().map(|(ours, theirs)| theirs / ours));
    let (ours, theirs) = (spread(rounds.iter().map(|round| round.0)), spread(rounds.iter().map(|round| round.1)));
    let text = |[median, least, most]: [f64; 3]| format!("{median:.0} ({least:.0}-{most:.0})");
    let ratio = format!("{:.2} ({:.2}-{:.2})", ratios[0], ratios[1], ratios[2]);
    println!("{:<22} {:>22} {:>26} {:>18}", load.to_string(), text(ours), text(theirs), ratio);
}

/// Prints what a pair costs Barewire under a load.
fn alone(load: Load) {
    let pairs = PAIRS.max(load.connections as u64);
    let mut ours = Driver::establish(Barewire::new(load.connections), load);
    ns(&mut ours, pairs);
    let [median, least, most] = spread((0..ROUNDS).map(|_| ns(&mut ours, pairs)));
    println!("{:<22} {:>22}", load.to_string(), format!("{median:.0} ({least:.0}-{most:.0})"));
}

fn ns<S: StackUnderTest>(driver: &mut Driver<S>, pairs: u64) -> f64 {
    driver.run(pairs).ns_per_pair()
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}
