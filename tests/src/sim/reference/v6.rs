//! The second opinion about IPv6: RFC 8200, RFC 4443, RFC 4861, RFC 4862.

use std::net::{IpAddr, Ipv6Addr};

use barewire::wire::ethernet::Mac;

use super::super::frames::{self, Ip};
use super::super::ndp;
use super::{Answer, Originates, Reaction, Received, Reference, Service, Way, be16};

/// Bytes that an ICMPv6 error has at most, IP header included: what every link takes.
const ICMP_ERROR_LEN: usize = 1280;
/// Extension headers that a host goes along.
const MOST_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;

/// A packet that is for the host.
struct Taken<'a> {
    /// Addresses, hop limit, and what it carries at last.
    ip: Ip,
    /// All of it.
    packet: &'a [u8],
    /// Whether it was sent to several hosts.
    to_group: bool,
}

/// Where the extension headers lead.
struct Upper {
    protocol: u8,
    at: usize,
    named_at: usize,
    in_fragments: bool,
}

/// Why they lead nowhere.
enum Stop {
    Drop,
    /// At a fragment, which is the first one or not.
    Fragment {
        first: bool,
    },
    Problem {
        code: u8,
        pointer: usize,
        even_to_group: bool,
    },
}

impl Reference {
    pub(super) fn ipv6(&self, received: &Received<'_>, ready: bool) -> Option<Reaction> {
        let packet = received.frame.get(received.at..)?;
        let header = packet.first_chunk::<40>()?;
        let packet = packet.get(..40 + usize::from(be16(header, 4)?))?;
        let (source, destination) = (address(header, 8), address(header, 24));
        let speaks = self.config().addresses.iter().any(|net| net.addr().is_ipv6());
        if header[0] >> 4 != 6 || !speaks || is_mapped(source) || is_mapped(destination) {
            return None;
        }
        let is_group = destination.is_multicast();
        let is_probe = source.is_unspecified() && is_group;
        let for_us = if self.owns(destination) { ready } else { self.is_in_group(destination) };
        // RFC 4862, section 5.4.4: who has an address of ours says so from it.
        let is_claim = self.owns(source) && is_group;
        if !for_us || (received.to_everybody && !is_group) || !(is_probe || is_claim || self.may_send(source)) {
            return None;
        }
        let flow_label = u32::from_be_bytes([0, header[1] & 15, header[2], header[3]]);
        let traffic_class = (be16(header, 0)? >> 4) as u8;
        let ip = Ip { traffic_class, flow_label, ttl: header[7], ..Ip::new(header[6], source, destination) };
        let mut taken = Taken { ip, packet, to_group: received.to_everybody || is_group };
        let upper = match walk(packet) {
            Ok(upper) => upper,
            Err(_) if is_claim => return None,
            Err(Stop::Drop | Stop::Fragment { first: false }) => return None,
            // RFC 8200, section 4.5: Time Exceeded -- Fragment Reassembly Time Exceeded.
            Err(Stop::Fragment { first: true }) => {
                return self.problem(received, &taken, 3, 1, 0).map(super::sometime);
            }
            Err(Stop::Problem { code, pointer, even_to_group }) => {
                taken.to_group &= !even_to_group;
                return self.problem(received, &taken, 4, code, pointer as u32);
            }
        };
        taken.ip.protocol = upper.protocol;
        let payload = &packet[upper.at..];
        match upper.protocol {
            frames::ICMPV6 => self.icmpv6(received, &taken, payload, upper.in_fragments, ready),
            _ if source.is_unspecified() || is_claim => None,
            frames::UDP => match self.udp(received, taken.ip, payload, received.at + upper.at)? {
                Service::Closed => self.problem(received, &taken, 1, 4, 0),
                Service::Open(reaction) => Some(reaction),
            },
            // RFC 4443, section 3.4: unrecognized Next Header type.
            _ => self.problem(received, &taken, 4, 1, upper.named_at as u32),
        }
    }

    /// An ICMPv6 error about a packet, if there is to be one (RFC 4443, section 2.4 (e)).
    fn problem(
        &self,
        received: &Received<'_>,
        taken: &Taken<'_>,
        kind: u8,
        code: u8,
        parameter: u32,
    ) -> Option<Reaction> {
        let Taken { ip, packet, to_group } = taken;
        if *to_group || ip.source.is_unspecified() || carries_error(packet).unwrap_or(false) {
            return None;
        }
        let quoted = packet.len().min(ICMP_ERROR_LEN - 40 - 8);
        let rest = [&parameter.to_be_bytes(), &packet[..quoted]].concat();
        self.icmp_answer(received, *ip, kind, code, &rest).map(Reaction::may)
    }

    /// An ICMPv6 message back to where a packet came from; `None` if there is no address to send it from.
    fn icmp_answer(&self, received: &Received<'_>, ip: Ip, kind: u8, code: u8, rest: &[u8]) -> Option<Vec<Answer>> {
        let (Some(IpAddr::V6(ours)), IpAddr::V6(theirs)) = (self.end(ip), ip.source) else { return None };
        let message = frames::icmpv6(ours, theirs, kind, code, rest);
        Some(self.answer(received, ip, ours.into(), frames::ICMPV6, &message))
    }

    fn icmpv6(
        &self,
        received: &Received<'_>,
        taken: &Taken<'_>,
        message: &[u8],
        in_fragments: bool,
        ready: bool,
    ) -> Option<Reaction> {
        let ip = taken.ip;
        let sum = frames::transport_sum(ip.source, ip.destination, frames::ICMPV6, message);
        if message.len() < 8 || sum != 0xffff {
            return None;
        }
        match message[0] {
            // RFC 6980, section 5: not even in one fragment.
            133..=137 if in_fragments || ip.ttl != 255 || message[1] != 0 => None,
            ndp::SOLICITATION if !self.owns(ip.source) => self.solicitation(received, ip, message, ready),
            ndp::ADVERTISEMENT => self.advertisement(received, ip, message),
            // Whatever the code, which the reply has, too.
            128 if ready && !ip.source.is_unspecified() && !self.owns(ip.source) => {
                let packet = self.icmp_answer(received, ip, 129, message[1], &message[4..])?;
                Some(Reaction::default().with(Originates::EchoReply, packet))
            }
            _ => None,
        }
    }

    /// RFC 4861, sections 7.1.1 and 7.2.3.
    fn solicitation(&self, received: &Received<'_>, ip: Ip, message: &[u8], ready: bool) -> Option<Reaction> {
        let (target, mac) = target_and_mac(message, ndp::SOURCE_MAC)?;
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) else { return None };
        let is_probe = source.is_unspecified();
        if is_probe && (mac.is_some() || ndp::solicited_node(destination) != destination) || !self.owns(target) {
            return None;
        }
        if !ready {
            // RFC 4862, section 5.4.3.
            return Some(Reaction { is_claim: is_probe && received.from != self.config().mac, ..Reaction::default() });
        }
        let to = if is_probe { ndp::ALL_NODES } else { source };
        let flags = if is_probe { ndp::OVERRIDE } else { ndp::OVERRIDE | ndp::SOLICITED };
        let packet = ndp::news(target, to, target, flags, self.config().mac);
        let way =
            if is_probe { Some(Way::Straight(ndp::group_mac(to))) } else { self.next_hop(ip.source).map(Way::Via) };
        let told = mac.map_or_else(Reaction::default, |mac| Reaction::told(source, mac, true, true));
        Some(Reaction {
            answers: way.into_iter().map(|way| received.answer(frames::IPV6, packet.clone(), way)).collect(),
            ..told
        })
    }

    /// RFC 4861, sections 7.1.2 and 7.2.5.
    fn advertisement(&self, received: &Received<'_>, ip: Ip, message: &[u8]) -> Option<Reaction> {
        let (target, mac) = target_and_mac(message, ndp::TARGET_MAC)?;
        let flags = message[4];
        let IpAddr::V6(destination) = ip.destination else { return None };
        if destination.is_multicast() && flags & ndp::SOLICITED != 0 {
            return None;
        }
        if self.owns(target) {
            let is_claim = mac.unwrap_or(received.from) != self.config().mac;
            return Some(Reaction { is_claim, ..Reaction::default() });
        }
        Some(Reaction::told(target, mac?, flags & ndp::OVERRIDE != 0, false))
    }

    /// All nodes of the link and of the interface, and the groups at which the host's addresses are asked for.
    fn is_in_group(&self, group: Ipv6Addr) -> bool {
        let mut own = self.config().addresses.iter().map(|net| net.addr());
        let all_here = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);
        group == ndp::ALL_NODES
            || group == all_here
            || own.any(|own| matches!(own, IpAddr::V6(own) if ndp::solicited_node(own) == group))
    }

    fn may_send(&self, source: Ipv6Addr) -> bool {
        !source.is_unspecified() && !source.is_loopback() && !source.is_multicast() && !self.owns(source)
    }

    /// The address that what came to a group is answered from (RFC 6724, section 5, as far as it matters here): of the
    /// scope and of the kind of the other end's, and then the one that has the most in common with that.
    pub(super) fn v6_end(&self, ip: Ip) -> Option<IpAddr> {
        let IpAddr::V6(other) = ip.source else { return None };
        let own = self.config().addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V6(own) => Some((own, u32::from(net.prefix_len()))),
            IpAddr::V4(_) => None,
        });
        let rank = |&(own, prefix_len): &(Ipv6Addr, u32)| {
            let scope = own.is_unicast_link_local() == other.is_unicast_link_local();
            let kind = own.is_unique_local() == other.is_unique_local();
            (scope, kind, (own.to_bits() ^ other.to_bits()).leading_zeros().min(prefix_len))
        };
        // Of equals the first.
        let best = own.rev().max_by_key(rank);
        best.map(|(own, _)| own.into())
    }
}

fn address(header: &[u8; 40], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[at + i]))
}

/// RFC 4291, section 2.5.5.2: an IPv4 address, which no packet has for one of IPv6.
fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// The target of a message of neighbor discovery, and the MAC address in the first option of a kind that is as long as
/// Ethernet's; `None` for a message that is to be ignored.
fn target_and_mac(message: &[u8], kind: u8) -> Option<(Ipv6Addr, Option<Mac>)> {
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    if target.is_multicast() || target.is_unspecified() || target.is_loopback() || is_mapped(target) {
        return None;
    }
    let (mut rest, mut found) = (&message[24..], None);
    while !rest.is_empty() {
        let len = 8 * usize::from(*rest.get(1)?);
        let option = rest.get(..len).filter(|option| !option.is_empty())?;
        if option[0] == kind && len == 8 && found.is_none() {
            found = Some(Mac([option[2], option[3], option[4], option[5], option[6], option[7]]));
        }
        rest = &rest[len..];
    }
    let is_nonsense = |mac: &Mac| super::is_group(*mac) || *mac == Mac::ZERO;
    if found.as_ref().is_some_and(is_nonsense) { None } else { Some((target, found)) }
}

const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Bytes of the extension header at `at`.
fn extension_len(packet: &[u8], kind: u8, at: usize) -> Option<usize> {
    let units = usize::from(*packet.get(at + 1)?);
    Some(if kind == FRAGMENT { 8 } else { 8 + 8 * units })
}

/// Goes along the extension headers (RFC 8200, section 4).
fn walk(packet: &[u8]) -> Result<Upper, Stop> {
    let mut upper = Upper { protocol: packet[6], at: 40, named_at: 6, in_fragments: false };
    let mut walked = 0;
    while is_extension(upper.protocol) {
        let Upper { protocol, at, named_at, .. } = upper;
        if walked == MOST_EXTENSIONS {
            return Err(Stop::Drop);
        }
        walked += 1;
        // RFC 8200, section 4.1: as for a Next Header that is not known, whatever stands there.
        if protocol == HOP_BY_HOP && at != 40 {
            return Err(Stop::Problem { code: 1, pointer: named_at, even_to_group: false });
        }
        let len = extension_len(packet, protocol, at).ok_or(Stop::Drop)?;
        let header = packet.get(at..at + len).ok_or(Stop::Drop)?;
        match protocol {
            HOP_BY_HOP | DESTINATION => options(header, at, protocol == HOP_BY_HOP)?,
            ROUTING if header[3] != 0 => return Err(Stop::Problem { code: 0, pointer: at + 2, even_to_group: false }),
            ROUTING => {}
            _ => {
                fragment(packet, at, walked)?;
                upper.in_fragments = true;
            }
        }
        (upper.protocol, upper.named_at, upper.at) = (header[0], at, at + len);
    }
    if upper.protocol == NOTHING { Err(Stop::Drop) } else { Ok(upper) }
}

/// Looks through the options of the header that lies at `at` in its packet (RFC 8200, section 4.2).
fn options(header: &[u8], at: usize, hop_by_hop: bool) -> Result<(), Stop> {
    let (mut place, mut padding) = (2, 0);
    while place < header.len() {
        let kind = header[place];
        if padding > 7 {
            return Err(Stop::Drop);
        }
        if kind == 0 {
            (place, padding) = (place + 1, padding + 1);
            continue;
        }
        let len = usize::from(*header.get(place + 1).ok_or(Stop::Drop)?);
        if place + 2 + len > header.len() {
            return Err(Stop::Drop);
        }
        padding = if kind == 1 { padding + 2 + len } else { 0 };
        match (kind, kind >> 6) {
            // RFC 4942, section 2.1.9.5: padding is zeros.
            (1, _) if header[place + 2..place + 2 + len].iter().any(|byte| *byte != 0) => return Err(Stop::Drop),
            // Router Alert has two bytes (RFC 2711).
            (5, _) if hop_by_hop && len != 2 => return Err(Stop::Drop),
            (1, _) | (_, 0) => {}
            (_, 1) => return Err(Stop::Drop),
            (_, action) => {
                return Err(Stop::Problem { code: 2, pointer: at + place, even_to_group: action == 2 });
            }
        }
        place += 2 + len;
    }
    // RFC 8504, section 5.3: no more padding than aligning takes.
    if padding > 7 { Err(Stop::Drop) } else { Ok(()) }
}

/// The fragment header at `at`, the `walked`th one: a packet that is whole goes on (RFC 6946), another one ends here.
fn fragment(packet: &[u8], at: usize, walked: usize) -> Result<(), Stop> {
    let offset_and_more = be16(packet, at + 2).ok_or(Stop::Drop)?;
    let (offset, more) = (usize::from(offset_and_more & !7), offset_and_more & 1 != 0);
    if offset == 0 && !more {
        return Ok(());
    }
    let len = packet.len() - at - 8;
    let problem = |code, pointer| Err(Stop::Problem { code, pointer, even_to_group: false });
    if offset == 0 && !is_chain_complete(packet, at, walked) {
        return problem(3, 0);
    }
    if at - 40 + offset + len > 65_535 {
        return problem(0, at + 2);
    }
    if more && !len.is_multiple_of(8) {
        return problem(0, 4);
    }
    Err(Stop::Fragment { first: offset == 0 })
}

/// Whether all headers behind the fragment header at `at` are there, up to that of what is carried (RFC 7112).
fn is_chain_complete(packet: &[u8], at: usize, mut walked: usize) -> bool {
    let (mut kind, mut at) = (packet[at], at + 8);
    while is_extension(kind) && walked < MOST_EXTENSIONS {
        let Some(len) = extension_len(packet, kind, at).filter(|len| at + len <= packet.len()) else { return false };
        (kind, at) = (packet[at], at + len);
        walked += 1;
    }
    let least = match kind {
        frames::TCP => 20,
        frames::UDP | frames::ICMPV6 => 8,
        _ => 0,
    };
    packet.len() - at >= least
}

/// Whether a packet carries an ICMPv6 error, as far as its headers can be followed.
fn carries_error(packet: &[u8]) -> Option<bool> {
    let (mut kind, mut at) = (packet[6], 40);
    for _ in 0..MOST_EXTENSIONS {
        if is_extension(kind) {
            let len = extension_len(packet, kind, at)?;
            (kind, at) = (packet[at], at + len);
        }
    }
    Some(kind == frames::ICMPV6 && *packet.get(at)? < 128)
}
