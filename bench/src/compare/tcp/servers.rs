//! The TCP servers that are compared: each with echo on port 7, discard on 9, chargen on 19.

use std::net::SocketAddr;

use crate::compare::contestant::Contestant;
use crate::compare::others::{Engine, OtherArgs};
use crate::compare::programs::{ENGINE, Programs};
use crate::error::Result;
use crate::netns::Shape;
use crate::process::Readiness;

/// The program with smoltcp's server, and the package that it is from.
const PEER: &str = "barewire-peer-smoltcp";

/// What the kernel lets a socket's buffers grow to, in KiB; 0 if it does not say.
fn kernel_most(setting: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}")).unwrap_or_default();
    text.split_whitespace().last().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// All of them, in the order of the table.
///
/// # Errors
/// What the command line names is not there.
pub(super) fn known(programs: &Programs, others: &OtherArgs, shape: Shape) -> Result<Vec<Contestant>> {
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
    let description = "the engine on its own rings, spinning";
    let buffers = "rings of 8192 each way, bursts of up to 64; 1024 KiB in and out of each connection";
    let engine = Engine { description, buffers, ports: &ports };
    let mut known: Vec<Contestant> = others.baseline(programs, &engine)?.into_iter().collect();
    known.extend([
        Contestant {
            program: Some(ENGINE),
            ..Contestant::new("barewire", description, buffers, programs.engine("rings", &ports))
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
    ]);
    known.extend(others.peers(shape, Readiness::Accepts(SocketAddr::new(shape.family.server(), 7)))?);
    Ok(known)
}
