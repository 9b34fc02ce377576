//! The two things that neither the standard library nor smoltcp does: signals, and the size of a buffer.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT or SIGTERM has come.
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM a wish to stop.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn stop_on_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler = stop as extern "C" fn(libc::c_int);
        // SAFETY: the handler only touches an atomic, which a signal may do at any time.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets the receive buffer of a socket, beyond the system's limit.
///
/// # Errors
/// No permission.
pub(crate) fn set_receive_buffer(socket: RawFd, bytes: u32) -> io::Result<()> {
    let value = (&raw const bytes).cast();
    // SAFETY: the option's value is an int of four bytes, and `bytes` outlives the call.
    match unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, 4) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
