//! A second opinion: what a host has to make of a frame, written from the RFCs without the engine's code, as
//! slowly and plainly as it likes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use barewire::stack::StackConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::ethernet::Mac;

use super::frames::{self, Ip};

/// Ports that the echo service does not answer, because what is there answers in turn.
const ANSWERING_PORTS: [u16; 5] = [7, 13, 17, 19, 37];
/// Bytes that an ICMP error has at most, IP header included.
const ICMP_ERROR_LEN: usize = 576;

/// What a host has to do about a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// Give this datagram to its application: who sent it, where to, and where in the frame the payload is.
    pub delivery: Option<(SocketAddr, SocketAddr, Range<usize>)>,
    /// Send this frame.
    pub answer: Option<Vec<u8>>,
    /// Whether it must be sent; otherwise it may be, but need not.
    pub obligatory: bool,
    /// Whether the frame claims an address of the host for another one.
    pub is_claim: bool,
}

impl Reaction {
    fn may(answer: Vec<u8>) -> Self {
        Self { answer: Some(answer), ..Self::default() }
    }

    fn must(answer: Vec<u8>) -> Self {
        Self { answer: Some(answer), obligatory: true, ..Self::default() }
    }
}

/// A received frame, taken apart as far as an answer goes back the way that it came.
struct Received<'a> {
    frame: &'a [u8],
    from: Mac,
    tags: Vec<[u8; 4]>,
    to_everybody: bool,
    /// Where the payload of the Ethernet frame starts.
    at: usize,
}

/// A host: its configuration and what runs on it.
#[derive(Clone, Debug)]
pub struct Reference {
    config: StackConfig,
    echoes: bool,
}

impl Reference {
    /// A host with the echo service, or with an application that answers nothing.
    #[must_use]
    pub const fn new(config: StackConfig, echoes: bool) -> Self {
        Self { config, echoes }
    }

    /// The host's configuration.
    #[must_use]
    pub const fn config(&self) -> &StackConfig {
        &self.config
    }

    /// Digests a frame. `ready` says that the host may use its addresses.
    #[must_use]
    pub fn digest(&self, frame: &[u8], ready: bool) -> Reaction {
        let Some((received, ethertype)) = self.ethernet(frame) else { return Reaction::default() };
        match ethertype {
            frames::ARP => self.arp(&received, ready),
            frames::IPV4 => self.ipv4(&received, ready).unwrap_or_default(),
            _ => Reaction::default(),
        }
    }

    fn ethernet<'a>(&self, frame: &'a [u8]) -> Option<(Received<'a>, u16)> {
        let mac = |at: usize| Some(Mac(frame.get(at..at + 6)?.try_into().ok()?));
        let (to, from) = (mac(0)?, mac(6)?);
        let mut at = 12;
        let mut tags = Vec::new();
        let ethertype = loop {
            match be16(frame, at)? {
                tpid @ (0x8100 | 0x88a8) if tags.len() < 2 => {
                    let tci = be16(frame, at + 2)?.to_be_bytes();
                    let [a, b] = tpid.to_be_bytes();
                    tags.push([a, b, tci[0], tci[1]]);
                    at += 4;
                }
                ethertype => break ethertype,
            }
        };
        let is_group = |mac: Mac| mac.0[0] % 2 == 1;
        let names_vlan = tags.iter().any(|tag| tag[2] & 0x0f != 0 || tag[3] != 0);
        let for_us = to == self.config.mac || is_group(to);
        let received = Received { frame, from, tags, to_everybody: is_group(to), at: at + 2 };
        (for_us && !is_group(from) && !names_vlan).then_some((received, ethertype))
    }

    fn arp(&self, received: &Received<'_>, ready: bool) -> Reaction {
        let Some(packet) = received.frame.get(received.at..received.at + 28) else { return Reaction::default() };
        let mac = |at: usize| Mac(std::array::from_fn(|i| packet[at + i]));
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let operation = packet[7];
        if packet[..7] != [0, 1, 8, 0, 6, 4, 0] || !matches!(operation, 1 | 2) {
            return Reaction::default();
        }
        let ((sender_mac, sender), target) = ((mac(8), address(14)), address(24));
        let is_probe = operation == 1 && sender.is_unspecified();
        let is_claim = self.owns(sender) || (is_probe && self.owns(target) && !ready);
        if is_claim && sender_mac != self.config.mac {
            return Reaction { is_claim, ..Reaction::default() };
        }
        if operation == 1 && self.owns(target) && ready && sender_mac != self.config.mac && sender_mac != Mac::ZERO {
            let reply = frames::arp(2, (self.config.mac, target), (sender_mac, sender));
            return Reaction::may(frames::ethernet(
                received.from,
                self.config.mac,
                &received.tags,
                frames::ARP,
                &reply,
            ));
        }
        Reaction::default()
    }

    fn ipv4(&self, received: &Received<'_>, ready: bool) -> Option<Reaction> {
        let packet = received.frame.get(received.at..)?;
        let header_len = usize::from(packet.first()? & 15) * 4;
        let total_len = usize::from(be16(packet, 2)?);
        if packet[0] >> 4 != 4 || header_len < 20 || total_len < header_len || packet.len() < total_len {
            return None;
        }
        let packet = &packet[..total_len];
        if frames::sum(&packet[..header_len]) != 0xffff || be16(packet, 6)? & 0x3fff != 0 {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let (source, destination) = (address(12), address(16));
        if received.to_everybody || !ready || !self.owns(destination) || !self.is_host(source) {
            return None;
        }
        let ip = Ip::new(packet[9], source, destination);
        let ip = Ip { traffic_class: packet[1], ..ip };
        let payload = &packet[header_len..];
        match ip.protocol {
            frames::UDP => self.udp(received, ip, packet, header_len),
            frames::ICMP => self.icmp(received, ip, payload),
            _ => Some(self.unreachable(received, ip, 2, packet)),
        }
    }

    fn icmp(&self, received: &Received<'_>, ip: Ip, message: &[u8]) -> Option<Reaction> {
        let is_intact = message.len() >= 8 && frames::sum(message) == 0xffff;
        if !is_intact || message[..2] != [8, 0] {
            return None;
        }
        let mut reply = frames::icmp(0, 0, &message[4..]);
        if reply[2..4] == [0, 0] {
            // As right as zero, and what a host writes that updates the checksum of the request.
            reply[2..4].fill(0xff);
        }
        Some(self.answer(received, ip, frames::ICMP, &reply).map(Reaction::must).unwrap_or_default())
    }

    fn udp(&self, received: &Received<'_>, ip: Ip, packet: &[u8], header_len: usize) -> Option<Reaction> {
        let segment = &packet[header_len..];
        let (from, to, len) = (be16(segment, 0)?, be16(segment, 2)?, usize::from(be16(segment, 4)?));
        let checksum = be16(segment, 6)?;
        if len < 8 {
            return None;
        }
        let segment = segment.get(..len)?;
        let right = frames::transport_sum(ip.source, ip.destination, frames::UDP, segment) == 0xffff;
        let pseudo = frames::pseudo_header(ip.source, ip.destination, frames::UDP, len as u16);
        let partial = checksum == frames::sum(&pseudo);
        let intact = match self.config.checksum {
            ChecksumPolicy::Verify => right,
            ChecksumPolicy::AcceptPartial => right || partial,
            ChecksumPolicy::Trust => true,
        };
        if !intact && checksum != 0 {
            return None;
        }
        if !self.config.udp_ports.contains(&to) {
            return Some(self.unreachable(received, ip, 3, packet));
        }
        let start = received.at + header_len + 8;
        let mut reaction = Reaction {
            delivery: Some(((ip.source, from).into(), (ip.destination, to).into(), start..start + len - 8)),
            ..Reaction::default()
        };
        if self.echoes && from != 0 && !ANSWERING_PORTS.contains(&from) {
            let (ours, theirs) = ((ip.destination, to), (ip.source, from));
            let reply = frames::udp(ours, theirs, &segment[8..], frames::UdpChecksum::Right);
            reaction.answer = self.answer(received, ip, frames::UDP, &reply);
            reaction.obligatory = reaction.answer.is_some();
        }
        Some(reaction)
    }

    /// An ICMP error about a datagram: how many there may be is the rate limit's business.
    fn unreachable(&self, received: &Received<'_>, ip: Ip, code: u8, packet: &[u8]) -> Reaction {
        let quoted = packet.len().min(ICMP_ERROR_LEN - 20 - 8);
        let error = frames::icmp(3, code, &[&[0; 4], &packet[..quoted]].concat());
        self.answer(received, ip, frames::ICMP, &error).map(Reaction::may).unwrap_or_default()
    }

    /// The frame that carries an IP payload back to where a packet came from, if there is a way.
    fn answer(&self, received: &Received<'_>, ip: Ip, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let on_link = |address| self.config.addresses.iter().any(|net| net.contains(&IpAddr::V4(address)));
        let is_reachable = on_link(ip.source) || !self.config.gateways.is_empty();
        if !is_reachable || payload.len() + 20 > usize::from(self.config.mtu) {
            return None;
        }
        let back = Ip { traffic_class: ip.traffic_class & 0xfc, ..Ip::new(protocol, ip.destination, ip.source) };
        let packet = frames::ipv4(back, &[], payload);
        Some(frames::ethernet(received.from, self.config.mac, &received.tags, frames::IPV4, &packet))
    }

    fn owns(&self, address: Ipv4Addr) -> bool {
        self.config.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether a packet may come from the address: one other host's.
    fn is_host(&self, address: Ipv4Addr) -> bool {
        let mut links = self.config.addresses.iter();
        let is_broadcast = links.any(|net| net.prefix_len() < 31 && net.broadcast() == IpAddr::V4(address));
        let [first, ..] = address.octets();
        (1..224).contains(&first) && first != 127 && !self.owns(address) && !is_broadcast
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
