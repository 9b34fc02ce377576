//! Two production workers on a virtual wire: a thousand seeds with everything that can go wrong.
//!
//! `SEEDS=20000 cargo test -p barewire-tests --test simulator seeds` runs more of them;
//! `SEED=7 cargo test -p barewire-tests --test simulator one_seed -- --nocapture` runs one.

use barewire::base::{DropReason, UnsentReason};
use barewire_tests::sim::fragments::{Fragmented, run_fragments_seed};
use barewire_tests::sim::routed::{Passages, run_routed_seed};
use barewire_tests::sim::{Outcome, run_seed};

/// Every so many seeds one is run twice.
const TWICE: u64 = 10;
/// Seeds that are run unless the environment says otherwise.
const SEEDS: u64 = 1000;
/// Paths by a router that are run unless the environment says otherwise.
const PATHS: u64 = 300;

/// Reasons that frames of a simulated host are never dropped for: its NIC makes no chains, its loader no copies, and its
/// stack does not look into TCP.
fn is_never_dropped(reason: DropReason) -> bool {
    let is_of_device = matches!(reason, DropReason::FrameTooLong | DropReason::HeadersSplit | DropReason::CopyNoChunk);
    is_of_device || reason.is_of_tcp()
}

/// Reasons that frames of a simulated host are never unsent for: it speaks to few neighbors, sends few fragments, and
/// leaves the choice of a source to the stack.
const NEVER_UNSENT: [UnsentReason; 3] =
    [UnsentReason::NeighborTableFull, UnsentReason::FragmentQueueFull, UnsentReason::NotOurs];

fn variable(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number"))
}

#[test]
fn all_seeds_hold_every_invariant_and_the_same_seed_gives_the_same_trace() {
    let seeds = variable("SEEDS", SEEDS);
    let mut total = Outcome::default();
    let mut duplicates = 0;
    for seed in 0..seeds {
        let outcome = run_seed(seed).unwrap_or_else(|failure| panic!("{failure}"));
        if seed % TWICE == 0 {
            assert_eq!(run_seed(seed).as_ref(), Ok(&outcome), "seed {seed}: two runs differ");
        }
        duplicates += u64::from(outcome.duplicate);
        add(&mut total, &outcome);
    }
    println!("{seeds} seeds, {duplicates} of them with a duplicate address: {total:#?}");
    if seeds >= SEEDS {
        assert!(duplicates < seeds / 20, "{duplicates} of {seeds} seeds ended with a duplicate address");
        assert_covered(&total);
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

/// `PATH_SEED=7 cargo test -p barewire-tests --test simulator a_router` runs one, `SEEDS=20000` more of them.
#[test]
fn a_router_that_takes_less_delays_what_goes_by_it_and_stops_nothing() {
    let one = variable("PATH_SEED", u64::MAX);
    let seeds = if one == u64::MAX { 0..variable("SEEDS", PATHS) } else { one..one + 1 };
    let all = seeds.end - seeds.start >= PATHS;
    let mut total = Passages::default();
    for seed in seeds {
        let Passages { whole, cut, told, swallowed } =
            run_routed_seed(seed, |_, nic| nic).unwrap_or_else(|failure| panic!("{failure}"));
        total.whole += whole;
        total.cut += cut;
        total.told += told;
        total.swallowed += swallowed;
    }
    println!("{total:?}");
    let Passages { whole, cut, told, swallowed } = total;
    assert!(!all || [whole, cut, told, swallowed].iter().all(|&packets| packets > 500), "{total:?}");
}

/// `FRAGMENTS_SEED=7 cargo test -p barewire-tests --test simulator fragments` runs one, `SEEDS=20000` more of them.
#[test]
fn fragments_become_what_a_model_makes_of_them_that_keeps_single_bytes() {
    let one = variable("FRAGMENTS_SEED", u64::MAX);
    let seeds = if one == u64::MAX { 0..variable("SEEDS", PATHS) } else { one..one + 1 };
    let all = seeds.end - seeds.start >= PATHS;
    let mut total = Fragmented::default();
    for seed in seeds {
        let one = run_fragments_seed(seed, |nic| nic).unwrap_or_else(|failure| panic!("{failure}"));
        total.arrived += one.arrived;
        total.echoed += one.echoed;
        total.mixed += one.mixed;
        total.dropped += one.dropped;
        total.wrong += one.wrong;
        total.expired += one.expired;
        total.told += one.told;
    }
    println!("{total:?}");
    let Fragmented { arrived, echoed, mixed, dropped, wrong, expired, told } = total;
    let counts = [arrived, echoed, mixed, dropped, wrong, expired, told];
    assert!(!all || counts.iter().all(|&count| count > 100), "{total:?}");
}

fn add(total: &mut Outcome, one: &Outcome) {
    total.steps += one.steps;
    total.accepted += one.accepted;
    total.answered += one.answered;
    total.contested += one.contested;
    total.dropped_by_nic += one.dropped_by_nic;
    let sum = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    sum(&mut total.drops, &one.drops);
    sum(&mut total.unsent, &one.unsent);
    sum(&mut total.wire, &one.wire);
}

/// Whatever can go wrong did go wrong somewhere: otherwise the seeds prove less than they seem to.
fn assert_covered(total: &Outcome) {
    for (name, count) in Outcome::WIRE.iter().zip(total.wire) {
        assert!(count > 500, "only {count} frames were {name}");
    }
    for &reason in DropReason::ALL {
        // What strangers' fragments, and packets to and about groups, are dropped for is a matter of chance.
        let is_chance =
            ["fragment", "mld_", "igmp_", "tcp_to_group"].iter().any(|kind| reason.name().starts_with(kind));
        if is_chance {
            continue;
        }
        let is_seen = total.drops[reason as usize] > 0;
        assert_eq!(is_seen, !is_never_dropped(reason), "drops: {}", reason.name());
    }
    for &reason in UnsentReason::ALL {
        let is_seen = total.unsent[reason as usize] > 0;
        if reason == UnsentReason::NoChunk {
            // A matter of chance, too.
            continue;
        }
        assert_eq!(is_seen, !NEVER_UNSENT.contains(&reason), "unsent: {}", reason.name());
    }
    assert!(total.contested > 20 && total.dropped_by_nic > 1000);
    // Where a neighbor is searched for long, most of what is taken gives way to what comes after it.
    let sent = total.accepted - total.unsent[UnsentReason::NeighborQueueFull as usize];
    assert!(total.answered > sent / 2, "{} of {sent} were answered", total.answered);
}
