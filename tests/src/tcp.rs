//! Streams of known content, through a socket or through a program, and checked as they come back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::lab::PATIENCE;
use crate::netns::{Namespace, run};

/// Bytes written or read at a time.
const STEP: usize = 64 << 10;

/// Held by tests whose figures mean something only if nothing else runs in their process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed is no reason for the others to.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment, or what it is usually.
///
/// # Panics
/// If the variable is set to anything else than a number.
#[must_use]
pub fn asked(variable: &str, usually: u64) -> u64 {
    let Ok(value) = std::env::var(variable) else { return usually };
    value.parse().unwrap_or_else(|_| panic!("{variable}={value}: not a number"))
}

/// Writes `bytes` of `content`.
///
/// # Panics
/// If the other end does not take them.
pub fn write_content(mut to: impl Write, content: Content, bytes: u64) {
    let mut step = vec![0; STEP];
    let mut at = 0;
    while at < bytes {
        let step = &mut step[..(bytes - at).min(STEP as u64) as usize];
        content.fill(at, step);
        to.write_all(step).unwrap_or_else(|error| panic!("not taken after some {at} of {bytes} bytes: {error}"));
        at += step.len() as u64;
    }
}

/// Reads to the end, and checks that it is `bytes` of `content`. `progress` has the bytes that came so far.
///
/// # Panics
/// If it is not.
pub fn read_content(mut from: impl Read, content: Content, bytes: u64, progress: &AtomicU64) {
    let mut step = vec![0; STEP];
    let mut at = 0;
    loop {
        let len = from.read(&mut step).unwrap_or_else(|error| panic!("only {at} of {bytes} bytes came: {error}"));
        if len == 0 {
            break;
        }
        assert_eq!(content.differs_at(at, &step[..len]), None, "where the wrong byte is, in what came from {at} on");
        at += len as u64;
        progress.store(at, Ordering::Relaxed);
    }
    assert_eq!(at, bytes, "bytes that came before the end");
}

/// Sends `bytes` through an echo service, ends our side, and checks what comes back to the end. Gives how long it
/// took.
///
/// # Panics
/// If anything else comes back.
pub fn exchange(stream: &TcpStream, seed: u64, bytes: u64) -> Duration {
    let content = Content::new(seed);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            write_content(stream, content, bytes);
            stream.shutdown(Shutdown::Write).expect("a connection that is open");
        });
        read_content(stream, content, bytes, &AtomicU64::new(0));
    });
    start.elapsed()
}

/// A figure for a test's output: megabits a second.
#[must_use]
pub fn megabits(bytes: u64, took: Duration) -> String {
    format!("{bytes} bytes in {:.2} s, {:.0} Mbit/s", took.as_secs_f64(), bytes as f64 * 8e-6 / took.as_secs_f64())
}

/// A program that joins its standard input and output with a connection, as `nc` does. It is killed on drop.
#[derive(Debug)]
pub struct Piped {
    child: Child,
    pipes: Option<(ChildStdin, ChildStdout)>,
    progress: AtomicU64,
}

impl Piped {
    /// Starts it in a namespace.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(namespace: &Namespace, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = namespace.enter(|| command.spawn());
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
        let pipes = child.stdin.take().zip(child.stdout.take());
        Self { child, pipes, progress: AtomicU64::new(0) }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that have come out of it.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Sends `bytes` through it, ends its standard input, and checks what comes out to the end. Gives how long it
    /// took.
    ///
    /// # Panics
    /// If anything else comes out, or a second time.
    pub fn exchange(&self, pipes: (ChildStdin, ChildStdout), seed: u64, bytes: u64) -> Duration {
        let (stdin, stdout) = pipes;
        let content = Content::new(seed);
        let start = Instant::now();
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || self.kill_without_progress(&is_done));
            // The end of the thread is the end of standard input.
            scope.spawn(move || write_content(stdin, content, bytes));
            // However reading ends.
            let _done = done;
            read_content(stdout, content, bytes, &self.progress);
        });
        start.elapsed()
    }

    /// Kills it when nothing has come out of it for [`PATIENCE`]: its pipes have no time limit.
    fn kill_without_progress(&self, is_done: &Receiver<()>) {
        let mut last = (self.progress(), Instant::now());
        while is_done.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            if self.progress() != last.0 {
                last = (self.progress(), Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                run("kill", &["-s", "KILL", &self.id().to_string()]);
                return;
            }
        }
    }

    /// The ends of its standard input and output, once.
    ///
    /// # Panics
    /// The second time.
    #[must_use]
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        self.pipes.take().expect("pipes are given once")
    }

    /// Waits for its end, and gives its exit code and what it wrote to standard error, if that is a pipe.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[must_use]
    pub fn wait_with_errors(mut self) -> (i32, String) {
        let errors = self.child.stderr.take();
        let mut said = String::new();
        let code = self.wait();
        if let Some(mut pipe) = errors {
            pipe.read_to_string(&mut said).expect("standard error in UTF-8");
        }
        (code, said)
    }

    /// Waits for its end, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end, or not by itself.
    #[must_use]
    pub fn wait(mut self) -> i32 {
        drop(self.pipes.take());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().unwrap_or_else(|| panic!("{status}"));
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `bytes` through a program that has an echo service at its other end, and fails unless they come back and
/// it ends well. Gives how long it took.
///
/// # Panics
/// If they do not.
pub fn exchange_by(namespace: &Namespace, command: Command, seed: u64, bytes: u64) -> Duration {
    let mut program = Piped::start(namespace, command);
    let pipes = program.pipes();
    let took = program.exchange(pipes, seed, bytes);
    assert_eq!(program.wait(), 0, "exit code");
    took
}
