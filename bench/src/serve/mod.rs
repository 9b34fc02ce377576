//! `barewire-bench serve`: the servers that Barewire is compared with, each in a process of its own.

mod bare_af_xdp;
pub(crate) mod kernel_echo;
mod kernel_tcp;
mod reflect;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use self::kernel_echo::Wait;
use crate::error::{Error, Result};
use crate::pin;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// recvmmsg and sendmmsg, waiting with epoll
    KernelEpoll,
    /// recvmmsg and sendmmsg, asking again and again
    KernelSpin,
    /// AF_XDP without a stack
    BareAfXdp,
    /// XDP_TX reflection in the driver
    XdpTx,
    /// Counts frames in the driver and drops them: what a sender can do at most
    XdpDrop,
    /// TCP echo, discard and chargen, waiting with epoll
    TcpEpoll,
    /// TCP echo, discard and chargen, asking again and again
    TcpSpin,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[arg(value_enum)]
    kind: Kind,
    /// Address and port to serve
    #[arg(long, value_name = "ADDR:PORT", default_value = "10.77.0.2:7")]
    address: SocketAddr,
    /// Port of discard (TCP)
    #[arg(long, value_name = "PORT", default_value_t = 9)]
    discard_port: u16,
    /// Port of chargen (TCP)
    #[arg(long, value_name = "PORT", default_value_t = 19)]
    chargen_port: u16,
    /// Interface to serve on (servers below the sockets)
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Core to run on
    #[arg(long, value_name = "N", default_value_t = 1)]
    core: usize,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What the server says.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    pin::to_core(args.core)?;
    let interface = || args.interface.as_deref().ok_or_else(|| Error::usage("this server needs --interface"));
    match args.kind {
        Kind::KernelEpoll => kernel_echo::serve(args.address, Wait::Epoll),
        Kind::KernelSpin => kernel_echo::serve(args.address, Wait::Spin),
        Kind::BareAfXdp => bare_af_xdp::serve(interface()?, args.address),
        Kind::TcpEpoll => kernel_tcp::serve(args.address, args.discard_port, args.chargen_port, Wait::Epoll),
        Kind::TcpSpin => kernel_tcp::serve(args.address, args.discard_port, args.chargen_port, Wait::Spin),
        Kind::XdpDrop => reflect::sink(interface()?),
        Kind::XdpTx => reflect::serve(interface()?, args.address.port()),
    }
}
