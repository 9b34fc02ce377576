//! The back end on our own stack over AF_XDP: a worker of the engine, with a client as its application.
//!
//! ```text
//!  main thread   starts the engine, waits for the outcome, takes the engine down
//!                     ^ outcome
//!  worker        turn, turn, turn ...   pinned to --core; spins; the client is its application, so a response is
//!                                       looked at, and the next request made, where the frame was received
//! ```
//!
//! Clients of connections that stay are a [`work::Work`] in a [`held::Held`], which opens, times and closes them.
//!
//! What is measured is what the kernel back end measures, into the same structures. The clock is read once for each
//! burst of received frames, after it came in: a response is complete at that moment, and what is sent in answer to
//! the burst counts from it. So no response is ever counted as faster than it was.

mod datagrams;
mod held;
mod host;
mod pulse;
mod requests;
mod stream;
#[cfg(test)]
mod tests;
mod visits;
mod work;

use barewire::app::Closed;
use ipnet::IpNet;

use self::datagrams::Datagrams;
use self::held::Held;
pub(crate) use self::host::{AddressArgs, BackEndArgs, Client, Place, Ran};
use self::host::{Host, Limits};
use self::requests::Requests;
use self::stream::Streams;
use self::visits::Visits;
use self::work::Work;
use crate::error::Result;
use crate::tcp::stream::Direction;
use crate::tcp::trial::{Measured, Plan};
use crate::udp;
use crate::udp::sources::Sources;
use crate::udp::trial::Offer;

/// After a client's last connection has ended, how long the worker goes on, so that what was sent last leaves.
const LINGER_NS: u64 = 1_000_000;
/// What the losses of our own stack are told under.
pub(crate) const PLACE: &str = "own stack";
/// What a stream has under way: the buffers of a connection.
const STREAM_BYTES: usize = 1 << 20;

impl Place {
    /// Requests and their responses, of `size` bytes, on each connection.
    ///
    /// # Errors
    /// The engine does not start, the server does not accept or closes, or it is no echo.
    pub(crate) fn requests(&self, plan: Plan, (connections, size): (usize, usize)) -> Result<Measured> {
        self.held(plan, Requests::new(size), Limits { connections, bytes_under_way: size })
    }

    /// The same over connections of which few are asked at a time, and some may be lost.
    ///
    /// # Errors
    /// The engine does not start, the server does not accept, or it is no echo.
    pub(crate) fn samples(&self, plan: Plan, (connections, size): (usize, usize)) -> Result<Measured> {
        self.held(plan, Requests::new(size).tolerant(), Limits { connections, bytes_under_way: 0 })
    }

    /// A stream of bytes on each connection, in writes of `size`.
    ///
    /// # Errors
    /// The engine does not start, the server does not accept, or closes.
    pub(crate) fn streams(
        &self,
        plan: Plan,
        (connections, size): (usize, usize),
        direction: Direction,
    ) -> Result<Measured> {
        self.held(plan, Streams::new(direction, size), Limits { connections, bytes_under_way: STREAM_BYTES })
    }

    /// `connections` at a time for one request of `size` bytes each.
    ///
    /// # Errors
    /// The engine does not start, no connection succeeds, or the server is no echo.
    pub(crate) fn visits(&self, plan: Plan, (connections, size): (usize, usize)) -> Result<Measured> {
        let host = Host::new(self, Limits { connections, bytes_under_way: size })?;
        let sources = host.sources().to_vec();
        let ran = host.run(|tell| Visits::new(self.target, sources, (connections, size), plan, tell))?;
        Ok(measured(ran, Measured::from))
    }

    /// Datagrams and their echoes, one trial after the other, from `sources` in turn if there are any: what came of the last, counters of our own stack that
    /// tell of losses, and how its frames travelled.
    ///
    /// # Errors
    /// The engine does not start, or nothing can be sent.
    pub(crate) fn datagrams(&self, offers: Vec<Offer>, sources: Option<Sources>) -> Result<Ran<udp::trial::Outcome>> {
        let all: Vec<IpNet> = sources.iter().flat_map(Sources::all).collect();
        let place = Self { addresses: self.addresses.with(&all)?, ..self.clone() };
        let host = Host::new(&place, Limits { connections: 0, bytes_under_way: 0 })?;
        let sources = all.iter().map(IpNet::addr).collect();
        host.run(|tell| Datagrams::new(self.target, sources, offers, tell))
    }

    fn held(&self, plan: Plan, work: impl Work + 'static, limits: Limits) -> Result<Measured> {
        let host = Host::new(self, limits)?;
        let sources = host.sources().to_vec();
        let ran = host.run(|tell| Held::new(self.target, sources, limits.connections, plan, work, tell))?;
        Ok(measured(ran, |(outcome, opening)| Measured { opening: Some(opening), ..Measured::from(outcome) }))
    }
}

/// What a client on our own stack has to tell.
fn measured<T>(ran: Ran<T>, of: impl FnOnce(T) -> Measured) -> Measured {
    Measured { how: Some(ran.how), ..of(ran.told).with_losses(PLACE, ran.losses) }
}

/// Why a connection is over, to go on a sentence about it.
const fn why(reason: Closed) -> &'static str {
    match reason {
        Closed::Finished => "the server closed it",
        Closed::Reset => "the server reset it",
        Closed::Refused => "the server refuses",
        Closed::TimedOut => "the server does not answer any more",
        Closed::Unreachable => "the network cannot reach the server",
        Closed::Aborted => "it was aborted here",
    }
}
