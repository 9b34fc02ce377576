//! Fragments of every kind to a production worker, and beside it a model that puts them together byte by byte.
//!
//! ```text
//!   Cut -- Lane (loss, duplication, reordering ...) -- Nic -- [Worker] echo -- fragments -- Model: the same bytes?
//!                                                       '---- Model: what is whole, how much is held, after every turn
//! ```

mod cut;
mod model;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use barewire::apps::echo::Echo;
use barewire::base::{ChunkSize, DropReason, Instant, Place, Umem, UmemConfig, UnsentReason};
use barewire::network::reassembly::ReassemblyConfig;
use barewire::stack::Stack;
use barewire::worker::Worker;

use super::frames;
use super::nic::{Nic, Rings, Virtual};
use super::rng::Rng;
use super::scenario::{CLIENT_MAC, PORT, SERVER, SERVER_MAC, SERVER_V6, sometimes, stack_config};
use super::seeds::attempt;
use super::strict;
use super::wire::{Faults, Lane, Transmission};
use cut::Cut;
use model::{Fate, Model, Whole};

/// Port of those who send.
const PEER_PORT: u16 = 40_000;
/// Datagrams of a simulation.
const DATAGRAMS: u64 = 60;
/// How long fragments wait for others, of IPv4 and of IPv6.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];
const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Who sends: all of them behind one MAC address.
fn sources() -> [IpAddr; 4] {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    [v4(0x11), v4(0x12), v6(0x11), v6(0x12)]
}

/// What happened to fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragmented {
    /// That arrived.
    pub arrived: u64,
    /// Datagrams that were put together and echoed.
    pub echoed: u64,
    /// Datagrams that were put together and carried nothing that could be echoed.
    pub mixed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Dropped as wrong, so that their sender may be told.
    pub wrong: u64,
    /// Datagrams whose time ran out after their first fragment had come.
    pub expired: u64,
    /// Errors that the host told of.
    pub told: u64,
}

#[derive(Debug)]
struct Fragments<D> {
    worker: Worker<D, Echo>,
    lane: Lane,
    now: Instant,
    rng: Rng,
    /// What the host is given, and what it sends.
    received: Model,
    sent: Model,
    digested: u64,
    /// Echoes that are to come.
    due: BTreeMap<Vec<u8>, u32>,
    totals: Fragmented,
}

impl<D: Virtual> Fragments<D> {
    fn new(seed: u64, wrap: impl FnOnce(Nic) -> D) -> Self {
        let mut rng = Rng::new(seed ^ 0xf7a6);
        let now = Instant::from_ns(1_000_000_000);
        let mut config = stack_config(SERVER_MAC, SERVER, [PORT].into_iter());
        config.addresses.extend(stack_config(SERVER_MAC, SERVER_V6, std::iter::empty()).addresses);
        config.neighbors.fixed = sources().into_iter().map(|source| (source.into(), CLIENT_MAC)).collect();
        // What gives way to others is a matter of tests of its own.
        let [timeout_v4, timeout_v6] = TIMEOUTS;
        let (datagrams, per_source, chunks, fragments) = (256, 256, 8_192, 4_096);
        config.reassembly = ReassemblyConfig { datagrams, per_source, chunks, fragments, timeout_v4, timeout_v6 };
        let plan = UmemConfig { chunks: 16_384, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let mut umem = Umem::new(plan).expect("memory for a simulated host");
        let nic = Nic::open(Rings { fill: 512, rx: 512, tx: 512, completion: 512, reserve: 64 }, &mut umem);
        let faults = Faults {
            loss: sometimes(&mut rng, 100),
            duplication: sometimes(&mut rng, 300),
            reordering: sometimes(&mut rng, 500),
            reordering_ns: rng.scale(US, 50 * MS),
            delay_ns: rng.scale(US, MS),
            jitter_ns: if rng.chance(333) { rng.scale(US, 10 * MS) } else { 0 },
            padding: rng.chance(500),
            ..Faults::default()
        };
        Self {
            worker: Worker::new(wrap(nic), umem, Stack::new(&config, Echo, now)),
            lane: Lane::new(faults, rng.fork()),
            now,
            rng,
            received: Model::new(TIMEOUTS),
            sent: Model::new(TIMEOUTS),
            digested: 0,
            due: BTreeMap::new(),
            totals: Fragmented::default(),
        }
    }

    fn run(mut self) -> Fragmented {
        let (shuffles, spoils) = (sometimes(&mut self.rng, 500), self.rng.below(400) as u32);
        for _ in 0..DATAGRAMS {
            let mut cut = Cut::drawn(&mut self.rng);
            while self.rng.chance(spoils) {
                cut.spoil(&mut self.rng);
            }
            if self.rng.chance(shuffles) {
                cut.shuffle(&mut self.rng);
            }
            for packet in cut.packets() {
                let bytes = frames::with_packet(SERVER_MAC, CLIENT_MAC, &packet);
                self.lane.send(Transmission { bytes, damaged: false }, self.now);
            }
            let pause = Duration::from_nanos(self.rng.scale(US, 200 * MS));
            self.run_for(pause);
        }
        self.run_for(Duration::from_secs(10));
        self.check_rest();
        self.totals
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let soon = self.now + Duration::from_micros(2);
            let is_busy = self.worker.in_bursts() != (0, 0) || self.worker.device_mut().nic().is_busy();
            let deadline = self.worker.stack().next_deadline().map(|at| at.max(soon));
            let next = [deadline, self.lane.next_arrival(), is_busy.then_some(soon)].into_iter().flatten().min();
            self.now = next.unwrap_or(end).min(end).max(self.now) + Duration::from_nanos(1 + self.rng.below(US));
            while let Some(frame) = self.lane.arrive(self.now) {
                let _ = self.worker.device_mut().nic().arrive(frame);
            }
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.worker.turn(self.now);
        while self.worker.stack_mut().next_event().is_some() {}
        while self.digested < self.worker.stack().counters().received {
            self.digested += 1;
            let frame = self.worker.device_mut().nic().next_handed().expect("it was handed to the worker");
            self.digest(&frame.bytes[14..]);
        }
        self.totals.expired += self.received.expire(self.now) as u64;
        let held = self.worker.stack().fragments() as usize;
        assert_eq!(held, self.received.held(), "fragments held at {:?}", self.now);
        while let Some(frame) = self.worker.device_mut().nic().depart() {
            if let Err(wrong) = strict::check(&frame) {
                panic!("a malformed frame: {wrong}\n{frame:02x?}");
            }
            if frame[0] & 1 == 0 {
                self.compare(&frame[14..]);
            }
        }
    }

    /// Has the model digest what the stack has digested.
    fn digest(&mut self, packet: &[u8]) {
        self.totals.arrived += 1;
        match self.received.take(packet, self.now) {
            Fate::Held => {}
            Fate::Dropped => self.totals.dropped += 1,
            Fate::Wrong => self.totals.wrong += 1,
            Fate::Whole(whole) => match echo(&whole) {
                Some(echo) => *self.due.entry(echo).or_default() += 1,
                None => self.totals.mixed += 1,
            },
        }
    }

    /// Looks at a packet of the host: an echo that is due, a part of one, or an error.
    fn compare(&mut self, packet: &[u8]) {
        let Fate::Whole(whole) = self.sent.take(packet, self.now) else { return };
        if whole.protocol != frames::UDP {
            let error = (whole.protocol, whole.payload[0], whole.payload[1]);
            // A fragment that is wrong, and time that ran out.
            let known = [(frames::ICMP, 11, 1), (frames::ICMPV6, 3, 1), (frames::ICMPV6, 4, 0), (frames::ICMPV6, 4, 3)];
            assert!(known.contains(&error), "{error:?}");
            self.totals.told += 1;
            assert!(self.totals.told <= self.totals.wrong + self.totals.expired, "{error:?} about nothing");
            return;
        }
        let echo = [&frames::octets(whole.destination), &whole.payload[..]].concat();
        let left = self.due.get_mut(&echo).unwrap_or_else(|| panic!("an echo of {} bytes of nothing", echo.len()));
        *left -= 1;
        if *left == 0 {
            self.due.remove(&echo);
        }
        self.totals.echoed += 1;
    }

    fn check_rest(&mut self) {
        assert!(self.due.is_empty(), "{} echoes are missing", self.due.len());
        assert_eq!((self.received.held(), self.sent.held()), (0, 0), "fragments held at the end");
        let (umem, counters) = (self.worker.umem(), self.worker.stack().counters());
        let idle = umem.count(Place::Free) + umem.count(Place::Fill);
        assert_eq!(idle, umem.chunks(), "chunks are neither free nor waiting to be received into");
        assert_eq!(counters.unsent, [0; UnsentReason::COUNT]);
        assert_eq!(counters.drops[DropReason::FragmentEvicted as usize], 0);
    }
}

/// What a host echoes that is given a datagram, behind the address that it goes to.
fn echo(whole: &Whole) -> Option<Vec<u8>> {
    let Whole { source, destination, payload, .. } = whole;
    let word = |at: usize| payload.get(at..at + 2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let len = usize::from(word(4)?);
    let datagram = payload.get(..len).filter(|_| len >= 8)?;
    let is_intact = frames::transport_sum(*source, *destination, frames::UDP, datagram) == 0xffff;
    if word(2)? != PORT || word(0)? == 0 || !is_intact {
        return None;
    }
    let (ours, theirs) = ((*destination, PORT), (*source, word(0)?));
    let echo = frames::udp(ours, theirs, &datagram[8..], frames::UdpChecksum::Right);
    Some([frames::octets(*source), echo].concat())
}

/// Runs the simulation of a seed. `wrap` may put something around the host's NIC.
///
/// # Errors
/// What went wrong.
pub fn run_fragments_seed<D: Virtual>(seed: u64, wrap: impl FnOnce(Nic) -> D) -> Result<Fragmented, String> {
    attempt(|| Fragments::new(seed, wrap).run()).map_err(|reason| format!("fragments of seed {seed}: {reason}"))
}
