use super::*;
use crate::wire::icmpv6::set_checksum;
use crate::wire::tests::Random;

const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x12, 0x3456);
const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab, 0xcdef);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SOURCE_MAC: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];

/// A message of these parts, as it is read when it came from `source` to `destination`.
fn read(parts: &[&[u8]], source: Ipv6Addr, destination: Ipv6Addr) -> Result<Message, DropReason> {
    let mut bytes = parts.concat();
    set_checksum(&mut bytes, source, destination);
    Message::parse(&icmpv6::Packet::parse(&bytes, source, destination)?, HOP_LIMIT, source, destination)
}

const fn header(kind: u8) -> [u8; 8] {
    [kind, 0, 0, 0, 0, 0, 0, 0]
}

#[test]
fn solicited_nodes_are_those_of_rfc_4291() {
    // The example of RFC 4291, section 2.7.1.
    let (address, group) = ("4037::1:800:200e:8c6c", "ff02::1:ff0e:8c6c");
    let [address, group] = [address, group].map(|text| text.parse::<Ipv6Addr>().unwrap());
    assert_eq!(solicited_node(address), group);
    assert!(is_solicited_node(group) && !is_solicited_node(address) && !is_solicited_node(ALL_NODES));
}

#[test]
fn what_is_written_is_what_is_parsed() {
    let mut out = [0; MAX_LEN];
    for mac in [None, Some(MAC)] {
        let message = Solicitation { target: B, source_mac: mac };
        let len = write_solicitation(&mut out, &message, A, solicited_node(B)).unwrap();
        assert_eq!(len, if mac.is_some() { 32 } else { 24 });
        let packet = icmpv6::Packet::parse(&out[..len], A, solicited_node(B)).unwrap();
        let parsed = Message::parse(&packet, HOP_LIMIT, A, solicited_node(B));
        assert_eq!(parsed, Ok(Message::Solicitation(message)));
        for flags in 0..8_u8 {
            let [router, solicited, override_] = [1, 2, 4].map(|flag| flags & flag != 0);
            let message = Advertisement { target: B, router, solicited, override_, target_mac: mac };
            let len = write_advertisement(&mut out, &message, B, A).unwrap();
            let packet = icmpv6::Packet::parse(&out[..len], B, A).unwrap();
            assert_eq!(Message::parse(&packet, HOP_LIMIT, B, A), Ok(Message::Advertisement(message)));
        }
        let len = write_router_solicitation(&mut out, mac, A, ALL_ROUTERS).unwrap();
        let packet = icmpv6::Packet::parse(&out[..len], A, ALL_ROUTERS).unwrap();
        assert_eq!(Message::parse(&packet, HOP_LIMIT, A, ALL_ROUTERS), Ok(Message::RouterSolicitation));
        assert_eq!(write_router_solicitation(&mut out[..len - 1], mac, A, ALL_ROUTERS), None);
    }
}

#[test]
fn every_message_needs_hop_limit_255_code_0_and_its_whole_length() {
    let lens = [(133, 8), (134, 16), (135, 24), (136, 24), (137, 40)];
    for (kind, len) in lens {
        let mut bytes = [0; 40];
        bytes[0] = kind;
        bytes[8..24].copy_from_slice(&B.octets());
        bytes[24..40].copy_from_slice(&B.octets());
        let read = |bytes: &[u8]| read(&[bytes], A, B);
        assert!(read(&bytes[..len]).is_ok(), "{kind}");
        for short in 8..len {
            assert_eq!(read(&bytes[..short]), Err(DropReason::NdpMalformed), "{kind} {short}");
        }
        set_checksum(&mut bytes[..len], A, B);
        for hop_limit in [0, 1, 64, 254] {
            let packet = icmpv6::Packet::parse(&bytes[..len], A, B).unwrap();
            assert_eq!(Message::parse(&packet, hop_limit, A, B), Err(DropReason::NdpHopLimit), "{kind}");
        }
        bytes[1] = 1;
        assert_eq!(read(&bytes[..len]), Err(DropReason::NdpMalformed), "{kind}");
    }
    assert_eq!(read(&[&header(128)], A, B), Err(DropReason::IcmpIgnored));
}

#[test]
fn options_without_length_or_beyond_the_end_spoil_the_message() {
    let with = |options: &[u8]| read(&[&header(135), &B.octets(), options], A, B);
    assert_eq!(with(&[14, 0, 0, 0, 0, 0, 0, 0]), Err(DropReason::NdpMalformed));
    assert_eq!(with(&[14, 2, 0, 0, 0, 0, 0, 0]), Err(DropReason::NdpMalformed));
    assert_eq!(with(&[14, 1, 0, 0, 0, 0, 0]), Err(DropReason::NdpMalformed));
    assert_eq!(with(&[SOURCE_MAC.as_slice(), &[1]].concat()), Err(DropReason::NdpMalformed));
    assert_eq!(
        with(&[[200, 1, 0, 0, 0, 0, 0, 0], SOURCE_MAC].concat()),
        Ok(Message::Solicitation(Solicitation { target: B, source_mac: Some(MAC) })),
        "options unknown are skipped"
    );
}

#[test]
fn a_target_is_the_address_of_one_host() {
    for target in ["ff02::1", "::", "::1", "::ffff:10.0.0.1"] {
        let target: Ipv6Addr = target.parse().unwrap();
        for kind in [135, 136] {
            assert_eq!(read(&[&header(kind), &target.octets()], A, B), Err(DropReason::NdpMalformed), "{target}");
        }
    }
}

#[test]
fn a_mac_that_no_host_has_is_not_learned() {
    for mac in [Mac::ZERO, Mac::BROADCAST, Mac([0x33, 0x33, 0, 0, 0, 1])] {
        let option = [&[1, 1][..], &mac.0].concat();
        assert_eq!(read(&[&header(135), &B.octets(), &option], A, B), Err(DropReason::NdpMacInvalid));
        assert_eq!(read(&[&header(133), &option], A, ALL_ROUTERS), Err(DropReason::NdpMacInvalid));
    }
}

#[test]
fn who_has_no_address_yet_solicits_the_group_and_tells_no_mac() {
    let nobody = Ipv6Addr::UNSPECIFIED;
    let solicit = |destination, option: &[u8]| read(&[&header(135), &B.octets(), option], nobody, destination);
    assert!(solicit(solicited_node(B), &[]).is_ok());
    assert_eq!(solicit(B, &[]), Err(DropReason::NdpMalformed));
    assert_eq!(solicit(ALL_NODES, &[]), Err(DropReason::NdpMalformed));
    assert_eq!(solicit(solicited_node(B), &SOURCE_MAC), Err(DropReason::NdpMalformed));
    assert!(read(&[&header(133)], nobody, ALL_ROUTERS).is_ok());
    assert_eq!(read(&[&header(133), &SOURCE_MAC], nobody, ALL_ROUTERS), Err(DropReason::NdpMalformed));
}

#[test]
fn an_advertisement_to_everybody_is_no_answer() {
    let solicited = [136, 0, 0, 0, 0x40, 0, 0, 0];
    assert_eq!(read(&[&solicited, &B.octets()], B, ALL_NODES), Err(DropReason::NdpMalformed));
    assert!(read(&[&solicited, &B.octets()], B, A).is_ok());
    assert!(read(&[&header(136), &B.octets()], B, ALL_NODES).is_ok());
}

#[test]
fn routers_speak_from_link_local_addresses() {
    assert!(read(&[&header(134), &[0; 8]], A, ALL_NODES).is_ok());
    assert_eq!(read(&[&header(134), &[0; 8]], B, ALL_NODES), Err(DropReason::NdpMalformed));
    let redirect =
        |target: Ipv6Addr, about: Ipv6Addr, source| read(&[&header(137), &target.octets(), &about.octets()], source, B);
    assert!(redirect(A, B, A).is_ok() && redirect(B, B, A).is_ok());
    let other = solicited_node(B);
    assert_eq!(redirect(A, B, B), Err(DropReason::NdpMalformed));
    assert_eq!(redirect(B, A, A), Err(DropReason::NdpMalformed));
    assert_eq!(redirect(A, other, A), Err(DropReason::NdpMalformed));
}

/// A Prefix Information option for 2001:db8::/64 and stray bits behind.
fn prefix_option(len: u8, flags: u8) -> [u8; 32] {
    let mut option = [0xff; 32];
    option[..4].copy_from_slice(&[3, 4, len, flags]);
    option[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 2, 0]);
    option[16..24].copy_from_slice(&B.octets()[..8]);
    option
}

#[test]
fn a_router_advertisement_tells_all_of_it() {
    let header = [134, 0, 0, 0, 64, 0xc0, 0x07, 0x08];
    let timers = [0, 0, 0x75, 0x30, 0, 0, 0x03, 0xe8];
    let mtu = [5, 1, 0, 0, 0, 0, 0x05, 0xdc];
    let options = [&SOURCE_MAC[..], &prefix_option(129, 0), &mtu, &prefix_option(64, 0x80), &prefix_option(0, 0x40)];
    let Ok(Message::RouterAdvertisement(told)) = read(&[&header, &timers, &options.concat()], A, ALL_NODES) else {
        panic!("not a router advertisement")
    };
    assert_eq!((told.hop_limit, told.managed, told.other, told.lifetime_s), (64, true, true, 1800));
    assert_eq!((told.reachable_ms, told.retransmit_ms), (30_000, 1000));
    assert_eq!((told.source_mac, told.mtu), (Some(MAC), Some(1500)));
    let first = PrefixInformation {
        prefix: "2001:db8::".parse().unwrap(),
        len: 64,
        on_link: true,
        autonomous: false,
        valid_s: 65_536,
        preferred_s: 512,
    };
    let second = PrefixInformation { prefix: Ipv6Addr::UNSPECIFIED, len: 0, on_link: false, autonomous: true, ..first };
    assert_eq!(told.prefixes[..], [first, second], "one of 129 bits is none");
}

#[test]
fn prefixes_beyond_the_limit_are_not_looked_at() {
    let many = prefix_option(64, 0xc0).repeat(MAX_PREFIXES + 3);
    let Ok(Message::RouterAdvertisement(told)) = read(&[&header(134), &[0; 8], &many], A, ALL_NODES) else {
        panic!("not a router advertisement")
    };
    assert_eq!(told.prefixes.len(), MAX_PREFIXES);
}

#[test]
fn no_bytes_whatsoever_panic() {
    let mut random = Random::default();
    let mut bytes = [0; 120];
    let mut valid = 0;
    for _ in 0..1_000_000 {
        let len = 8 + usize::from(random.byte()) % 113;
        random.fill(&mut bytes[..48]);
        (bytes[0], bytes[1]) = (133 + random.byte() % 5, 0);
        // Mostly options that can be: of known types, and short.
        for at in [8, 16, 24, 40, 56, 72, 88, 104] {
            (bytes[at], bytes[at + 1]) = (random.byte() % 6, random.byte() % 6);
        }
        let packet = icmpv6::Packet::unchecked(&bytes[..len]).unwrap();
        valid += usize::from(Message::parse(&packet, HOP_LIMIT, A, B).is_ok());
    }
    assert!(valid > 10_000, "{valid} get as far as that");
}
