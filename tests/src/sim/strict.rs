//! What every frame that a host sends has to be, by an independent parser (etherparse): whole, with right
//! lengths and right checksums.

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;

/// Checks a frame that a host sent.
///
/// # Errors
/// What is wrong with it.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { return Err("no Ethernet header".to_string()) };
    if ethernet.source()[0] & 1 != 0 {
        return Err("sent from a group's MAC address".to_string());
    }
    let header_len = 14 + 4 * packet.link_exts.len();
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            same("bytes", header_len + usize::from(header.total_len()), frame.len())?;
            same("IPv4 checksum", header.header_checksum(), header.to_header().calc_header_checksum())?;
            if header.is_fragmenting_payload() || header.ttl() == 0 {
                return Err("a fragment, or without hops left".to_string());
            }
            check_transport(header.source(), header.destination(), packet.transport.as_ref())
        }
        Some(NetSlice::Arp(arp)) => {
            same("bytes", header_len + ARP_LEN, frame.len())?;
            same("ARP bytes", arp.slice().len(), ARP_LEN)
        }
        other => Err(format!("neither ARP nor IPv4: {other:?}")),
    }
}

fn check_transport(source: [u8; 4], destination: [u8; 4], segment: Option<&TransportSlice<'_>>) -> Result<(), String> {
    match segment {
        Some(TransportSlice::Udp(udp)) => {
            if udp.checksum() == 0 {
                return Err("a UDP datagram without checksum".to_string());
            }
            let right = udp.to_header().calc_checksum_ipv4_raw(source, destination, udp.payload());
            same("UDP checksum", udp.checksum(), right.map_err(|error| error.to_string())?)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            // Where the sum wraps round to zero, all ones are as right as zero (but not the other way round).
            let right = match icmp.header().icmp_type.calc_checksum(icmp.payload()) {
                0 if icmp.checksum() == 0xffff => 0xffff,
                right => right,
            };
            same("ICMP checksum", icmp.checksum(), right)
        }
        other => Err(format!("neither UDP nor ICMP: {other:?}")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, right: T) -> Result<(), String> {
    if is == right { Ok(()) } else { Err(format!("{what}: {is:?} instead of {right:?}")) }
}
