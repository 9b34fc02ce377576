//! What users see of the services over TCP, of `barewire connect` and of `barewire connections`: against netcat and
//! the kernel's sockets on a veth pair. Needs root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barewire_tests::lab::{Engine, Lab, METRICS, Refusal, barewire, until};
use barewire_tests::netns::{Veth, run};
use barewire_tests::peer::connect;
use barewire_tests::tcp::{Piped, exchange_by};

/// Both drivers, as `--driver` names them.
const DRIVERS: [&str; 2] = ["rings", "xsk-rs"];
/// Port of the peer's kernel that the engine connects to.
const PORT: u16 = 4000;

/// `barewire echo` with all four services.
fn serve<'lab>(lab: &'lab Lab, driver: &str) -> Engine<'lab> {
    lab.start(&["--driver", driver, "--discard-port", "9", "--daytime-port", "13", "--chargen-port", "19"])
}

/// What a netcat of the peer's says that is given `input` and these options.
fn netcat(lab: &Lab, input: &str, options: &str) -> String {
    lab.far("sh", &["-c", &format!("printf '{input}' | nc {options}")])
}

#[test]
fn netcat_gets_what_each_service_has_over_tcp_and_udp() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = serve(&lab, driver);
        for (name, port) in [("udp", "7"), ("tcp", "7"), ("discard", "9"), ("daytime", "13"), ("chargen", "19")] {
            assert_eq!(engine.field(&format!("{name}-port")), port);
        }
        assert_eq!(netcat(&lab, "hello, engine", "-N 10.0.0.2 7"), "hello, engine");
        assert_eq!(netcat(&lab, "hello, nobody", "-N 10.0.0.2 9"), "");
        let lines = lab.far("sh", &["-c", "nc -d 10.0.0.2 19 | head -c 7030"]);
        assert!(lines.lines().count() == 95 && lines.lines().all(|line| line.len() == 72), "{lines}");
        assert_eq!(lines.lines().nth(33), lines.lines().nth(34).map(|_| &lines[33 * 74..33 * 74 + 72]));

        let now = || run("date", &["-u", "+%A, %B %-d, %Y %H:%M:%S-UTC"]).trim_end().to_owned();
        for options in ["-d 10.0.0.2 13", "-u -w 1 10.0.0.2 13"] {
            let (before, said, after) = (now(), netcat(&lab, "?", options), now());
            // The second in which it was said lies between the two, unless more than one has begun since.
            let in_time = said.trim_end() >= before.as_str() && said.trim_end() <= after.as_str();
            assert!(said.ends_with("-UTC\r\n") && (in_time || before[..20] != after[..20]), "{before} {said} {after}");
        }
        assert_eq!(netcat(&lab, "hello, nobody", "-u -w 1 10.0.0.2 9"), "");
        engine.metrics_when("counted", |m| m.sum("tcp_opened_total", &[]) == 4);
    }
}

#[test]
fn chargen_answers_a_datagram_with_another_of_its_pattern() {
    let lab = Lab::new(1);
    let _engine = serve(&lab, "rings");
    let client = lab.client_of(Lab::ENGINE, 19);
    let mut lengths = Vec::new();
    for _ in 0..20 {
        client.send(b"?").unwrap();
        let mut buffer = [0; 2048];
        let len = client.recv(&mut buffer).unwrap();
        assert!(len <= 512 && buffer[..len].iter().zip(b" !\"#$%&'()").all(|(got, wanted)| got == wanted));
        lengths.push(len);
    }
    lengths.dedup();
    assert!(lengths.len() > 10, "not very random: {lengths:?}");
}

/// `barewire connect` from the engine's address, with these arguments more.
fn connect_with(arguments: &[&str]) -> Command {
    let always = ["connect", "--interface", Veth::NEAR, "--address", Lab::ADDRESS];
    Lab::command(&[&always, arguments].concat())
}

fn connect_to(port: u16, arguments: &[&str]) -> Command {
    connect_with(&[&[&*format!("{}:{port}", Lab::PEER)], arguments].concat())
}

/// A socket of the peer's kernel that takes connections.
fn listen(lab: &Lab) -> TcpListener {
    lab.veth.far.enter(|| TcpListener::bind((Lab::PEER, PORT))).unwrap()
}

#[test]
fn connect_and_a_listening_netcat_hear_each_other_to_the_end() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let mut netcat = Command::new("nc");
        netcat.args(["-N", "-l", &Lab::PEER.to_string(), &PORT.to_string()]);
        let mut netcat = Piped::start(&lab.veth.far, netcat);
        until("netcat listens", || lab.far("ss", &["-Hltn"]).contains(":4000").then_some(()));
        let mut client = Piped::start(&lab.veth.near, connect_to(PORT, &["--driver", driver]));
        let (mut to_netcat, mut from_netcat) = netcat.pipes();
        let (mut to_client, mut from_client) = client.pipes();
        let mut heard = [0; 6];
        to_client.write_all(b"hello,").unwrap();
        from_netcat.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello,");
        to_netcat.write_all(b"world!").unwrap();
        from_client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"world!");
        drop(to_client);
        drop(to_netcat);
        assert_eq!((from_netcat.read(&mut heard).unwrap(), from_client.read(&mut heard).unwrap()), (0, 0));
        assert_eq!((netcat.wait(), client.wait()), (0, 0), "{driver}");
        assert_eq!(lab.xdp(), None, "the interface is left as it was");
    }
}

#[test]
fn connect_streams_both_ways_at_once() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        stream(&lab, &listen(&lab), driver, connect_to(PORT, &["--driver", driver]));
    }
}

/// Streams through a connection that comes in at a socket of the peer's.
fn stream(lab: &Lab, listener: &TcpListener, name: &str, command: Command) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let (server, _) = listener.accept().unwrap();
            std::io::copy(&mut &server, &mut &server).unwrap();
        });
        let took = exchange_by(&lab.veth.near, command, 1, 16 << 20);
        println!("{name}: 16 MiB there and back in {took:?}");
    });
}

#[test]
fn connect_streams_in_both_families() {
    let lab = Lab::of_both_families();
    let listener = lab.veth.far.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    // The last one is what Linux makes of the MAC address (RFC 4291, appendix A).
    let peers = ["10.0.0.3:4000", "[::ffff:10.0.0.3]:4000", "[fd00::3]:4000", "[fe80::ff:fe00:2]:4000"];
    for peer in peers {
        stream(&lab, &listener, peer, connect_with(&[peer, "--address", Lab::ADDRESS_6]));
    }
    let only = ["connect", "[fd00::3]:4000", "--interface", Veth::NEAR, "--address", Lab::ADDRESS_6];
    stream(&lab, &listener, "without IPv4", Lab::command(&only));
}

/// Fails unless the command failed with one line that has all of `words`.
fn assert_failed(lab: &Lab, refusal: &Refusal, code: i32, words: &[&str]) {
    let Refusal { stderr, stdout, .. } = refusal;
    assert_eq!((refusal.code, stdout.len()), (code, 0), "{stderr}");
    let message = stderr.lines().find(|line| line.starts_with("barewire: ") || line.starts_with("error: "));
    let message = message.unwrap_or_else(|| panic!("no message: {stderr}"));
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert_eq!(lab.xdp(), None, "the interface is left as it was");
}

#[test]
fn connect_says_why_it_has_no_connection() {
    let lab = Lab::new(1);
    let failed = |arguments: &[&str]| lab.refused_command(connect_with(arguments));
    assert_failed(&lab, &failed(&["10.0.0.3:4001"]), 1, &["10.0.0.3:4001: ", "refused", "listen"]);
    let nobody = failed(&["10.0.0.77:7", "--timeout", "1"]);
    assert_failed(&lab, &nobody, 1, &["10.0.0.77:7: no answer", "--gateway"]);
    assert!(nobody.took < Duration::from_secs(5), "{:?}", nobody.took);
    assert_failed(&lab, &failed(&["10.9.0.1:7"]), 1, &["10.9.0.1:7: ", "no gateway leads there"]);
    let cases: [(&[&str], &[&str]); 15] = [
        (&["10.0.0.2:7"], &["ADDR 10.0.0.2", "our own address"]),
        (&["[::ffff:10.0.0.2]:7"], &["ADDR 10.0.0.2", "our own address"]),
        (&["224.0.0.1:7"], &["ADDR 224.0.0.1", "not the address of a single host"]),
        (&["10.0.0.255:7"], &["ADDR 10.0.0.255", "not the address of a single host"]),
        (&["[fd00::3]:7"], &["ADDR fd00::3", "another version of IP than every --address", "one more"]),
        (&["10.0.0.3"], &["10.0.0.3", "for example 192.0.2.1:7"]),
        (&["10.0.0.3:0"], &["10.0.0.3:0", "for example 192.0.2.1:7"]),
        (&["[fd00::3]:0"], &["[fd00::3]:0", "for example 192.0.2.1:7 or [2001:db8::1]:7"]),
        (&["fd00::3"], &["fd00::3", "for example 192.0.2.1:7 or [2001:db8::1]:7"]),
        (&["[fd00::3%far0]:7"], &["fd00::3%far0", "for example 192.0.2.1:7 or [2001:db8::1]:7"]),
        (&["server:7"], &["server:7", "for example 192.0.2.1:7", "Names are not looked up"]),
        (&["10.0.0.3:7", "--timeout", "0"], &["--timeout"]),
        (&["10.0.0.3:7", "--keep-alive", "0"], &["--keep-alive 0", "leave it out for none"]),
        (&["10.0.0.3:7", "--gateway", "10.1.0.1"], &["--gateway 10.1.0.1", "on the link"]),
        (&["10.0.0.3:7", "--metrics", "9100"], &["--metrics 9100", "HOST:PORT"]),
    ];
    for (arguments, words) in cases {
        assert_failed(&lab, &failed(arguments), 2, words);
    }
    let without = lab.refused_command(Lab::command(&["connect", "10.0.0.3:7", "--interface", Veth::NEAR]));
    assert_failed(&lab, &without, 2, &["no address", "--address CIDR"]);
    let of_ipv6 = ["connect", "10.0.0.3:7", "--interface", Veth::NEAR, "--address", Lab::ADDRESS_6];
    let to_ipv4 = lab.refused_command(Lab::command(&of_ipv6));
    assert_failed(&lab, &to_ipv4, 2, &["ADDR 10.0.0.3", "another version of IP than every --address", "one more"]);
}

#[test]
fn connect_is_told_that_the_peer_reset() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    let mut client = Piped::start(&lab.veth.near, connect_to(PORT, &[]));
    let (server, _) = listener.accept().unwrap();
    let (mut stdin, mut stdout) = client.pipes();
    stdin.write_all(b"nobody reads this").unwrap();
    until("it has arrived", || (server.peek(&mut [0; 32]).unwrap() == 17).then_some(()));
    // The kernel resets a connection that is closed with bytes unread.
    drop(server);
    assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(client.wait(), 1);
}

/// To a script, half a transfer must not look like a whole one. So the exit code is that of a command which the signal
/// ended, 128 and its number, as of `nc`.
#[test]
fn connect_that_is_told_to_stop_resets_and_says_so_and_leaves_the_interface_as_it_was() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = connect_to(PORT, &[]);
        command.stderr(Stdio::piped());
        let mut client = Piped::start(&lab.veth.near, command);
        let (mut server, _) = listener.accept().unwrap();
        let (mut stdin, _stdout) = client.pipes();
        stdin.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        run("kill", &["-s", signal, &client.id().to_string()]);
        let (ended, said) = client.wait_with_errors();
        assert_eq!(ended, code, "{said}");
        let words = format!("barewire: 10.0.0.3:4000: stopped by SIG{signal} before the end");
        assert!(said.contains(&words) && said.contains(&format!("exit code {code}")), "{said}");
        let end = server.read(&mut [0; 1]).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset, "{signal}: {end}");
        assert_eq!(lab.xdp(), None, "{signal}");
    }
}

#[test]
fn connect_gives_an_idle_peer_up_that_vanished_if_it_is_to_ask() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    let mut command = connect_to(PORT, &["--keep-alive", "1"]);
    command.stderr(Stdio::piped());
    let mut client = Piped::start(&lab.veth.near, command);
    let _server = listener.accept().unwrap();
    let (_stdin, mut stdout) = client.pipes();
    lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
    let vanished = Instant::now();
    assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
    println!("noticed after {:?}", vanished.elapsed());
    let (ended, said) = client.wait_with_errors();
    assert!(ended == 1 && said.contains("10.0.0.3:4000: the peer no longer answers"), "{ended}: {said}");
}

#[test]
fn connect_asks_for_ecn_if_it_is_told_to() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    let agreed = |options: &[&str]| {
        let mut client = Piped::start(&lab.veth.near, connect_to(PORT, options));
        let _server = listener.accept().unwrap();
        let _pipes = client.pipes();
        // Linux agrees where it is asked (tcp_ecn = 2, its default).
        let said = lab.far("ss", &["-Htino", "state", "established", "dst", "10.0.0.2"]);
        assert!(said.contains("10.0.0.2"), "{said}");
        said.split_whitespace().any(|word| word == "ecn")
    };
    assert_eq!((agreed(&["--ecn"]), agreed(&[])), (true, false));
}

#[test]
fn connect_waits_for_whoever_reads_its_output_and_goes_with_them() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    let mut client = Piped::start(&lab.veth.near, connect_to(PORT, &[]));
    let (mut server, _) = listener.accept().unwrap();
    let (_stdin, stdout) = client.pipes();
    server.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // Nobody reads: pipe, pieces and buffers fill up, and the window closes.
    let piece = vec![0; 64 << 10];
    let sent = std::iter::from_fn(|| server.write(&piece).ok()).sum::<usize>();
    println!("{sent} bytes under way that nobody reads");
    assert!(sent < 64 << 20, "{sent} bytes are kept somewhere");
    drop(stdout);
    assert_eq!(client.wait(), 0, "as with `| head`");
}

#[test]
fn connect_without_input_costs_hardly_anything() {
    let lab = Lab::new(1);
    let listener = listen(&lab);
    let mut client = Piped::start(&lab.veth.near, connect_to(PORT, &[]));
    let _server = listener.accept().unwrap();
    let _pipes = client.pipes();
    thread::sleep(Duration::from_millis(500));
    let (before, start) = (processor_time(client.id()), Instant::now());
    thread::sleep(Duration::from_secs(2));
    let share = (processor_time(client.id()) - before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("{:.1} % of a core", share * 100.0);
    assert!(share < 0.1, "{share}");
}

/// What a process has used until now.
fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime and stime, in clock ticks of 10 ms (man 5 proc).
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn connect_says_where_to_look_when_answers_may_have_gone_to_another_queue() {
    let lab = Lab::new(2);
    let _listener = listen(&lab);
    for (queue, words) in [(0, None), (1, Some(["no answer", "another queue", "`ethtool -L near0 combined 1`"]))] {
        lab.send_on_queue(queue, 2);
        match (words, connect_to(PORT, &["--timeout", "2"])) {
            (None, command) => {
                let mut client = Piped::start(&lab.veth.near, command);
                client.pipes().0.write_all(b"hello").unwrap();
                until("it is connected", || lab.far("ss", &["-Htn"]).contains("10.0.0.2").then_some(()));
            }
            (Some(words), command) => assert_failed(&lab, &lab.refused_command(command), 1, &words),
        }
    }
}

/// What `barewire connections` says about an engine.
fn connections(lab: &Lab, arguments: &[&str]) -> String {
    let arguments = [&["connections", "--metrics", METRICS], arguments].concat();
    lab.veth.near.enter(|| run(barewire().to_str().unwrap(), &arguments))
}

#[test]
fn connections_are_listed_with_what_is_known_of_each() {
    let lab = Lab::new(2);
    let _engine = lab.start(&["--idle", "poll", "--daytime-port", "13"]);
    assert_eq!(connections(&lab, &[]).lines().last(), Some("0 of 0 connections; 0 handshakes, 0 in TIME-WAIT"));
    let mut stream = connect(&lab, 7).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let unread = connect(&lab, 7).unwrap();
    fill(&unread);
    connect(&lab, 13).unwrap().read_to_end(&mut Vec::new()).unwrap();
    until("daytime's waits", || connections(&lab, &[]).contains("2 of 2 connections").then_some(()));

    let text = connections(&lab, &[]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(text.ends_with("2 of 2 connections; 0 handshakes, 1 in TIME-WAIT\n"), "{text}");
    let cell = |port: u16, title: &str| {
        let peer = format!("{}:{port}", Lab::PEER);
        let row = rows.iter().find(|row| row.contains(&&*peer)).unwrap_or_else(|| panic!("no {peer} in {text}"));
        row[rows[0].iter().position(|other| *other == title).unwrap()].to_owned()
    };
    let port = stream.local_addr().unwrap().port();
    assert_eq!((cell(port, "state"), cell(port, "local")), ("ESTABLISHED".into(), "10.0.0.2:7".into()));
    assert_eq!((cell(port, "recv-q"), cell(port, "send-q")), ("0".into(), "0".into()));
    assert_eq!((cell(port, "mss"), cell(port, "flags")), ("1448".into(), "ts,sack,wscale".into()));
    assert!(cell(port, "srtt").parse::<f64>().unwrap() > 0.0, "{text}");
    let port = unread.local_addr().unwrap().port();
    assert!(cell(port, "send-q").parse::<u32>().unwrap() > 0, "{text}");

    let json: serde_json::Value = serde_json::from_str(&connections(&lab, &["--json"])).unwrap();
    assert_eq!((&json["connections"], &json["told"], &json["time_wait"]), (&2.into(), &2.into(), &1.into()));
    let list = json["list"].as_array().unwrap();
    let peer = format!("{}:{port}", Lab::PEER);
    let entry = list.iter().find(|entry| entry["peer"] == peer.as_str()).unwrap();
    assert_eq!(entry["flags"], serde_json::json!(["ts", "sack", "wscale"]));
    assert!(entry["send_queue"].as_u64() > Some(0) && entry["chunks"].as_u64() > Some(0), "{entry}");
    assert!(entry["ssthresh"].is_null() && entry["rto_us"].as_u64() >= Some(200_000), "{entry}");
}

/// Sends to an echo service and reads nothing, until nothing more is taken.
fn fill(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while stream.write(&[0; 64 << 10]).is_ok() {}
}

#[test]
fn connections_of_no_engine_are_not_listed_and_the_reason_is_told() {
    let lab = Lab::new(1);
    let failed = |arguments: &[&str]| lab.refused_command(Lab::command(&[&["connections"], arguments].concat()));
    assert_failed(&lab, &failed(&["--metrics", METRICS]), 1, &["no answer from 127.0.0.1:9100", "--metrics"]);
    assert_failed(&lab, &failed(&["--metrics", "9100"]), 2, &["--metrics 9100", "HOST:PORT"]);
    assert_failed(&lab, &failed(&[]), 2, &["required arguments"]);
    let listener = lab.veth.near.enter(|| TcpListener::bind(METRICS)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stranger, _) = listener.accept().unwrap();
            let _ = stranger.read(&mut [0; 1024]);
            stranger.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        });
        let refusal = failed(&["--metrics", METRICS]);
        assert_failed(&lab, &refusal, 1, &["127.0.0.1:9100 is not a barewire engine", "220 mail.example ESMTP"]);
    });
}

#[test]
fn help_of_every_command_has_an_example() {
    for command in ["echo", "connect", "ping", "traceroute", "connections"] {
        let text = run(barewire().to_str().unwrap(), &[command, "--help"]);
        assert!(text.contains(&format!("  barewire {command} ")) || text.contains(" | barewire connect "), "{text}");
    }
    assert_eq!(Lab::ENGINE, Ipv4Addr::new(10, 0, 0, 2), "the address in netcat's options");
}
