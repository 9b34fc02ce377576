//! A way of several hops behind a [`Lab`], in IPv4 and IPv6: two routers, which are kernels, and a host.
//!
//! ```text
//!   namespace near       namespace far: router 1       router-2                      host
//!     engine .2 --------- .3 far0      down0 .1 ------- .2 up0   down0 .1 ----------- .9 up0
//!            10.0.0.0/24                    10.0.1.0/24                  10.0.2.0/24
//!            2001:db8::/64                  2001:db8:1::/64              2001:db8:2::/64
//!            MTU 1,500                      MTU 1,400                    MTU 1,400
//! ```

use std::process::Command;

use crate::lab::{Lab, Refusal};
use crate::netns::{Namespace, Veth};

/// The lab, and what is behind it.
#[derive(Debug)]
pub struct Path {
    /// The engine, and router 1 at the other end.
    pub lab: Lab,
    /// The second router.
    pub router: Namespace,
    /// Who is at the end.
    pub host: Namespace,
}

impl Path {
    /// Router 1, by either version of IP.
    pub const ROUTER_1: [&str; 2] = ["10.0.0.3", "2001:db8::3"];
    /// Router 2.
    pub const ROUTER_2: [&str; 2] = ["10.0.1.2", "2001:db8:1::2"];
    /// The host at the end.
    pub const HOST: [&str; 2] = ["10.0.2.9", "2001:db8:2::9"];
    /// MTU of all links but the first.
    pub const MTU: u32 = 1400;

    /// All up, and every one knows the way.
    ///
    /// # Panics
    /// As [`Lab::new`].
    #[must_use]
    pub fn new() -> Self {
        let path = Self { lab: Lab::plain(), router: Namespace::new("router-2"), host: Namespace::new("host") };
        let Self { lab, router, host } = &path;
        let far = &lab.veth.far;
        for namespace in [far, router, host] {
            speak_ipv6(namespace);
        }
        link((far, "down0"), (router, "up0"));
        link((router, "down0"), (host, "up0"));
        give(far, Veth::FAR, &["2001:db8::3/64"]);
        give(far, "down0", &["10.0.1.1/24", "2001:db8:1::1/64"]);
        give(router, "up0", &["10.0.1.2/24", "2001:db8:1::2/64"]);
        give(router, "down0", &["10.0.2.1/24", "2001:db8:2::1/64"]);
        give(host, "up0", &["10.0.2.9/24", "2001:db8:2::9/64"]);
        for (namespace, prefix, via) in [
            (far, "10.0.2.0/24", "10.0.1.2"),
            (far, "2001:db8:2::/64", "2001:db8:1::2"),
            (router, "10.0.0.0/24", "10.0.1.1"),
            (router, "2001:db8::/64", "2001:db8:1::1"),
            (host, "0.0.0.0/0", "10.0.2.1"),
            (host, "::/0", "2001:db8:2::1"),
        ] {
            namespace.ip(&["route", "add", prefix, "via", via]);
        }
        path
    }

    /// Runs `barewire` with these arguments from the engine's place, with addresses and gateways of both versions of IP,
    /// until it ends.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn barewire(&self, arguments: &[&str]) -> Refusal {
        self.lab.refused_command(Self::command(arguments))
    }

    /// The same as a command, to be started by the lab.
    #[must_use]
    pub fn command(arguments: &[&str]) -> Command {
        let [gateway, gateway_6] = Self::ROUTER_1;
        let addresses = ["--address", Lab::ADDRESS, "--address", "2001:db8::2/64"];
        let ways = ["--interface", Veth::NEAR, "--gateway", gateway, "--gateway", gateway_6];
        Lab::command(&[arguments, &addresses, &ways].concat())
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets a namespace speak IPv6, pass packets on, and tell every error that there is to tell.
fn speak_ipv6(namespace: &Namespace) {
    namespace.enter(|| {
        // Addresses that the kernel gives itself are to be used at once.
        for interface in std::fs::read_dir("/proc/sys/net/ipv6/conf").expect("a kernel with IPv6").flatten() {
            std::fs::write(interface.path().join("accept_dad"), "0").expect("a setting of every interface");
        }
        for (name, value) in [
            ("ipv6/conf/all/disable_ipv6", "0"),
            ("ipv6/conf/default/disable_ipv6", "0"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/ip_forward", "1"),
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
        ] {
            let path = format!("/proc/sys/net/{name}");
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    });
}

/// Joins two namespaces, by an interface in each.
fn link(one: (&Namespace, &str), other: (&Namespace, &str)) {
    let mtu = Path::MTU.to_string();
    one.0.ip(&[
        "link",
        "add",
        one.1,
        "mtu",
        &mtu,
        "type",
        "veth",
        "peer",
        "name",
        other.1,
        "mtu",
        &mtu,
        "netns",
        other.0.name(),
    ]);
    for (namespace, interface) in [one, other] {
        namespace.ip(&["link", "set", interface, "up"]);
    }
}

/// Gives an interface addresses, at once.
fn give(namespace: &Namespace, interface: &str, addresses: &[&str]) {
    for address in addresses {
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        namespace.ip(&[&["address", "add", address, "dev", interface], nodad].concat());
    }
}
