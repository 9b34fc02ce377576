//! Which ways out there are: gateways and routes, each read once and then right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::{ConfigError, invalid};
use crate::network::route::{MAX_ROUTES, Route};

/// `PREFIX via GATEWAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StaticRoute {
    /// Who is reached by it.
    pub destination: IpNet,
    /// The router to send to.
    pub gateway: IpAddr,
}

/// Where routes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RouteSource {
    /// From --gateway and --route alone
    #[default]
    Configured,
    /// From the kernel's main table too, as far as they lead out of the interface; changes are followed
    Kernel,
}

impl FromStr for StaticRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "for example \"192.0.2.0/24 via 10.0.0.1\"";
        let words: Vec<&str> = text.split_whitespace().collect();
        let [prefix, "via", gateway] = words[..] else {
            return Err(format!("not of the form PREFIX via GATEWAY; {EXAMPLE}"));
        };
        let destination: IpNet = prefix.parse().map_err(|_| format!("{prefix} is not a prefix; {EXAMPLE}"))?;
        let gateway: IpAddr = gateway.parse().map_err(|_| format!("{gateway} is not an address; {EXAMPLE}"))?;
        if destination.prefix_len() == 0 {
            return Err(format!("that is the way to everything else: give --gateway {gateway}"));
        }
        if destination.trunc() != destination {
            return Err(format!("{destination} names a host, not a prefix: give {}", destination.trunc()));
        }
        if destination.addr().is_ipv4() != gateway.is_ipv4() {
            return Err(format!("{gateway} is of another version of IP than {destination}"));
        }
        Ok(Self { destination, gateway })
    }
}

impl std::fmt::Display for StaticRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} via {}", self.destination, self.gateway)
    }
}

/// Checks that gateways can be reached from hosts with these addresses, and that there is one a family at most.
pub(super) fn check_gateways(addresses: &[IpNet], gateways: &[IpAddr]) -> Result<(), ConfigError> {
    for (at, gateway) in gateways.iter().enumerate() {
        if gateways[..at].iter().any(|earlier| earlier.is_ipv4() == gateway.is_ipv4()) {
            let version = if gateway.is_ipv4() { 4 } else { 6 };
            let why = format!("it is the second one for IPv{version}; give further routers by --route");
            return Err(invalid("--gateway", gateway, why));
        }
        check_on_link(addresses, *gateway).map_err(|why| invalid("--gateway", gateway, why))?;
    }
    Ok(())
}

/// The routes that were asked for, if their gateways can be reached from hosts with these addresses.
pub(super) fn routes(addresses: &[IpNet], given: &[StaticRoute]) -> Result<Vec<Route>, ConfigError> {
    // The prefixes of the link and the gateways are routes too.
    let most = MAX_ROUTES - addresses.len().min(MAX_ROUTES) - 3;
    if given.len() > most {
        return Err(invalid("--route", format!("{} times", given.len()), format!("give {most} at most")));
    }
    for (at, route) in given.iter().enumerate() {
        check_on_link(addresses, route.gateway).map_err(|why| invalid("--route", route, why))?;
        if given[..at].iter().any(|earlier| earlier.destination == route.destination) {
            return Err(invalid("--route", route, "there is one to that prefix already; give one for each"));
        }
    }
    Ok(given.iter().map(|route| Route::via(route.destination, route.gateway.into())).collect())
}

fn check_on_link(addresses: &[IpNet], gateway: IpAddr) -> Result<(), String> {
    if let IpAddr::V6(gateway) = gateway
        && gateway.is_unicast_link_local()
    {
        let ours = addresses.iter().any(|prefix| prefix.addr() == gateway);
        let speaks = addresses.iter().any(|prefix| prefix.addr().is_ipv6());
        return match (speaks, ours) {
            (true, false) => Ok(()),
            (true, true) => Err("it is an address of the engine's own; give that of the router".into()),
            (false, _) => Err("there is no IPv6 address to send from; give one more --address".into()),
        };
    }
    if addresses.iter().any(|prefix| prefix.contains(&gateway) && prefix.addr() != gateway) {
        return Ok(());
    }
    Err("a router must be on the link of one of the addresses".into())
}

/// Why no host can have an address, if none can.
pub(super) fn unfit_for_a_host(net: &IpNet) -> Option<String> {
    match net.addr() {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            let unfit = first == 0 || first == 127 || first >= 224;
            unfit.then(|| format!("{address} is not an address that a host can have"))
        }
        IpAddr::V6(address) => {
            if let Some(v4) = address.to_ipv4_mapped() {
                return Some(format!("{address} is an IPv4 address in disguise; write it as {v4}"));
            }
            let unfit = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            unfit.then(|| format!("{address} is not an address that a host can have"))
        }
    }
}

/// Why an address is that of a whole link, and which one a host on it could have, if it is.
pub(super) fn names_the_link(net: &IpNet) -> Option<String> {
    let (length, most) = (net.prefix_len(), net.max_prefix_len());
    let first_host: IpAddr = match net.network() {
        IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() | 1).into(),
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | 1).into(),
    };
    // RFC 3021 and RFC 6164: on a link of two hosts both addresses are theirs.
    let last = net.addr().is_ipv4() && net.addr() == net.broadcast();
    if length + 1 >= most || !(last || net.addr() == net.network()) {
        return None;
    }
    // RFC 4291, section 2.6.1: the first address of an IPv6 prefix is that of any router on the link.
    let what =
        if net.addr().is_ipv4() { "the whole link, not a host on it" } else { "any router of the link, not a host" };
    Some(format!("{} names {what}; for example {first_host}/{length}", net.addr()))
}

/// Reads one address, or a list of them.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<IpAddr>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an IP address, or a list of them")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let unexpected = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
            text.parse().map(|address| vec![address]).map_err(|_| unexpected())
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut addresses = Vec::new();
            while let Some(address) = list.next_element()? {
                addresses.push(address);
            }
            Ok(addresses)
        }
    }
    from.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        text.parse::<StaticRoute>().unwrap_err()
    }

    #[test]
    fn a_bad_route_is_told_what_is_wrong_with_it() {
        for wrong in ["", "192.0.2.0/24", "192.0.2.0/24 10.0.0.1", "192.0.2.0/24 via 10.0.0.1 dev eth0"] {
            assert!(why(wrong).contains("for example"), "{wrong}");
        }
        assert!(why("192.0.2.0 via 10.0.0.1").contains("192.0.2.0 is not a prefix"));
        assert!(why("192.0.2.0/24 via router").contains("router is not an address"));
        assert!(why("0.0.0.0/0 via 10.0.0.1").contains("--gateway 10.0.0.1"));
        assert!(why("192.0.2.1/24 via 10.0.0.1").contains("192.0.2.0/24"));
        assert!(why("192.0.2.0/24 via fe80::1").contains("another version"));
        for fine in ["192.0.2.0/24 via 10.0.0.1", "2001:db8:1::/48 via fe80::1", "192.0.2.1/32 via 10.0.0.1"] {
            assert_eq!(fine.parse::<StaticRoute>().unwrap().to_string(), fine);
        }
    }

    #[test]
    fn a_link_local_gateway_needs_no_prefix_but_an_address_of_its_family() {
        let check = |addresses: &[&str], gateway: &str| {
            let addresses: Vec<IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            check_gateways(&addresses, &[gateway.parse().unwrap()]).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["2001:db8::2/64"], "fe80::1"), Ok(()));
        assert_eq!(check(&["2001:db8::2/64"], "2001:db8::1"), Ok(()));
        assert!(check(&["2001:db8::2/64"], "2001:db9::1").unwrap_err().contains("on the link"));
        assert!(check(&["10.0.0.2/24"], "fe80::1").unwrap_err().contains("--address"));
        assert!(check(&["fe80::2/64"], "fe80::2").unwrap_err().contains("router"));
    }
}
