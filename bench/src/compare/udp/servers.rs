//! The servers that are compared: how each is started, and what it needs from the namespaces.

use crate::compare::Contestant;
use crate::compare::programs::Programs;
use crate::udp::frame;
use crate::udp::receiver::Hook;

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Barewire,
    BarewireXskRs,
    BarewireVlan,
    KernelEpoll,
    KernelSpin,
    BareAfXdp,
    XdpTx,
}

impl Contestant for Kind {
    const ALL: &'static [Self] = &[
        Self::Barewire,
        Self::BarewireXskRs,
        Self::BarewireVlan,
        Self::KernelEpoll,
        Self::KernelSpin,
        Self::BareAfXdp,
        Self::XdpTx,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Barewire => "barewire",
            Self::BarewireXskRs => "barewire-xsk-rs",
            Self::BarewireVlan => "barewire-vlan",
            Self::KernelEpoll => "kernel-epoll",
            Self::KernelSpin => "kernel-spin",
            Self::BareAfXdp => "bare-af-xdp",
            Self::XdpTx => "xdp-tx",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Barewire => "the engine, own rings of 8192, spinning",
            Self::BarewireXskRs => "the engine on the xsk-rs driver, rings of 8192, spinning",
            Self::BarewireVlan => "the engine on a VLAN: every frame has a tag",
            Self::KernelEpoll => "recvmmsg/sendmmsg in batches of 64, receive buffer for 8192 frames, epoll",
            Self::KernelSpin => "the same, asking again and again instead of waiting",
            Self::BareAfXdp => "AF_XDP loop without a stack on the engine's device layer, rings of 8192, spinning",
            Self::XdpTx => "reflection in the driver (limit); it runs on the generator's core",
        }
    }

    fn kernel_owns_address(self) -> bool {
        matches!(self, Self::KernelEpoll | Self::KernelSpin | Self::XdpTx)
    }

    fn command(self, programs: &Programs) -> Vec<String> {
        match self {
            Self::Barewire => programs.engine("rings", &["--udp-port", "7"]),
            Self::BarewireXskRs => programs.engine("xsk-rs", &["--udp-port", "7"]),
            Self::BarewireVlan => programs.engine("rings", &["--udp-port", "7", "--vlan", &VLAN.to_string()]),
            _ => programs.serve(self.name()),
        }
    }
}

/// The VLAN of [`Kind::BarewireVlan`].
const VLAN: u16 = 77;

impl Kind {
    /// Those that are compared where nobody says whom.
    pub(super) const USUAL: [Self; 6] =
        [Self::Barewire, Self::BarewireXskRs, Self::KernelEpoll, Self::KernelSpin, Self::BareAfXdp, Self::XdpTx];

    /// The VLAN that its requests are on.
    pub(super) fn vlan(self) -> Option<u16> {
        (self == Self::BarewireVlan).then_some(VLAN)
    }

    /// Whether it can serve such frames.
    pub(super) fn knows(self, frame_len: usize) -> bool {
        frame_len <= frame::MAX_LIVE_LEN || !matches!(self, Self::BareAfXdp | Self::XdpTx)
    }

    /// Where its replies are received: see `receiver.rs`.
    pub(crate) const fn hook(self) -> Hook {
        match self {
            Self::XdpTx => Hook::Xdp,
            _ => Hook::Tc,
        }
    }
}
