//! The run of a simulation: step by step while there are faults, and then until everything is well again.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use barewire::app::App;
use barewire::base::{DropReason, Instant, UnsentReason};
use barewire::wire::ethernet::Mac;

use super::client::{Client, Delivery, Traffic, key};
use super::folk::lie;
use super::forge::draw_frame;
use super::frames;
use super::host::{Digested, Emission, Host};
use super::ndp;
use super::nic::{Nic, Virtual};
use super::pcap::Records;
use super::reference::Reference;
use super::rng::{Rng, hash};
use super::scenario::{CLIENT_MAC, SERVER_MAC, STRANGER, STRANGER_MAC, Scenario};
use super::wire::{Lane, LaneCounters, Transmission};

/// Steps of the part with faults at most: enough for most scenarios to send all they have.
const FAULTY_STEPS: u64 = 6_000;
/// Virtual time of the part with faults at most.
const FAULTY_TIME: Duration = Duration::from_secs(300);
/// In which everything under way has come to rest: three requests for a neighbor, a second apart, and the
/// longest delays of the wire.
const REST: Duration = Duration::from_secs(10);
/// In which a neighbor's MAC address that damage made wrong is found out: it serves for 45 s at most and 5 s more, is
/// asked for three times a second apart, and the next datagram has it searched for.
const HEALING: Duration = Duration::from_secs(70);
/// In which the last answer comes back on a sound wire, beside its delay.
const SLACK: Duration = Duration::from_millis(50);

/// What happened in a simulation, to be compared and summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that was on the wire, and when.
    pub trace: u64,
    /// Steps made.
    pub steps: u64,
    /// Datagrams that the client's stack took.
    pub accepted: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Whether a host found its address in use, and was silent from then on.
    pub duplicate: bool,
    /// Conflicts over an address in use.
    pub contested: u64,
    /// Frames dropped by the two stacks, by reason.
    pub drops: [u64; DropReason::COUNT],
    /// Frames unsent by the two stacks, by reason.
    pub unsent: [u64; UnsentReason::COUNT],
    /// Frames on the wire, both directions: lost, too long, beyond the queue, duplicated, corrupted,
    /// truncated, remarked, reordered.
    pub wire: [u64; 8],
    /// Frames that found no place in a NIC.
    pub dropped_by_nic: u64,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            trace: 0,
            steps: 0,
            accepted: 0,
            answered: 0,
            duplicate: false,
            contested: 0,
            drops: [0; DropReason::COUNT],
            unsent: [0; UnsentReason::COUNT],
            wire: [0; 8],
            dropped_by_nic: 0,
        }
    }
}

impl Outcome {
    /// Names of what [`wire`](Self::wire) counts.
    pub const WIRE: [&str; 8] =
        ["lost", "too long", "queue full", "duplicated", "corrupted", "truncated", "remarked", "reordered"];
}

/// Two hosts, a wire between them, and the time.
#[derive(Debug)]
pub struct Simulation<D, A: App> {
    /// The scenario.
    pub scenario: Scenario,
    /// The client.
    pub client: Host<D, Client>,
    /// The server.
    pub server: Host<D, A>,
    /// The way to the server.
    pub to_server: Lane,
    /// The way to the client.
    pub to_client: Lane,
    /// The virtual clock.
    pub now: Instant,
    /// Frames that the server sent, until somebody takes them, if they are to be kept.
    pub sent: Option<Vec<Vec<u8>>>,
    rng: Rng,
    calm: bool,
    steps: u64,
    trace: u64,
    records: Option<Rc<RefCell<Records>>>,
}

impl<D: Virtual, A: App> Simulation<D, A> {
    /// Puts a simulation together, with `app` on the server and `wrap` around each NIC (it is told whose). The
    /// server is taken to be an echo service.
    pub fn new(scenario: Scenario, app: A, wrap: impl Fn(Mac, Nic) -> D) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x5eed);
        let now = Instant::from_ns(1_000_000_000);
        let client = Client::new(scenario.target, rng.fork());
        let reference = |config: &barewire::stack::StackConfig, echoes| Reference::new(config.clone(), echoes);
        let mut client = Host::new(
            "client",
            reference(&scenario.client, false),
            client,
            scenario.client_plan.clone(),
            |nic| wrap(CLIENT_MAC, nic),
            rng.fork(),
            now,
        );
        client.take_interest(scenario.target.ip());
        Self {
            client,
            server: Host::new(
                "server",
                reference(&scenario.server, true),
                app,
                scenario.server_plan.clone(),
                |nic| wrap(SERVER_MAC, nic),
                rng.fork(),
                now,
            ),
            to_server: Lane::new(scenario.to_server, rng.fork()),
            to_client: Lane::new(scenario.to_client, rng.fork()),
            scenario,
            now,
            sent: None,
            rng,
            calm: false,
            steps: 0,
            trace: 0,
            records: None,
        }
    }

    /// Keeps every frame on the wire.
    pub fn record(&mut self, records: Rc<RefCell<Records>>) {
        self.records = Some(records);
    }

    /// The whole of it: faults, rest, healing, a sound wire, rest.
    pub fn run(mut self) -> Outcome {
        self.begin(self.scenario.traffic);
        let end = self.now + FAULTY_TIME;
        self.run_until(end, |sim| sim.steps >= FAULTY_STEPS || (sim.app().left() == 0 && sim.is_at_rest()));
        self.calm_down();
        let duplicate = self.client.is_duplicate() || self.server.is_duplicate();
        if !duplicate {
            self.heal();
            self.prove_sound();
        }
        self.come_to_rest();
        self.outcome()
    }

    /// Has the client send.
    pub fn begin(&mut self, traffic: Traffic) {
        let now = self.now;
        self.client.worker_mut().stack_mut().app_mut().begin(traffic, now);
    }

    /// The client's application.
    #[must_use]
    pub fn app(&self) -> &Client {
        self.client.worker().stack().app()
    }

    /// Makes steps until `done`, or until a point in time. Says whether it was done.
    pub fn run_until(&mut self, end: Instant, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    /// Ends all faults, and waits until what they left has come to rest.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.client.calm();
        self.server.calm();
        self.to_server.calm();
        self.to_client.calm();
        self.begin(Traffic { datagrams: 0, ..self.scenario.traffic });
        self.come_to_rest();
    }

    /// Waits until nothing is under way, and checks that everything is in its place then.
    pub fn come_to_rest(&mut self) {
        let end = self.now + REST;
        let rested = self.run_until(end, Self::is_at_rest);
        assert!(rested, "something is still under way after {REST:?} without faults");
        self.client.check_rest();
        self.server.check_rest();
    }

    /// Sends a datagram a second until one is answered.
    fn heal(&mut self) {
        let end = self.now + HEALING;
        let before = self.app().totals().1;
        loop {
            let at = self.now + Duration::from_secs(1);
            self.begin(Traffic { datagrams: 1, gap_ns: 0, min_len: 8, max_len: 8 });
            if self.run_until(at, |sim| sim.app().totals().1 > before) {
                return;
            }
            assert!(self.now < end, "no answer within {HEALING:?} after the faults");
        }
    }

    /// Sends datagrams on a sound wire: all of them are answered, in time.
    fn prove_sound(&mut self) {
        const COUNT: u64 = 32;
        const GAP: Duration = Duration::from_micros(100);
        self.come_to_rest();
        let mtu = self.scenario.client.mtu.min(self.scenario.server.mtu);
        let max_len = u64::from(mtu) - if self.scenario.target.is_ipv4() { 28 } else { 48 };
        let (accepted, answered) = self.app().totals();
        let delay = self.scenario.to_server.delay_ns + self.scenario.to_client.delay_ns;
        let end = self.now + Duration::from_nanos(delay) + GAP * COUNT as u32 + SLACK;
        for _ in 0..COUNT {
            self.begin(Traffic { datagrams: 1, gap_ns: 0, min_len: 8, max_len });
            let next = self.now + GAP;
            self.run_until(next, |_| false);
        }
        self.run_until(end, |sim| sim.app().totals().1 == answered + COUNT);
        let totals = self.app().totals();
        assert_eq!(totals.0, accepted + COUNT, "datagrams taken by the client's stack, on a sound wire");
        assert_eq!(totals.1, answered + COUNT, "datagrams answered in time, on a sound wire");
    }

    /// Whether nothing is under way: in a burst, in a NIC, on the wire, or waiting for a neighbor.
    fn is_at_rest(&mut self) -> bool {
        let hosts = [self.client.worker().stack().queued_chunks(), self.server.worker().stack().queued_chunks()];
        let waiting = hosts[0] + hosts[1];
        let settled = |ready, duplicate| ready || duplicate;
        waiting == 0
            && self.to_server.in_flight() + self.to_client.in_flight() == 0
            && !self.client.is_busy()
            && !self.server.is_busy()
            && settled(self.client.is_ready(), self.client.is_duplicate())
            && settled(self.server.is_ready(), self.server.is_duplicate())
    }

    /// One step: the clock goes on to the next thing that happens, or nearly; frames arrive; both workers turn.
    fn step(&mut self, end: Instant) {
        self.steps += 1;
        self.now = self.next_time(end);
        self.disturb();
        while let Some(frame) = self.to_server.arrive(self.now) {
            self.note(1, &frame.bytes, frame.damaged);
            self.server.arrive(frame);
        }
        while let Some(frame) = self.to_client.arrive(self.now) {
            self.note(2, &frame.bytes, frame.damaged);
            self.client.arrive(frame);
        }
        if self.rng.chance(500) {
            self.turn_client();
            self.turn_server();
        } else {
            self.turn_server();
            self.turn_client();
        }
        check_lane("to the server", &self.to_server);
        check_lane("to the client", &self.to_client);
    }

    fn next_time(&mut self, end: Instant) -> Instant {
        let (now, clock) = (self.now, self.scenario.clock);
        let soon = now + Duration::from_nanos(self.rng.scale(1_000, if self.calm { 20_000 } else { 1_000_000 }));
        let deadlines = [self.client.next_deadline(), self.server.next_deadline()];
        // What is overdue has to wait until a worker that naps wakes up.
        let deadlines = deadlines.into_iter().flatten().map(|at| if at <= now { soon } else { at });
        let arrivals = [self.to_server.next_arrival(), self.to_client.next_arrival()].into_iter().flatten();
        let busy = (self.client.is_busy() || self.server.is_busy()).then_some(soon);
        let next = deadlines.chain(arrivals).chain(busy).min().unwrap_or(end).min(end);
        let mut next = next.max(now) + Duration::from_nanos(1 + self.rng.below(20_000));
        if !self.calm && self.rng.chance(clock.jumps) {
            next += Duration::from_nanos(self.rng.below(clock.jump_ns));
        }
        if !self.calm && self.rng.chance(clock.slow_steps) {
            next += Duration::from_nanos(self.rng.below(clock.slow_ns));
        }
        next
    }

    /// Strangers put their frames on the wire.
    fn disturb(&mut self) {
        let (strangers, lies) = (self.scenario.strangers, self.scenario.folk.lies);
        if self.calm || strangers.frames + strangers.claims + lies == 0 {
            return;
        }
        let to_server = self.rng.chance(500);
        let (config, peer) = if to_server {
            (&self.scenario.server, &self.scenario.client)
        } else {
            (&self.scenario.client, &self.scenario.server)
        };
        let lane = if to_server { &mut self.to_server } else { &mut self.to_client };
        let address = config.addresses[0].addr();
        if self.rng.chance(strangers.frames) {
            lane.forge(draw_frame(&mut self.rng, config.mac, address), self.now);
        }
        if self.rng.chance(lies) {
            lane.forge(lie(&mut self.rng, config.mac, peer.addresses[0].addr()), self.now);
        }
        if self.rng.chance(strangers.claims) {
            let claim = claim(&mut self.rng, address);
            self.to_server.forge(claim.clone(), self.now);
            self.to_client.forge(claim, self.now);
        }
    }

    /// Others on the link see a frame of a host, and may answer.
    fn call_folk(&mut self, frame: &[u8], host: Mac) {
        if let Some(answer) = self.scenario.folk.answer(frame, host, self.now, &mut self.rng) {
            let lane = if host == SERVER_MAC { &mut self.to_server } else { &mut self.to_client };
            lane.forge(answer, self.now);
        }
    }

    fn turn_server(&mut self) {
        self.server.turn(self.now, |_, _| {});
        while let Some((bytes, emission)) = self.server.depart() {
            let damaged = match emission {
                Emission::Answer { damaged } => damaged,
                Emission::Neighbor => false,
                Emission::Own { .. } => panic!("the server sent a frame that answers nothing:\n{bytes:02x?}"),
            };
            self.note(3, &bytes, true);
            if let Some(sent) = &mut self.sent {
                sent.push(bytes.clone());
            }
            self.call_folk(&bytes, SERVER_MAC);
            self.to_client.send(Transmission { bytes, damaged }, self.now);
        }
    }

    fn turn_client(&mut self) {
        let target = self.scenario.target;
        self.client.turn(self.now, |digested, app| {
            let Digested { frame, reaction } = digested;
            let Some((source, destination, payload)) = reaction.delivery.clone() else { return };
            let key = key(destination.port(), &frame.bytes[payload]);
            let delivery = app.deliveries.pop_front();
            assert_eq!(delivery, Some(Delivery { source, destination, key }), "what the client was given");
            match app.sent.get_mut(&key) {
                Some(sent) if source == target => sent.answered += 1,
                _ => assert!(frame.damaged, "an answer from {source} to something that was never sent"),
            }
        });
        assert!(self.app().deliveries.is_empty(), "the client was given what the reference would not deliver");
        while let Some((bytes, emission)) = self.client.depart() {
            let damaged = emission == Emission::Answer { damaged: true };
            if let Emission::Own { goes_right } = emission {
                self.check_datagram(&bytes);
                assert!(goes_right, "a datagram to another MAC address than its neighbor's:\n{bytes:02x?}");
            }
            self.note(4, &bytes, true);
            self.call_folk(&bytes, CLIENT_MAC);
            self.to_server.send(Transmission { bytes, damaged }, self.now);
        }
    }

    /// Checks that the client's application wrote the datagram, and that it was not on the wire already.
    fn check_datagram(&mut self, frame: &[u8]) {
        let target = self.scenario.target;
        let source = self.scenario.client.addresses[0].addr();
        let header_len = 14 + if target.is_ipv4() { 20 } else { 40 };
        let port = u16::from_be_bytes([frame[header_len], frame[header_len + 1]]);
        let header = frames::Ip::new(frames::UDP, source, target.ip());
        let payload = &frame[header_len + 8..];
        let datagram = frames::udp((source, port), (target.ip(), target.port()), payload, frames::UdpChecksum::Right);
        assert_eq!(frame[14..], frames::packet(header, &datagram), "a frame that the client's app did not write");
        let sent = self.client.worker_mut().stack_mut().app_mut().sent.get_mut(&key(port, payload));
        let sent = sent.expect("the client's app wrote the payload");
        sent.on_wire += 1;
        assert!(sent.on_wire <= sent.accepted, "a datagram was sent twice");
    }

    /// Writes down what is on the wire.
    fn note(&mut self, what: u64, bytes: &[u8], keep: bool) {
        self.trace = hash(hash(self.trace ^ what, &self.now.as_ns().to_le_bytes()), bytes);
        if let Some(records) = self.records.as_ref().filter(|_| keep) {
            records.borrow_mut().push((self.now, bytes.to_vec()));
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let (accepted, answered) = self.app().totals();
        let lanes = [self.to_server.counters(), self.to_client.counters()];
        let fields = |lane: &LaneCounters| {
            let arrived = [lane.corrupted, lane.truncated, lane.remarked, lane.reordered];
            [[lane.lost, lane.too_long, lane.queue_full, lane.duplicated], arrived]
        };
        let [to_server, to_client] = lanes.map(fields);
        let wire = std::array::from_fn(|i| to_server.as_flattened()[i] + to_client.as_flattened()[i]);
        let (client, server) = (self.client.worker().stack().counters(), self.server.worker().stack().counters());
        Outcome {
            trace: self.trace,
            steps: self.steps,
            accepted,
            answered,
            duplicate: self.client.is_duplicate() || self.server.is_duplicate(),
            contested: self.client.contested + self.server.contested,
            drops: std::array::from_fn(|i| client.drops[i] + server.drops[i]),
            unsent: std::array::from_fn(|i| client.unsent[i] + server.unsent[i]),
            wire,
            dropped_by_nic: self.client.dropped_by_nic + self.server.dropped_by_nic,
        }
    }
}

/// A frame in which a stranger says that an address is its own.
fn claim(rng: &mut Rng, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let claim = frames::arp(rng.between(1, 2) as u16, (STRANGER_MAC, address), (Mac::ZERO, STRANGER));
            frames::ethernet(Mac::BROADCAST, STRANGER_MAC, &[], frames::ARP, &claim)
        }
        IpAddr::V6(address) => {
            let claim = ndp::news(address, ndp::ALL_NODES, address, ndp::OVERRIDE, STRANGER_MAC);
            frames::ethernet(ndp::group_mac(ndp::ALL_NODES), STRANGER_MAC, &[], frames::IPV6, &claim)
        }
    }
}

/// No frame on the wire vanishes uncounted either.
fn check_lane(name: &str, lane: &Lane) {
    let LaneCounters { sent, duplicated, forged, lost, too_long, queue_full, arrived, .. } = *lane.counters();
    let gone = lost + too_long + queue_full + arrived + lane.in_flight() as u64;
    assert_eq!(sent + duplicated + forged, gone, "frames on the way {name}");
}
