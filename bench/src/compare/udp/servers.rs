//! The servers that are compared: how each is started, and what it needs from the namespaces.

use std::net::SocketAddr;
use std::path::Path;

use crate::compare::contestant::Contestant;
use crate::compare::others::{Engine, OtherArgs};
use crate::compare::programs::{ENGINE, GENERATOR_CORE, Programs, SERVER_CORE};
use crate::error::Result;
use crate::netns::{INTERFACE, Shape};
use crate::process::Readiness;
use crate::udp::receiver::Hook;

/// The VLAN of `barewire-vlan`.
const VLAN: u16 = 77;

const RINGS: &str = "rings of 8192 each way, bursts of up to 64";
const SOCKETS: &str =
    "receive and transmit buffer of 40 MiB, 8192 small frames as the kernel charges them; batches of 64";

/// The name of DPDK's forwarder, as a program and in tables.
pub(super) const TESTPMD: &str = "dpdk-testpmd";
/// What has to be installed for `dpdk-testpmd`.
pub(super) const DPDK: &str = "apt install dpdk-dev librte-net-af-xdp23";

/// All of them, in the order of the table.
///
/// # Errors
/// What the command line names is not there.
pub(crate) fn known(programs: &Programs, others: &OtherArgs, shape: Shape) -> Result<Vec<Contestant>> {
    let port = ["--udp-port", "7"];
    let engine = |name, description, driver, ports: &[&str]| Contestant {
        program: Some(ENGINE),
        ..Contestant::new(name, description, RINGS, programs.engine(driver, ports))
    };
    let served = |name, description, buffers| Contestant::new(name, description, buffers, programs.serve(name));
    let kernel = |name, description| Contestant { kernel_owns_address: true, ..served(name, description, SOCKETS) };
    let vlan = VLAN.to_string();
    let tagged = [&port[..], &["--vlan", &vlan]].concat();
    let description = "the engine on its own rings, spinning";
    let mut known: Vec<Contestant> =
        others.baseline(programs, &Engine { description, buffers: RINGS, ports: &port })?.into_iter().collect();
    known.extend([
        engine("barewire", description, "rings", &port),
        engine("barewire-xsk-rs", "the engine on the xsk-rs driver, spinning", "xsk-rs", &port),
        Contestant {
            vlan: Some(VLAN),
            usual: false,
            knows_ipv6: false,
            ..engine("barewire-vlan", "the engine on a VLAN, every frame with a tag, spinning", "rings", &tagged)
        },
        kernel("kernel-epoll", "recvmmsg and sendmmsg over a kernel socket, epoll"),
        kernel("kernel-spin", "the same, asking again and again instead of waiting"),
        Contestant {
            knows_long_frames: false,
            ..served("bare-af-xdp", "AF_XDP loop without a stack on the engine's device layer, spinning", RINGS)
        },
        Contestant {
            kernel_owns_address: true,
            knows_long_frames: false,
            hook: Hook::Xdp,
            ..served(
                "xdp-tx",
                "reflection in the driver (limit); it runs on the generator's core, replies are received at XDP",
                "none of its own: the driver's bulk queue of 16",
            )
        },
        testpmd(shape),
    ]);
    known.extend(others.peers(shape, Readiness::Echoes(server(shape)))?);
    Ok(known)
}

fn server(shape: Shape) -> SocketAddr {
    SocketAddr::new(shape.family.server(), 7)
}

/// Whether there is a program of this name on the path.
pub(super) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(Path::new(name)).is_file())
}

/// DPDK's forwarder, which swaps addresses and ports. It forwards on the server's core; its main thread, which has
/// nothing to do but to wait for the end, is on the generator's. It has no kernel and answers no ARP.
fn testpmd(shape: Shape) -> Contestant {
    let cores = format!("{GENERATOR_CORE},{SERVER_CORE}");
    let device = format!("net_af_xdp0,iface={INTERFACE},start_queue=0,queue_count=1,force_copy=1");
    // Files of its own: other instances may run on this host.
    let files = format!("bw-{}", std::process::id());
    let (rx, tx, mbufs) = ("--rxd=8192", "--txd=8192", "--total-num-mbufs=32768");
    let eal = ["--no-huge", "--no-pci", "-m", "256", "--no-telemetry", "--file-prefix", &files, "-l", &cores];
    let main = GENERATOR_CORE.to_string();
    let device = ["--main-lcore", &main, "--vdev", &device];
    // Without input it would end at once, unless it has statistics to show from time to time.
    let forward = ["--", "--forward-mode=5tswap", "--auto-start", "--stats-period", "3600", rx, tx, mbufs];
    let words = ["dpdk-testpmd"].into_iter().chain(eal).chain(device).chain(forward).map(str::to_owned);
    Contestant {
        readiness: Readiness::Echoes(server(shape)),
        usual: is_installed(TESTPMD),
        knows_long_frames: false,
        ..Contestant::new(
            TESTPMD,
            "DPDK's forwarder 5tswap on net_af_xdp, polling",
            "rings of 8192 each way, bursts of 32; 32768 buffers",
            words.collect(),
        )
    }
}
