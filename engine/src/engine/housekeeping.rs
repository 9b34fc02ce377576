//! What a worker does besides packets, every 10 ms or so: show that it lives, publish its counters, read its
//! mail, tell what happened and what it is asked, and look whether it should stop.

use std::net::Ipv6Addr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use tokio::sync::mpsc;

use super::connections::{Collection, Requests};
use super::plan::Placement;
use crate::app::App;
use crate::base::{DropReason, Instant};
use crate::counters::StackCounters;
use crate::device::{Device, DeviceCounters};
use crate::network::route::Routes;
use crate::stack::{AddressNews, Event, NetworkError};
use crate::steer::{HEARD_MAX, HeardReader, HeartbeatWriter, SteerError};
use crate::transport::tcp::{self, Tcp};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::wire::membership::Query;
use crate::wire::ndp::RouterAdvertisement;
use crate::worker::Worker;

/// How often counters are published: several times between two scrapes, and seldom enough that the system
/// call for the kernel's own statistics costs nothing.
const REPORT: Duration = Duration::from_millis(100);

/// How long a queue's guard stays up without a new reason. When it falls, a flood that goes on has the stack's own
/// answers to 10,000 requests, and raises it again; a host that asks for the first time waits for a second.
const GUARD: Duration = Duration::from_secs(4);

/// To a worker, from the others and from the main thread.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// A neighbor told its MAC address.
    Neighbor { address: IpAddress, mac: Mac, solicited: bool },
    /// The kernel knows a neighbor, and its routes are followed.
    Adopted(IpAddress, Mac),
    /// The addresses are ours to use.
    AddressesSettled,
    /// A router asks who is in which group, of IPv4 where that is true.
    Query(Query, bool),
    /// Applications on some worker are in a group, or on none any more.
    Group(IpAddress, bool),
    /// A router showed itself by this address.
    Router(Ipv6Addr, Box<RouterAdvertisement>),
    /// An address is gained or lost.
    Address(IpAddress, AddressNews),
    /// Somebody says something about a packet that another worker than this may have sent.
    NetworkError(NetworkError),
    /// The neighbors have to be told anew where our addresses are.
    Announce,
    /// The interface has another MTU, bytes.
    Mtu(u16),
    /// The interface has another MAC address.
    Mac(Mac),
    /// The ways out are others.
    Routes(Box<Routes>),
}

/// News that fit into a mailbox at most; more are about the same few neighbors and paths.
pub(super) const MAILBOX: usize = 256;
/// Places of a mailbox that are not for gossip.
const RESERVED: usize = 64;

/// Copies that are digested at a time: as many as a burst has frames. A ring of them holds no more than some hundred.
const COPIES: usize = 64;

/// From a worker to the main thread.
#[derive(Debug)]
pub(super) enum Word {
    /// The worker of this index uses the addresses: the first one found them free, the others heard of it.
    Ready(usize),
    /// Another host has an address.
    Duplicate(IpAddress, Mac),
    /// Another host claims an address of ours.
    Contested(IpAddress, Mac),
    /// An address is gained or lost.
    Address(IpAddress, AddressNews),
    /// Applications on a worker joined or left a group.
    Group(IpAddress, bool),
    /// The worker of a queue ends, for a reason.
    Died(u32, String),
}

/// A worker's counters as of the last report.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) placement: Placement,
    pub(super) stack: StackCounters,
    pub(super) device: DeviceCounters,
    pub(super) chunks: u32,
    pub(super) free_chunks: u32,
    pub(super) waiting: u32,
    /// Received fragments of datagrams that are not whole yet.
    pub(super) fragments: u32,
    pub(super) fragment_chunks: u32,
    pub(super) tcp: TcpReport,
}

/// What TCP has to tell; all zero of a stack that has none.
#[derive(Clone, Debug, Default)]
pub(super) struct TcpReport {
    pub(super) counters: tcp::Counters,
    pub(super) connections: u32,
    pub(super) handshakes: u32,
    pub(super) time_wait: u32,
    pub(super) held_chunks: u32,
}

impl TcpReport {
    fn of(tcp: &Tcp) -> Self {
        let (connections, handshakes, time_wait) = tcp.population();
        Self { counters: tcp.counters().clone(), connections, handshakes, time_wait, held_chunks: tcp.held() }
    }
}

/// The page that a worker publishes its counters on. The worker only ever tries the lock, so a slow reader
/// costs it one report, never a wait.
pub(super) type SharedReport = Arc<Mutex<Option<Report>>>;

/// What a worker has in common with the others and the main thread.
#[derive(Clone)]
pub(super) struct Common {
    /// News for each worker.
    pub(super) mailboxes: Arc<[ArrayQueue<News>]>,
    /// Requests to each worker for its connections.
    pub(super) requests: Requests,
    /// Whether all shall end.
    pub(super) stop: Arc<AtomicBool>,
}

impl Common {
    /// Gives every worker news that must arrive.
    pub(super) fn tell_all(&self, news: &News) {
        self.tell_leader(news.clone());
        self.tell_followers(news);
    }

    /// Gives the worker that speaks for the addresses news that must arrive.
    pub(super) fn tell_leader(&self, news: News) {
        if let Some(mailbox) = self.mailboxes.first() {
            // A full mailbox makes room: of gossip, as hardly anything else is ever told.
            let _ = mailbox.force_push(news);
        }
    }

    /// Gives the others news that must arrive.
    pub(super) fn tell_followers(&self, news: &News) {
        for mailbox in self.mailboxes.iter().skip(1) {
            let _ = mailbox.force_push(news.clone());
        }
    }

    /// Gives all workers but one news that they can do without.
    pub(super) fn gossip(&self, but: Option<usize>, news: News) {
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            // One that has so much of it is told no more: the neighbor is asked again, and the packet that was too long is
            // followed by another.
            if but != Some(index) && mailbox.len() < mailbox.capacity() - RESERVED {
                let _ = mailbox.push(news.clone());
            }
        }
    }
}

/// One worker's housekeeping.
pub(super) struct Housekeeping {
    index: usize,
    placement: Placement,
    common: Common,
    report: SharedReport,
    next_report: Instant,
    heartbeat: HeartbeatWriter,
    /// Connection requests that the stack had dropped as a flood when the guard was raised last.
    flood_drops: u64,
    tell: mpsc::UnboundedSender<Word>,
    collection: Option<Collection>,
    /// Copies of frames to groups, which the first worker digests.
    heard: Option<HeardReader>,
    copy: Box<[u8; HEARD_MAX]>,
}

impl Housekeeping {
    pub(super) fn new(
        index: usize,
        placement: Placement,
        common: Common,
        report: SharedReport,
        heartbeat: HeartbeatWriter,
        tell: mpsc::UnboundedSender<Word>,
    ) -> Self {
        Self {
            index,
            placement,
            common,
            report,
            next_report: Instant::ZERO,
            heartbeat,
            flood_drops: 0,
            tell,
            collection: None,
            heard: None,
            copy: Box::new([0; HEARD_MAX]),
        }
    }

    /// Has the worker digest the copies of frames to groups.
    pub(super) fn listen(&mut self, heard: Option<HeardReader>) {
        self.heard = heard;
    }

    /// Does what is due. Breaks with the reason when the worker cannot go on, and with `None` when it shall not.
    pub(super) fn tick<D: Device, A: App>(
        &mut self,
        worker: &mut Worker<D, A>,
        now: Instant,
    ) -> ControlFlow<Option<String>> {
        if self.common.stop.load(Ordering::Relaxed) {
            self.publish(worker);
            return ControlFlow::Break(None);
        }
        let written = self.heartbeat.beat(now).and_then(|()| self.guard(worker.stack().counters(), now));
        if let Err(error) = written {
            return ControlFlow::Break(Some(error.to_string()));
        }
        if let Some(error) = worker.device_mut().failure() {
            return ControlFlow::Break(Some(format!("its socket is dead ({error}): is the interface gone?")));
        }
        // First, so that a host that has an address is told of before the word that it is ours is followed.
        self.spread_events(worker);
        self.spread_group_changes(worker);
        self.read_mail(worker, now);
        self.hear(worker, now);
        worker.stack_mut().settle_routes();
        self.list_connections(worker.stack().tcp_state(), now);
        if now >= self.next_report {
            self.next_report = now + REPORT;
            self.publish(worker);
        }
        ControlFlow::Continue(())
    }

    /// Has requests stopped before they reach the socket, if the stack has more of them than it answers.
    fn guard(&mut self, counters: &StackCounters, now: Instant) -> Result<(), SteerError> {
        let drops = counters.drops[DropReason::TcpSynFlood as usize];
        if drops == self.flood_drops {
            return Ok(());
        }
        self.flood_drops = drops;
        self.heartbeat.raise_guard(now + GUARD)
    }

    /// Says a worker's last words.
    pub(super) fn die<D: Device, A: App>(&mut self, worker: &mut Worker<D, A>, reason: String) {
        self.publish(worker);
        self.send(Word::Died(self.placement.queue, reason));
    }

    fn read_mail<D: Device, A: App>(&self, worker: &mut Worker<D, A>, now: Instant) {
        let Some(mailbox) = self.common.mailboxes.get(self.index) else { return };
        // No more than it holds: others may go on writing.
        for news in std::iter::from_fn(|| mailbox.pop()).take(mailbox.capacity()) {
            match news {
                News::Neighbor { address, mac, solicited } => {
                    worker.stack_mut().confirm_neighbor(address, mac, solicited, now);
                }
                News::Adopted(address, mac) => worker.stack_mut().adopt_neighbor(address, mac, now),
                News::Router(source, told) => worker.stack_mut().hear_of_router(&told, source, now),
                News::Address(address, news) => worker.stack_mut().hear_of_address(address, news, now),
                News::Query(query, is_v4) => worker.stack_mut().hear_query(&query, is_v4, now),
                News::Group(group, joined) => worker.stack_mut().set_group(group, joined, now),
                News::AddressesSettled => {
                    worker.stack_mut().settle_addresses();
                    self.send(Word::Ready(self.index));
                }
                News::NetworkError(error) => worker.hear_network_error(now, &error),
                News::Announce => worker.stack_mut().announce_addresses(now),
                News::Mtu(mtu) => worker.set_mtu(mtu),
                News::Mac(mac) => worker.stack_mut().set_mac(mac),
                News::Routes(routes) => worker.stack_mut().set_routes(*routes),
            }
        }
    }

    /// Digests copies, as many as there is room for answers, and no more than a burst of them.
    fn hear<D: Device, A: App>(&mut self, worker: &mut Worker<D, A>, now: Instant) {
        let Some(heard) = &mut self.heard else { return };
        for _ in 0..COPIES {
            if !worker.has_room() {
                return;
            }
            let Some(copy) = heard.read(&mut self.copy) else { return };
            worker.hear(now, copy.frame);
        }
    }

    fn list_connections(&mut self, tcp: Option<&Tcp>, now: Instant) {
        let request = || self.common.requests.get(self.index)?.pop();
        let next = || Some(Collection::new(request()?, self.placement.queue));
        self.collection = self.collection.take().or_else(next).and_then(|collection| collection.go_on(tcp, now));
    }

    fn spread_events<D: Device, A: App>(&self, worker: &mut Worker<D, A>) {
        while let Some(event) = worker.stack_mut().next_event() {
            match event {
                Event::Ready if self.index == 0 => self.send(Word::Ready(0)),
                // Those who follow have said so when the leader's word came.
                Event::Ready => {}
                Event::Duplicate(address, mac) => self.send(Word::Duplicate(address, mac)),
                Event::Contested(address, mac) => self.send(Word::Contested(address, mac)),
                Event::Query(query, is_v4) => {
                    self.common.tell_leader(News::Query(query, is_v4));
                }
                Event::Router(source, told) => {
                    self.common.gossip(Some(self.index), News::Router(source, Box::new(told)));
                }
                Event::Address(address, news) => {
                    self.common.tell_followers(&News::Address(address, news));
                    self.send(Word::Address(address, news));
                }
                Event::Neighbor { address, mac, solicited } => {
                    self.common.gossip(Some(self.index), News::Neighbor { address, mac, solicited });
                }
                Event::NetworkError(error) => self.common.gossip(Some(self.index), News::NetworkError(error)),
            }
        }
    }

    fn spread_group_changes<D: Device, A: App>(&self, worker: &mut Worker<D, A>) {
        while let Some((group, joined)) = worker.stack_mut().next_group_change() {
            self.send(Word::Group(group, joined));
        }
    }

    fn publish<D: Device, A: App>(&self, worker: &mut Worker<D, A>) {
        let device = worker.device_mut().counters();
        if let Ok(mut report) = self.report.try_lock() {
            *report = Some(Report {
                placement: self.placement,
                stack: worker.stack().counters().clone(),
                device,
                chunks: worker.umem().chunks(),
                free_chunks: worker.umem().free_chunks(),
                waiting: worker.stack().waiting(),
                fragments: worker.stack().fragments(),
                fragment_chunks: worker.stack().fragment_chunks(),
                tcp: worker.stack().tcp_state().map(TcpReport::of).unwrap_or_default(),
            });
        }
    }

    fn send(&self, word: Word) {
        // The main thread is gone only when the process is about to go.
        let _ = self.tell.send(word);
    }
}
