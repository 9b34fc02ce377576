//! Frames by hand: Ethernet (without tags), ARP (RFC 826), IPv4 without options (RFC 791), TCP (RFC 9293).

use std::net::Ipv4Addr;

/// A hardware address.
pub type Mac = [u8; 6];

/// The client's hardware address.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The stack's.
pub const SERVER_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The stack's address and port.
pub const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 2), 7);
/// Length of the prefix that it shares with all addresses of the client.
pub const SERVER_PREFIX_LEN: u8 = 8;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
const ARP_LEN: usize = 28;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const PROTOCOL_TCP: u8 = 6;

/// The maximum segment size that the client offers: of an MTU of 1500.
const MSS: u16 = 1460;
/// The client's window, not scaled.
const WINDOW: u16 = 65_535;

/// Flags of a segment.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// A TCP segment, on its way in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: &'a [u8],
}

/// What a frame of the stack is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    Segment(Segment<'a>),
    /// Who has `target`? Tell `sender`.
    ArpRequest {
        sender: Ipv4Addr,
        target: Ipv4Addr,
    },
    /// Nothing that the client cares about.
    Other,
}

impl Segment<'_> {
    /// The frame, from the client to the stack. A SYN has the MSS option, and nothing else any option.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let options: &[u8] =
            if self.flags & SYN != 0 { &[2, 4, MSS.to_be_bytes()[0], MSS.to_be_bytes()[1]] } else { &[] };
        let header_len = TCP_LEN + options.len();
        let mut tcp = Vec::with_capacity(header_len + self.payload.len());
        tcp.extend(self.source.1.to_be_bytes());
        tcp.extend(self.destination.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([(header_len as u8 / 4) << 4, self.flags]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.extend(self.payload);
        let tcp_sum = tcp_checksum(self.source.0, self.destination.0, &tcp);
        tcp[16..18].copy_from_slice(&tcp_sum.to_be_bytes());

        let mut ip = [0; IPV4_LEN];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((IPV4_LEN + tcp.len()) as u16).to_be_bytes());
        ip[6] = 0x40; // don't fragment
        ip[8] = 64;
        ip[9] = PROTOCOL_TCP;
        ip[12..16].copy_from_slice(&self.source.0.octets());
        ip[16..20].copy_from_slice(&self.destination.0.octets());
        let ip_sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());
        [&ethernet(SERVER_MAC, IPV4)[..], &ip, &tcp].concat()
    }
}

/// An ARP request of the client for the stack's address, from which the stack learns `sender`'s.
pub(crate) fn arp_request(sender: Ipv4Addr) -> Vec<u8> {
    arp([0xff; 6], 1, sender, ([0; 6], SERVER.0))
}

/// The answer to the stack's question for `of`.
pub(crate) fn arp_reply(of: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    arp(SERVER_MAC, 2, of, (SERVER_MAC, to))
}

fn arp(destination: Mac, operation: u8, sender: Ipv4Addr, target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let start = [0, 1, 0x08, 0, 6, 4, 0, operation];
    let body = [&start[..], &CLIENT_MAC, &sender.octets(), &target.0, &target.1.octets()].concat();
    [&ethernet(destination, ARP)[..], &body].concat()
}

fn ethernet(destination: Mac, ethertype: u16) -> [u8; ETHERNET_LEN] {
    let mut header = [0; ETHERNET_LEN];
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&CLIENT_MAC);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}

/// Reads a frame of the stack.
///
/// # Panics
/// If it is TCP and not well-formed: the wrong hardware address, length or checksum.
pub(crate) fn parse(frame: &[u8]) -> Received<'_> {
    if frame.len() < ETHERNET_LEN + ARP_LEN {
        return Received::Other;
    }
    let body = &frame[ETHERNET_LEN..];
    match u16_at(frame, 12) {
        ARP if u16_at(body, 6) == 1 => {
            Received::ArpRequest { sender: address_at(body, 14), target: address_at(body, 24) }
        }
        IPV4 if body[9] == PROTOCOL_TCP => {
            assert!(frame[..6] == CLIENT_MAC && frame[6..12] == SERVER_MAC, "hardware addresses of {frame:x?}");
            Received::Segment(segment(body))
        }
        _ => Received::Other,
    }
}

fn segment(packet: &[u8]) -> Segment<'_> {
    let (ip_len, total_len) = (usize::from(packet[0] & 0x0f) * 4, usize::from(u16_at(packet, 2)));
    assert!(ip_len >= IPV4_LEN && (ip_len + TCP_LEN..=packet.len()).contains(&total_len), "lengths of {packet:x?}");
    assert_eq!(checksum(&[&packet[..ip_len]]), 0, "IPv4 checksum of {packet:x?}");
    let (source, destination) = (address_at(packet, 12), address_at(packet, 16));
    let tcp = &packet[ip_len..total_len];
    assert_eq!(tcp_checksum(source, destination, tcp), 0, "TCP checksum of {packet:x?}");
    let header_len = usize::from(tcp[12] >> 4) * 4;
    assert!((TCP_LEN..=tcp.len()).contains(&header_len), "TCP header length of {packet:x?}");
    Segment {
        source: (source, u16_at(tcp, 0)),
        destination: (destination, u16_at(tcp, 2)),
        seq: u32_at(tcp, 4),
        ack: u32_at(tcp, 8),
        flags: tcp[13],
        payload: &tcp[header_len..],
    }
}

fn tcp_checksum(source: Ipv4Addr, destination: Ipv4Addr, tcp: &[u8]) -> u16 {
    let len = (tcp.len() as u16).to_be_bytes();
    checksum(&[&source.octets(), &destination.octets(), &[0, PROTOCOL_TCP], &len, tcp])
}

/// Internet checksum (RFC 1071) of parts, of which only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = |part: &&[u8]| -> u64 {
        part.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
    };
    let mut sum: u64 = parts.iter().map(words).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32_at(bytes, at))
}
