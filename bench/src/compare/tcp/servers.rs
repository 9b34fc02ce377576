//! The TCP servers that are compared: each with echo on port 7, discard on 9, chargen on 19.

use crate::compare::contestant::Contestant;
use crate::compare::programs::{ENGINE, Programs};

/// The program with smoltcp's server, and the package that it is from.
const PEER: &str = "barewire-peer-smoltcp";

/// What the kernel lets a socket's buffers grow to, in KiB; 0 if it does not say.
fn kernel_most(setting: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}")).unwrap_or_default();
    text.split_whitespace().last().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// All of them, in the order of the table.
pub(super) fn known(programs: &Programs) -> Vec<Contestant> {
    let ports = ["--tcp-port", "7", "--discard-port", "9", "--chargen-port", "19"];
    let sockets = format!(
        "of each connection as the kernel finds best, up to {} KiB in and {} KiB out; reads of 256 KiB",
        kernel_most("tcp_rmem"),
        kernel_most("tcp_wmem")
    );
    let kernel = |name, description, served| Contestant {
        kernel_owns_address: true,
        ..Contestant::new(name, description, &sockets, programs.serve(served))
    };
    vec![
        Contestant {
            program: Some(ENGINE),
            ..Contestant::new(
                "barewire",
                "the engine on its own rings, spinning",
                "rings of 8192 each way, bursts of up to 64; 1024 KiB in and out of each connection",
                programs.engine("rings", &ports),
            )
        },
        kernel("kernel-epoll", "kernel sockets, one recv and one send for each request, epoll", "tcp-epoll"),
        kernel("kernel-spin", "the same, asking again and again instead of waiting", "tcp-spin"),
        Contestant {
            program: Some((PEER, PEER)),
            knows_ipv6: false,
            ..Contestant::new(
                "smoltcp",
                "smoltcp on its raw socket (AF_PACKET), no delayed ACK, no Nagle, spinning",
                "raw socket for 8192 small frames; 16 KiB in and out of a connection, a stream 512 KiB",
                programs.peer(PEER),
            )
        },
    ]
}
