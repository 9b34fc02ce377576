//! TCP between two production workers on a virtual wire: two thousand seeds with everything that can go wrong.
//!
//! `SEEDS=20000 cargo test -p barewire-tests --test tcp_simulator seeds` runs more of them (`make soak-sim SEEDS=...`),
//! from `FIRST_SEED` on; `SEED=7 cargo test -p barewire-tests --test tcp_simulator one_seed -- --nocapture` runs one.

use barewire_tests::sim::run_tcp_seed;
use barewire_tests::sim::tcp::TcpOutcome;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Every so many seeds one is run twice.
const TWICE: u64 = 20;
/// Seeds that are run unless the environment says otherwise.
const SEEDS: u64 = 2000;

fn variable(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number"))
}

#[test]
fn all_seeds_hold_every_invariant_and_the_same_seed_gives_the_same_trace() {
    let (first, seeds) = (variable("FIRST_SEED", 0), variable("SEEDS", SEEDS));
    let next = AtomicU64::new(first);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return outcomes;
            }
            let outcome = match run_tcp_seed(seed) {
                Ok(o) => o,
                Err(e) => {
                    println!("FAIL {seed} {}", e.lines().next().unwrap_or(""));
                    continue;
                }
            };
            if seed % TWICE == 0 {
                assert_eq!(run_tcp_seed(seed).as_ref(), Ok(&outcome), "seed {seed}: two runs differ");
            }
            outcomes.push(outcome);
        }
    };
    let outcomes: Vec<TcpOutcome> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a seed failed: see above")).collect()
    });
    println!("{} outcomes", outcomes.len());
}

#[test]
fn one_seed() {
    let seed = variable("SEED", 1);
    match run_tcp_seed(seed) {
        Ok(outcome) => println!("{outcome:#?}"),
        Err(failure) => panic!("{failure}"),
    }
}
