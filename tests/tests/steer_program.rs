//! The XDP program, run by the kernel over single frames (`BPF_PROG_TEST_RUN`): for each one the action, that
//! exactly the one expected verdict was counted, and that no byte was changed.
//!
//! Needs root. Nothing is attached to an interface and no frame is sent.

use std::net::{Ipv4Addr, Ipv6Addr};

use barewire_ebpf::{GroupUse, HEARD_MAX, OWNED_IPV4, SteerConfig, Verdict};
use barewire_tests::fixtures::{self, ETHERNET_LEN, ethertype, ipv4_to, ipv6_to, neighbor, protocol};
use barewire_tests::kernel::monotonic_ns;
use barewire_tests::test_run::{ALL_HOSTS, ALL_NODES, OTHER, OTHER_6, OWNED, OWNED_6, Program, vlans};
use libbpf_rs::{MapCore, MapFlags};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// One frame of each kind that is redirected for an owned address.
fn owned_frames() -> [Vec<u8>; 4] {
    [
        ipv4_to(OWNED),
        ipv6_to(OWNED_6),
        fixtures::arp(REQUEST, OTHER, OWNED),
        neighbor(fixtures::solicited_node(OWNED_6), SOLICITATION, OWNED_6),
    ]
}

#[test]
fn ipv4_to_an_owned_address_is_redirected_and_nothing_else() {
    let program = Program::load();
    program.expect(Verdict::RedirectIpv4, "owned", &ipv4_to(OWNED));
    for (name, destination) in [
        ("other", OTHER),
        ("limited broadcast", Ipv4Addr::BROADCAST),
        ("directed broadcast", Ipv4Addr::new(192, 0, 2, 255)),
        ("multicast", Ipv4Addr::new(224, 0, 0, 1)),
        ("unspecified", Ipv4Addr::UNSPECIFIED),
        ("bytes reversed", Ipv4Addr::new(1, 2, 0, 192)),
    ] {
        program.expect(Verdict::PassNotOwned, name, &ipv4_to(destination));
    }
    let from_owned = fixtures::patched(ipv4_to(OTHER), ETHERNET_LEN + 12, &OWNED.octets());
    program.expect(Verdict::PassNotOwned, "from our address to another", &from_owned);
}

#[test]
fn ipv4_options_fragments_and_protocols_make_no_difference() {
    let program = Program::load();
    for words in 1..=10 {
        let options = vec![1; words * 4];
        program.expect(Verdict::RedirectIpv4, "options", &fixtures::ipv4(OWNED, &options, b"x"));
        program.expect(Verdict::PassNotOwned, "options, to another", &fixtures::ipv4(OTHER, &options, b"x"));
    }
    for (name, field) in [("first fragment", 0x2000u16), ("middle one", 0x2005), ("last one", 5), ("DF", 0x4000)] {
        let frame = fixtures::patched(ipv4_to(OWNED), ETHERNET_LEN + 6, &field.to_be_bytes());
        program.expect(Verdict::RedirectIpv4, name, &frame);
    }
    for protocol in 0..=255 {
        let frame = fixtures::patched(ipv4_to(OWNED), ETHERNET_LEN + 9, &[protocol]);
        program.expect(Verdict::RedirectIpv4, "protocol", &frame);
    }
    let header_only = fixtures::ipv4(OWNED, &[], &[]);
    program.expect(Verdict::RedirectIpv4, "header only", &header_only);
    program.expect(Verdict::RedirectIpv4, "padding", &fixtures::padded(header_only, 60));
}

#[test]
fn an_ipv4_header_that_contradicts_itself_is_passed() {
    let program = Program::load();
    let frame = ipv4_to(OWNED);
    let total_len = frame.len() - ETHERNET_LEN;
    let expect = |sound: bool, name: &str, at: usize, bytes: &[u8]| {
        let verdict = if sound { Verdict::RedirectIpv4 } else { Verdict::PassMalformed };
        program.expect(verdict, name, &fixtures::patched(frame.clone(), ETHERNET_LEN + at, bytes));
    };
    for version in 0..=15u8 {
        expect(version == 4, "version", 0, &[version << 4 | 5]);
    }
    for words in 0..=15u8 {
        let header_len = usize::from(words) * 4;
        expect((20..=total_len).contains(&header_len), "header length", 0, &[0x40 | words]);
    }
    for len in (0..=200u16).chain([u16::MAX]) {
        expect((20..=total_len).contains(&usize::from(len)), "total length", 2, &len.to_be_bytes());
    }
}

#[test]
fn ipv6_to_an_owned_address_is_redirected_and_nothing_else() {
    let program = Program::load();
    program.expect(Verdict::RedirectIpv6, "owned", &ipv6_to(OWNED_6));
    for (name, destination) in [
        ("other", OTHER_6),
        ("all nodes", ALL_NODES),
        ("solicited node, but no solicitation", fixtures::solicited_node(OWNED_6)),
        ("unspecified", Ipv6Addr::UNSPECIFIED),
    ] {
        program.expect(Verdict::PassNotOwned, name, &ipv6_to(destination));
    }
    let from_owned = fixtures::patched(ipv6_to(OTHER_6), ETHERNET_LEN + 8, &OWNED_6.octets());
    program.expect(Verdict::PassNotOwned, "from our address to another", &from_owned);
    for next_header in 0..=255 {
        let frame = fixtures::patched(ipv6_to(OWNED_6), ETHERNET_LEN + 6, &[next_header]);
        program.expect(Verdict::RedirectIpv6, "next header", &frame);
    }
    let header_only = fixtures::ipv6(OWNED_6, protocol::IPV6_NONE, &[]);
    program.expect(Verdict::RedirectIpv6, "header only", &header_only);
    program.expect(Verdict::RedirectIpv6, "padding", &fixtures::padded(header_only, 60));
}

#[test]
fn an_ipv6_header_that_contradicts_itself_is_passed() {
    let program = Program::load();
    let frame = ipv6_to(OWNED_6);
    let payload_len = frame.len() - ETHERNET_LEN - 40;
    let expect = |sound: bool, name: &str, at: usize, bytes: &[u8]| {
        let verdict = if sound { Verdict::RedirectIpv6 } else { Verdict::PassMalformed };
        program.expect(verdict, name, &fixtures::patched(frame.clone(), ETHERNET_LEN + at, bytes));
    };
    for version in 0..=15u8 {
        expect(version == 6, "version", 0, &[version << 4]);
    }
    for len in (0..=200u16).chain([u16::MAX]) {
        expect(usize::from(len) <= payload_len, "payload length", 4, &len.to_be_bytes());
    }
}

#[test]
fn neighbor_discovery_is_redirected_by_its_target() {
    let program = Program::load();
    let group = fixtures::solicited_node(OWNED_6);
    for (name, destination, icmp_type) in [
        ("solicitation to the group", group, SOLICITATION),
        ("solicitation to all nodes", ALL_NODES, SOLICITATION),
        ("advertisement of a duplicate", ALL_NODES, ADVERTISEMENT),
        ("advertisement to another", OTHER_6, ADVERTISEMENT),
    ] {
        program.expect(Verdict::RedirectNdp, name, &neighbor(destination, icmp_type, OWNED_6));
        program.expect(Verdict::PassNotOwned, name, &neighbor(destination, icmp_type, OTHER_6));
    }
    program.expect(Verdict::RedirectNdp, "probe for reachability", &neighbor(OWNED_6, SOLICITATION, OWNED_6));
    // The answer to a question of the engine's own is about another's address.
    program.expect(Verdict::RedirectIpv6, "answer", &neighbor(OWNED_6, ADVERTISEMENT, OTHER_6));

    for icmp_type in (0..=255).filter(|icmp_type| ![SOLICITATION, ADVERTISEMENT].contains(icmp_type)) {
        program.expect(Verdict::PassNotOwned, "other type", &neighbor(group, icmp_type, OWNED_6));
        program.expect(Verdict::RedirectIpv6, "other type to us", &neighbor(OWNED_6, icmp_type, OWNED_6));
    }
    let message = fixtures::neighbor_message(SOLICITATION, OWNED_6);
    let not_icmp = fixtures::ipv6(group, protocol::UDP, &message);
    program.expect(Verdict::PassNotOwned, "the same bytes in another protocol", &not_icmp);
    // RFC 6980 forbids fragments of neighbor discovery; other extension headers nobody puts there.
    let fragment_header = [protocol::ICMPV6, 0, 0, 0, 0, 0, 0, 0];
    let frame = fixtures::ipv6(group, protocol::IPV6_FRAGMENT, &[&fragment_header[..], &message].concat());
    program.expect(Verdict::PassNotOwned, "behind an extension header", &frame);
}

#[test]
fn neighbor_discovery_without_a_whole_target_is_passed() {
    let program = Program::load();
    let message = fixtures::neighbor_message(SOLICITATION, OWNED_6);
    for len in 0..=message.len() {
        // The rest is there, but as padding of the frame, not as part of the message.
        let frame = [&fixtures::ipv6(ALL_NODES, protocol::ICMPV6, &message[..len]), &message[len..]].concat();
        let verdict = match len {
            // Too short for ICMPv6: only the destination says whose it is.
            0..8 => Verdict::PassNotOwned,
            8..24 => Verdict::PassMalformed,
            _ => Verdict::RedirectNdp,
        };
        program.expect(verdict, "short message", &frame);
    }
}

#[test]
fn arp_is_redirected_by_target_and_by_sender() {
    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const THIRD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
    let program = Program::load();
    for (name, operation, sender, target, verdict) in [
        ("request for us", REQUEST, OTHER, OWNED, Verdict::RedirectArp),
        ("reply to us", REPLY, OTHER, OWNED, Verdict::RedirectArp),
        ("probe of our address", REQUEST, NOBODY, OWNED, Verdict::RedirectArp),
        ("another announces our address", REQUEST, OWNED, OWNED, Verdict::RedirectArp),
        ("another asks from our address", REQUEST, OWNED, OTHER, Verdict::RedirectArp),
        ("answer to our probe", REPLY, OWNED, NOBODY, Verdict::RedirectArp),
        ("unknown operation", 9, OTHER, OWNED, Verdict::RedirectArp),
        ("request for another", REQUEST, OTHER, THIRD, Verdict::PassNotOwned),
        ("reply to another", REPLY, OTHER, THIRD, Verdict::PassNotOwned),
        ("probe of another's address", REQUEST, NOBODY, OTHER, Verdict::PassNotOwned),
        ("announcement by another", REQUEST, OTHER, OTHER, Verdict::PassNotOwned),
    ] {
        let frame = fixtures::arp(operation, sender, target);
        program.expect(verdict, name, &frame);
        program.expect(verdict, name, &fixtures::padded(frame, 60));
    }
}

#[test]
fn arp_of_other_types_and_with_wrong_lengths_is_passed() {
    let program = Program::load();
    let frame = fixtures::arp(REQUEST, OTHER, OWNED);
    for (name, at, bytes, verdict) in [
        ("hardware type", 0, &[0u8, 6][..], Verdict::PassOtherProtocol),
        ("protocol type", 2, &[0x86, 0xdd], Verdict::PassOtherProtocol),
        ("hardware length", 4, &[8], Verdict::PassMalformed),
        ("protocol length", 5, &[16], Verdict::PassMalformed),
        ("no lengths", 4, &[0, 0], Verdict::PassMalformed),
    ] {
        program.expect(verdict, name, &fixtures::patched(frame.clone(), ETHERNET_LEN + at, bytes));
    }
}

#[test]
fn other_protocols_are_passed() {
    let program = Program::load();
    let payload = ipv4_to(OWNED)[ETHERNET_LEN..].to_vec();
    // PPPoE, MPLS, wake-on-LAN, lengths of 802.3 frames, IPv4 with its bytes swapped.
    for ethertype in [ethertype::LLDP, 0x8863, 0x8847, 0x0842, 0x0000, 0x0040, 0x05dc, 0x0008, 0xffff] {
        program.expect(Verdict::PassOtherProtocol, "EtherType", &fixtures::ethernet(ethertype, &payload));
    }
}

#[test]
fn every_truncation_of_every_kind_of_frame_is_passed() {
    let untagged = Program::load();
    let tagged = Program::load_with(vlans(5, 6), &[0]);
    let our_tags = [(ethertype::SERVICE_VLAN, 5), (ethertype::VLAN, 6)];
    let other_tags = [(ethertype::VLAN, 5), (ethertype::VLAN, 7)];
    let group = fixtures::solicited_node(OWNED_6);
    let with_options = fixtures::ipv4(OWNED, &[1; 40], b"x");
    let with_padding = fixtures::padded(fixtures::ipv4(OWNED, &[], b"x"), 60);
    let arp = fixtures::padded(fixtures::arp(REQUEST, OTHER, OWNED), 60);
    // Malformed if shorter than the third: for IP that is the length that its header says.
    for (name, frame, whole, verdict) in [
        ("IPv4", ipv4_to(OWNED), 14 + 20 + 15, Verdict::RedirectIpv4),
        ("IPv4 to another", ipv4_to(OTHER), 14 + 20 + 15, Verdict::PassNotOwned),
        ("IPv4 with options", with_options, 14 + 60 + 1, Verdict::RedirectIpv4),
        ("IPv4 with padding", with_padding, 14 + 20 + 1, Verdict::RedirectIpv4),
        ("IPv6", ipv6_to(OWNED_6), 14 + 40 + 15, Verdict::RedirectIpv6),
        ("IPv6 to another", ipv6_to(OTHER_6), 14 + 40 + 15, Verdict::PassNotOwned),
        ("solicitation", neighbor(group, SOLICITATION, OWNED_6), 14 + 40 + 32, Verdict::RedirectNdp),
        ("ARP", arp, 14 + 28, Verdict::RedirectArp),
        ("LLDP", fixtures::ethernet(ethertype::LLDP, &[0; 46]), 14, Verdict::PassOtherProtocol),
    ] {
        let expected = |len: usize, whole: usize, verdict| if len >= whole { verdict } else { Verdict::PassMalformed };
        // The kernel does not run a program over less than an Ethernet header.
        for len in ETHERNET_LEN..=frame.len() {
            untagged.expect(expected(len, whole, verdict), &format!("{name}, {len} bytes"), &frame[..len]);
        }
        let (ours, others) = (fixtures::tagged(&frame, &our_tags), fixtures::tagged(&frame, &other_tags));
        for len in ETHERNET_LEN..=ours.len() {
            tagged.expect(expected(len, whole + 8, verdict), &format!("{name}, tagged, {len} bytes"), &ours[..len]);
            let verdict = expected(len, 14 + 8, Verdict::PassOtherVlan);
            tagged.expect(verdict, &format!("{name}, other VLAN, {len} bytes"), &others[..len]);
        }
    }
}

#[test]
fn a_frame_is_ours_only_with_exactly_the_configured_tags() {
    const Q: u16 = ethertype::VLAN;
    const AD: u16 = ethertype::SERVICE_VLAN;
    // Priority and drop-eligible bits, which say nothing about the VLAN.
    const BITS: u16 = 0xf000;
    let no_tags: &[(u16, u16)] = &[];
    let stacks = [
        ("no tag", no_tags, Some((0, 0, 0))),
        ("priority tag", &[(Q, 0)], Some((0, 0, 0))),
        ("priority tag with bits", &[(Q, BITS)], Some((0, 0, 0))),
        ("two priority tags", &[(AD, 0), (Q, BITS)], Some((0, 0, 0))),
        ("VLAN 5", &[(Q, 5)], Some((5, 0, Q))),
        ("VLAN 5 with bits", &[(Q, 5 | BITS)], Some((5, 0, Q))),
        ("service VLAN 5", &[(AD, 5)], Some((5, 0, AD))),
        ("priority tag, then VLAN 5", &[(AD, 0), (Q, 5)], Some((5, 0, Q))),
        ("service VLAN 5, then priority tag", &[(AD, 5), (Q, BITS)], Some((5, 0, AD))),
        ("VLAN 6", &[(Q, 6)], Some((6, 0, Q))),
        ("VLAN 5 in 6", &[(AD, 6), (Q, 5)], Some((6, 5, AD))),
        ("VLAN 6 in 5", &[(Q, 5), (Q, 6)], Some((5, 6, Q))),
        ("VLAN 6 in service VLAN 5", &[(AD, 5), (Q, 6)], Some((5, 6, AD))),
        ("service VLAN 6 in 5", &[(AD, 5), (AD, 6)], None),
        ("three tags", &[(AD, 5), (Q, 6), (Q, 7)], None),
        ("three priority tags", &[(AD, 0), (Q, 0), (Q, 0)], None),
    ];
    let frames = [
        (ipv4_to(OWNED), Verdict::RedirectIpv4),
        (ipv6_to(OWNED_6), Verdict::RedirectIpv6),
        (fixtures::arp(REQUEST, OTHER, OWNED), Verdict::RedirectArp),
        (neighbor(fixtures::solicited_node(OWNED_6), SOLICITATION, OWNED_6), Verdict::RedirectNdp),
        (ipv4_to(OTHER), Verdict::PassNotOwned),
        (fixtures::ethernet(ethertype::LLDP, &[0; 46]), Verdict::PassOtherProtocol),
    ];
    // The last cannot be met: no frame has a second tag without a first.
    for configured in [(0, 0, 0), (5, 0, Q), (5, 0, AD), (5, 6, AD), (5, 6, Q), (0, 6, Q)] {
        let (outer_vlan, inner_vlan, outer_type) = configured;
        let config = SteerConfig { outer_vlan, inner_vlan, outer_type, ..SteerConfig::default() };
        let program = Program::load_with(config, &[0]);
        for (name, tags, means) in stacks {
            for (frame, verdict) in &frames {
                let expected = if means == Some(configured) { *verdict } else { Verdict::PassOtherVlan };
                program.expect(expected, &format!("{name} for {configured:?}"), &fixtures::tagged(frame, tags));
            }
        }
    }
}

#[test]
fn without_a_socket_at_the_queue_the_kernel_gets_what_is_owned() {
    let program = Program::load_with(SteerConfig::default(), &[1]);
    for frame in owned_frames() {
        program.expect(Verdict::PassNoSocket, "no socket at queue 0", &frame);
    }
    program.expect(Verdict::PassNotOwned, "not owned", &ipv4_to(OTHER));
}

#[test]
fn while_the_worker_beats_its_frames_are_redirected() {
    const MINUTE_NS: u64 = 60_000_000_000;
    let limit = SteerConfig { heartbeat_limit_ns: MINUTE_NS, ..SteerConfig::default() };
    let program = Program::load_with(limit, &[0]);
    let now = monotonic_ns();
    // The program's clock lags by up to a tick: a beat may seem to come from the future.
    for beat in [now, now.saturating_sub(MINUTE_NS / 2), now + MINUTE_NS, u64::MAX] {
        program.beat(0, beat);
        for frame in owned_frames() {
            assert!(program.verdict("alive", &frame).redirects(), "beat at {beat}, now {now}");
        }
    }
}

#[test]
fn when_the_worker_has_not_beaten_for_too_long_the_kernel_gets_what_is_owned() {
    let limit = SteerConfig { heartbeat_limit_ns: 1, ..SteerConfig::default() };
    let program = Program::load_with(limit, &[0]);
    for beat in [0, 1, monotonic_ns() - 1_000_000_000] {
        program.beat(0, beat);
        for frame in owned_frames() {
            program.expect(Verdict::PassStale, "stale", &frame);
        }
        program.expect(Verdict::PassNotOwned, "stale, not owned", &ipv4_to(OTHER));
        program.expect(Verdict::PassMalformed, "stale, malformed", &ipv4_to(OWNED)[..20]);
    }
    program.beat(0, monotonic_ns() + 60_000_000_000);
    program.expect(Verdict::RedirectIpv4, "alive again", &ipv4_to(OWNED));

    let without_socket = Program::load_with(limit, &[]);
    without_socket.expect(Verdict::PassNoSocket, "neither socket nor beat", &ipv4_to(OWNED));
}

#[test]
fn without_a_limit_no_beat_is_needed() {
    let program = Program::load();
    program.beat(0, 0);
    program.expect(Verdict::RedirectIpv4, "never beaten", &ipv4_to(OWNED));
}

#[test]
fn an_address_can_be_owned_and_given_back() {
    let program = Program::load();
    program.expect(Verdict::PassNotOwned, "not yet", &ipv4_to(OTHER));
    program.map(OWNED_IPV4).update(&OTHER.octets(), &[1], MapFlags::ANY).unwrap();
    program.expect(Verdict::RedirectIpv4, "owned", &ipv4_to(OTHER));
    program.map(OWNED_IPV4).delete(&OTHER.octets()).unwrap();
    program.expect(Verdict::PassNotOwned, "given back", &ipv4_to(OTHER));
}

#[test]
fn a_frame_in_several_buffers_is_measured_as_a_whole() {
    let program = Program::load();
    // What does not fit into a page lies in further buffers.
    for payload_len in [3_000, 5_000, 8_000] {
        let payload = vec![0x5a; payload_len];
        let frame = fixtures::ipv4(OWNED, &[], &payload);
        program.expect(Verdict::RedirectIpv4, "jumbo IPv4", &frame);
        program.expect(Verdict::PassMalformed, "jumbo IPv4, cut", &frame[..frame.len() - 1]);
        let frame = fixtures::ipv6(OWNED_6, protocol::UDP, &payload);
        program.expect(Verdict::RedirectIpv6, "jumbo IPv6", &frame);
        program.expect(Verdict::PassMalformed, "jumbo IPv6, cut", &frame[..frame.len() - 1]);
    }
}

#[test]
fn every_mutated_frame_is_counted_once_and_left_as_it_is() {
    let program = Program::load_with(vlans(5, 0), &[0]);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    program.listen(ALL_HOSTS, GroupUse::Copy);
    program.listen(ALL_NODES, GroupUse::Redirect);
    let too_long = fixtures::ipv4(ALL_HOSTS, &[], &[0; HEARD_MAX]);
    let groups = [ipv4_to(ALL_HOSTS), ipv6_to(ALL_NODES), too_long];
    let mut seen = [0u32; Verdict::COUNT];
    for _ in 0..1_000 {
        for frame in owned_frames().into_iter().chain(groups.clone()) {
            let mut frame = fixtures::tagged(&frame, &[(ethertype::VLAN, 5)]);
            for _ in 0..random(4) {
                let at = random(frame.len());
                frame[at] = random(256) as u8;
            }
            if random(8) == 0 {
                frame.truncate(ETHERNET_LEN + random(frame.len() - ETHERNET_LEN));
            }
            seen[program.verdict("mutated", &frame).index() as usize] += 1;
        }
        let _ = program.heard();
    }
    for verdict in Verdict::ALL {
        let possible = !matches!(verdict, Verdict::PassNoSocket | Verdict::PassStale | Verdict::DropSyn);
        assert_eq!(seen[verdict.index() as usize] > 0, possible, "{verdict:?} in {seen:?}");
    }
}
