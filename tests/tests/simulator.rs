//! Two production workers on a virtual wire: a thousand seeds with everything that can go wrong.
//!
//! `SEEDS=20000 cargo test -p barewire-tests --test simulator seeds` runs more of them;
//! `SEED=7 cargo test -p barewire-tests --test simulator one_seed -- --nocapture` runs one.

use barewire_tests::sim::run_seed;

/// Every so many seeds one is run twice.
const TWICE: u64 = 10;

fn variable(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number"))
}

#[test]
fn all_seeds_hold_every_invariant_and_the_same_seed_gives_the_same_trace() {
    for seed in 0..variable("SEEDS", 1000) {
        let outcome = run_seed(seed).unwrap_or_else(|failure| panic!("{failure}"));
        if seed % TWICE == 0 {
            assert_eq!(run_seed(seed), Ok(outcome), "seed {seed}: two runs differ");
        }
    }
}

#[test]
fn one_seed() {
    let seed = variable("SEED", 1);
    match run_seed(seed) {
        Ok(outcome) => println!("{outcome:#?}"),
        Err(failure) => panic!("{failure}"),
    }
}
