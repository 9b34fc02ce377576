//! The loader of the XDP program on a veth pair: what it attaches, what it refuses and with which words, and
//! that it leaves nothing behind.
//!
//! Needs root. Each test has a network namespace of its own, which ends with its thread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::time::Duration;

use barewire::base::Instant;
use barewire::steer::{
    GroupUse, HEARD_MAX, MAX_ADDRESSES, MAX_GROUPS, Steer, SteerConfig, SteerError, Verdict, XdpMode,
};
use barewire_tests::client::Client;
use barewire_tests::fixtures;
use barewire_tests::kernel::{
    capability, enter_new_network_namespace, keep_only_capabilities, monotonic_ns, unbound_xdp_socket,
};
use barewire_tests::netns::PacketSocket;
use barewire_tests::test_run::{OWNED, OWNED_6, Program};

const QUEUES: u32 = 2;
const INTERFACE: &str = "bw-steer0";
const PEER: &str = "bw-steer1";

/// Runs `test` with the index of an interface of [`QUEUES`] queues that is up, alone in a network namespace.
fn with_interface(test: impl FnOnce(u32) + Send) {
    let result = std::thread::scope(|scope| {
        let run = || {
            enter_new_network_namespace();
            let queues = QUEUES.to_string();
            let pair = ["link", "add", INTERFACE, "numrxqueues", &queues, "numtxqueues", &queues, "type", "veth"];
            let peer = ["peer", "name", PEER, "numrxqueues", &queues, "numtxqueues", &queues];
            ip(&[&pair[..], &peer].concat());
            ip(&["link", "set", INTERFACE, "up"]);
            ip(&["link", "set", PEER, "up"]);
            test(ifindex());
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new("ip").args(arguments).output().expect("`ip` runs: deploy/setup.sh test installs it");
    assert!(status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// The index stands first: "2: bw-steer0@...".
fn ifindex() -> u32 {
    let line = ip(&["-o", "link", "show", "dev", INTERFACE]);
    line.split(':').next().and_then(|index| index.parse().ok()).unwrap_or_else(|| panic!("an index in {line}"))
}

/// What `ip` says of XDP programs on the interface, "xdp", "xdpgeneric" or nothing.
fn attached() -> Option<String> {
    let line = ip(&["-o", "-d", "link", "show", "dev", INTERFACE]);
    line.split_whitespace().find(|word| word.starts_with("xdp") || word.starts_with("prog/xdp")).map(Into::into)
}

fn load(ifindex: u32, mode: XdpMode) -> Result<Steer, SteerError> {
    Steer::load(INTERFACE, ifindex, mode, QUEUES, SteerConfig::default())
}

fn error(result: Result<Steer, SteerError>) -> SteerError {
    result.err().expect("it is refused")
}

#[test]
fn the_program_is_attached_while_steer_lives() {
    with_interface(|ifindex| {
        assert_eq!(attached(), None);
        for (mode, word) in [(XdpMode::Native, "xdp"), (XdpMode::Generic, "xdpgeneric"), (XdpMode::Native, "xdp")] {
            let steer = load(ifindex, mode).expect("attached");
            assert_eq!(attached().as_deref(), Some(word));
            drop(steer);
            assert_eq!(attached(), None, "{mode:?}");
        }
    });
}

#[test]
fn a_program_that_is_there_already_is_left_alone_and_told() {
    with_interface(|ifindex| {
        let _first = load(ifindex, XdpMode::Native).expect("attached");
        for mode in [XdpMode::Native, XdpMode::Generic] {
            let error = error(load(ifindex, mode));
            assert!(matches!(error, SteerError::OtherProgram { .. }), "{mode:?}: {error}");
            assert!(error.to_string().contains("ip link set dev bw-steer0 xdp off"), "{error}");
            assert!(!error.is_native_unsupported());
        }
        assert_eq!(attached().as_deref(), Some("xdp"));
    });
}

#[test]
fn an_interface_that_is_not_there_is_told() {
    with_interface(|ifindex| {
        let error = error(load(ifindex + 1000, XdpMode::Native));
        assert!(matches!(error, SteerError::NoSuchInterface { .. }), "{error}");
    });
}

#[test]
fn a_driver_without_native_mode_is_a_reason_to_fall_back() {
    with_interface(|_| {
        // The loopback: every network namespace has one, and it always has this index.
        let load = |mode| Steer::load("lo", 1, mode, 1, SteerConfig::default());
        let error = error(load(XdpMode::Native));
        assert!(error.is_native_unsupported(), "{error}");
        assert!(error.to_string().contains("--mode generic"), "{error}");
        assert!(load(XdpMode::Generic).is_ok());
    });
}

#[test]
fn a_peer_with_more_queues_than_the_interface_is_a_reason_to_fall_back() {
    with_interface(|_| {
        let pair =
            "link add bw-steer2 numrxqueues 1 numtxqueues 1 type veth peer name bw-steer3 numtxqueues 4 numrxqueues 4";
        ip(&pair.split(' ').collect::<Vec<_>>());
        let line = ip(&["-o", "link", "show", "dev", "bw-steer2"]);
        let ifindex = line.split(':').next().and_then(|index| index.parse().ok()).expect("an index");
        let error = error(Steer::load("bw-steer2", ifindex, XdpMode::Native, 1, SteerConfig::default()));
        assert!(error.is_native_unsupported(), "{error}");
        assert!(error.to_string().contains("queues"), "{error}");
    });
}

#[test]
fn a_jumbo_mtu_is_no_obstacle_on_veth() {
    with_interface(|ifindex| {
        // It would be (ERANGE) for a program that does not know frames in several buffers.
        for interface in [INTERFACE, PEER] {
            ip(&["link", "set", interface, "mtu", "9000"]);
        }
        load(ifindex, XdpMode::Native).expect("attached");
    });
}

#[test]
fn three_capabilities_are_enough() {
    with_interface(|ifindex| {
        keep_only_capabilities(&[capability::NET_ADMIN, capability::NET_RAW, capability::BPF]);
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        steer.own(OWNED.into()).expect("owned");
        steer.set_socket(0, unbound_xdp_socket().as_raw_fd()).expect("set");
        steer.heartbeat(0).expect("a writer").beat(Instant::from_ns(1)).expect("beaten");
        steer.listen(Ipv4Addr::BROADCAST.into(), GroupUse::Copy).expect("listened to");
        steer.heard().expect("a reader").read(&mut [0; HEARD_MAX]);
        steer.verdicts().expect("counts");
    });
}

#[test]
fn without_capabilities_the_error_names_them() {
    with_interface(|ifindex| {
        // aya tries once in a process what the kernel can, and takes a refusal for a lack.
        drop(load(ifindex, XdpMode::Native).expect("attached"));
        for kept in [&[capability::NET_ADMIN][..], &[]] {
            keep_only_capabilities(kept);
            let error = error(load(ifindex, XdpMode::Native));
            assert!(matches!(error, SteerError::Permission { .. }), "{kept:?}: {error}");
            assert!(error.to_string().contains("CAP_BPF"), "{error}");
        }
    });
}

#[test]
fn impossible_vlans_are_refused_before_anything_is_loaded() {
    for (outer_vlan, inner_vlan) in [(0, 5), (4095, 0), (5, 4095), (u16::MAX, u16::MAX)] {
        let config = SteerConfig { outer_vlan, inner_vlan, ..SteerConfig::default() };
        let error = error(Steer::load(INTERFACE, u32::MAX, XdpMode::Native, 1, config));
        assert!(matches!(error, SteerError::Vlan { .. }), "{error}");
    }
    let config = SteerConfig { outer_vlan: 5, outer_type: 0x9100, ..SteerConfig::default() };
    let error = error(Steer::load(INTERFACE, u32::MAX, XdpMode::Native, 1, config));
    assert!(matches!(error, SteerError::VlanType(0x9100)), "{error}");
}

#[test]
fn addresses_of_hosts_can_be_owned_and_no_others() {
    with_interface(|ifindex| {
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        for address in [IpAddr::V4(OWNED), IpAddr::V6(OWNED_6)] {
            steer.own(address).expect("owned");
            steer.own(address).expect("owned twice");
            steer.disown(address).expect("given back");
            steer.disown(address).expect("given back twice");
        }
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
            let error = steer.own(address.parse().unwrap()).expect_err("refused");
            assert!(matches!(error, SteerError::NotUnicast { .. }), "{error}");
        }
        for index in 0..MAX_ADDRESSES {
            steer.own(Ipv4Addr::from(0x0a00_0001 + index).into()).expect("there is room");
        }
        let error = steer.own(OWNED.into()).expect_err("no room");
        assert!(matches!(error, SteerError::TooManyAddresses), "{error}");
        steer.own(Ipv6Addr::LOCALHOST.into()).expect_err("not unicast, whatever the room");
    });
}

#[test]
fn groups_can_be_listened_to_and_what_all_hosts_hear_is_not_taken_from_the_kernel() {
    with_interface(|ifindex| {
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        // Whether the engine may have it alone.
        for (address, alone) in [
            ("224.0.0.251", true),
            ("239.1.2.3", true),
            ("ff02::fb", true),
            ("ff02::1:ff00:1", true),
            ("::ffff:239.1.2.3", true),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("192.0.2.255", false),
            ("ff02::1", false),
            ("ff01::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            steer.listen(address, GroupUse::Copy).expect("copied");
            match steer.listen(address, GroupUse::Redirect) {
                Ok(()) => assert!(alone, "{address}"),
                Err(error) => assert!(!alone && matches!(error, SteerError::KernelsToo { .. }), "{error}"),
            }
            steer.listen(address, GroupUse::Copy).expect("copied again");
            steer.ignore(address).expect("ignored");
            steer.ignore(address).expect("ignored twice");
        }
        for address in ["0.0.0.0", "127.0.0.1", "::", "::1", "2001:db8::1"] {
            let error = steer.listen(address.parse().unwrap(), GroupUse::Copy).expect_err("refused");
            assert!(matches!(error, SteerError::NotAGroup { .. }), "{error}");
        }
        for index in 0..MAX_GROUPS {
            steer.listen(Ipv4Addr::from(0xef00_0000 + index).into(), GroupUse::Redirect).expect("there is room");
        }
        let error = steer.listen(Ipv4Addr::BROADCAST.into(), GroupUse::Copy).expect_err("no room");
        assert!(matches!(error, SteerError::TooManyGroups), "{error}");
    });
}

#[test]
fn what_all_hosts_hear_is_heard_by_the_kernel_and_read_from_the_ring() {
    with_interface(|ifindex| {
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        steer.listen(Ipv4Addr::BROADCAST.into(), GroupUse::Copy).expect("listened to");
        let mut heard = steer.heard().expect("a reader");
        assert!(steer.heard().is_none(), "a ring has one reader");
        let mut buffer = [0; HEARD_MAX];
        assert_eq!(heard.read(&mut buffer), None);

        ip(&["addr", "add", "192.0.2.1/24", "dev", INTERFACE]);
        let kernel = Client::bind("0.0.0.0:4000").unwrap();
        kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let peer = PacketSocket::new(PEER);
        // What else the two ends say to each other, to groups that nobody listens to, does not disturb.
        let frames = [1usize, 1_400].map(|len| {
            let datagram = fixtures::patched(fixtures::udp(&vec![0x5a; len]), 2, &4000u16.to_be_bytes());
            fixtures::to_all(fixtures::ipv4(Ipv4Addr::BROADCAST, &[], &datagram))
        });
        for frame in frames.map(with_ipv4_checksum) {
            peer.send(&frame);
            let len = kernel.recv(&mut buffer).expect("the kernel has it");
            assert_eq!(len, frame.len() - fixtures::ETHERNET_LEN - 20 - 8);
            let copy = heard.read(&mut buffer).expect("and the engine a copy");
            assert_eq!(copy.frame, frame);
            assert!(copy.queue < QUEUES, "the one of the core that sent it");
        }
        assert_eq!(heard.read(&mut buffer), None);
        assert_eq!(steer.verdicts().expect("counts")[Verdict::PassCopied.index() as usize], 2);
    });
}

/// The kernel looks at the header's checksum.
fn with_ipv4_checksum(frame: Vec<u8>) -> Vec<u8> {
    let header = frame[fixtures::ETHERNET_LEN..][..20].as_chunks::<2>().0;
    let mut sum: u32 = header.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum + (sum >> 16)) as u16);
    fixtures::patched(frame, fixtures::ETHERNET_LEN + 10, &checksum.to_be_bytes())
}

#[test]
fn sockets_and_heartbeats_are_for_queues_that_there_are() {
    with_interface(|ifindex| {
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        let socket = unbound_xdp_socket();
        for queue in 0..QUEUES {
            steer.set_socket(queue, socket.as_raw_fd()).expect("set");
            steer.unset_socket(queue).expect("unset");
            steer.unset_socket(queue).expect("unset twice");
            let mut heartbeat = steer.heartbeat(queue).expect("a writer");
            // It belongs to the worker's thread.
            let beat = move || heartbeat.beat(Instant::from_ns(monotonic_ns()));
            std::thread::spawn(beat).join().unwrap().expect("beaten");
        }
        let refused = [
            steer.set_socket(QUEUES, socket.as_raw_fd()).err(),
            steer.unset_socket(QUEUES).err(),
            steer.heartbeat(QUEUES).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(SteerError::NoSuchQueue { .. })), "{error:?}");
        }
    });
}

#[test]
fn each_queue_has_its_own_socket_and_heartbeat() {
    with_interface(|ifindex| {
        // The kernel runs a program as if on a queue only where one is attached.
        let _attached = load(ifindex, XdpMode::Native).expect("attached");
        let frame = fixtures::ipv4(OWNED, &[], b"x");

        let program = Program::load_with(SteerConfig::default(), &[1]);
        assert_eq!(program.verdict_on(ifindex, 0, "queue 0", &frame), Verdict::PassNoSocket);
        assert_eq!(program.verdict_on(ifindex, 1, "queue 1", &frame), Verdict::RedirectIpv4);

        let limit = SteerConfig { heartbeat_limit_ns: 1_000_000_000, ..SteerConfig::default() };
        let program = Program::load_with(limit, &[0, 1]);
        program.beat(0, monotonic_ns() + 60_000_000_000);
        assert_eq!(program.verdict_on(ifindex, 0, "beating queue", &frame), Verdict::RedirectIpv4);
        assert_eq!(program.verdict_on(ifindex, 1, "queue that never beat", &frame), Verdict::PassStale);
    });
}

#[test]
fn frames_that_arrive_are_counted_and_reach_the_kernel() {
    with_interface(|ifindex| {
        let mut steer = load(ifindex, XdpMode::Native).expect("attached");
        steer.own(OWNED.into()).expect("owned");
        // The peer asks for an address that is owned but that no socket serves, so the kernel gets it.
        ip(&["addr", "add", "192.0.2.2/24", "dev", PEER]);
        let before = steer.verdicts().expect("counts");
        let _ = Command::new("ping").args(["-c", "1", "-W", "1", &OWNED.to_string()]).output().expect("ping runs");
        for _ in 0..100 {
            let after = steer.verdicts().expect("counts");
            let index = Verdict::PassNoSocket.index() as usize;
            if after[index] > before[index] {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no ARP request was counted: {:?}", steer.verdicts());
    });
}
