//! The stack: the only place where the layers meet.
//!
//! ```text
//!   receive:  plain ------------> App::datagram     nearly always
//!             ethernet -> arp
//!                      -> ipv4, ipv6 -> icmp, neighbor discovery
//!                                    -> udp -> App::datagram
//!                                    -> tcp -> App::opened, data, writable, finished, closed
//!   transmit: answers go out in the frame that the request came in; what waited for a neighbor, questions who has an
//!             address, the application's own datagrams and TCP's segments follow when there is room
//! ```
//!
//! Sans-IO: time, randomness and frames come in as arguments, frames go out. Each turn, call
//! [`Stack::receive`] with the frames that arrived, then [`Stack::transmit`]; and call again at the latest at
//! [`Stack::next_deadline`]. `receive` puts at most one frame out for each that it takes.
#![forbid(unsafe_code)]

mod ahead;
mod autoconf;
mod connection;
mod egress;
mod fragments;
mod groups;
mod hop_limits;
mod icmp;
mod ingress;
mod long;
mod neighbor;
mod outbox;
mod plain;
mod tcp;
mod udp;
mod ways;

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use ipnet::IpNet;

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, FrameQueue, Instant, Umem, UnsentReason};
use crate::counters::StackCounters;
use crate::link::address::{Addresses, Probing};
use crate::link::neighbor::{Advertisement, NeighborConfig, Neighbors};
use crate::network::autoconf::{AutoconfConfig, Slaac};
use crate::network::identification::Identifications;
use crate::network::path_mtu::PathMtus;
use crate::network::rate_limit::RateLimit;
use crate::network::reassembly::{Reassembly, ReassemblyConfig};
use crate::network::route::{Route, Routes};
use crate::network::rss::OwnQueue;
use crate::network::sent_lately::SentLately;
use crate::transport::tcp::{Tcp, TcpConfig};
use crate::transport::udp::{ChecksumPolicy, Ports};
use crate::wire::ethernet::{self, Mac, PlainLink, Priority, Tags, Vlan};
use crate::wire::ip::IpAddress;
use crate::wire::membership::Query;
use crate::wire::ndp::RouterAdvertisement;
use autoconf::Configured;
use egress::{Egress, Way};
use hop_limits::HopLimits;
pub use icmp::NetworkError;
use outbox::Turn;
use ways::Ways;

/// Everything a stack has to be told.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// MAC address of the interface.
    pub mac: Mac,
    /// Longest IP packet that the interface sends, bytes.
    pub mtu: u16,
    /// The VLAN that all frames are of; `None`: they are untagged.
    pub vlan: Option<Vlan>,
    /// Addresses of ours, each with the prefix of its link.
    pub addresses: Vec<IpNet>,
    /// The ways to everything that is not on a link of ours.
    pub gateways: Vec<IpAddress>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Who finds out whether the addresses are free. Of several workers with the same addresses one leads.
    pub probing: Probing,
    /// Multicast groups that the host is in from the start on.
    pub groups: Vec<IpAddress>,
    /// Whether UDP to broadcast addresses is delivered.
    pub broadcasts: bool,
    /// What is made of routers' advertisements, if anything.
    pub autoconf: Option<AutoconfConfig>,
    /// Ports that the application listens on.
    pub udp_ports: Vec<u16>,
    /// How received checksums of UDP and TCP are judged.
    pub checksum: ChecksumPolicy,
    /// TCP, if it is spoken.
    pub tcp: Option<TcpConfig>,
    /// Which flows the NIC gives to this stack's queue, if that is known: connections are opened from such ports.
    pub own_queue: Option<OwnQueue>,
    /// Neighbor tables.
    pub neighbors: NeighborConfig,
    /// How our packets are marked.
    pub marking: Marking,
    /// How much may be held to put datagrams together.
    pub reassembly: ReassemblyConfig,
    /// Unpredictable bits, which key the hashes of the tables.
    pub secret: [u64; 2],
}

/// How packets of ours are marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marking {
    /// Hops that they may take, unless an application says otherwise; `None`: 64, and of IPv6 what routers say.
    pub hop_limit: Option<u8>,
    /// The Differentiated Services code point that they carry (RFC 2474), unless an application says otherwise; `None`: zero,
    /// and in answers that of the request.
    pub dscp: Option<u8>,
}

/// What happened that somebody outside has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All addresses are ours to use.
    Ready,
    /// Another host has the address: it was not taken.
    Duplicate(IpAddress, Mac),
    /// Another host claims an address that we use; it was told that it is ours.
    Contested(IpAddress, Mac),
    /// A neighbor told its MAC address: another worker of the same addresses may be searching for it.
    Neighbor {
        /// The neighbor.
        address: IpAddress,
        /// Its MAC address.
        mac: Mac,
        /// Whether it answered a question of one of them, and so gets what is sent to it.
        solicited: bool,
    },
    /// A router asks who is in which group, of IPv4 where that is true: another worker reports.
    Query(Query, bool),
    /// A router showed itself by this address: other workers of the same addresses make the same of it.
    Router(Ipv6Addr, RouterAdvertisement),
    /// An address is gained or lost by what routers told.
    Address(IpAddress, AddressNews),
    /// Somebody says something about a packet that was not sent here: another worker of the same addresses may have sent
    /// it.
    NetworkError(NetworkError),
}

/// What becomes of an address while the stack runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressNews {
    /// It is about to be probed for: what is sent to it has to come here from now on.
    Probed,
    /// It is ours to use.
    Settled,
    /// Another host has it: it was not taken.
    Taken,
    /// It is ours no more.
    Lost,
}

/// Events kept until they are taken out: more would be news about the same few things.
const EVENTS: usize = 40;
/// How many there may be when one comes that anybody can make any number of: the rest is for what happens seldom.
const GOSSIP_EVENTS: usize = EVENTS - 8;
/// The same where it is about neighbors: these leave room for what is said of paths.
const NEIGHBOR_EVENTS: usize = GOSSIP_EVENTS - 8;

/// A host on one interface, with an application on it.
#[derive(Debug)]
pub struct Stack<A: App> {
    app: A,
    mac: Mac,
    /// What frames are like that may take the short way.
    plain_link: PlainLink,
    vlan: Option<Vlan>,
    udp_ports: Ports,
    checksum: ChecksumPolicy,
    tcp: Option<Tcp>,
    /// What the application keeps beside each connection, in the connections' places.
    sessions: Vec<A::Session>,
    icmp_limit: RateLimit,
    /// Whether any address of ours is one of IPv6.
    speaks_ipv6: bool,
    broadcasts: bool,
    /// Whether we find out whether the addresses are free.
    probes: bool,
    reassembly: Reassembly<Inbound>,
    autoconf: Option<Configured>,
    egress: Egress,
    events: ArrayVec<Event, EVENTS>,
    ready: bool,
}

/// What becomes of a received frame.
enum Outcome {
    /// It served its purpose.
    Delivered,
    /// It served its purpose and now holds the frame to send.
    Answered,
    /// It served its purpose and now holds the IP packet that goes back to where this came from.
    Answer(Inbound),
    /// It served its purpose and now holds what is to be sent in fragments, if it has to: the payload of an IP packet.
    Cut(Way, u8, Priority),
    /// It is dropped.
    Dropped(DropReason),
    /// It is dropped and now holds an ICMP error about it, to go back to where this came from.
    Refused(DropReason, Inbound),
    /// It is a datagram with a TCP segment: TCP decides, and may keep the frame.
    Tcp(Inbound),
    /// The same of one that lies in several chunks.
    TcpLong(Inbound),
}

/// A received datagram, as far as an answer to it needs to know.
#[derive(Clone, Copy, Debug)]
struct Inbound {
    ethernet: ethernet::Header,
    /// Bytes in front of the IP payload, from the frame's start: headers, and extension headers of IPv6.
    payload_at: usize,
    payload_len: usize,
    traffic_class: u8,
    hop_limit: u8,
    /// Of IPv6 (RFC 6437); zero elsewhere.
    flow_label: u32,
    /// Whether it came in fragments, if only in one.
    in_fragments: bool,
    source: IpAddress,
    destination: IpAddress,
}

impl Inbound {
    /// Where the packet ends, bytes from the frame's start.
    const fn end(&self) -> usize {
        self.payload_at + self.payload_len
    }

    /// Whether it was sent to several hosts.
    fn is_to_group(&self) -> bool {
        self.ethernet.destination.is_multicast() || self.destination.is_multicast()
    }
}

/// Chunks of packet memory that fragments and frames without a neighbor may hold, on top of what rings, bursts and TCP
/// take.
#[must_use]
pub const fn held_chunks(reassembly: &ReassemblyConfig, neighbors: &NeighborConfig) -> u32 {
    reassembly.chunks + fragments::OUTGOING + neighbors.waiting
}

impl<A: App> Stack<A> {
    /// A stack with an application. Unless `config.probing` is off its addresses are tentative until they were probed:
    /// [`Event::Ready`] tells when.
    #[must_use]
    pub fn new(config: &StackConfig, app: A, now: Instant) -> Self {
        let addresses = Addresses::new(&config.addresses, config.probing, now);
        let routes = Routes::new(addresses.prefixes(), &config.gateways).with(config.routes.clone());
        let mut stack = Self {
            app,
            mac: config.mac,
            plain_link: PlainLink::new(config.mac, config.vlan),
            vlan: config.vlan,
            udp_ports: Ports::new(config.udp_ports.iter().copied()),
            checksum: config.checksum,
            tcp: tcp::tcp_of(config, now),
            sessions: Vec::with_capacity(config.tcp.as_ref().map_or(0, |tcp| tcp.connections as usize)),
            icmp_limit: RateLimit::new(config.secret),
            speaks_ipv6: config.addresses.iter().any(|prefix| prefix.addr().is_ipv6()),
            broadcasts: config.broadcasts,
            probes: config.probing == Probing::Lead,
            reassembly: Reassembly::new(config.reassembly),
            autoconf: Configured::of(config, now),
            egress: Egress {
                mac: config.mac,
                tags: config.vlan.map_or_else(Tags::default, Tags::of),
                priorities: match (config.vlan, &config.tcp) {
                    (Some(_), Some(tcp)) => vec![Priority::default(); tcp.connections as usize],
                    _ => Vec::new(),
                },
                paths: PathMtus::new(config.mtu, config.secret),
                sent: SentLately::new(config.secret),
                identifications: Identifications::new(config.secret),
                outgoing: FrameQueue::default(),
                routes: Routes::new([], &[]),
                addresses,
                prefer_temporary: config.autoconf.is_some_and(|autoconf| autoconf.slaac == Slaac::Temporary),
                neighbors: Neighbors::new(&config.neighbors, config.secret),
                members: groups::members(config, now),
                dscp: config.marking.dscp,
                hop_limits: HopLimits::new(config.marking.hop_limit),
                tcp_hop_limits: HopLimits::new(
                    config.tcp.as_ref().and_then(|tcp| tcp.ttl).or(config.marking.hop_limit),
                ),
                own_queue: config.own_queue.clone(),
                ways: Ways::new(),
                segmentation: false,
                upkeep_at: Instant::ZERO,
                counters: StackCounters::default(),
            },
            events: ArrayVec::new(),
            ready: false,
        };
        stack.take_routes(routes);
        stack
    }

    /// Digests as many received frames as `out` has room for answers; the others stay in `received`.
    pub fn receive(&mut self, now: Instant, received: &mut Burst, umem: &mut Umem, out: &mut Burst) {
        self.look_ahead(received, umem);
        let mut frames = received.take(out.room()).peekable();
        while let Some(frame) = frames.next() {
            if let Some(next) = frames.peek() {
                umem.prefetch(next);
            }
            self.egress.counters.received += 1;
            let carried = if umem.is_chain(&frame) { None } else { self.plain_link.carried(umem.bytes(&frame)) };
            match carried {
                Some((ethernet::IPV4, at)) => self.take_v4(now, at, frame, umem, out),
                Some((ethernet::IPV6, at)) => self.take_v6(now, at, frame, umem, out),
                _ => self.digest(now, frame, umem, out),
            }
        }
    }

    /// Does with a frame what was found out to be right.
    #[inline]
    fn conclude(&mut self, now: Instant, outcome: Outcome, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        let counters = &mut self.egress.counters;
        match outcome {
            Outcome::Answered => {
                counters.delivered += 1;
                self.egress.push(frame, umem, out);
            }
            Outcome::Delivered => {
                counters.delivered += 1;
                umem.free(frame);
            }
            Outcome::Dropped(reason) => {
                counters.drop(reason);
                umem.free(frame);
            }
            Outcome::Answer(inbound) => {
                counters.delivered += 1;
                self.egress.send_back(&inbound, frame, now, umem, out);
            }
            Outcome::Cut(way, protocol, priority) => {
                counters.delivered += 1;
                self.egress.send_long(frame, &way, (protocol, priority), now, umem);
            }
            Outcome::Refused(reason, inbound) => {
                counters.drop(reason);
                self.egress.send_back(&inbound, frame, now, umem, out);
            }
            Outcome::Tcp(ref inbound) => self.tcp(now, inbound, frame, umem, out),
            Outcome::TcpLong(ref inbound) => self.tcp_long(now, inbound, frame, umem, out),
        }
    }

    /// Whether the device cuts up packets of several segments of TCP, as
    /// [`Device::cuts_segments`](crate::device::Device::cuts_segments) says: then connections send their segments in such.
    #[inline]
    pub const fn use_segmentation(&mut self, on: bool) {
        self.egress.segmentation = on;
        if let Some(tcp) = &mut self.tcp {
            tcp.leave_sums(on);
        }
    }

    /// Appends to `out`, as far as it has room: frames whose neighbor was found, questions who has an address that are due,
    /// and what the application wants to send.
    pub fn transmit(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        if self.egress.upkeep_is_due(now) {
            self.transmit_upkeep(now, umem, out);
        }
        debug_assert!(self.egress.upkeep_at <= self.next_upkeep(), "nothing is due before it is looked after");
        let Self { app, egress, tcp, sessions, .. } = self;
        app.poll(now, &mut Turn { now, egress, tcp: tcp.as_mut(), sessions, umem, out });
        // What the application sends in fragments.
        self.egress.flush_outgoing(now, umem, out);
        self.transmit_tcp(now, umem, out);
    }

    /// What is sent neither for connections nor by the application: most turns have nothing of it to do.
    #[inline(never)]
    fn transmit_upkeep(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        self.egress.flush_found(umem, out);
        self.egress.flush_outgoing(now, umem, out);
        self.expire_fragments(now, umem, out);
        self.egress.paths.expire(now);
        self.run_autoconf(now, umem, out);
        // RFC 4862, section 5.4.2: a node joins the solicited-node group of an address before it probes for it.
        self.egress.transmit_reports(now, umem, out);
        self.transmit_questions(now, umem, out);
        self.take_changes(now);
        if !self.ready && self.egress.addresses.all_preferred() {
            self.ready = true;
            if self.probes {
                self.egress.members.report_again(now);
            }
            self.tell(Event::Ready);
        }
        // Without room, something may have been left undone.
        self.egress.upkeep_at = if out.room() == 0 { Instant::ZERO } else { self.next_upkeep() };
    }

    /// When upkeep is due next, neighbors and what waits to be sent aside.
    fn next_upkeep(&self) -> Instant {
        let fragments = self.reassembly.next_deadline();
        let autoconf = self.autoconf.as_ref().and_then(Configured::next_deadline);
        let addresses = self.egress.addresses.next_deadline();
        let members = self.egress.members.next_deadline();
        let paths = self.egress.paths.next_end();
        [addresses, members, fragments, autoconf, paths]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Instant::from_ns(u64::MAX))
    }

    /// When the stack has something to do next, if no frame comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tcp = self.tcp.as_ref().and_then(Tcp::next_deadline);
        let fragments = self.reassembly.next_deadline();
        let autoconf = self.autoconf.as_ref().and_then(Configured::next_deadline);
        [self.egress.next_deadline(), self.app.next_deadline(), tcp, fragments, autoconf].into_iter().flatten().min()
    }

    /// Takes out the oldest event.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_at(0)?;
        // There may be more to tell, for which there was no room.
        self.egress.hurry_upkeep();
        Some(event)
    }

    /// Hears from the worker that leads the probing that the addresses are ours.
    pub fn settle_addresses(&mut self) {
        self.egress.addresses.settle();
        self.egress.hurry_upkeep();
    }

    /// Hears of a neighbor from another worker: it is entered if it is known or searched for here.
    pub fn confirm_neighbor(&mut self, address: IpAddress, mac: Mac, solicited: bool, now: Instant) {
        let told = Advertisement { solicited, ..Advertisement::arp_reply(mac) };
        self.egress.neighbors.advertised(address, told, now);
    }

    /// Hears of a neighbor from the kernel, whose ways out are followed: it is entered.
    pub fn adopt_neighbor(&mut self, address: IpAddress, mac: Mac, now: Instant) {
        self.egress.neighbors.adopt(address, mac, now);
    }

    /// Tells the neighbors anew where our addresses are.
    pub fn announce_addresses(&mut self, now: Instant) {
        self.egress.addresses.announce(now);
        self.egress.hurry_upkeep();
    }

    /// Sends no IP packet that is longer than `mtu` bytes from now on.
    pub fn set_mtu(&mut self, mtu: u16, umem: &mut Umem) {
        if let Some(configured) = &mut self.autoconf {
            configured.set_link_mtu(mtu);
        }
        self.egress.paths.set_link(mtu);
        self.egress.hurry_upkeep();
        if let Some(tcp) = &mut self.tcp {
            tcp.set_mtu(mtu, umem);
        }
    }

    /// Takes what is sent to another MAC address than before, and sends from it.
    pub fn set_mac(&mut self, mac: Mac) {
        (self.mac, self.egress.mac) = (mac, mac);
        if let Some(configured) = &mut self.autoconf {
            configured.set_mac(mac);
        }
        self.plain_link = PlainLink::new(mac, self.vlan);
    }

    /// Takes other ways out.
    pub fn set_routes(&mut self, routes: Routes) {
        let routes = match &mut self.autoconf {
            Some(configured) => configured.set_routes(routes),
            None => routes,
        };
        self.take_routes(routes);
    }

    fn take_routes(&mut self, routes: Routes) {
        if let Some(tcp) = &mut self.tcp {
            tcp.set_routes(&routes);
        }
        self.egress.set_routes(routes);
    }

    /// Counts frames of the last bursts that the device did not take.
    pub const fn count_unsent(&mut self, reason: UnsentReason, frames: u64) {
        self.egress.counters.unsent(reason, frames);
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &StackCounters {
        &self.egress.counters
    }

    /// TCP, to look at.
    #[must_use]
    pub const fn tcp_state(&self) -> Option<&Tcp> {
        self.tcp.as_ref()
    }

    /// Frames that wait for a neighbor.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.egress.neighbors.waiting()
    }

    /// Received fragments of datagrams that are not whole yet: received, and neither delivered nor dropped.
    #[must_use]
    pub fn fragments(&self) -> u32 {
        self.reassembly.held_frames()
    }

    /// Chunks that received fragments wait in for the rest of their datagrams.
    #[must_use]
    pub const fn fragment_chunks(&self) -> u32 {
        self.reassembly.held_chunks()
    }

    /// Chunks that lie on queues: of fragments received, of fragments to send, and of frames that wait for a neighbor.
    #[must_use]
    pub fn queued_chunks(&self) -> u32 {
        self.reassembly.held_chunks() + self.egress.outgoing.len() + self.egress.neighbors.waiting_chunks()
    }

    /// The application.
    #[must_use]
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// The application, to talk to it between turns.
    #[must_use]
    pub const fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// Counts an answer that cannot be sent; the frame that asked for it was delivered all the same.
    const fn unanswered(&mut self, reason: UnsentReason) -> Outcome {
        self.egress.counters.originated += 1;
        self.egress.counters.unsent(reason, 1);
        Outcome::Delivered
    }

    fn tell(&mut self, event: Event) {
        // When nobody takes events out, the oldest ones are the ones to keep.
        let _ = self.events.try_push(event);
    }
}

#[cfg(test)]
mod tcp_rules_tests;
#[cfg(test)]
mod tcp_tests;
#[cfg(test)]
mod tests;
