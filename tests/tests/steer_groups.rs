//! The XDP program and what is sent to groups and broadcast addresses: who gets it, and the copies in the ring, read
//! back. Run by the kernel over single frames, as in steer_program.rs.
//!
//! Needs root. Nothing is attached to an interface and no frame is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire_ebpf::{GroupUse, HEARD_MAX, SteerConfig, Verdict};
use barewire_tests::fixtures::{self, ETHERNET_LEN, ethertype, ipv4_to, ipv6_to, neighbor};
use barewire_tests::test_run::{ALL_HOSTS, ALL_NODES, OTHER, OTHER_6, OWNED, OWNED_6, Program, vlans};

const DIRECTED_BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 255);
const ADVERTISEMENT: u8 = 136;

/// Frames to groups and broadcast addresses, with the address. All are to all stations, as some have to be.
fn group_frames() -> [(IpAddr, Vec<u8>); 6] {
    let ipv4 = |address: Ipv4Addr| (address.into(), fixtures::to_all(ipv4_to(address)));
    let ipv6 = |address: Ipv6Addr| (address.into(), fixtures::to_all(ipv6_to(address)));
    [
        ipv4(ALL_HOSTS),
        ipv4(Ipv4Addr::new(239, 255, 255, 255)),
        ipv4(Ipv4Addr::BROADCAST),
        ipv4(DIRECTED_BROADCAST),
        ipv6(ALL_NODES),
        ipv6(fixtures::solicited_node(OWNED_6)),
    ]
}

#[test]
fn a_group_that_is_copied_reaches_the_kernel_and_the_engine_byte_for_byte() {
    let program = Program::load();
    for (group, frame) in group_frames() {
        program.expect(Verdict::PassNotOwned, "not listened to", &frame);
        program.listen(group, GroupUse::Copy);
        program.expect(Verdict::PassCopied, "listened to", &frame);
        let padded = fixtures::padded(frame.clone(), 60);
        program.expect(Verdict::PassCopied, "padded", &padded);
        program.ignore(group);
        program.expect(Verdict::PassNotOwned, "ignored again", &frame);
        assert_eq!(program.heard(), [(0, frame), (0, padded)], "{group}");
    }
    assert_eq!(program.heard(), []);
}

#[test]
fn a_group_that_the_engine_alone_has_joined_is_redirected_and_not_copied() {
    let program = Program::load();
    for (group, frame) in group_frames() {
        program.listen(group, GroupUse::Redirect);
        program.expect(Verdict::RedirectGroup, "joined", &frame);
        program.listen(group, GroupUse::Copy);
        program.expect(Verdict::PassCopied, "only listened to now", &frame);
        program.ignore(group);
        assert_eq!(program.heard(), [(0, frame)]);
    }
}

#[test]
fn only_what_is_sent_to_a_group_is_looked_for_among_the_groups() {
    let program = Program::load();
    for address in [IpAddr::from(OTHER), OTHER_6.into(), OWNED.into(), OWNED_6.into(), DIRECTED_BROADCAST.into()] {
        program.listen(address, GroupUse::Copy);
    }
    program.expect(Verdict::PassNotOwned, "IPv4 of one station", &ipv4_to(OTHER));
    program.expect(Verdict::PassNotOwned, "a broadcast for one station", &ipv4_to(DIRECTED_BROADCAST));
    program.expect(Verdict::PassNotOwned, "IPv6 of one host", &ipv6_to(OTHER_6));
    program.expect(Verdict::PassNotOwned, "IPv6 of one host, to all", &fixtures::to_all(ipv6_to(OTHER_6)));
    // The frame's bit only tells where an IPv4 broadcast may be. An owned address is owned in any frame.
    program.expect(Verdict::RedirectIpv4, "owned, to all", &fixtures::to_all(ipv4_to(OWNED)));
    program.expect(Verdict::RedirectIpv6, "owned, to all", &fixtures::to_all(ipv6_to(OWNED_6)));
    assert_eq!(program.heard(), []);
    for destination in [[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [0xff; 6]] {
        let frame = fixtures::patched(ipv4_to(DIRECTED_BROADCAST), 0, &destination);
        program.expect(Verdict::PassCopied, "a broadcast in any frame to several", &frame);
    }
    // 223.255.255.255 and 224.0.0.0: where multicast begins.
    for (address, verdict) in [([223, 255, 255, 255], Verdict::PassNotOwned), ([224, 0, 0, 0], Verdict::PassCopied)] {
        program.listen(Ipv4Addr::from(address), GroupUse::Copy);
        program.expect(verdict, "the first of multicast", &ipv4_to(address.into()));
    }
}

#[test]
fn neighbor_discovery_about_owned_addresses_comes_before_the_groups() {
    let program = Program::load();
    program.listen(ALL_NODES, GroupUse::Copy);
    program.expect(Verdict::RedirectNdp, "duplicate", &neighbor(ALL_NODES, ADVERTISEMENT, OWNED_6));
    assert_eq!(program.heard(), []);
    // RFC 4861, section 4.2: to all nodes; RFC 2710, section 3: so are general queries.
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const LISTENER_QUERY: u8 = 130;
    for icmp_type in [ROUTER_ADVERTISEMENT, LISTENER_QUERY, ADVERTISEMENT] {
        let frame = neighbor(ALL_NODES, icmp_type, OTHER_6);
        program.expect(Verdict::PassCopied, "for all nodes", &frame);
        assert_eq!(program.heard(), [(0, frame)]);
    }
}

#[test]
fn group_frames_are_ours_only_with_the_configured_tags_and_are_copied_with_them() {
    let program = Program::load_with(vlans(5, 6), &[0]);
    for (group, frame) in group_frames() {
        program.listen(group, GroupUse::Copy);
        program.expect(Verdict::PassOtherVlan, "untagged", &frame);
        let tagged = fixtures::tagged(&frame, &[(ethertype::SERVICE_VLAN, 5), (ethertype::VLAN, 6)]);
        program.expect(Verdict::PassCopied, "tagged", &tagged);
        assert_eq!(program.heard(), [(0, tagged)]);
    }
}

#[test]
fn a_frame_that_a_copy_has_no_room_for_is_passed_and_counted() {
    let program = Program::load();
    program.listen(ALL_HOSTS, GroupUse::Copy);
    let frame = |len: usize| fixtures::ipv4(ALL_HOSTS, &[], &vec![0x5a; len - ETHERNET_LEN - 20]);
    program.expect(Verdict::PassCopied, "the longest", &frame(HEARD_MAX));
    for len in [HEARD_MAX + 1, 5_000] {
        program.expect(Verdict::PassCopyLost, "longer", &frame(len));
    }
    assert_eq!(program.heard(), [(0, frame(HEARD_MAX))]);
}

#[test]
fn a_ring_that_nobody_reads_fills_up_and_the_kernel_gets_the_frames_all_the_same() {
    let program = Program::load();
    program.listen(ALL_HOSTS, GroupUse::Copy);
    let frame = |number: u16| fixtures::ipv4(ALL_HOSTS, &[], &number.to_be_bytes());
    // 256 KiB, of which a record takes 2,048 bytes, its own header of 8 and the ring's of 8.
    const ROOM: u16 = ((256 << 10) / (2048 + 8 + 8_u32)) as u16;
    for round in 0..3 {
        for number in 0..ROOM {
            program.expect(Verdict::PassCopied, "room", &frame(number));
        }
        for _ in 0..10 {
            program.expect(Verdict::PassCopyLost, "no room", &frame(u16::MAX));
        }
        let expected: Vec<_> = (0..ROOM).map(|number| (0, frame(number))).collect();
        assert!(program.heard() == expected, "round {round}");
    }
}

#[test]
fn a_copy_needs_no_worker_but_a_redirection_does() {
    let limit = SteerConfig { heartbeat_limit_ns: 1, ..SteerConfig::default() };
    for (program, verdict) in [
        (Program::load_with(SteerConfig::default(), &[1]), Verdict::PassNoSocket),
        (Program::load_with(limit, &[0]), Verdict::PassStale),
    ] {
        let frame = ipv4_to(ALL_HOSTS);
        program.listen(ALL_HOSTS, GroupUse::Redirect);
        program.expect(verdict, "joined", &frame);
        program.listen(ALL_HOSTS, GroupUse::Copy);
        program.expect(Verdict::PassCopied, "listened to", &frame);
        assert_eq!(program.heard(), [(0, frame)]);
    }
}
