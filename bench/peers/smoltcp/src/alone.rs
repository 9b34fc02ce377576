//! The server over a device of memory, as the harness wants it.

use barewire_peer_harness::{BURST, SERVER, SERVER_MAC, SERVER_PREFIX_LEN, StackUnderTest};
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Cidr;

use crate::memory::Memory;
use crate::{Server, ServerConfig, Service};

/// The server with its device.
pub struct Alone {
    device: Memory,
    server: Server,
}

impl Alone {
    /// An echo without connections.
    #[must_use]
    pub fn new() -> Self {
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

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use barewire_peer_harness::{Driver, Load};

    use super::*;

    #[test]
    fn every_request_is_answered_by_one_segment_in_the_turn_that_it_comes_in() {
        for (connections, burst, pairs) in [(1, 64, 10), (100, 64, 640), (100, 1, 100)] {
            let timed = Driver::establish(Alone::new(), Load { connections, burst }).run(pairs);
            assert_eq!((timed.pairs, timed.further_frames, timed.further_turns), (pairs, 0, 0));
        }
    }
}
