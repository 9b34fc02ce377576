//! The values of options, each read once and then right.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::routing::{StaticRoute, names_the_link, unfit_for_a_host};
use super::{ConfigError, invalid};
use crate::network::autoconf::Slaac;
use crate::network::membership::MAX_GROUPS;
use crate::wire::ethernet::{self, Mac};
use crate::wire::ip::IpAddress;

/// An address with the prefix length of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let length = if address.is_ipv4() { 24 } else { 64 };
            return Err(format!("the length of the link's prefix is missing; for example {address}/{length}"));
        }
        let example = || "not an address with a prefix length; for example 10.0.0.2/24 or 2001:db8::2/64".to_owned();
        let net = text.parse::<IpNet>().map_err(|_| example())?;
        if let Some(why) = unfit_for_a_host(&net) {
            return Err(why);
        }
        if net.prefix_len() == 0 {
            let length = if net.addr().is_ipv4() { 24 } else { 64 };
            return Err(format!("a link with every address on it cannot be; for example {}/{length}", net.addr()));
        }
        names_the_link(&net).map_or(Ok(Self(net)), Err)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which addresses are made of the prefixes that routers advertise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SlaacMode {
    /// None
    #[default]
    Off,
    /// One of each that stays
    Stable,
    /// And one that changes every day
    Temporary,
}

impl From<SlaacMode> for Slaac {
    fn from(mode: SlaacMode) -> Self {
        match mode {
            SlaacMode::Off => Self::Off,
            SlaacMode::Stable => Self::Stable,
            SlaacMode::Temporary => Self::Temporary,
        }
    }
}

/// Groups to join, each once.
pub(super) fn groups(join: &[IpAddr]) -> Result<Vec<IpAddress>, ConfigError> {
    for (at, group) in join.iter().enumerate() {
        if !group.is_multicast() {
            return Err(invalid("--join", group, "it is no multicast address: give one such as 239.1.2.3 or ff15::7"));
        }
        if join[..at].contains(group) {
            return Err(invalid("--join", group, "it is given twice"));
        }
    }
    if join.len() > MAX_GROUPS {
        return Err(invalid("--join", join.len(), format!("a host is in {MAX_GROUPS} groups at most")));
    }
    Ok(join.iter().copied().map(Into::into).collect())
}

/// A VLAN: the id of its tag, or the ids of its two; in front of them the type of the first tag, unless it is the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Vlan(pub ethernet::Vlan);

impl FromStr for Vlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // IEEE 802.1Q: of 12 bits, 0 names no VLAN, and all ones are reserved.
        let id = |text: &str| match text.parse() {
            Ok(id @ 1..=4094) => Ok(id),
            Ok::<u64, _>(0) => Err("0 is no VLAN: leave the option out for untagged frames, or give 1 to 4094".into()),
            Ok(_) => Err(format!("{text} is not the id of a VLAN; give 1 to 4094")),
            Err(_) => Err(format!("{text:?} is not a number; for example 5, or 5.7 for VLAN 7 within 5")),
        };
        let (outer_type, ids) = match text.split_once(':') {
            Some(("8100", ids)) => (Some(ethernet::VLAN), ids),
            Some(("88a8", ids)) => (Some(ethernet::SERVICE_VLAN), ids),
            Some((other, _)) => return Err(format!("{other:?} is not the type of a tag; give 8100 or 88a8")),
            None => (None, text),
        };
        let (outer, inner) = match ids.split_once('.') {
            Some((outer, inner)) => (outer, Some(id(inner)?)),
            None => (ids, None),
        };
        let vlan = ethernet::Vlan::new(id(outer)? as u16, inner.map(|id| id as u16));
        Ok(Self(ethernet::Vlan { outer_type: outer_type.unwrap_or(vlan.outer_type), ..vlan }))
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ethernet::Vlan { outer_type, outer, inner } = self.0;
        if outer_type != ethernet::Vlan::new(outer, inner).outer_type {
            write!(f, "{outer_type:04x}:")?;
        }
        write!(f, "{outer}")?;
        inner.map_or(Ok(()), |inner| write!(f, ".{inner}"))
    }
}

/// A neighbor with its MAC address, `ADDR=MAC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StaticNeighbor {
    /// The neighbor.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
}

impl FromStr for StaticNeighbor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "for example 10.0.0.9=02:00:00:00:00:09";
        let (address, mac) = text.split_once('=').ok_or_else(|| format!("not of the form ADDR=MAC; {EXAMPLE}"))?;
        let address = address.parse().map_err(|_| format!("{address} is not an address; {EXAMPLE}"))?;
        let bytes: Option<Vec<u8>> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let mac = bytes.and_then(|bytes| bytes.try_into().ok()).map(Mac);
        match mac.filter(|&mac| !mac.is_multicast() && mac != Mac::ZERO) {
            Some(mac) => Ok(Self { address, mac }),
            None => Err(format!("{text} does not name the MAC address of a host; {EXAMPLE}")),
        }
    }
}

/// Receive queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum QueueSet {
    /// Every queue that the interface has.
    #[default]
    All,
    /// These.
    Some(Vec<u32>),
}

impl FromStr for QueueSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" { Ok(Self::All) } else { numbers(text).map(Self::Some) }
    }
}

/// Cores, in the order of the workers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbers(text).map(Self)
    }
}

/// Different numbers separated by commas.
fn numbers<T: FromStr + PartialEq>(text: &str) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let number = part.trim().parse().map_err(|_| format!("{part:?} is not a number; for example 0,1"))?;
        if list.contains(&number) {
            return Err(format!("{part} is given twice"));
        }
        list.push(number);
    }
    Ok(list)
}

/// An amount of memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim() {
            "" | "B" => Some(0),
            "K" | "KiB" => Some(10),
            "M" | "MiB" => Some(20),
            "G" | "GiB" => Some(30),
            _ => None,
        };
        let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| "not an amount of memory; for example 65536, 512K, 64M or 2G".into())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            bytes if bytes % (1 << 30) == 0 => write!(f, "{}G", bytes >> 30),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

macro_rules! try_from_string {
    ($($name:ty),+) => {$(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )+};
}
try_from_string!(Cidr, Vlan, QueueSet, CoreList, Size, StaticRoute, StaticNeighbor);

/// How frames get from the NIC to the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The first of the following that works; which one it is, is printed
    #[default]
    Auto,
    /// The NIC writes into the engine's memory
    ZeroCopy,
    /// The driver runs the XDP program, and the kernel copies
    Copy,
    /// The kernel's network stack runs the XDP program: on any interface, and slow
    Generic,
}

/// Who works the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Barewire's own code
    #[default]
    Rings,
    /// The xsk-rs crate and libxdp
    XskRs,
}

impl Driver {
    /// Word for the start line and for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rings => "rings",
            Self::XskRs => "xsk-rs",
        }
    }
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum IdleMode {
    /// Look again at once: lowest latency, and a core at 100 %
    Spin,
    /// Look again for 50 us, then sleep until a frame comes
    #[default]
    Adaptive,
    /// Sleep until a frame comes: lowest cost, and a wake-up for each burst
    Poll,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        text.parse::<Cidr>().unwrap_err()
    }

    #[test]
    fn a_group_is_multicast_and_joined_once() {
        let why = |join: &[&str]| {
            let join: Vec<IpAddr> = join.iter().map(|group| group.parse().unwrap()).collect();
            groups(&join).map_err(|error| error.to_string())
        };
        assert_eq!(why(&["239.1.2.3", "ff15::7"]).unwrap().len(), 2);
        assert!(why(&["10.0.0.1"]).unwrap_err().contains("239.1.2.3 or ff15::7"));
        assert!(why(&["ff15::7", "ff15::7"]).unwrap_err().contains("twice"));
        let many: Vec<_> = (0..=MAX_GROUPS).map(|n| format!("239.1.2.{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(why(&many).unwrap_err().contains("64"));
    }

    #[test]
    fn a_bad_cidr_is_told_what_is_wrong_with_it() {
        assert!(why("10.0.0.2").contains("10.0.0.2/24"));
        assert!(why("10.0.0.300/24").contains("for example"));
        assert!(why("10.0.0.2/33").contains("for example"));
        assert!(why("fd00::2").contains("fd00::2/64"));
        assert!(why("fd00::/64").contains("router") && why("fd00::/64").contains("fd00::1/64"));
        assert!(why("::ffff:10.0.0.2/120").contains("write it as 10.0.0.2"));
        for nobody in ["::1/128", "::/128", "ff02::1/64"] {
            assert!(why(nobody).contains("host can have"), "{nobody}");
        }
        assert!(why("224.0.0.1/24").contains("host"));
        assert!(why("10.0.0.0/24").contains("10.0.0.1/24"));
        assert!(why("10.0.0.255/24").contains("10.0.0.1/24"));
        assert!(why("10.0.0.2/0").contains("link"));
        for fine in
            ["10.0.0.2/24", "10.0.0.2/32", "10.0.0.2/31", "10.0.0.3/31", "fd00::2/64", "fd00::/127", "fe80::2/64"]
        {
            assert_eq!(fine.parse::<Cidr>().unwrap().to_string(), fine);
        }
    }

    #[test]
    fn vlans_have_one_id_or_two() {
        let vlan = |outer, inner| Ok(Vlan(ethernet::Vlan::new(outer, inner)));
        assert_eq!("5".parse(), vlan(5, None));
        assert_eq!("4094.1".parse(), vlan(4094, Some(1)));
        assert_eq!("8100:5.7".parse(), Ok(Vlan(ethernet::Vlan { outer_type: 0x8100, outer: 5, inner: Some(7) })));
        assert_eq!("88a8:5".parse(), Ok(Vlan(ethernet::Vlan { outer_type: 0x88a8, outer: 5, inner: None })));
        assert_eq!(["8100:5".parse(), "88a8:5.7".parse()], [vlan(5, None), vlan(5, Some(7))]);
        for fine in ["1", "4094", "1.4094", "5.5", "8100:5.7", "88a8:5"] {
            assert_eq!(fine.parse::<Vlan>().unwrap().to_string(), fine);
        }
        let why = |text: &str| text.parse::<Vlan>().unwrap_err();
        for none in ["0", "0.5", "5.0"] {
            assert!(why(none).contains("leave the option out"), "{none}");
        }
        for no_type in ["9100:5", ":5", "0x8100:5", "5.7:8100"] {
            assert!(why(no_type).contains("give 8100 or 88a8"), "{no_type}");
        }
        for beyond in ["4095", "65541", "5.4095", "18446744073709551615"] {
            assert!(why(beyond).contains("give 1 to 4094"), "{beyond}");
        }
        for no_number in ["", "5.", ".5", "5.6.7", "5,6", "-1", "blue", "0x5", "99999999999999999999"] {
            assert!(why(no_number).contains("for example 5, or 5.7"), "{no_number}");
        }
    }

    #[test]
    fn lists_are_of_different_numbers() {
        assert_eq!("all".parse(), Ok(QueueSet::All));
        assert_eq!("0,2, 1".parse(), Ok(QueueSet::Some(vec![0, 2, 1])));
        assert!("0,0".parse::<QueueSet>().unwrap_err().contains("twice"));
        assert!("".parse::<CoreList>().is_err());
        assert!("1,x".parse::<CoreList>().unwrap_err().contains("for example"));
        assert!("-1".parse::<QueueSet>().is_err());
    }

    #[test]
    fn amounts_of_memory_have_binary_suffixes() {
        let size = |text: &str| text.parse::<Size>().map(|size| (size.0, size.to_string()));
        let table = [
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("65536", 65_536, "64K"),
            ("64M", 64 << 20, "64M"),
            ("64 MiB", 64 << 20, "64M"),
            ("2GiB", 2 << 30, "2G"),
        ];
        for (text, bytes, shown) in table {
            assert_eq!(size(text), Ok((bytes, shown.to_owned())), "{text}");
        }
        for wrong in ["", "M", "-1", "1.5G", "64MB", "1T", "99999999999999999999", "17179869184G"] {
            assert!(size(wrong).unwrap_err().contains("for example"), "{wrong}");
        }
    }
}
