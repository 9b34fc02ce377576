use super::super::{Header, ICMPV6, UDP};
use super::*;

/// Position of the first extension header.
const FIRST: usize = LEN;

/// A packet of `chain`, the first of which is `next_header`.
fn packet(next_header: u8, chain: &[&[u8]]) -> Vec<u8> {
    let payload = chain.concat();
    let mut out = [0; LEN];
    let header = Header {
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::2".parse().unwrap(),
    };
    header.write(&mut out);
    [&out[..], &payload].concat()
}

fn walked(next_header: u8, chain: &[&[u8]]) -> Result<Upper, ChainError> {
    walk(&Packet::parse(&packet(next_header, chain)).unwrap())
}

/// Options in front of UDP, padded to a whole header by their author.
fn hop_by_hop(options: [u8; 6]) -> Result<Upper, ChainError> {
    walked(HOP_BY_HOP, &[&[UDP, 0], &options, &[0; 8]])
}

fn problem(code: u8, pointer: u32, reason: DropReason) -> Result<Upper, ChainError> {
    Err(ChainError::Problem { code, pointer, reason, even_to_multicast: false })
}

const fn dropped(reason: DropReason) -> Result<Upper, ChainError> {
    Err(ChainError::Drop(reason))
}

/// A fragment header in front of `next`.
const fn fragment_header(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [high, low] = (offset | more as u16).to_be_bytes();
    [next, 0xaa, high, low, 1, 2, 3, 4]
}

#[test]
fn without_extensions_the_walk_is_over_at_once() {
    for protocol in [UDP, TCP, ICMPV6, 99] {
        let upper = walked(protocol, &[&[0; 8]]).unwrap();
        assert_eq!((upper.protocol, upper.at, upper.next_header_at), (protocol, LEN, NEXT_HEADER_AT));
        assert_eq!((upper.fragment, upper.atomic_fragment, upper.router_alert), (None, false, false));
    }
}

#[test]
fn a_chain_of_every_kind_leads_to_what_it_carries() {
    let long = [[ROUTING, 1, 0x1e, 12].as_slice(), &[0; 12]].concat();
    let chain: [&[u8]; 5] = [
        &[DESTINATION_OPTIONS, 0, ROUTER_ALERT, 2, 0, 0, PAD_N, 0],
        &long,
        &[FRAGMENT, 0, 0, 0, 9, 9, 9, 9],
        &fragment_header(99, 0, false),
        b"what it carries",
    ];
    let upper = walked(HOP_BY_HOP, &chain).unwrap();
    let at = LEN + 8 + 16 + 8 + 8;
    assert_eq!((upper.protocol, upper.at, upper.next_header_at), (99, at, at - 8));
    assert_eq!((upper.fragment, upper.atomic_fragment, upper.router_alert), (None, true, true));
    let bytes = packet(HOP_BY_HOP, &chain);
    assert_eq!(Packet::parse(&bytes).unwrap().from(upper.at), b"what it carries");
}

#[test]
fn every_truncation_of_a_chain_is_dropped() {
    let chain =
        [[DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0], [ROUTING, 0, 1, 4, 0, 0, 0, 0], [UDP, 0, 0, 0, 0, 0, 0, 0]];
    let chain = chain.as_flattened();
    for len in 0..chain.len() {
        assert_eq!(walked(HOP_BY_HOP, &[&chain[..len]]), dropped(DropReason::Ipv6ExtensionTruncated), "{len}");
    }
    assert_eq!(walked(HOP_BY_HOP, &[chain]).unwrap().protocol, UDP);
    assert_eq!(walked(ROUTING, &[&[UDP, 255], &[0; 2045]]), dropped(DropReason::Ipv6ExtensionTruncated));
    assert_eq!(walked(ROUTING, &[&[UDP, 255], &[0; 2046]]).unwrap().at, LEN + 2048);
}

#[test]
fn there_may_be_eight_extension_headers_and_no_more() {
    let options = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
    let last = [UDP, 0, 1, 4, 0, 0, 0, 0];
    let chain = |count: usize| [options.repeat(count - 1), last.to_vec()].concat();
    assert_eq!(walked(DESTINATION_OPTIONS, &[&chain(MAX_EXTENSIONS)]).unwrap().at, LEN + 64);
    let more = walked(DESTINATION_OPTIONS, &[&chain(MAX_EXTENSIONS + 1)]);
    assert_eq!(more, dropped(DropReason::Ipv6ExtensionsTooMany));
    // The ninth is not even looked at.
    let mut bad = chain(MAX_EXTENSIONS + 1);
    bad[8 * MAX_EXTENSIONS + 2] = 0x80;
    assert_eq!(walked(DESTINATION_OPTIONS, &[&bad]), dropped(DropReason::Ipv6ExtensionsTooMany));
}

#[test]
fn hop_by_hop_options_stand_first_or_are_an_unknown_next_header() {
    let chain: [&[u8]; 2] = [&[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], &[UDP, 0, 1, 4, 0, 0, 0, 0]];
    let reason = DropReason::Ipv6HopByHopMisplaced;
    assert_eq!(walked(DESTINATION_OPTIONS, &chain), problem(UNKNOWN_NEXT_HEADER, FIRST as u32, reason));
    assert_eq!(walked(HOP_BY_HOP, &chain), problem(UNKNOWN_NEXT_HEADER, FIRST as u32, reason));
    // What stands there is not looked at: it may be longer than the packet, or not be there.
    let longer: [&[u8]; 2] = [&[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], &[UDP, 9]];
    assert_eq!(walked(DESTINATION_OPTIONS, &longer), problem(UNKNOWN_NEXT_HEADER, FIRST as u32, reason));
    assert_eq!(walked(DESTINATION_OPTIONS, &longer[..1]), problem(UNKNOWN_NEXT_HEADER, FIRST as u32, reason));
}

#[test]
fn nothing_after_no_next_header_is_looked_at() {
    assert_eq!(walked(NO_NEXT_HEADER, &[&[1; 8]]), dropped(DropReason::Ipv6NoNextHeader));
    let chain = [NO_NEXT_HEADER, 0, 1, 4, 0, 0, 0, 0];
    assert_eq!(walked(DESTINATION_OPTIONS, &[&chain]), dropped(DropReason::Ipv6NoNextHeader));
}

#[test]
fn padding_of_every_length_is_skipped() {
    assert!(hop_by_hop([PAD_1; 6]).is_ok());
    for len in 0..=4 {
        assert!(hop_by_hop([PAD_N, len, 0, 0, 0, 0]).is_ok(), "{len}");
    }
    assert!(walked(HOP_BY_HOP, &[&[UDP, 1, PAD_N, 3, 0, 0, 0, PAD_1, PAD_1, 0x1e, 4], &[7; 4], &[PAD_1; 1]]).is_ok());
}

#[test]
fn padding_that_is_more_or_something_else_than_padding_is_malformed() {
    let malformed = dropped(DropReason::Ipv6OptionMalformed);
    assert_eq!(hop_by_hop([PAD_N, 4, 0, 0, 0, 1]), malformed, "something hides there");
    // Seven bytes, and one more, as one, the other, and both.
    let padded = |padding: &[u8]| {
        walked(HOP_BY_HOP, &[&[UDP, 1, 0x1e, 12 - padding.len() as u8], &[7; 12][padding.len()..], padding])
    };
    for (seven, eight) in [
        (&[PAD_1; 7][..], &[PAD_1; 8][..]),
        (&[PAD_N, 5, 0, 0, 0, 0, 0], &[PAD_N, 6, 0, 0, 0, 0, 0, 0]),
        (&[PAD_1, PAD_N, 4, 0, 0, 0, 0], &[PAD_N, 4, 0, 0, 0, 0, PAD_1, PAD_1]),
    ] {
        assert!(padded(seven).is_ok(), "{seven:?}");
        assert_eq!(padded(eight), malformed, "{eight:?}");
    }
}

#[test]
fn options_that_reach_beyond_their_header_are_malformed() {
    let malformed = dropped(DropReason::Ipv6OptionMalformed);
    assert_eq!(hop_by_hop([PAD_N, 5, 0, 0, 0, 0]), malformed);
    assert_eq!(hop_by_hop([PAD_1, PAD_1, PAD_1, PAD_1, PAD_1, PAD_N]), malformed, "no length");
    assert_eq!(hop_by_hop([PAD_N, 3, 0, 0, 0, 0xc2]), malformed, "no length");
    assert_eq!(hop_by_hop([ROUTER_ALERT, 4, 0, 0, 0, 0]), malformed, "wrong length");
}

#[test]
fn a_router_alert_counts_only_among_hop_by_hop_options() {
    assert!(hop_by_hop([ROUTER_ALERT, 2, 0, 0, PAD_N, 0]).unwrap().router_alert);
    let elsewhere = walked(DESTINATION_OPTIONS, &[&[UDP, 0, ROUTER_ALERT, 4, 0, 0, 0, 0]]);
    assert!(!elsewhere.unwrap().router_alert, "unknown there, and skipped");
}

#[test]
fn what_becomes_of_an_unknown_option_is_in_its_type() {
    for kind in 2..=255_u8 {
        let option = [PAD_1, kind, 3, 0, 0, 0];
        let (pointer, reason) = (FIRST as u32 + 3, DropReason::Ipv6OptionUnknown);
        let found = walked(DESTINATION_OPTIONS, &[&[UDP, 0], &option]);
        match kind >> 6 {
            0 => assert!(found.is_ok(), "{kind}"),
            1 => assert_eq!(found, dropped(reason), "{kind}"),
            action => {
                let even_to_multicast = action == 2;
                let expected = ChainError::Problem { code: UNKNOWN_OPTION, pointer, reason, even_to_multicast };
                assert_eq!(found, Err(expected), "{kind}");
            }
        }
    }
}

#[test]
fn a_routing_header_is_skipped_only_at_its_end() {
    for kind in 0..=255 {
        assert!(walked(ROUTING, &[&[UDP, 0, kind, 0, 0, 0, 0, 0]]).is_ok(), "{kind}");
        let found = walked(ROUTING, &[&[UDP, 0, kind, 1, 0, 0, 0, 0]]);
        assert_eq!(found, problem(ERRONEOUS_FIELD, 42, DropReason::Ipv6RoutingHeader), "{kind}");
    }
}

#[test]
fn a_fragment_ends_the_walk_at_its_data() {
    let options = [FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
    let upper = walked(DESTINATION_OPTIONS, &[&options, &fragment_header(ROUTING, 1448, false), &[0xff; 5]]).unwrap();
    let expected =
        FragmentHeader { offset: 1448, more: false, identification: 0x0102_0304, at: LEN + 8, named_at: LEN };
    assert_eq!(upper.fragment, Some(expected));
    assert_eq!((upper.protocol, upper.at, upper.next_header_at), (ROUTING, LEN + 16, LEN + 8));
    assert!(!upper.atomic_fragment);
}

#[test]
fn fragments_whose_length_cannot_be_are_told_to_the_sender() {
    let reason = DropReason::Ipv6FragmentLength;
    let odd = walked(FRAGMENT, &[&fragment_header(UDP, 8, true), &[0; 9]]);
    assert_eq!(odd, problem(ERRONEOUS_FIELD, 4, reason));
    let last = |len: usize| walked(FRAGMENT, &[&fragment_header(UDP, 65_528, false), &vec![0; len]]);
    assert!(last(7).is_ok());
    assert_eq!(last(8), problem(ERRONEOUS_FIELD, 42, reason));
    // Headers in front count.
    let options = [FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
    let behind = walked(DESTINATION_OPTIONS, &[&options, &fragment_header(UDP, 65_528, false), &[0; 1]]);
    assert_eq!(behind, problem(ERRONEOUS_FIELD, 50, reason));
}

#[test]
fn a_first_fragment_must_have_all_headers() {
    let incomplete = problem(INCOMPLETE_FIRST_FRAGMENT, 0, DropReason::Ipv6FirstFragmentIncomplete);
    let first = |kind: u8, data: &[u8]| walked(FRAGMENT, &[&fragment_header(kind, 0, true), data]);
    assert_eq!(first(UDP, &[]), incomplete);
    assert_eq!(first(ICMPV6, &[]), incomplete);
    assert_eq!(first(TCP, &[0; 16]), incomplete);
    assert_eq!(first(UDP, &[0; 7]), incomplete, "and not that no fragment can have that length");
    assert!(first(UDP, &[0; 8]).is_ok() && first(TCP, &[0; 24]).is_ok() && first(ICMPV6, &[0; 8]).is_ok());
    assert!(first(99, &[]).is_ok(), "nobody knows how long that header is");
    let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
    assert_eq!(first(DESTINATION_OPTIONS, &options), incomplete);
    assert_eq!(first(DESTINATION_OPTIONS, &[UDP, 1, 1, 4, 0, 0, 0, 0]), incomplete);
    assert!(first(DESTINATION_OPTIONS, [options, [0; 8]].as_flattened()).is_ok());
    // Of later ones nobody knows what is in them.
    assert!(walked(FRAGMENT, &[&fragment_header(DESTINATION_OPTIONS, 8, true)]).is_ok());
}

#[test]
fn what_may_be_an_error_counts_as_one() {
    let carries = |next_header: u8, chain: &[&[u8]]| carries_icmp_error(&packet(next_header, chain));
    let options = [ICMPV6, 0, 1, 4, 0, 0, 0, 0];
    for (message, is_error) in [(&[1, 0][..], true), (&[127], true), (&[128], false), (&[], true)] {
        assert_eq!(carries(ICMPV6, &[message]), is_error, "{message:?}");
        assert_eq!(carries(DESTINATION_OPTIONS, &[&options, message]), is_error, "{message:?}");
    }
    assert!(!carries(UDP, &[&[1; 8]]));
    let authentication = [[ICMPV6, 4, 0, 0].as_slice(), &[0; 20]].concat();
    assert!(carries(AUTHENTICATION, &[&authentication, &[1]]) && !carries(AUTHENTICATION, &[&authentication, &[128]]));
    assert!(carries(FRAGMENT, &[&fragment_header(ICMPV6, 0, false)]), "a whole packet");
    assert!(!carries(FRAGMENT, &[&fragment_header(ICMPV6, 0, true)]), "its sender is to hear that a header is missing");
}

#[test]
fn no_chain_whatsoever_panics_or_leads_beyond_the_packet() {
    let kinds = [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, UDP, TCP, ICMPV6, NO_NEXT_HEADER];
    let mut bytes = packet(HOP_BY_HOP, &[&[0; 64]]);
    let mut random = crate::wire::tests::Random::default();
    for _ in 0..1_000_000 {
        let payload_len = usize::from(random.byte()) % 65;
        random.fill(&mut bytes[LEN..LEN + 24]);
        // Mostly what leads on: a length of zero, and a kind that is walked.
        for at in [NEXT_HEADER_AT, FIRST, FIRST + 8, FIRST + 16] {
            bytes[at] = kinds[usize::from(random.byte()) % kinds.len()];
        }
        for at in [FIRST + 1, FIRST + 9, FIRST + 17] {
            bytes[at] %= 4;
        }
        bytes[PAYLOAD_LEN_AT + 1] = payload_len as u8;
        let packet = Packet::parse(&bytes).unwrap();
        match walk(&packet) {
            Ok(upper) => assert!(upper.at <= LEN + payload_len && upper.next_header_at < upper.at),
            Err(ChainError::Problem { pointer, .. }) => assert!((pointer as usize) < LEN + payload_len),
            Err(ChainError::Drop(_)) => {}
        }
    }
}
