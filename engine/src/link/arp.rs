//! What a received ARP packet leads to (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use super::address::{Addresses, Conflict, is_foreign};
use super::neighbor::{Advertisement, Neighbors};
use crate::base::{DropReason, Instant};
use crate::wire::arp::{Operation, Packet};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// What the stack has to do about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this back to its sender.
    Answer(Packet),
    /// A neighbor told its MAC address: one that was known or searched for here, or else maybe by another
    /// worker of the same addresses, for the answer to a request comes to whichever queue the NIC chooses.
    Heard {
        /// The neighbor.
        address: Ipv4Addr,
        /// Its MAC address.
        mac: Mac,
        /// Whether it answers a question of ours.
        solicited: bool,
        /// Whether it was known or searched for here.
        known: bool,
    },
    /// Another host claims an address of ours.
    Conflict(Ipv4Addr, Mac, Conflict),
    /// Nothing.
    Drop(DropReason),
}

/// Digests a packet.
///
/// RFC 826 merges the sender's address into the table *if it is there already*, and enters it anew only when
/// we are the target. So nobody can fill the table with addresses that we never spoke to, or that never
/// spoke to us.
pub fn receive(
    packet: &Packet,
    ours: Mac,
    addresses: &mut Addresses,
    neighbors: &mut Neighbors,
    now: Instant,
) -> Verdict {
    if is_foreign(packet.sender_mac, ours)
        && let Some(conflict) = conflict(packet, addresses, now)
    {
        return Verdict::Conflict(contested(packet, addresses), packet.sender_mac, conflict);
    }
    if packet.sender_mac.is_multicast() || packet.sender_mac == Mac::ZERO || packet.sender_mac == ours {
        return Verdict::Drop(DropReason::ArpSenderInvalid);
    }
    let for_us = addresses.is_ours(packet.target.into());
    let (sender, mac) = (IpAddress::v4(packet.sender), packet.sender_mac);
    if for_us && packet.operation == Operation::Request {
        // A probe has no sender address: there is nothing to learn, and nothing is (RFC 5227, section 1.1).
        neighbors.heard_from(sender, mac, now);
        return Verdict::Answer(Packet {
            operation: Operation::Reply,
            sender_mac: ours,
            sender: packet.target,
            target_mac: packet.sender_mac,
            target: packet.sender,
        });
    }
    let known = if for_us {
        neighbors.advertised(sender, Advertisement::arp_reply(mac), now)
    } else {
        neighbors.merge(sender, mac, now)
    };
    if known || for_us {
        Verdict::Heard { address: packet.sender, mac: packet.sender_mac, solicited: for_us, known }
    } else {
        Verdict::Drop(DropReason::ArpNotForUs)
    }
}

/// Whether the packet claims an address of ours, or probes for one that we are probing for ourselves.
fn conflict(packet: &Packet, addresses: &mut Addresses, now: Instant) -> Option<Conflict> {
    if let Some(conflict) = addresses.claimed(packet.sender.into(), now) {
        return Some(conflict);
    }
    // RFC 5227, section 2.1.1: another host's probe for the address we are probing for is a conflict too.
    let probes = packet.operation == Operation::Request && packet.sender.is_unspecified();
    let tentative = addresses.state(packet.target.into()).is_some() && !addresses.is_ours(packet.target.into());
    if probes && tentative { addresses.claimed(packet.target.into(), now) } else { None }
}

fn contested(packet: &Packet, addresses: &Addresses) -> Ipv4Addr {
    if addresses.state(packet.sender.into()).is_some() { packet.sender } else { packet.target }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::address::Probing;
    use crate::link::neighbor::{NeighborConfig, State};

    const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    struct Host {
        addresses: Addresses,
        neighbors: Neighbors,
    }

    impl Host {
        fn new(probing: Probing) -> Self {
            Self {
                addresses: Addresses::new(&["10.0.0.2/24".parse().unwrap()], probing, Instant::ZERO),
                neighbors: Neighbors::new(&NeighborConfig::default(), [1, 2]),
            }
        }

        fn receive(&mut self, operation: Operation, sender: Ipv4Addr, target: Ipv4Addr) -> Verdict {
            let packet = Packet { operation, sender_mac: PEER_MAC, sender, target_mac: Mac::ZERO, target };
            receive(&packet, OUR_MAC, &mut self.addresses, &mut self.neighbors, Instant::ZERO)
        }

        fn mac(&mut self, address: Ipv4Addr) -> Option<Mac> {
            self.neighbors.resolve(address.into(), Instant::ZERO)
        }
    }

    #[test]
    fn a_request_for_us_is_answered_and_its_sender_learned() {
        let mut host = Host::new(Probing::Off);
        let Verdict::Answer(reply) = host.receive(Operation::Request, PEER, OURS) else { panic!() };
        assert_eq!((reply.operation, reply.sender_mac, reply.sender), (Operation::Reply, OUR_MAC, OURS));
        assert_eq!((reply.target_mac, reply.target), (PEER_MAC, PEER));
        assert_eq!(host.mac(PEER), Some(PEER_MAC));
    }

    #[test]
    fn what_confirms_a_neighbor_is_a_reply_to_us_alone() {
        let mut host = Host::new(Probing::Off);
        let state = |host: &Host| host.neighbors.state(PEER.into(), Instant::ZERO);
        host.receive(Operation::Request, PEER, OURS);
        assert_eq!(state(&host), Some(State::Stale));
        let heard = |solicited| Verdict::Heard { address: PEER, mac: PEER_MAC, solicited, known: true };
        assert_eq!(host.receive(Operation::Request, PEER, PEER), heard(false), "gratuitous, of one that is known");
        assert_eq!(state(&host), Some(State::Stale));
        assert_eq!(host.receive(Operation::Reply, PEER, OURS), heard(true));
        assert_eq!(state(&host), Some(State::Reachable));
    }

    #[test]
    fn a_probe_is_answered_and_teaches_nothing() {
        let mut host = Host::new(Probing::Off);
        assert!(matches!(host.receive(Operation::Request, Ipv4Addr::UNSPECIFIED, OURS), Verdict::Answer(_)));
        assert_eq!(host.mac(Ipv4Addr::UNSPECIFIED), None);
        assert_eq!(host.neighbors.entries(Instant::ZERO).count(), 0);
    }

    #[test]
    fn an_unsolicited_reply_teaches_nothing() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Heard { address: PEER, mac: PEER_MAC, solicited: true, known: false };
        assert_eq!(host.receive(Operation::Reply, PEER, OURS), expected);
        assert_eq!(host.receive(Operation::Request, PEER, PEER), Verdict::Drop(DropReason::ArpNotForUs), "gratuitous");
        assert_eq!(host.mac(PEER), None);
    }

    #[test]
    fn a_claim_of_our_address_is_a_conflict() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Defend);
        assert_eq!(host.receive(Operation::Request, OURS, OURS), expected);
        let mut probing = Host::new(Probing::Lead);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Duplicate);
        assert_eq!(probing.receive(Operation::Reply, OURS, Ipv4Addr::UNSPECIFIED), expected);
    }

    #[test]
    fn two_hosts_that_probe_for_one_address_both_give_way() {
        let mut host = Host::new(Probing::Lead);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Duplicate);
        assert_eq!(host.receive(Operation::Request, Ipv4Addr::UNSPECIFIED, OURS), expected);
    }

    #[test]
    fn our_own_frames_that_come_back_are_no_conflict() {
        let mut host = Host::new(Probing::Lead);
        let packet = Packet {
            operation: Operation::Request,
            sender_mac: OUR_MAC,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target: OURS,
        };
        let verdict = receive(&packet, OUR_MAC, &mut host.addresses, &mut host.neighbors, Instant::ZERO);
        assert_eq!(verdict, Verdict::Drop(DropReason::ArpSenderInvalid));
    }
}
