//! Loads the XDP program, attaches it to an interface, and keeps its maps: which addresses the engine owns,
//! which socket serves which queue, whether the workers live, and what the program decided.
//!
//! Order of use: [`Steer::load`], then [`set_socket`](Steer::set_socket) for each queue, a first
//! [`beat`](HeartbeatWriter::beat) if there is a limit, then [`own`](Steer::own) for each address. From then on
//! frames arrive. Until a queue has a socket the kernel gets its frames.
//!
//! What is sent to groups and broadcast addresses concerns the kernel as well. Of those that the engine
//! [listens to](Steer::listen) it gets copies, which wait for [`HeardReader::read`] beside the packet path.
//!
//! The attachment is a `bpf_link`: the kernel undoes it when the process ends, however it ends. Dropping
//! [`Steer`] undoes it at once.

mod error;
mod groups;

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader};
use barewire_ebpf as program;

use crate::base::Instant;
use crate::wire::ethernet;
use error::{attach_error, load_error, os_error};
use groups::Groups;

pub use barewire_ebpf::{GroupUse, HEARD_MAX, Heard, MAX_ADDRESSES, MAX_GROUPS, SteerConfig, Verdict};
pub use error::SteerError;
pub use groups::HeardReader;

/// IEEE 802.1Q: 12 bits, of which all ones are reserved.
const VLAN_ID_MAX: u16 = 4094;

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes a socket buffer of the frame.
    Native,
    /// In the network stack, on any interface; slow.
    Generic,
}

impl XdpMode {
    /// Word for messages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The program, attached to one interface. Dropping it detaches.
pub struct Steer {
    /// First, so that the program is detached before anything else goes.
    _link: FdLink,
    owned_ipv4: HashMap<MapData, [u8; 4], u8>,
    owned_ipv6: HashMap<MapData, [u8; 16], u8>,
    groups: Groups,
    /// Until somebody takes it.
    heard: Option<HeardReader>,
    sockets: XskMap<MapData>,
    heartbeat: MapData,
    guard: MapData,
    verdicts: PerCpuArray<MapData, u64>,
    _ebpf: Ebpf,
}

impl Steer {
    /// Loads the program for `queues` receive queues and attaches it to the interface with index `ifindex` of
    /// the calling thread's network namespace; `interface` is its name for messages.
    ///
    /// # Errors
    ///
    /// Each kind of [`SteerError`] says what to do next. After one that
    /// [is about native mode](SteerError::is_native_unsupported), generic mode may work. Nothing stays attached.
    pub fn load(
        interface: &str,
        ifindex: u32,
        mode: XdpMode,
        queues: u32,
        config: SteerConfig,
    ) -> Result<Self, SteerError> {
        check_vlans(&config)?;
        let mut ebpf = load(queues, config)?;
        let link = attach(&mut ebpf, interface, ifindex, mode)?;
        let (heartbeat, guard) = (array(&mut ebpf, program::HEARTBEAT)?, array(&mut ebpf, program::GUARD)?);
        Ok(Self {
            owned_ipv4: typed(&mut ebpf, program::OWNED_IPV4)?,
            owned_ipv6: typed(&mut ebpf, program::OWNED_IPV6)?,
            groups: Groups { map: typed(&mut ebpf, program::GROUPS)? },
            heard: Some(HeardReader { ring: typed(&mut ebpf, program::HEARD)? }),
            sockets: typed(&mut ebpf, program::SOCKETS)?,
            heartbeat,
            guard,
            verdicts: typed(&mut ebpf, program::VERDICTS)?,
            _link: link,
            _ebpf: ebpf,
        })
    }

    /// Takes over what is sent to `address`, and the ARP or neighbor discovery about it. Owning it twice is
    /// the same as once.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotUnicast`], [`SteerError::TooManyAddresses`], or [`SteerError::Map`].
    pub fn own(&mut self, address: IpAddr) -> Result<(), SteerError> {
        if !is_unicast(address) {
            return Err(SteerError::NotUnicast { address });
        }
        let result = match address {
            IpAddr::V4(address) => self.owned_ipv4.insert(address.octets(), 1, 0),
            IpAddr::V6(address) => self.owned_ipv6.insert(address.octets(), 1, 0),
        };
        result.map_err(|error| match os_error(&error) {
            Some(libc::E2BIG) => SteerError::TooManyAddresses,
            _ => SteerError::Map { action: "add an address to", source: error },
        })
    }

    /// Leaves `address` to the kernel again. One that is not owned is left alone.
    ///
    /// # Errors
    ///
    /// [`SteerError::Map`].
    pub fn disown(&mut self, address: IpAddr) -> Result<(), SteerError> {
        let result = match address {
            IpAddr::V4(address) => self.owned_ipv4.remove(&address.octets()),
            IpAddr::V6(address) => self.owned_ipv6.remove(&address.octets()),
        };
        ignore_absent(result).map_err(|source| SteerError::Map { action: "remove an address from", source })
    }

    /// Takes part in what is sent to `address`, a multicast group or a broadcast address: by copies, or alone, as a
    /// group can be taken that only an application of the engine's has joined. The last word about an address counts.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotAGroup`]; [`SteerError::KernelsToo`] for taking alone what every host has to hear;
    /// [`SteerError::TooManyGroups`], or [`SteerError::Map`].
    pub fn listen(&mut self, address: IpAddr, group_use: GroupUse) -> Result<(), SteerError> {
        self.groups.listen(address, group_use)
    }

    /// Leaves what is sent to the group or broadcast address `address` to the kernel. One that is not listened to is
    /// left alone.
    ///
    /// # Errors
    ///
    /// [`SteerError::Map`].
    pub fn ignore(&mut self, address: IpAddr) -> Result<(), SteerError> {
        self.groups.ignore(address)
    }

    /// What reads the copies. The ring has one reader, so it is there once, and `None` from then on.
    pub const fn heard(&mut self) -> Option<HeardReader> {
        self.heard.take()
    }

    /// Gives the owned frames of receive queue `queue` to the AF_XDP socket `fd`, which has to be bound to
    /// that very queue: the kernel drops what is redirected to a socket of another one, uncounted.
    ///
    /// # Errors
    ///
    /// [`SteerError::NoSuchQueue`] or [`SteerError::Map`].
    pub fn set_socket(&mut self, queue: u32, fd: impl AsRawFd) -> Result<(), SteerError> {
        self.check_queue(queue)?;
        self.sockets.set(queue, fd, 0).map_err(|source| SteerError::Map { action: "put a socket into", source })
    }

    /// Leaves the frames of receive queue `queue` to the kernel. A queue without socket is left alone.
    ///
    /// # Errors
    ///
    /// [`SteerError::NoSuchQueue`] or [`SteerError::Map`].
    pub fn unset_socket(&mut self, queue: u32) -> Result<(), SteerError> {
        self.check_queue(queue)?;
        ignore_absent(self.sockets.unset(queue))
            .map_err(|source| SteerError::Map { action: "remove a socket from", source })
    }

    /// Frames by verdict since the program was loaded, indexed by [`Verdict::index`].
    ///
    /// # Errors
    ///
    /// [`SteerError::Map`].
    pub fn verdicts(&self) -> Result<[u64; Verdict::COUNT], SteerError> {
        let mut frames = [0; Verdict::COUNT];
        for (verdict, sum) in Verdict::ALL.iter().zip(&mut frames) {
            let by_cpu =
                self.verdicts.get(&verdict.index(), 0).map_err(|source| SteerError::Map { action: "read", source })?;
            *sum = by_cpu.iter().sum();
        }
        Ok(frames)
    }

    /// What the worker of receive queue `queue` shows with that it lives.
    ///
    /// # Errors
    ///
    /// [`SteerError::NoSuchQueue`], or [`SteerError::Map`] if there is no file descriptor left.
    pub fn heartbeat(&self, queue: u32) -> Result<HeartbeatWriter, SteerError> {
        self.check_queue(queue)?;
        let share = |map| share(map).map_err(|source| SteerError::Map { action: "share", source });
        Ok(HeartbeatWriter { queue, map: share(&self.heartbeat)?, guard: share(&self.guard)? })
    }

    fn check_queue(&self, queue: u32) -> Result<(), SteerError> {
        let queues = self.sockets.len();
        if queue < queues { Ok(()) } else { Err(SteerError::NoSuchQueue { queue, queues }) }
    }
}

/// Writes what the program knows of the worker of one receive queue: its heartbeat, and its guard. Belongs to its worker's thread, off the packet path.
pub struct HeartbeatWriter {
    queue: u32,
    map: Array<MapData, u64>,
    guard: Array<MapData, u64>,
}

impl HeartbeatWriter {
    /// Says that the worker lived at `now`: one system call, no allocation. Due several times per
    /// `heartbeat_limit_ns`, or the kernel gets the frames.
    ///
    /// # Errors
    ///
    /// [`SteerError::Map`]: the kernel refused.
    pub fn beat(&mut self, now: Instant) -> Result<(), SteerError> {
        self.map
            .set(self.queue, now.as_ns(), 0)
            .map_err(|source| SteerError::Map { action: "write a heartbeat into", source })
    }

    /// Raises the queue's guard until `until`: of connection requests only those get through that come again.
    ///
    /// # Errors
    ///
    /// [`SteerError::Map`]: the kernel refused.
    pub fn raise_guard(&mut self, until: Instant) -> Result<(), SteerError> {
        self.guard
            .set(self.queue, until.as_ns(), 0)
            .map_err(|source| SteerError::Map { action: "raise a guard in", source })
    }
}

fn check_vlans(config: &SteerConfig) -> Result<(), SteerError> {
    let (outer, inner) = (config.outer_vlan, config.inner_vlan);
    if outer > VLAN_ID_MAX || inner > VLAN_ID_MAX || (outer == 0 && inner != 0) {
        return Err(SteerError::Vlan { outer, inner });
    }
    if outer != 0 && !matches!(config.outer_type, ethernet::VLAN | ethernet::SERVICE_VLAN) {
        return Err(SteerError::VlanType(config.outer_type));
    }
    Ok(())
}

/// Creates the maps and loads the program, attached to nothing yet.
fn load(queues: u32, config: SteerConfig) -> Result<Ebpf, SteerError> {
    let config = config.to_bytes();
    let mut ebpf = EbpfLoader::new()
        // The program asks nothing about kernel types, and reading the kernel's BTF takes time.
        .btf(None)
        .override_global(program::CONFIG, &config[..], true)
        .map_max_entries(program::SOCKETS, queues)
        .map_max_entries(program::HEARTBEAT, queues)
        .map_max_entries(program::GUARD, queues)
        .load(program::STEER_OBJECT)
        .map_err(load_error)?;
    xdp(&mut ebpf)?.load().map_err(|error| load_error(error.into()))?;
    Ok(ebpf)
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, SteerError> {
    let program = ebpf.program_mut(program::PROGRAM).ok_or(SteerError::Object { name: program::PROGRAM })?;
    program.try_into().map_err(|_| SteerError::Object { name: program::PROGRAM })
}

/// Takes a map out of the object as what it is.
fn typed<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, SteerError> {
    let map = ebpf.take_map(name).ok_or(SteerError::Object { name })?;
    map.try_into().map_err(|_| SteerError::Object { name })
}

/// A map that is shared out to the workers.
fn array(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, SteerError> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(SteerError::Object { name }),
    }
}

fn attach(ebpf: &mut Ebpf, interface: &str, ifindex: u32, mode: XdpMode) -> Result<FdLink, SteerError> {
    let xdp = xdp(ebpf)?;
    let flags = match mode {
        XdpMode::Native => aya::programs::XdpMode::Driver,
        XdpMode::Generic => aya::programs::XdpMode::Skb,
    };
    let failed = |error| attach_error(interface, mode, error);

    let id = xdp.attach_to_if_index(ifindex, flags).map_err(failed)?;
    let link = xdp.take_link(id).map_err(failed)?;
    if let Ok(link) = FdLink::try_from(link) {
        return Ok(link);
    }
    // When the kernel answers EINVAL, aya attaches by netlink instead, which would outlive the process. The
    // conversion has swallowed the handle, so attach once more (the program replaces itself) to detach.
    let id = xdp.attach_to_if_index(ifindex, flags).map_err(failed)?;
    xdp.detach(id).map_err(failed)?;
    Err(SteerError::NotALink { interface: interface.into() })
}

/// Another handle of a map, for another thread.
fn share(map: &MapData) -> Result<Array<MapData, u64>, MapError> {
    let map = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?;
    Map::Array(map).try_into()
}

/// Removing what is not there is no error.
fn ignore_absent(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback(),
    }
}
