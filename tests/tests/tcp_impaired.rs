//! The engine's TCP and Linux's over a wire with faults: slower, but every byte arrives. Needs root.
//!
//! `BAREWIRE_TEST_PEER=kernel` puts the kernel in the engine's place, to test the tests. `BAREWIRE_TCP_BYTES` sets
//! how much is streamed.

use std::time::Duration;

use barewire_tests::impair::Faults;
use barewire_tests::lab::Lab;
use barewire_tests::peer::{Server, connect, connect_command};
use barewire_tests::services::{Service, Services};
use barewire_tests::tcp::{asked, exchange, exchange_by, megabits};

/// Bytes of a stream, unless `BAREWIRE_TCP_BYTES` says otherwise: at a loss of 1 % and 20 ms some 0.5 MB a second.
const BYTES: u64 = 4 << 20;

/// Half of a round trip of 20 ms, to which the wire's two directions contribute alike.
const DELAY: Duration = Duration::from_millis(10);

fn bytes() -> u64 {
    asked("BAREWIRE_TCP_BYTES", BYTES)
}

/// Both ways round over a wire with these faults.
fn stream_over(name: &str, faults: &Faults) {
    let lab = Lab::impaired(faults, 1);
    let server = Server::start(&lab, &[]);
    let took = exchange(&connect(&lab, Service::Echo.port()).unwrap(), 1, bytes());
    println!("{name}, Linux through echo and back: {}", megabits(bytes(), took));
    server.assert_empty();
    drop(server);
    let _linux = Services::start(&lab.veth.far, Lab::PEER);
    let took = exchange_by(&lab.veth.near, connect_command(&lab, Service::Echo.port()), 2, bytes());
    println!("{name}, engine through Linux's echo and back: {}", megabits(bytes(), took));
}

#[test]
fn one_frame_of_a_hundred_is_lost() {
    stream_over("1 % loss, 20 ms", &Faults { loss: 0.01, delay: DELAY, ..Faults::default() });
}

#[test]
fn frames_overtake_each_other() {
    stream_over("2 % reordered, 20 ms", &Faults { reorder: 0.02, delay: DELAY, ..Faults::default() });
}

#[test]
fn frames_come_twice() {
    stream_over("2 % duplicated, 20 ms", &Faults { duplicate: 0.02, delay: DELAY, ..Faults::default() });
}

#[test]
fn frames_are_damaged() {
    stream_over("0.5 % damaged, 20 ms", &Faults { corrupt: 0.005, delay: DELAY, ..Faults::default() });
}

#[test]
fn a_slow_link_with_a_short_queue() {
    let faults = Faults { rate_bits: 50_000_000, queue_bytes: 64 << 10, delay: DELAY, ..Faults::default() };
    stream_over("50 Mbit/s with 64 KiB of queue, 20 ms", &faults);
}

#[test]
fn everything_at_once() {
    let faults = Faults {
        loss: 0.005,
        burst: 0.0002,
        corrupt: 0.001,
        duplicate: 0.01,
        reorder: 0.01,
        delay: DELAY,
        jitter: Duration::from_millis(2),
        ..Faults::default()
    };
    stream_over("everything at once, 20 ms", &faults);
}
