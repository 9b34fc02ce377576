//! What routers tell, in the stack: questions to them, and routes and addresses that come and go.

use std::net::Ipv6Addr;

use ipnet::IpNet;

use crate::app::App;
use crate::base::{Burst, DropReason, Instant, Umem};
use crate::link::address::{Probing, Usable};
use crate::link::neighbor::State;
use crate::network::autoconf::{Autoconf, Change};
use crate::network::route::Routes;
use crate::network::source_address::{Candidate, source_for};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::wire::ndp::{self, RouterAdvertisement};

use super::egress::Egress;
use super::{AddressNews, EVENTS, Event, NEIGHBOR_EVENTS, Outcome, Stack, StackConfig};

/// What routers told, and what goes with it.
#[derive(Debug)]
pub(super) struct Configured {
    autoconf: Autoconf,
    /// The ways out that do not depend on routers' advertisements.
    routes: Routes,
    /// Whether routers told of others since the ways out were put together.
    is_stale: bool,
    /// The MTU that was taken from a router, bytes.
    mtu: Option<u16>,
    /// How addresses are found to be free.
    probing: Probing,
}

impl Configured {
    pub(super) fn of(config: &StackConfig, now: Instant) -> Option<Self> {
        let solicits = config.probing != Probing::Follow;
        let routes = Routes::new(config.addresses.iter().copied(), &config.gateways).with(config.routes.clone());
        config.autoconf.map(|autoconf| Self {
            autoconf: Autoconf::new(autoconf, config.mac, config.mtu, config.secret, solicits, now),
            routes,
            is_stale: false,
            mtu: None,
            probing: if solicits { Probing::Lead } else { Probing::Follow },
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.autoconf.is_choice_due() { Some(Instant::ZERO) } else { self.autoconf.next_deadline() }
    }

    /// Takes other ways out, and gives all of them.
    pub(super) fn set_routes(&mut self, routes: Routes) -> Routes {
        self.routes = routes;
        self.all_routes()
    }

    fn all_routes(&mut self) -> Routes {
        self.is_stale = false;
        self.routes.clone().with(self.autoconf.routes())
    }

    /// Hears that a neighbor does not answer.
    pub(super) fn lost(&mut self, neighbor: IpAddress) {
        if let Some(router) = neighbor.to_v6() {
            self.autoconf.lost(router);
        }
    }

    pub(super) const fn set_mac(&mut self, mac: Mac) {
        self.autoconf.set_mac(mac);
    }

    pub(super) const fn set_link_mtu(&mut self, mtu: u16) {
        self.autoconf.set_link_mtu(mtu);
        self.mtu = None;
    }
}

impl<A: App> Stack<A> {
    /// Hears what a router told another worker of the same addresses.
    pub fn hear_of_router(&mut self, told: &RouterAdvertisement, source: Ipv6Addr, now: Instant) {
        let Some(configured) = &mut self.autoconf else { return };
        // RFC 4861, section 6.3.4: with a Source Link-Layer Address option, the address SHOULD be recorded in the Neighbor
        // Cache entry for the router.
        if let Some(mac) = told.source_mac.filter(|mac| *mac != self.mac) {
            self.egress.neighbors.heard_from(source.into(), mac, now);
        }
        configured.autoconf.receive(told, source, now);
        self.egress.hurry_upkeep();
    }

    /// Hears from the worker that leads the probing what became of an address that routers' words led to.
    pub fn hear_of_address(&mut self, address: IpAddress, news: AddressNews, now: Instant) {
        self.egress.hurry_upkeep();
        match news {
            AddressNews::Settled => self.egress.addresses.settle_gained(address),
            AddressNews::Taken => {
                self.give_up(address, now);
            }
            AddressNews::Probed | AddressNews::Lost => {}
        }
    }

    /// Puts the ways out together anew if routers told of others. Allocates, so it is for housekeeping.
    pub fn settle_routes(&mut self) {
        if let Some(configured) = self.autoconf.as_mut().filter(|configured| configured.is_stale) {
            let routes = configured.all_routes();
            self.take_routes(routes);
        }
    }

    /// Digests what a router told us ourselves.
    pub(super) fn hear_router(&mut self, told: &RouterAdvertisement, source: Ipv6Addr, now: Instant) -> Outcome {
        if self.autoconf.is_none() {
            return Outcome::Dropped(DropReason::NdpIgnored);
        }
        self.hear_of_router(told, source, now);
        if self.events.len() < NEIGHBOR_EVENTS {
            self.tell(Event::Router(source, told.clone()));
        }
        Outcome::Delivered
    }

    /// Asks routers, and does what their words and the time lead to.
    pub(super) fn run_autoconf(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        let Some(configured) = &mut self.autoconf else { return };
        if out.room() > 0 && configured.autoconf.next_deadline().is_some_and(|next| next <= now) {
            let asks = configured.autoconf.due(now);
            if asks {
                self.egress.solicit_routers(umem, out);
            }
        }
        self.take_parameters(now, umem);
        self.take_changes(now);
    }

    fn take_parameters(&mut self, now: Instant, umem: &mut Umem) {
        let Some(configured) = &mut self.autoconf else { return };
        let Egress { neighbors, hop_limits, tcp_hop_limits, .. } = &mut self.egress;
        let state = |router: Ipv6Addr| neighbors.state(router.into(), now);
        configured.autoconf.choose_router(|router| state(router).is_some_and(|state| state != State::Incomplete));
        configured.is_stale |= configured.autoconf.routes_changed();
        if let Some(reachable) = configured.autoconf.reachable_time() {
            neighbors.set_reachable_time(reachable);
        }
        if let Some(interval) = configured.autoconf.retransmit_time() {
            neighbors.set_retransmit_time(interval);
        }
        if let Some(told) = configured.autoconf.hop_limit() {
            hop_limits.hear(told);
            tcp_hop_limits.hear(told);
        }
        if let Some(mtu) = configured.autoconf.mtu()
            && configured.mtu.replace(mtu) != Some(mtu)
        {
            // RFC 4861, section 6.3.4: of IPv6; of IPv4 it costs some bytes, and no host has to keep two.
            self.egress.paths.set_link(mtu);
            if let Some(tcp) = &mut self.tcp {
                tcp.set_mtu(mtu, umem);
            }
        }
    }

    /// Gains and loses addresses. What there is no room to tell of waits.
    pub(super) fn take_changes(&mut self, now: Instant) {
        while self.events.len() < EVENTS
            && let Some(configured) = &mut self.autoconf
            && let Some(change) = configured.autoconf.next_change()
        {
            let probing = configured.probing;
            match change {
                Change::Add { address, temporary } => self.gain(IpNet::V6(address), temporary, probing, now),
                Change::Deprecate(address, deprecated) => {
                    self.egress.addresses.set_deprecated(address.into(), deprecated);
                }
                Change::Remove(address) => {
                    self.egress.addresses.lose(address.into());
                    self.egress.neighbors.begin_epoch();
                    self.egress.members.leave_own(ndp::solicited_node(address).into(), now);
                    self.tell_of(address.into(), AddressNews::Lost, probing);
                }
            }
        }
        while self.events.len() < EVENTS
            && let Some(probing) = self.autoconf.as_ref().map(|configured| configured.probing)
            && let Some(address) = self.egress.addresses.next_settled()
        {
            self.tell_of(address, AddressNews::Settled, probing);
        }
    }

    fn gain(&mut self, prefix: IpNet, temporary: bool, probing: Probing, now: Instant) {
        let address = IpAddress::from(prefix.addr());
        if self.egress.addresses.gain(prefix, temporary, probing, now)
            && let Some(v6) = address.to_v6()
        {
            self.egress.neighbors.begin_epoch();
            self.egress.members.join_own(ndp::solicited_node(v6).into(), now);
            self.tell_of(address, AddressNews::Probed, probing);
        }
    }

    /// Those who follow come to the same by themselves, and tell nobody.
    fn tell_of(&mut self, address: IpAddress, news: AddressNews, probing: Probing) {
        if probing == Probing::Lead {
            self.tell(Event::Address(address, news));
        }
    }

    /// Gives an address up that was made here and that another host has; `false` if it was not made here.
    pub(super) fn give_up(&mut self, address: IpAddress, now: Instant) -> bool {
        let Some((configured, v6)) = self.autoconf.as_mut().zip(address.to_v6()) else { return false };
        if !configured.autoconf.owns(v6) {
            return false;
        }
        configured.autoconf.taken(v6, now);
        let probing = configured.probing;
        self.tell_of(address, AddressNews::Taken, probing);
        true
    }
}

impl Egress {
    /// The address of ours to send from to `destination`, if nobody has said.
    pub(super) fn source_for(&self, destination: IpAddress) -> Option<IpAddress> {
        let candidates = self.addresses.usable().map(|Usable { address, prefix_len, deprecated, temporary }| {
            Candidate { address, prefix_len, deprecated, temporary }
        });
        let routed = self.routes.lookup(destination).and_then(|route| route.source);
        source_for(destination, routed, self.prefer_temporary, candidates)
    }

    /// RFC 4861, section 6.3.7: to all routers, from an address of ours or the unspecified one.
    fn solicit_routers(&mut self, umem: &mut Umem, out: &mut Burst) {
        let source = self.addresses.link_local().map_or(IpAddress::NONE, IpAddress::v6);
        let source_mac = (source != IpAddress::NONE).then_some(self.mac);
        let write = |room: &mut [u8], source, to| ndp::write_router_solicitation(room, source_mac, source, to);
        self.send_ndp(source, ndp::ALL_ROUTERS.into(), None, umem, out, write);
    }
}
