//! Frames that a stranger might send: every protocol and every kind that the stack tells apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire::wire::ethernet::Mac;

use super::frames::{self, Ip, UdpChecksum};
use super::ndp;
use super::rng::Rng;
use super::scenario::{CLIENT, CLIENT_V6, PORT, SERVER, SERVER_V6, STRANGER, STRANGER_MAC, STRANGER_V6};

/// Longest payload of a drawn packet.
const MAX_PAYLOAD: u64 = 1472;
/// The same of IPv6.
const MAX_PAYLOAD_V6: u64 = 1452;

/// A frame that is right in itself, of any kind, mostly for the host with these addresses and of the family of the
/// second one. It never claims that address for somebody else.
#[must_use]
pub fn draw_frame(rng: &mut Rng, mac: Mac, address: impl Into<IpAddr>) -> Vec<u8> {
    let address = address.into();
    let to = match rng.below(20) {
        0 => Mac::BROADCAST,
        1 => Mac([1, 0, 0x5e, 0, 0, 1]),
        2 => Mac([2, 0, 0, 0, 0, 0x99]),
        _ => mac,
    };
    let from = if rng.chance(20) { Mac([3, 0, 0, 0, 0, 1]) } else { STRANGER_MAC };
    let tags: &[[u8; 4]] = match rng.below(40) {
        0 => &[[0x81, 0, 0xe0, 0]],
        1 => &[[0x88, 0xa8, 0, 0], [0x81, 0, 0x60, 0]],
        2 => &[[0x81, 0, 0, 5]],
        3 => &[[0x81, 0, 0, 0], [0x81, 0, 0, 0], [0x81, 0, 0, 0]],
        _ => &[],
    };
    // Now and then one of the other family.
    let address = match address {
        IpAddr::V6(_) if rng.chance(100) => if mac == super::CLIENT_MAC { CLIENT } else { SERVER }.into(),
        IpAddr::V4(_) if rng.chance(20) => if mac == super::CLIENT_MAC { CLIENT_V6 } else { SERVER_V6 }.into(),
        address => address,
    };
    if rng.chance(30) {
        let ethertype = if rng.chance(500) { frames::IPV6 } else { rng.bits() as u16 };
        return frames::ethernet(to, from, tags, ethertype, &draw_payload(rng, MAX_PAYLOAD));
    }
    match address {
        IpAddr::V4(address) if rng.chance(250) => {
            let to = if rng.chance(500) { Mac::BROADCAST } else { to };
            frames::ethernet(to, from, tags, frames::ARP, &draw_arp(rng, address))
        }
        IpAddr::V4(address) => frames::ethernet(to, from, tags, frames::IPV4, &draw_ipv4(rng, address)),
        IpAddr::V6(address) => {
            let (group, packet) = draw_ipv6(rng, address);
            let to = if rng.chance(900) { group.map_or(to, ndp::group_mac) } else { to };
            frames::ethernet(to, from, tags, frames::IPV6, &packet)
        }
    }
}

fn draw_arp(rng: &mut Rng, address: Ipv4Addr) -> Vec<u8> {
    let target = rng.pick(&[address, address, SERVER, CLIENT, STRANGER, Ipv4Addr::UNSPECIFIED]);
    let (sender_mac, sender) = match rng.below(8) {
        0 => (Mac::ZERO, STRANGER),
        1 => (STRANGER_MAC, Ipv4Addr::UNSPECIFIED),
        2 => (STRANGER_MAC, Ipv4Addr::from_bits(0x0a00_0000 | rng.between(3, 250) as u32)),
        _ => (STRANGER_MAC, STRANGER),
    };
    // A probe for an address that is being probed for is a claim.
    let target = if sender.is_unspecified() { STRANGER } else { target };
    let operation = rng.pick(&[1, 1, 2, 3]);
    frames::arp(operation, (sender_mac, sender), (Mac::ZERO, target))
}

fn draw_ipv4(rng: &mut Rng, address: Ipv4Addr) -> Vec<u8> {
    let source = match rng.below(20) {
        0 => Ipv4Addr::new(198, 51, 100, 9),
        1 => Ipv4Addr::new(127, 0, 0, 1),
        2 => Ipv4Addr::new(10, 0, 0, 255),
        3 => address,
        _ => STRANGER,
    };
    let destination = match rng.below(20) {
        0 => Ipv4Addr::BROADCAST,
        1 => Ipv4Addr::new(224, 0, 0, 1),
        2 => Ipv4Addr::new(10, 0, 0, 255),
        3 => Ipv4Addr::new(10, 0, 0, 99),
        _ => address,
    };
    let mut options = [1; 40];
    rng.fill(&mut options);
    let options = if rng.chance(100) { &options[..4 * rng.below(11) as usize] } else { &[] };
    let (protocol, segment) = draw_segment(rng, source.into(), destination.into(), MAX_PAYLOAD);
    let fragment = if rng.chance(30) { rng.bits() as u16 } else { rng.pick(&[0, 0x4000]) };
    let ip = Ip {
        traffic_class: rng.bits() as u8,
        fragment,
        ttl: rng.bits() as u8,
        ..Ip::new(protocol, source, destination)
    };
    frames::ipv4(ip, options, &segment)
}

/// A packet, and the group that it is to, if it is to one.
fn draw_ipv6(rng: &mut Rng, address: Ipv6Addr) -> (Option<Ipv6Addr>, Vec<u8>) {
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
    let mapped = Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped();
    let source = match rng.below(40) {
        0 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
        1 => Ipv6Addr::LOCALHOST,
        2 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 5),
        3 => address,
        4 => Ipv6Addr::UNSPECIFIED,
        5 => mapped,
        6..9 => local,
        _ => STRANGER_V6,
    };
    let destination = match rng.below(40) {
        0 => mapped,
        1 | 2 => ndp::ALL_NODES,
        3 => ndp::solicited_node(address),
        4 => ndp::solicited_node(STRANGER_V6),
        5 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb),
        6 => Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1),
        7 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99),
        _ => address,
    };
    let (destination, hop_limit, protocol, segment) = if rng.chance(250) {
        draw_ndp(rng, address, source, destination)
    } else {
        let (protocol, segment) = draw_segment(rng, source.into(), destination.into(), MAX_PAYLOAD_V6);
        (destination, rng.bits() as u8, protocol, segment)
    };
    let (protocol, payload) =
        if rng.chance(150) { draw_extensions(rng, protocol, segment) } else { (protocol, segment) };
    let (traffic_class, flow_label) = (rng.bits() as u8, rng.bits() as u32 & 0x000f_ffff);
    let ip = Ip { traffic_class, flow_label, ttl: hop_limit, ..Ip::new(protocol, source, destination) };
    (destination.is_multicast().then_some(destination), frames::ipv6(ip, &payload))
}

/// A message of neighbor discovery, valid or nearly: where it goes, its hop limit, ICMPv6, and itself.
fn draw_ndp(rng: &mut Rng, address: Ipv6Addr, source: Ipv6Addr, destination: Ipv6Addr) -> (Ipv6Addr, u8, u8, Vec<u8>) {
    let any = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, rng.between(3, 250) as u16);
    let kind = rng.pick(&[135, 135, 135, 136, 136, 133, 134, 137]);
    let (mut target, mut destination) = (rng.pick(&[address, address, STRANGER_V6, any, ndp::ALL_NODES]), destination);
    if kind == ndp::SOLICITATION && rng.chance(500) {
        destination = ndp::solicited_node(address);
    }
    // A claim is what somebody else says of the address, and a probe for one that is being probed for.
    if kind == ndp::ADVERTISEMENT && target == address || source.is_unspecified() {
        target = STRANGER_V6;
    }
    let mac = rng.pick(&[STRANGER_MAC, STRANGER_MAC, STRANGER_MAC, Mac::ZERO, Mac::BROADCAST]);
    let option = rng.pick(&[ndp::SOURCE_MAC, ndp::TARGET_MAC]);
    let options = match rng.below(8) {
        0 => Vec::new(),
        1 => vec![option, 0, 0, 0, 0, 0, 0, 0],
        2 => vec![14, 1, 0, 0, 0, 0, 0, 0, option, 2],
        3 => [&[14, 1, 0, 0, 0, 0, 0, 0][..], &ndp::mac_option(option, mac)].concat(),
        _ => ndp::mac_option(if kind == ndp::ADVERTISEMENT { ndp::TARGET_MAC } else { ndp::SOURCE_MAC }, mac),
    };
    let code = if rng.chance(30) { 1 } else { 0 };
    let rest = [&[rng.bits() as u8, 0, 0, 0][..], &target.octets(), &options].concat();
    let message = frames::icmpv6(source, destination, kind, code, &rest);
    let hop_limit = if rng.chance(50) { 254 } else { 255 };
    (destination, hop_limit, frames::ICMPV6, message)
}

/// Puts extension headers in front of what a packet carries.
fn draw_extensions(rng: &mut Rng, protocol: u8, segment: Vec<u8>) -> (u8, Vec<u8>) {
    let (mut protocol, mut payload) = (protocol, segment);
    if rng.chance(20) {
        // The first fragment of a datagram, of which the first header is in the next one.
        return (44, vec![protocol, 0, 0, 1, 0, 0, 0, 1]);
    }
    let is_long = rng.chance(100);
    for _ in 0..if is_long { 9 } else { rng.between(1, 2) } {
        let kind = if is_long { 60 } else { rng.pick(&[0, 60, 60, 60, 43, 44, 44]) };
        let header: Vec<u8> = match (kind, rng.below(4)) {
            (44, 0) => vec![protocol, 0, rng.bits() as u8, rng.bits() as u8, 0, 0, 0, 1],
            (44, _) => vec![protocol, 0, 0, 0, 0, 0, 0, 1],
            (43, n) => vec![protocol, 0, 0, n as u8 / 2, 0, 0, 0, 0],
            // An option of any kind; padding; one that is longer than its header.
            _ if is_long => vec![protocol, 0, 1, 4, 0, 0, 0, 0],
            (_, 0) => vec![protocol, 0, rng.bits() as u8, 4, 0, 0, 0, 0],
            (_, 1) if rng.chance(300) => vec![protocol, 0, 1, 5, 0, 0, 0, 0],
            (_, 2) => vec![protocol, 0, 5, 2, 0, 0, 1, 0],
            _ => vec![protocol, 0, 1, 4, 0, 0, 0, 0],
        };
        payload = [header, payload].concat();
        protocol = kind;
    }
    if rng.chance(50) {
        payload.truncate(rng.below(16) as usize);
    }
    if rng.chance(50) { (59, payload) } else { (protocol, payload) }
}

fn draw_segment(rng: &mut Rng, source: IpAddr, destination: IpAddr, most: u64) -> (u8, Vec<u8>) {
    let payload = draw_payload(rng, most);
    let ip = Ip::new(0, source, destination);
    match rng.below(10) {
        0..6 => {
            let from = rng.pick(&[0, 7, 19, 40_000, 40_001, 50_000, 53]);
            let any = rng.bits() as u16;
            let to = rng.pick(&[PORT, PORT, PORT, 40_000, 9, any]);
            let checksum = match rng.below(6) {
                0 => UdpChecksum::Absent,
                1 => UdpChecksum::Partial,
                _ => UdpChecksum::Right,
            };
            (frames::UDP, frames::udp((source, from), (destination, to), &payload, checksum))
        }
        6..9 => {
            let echo = if source.is_ipv4() { 8 } else { 128 };
            let kind = rng.pick(&[echo, echo, echo, echo, 0, 3, 13, 129, 131]);
            let mut rest = vec![0; 4];
            if rng.chance(500) {
                rng.fill(&mut rest);
            }
            (ip.icmp(), frames::icmp_message(ip, kind, 0, &[rest, payload].concat()))
        }
        _ => {
            let any = rng.bits() as u8;
            (rng.pick(&[any, any, frames::UDP, ip.icmp()]), payload)
        }
    }
}

fn draw_payload(rng: &mut Rng, most: u64) -> Vec<u8> {
    let len = match rng.below(10) {
        0 => rng.below(9),
        1 | 2 => rng.below(most + 1),
        _ => rng.below(64),
    };
    let mut payload = vec![0; len as usize];
    if rng.chance(800) {
        rng.fill(&mut payload);
    }
    payload
}
