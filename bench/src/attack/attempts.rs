//! Clients that connect, say something, and want it back: whether they succeed, and how long it takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::arrivals::Arrivals;
use crate::histogram::Latency;
use crate::result::figures::{Figure, Figures};
use crate::result::placement::Placement;
use crate::result::{BackEnd, Distribution, Timestamps, Trial, Unit};

/// Time between two attempts: few enough to cost the core next to nothing.
const EVERY: Duration = Duration::from_millis(10);
/// A client gives up after this long. Linux asks after 1, 3 and 7 s again.
const PATIENCE: Duration = Duration::from_secs(5);
/// An attempt that took longer needed its request to be sent again.
const AGAIN: Duration = Duration::from_millis(900);

/// What each client says.
const MESSAGE: &[u8; 9] = b"let me in";

/// Attempts under way and done.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    ended: AtomicBool,
    made: AtomicU64,
    succeeded: Mutex<Vec<Duration>>,
}

/// What came of them.
pub(super) struct Tally {
    made: u64,
    /// Of those that succeeded, how many needed a second request.
    asked_again: u64,
    /// From connecting to the last byte of the answer, of those that succeeded.
    latency: Latency,
}

impl Attempts {
    /// Attempts from now on, until [`end`](Self::end); the scope ends when all have.
    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, target: SocketAddr) {
        scope.spawn(move || {
            while !self.ended.load(Ordering::Relaxed) {
                scope.spawn(move || self.make(target));
                thread::sleep(EVERY);
            }
        });
    }

    /// No more attempts.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn make(&self, target: SocketAddr) {
        self.made.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let echoed = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut message = *MESSAGE;
            stream.write_all(&message)?;
            message.fill(0);
            stream.read_exact(&mut message)?;
            Ok(message == *MESSAGE)
        };
        if let (Ok(true), Ok(mut succeeded)) = (echoed(), self.succeeded.lock()) {
            succeeded.push(begun.elapsed());
        }
    }

    /// What came of all, once the scope has ended.
    pub(super) fn tally(self) -> Tally {
        let (mut latency, mut asked_again) = (Latency::new(), 0);
        for time in self.succeeded.into_inner().unwrap_or_default() {
            latency.record(time.as_nanos() as u64);
            asked_again += u64::from(time > AGAIN);
        }
        Tally { made: self.made.into_inner(), asked_again, latency }
    }
}

impl Tally {
    fn succeeded(&self) -> u64 {
        self.latency.summary().samples
    }

    /// Part of the attempts that succeeded and half of their time, by what goes on beside them.
    pub(super) fn figures(&self, beside: &str) -> Figures {
        let succeeded = self.succeeded();
        let percent = (self.made > 0).then(|| 100.0 * succeeded as f64 / self.made as f64);
        let p50_ms = (succeeded > 0).then(|| self.latency.summary().p50_ns as f64 / 1e6);
        Figures::from([
            (format!("{beside}-connects"), Figure::higher(percent, "%", false)),
            (format!("{beside}-connects-again"), Figure::lower(Some(self.asked_again as f64), "", false)),
            (format!("{beside}-connects-p50"), Figure::lower(p50_ms, "ms", false)),
        ])
    }

    /// The attempts as they are written.
    pub(super) fn trial(&self, seconds: f64) -> Trial {
        let succeeded = self.succeeded();
        Trial {
            measure: "connects".into(),
            back_end: BackEnd::Kernel,
            arrivals: Arrivals::Constant,
            connections: None,
            size_bytes: MESSAGE.len() as u32,
            mix: Vec::new(),
            source_ports: None,
            source_addresses: None,
            unit: Unit::Connections,
            asked_per_s: Some(1.0 / EVERY.as_secs_f64()),
            seconds,
            sent: self.made,
            completed: succeeded,
            completed_per_s: if seconds > 0.0 { succeeded as f64 / seconds } else { 0.0 },
            bytes: 0,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            stale: 0,
            failed: self.made - succeeded,
            idle: None,
            limited: false,
            placement: Placement::default(),
            adherence: None,
            timestamps: Timestamps::Program,
            latency: Distribution::of(&self.latency),
            latency_from_sending: None,
            slices: Vec::new(),
        }
    }
}
