//! The XDP program's guard against floods of connection requests, run by the kernel over single frames. Needs root.

use std::net::{Ipv4Addr, Ipv6Addr};

use barewire_ebpf::{SteerConfig, Verdict};
use barewire_tests::fixtures::{self, ETHERNET_LEN};
use barewire_tests::kernel::monotonic_ns;
use barewire_tests::test_run::{OTHER, OWNED, OWNED_6, Program};

const TCP: u8 = 6;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const SECOND_NS: u64 = 1_000_000_000;
/// Where the protocol and the flags with offset stand in a frame with IPv4.
const PROTOCOL: usize = ETHERNET_LEN + 9;
const FRAGMENT: usize = ETHERNET_LEN + 6;

/// A TCP header without options (RFC 9293, section 3.1).
fn segment(source_port: u16, flags: u8) -> Vec<u8> {
    let mut bytes = source_port.to_be_bytes().to_vec();
    bytes.extend(7u16.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

fn ipv4(destination: Ipv4Addr, options: &[u8], segment: &[u8]) -> Vec<u8> {
    fixtures::patched(fixtures::ipv4(destination, options, segment), PROTOCOL, &[TCP])
}

/// A connection request from a port, over IPv4 and over IPv6.
fn requests(port: u16) -> [(Vec<u8>, Verdict); 2] {
    [
        (ipv4(OWNED, &[], &segment(port, SYN)), Verdict::RedirectIpv4),
        (fixtures::ipv6(OWNED_6, TCP, &segment(port, SYN)), Verdict::RedirectIpv6),
    ]
}

fn guarded() -> Program {
    let program = Program::load();
    program.guard(0, monotonic_ns() + 60 * SECOND_NS);
    program
}

#[test]
fn a_request_gets_through_when_it_comes_again() {
    let program = guarded();
    for port in 1000..1100 {
        for (request, redirected) in requests(port) {
            program.expect(Verdict::DropSyn, "first", &request);
            program.expect(redirected, "again", &request);
            program.expect(redirected, "and again", &request);
        }
    }
}

#[test]
fn requests_that_differ_in_one_field_are_others() {
    let program = guarded();
    let request = ipv4(OWNED, &[], &segment(1000, SYN));
    program.expect(Verdict::DropSyn, "first", &request);
    let source = ETHERNET_LEN + 12;
    let port = ETHERNET_LEN + 20;
    for (at, bytes) in
        [(source, [10, 0, 0, 1]), (source, [192, 0, 2, 98]), (port, [0x03, 0xe9, 0, 7]), (port, [0x03, 0xe8, 0, 9])]
    {
        program.expect(Verdict::DropSyn, "another", &fixtures::patched(request.clone(), at, &bytes));
    }
    let request = fixtures::ipv6(OWNED_6, TCP, &segment(1000, SYN));
    program.expect(Verdict::DropSyn, "first over IPv6", &request);
    let source = ETHERNET_LEN + 8;
    for (at, byte) in [(source, 0xfd), (source + 7, 1), (source + 8, 1), (source + 15, 1)] {
        program.expect(Verdict::DropSyn, "another over IPv6", &fixtures::patched(request.clone(), at, &[byte]));
    }
    program.expect(Verdict::RedirectIpv6, "again over IPv6", &request);
}

#[test]
fn only_first_requests_are_refused() {
    let program = guarded();
    for flags in [ACK, SYN | ACK, RST, SYN | RST, SYN | FIN, FIN | ACK, 0] {
        program.expect(Verdict::RedirectIpv4, "no request", &ipv4(OWNED, &[], &segment(1000, flags)));
    }
    program.expect(Verdict::RedirectIpv4, "UDP", &fixtures::ipv4(OWNED, &[], &segment(1000, SYN)));
    program.expect(Verdict::RedirectIpv4, "options", &ipv4(OWNED, &[1; 4], &segment(1000, SYN)));
    program.expect(Verdict::RedirectIpv4, "no whole header", &ipv4(OWNED, &[], &segment(1000, SYN)[..19]));
    let request = ipv4(OWNED, &[], &segment(1000, SYN));
    for fragment in [[0x20, 0], [0, 1], [0x3f, 0xff]] {
        program.expect(Verdict::RedirectIpv4, "fragment", &fixtures::patched(request.clone(), FRAGMENT, &fragment));
    }
    program.expect(Verdict::PassNotOwned, "the kernel's", &ipv4(OTHER, &[], &segment(1000, SYN)));
    let not_to_be_fragmented = fixtures::patched(request, FRAGMENT, &[0x40, 0]);
    program.expect(Verdict::DropSyn, "as everybody sends it", &not_to_be_fragmented);
}

#[test]
fn a_guard_that_is_down_refuses_nothing_and_one_of_a_dead_worker_neither() {
    let never = Program::load();
    let past = Program::load();
    past.guard(0, monotonic_ns() - SECOND_NS);
    let other_queue = Program::load();
    other_queue.guard(1, monotonic_ns() + 60 * SECOND_NS);
    for program in [never, past, other_queue] {
        requests(1000).iter().for_each(|(request, redirected)| program.expect(*redirected, "no guard", request));
    }
    let dead = Program::load_with(SteerConfig { heartbeat_limit_ns: 1, ..SteerConfig::default() }, &[0]);
    dead.guard(0, monotonic_ns() + 60 * SECOND_NS);
    dead.beat(0, monotonic_ns() - SECOND_NS);
    requests(1000).iter().for_each(|(request, _)| dead.expect(Verdict::PassStale, "the kernel may answer", request));
}

#[test]
fn a_host_is_remembered_through_a_flood_and_the_flood_is_not() {
    let program = guarded();
    let hosts = 50;
    let host = |n: u16| ipv4(OWNED, &[], &segment(n, SYN));
    (0..hosts).for_each(|n| program.expect(Verdict::DropSyn, "host", &host(n)));
    let flood = ipv4(OWNED, &[], &segment(40_000, SYN));
    let mut let_through = 0;
    for n in 0..400u32 {
        let source = Ipv4Addr::from(0x0a00_0000 | n).octets();
        let request = fixtures::patched(flood.clone(), ETHERNET_LEN + 12, &source);
        let_through += u32::from(program.verdict("flood", &request).redirects());
    }
    assert!(let_through <= 4, "{let_through} of the flood");
    let known = (0..hosts).filter(|n| program.verdict("host again", &host(*n)).redirects()).count();
    assert!(known >= 48, "{known} of {hosts}");
}

#[test]
fn an_address_of_another_host_with_the_same_end_is_another() {
    let program = guarded();
    let from = |source: Ipv6Addr| {
        let request = fixtures::ipv6(OWNED_6, TCP, &segment(1000, SYN));
        fixtures::patched(request, ETHERNET_LEN + 8, &source.octets())
    };
    for subnet in 0..64 {
        let host = Ipv6Addr::new(0x2001, 0xdb8, 0, subnet, 0, 0, 0, 1);
        program.expect(Verdict::DropSyn, "first", &from(host));
        program.expect(Verdict::RedirectIpv6, "again", &from(host));
    }
}
