//! The engine's TCP with very many connections, and under a flood of requests. Needs root.
//!
//! `BAREWIRE_TEST_PEER=kernel` puts the kernel in the engine's place, to test the tests. `BAREWIRE_TCP_CONNECTIONS`
//! and `BAREWIRE_TCP_SECONDS` set how many connections are held, and for how long.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barewire_tests::content::Content;
use barewire_tests::crowd::{self, Plan};
use barewire_tests::flood::{Flood, Target};
use barewire_tests::lab::Lab;
use barewire_tests::netns::{PacketSocket, Veth};
use barewire_tests::peer::{Server, connect, more_addresses};
use barewire_tests::services::Service;
use barewire_tests::tcp::{alone, asked};

#[test]
fn thousands_of_connections_are_held_with_traffic_on_all() {
    let _alone = alone();
    let connections = asked("BAREWIRE_TCP_CONNECTIONS", 2_000) as usize;
    let lasts = Duration::from_secs(asked("BAREWIRE_TCP_SECONDS", 5));
    let lab = Lab::plain();
    let server = Server::start_for(&lab, connections);
    let sources = more_addresses(&lab, 2.max(connections.div_ceil(14_000) as u8));
    let clients = connections / sources.len();
    let plan = Plan { sources, target: SocketAddrV4::new(Lab::ENGINE, Service::Echo.port()), clients, lasts };
    let outcome = lab.veth.far.enter(|| crowd::run(&plan));
    println!("{connections} connections for {lasts:?}: {outcome:?}");
    assert!(outcome.messages >= connections as u64, "each was heard at least once: {outcome:?}");
    server.assert_empty();
    server.assert_alive(&lab);
}

/// One connection through echo, with what has come back.
struct Stream {
    received: AtomicU64,
    ended: AtomicBool,
}

impl Stream {
    /// Streams until it is ended, and checks every byte.
    fn run(&self, stream: &TcpStream) {
        const STEP: usize = 64 << 10;
        let content = Content::new(9);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut at, mut step) = (0, vec![0; STEP]);
                while !self.ended.load(Ordering::Relaxed) {
                    content.fill(at, &mut step);
                    (&*stream).write_all(&step).expect("the stream flows");
                    at += STEP as u64;
                }
                stream.shutdown(Shutdown::Write).expect("a connection that is open");
            });
            let (mut at, mut step) = (0, vec![0; STEP]);
            loop {
                let len = (&*stream).read(&mut step).expect("the stream flows");
                if len == 0 {
                    break;
                }
                assert_eq!(content.differs_at(at, &step[..len]), None, "where the wrong byte is, from {at} on");
                at += len as u64;
                self.received.store(at, Ordering::Relaxed);
            }
        });
    }

    /// Megabits a second within `lasts` from now on.
    fn goodput(&self, lasts: Duration) -> f64 {
        let (start, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        thread::sleep(lasts);
        (self.received.load(Ordering::Relaxed) - before) as f64 * 8e-6 / start.elapsed().as_secs_f64()
    }
}

/// Attempts of clients to connect and to get a message back.
#[derive(Debug, Default)]
struct Attempts {
    made: AtomicU64,
    failed: AtomicU64,
    /// Successful, but not without a second request, which a client sends after a second.
    slow: AtomicU64,
}

impl Attempts {
    fn make(&self, lab: &Lab, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            let start = Instant::now();
            let echoed = connect(lab, Service::Echo.port()).and_then(|mut stream| {
                let mut message = *b"let me in";
                stream.write_all(&message)?;
                stream.read_exact(&mut message)
            });
            self.made.fetch_add(1, Ordering::Relaxed);
            self.failed.fetch_add(echoed.is_err().into(), Ordering::Relaxed);
            self.slow.fetch_add((start.elapsed() > Duration::from_millis(900)).into(), Ordering::Relaxed);
            // What is measured is how many succeed, not how many there can be.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_flood_of_requests_keeps_nobody_out() {
    const PER_SECOND: u64 = 500_000;
    const PHASE: Duration = Duration::from_secs(3);
    let _alone = alone();
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let connection = connect(&lab, Service::Echo.port()).unwrap();
    let stream = Stream { received: AtomicU64::new(0), ended: AtomicBool::new(false) };
    let attempts = Attempts::default();
    thread::scope(|scope| {
        let streaming = scope.spawn(|| stream.run(&connection));
        let undisturbed = stream.goodput(PHASE);
        let target =
            Target { source_mac: Veth::FAR_MAC, mac: Veth::NEAR_MAC, address: Lab::ENGINE, port: Service::Echo.port() };
        let socket = lab.veth.far.enter(|| PacketSocket::send_only(Veth::FAR));
        let flood = Flood::start(socket, target, PER_SECOND);
        let ended = AtomicBool::new(false);
        let flooded = thread::scope(|scope| {
            // In a flood a request is answered when it comes again, a second later: so many at a time are 100 in all.
            (0..64).for_each(|_| drop(scope.spawn(|| attempts.make(&lab, &ended))));
            let flooded = stream.goodput(PHASE);
            ended.store(true, Ordering::Relaxed);
            flooded
        });
        println!(
            "goodput {undisturbed:.0} Mbit/s, with {:.0} requests a second {flooded:.0} Mbit/s: {:.0} %; {attempts:?}",
            flood.stop(),
            flooded / undisturbed * 100.0
        );
        stream.ended.store(true, Ordering::Relaxed);
        streaming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let (made, failed) = (attempts.made.into_inner(), attempts.failed.into_inner());
    assert!(made >= 100, "only {made} attempts");
    assert!(failed * 100 < made, "{failed} of {made} attempts failed");
    server.assert_alive(&lab);
}
