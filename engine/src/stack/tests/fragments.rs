//! Fragments that are not answered, not taken, or not spoken of.

use super::*;

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
