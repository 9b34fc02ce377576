//! Frames put together by hand, and their checksums by the book: the engine's own code is under test, so none
//! of it is used here.

use std::net::Ipv4Addr;

use barewire::wire::ethernet::Mac;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

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

/// What stands in an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Hops left.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
}

impl Ip {
    /// A header as the stack writes it.
    #[must_use]
    pub const fn new(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self { traffic_class: 0, fragment: 0x4000, ttl: 64, protocol, source, destination }
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
    packet.extend(ip.source.octets());
    packet.extend(ip.destination.octets());
    packet.extend(options);
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
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
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8], checksum: UdpChecksum) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut datagram = Vec::with_capacity(usize::from(len));
    datagram.extend(source.1.to_be_bytes());
    datagram.extend(destination.1.to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let field = match checksum {
        UdpChecksum::Absent => 0,
        UdpChecksum::Partial => sum(&pseudo_header(source.0, destination.0, UDP, len)),
        // RFC 768: a checksum of zero is sent as all ones.
        UdpChecksum::Right => match !transport_sum(source.0, destination.0, UDP, &datagram) {
            0 => 0xffff,
            checksum => checksum,
        },
    };
    datagram[6..8].copy_from_slice(&field.to_be_bytes());
    datagram
}

/// The sum over pseudo header and segment: all ones if the segment holds the right checksum.
#[must_use]
pub fn transport_sum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let header = sum(&pseudo_header(source, destination, protocol, segment.len() as u16));
    let (total, carry) = header.overflowing_add(sum(segment));
    total + u16::from(carry)
}

/// The pseudo header of RFC 768.
#[must_use]
pub fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> [u8; 12] {
    let ([a, b, c, d], [e, f, g, h], [high, low]) = (source.octets(), destination.octets(), len.to_be_bytes());
    [a, b, c, d, e, f, g, h, 0, protocol, high, low]
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
pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), segment: &Tcp<'_>) -> Vec<u8> {
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

/// Whether the checksums of an IPv4 packet, and of the segment in it if they have one, are right.
#[must_use]
pub fn is_intact(packet: &[u8]) -> bool {
    let header_len = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    if header_len < 20 || packet.len() < header_len || sum(&packet[..header_len]) != 0xffff {
        return false;
    }
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let Some(segment) = packet.get(header_len..total_len) else { return false };
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    match packet[9] {
        TCP => transport_sum(address(12), address(16), TCP, segment) == 0xffff,
        UDP if segment.get(6..8) == Some(&[0, 0]) => true,
        UDP => transport_sum(address(12), address(16), UDP, segment) == 0xffff,
        ICMP => sum(segment) == 0xffff,
        _ => true,
    }
}
