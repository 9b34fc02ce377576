//! What a received message of neighbor discovery leads to (RFC 4861, RFC 4862).

use std::net::Ipv6Addr;

use super::address::{AddressState, Addresses, Conflict, is_foreign};
use super::neighbor::{self, Neighbors};
use crate::base::{DropReason, Instant};
use crate::wire::ethernet::Mac;
use crate::wire::ndp::{Advertisement, Message, RouterAdvertisement, Solicitation};

/// What the stack has to do about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Say that this address is ours: to who asked, or to all nodes where `to_all` says so.
    Answer {
        /// The address asked for.
        target: Ipv6Addr,
        /// Whether who asked has no address yet.
        to_all: bool,
    },
    /// A neighbor told its MAC address: one that was known or searched for here, or else maybe by another worker of
    /// the same addresses.
    Heard {
        /// The neighbor.
        address: Ipv6Addr,
        /// Its MAC address, unless it said only that it is there.
        mac: Option<Mac>,
        /// Whether it answers a question of ours.
        solicited: bool,
        /// Whether it was known or searched for here.
        known: bool,
    },
    /// Another host claims an address of ours.
    Conflict(Ipv6Addr, Mac, Conflict),
    /// A router shows itself.
    Router(RouterAdvertisement),
    /// Nothing.
    Drop(DropReason),
}

/// Digests a message that came from `source` in a frame from `from`; `ours` is our own MAC address.
pub fn receive(
    message: &Message,
    source: Ipv6Addr,
    from: Mac,
    ours: Mac,
    addresses: &mut Addresses,
    neighbors: &mut Neighbors,
    now: Instant,
) -> Verdict {
    // Somebody who has an address of ours says so in advertisements. What else comes from it teaches nothing.
    if addresses.state(source.into()).is_some() && !matches!(message, Message::Advertisement(_)) {
        return Verdict::Drop(DropReason::NdpNotForUs);
    }
    match message {
        Message::Solicitation(asked) => solicited(asked, source, from, ours, addresses, neighbors, now),
        Message::Advertisement(told) => advertised(told, from, ours, addresses, neighbors, now),
        Message::RouterAdvertisement(told) => Verdict::Router(told.clone()),
        // RFC 4861, section 6.2.6: a host silently discards Router Solicitations. Section 8.3: redirects may be ignored,
        // and whoever is on the link can forge them.
        Message::RouterSolicitation | Message::Redirect => Verdict::Drop(DropReason::NdpIgnored),
    }
}

fn solicited(
    asked: &Solicitation,
    source: Ipv6Addr,
    from: Mac,
    ours: Mac,
    addresses: &mut Addresses,
    neighbors: &mut Neighbors,
    now: Instant,
) -> Verdict {
    let target = asked.target;
    match addresses.state(target.into()) {
        Some(AddressState::Preferred) => {}
        // RFC 4862, section 5.4.3: if the source address is the unspecified one, and the solicitation is from another node,
        // the tentative address is a duplicate. It is silently discarded otherwise.
        Some(AddressState::Tentative) if source.is_unspecified() && is_foreign(from, ours) => {
            return conflict(target, from, addresses, now);
        }
        Some(_) => return Verdict::Drop(DropReason::AddressTentative),
        None => return Verdict::Drop(DropReason::NdpNotForUs),
    }
    // RFC 4861, section 7.2.3: if the source is not the unspecified address, the recipient SHOULD create or update the
    // Neighbor Cache entry for it.
    if let (false, Some(mac)) = (source.is_unspecified(), asked.source_mac) {
        neighbors.heard_from(source.into(), mac, now);
    }
    Verdict::Answer { target, to_all: source.is_unspecified() }
}

fn advertised(
    told: &Advertisement,
    from: Mac,
    ours: Mac,
    addresses: &mut Addresses,
    neighbors: &mut Neighbors,
    now: Instant,
) -> Verdict {
    let target = told.target;
    let mac = told.target_mac.unwrap_or(from);
    if addresses.state(target.into()).is_some() {
        if !is_foreign(mac, ours) {
            return Verdict::Drop(DropReason::NdpNotForUs);
        }
        return conflict(target, mac, addresses, now);
    }
    let Advertisement { solicited, override_, router, target_mac, .. } = *told;
    let told = neighbor::Advertisement { mac: target_mac, solicited, override_, router };
    let known = neighbors.advertised(target.into(), told, now);
    Verdict::Heard { address: target, mac: target_mac, solicited, known }
}

fn conflict(target: Ipv6Addr, mac: Mac, addresses: &mut Addresses, now: Instant) -> Verdict {
    match addresses.claimed(target.into(), now) {
        Some(conflict) => Verdict::Conflict(target, mac, conflict),
        None => Verdict::Drop(DropReason::NdpNotForUs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::address::Probing;
    use crate::link::neighbor::NeighborConfig;

    const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OURS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const PEER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

    struct Host {
        addresses: Addresses,
        neighbors: Neighbors,
    }

    impl Host {
        fn new(probing: Probing) -> Self {
            Self {
                addresses: Addresses::new(&["fd00::2/64".parse().unwrap()], probing, Instant::ZERO),
                neighbors: Neighbors::new(&NeighborConfig::default(), [1, 2]),
            }
        }

        fn receive(&mut self, message: Message, source: Ipv6Addr) -> Verdict {
            let Self { addresses, neighbors } = self;
            receive(&message, source, PEER_MAC, OUR_MAC, addresses, neighbors, Instant::ZERO)
        }

        fn mac(&mut self, address: Ipv6Addr) -> Option<Mac> {
            self.neighbors.resolve(address.into(), Instant::ZERO)
        }
    }

    fn asks(target: Ipv6Addr, source_mac: Option<Mac>) -> Message {
        Message::Solicitation(Solicitation { target, source_mac })
    }

    fn tells(target: Ipv6Addr, target_mac: Mac) -> Message {
        let target_mac = Some(target_mac);
        Message::Advertisement(Advertisement { target, router: false, solicited: false, override_: true, target_mac })
    }

    #[test]
    fn a_question_for_us_is_answered_and_who_asked_learned() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Answer { target: OURS, to_all: false };
        assert_eq!(host.receive(asks(OURS, Some(PEER_MAC)), PEER), expected);
        assert_eq!(host.mac(PEER), Some(PEER_MAC));
        assert_eq!(host.receive(asks(PEER, Some(PEER_MAC)), PEER), Verdict::Drop(DropReason::NdpNotForUs));
    }

    #[test]
    fn a_probe_for_our_address_is_answered_to_all_and_teaches_nothing() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Answer { target: OURS, to_all: true };
        assert_eq!(host.receive(asks(OURS, None), Ipv6Addr::UNSPECIFIED), expected);
        assert_eq!(host.mac(Ipv6Addr::UNSPECIFIED), None);
    }

    #[test]
    fn two_hosts_that_probe_for_one_address_both_give_way() {
        let mut host = Host::new(Probing::Lead);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Duplicate);
        assert_eq!(host.receive(asks(OURS, None), Ipv6Addr::UNSPECIFIED), expected);
    }

    #[test]
    fn a_question_for_an_address_that_is_being_probed_stays_unanswered() {
        let mut host = Host::new(Probing::Lead);
        let expected = Verdict::Drop(DropReason::AddressTentative);
        assert_eq!(host.receive(asks(OURS, Some(PEER_MAC)), PEER), expected);
    }

    #[test]
    fn a_claim_of_our_address_is_a_conflict_unless_it_is_our_own() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Defend);
        assert_eq!(host.receive(tells(OURS, PEER_MAC), OURS), expected);
        assert_eq!(host.receive(tells(OURS, OUR_MAC), OURS), Verdict::Drop(DropReason::NdpNotForUs));
        let mut probing = Host::new(Probing::Lead);
        let expected = Verdict::Conflict(OURS, PEER_MAC, Conflict::Duplicate);
        assert_eq!(probing.receive(tells(OURS, PEER_MAC), OURS), expected);
    }

    #[test]
    fn a_question_from_our_own_address_is_neither_answered_nor_learned_from() {
        let mut host = Host::new(Probing::Off);
        assert_eq!(host.receive(asks(OURS, Some(PEER_MAC)), OURS), Verdict::Drop(DropReason::NdpNotForUs));
        assert_eq!(host.mac(OURS), None);
    }

    #[test]
    fn news_of_strangers_teach_nothing() {
        let mut host = Host::new(Probing::Off);
        let expected = Verdict::Heard { address: PEER, mac: Some(PEER_MAC), solicited: false, known: false };
        assert_eq!(host.receive(tells(PEER, PEER_MAC), PEER), expected);
        assert_eq!(host.mac(PEER), None);
    }
}
