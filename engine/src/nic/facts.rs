//! Facts about a link, by netlink (man 7 rtnetlink) and ethtool.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::ethtool::{self, Spreading, TagStripping};
use super::monitor;
use crate::wire::ethernet::Mac;

/// What is known of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub name: String,
    /// Its index in the network namespace.
    pub index: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// Longest IP packet, bytes.
    pub mtu: u32,
    /// Whether the operator has it up.
    pub up: bool,
    /// Whether there is a link: a cable, or a peer that is up.
    pub carrier: bool,
    /// Name of its driver; empty where the driver does not tell.
    pub driver: String,
    /// Receive queues that can be bound; at least one.
    pub queues: u32,
    /// How the NIC chooses the receive queue of a TCP connection, if that is known.
    pub spreading: Option<Spreading>,
    /// Whether VLAN tags are taken out of received frames.
    pub tag_stripping: TagStripping,
    /// Addresses that the kernel has in this network namespace, on any interface.
    pub kernel_addresses: Vec<IpAddr>,
}

/// The facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// There is no such interface.
    #[error("there is no interface {0} in this network namespace: `ip link` lists those that there are")]
    NoInterface(String),
    /// It is not Ethernet.
    #[error(
        "{0} is not an Ethernet interface, which is all that the engine speaks: `ip link` lists others (link/ether)"
    )]
    NotEthernet(String),
    /// The kernel did not answer.
    #[error("the kernel does not tell about its interfaces: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// No socket to ask the kernel by.
    #[error("no netlink socket: {0}")]
    Socket(#[from] std::io::Error),
}

impl LinkFacts {
    /// Reads the facts about an interface. Must run on a tokio runtime.
    ///
    /// # Errors
    /// [`FactsError`].
    pub async fn read(interface: &str) -> Result<Self, FactsError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let facts = Self::ask(&handle, interface).await;
        connection.abort();
        facts
    }

    async fn ask(handle: &rtnetlink::Handle, interface: &str) -> Result<Self, FactsError> {
        let absent = || FactsError::NoInterface(interface.to_owned());
        // A name that no interface can have would be cut off by the kernel, and another one found.
        if interface.is_empty() || interface.len() >= libc::IFNAMSIZ {
            return Err(absent());
        }
        let message = match handle.link().get().match_name(interface).execute().try_next().await {
            Ok(message) => message.ok_or_else(absent)?,
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => return Err(absent()),
            Err(error) => return Err(error.into()),
        };
        let mut facts = Self::of(&message, interface)?;
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            facts.kernel_addresses.extend(monitor::address(&message));
        }
        Ok(facts)
    }

    fn of(message: &LinkMessage, interface: &str) -> Result<Self, FactsError> {
        let mut facts = Self {
            name: interface.to_owned(),
            index: message.header.index,
            mac: Mac::ZERO,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            driver: ethtool::driver(interface).unwrap_or_default(),
            queues: ethtool::queues(interface).unwrap_or(1).max(1),
            spreading: ethtool::spreading(interface),
            tag_stripping: TagStripping::of(interface),
            kernel_addresses: Vec::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => match bytes[..].try_into() {
                    Ok(bytes) => facts.mac = Mac(bytes),
                    Err(_) => return Err(FactsError::NotEthernet(interface.to_owned())),
                },
                LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
                _ => {}
            }
        }
        if facts.mac == Mac::ZERO { Err(FactsError::NotEthernet(interface.to_owned())) } else { Ok(facts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(interface: &str) -> Result<LinkFacts, FactsError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LinkFacts::read(interface))
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        for name in ["bw-nowhere", "", "a-name-that-no-interface-can-have"] {
            assert!(matches!(read(name), Err(FactsError::NoInterface(given)) if given == name));
        }
    }

    #[test]
    fn the_loopback_is_not_ethernet() {
        assert!(matches!(read("lo"), Err(FactsError::NotEthernet(_))));
    }
}
