//! Signals: the wish to stop, which the second time is an order, and the alarm that ends a run inside the kernel.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use crate::error::{Context, Error, Result};

static STOP: AtomicBool = AtomicBool::new(false);
/// Where the second wish to stop is written to, for the thread that then ends the process.
static SECOND: AtomicI32 = AtomicI32::new(-1);

/// Whether SIGINT or SIGTERM has come.
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// An error once SIGINT or SIGTERM has come.
pub(crate) fn check() -> Result<()> {
    if stopping() { Err(Error::Interrupted) } else { Ok(()) }
}

extern "C" fn stop(_signal: libc::c_int) {
    if STOP.swap(true, Ordering::Relaxed) {
        // SAFETY: write(2) may be called in a handler, and the byte is a static. If there is no pipe yet it fails.
        unsafe { libc::write(SECOND.load(Ordering::Relaxed), (&raw const BYTE).cast(), 1) };
    }
}

static BYTE: u8 = 0;

extern "C" fn wake(_signal: libc::c_int) {}

/// Makes SIGINT and SIGTERM a wish to stop, and SIGALRM something that only ends a system call. The second wish calls
/// `clean_up` on a thread of its own and ends the process with exit code 1, whatever is under way.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn install(clean_up: fn()) -> Result<()> {
    let (mut reader, writer) = io::pipe().context(|| "cannot make a pipe".into())?;
    SECOND.store(writer.into_raw_fd(), Ordering::Relaxed);
    std::thread::spawn(move || {
        if reader.read_exact(&mut [0]).is_ok() {
            clean_up();
            std::process::exit(1);
        }
    });
    for (signal, handler) in
        [(libc::SIGINT, stop as extern "C" fn(_)), (libc::SIGTERM, stop as _), (libc::SIGALRM, wake as _)]
    {
        // SAFETY: an all-zero sigaction is a valid one: no flags (so that system calls end with EINTR).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: the handlers only touch an atomic, which a signal may do at any time.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error()).context(|| format!("cannot handle signal {signal}"));
        }
    }
    Ok(())
}

/// A timer that interrupts this thread's system calls from some moment on, every millisecond, because the
/// first signal may come just before the call that it is meant to end.
#[derive(Debug)]
pub(crate) struct Alarm(libc::timer_t);

impl Alarm {
    /// Interrupts the calling thread once `delay` has passed, until the alarm is dropped.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub(crate) fn after(delay: Duration) -> Result<Self> {
        let mut timer = std::ptr::null_mut();
        // SAFETY: an all-zero sigevent is valid, and its fields are then set as timer_create(2) says;
        // gettid has no conditions.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: no conditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        // SAFETY: both pointers are to locals of the right type.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } != 0 {
            return Err(io::Error::last_os_error()).context(|| "cannot make a timer".into());
        }
        let alarm = Self(timer);
        let times = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 },
            it_value: libc::timespec {
                tv_sec: delay.as_secs() as libc::time_t,
                // all zeros would disarm the timer
                tv_nsec: libc::c_long::from(delay.subsec_nanos().max(1)),
            },
        };
        // SAFETY: the timer was just made, and the times are a local.
        if unsafe { libc::timer_settime(alarm.0, 0, &raw const times, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error()).context(|| "cannot start a timer".into());
        }
        Ok(alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was made by timer_create and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of `bpf_ktime_get_ns`.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CLOCK_REALTIME in nanoseconds: the clock of a socket's arrival times.
pub(crate) fn realtime_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
