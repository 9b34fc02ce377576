//! What a simulation of TCP is made of, drawn from a seed.

use std::time::Duration;

use barewire::base::{ChunkSize, UmemConfig};
use barewire::link::address::Probing;
use barewire::stack::StackConfig;
use barewire::transport::tcp::TcpConfig;
use barewire::transport::tcp::congestion::Algorithm;
use barewire::transport::tcp::isn::GuessableNumbers;
use barewire::transport::tcp::rtt::RtoLimits;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::seq::SeqNum;

use super::super::host::HostPlan;
use super::super::nic::Rings;
use super::super::rng::Rng;
use super::super::scenario::{ClockFaults, draw_faults, draw_outages, sometimes, sound_host, stack_config};
use super::super::too_long::Manner;
use super::super::wire::Faults;
use super::app::Calls;
use super::stream::{ECHO, Family, Side, TALK};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// The port that both sides open connections from and to, where they are to meet.
const CROSSING: u16 = 5000;

/// One host.
#[derive(Clone, Debug)]
pub struct HostScenario {
    /// Its configuration.
    pub config: StackConfig,
    /// Its machine.
    pub plan: HostPlan,
    /// The connections that it opens.
    pub calls: Calls,
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct TcpScenario {
    /// What all numbers are drawn from.
    pub seed: u64,
    /// The version of IP that both speak.
    pub family: Family,
    /// The hosts, near and far.
    pub hosts: [HostScenario; 2],
    /// The ways from the near host and from the far one.
    pub lanes: [Faults; 2],
    /// What the router on the way does with what is too long. This one cuts nothing.
    pub router: Manner,
    /// The clock.
    pub clock: ClockFaults,
    /// Chances in thousandths of steps that a stranger puts a frame on the wire, a SYN, and a segment that pretends to
    /// be of a connection.
    pub strangers: u32,
    /// See `strangers`.
    pub flood: u32,
    /// See `strangers`.
    pub attacks: u32,
}

impl TcpScenario {
    /// Two sound hosts on a perfect wire of 10 microseconds: connections to the echo and to the talk service.
    #[must_use]
    pub fn sound(seed: u64) -> Self {
        Self::sound_by(Family::V4, seed)
    }

    /// The same by a version of IP.
    #[must_use]
    pub fn sound_by(family: Family, seed: u64) -> Self {
        let wire = Faults { delay_ns: 10 * US, detectable: true, ..Faults::default() };
        let host = |side: Side| {
            let mut config = stack_config(side.mac(), side.address_of(family), std::iter::empty());
            config.tcp = Some(TcpConfig {
                ports: vec![ECHO, TALK],
                connections: 64,
                backlog: 16,
                time_wait: 64,
                chunks: 128,
                receive_buffer: 64 << 10,
                send_buffer: 64 << 10,
                guessable_numbers: Some(near_the_end(seed)),
                ..TcpConfig::default()
            });
            let calls = Calls { family, count: 4, gap_ns: 100 * US, ports: vec![ECHO, TALK], most: 50_000 };
            HostScenario { config, plan: sound_host(), calls }
        };
        Self {
            seed,
            family,
            hosts: Side::BOTH.map(host),
            lanes: [wire, wire],
            router: Manner::Swallows,
            clock: ClockFaults::default(),
            strangers: 0,
            flood: 0,
            attacks: 0,
        }
    }

    /// A simulation drawn from a seed.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7c9);
        let family = rng.pick(&[Family::V4, Family::V6]);
        let mut scenario = Self::sound_by(family, seed);
        scenario.lanes = [draw_lane(&mut rng, family), draw_lane(&mut rng, family)];
        scenario.router = rng.pick(&[Manner::Swallows, Manner::Tells, Manner::Grumbles]);
        scenario.clock = ClockFaults {
            jumps: sometimes(&mut rng, 10),
            jump_ns: rng.scale(MS, 10 * SECOND),
            slow_steps: sometimes(&mut rng, 100),
            slow_ns: rng.scale(US, 50 * MS),
        };
        scenario.strangers = sometimes(&mut rng, 100);
        scenario.flood = sometimes(&mut rng, 200);
        scenario.attacks = sometimes(&mut rng, 200);
        let most = rng.scale(1000, 400_000);
        for host in &mut scenario.hosts {
            host.draw(&mut rng, most);
        }
        match rng.below(10) {
            0 => scenario.cross(&mut rng),
            1 => scenario.hurry(&mut rng),
            _ => {}
        }
        scenario
    }

    /// Has both sides open a connection to each other from and to the same port, again and again.
    pub fn cross(&mut self, rng: &mut Rng) {
        for host in &mut self.hosts {
            let Some(tcp) = &mut host.config.tcp else { continue };
            // Numbers have to grow from one of them to the next.
            (tcp.source_ports, tcp.guessable_numbers) = (CROSSING..=CROSSING, None);
            tcp.time_wait_for = Duration::from_millis(rng.between(1, 2000));
            host.calls.ports = vec![CROSSING];
            (host.calls.count, host.calls.gap_ns) = (rng.between(1, 4) as u32, rng.scale(US, 100 * MS));
        }
    }

    /// Has both sides open connections from a few ports, again and again, while some of the last are in TIME-WAIT.
    pub fn hurry(&mut self, rng: &mut Rng) {
        let ports = rng.between(1, 4) as u16;
        for host in &mut self.hosts {
            let Some(tcp) = &mut host.config.tcp else { continue };
            (tcp.source_ports, tcp.guessable_numbers) = (40_000..=39_999 + ports, None);
            tcp.time_wait_for = Duration::from_millis(rng.scale(10, 60_000));
            host.calls.most = host.calls.most.min(5_000);
            (host.calls.count, host.calls.gap_ns) = (rng.between(4, 24) as u32, rng.scale(US, 100 * MS));
        }
    }
}

impl HostScenario {
    fn draw(&mut self, rng: &mut Rng, most: u64) {
        self.plan = draw_host(rng);
        let chunks = self.plan.umem.chunks;
        let rings = self.plan.rings;
        let config = &mut self.config;
        config.secret = [rng.bits(), rng.bits()];
        config.checksum = rng.pick(&[ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial]);
        config.mtu = if rng.chance(250) { rng.between(least_mtu(self.calls.family), 1500) as u16 } else { 1500 };
        (config.neighbors.entries, config.neighbors.queue) = (rng.scale(1, 64) as usize, rng.scale(1, 64) as u32);
        if rng.chance(100) {
            config.probing = Probing::Lead;
        }
        let Some(tcp) = &mut config.tcp else { return };
        tcp.mtu = config.mtu;
        let table = |rng: &mut Rng, least: u64, most: u64| rng.scale(least, most) as u32;
        (tcp.connections, tcp.backlog, tcp.time_wait) = (table(rng, 4, 64), table(rng, 1, 8), table(rng, 1, 64));
        let buffer = |rng: &mut Rng| if rng.chance(500) { 64 << 10 } else { table(rng, 2_000, 1 << 20) };
        (tcp.receive_buffer, tcp.send_buffer) = (buffer(rng), buffer(rng));
        // What the NIC does not need to receive into, and the stack to answer from.
        tcp.chunks = rng.between(8, u64::from(chunks - rings.reserve) - rings.fill as u64) as u32;
        tcp.algorithm = rng.pick(&[Algorithm::Cubic, Algorithm::Reno]);
        let longest = rng.scale(1, 30);
        tcp.rto = RtoLimits { max: Duration::from_secs(longest), ..RtoLimits::default() };
        tcp.user_timeout = Duration::from_secs(rng.scale(20, 300));
        tcp.fin_wait_2 = Duration::from_secs(rng.scale(1, 60));
        tcp.time_wait_for = Duration::from_millis(rng.scale(10, 60_000));
        (tcp.ecn, tcp.ask_for_ecn) = (rng.chance(800), rng.chance(500));
        self.calls = Calls {
            family: self.calls.family,
            count: if rng.chance(100) { 0 } else { table(rng, 1, 12) },
            gap_ns: rng.scale(US, 500 * MS),
            ports: rng.pick(&[&[ECHO][..], &[TALK], &[ECHO, TALK]]).to_vec(),
            most,
        };
    }
}

/// Numbers so close to 2^32 that they wrap within every connection that has something to say: the text of most begins
/// up to 8 KiB before, and timestamps wrap within the first minute.
fn near_the_end(seed: u64) -> GuessableNumbers {
    let mut rng = Rng::new(seed);
    let before = 4096 + rng.below(8192) as u32;
    let clock_ms = 1_000 + rng.scale(1, 60_000) as u32;
    GuessableNumbers { sequence: SeqNum::new(0_u32.wrapping_sub(before)), timestamp: 0_u32.wrapping_sub(clock_ms) }
}

fn draw_host(rng: &mut Rng) -> HostPlan {
    let chunks = if rng.chance(333) { 64 } else { rng.scale(64, 512) } as u32;
    let fill = rng.between(4, u64::from(chunks / 2)).min(64);
    let reserve = rng.between(2, u64::from(chunks) / 4);
    let ring = |rng: &mut Rng| 1 << rng.between(2, 7);
    HostPlan {
        umem: UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false },
        rings: Rings {
            fill: fill as usize,
            rx: ring(rng),
            tx: ring(rng),
            completion: ring(rng),
            reserve: reserve as u32,
        },
        segmentation: rng.chance(500),
        accepts: if rng.chance(250) { rng.between(1, 8) as usize } else { usize::MAX },
        stalls: draw_outages(rng, 400 * MS),
        late_completions: draw_outages(rng, 400 * MS),
        fill_starvation: draw_outages(rng, 100 * MS),
        naps: draw_outages(rng, 50 * MS),
    }
}

/// The least MTU that a path may have, bytes (RFC 8200, section 5; of IPv4 what every path of the Internet takes).
const fn least_mtu(family: Family) -> u64 {
    match family {
        Family::V4 => 576,
        Family::V6 => 1280,
    }
}

fn draw_lane(rng: &mut Rng, family: Family) -> Faults {
    let mut faults = Faults { detectable: true, ..draw_faults(rng) };
    // Less of everything than for datagrams: where hardly a segment gets through, little else can go wrong.
    faults.loss /= 2;
    faults.corruption /= 2;
    faults.truncation /= 2;
    faults.remarking /= 4;
    if faults.queue_bytes > 0 && rng.chance(500) {
        faults.marks_from = rng.scale(1_500, faults.queue_bytes.max(1_500));
    }
    if faults.max_frame > 0 {
        faults.max_frame = rng.between(14 + least_mtu(family), 1514) as usize;
    }
    faults
}
