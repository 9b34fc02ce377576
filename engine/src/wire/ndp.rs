//! Neighbor Discovery for IPv6 (RFC 4861).
//!
//! ```text
//!  router solicitation     | icmpv6 header 8 | options
//!  router advertisement    | icmpv6 header 8 | reachable time 4 | retransmission timer 4 | options
//!  neighbor solicitation   | icmpv6 header 8 | target 16 | options
//!  neighbor advertisement  | icmpv6 header 8 | target 16 | options
//!  redirect                | icmpv6 header 8 | target 16 | destination 16 | options
//!  option                  | type 1 | length 1, in units of 8 bytes | ...
//! ```
//!
//! [`Message::parse`] refuses all that RFC 4861 calls invalid, and does so silently, as the RFC wants.

mod write;

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;

use super::ethernet::Mac;
use super::ipv6::{is_mapped, sixteen};
use super::{be16, four, icmpv6};
use crate::base::DropReason;
pub use write::{MAX_LEN, write_advertisement, write_router_solicitation, write_solicitation};

/// The hop limit of every message: no router has passed it on (RFC 4861, section 3.1).
pub const HOP_LIMIT: u8 = 255;
/// All hosts on the link (RFC 4291, section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link (RFC 4291, section 2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Prefixes of a Router Advertisement that are looked at: more than a link has, while renumbered too.
pub const MAX_PREFIXES: usize = 4;

/// What every solicited-node address begins with: all but its lower 24 bits (RFC 4291, section 2.7.1).
const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// Bytes that lengths of options count in.
const UNIT: usize = 8;

/// The group that an address is solicited at: everybody whose address ends in the same 24 bits.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(SOLICITED_NODE | address.to_bits() & 0x00ff_ffff)
}

/// Whether it is a group that some address is solicited at.
#[must_use]
pub const fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.to_bits() >> 24 == SOLICITED_NODE >> 24
}

/// Who has an address? (RFC 4861, section 4.3.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address asked for.
    pub target: Ipv6Addr,
    /// MAC address of the sender; none while it makes sure that the target is not taken (RFC 4862, section 5.4).
    pub source_mac: Option<Mac>,
}

/// The answer, or news (RFC 4861, section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// Whether the sender is a router.
    pub router: bool,
    /// Whether it was asked for.
    pub solicited: bool,
    /// Whether it is to replace what is known.
    pub override_: bool,
    /// MAC address of the target.
    pub target_mac: Option<Mac>,
}

/// What a router tells about itself and the link (RFC 4861, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// The hop limit to send with; 0 where the router does not say.
    pub hop_limit: u8,
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other configuration is to be had by DHCPv6.
    pub other: bool,
    /// For how long it is a default router, in seconds; 0 if it is none.
    pub lifetime_s: u16,
    /// For how long a neighbor counts as reachable; 0 where the router does not say.
    pub reachable_ms: u32,
    /// Time between solicitations; 0 where the router does not say.
    pub retransmit_ms: u32,
    /// MAC address of the router.
    pub source_mac: Option<Mac>,
    /// MTU of the link in bytes, as the router has it: not checked.
    pub mtu: Option<u32>,
    /// The first prefixes that it names.
    pub prefixes: ArrayVec<PrefixInformation, MAX_PREFIXES>,
}

/// A prefix of the link (RFC 4861, section 4.6.2). What it may be used for is not checked here: see RFC 4861,
/// section 6.3.4, and RFC 4862, section 5.5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits beyond its length are zero.
    pub prefix: Ipv6Addr,
    /// Bits of it, at most 128.
    pub len: u8,
    /// Whether its addresses are on the link.
    pub on_link: bool,
    /// Whether hosts may make themselves addresses of it.
    pub autonomous: bool,
    /// For how long it is on the link, in seconds; all ones is for ever.
    pub valid_s: u32,
    /// For how long addresses made of it are preferred, in seconds; all ones is for ever.
    pub preferred_s: u32,
}

/// A received message that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Routers are asked to show themselves, which concerns no host.
    RouterSolicitation,
    /// A router shows itself.
    RouterAdvertisement(RouterAdvertisement),
    /// Somebody asks who has an address.
    Solicitation(Solicitation),
    /// Somebody says who has an address.
    Advertisement(Advertisement),
    /// A router knows a better first hop (RFC 4861, section 4.5).
    Redirect,
}

impl Message {
    /// Reads a message that came with `hop_limit` from `source` to `destination`. Whether it came in a fragment, even
    /// an atomic one, the caller has seen: then it is dropped (RFC 6980).
    ///
    /// # Errors
    /// [`DropReason::IcmpIgnored`] if it is not of Neighbor Discovery, [`DropReason::NdpHopLimit`],
    /// [`DropReason::NdpMalformed`] or [`DropReason::NdpMacInvalid`].
    pub fn parse(
        packet: &icmpv6::Packet<'_>,
        hop_limit: u8,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Self, DropReason> {
        let read = match packet.kind() {
            icmpv6::ROUTER_SOLICITATION => router_solicitation,
            icmpv6::ROUTER_ADVERTISEMENT => router_advertisement,
            icmpv6::NEIGHBOR_SOLICITATION => solicitation,
            icmpv6::NEIGHBOR_ADVERTISEMENT => advertisement,
            icmpv6::REDIRECT => redirect,
            _ => return Err(DropReason::IcmpIgnored),
        };
        // RFC 4861, sections 6.1, 7.1 and 8.1: the IP Hop Limit field has a value of 255, i.e., the packet could not
        // possibly have been forwarded by a router; and ICMP Code is 0.
        if hop_limit != HOP_LIMIT {
            return Err(DropReason::NdpHopLimit);
        }
        if packet.code() != 0 {
            return Err(DropReason::NdpMalformed);
        }
        read(packet, source, destination)
    }
}

type Read = Result<Message, DropReason>;

/// RFC 4861, section 6.1.1.
fn router_solicitation(packet: &icmpv6::Packet<'_>, source: Ipv6Addr, _destination: Ipv6Addr) -> Read {
    let options = Options::parse(packet.body())?;
    // If the IP source address is the unspecified address, there is no source link-layer address option.
    match options.mac(SOURCE_LINK_LAYER_ADDRESS)? {
        Some(_) if source.is_unspecified() => Err(DropReason::NdpMalformed),
        _ => Ok(Message::RouterSolicitation),
    }
}

/// RFC 4861, section 6.1.2.
fn router_advertisement(packet: &icmpv6::Packet<'_>, source: Ipv6Addr, _destination: Ipv6Addr) -> Read {
    let (timers, rest) = packet.body().split_first_chunk::<8>().ok_or(DropReason::NdpMalformed)?;
    let options = Options::parse(rest)?;
    // IP Source Address is a link-local address.
    if !source.is_unicast_link_local() {
        return Err(DropReason::NdpMalformed);
    }
    let parameter = packet.parameter();
    let mut prefixes = ArrayVec::new();
    prefixes.extend(options.all(PREFIX_INFORMATION).filter_map(prefix).take(MAX_PREFIXES));
    Ok(Message::RouterAdvertisement(RouterAdvertisement {
        hop_limit: parameter[0],
        managed: parameter[1] & 0x80 != 0,
        other: parameter[1] & 0x40 != 0,
        lifetime_s: be16(&parameter, 2),
        reachable_ms: u32::from_be_bytes(four(timers, 0)),
        retransmit_ms: u32::from_be_bytes(four(timers, 4)),
        source_mac: options.mac(SOURCE_LINK_LAYER_ADDRESS)?,
        mtu: options.all(MTU).find_map(|option| Some(u32::from_be_bytes(four(option.as_array::<8>()?, 4)))),
        prefixes,
    }))
}

/// RFC 4861, section 7.1.1.
fn solicitation(packet: &icmpv6::Packet<'_>, source: Ipv6Addr, destination: Ipv6Addr) -> Read {
    let (target, options) = target(packet.body())?;
    let source_mac = options.mac(SOURCE_LINK_LAYER_ADDRESS)?;
    // If the IP source address is the unspecified address, the IP destination address is a solicited-node multicast
    // address, and there is no source link-layer address option.
    if source.is_unspecified() && !(is_solicited_node(destination) && source_mac.is_none()) {
        return Err(DropReason::NdpMalformed);
    }
    Ok(Message::Solicitation(Solicitation { target, source_mac }))
}

/// RFC 4861, section 7.1.2.
fn advertisement(packet: &icmpv6::Packet<'_>, _source: Ipv6Addr, destination: Ipv6Addr) -> Read {
    let (target, options) = target(packet.body())?;
    let [flags, ..] = packet.parameter();
    let (router, solicited, override_) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x20 != 0);
    // If the IP Destination Address is a multicast address the Solicited flag is zero.
    if destination.is_multicast() && solicited {
        return Err(DropReason::NdpMalformed);
    }
    let target_mac = options.mac(TARGET_LINK_LAYER_ADDRESS)?;
    Ok(Message::Advertisement(Advertisement { target, router, solicited, override_, target_mac }))
}

/// RFC 4861, section 8.1.
fn redirect(packet: &icmpv6::Packet<'_>, source: Ipv6Addr, _destination: Ipv6Addr) -> Read {
    let (addresses, rest) = packet.body().split_first_chunk::<32>().ok_or(DropReason::NdpMalformed)?;
    let (target, about) = (sixteen(addresses, 0), sixteen(addresses, 16));
    Options::parse(rest)?;
    // IP Source Address is a link-local address. The ICMP Destination Address field does not contain a multicast
    // address. The ICMP Target Address is either a link-local address (when redirected to a router) or the same as the
    // ICMP Destination Address (when redirected to the on-link destination).
    let target_is_valid = target.is_unicast_link_local() || target == about;
    if !source.is_unicast_link_local() || about.is_multicast() || !target_is_valid {
        return Err(DropReason::NdpMalformed);
    }
    Ok(Message::Redirect)
}

/// The target of a solicitation or an advertisement, which must not be multicast, and cannot be what is no address of
/// one host either; and the options behind it.
fn target(body: &[u8]) -> Result<(Ipv6Addr, Options<'_>), DropReason> {
    let (target, rest) = body.split_first_chunk::<16>().ok_or(DropReason::NdpMalformed)?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() || target.is_unspecified() || target.is_loopback() || is_mapped(target) {
        return Err(DropReason::NdpMalformed);
    }
    Ok((target, Options::parse(rest)?))
}

/// Options, each of which is as long as it says.
#[derive(Clone, Copy)]
struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// RFC 4861: all included options have a length that is greater than zero.
    fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = first_option(rest).ok_or(DropReason::NdpMalformed)?;
        }
        Ok(Self(bytes))
    }

    /// The options of a type, from their type byte on.
    fn all(self, kind: u8) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (option, after) = first_option(rest)?;
            rest = after;
            Some(option)
        })
        .filter(move |option| option.first() == Some(&kind))
    }

    /// The MAC address in the first option of a type, where that is as long as Ethernet has it (RFC 2464, section 6).
    fn mac(self, kind: u8) -> Result<Option<Mac>, DropReason> {
        let found = self.all(kind).find_map(|option| option.as_array::<8>());
        let mac = found.map(|&[_, _, a, b, c, d, e, f]| Mac([a, b, c, d, e, f]));
        match mac {
            Some(mac) if mac.is_multicast() || mac == Mac::ZERO => Err(DropReason::NdpMacInvalid),
            mac => Ok(mac),
        }
    }
}

/// Cuts off the first option.
fn first_option(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, units, ..] = *bytes else { return None };
    if units == 0 { None } else { bytes.split_at_checked(UNIT * usize::from(units)) }
}

/// Reads a Prefix Information option; none if its lengths are nonsense.
fn prefix(option: &[u8]) -> Option<PrefixInformation> {
    let option = option.first_chunk::<32>().filter(|_| option.len() == 32)?;
    let (len, flags) = (option[2], option[3]);
    let host_bits = 128_u32.checked_sub(len.into())?;
    // RFC 4861, section 4.6.2: the bits after the prefix length are reserved and must be ignored by the receiver.
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Some(PrefixInformation {
        prefix: Ipv6Addr::from_bits(sixteen(option, 16).to_bits() & mask),
        len,
        on_link: flags & 0x80 != 0,
        autonomous: flags & 0x40 != 0,
        valid_s: u32::from_be_bytes(four(option, 4)),
        preferred_s: u32::from_be_bytes(four(option, 8)),
    })
}

#[cfg(test)]
mod tests;
