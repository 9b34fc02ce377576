//! Network namespaces: two of them joined by a veth, gone when dropped.
//!
//! ```text
//!  bw-bench-PID-client                    bw-bench-PID-server
//!  | bw0  10.77.0.1/24 |--- veth, 1 queue ---| bw0  10.77.0.2/24 (or nobody's) |
//! ```
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// What the names of all namespaces begin with that may be flooded.
pub(crate) const PREFIX: &str = "bw-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";

/// The interface at either end.
pub(crate) const INTERFACE: &str = "bw0";
/// Address of the generator's end, and the prefix of both.
const CLIENT_ADDRESS: &str = "10.77.0.1/24";
/// Last bytes of further addresses of the generator's end, for their ports: a generator has 30,768 of each
/// address, a port rests for a second after each connection, and a server here closes up to 100,000 a second.
const CLIENT_FURTHER: [u8; 5] = [11, 12, 13, 14, 15];
/// Address that every server answers on.
pub(crate) const SERVER_ADDRESS: &str = "10.77.0.2/24";

/// Two namespaces joined by a veth. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Pair {
    pub client: String,
    pub server: String,
}

impl Pair {
    /// Makes them, after removing those of earlier runs that were killed.
    ///
    /// # Errors
    /// No permission, or no `ip` or `ethtool`.
    pub(crate) fn create() -> Result<Self> {
        remove_abandoned();
        let name = |end| format!("{PREFIX}bench-{}-{end}", std::process::id());
        // Made before anything is: whatever fails below, the drop removes what there is.
        let pair = Self { client: name("client"), server: name("server") };
        for namespace in [&pair.client, &pair.server] {
            command(&["ip", "netns", "add", namespace])
                .map_err(|error| Error::run(format!("cannot make a network namespace: {error}; it needs root")))?;
        }
        let one_queue = ["numrxqueues", "1", "numtxqueues", "1"];
        let mut words = vec!["ip", "-n", &pair.client, "link", "add", INTERFACE];
        words.extend(one_queue);
        words.extend(["type", "veth", "peer", "name", INTERFACE, "netns", &pair.server]);
        words.extend(one_queue);
        command(&words)?;
        for namespace in [&pair.client, &pair.server] {
            // No IPv6: its router solicitations would be the only frames that nobody asked for.
            let setting = format!("net.ipv6.conf.{INTERFACE}.disable_ipv6=1");
            let _ = command(&["ip", "netns", "exec", namespace, "sysctl", "-qw", &setting]);
            command(&["ip", "-n", namespace, "link", "set", INTERFACE, "up"])?;
        }
        command(&["ip", "-n", &pair.client, "address", "add", CLIENT_ADDRESS, "dev", INTERFACE])?;
        // Without it a veth end has no NAPI, and live frames for a kernel socket are all lost.
        command(&["ip", "netns", "exec", &pair.server, "ethtool", "-K", INTERFACE, "gro", "on"])?;
        Ok(pair)
    }

    /// Makes it a network for TCP: every frame as it would be on a wire, with its checksum and no larger than the
    /// MTU; a congestion control that does not pace; nothing remembered from one connection to the next; ports
    /// enough for many short connections. Says the generator's addresses.
    ///
    /// # Errors
    /// What `ip`, `ethtool` and `sysctl` say.
    pub(crate) fn prepare_for_tcp(&self) -> Result<Vec<Ipv4Addr>> {
        for namespace in [&self.client, &self.server] {
            let inside = ["ip", "netns", "exec", namespace];
            let offloads = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
            command(&[&inside[..], &["ethtool", "-K", INTERFACE], &offloads].concat())?;
            let settings = ["net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_no_metrics_save=1"];
            command(&[&inside[..], &["sysctl", "-qw"], &settings].concat())?;
        }
        command(&["ip", "netns", "exec", &self.client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"])?;
        let mut addresses = vec![Ipv4Addr::new(10, 77, 0, 1)];
        for address in CLIENT_FURTHER.map(|last| Ipv4Addr::new(10, 77, 0, last)) {
            let with_prefix = format!("{address}/24");
            command(&["ip", "-n", &self.client, "address", "add", &with_prefix, "dev", INTERFACE])?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// Gives the server's address to its kernel, or takes it away for an engine that owns it alone.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn set_kernel_owns_address(&self, owns: bool) -> Result<()> {
        command(&["ip", "-n", &self.server, "address", "flush", "dev", INTERFACE])?;
        if owns {
            command(&["ip", "-n", &self.server, "address", "add", SERVER_ADDRESS, "dev", INTERFACE])?;
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            if Path::new(FOLDER).join(namespace).exists()
                && let Err(error) = command(&["ip", "netns", "delete", namespace])
            {
                eprintln!("barewire-bench: {error}; remove it with `ip netns delete {namespace}`");
            }
        }
    }
}

/// Removes namespaces of runs whose process is gone: nothing can run after SIGKILL.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix("bench-")) else { continue };
        let owner = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = command(&["ip", "netns", "delete", &name]);
        }
    }
}

/// Whether this thread is in a namespace whose name begins with [`PREFIX`].
///
/// # Errors
/// No /proc.
fn is_ours() -> Result<bool> {
    let here = fs::metadata("/proc/thread-self/ns/net").context(|| "cannot look at this network namespace".into())?;
    let Ok(entries) = fs::read_dir(FOLDER) else { return Ok(false) };
    let same = |path: &Path| fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (here.dev(), here.ino()));
    let mut ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    Ok(ours.any(|entry| same(&entry.path())))
}

/// Refuses to load a server outside namespaces made for it, unless its owner said so (`--i-own-this-target`).
///
/// # Errors
/// This thread is somewhere else.
pub(crate) fn check_target(owned: bool) -> Result<()> {
    if owned || is_ours()? {
        return Ok(());
    }
    Err(Error::usage(format!(
        "this is not a network namespace made for measuring (named `{PREFIX}...`): a load generator floods. \
         If target and network are yours, say `--i-own-this-target`"
    )))
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
