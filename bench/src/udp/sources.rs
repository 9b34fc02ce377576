//! Addresses that requests come from, in turn: the hosts of a prefix.
//!
//! Their answers go to whoever has these addresses. So they have to be addresses that nobody has outside of a lab, and
//! the server needs a route for them that leads back here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Error, Result};

/// More would only take longer to see for the first time.
const MOST: u32 = 1 << 20;

/// What addresses are for in labs and private networks: RFC 1918, RFC 6598, RFC 2544 (benchmarks); RFC 4193, RFC 5180
/// (benchmarks).
const PRIVATE: [&str; 7] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7", "2001:2::/48"];

/// Reads a prefix whose hosts requests may come from.
pub(crate) fn parse(text: &str) -> std::result::Result<Sources, String> {
    let prefix: IpNet = text.parse().map_err(|_| "a prefix as in `10.0.0.0/20` or `fd00:5::/116`".to_owned())?;
    let prefix = prefix.trunc();
    let private = PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&prefix));
    if !private {
        return Err(format!("answers would go to whoever has these addresses: take some of {}", PRIVATE.join(", ")));
    }
    let sources = Sources(prefix);
    let most = sources.host_bits() <= MOST.ilog2();
    most.then_some(sources).ok_or_else(|| format!("more than {MOST} addresses: take a longer prefix"))
}

/// The hosts of a prefix: without the addresses of network and broadcast, or of the routers' anycast (RFC 4291, section
/// 2.6.1), where there are such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources(IpNet);

impl Sources {
    fn host_bits(&self) -> u32 {
        u32::from(self.0.max_prefix_len() - self.0.prefix_len())
    }

    /// Whether the prefix is of a link: so short that not all of its addresses are hosts.
    fn is_link(&self) -> bool {
        self.host_bits() > 1
    }

    pub(crate) fn count(&self) -> u32 {
        let others = match (self.is_link(), self.0) {
            (false, _) => 0,
            (true, IpNet::V4(_)) => 2,
            (true, IpNet::V6(_)) => 1,
        };
        (1 << self.host_bits()) - others
    }

    /// All of them, with the prefix's length.
    pub(crate) fn all(&self) -> impl Iterator<Item = IpNet> + '_ {
        let (first, len) = (u32::from(self.is_link()), self.0.prefix_len());
        (first..first + self.count()).map(move |host| match self.0.network() {
            IpAddr::V4(net) => IpNet::new_assert(Ipv4Addr::from_bits(net.to_bits() + host).into(), len),
            IpAddr::V6(net) => IpNet::new_assert(Ipv6Addr::from_bits(net.to_bits() + u128::from(host)).into(), len),
        })
    }

    pub(crate) fn first(&self) -> IpAddr {
        self.all().next().map_or(self.0.addr(), |first| first.addr())
    }

    /// Checks that requests to `target` may come from these.
    ///
    /// # Errors
    /// It is of another family, or one of them.
    pub(crate) fn check(&self, target: IpAddr) -> Result<()> {
        if self.0.network().is_ipv4() != target.is_ipv4() {
            return Err(Error::usage(format!("--source {}: it is of another IP version than {target}", self.0)));
        }
        if self.0.contains(&target) {
            return Err(Error::usage(format!("--source {}: the server's own address {target} is in it", self.0)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_prefix_are_told_without_those_that_are_none() {
        let told = |text: &str| {
            let sources = parse(text).unwrap();
            let all: Vec<String> = sources.all().map(|net| net.addr().to_string()).collect();
            assert_eq!((sources.count() as usize, sources.first().to_string()), (all.len(), all[0].clone()));
            (all.len(), all[0].clone(), all[all.len() - 1].clone())
        };
        for (text, count, first, last) in [
            ("10.0.0.0/20", 4094, "10.0.0.1", "10.0.15.254"),
            ("10.0.3.9/30", 2, "10.0.3.9", "10.0.3.10"),
            ("192.168.7.2/31", 2, "192.168.7.2", "192.168.7.3"),
            ("198.18.0.1/32", 1, "198.18.0.1", "198.18.0.1"),
            ("fd00:5::/118", 1023, "fd00:5::1", "fd00:5::3ff"),
            ("fd00:5::/128", 1, "fd00:5::", "fd00:5::"),
        ] {
            assert_eq!(told(text), (count, first.into(), last.into()), "{text}");
        }
        assert_eq!(parse("fd00:5::/108").unwrap().count(), (1 << 20) - 1);
    }

    #[test]
    fn addresses_of_others_too_many_and_those_of_the_server_are_refused() {
        for wrong in ["8.8.8.0/24", "10.0.0.0/7", "2001:db8::/120", "0.0.0.0/0", "::/0"] {
            assert!(parse(wrong).unwrap_err().contains("198.18.0.0/15"), "{wrong}");
        }
        for wrong in ["10.0.0.0/11", "fd00::/107", "fd00::/64"] {
            assert!(parse(wrong).unwrap_err().contains("longer prefix"), "{wrong}");
        }
        assert!(parse("10.0.0.0/33").is_err() && parse("pigeons").is_err());
        let sources = parse("10.77.0.0/24").unwrap();
        assert!(sources.check("10.77.0.2".parse().unwrap()).unwrap_err().to_string().contains("server's own"));
        assert!(sources.check("fd00::1".parse().unwrap()).unwrap_err().to_string().contains("IP version"));
        assert!(sources.check("10.78.0.2".parse().unwrap()).is_ok());
    }
}
