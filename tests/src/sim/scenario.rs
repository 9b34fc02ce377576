//! What a simulation is made of: two hosts, two lanes, a clock, traffic. All of it can be drawn from a seed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use barewire::base::{ChunkSize, UmemConfig};
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::network::reassembly::ReassemblyConfig;
use barewire::stack::StackConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::ethernet::Mac;

use super::client::{FIRST_PORT, PORTS, Traffic};
use super::folk::Folk;
use super::host::HostPlan;
use super::nic::Rings;
use super::outages::Outages;
use super::rng::Rng;
use super::wire::Faults;

/// MAC address of the client.
pub const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// MAC address of the server.
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// MAC address of somebody else on the link.
pub const STRANGER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x77]);
/// Address of the client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Address of the server on the link.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Address of the server behind a gateway, which it is itself.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// Address of somebody else on the link.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0x77);
/// The same addresses of IPv6, and those that are valid on the link only.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// See [`CLIENT_V6`].
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// See [`CLIENT_V6`].
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
/// See [`CLIENT_V6`].
pub const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x77);
/// Port of the echo service.
pub const PORT: u16 = 7;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// What the clock does besides going on. Chances are in thousandths of steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockFaults {
    /// Steps at which it jumps forward.
    pub jumps: u32,
    /// How far at most.
    pub jump_ns: u64,
    /// Steps that take long.
    pub slow_steps: u32,
    /// How long at most.
    pub slow_ns: u64,
}

/// Strangers who put frames of their own on the wire. Chances are in thousandths of steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strangers {
    /// Steps at which a frame of any protocol comes, right or wrong.
    pub frames: u32,
    /// Steps at which somebody claims an address of one of the hosts.
    pub claims: u32,
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What all numbers are drawn from.
    pub seed: u64,
    /// The client's configuration.
    pub client: StackConfig,
    /// The client's machine.
    pub client_plan: HostPlan,
    /// The server's configuration.
    pub server: StackConfig,
    /// The server's machine.
    pub server_plan: HostPlan,
    /// Where the client sends to.
    pub target: SocketAddr,
    /// The way there.
    pub to_server: Faults,
    /// The way back.
    pub to_client: Faults,
    /// The clock.
    pub clock: ClockFaults,
    /// Others on the wire.
    pub strangers: Strangers,
    /// Others who are asked for, and who say where others are.
    pub folk: Folk,
    /// What the client sends while there are faults.
    pub traffic: Traffic,
}

/// The configuration of a host with one address on a /24, or on a /64.
///
/// # Panics
/// Never.
#[must_use]
pub fn stack_config(mac: Mac, address: impl Into<IpAddr>, ports: impl Iterator<Item = u16>) -> StackConfig {
    let address = address.into();
    let len = if address.is_ipv4() { 24 } else { 64 };
    let net = format!("{address}/{len}").parse().expect("an address and its prefix length");
    StackConfig {
        mac,
        mtu: 1500,
        vlan: None,
        addresses: vec![net],
        gateways: Vec::new(),
        routes: Vec::new(),
        probing: Probing::Off,
        groups: vec![],
        broadcasts: false,
        autoconf: None,
        udp_ports: ports.collect(),
        checksum: ChecksumPolicy::Verify,
        tcp: None,
        own_queue: None,
        marking: barewire::stack::Marking::default(),
        // So short that what is left of datagrams goes while a simulation rests.
        reassembly: ReassemblyConfig {
            timeout_v4: Duration::from_secs(2),
            timeout_v6: Duration::from_secs(3),
            ..ReassemblyConfig::default()
        },
        neighbors: NeighborConfig { entries: 64, queue: 16, ..NeighborConfig::default() },
        secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
    }
}

/// A machine without faults.
#[must_use]
pub const fn sound_host() -> HostPlan {
    HostPlan {
        umem: UmemConfig { chunks: 256, chunk_size: ChunkSize::Bytes2048, huge_pages: false },
        rings: Rings { fill: 64, rx: 64, tx: 64, completion: 64, reserve: 64 },
        segmentation: false,
        accepts: usize::MAX,
        stalls: Outages::NONE,
        late_completions: Outages::NONE,
        fill_starvation: Outages::NONE,
        naps: Outages::NONE,
    }
}

impl Scenario {
    /// Two sound hosts on a perfect wire of 10 microseconds.
    #[must_use]
    pub fn sound(seed: u64) -> Self {
        let wire = Faults { delay_ns: 10 * US, ..Faults::default() };
        Self {
            seed,
            client: stack_config(CLIENT_MAC, CLIENT, FIRST_PORT..FIRST_PORT + PORTS),
            client_plan: sound_host(),
            server: stack_config(SERVER_MAC, SERVER, [PORT].into_iter()),
            server_plan: sound_host(),
            target: (SERVER, PORT).into(),
            to_server: wire,
            to_client: wire,
            clock: ClockFaults::default(),
            strangers: Strangers::default(),
            folk: Folk::default(),
            traffic: Traffic { datagrams: 100, gap_ns: 100 * US, min_len: 0, max_len: 1472 },
        }
    }

    /// The same by IPv6.
    #[must_use]
    pub fn sound_v6(seed: u64) -> Self {
        let mut scenario = Self::sound(seed);
        scenario.speak_v6();
        scenario
    }

    /// Gives the hosts addresses of IPv6 in place of those of IPv4.
    fn speak_v6(&mut self) {
        self.client.addresses = stack_config(CLIENT_MAC, CLIENT_V6, std::iter::empty()).addresses;
        self.server.addresses = stack_config(SERVER_MAC, SERVER_V6, std::iter::empty()).addresses;
        self.target = (SERVER_V6, PORT).into();
        self.traffic.max_len = self.traffic.max_len.min(1452);
    }

    /// Gives the hosts addresses that are valid on the link only, besides those that they have.
    ///
    /// # Panics
    /// Never.
    pub fn link_local(&mut self) {
        for (last, config) in [(1, &mut self.client), (2, &mut self.server)] {
            config.addresses.push(format!("fe80::{last}/64").parse().expect("an address and its prefix length"));
            // Two addresses become ready at different times, which the reference does not follow.
            config.probing = Probing::Off;
        }
    }

    /// A simulation drawn from a seed: about a third of all faults is in each, and every other one speaks IPv6.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut scenario = if rng.chance(500) { Self::sound_v6(seed) } else { Self::sound(seed) };
        scenario.client_plan = draw_host(&mut rng);
        scenario.server_plan = draw_host(&mut rng);
        scenario.to_server = draw_faults(&mut rng);
        scenario.to_client = draw_faults(&mut rng);
        scenario.clock = ClockFaults {
            jumps: sometimes(&mut rng, 20),
            jump_ns: rng.scale(MS, 100 * SECOND),
            slow_steps: sometimes(&mut rng, 100),
            slow_ns: rng.scale(US, 50 * MS),
        };
        scenario.strangers = Strangers { frames: sometimes(&mut rng, 300), claims: 0 };
        scenario.folk = Folk::drawn(&mut rng);
        if rng.chance(100) {
            scenario.strangers.claims = rng.between(1, 20) as u32;
        }
        let (datagrams, gap_ns) = (rng.scale(20, 300), rng.scale(US, 50 * MS));
        // Datagrams of less than eight bytes are not all different from each other.
        let min_len = if rng.chance(200) { 0 } else { 8 };
        scenario.traffic = Traffic { datagrams, gap_ns, min_len, max_len: rng.between(min_len, 1500) };
        scenario.draw_configurations(&mut rng);
        scenario
    }

    fn draw_configurations(&mut self, rng: &mut Rng) {
        let policies = [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial, ChecksumPolicy::Trust];
        for config in [&mut self.client, &mut self.server] {
            config.checksum = rng.pick(&policies);
            config.secret = [rng.bits(), rng.bits()];
            // RFC 8200, section 5: no link has less.
            let least = if config.addresses[0].addr().is_ipv4() { 576 } else { 1280 };
            config.mtu = if rng.chance(250) { rng.between(least, 1500) as u16 } else { 1500 };
            (config.neighbors.entries, config.neighbors.queue) = (rng.scale(1, 64) as usize, rng.scale(1, 64) as u32);
            if rng.chance(250) {
                config.probing = Probing::Lead;
            }
        }
        // What comes in fragments the reference does not put together: only strangers get any.
        self.server.mtu = self.server.mtu.max(self.client.mtu);
        if rng.chance(200) {
            self.gateway();
        }
        if self.target.is_ipv6() && rng.chance(500) {
            self.link_local();
        }
    }

    /// Moves the server's service behind a gateway, which it is itself.
    pub fn gateway(&mut self) {
        let (remote, server, len): (IpAddr, IpAddr, u8) = match self.target {
            SocketAddr::V4(_) => (REMOTE.into(), SERVER.into(), 32),
            SocketAddr::V6(_) => (REMOTE_V6.into(), SERVER_V6.into(), 128),
        };
        let net = format!("{remote}/{len}").parse().expect("an address and its prefix length");
        self.server.addresses.push(net);
        // Two addresses become ready at different times, which the reference does not follow.
        self.server.probing = Probing::Off;
        self.client.gateways = vec![server.into()];
        self.target = (remote, PORT).into();
    }
}

/// A chance of up to `most` thousandths, in a third of all cases.
pub(super) const fn sometimes(rng: &mut Rng, most: u64) -> u32 {
    if rng.chance(333) { rng.scale(1, most) as u32 } else { 0 }
}

pub(super) fn draw_outages(rng: &mut Rng, longest_ns: u64) -> Outages {
    if rng.chance(750) {
        return Outages::NONE;
    }
    Outages::new(rng.scale(MS, 200 * MS), rng.scale(10 * US, longest_ns))
}

fn draw_host(rng: &mut Rng) -> HostPlan {
    let chunks = if rng.chance(333) { rng.between(8, 40) } else { rng.between(40, 400) } as u32;
    // At least two chunks to receive into, and two to send from.
    let fill = rng.between(2, u64::from(chunks / 2)).min(64);
    let reserve = rng.between(2, u64::from(chunks) - fill);
    let ring = |rng: &mut Rng| 1 << rng.between(1, 7);
    HostPlan {
        umem: UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false },
        rings: Rings {
            fill: fill as usize,
            rx: ring(rng),
            tx: ring(rng),
            completion: ring(rng),
            reserve: reserve as u32,
        },
        segmentation: false,
        accepts: if rng.chance(250) { rng.between(1, 8) as usize } else { usize::MAX },
        stalls: draw_outages(rng, 400 * MS),
        late_completions: draw_outages(rng, 400 * MS),
        fill_starvation: draw_outages(rng, 100 * MS),
        naps: draw_outages(rng, 50 * MS),
    }
}

pub(super) fn draw_faults(rng: &mut Rng) -> Faults {
    let mut faults = Faults {
        loss: sometimes(rng, 300),
        arp_loss: sometimes(rng, 900),
        duplication: sometimes(rng, 300),
        reordering: sometimes(rng, 300),
        reordering_ns: rng.scale(US, 20 * MS),
        corruption: sometimes(rng, 300),
        truncation: sometimes(rng, 200),
        remarking: sometimes(rng, 500),
        delay_ns: rng.scale(US, 50 * MS),
        padding: rng.chance(500),
        ..Faults::default()
    };
    if rng.chance(250) {
        faults.burst_loss = (rng.between(1, 20) as u32, rng.between(20, 300) as u32);
    }
    if rng.chance(333) {
        faults.jitter_ns = rng.scale(US, 10 * MS);
    }
    if rng.chance(250) {
        // From 800 kb/s to 8 Gb/s, and from one frame to fifty.
        (faults.ns_per_byte, faults.queue_bytes) = (rng.scale(1, 10_000), rng.scale(1_500, 75_000));
    }
    if rng.chance(200) {
        faults.max_frame = rng.between(100, 1514) as usize;
    }
    faults
}
