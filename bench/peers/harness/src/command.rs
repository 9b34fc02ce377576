//! The command line of a program that times one stack.

use std::process::ExitCode;

use crate::{BURST, Driver, Load, StackUnderTest};

/// What is timed if nothing is given.
const LOADS: [Load; 4] = [
    Load { connections: 1, burst: BURST },
    Load { connections: 64, burst: BURST },
    Load { connections: 1000, burst: BURST },
    Load { connections: 1000, burst: 1 },
];
/// Runs of which the median is told, after one that is not counted.
const RUNS: usize = 31;
/// Pairs of a run.
const PAIRS: u64 = 20_000;

/// Runs the command of a program: `--time [LOAD...]` prints nanoseconds for a pair of request and response;
/// `--pairs N LOAD` handles at least N pairs, for callgrind (`--toggle-collect='barewire_peer_harness::turn*'`).
///
/// `make` makes a stack for so many connections.
///
/// # Panics
/// If the stack does not answer as a TCP echo should.
pub fn run<S: StackUnderTest>(name: &str, make: impl Fn(usize) -> S) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--time"] => {
            LOADS.iter().for_each(|load| time(name, *load, &make));
            return ExitCode::SUCCESS;
        }
        ["--time", ref loads @ ..] => {
            if let Ok(loads) = loads.iter().map(|load| load.parse()).collect::<Result<Vec<Load>, ()>>() {
                loads.iter().for_each(|load| time(name, *load, &make));
                return ExitCode::SUCCESS;
            }
        }
        ["--pairs", pairs, load] => {
            if let (Ok(pairs), Ok(load)) = (pairs.parse(), load.parse::<Load>()) {
                Driver::establish(make(load.connections), load).run(pairs);
                return ExitCode::SUCCESS;
            }
        }
        _ => {}
    }
    eprintln!("usage: --time [LOAD...] | --pairs N LOAD, where LOAD is CONNECTIONS or CONNECTIONSxBURST");
    ExitCode::from(2)
}

/// Prints what a pair costs under a load.
fn time<S: StackUnderTest>(name: &str, load: Load, make: impl Fn(usize) -> S) {
    let mut driver = Driver::establish(make(load.connections), load);
    driver.run(PAIRS);
    let runs: Vec<_> = (0..RUNS).map(|_| driver.run(PAIRS)).collect();
    let mut ns: Vec<f64> = runs.iter().map(crate::Timed::ns_per_pair).collect();
    ns.sort_by(f64::total_cmp);
    let sum = |count: fn(&crate::Timed) -> u64| runs.iter().map(count).sum::<u64>();
    println!(
        "{name:<10} {load:>8} connections: {:9.1} ns a pair (least {:.1}, most {:.1}, {RUNS} runs of {PAIRS} pairs; \
         {} further frames, {} further turns)",
        ns[RUNS / 2],
        ns[0],
        ns[RUNS - 1],
        sum(|timed| timed.further_frames),
        sum(|timed| timed.further_turns)
    );
}
