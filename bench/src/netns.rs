//! Network namespaces: two of them joined by a veth, gone when dropped.
//!
//! ```text
//!  bw-bench-PID-client                    bw-bench-PID-server
//!  | bw0  10.77.0.1/24 |--- veth, 1 queue ---| bw0  10.77.0.2/24 (or nobody's) |
//!  |   fd00:77::1/64   |                     |   fd00:77::2/64                 |
//! ```
#![allow(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// What the names of all namespaces begin with that may be flooded.
pub(crate) const PREFIX: &str = "bw-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";

/// The interface at either end.
pub(crate) const INTERFACE: &str = "bw0";
/// Last part of further addresses of the generator's end, for their ports: a generator has 30,768 of each
/// address, a port rests for a second after each connection, and a server here closes up to 100,000 a second.
const CLIENT_FURTHER: [u8; 5] = [11, 12, 13, 14, 15];
/// The MTU of Ethernet, bytes.
pub(crate) const ETHERNET_MTU: u16 = 1500;

/// Version of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) const fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// The address that stands for any.
    pub(crate) const fn unspecified(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// A host on the link between the namespaces.
    const fn host(self, number: u8) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::new(10, 77, 0, number)),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number as u16)),
        }
    }

    /// Address of the generator's end.
    pub(crate) const fn client(self) -> IpAddr {
        self.host(1)
    }

    /// Address that every server answers on.
    pub(crate) const fn server(self) -> IpAddr {
        self.host(2)
    }

    /// Address of the server, with its prefix.
    pub(crate) fn server_cidr(self) -> String {
        self.cidr(self.server())
    }

    fn cidr(self, address: IpAddr) -> String {
        let prefix_len = if self == Self::Ipv4 { 24 } else { 64 };
        format!("{address}/{prefix_len}")
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// What the two namespaces are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    /// What is measured over; there are addresses of both.
    pub family: Family,
    /// Bytes of the longest IP packet.
    pub mtu: u16,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "veth with 1 queue, {}", self.family.name())?;
        match self.mtu {
            ETHERNET_MTU => Ok(()),
            mtu => write!(f, ", MTU {mtu}"),
        }
    }
}

/// Two namespaces joined by a veth. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Pair {
    pub client: String,
    pub server: String,
    pub shape: Shape,
}

impl Pair {
    /// Makes them, after removing those of earlier runs that were killed.
    ///
    /// # Errors
    /// No permission, or no `ip` or `ethtool`.
    pub(crate) fn create(shape: Shape) -> Result<Self> {
        remove_abandoned();
        let name = |end| format!("{PREFIX}bench-{}-{end}", std::process::id());
        own().push(name("client"));
        own().push(name("server"));
        // Made before anything is: whatever fails below, the drop removes what there is.
        let pair = Self { client: name("client"), server: name("server"), shape };
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
            pair.bring_up(namespace)?;
        }
        pair.add_addresses(&pair.client, Family::client)?;
        // Without it a veth end has no NAPI, and live frames for a kernel socket are all lost.
        command(&["ip", "netns", "exec", &pair.server, "ethtool", "-K", INTERFACE, "gro", "on"])?;
        Ok(pair)
    }

    fn bring_up(&self, namespace: &str) -> Result<()> {
        // The host's own: a server's metrics are read through it.
        command(&["ip", "-n", namespace, "link", "set", "lo", "up"])?;
        // Frames that nobody asked for would be counted: no link-local address, and with it no router solicitations.
        let _ = command(&["ip", "-n", namespace, "link", "set", INTERFACE, "addrgenmode", "none"]);
        command(&["ip", "-n", namespace, "link", "set", INTERFACE, "mtu", &self.shape.mtu.to_string(), "up"])
    }

    /// Adds addresses of both families.
    fn add_addresses(&self, namespace: &str, host: impl Fn(Family) -> IpAddr) -> Result<()> {
        for family in [Family::Ipv4, Family::Ipv6] {
            let address = family.cidr(host(family));
            let mut words = vec!["ip", "-n", namespace, "address", "add", &address, "dev", INTERFACE];
            // Nobody else can have it, and it is needed at once.
            words.extend((family == Family::Ipv6).then_some("nodad"));
            command(&words)?;
        }
        Ok(())
    }

    /// Makes it a network for TCP: every frame as it would be on a wire, with its checksum and no larger than the
    /// MTU; a congestion control that does not pace; nothing remembered from one connection to the next; ports
    /// enough for many short connections. Says the generator's addresses.
    ///
    /// # Errors
    /// What `ip`, `ethtool` and `sysctl` say.
    pub(crate) fn prepare_for_tcp(&self) -> Result<Vec<IpAddr>> {
        for namespace in [&self.client, &self.server] {
            let inside = ["ip", "netns", "exec", namespace];
            let offloads = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
            command(&[&inside[..], &["ethtool", "-K", INTERFACE], &offloads].concat())?;
            let settings = ["net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_no_metrics_save=1"];
            command(&[&inside[..], &["sysctl", "-qw"], &settings].concat())?;
        }
        command(&["ip", "netns", "exec", &self.client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"])?;
        for last in CLIENT_FURTHER {
            self.add_addresses(&self.client, |family| family.host(last))?;
        }
        let family = self.shape.family;
        Ok([1].into_iter().chain(CLIENT_FURTHER).map(|last| family.host(last)).collect())
    }

    /// Makes the client's sockets compute checksums, as they stand in live frames: without it the engine would have to
    /// fill in what the kernel's servers need not look at.
    ///
    /// # Errors
    /// What `ethtool` says.
    pub(crate) fn with_checksums(&self) -> Result<()> {
        command(&["ip", "netns", "exec", &self.client, "ethtool", "-K", INTERFACE, "tx", "off"])
    }

    /// Gives the server's address to its kernel, or takes it away for an engine that owns it alone.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn set_kernel_owns_address(&self, owns: bool) -> Result<()> {
        command(&["ip", "-n", &self.server, "address", "flush", "dev", INTERFACE])?;
        if owns {
            self.add_addresses(&self.server, Family::server)?;
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
        own().retain(|name| *name != self.client && *name != self.server);
    }
}

/// Namespaces that this process made and has not removed yet.
static OWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn own() -> MutexGuard<'static, Vec<String>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process made, for an end without another chance to do so.
pub(crate) fn remove_own() {
    for namespace in own().drain(..).filter(|name| Path::new(FOLDER).join(name).exists()) {
        // Whatever is left is removed by the next run.
        let _ = command(&["ip", "netns", "delete", &namespace]);
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

/// Refuses to load a server outside namespaces made for it and this host's loopback, unless its owner said so
/// (`--i-own-this-target`).
///
/// # Errors
/// This thread is somewhere else.
pub(crate) fn check_target(target: IpAddr, owned: bool) -> Result<()> {
    if owned || target.is_loopback() || is_ours()? {
        return Ok(());
    }
    Err(Error::usage(format!(
        "this is not a network namespace made for measuring (named `{PREFIX}...`): a load generator floods. \
         If {target} and the network are yours, say `--i-own-this-target`"
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
