//! What a host may send of its own accord, besides what its applications want: questions and news about addresses, and
//! reports of the groups that those of IPv6 are asked for at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire::wire::ethernet::Mac;

use super::reference::Reference;
use super::{frames, ndp};

/// A frame, and the neighbor that it goes to if it does not go to everybody.
type Directed = (Option<IpAddr>, Vec<u8>);

/// Listeners' reports of the two versions of MLD, and their farewell in the first.
const LISTENER_MESSAGES: [u8; 3] = [131, 132, 143];

/// The neighbor that a frame asks for, none if it is about an address of the host's own, and what the frame may be;
/// `None` for one that neither asks nor tells.
pub(super) fn questions(frame: &[u8], host: &Reference) -> Option<(Option<IpAddr>, Vec<Directed>)> {
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let target = Ipv4Addr::from(*frame.get(38..42)?.first_chunk::<4>()?);
            Some(if host.owns(target) {
                (None, arp_claims(target, host))
            } else {
                (Some(target.into()), arp_questions(target, frame, host))
            })
        }
        [0x86, 0xdd] if frame.get(20) == Some(&frames::ICMPV6) && matches!(frame.get(54), Some(135 | 136)) => {
            let target = Ipv6Addr::from(*frame.get(62..78)?.first_chunk::<16>()?);
            Some(if host.owns(target) {
                (None, ndp_claims(target, host))
            } else {
                (Some(target.into()), ndp_questions(target, frame, host))
            })
        }
        _ => None,
    }
}

/// RFC 5227: probes, and announcements.
fn arp_claims(target: Ipv4Addr, host: &Reference) -> Vec<Directed> {
    let claim = |from| (None, arp(Mac::BROADCAST, (host.config().mac, from), target));
    vec![claim(Ipv4Addr::UNSPECIFIED), claim(target)]
}

fn arp_questions(target: Ipv4Addr, frame: &[u8], host: &Reference) -> Vec<Directed> {
    let Some(IpAddr::V4(from)) = own_beside(target.into(), host) else { return Vec::new() };
    let ask = |to| arp(to, (host.config().mac, from), target);
    vec![(None, ask(Mac::BROADCAST)), (Some(target.into()), ask(frames::mac(frame)))]
}

fn arp(to: Mac, from: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    frames::ethernet(to, from.0, &[], frames::ARP, &frames::arp(1, from, (Mac::ZERO, target)))
}

/// RFC 4862, section 5.4.2: probes. RFC 4861, section 7.2.6: news for all nodes.
fn ndp_claims(target: Ipv6Addr, host: &Reference) -> Vec<Directed> {
    let (mac, group) = (host.config().mac, ndp::solicited_node(target));
    let probe = ndp::question(Ipv6Addr::UNSPECIFIED, group, target, None);
    let news = ndp::news(target, ndp::ALL_NODES, target, ndp::OVERRIDE, mac);
    let to_group =
        |group, packet: &[u8]| (None, frames::ethernet(ndp::group_mac(group), mac, &[], frames::IPV6, packet));
    vec![to_group(group, &probe), to_group(ndp::ALL_NODES, &news)]
}

/// RFC 4861, section 7.2.2: to the group of an address that is searched for, to the neighbor itself if it is known.
fn ndp_questions(target: Ipv6Addr, frame: &[u8], host: &Reference) -> Vec<Directed> {
    let Some(IpAddr::V6(from)) = own_beside(target.into(), host) else { return Vec::new() };
    let mac = host.config().mac;
    let ask = |to, destination| {
        frames::ethernet(to, mac, &[], frames::IPV6, &ndp::question(from, destination, target, Some(mac)))
    };
    let group = ndp::solicited_node(target);
    vec![(None, ask(ndp::group_mac(group), group)), (Some(target.into()), ask(frames::mac(frame), target))]
}

/// The address of the host on the link of another.
fn own_beside(target: IpAddr, host: &Reference) -> Option<IpAddr> {
    host.config().addresses.iter().find(|net| net.contains(&target)).map(|net| net.addr())
}

/// Whether a frame is a report of MLD: behind options for routers.
pub(super) fn is_report(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(20) == Some(&0)
        && frame.get(54) == Some(&frames::ICMPV6)
        && frame.get(62).is_some_and(|kind| LISTENER_MESSAGES.contains(kind))
}

/// Whether it is about groups at which addresses of the host are asked for, and nothing else; and goes no further than the
/// link, from an address that is valid there or from none (RFC 3590).
pub(super) fn is_own_report(frame: &[u8], host: &Reference) -> bool {
    let address = |at: usize| Some(Ipv6Addr::from(*frame.get(at..)?.first_chunk::<16>()?));
    let is_own_group = |group: Option<Ipv6Addr>| {
        let mut own = host.config().addresses.iter().map(|net| net.addr());
        own.any(|own| matches!(own, IpAddr::V6(own) if Some(ndp::solicited_node(own)) == group))
    };
    let from = address(22).filter(|from| from.is_unspecified() || (from.is_unicast_link_local() && host.owns(*from)));
    let goes_no_further = frame[21] == 1 && frame[54..62] == [frames::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let message = &frame[62..];
    let groups_are_own = if message[0] == 143 {
        // RFC 3810, section 5.2: records without sources.
        let count = usize::from(u16::from_be_bytes([message[6], message[7]]));
        message.len() == 8 + 20 * count && (0..count).all(|record| is_own_group(address(62 + 8 + 20 * record + 4)))
    } else {
        message.len() == 24 && is_own_group(address(70))
    };
    let to = address(38).filter(|to| frames::mac(frame) == ndp::group_mac(*to));
    from.is_some() && goes_no_further && groups_are_own && to.is_some()
}
