//! What the kernel tells of an interface while the engine runs: netlink's multicast groups (man 7 rtnetlink, netlink).
//!
//! ```text
//!   kernel --multicast--> Known: what was known so far --differences--> News
//!      \------dump, at the start and after a loss-----/
//! ```
//!
//! The kernel repeats itself: a change of one flag tells everything about a link again. So what is known is kept, and
//! only what differs from it is news. At first that are the facts that the engine started with, and whatever has
//! changed since they were read is told like any other change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinHandle;

use super::{FactsError, LinkFacts};
use crate::wire::ethernet::Mac;

/// What is listened to.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];
/// Neighbors of the kernel that are kept in mind: as many as it keeps itself by default (gc_thresh3 is 1,024 a family).
/// Of others every word is news.
const NEIGHBORS: usize = 2048;
/// Addresses of the kernel that are kept in mind. Of others every word is news.
const ADDRESSES: usize = 65_536;

/// Time until the kernel is asked again that has not answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The link has no carrier any more: no cable, no peer, or the interface is down.
    CarrierDown,
    /// It has one again.
    CarrierUp,
    /// The operator has set the interface down.
    LinkDown,
    /// The interface is gone, or in another network namespace.
    LinkGone,
    /// Longest IP packet, bytes.
    MtuChanged(u32),
    /// The interface has another MAC address.
    MacChanged(Mac),
    /// The kernel has an address, on whatever interface, that it had on none. At first it is told of all that it has.
    KernelGainedAddress(IpAddr),
    /// It has it on no interface any more.
    KernelLostAddress(IpAddr),
    /// Some route was added, changed or removed.
    RoutesChanged,
    /// The kernel has found a neighbor on the link at a MAC address, or lost it.
    NeighborChanged(IpAddr, Option<Mac>),
    /// The kernel told more than could be listened to. Everything is read anew, and what has changed is told next.
    Overrun,
}

type Messages = Pin<Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send + Sync>>;

/// Listens to the kernel about one interface.
pub struct Monitor {
    known: Known,
    /// Told by the kernel and not yet taken.
    news: VecDeque<News>,
    /// Whether something may have been missed.
    stale: bool,
    handle: rtnetlink::Handle,
    messages: Messages,
    connection: JoinHandle<()>,
}

/// What was told so far.
#[derive(Clone, Debug)]
struct Known {
    index: u32,
    gone: bool,
    up: bool,
    carrier: bool,
    mtu: u32,
    mac: Mac,
    /// With the index of their interfaces, of which several may have the same.
    addresses: BTreeSet<(IpAddr, u32)>,
    neighbors: BTreeMap<IpAddr, Mac>,
}

impl Monitor {
    /// Listens from now on, to tell what differs from `facts`. Must run on a tokio runtime.
    ///
    /// # Errors
    /// [`FactsError::Socket`].
    pub fn open(facts: &LinkFacts) -> Result<Self, FactsError> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        Ok(Self {
            known: Known::new(facts),
            news: VecDeque::new(),
            stale: true,
            handle,
            messages: Box::pin(messages),
            connection: tokio::spawn(connection),
        })
    }

    /// The next change. Nothing is lost if it is not waited for to the end.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            if self.stale {
                if let Err(error) = self.read_anew().await {
                    tracing::warn!("{error}; asking again");
                    tokio::time::sleep(PATIENCE).await;
                }
                continue;
            }
            match self.messages.next().await {
                Some((message, _)) => self.hear(&message.payload),
                None => self.listen_again().await,
            }
        }
    }

    /// Whether the interface is gone, asked of the kernel.
    pub async fn is_gone(&self) -> bool {
        matches!(link(&self.handle, self.known.index).await, Ok(None))
    }

    fn hear(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) {
        match payload {
            NetlinkPayload::Overrun(_) => {
                self.stale = true;
                self.news.push_back(News::Overrun);
            }
            NetlinkPayload::InnerMessage(message) => self.known.digest(message, &mut self.news),
            _ => {}
        }
    }

    /// The socket is dead, for whatever reason.
    async fn listen_again(&mut self) {
        match rtnetlink::new_multicast_connection(&GROUPS) {
            Ok((connection, handle, messages)) => {
                self.connection.abort();
                (self.connection, self.handle) = (tokio::spawn(connection), handle);
                (self.messages, self.stale) = (Box::pin(messages), true);
            }
            Err(error) => tracing::warn!("no netlink socket: {error}; trying again"),
        }
        tokio::time::sleep(PATIENCE).await;
    }

    /// Reads everything, and tells what differs from what is known.
    async fn read_anew(&mut self) -> Result<(), FactsError> {
        let link = link(&self.handle, self.known.index).await?;
        let mut addresses = BTreeSet::new();
        let mut answers = self.handle.address().get().execute();
        while let Some(message) = answers.try_next().await? {
            addresses.extend(address(&message).map(|address| (address, message.header.index)));
        }
        drop(answers);
        let mut neighbors = BTreeMap::new();
        let mut answers = self.handle.neighbours().get().execute();
        while let Some(message) = answers.try_next().await? {
            if let (true, Some((address, Word::Found(mac)))) =
                (message.header.ifindex == self.known.index, neighbor(&message))
            {
                neighbors.insert(address, mac);
            }
        }
        drop(answers);
        // From here on nothing is waited for: it is done whole or not at all.
        match link {
            Some(message) => self.known.link(&message, &mut self.news),
            None => self.known.link_is_gone(&mut self.news),
        }
        self.known.replace_addresses(addresses, &mut self.news);
        self.known.replace_neighbors(neighbors, &mut self.news);
        self.news.push_back(News::RoutesChanged);
        self.stale = false;
        Ok(())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A link's message; `None` if there is no such link.
async fn link(handle: &rtnetlink::Handle, index: u32) -> Result<Option<LinkMessage>, FactsError> {
    match handle.link().get().match_index(index).execute().try_next().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
        result => Ok(result?),
    }
}

/// What the kernel says of a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Found(Mac),
    Lost,
}

impl Known {
    fn new(facts: &LinkFacts) -> Self {
        let &LinkFacts { index, up, carrier, mtu, mac, .. } = facts;
        let (addresses, neighbors) = (BTreeSet::new(), BTreeMap::new());
        Self { index, gone: false, up, carrier, mtu, mac, addresses, neighbors }
    }

    /// Takes note of what a message says, and tells what is new of it.
    fn digest(&mut self, message: &RouteNetlinkMessage, news: &mut VecDeque<News>) {
        match message {
            RouteNetlinkMessage::NewLink(message) if self.is_about_link(message) => self.link(message, news),
            RouteNetlinkMessage::DelLink(message) if self.is_about_link(message) => self.link_is_gone(news),
            RouteNetlinkMessage::NewAddress(message) => {
                if let Some(address) = address(message) {
                    self.gained(address, message.header.index, news);
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                if let Some(address) = address(message) {
                    self.lost(address, message.header.index, news);
                }
            }
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == self.index => {
                match neighbor(message) {
                    Some((address, Word::Found(mac))) => self.found_neighbor(address, mac, news),
                    Some((address, Word::Lost)) => self.lost_neighbor(address, news),
                    None => {}
                }
            }
            RouteNetlinkMessage::DelNeighbour(message) if message.header.ifindex == self.index => {
                if let Some(address) = neighbor_address(message) {
                    self.lost_neighbor(address, news);
                }
            }
            // One change of a table is often many messages.
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_)
                if !news.contains(&News::RoutesChanged) =>
            {
                news.push_back(News::RoutesChanged);
            }
            _ => {}
        }
    }

    /// A bridge tells of its ports in messages of its own family, and of their removal from it too.
    fn is_about_link(&self, message: &LinkMessage) -> bool {
        message.header.index == self.index && message.header.interface_family == AddressFamily::Unspec
    }

    fn link(&mut self, message: &LinkMessage, news: &mut VecDeque<News>) {
        let flags = message.header.flags;
        let (up, carrier) = (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp));
        if self.up && !up {
            news.push_back(News::LinkDown);
        }
        if self.carrier != carrier {
            news.push_back(if carrier { News::CarrierUp } else { News::CarrierDown });
        }
        (self.up, self.carrier) = (up, carrier);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) if *mtu != self.mtu => {
                    self.mtu = *mtu;
                    news.push_back(News::MtuChanged(*mtu));
                }
                LinkAttribute::Address(bytes) => {
                    if let Ok(mac) = bytes[..].try_into().map(Mac)
                        && mac != self.mac
                    {
                        self.mac = mac;
                        news.push_back(News::MacChanged(mac));
                    }
                }
                _ => {}
            }
        }
    }

    fn link_is_gone(&mut self, news: &mut VecDeque<News>) {
        if !std::mem::replace(&mut self.gone, true) {
            news.push_back(News::LinkGone);
        }
    }

    /// The kernel has an address on any interface.
    fn has(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u32::MAX)).next().is_some()
    }

    fn gained(&mut self, address: IpAddr, index: u32, news: &mut VecDeque<News>) {
        if !self.has(address) {
            news.push_back(News::KernelGainedAddress(address));
        }
        if self.addresses.len() < ADDRESSES {
            self.addresses.insert((address, index));
        }
    }

    fn lost(&mut self, address: IpAddr, index: u32, news: &mut VecDeque<News>) {
        if self.addresses.remove(&(address, index)) && !self.has(address) {
            news.push_back(News::KernelLostAddress(address));
        }
    }

    fn replace_addresses(&mut self, now: BTreeSet<(IpAddr, u32)>, news: &mut VecDeque<News>) {
        // First those that are new: an address that has moved to another interface was never lost.
        for &(address, index) in now.difference(&self.addresses.clone()) {
            self.gained(address, index, news);
        }
        for (address, index) in self.addresses.difference(&now).copied().collect::<Vec<_>>() {
            self.lost(address, index, news);
        }
    }

    fn found_neighbor(&mut self, address: IpAddr, mac: Mac, news: &mut VecDeque<News>) {
        if self.neighbors.get(&address) != Some(&mac) {
            news.push_back(News::NeighborChanged(address, Some(mac)));
        }
        if self.neighbors.len() < NEIGHBORS || self.neighbors.contains_key(&address) {
            self.neighbors.insert(address, mac);
        }
    }

    fn lost_neighbor(&mut self, address: IpAddr, news: &mut VecDeque<News>) {
        if self.neighbors.remove(&address).is_some() {
            news.push_back(News::NeighborChanged(address, None));
        }
    }

    fn replace_neighbors(&mut self, now: BTreeMap<IpAddr, Mac>, news: &mut VecDeque<News>) {
        for address in self.neighbors.keys().filter(|address| !now.contains_key(address)).copied().collect::<Vec<_>>() {
            self.lost_neighbor(address, news);
        }
        for (address, mac) in now {
            self.found_neighbor(address, mac, news);
        }
    }
}

/// The address that a message is about: that of this end, where a link has two.
pub(super) fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    local.or(any)
}

/// What a message says of a neighbor; nothing if the kernel itself doubts it.
fn neighbor(message: &NeighbourMessage) -> Option<(IpAddr, Word)> {
    let address = neighbor_address(message)?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes[..].try_into().ok().map(Mac),
        _ => None,
    });
    match message.header.state {
        NeighbourState::Reachable | NeighbourState::Permanent => Some((address, Word::Found(mac?))),
        NeighbourState::Incomplete | NeighbourState::Failed => Some((address, Word::Lost)),
        _ => None,
    }
}

fn neighbor_address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteMessage;

    use super::*;
    use crate::nic::TagStripping;

    const INDEX: u32 = 4;
    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn known() -> Known {
        Known::new(&LinkFacts {
            name: "bw0".into(),
            index: INDEX,
            mac: OURS,
            mtu: 1500,
            up: true,
            carrier: true,
            driver: "veth".into(),
            queues: 1,
            spreading: None,
            tag_stripping: TagStripping::Off,
            kernel_addresses: vec![],
        })
    }

    fn told(known: &mut Known, message: &RouteNetlinkMessage) -> Vec<News> {
        let mut news = VecDeque::new();
        known.digest(message, &mut news);
        news.into()
    }

    fn link(index: u32, flags: LinkFlags, mtu: u32, mac: Mac) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = vec![LinkAttribute::Mtu(mtu), LinkAttribute::Address(mac.0.to_vec())];
        message
    }

    fn on(address: &str, index: u32) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Address(address.parse().unwrap())];
        message
    }

    fn seen(state: NeighbourState, mac: Option<Mac>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = INDEX;
        message.header.state = state;
        let address = NeighbourAddress::Inet([10, 0, 0, 3].into());
        message.attributes = vec![NeighbourAttribute::Destination(address)];
        message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
        message
    }

    #[test]
    fn of_a_link_only_what_differs_is_news() {
        let (up, no_carrier) = (LinkFlags::Up | LinkFlags::LowerUp, LinkFlags::Up);
        let mut known = known();
        let mut told = |flags, mtu, mac| told(&mut known, &RouteNetlinkMessage::NewLink(link(INDEX, flags, mtu, mac)));
        assert_eq!(told(up, 1500, OURS), []);
        assert_eq!(told(no_carrier, 1500, OURS), [News::CarrierDown]);
        assert_eq!(told(no_carrier, 1500, OURS), []);
        assert_eq!(told(up, 1400, OURS), [News::CarrierUp, News::MtuChanged(1400)]);
        assert_eq!(told(up, 1400, OTHER), [News::MacChanged(OTHER)]);
        assert_eq!(told(LinkFlags::empty(), 1400, OTHER), [News::LinkDown, News::CarrierDown]);
        assert_eq!(told(no_carrier, 1400, OTHER), []);
    }

    #[test]
    fn a_link_is_gone_once_and_not_when_it_only_leaves_a_bridge() {
        let mut known = known();
        let mut message = link(INDEX, LinkFlags::Up, 1500, OURS);
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(told(&mut known, &RouteNetlinkMessage::DelLink(message.clone())), []);
        assert_eq!(told(&mut known, &RouteNetlinkMessage::NewLink(message.clone())), []);
        message.header.interface_family = AddressFamily::Unspec;
        let other = link(9, LinkFlags::Up, 1500, OURS);
        assert_eq!(told(&mut known, &RouteNetlinkMessage::DelLink(other)), []);
        assert_eq!(told(&mut known, &RouteNetlinkMessage::DelLink(message.clone())), [News::LinkGone]);
        assert_eq!(told(&mut known, &RouteNetlinkMessage::DelLink(message)), []);
    }

    #[test]
    fn an_address_that_two_interfaces_have_is_lost_with_the_second() {
        let mut known = known();
        let address: IpAddr = "2001:db8::2".parse().unwrap();
        let gained = |index| RouteNetlinkMessage::NewAddress(on("2001:db8::2", index));
        let lost = |index| RouteNetlinkMessage::DelAddress(on("2001:db8::2", index));
        assert_eq!(told(&mut known, &gained(1)), [News::KernelGainedAddress(address)]);
        assert_eq!(told(&mut known, &gained(1)), []);
        assert_eq!(told(&mut known, &gained(2)), []);
        assert_eq!(told(&mut known, &lost(1)), []);
        assert_eq!(told(&mut known, &lost(2)), [News::KernelLostAddress(address)]);
        assert_eq!(told(&mut known, &lost(2)), []);
    }

    #[test]
    fn what_was_missed_is_told_when_everything_is_read_anew() {
        let [stays, moves, goes, comes] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|a| a.parse().unwrap());
        let mut known = known();
        known.addresses.extend([(stays, 1), (moves, 1), (goes, 1)]);
        let mut news = VecDeque::new();
        known.replace_addresses([(stays, 1), (moves, 2), (comes, 1)].into(), &mut news);
        assert_eq!(news, [News::KernelGainedAddress(comes), News::KernelLostAddress(goes)]);
        news.clear();
        known.neighbors.extend([(stays, OURS), (moves, OURS), (goes, OURS)]);
        known.replace_neighbors([(stays, OURS), (moves, OTHER)].into(), &mut news);
        assert_eq!(news, [News::NeighborChanged(goes, None), News::NeighborChanged(moves, Some(OTHER))]);
    }

    #[test]
    fn a_neighbor_is_news_when_it_is_found_elsewhere_or_lost() {
        let mut known = known();
        let address: IpAddr = "10.0.0.3".parse().unwrap();
        let mut said = |state, mac| told(&mut known, &RouteNetlinkMessage::NewNeighbour(seen(state, mac)));
        assert_eq!(said(NeighbourState::Incomplete, None), []);
        assert_eq!(said(NeighbourState::Stale, Some(OTHER)), [], "the kernel doubts it");
        let found = |mac| vec![News::NeighborChanged(address, Some(mac))];
        assert_eq!(said(NeighbourState::Reachable, Some(OTHER)), found(OTHER));
        assert_eq!(said(NeighbourState::Stale, Some(OTHER)), []);
        assert_eq!(said(NeighbourState::Reachable, Some(OTHER)), []);
        assert_eq!(said(NeighbourState::Permanent, Some(OURS)), found(OURS));
        assert_eq!(said(NeighbourState::Failed, None), [News::NeighborChanged(address, None)]);
        assert_eq!(said(NeighbourState::Failed, None), []);
    }

    #[test]
    fn a_burst_of_routes_is_one_piece_of_news() {
        let mut news = VecDeque::new();
        for message in [RouteNetlinkMessage::NewRoute, RouteNetlinkMessage::DelRoute] {
            known().digest(&message(RouteMessage::default()), &mut news);
        }
        assert_eq!(news, [News::RoutesChanged]);
    }

    #[test]
    fn neighbors_beyond_the_limit_are_told_of_and_forgotten() {
        let mut known = known();
        let mut news = VecDeque::new();
        for n in 0..NEIGHBORS as u32 + 10 {
            known.found_neighbor(IpAddr::V4(n.into()), OTHER, &mut news);
        }
        assert_eq!((known.neighbors.len(), news.len()), (NEIGHBORS, NEIGHBORS + 10));
    }
}
