//! What users see of `barewire ping` and `barewire traceroute`: against kernels that answer, forward and refuse, in
//! network namespaces, by IPv4 and IPv6. Needs root.

use std::time::Duration;

use barewire_tests::lab::{Lab, Refusal};
use barewire_tests::netns::Veth;
use barewire_tests::path::Path;
use serde_json::Value;

/// The engine's addresses.
const OURS: [&str; 2] = ["10.0.0.2", "2001:db8::2"];

/// All of standard output.
fn said(refusal: &Refusal) -> String {
    refusal.stdout.join("\n")
}

/// Fails unless the command ended with this code and said all these words.
fn assert_said(refusal: &Refusal, code: i32, words: &[&str]) {
    let text = said(refusal);
    assert_eq!(refusal.code, code, "{text}\n{}", refusal.stderr);
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}\n{}", refusal.stderr);
    }
}

fn parsed(refusal: &Refusal) -> Value {
    serde_json::from_str(&said(refusal)).unwrap_or_else(|error| panic!("{error}: {}", said(refusal)))
}

#[test]
fn requests_of_every_size_come_back_from_the_kernel() {
    let path = Path::new();
    for (peer, ours) in Path::ROUTER_1.into_iter().zip(OURS) {
        for size in ["0", "56", "1452", "1453", "1472", "1473", "65507"] {
            let pinged = path.barewire(&["ping", peer, "-c", "3", "-i", "0.02", "-s", size]);
            let header = format!("PING {peer} from {ours}: {size} data bytes");
            let bytes = size.parse::<u32>().unwrap() + 8;
            let third = format!("{bytes} bytes from {peer}: icmp_seq=3 ttl=64 time=");
            let statistics = format!("--- {peer} ping statistics ---");
            let counts = "3 packets transmitted, 3 received, 0% packet loss, time ";
            assert_said(&pinged, 0, &[&header, &third, &statistics, counts, "\nrtt min/avg/max/mdev = "]);
            assert!(!said(&pinged).contains("DAMAGED") && !said(&pinged).contains("DUP!"), "{}", said(&pinged));
        }
    }
    assert_eq!(path.lab.xdp(), None, "the interface is left as it was");
}

#[test]
fn both_drivers_ping_and_quietly_if_asked_to() {
    let lab = Lab::new(1);
    for driver in ["rings", "xsk-rs"] {
        let command = ["ping", "10.0.0.3", "--interface", Veth::NEAR, "--address", Lab::ADDRESS, "--driver", driver];
        let command = Lab::command(&[&command[..], &["-c", "100", "-i", "0.001", "-q", "-t", "1"]].concat());
        let pinged = lab.refused_command(command);
        assert_said(&pinged, 0, &["100 packets transmitted, 100 received, 0% packet loss"]);
        assert!(!said(&pinged).contains("icmp_seq"), "{}", said(&pinged));
    }
}

#[test]
fn a_request_that_may_not_be_fragmented_is_refused_or_tells_the_mtu() {
    let path = Path::new();
    let cases = [("1473", "1472", "frag needed, mtu = 1400"), ("1453", "1452", "packet too big, mtu = 1400")];
    for (at, (too_long, longest, told)) in cases.into_iter().enumerate() {
        let ping = |peer: &str, size: &str| {
            path.barewire(&["ping", peer, "-c", "2", "-i", "0.02", "--dont-fragment", "-s", size])
        };
        let refused = ping(Path::ROUTER_1[at], too_long);
        let counts = "2 packets transmitted, 0 received, +2 errors, 100% packet loss";
        assert_said(&refused, 1, &["icmp_seq=2 not sent: message too long, mtu = 1500", counts]);
        assert_said(&ping(Path::ROUTER_1[at], longest), 0, &["2 received"]);
        let told = format!("From {} icmp_seq=2 {told}", Path::ROUTER_1[at]);
        assert_said(&ping(Path::HOST[at], longest), 1, &[&told, counts]);
        // What goes through with IP and ICMP headers.
        let fits = if at == 0 { "1372" } else { "1352" };
        assert_said(&ping(Path::HOST[at], fits), 0, &["2 received"]);
    }
}

#[test]
fn fragments_get_through_where_the_packet_does_not() {
    let path = Path::new();
    // Routers of IPv4 cut it.
    let pinged = path.barewire(&["ping", Path::HOST[0], "-c", "2", "-i", "0.02", "-s", "1472"]);
    assert_said(&pinged, 0, &["1480 bytes from 10.0.2.9: icmp_seq=2 ttl=62", "2 received, 0% packet loss"]);
    // Those of IPv6 say what fits, and the next request is cut to that.
    for size in ["1452", "5000"] {
        let pinged = path.barewire(&["ping", Path::HOST[1], "-c", "3", "-i", "0.1", "-s", size]);
        let told = format!("From {} icmp_seq=1 packet too big, mtu = 1400", Path::ROUTER_1[1]);
        assert_said(&pinged, 0, &[&told, "icmp_seq=2 ttl=62", "2 received, +1 errors"]);
    }
}

#[test]
fn nobody_answers_for_an_address_that_nobody_has() {
    let path = Path::new();
    for (silent, words) in [
        ("10.0.0.77", "From 10.0.0.2 icmp_seq=1 Destination Host Unreachable"),
        ("2001:db8::77", "From 2001:db8::2 icmp_seq=1 Destination unreachable: Address unreachable"),
    ] {
        let pinged = path.barewire(&["ping", silent, "-c", "2", "-i", "0.2"]);
        assert_said(&pinged, 1, &[words, "2 packets transmitted, 0 received, +2 errors, 100% packet loss"]);
        let pinged = path.barewire(&["ping", silent, "-c", "1", "-W", "0.3"]);
        assert_said(&pinged, 1, &["1 packets transmitted, 0 received, 100% packet loss, time 0ms"]);
        assert!(pinged.took < Duration::from_secs(3), "{:?}", pinged.took);
    }
    // A router whose host does not answer says so, of IPv6 after having asked for three seconds.
    let pinged = path.barewire(&["ping", "10.0.2.77", "-c", "1"]);
    assert_said(&pinged, 1, &["From 10.0.1.2 icmp_seq=1 Destination Host Unreachable"]);
    let pinged = path.barewire(&["ping", "10.7.7.7", "-c", "1"]);
    assert_said(&pinged, 1, &["From 10.0.0.3 icmp_seq=1 Destination Net Unreachable"]);
}

#[test]
fn hops_run_out_where_they_should() {
    let path = Path::new();
    let words = ["Time to live exceeded", "Time exceeded: hop limit"];
    for (at, word) in words.into_iter().enumerate() {
        for (hops, router) in [("1", Path::ROUTER_1[at]), ("2", Path::ROUTER_2[at])] {
            let pinged = path.barewire(&["ping", Path::HOST[at], "-c", "1", "-t", hops]);
            assert_said(&pinged, 1, &[&format!("From {router} icmp_seq=1 {word}")]);
        }
        assert_said(&path.barewire(&["ping", Path::HOST[at], "-c", "1", "-t", "3"]), 0, &["ttl=62"]);
    }
}

#[test]
fn ping_goes_on_until_it_is_interrupted() {
    let path = Path::new();
    let mut ping = path.lab.spawn(Path::command(&["ping", Path::HOST[1], "-i", "0.01"]));
    ping.wait_until_ready();
    assert_eq!(ping.ready(), "PING 2001:db8:2::9 from 2001:db8::2: 56 data bytes");
    std::thread::sleep(Duration::from_millis(300));
    ping.signal("INT");
    let ended = ping.wait();
    assert_said(&ended, 0, &["icmp_seq=5 ttl=62", "--- 2001:db8:2::9 ping statistics ---", "rtt min/avg/max/mdev"]);
}

#[test]
fn json_has_every_reply_and_error_and_the_statistics() {
    let path = Path::new();
    let pinged = path.barewire(&["ping", Path::HOST[0], "-c", "4", "-i", "0.02", "--json"]);
    let json = parsed(&pinged);
    assert_eq!((&json["destination"], &json["source"]), (&"10.0.2.9".into(), &"10.0.0.2".into()));
    let replies = json["replies"].as_array().unwrap();
    assert_eq!(replies.iter().map(|reply| reply["icmp_seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let times: Vec<f64> = replies.iter().map(|reply| reply["time_ms"].as_f64().unwrap()).collect();
    let statistics = &json["statistics"];
    assert_eq!((&statistics["transmitted"], &statistics["received"]), (&4.into(), &4.into()));
    let max = times.iter().copied().fold(0.0, f64::max);
    assert!((statistics["rtt_ms"]["max"].as_f64().unwrap() - max).abs() < 1e-6 && max < 1000.0, "{json}");
    assert_eq!(
        (&replies[0]["ttl"], &replies[0]["bytes"], &replies[0]["damage"]),
        (&62.into(), &64.into(), &Value::Null)
    );

    let options = ["-c", "1", "--json", "--dont-fragment", "-s", "1400"];
    let pinged = path.barewire(&[&["ping", Path::HOST[1]], &options[..]].concat());
    let json = parsed(&pinged);
    assert_eq!((pinged.code, &json["errors"][0]["mtu_bytes"]), (1, &1400.into()), "{json}");
    assert_eq!(
        (&json["statistics"]["rtt_ms"], &json["errors"][0]["source"]),
        (&Value::Null, &Path::ROUTER_1[1].into())
    );
}

/// The address that each hop's line begins with.
fn hops(traced: &Refusal) -> Vec<String> {
    let address = |line: &String| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    traced.stdout.iter().skip(1).map(address).collect()
}

#[test]
fn traceroute_shows_each_router_in_order() {
    let path = Path::new();
    for at in 0..2 {
        for options in [&[][..], &["--icmp"], &["--icmp", "-q", "1"], &["-q", "10"]] {
            let traced = path.barewire(&[&["traceroute", Path::HOST[at]], options].concat());
            let header = format!("traceroute to {}, 30 hops max, {} byte packets", Path::HOST[at], [60, 80][at]);
            assert_said(&traced, 0, &[&header, " 1  ", " 2  ", " 3  "]);
            let wanted = [Path::ROUTER_1[at], Path::ROUTER_2[at], Path::HOST[at]];
            assert_eq!(hops(&traced), wanted, "{}", said(&traced));
            let probes = match options {
                [.., "-q", number] => number.parse().unwrap(),
                _ => 3,
            };
            let counts = traced.stdout.iter().skip(1).map(|line| line.matches(" ms").count());
            assert!(counts.into_iter().all(|count| count == probes), "{}", said(&traced));
            assert!(traced.took < Duration::from_secs(5), "{:?}", traced.took);
        }
        let traced = path.barewire(&["traceroute", Path::HOST[at], "-f", "2", "-m", "2"]);
        assert_said(&traced, 1, &["2 hops max", &format!(" 2  {}", Path::ROUTER_2[at])]);
        assert_eq!(traced.stdout.len(), 2, "{}", said(&traced));
    }
    assert_eq!(path.lab.xdp(), None, "the interface is left as it was");
}

#[test]
fn traceroute_finds_the_link_with_the_smaller_mtu() {
    let path = Path::new();
    for at in 0..2 {
        for options in [&["--mtu"][..], &["--mtu", "--icmp"]] {
            let traced = path.barewire(&[&["traceroute", Path::HOST[at]], options].concat());
            assert_said(&traced, 0, &["packets of the path's MTU"]);
            let lines = &traced.stdout[1..];
            let ends: Vec<bool> =
                [(0, "  pmtu 1500"), (1, "  pmtu 1400"), (2, " ms")].map(|(hop, end)| lines[hop].ends_with(end)).into();
            assert_eq!((lines.len(), ends), (3, vec![true; 3]), "{}", said(&traced));
        }
    }
}

#[test]
fn traceroute_marks_what_cannot_be_reached_and_what_is_silent() {
    let path = Path::new();
    let traced = path.barewire(&["traceroute", "10.0.2.77"]);
    assert_said(&traced, 1, &[" 3  10.0.1.2  ", " ms !H"]);
    let traced = path.barewire(&["traceroute", "10.7.7.7"]);
    assert_said(&traced, 1, &[" 1  10.0.0.3  ", " ms !N"]);
    // Neighbors that do not answer are told of by ourselves.
    let traced = path.barewire(&["traceroute", "2001:db8::77"]);
    assert_said(&traced, 1, &[" 1  2001:db8::2  ", " ms !H"]);
    // The second router loses every packet.
    path.lab.veth.far.ip(&["route", "add", "10.8.0.0/16", "via", "10.0.1.2"]);
    path.router.ip(&["route", "add", "blackhole", "10.8.0.0/16"]);
    let traced = path.barewire(&["traceroute", "10.8.0.1", "-w", "0.2"]);
    assert_said(&traced, 1, &[" 1  10.0.0.3  ", "\n 2  * * *\n", "\n30  * * *"]);
    assert!(traced.took < Duration::from_secs(10), "{:?}", traced.took);
}

#[test]
fn traceroute_tells_the_way_in_json() {
    let path = Path::new();
    let traced = path.barewire(&["traceroute", Path::HOST[1], "--mtu", "--json"]);
    let json = parsed(&traced);
    assert_eq!((traced.code, &json["reached"], &json["method"]), (0, &true.into(), &"udp".into()));
    let hops = json["hops"].as_array().unwrap();
    let sources: Vec<&str> = hops.iter().map(|hop| hop["probes"][2]["source"].as_str().unwrap()).collect();
    assert_eq!(sources, [Path::ROUTER_1[1], Path::ROUTER_2[1], Path::HOST[1]]);
    assert_eq!(hops.iter().map(|hop| hop["mtu_bytes"].as_u64().unwrap()).collect::<Vec<_>>(), [1500, 1400, 1400]);
    assert!(hops.iter().all(|hop| hop["probes"][0]["time_ms"].as_f64().unwrap() < 1000.0));
}

#[test]
fn what_makes_no_sense_is_refused_with_code_2() {
    let path = Path::new();
    let cases: &[(&[&str], &str)] = &[
        (&["ping", "224.0.0.1"], "single host"),
        (&["ping", "10.0.0.255"], "single host"),
        (&["ping", "::"], "single host"),
        (&["ping", "10.0.0.2"], "our own address"),
        (&["ping", "example.net"], "not looked up"),
        (&["ping", "10.0.0.3", "-s", "65508"], "65508"),
        (&["ping", "10.0.0.3", "-c", "0"], "0 is not in"),
        (&["ping", "10.0.0.3", "-t", "0"], "0 is not in"),
        (&["ping", "10.0.0.3", "-i", "-1"], "-1"),
        (&["ping", "10.0.0.3", "-W", "0"], "0.001"),
        (&["traceroute", "ff02::1"], "single host"),
        (&["traceroute", "10.0.0.3", "-q", "11"], "11 is not in"),
        (&["traceroute", "10.0.0.3", "-f", "5", "-m", "4"], "--first-hop 5"),
    ];
    for (arguments, word) in cases {
        let refused = path.barewire(arguments);
        assert_eq!((refused.code, refused.stdout.len()), (2, 0), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(word), "{arguments:?}: {}", refused.stderr);
    }
    let only_v4 = ["ping", "2001:db8::3", "--interface", Veth::NEAR, "--address", Lab::ADDRESS];
    let refused = path.lab.refused_command(Lab::command(&only_v4));
    assert!(refused.code == 2 && refused.stderr.contains("give one more"), "{}", refused.stderr);
    // With the right versions of IP, but no way.
    let no_way = ["ping", "192.0.2.1", "--interface", Veth::NEAR, "--address", Lab::ADDRESS];
    for command in ["ping", "traceroute"] {
        let refused = path.lab.refused_command(Lab::command(&[&[command], &no_way[1..]].concat()));
        assert!(refused.code == 1 && refused.stderr.contains("give --gateway"), "{}", refused.stderr);
    }
}
