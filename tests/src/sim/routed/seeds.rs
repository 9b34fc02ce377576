//! Paths drawn from seeds.

use std::time::Duration;

use barewire::wire::ethernet::Mac;

use super::super::nic::{Nic, Virtual};
use super::super::rng::Rng;
use super::super::scenario::sometimes;
use super::super::seeds::attempt;
use super::super::too_long::Manner;
use super::{Family, Faults, Passages, Request, Routed, Router};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// In which a stream comes back over every path that is drawn.
const LIMIT: Duration = Duration::from_secs(300);

/// A path drawn from a seed, and what it takes less of under way.
struct Drawn<D> {
    rng: Rng,
    family: Family,
    sim: Routed<D>,
}

impl<D: Virtual> Drawn<D> {
    fn new(seed: u64, wrap: impl Fn(Mac, Nic) -> D) -> Self {
        let mut rng = Rng::new(seed ^ 0x9a75);
        let family = rng.pick(&[Family::V4, Family::V6]);
        let manner = rng.pick(&[Manner::Tells, Manner::Grumbles, Manner::Swallows, Manner::Cuts]);
        let faults = Faults {
            loss: sometimes(&mut rng, 50),
            duplication: sometimes(&mut rng, 200),
            reordering: sometimes(&mut rng, 200),
            reordering_ns: rng.scale(US, 5 * MS),
            delay_ns: rng.scale(10 * US, 20 * MS),
            jitter_ns: if rng.chance(333) { rng.scale(US, MS) } else { 0 },
            ..Faults::default()
        };
        let sim = Routed::new(family, Router::new(1500, manner), faults, seed, wrap);
        let mut drawn = Self { rng, family, sim };
        drawn.narrow();
        drawn
    }

    /// Has the router take less than before.
    fn narrow(&mut self) {
        let least = if self.family == Family::V4 { 576 } else { 1280 };
        self.sim.router.mtu = self.rng.between(least, self.sim.router.mtu as u64) as usize;
    }

    fn request(&mut self) -> Request {
        if self.rng.chance(700) {
            Request::Datagram { len: self.rng.between(8, 1452) as usize, may_cut: self.rng.chance(800) }
        } else {
            Request::Ping { len: self.rng.scale(8, 40_000) as usize }
        }
    }

    fn run(mut self) -> Passages {
        // What answers datagrams forbids that its answers are cut, so a black hole takes them.
        let is_asked = self.sim.router.manner != Manner::Swallows;
        for _ in 0..if is_asked { 2 } else { 0 } {
            let requests: Vec<_> = (0..15).map(|_| self.request()).collect();
            self.sim.ask(requests);
            self.narrow();
        }
        let bytes = self.rng.scale(1_000, 400_000);
        self.sim.caller_mut().stream = bytes;
        let part = self.rng.below(bytes);
        let begun = self.sim.run_until(LIMIT, |sim| sim.caller().echoed >= part);
        assert!(begun, "{} of {bytes} bytes came back in {LIMIT:?}: {:?}", self.sim.caller().echoed, self.sim.router);
        self.narrow();
        self.sim.stream(bytes, LIMIT);
        self.sim.calm_down();
        if is_asked {
            self.sim.ask([Request::Datagram { len: 1452, may_cut: true }; 16]);
            let last = *self.sim.caller().answered.last_key_value().expect("there are some").1;
            assert_eq!(last, 1, "answers to the last of many, over a sound path: {:?}", self.sim.router);
        }
        self.sim.come_to_rest();
        self.sim.router.passages
    }
}

/// Runs the path of a seed: requests, a stream, and requests on a sound wire. `wrap` may put something around a host's
/// NIC.
///
/// # Errors
/// What went wrong.
pub fn run_routed_seed<D: Virtual>(seed: u64, wrap: impl Fn(Mac, Nic) -> D) -> Result<Passages, String> {
    attempt(|| Drawn::new(seed, wrap).run()).map_err(|reason| format!("path of seed {seed}: {reason}"))
}
