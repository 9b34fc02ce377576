//! Frames put together by hand, and their checksums by the book: the engine's own code is under test, so none
//! of it is used here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire::wire::ethernet::Mac;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// The Internet checksum, word by word as RFC 1071 defines it.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The one's complement sum of 16-bit words.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    sum += odd.first().map_or(0, |&byte| u64::from(byte) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A frame with so many VLAN tags.
#[must_use]
pub fn ethernet(to: Mac, from: Mac, tags: &[[u8; 4]], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + 4 * tags.len() + payload.len());
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(tags.iter().flatten());
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What stands in an IP header.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, of IPv6.
    pub flow_label: u32,
    /// Flags and fragment offset, of IPv4.
    pub fragment: u16,
    /// Hops left.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
}

impl Ip {
    /// A header as the stack writes it.
    #[must_use]
    pub fn new(protocol: u8, source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        let (source, destination) = (source.into(), destination.into());
        Self { traffic_class: 0, flow_label: 0, fragment: 0x4000, ttl: 64, protocol, source, destination }
    }

    /// EtherType of its family.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        if self.source.is_ipv4() { IPV4 } else { IPV6 }
    }

    /// The number of ICMP in its family.
    #[must_use]
    pub const fn icmp(&self) -> u8 {
        if self.source.is_ipv4() { ICMP } else { ICMPV6 }
    }
}

/// A packet of the family that the addresses are of.
#[must_use]
pub fn packet(ip: Ip, payload: &[u8]) -> Vec<u8> {
    if ip.source.is_ipv4() { ipv4(ip, &[], payload) } else { ipv6(ip, payload) }
}

/// A packet in a frame without tags.
#[must_use]
pub fn frame(to: Mac, from: Mac, ip: Ip, payload: &[u8]) -> Vec<u8> {
    with_packet(to, from, &packet(ip, payload))
}

/// A frame with an IP packet of either version.
#[must_use]
pub fn with_packet(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    ethernet(to, from, &[], if packet[0] >> 4 == 4 { IPV4 } else { IPV6 }, packet)
}

/// The MAC address that a frame is to.
#[must_use]
pub fn mac(frame: &[u8]) -> Mac {
    frame.first_chunk().map_or(Mac::ZERO, |mac| Mac(*mac))
}

/// The address that the packet in a frame without tags is to.
#[must_use]
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(IpAddr::from(*frame.get(30..34)?.first_chunk::<4>()?)),
        [0x86, 0xdd] => Some(IpAddr::from(*frame.get(38..54)?.first_chunk::<16>()?)),
        _ => None,
    }
}

/// An IPv4 packet. `options` are a multiple of four bytes long.
#[must_use]
pub fn ipv4(ip: Ip, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = Vec::with_capacity(header_len + payload.len());
    packet.extend([0x40 | (header_len / 4) as u8, ip.traffic_class]);
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(ip.fragment.to_be_bytes());
    packet.extend([ip.ttl, ip.protocol, 0, 0]);
    packet.extend(octets(ip.source));
    packet.extend(octets(ip.destination));
    packet.extend(options);
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet. `payload` begins with what `ip.protocol` says, be it an extension header.
#[must_use]
pub fn ipv6(ip: Ip, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(40 + payload.len());
    packet.extend((6 << 28 | u32::from(ip.traffic_class) << 20 | ip.flow_label).to_be_bytes());
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([ip.protocol, ip.ttl]);
    packet.extend(octets(ip.source));
    packet.extend(octets(ip.destination));
    packet.extend(payload);
    packet
}

/// The fragments that a packet is sent in over a link with this MTU, with an identification of zero.
#[must_use]
pub fn fragments(ip: Ip, payload: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let room = if ip.source.is_ipv4() { mtu - 20 } else { mtu - 48 };
    let mut packets = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let more = payload.len() - at > room;
        let len = if more { room / 8 * 8 } else { payload.len() - at };
        let (offset, part) = (at as u16, &payload[at..at + len]);
        packets.push(if ip.source.is_ipv4() {
            ipv4(Ip { fragment: (offset / 8) | (u16::from(more) << 13), ..ip }, &[], part)
        } else {
            let [high, low] = (offset | u16::from(more)).to_be_bytes();
            ipv6(Ip { protocol: FRAGMENT, ..ip }, &[&[ip.protocol, 0, high, low, 0, 0, 0, 0], part].concat())
        });
        at += len;
    }
    packets
}

/// Takes the identification out of a fragment, so that it is one of zero as those of [`fragments`] are.
#[must_use]
pub fn take_identification(mut packet: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let place = if packet.first()? >> 4 == 4 { 4..6 } else { 44..48 };
    let identification = packet.get(place.clone())?.to_vec();
    packet[place].fill(0);
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let checksum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    Some((identification, packet))
}

/// The bytes of an address.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What stands in the checksum field of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The checksum.
    Right,
    /// Zero: the sender made none.
    Absent,
    /// The sum of the pseudo header, which a NIC was to complete.
    Partial,
}

/// A UDP datagram.
#[must_use]
pub fn udp(
    source: (impl Into<IpAddr>, u16),
    destination: (impl Into<IpAddr>, u16),
    payload: &[u8],
    checksum: UdpChecksum,
) -> Vec<u8> {
    let (from, to) = (source.0.into(), destination.0.into());
    let len = (8 + payload.len()) as u16;
    let mut datagram = Vec::with_capacity(usize::from(len));
    datagram.extend(source.1.to_be_bytes());
    datagram.extend(destination.1.to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let field = match checksum {
        UdpChecksum::Absent => 0,
        UdpChecksum::Partial => sum(&pseudo_header(from, to, UDP, len)),
        // RFC 768: a checksum of zero is sent as all ones.
        UdpChecksum::Right => match !transport_sum(from, to, UDP, &datagram) {
            0 => 0xffff,
            checksum => checksum,
        },
    };
    datagram[6..8].copy_from_slice(&field.to_be_bytes());
    datagram
}

/// The sum over pseudo header and segment: all ones if the segment holds the right checksum.
#[must_use]
pub fn transport_sum(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, protocol: u8, segment: &[u8]) -> u16 {
    let header = sum(&pseudo_header(source, destination, protocol, segment.len() as u16));
    let (total, carry) = header.overflowing_add(sum(segment));
    total + u16::from(carry)
}

/// The pseudo header of RFC 768, or that of RFC 8200, section 8.1.
#[must_use]
pub fn pseudo_header(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, protocol: u8, len: u16) -> Vec<u8> {
    let (source, destination) = (source.into(), destination.into());
    let [high, low] = len.to_be_bytes();
    let rest: &[u8] = if source.is_ipv4() { &[0, protocol, high, low] } else { &[0, 0, high, low, 0, 0, 0, protocol] };
    [&octets(source), &octets(destination), rest].concat()
}

/// An ICMP message: type, code, and everything behind the checksum (at least four bytes).
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMPv6 message: type, code, and everything behind the checksum (at least four bytes).
#[must_use]
pub fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let checksum = !transport_sum(source, destination, ICMPV6, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMP message of the family that the addresses of `ip` are of.
#[must_use]
pub fn icmp_message(ip: Ip, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    match (ip.source, ip.destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => icmpv6(source, destination, kind, code, rest),
        _ => icmp(kind, code, rest),
    }
}

/// The same in its packet.
#[must_use]
pub fn icmp_packet(ip: Ip, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    packet(Ip { protocol: ip.icmp(), ..ip }, &icmp_message(ip, kind, code, rest))
}

/// An ARP packet for IPv4 over Ethernet.
#[must_use]
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0.0);
    packet.extend(sender.1.octets());
    packet.extend(target.0.0);
    packet.extend(target.1.octets());
    packet
}

/// The TCP segment of a peer that is driven by hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits as they are in the header.
    pub flags: u8,
    /// Window as it is in the header.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, a multiple of four bytes long.
    pub options: &'a [u8],
    /// Text.
    pub text: &'a [u8],
}

/// A TCP segment with its checksum.
#[must_use]
pub fn tcp(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16), segment: &Tcp<'_>) -> Vec<u8> {
    let Tcp { seq, ack, flags, window, urgent, options, text } = *segment;
    let mut bytes = Vec::with_capacity(20 + options.len() + text.len());
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(destination.1.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([((20 + options.len()) as u8) << 2, flags]);
    bytes.extend(window.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(urgent.to_be_bytes());
    bytes.extend(options);
    bytes.extend(text);
    let checksum = !transport_sum(source.0, destination.0, TCP, &bytes);
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Whether the checksums of an IP packet, and of the segment in it if they have one, are right. What is no packet of
/// IPv4, nor one of IPv6 that carries UDP, TCP or ICMPv6, is not.
#[must_use]
pub fn is_intact(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => is_intact_v4(packet).unwrap_or(false),
        Some(6) => is_intact_v6(packet).unwrap_or(false),
        _ => false,
    }
}

fn is_intact_v4(packet: &[u8]) -> Option<bool> {
    let header_len = usize::from(packet.first()? & 15) * 4;
    if header_len < 20 || sum(packet.get(..header_len)?) != 0xffff {
        return None;
    }
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let segment = packet.get(header_len..total_len)?;
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    Some(match packet[9] {
        TCP => transport_sum(address(12), address(16), TCP, segment) == 0xffff,
        UDP if segment.get(6..8) == Some(&[0, 0]) => true,
        UDP => transport_sum(address(12), address(16), UDP, segment) == 0xffff,
        ICMP => sum(segment) == 0xffff,
        _ => true,
    })
}

fn is_intact_v6(packet: &[u8]) -> Option<bool> {
    let header = packet.first_chunk::<40>()?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]));
    let segment = packet.get(40..40 + usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let has_checksum = matches!(header[6], TCP | UDP | ICMPV6);
    Some(has_checksum && transport_sum(address(8), address(24), header[6], segment) == 0xffff)
}
