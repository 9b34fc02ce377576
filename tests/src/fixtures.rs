//! Frames as they are on the wire, built byte by byte so that tests do not lean on what they test.
//!
//! Builders take what matters to a test and fill the rest with sound values; checksums that nobody here looks
//! at are zero. What is malformed is made by overwriting bytes of a sound frame.

use std::net::{Ipv4Addr, Ipv6Addr};

/// MAC address of the receiving interface.
pub const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// MAC address of the sender.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// Bytes of an Ethernet header without tags: where the network header begins.
pub const ETHERNET_LEN: usize = 14;

/// EtherTypes, IEEE 802.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// LLDP, for something that is neither IP nor ARP.
    pub const LLDP: u16 = 0x88cc;
}

/// IP protocol numbers.
pub mod protocol {
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 fragment header.
    pub const IPV6_FRAGMENT: u8 = 44;
    /// IPv6, nothing follows.
    pub const IPV6_NONE: u8 = 59;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// An Ethernet frame to us.
#[must_use]
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&OUR_MAC[..], &PEER_MAC, &ethertype.to_be_bytes(), payload].concat()
}

/// `frame` to all stations on the link.
#[must_use]
pub fn to_all(frame: Vec<u8>) -> Vec<u8> {
    patched(frame, 0, &[0xff; 6])
}

/// `frame` with tags (EtherType, tag control information) in front of its EtherType, the outermost first.
#[must_use]
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> =
        tags.iter().flat_map(|(kind, control)| [kind.to_be_bytes(), control.to_be_bytes()]).flatten().collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// `frame` with zeros up to `len` bytes, as Ethernet fills short frames.
#[must_use]
pub fn padded(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.resize(len.max(frame.len()), 0);
    frame
}

/// `frame` with the bytes from `at` on replaced.
#[must_use]
pub fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// A frame with an IPv4 packet: RFC 791, with options (a multiple of 4 bytes) and payload.
#[must_use]
pub fn ipv4(destination: Ipv4Addr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "options come in words");
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol::UDP, 0, 0]);
    packet.extend(Ipv4Addr::new(192, 0, 2, 99).octets());
    packet.extend(destination.octets());
    packet.extend(options);
    packet.extend(payload);
    ethernet(ethertype::IPV4, &packet)
}

/// A frame with an IPv6 packet: RFC 8200, without extension headers.
#[must_use]
pub fn ipv6(destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 255]);
    packet.extend(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99).octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    ethernet(ethertype::IPV6, &packet)
}

/// A UDP datagram, RFC 768, without checksum.
#[must_use]
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39, 0, 7];
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An ICMPv6 message of neighbor discovery's shape: RFC 4861 section 4.3 and 4.4, with a link-layer address option.
#[must_use]
pub fn neighbor_message(icmp_type: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(PEER_MAC);
    message
}

/// A datagram to an address.
#[must_use]
pub fn ipv4_to(destination: Ipv4Addr) -> Vec<u8> {
    ipv4(destination, &[], &udp(b"payload"))
}

/// The same of IPv6.
#[must_use]
pub fn ipv6_to(destination: Ipv6Addr) -> Vec<u8> {
    ipv6(destination, protocol::UDP, &udp(b"payload"))
}

/// A neighbor solicitation or advertisement to an address.
#[must_use]
pub fn neighbor(destination: Ipv6Addr, icmp_type: u8, target: Ipv6Addr) -> Vec<u8> {
    ipv6(destination, protocol::ICMPV6, &neighbor_message(icmp_type, target))
}

/// The multicast address that solicitations for `address` go to, RFC 4291 section 2.7.1.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let octets = address.octets();
    let low = u16::from_be_bytes([octets[14], octets[15]]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(octets[13]), low)
}

/// A frame with an ARP message for IPv4 over Ethernet, RFC 826, as long as it is before padding.
#[must_use]
pub fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    message.extend(PEER_MAC);
    message.extend(sender.octets());
    message.extend([0; 6]);
    message.extend(target.octets());
    ethernet(ethertype::ARP, &message)
}
