//! A TCP stack alone: frames in, frames out, and the time in between.
//!
//! ```text
//!   client.rs                         stack under test
//!   SYN, ACK (once)  --- deliver -->  turn   --- collect -->  SYN-ACK
//!   requests         --- deliver -->  turn   --- collect -->  responses
//!                                     ^^^^ this is timed, and nothing else
//! ```
//!
//! The client is a few lines that build Ethernet, IPv4 and TCP by hand and check every frame that comes back;
//! the stack has to be an echo on [`SERVER`], and owes one segment for each: the response, which acknowledges
//! the request. The next request on a connection acknowledges the response.
//!
//! A burst has a request of 64 bytes for each of up to 64 connections, in turn. So it is as long as the number
//! of connections at most: with one connection a turn handles one request, as it would behind a real client.
//! A stack that does something for all its connections at each turn does it for fewer requests when the bursts
//! are shorter.

#![forbid(unsafe_code)]

mod client;
mod command;
mod frame;

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub use crate::command::run;
pub use crate::frame::{CLIENT_MAC, Mac, SERVER, SERVER_MAC, SERVER_PREFIX_LEN};

use crate::client::Client;

/// Requests in a burst at most, as many as a burst of the engine holds.
pub const BURST: usize = 64;

/// Virtual time from one burst to the next, in microseconds: what a fast stack takes for one, and so little
/// that no timer runs out before a connection has its turn again.
const STEP_US: u64 = 10;
/// The same while connections are opened.
const OPENING_STEP_US: u64 = 1_000;
/// Turns after which a stack is not believed to answer any more.
const PATIENCE: usize = 1_000;

/// The addresses that so many connections come from, all of them with the hardware address [`CLIENT_MAC`].
pub fn client_addresses(connections: usize) -> impl Iterator<Item = Ipv4Addr> {
    client::addresses(connections)
}

/// A TCP echo on [`SERVER`], with the hardware address [`SERVER_MAC`], on the network of which
/// [`SERVER_PREFIX_LEN`] bits are the prefix.
pub trait StackUnderTest {
    /// Takes frames to be received at the next turn, all of them. Not timed: copy them to where the stack wants
    /// them.
    fn deliver(&mut self, frames: &mut Vec<Vec<u8>>);

    /// Receives everything that was delivered, echoes, sends. Timed.
    fn turn(&mut self, now_us: u64);

    /// Gives everything that was sent since the last time. Not timed.
    fn collect(&mut self, frames: &mut Vec<Vec<u8>>);
}

/// How a stack is asked. Written as `CONNECTIONS` or `CONNECTIONSxBURST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open.
    pub connections: usize,
    /// Requests in a burst, of those on as many connections; up to [`BURST`].
    pub burst: usize,
}

impl FromStr for Load {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(());
        let (connections, burst) = match text.split_once('x') {
            Some((connections, burst)) => (number(connections)?, number(burst)?),
            None => (number(text)?, BURST),
        };
        if burst <= BURST { Ok(Self { connections, burst }) } else { Err(()) }
    }
}

impl Display for Load {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match self.burst {
            BURST => self.connections.to_string(),
            burst => format!("{}x{burst}", self.connections),
        };
        f.pad(&text)
    }
}

/// What pairs of request and response took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timed {
    /// Requests that were answered.
    pub pairs: u64,
    /// Time within turns, without that of reading the clock.
    pub elapsed: Duration,
    /// Frames beyond one response for each request: acknowledgments of their own, retransmissions.
    pub further_frames: u64,
    /// Turns beyond one for each burst.
    pub further_turns: u64,
}

impl Timed {
    /// Nanoseconds for a pair.
    #[must_use]
    pub fn ns_per_pair(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.pairs.max(1) as f64
    }
}

/// A stack with established connections.
#[derive(Debug)]
pub struct Driver<S> {
    stack: S,
    client: Client,
    now_us: u64,
    incoming: Vec<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    clock_cost: Duration,
}

impl<S: StackUnderTest> Driver<S> {
    /// Opens the connections of `load` by real handshakes, up to 64 at a time.
    ///
    /// # Panics
    /// If the stack does not answer as a TCP server should.
    #[must_use]
    pub fn establish(stack: S, load: Load) -> Self {
        let connections = load.connections;
        let (client, clock_cost) = (Client::new(load), clock_cost());
        let mut driver = Self {
            stack,
            client,
            now_us: 1_000_000,
            incoming: Vec::with_capacity(2 * BURST),
            outgoing: Vec::with_capacity(2 * BURST),
            clock_cost,
        };
        driver.client.announce(&mut driver.incoming);
        driver.exchange(OPENING_STEP_US);
        for first in (0..connections).step_by(BURST) {
            let batch = first..connections.min(first + BURST);
            batch.clone().for_each(|index| driver.incoming.push(driver.client.syn(index)));
            let mut turns = 0;
            while !batch.clone().all(|index| driver.client.is_established(index)) || !driver.incoming.is_empty() {
                driver.exchange(OPENING_STEP_US);
                turns += 1;
                assert!(turns < PATIENCE, "no SYN-ACK for one of the connections {batch:?}");
            }
        }
        driver
    }

    /// Sends at least `pairs` requests in bursts, and times what the stack does with them.
    ///
    /// # Panics
    /// If a response is wrong or does not come.
    pub fn run(&mut self, pairs: u64) -> Timed {
        let mut timed = Timed::default();
        let frames_before = self.client.frames;
        while timed.pairs < pairs {
            let burst = self.client.requests(&mut self.incoming);
            timed.pairs += burst as u64;
            timed.elapsed += self.exchange(STEP_US);
            let mut turns = 0;
            while self.client.outstanding > 0 {
                timed.elapsed += self.exchange(STEP_US);
                turns += 1;
                assert!(turns < PATIENCE, "{} requests have no response", self.client.outstanding);
            }
            timed.further_turns += turns as u64;
        }
        timed.further_frames = self.client.frames - frames_before - timed.pairs;
        timed
    }

    /// One turn. Says how long it took, without the clock.
    fn exchange(&mut self, step_us: u64) -> Duration {
        self.now_us += step_us;
        self.stack.deliver(&mut self.incoming);
        let start = Instant::now();
        turn(&mut self.stack, self.now_us);
        let elapsed = start.elapsed();
        self.stack.collect(&mut self.outgoing);
        for frame in self.outgoing.drain(..) {
            self.client.receive(&frame, &mut self.incoming);
        }
        elapsed.saturating_sub(self.clock_cost)
    }
}

/// The measured function: callgrind is told to collect within it (`--toggle-collect`).
#[inline(never)]
fn turn<S: StackUnderTest>(stack: &mut S, now_us: u64) {
    stack.turn(now_us);
}

/// What reading the clock before and after nothing shows: with one connection, a good part of a turn.
fn clock_cost() -> Duration {
    const READINGS: usize = 10_001;
    let mut readings: Vec<Duration> = (0..READINGS).map(|_| Instant::now().elapsed()).collect();
    readings.sort();
    readings[READINGS / 2]
}

#[cfg(test)]
mod tests;
