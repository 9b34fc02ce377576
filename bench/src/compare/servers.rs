//! The servers that are compared: how each is started, and what it needs from the namespaces.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::netns::{INTERFACE, SERVER_ADDRESS};
use crate::udp::receiver::Hook;

/// The core that serves.
pub(crate) const SERVER_CORE: usize = 1;
/// The core that generates.
pub(crate) const GENERATOR_CORE: usize = 0;

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Barewire,
    BarewireXskRs,
    KernelEpoll,
    KernelSpin,
    BareAfXdp,
    XdpTx,
}

impl Kind {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] =
        [Self::Barewire, Self::BarewireXskRs, Self::KernelEpoll, Self::KernelSpin, Self::BareAfXdp, Self::XdpTx];

    /// Its name in tables, in JSON and for `--only`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Barewire => "barewire",
            Self::BarewireXskRs => "barewire-xsk-rs",
            Self::KernelEpoll => "kernel-epoll",
            Self::KernelSpin => "kernel-spin",
            Self::BareAfXdp => "bare-af-xdp",
            Self::XdpTx => "xdp-tx",
        }
    }

    /// What it is, for the table's footnotes.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Barewire => "the engine, own rings of 8192, spinning",
            Self::BarewireXskRs => "the engine on the xsk-rs driver, rings of 8192, spinning",
            Self::KernelEpoll => "recvmmsg/sendmmsg in batches of 64, receive buffer for 8192 frames, epoll",
            Self::KernelSpin => "the same, asking again and again instead of waiting",
            Self::BareAfXdp => "AF_XDP loop without a stack on the engine's device layer, rings of 8192, spinning",
            Self::XdpTx => "reflection in the driver (limit); it runs on the generator's core",
        }
    }

    /// Where its replies are received: see `receiver.rs`.
    pub(crate) const fn hook(self) -> Hook {
        match self {
            Self::XdpTx => Hook::Xdp,
            _ => Hook::Tc,
        }
    }

    /// Whether the server's kernel has to have the address, or the server takes it all for itself.
    pub(crate) const fn kernel_owns_address(self) -> bool {
        matches!(self, Self::KernelEpoll | Self::KernelSpin | Self::XdpTx)
    }

    /// The command that starts it.
    pub(crate) fn command(self, programs: &Programs) -> Vec<String> {
        let core = SERVER_CORE.to_string();
        let engine = |driver: &str| {
            let fixed = ["echo", "--interface", INTERFACE, "--address", SERVER_ADDRESS, "--udp-port", "7"];
            let how = ["--queues", "0", "--cores", &core, "--mode", "copy", "--driver", driver, "--idle", "spin"];
            words(&programs.engine, fixed.into_iter().chain(how))
        };
        let serve = || {
            let args = ["serve", self.name(), "--address", "10.77.0.2:7", "--interface", INTERFACE, "--core", &core];
            words(&programs.bench, args)
        };
        match self {
            Self::Barewire => engine("rings"),
            Self::BarewireXskRs => engine("xsk-rs"),
            _ => serve(),
        }
    }
}

/// Where the programs are that are started.
#[derive(Debug)]
pub(crate) struct Programs {
    engine: PathBuf,
    bench: PathBuf,
}

impl Programs {
    /// This program, and the engine's beside it.
    ///
    /// # Errors
    /// The engine is wanted and was not built.
    pub(crate) fn find(kinds: &[Kind]) -> Result<Self> {
        let bench = std::env::current_exe().context(|| "cannot find this program's own file".into())?;
        let engine = bench.with_file_name("barewire");
        let wanted = kinds.iter().any(|kind| matches!(kind, Kind::Barewire | Kind::BarewireXskRs));
        if wanted && !engine.exists() {
            return Err(Error::run(format!(
                "no engine at {}: `cargo build --release` builds it, and \
                 `--only kernel-epoll,kernel-spin,bare-af-xdp,xdp-tx` compares the rest",
                engine.display()
            )));
        }
        Ok(Self { engine, bench })
    }
}

fn words<'a>(program: &Path, args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    std::iter::once(program).chain(args.into_iter().map(str::to_owned)).collect()
}
