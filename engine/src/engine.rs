//! The engine: starts the workers of an interface, watches over them, and takes everything down again.
//!
//! ```text
//!   main thread   signals, HTTP, netlink, the XDP program     one tokio runtime, no packets
//!   worker q0     turn, turn, turn ... housekeeping           pinned; owns its socket, memory and stack
//!   worker q1     ...
//!       mailboxes (news of neighbors, of the link), reports to the main thread
//! ```
//!
//! The XDP program is attached by a `bpf_link`: it goes when the process goes, however that happens.

mod connections;
mod groups;
mod housekeeping;
mod http;
mod metrics;
mod open;
pub mod plan;
mod stack_config;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use tokio::sync::mpsc;

use crate::app::App;
use crate::base::Backing;
use crate::config::{Driver, IdleMode, Settings};
use crate::device::{Device, Granted, OpenError};
use crate::link::address::Probing;
use crate::nic::{FactsError, LinkFacts};
use crate::stack::Stack;
use crate::steer::{Steer, SteerError, XdpMode};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::worker::{Idle, Worker};
use groups::Groups;
use housekeeping::{Common, Housekeeping, MAILBOX, News, SharedReport, Word};
use open::{Opened, attach, open};
use plan::{Placement, Plan, PlanError, too_small_for_ipv6};
use stack_config::stack_config;
use watch::Watch;

/// How long an adaptive worker looks again before it sleeps. Sleeping and waking cost about 5 us here; ten
/// times that is lost at most on a line that falls silent, and a closed loop over a LAN never sleeps.
const ADAPTIVE_SPIN: Duration = Duration::from_micros(50);
/// How often the carrier is looked for at start.
const CARRIER_POLL: Duration = Duration::from_millis(50);
/// Time after which a missing carrier is told.
const CARRIER_PATIENCE: Duration = Duration::from_secs(5);

/// Why the engine did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The interface's facts could not be had.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// What was asked for cannot be done here.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The interface is down.
    #[error("interface {0} is down: `ip link set {0} up`")]
    InterfaceDown(String),
    /// The interface went away.
    #[error(
        "interface {0} is gone: it was removed, or moved to another network namespace. Start the engine again when it \
         is back"
    )]
    InterfaceGone(String),
    /// The XDP program.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// A socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// This build has no such driver.
    #[error("this build has no xsk-rs driver: build with `--features xsk-rs`, or use --driver rings")]
    NoXskRs,
    /// Another host has an address.
    #[error(
        "{address} is already used on the link of {interface}, by the host with MAC address {mac}: \
             give --address one that no host has"
    )]
    Duplicate {
        /// The address.
        address: IpAddress,
        /// Who has it.
        mac: Mac,
        /// Name of the interface.
        interface: String,
    },
    /// Metrics cannot be served.
    #[error("cannot serve metrics at {address} ({source}): give --metrics an address of this host and a free port")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A worker ended of its own accord.
    #[error("the worker of queue {queue} died: {reason}")]
    WorkerDied {
        /// Its queue.
        queue: u32,
        /// Its last words.
        reason: String,
    },
    /// The system refuses something that it always grants.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

impl EngineError {
    /// Exit code of the process: 2 for what the operator asked for and cannot have, 1 for what failed.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(
                PlanError::MtuTooLarge { .. }
                | PlanError::NoMultiBuffer { .. }
                | PlanError::TagsTakenOut { .. }
                | PlanError::TagsAlwaysTakenOut { .. }
                | PlanError::KernelHasAddress { .. },
            ) => 1,
            Self::Plan(_) | Self::NoXskRs => 2,
            _ => 1,
        }
    }
}

/// What was granted, known once packets can flow.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Name of the interface.
    pub interface: String,
    /// Queues with the cores of their workers.
    pub workers: Vec<Placement>,
    /// Where the XDP program runs.
    pub xdp: XdpMode,
    /// How frames get from the NIC to the engine.
    pub granted: Granted,
    /// Who works the rings.
    pub driver: Driver,
    /// Whether a frame may lie in several chunks of packet memory.
    pub multi_buffer: bool,
    /// What the packet memory came from.
    pub backing: Backing,
    /// Whether answers to a connection that we open come in on the queue of the worker that opens it: there is no
    /// other queue, or it is known how the NIC chooses.
    pub answers_come_back: bool,
    /// Whether the interface has but one queue, so that whatever is for us comes in there.
    pub only_queue: bool,
}

impl Ready {
    /// The mode in one word: generic, or what the socket was granted in native mode.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self.xdp {
            XdpMode::Generic => "generic",
            XdpMode::Native => self.granted.name(),
        }
    }
}

/// A running engine on one interface.
///
/// Workers end before the XDP program is detached and their sockets are closed, whichever way it ends.
pub struct Engine {
    ready: Ready,
    workers: Vec<WorkerThread>,
    common: Common,
    words: mpsc::UnboundedReceiver<Word>,
    reports: Vec<SharedReport>,
    groups: Groups,
    watch: Watch,
    steer: Steer,
}

struct WorkerThread {
    queue: u32,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Runs `settings` with an application for each queue until `shutdown` completes; `on_ready` is told once
    /// packets can flow. Must run on a tokio runtime.
    ///
    /// # Errors
    /// [`EngineError`]. The interface is left as it was found.
    pub async fn run<A: App + Send + 'static>(
        settings: &Settings,
        make_app: impl Fn(u32) -> A,
        on_ready: impl FnOnce(&Ready),
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), EngineError> {
        Self::run_and_count(settings, make_app, on_ready, shutdown).await.map(drop)
    }

    /// The same, and gives the metrics page as it is when all workers have ended; it is empty if none had begun.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_and_count<A: App + Send + 'static>(
        settings: &Settings,
        make_app: impl Fn(u32) -> A,
        on_ready: impl FnOnce(&Ready),
        shutdown: impl Future<Output = ()>,
    ) -> Result<String, EngineError> {
        tokio::pin!(shutdown);
        // First, because it touches nothing else.
        let listener = match settings.metrics {
            Some(address) => {
                Some(http::bind(address).await.map_err(|source| EngineError::Metrics { address, source })?)
            }
            None => None,
        };
        let mut engine = tokio::select! {
            started = Self::start(settings, make_app) => started?,
            () = &mut shutdown => return Ok(String::new()),
        };
        engine.supervise(listener, on_ready, shutdown).await?;
        engine.stop();
        Ok(engine.metrics())
    }

    /// Attaches, opens and starts everything.
    async fn start<A: App + Send + 'static>(
        settings: &Settings,
        make_app: impl Fn(u32) -> A,
    ) -> Result<Self, EngineError> {
        let facts = LinkFacts::read(&settings.interface).await?;
        let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let plan = Plan::new(settings, &facts, &cores)?;
        if let Some(warning) = too_small_for_ipv6(&plan.addresses, &facts.name, facts.mtu) {
            tracing::warn!("{warning}");
        }
        if !facts.up {
            return Err(EngineError::InterfaceDown(facts.name));
        }
        let (mut steer, xdp) = attach(settings, &facts)?;
        let mut secret = [0; 2];
        for word in &mut secret {
            *word = getrandom::u64().map_err(|error| EngineError::System("no random numbers", error.into()))?;
        }
        let sockets = plan.workers.iter().map(|worker| open(settings, &facts, &plan, xdp, worker.queue));
        let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
        let granted = sockets.iter().map(Opened::granted).find(|&granted| granted == Granted::Copy);
        let granted = granted.unwrap_or(Granted::ZeroCopy);
        let backing = sockets.first().map_or(Backing::Memfd, Opened::backing);
        let facts = wait_for_carrier(facts).await?;
        let watch = Watch::new(settings, &facts, &plan)?;
        let routes = watch.routes().await?;
        let ready = Ready {
            interface: facts.name.clone(),
            workers: plan.workers.clone(),
            xdp,
            granted,
            driver: settings.driver,
            multi_buffer: plan.multi_buffer,
            backing,
            answers_come_back: facts.queues == 1 || facts.spreading.is_some(),
            only_queue: facts.queues == 1,
        };

        let groups = Groups::start(settings, &plan, facts.index, &mut steer)?;
        let (tell, words) = mpsc::unbounded_channel();
        let mut engine = Self {
            ready,
            workers: Vec::new(),
            common: Common {
                mailboxes: plan.workers.iter().map(|_| ArrayQueue::new(MAILBOX)).collect(),
                requests: connections::requests(plan.workers.len()),
                stop: Arc::default(),
            },
            words,
            reports: Vec::new(),
            groups,
            watch,
            steer,
        };
        // Every queue is served before the first probe goes out: its answer may come in on any of them.
        for (socket, placement) in sockets.iter().zip(&plan.workers) {
            engine.steer.set_socket(placement.queue, socket.fd())?;
            engine.steer.heartbeat(placement.queue)?.beat(crate::clock::now())?;
        }
        for address in &plan.addresses {
            engine.steer.own(address.addr())?;
        }
        for (index, (socket, placement)) in sockets.into_iter().zip(&plan.workers).enumerate() {
            let probing = if index == 0 { Probing::Lead } else { Probing::Follow };
            let config = stack_config(settings, &facts, &plan, placement.queue, probing, secret);
            let mut stack = Stack::new(&config, make_app(placement.queue), crate::clock::now());
            stack.set_routes(routes.clone());
            engine.spawn(index, *placement, socket, stack, idle(settings.idle), tell.clone())?;
        }
        Ok(engine)
    }

    /// Starts the worker of an opened queue.
    fn spawn<A: App + Send + 'static>(
        &mut self,
        index: usize,
        placement: Placement,
        socket: Opened,
        stack: Stack<A>,
        idle: Idle,
        tell: mpsc::UnboundedSender<Word>,
    ) -> Result<(), EngineError> {
        let Placement { queue, core } = placement;
        let report = SharedReport::default();
        self.reports.push(Arc::clone(&report));
        let heartbeat = self.steer.heartbeat(queue)?;
        let mut housekeeping = Housekeeping::new(index, placement, self.common.clone(), report, heartbeat, tell);
        if index == 0 {
            housekeeping.listen(self.steer.heard());
        }
        let builder = std::thread::Builder::new().name(format!("worker-q{queue}"));
        let thread = match socket {
            Opened::Rings(device, umem) => {
                builder.spawn(move || work(core, Worker::new(device, umem, stack), idle, housekeeping))
            }
            #[cfg(feature = "xsk-rs")]
            Opened::XskRs(device, umem) => {
                builder.spawn(move || work(core, Worker::new(device, umem, stack), idle, housekeeping))
            }
        };
        let thread = thread.map_err(|error| EngineError::System("cannot start a thread", error))?;
        self.workers.push(WorkerThread { queue, thread: Some(thread) });
        Ok(())
    }

    /// Listens to workers, scrapers and `shutdown` until the end.
    async fn supervise(
        &mut self,
        listener: Option<http::Listener>,
        on_ready: impl FnOnce(&Ready),
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Result<(), EngineError> {
        let mut on_ready = Some(on_ready);
        let mut unready = self.workers.len();
        loop {
            let word = tokio::select! {
                () = &mut shutdown => return Ok(()),
                word = self.words.recv() => word,
                () = self.groups.next() => {
                    self.groups.look_up(&mut self.steer);
                    continue;
                }
                change = self.watch.next() => {
                    self.watch.react(change, &self.common).await?;
                    continue;
                }
                Some(client) = http::accept(listener.as_ref()) => {
                    http::answer(client, self.metrics(), Arc::clone(&self.common.requests));
                    continue;
                }
            };
            match word {
                Some(Word::Ready(index)) => {
                    if index == 0 {
                        self.common.tell_followers(&News::AddressesSettled);
                    }
                    unready = unready.saturating_sub(1);
                    if unready == 0
                        && let Some(on_ready) = on_ready.take()
                    {
                        on_ready(&self.ready);
                    }
                }
                Some(Word::Duplicate(address, mac)) => {
                    let interface = self.ready.interface.clone();
                    return Err(EngineError::Duplicate { address, mac, interface });
                }
                Some(Word::Contested(address, mac)) => {
                    tracing::warn!("{mac} claims {address}, which is ours; it was told so");
                }
                Some(Word::Address(address, news)) => self.groups.change_address(address, news, &mut self.steer)?,
                Some(Word::Group(group, joined)) => self.groups.change(group, joined, &mut self.steer, &self.common),
                Some(Word::Died(..)) if self.watch.is_gone().await => {
                    return Err(EngineError::InterfaceGone(self.ready.interface.clone()));
                }
                Some(Word::Died(queue, reason)) => return Err(EngineError::WorkerDied { queue, reason }),
                None => return Err(self.last_words()),
            }
        }
    }

    /// Every counter, as of now.
    fn metrics(&self) -> String {
        metrics::page(&self.ready, &self.steer, &self.reports, self.watch.counts())
    }

    /// Ends all workers.
    fn stop(&mut self) {
        self.common.stop.store(true, Ordering::Relaxed);
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("the worker of queue {} panicked", worker.queue);
            }
        }
    }

    /// All workers are gone and none said why.
    fn last_words(&mut self) -> EngineError {
        let queue = self.workers.first().map_or(0, |worker| worker.queue);
        EngineError::WorkerDied { queue, reason: "it ended without a word".into() }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

const fn idle(mode: IdleMode) -> Idle {
    match mode {
        IdleMode::Spin => Idle::Spin,
        IdleMode::Adaptive => Idle::Adaptive(ADAPTIVE_SPIN),
        IdleMode::Poll => Idle::Poll,
    }
}

/// A worker's thread.
fn work<D: Device, A: App>(core: usize, mut worker: Worker<D, A>, idle: Idle, mut housekeeping: Housekeeping) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        housekeeping.die(&mut worker, format!("it cannot be pinned to core {core}"));
        return;
    }
    if let Some(reason) = worker.run(idle, crate::clock::now, |worker, now| housekeeping.tick(worker, now)) {
        housekeeping.die(&mut worker, reason);
    }
}

/// Waits until the interface has a carrier: attaching an XDP program resets the link of many a NIC. Gives the facts
/// as they are after that.
async fn wait_for_carrier(mut facts: LinkFacts) -> Result<LinkFacts, EngineError> {
    let mut waited = Duration::ZERO;
    loop {
        facts = LinkFacts::read(&facts.name).await?;
        if facts.carrier {
            return Ok(facts);
        }
        if waited == CARRIER_PATIENCE {
            tracing::warn!("{} has no carrier: is the cable in, the peer up? Waiting for it", facts.name);
        }
        tokio::time::sleep(CARRIER_POLL).await;
        waited += CARRIER_POLL;
    }
}
