//! What commands have in common that are a host of their own for a while: to open a connection, to ping.

use std::fmt::{self, Debug, Display};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barewire::apps::services::ServicePorts;
use barewire::config::{Cidr, ConfigError, Driver, Mode, Options, QueueSet, RouteSource, Settings, StaticRoute, Vlan};
use barewire::engine::EngineError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::fail;

/// The one queue that is used: where NICs give what they do not spread, the answers to ARP among it.
const QUEUE: u32 = 0;
/// How long it may take to end when we are told to stop: a few turns of a worker that sleeps.
pub(super) const STOPPING: Duration = Duration::from_millis(500);

/// Where the host is, and how it gets its frames.
#[derive(clap::Args)]
pub(crate) struct HostOptions {
    /// Network interface to use
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Address to send from, with the prefix length of its link; one that no host on the link has, this one's kernel
    /// included. May be given several times
    #[arg(long, value_name = "CIDR")]
    address: Vec<Cidr>,
    /// Router for everything that is not on the link: one for IPv4, one for IPv6, which may be a link-local address
    #[arg(long, value_name = "ADDR")]
    gateway: Vec<IpAddr>,
    /// Another router, for what has a prefix. May be given several times
    #[arg(long, value_name = "PREFIX via ADDR")]
    route: Vec<StaticRoute>,
    /// Where routes come from [default: configured]
    #[arg(long, value_enum)]
    routes: Option<RouteSource>,
    /// 802.1Q VLAN id of the link, or OUTER.INNER for QinQ. The first tag has the type 8100, or 88a8 where there are two;
    /// another one stands in front, as in 8100:5.7 [default: untagged]
    #[arg(long, value_name = "[TYPE:]ID[.INNER]")]
    vlan: Option<Vlan>,
    /// How frames get from the NIC to the engine [default: auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Who works the rings [default: rings]
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// Serve Prometheus metrics over HTTP at this address
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
}

impl HostOptions {
    /// Checks everything and what the command wants more, and fills in the defaults.
    pub(super) fn resolve(self, more: Options) -> Result<Settings, ConfigError> {
        let options = Options {
            interface: self.interface,
            address: self.address,
            gateway: self.gateway,
            route: self.route,
            routes: self.routes,
            vlan: self.vlan,
            queues: Some(QueueSet::Some(vec![QUEUE])),
            mode: self.mode,
            driver: self.driver,
            metrics: self.metrics,
            ..more
        };
        // Nothing is served.
        options.resolve().map(|settings| Settings { ports: ServicePorts::default(), ..settings })
    }
}

/// Reads the address of a destination.
pub(super) fn destination(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.split_once('%') {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => {
            format!("an address has no zone here: give {address}; --interface names the interface")
        }
        _ => "not an IP address, and names are not looked up: give an address, such as 192.0.2.1 or 2001:db8::1".into(),
    })
}

/// Checks that a single host can have an address, and that packets of ours can get there.
pub(super) fn check_destination(destination: IpAddr, settings: &Settings) -> Result<(), ConfigError> {
    let refuse =
        |why: &str| Err(ConfigError::Invalid { flag: "ADDR", value: destination.to_string(), why: why.to_owned() });
    let ours = &settings.addresses;
    let is_broadcast = |destination: IpAddr| match destination {
        IpAddr::V4(v4) => {
            let of_link = ours.iter().filter(|net| net.addr().is_ipv4() && net.prefix_len() < 31);
            v4.is_broadcast() || of_link.into_iter().any(|net| net.broadcast() == destination)
        }
        IpAddr::V6(_) => false,
    };
    if destination.is_multicast() || destination.is_unspecified() || is_broadcast(destination) {
        return refuse("it is not the address of a single host");
    }
    if ours.iter().any(|net| net.addr() == destination) {
        return refuse("it is our own address, and what is sent there never leaves");
    }
    if !ours.iter().any(|net| net.addr().is_ipv4() == destination.is_ipv4()) {
        return refuse("it is of another version of IP than every --address: give one more");
    }
    Ok(())
}

/// What somebody wants an end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// The exit code of a command that was ended by it, as shells tell of one: 128 and the signal's number.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
        }
    }
}

impl Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Completes when somebody wants an end.
pub(super) fn told_to_stop() -> io::Result<impl Future<Output = Signal>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => Signal::Interrupt, _ = terminate.recv() => Signal::Terminate }
    })
}

/// Why a command that asks hosts has nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error<F> {
    #[error("{0}: {1}")]
    Failed(IpAddr, F),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the system refuses what it always grants: {0}")]
    System(#[from] io::Error),
}

/// The code to exit with, by whether somebody answered. Says why, if nobody could be asked.
pub(super) fn exit_code<F: Debug + Display>(answered: Result<bool, Error<F>>) -> ExitCode {
    match answered {
        Ok(answered) => ExitCode::from(u8::from(!answered)),
        Err(Error::Engine(error)) => fail(&error, error.exit_code()),
        Err(error) => fail(&error, 1),
    }
}

/// Shows what an application tells of until it has an outcome, or until somebody wants an end. `None` for no outcome: it
/// was told to stop before it began, or whoever reads has seen enough.
pub(super) async fn follow<E, O>(
    mut events: mpsc::Receiver<E>,
    mut outcome: oneshot::Receiver<O>,
    (stop, told_to_stop): (&AtomicBool, impl Future<Output = Signal>),
    mut show: impl FnMut(E) -> io::Result<()>,
) -> io::Result<Option<O>> {
    let mut told_to_stop = pin!(told_to_stop);
    loop {
        tokio::select! {
            // What was heard before the end is shown before the end.
            biased;
            Some(event) = events.recv() => {
                if let Err(error) = show(event) {
                    return unless_closed(Err(error)).map(|()| None);
                }
            }
            outcome = &mut outcome => return Ok(outcome.ok()),
            _ = &mut told_to_stop => {
                stop.store(true, Ordering::Relaxed);
                return Ok(tokio::time::timeout(STOPPING, outcome).await.ok().and_then(Result::ok));
            }
        }
    }
}

/// Reads a time in seconds, with decimals.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let shortest = Duration::from_millis(1);
    let longest = Duration::from_secs(86_400);
    time.filter(|time| (shortest..=longest).contains(time))
        .ok_or_else(|| "not a time in seconds, from 0.001 to 86400; for example 0.2".into())
}

/// A number that others who do the same at the same time hardly have.
pub(super) fn identifier() -> io::Result<u16> {
    let random = getrandom::u32().map_err(io::Error::from)?;
    Ok(random as u16)
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What may be the matter when nothing is heard on an interface with several queues.
pub(super) fn other_queue(interface: &str) -> String {
    format!(
        "if there was a reply, it came in on another queue than the first: {interface} has several. \
         Try `ethtool -L {interface} combined 1`"
    )
}

/// What came of writing to standard output, unless that was closed by somebody who has seen enough:
/// `barewire ping ... | head`.
pub(super) fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_address_without_a_zone_and_no_name() {
        assert_eq!(destination("192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
        assert_eq!(destination("fe80::1"), Ok("fe80::1".parse().unwrap()));
        let why = |text: &str| destination(text).unwrap_err();
        assert!(why("fe80::1%v0").contains("give fe80::1; --interface"));
        for name in ["host.example", "", "host%v0", "192.0.2.1%v0", "192.0.2.256"] {
            assert!(why(name).contains("names are not looked up"), "{name}");
        }
    }
}
