//! What the kernel tells of the interface, and what the engine does about it.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Sleep;

use super::EngineError;
use super::housekeeping::{Common, News};
use super::plan::{Plan, too_small_for_ipv6};
use crate::config::{RouteSource, Settings};
use crate::network::route::{MAX_ROUTES, Route, Routes};
use crate::nic::{self, FactsError, LinkFacts, Monitor, main_table};
use crate::wire::ethernet::Mac;

/// From the first word of a changed route to the reading of all: a routing daemon changes thousands of them one after
/// the other.
const SETTLING: Duration = Duration::from_millis(100);

/// Watches over the interface.
pub(super) struct Watch {
    monitor: Monitor,
    settings: Settings,
    /// Addresses of the engine.
    addresses: Vec<IpNet>,
    index: u32,
    /// The longest IP packet that a chunk takes, bytes.
    most_mtu: u32,
    counts: Counts,
    /// When routes are to be read again.
    settling: Option<Pin<Box<Sleep>>>,
}

/// What is shown of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Whether there is a carrier.
    pub(super) carrier: bool,
    /// Times that it went or came.
    pub(super) carrier_changes: u64,
    /// Times that the kernel got an address of the engine's.
    pub(super) kernel_conflicts: u64,
    /// Times that the kernel told more than could be listened to.
    pub(super) overruns: u64,
}

/// What there is to react to.
pub(super) enum Change {
    /// The kernel told something.
    Told(nic::News),
    /// Routes have changed, a while ago.
    RoutesSettled,
}

impl Watch {
    /// Watches from now on for what differs from `facts`.
    pub(super) fn new(settings: &Settings, facts: &LinkFacts, plan: &Plan) -> Result<Self, FactsError> {
        let counts = Counts { carrier: facts.carrier, carrier_changes: 0, kernel_conflicts: 0, overruns: 0 };
        Ok(Self {
            monitor: Monitor::open(facts)?,
            settings: settings.clone(),
            addresses: plan.addresses.clone(),
            index: facts.index,
            most_mtu: plan.most_mtu,
            counts,
            settling: None,
        })
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Waits for something to react to. Nothing is lost if it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Change {
        let settled = async {
            match &mut self.settling {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = self.monitor.next() => Change::Told(news),
            () = settled => Change::RoutesSettled,
        }
    }

    /// Whether the interface is gone, asked of the kernel.
    pub(super) async fn is_gone(&self) -> bool {
        self.monitor.is_gone().await
    }

    /// The ways out: those that were asked for, and the kernel's if it is to be followed.
    pub(super) async fn routes(&self) -> Result<Routes, FactsError> {
        let kernel = match self.settings.route_source {
            RouteSource::Configured => Vec::new(),
            RouteSource::Kernel => main_table(self.index).await?,
        };
        if self.settings.routes.len() + kernel.len() > MAX_ROUTES {
            let interface = &self.settings.interface;
            tracing::warn!("the kernel has more than {MAX_ROUTES} routes out of {interface}; the others are not used");
        }
        Ok(routes(&self.settings, &self.addresses, kernel))
    }

    /// Does what is to be done about a change.
    pub(super) async fn react(&mut self, change: Change, common: &Common) -> Result<(), EngineError> {
        let interface = &self.settings.interface;
        let news = match change {
            Change::Told(news) => news,
            Change::RoutesSettled => {
                self.settling = None;
                return self.change_routes(common).await;
            }
        };
        match news {
            nic::News::CarrierDown => self.carrier(false, common),
            nic::News::CarrierUp => self.carrier(true, common),
            nic::News::LinkDown => {
                tracing::warn!("{interface} was set down; until `ip link set {interface} up` nothing comes or goes");
            }
            nic::News::LinkGone => return Err(EngineError::InterfaceGone(interface.clone())),
            nic::News::MtuChanged(mtu) => self.change_mtu(mtu, common),
            nic::News::MacChanged(mac) => self.change_mac(mac, common),
            nic::News::KernelGainedAddress(address) if self.owns(address) => {
                self.counts.kernel_conflicts += 1;
                tracing::error!(
                    "{address} was added to the kernel's addresses, and is the engine's: both would answer for it; \
                     `ip address flush to {address}` takes it from the kernel"
                );
            }
            nic::News::KernelLostAddress(address) if self.owns(address) => {
                tracing::info!("the kernel no longer has {address}: it is the engine's alone");
            }
            nic::News::KernelGainedAddress(_) | nic::News::KernelLostAddress(_) => {}
            nic::News::RoutesChanged => self.let_routes_settle(),
            nic::News::NeighborChanged(address, Some(mac)) if self.settings.route_source == RouteSource::Kernel => {
                common.gossip(None, News::Adopted(address.into(), mac));
            }
            // Whether it answered lately the kernel does not say.
            nic::News::NeighborChanged(address, Some(mac)) => {
                common.gossip(None, News::Neighbor { address: address.into(), mac, solicited: false });
            }
            // What we know of it ourselves may be better.
            nic::News::NeighborChanged(_, None) => {}
            nic::News::Overrun => {
                self.counts.overruns += 1;
                tracing::warn!(
                    "the kernel told more of {interface} than could be listened to: everything is read anew"
                );
            }
        }
        Ok(())
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }

    fn carrier(&mut self, carrier: bool, common: &Common) {
        let interface = &self.settings.interface;
        self.counts.carrier = carrier;
        self.counts.carrier_changes += 1;
        if carrier {
            tracing::info!("{interface} has a carrier again");
            // Perhaps it is another switch, or another port of it, that has to learn where we are.
            common.tell_leader(News::Announce);
        } else {
            tracing::warn!("{interface} has lost its carrier: is the cable in, the peer up? Waiting for it");
        }
    }

    fn change_mtu(&self, mtu: u32, common: &Common) {
        let (interface, most) = (&self.settings.interface, self.most_mtu);
        if mtu > most {
            tracing::warn!(
                "the MTU of {interface} is now {mtu}, and a chunk of the engine takes {most}: it goes on with the one \
                 before. Start it anew, or `ip link set {interface} mtu {most}`"
            );
            return;
        }
        tracing::info!("the MTU of {interface} is now {mtu}, the engine's too");
        if let Some(warning) = too_small_for_ipv6(&self.addresses, interface, mtu) {
            tracing::warn!("{warning}");
        }
        common.tell_all(&News::Mtu(u16::try_from(mtu).unwrap_or(u16::MAX)));
    }

    fn change_mac(&self, mac: Mac, common: &Common) {
        tracing::info!("the MAC address of {} is now {mac}, the engine's too", self.settings.interface);
        common.tell_all(&News::Mac(mac));
        common.tell_leader(News::Announce);
    }

    fn let_routes_settle(&mut self) {
        if self.settings.route_source == RouteSource::Kernel && self.settling.is_none() {
            self.settling = Some(Box::pin(tokio::time::sleep(SETTLING)));
        }
    }

    async fn change_routes(&mut self, common: &Common) -> Result<(), EngineError> {
        match self.routes().await {
            Ok(routes) => {
                tracing::debug!("{} routes", routes.iter().count());
                common.tell_all(&News::Routes(Box::new(routes)));
            }
            Err(error) => {
                tracing::warn!("the kernel's routes cannot be read: {error}; asking again");
                self.let_routes_settle();
            }
        }
        Ok(())
    }
}

/// The ways out that were asked for, and those of the kernel behind them. Of the kernel's preferred sources those are
/// kept that are the engine's.
fn routes(settings: &Settings, addresses: &[IpNet], kernel: Vec<Route>) -> Routes {
    let owned = |source: &_| addresses.iter().any(|own| IpAddr::from(*source) == own.addr());
    let kernel = kernel.into_iter().map(|route| Route { source: route.source.filter(owned), ..route });
    Routes::new(addresses.iter().copied(), &settings.gateways)
        .with(settings.routes.iter().copied().chain(kernel).collect())
}
