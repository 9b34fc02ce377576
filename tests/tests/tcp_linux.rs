//! The engine's TCP and Linux's over a veth pair, either as client: that every byte arrives, and that connections
//! end however they may. Needs root.
//!
//! `BAREWIRE_TEST_PEER=kernel` puts the kernel in the engine's place, to test the tests. `BAREWIRE_TCP_BYTES` sets
//! how much is streamed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use barewire_tests::content::Content;
use barewire_tests::lab::{Lab, until};
use barewire_tests::netns::{Veth, run};
use barewire_tests::peer::{Server, connect, connect_command};
use barewire_tests::services::{Service, Services};
use barewire_tests::sim::Rng;
use barewire_tests::tcp::{Piped, asked, exchange, exchange_by, megabits, write_content};
use barewire_tests::{sockets, tcp};

/// Bytes of a stream, unless `BAREWIRE_TCP_BYTES` says otherwise.
const BYTES: u64 = 64 << 20;

fn bytes() -> u64 {
    asked("BAREWIRE_TCP_BYTES", BYTES)
}

#[test]
fn linux_streams_through_echo_and_gets_every_byte_back() {
    let _alone = tcp::alone();
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let took = exchange(&connect(&lab, Service::Echo.port()).unwrap(), 1, bytes());
    println!("Linux through echo and back: {}", megabits(bytes(), took));
    server.assert_empty();
    server.assert_alive(&lab);
}

#[test]
fn linux_streams_into_discard_and_is_told_the_end() {
    let _alone = tcp::alone();
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let stream = connect(&lab, Service::Discard.port()).unwrap();
    let start = Instant::now();
    write_content(&stream, Content::new(1), bytes());
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0, "discard says nothing");
    println!("Linux into discard: {}", megabits(bytes(), start.elapsed()));
    server.assert_empty();
}

#[test]
fn linux_streams_from_chargen_and_gets_every_line() {
    let _alone = tcp::alone();
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let mut stream = connect(&lab, Service::Chargen.port()).unwrap();
    let start = Instant::now();
    // RFC 864: lines of 72 of the 95 characters that can be printed; each starts one further than the last.
    let lines: Vec<Vec<u8>> =
        (0..95).map(|line| [(0..72).map(|at| b' ' + (line + at) % 95).collect(), b"\r\n".to_vec()].concat()).collect();
    let pattern = lines.concat();
    let mut read = vec![0; pattern.len()];
    stream.read_exact(&mut read).unwrap();
    // Where an implementation begins is its own affair.
    let begins = pattern.windows(74).position(|window| *window == read[..74]).expect("a line of the pattern");
    let expected = [&pattern[begins..], &pattern[..begins]].concat();
    for round in 1..bytes() / pattern.len() as u64 {
        assert!(read == expected, "wrong in round {round}");
        stream.read_exact(&mut read).unwrap();
    }
    println!("Linux from chargen: {}", megabits(bytes(), start.elapsed()));
    drop(stream);
    server.assert_empty();
}

#[test]
fn the_engine_connects_to_linux_and_gets_every_byte_back() {
    let _alone = tcp::alone();
    let lab = Lab::plain();
    let _linux = Services::start(&lab.veth.far, Lab::PEER);
    let command = connect_command(&lab, Service::Echo.port());
    let took = exchange_by(&lab.veth.near, command, 2, bytes());
    println!("engine through Linux's echo and back: {}", megabits(bytes(), took));
}

#[test]
fn the_engine_reads_to_the_end_that_linux_makes_first() {
    let lab = Lab::plain();
    let _linux = Services::start(&lab.veth.far, Lab::PEER);
    let mut program = Piped::start(&lab.veth.near, connect_command(&lab, Service::Daytime.port()));
    let (stdin, mut stdout) = program.pipes();
    let mut line = [0; 41];
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"Tuesday, February 22, 1982 17:37:43-PST\r\n");
    // Our side may go on; it ends with standard input.
    drop(stdin);
    assert_eq!(stdout.read(&mut line).unwrap(), 0);
    assert_eq!(program.wait(), 0);
}

#[test]
fn the_engine_that_is_refused_says_so() {
    let lab = Lab::plain();
    let program = Piped::start(&lab.veth.near, connect_command(&lab, 4_000));
    assert_eq!(program.wait(), 1, "exit code");
}

/// What one of many clients does with its connection, by its number.
fn behave(number: u64, mut stream: TcpStream) {
    let mut rng = Rng::new(number);
    let bytes = rng.scale(1, 1 << 20);
    match number % 6 {
        0 | 1 => drop(exchange(&stream, number, bytes)),
        2 => {
            let mut line = String::new();
            stream.read_to_string(&mut line).unwrap();
            assert!(line.ends_with('\n'), "{line:?}");
            stream.shutdown(Shutdown::Write).unwrap();
        }
        3 => {
            write_content(&stream, Content::new(number), bytes);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "discard says nothing");
        }
        4 => {
            // What echo sends is not read: it may have to stop reading, and is reset at any point.
            stream.set_nonblocking(true).unwrap();
            let mut content = vec![0; bytes as usize];
            Content::new(number).fill(0, &mut content);
            let _ = stream.write(&content);
            thread::sleep(Duration::from_millis(rng.below(20)));
            sockets::reset(stream);
        }
        _ => {
            let mut some = vec![0; bytes as usize];
            stream.read_exact(&mut some).unwrap();
            // There is always more that was not read: the kernel resets.
            drop(stream);
        }
    }
}

#[test]
fn hundreds_of_connections_at_a_time_end_in_every_way_and_nothing_is_left() {
    const CLIENTS: u64 = 300;
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let start = Instant::now();
    let services = [Service::Echo, Service::Echo, Service::Daytime, Service::Discard, Service::Echo, Service::Chargen];
    let streams: Vec<TcpStream> = (0..CLIENTS)
        .map(|number| connect(&lab, services[number as usize % services.len()].port()))
        .collect::<Result<_, _>>()
        .unwrap();
    thread::scope(|scope| {
        for (number, stream) in (0..).zip(streams) {
            scope.spawn(move || behave(number, stream));
        }
    });
    println!("{CLIENTS} connections of every kind in {:?}", start.elapsed());
    server.assert_empty();
    server.assert_alive(&lab);
}

#[test]
fn a_client_that_is_stopped_for_five_seconds_goes_on_where_it_was() {
    const STOPPED: Duration = Duration::from_secs(5);
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let mut command = std::process::Command::new("nc");
    command.args(["-N", &Lab::ENGINE.to_string(), &Service::Echo.port().to_string()]);
    let mut client = Piped::start(&lab.veth.far, command);
    let pipes = client.pipes();
    thread::scope(|scope| {
        let client = &client;
        let exchange = scope.spawn(move || client.exchange(pipes, 3, BYTES));
        until("the stream flows", || (client.progress() > BYTES / 8).then_some(()));
        let id = client.id().to_string();
        run("kill", &["-s", "STOP", &id]);
        // What was in its pipe is read by us.
        thread::sleep(STOPPED / 2);
        let before = client.progress();
        thread::sleep(STOPPED / 2);
        assert_eq!(client.progress(), before, "it is stopped");
        assert!(before < BYTES, "it was stopped too late");
        server.assert_alive(&lab);
        let continued = Instant::now();
        run("kill", &["-s", "CONT", &id]);
        exchange.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!("stopped for {STOPPED:?} after {before} bytes; the rest took {:?}", continued.elapsed());
    });
    assert_eq!(client.wait(), 0, "exit code");
    server.assert_empty();
}

/// Two peers that are gone without a word: one that is owed text, and one that is owed nothing, which nobody notices who
/// does not ask. Until then there is no place for anybody else.
#[test]
fn peers_that_vanished_are_given_up_and_their_places_are_free() {
    let lab = Lab::plain();
    let options = ["--connections", "2", "--keep-alive", "1", "--user-timeout", "5", "--chargen-port", "19"];
    let engine = lab.start(&options);
    let mut idle = connect(&lab, Service::Echo.port()).unwrap();
    let reading_nothing = connect(&lab, Service::Chargen.port()).unwrap();
    let metrics = engine.metrics_when("the idle one was asked", |m| m.sum("tcp_keep_alives_total", &[]) >= 3);
    assert_eq!((metrics.sum("tcp_connections", &[]), metrics.sum("tcp_timed_out_total", &[])), (2, 0), "both live");
    idle.write_all(b"still there?").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let third = lab.veth.far.enter(|| {
        let echo = (Lab::ENGINE, Service::Echo.port()).into();
        TcpStream::connect_timeout(&echo, Duration::from_millis(500))
    });
    assert!(third.is_err(), "a third of two places");

    lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
    let vanished = Instant::now();
    let metrics = engine.metrics_when("both are given up", |m| m.sum("tcp_connections", &[]) == 0);
    println!("noticed after {:?}", vanished.elapsed());
    assert_eq!(metrics.sum("tcp_timed_out_total", &[]), 2);
    lab.veth.far.ip(&["link", "set", Veth::FAR, "up"]);
    let again = [(); 2].map(|()| connect(&lab, Service::Echo.port()).unwrap());
    for (seed, stream) in (0..).zip(&again) {
        exchange(stream, seed, 1 << 20);
    }
    drop((idle, reading_nothing));
}

#[test]
fn a_peer_that_reads_nothing_is_waited_for() {
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let stream = connect(&lab, Service::Echo.port()).unwrap();
    let content = Content::new(4);
    let bytes = 16 << 20;
    thread::scope(|scope| {
        scope.spawn(|| {
            write_content(&stream, content, bytes);
            stream.shutdown(Shutdown::Write).unwrap();
        });
        // Long enough for several probes of a window of zero.
        thread::sleep(Duration::from_secs(2));
        tcp::read_content(&stream, content, bytes, &AtomicU64::new(0));
    });
    server.assert_empty();
}
