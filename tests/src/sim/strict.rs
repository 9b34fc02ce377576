//! What every frame that a host sends has to be, by an independent parser (etherparse): whole, with right
//! lengths and right checksums.

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice};

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
            if header.ttl() == 0 {
                return Err("without hops left".to_string());
            }
            if header.is_fragmenting_payload() {
                return check_fragment(header.dont_fragment(), header.more_fragments(), ip.payload().payload.len());
            }
            check_transport(header.source(), header.destination(), packet.transport.as_ref())
        }
        Some(NetSlice::Arp(arp)) => {
            same("bytes", header_len + ARP_LEN, frame.len())?;
            same("ARP bytes", arp.slice().len(), ARP_LEN)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            same("bytes", header_len + 40 + usize::from(header.payload_length()), frame.len())?;
            if header.hop_limit() == 0 {
                return Err("without hops left".to_string());
            }
            if ip.is_payload_fragmented() {
                return Ok(());
            }
            check_transport_v6(header.source(), header.destination(), packet.transport.as_ref())
        }
        other => Err(format!("neither ARP nor IP: {other:?}")),
    }
}

/// RFC 791: fragments but the last carry a multiple of eight bytes. What is in them the reference knows.
fn check_fragment(whole: bool, more: bool, len: usize) -> Result<(), String> {
    same("a fragment that must not be one", whole, false)?;
    same("bytes beyond a multiple of eight in a fragment", more && !len.is_multiple_of(8), false)?;
    same("a fragment without payload", len == 0, false)
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
        Some(TransportSlice::Tcp(tcp)) => {
            check_tcp(tcp)?;
            let right = tcp.to_header().calc_checksum_ipv4_raw(source, destination, tcp.payload());
            same("TCP checksum", tcp.checksum(), right.map_err(|error| error.to_string())?)
        }
        other => Err(format!("neither UDP, ICMP nor TCP: {other:?}")),
    }
}

fn check_transport_v6(from: [u8; 16], to: [u8; 16], segment: Option<&TransportSlice<'_>>) -> Result<(), String> {
    match segment {
        Some(TransportSlice::Udp(udp)) => {
            if udp.checksum() == 0 {
                return Err("a UDP datagram without checksum".to_string());
            }
            let right = udp.to_header().calc_checksum_ipv6_raw(from, to, udp.payload());
            same("UDP checksum", udp.checksum(), right.map_err(|error| error.to_string())?)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let right = icmp.header().icmp_type.calc_checksum(from, to, icmp.payload());
            same("ICMP checksum", icmp.checksum(), right.map_err(|error| error.to_string())?)
        }
        Some(TransportSlice::Tcp(tcp)) => {
            check_tcp(tcp)?;
            let right = tcp.to_header().calc_checksum_ipv6_raw(from, to, tcp.payload());
            same("TCP checksum", tcp.checksum(), right.map_err(|error| error.to_string())?)
        }
        other => Err(format!("neither UDP, ICMPv6 nor TCP: {other:?}")),
    }
}

/// RFC 9293, section 3.1: reserved bits are zero, options can be read to the end and are padded with zeros, and
/// fields mean nothing that their bits do not announce.
fn check_tcp(tcp: &TcpSlice<'_>) -> Result<(), String> {
    if tcp.slice()[12] & 0x0f != 0 {
        return Err("reserved bits are set".to_string());
    }
    if let Some(wrong) = tcp.options_iterator().find_map(Result::err) {
        return Err(format!("TCP options: {wrong}"));
    }
    if !tcp.ack() && !tcp.syn() && !tcp.rst() {
        return Err("a segment without ACK, SYN or RST".to_string());
    }
    same("acknowledgment number without ACK", !tcp.ack() && tcp.acknowledgment_number() != 0, false)?;
    same("urgent pointer without URG", !tcp.urg() && tcp.urgent_pointer() != 0, false)?;
    same("text with SYN or RST", (tcp.syn() || tcp.rst()) && !tcp.payload().is_empty(), false)?;
    same("SYN with FIN or RST", tcp.syn() && (tcp.fin() || tcp.rst()), false)?;
    same("a port of zero", tcp.source_port() == 0 || tcp.destination_port() == 0, false)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, right: T) -> Result<(), String> {
    if is == right { Ok(()) } else { Err(format!("{what}: {is:?} instead of {right:?}")) }
}
