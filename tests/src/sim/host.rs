//! One host of the simulation: a production [`Worker`] on a virtual NIC, watched after every turn.

use std::collections::VecDeque;
use std::net::IpAddr;

use barewire::app::App;
use barewire::base::{DropReason, Instant, Place, Umem, UmemConfig, UnsentReason};
use barewire::stack::{Event, Stack};
use barewire::worker::Worker;

use super::accord;
use super::answers::{Answers, SEARCHES};
use super::frames;
use super::nic::{Arrival, Mood, Nic, Rings, Virtual};
use super::outages::Outages;
use super::reference::{Reaction, Reference};
use super::rng::Rng;
use super::strict;
use super::wire::Transmission;

/// What can be wrong with a host and its NIC, and how big they are.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The memory.
    pub umem: UmemConfig,
    /// The NIC's rings.
    pub rings: Rings,
    /// Whether the NIC cuts up packets of several segments.
    pub segmentation: bool,
    /// Frames that the NIC takes at once at most.
    pub accepts: usize,
    /// When nothing leaves the transmit ring.
    pub stalls: Outages,
    /// When no chunk comes back from transmission.
    pub late_completions: Outages,
    /// When no free chunk is taken to receive into.
    pub fill_starvation: Outages,
    /// When the worker makes no turn.
    pub naps: Outages,
}

impl HostPlan {
    /// How the NIC works at the moment.
    pub fn mood(&mut self, now: Instant, rng: &mut Rng) -> Mood {
        Mood {
            accepts: if self.accepts == usize::MAX { usize::MAX } else { rng.below(self.accepts as u64 + 1) as usize },
            departs: !self.stalls.is_on(now, rng),
            completes: !self.late_completions.is_on(now, rng),
            fills: !self.fill_starvation.is_on(now, rng),
        }
    }
}

/// What a frame that a host sent turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emission {
    /// An answer; whether it answers a damaged frame.
    Answer {
        /// Whether what it answers is not what an application sent.
        damaged: bool,
    },
    /// A question or news about an address, of its own accord.
    Neighbor,
    /// Something else: a datagram of the application's own, if it has any.
    Own {
        /// Whether the host may have been told that the neighbor has the MAC address that it goes to.
        goes_right: bool,
    },
}

/// A frame that the stack was given, and what the reference makes of it.
#[derive(Debug)]
pub struct Digested {
    /// The frame.
    pub frame: Transmission,
    /// The reference's verdict.
    pub reaction: Reaction,
}

/// A host.
#[derive(Debug)]
pub struct Host<D, A: App> {
    name: &'static str,
    worker: Worker<D, A>,
    plan: HostPlan,
    rng: Rng,
    reference: Reference,
    calm: bool,
    ready: bool,
    duplicate: bool,
    claims_heard: u64,
    answers: Answers,
    /// The turns in which the frames were put out that the NIC has not taken yet, and those that it has not sent yet.
    in_burst: VecDeque<u64>,
    in_nic: VecDeque<u64>,
    /// Frames that the NIC has taken.
    transmitted: u64,
    digested: u64,
    delivered: u64,
    /// Frames that arrived and found no place in the NIC.
    pub dropped_by_nic: u64,
    /// Turns made.
    pub turns: u64,
    /// Conflicts told of.
    pub contested: u64,
}

impl<D: Virtual, A: App> Host<D, A> {
    /// A host that was started at `now`.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(
        name: &'static str,
        reference: Reference,
        app: A,
        plan: HostPlan,
        wrap: impl FnOnce(Nic) -> D,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let mut umem = Umem::new(plan.umem).expect("memory for a simulated host");
        let device = wrap(Nic::open(plan.rings, &mut umem));
        let stack = Stack::new(reference.config(), app, now);
        let answers = Answers::new(reference.config());
        let ready = reference.config().probing == barewire::link::address::Probing::Off;
        Self {
            name,
            worker: Worker::new(device, umem, stack),
            plan,
            rng,
            reference,
            calm: false,
            ready,
            duplicate: false,
            claims_heard: 0,
            answers,
            in_burst: VecDeque::new(),
            in_nic: VecDeque::new(),
            transmitted: 0,
            digested: 0,
            delivered: 0,
            dropped_by_nic: 0,
            turns: 0,
            contested: 0,
        }
    }

    /// The worker.
    #[must_use]
    pub const fn worker(&self) -> &Worker<D, A> {
        &self.worker
    }

    /// The worker, to talk to between turns.
    pub const fn worker_mut(&mut self) -> &mut Worker<D, A> {
        &mut self.worker
    }

    /// Its application sends to this address.
    pub fn take_interest(&mut self, target: IpAddr) {
        if let Some(neighbor) = self.reference.next_hop(target) {
            self.answers.take_interest(neighbor);
        }
    }

    /// The host as the reference sees it.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Whether its addresses were found to be another host's, so that it will never serve.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// Whether it may use its addresses.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Ends the faults of the host and its NIC.
    pub const fn calm(&mut self) {
        self.calm = true;
    }

    /// A frame comes in from the wire.
    pub fn arrive(&mut self, frame: Transmission) {
        let arrival = self.worker.device_mut().nic().arrive(frame);
        self.dropped_by_nic += u64::from(arrival != Arrival::Received);
    }

    /// Makes a turn, unless the worker naps, and checks everything that has to hold afterwards. The frames
    /// that were digested are given to `digested`.
    pub fn turn(&mut self, now: Instant, mut digested: impl FnMut(&Digested, &mut A)) {
        let mood = if self.calm { Mood::GOOD } else { self.plan.mood(now, &mut self.rng) };
        self.worker.device_mut().nic().set_mood(mood);
        if !self.calm && self.plan.naps.is_on(now, &mut self.rng) {
            return;
        }
        self.turns += 1;
        self.answers.begin_turn();
        self.worker.turn(now);
        self.check_chunks();
        self.consult_reference(&mut digested);
        self.hear_events();
        self.check_counters();
        self.follow_frames();
        if self.worker.stack().queued_chunks() == 0 && !self.is_busy() {
            self.answers.settle();
        }
    }

    /// The next frame that leaves the NIC, and what it is.
    pub fn depart(&mut self) -> Option<(Vec<u8>, Emission)> {
        let bytes = self.worker.device_mut().nic().depart()?;
        if let Err(wrong) = strict::check(&bytes) {
            panic!("{}: sent a malformed frame: {wrong}\n{bytes:02x?}", self.name);
        }
        assert_eq!(bytes[6..12], self.reference.config().mac.0, "{}: sent from another MAC address", self.name);
        let turn = self.in_nic.pop_front().unwrap_or(self.turns);
        let emission = match self.answers.recognise(&bytes, turn) {
            Some(damaged) => Emission::Answer { damaged },
            None if self.is_about_neighbor(&bytes, turn) => Emission::Neighbor,
            None => Emission::Own { goes_right: self.goes_right(&bytes, turn) },
        };
        Some((bytes, emission))
    }

    /// Whether only a turn, or a better mood of the NIC, moves on what waits here.
    pub fn is_busy(&mut self) -> bool {
        self.worker.in_bursts() != (0, 0) || self.worker.device_mut().nic().is_busy()
    }

    /// When the stack has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.worker.stack().next_deadline()
    }

    /// Checks what has to hold once everything has come to rest.
    pub fn check_rest(&mut self) {
        let (name, umem) = (self.name, self.worker.umem());
        let idle = umem.count(Place::Free) + umem.count(Place::Fill);
        assert_eq!(idle, umem.chunks(), "{name}: chunks are neither free nor waiting to be received into");
        assert_eq!(self.worker.stack().waiting(), 0, "{name}: frames still wait for a neighbor");
        self.answers.settle();
        let (missing, at_once) = self.answers.missing();
        let unsent: u64 = self.worker.stack().counters().unsent.iter().sum();
        assert!(missing <= unsent, "{name}: did not send {missing} answers, and says so of {unsent}");
        let reasons = [UnsentReason::NeighborUnreachable, UnsentReason::NeighborQueueFull];
        let unsent = unsent - reasons.map(|reason| self.unsent(reason)).iter().sum::<u64>();
        assert!(at_once <= unsent, "{name}: did not send {at_once} answers to whom it knows, and says so of {unsent}");
    }

    /// Has the reference digest what the stack has digested.
    fn consult_reference(&mut self, digested: &mut impl FnMut(&Digested, &mut A)) {
        let received = self.worker.stack().counters().received;
        while self.digested < received {
            self.digested += 1;
            let frame = self.worker.device_mut().nic().next_handed();
            let frame = frame.unwrap_or_else(|| panic!("{}: digested a frame that never came", self.name));
            let reaction = self.reference.digest(&frame.bytes, self.ready);
            self.claims_heard += u64::from(reaction.is_claim);
            self.delivered += u64::from(reaction.delivery.is_some());
            self.answers.digest(&reaction, frame.damaged);
            digested(&Digested { frame, reaction }, self.worker.stack_mut().app_mut());
        }
        let delivered = self.worker.stack().counters().udp_delivered;
        assert_eq!(delivered, self.delivered, "{}: datagrams delivered, and what the reference says", self.name);
        let counters = self.worker.stack().counters();
        let [datagrams, echo_replies] = self.answers.originated();
        let name = self.name;
        assert_eq!(
            counters.icmp_echoes_answered, echo_replies,
            "{name}: echo replies that it did not send, or unasked"
        );
        if self.reference.echoes() {
            assert_eq!(counters.udp_originated, datagrams, "{name}: answers that it did not send, or unasked");
        }
    }

    fn hear_events(&mut self) {
        while let Some(event) = self.worker.stack_mut().next_event() {
            match event {
                Event::Ready => self.ready = true,
                Event::Duplicate(..) => self.duplicate = true,
                Event::Contested(..) => self.contested += 1,
                Event::Neighbor { .. }
                | Event::Query(..)
                | Event::Router(..)
                | Event::Address(..)
                | Event::NetworkError(_) => {}
            }
            let is_conflict = matches!(event, Event::Duplicate(..) | Event::Contested(..));
            assert!(!is_conflict || self.claims_heard > 0, "{}: {event:?}, but nobody claimed it", self.name);
        }
    }

    /// Every chunk is in exactly one place.
    fn check_chunks(&mut self) {
        let (name, (received, out)) = (self.name, self.worker.in_bursts());
        let [fill, transmit] = self.worker.device_mut().nic().chunks();
        let (umem, stack) = (self.worker.umem(), self.worker.stack());
        let waiting = stack.waiting();
        let held = (Place::Held, received + out);
        let queued = (Place::Queue, stack.queued_chunks() as usize);
        let free = (Place::Free, umem.free_chunks() as usize);
        let mut total = 0;
        for (place, chunks) in [fill, transmit, held, queued, free] {
            assert_eq!(umem.count(place) as usize, chunks, "{name}: chunks in {place:?}, and those that are there");
            total += chunks;
        }
        assert_eq!(total, umem.chunks() as usize, "{name}: chunks in all");
        let limits = &self.reference.config().neighbors;
        assert!(waiting <= limits.waiting.min(SEARCHES as u32 * limits.queue), "{name}: {waiting} frames wait");
    }

    /// No frame vanishes uncounted.
    fn check_counters(&mut self) {
        let (name, (received, out)) = (self.name, self.worker.in_bursts());
        let device = self.worker.device_mut().nic().counters_now();
        let handed = self.worker.device_mut().nic().handed();
        let waiting = u64::from(self.worker.stack().waiting());
        let fragments = u64::from(self.worker.stack().fragments());
        let counters = self.worker.stack().counters();
        assert_eq!(handed, received, "{name}: frames handed over, and those not digested");
        assert_eq!(device.received, counters.received + received as u64, "{name}: frames from the device");
        let dropped: u64 = counters.drops.iter().sum();
        let accounted = counters.delivered + dropped + fragments;
        assert_eq!(counters.received, accounted, "{name}: received = delivered + drops + fragments held");
        let unsent: u64 = counters.unsent.iter().sum();
        let accounted = device.transmitted + waiting + out as u64 + unsent;
        assert_eq!(counters.originated, accounted, "{name}: originated = transmitted + waiting + burst + unsent");
    }

    /// Notes in which turns the frames were put out that are still here: a burst keeps their order.
    fn follow_frames(&mut self) {
        let transmitted = self.worker.device_mut().nic().counters_now().transmitted;
        for _ in self.transmitted..transmitted {
            self.in_nic.push_back(self.in_burst.pop_front().unwrap_or(self.turns));
        }
        self.transmitted = transmitted;
        self.in_burst.resize(self.worker.in_bursts().1, self.turns);
    }

    /// Whether a frame of the host's own accord goes where it was told that the neighbor is.
    fn goes_right(&self, frame: &[u8], turn: u64) -> bool {
        let neighbor = frames::destination(frame).and_then(|to| self.reference.next_hop(to));
        neighbor.is_some_and(|neighbor| self.answers.may_go(neighbor, frames::mac(frame), turn))
    }

    /// Whether a frame asks, or tells, about an address: about one of the host's own, or about one that it has something
    /// for; or tells of the groups that its addresses are asked for at. Such a frame has to be right to the last byte.
    fn is_about_neighbor(&self, frame: &[u8], turn: u64) -> bool {
        if accord::is_report(frame) {
            assert!(accord::is_own_report(frame, &self.reference), "{}: a wrong report:\n{frame:02x?}", self.name);
            return true;
        }
        let Some((neighbor, right)) = accord::questions(frame, &self.reference) else { return false };
        let to = frames::mac(frame);
        let may_ask = neighbor.is_none_or(|neighbor| self.answers.may_ask(neighbor));
        let is_right = |(neighbor, bytes): &(Option<IpAddr>, Vec<u8>)| {
            bytes == frame && neighbor.is_none_or(|neighbor| self.answers.may_go(neighbor, to, turn))
        };
        let fine = may_ask && right.iter().any(is_right);
        assert!(fine, "{}: asks or tells what it should not:\n{frame:02x?}", self.name);
        true
    }

    /// Frames dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.worker.stack().counters().drops[reason as usize]
    }

    /// Frames unsent for a reason.
    #[must_use]
    pub fn unsent(&self, reason: UnsentReason) -> u64 {
        self.worker.stack().counters().unsent[reason as usize]
    }
}
