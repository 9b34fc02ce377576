//! smoltcp alone: what a pair of request and response costs it, over a device of memory.
//!
//! ```text
//!   stack_alone_smoltcp --time [LOAD...]     nanoseconds a pair, at 1, 64 and 1,000 connections if nothing is said
//!   stack_alone_smoltcp --pairs N LOAD       at least N pairs, for callgrind
//! ```

use std::process::ExitCode;

use barewire_peer_harness::{BURST, SERVER, SERVER_MAC, SERVER_PREFIX_LEN, StackUnderTest, run};
use barewire_peer_smoltcp::memory::Memory;
use barewire_peer_smoltcp::{Server, ServerConfig, Service};
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Cidr;

/// The server with its device.
struct Alone {
    device: Memory,
    server: Server,
}

impl Alone {
    fn new() -> Self {
        let config = ServerConfig {
            mac: SERVER_MAC,
            address: Ipv4Cidr::new(SERVER.0, SERVER_PREFIX_LEN),
            services: &[(Service::Echo, SERVER.1)],
            timestamps: None,
        };
        let mut device = Memory::default();
        let server = Server::new(&config, &mut device, Instant::ZERO);
        Self { device, server }
    }
}

impl StackUnderTest for Alone {
    fn deliver(&mut self, frames: &mut Vec<Vec<u8>>) {
        self.device.refill(2 * BURST);
        self.device.incoming.extend(frames.drain(..));
    }

    fn turn(&mut self, now_us: u64) {
        self.server.turn(&mut self.device, Instant::from_micros(now_us.cast_signed()));
    }

    fn collect(&mut self, frames: &mut Vec<Vec<u8>>) {
        frames.append(&mut self.device.outgoing);
    }
}

fn main() -> ExitCode {
    run("smoltcp", |_connections| Alone::new())
}
