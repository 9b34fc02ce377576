//! What can go wrong with the XDP program, told apart by what the operator has to do.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::xdp::XdpError;
use aya::util::KernelVersion;

use super::{MAX_ADDRESSES, MAX_GROUPS, XdpMode};

/// The first kernel with `xdp.frags` programs. Distributions that carry them to older ones are not turned
/// away: the version only explains a failure.
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 18, 0);

/// Why steering does not work, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The VLAN ids make no sense.
    #[error("VLAN ids {outer} and {inner} are not possible: ids go from 1 to 4094, and a second tag needs a first")]
    Vlan {
        /// Id of the first tag.
        outer: u16,
        /// Id of the second tag.
        inner: u16,
    },
    /// The type of a VLAN's tag is none.
    #[error("{0:#06x} is not the type of a VLAN's tag: that is 0x8100 or 0x88a8")]
    VlanType(u16),
    /// The process lacks privileges.
    #[error(
        "no permission to {action}: run with sudo, or give the process CAP_NET_ADMIN, CAP_BPF and CAP_NET_RAW \
         (AmbientCapabilities= in a systemd unit)"
    )]
    Permission {
        /// What was refused.
        action: &'static str,
    },
    /// The kernel lacks what the program needs.
    #[error(
        "this kernel is too old for the XDP program: it needs 5.18 or later, and CONFIG_XDP_SOCKETS ({})",
        with_causes(.source)
    )]
    KernelTooOld {
        /// What it answered.
        source: Box<EbpfError>,
    },
    /// The kernel has no memory for the maps.
    #[error("the kernel has no memory for the maps of the XDP program: free some, or raise the cgroup's memory.max")]
    Memory,
    /// The kernel refused the program for another reason.
    #[error("the kernel does not load the XDP program: {}", with_causes(.source))]
    Load {
        /// What it answered, with the verifier's log if there is one.
        source: Box<EbpfError>,
    },
    /// There is no such interface in this network namespace.
    #[error("there is no interface {interface} in this network namespace: `ip link` lists those that there are")]
    NoSuchInterface {
        /// Its name.
        interface: String,
    },
    /// Another XDP program is attached.
    #[error(
        "another XDP program is attached to {interface}: `ip -d link show dev {interface}` and `bpftool net` show \
         it, `ip link set dev {interface} xdp off` removes it; one that another process holds by a link ends with \
         that process (`bpftool link`)"
    )]
    OtherProgram {
        /// Name of the interface.
        interface: String,
    },
    /// The interface does not do this mode, at least not as it is set up.
    #[error("{interface} does not do native XDP ({reason}): change that, or use --mode generic")]
    NativeUnsupported {
        /// Name of the interface.
        interface: String,
        /// Why, and what could be changed.
        reason: String,
    },
    /// The kernel attached the program, but not by a link; it was detached again.
    #[error(
        "the kernel attaches XDP programs to {interface} only by netlink, so that one would stay behind a crash; \
         it was detached again. A kernel of 5.18 or later attaches by a bpf_link"
    )]
    NotALink {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel refused to attach for another reason.
    #[error("the XDP program cannot be attached to {interface} in {} mode: {}", .mode.name(), with_causes(.source))]
    Attach {
        /// Name of the interface.
        interface: String,
        /// The mode asked for.
        mode: XdpMode,
        /// What it answered.
        source: Box<ProgramError>,
    },
    /// The object lacks something, or has something else under its name.
    #[error("the built-in XDP program has no usable `{name}`: the build is broken, build again")]
    Object {
        /// Name of the map or program.
        name: &'static str,
    },
    /// Only unicast addresses can be owned.
    #[error("{address} cannot be owned: it is not the address of one host")]
    NotUnicast {
        /// The address.
        address: IpAddr,
    },
    /// The table of owned addresses is full.
    #[error("more than {MAX_ADDRESSES} addresses of one IP version cannot be owned on one interface: use fewer")]
    TooManyAddresses,
    /// Only groups and broadcast addresses can be listened to.
    #[error("{address} cannot be listened to: it is neither a multicast group nor a broadcast address")]
    NotAGroup {
        /// The address.
        address: IpAddr,
    },
    /// Every host listens to it.
    #[error("{address} cannot be taken from this host's kernel, which has to hear what all hosts hear: copy it")]
    KernelsToo {
        /// The address.
        address: IpAddr,
    },
    /// The table of groups is full.
    #[error("more than {MAX_GROUPS} groups cannot be listened to on one interface: join fewer")]
    TooManyGroups,
    /// The program was loaded for fewer queues.
    #[error("there is no receive queue {queue}: the XDP program was loaded for queues 0 to {}", .queues.saturating_sub(1))]
    NoSuchQueue {
        /// The queue asked for.
        queue: u32,
        /// Number of queues that there are.
        queues: u32,
    },
    /// The kernel refused access to a map.
    #[error("cannot {action} a map of the XDP program: {}", with_causes(.source))]
    Map {
        /// What was tried.
        action: &'static str,
        /// What the kernel answered.
        source: MapError,
    },
}

impl SteerError {
    /// Whether generic mode may work where native mode did not.
    #[must_use]
    pub const fn is_native_unsupported(&self) -> bool {
        matches!(self, Self::NativeUnsupported { .. })
    }
}

/// Sorts the errors of creating maps and loading the program.
pub(super) fn load_error(error: EbpfError) -> SteerError {
    match os_error(&error) {
        Some(libc::EPERM) => SteerError::Permission { action: "load the XDP program" },
        Some(libc::ENOMEM) => SteerError::Memory,
        _ if KernelVersion::current().is_ok_and(|version| version < OLDEST_KERNEL) => {
            SteerError::KernelTooOld { source: Box::new(error) }
        }
        _ => SteerError::Load { source: Box::new(error) },
    }
}

/// Sorts the errors of attaching the program to an interface.
pub(super) fn attach_error(interface: &str, mode: XdpMode, error: ProgramError) -> SteerError {
    let interface = interface.to_owned();
    let code = match &error {
        ProgramError::XdpError(XdpError::NetlinkError(netlink)) => netlink.raw_os_error(),
        other => os_error(other),
    };
    let native = mode == XdpMode::Native;
    match code {
        Some(libc::EPERM | libc::EACCES) => SteerError::Permission { action: "attach the XDP program" },
        Some(libc::ENODEV) => SteerError::NoSuchInterface { interface },
        // EEXIST: one in the other mode. EBUSY: one in the same mode, by a link or by netlink.
        Some(libc::EBUSY | libc::EEXIST) => SteerError::OtherProgram { interface },
        Some(libc::EOPNOTSUPP) if native => {
            SteerError::NativeUnsupported { interface, reason: "its driver has no support for it".into() }
        }
        // What drivers say of an MTU too large for their buffers (ERANGE: veth), of LRO, of a lack of queues
        // (ENOSPC: veth whose peer has more of them).
        Some(libc::EINVAL | libc::ERANGE | libc::ENOSPC) if native => SteerError::NativeUnsupported {
            interface,
            reason: format!(
                "its driver refuses: {}; an MTU above 1500, LRO, or too few queues are the usual causes",
                with_causes(&error)
            ),
        },
        _ => SteerError::Attach { interface, mode, source: Box::new(error) },
    }
}

/// The number of the system's error at the bottom of `error`, if there is one.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// `error` and what it came from, in one line; aya says the essential only in the last.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    for message in causes(error).map(ToString::to_string) {
        // Some repeat their cause.
        if !messages.last().is_some_and(|last| last.ends_with(&message)) {
            messages.push(message);
        }
    }
    messages.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    fn refused(code: i32) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(code);
        ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error })
    }

    #[test]
    fn only_what_a_driver_cannot_do_is_a_reason_to_fall_back() {
        for (code, falls_back) in [
            (libc::EOPNOTSUPP, true),
            (libc::EINVAL, true),
            (libc::ERANGE, true),
            (libc::ENOSPC, true),
            (libc::EPERM, false),
            (libc::EBUSY, false),
            (libc::EEXIST, false),
            (libc::ENODEV, false),
            (libc::ENOMEM, false),
        ] {
            let error = attach_error("bw0", XdpMode::Native, refused(code));
            assert_eq!(error.is_native_unsupported(), falls_back, "{error}");
            assert!(!attach_error("bw0", XdpMode::Generic, refused(code)).is_native_unsupported());
        }
    }

    #[test]
    fn every_message_says_what_to_do_next() {
        let message = |code| attach_error("bw0", XdpMode::Native, refused(code)).to_string();
        assert!(message(libc::EPERM).contains("sudo"));
        assert!(message(libc::EBUSY).contains("ip link set dev bw0 xdp off"));
        assert!(message(libc::ENODEV).contains("`ip link`"));
        assert!(message(libc::EOPNOTSUPP).contains("--mode generic"));
        assert!(message(libc::ERANGE).contains("MTU"));
        assert!(message(libc::ERANGE).contains("os error 34"), "{}", message(libc::ERANGE));
        assert!(load_error(refused(libc::EPERM).into()).to_string().contains("CAP_BPF"));
        assert!(load_error(refused(libc::ENOMEM).into()).to_string().contains("memory.max"));
    }
}
