//! Frames that a stranger might send: every protocol and every kind that the stack tells apart.

use std::net::Ipv4Addr;

use barewire::wire::ethernet::Mac;

use super::frames::{self, Ip, UdpChecksum};
use super::rng::Rng;
use super::scenario::{CLIENT, PORT, SERVER, STRANGER, STRANGER_MAC};

/// Longest payload of a drawn packet.
const MAX_PAYLOAD: u64 = 1472;

/// A frame that is right in itself, of any kind, mostly for the host with these addresses. It never claims
/// that address for somebody else.
#[must_use]
pub fn draw_frame(rng: &mut Rng, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
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
    if rng.chance(250) {
        let to = if rng.chance(500) { Mac::BROADCAST } else { to };
        return frames::ethernet(to, from, tags, frames::ARP, &draw_arp(rng, address));
    }
    if rng.chance(30) {
        let ethertype = if rng.chance(500) { 0x86dd } else { rng.bits() as u16 };
        return frames::ethernet(to, from, tags, ethertype, &draw_payload(rng));
    }
    frames::ethernet(to, from, tags, frames::IPV4, &draw_ipv4(rng, address))
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
    let (protocol, segment) = draw_segment(rng, source, destination);
    let fragment = if rng.chance(30) { rng.bits() as u16 } else { rng.pick(&[0, 0x4000]) };
    let ip = Ip {
        traffic_class: rng.bits() as u8,
        fragment,
        ttl: rng.bits() as u8,
        ..Ip::new(protocol, source, destination)
    };
    frames::ipv4(ip, options, &segment)
}

fn draw_segment(rng: &mut Rng, source: Ipv4Addr, destination: Ipv4Addr) -> (u8, Vec<u8>) {
    let payload = draw_payload(rng);
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
            let kind = rng.pick(&[8, 8, 8, 8, 0, 3, 13]);
            let mut rest = vec![0; 4];
            if rng.chance(500) {
                rng.fill(&mut rest);
            }
            (frames::ICMP, frames::icmp(kind, 0, &[rest, payload].concat()))
        }
        _ => {
            let any = rng.bits() as u8;
            (rng.pick(&[any, any, frames::UDP, frames::ICMP]), payload)
        }
    }
}

fn draw_payload(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(10) {
        0 => rng.below(9),
        1 | 2 => rng.below(MAX_PAYLOAD + 1),
        _ => rng.below(64),
    };
    let mut payload = vec![0; len as usize];
    if rng.chance(800) {
        rng.fill(&mut payload);
    }
    payload
}
