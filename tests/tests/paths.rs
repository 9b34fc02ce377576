//! What the engine makes of paths that take less than its link, with routers and hosts that are kernels. Needs root.

use std::net::Ipv4Addr;
use std::time::Duration;

use barewire_tests::client::Client;
use barewire_tests::lab::{Lab, PATIENCE};
use barewire_tests::netns::{Namespace, Veth, run};

/// A host behind the lab's peer, which is its router.
///
/// ```text
///   client0 10.1.0.2 -- 10.1.0.1 far1   far0 10.0.0.3 -- 10.0.0.2 engine
/// ```
struct Behind {
    lab: Lab,
    client: Namespace,
}

impl Behind {
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

    /// With so many queues on either link, and a router that passes no packet on to the client that is longer than `mtu`.
    fn new(queues: u32, mtu: u32) -> Self {
        let lab = Lab::new(queues);
        lab.veth.without_offloads();
        let client = Namespace::new("client");
        let (router, queues) = (&lab.veth.far, queues.to_string());
        let pair = ["numrxqueues", &queues, "numtxqueues", &queues, "type", "veth", "peer", "name", "client0"];
        let other = ["numrxqueues", &queues, "numtxqueues", &queues, "netns", client.name()];
        router.ip(&[&["link", "add", "far1"][..], &pair, &other].concat());
        router.ip(&["address", "add", "10.1.0.1/24", "dev", "far1"]);
        router.ip(&["link", "set", "far1", "up"]);
        client.ip(&["address", "add", "10.1.0.2/24", "dev", "client0"]);
        client.ip(&["link", "set", "client0", "up"]);
        client.ip(&["route", "add", "default", "via", "10.1.0.1"]);
        router.ip(&["route", "add", "10.1.0.2/32", "dev", "far1", "mtu", "lock", &mtu.to_string()]);
        router.enter(|| {
            for (name, value) in [("ip_forward", "1"), ("icmp_ratelimit", "0")] {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
            }
        });
        Self { lab, client }
    }
}

/// Has the router send on the queue of the core that it runs on. So a request takes the queue of the client's core, and an
/// error about the answer that of the worker's core, as the kernel does all that where it is called.
fn send_on_queue_of_core(router: &Namespace) {
    for queue in 0..2 {
        let write = format!("echo {} > /sys/class/net/{}/queues/tx-{queue}/xps_cpus", 1 << queue, Veth::FAR);
        run("ip", &["netns", "exec", router.name(), "sh", "-c", &write]);
    }
}

/// A NIC chooses the queue of an error by the header that it has itself, and not by the flow that it is about.
#[test]
fn an_error_on_one_queue_is_of_use_to_the_flows_of_the_other() {
    let behind = Behind::new(2, 600);
    send_on_queue_of_core(&behind.lab.veth.far);
    let gateway = Lab::PEER.to_string();
    // Each worker is on the other one's core.
    let engine = behind.lab.start(&["--queues", "all", "--cores", "1,0", "--idle", "poll", "--gateway", &gateway]);
    for core in 0..2 {
        let answered = behind.client.enter(|| {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core }));
            let socket = Client::bind((Behind::CLIENT, 0)).unwrap();
            socket.connect((Lab::ENGINE, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let request = [core as u8; 1000];
            let mut received = [0; 2000];
            // The first answer is too long. What a worker hears of that, the other hears within 100 ms.
            (0..10).any(|_| {
                socket.send(&request).unwrap();
                socket.recv(&mut received).is_ok_and(|len| received[..len] == request)
            })
        });
        assert!(answered, "a flow on queue {core} gets no answer");
    }
    let metrics = engine.metrics_when("all are counted", |m| m.sum("datagrams_fragmented_total", &[]) >= 2);
    for queue in ["queue=\"0\"", "queue=\"1\""] {
        let counted = ["datagrams_fragmented_total", "drops_total"].map(|name| metrics.sum(name, &[queue]));
        assert!(counted.iter().all(|&count| count > 0), "{queue}: errors of the other: {counted:?}");
    }
}

#[test]
fn the_mtu_of_a_route_is_kept_to() {
    let behind = Behind::new(1, 1500);
    behind.lab.veth.near.ip(&["route", "add", "10.1.0.0/24", "via", &Lab::PEER.to_string(), "mtu", "1000"]);
    let engine = behind.lab.start(&["--routes", "kernel"]);
    let socket = behind.client.enter(|| Client::bind((Behind::CLIENT, 0)).unwrap());
    behind.client.enter(|| socket.connect((Lab::ENGINE, 7)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (request, mut received) = ([7; 1400], [0; 2000]);
    socket.send(&request).unwrap();
    assert_eq!(socket.recv(&mut received).unwrap(), request.len());
    assert_eq!(received[..request.len()], request);
    // Who is on the link is told nothing of that.
    let near = behind.lab.client();
    near.send(&request).unwrap();
    assert_eq!(near.recv(&mut received).unwrap(), request.len());
    let metrics = engine.metrics_when("both are counted", |m| m.sum("udp_delivered_total", &[]) == 2);
    assert_eq!(metrics.sum("datagrams_fragmented_total", &[]), 1);
}

/// The router says that there is no way: whoever waits in vain is told so, and not that nobody answered.
#[test]
fn who_cannot_be_reached_is_said_to_be_unreachable() {
    let behind = Behind::new(1, 1500);
    behind.lab.veth.far.ip(&["route", "add", "unreachable", "10.9.0.0/24"]);
    let gateway = Lab::PEER.to_string();
    let always = ["--interface", Veth::NEAR, "--address", Lab::ADDRESS, "--gateway", &gateway, "--timeout", "2"];
    let connect = |peer| behind.lab.refused_command(Lab::command(&[&["connect", peer], &always[..]].concat()));
    let refused = connect("10.9.0.1:7");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("the network says that this cannot be reached"), "{}", refused.stderr);
    assert!(refused.took >= Duration::from_secs(2), "it may have had another way soon");
}
