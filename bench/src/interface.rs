//! What the kernel knows about an interface and a neighbor on its link, asked through `ip -json`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::netns::{self, Family};
use crate::signals;
use crate::udp::frame::Mac;

/// Ethernet header without a tag.
const ETHERNET_LEN: usize = 14;

/// An interface of the network namespace that this thread is in.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub name: String,
    pub index: u32,
    pub mac: Mac,
    /// Longest IP packet, bytes.
    mtu: usize,
    /// Its addresses, of both families; of IPv6 not those of the link alone.
    addresses: Vec<IpAddr>,
}

impl Interface {
    /// Looks the interface up.
    ///
    /// # Errors
    /// It does not exist or is down.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let found = ip(&["address", "show", "dev", name]).map_err(|error| {
            Error::run(format!("no interface {name} in this network namespace ({error}): `ip link` lists them"))
        })?;
        let link = &found[0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP")) {
            return Err(Error::run(format!("{name} is down: `ip link set {name} up`")));
        }
        let mac = parse_mac(&text(&link["address"]))
            .ok_or_else(|| Error::run(format!("{name} has no Ethernet address: take another interface")))?;
        let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
        let usable = addresses.iter().filter(|address| address["scope"] != "link");
        let addresses = usable.filter_map(|address| text(&address["local"]).parse().ok()).collect();
        let index = link["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok()).unwrap_or_default();
        let mtu = link["mtu"].as_u64().map_or(usize::MAX - ETHERNET_LEN, |mtu| mtu as usize);
        Ok(Self { name: name.to_owned(), index, mac, mtu, addresses })
    }

    /// Checks that frames of `len` bytes, Ethernet header to end of payload, leave here in one piece.
    ///
    /// # Errors
    /// They are longer than the MTU allows.
    pub(crate) fn carries(&self, len: usize) -> Result<()> {
        let (name, mtu, most) = (&self.name, self.mtu, self.mtu + ETHERNET_LEN);
        if len <= most {
            return Ok(());
        }
        Err(Error::usage(format!(
            "frames of {len} bytes do not fit {name}: with its MTU of {mtu} they have {most} at most, counted from the \
             Ethernet header to the end of the payload, without the frame check sequence"
        )))
    }

    /// The first address of the family that `target` is of.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn address_towards(&self, target: SocketAddr) -> Result<IpAddr> {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == target.is_ipv4());
        found.copied().ok_or_else(|| {
            let (name, family) = (&self.name, Family::of(target).name());
            Error::run(format!("{name} has no {family} address: `ip address add ADDR/LEN dev {name}`"))
        })
    }

    /// Index of an interface, whether or not it has an address.
    ///
    /// # Errors
    /// It does not exist.
    pub(crate) fn index(name: &str) -> Result<u32> {
        let found = ip(&["link", "show", "dev", name])?;
        let index = found[0]["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok());
        index.ok_or_else(|| Error::run(format!("no interface {name} in this network namespace: `ip link` lists them")))
    }

    /// Hardware address of an interface in another namespace.
    ///
    /// # Errors
    /// It does not exist.
    pub(crate) fn mac_in(namespace: &str, name: &str) -> Result<Mac> {
        let found = ip(&["-n", namespace, "link", "show", "dev", name])?;
        found[0]["address"].as_str().and_then(parse_mac).ok_or_else(|| Error::run(format!("no MAC address of {name}")))
    }

    /// The hardware address of a host on this link: a datagram makes the kernel ask for it.
    ///
    /// # Errors
    /// Nobody answered within two seconds.
    pub(crate) fn resolve(&self, target: SocketAddr) -> Result<Mac> {
        let own = self.address_towards(target)?;
        let socket = UdpSocket::bind((own, 0)).context(|| format!("cannot bind to {own}"))?;
        let give_up = Instant::now() + Duration::from_secs(2);
        loop {
            if let Some(mac) = self.neighbor(target.ip()) {
                return Ok(mac);
            }
            if Instant::now() > give_up {
                return Err(Error::run(format!(
                    "{} does not answer {} on {}: is it up and on this very link? (`ping -I {} {}`)",
                    target.ip(),
                    if target.is_ipv4() { "ARP" } else { "neighbor solicitations" },
                    self.name,
                    self.name,
                    target.ip()
                )));
            }
            signals::check()?;
            // An empty datagram; whether anything listens does not matter, and an error will show as silence.
            let _ = socket.send_to(&[], target);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address in the kernel's neighbor table.
    fn neighbor(&self, target: IpAddr) -> Option<Mac> {
        let table = ip(&["neighbor", "show", "to", &target.to_string(), "dev", &self.name]).ok()?;
        table.as_array()?.iter().find_map(|entry| parse_mac(entry["lladdr"].as_str()?))
    }
}

/// Tells the kernel of this thread's namespace the hardware address of a neighbor.
///
/// # Errors
/// What `ip` says.
pub(crate) fn set_neighbor(address: IpAddr, mac: Mac, interface: &str) -> Result<()> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let address = address.to_string();
    netns::command(&["ip", "neighbor", "replace", &address, "lladdr", &mac, "dev", interface, "nud", "permanent"])
}

/// Output of `ip -json ARGS`, for the namespace of this thread.
fn ip(args: &[&str]) -> Result<Value> {
    let output = Command::new("ip")
        .arg("-json")
        .args(args)
        .output()
        .context(|| "cannot run `ip` (package iproute2; `deploy/setup.sh demo` installs it)".into())?;
    if !output.status.success() {
        return Err(Error::run(String::from_utf8_lossy(&output.stderr).trim()));
    }
    if output.stdout.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(&output.stdout).context(|| "cannot read the output of `ip -json`".into())
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_six_hexadecimal_bytes_are_a_mac() {
        assert_eq!(parse_mac("02:00:00:0a:ff:01"), Some([2, 0, 0, 10, 255, 1]));
        for wrong in ["", "02:00:00:0a:ff", "02:00:00:0a:ff:01:02", "02:00:00:0a:ff:gg"] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }
}
