//! Two hosts on two links, and a router between them whose way through takes less than the links do.
//!
//! ```text
//!   Caller                                                          Echo
//!   [Worker] -- Nic --------------> Router ---------- Lane --> Nic [Worker]
//!            Nic <-- Lane --------- (mtu)  <--------------- Nic
//! ```

mod caller;
mod router;
mod seeds;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use barewire::app::{App, Closed};
use barewire::apps::echo::Echo;
use barewire::base::{ChunkSize, Instant, Place, Umem, UmemConfig};
use barewire::stack::{Stack, StackConfig};
use barewire::transport::tcp::TcpConfig;
use barewire::wire::ethernet::Mac;
use barewire::worker::Worker;

use super::nic::{Nic, Rings, Virtual};
use super::rng::Rng;
use super::scenario::stack_config;
use super::strict;
use super::tcp::{Family, Side};
use super::wire::{Faults, Lane, Transmission};
pub use caller::{Caller, Request};
pub use router::{Passages, Router};
pub use seeds::run_routed_seed;

/// Port of the echo service.
const PORT: u16 = 7;
/// MAC address of the router, on either link.
const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

/// The address of a host, and of the router on its link.
fn address(side: Side, is_v4: bool, last: u8) -> IpAddr {
    let link = 1 + side as u8;
    if is_v4 {
        Ipv4Addr::new(10, 0, link, last).into()
    } else {
        Ipv6Addr::new(0xfd00, link.into(), 0, 0, 0, 0, 0, last.into()).into()
    }
}

fn router_address(side: Side, is_v4: bool) -> IpAddr {
    address(side, is_v4, 1)
}

fn host_address(side: Side, is_v4: bool) -> IpAddr {
    address(side, is_v4, 2)
}

fn config(side: Side, is_v4: bool) -> StackConfig {
    let gateway = router_address(side, is_v4);
    let ports = [[caller::OURS], [PORT]][side as usize].into_iter();
    let mut config = stack_config(side.mac(), host_address(side, is_v4), ports);
    config.gateways = vec![gateway.into()];
    config.neighbors.fixed = vec![(gateway.into(), ROUTER_MAC)];
    config.tcp = Some(TcpConfig {
        ports: vec![PORT],
        connections: 4,
        backlog: 4,
        time_wait: 4,
        chunks: 256,
        receive_buffer: 64 << 10,
        send_buffer: 64 << 10,
        time_wait_for: Duration::from_secs(1),
        ..TcpConfig::default()
    });
    config
}

/// The hosts, the router and the time.
#[derive(Debug)]
pub struct Routed<D = Nic> {
    /// The near host.
    pub near: Worker<D, Caller>,
    /// The far host.
    pub far: Worker<D, Echo>,
    /// The router.
    pub router: Router,
    /// The ways from the router to the hosts.
    pub lanes: [Lane; 2],
    /// The virtual clock.
    pub now: Instant,
    rng: Rng,
}

fn worker<D: Virtual, A: App>(
    config: &StackConfig,
    app: A,
    now: Instant,
    wrap: &impl Fn(Mac, Nic) -> D,
) -> Worker<D, A> {
    let plan = UmemConfig { chunks: 1024, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
    let mut umem = Umem::new(plan).expect("memory for a simulated host");
    let nic = Nic::open(Rings { fill: 128, rx: 128, tx: 128, completion: 128, reserve: 256 }, &mut umem);
    Worker::new(wrap(config.mac, nic), umem, Stack::new(config, app, now))
}

/// Makes a turn, and gives what the host sends.
fn turn<D: Virtual, A: App>(worker: &mut Worker<D, A>, now: Instant) -> Vec<Vec<u8>> {
    worker.turn(now);
    while worker.stack_mut().next_event().is_some() {}
    let nic = worker.device_mut().nic();
    while nic.next_handed().is_some() {}
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| nic.depart()).collect();
    for frame in &sent {
        if let Err(wrong) = strict::check(frame) {
            panic!("a malformed frame: {wrong}\n{frame:02x?}");
        }
    }
    sent
}

fn is_busy<D: Virtual, A: App>(worker: &mut Worker<D, A>) -> bool {
    worker.in_bursts() != (0, 0) || worker.device_mut().nic().is_busy()
}

fn check_rest<D: Virtual, A: App>(name: &str, worker: &Worker<D, A>) {
    let umem = worker.umem();
    let idle = umem.count(Place::Free) + umem.count(Place::Fill);
    assert_eq!(idle, umem.chunks(), "{name}: chunks are neither free nor waiting to be received into");
}

impl<D: Virtual> Routed<D> {
    /// Two hosts of a version of IP, with a router between them, and the same wire behind it to both. `wrap` may put
    /// something around a host's NIC.
    #[must_use]
    pub fn new(family: Family, router: Router, faults: Faults, seed: u64, wrap: impl Fn(Mac, Nic) -> D) -> Self {
        let mut rng = Rng::new(seed ^ 0x5007ed);
        let (now, is_v4) = (Instant::from_ns(1_000_000_000), family == Family::V4);
        let target = SocketAddr::new(host_address(Side::Far, is_v4), PORT);
        Self {
            near: worker(&config(Side::Near, is_v4), Caller::new(target), now, &wrap),
            far: worker(&config(Side::Far, is_v4), Echo, now, &wrap),
            router,
            lanes: [Lane::new(faults, rng.fork()), Lane::new(faults, rng.fork())],
            now,
            rng,
        }
    }

    /// The near host's application.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        self.near.stack().app()
    }

    /// The same, to have it send.
    pub fn caller_mut(&mut self) -> &mut Caller {
        self.near.stack_mut().app_mut()
    }

    /// Sends requests, one after another, and waits until the last one could have been answered.
    pub fn ask(&mut self, requests: impl IntoIterator<Item = Request>) {
        self.caller_mut().requests.extend(requests);
        let asked = self.run_until(Duration::from_secs(600), |sim| sim.caller().requests.is_empty());
        assert!(asked, "requests are left");
        self.run_until(Duration::from_millis(500), |_| false);
    }

    /// Has a stream of so many bytes echoed and closed, and says how long that took.
    ///
    /// # Panics
    /// If that takes more than `limit`, or ends otherwise.
    pub fn stream(&mut self, bytes: u64, limit: Duration) -> Duration {
        self.caller_mut().stream = bytes;
        let start = self.now;
        let done = self.run_until(limit, |sim| sim.caller().closed.is_some());
        let (echoed, closed) = (self.caller().echoed, self.caller().closed);
        let tcp = self.near.stack().tcp_state().expect("it has TCP");
        let connections: Vec<_> = tcp.connections(self.now).collect();
        assert!(done, "{echoed} of {bytes} bytes came back in {limit:?}: {connections:#?} {:?}", self.router);
        assert_eq!((echoed, closed), (bytes, Some(Closed::Finished)));
        self.now.since(start)
    }

    /// Ends the faults of the wire.
    pub fn calm_down(&mut self) {
        self.lanes.iter_mut().for_each(Lane::calm);
    }

    /// Waits until nothing is held any more, and checks that everything is in its place.
    pub fn come_to_rest(&mut self) {
        self.run_until(Duration::from_secs(10), |_| false);
        check_rest("near", &self.near);
        check_rest("far", &self.far);
    }

    /// Makes steps until `done`, or for so long. Says whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    fn step(&mut self, end: Instant) {
        self.now = self.next_time(end);
        while let Some(frame) = self.lanes[Side::Near as usize].arrive(self.now) {
            let _ = self.near.device_mut().nic().arrive(frame);
        }
        while let Some(frame) = self.lanes[Side::Far as usize].arrive(self.now) {
            let _ = self.far.device_mut().nic().arrive(frame);
        }
        let sent = [turn(&mut self.near, self.now), turn(&mut self.far, self.now)];
        for (side, sent) in Side::BOTH.into_iter().zip(sent) {
            for (to, bytes) in sent.iter().flat_map(|frame| self.router.take(side, frame)) {
                self.lanes[to as usize].send(Transmission { bytes, damaged: false }, self.now);
            }
        }
    }

    fn next_time(&mut self, end: Instant) -> Instant {
        let (now, soon) = (self.now, self.now + Duration::from_micros(5));
        let deadlines = [self.near.stack().next_deadline(), self.far.stack().next_deadline()];
        let deadlines = deadlines.into_iter().flatten().map(|at| if at <= now { soon } else { at });
        let arrivals = self.lanes.iter().filter_map(Lane::next_arrival);
        let busy = (is_busy(&mut self.near) || is_busy(&mut self.far)).then_some(soon);
        let next = deadlines.chain(arrivals).chain(busy).min().unwrap_or(end).min(end);
        next.max(now) + Duration::from_nanos(1 + self.rng.below(1_000))
    }
}
