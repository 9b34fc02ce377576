//! The servers that are compared: how each is started, and what it needs from the namespaces.

use crate::compare::contestant::Contestant;
use crate::compare::programs::{ENGINE, Programs};
use crate::udp::receiver::Hook;

/// The VLAN of `barewire-vlan`.
const VLAN: u16 = 77;

const RINGS: &str = "rings of 8192 each way, bursts of up to 64";
const SOCKETS: &str =
    "receive and transmit buffer of 40 MiB, 8192 small frames as the kernel charges them; batches of 64";

/// All of them, in the order of the table.
pub(super) fn known(programs: &Programs) -> Vec<Contestant> {
    let port = ["--udp-port", "7"];
    let engine = |name, description, driver, ports: &[&str]| Contestant {
        program: Some(ENGINE),
        ..Contestant::new(name, description, RINGS, programs.engine(driver, ports))
    };
    let served = |name, description, buffers| Contestant::new(name, description, buffers, programs.serve(name));
    let kernel = |name, description| Contestant { kernel_owns_address: true, ..served(name, description, SOCKETS) };
    let vlan = VLAN.to_string();
    let tagged = [&port[..], &["--vlan", &vlan]].concat();
    vec![
        engine("barewire", "the engine on its own rings, spinning", "rings", &port),
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
    ]
}
