//! What a worker's stack is told: from what the operator asked for and what the interface is.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::config::Settings;
use crate::link::address::Probing;
use crate::link::neighbor::NeighborConfig;
use crate::network::autoconf::{AutoconfConfig, Slaac};
use crate::network::reassembly::ReassemblyConfig;
use crate::network::rss::{OwnQueue, Rss};
use crate::nic::LinkFacts;
use crate::stack::StackConfig;
use crate::transport::tcp::TcpConfig;

use super::plan::Plan;

pub(super) fn stack_config(
    settings: &Settings,
    facts: &LinkFacts,
    plan: &Plan,
    queue: u32,
    probing: Probing,
    secret: [u64; 2],
) -> StackConfig {
    let mtu = u16::try_from(facts.mtu).unwrap_or(u16::MAX);
    StackConfig {
        mac: facts.mac,
        mtu,
        addresses: plan.addresses.clone(),
        gateways: settings.gateways.clone(),
        routes: settings.routes.clone(),
        vlan: settings.vlan,
        probing,
        groups: settings.groups.clone(),
        broadcasts: settings.broadcasts,
        autoconf: autoconf(settings),
        udp_ports: settings.ports.udp().map(|(port, _)| port).collect(),
        checksum: plan.checksum,
        tcp: Some(tcp_config(settings, plan, mtu)),
        own_queue: own_queue(facts, queue),
        neighbors: NeighborConfig { fixed: settings.neighbors.clone(), ..NeighborConfig::default() },
        reassembly: ReassemblyConfig::default(),
        marking: settings.marking,
        secret,
    }
}

/// What is made of routers' advertisements, if anything.
fn autoconf(settings: &Settings) -> Option<AutoconfConfig> {
    let (routes, slaac) = (settings.accept_ra, settings.slaac);
    (routes || slaac != Slaac::Off).then(|| AutoconfConfig { routes, slaac, stable_key: stable_key() })
}

/// A key that is the same whenever this machine starts and that others do not know (RFC 7217, section 5, `secret_key`):
/// from the machine's id, which must not be shown itself (machine-id(5)). Without one, addresses are stable but can be
/// guessed.
fn stable_key() -> [u64; 2] {
    let id = std::fs::read("/etc/machine-id").unwrap_or_default();
    [1, 2].map(|half| {
        let mut hasher = SipHasher13::new_with_keys(0x6261_7265_7769_7265, half);
        hasher.write(&id);
        hasher.finish()
    })
}

/// What is known of the flows that the NIC gives to `queue`.
fn own_queue(facts: &LinkFacts, queue: u32) -> Option<OwnQueue> {
    let spreading = facts.spreading.as_ref()?;
    let key = *spreading.key.first_chunk()?;
    Some(OwnQueue { rss: Rss { key, indirection: spreading.table.clone().into() }, queue })
}

fn tcp_config(settings: &Settings, plan: &Plan, mtu: u16) -> TcpConfig {
    let limits = settings.tcp;
    TcpConfig {
        ports: settings.ports.tcp().map(|(port, _)| port).collect(),
        connections: limits.connections,
        backlog: limits.backlog,
        time_wait: limits.connections,
        receive_buffer: limits.buffer,
        send_buffer: limits.buffer,
        user_timeout: limits.user_timeout,
        keep_alive: limits.keep_alive,
        ask_for_ecn: settings.ask_for_ecn,
        pacing: settings.pacing,
        chunks: tcp_chunks(settings, plan),
        source_ports: settings.source_ports.clone(),
        mtu,
        chunk_room: plan.chunk_size.room(),
        ..TcpConfig::default()
    }
}

/// Chunks that connections may hold, which the memory has on top of what rings and bursts take.
pub(super) fn tcp_chunks(settings: &Settings, plan: &Plan) -> u32 {
    let chunks = settings.tcp.memory / u64::from(plan.chunk_size.bytes());
    u32::try_from(chunks).unwrap_or(u32::MAX)
}
