//! Which neighbor a datagram goes to: connected prefixes, then the gateway (RFC 1122, section 3.3.1).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The bits that all addresses on a link share, and which bits those are.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    bits: u32,
    mask: u32,
}

/// The ways out of one interface.
#[derive(Clone, Debug)]
pub struct Routes {
    connected: Box<[Prefix]>,
    gateway: Option<Ipv4Addr>,
}

impl Routes {
    /// The prefixes on the link, and the gateway to everything else.
    #[must_use]
    pub fn new(connected: impl IntoIterator<Item = Ipv4Net>, gateway: Option<Ipv4Addr>) -> Self {
        let prefix = |net: Ipv4Net| Prefix { bits: net.network().to_bits(), mask: net.netmask().to_bits() };
        Self { connected: connected.into_iter().map(prefix).collect(), gateway }
    }

    /// The neighbor to send a datagram for `destination` to.
    #[inline]
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.is_connected(destination) { Some(destination) } else { self.gateway }
    }

    /// Whether an address is on a link of ours.
    #[inline]
    #[must_use]
    pub fn is_connected(&self, address: Ipv4Addr) -> bool {
        self.connected.iter().any(|prefix| address.to_bits() & prefix.mask == prefix.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_are_reached_directly_and_others_through_the_gateway() {
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let routes = Routes::new(["10.0.0.2/24".parse().unwrap()], Some(gateway));
        assert_eq!(routes.next_hop(Ipv4Addr::new(10, 0, 0, 9)), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(routes.next_hop(Ipv4Addr::new(10, 0, 1, 9)), Some(gateway));
    }

    #[test]
    fn without_a_gateway_there_is_no_way_off_the_link() {
        let routes = Routes::new(["10.0.0.2/32".parse().unwrap()], None);
        assert_eq!(routes.next_hop(Ipv4Addr::new(10, 0, 0, 3)), None);
    }
}
