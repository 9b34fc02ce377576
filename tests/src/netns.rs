//! Network namespaces for tests: made with `ip`, entered by a thread, removed on drop.
//!
//! ```text
//!  namespace bw-<pid>-<n>-near            namespace bw-<pid>-<n>-far
//!      near0  <------------ veth ------------>  far0
//!      the engine's end                         the peer's end
//!
//! or, for a test that carries the frames itself,
//!
//!      near0  <-- veth -->  near1  ...  far1  <-- veth -->  far0
//!                       namespace bw-<pid>-<n>-between
//! ```
//!
//! Nothing outside these namespaces is touched. Names carry the process id; a namespace whose process is
//! gone (killed before it could clean up) is removed when the next one is made, and what runs in it is killed.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{io, mem, thread};

/// Runs a command and gives its standard output.
///
/// # Panics
/// If it cannot be run or fails: with the command and what it said.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let line = || format!("`{program} {}`", arguments.join(" "));
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; is it installed?", line()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed: {error}", line());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A network namespace, removed on drop with everything in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace without addresses and without IPv6, so that nobody sends anything uninvited.
    ///
    /// # Panics
    /// Without root, and if `ip` fails.
    #[must_use]
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // SAFETY: asks for a number.
        assert_eq!(unsafe { libc::geteuid() }, 0, "this test makes network namespaces: run it as root (sudo)");
        remove_abandoned();
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespace = Self { name: format!("bw-{pid}-{count}-{label}") };
        run("ip", &["netns", "add", &namespace.name]);
        namespace.enter(|| {
            let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            // A kernel without IPv6 has nothing to switch off.
            if Path::new(path).exists() {
                std::fs::write(path, "1").unwrap();
            }
        });
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Has an interface speak IPv6: with a link-local address and what is said to all nodes, but without asking for
    /// routers, and with every address usable at once.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn speak_ipv6(&self, interface: &str) {
        let settings = [("accept_ra", "0"), ("router_solicitations", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")];
        self.enter(|| {
            for (name, value) in settings {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"), value).unwrap();
            }
        });
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Runs `work` on a thread of its own within the namespace, and waits for it.
    ///
    /// # Panics
    /// As `work` does.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let result = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
                // SAFETY: a plain system call; it concerns only this thread, which ends with the work.
                let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns {}: {}", self.name, io::Error::last_os_error());
                work()
            });
            thread.join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs `work` on a thread that lacks a capability (a `CAP_` number of `<linux/capability.h>`).
///
/// # Panics
/// As `work` does.
pub fn without_capability<R: Send>(capability: u32, work: impl FnOnce() -> R + Send) -> R {
    /// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
    const VERSION: u32 = 0x2008_0522;
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let header = [VERSION, 0];
            // Of each word: effective, permitted, inheritable.
            let mut sets = [[0_u32; 3]; 2];
            // SAFETY: header and sets have the layout of version 3, and live; it concerns only this thread.
            let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
            assert_eq!(got, 0, "capget: {}", io::Error::last_os_error());
            sets[capability as usize / 32][0] &= !(1 << (capability % 32));
            // SAFETY: as above.
            let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
            assert_eq!(set, 0, "capset: {}", io::Error::last_os_error());
            work()
        });
        thread.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Lowers the process's soft limit of locked memory, which concerns those without `CAP_IPC_LOCK`.
///
/// # Panics
/// If the kernel refuses.
pub fn limit_locked_memory(bytes: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a live struct.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    assert_eq!(result, 0, "getrlimit: {}", io::Error::last_os_error());
    limit.rlim_cur = limit.rlim_max.min(bytes);
    // SAFETY: as above.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    assert_eq!(result, 0, "setrlimit: {}", io::Error::last_os_error());
}

/// Removes namespaces of processes that were killed.
fn remove_abandoned() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix("bw-").and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid.filter(|pid: &u32| !Path::new(&format!("/proc/{pid}")).exists()) {
            // What it started there, an engine say, would go on without it.
            let left = Command::new("ip").args(["netns", "pids", &name]).output();
            let left = left.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            for pid in left.split_whitespace() {
                let _ = Command::new("kill").args(["-s", "KILL", pid]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
            eprintln!("removed namespace {name} of process {pid}, which is gone");
        }
    }
}

/// Two namespaces joined by a veth pair, both ends up.
#[derive(Debug)]
pub struct Veth {
    /// Where the engine is, on interface [`Veth::NEAR`].
    pub near: Namespace,
    /// Where its peer is, on interface [`Veth::FAR`].
    pub far: Namespace,
    /// Where somebody has to carry frames from [`Veth::NEAR_OTHER`] to [`Veth::FAR_OTHER`] and back, if the two
    /// are not joined.
    pub between: Option<Namespace>,
}

impl Veth {
    /// The engine's end.
    pub const NEAR: &'static str = "near0";
    /// The peer's end.
    pub const FAR: &'static str = "far0";
    /// MAC address of the engine's end.
    pub const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    /// MAC address of the peer's end.
    pub const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// What [`Veth::NEAR`] is joined with, where there is something between.
    pub const NEAR_OTHER: &'static str = "near1";
    /// What [`Veth::FAR`] is joined with, where there is something between.
    pub const FAR_OTHER: &'static str = "far1";

    /// A pair with `queues` queues each way and an MTU of 1,500.
    ///
    /// # Panics
    /// As [`Namespace::new`].
    #[must_use]
    pub fn new(queues: u32) -> Self {
        let (near, far) = (Namespace::new("near"), Namespace::new("far"));
        join((&near, Self::NEAR, Self::NEAR_MAC), (&far, Self::FAR, Self::FAR_MAC), queues);
        Self { near, far, between: None }
    }

    /// Two pairs, with a namespace between them where nobody carries frames on yet. All leave checksums and long
    /// segments to nobody, so that what stands between sees frames as they are on a real wire.
    ///
    /// # Panics
    /// As [`Namespace::new`].
    #[must_use]
    pub fn interrupted(queues: u32) -> Self {
        let (near, far, between) = (Namespace::new("near"), Namespace::new("far"), Namespace::new("between"));
        let other_ends = [(Self::NEAR_OTHER, [2, 0, 0, 0, 0, 3]), (Self::FAR_OTHER, [2, 0, 0, 0, 0, 4])];
        let [near_other, far_other] = other_ends.map(|(name, mac)| (&between, name, mac));
        join((&near, Self::NEAR, Self::NEAR_MAC), near_other, queues);
        join((&far, Self::FAR, Self::FAR_MAC), far_other, queues);
        let veth = Self { near, far, between: Some(between) };
        veth.without_offloads();
        veth
    }

    /// Has all ends send and receive frames as they are on a real wire: no checksum left to the receiver, no
    /// segments longer than the MTU.
    pub fn without_offloads(&self) {
        let mut ends = vec![(&self.near, Self::NEAR), (&self.far, Self::FAR)];
        if let Some(between) = &self.between {
            ends.extend([(between, Self::NEAR_OTHER), (between, Self::FAR_OTHER)]);
        }
        for (namespace, interface) in ends {
            let off = ["-K", interface, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
            namespace.enter(|| run("ethtool", &off));
        }
    }

    /// Gives both ends another MTU.
    pub fn set_mtu(&self, mtu: u32) {
        for (namespace, interface) in [(&self.near, Self::NEAR), (&self.far, Self::FAR)] {
            namespace.ip(&["link", "set", interface, "mtu", &mtu.to_string()]);
        }
    }

    /// Index of the engine's interface in its namespace.
    #[must_use]
    pub fn near_index(&self) -> u32 {
        self.near.enter(|| interface_index(Self::NEAR))
    }

    /// A socket at the peer's end that sends and receives whole frames.
    #[must_use]
    pub fn far_socket(&self) -> PacketSocket {
        self.far.enter(|| PacketSocket::new(Self::FAR))
    }

    /// The same, but nothing is received.
    #[must_use]
    pub fn far_socket_to_send(&self) -> PacketSocket {
        self.far.enter(|| PacketSocket::send_only(Self::FAR))
    }

    /// The sockets of whoever carries frames, if the two are not joined: at the engine's side, at the peer's.
    #[must_use]
    pub fn sockets_between(&self) -> Option<[PacketSocket; 2]> {
        let between = self.between.as_ref()?;
        Some(between.enter(|| [Self::NEAR_OTHER, Self::FAR_OTHER].map(PacketSocket::new)))
    }
}

/// Makes a veth pair of two ends, each a namespace, a name and a MAC address, and sets both up.
fn join(one: (&Namespace, &str, [u8; 6]), other: (&Namespace, &str, [u8; 6]), queues: u32) {
    let queues = queues.to_string();
    let mac = |octets: [u8; 6]| octets.map(|octet| format!("{octet:02x}")).join(":");
    let (one_mac, other_mac) = (mac(one.2), mac(other.2));
    one.0.ip(&[
        &["link", "add", one.1, "address", &one_mac, "numtxqueues", &queues, "numrxqueues", &queues][..],
        &["type", "veth", "peer", "name", other.1, "address", &other_mac],
        &["numtxqueues", &queues, "numrxqueues", &queues, "netns", other.0.name()],
    ]
    .concat());
    one.0.ip(&["link", "set", one.1, "up"]);
    other.0.ip(&["link", "set", other.1, "up"]);
}

/// Index of an interface in the calling thread's namespace.
///
/// # Panics
/// If there is none of that name.
#[must_use]
pub fn interface_index(name: &str) -> u32 {
    let c_name = CString::new(name).unwrap();
    // SAFETY: the name is a C string.
    let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    assert_ne!(index, 0, "no interface {name}");
    index
}

/// An AF_PACKET socket on one interface: sends frames, and receives those that come in.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Bytes of frames that may wait to be received, or to be sent: a test's whole window, with the kernel's
    /// overhead.
    const BUFFER_BYTES: libc::c_int = 64 << 20;
    /// `PACKET_IGNORE_OUTGOING`: not to be given what we send ourselves.
    const IGNORE_OUTGOING: libc::c_int = 23;
    /// `PACKET_QDISC_BYPASS`: straight to the driver.
    const QDISC_BYPASS: libc::c_int = 20;

    /// `PACKET_AUXDATA`: to be told about each frame what is not in it.
    const AUXDATA: libc::c_int = 8;

    /// On an interface of the calling thread's namespace.
    ///
    /// # Panics
    /// If there is none of that name, or the kernel gives no socket.
    #[must_use]
    pub fn new(interface: &str) -> Self {
        Self::of_protocol(interface, libc::ETH_P_ALL as u16)
    }

    /// The same, but nothing is received: frames that come in cost nothing.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn send_only(interface: &str) -> Self {
        Self::of_protocol(interface, 0)
    }

    fn of_protocol(interface: &str, protocol: u16) -> Self {
        let protocol = protocol.to_be();
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, Self::BUFFER_BYTES);
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, Self::BUFFER_BYTES);
        socket.set(libc::SOL_PACKET, Self::QDISC_BYPASS, 1);
        socket.set(libc::SOL_PACKET, Self::IGNORE_OUTGOING, 1);
        // SAFETY: all-zero is a value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = interface_index(interface).cast_signed();
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is a live struct of the given length.
        let result = unsafe { libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(result, 0, "bind {interface}: {}", io::Error::last_os_error());
        socket
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the value is live and of the given length.
        let result = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
        assert_eq!(result, 0, "option {name}: {}", io::Error::last_os_error());
    }

    /// Sends one frame.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is live and of the given length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len().cast_signed(), "send: {}", io::Error::last_os_error());
    }

    /// Waits up to `timeout` for a frame, and gives the part of `buffer` that it fills.
    ///
    /// # Panics
    /// If the socket fails.
    pub fn receive<'a>(&self, buffer: &'a mut [u8], timeout: Duration) -> Option<&'a [u8]> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one live pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } == 0 {
            return None;
        }
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffer is live and of the given length.
        let received = unsafe { libc::recv(self.fd.as_raw_fd(), start, len, libc::MSG_DONTWAIT) };
        let received = usize::try_from(received).unwrap_or_else(|_| panic!("recv: {}", io::Error::last_os_error()));
        Some(&buffer[..received])
    }

    /// Has the kernel tell of the tags that it takes out of frames, for [`receive_tagged`](Self::receive_tagged).
    pub fn tell_tags(&self) {
        self.set(libc::SOL_PACKET, Self::AUXDATA, 1);
    }

    /// Waits up to `timeout` for a frame, and gives it as it was on the wire: the kernel takes the outer tag out.
    ///
    /// # Panics
    /// If the socket fails.
    #[must_use]
    pub fn receive_tagged(&self, timeout: Duration) -> Option<Vec<u8>> {
        /// `TP_STATUS_VLAN_VALID`.
        const VALID: u32 = 1 << 4;
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one live pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } == 0 {
            return None;
        }
        let mut frame = vec![0; 1 << 16];
        let mut vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // A `cmsghdr` of 16 bytes and a `tpacket_auxdata` of 20: status, two lengths, two offsets, tag, its EtherType.
        let mut control = [0_u64; 5];
        // SAFETY: all-zero is a header without address, vectors and control data.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (&raw mut vector, 1);
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        // SAFETY: the vector and the control data are live and of the given lengths.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        frame.truncate(usize::try_from(received).unwrap_or_else(|_| panic!("recvmsg: {}", io::Error::last_os_error())));
        let told = control.map(u64::to_ne_bytes).concat();
        if u32::from_ne_bytes([told[16], told[17], told[18], told[19]]) & VALID != 0 {
            let [tag, kind] = [32, 34].map(|at| u16::from_ne_bytes([told[at], told[at + 1]]).to_be_bytes());
            frame.splice(12..12, [kind[0], kind[1], tag[0], tag[1]]);
        }
        Some(frame)
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
