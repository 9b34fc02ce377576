//! Clients that connect, say something, and want it back: whether they succeed, and how long it takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Time between two attempts: few enough to cost the core next to nothing.
const EVERY: Duration = Duration::from_millis(10);
/// A client gives up after this long. Linux asks after 1, 3 and 7 s again.
const PATIENCE: Duration = Duration::from_secs(5);
/// An attempt that took longer needed its request to be sent again.
const AGAIN: Duration = Duration::from_millis(900);

/// Attempts under way and done.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    ended: AtomicBool,
    made: AtomicU64,
    succeeded: Mutex<Vec<Duration>>,
}

/// What came of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tally {
    pub made: u64,
    pub succeeded: u64,
    /// Of those that succeeded, how many needed a second request.
    pub asked_again: u64,
    pub median_ms: f64,
    pub longest_ms: f64,
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
            let mut message = *b"let me in";
            stream.write_all(&message)?;
            message.fill(0);
            stream.read_exact(&mut message)?;
            Ok(message == *b"let me in")
        };
        if let (Ok(true), Ok(mut succeeded)) = (echoed(), self.succeeded.lock()) {
            succeeded.push(begun.elapsed());
        }
    }

    /// What came of all, once the scope has ended.
    pub(super) fn tally(self) -> Tally {
        let mut times = self.succeeded.into_inner().unwrap_or_default();
        times.sort();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Tally {
            made: self.made.into_inner(),
            succeeded: times.len() as u64,
            asked_again: times.iter().filter(|time| **time > AGAIN).count() as u64,
            median_ms: ms(times.get(times.len() / 2)),
            longest_ms: ms(times.last()),
        }
    }
}
