//! From what was asked for and what there is to what is done: which queue on which core, in what memory.
//! Pure: it looks at nothing but its arguments.

use std::net::Ipv6Addr;

use ipnet::IpNet;

use crate::base::ChunkSize;
use crate::config::{Driver, IdleMode, Mode, QueueSet, Settings};
use crate::device::{most_mtu, most_mtu_of_chain};
use crate::link::address::link_local;
use crate::network::autoconf::Slaac;
use crate::nic::{LinkFacts, TagStripping};
use crate::transport::udp::ChecksumPolicy;
use crate::wire::ipv6::MIN_MTU;

/// What is going to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for each queue.
    pub workers: Vec<Placement>,
    /// Size of a chunk.
    pub chunk_size: ChunkSize,
    /// Whether a frame may lie in several chunks.
    pub multi_buffer: bool,
    /// The longest IP packet that a chunk takes, or as many chunks as a frame can have, bytes.
    pub most_mtu: u32,
    /// How received UDP and TCP checksums are judged.
    pub checksum: ChecksumPolicy,
    /// Addresses of the engine: those asked for, and a link-local one where IPv6 needs it.
    pub addresses: Vec<IpNet>,
}

/// Where a worker runs and what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Receive queue.
    pub queue: u32,
    /// Core that the worker is pinned to.
    pub core: usize,
}

/// What was asked for cannot be done on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The interface has fewer queues.
    #[error(
        "{interface} has no queue {queue}: it has {queues}, numbered from 0 (`ethtool -l {interface}`); \
         give --queues all, or other ones"
    )]
    NoSuchQueue {
        /// Name of the interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// Queues that there are.
        queues: u32,
    },
    /// There is no such core, or it is not ours to use.
    #[error("core {core} is not available to this process, which may use {available:?}: give other --cores")]
    NoSuchCore {
        /// The core asked for.
        core: usize,
        /// Cores that there are.
        available: Vec<usize>,
    },
    /// Fewer cores named than queues.
    #[error("{workers} queues need as many cores, and --cores names {cores}: name more, or choose --queues")]
    TooFewCores {
        /// Workers.
        workers: usize,
        /// Cores named.
        cores: usize,
    },
    /// Spinning workers would leave nothing to the rest of the system.
    #[error(
        "{workers} spinning workers need {} cores, and there are {cores}: a core has to be left to the system. \
         Use --idle adaptive or poll, or serve fewer --queues", .workers + 1
    )]
    SpinTakesAllCores {
        /// Workers.
        workers: usize,
        /// Cores available.
        cores: usize,
    },
    /// The interface's frames do not fit into as many chunks as a frame can have.
    #[error(
        "the MTU of {interface}, {mtu}, is larger than the {most} that the engine takes in this mode: \
         `ip link set {interface} mtu {most}`"
    )]
    MtuTooLarge {
        /// Name of the interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The longest possible.
        most: u32,
    },
    /// They do not fit into one, and the driver library takes only such.
    #[error(
        "the MTU of {interface}, {mtu}, needs frames of several chunks, whose places --driver xsk-rs cannot describe: use \
         --driver rings, or `ip link set {interface} mtu {most}`"
    )]
    NoMultiBuffer {
        /// Name of the interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The longest for which a chunk does.
        most: u32,
    },
    /// The NIC takes out the tags that frames are told apart by.
    #[error(
        "{interface} takes VLAN tags out of frames before the engine sees them, so that --vlan would find none: \
         `ethtool -K {interface} rxvlan off`"
    )]
    TagsTakenOut {
        /// Name of the interface.
        interface: String,
    },
    /// It cannot be told to leave them in.
    #[error(
        "{interface} takes VLAN tags out of frames before the engine sees them, and its driver cannot be told not to \
         (`ethtool -k {interface}`): leave --vlan out, and have the switch send the VLAN untagged"
    )]
    TagsAlwaysTakenOut {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel has the address.
    #[error(
        "{address} is an address of this host's own kernel: give --address one that no host has, \
         or `ip address del` it first"
    )]
    KernelHasAddress {
        /// The address.
        address: std::net::IpAddr,
    },
}

impl Plan {
    /// Makes a plan. `cores` are those that the process may run on.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(settings: &Settings, facts: &LinkFacts, cores: &[usize]) -> Result<Self, PlanError> {
        for address in &settings.addresses {
            let address = address.addr();
            if facts.kernel_addresses.contains(&address) {
                return Err(PlanError::KernelHasAddress { address });
            }
        }
        if settings.vlan.is_some() {
            check_tags(facts)?;
        }
        let queues = queues(settings, facts)?;
        let workers = place(&queues, settings, cores)?;
        let Layout { chunk_size, multi_buffer, most_mtu } = layout(settings, facts)?;
        let virtual_link =
            matches!(facts.driver.as_str(), "veth" | "virtio_net" | "tun" | "bridge" | "macvlan" | "vmxnet3" | "");
        let by_kind = if virtual_link { ChecksumPolicy::AcceptPartial } else { ChecksumPolicy::Verify };
        let checksum = settings.udp_checksum.unwrap_or(by_kind);
        let addresses = with_link_local(settings, facts);
        Ok(Self { workers, chunk_size, multi_buffer, most_mtu, checksum, addresses })
    }
}

/// What is to be said where IPv6 is spoken on an MTU that it is not made for. RFC 8200, section 5: IPv6 requires that every link
/// in the Internet have an MTU of 1280 octets or greater.
pub(super) fn too_small_for_ipv6(addresses: &[IpNet], interface: &str, mtu: u32) -> Option<String> {
    let speaks_ipv6 = addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
    (speaks_ipv6 && (mtu as usize) < MIN_MTU).then(|| {
        format!(
            "the MTU of {interface} is {mtu}, and IPv6 needs {MIN_MTU} on every link: what is longer is lost. \
             `ip link set {interface} mtu {MIN_MTU}`, or leave the addresses of IPv6 out"
        )
    })
}

/// RFC 4291, section 2.8: a host has a link-local address for each interface.
fn with_link_local(settings: &Settings, facts: &LinkFacts) -> Vec<IpNet> {
    let addresses = &settings.addresses;
    let mut of_v6 = addresses.iter().filter_map(|prefix| match prefix {
        IpNet::V6(prefix) => Some(prefix.addr()),
        IpNet::V4(_) => None,
    });
    let has_one = of_v6.clone().any(|address| address.is_unicast_link_local());
    // RFC 4862, section 4: a node that makes addresses of prefixes begins with a link-local one.
    let hears_routers =
        settings.accept_ra || settings.slaac != Slaac::Off || settings.groups.iter().any(|g| !g.is_v4());
    let first = of_v6.next().or(hears_routers.then_some(Ipv6Addr::UNSPECIFIED));
    let own = first.filter(|_| !has_one).map(|first| IpNet::from(link_local(facts.mac, first)));
    addresses.iter().copied().chain(own).collect()
}

/// That VLAN tags are in the frames that the XDP program sees.
///
/// veth says that it takes them out, and does nothing with them: whether a tag is in the frame is up to its other end,
/// which leaves it beside unless told `txvlan off`. Seen with 6.18, in native and in generic mode.
fn check_tags(facts: &LinkFacts) -> Result<(), PlanError> {
    let interface = facts.name.clone();
    match facts.tag_stripping {
        _ if facts.driver == "veth" => Ok(()),
        TagStripping::Off => Ok(()),
        TagStripping::On => Err(PlanError::TagsTakenOut { interface }),
        TagStripping::Fixed => Err(PlanError::TagsAlwaysTakenOut { interface }),
    }
}

fn queues(settings: &Settings, facts: &LinkFacts) -> Result<Vec<u32>, PlanError> {
    let queues = match &settings.queues {
        QueueSet::All => (0..facts.queues).collect(),
        QueueSet::Some(queues) => queues.clone(),
    };
    match queues.iter().find(|&&queue| queue >= facts.queues) {
        Some(&queue) => Err(PlanError::NoSuchQueue { interface: facts.name.clone(), queue, queues: facts.queues }),
        None => Ok(queues),
    }
}

/// Gives each queue a core: those named, or the last ones, for the first ones serve most of the system.
fn place(queues: &[u32], settings: &Settings, cores: &[usize]) -> Result<Vec<Placement>, PlanError> {
    let workers = queues.len();
    if settings.idle == IdleMode::Spin && workers + 1 > cores.len() {
        return Err(PlanError::SpinTakesAllCores { workers, cores: cores.len() });
    }
    let chosen: Vec<usize> = match &settings.cores {
        Some(named) => {
            if let Some(&core) = named.iter().find(|core| !cores.contains(core)) {
                return Err(PlanError::NoSuchCore { core, available: cores.to_vec() });
            }
            if named.len() < workers {
                return Err(PlanError::TooFewCores { workers, cores: named.len() });
            }
            named.clone()
        }
        None => cores.iter().rev().copied().cycle().take(workers).collect(),
    };
    Ok(queues.iter().zip(chosen).map(|(&queue, core)| Placement { queue, core }).collect())
}

/// How frames lie in memory.
struct Layout {
    chunk_size: ChunkSize,
    multi_buffer: bool,
    most_mtu: u32,
}

/// The smallest chunk that holds the interface's frames, or as many of the large ones as they take; and the longest IP
/// packet that then has a place.
///
/// Where the NIC itself writes, drivers round the chunk's room down to whole KiB, and only a page is safe. Where the
/// kernel copies, half a page does for an MTU of 1,500. Whether a driver can spread a frame over chunks it says when a
/// socket asks for it; the kernel, which copies, can.
fn layout(settings: &Settings, facts: &LinkFacts) -> Result<Layout, PlanError> {
    use ChunkSize::{Bytes2048, Bytes4096};
    let zero_copy = !matches!(settings.mode, Mode::Copy | Mode::Generic) && facts.driver != "veth";
    let of_one = |chunk_size| Layout { chunk_size, multi_buffer: false, most_mtu: most_mtu(chunk_size, zero_copy) };
    if !zero_copy && facts.mtu <= most_mtu(Bytes2048, zero_copy) {
        return Ok(of_one(Bytes2048));
    }
    if facts.mtu <= most_mtu(Bytes4096, zero_copy) {
        return Ok(of_one(Bytes4096));
    }
    let (interface, mtu, most) = (facts.name.clone(), facts.mtu, most_mtu_of_chain(Bytes4096, zero_copy));
    if settings.driver == Driver::XskRs {
        return Err(PlanError::NoMultiBuffer { interface, mtu, most: most_mtu(Bytes4096, zero_copy) });
    }
    if mtu > most {
        return Err(PlanError::MtuTooLarge { interface, mtu, most });
    }
    Ok(Layout { chunk_size: Bytes4096, multi_buffer: true, most_mtu: most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::wire::ethernet::Mac;

    fn settings(more: &str) -> Settings {
        let text = format!("interface = 'bw0'\naddress = ['10.0.0.2/24']\n{more}");
        toml::from_str::<Options>(&text).unwrap().resolve().unwrap()
    }

    fn facts(queues: u32, mtu: u32, driver: &str) -> LinkFacts {
        LinkFacts {
            name: "bw0".into(),
            index: 1,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu,
            up: true,
            carrier: true,
            driver: driver.into(),
            queues,
            spreading: None,
            tag_stripping: TagStripping::Off,
            kernel_addresses: vec![],
        }
    }

    fn plan(more: &str, queues: u32, cores: &[usize]) -> Result<Vec<(u32, usize)>, PlanError> {
        let plan = Plan::new(&settings(more), &facts(queues, 1500, "veth"), cores)?;
        Ok(plan.workers.iter().map(|worker| (worker.queue, worker.core)).collect())
    }

    #[test]
    fn every_queue_gets_a_core_from_the_last_one_down() {
        assert_eq!(plan("", 2, &[0, 1, 2]), Ok(vec![(0, 2), (1, 1)]));
        assert_eq!(plan("", 3, &[0, 1]), Ok(vec![(0, 1), (1, 0), (2, 1)]), "sleeping workers may share");
        assert_eq!(plan("queues = '1'\ncores = '0'", 2, &[0, 1]), Ok(vec![(1, 0)]));
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused() {
        assert!(matches!(plan("queues = '2'", 2, &[0, 1]), Err(PlanError::NoSuchQueue { queue: 2, queues: 2, .. })));
        assert!(matches!(plan("cores = '7'", 1, &[0, 1]), Err(PlanError::NoSuchCore { core: 7, .. })));
        assert!(matches!(plan("cores = '1'", 2, &[0, 1]), Err(PlanError::TooFewCores { workers: 2, cores: 1 })));
    }

    #[test]
    fn spinning_leaves_a_core_to_the_system() {
        let spin = |queues| plan("idle = 'spin'", queues, &[0, 1]);
        assert!(spin(1).is_ok());
        assert_eq!(spin(2), Err(PlanError::SpinTakesAllCores { workers: 2, cores: 2 }));
    }

    #[test]
    fn an_address_of_the_kernel_is_refused() {
        let mut facts = facts(1, 1500, "veth");
        facts.kernel_addresses = vec!["10.0.0.2".parse().unwrap()];
        assert!(matches!(Plan::new(&settings(""), &facts, &[0]), Err(PlanError::KernelHasAddress { .. })));
    }

    #[test]
    fn an_mtu_that_is_too_small_for_ipv6_is_told_where_that_is_spoken() {
        let v4 = ["10.0.0.2/24".parse().unwrap()];
        let both = [v4[0], "fd00::2/64".parse().unwrap()];
        assert_eq!(too_small_for_ipv6(&v4, "bw0", 300), None);
        assert_eq!(too_small_for_ipv6(&both, "bw0", 1280), None);
        let warning = too_small_for_ipv6(&both, "bw0", 1279).unwrap();
        assert!(warning.contains("is 1279") && warning.contains("`ip link set bw0 mtu 1280`"), "{warning}");
    }

    #[test]
    fn a_vlan_needs_a_driver_that_leaves_tags_in() {
        let plan = |more, driver, tag_stripping| {
            Plan::new(&settings(more), &LinkFacts { tag_stripping, ..facts(1, 1500, driver) }, &[0])
        };
        let tagged = |driver, tag_stripping| plan("vlan = '5'", driver, tag_stripping);
        assert!(tagged("igb", TagStripping::Off).is_ok());
        assert!(tagged("veth", TagStripping::On).is_ok());
        let error = tagged("igb", TagStripping::On).unwrap_err().to_string();
        assert!(error.contains("`ethtool -K bw0 rxvlan off`"), "{error}");
        let error = tagged("hv_netvsc", TagStripping::Fixed).unwrap_err().to_string();
        assert!(error.contains("leave --vlan out"), "{error}");
        assert!(plan("", "igb", TagStripping::On).is_ok(), "untagged frames have none");
    }

    #[test]
    fn frames_have_a_place_in_one_chunk_or_in_several_or_the_mtu_is_refused() {
        use ChunkSize::{Bytes2048, Bytes4096};
        let layout = |mode: &str, mtu, driver| {
            let plan = Plan::new(&settings(&format!("mode = '{mode}'")), &facts(1, mtu, driver), &[0]);
            plan.map(|plan| (plan.chunk_size, plan.multi_buffer, plan.most_mtu))
        };
        assert_eq!(layout("auto", 1500, "veth"), Ok((Bytes2048, false, 1766)));
        assert_eq!(layout("copy", 1766, "igb"), Ok((Bytes2048, false, 1766)));
        assert_eq!(layout("copy", 1767, "igb"), Ok((Bytes4096, false, 3814)));
        assert_eq!(layout("copy", 3814, "igb"), Ok((Bytes4096, false, 3814)));
        assert_eq!(layout("copy", 3815, "igb"), Ok((Bytes4096, true, 61_414)));
        assert_eq!(layout("auto", 9000, "veth"), Ok((Bytes4096, true, 61_414)));
        assert_eq!(
            layout("zero-copy", 1500, "igb"),
            Ok((Bytes4096, false, 3046)),
            "2,048 would cut frames above 1,024"
        );
        assert_eq!(layout("auto", 3046, "igb"), Ok((Bytes4096, false, 3046)));
        assert_eq!(layout("auto", 9000, "i40e"), Ok((Bytes4096, true, 24_550)));
        let error = Plan::new(&settings("driver = 'xsk-rs'"), &facts(1, 9000, "veth"), &[0]).unwrap_err().to_string();
        assert!(error.contains("--driver rings") && error.contains("mtu 3814"), "{error}");
        assert!(matches!(layout("copy", 65_535, "veth"), Err(PlanError::MtuTooLarge { most: 61_414, .. })));
    }

    #[test]
    fn partial_checksums_are_taken_only_where_no_wire_was() {
        let policy = |driver, more| Plan::new(&settings(more), &facts(1, 1500, driver), &[0]).unwrap().checksum;
        assert_eq!(policy("veth", ""), ChecksumPolicy::AcceptPartial);
        assert_eq!(policy("macvlan", ""), ChecksumPolicy::AcceptPartial);
        assert_eq!(policy("igb", ""), ChecksumPolicy::Verify);
        assert_eq!(policy("igb", "udp-checksum = 'trust'"), ChecksumPolicy::Trust);
    }
}
