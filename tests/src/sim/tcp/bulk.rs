//! How fast TCP is: flows with no end over one bottleneck, in virtual time, so that the same figures come out everywhere.

use std::net::SocketAddr;
use std::time::Duration;

use barewire::app::{Answer, App, Connection, Datagram, Outbox};
use barewire::base::{ChunkSize, Instant, Umem, UmemConfig};
use barewire::stack::Stack;
use barewire::transport::tcp::congestion::Algorithm;
use barewire::transport::tcp::{Counters, TcpConfig};
use barewire::wire::ethernet::Mac;
use barewire::worker::Worker;

use super::super::frames;
use super::super::nic::{Nic, Rings};
use super::super::rng::Rng;
use super::super::scenario::stack_config;
use super::super::wire::{Faults, Lane, Transmission};
use super::stream::{Side, TALK};

/// Frames in each ring of a NIC.
const RING: usize = 2048;

/// A path between two hosts, and the flows over it.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Round-trip time of the empty path, ns.
    pub rtt_ns: u64,
    /// Nanoseconds that a byte takes on the bottleneck: 8 for a gigabit a second.
    pub ns_per_byte: u64,
    /// Thousandths of the frames lost on the way to the receiver.
    pub loss: u32,
    /// Which frames these are: another number, other losses.
    pub draw: u64,
    /// Send and receive buffer of each connection, bytes.
    pub buffer: u32,
    /// Flows at once, and the time between the beginnings of two.
    pub flows: u32,
    /// See `flows`.
    pub gap_ns: u64,
    /// What the window follows.
    pub algorithm: Algorithm,
}

/// The application at either end.
#[derive(Debug, Default)]
struct Bulk {
    /// Flows that are still to be begun, when, and the time between two.
    left: u32,
    next_at: Instant,
    gap_ns: u64,
    /// Bytes received, by flow.
    received: Vec<u64>,
}

/// The number of a flow at the receiver.
#[derive(Debug, Default)]
struct Number(usize);

impl Bulk {
    fn fill(connection: &mut impl Connection) {
        while connection.reserve(|out| out.len()) > 0 {}
    }
}

impl App for Bulk {
    type Session = Number;

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _now: Instant, number: &mut Number, connection: &mut impl Connection) {
        if connection.local().port() == TALK {
            number.0 = self.received.len();
            self.received.push(0);
        } else {
            Self::fill(connection);
        }
    }

    fn data(&mut self, _now: Instant, number: &mut Number, connection: &mut impl Connection) {
        self.received[number.0] += connection.consume(usize::MAX) as u64;
    }

    fn writable(&mut self, _now: Instant, _number: &mut Number, connection: &mut impl Connection) {
        Self::fill(connection);
    }

    fn poll(&mut self, now: Instant, outbox: &mut impl Outbox) {
        while self.left > 0 && self.next_at <= now {
            outbox.connect(SocketAddr::from((Side::Far.address(), TALK))).expect("there is room for every flow");
            self.left -= 1;
            self.next_at = now + Duration::from_nanos(self.gap_ns);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next_at)
    }
}

/// The path with its hosts.
#[derive(Debug)]
pub struct Flows {
    workers: [Worker<Nic, Bulk>; 2],
    lanes: [Lane; 2],
    now: Instant,
}

impl Flows {
    /// Everything at rest; the first flow begins at once.
    ///
    /// # Panics
    /// If there is no memory.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let now = Instant::from_ns(1_000_000_000);
        let bdp = path.rtt_ns / path.ns_per_byte;
        let wire = Faults {
            delay_ns: path.rtt_ns / 2,
            ns_per_byte: path.ns_per_byte,
            // As long as a round trip, but never so short that a burst of a few segments is too long.
            queue_bytes: bdp.max(32 << 10),
            ..Faults::default()
        };
        let rng = |n: u64| Rng::new(0xb01c ^ n ^ (path.draw << 16));
        // So many chunks that buffers are the limit, and not memory: a connection holds half of a pool at most, and there
        // is one for each direction.
        let held = 4 * path.flows * (path.buffer / 1024 + 64);
        let chunks = held + 4 * RING as u32;
        let lossy = Faults { loss: path.loss, ..wire };
        let worker = |side: Side| {
            let umem = UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
            let mut umem = Umem::new(umem).expect("memory for a simulated host");
            let rings = Rings { fill: RING, rx: RING, tx: RING, completion: RING, reserve: RING as u32 / 2 };
            let nic = Nic::open(rings, &mut umem).trusting();
            let mut config = stack_config(side.mac(), side.address(), std::iter::empty());
            // What is measured is TCP. Whoever asks for a neighbor now and then would shift all losses that are drawn.
            config.neighbors.fixed = vec![(side.other().address().into(), side.other().mac())];
            config.tcp = Some(TcpConfig {
                ports: if side == Side::Far { vec![TALK] } else { vec![] },
                connections: 64,
                backlog: 64,
                chunks: held,
                receive_buffer: path.buffer,
                send_buffer: path.buffer,
                algorithm: path.algorithm,
                ..TcpConfig::default()
            });
            let left = if side == Side::Near { path.flows } else { 0 };
            let app = Bulk { left, next_at: now, gap_ns: path.gap_ns, received: Vec::new() };
            Worker::new(nic, umem, Stack::new(&config, app, now))
        };
        let mut lanes = [Lane::new(lossy, rng(1)), Lane::new(wire, rng(2))];
        // The question for the far host, to which both know the answer: what is lost later depends on what was drawn before.
        let (near, far) = (Side::Near, Side::Far);
        let question = frames::arp(1, (near.mac(), near.address()), (Mac::ZERO, far.address()));
        let bytes = frames::ethernet(Mac::BROADCAST, near.mac(), &[], frames::ARP, &question);
        lanes[0].send(Transmission { bytes, damaged: false }, now);
        Self { workers: Side::BOTH.map(worker), lanes, now }
    }

    /// Bytes received so far, by flow.
    #[must_use]
    pub fn received(&self) -> &[u64] {
        &self.workers[Side::Far as usize].stack().app().received
    }

    /// What the sender's TCP counted.
    ///
    /// # Panics
    /// Never: it has TCP.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.sender().counters()
    }

    /// The sender's TCP, to look at.
    ///
    /// # Panics
    /// Never: it has TCP.
    #[must_use]
    pub fn sender(&self) -> &barewire::transport::tcp::Tcp {
        self.workers[Side::Near as usize].stack().tcp_state().expect("a host that speaks TCP")
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Runs for so long, or until `most` bytes arrived; says how many did, and how long it took.
    pub fn run(&mut self, time: Duration, most: u64) -> (u64, Duration) {
        let (begin, before) = (self.now, self.received().iter().sum::<u64>());
        loop {
            let arrived = self.received().iter().sum::<u64>() - before;
            if arrived >= most || self.now.since(begin) >= time {
                return (arrived, self.now.since(begin));
            }
            self.step(begin + time);
        }
    }

    /// Goes on to the next thing that happens.
    fn step(&mut self, end: Instant) {
        let deadlines = self.workers.iter().filter_map(|worker| worker.stack().next_deadline());
        let arrivals = self.lanes.iter().filter_map(Lane::next_arrival);
        let next = deadlines.chain(arrivals).min().unwrap_or(end).min(end);
        // A turn takes its time.
        self.now = next.max(self.now + Duration::from_micros(1));
        for side in Side::BOTH {
            while let Some(frame) = self.lanes[side as usize].arrive(self.now) {
                let arrival = self.workers[side.other() as usize].device_mut().arrive(frame);
                assert_eq!(arrival, super::super::nic::Arrival::Received, "the hosts are no bottleneck");
            }
        }
        for side in Side::BOTH {
            let nic = self.workers[side as usize].device_mut();
            while nic.next_handed().is_some() {}
            self.workers[side as usize].turn(self.now);
            while let Some(bytes) = self.workers[side as usize].device_mut().depart() {
                self.lanes[side as usize].send(Transmission { bytes, damaged: false }, self.now);
            }
        }
    }
}

/// Megabits a second.
#[must_use]
pub fn megabits(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e6
}

/// Jain's index of fairness: 1 if all have the same, 1/n if one has everything.
#[must_use]
pub fn jain(parts: &[f64]) -> f64 {
    let (sum, squares) = parts.iter().fold((0.0, 0.0), |(sum, squares), part| (sum + part, squares + part * part));
    if squares == 0.0 { 0.0 } else { sum * sum / (parts.len() as f64 * squares) }
}
