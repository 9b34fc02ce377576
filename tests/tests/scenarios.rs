//! Single faults on the virtual wire, each with what it must lead to.

use std::net::IpAddr;
use std::time::Duration;

use barewire::apps::echo::Echo;
use barewire::base::{Instant, UnsentReason};
use barewire::link::address::Probing;
use barewire::wire::ethernet::Mac;
use barewire_tests::sim::frames::UdpChecksum;
use barewire_tests::sim::routed::{Passages, Request, Routed, Router};
use barewire_tests::sim::tcp::Family;
use barewire_tests::sim::{
    ClockFaults, Faults, Manner, Nic, Outages, Outcome, PORT, SERVER, SERVER_MAC, SERVER_V6, STRANGER, STRANGER_MAC,
    STRANGER_V6, Scenario, Simulation, Traffic, frames, ndp,
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

/// By IPv4, and by IPv6.
fn by_both(seed: u64) -> [Scenario; 2] {
    [Scenario::sound(seed), Scenario::sound_v6(seed)]
}

#[test]
fn two_hosts_that_probe_for_one_address_at_once_both_give_way() {
    for mut scenario in by_both(1) {
        scenario.client.addresses.clone_from(&scenario.server.addresses);
        (scenario.client.probing, scenario.server.probing) = (Probing::Lead, Probing::Lead);
        let mut simulation = simulation(scenario);
        simulation.run_until(after(5000), |_| false);
        assert!(simulation.client.is_duplicate() && simulation.server.is_duplicate());
        assert!(!simulation.client.is_ready() && !simulation.server.is_ready());
    }
}

#[test]
fn whoever_comes_later_to_an_address_in_use_gives_way() {
    for mut scenario in by_both(1) {
        scenario.client.addresses.clone_from(&scenario.server.addresses);
        (scenario.client.probing, scenario.server.probing) = (Probing::Lead, Probing::Lead);
        scenario.client_plan.naps = Outages::once(START, after(1000));
        let mut simulation = simulation(scenario);
        simulation.run_until(after(5000), |_| false);
        assert!(simulation.server.is_ready() && !simulation.server.is_duplicate());
        assert!(simulation.client.is_duplicate() && !simulation.client.is_ready());
    }
}

#[test]
fn whoever_probes_for_an_address_that_another_has_had_for_long_gives_way() {
    for mut scenario in by_both(1) {
        scenario.client.addresses.clone_from(&scenario.server.addresses);
        // Nothing tells of the owner but its answer, which is from the very address.
        scenario.client.probing = Probing::Lead;
        let mut simulation = simulation(scenario);
        simulation.run_until(after(5000), |_| false);
        assert!(simulation.client.is_duplicate() && !simulation.client.is_ready());
        assert_eq!(simulation.server.contested, 0);
    }
}

/// A frame in which a stranger says that it has the server's address of IPv6.
fn claim_v6() -> Vec<u8> {
    let news = ndp::news(SERVER_V6, ndp::ALL_NODES, SERVER_V6, ndp::OVERRIDE, STRANGER_MAC);
    frames::ethernet(ndp::group_mac(ndp::ALL_NODES), STRANGER_MAC, &[], frames::IPV6, &news)
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
    for (scenario, claim) in by_both(1).into_iter().zip([claim(), claim_v6()]) {
        let mut simulation = simulation(scenario);
        for second in 0..25 {
            simulation.to_server.forge(claim.clone(), simulation.now);
            simulation.run_until(after(1000 * (second + 1)), |_| false);
        }
        assert_eq!(simulation.server.contested, 3, "at 0, 10 and 20 s");
        let counters = simulation.server.worker().stack().counters();
        assert_eq!(counters.arp_requests_originated + counters.ndp_messages_originated, 3);
        assert_eq!(counters.address_conflicts, 25);
    }
}

/// Where the stranger is before and after a move.
const OLD: Mac = STRANGER_MAC;
const NEW: Mac = Mac([2, 0, 0, 0, 0, 0x78]);

/// Somebody with two addresses who asks the server for an echo, and what the server sends to him by which MAC address.
struct Caller {
    simulation: Simulation<Nic, Echo>,
    address: IpAddr,
    server: IpAddr,
    mac: Mac,
    /// Whether he answers when he is asked for.
    answers: bool,
    calls: u8,
}

impl Caller {
    fn by(family: Family) -> Self {
        let (scenario, address, server): (_, IpAddr, IpAddr) = match family {
            Family::V4 => (Scenario::sound(1), STRANGER.into(), SERVER.into()),
            Family::V6 => (Scenario::sound_v6(1), STRANGER_V6.into(), SERVER_V6.into()),
        };
        let mut simulation = simulation(scenario);
        simulation.sent = Some(Vec::new());
        Self { simulation, address, server, mac: OLD, answers: true, calls: 0 }
    }

    /// One by either version of IP, who has got an echo.
    fn known() -> [Self; 2] {
        [Family::V4, Family::V6].map(|family| {
            let mut caller = Self::by(family);
            caller.call();
            assert_eq!(caller.wait(ms(10)), [OLD]);
            caller
        })
    }

    /// Lets some time pass, in which he answers the server's questions; says to which MAC addresses echoes went.
    fn wait(&mut self, time: Duration) -> Vec<Mac> {
        let end = self.simulation.now + time;
        let mut echoes = Vec::new();
        while self.simulation.now < end {
            self.simulation.run_until(end, |sim| sim.sent.as_ref().is_some_and(|sent| !sent.is_empty()));
            for frame in self.simulation.sent.replace(Vec::new()).unwrap_or_default() {
                let to = Mac(*frame.first_chunk().unwrap());
                match asked(&frame) {
                    Some(target) if target == self.address && self.answers => self.introduce(false),
                    None if frames::destination(&frame) == Some(self.address) => echoes.push(to),
                    _ => {}
                }
            }
        }
        echoes
    }

    /// Says where he is: in answer to a question, or unasked to all.
    fn introduce(&mut self, unasked: bool) {
        let frame = match (self.address, self.server) {
            (IpAddr::V4(own), IpAddr::V4(server)) => {
                let (to, target) = if unasked { (Mac::BROADCAST, own) } else { (SERVER_MAC, server) };
                frames::ethernet(to, self.mac, &[], frames::ARP, &frames::arp(2, (self.mac, own), (SERVER_MAC, target)))
            }
            (IpAddr::V6(own), IpAddr::V6(server)) => {
                let flags = if unasked { ndp::OVERRIDE } else { ndp::OVERRIDE | ndp::SOLICITED };
                let (to, destination) =
                    if unasked { (ndp::group_mac(ndp::ALL_NODES), ndp::ALL_NODES) } else { (SERVER_MAC, server) };
                let news = ndp::news(own, destination, own, flags, self.mac);
                frames::ethernet(to, self.mac, &[], frames::IPV6, &news)
            }
            _ => panic!("two versions of IP"),
        };
        self.simulation.to_server.forge(frame, self.simulation.now);
    }

    /// Asks for an echo.
    fn call(&mut self) {
        self.calls += 1;
        let datagram = frames::udp((self.address, 5000), (self.server, PORT), &[self.calls; 20], UdpChecksum::Right);
        let ip = frames::Ip::new(frames::UDP, self.address, self.server);
        self.simulation.to_server.forge(frames::frame(SERVER_MAC, self.mac, ip, &datagram), self.simulation.now);
    }
}

/// The address that a frame asks for.
fn asked(frame: &[u8]) -> Option<IpAddr> {
    match frame[12..14] {
        [0x08, 0x06] => Some(IpAddr::from(*frame[38..].first_chunk::<4>()?)),
        [0x86, 0xdd] if frame[20] == frames::ICMPV6 && frame[54] == ndp::SOLICITATION => {
            Some(IpAddr::from(*frame[62..].first_chunk::<16>()?))
        }
        _ => None,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_answer_waits_until_its_neighbor_has_said_where_it_is() {
    for family in [Family::V4, Family::V6] {
        let mut caller = Caller::by(family);
        caller.answers = false;
        caller.call();
        assert_eq!(caller.wait(ms(500)), [], "nobody has said where he is");
        caller.introduce(false);
        assert_eq!(caller.wait(ms(10)), [OLD]);
        caller.call();
        assert_eq!(caller.wait(ms(10)), [OLD], "the next one leaves at once");
    }
}

#[test]
fn a_neighbor_that_moved_and_says_so_is_followed_at_once() {
    for mut caller in Caller::known() {
        caller.mac = NEW;
        caller.introduce(true);
        caller.wait(ms(10));
        caller.call();
        assert_eq!(caller.wait(ms(10)), [NEW]);
    }
}

#[test]
fn a_neighbor_that_moved_in_silence_is_found_again() {
    for mut caller in Caller::known() {
        caller.mac = NEW;
        // 45 s for which it may count as reachable, 5 s of DELAY, three questions to where it was, and a search.
        let mut echoes = Vec::new();
        for _ in 0..60 {
            caller.call();
            echoes = caller.wait(ms(1000));
        }
        assert_eq!(echoes, [NEW]);
    }
}

#[test]
fn a_neighbor_that_vanished_is_asked_and_given_up_and_its_answers_counted() {
    for mut caller in Caller::known() {
        caller.answers = false;
        let mut echoes = Vec::new();
        for _ in 0..60 {
            caller.call();
            echoes = caller.wait(ms(1000));
        }
        assert_eq!(echoes, [], "it is known nowhere any more");
        assert!(caller.simulation.server.unsent(UnsentReason::NeighborUnreachable) > 0);
        // Nothing is kept for it for longer than a search takes.
        caller.wait(ms(5000));
        assert_eq!(caller.simulation.server.worker().stack().waiting(), 0);
    }
}

#[test]
fn news_of_whom_nobody_asked_for_are_not_believed() {
    for family in [Family::V4, Family::V6] {
        let mut caller = Caller::by(family);
        (caller.mac, caller.answers) = (NEW, false);
        caller.introduce(true);
        caller.wait(ms(10));
        caller.mac = OLD;
        caller.call();
        assert_eq!(caller.wait(ms(500)), [], "it has to be asked for");
    }
}

#[test]
fn a_liar_is_believed_until_the_neighbor_speaks_again() {
    for mut caller in Caller::known() {
        caller.mac = NEW;
        caller.introduce(true);
        (caller.mac, caller.answers) = (OLD, true);
        caller.wait(ms(10));
        // RFC 4861, section 7.2.5 leaves a neighbor STALE whose MAC address was changed unasked: it is soon asked for
        // where it is said to be, where nobody answers, and then searched for.
        let mut silent = 0;
        loop {
            caller.call();
            // The one who lied does not answer in the neighbor's place.
            caller.answers = silent >= 8;
            match caller.wait(ms(1000))[..] {
                [.., OLD] => break,
                _ => silent += 1,
            }
            assert!(silent < 12, "the neighbor is not found again");
        }
    }
}

/// A wire of 1 ms to each host behind a router.
fn routed(family: Family, mtu: usize, manner: Manner) -> Routed {
    let faults = Faults { delay_ns: 1_000_000, ..Faults::default() };
    Routed::new(family, Router::new(mtu, manner), faults, 1, |_, nic| nic)
}

#[test]
fn datagrams_and_pings_find_what_a_router_on_the_way_takes() {
    for (family, mtu) in [(Family::V4, 600), (Family::V4, 1400), (Family::V6, 1280), (Family::V6, 1400)] {
        let mut sim = routed(family, mtu, Manner::Tells);
        let long = Request::Datagram { len: 1400, may_cut: true };
        sim.ask([long; 4]);
        // Of IPv4 the request may be cut on the way. Of IPv6 its sender has to hear of it first, as of either who answers.
        let lost = if family == Family::V4 { vec![0] } else { vec![0, 1] };
        assert_eq!(sim.caller().missing(), lost, "{family:?} {mtu}: {:?}", sim.router);
        assert_eq!(sim.router.passages.told, lost.len() as u64);
        sim.ask([8, 500, 1_200, 1_300, 1_452].map(|len| Request::Datagram { len, may_cut: true }));
        sim.ask([8, 1_400, 3_000, 10_000, 60_000].map(|len| Request::Ping { len }));
        assert_eq!(sim.caller().missing(), lost, "{family:?} {mtu}: {:?}", sim.router);
        assert_eq!(sim.router.passages.told, lost.len() as u64);
        sim.come_to_rest();
    }
}

#[test]
fn what_must_not_be_cut_is_lost_and_its_sender_told() {
    for (family, mtu) in [(Family::V4, 600), (Family::V6, 1280)] {
        let mut sim = routed(family, mtu, Manner::Tells);
        sim.ask([Request::Datagram { len: 1400, may_cut: false }; 3]);
        assert_eq!((sim.caller().missing().len(), &sim.caller().told[..]), (3, &[mtu as u32; 3][..]), "{family:?}");
        sim.come_to_rest();
    }
}

#[test]
fn streams_find_what_a_router_on_the_way_takes() {
    // In round trips of 4 ms, where none has to wait for a timeout of 200 ms; and of a black hole for several.
    let ms = Duration::from_millis;
    for (family, manner, times) in [
        (Family::V4, Manner::Tells, ms(0)..ms(100)),
        (Family::V4, Manner::Grumbles, ms(0)..ms(100)),
        (Family::V4, Manner::Cuts, ms(0)..ms(100)),
        (Family::V4, Manner::Swallows, ms(200)..ms(10_000)),
        (Family::V6, Manner::Tells, ms(0)..ms(100)),
        (Family::V6, Manner::Swallows, ms(200)..ms(10_000)),
    ] {
        let mut sim = routed(family, 1300, manner);
        let took = sim.stream(300_000, Duration::from_secs(60));
        assert!(times.contains(&took), "{family:?}, {manner:?}: {took:?}");
        let Passages { cut, told, swallowed, .. } = sim.router.passages;
        let done = [(Manner::Cuts, cut), (Manner::Swallows, swallowed)];
        assert!(done.iter().all(|(who, packets)| (*packets > 0) == (*who == manner)), "{family:?}: {:?}", sim.router);
        let most = if matches!(manner, Manner::Tells | Manner::Grumbles) { 1..20 } else { 0..1 };
        assert!(most.contains(&told) && swallowed < 40, "{family:?}: {:?}", sim.router);
        sim.come_to_rest();
    }
}

#[test]
fn what_a_path_takes_may_become_less_under_way() {
    for (family, mtus) in [(Family::V4, [1400, 900, 600]), (Family::V6, [1440, 1360, 1280])] {
        let mut sim = routed(family, 1500, Manner::Tells);
        sim.ask([Request::Datagram { len: 1400, may_cut: true }; 2]);
        for (shorter, mtu) in (1..).zip(mtus) {
            sim.router.mtu = mtu;
            sim.ask([Request::Datagram { len: 1400, may_cut: true }; 4]);
            // Fragments of IPv4 may be cut again on the way, so nobody has to hear of it.
            let lost = if family == Family::V4 { 1 } else { 2 * shorter };
            assert_eq!(sim.caller().missing().len(), lost, "{family:?} {mtu}: {:?}", sim.router);
        }
        sim.come_to_rest();

        let mut sim = routed(family, 1500, Manner::Tells);
        sim.caller_mut().stream = 1_000_000;
        for (part, mtu) in (1..).zip(mtus) {
            assert!(sim.run_until(Duration::from_secs(10), |sim| sim.caller().echoed > part * 200_000));
            sim.router.mtu = mtu;
        }
        let took = sim.stream(1_000_000, Duration::from_secs(10));
        assert!(sim.router.passages.told > 2 && took < Duration::from_secs(2), "{took:?} {:?}", sim.router);
        sim.come_to_rest();
    }
}
