//! Multicast groups, broadcasts and routers' advertisements: the `barewire` command beside two kernels, and a router made
//! by hand. Needs root.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use barewire_tests::client::Client;
use barewire_tests::lab::{Engine, Lab, PATIENCE, until};
use barewire_tests::netns::{PacketSocket, Veth, interface_index};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 7);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The Internet checksum (RFC 1071) of `parts`, each but the last of an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A frame of the router to a group with a message of ICMPv6, behind hop-by-hop options if there are any.
fn icmpv6(message: &[u8], to: Ipv6Addr, hop_limit: u8, options: &[u8]) -> Vec<u8> {
    let mac = [&[0x33, 0x33], &to.octets()[12..]].concat();
    icmpv6_between(&mac, message, (ROUTER, to), hop_limit, options)
}

/// The same of anybody to anybody, by way of the router to a MAC address.
fn icmpv6_between(
    mac: &[u8],
    message: &[u8],
    (from, to): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    options: &[u8],
) -> Vec<u8> {
    let (mut message, from, to) = (message.to_vec(), from.octets(), to.octets());
    let len = (message.len() as u32).to_be_bytes();
    let sum = checksum(&[&from, &to, &len, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&sum);
    let len = ((options.len() + message.len()) as u16).to_be_bytes();
    let next_header = if options.is_empty() { 58 } else { 0 };
    let header = [0x60, 0, 0, 0, len[0], len[1], next_header, hop_limit];
    let ethernet = [mac, &ROUTER_MAC[..], &[0x86, 0xdd]].concat();
    [&ethernet, &header[..], &from, &to, options, &message].concat()
}

/// A query of MLDv2, to be answered within a second (RFC 3810, section 5.1): a general one, or for one group.
fn mld_query(group: Option<Ipv6Addr>) -> Vec<u8> {
    let named = group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
    let message = [&[130, 0, 0, 0, 3, 232, 0, 0][..], &named, &[2, 125, 0, 0]].concat();
    icmpv6(&message, group.unwrap_or(ALL_NODES), 1, &[58, 0, 5, 2, 0, 0, 1, 0])
}

/// An advertisement of a default router for half an hour, with a prefix for addresses (RFC 4861, section 4.2).
fn advertisement(prefix: Ipv6Addr) -> Vec<u8> {
    let header = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let option = [3, 4, 64, 0xc0, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0];
    icmpv6(&[&header[..], &option, &prefix.octets()].concat(), ALL_NODES, 255, &[])
}

/// A general query of IGMPv3, to be answered within a second (RFC 3376, section 4.1).
fn igmp_query() -> Vec<u8> {
    let mut message = [0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    let mut header = [0x46, 0xc0, 0, 36, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 3, 224, 0, 0, 1, 0x94, 4, 0, 0];
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    let ethernet = [&[1, 0, 0x5e, 0, 0, 1], &ROUTER_MAC[..], &[8, 0]].concat();
    [&ethernet[..], &header, &message].concat()
}

/// Waits for a frame in which `wanted` finds something.
fn receive<T>(wire: &PacketSocket, what: &str, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> T {
    let (start, mut buffer) = (Instant::now(), vec![0; 2048]);
    while start.elapsed() < PATIENCE {
        if let Some(found) = wire.receive(&mut buffer, Duration::from_millis(100)).and_then(&mut wanted) {
            return found;
        }
    }
    panic!("no {what}");
}

/// The groups that a report of MLDv2 names, with what it tells of each, if the frame is one of the engine's.
fn mld_report(frame: &[u8]) -> Option<Vec<(u8, Ipv6Addr)>> {
    let is_report = frame.len() > 70 && frame[12..14] == [0x86, 0xdd] && frame[20] == 0 && frame[62] == 143;
    let records = frame.get(70..).filter(|_| is_report)?.chunks_exact(20);
    Some(records.map(|record| (record[0], Ipv6Addr::from(*record[4..].first_chunk().unwrap()))).collect())
}

/// Sends a datagram from the peer's kernel to a group or a broadcast address, port 9.
fn send(lab: &Lab, to: &str) {
    lab.veth.far.enter(|| {
        let socket =
            if to.starts_with('[') { Client::bind(("::", 0)).unwrap() } else { Client::bind((Lab::PEER, 0)).unwrap() };
        socket.set_broadcast(true).unwrap_or(());
        socket.send_to(b"to all of you", to).unwrap();
    });
}

fn delivered(engine: &Engine<'_>) -> u64 {
    engine.metrics().sum("udp_delivered_total", &[])
}

/// Switches IPv6 on at the peer, whose link-local address is usable at once.
fn with_ipv6() -> Lab {
    with_queues_of_ipv6(1)
}

fn with_queues_of_ipv6(queues: u32) -> Lab {
    let lab = Lab::new(queues);
    lab.far("sysctl", &["-q", "-w", "net.ipv6.conf.far0.accept_dad=0", "net.ipv6.conf.far0.disable_ipv6=0"]);
    lab
}

#[test]
fn udp_to_a_joined_group_is_delivered_whether_the_kernel_is_in_it_or_not() {
    let lab = Lab::new(1);
    let engine = lab.start(&["--discard-port", "9", "--join", "239.1.2.3"]);
    lab.veth.far.ip(&["route", "add", "224.0.0.0/4", "dev", Veth::FAR]);
    send(&lab, "239.1.2.4:9");
    send(&lab, "239.1.2.3:9");
    engine.metrics_when("delivered", |m| m.sum("udp_delivered_total", &[]) == 1);
    let kernels = lab.veth.near.enter(|| {
        let socket = Client::bind((GROUP, 9)).unwrap();
        socket.join_multicast_v4(&GROUP, &Lab::KERNEL).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    });
    let mut sent = 1;
    until("the kernel has its copy", || {
        send(&lab, "239.1.2.3:9");
        sent += 1;
        kernels.recv(&mut [0; 100]).ok()
    });
    engine.metrics_when("all delivered", |m| m.sum("udp_delivered_total", &[]) == sent);
}

#[test]
fn udp_to_a_joined_group_of_ipv6_is_delivered() {
    let lab = with_ipv6();
    let engine = lab.start(&["--discard-port", "9", "--join", "ff15::7", "--address", "fd00::2/64"]);
    let index = lab.veth.far.enter(|| interface_index(Veth::FAR));
    lab.veth.far.ip(&["-6", "route", "add", "ff15::/16", "dev", Veth::FAR, "table", "local"]);
    send(&lab, &format!("[ff15::7%{index}]:9"));
    engine.metrics_when("delivered", |m| m.sum("udp_delivered_total", &[]) == 1);
}

#[test]
fn broadcasts_are_delivered_only_with_the_flag_and_to_the_kernel_in_any_case() {
    for (options, expected) in [(&["--discard-port", "9"][..], 0), (&["--discard-port", "9", "--broadcast"], 2)] {
        let lab = Lab::new(1);
        let engine = lab.start(options);
        let kernels = lab.veth.near.enter(|| Client::bind(("0.0.0.0", 9)).unwrap());
        kernels.set_read_timeout(Some(PATIENCE)).unwrap();
        for to in ["255.255.255.255:9", "10.0.0.255:9"] {
            send(&lab, to);
            assert_eq!(kernels.recv(&mut [0; 100]).unwrap(), 13, "{to}");
        }
        engine.metrics_when("delivered", |m| m.sum("udp_delivered_total", &[]) == expected);
        // Whatever comes later has come by now.
        lab.ping(Lab::ENGINE, 3);
        assert_eq!(delivered(&engine), expected);
    }
}

#[test]
fn queries_of_routers_are_answered_with_the_engines_groups() {
    let lab = with_ipv6();
    let options = ["--join", "239.1.2.3", "--join", "ff15::7", "--address", "fd00::2/64"];
    let _engine = lab.start(&options);
    let wire = lab.veth.far_socket();
    // What is said uninvited at the start is over by then.
    std::thread::sleep(Duration::from_secs(2));
    wire.send(&mld_query(None));
    let solicited: Ipv6Addr = "ff02::1:ff00:2".parse().unwrap();
    receive(&wire, "report of MLD", |frame| {
        let groups = mld_report(frame)?;
        (groups.contains(&(2, solicited)) && groups.contains(&(2, GROUP_V6))).then_some(())
    });
    // RFC 3810, section 5.1.15: to the group itself.
    wire.send(&mld_query(Some(solicited)));
    receive(&wire, "report of MLD for one group", |frame| (mld_report(frame)? == [(2, solicited)]).then_some(()));
    wire.send(&igmp_query());
    receive(&wire, "report of IGMP", |frame| {
        let record = frame.get(46..54)?;
        (frame[38] == 0x22 && record[0] == 2 && record[4..] == GROUP.octets()).then_some(())
    });
}

#[test]
fn an_echo_request_to_the_group_of_an_address_is_answered() {
    let lab = with_ipv6();
    let _engine = lab.start(&["--address", "fd00::2/64"]);
    let index = lab.veth.far.enter(|| interface_index(Veth::FAR));
    lab.far("ping", &["-6", "-c", "1", "-W", "5", &format!("ff02::1:ff00:2%{index}")]);
}

#[test]
fn an_address_of_a_routers_prefix_answers_the_kernel() {
    for flag in ["--slaac", "--slaac=temporary"] {
        let lab = with_ipv6();
        let engine = lab.start(&["--accept-ra", flag]);
        lab.veth.far.ip(&["-6", "address", "add", "2001:db8::3/64", "dev", Veth::FAR, "nodad"]);
        let wire = lab.veth.far_socket();
        wire.send(&advertisement("2001:db8::".parse().unwrap()));
        // An announcement tells of each address that was found free.
        let mut addresses = Vec::new();
        receive(&wire, "announcement", |frame| {
            let is_announcement = frame.len() >= 86 && frame[12..14] == [0x86, 0xdd] && frame[54] == 136;
            let target = Ipv6Addr::from(*frame.get(62..)?.first_chunk().filter(|_| is_announcement)?);
            if target.segments()[..2] == [0x2001, 0xdb8] && !addresses.contains(&target) {
                addresses.push(target);
            }
            (addresses.len() == if flag == "--slaac" { 1 } else { 2 }).then_some(())
        });
        for address in addresses {
            lab.far("ping", &["-6", "-c", "3", "-i", "0.01", "-W", "5", &address.to_string()]);
        }
        assert!(engine.stderr().contains("a router told of its prefix"), "{}", engine.stderr());
    }
}

/// Whoever hears of a router, all make the same of it: none has to wait until one tells it by its own queue.
#[test]
fn what_a_router_says_reaches_every_worker() {
    const OURS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const AWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
    const HOPS: u8 = 33;
    let message = [&[134, 0, 0, 0, HOPS, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &ROUTER_MAC].concat();
    // To all it is copied to the first worker; to one host it comes to the worker of its queue.
    for (to_one, told_on) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let lab = with_queues_of_ipv6(2);
        let engine = lab.start(&["--accept-ra", "--address", &format!("{OURS}/64"), "--idle", "poll"]);
        let (wire, mac) = (lab.veth.far_socket(), Veth::NEAR_MAC);
        lab.send_on_queue(told_on, 2);
        wire.send(&if to_one {
            icmpv6_between(&mac, &message, (ROUTER, OURS), 255, &[])
        } else {
            icmpv6(&message, ALL_NODES, 255, &[])
        });
        for queue in [0, 1] {
            lab.send_on_queue(queue, 2);
            // From beyond the router, so that only its word says where the answer goes.
            let ping = icmpv6_between(&mac, &[128, 0, 0, 0, 0, 1, 0, queue as u8], (AWAY, OURS), 64, &[]);
            let mut buffer = vec![0; 2048];
            until("the answer goes back by the router", || {
                wire.send(&ping);
                let frame = wire.receive(&mut buffer, Duration::from_millis(100))?;
                let is_reply = frame.len() >= 62 && frame[12..14] == [0x86, 0xdd] && frame[54] == 129;
                (is_reply && frame[61] == queue as u8).then(|| {
                    assert_eq!((&frame[..6], frame[21]), (&ROUTER_MAC[..], HOPS), "{to_one} {told_on} {queue}");
                })
            });
            let of_queue = format!("queue=\"{queue}\"");
            engine.metrics_when("the worker of the queue answered", |metrics| {
                metrics.sum("icmp_echoes_answered_total", &[&of_queue]) > 0
            });
        }
    }
}

/// A real NIC lets in only the groups that somebody on the host has asked it for (packet(7)).
#[test]
fn the_nic_is_asked_for_the_engines_groups_as_long_as_it_runs() {
    let lab = with_ipv6();
    // A line for each group: index, name, users, users for good, address.
    let asked = || {
        let text = lab.veth.near.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap());
        let of_near = text.lines().filter(|line| line.split_whitespace().nth(1) == Some(Veth::NEAR));
        let macs = of_near.filter_map(|line| line.split_whitespace().last().map(str::to_owned));
        macs.collect::<Vec<_>>()
    };
    let groups = [GROUP.to_string(), GROUP_V6.to_string()];
    let engine = lab.start(&["--join", &groups[0], "--join", &groups[1], "--address", "fd00::12:3456/64"]);
    for mac in ["01005e010203", "333300000007", "333300000001", "3333ff123456"] {
        assert!(asked().iter().any(|known| known == mac), "{mac} is not among {:?}", asked());
    }
    drop(engine);
    assert!(!asked().iter().any(|known| known == "01005e010203"), "{:?}", asked());
}
