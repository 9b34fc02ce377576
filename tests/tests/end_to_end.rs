//! The `barewire` command between two kernels on a veth pair: what its users rely on. Needs root.

use barewire_tests::lab::{Engine, Lab, PATIENCE, Random};

/// Both drivers, as `--driver` names them.
const DRIVERS: [&str; 2] = ["rings", "xsk-rs"];

/// Sends one datagram and expects it back.
fn assert_echo(lab: &Lab, engine: &Engine<'_>) {
    let client = lab.client();
    client.send(b"are you there?").unwrap();
    let mut buffer = [0; 64];
    let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("no echo: {error}; engine: {}", engine.stderr()));
    assert_eq!(&buffer[..len], b"are you there?");
}

#[test]
fn the_ready_line_says_what_was_granted() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let engine = lab.start(&["--driver", driver, "--udp-port", "7", "--idle", "poll"]);
        let age = engine.age();
        println!("{driver}: ready after {age:?}");
        assert!(age < PATIENCE);
        let expected = [
            ("interface", "near0"),
            ("queues", "0,1"),
            ("mode", "copy"),
            ("driver", driver),
            ("addresses", "10.0.0.2/24"),
            ("udp-port", "7"),
            ("metrics", "http://127.0.0.1:9100/metrics"),
        ];
        assert!(engine.ready().starts_with("ready "), "{}", engine.ready());
        for (name, value) in expected {
            assert_eq!(engine.field(name), value, "{}", engine.ready());
        }
        assert_eq!(engine.field("cores").split(',').count(), 2, "{}", engine.ready());
        assert_echo(&lab, &engine);
        engine.signal("TERM");
        let end = engine.wait();
        assert_eq!((end.code, end.stdout), (0, vec![]), "{}", end.stderr);
    }
}

/// Sends `count` datagrams of all lengths up to 1,472 with random content, some at a time, and checks that each
/// comes back byte for byte.
fn exchange(lab: &Lab, count: usize) {
    const WINDOW: usize = 16;
    let client = lab.client();
    let mut random = Random::new(count as u64);
    let mut buffer = vec![0; 2048];
    let sent: Vec<Vec<u8>> = (0..count).map(|number| random.bytes(number % 1473)).collect();
    for window in sent.chunks(WINDOW) {
        for datagram in window {
            assert_eq!(client.send(datagram).unwrap(), datagram.len());
        }
        for datagram in window {
            let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{} bytes: {error}", datagram.len()));
            assert!(buffer[..len] == *datagram, "{} bytes came back as {len} others", datagram.len());
        }
    }
}

#[test]
fn ten_thousand_datagrams_of_every_size_come_back_byte_for_byte() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        exchange(&lab, 10_000);
        let metrics = engine.metrics_when("10,000 delivered", |m| m.sum("udp_delivered_total", &[]) == 10_000);
        assert_eq!(metrics.sum("udp_originated_total", &[]), 10_000);
        assert_eq!(metrics.drops("udp_checksum"), 0);
    }
}
