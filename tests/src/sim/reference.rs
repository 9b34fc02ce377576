//! A second opinion: what a host has to make of a frame, written from the RFCs without the engine's code, as
//! slowly and plainly as it likes.

mod v6;

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

/// How an answer finds the one that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this MAC address, at once.
    Straight(Mac),
    /// To whatever MAC address this neighbor is known by.
    Via(IpAddr),
}

/// When an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// At once, if its neighbor is known.
    Now,
    /// With the fragments of a datagram, of which the identification is not known, as soon as there is room.
    Piece,
    /// At some time.
    Sometime,
}

/// What a host has to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The EtherType.
    pub ethertype: u16,
    /// What the frame carries.
    pub packet: Vec<u8>,
    /// VLAN tags of the frame that is answered.
    pub tags: Vec<[u8; 4]>,
    /// MAC address that it came from.
    pub from: Mac,
    /// To whom.
    pub way: Way,
    /// When.
    pub timing: Timing,
}

/// What a host counts as sent when it makes an answer, whatever becomes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Originates {
    /// A datagram of UDP.
    Datagram,
    /// An echo reply.
    EchoReply,
}

/// What a frame says about a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The neighbor.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// Whether that holds, whatever was known; otherwise it holds only where nothing was.
    pub overrides: bool,
    /// Whether it is worth knowing though nobody asked: the neighbor wants something from the host.
    pub introduces: bool,
}

/// What a host has to do about a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// Give this datagram to its application: who sent it, where to, and where in the frame the payload is.
    pub delivery: Option<(SocketAddr, SocketAddr, Range<usize>)>,
    /// Send this: one answer, in one packet or in fragments.
    pub answers: Vec<Answer>,
    /// Whether it must be sent; otherwise it may be, but need not.
    pub obligatory: bool,
    /// What it counts then, even if there is no way for it.
    pub originates: Option<Originates>,
    /// Whether the frame claims an address of the host for another one.
    pub is_claim: bool,
    /// What it says about a neighbor.
    pub told: Option<Told>,
}

impl Reaction {
    fn may(answers: Vec<Answer>) -> Self {
        Self { answers, ..Self::default() }
    }

    fn told(address: impl Into<IpAddr>, mac: Mac, overrides: bool, introduces: bool) -> Self {
        // What is no MAC address of one host tells nothing.
        let told =
            (!is_group(mac) && mac != Mac::ZERO).then(|| Told { address: address.into(), mac, overrides, introduces });
        Self { told, ..Self::default() }
    }

    /// With an answer that must be sent if there is a way for it, and counts as this in any case.
    fn with(self, originates: Originates, answers: Vec<Answer>) -> Self {
        // A datagram of which one fragment cannot be sent is not sent at all, and counted as one.
        let obligatory = answers.len() == 1;
        Self { originates: Some(originates), obligatory, answers, ..self }
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

    /// Whether it has the echo service.
    #[must_use]
    pub const fn echoes(&self) -> bool {
        self.echoes
    }

    /// Digests a frame. `ready` says that the host may use its addresses.
    #[must_use]
    pub fn digest(&self, frame: &[u8], ready: bool) -> Reaction {
        let Some((received, ethertype)) = self.ethernet(frame) else { return Reaction::default() };
        match ethertype {
            frames::ARP => self.arp(&received, ready),
            frames::IPV4 => self.ipv4(&received, ready).unwrap_or_default(),
            frames::IPV6 => self.ipv6(&received, ready).unwrap_or_default(),
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
        if is_group(sender_mac) || sender_mac == Mac::ZERO || sender_mac == self.config.mac {
            return Reaction::default();
        }
        // RFC 826: the pair of sender is merged if it is there already; it is entered anew if we are the target, which a
        // reply is only if we asked.
        let is_question = operation == 1 && self.owns(target) && ready;
        let mut reaction = Reaction::told(sender, sender_mac, true, is_question && !sender.is_unspecified());
        if is_question {
            let packet = frames::arp(2, (self.config.mac, target), (sender_mac, sender));
            reaction.answers.push(received.answer(frames::ARP, packet, Way::Straight(received.from)));
        }
        reaction
    }

    fn ipv4(&self, received: &Received<'_>, ready: bool) -> Option<Reaction> {
        let packet = received.frame.get(received.at..)?;
        let header_len = usize::from(packet.first()? & 15) * 4;
        let total_len = usize::from(be16(packet, 2)?);
        if packet[0] >> 4 != 4 || header_len < 20 || total_len < header_len || packet.len() < total_len {
            return None;
        }
        let packet = &packet[..total_len];
        if frames::sum(&packet[..header_len]) != 0xffff {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let (source, destination) = (address(12), address(16));
        if received.to_everybody || !ready || !self.owns(destination) || !self.is_host(source) {
            return None;
        }
        let ip = Ip { traffic_class: packet[1], ..Ip::new(packet[9], source, destination) };
        let fragment = be16(packet, 6)? & 0x3fff;
        if fragment != 0 {
            // RFC 1122, section 3.3.2: an ICMP Time Exceeded message if the time runs out, and the first fragment is there.
            let first = fragment & 0x1fff == 0;
            return first.then(|| sometime(self.error(received, ip, (11, 1), packet)));
        }
        let payload = &packet[header_len..];
        match ip.protocol {
            frames::UDP => match self.udp(received, ip, payload, received.at + header_len)? {
                Service::Closed => Some(self.error(received, ip, (3, 3), packet)),
                Service::Open(reaction) => Some(reaction),
            },
            frames::ICMP => self.icmp(received, ip, payload),
            _ => Some(self.error(received, ip, (3, 2), packet)),
        }
    }

    fn icmp(&self, received: &Received<'_>, ip: Ip, message: &[u8]) -> Option<Reaction> {
        let is_intact = message.len() >= 8 && frames::sum(message) == 0xffff;
        if !is_intact || message[0] != 8 {
            return None;
        }
        // Whatever the code, which the reply has, too.
        let mut reply = frames::icmp(0, message[1], &message[4..]);
        if reply[2..4] == [0, 0] {
            // As right as zero, and what a host writes that updates the checksum of the request.
            reply[2..4].fill(0xff);
        }
        let packet = self.answer(received, ip, ip.destination, frames::ICMP, &reply);
        Some(Reaction::default().with(Originates::EchoReply, packet))
    }

    /// Digests the datagram of UDP that lies at `at` in the frame.
    fn udp(&self, received: &Received<'_>, ip: Ip, segment: &[u8], at: usize) -> Option<Service> {
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
            // RFC 8200, section 8.1: IPv6 receivers must discard UDP packets containing a zero checksum.
            _ if checksum == 0 => ip.source.is_ipv4(),
            ChecksumPolicy::Verify => right,
            ChecksumPolicy::AcceptPartial => right || partial,
            ChecksumPolicy::Trust => true,
        };
        if !intact {
            return None;
        }
        if !self.config.udp_ports.contains(&to) {
            return Some(Service::Closed);
        }
        let reaction = Reaction {
            delivery: Some(((ip.source, from).into(), (ip.destination, to).into(), at + 8..at + len)),
            ..Reaction::default()
        };
        // All members of a group would answer one datagram to it.
        let answers = self.echoes && from != 0 && !ANSWERING_PORTS.contains(&from) && self.owns(ip.destination);
        if !answers {
            return Some(Service::Open(reaction));
        }
        let ours = ip.destination;
        let reply = frames::udp((ours, to), (ip.source, from), &segment[8..], frames::UdpChecksum::Right);
        let packet = self.answer(received, ip, ours, frames::UDP, &reply);
        Some(Service::Open(reaction.with(Originates::Datagram, packet)))
    }

    /// An ICMP error about a datagram: how many there may be is the rate limit's business.
    fn error(&self, received: &Received<'_>, ip: Ip, (kind, code): (u8, u8), packet: &[u8]) -> Reaction {
        let quoted = packet.len().min(ICMP_ERROR_LEN - 20 - 8);
        let error = frames::icmp(kind, code, &[&[0; 4], &packet[..quoted]].concat());
        Reaction::may(self.answer(received, ip, ip.destination, frames::ICMP, &error))
    }

    /// What carries an IP payload from `ours` back to where a packet came from: nothing if there is no way, fragments if it
    /// is too long for one packet.
    fn answer(&self, received: &Received<'_>, ip: Ip, ours: IpAddr, protocol: u8, payload: &[u8]) -> Vec<Answer> {
        let Some(way) = self.next_hop(ip.source).map(Way::Via) else { return Vec::new() };
        let header = Ip::new(protocol, ours, ip.source);
        let back = Ip { traffic_class: ip.traffic_class & 0xfc, flow_label: ip.flow_label, ..header };
        let mtu = usize::from(self.config.mtu);
        let packet = frames::packet(back, payload);
        if packet.len() <= mtu {
            return vec![received.answer(ip.ethertype(), packet, way)];
        }
        let pieces = frames::fragments(back, payload, mtu).into_iter();
        let piece =
            |packet| Answer { timing: Timing::Piece, tags: Vec::new(), ..received.answer(ip.ethertype(), packet, way) };
        pieces.map(piece).collect()
    }

    /// The neighbor that packets to an address go to.
    #[must_use]
    pub fn next_hop(&self, address: IpAddr) -> Option<IpAddr> {
        let nets = || self.config.addresses.iter();
        let is_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        // RFC 4861, section 5.1: all link-local addresses are on the link.
        let on_link = nets().any(|net| net.contains(&address) || (is_local(net.addr()) && is_local(address)));
        let gateways = self.config.gateways.iter().map(|&gateway| IpAddr::from(gateway));
        let mut fitting = gateways.filter(|gateway| gateway.is_ipv4() == address.is_ipv4());
        if on_link { Some(address) } else { fitting.next() }
    }

    /// The address of the host that an answer is from: the one that was asked.
    fn end(&self, ip: Ip) -> Option<IpAddr> {
        if self.owns(ip.destination) { Some(ip.destination) } else { self.v6_end(ip) }
    }

    /// Whether an address is one of the host's.
    #[must_use]
    pub fn owns(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.config.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether a packet may come from the address: one other host's.
    fn is_host(&self, address: Ipv4Addr) -> bool {
        let mut links = self.config.addresses.iter().filter(|net| net.addr().is_ipv4());
        let is_broadcast = links.any(|net| net.prefix_len() < 31 && net.broadcast() == IpAddr::V4(address));
        let [first, ..] = address.octets();
        (1..224).contains(&first) && first != 127 && !self.owns(address) && !is_broadcast
    }
}

/// What becomes of a datagram of UDP that is intact.
enum Service {
    /// Nobody listens on its port.
    Closed,
    /// Somebody does.
    Open(Reaction),
}

impl Received<'_> {
    fn answer(&self, ethertype: u16, packet: Vec<u8>, way: Way) -> Answer {
        Answer { ethertype, packet, tags: self.tags.clone(), from: self.from, way, timing: Timing::Now }
    }
}

/// What is done only if the rest of a datagram does not come.
fn sometime(mut reaction: Reaction) -> Reaction {
    reaction.answers.iter_mut().for_each(|answer| answer.timing = Timing::Sometime);
    reaction
}

fn is_group(mac: Mac) -> bool {
    mac.0[0] % 2 == 1
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
