//! Single faults on the virtual wire, each with what it must lead to.

use std::time::Duration;

use barewire::apps::echo::Echo;
use barewire::base::{Instant, UnsentReason};
use barewire::link::address::Probing;
use barewire::wire::ethernet::Mac;
use barewire_tests::sim::{
    ClockFaults, Nic, Outages, Outcome, SERVER, STRANGER, STRANGER_MAC, Scenario, Simulation, Traffic, frames,
};

/// When simulations begin.
const START: Instant = Instant::from_ns(1_000_000_000);

fn after(ms: u64) -> Instant {
    START + Duration::from_millis(ms)
}

fn simulation(scenario: Scenario) -> Simulation<Nic, Echo> {
    Simulation::new(scenario, Echo, |_, nic| nic)
}

fn run(scenario: Scenario) -> Outcome {
    simulation(scenario).run()
}

/// Few enough to wait for a neighbor together.
fn few(datagrams: u64, gap_ns: u64) -> Traffic {
    Traffic { datagrams, gap_ns, min_len: 8, max_len: 1472 }
}

fn assert_all_answered(outcome: &Outcome) {
    assert_eq!(outcome.answered, outcome.accepted);
    assert_eq!(outcome.unsent, [0; UnsentReason::COUNT]);
}

#[test]
fn on_a_sound_wire_everything_is_answered() {
    let mut scenario = Scenario::sound(1);
    scenario.traffic = few(1000, 10_000);
    // Sixteen wait for the server's MAC address, and those before them give way.
    let outcome = run(scenario);
    let gave_way = outcome.unsent[UnsentReason::NeighborQueueFull as usize];
    assert_eq!(outcome.answered, outcome.accepted - gave_way);
    assert!(outcome.answered > 900);
}

#[test]
fn loss_of_every_other_arp_only_delays() {
    let mut scenario = Scenario::sound(1);
    scenario.to_server.every_other_arp = true;
    scenario.traffic = few(10, 1000);
    let mut simulation = simulation(scenario);
    simulation.begin(simulation.scenario.traffic);
    assert!(!simulation.run_until(after(990), |sim| sim.app().totals().1 > 0), "the first request was lost");
    assert!(simulation.run_until(after(1100), |sim| sim.app().totals() == (10, 10)), "the second one was not");
    assert_all_answered(&simulation.run());
}

#[test]
fn a_silent_neighbor_is_given_up_after_three_requests_and_counted() {
    let mut scenario = Scenario::sound(1);
    scenario.to_server.arp_loss = 1000;
    scenario.traffic = few(10, 1000);
    let mut simulation = simulation(scenario);
    simulation.begin(simulation.scenario.traffic);
    let unreachable = |sim: &Simulation<Nic, Echo>| sim.client.unsent(UnsentReason::NeighborUnreachable);
    assert!(!simulation.run_until(after(2990), |sim| unreachable(sim) > 0));
    assert!(simulation.run_until(after(3010), |sim| unreachable(sim) == 10));
    assert_eq!(simulation.client.worker().stack().counters().arp_requests_originated, 3);
    simulation.calm_down();
}

/// A server whose NIC sends nothing from 10 ms on, for so long.
fn stalled(ms: u64) -> Simulation<Nic, Echo> {
    let mut scenario = Scenario::sound(1);
    scenario.server_plan.stalls = Outages::once(after(10), after(10 + ms));
    scenario.server_plan.rings.tx = 4;
    scenario.traffic = few(60, 1_000_000);
    let mut simulation = simulation(scenario);
    simulation.begin(simulation.scenario.traffic);
    simulation
}

#[test]
fn a_stalled_device_is_given_up_after_100_ms_and_counted() {
    let mut simulation = stalled(300);
    assert!(simulation.run_until(after(300), |sim| sim.server.unsent(UnsentReason::DeviceStalled) > 0));
    let waited = simulation.now.since(after(10));
    assert!((100..125).contains(&waited.as_millis()), "given up after {waited:?}");
    simulation.calm_down();
    let (outcome, given_up) = (simulation.outcome(), simulation.server.unsent(UnsentReason::DeviceStalled));
    assert_eq!(outcome.accepted - outcome.answered, given_up, "what was not given up was answered");
    assert!(simulation.run().answered > outcome.answered, "and afterwards it goes on");
}

#[test]
fn a_device_that_stalls_for_less_than_100_ms_loses_nothing() {
    let simulation = stalled(95);
    assert_all_answered(&simulation.run());
}

#[test]
fn a_peer_behind_a_gateway_is_reached() {
    let mut scenario = Scenario::sound(1);
    scenario.gateway();
    scenario.traffic = few(16, 1000);
    let outcome = run(scenario);
    assert_all_answered(&outcome);
}

#[test]
fn congestion_marks_do_not_come_back() {
    let mut scenario = Scenario::sound(1);
    (scenario.to_server.remarking, scenario.to_client.remarking) = (1000, 1000);
    scenario.traffic = few(16, 100_000);
    let outcome = run(scenario);
    // That the marks are gone is what the reference compares every answer with.
    assert_all_answered(&outcome);
    assert!(outcome.wire[6] >= 32);
}

#[test]
fn a_clock_that_jumps_for_hours_breaks_nothing() {
    let mut scenario = Scenario::sound(1);
    scenario.clock = ClockFaults { jumps: 100, jump_ns: 10_000_000_000_000, ..ClockFaults::default() };
    scenario.traffic = few(500, 1_000_000_000_000);
    let mut simulation = simulation(scenario);
    simulation.begin(simulation.scenario.traffic);
    assert!(simulation.run_until(Instant::from_ns(u64::MAX / 2), |sim| sim.app().left() == 0));
    assert!(simulation.now.since(START) > Duration::from_secs(24 * 3600), "the clock did not jump far");
    let outcome = simulation.run();
    assert!(outcome.accepted - outcome.answered <= outcome.dropped_by_nic, "{outcome:?}");
    assert!(outcome.answered > 450, "{outcome:?}");
}

#[test]
fn a_host_with_eight_chunks_loses_frames_and_no_chunk() {
    let mut scenario = Scenario::sound(1);
    let plan = &mut scenario.server_plan;
    plan.umem.chunks = 8;
    (plan.rings.fill, plan.rings.reserve) = (2, 2);
    scenario.traffic = few(3_000, 3_000);
    let outcome = run(scenario);
    assert!(outcome.dropped_by_nic > 10, "{outcome:?}");
    let gave_way = outcome.unsent[UnsentReason::NeighborQueueFull as usize];
    assert_eq!(outcome.accepted - outcome.answered, outcome.dropped_by_nic + gave_way);
}

#[test]
fn two_hosts_that_probe_for_one_address_at_once_both_give_way() {
    let mut scenario = Scenario::sound(1);
    scenario.client.addresses.clone_from(&scenario.server.addresses);
    (scenario.client.probing, scenario.server.probing) = (Probing::Lead, Probing::Lead);
    let mut simulation = simulation(scenario);
    simulation.run_until(after(5000), |_| false);
    assert!(simulation.client.is_duplicate() && simulation.server.is_duplicate());
    assert!(!simulation.client.is_ready() && !simulation.server.is_ready());
}

#[test]
fn whoever_comes_later_to_an_address_in_use_gives_way() {
    let mut scenario = Scenario::sound(1);
    scenario.client.addresses.clone_from(&scenario.server.addresses);
    (scenario.client.probing, scenario.server.probing) = (Probing::Lead, Probing::Lead);
    scenario.client_plan.naps = Outages::once(START, after(1000));
    let mut simulation = simulation(scenario);
    simulation.run_until(after(5000), |_| false);
    assert!(simulation.server.is_ready() && !simulation.server.is_duplicate());
    assert!(simulation.client.is_duplicate() && !simulation.client.is_ready());
}

/// A frame in which a stranger says that it has the server's address.
fn claim() -> Vec<u8> {
    let claim = frames::arp(2, (STRANGER_MAC, SERVER), (Mac::ZERO, STRANGER));
    frames::ethernet(Mac::BROADCAST, STRANGER_MAC, &[], frames::ARP, &claim)
}

#[test]
fn an_address_that_is_claimed_while_it_is_probed_for_is_never_used() {
    let mut scenario = Scenario::sound(1);
    scenario.server.probing = Probing::Lead;
    let mut simulation = simulation(scenario);
    simulation.run_until(after(150), |_| false);
    simulation.to_server.forge(claim(), simulation.now);
    simulation.run_until(after(5000), |_| false);
    assert!(simulation.server.is_duplicate() && !simulation.server.is_ready());
}

#[test]
fn an_address_in_use_is_defended_at_most_every_ten_seconds() {
    let mut simulation = simulation(Scenario::sound(1));
    for second in 0..25 {
        simulation.to_server.forge(claim(), simulation.now);
        simulation.run_until(after(1000 * (second + 1)), |_| false);
    }
    assert_eq!(simulation.server.contested, 3, "at 0, 10 and 20 s");
    assert_eq!(simulation.server.worker().stack().counters().arp_requests_originated, 3);
    assert_eq!(simulation.server.worker().stack().counters().address_conflicts, 25);
}
