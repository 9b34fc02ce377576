//! Fragments that are not answered, not taken, or not spoken of.

use super::groups::v6;
use super::*;
use crate::wire::{icmpv6, ndp};

/// A fragment of a payload, `from` here on, as far as `to`.
fn fragment(protocol: u8, payload: &[u8], (from, to): (usize, usize)) -> Vec<u8> {
    let header = wire::ipv4::Header {
        traffic_class: 0,
        payload_len: (to - from) as u16,
        ttl: 64,
        protocol,
        source: PEER,
        destination: OURS,
    };
    let mut packet = [0; wire::ipv4::LEN];
    header.write_fragment(&mut packet, 9, from as u16, to < payload.len());
    ethernet(OUR_MAC, ethernet::IPV4, &[&packet, &payload[from..to]].concat())
}

/// Lets the time of all fragments run out. What is sent then.
fn run_out<A: App>(host: &mut Host<A>) -> Vec<Vec<u8>> {
    host.now += Duration::from_secs(31);
    host.turn(&[]).into_iter().map(|(_, frame)| frame).collect()
}

fn message_v4(kind: u8) -> Vec<u8> {
    let mut message = [kind, 0, 0, 0].to_vec();
    message.resize(64, 0);
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

#[test]
fn a_message_whose_fragments_do_not_all_come_is_told_unless_it_is_an_error() {
    for (kind, told) in [(0, 1), (8, 1), (13, 1), (3, 0), (4, 0), (5, 0), (11, 0), (12, 0), (99, 0)] {
        let mut host = Host::new(&config(), Echo);
        let message = message_v4(kind);
        assert!(host.answers(&fragment(wire::ipv4::ICMP, &message, (0, 32))).is_empty());
        let errors = run_out(&mut host);
        assert_eq!(errors.len(), told, "type {kind}");
        for error in errors {
            assert_eq!(error[ethernet::LEN + wire::ipv4::LEN..][..2], [11, 1]);
        }
        assert_eq!(host.dropped(DropReason::FragmentTimeout), 1);
    }
}

#[test]
fn fragments_that_overlap_are_counted_whatever_becomes_of_them() {
    let mut host = Host::new(&config(), Echo);
    let datagram = udp(PEER, 4000, 7, &[b'x'; 56])[ethernet::LEN + wire::ipv4::LEN..].to_vec();
    assert!(host.answers(&fragment(wire::ipv4::UDP, &datagram, (0, 32))).is_empty());
    assert_eq!(host.stack.counters().fragments_overlapping, 0);
    assert_eq!(host.answers(&fragment(wire::ipv4::UDP, &datagram, (24, 64))).len(), 1);
    assert_eq!(host.stack.counters().fragments_overlapping, 1);
}

/// A message of neighbor discovery to us that would be taken, of a type.
fn discovery(kind: u8) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    match kind {
        icmpv6::ROUTER_ADVERTISEMENT => message.extend([0; 8]),
        icmpv6::NEIGHBOR_SOLICITATION => message.extend(OURS_6.octets()),
        icmpv6::NEIGHBOR_ADVERTISEMENT => message.extend(PEER_6.octets()),
        _ => message.extend([groups::ROUTER_V6.octets(), PEER_6.octets()].as_flattened()),
    }
    // The sender's MAC address, or that of whom it is about.
    let option = if matches!(kind, icmpv6::NEIGHBOR_ADVERTISEMENT | icmpv6::REDIRECT) { 2 } else { 1 };
    message.extend([option, 1, 2, 0, 0, 0, 0, 9]);
    icmpv6::set_checksum(&mut message, groups::ROUTER_V6, OURS_6);
    message
}

/// RFC 6980, section 5: nodes MUST silently ignore neighbor discovery messages that are in fragments.
#[test]
fn neighbor_discovery_in_fragments_is_ignored_even_in_a_single_one() {
    let kinds =
        [icmpv6::ROUTER_ADVERTISEMENT, icmpv6::NEIGHBOR_SOLICITATION, icmpv6::NEIGHBOR_ADVERTISEMENT, icmpv6::REDIRECT];
    let link_local = "fe80::2/64".parse().unwrap();
    let config = StackConfig { addresses: [dual_stack().addresses, vec![link_local]].concat(), ..dual_stack() };
    for kind in kinds {
        let message = discovery(kind);
        let to_us = |next_header, payload: &[u8]| {
            let mut frame = v6(OURS_6, ndp::HOP_LIMIT, next_header, payload);
            frame[..6].copy_from_slice(&OUR_MAC.0);
            frame
        };
        let fragment = |from: usize, to: usize| {
            let mut header = [0; wire::ipv6::FRAGMENT_LEN];
            let more = to < message.len();
            wire::ipv6::write_fragment_header(&mut header, wire::ipv6::ICMPV6, 9, from as u16, more);
            to_us(wire::ipv6::FRAGMENT, &[&header, &message[from..to]].concat())
        };
        let mut host = Host::new(&config, Echo);
        let answers = host.answers(&to_us(wire::ipv6::ICMPV6, &message));
        assert_eq!(answers.len(), usize::from(kind == icmpv6::NEIGHBOR_SOLICITATION), "type {kind}");
        assert_eq!([DropReason::NdpFragment, DropReason::NdpMalformed].map(|reason| host.dropped(reason)), [0, 0]);
        for pieces in [&[(0, message.len())][..], &[(0, 16), (16, message.len())]] {
            let mut host = Host::new(&config, Echo);
            for &(from, to) in pieces {
                assert!(host.answers(&fragment(from, to)).is_empty(), "type {kind} in {pieces:?}");
            }
            assert_eq!((host.dropped(DropReason::NdpFragment), host.stack.fragments()), (1, 0));
            assert_eq!(host.stack.egress.neighbors.entries(host.now).filter(|known| !known.is_fixed).count(), 0);
        }
    }
}
