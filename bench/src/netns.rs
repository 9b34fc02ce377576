//! Network namespaces: two of them joined by a veth, gone when dropped.
//!
//! ```text
//!  bw-bench-PID-client                    bw-bench-PID-server
//!  | bw0  10.77.0.1/24 |--- veth, 1 queue ---| bw0  10.77.0.2/24 (or nobody's) |
//! ```
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// What the names of all namespaces begin with that may be flooded.
pub(crate) const PREFIX: &str = "bw-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";

/// Whether this thread is in a namespace whose name begins with [`PREFIX`].
///
/// # Errors
/// No /proc.
pub(crate) fn is_ours() -> Result<bool> {
    let here = fs::metadata("/proc/thread-self/ns/net").context(|| "cannot look at this network namespace".into())?;
    let Ok(entries) = fs::read_dir(FOLDER) else { return Ok(false) };
    let same = |path: &Path| fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (here.dev(), here.ino()));
    let mut ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    Ok(ours.any(|entry| same(&entry.path())))
}

/// Runs a command and says what it said if it fails.
///
/// # Errors
/// It is not installed or failed.
pub(crate) fn command(words: &[&str]) -> Result<()> {
    let [program, args @ ..] = words else { return Ok(()) };
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run `{program}` (`deploy/setup.sh demo` installs it)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::run(format!("`{}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}

/// Moves this thread, and what it starts, into a namespace.
///
/// # Errors
/// No such namespace, or no permission.
pub(crate) fn enter(name: &str) -> Result<()> {
    let file = File::open(Path::new(FOLDER).join(name)).context(|| format!("no network namespace {name}"))?;
    // SAFETY: a system call on an open descriptor; it changes nothing but this thread's network.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).context(|| format!("cannot enter network namespace {name}")),
    }
}
