//! A host of our own for a while: its options, and the engine that runs a client on it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use barewire::app::App;
use barewire::apps::services::ServicePorts;
use barewire::config::{Cidr, CoreList, IdleMode, Mode, Options, QueueSet, Settings, Size};
use barewire::engine::{Engine, Ready};
use barewire::steer;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};
use crate::losses::{self, Counters};
use crate::netns::Family;
use crate::result::BackEnd;
use crate::{pin, signals, udp};

/// The one queue that is used: where NICs give what they do not spread, the answers to ARP among it.
const QUEUE: u32 = 0;
/// Ports to connect from: all that need no privilege. Nobody else has the address.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;
/// Entries of each ring at least: at 1 Mpps they bridge 8 ms.
const LEAST_RING: u32 = 8192;
/// And at most: what is under way on more connections is more than a server takes in at once, too.
const MOST_RING: u32 = 65_536;
/// Connections that are remembered in TIME-WAIT at least: fewer than there are ports, so that one is always free.
const TIME_WAITS: u32 = 16_384;
/// Packet memory of connections at least, bytes.
const LEAST_MEMORY: u64 = 64 << 20;
/// And at most: it is locked. Connections that find no room wait for it.
const MOST_MEMORY: u64 = 1 << 30;
/// Bytes of text that a chunk of packet memory holds at least, and bytes of the chunk.
const CHUNK: (u64, u64) = (1280, 2048);
/// Addresses of IPv6: each has a group of its own (RFC 4291, section 2.7.1), beside those that every host is in.
const MOST_IPV6: u32 = steer::MAX_GROUPS - 16;
/// How often it is looked whether a signal came.
const LOOK: Duration = Duration::from_millis(20);
/// How long the client may take to end when a signal came: to close in order for a second, and to reset the rest.
const STOPPING: Duration = Duration::from_secs(10);

/// What carries the load, and where our own stack is if it does.
#[derive(Args, Debug)]
pub(crate) struct BackEndArgs {
    /// What carries the load
    #[arg(long, value_enum, default_value = "kernel")]
    back_end: Choice,
    /// Own stack: interface to use, in this network namespace
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    #[command(flatten)]
    addresses: AddressArgs,
}

/// The back ends that carry TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Sockets of the kernel
    Kernel,
    /// Barewire's own stack over AF_XDP, from an address that no host has (as root)
    OwnStack,
}

/// Where our own stack is on the link of its interface.
#[derive(Args, Clone, Debug)]
pub(crate) struct AddressArgs {
    /// Own stack: address to connect from, with the prefix length of its link; one that no host on the link has,
    /// this one's kernel included. May be given several times, for 64,512 ports each
    #[arg(long, value_name = "CIDR")]
    address: Vec<Cidr>,
    /// Own stack: router for everything that is not on the link
    #[arg(long, value_name = "ADDR")]
    gateway: Vec<IpAddr>,
    /// Own stack: how frames get from the NIC to the stack [default: auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
}

impl AddressArgs {
    /// Checks that none of them was given, for a back end that has no use for them.
    ///
    /// # Errors
    /// One was.
    pub(crate) fn refuse(&self, choose: &str) -> Result<()> {
        let Self { address, gateway, mode } = self;
        let given =
            [("--address", !address.is_empty()), ("--gateway", !gateway.is_empty()), ("--mode", mode.is_some())];
        given.iter().find(|(_, given)| *given).map_or(Ok(()), |(flag, _)| Err(only_own_stack(flag, choose)))
    }
}

impl AddressArgs {
    /// The same with further addresses.
    ///
    /// # Errors
    /// They are more than the engine may have.
    pub(super) fn with(&self, further: &[IpNet]) -> Result<Self> {
        let address: Vec<Cidr> = self.address.iter().copied().chain(further.iter().copied().map(Cidr)).collect();
        for (v4, most) in [(true, steer::MAX_ADDRESSES), (false, MOST_IPV6)] {
            let count = address.iter().filter(|Cidr(net)| net.addr().is_ipv4() == v4).count();
            if count > most as usize {
                return Err(Error::usage(format!(
                    "--source: with --address these are {count} addresses, and our own stack has {most} at most: take \
                     a longer prefix, or live frames (leave out --sender)"
                )));
            }
        }
        Ok(Self { address, ..self.clone() })
    }
}

fn only_own_stack(flag: &str, choose: &str) -> Error {
    Error::usage(format!("{flag} is for our own stack: add `{choose}`"))
}

impl BackEndArgs {
    /// Whether it is our own stack.
    pub(crate) fn is_own_stack(&self) -> bool {
        self.back_end == Choice::OwnStack
    }

    /// The interface that it is told to use.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// What the result calls it.
    pub(crate) fn name(&self) -> BackEnd {
        if self.is_own_stack() { BackEnd::OwnStack } else { BackEnd::Kernel }
    }

    /// Who is to measure `target` on `core`, to which this thread is pinned if it is this thread.
    ///
    /// # Errors
    /// No such core, or an option that this back end has no use for.
    pub(crate) fn client(&self, core: usize, target: SocketAddr) -> Result<Client> {
        if self.is_own_stack() {
            // The worker is pinned; this thread only waits.
            pin::check(core)?;
            let place = Place { interface: self.interface.clone(), addresses: self.addresses.clone(), core, target };
            return Ok(Client::OwnStack(place));
        }
        const CHOOSE: &str = "--back-end own-stack";
        if self.interface.is_some() {
            return Err(only_own_stack("--interface", CHOOSE));
        }
        self.addresses.refuse(CHOOSE)?;
        pin::to_core(core)?;
        Ok(Client::Kernel)
    }
}

/// Who measures.
#[derive(Debug)]
pub(crate) enum Client {
    /// This thread, through kernel sockets.
    Kernel,
    /// A worker of the engine.
    OwnStack(Place),
}

/// Where a client on our own stack runs, and what it measures.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub interface: Option<String>,
    pub addresses: AddressArgs,
    pub core: usize,
    pub target: SocketAddr,
}

/// How much the host has to bear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub connections: usize,
    /// Of each connection, each way.
    pub bytes_under_way: usize,
}

/// What came of a client's run.
#[derive(Debug)]
pub(crate) struct Ran<T> {
    pub told: T,
    /// Counters of our own stack that tell of losses.
    pub losses: Counters,
    /// How its frames travelled.
    pub how: String,
}

/// A host that can run a client.
#[derive(Debug)]
pub(super) struct Host {
    settings: Settings,
    sources: Vec<IpAddr>,
}

impl Host {
    /// # Errors
    /// The options are not complete, or lead nowhere.
    pub(super) fn new(place: &Place, limits: Limits) -> Result<Self> {
        let (settings, target) = (settings(place, limits)?, place.target);
        let ours = settings.addresses.iter().map(IpNet::addr);
        let sources: Vec<IpAddr> = ours.filter(|address| address.is_ipv4() == target.is_ipv4()).collect();
        if sources.is_empty() {
            let family = Family::of(target).name();
            return Err(Error::usage(format!("{target} is reached by {family}: give an --address of that family")));
        }
        if sources.contains(&target.ip()) {
            return Err(Error::usage(format!(
                "--address {}: the server has it; give one that no host has",
                target.ip()
            )));
        }
        let on_link = settings.addresses.iter().any(|net| net.contains(&target.ip()));
        if !on_link && settings.gateways.iter().all(|gateway| gateway.is_v4() != target.is_ipv4()) {
            return Err(Error::usage(format!(
                "{target} is not on the link of any --address: give the --gateway that leads there"
            )));
        }
        let ports = sources.len() * PORTS.len();
        if limits.connections > ports {
            return Err(Error::usage(format!(
                "--connections {}: {} addresses have {ports} ports; give more --address",
                limits.connections,
                sources.len()
            )));
        }
        Ok(Self { settings, sources })
    }

    /// Addresses of ours from which the server is reached.
    pub(super) fn sources(&self) -> &[IpAddr] {
        &self.sources
    }

    /// Runs a client until it tells what came of it.
    ///
    /// # Errors
    /// The engine does not start, or fails; or what the client told.
    pub(super) fn run<T, A: App + Send + 'static>(
        &self,
        client: impl FnOnce(oneshot::Sender<Result<T>>) -> A,
    ) -> Result<Ran<T>> {
        let (tell, mut told) = oneshot::channel();
        let client = Cell::new(Some(client(tell)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "cannot start a runtime".into())?;
        let (mut outcome, running) = (None, Cell::new(false));
        let end = async {
            let mut stopping: Option<Instant> = None;
            while outcome.is_none() {
                if let Ok(told) = tokio::time::timeout(LOOK, &mut told).await {
                    outcome = Some(told);
                } else if signals::stopping() {
                    let waited = stopping.get_or_insert_with(Instant::now).elapsed();
                    if !running.get() || waited > STOPPING {
                        return;
                    }
                }
            }
        };
        let app = |_queue| match client.take() {
            Some(client) => client,
            None => unreachable!("there is one queue, and so one application"),
        };
        let mut how = String::new();
        let on_ready = |ready: &Ready| {
            running.set(true);
            how = describe(ready);
            if let Some(warning) = warning(ready) {
                eprintln!("barewire-bench: {warning}");
            }
        };
        let run = Engine::run_and_count(&self.settings, app, on_ready, end);
        let page = runtime.block_on(run).map_err(|error| match error.exit_code() {
            2 => Error::usage(error),
            _ => Error::run(error),
        })?;
        match outcome {
            Some(Ok(told)) => {
                let losses = losses::grown(&Counters::new(), &losses::of_page(&page));
                Ok(Ran { told: told?, losses, how })
            }
            Some(Err(_)) => Err(Error::run("the client on our own stack ended without an outcome")),
            None => Err(Error::Interrupted),
        }
    }
}

/// What was granted, in words.
fn describe(ready: &Ready) -> String {
    let Ready { interface, driver, .. } = ready;
    format!("our own stack on {interface}, {} mode, {}", ready.mode(), driver.name())
}

/// What may go wrong on an interface with several queues, of which one is served.
fn warning(ready: &Ready) -> Option<String> {
    let Ready { interface, only_queue, .. } = ready;
    (!only_queue).then(|| {
        format!(
            "{interface} has several queues, and answers may come in on others than the first, where nobody reads \
             them. If some are missing: `ethtool -L {interface} combined 1`"
        )
    })
}

fn settings(place: &Place, limits: Limits) -> Result<Settings> {
    let AddressArgs { address, gateway, mode } = place.addresses.clone();
    let connections = (limits.connections as u32).max(TIME_WAITS);
    let ring = (limits.connections as u32).next_power_of_two().clamp(LEAST_RING, MOST_RING);
    // Half of it is for what is sent.
    let chunks = limits.connections as u64 * (limits.bytes_under_way as u64).div_ceil(CHUNK.0).max(1) * 2;
    let options = Options {
        interface: place.interface.clone(),
        address,
        gateway,
        mode,
        queues: Some(QueueSet::Some(vec![QUEUE])),
        cores: Some(CoreList(vec![place.core])),
        // A lone core has to be left to the system now and then.
        idle: Some(if pin::cores().len() > 1 { IdleMode::Spin } else { IdleMode::Adaptive }),
        ring_size: Some(ring),
        connections: Some(connections),
        tcp_memory: Some(Size((chunks * CHUNK.1).clamp(LEAST_MEMORY, MOST_MEMORY))),
        ..Options::default()
    };
    let settings = options.resolve().map_err(Error::usage)?;
    // Where the replies to our datagrams come; nothing is served.
    let ports = ServicePorts { udp_echo: Some(udp::SOURCE_PORT), ..ServicePorts::default() };
    Ok(Settings { ports, source_ports: PORTS, ..settings })
}
