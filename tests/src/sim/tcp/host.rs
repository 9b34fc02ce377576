//! One host of the simulation: a production [`Worker`] with TCP on a virtual NIC, watched after every turn.

use std::collections::BTreeMap;
use std::time::Duration;

use barewire::base::{BURST, Instant, Place, Umem};
use barewire::stack::{Stack, StackConfig};
use barewire::transport::tcp::{Tcp, TcpConfig};
use barewire::worker::Worker;

use super::super::host::HostPlan;
use super::super::nic::{Arrival, Mood, Nic, Virtual};
use super::super::rng::Rng;
use super::super::strict;
use super::super::wire::Transmission;
use super::app::Talker;
use super::observer::Doubts;
use super::stream::{Flow, Side};

/// Searches for neighbors that a stack runs at once at most.
const SEARCHES: u32 = 64;

/// A host.
#[derive(Debug)]
pub struct TcpHost<D> {
    side: Side,
    worker: Worker<D, Talker>,
    plan: HostPlan,
    config: StackConfig,
    tcp: TcpConfig,
    rng: Rng,
    calm: bool,
    digested: u64,
    /// Bytes in flight on each connection after the last turn.
    flights: BTreeMap<Flow, u32>,
    /// Recoveries undone and loss probes sent until then.
    exceptions: u64,
    /// Whether frames that waited for a neighbor may be overtaken by later ones.
    disordered: bool,
    /// Turns in a row after which something was due that nothing hinders.
    overdue: u32,
    /// Frames that the NIC took in the last turn.
    burst: u64,
    /// Frames that arrived and found no place in the NIC.
    pub dropped_by_nic: u64,
    /// Frames that the NIC cut out of longer packets.
    pub cut_by_nic: u64,
}

impl<D: Virtual> TcpHost<D> {
    /// A host that was started at `now`.
    ///
    /// # Panics
    /// If there is no memory, or no TCP in the configuration.
    pub fn new(
        side: Side,
        config: &StackConfig,
        plan: HostPlan,
        app: Talker,
        wrap: impl FnOnce(Nic) -> D,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let mut umem = Umem::new(plan.umem).expect("memory for a simulated host");
        let device = wrap(Nic::open(plan.rings, &mut umem).with_segmentation(plan.segmentation));
        Self {
            side,
            worker: Worker::new(device, umem, Stack::new(config, app, now)),
            plan,
            config: config.clone(),
            tcp: config.tcp.clone().expect("a host that speaks TCP"),
            rng,
            calm: false,
            digested: 0,
            flights: BTreeMap::new(),
            exceptions: 0,
            disordered: false,
            overdue: 0,
            burst: 0,
            dropped_by_nic: 0,
            cut_by_nic: 0,
        }
    }

    /// The worker.
    #[must_use]
    pub const fn worker(&self) -> &Worker<D, Talker> {
        &self.worker
    }

    /// The application, to talk to between turns.
    pub const fn app_mut(&mut self) -> &mut Talker {
        self.worker.stack_mut().app_mut()
    }

    /// TCP, to look at.
    ///
    /// # Panics
    /// Never: every such host has it.
    #[must_use]
    pub const fn tcp(&self) -> &Tcp {
        self.worker.stack().tcp_state().expect("a host that speaks TCP")
    }

    /// Ends the faults of the host and its NIC, and the whims of its application.
    pub fn calm(&mut self) {
        self.calm = true;
        self.app_mut().calm();
    }

    /// A frame comes in from the wire.
    pub fn arrive(&mut self, frame: Transmission) {
        let arrival = self.worker.device_mut().nic().arrive(frame);
        self.dropped_by_nic += u64::from(arrival != Arrival::Received);
    }

    /// Makes a turn, unless the worker naps, and checks everything that has to hold afterwards. The frames that
    /// were digested are given to `digested`.
    pub fn turn(&mut self, now: Instant, mut digested: impl FnMut(&Transmission)) {
        let mood = if self.calm { Mood::GOOD } else { self.plan.mood(now, &mut self.rng) };
        self.worker.device_mut().nic().set_mood(mood);
        if !self.calm && self.plan.naps.is_on(now, &mut self.rng) {
            return;
        }
        self.disordered |= self.worker.stack().waiting() > 0;
        let transmitted = self.worker.device_mut().nic().counters_now().transmitted;
        self.worker.turn(now);
        let counters = self.worker.device_mut().nic().counters_now();
        (self.burst, self.cut_by_nic) = (counters.transmitted - transmitted, counters.gso_frames);
        self.disordered |= self.worker.stack().waiting() > 0;
        let received = self.worker.stack().counters().received;
        while self.digested < received {
            self.digested += 1;
            let frame = self.worker.device_mut().nic().next_handed();
            digested(&frame.unwrap_or_else(|| panic!("{}: digested a frame that never came", self.side.name())));
        }
        while self.worker.stack_mut().next_event().is_some() {}
        self.check_chunks();
        self.check_counters();
        self.check_tcp(now);
    }

    /// The next frame that leaves the NIC, and what makes it doubtful.
    pub fn depart(&mut self) -> Option<(Vec<u8>, Doubts)> {
        let unsent: u64 = self.worker.stack().counters().unsent.iter().sum();
        let revival = self.tcp().counters().cookies_accepted > 0;
        let doubts = Doubts { disorder: self.disordered, losses: unsent > 0, revival };
        let Some(bytes) = self.worker.device_mut().nic().depart() else {
            self.disordered &= self.worker.stack().waiting() > 0 || self.is_busy();
            return None;
        };
        let name = self.side.name();
        if let Err(wrong) = strict::check(&bytes) {
            panic!("{name}: sent a malformed frame: {wrong}\n{bytes:02x?}");
        }
        assert_eq!(bytes[6..12], self.config.mac.0, "{name}: sent from another MAC address");
        let tags = if bytes[12..14] == [0x81, 0] || bytes[12..14] == [0x88, 0xa8] { 8 } else { 0 };
        let most = 14 + tags + usize::from(self.config.mtu);
        assert!(bytes.len() <= most, "{name}: sent a frame of {} bytes", bytes.len());
        Some((bytes, doubts))
    }

    /// Whether only a turn, or a better mood of the NIC, moves on what waits here.
    pub fn is_busy(&mut self) -> bool {
        self.worker.in_bursts() != (0, 0) || self.worker.device_mut().nic().is_busy()
    }

    /// How long a connection that is over is remembered; not at all where some had to give way to others.
    #[must_use]
    pub fn remembers(&self) -> Duration {
        if self.tcp().counters().time_wait_evicted == 0 { self.tcp.time_wait_for } else { Duration::ZERO }
    }

    /// When the stack has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.worker.stack().next_deadline()
    }

    /// Whether nothing is left of any connection.
    pub fn is_empty(&mut self) -> bool {
        self.tcp().population() == (0, 0, 0)
            && self.worker.stack().app().left() == 0
            && self.worker.stack().queued_chunks() == 0
            && !self.is_busy()
    }

    /// Checks what has to hold once nothing is left.
    pub fn check_rest(&mut self) {
        let (name, umem) = (self.side.name(), self.worker.umem());
        let idle = umem.count(Place::Free) + umem.count(Place::Fill);
        assert_eq!(idle, umem.chunks(), "{name}: chunks are neither free nor waiting to be received into");
        assert_eq!(umem.count_copied(), (0, 0), "{name}: chunks have two owners");
        assert_eq!((self.tcp().held(), self.tcp().next_deadline()), (0, None), "{name}: something is left of TCP");
    }

    /// Every chunk is in exactly one place; one that is shared is on a queue and in one other.
    fn check_chunks(&mut self) {
        let (name, (received, out)) = (self.side.name(), self.worker.in_bursts());
        let chunks = self.worker.device_mut().nic().chunks();
        let (umem, stack) = (self.worker.umem(), self.worker.stack());
        let (waiting, queues) = (stack.waiting(), stack.queued_chunks());
        let (copied_held, copied_transmit) = umem.count_copied();
        for (place, there) in chunks {
            let copied = if place == Place::Transmit { copied_transmit } else { 0 };
            assert_eq!((umem.count(place) + copied) as usize, there, "{name}: chunks in {place:?}");
        }
        let held = (umem.count(Place::Held) + copied_held) as usize;
        assert_eq!(held, received + out, "{name}: chunks in Held, and frames in bursts");
        let queued = umem.count(Place::Queue);
        assert_eq!(queued, queues + self.tcp().held(), "{name}: chunks on queues, and those that wait or TCP holds");
        assert_eq!(umem.count(Place::Free), umem.free_chunks(), "{name}: free chunks");
        let limits = &self.config.neighbors;
        assert!(waiting <= limits.waiting.min(SEARCHES * limits.queue), "{name}: {waiting} frames wait");
    }

    /// No frame vanishes uncounted.
    fn check_counters(&mut self) {
        let (name, (received, out)) = (self.side.name(), self.worker.in_bursts());
        let device = self.worker.device_mut().nic().counters_now();
        let handed = self.worker.device_mut().nic().handed();
        let waiting = u64::from(self.worker.stack().waiting());
        let counters = self.worker.stack().counters();
        assert_eq!(handed, received, "{name}: frames handed over, and those not digested");
        assert_eq!(device.received, counters.received + received as u64, "{name}: frames from the device");
        let dropped: u64 = counters.drops.iter().sum();
        let held = u64::from(self.worker.stack().fragments());
        let accounted = counters.delivered + dropped + held;
        assert_eq!(counters.received, accounted, "{name}: received = delivered + drops + fragments held");
        let unsent: u64 = counters.unsent.iter().sum();
        let accounted = device.transmitted + waiting + out as u64 + unsent;
        assert_eq!(counters.originated, accounted, "{name}: originated = transmitted + waiting + burst + unsent");
    }

    /// TCP's books balance, its tables and queues keep to their limits, and nothing is due that could be done.
    fn check_tcp(&mut self, now: Instant) {
        let (name, limits) = (self.side.name(), &self.tcp);
        let (tcp, umem) = (self.tcp(), self.worker.umem());
        if let Err((tuple, wrong)) = tcp.audit(umem) {
            panic!("{name}: it does not hold that {wrong}: {tuple:?}");
        }
        let (connections, handshakes, time_waits) = tcp.population();
        assert!(connections + handshakes <= limits.connections, "{name}: {connections} + {handshakes} connections");
        assert!(handshakes <= limits.backlog, "{name}: {handshakes} handshakes");
        assert!(time_waits <= limits.time_wait, "{name}: {time_waits} in TIME-WAIT");
        // SYN and FIN take a chunk outside of the limit, and what is queued is cut into up to three when a router says
        // that the path takes no more than the least MTU that is believed.
        let most = 3 * (limits.chunks + connections);
        assert!(tcp.held() <= most, "{name}: {} chunks are held, of {}", tcp.held(), limits.chunks);
        let (_, out) = self.worker.in_bursts();
        // What frees memory at the end of a turn leaves something to do for the next, and that may again.
        let hindered = self.burst + out as u64 >= BURST as u64 || umem.free_chunks() == 0;
        let overdue = tcp.next_deadline().is_some_and(|at| at <= now) && !hindered;
        self.overdue = if overdue { self.overdue + 1 } else { 0 };
        assert!(self.overdue < 10, "{name}: something is due at {now:?}, and was not done");
        self.check_connections(now);
    }

    fn check_connections(&mut self, now: Instant) {
        let (name, counters) = (self.side.name(), self.tcp().counters());
        let exceptions = counters.needless_recoveries + counters.loss_probes;
        let excused = std::mem::replace(&mut self.exceptions, exceptions) != exceptions;
        let before = std::mem::take(&mut self.flights);
        let mut flights = BTreeMap::new();
        for info in self.tcp().connections(now) {
            let flow = Flow::seen_by(self.side, info.local.1, info.remote.1);
            let buffered = info.receive_queue + info.out_of_order;
            // The window is told in steps of 2^shift.
            let most = self.tcp.receive_buffer + (self.tcp.receive_buffer >> 15);
            assert!(buffered <= most, "{name}: {flow:?} holds {buffered} received bytes");
            let queued = info.send_queue;
            assert!(queued <= self.tcp.send_buffer, "{name}: {flow:?} holds {queued} bytes to be sent");
            // RFC 5681, section 3.1, with a segment of tolerance. A loss probe goes beyond (RFC 8985, section 7.3), and
            // when a recovery is undone, more is in flight again than was thought.
            let most = info.cwnd + u32::from(info.mss) + 1;
            let grew = info.in_flight > before.get(&flow).copied().unwrap_or(0);
            let fine = info.in_flight <= most || !grew || excused || !info.sack;
            assert!(fine, "{name}: {flow:?} has {} bytes in flight, of a window of {}", info.in_flight, info.cwnd);
            flights.insert(flow, info.in_flight);
        }
        self.flights = flights;
    }
}
