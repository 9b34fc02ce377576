//! The TCP servers that are compared: each with echo on port 7, discard on 9, chargen on 19.

use crate::compare::Contestant;
use crate::compare::programs::Programs;

/// The program with smoltcp's server, and the package that it is from.
pub(super) const PEER: &str = "barewire-peer-smoltcp";

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Kind {
    Barewire,
    KernelEpoll,
    KernelSpin,
    Smoltcp,
}

impl Contestant for Kind {
    const ALL: &'static [Self] = &[Self::Barewire, Self::KernelEpoll, Self::KernelSpin, Self::Smoltcp];

    fn name(self) -> &'static str {
        match self {
            Self::Barewire => "barewire",
            Self::KernelEpoll => "kernel-epoll",
            Self::KernelSpin => "kernel-spin",
            Self::Smoltcp => "smoltcp",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Barewire => "the engine, own rings of 8192, spinning",
            Self::KernelEpoll => "kernel sockets, one recv and one send for each request, epoll",
            Self::KernelSpin => "the same, asking again and again instead of waiting",
            Self::Smoltcp => "smoltcp on its raw socket (AF_PACKET), no delayed ACK, no Nagle, spinning",
        }
    }

    fn kernel_owns_address(self) -> bool {
        matches!(self, Self::KernelEpoll | Self::KernelSpin)
    }

    fn command(self, programs: &Programs) -> Vec<String> {
        match self {
            Self::Barewire => {
                programs.engine("rings", &["--tcp-port", "7", "--discard-port", "9", "--chargen-port", "19"])
            }
            Self::KernelEpoll => programs.serve("tcp-epoll"),
            Self::KernelSpin => programs.serve("tcp-spin"),
            Self::Smoltcp => programs.peer(PEER),
        }
    }
}
