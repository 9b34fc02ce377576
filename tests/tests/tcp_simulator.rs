//! TCP between two production workers on a virtual wire: two thousand seeds with everything that can go wrong.
//!
//! `SEEDS=20000 cargo test -p barewire-tests --test tcp_simulator seeds` runs more of them (`make soak-sim SEEDS=...`),
//! from `FIRST_SEED` on; `SEED=7 cargo test -p barewire-tests --test tcp_simulator one_seed -- --nocapture` runs one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use barewire::base::{DropReason, UnsentReason};
use barewire_tests::sim::tcp::{TcpOutcome, TcpScenario, TcpSimulation};
use barewire_tests::sim::{Outages, run_tcp_seed};

/// Every so many seeds one is run twice.
const TWICE: u64 = 20;
/// Seeds that are run unless the environment says otherwise.
const SEEDS: u64 = 2000;

fn variable(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number"))
}

/// Reasons that frames are not dropped for: NICs make no chains and loaders no copies, nobody claims an address, and no TCP of ours sends what
/// these are about, or floods anybody.
const NEVER_DROPPED: [DropReason; 8] = [
    DropReason::HeadersSplit,
    DropReason::CopyNoChunk,
    DropReason::TcpSynFlood,
    DropReason::FrameTooLong,
    DropReason::ArpConflict,
    DropReason::TcpPortZero,
    DropReason::TcpAfterFin,
    DropReason::TcpNoSyn,
];

/// Runs seeds on all cores: their outcomes, or what went wrong with the first ones that failed.
fn run(first: u64, count: u64) -> Result<Vec<TcpOutcome>, String> {
    let (next, end) = (AtomicU64::new(first), first + count);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(outcomes);
            }
            let outcome = run_tcp_seed(seed).and_then(|outcome| {
                let again = if seed % TWICE == 0 { run_tcp_seed(seed)? } else { outcome.clone() };
                if again == outcome { Ok(outcome) } else { Err(format!("seed {seed}: two runs differ")) }
            });
            outcomes.push(outcome.inspect_err(|_| next.store(end, Ordering::Relaxed))?);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let parts: Vec<Result<Vec<_>, String>> =
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
        Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    })
}

#[test]
fn all_seeds_hold_every_invariant_and_the_same_seed_gives_the_same_trace() {
    let (first, seeds) = (variable("FIRST_SEED", 0), variable("SEEDS", SEEDS));
    let outcomes = run(first, seeds).unwrap_or_else(|failure| panic!("{failure}"));
    let mut total = Total::default();
    outcomes.iter().for_each(|outcome| total.add(outcome));
    println!("{seeds} seeds: {total:#?}");
    if seeds >= SEEDS {
        total.assert_covered();
    }
}

#[test]
fn one_seed() {
    let seed = variable("SEED", 1);
    match run_tcp_seed(seed) {
        Ok(outcome) => println!("{outcome:#?}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// A device that stops for longer than the worker waits: what it is left with is counted segment by segment.
#[test]
fn segments_in_one_packet_that_a_stalled_device_leaves_are_all_counted() {
    let mut given_up = 0;
    for seed in 0..20 {
        let mut scenario = TcpScenario::sound(seed);
        for host in &mut scenario.hosts {
            (host.plan.segmentation, host.plan.rings.tx) = (true, 4);
            host.plan.stalls = Outages::new(5_000_000, 400_000_000);
        }
        let outcome = TcpSimulation::new(scenario, |_, nic| nic).run();
        given_up += outcome.unsent[UnsentReason::DeviceStalled as usize];
    }
    assert!(given_up > 100, "{given_up}");
}

/// All outcomes together.
#[derive(Debug, Default)]
struct Total {
    steps: u64,
    segments: u64,
    crossings: u64,
    received: u64,
    ends: BTreeMap<String, u64>,
    counters: BTreeMap<&'static str, u64>,
    drops: BTreeMap<&'static str, u64>,
    wire: BTreeMap<&'static str, u64>,
}

impl Total {
    fn add(&mut self, outcome: &TcpOutcome) {
        self.steps += outcome.steps;
        self.segments += outcome.segments;
        self.crossings += outcome.crossings;
        self.received += outcome.received;
        for (end, count) in &outcome.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        for (reason, count) in DropReason::ALL.iter().zip(outcome.drops) {
            *self.drops.entry(reason.name()).or_default() += count;
        }
        for (name, count) in &outcome.counters {
            *self.counters.entry(name).or_default() += count;
        }
        for (name, count) in &outcome.wire {
            *self.wire.entry(name).or_default() += count;
        }
    }

    /// Whatever can go wrong did go wrong somewhere: otherwise the seeds prove less than they seem to.
    fn assert_covered(&self) {
        for end in ["Finished", "Reset", "Refused", "TimedOut", "Aborted"] {
            assert!(
                self.ends.get(end).is_some_and(|&count| count > 100),
                "{:?} connections: {end}",
                self.ends.get(end)
            );
        }
        for (name, &count) in &self.counters {
            assert!(count > 0, "never counted: {name}");
        }
        for &reason in DropReason::ALL {
            let is_seen = self.drops[reason.name()] > 0;
            // What few strangers' frames are dropped for the simulator of UDP sees.
            let kinds = ["ipv6_", "ndp_", "mld_", "igmp_", "fragment", "tcp_to_group"];
            let is_rare = kinds.iter().any(|kind| reason.name().starts_with(kind));
            assert!(is_seen || is_rare || NEVER_DROPPED.contains(&reason), "drops: {}", reason.name());
        }
        for (name, &count) in &self.wire {
            assert!(count > 100, "only {count} frames: {name}");
        }
        assert!(self.crossings > 20, "{} connections were opened by both sides at once", self.crossings);
        let finished = self.ends["Finished"];
        assert!(finished > 10 * self.ends["TimedOut"], "most connections come to a good end: {:?}", self.ends);
    }
}
