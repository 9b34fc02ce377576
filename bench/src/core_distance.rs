//! How far apart two cores are: how long a cache line takes from one to the other and back.
//!
//! ```text
//!  this thread     asked = true  -------->  sees it
//!                  sees it       <--------  asked = false      a thread on the other core
//! ```
//!
//! The host of a virtual machine moves its cores about: for seconds they share a cache (50 ns on one machine), then they
//! are on different NUMA nodes (300 ns). All that crosses between them takes its share of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

/// Round trips that are timed together: 5 to 30 us, so that some lie within a time slice where a spinning server has the
/// other core too, and long against reading the clock (30 ns).
const BATCH: u32 = 100;
/// Batches; the least of them counts. All take 1 to 6 ms.
const BATCHES: usize = 200;
/// Several time slices: after that, what there is counts.
const BOUND: Duration = Duration::from_millis(20);
/// Looks in vain between two looks at the clock.
const LOOKS: u32 = 10_000;

/// A flag with a cache line to itself; two, as processors fetch lines of 64 bytes in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Flag(AtomicBool);

/// What both threads see.
#[derive(Default)]
struct Lines {
    asked: Flag,
    over: Flag,
}

/// The round trip between the calling thread's core and another, in nanoseconds: the least of some. `None` if the other
/// core is out of reach, or has no time.
pub(crate) fn round_trip_ns(other: CoreId) -> Option<f64> {
    let lines = Lines::default();
    let (tell, pinned) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = tell.send(core_affinity::set_for_current(other));
            lines.answer();
        });
        // Blocks: the new thread may begin on this one's core.
        let least = if pinned.recv() == Ok(true) { lines.least_ns() } else { None };
        lines.over.0.store(true, Ordering::Release);
        least
    })
}

impl Lines {
    /// The other side. No pause in the loop: a hypervisor may take it for a reason to give the core away.
    fn answer(&self) {
        while !self.over.0.load(Ordering::Acquire) {
            if self.asked.0.load(Ordering::Acquire) {
                self.asked.0.store(false, Ordering::Release);
            }
        }
    }

    fn least_ns(&self) -> Option<f64> {
        let until = Instant::now() + BOUND;
        (0..BATCHES).map_while(|_| self.batch_ns(until)).reduce(f64::min)
    }

    /// The mean of a batch; `None` after `until`.
    fn batch_ns(&self, until: Instant) -> Option<f64> {
        let began = Instant::now();
        for _ in 0..BATCH {
            self.asked.0.store(true, Ordering::Release);
            let mut looks = 0;
            while self.asked.0.load(Ordering::Acquire) {
                looks += 1;
                if looks % LOOKS == 0 && Instant::now() >= until {
                    return None;
                }
            }
        }
        Some(began.elapsed().as_nanos() as f64 / f64::from(BATCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin;

    #[test]
    fn two_cores_are_some_way_apart_and_one_that_is_not_there_is_out_of_reach() {
        let cores = pin::cores();
        let [here, there, ..] = cores[..] else { panic!("this test needs two cores") };
        thread::spawn(move || {
            pin::to_core(here.id).unwrap();
            // Tests on the other core may leave it no time now and then, but not always.
            let ns = (0..100).find_map(|_| round_trip_ns(there)).unwrap();
            assert!(ns > 0.0 && ns < BOUND.as_nanos() as f64, "{ns}");
            assert_eq!(round_trip_ns(CoreId { id: 1000 }), None);
        })
        .join()
        .unwrap();
    }
}
