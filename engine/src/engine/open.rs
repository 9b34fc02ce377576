//! What the engine opens: the XDP program on the interface, and a socket with its memory for each queue.

use std::os::fd::BorrowedFd;

use crate::base::Backing;
use crate::config::{Driver, Mode, Settings};
#[cfg(feature = "xsk-rs")]
use crate::device::XskRs;
use crate::device::{AfXdp, BindMode, Granted, RingSizes, SocketConfig};
use crate::link::neighbor::NeighborConfig;
use crate::network::reassembly::ReassemblyConfig;
use crate::nic::LinkFacts;
use crate::stack::held_chunks;
use crate::steer::{Steer, SteerConfig, XdpMode};

use super::EngineError;
use super::plan::Plan;
use super::stack_config::tcp_chunks;

/// Age of a heartbeat at which the XDP program leaves a worker's frames to the kernel: ten times the longest
/// sleep of a worker, and far beyond the stalls of a virtual machine.
const HEARTBEAT_LIMIT_NS: u64 = 1_000_000_000;

/// A queue's device with its memory.
pub(super) enum Opened {
    Rings(AfXdp, crate::base::Umem),
    #[cfg(feature = "xsk-rs")]
    XskRs(XskRs, crate::base::Umem),
}

impl Opened {
    /// The socket, for the map of the XDP program.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Rings(device, _) => device.fd(),
            #[cfg(feature = "xsk-rs")]
            Self::XskRs(device, _) => device.fd(),
        }
    }

    pub(super) fn granted(&self) -> Granted {
        match self {
            Self::Rings(device, _) => device.granted(),
            #[cfg(feature = "xsk-rs")]
            Self::XskRs(device, _) => device.granted(),
        }
    }

    pub(super) fn backing(&self) -> Backing {
        match self {
            Self::Rings(_, umem) => umem.backing(),
            #[cfg(feature = "xsk-rs")]
            Self::XskRs(_, umem) => umem.backing(),
        }
    }
}

/// Loads and attaches the XDP program: natively, or generically where that is asked for or all there is.
pub(super) fn attach(settings: &Settings, facts: &LinkFacts) -> Result<(Steer, XdpMode), EngineError> {
    let config = SteerConfig {
        heartbeat_limit_ns: HEARTBEAT_LIMIT_NS,
        outer_vlan: settings.vlan.map_or(0, |vlan| vlan.outer),
        inner_vlan: settings.vlan.and_then(|vlan| vlan.inner).unwrap_or(0),
        outer_type: settings.vlan.map_or(0, |vlan| vlan.outer_type),
        guard_key: getrandom::u64().map_err(|error| EngineError::System("no random numbers", error.into()))?,
        ..SteerConfig::default()
    };
    if settings.vlan.is_some() && facts.driver == "veth" {
        let name = &facts.name;
        tracing::info!(
            "veth {name} leaves the tags of its frames to its other end: `ethtool -K PEER txvlan off` there"
        );
    }
    let load = |mode| Steer::load(&facts.name, facts.index, mode, facts.queues, config);
    let native = match settings.mode {
        Mode::Generic => None,
        Mode::Auto | Mode::ZeroCopy | Mode::Copy => Some(load(XdpMode::Native)),
    };
    match native {
        Some(Ok(steer)) => Ok((steer, XdpMode::Native)),
        Some(Err(error)) if settings.mode == Mode::Auto && error.is_native_unsupported() => {
            tracing::warn!("{error}; falling back to generic mode, which is slow");
            Ok((load(XdpMode::Generic)?, XdpMode::Generic))
        }
        Some(Err(error)) => Err(error.into()),
        None => Ok((load(XdpMode::Generic)?, XdpMode::Generic)),
    }
}

pub(super) fn open(
    settings: &Settings,
    facts: &LinkFacts,
    plan: &Plan,
    xdp: XdpMode,
    queue: u32,
) -> Result<Opened, EngineError> {
    let mut config = SocketConfig::new(&facts.name, facts.index, queue);
    config.mode = match (settings.mode, xdp) {
        (Mode::ZeroCopy, _) => BindMode::ZeroCopy,
        (Mode::Auto, XdpMode::Native) => BindMode::Auto,
        _ => BindMode::Copy,
    };
    config.rings = RingSizes::all(settings.ring_size);
    config.chunk_size = plan.chunk_size;
    config.multi_buffer = plan.multi_buffer;
    config.huge_pages = settings.huge_pages;
    config.gso = settings.gso;
    let held = held_chunks(&ReassemblyConfig::default(), &NeighborConfig::default());
    config.extra_chunks = tcp_chunks(settings, plan).saturating_add(held);
    match settings.driver {
        Driver::Rings => AfXdp::open(&config).map(|(device, umem)| Opened::Rings(device, umem)).map_err(Into::into),
        #[cfg(feature = "xsk-rs")]
        Driver::XskRs => XskRs::open(&config).map(|(device, umem)| Opened::XskRs(device, umem)).map_err(Into::into),
        #[cfg(not(feature = "xsk-rs"))]
        Driver::XskRs => Err(EngineError::NoXskRs),
    }
}
