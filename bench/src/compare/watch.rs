//! What went on around a measurement: whether both sides had their cores to themselves, and what got lost.

use std::time::Instant;

use serde::Serialize;

use crate::losses::{self, Counters};
use crate::netns::{INTERFACE, Pair};
use crate::process::{Server, own_waited_ns};

/// Above this part of the time without its core, a server or generator was not alone.
const SHARED: f64 = 0.02;

/// What there was beside the figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Around {
    /// Part of the round in which generator or server, whichever had it worse, was ready to run while something
    /// else had its core: on an idle machine next to nothing.
    pub core_shared: f64,
    /// Counters of the client's interface and TCP, and of the server's interface, that grew and tell of losses,
    /// over the whole round.
    pub client_losses: Counters,
    pub server_losses: Counters,
}

impl Around {
    /// Whether other programs had so much of a core that the figures are theirs too.
    pub(crate) fn disturbed(&self) -> bool {
        self.core_shared > SHARED
    }

    /// What a line of the progress report ends with.
    pub(crate) fn brief(&self) -> &'static str {
        if self.disturbed() { ", CORES SHARED with other programs" } else { "" }
    }
}

/// Readings from before a measurement.
pub(crate) struct Watch {
    began: Instant,
    generator_waited_ns: u64,
    server_waited_ns: u64,
    client: Counters,
    server: Counters,
}

impl Watch {
    /// The measurement begins. For the thread that generates, in the client's namespace.
    pub(crate) fn begin(pair: &Pair, server: &Server) -> Self {
        let (at_client, at_server) = counters(pair);
        Self {
            began: Instant::now(),
            generator_waited_ns: own_waited_ns(),
            server_waited_ns: server.waited_ns(),
            client: at_client,
            server: at_server,
        }
    }

    /// It is over; the server still runs.
    pub(crate) fn end(&self, pair: &Pair, server: &Server) -> Around {
        let generator_ns = own_waited_ns() - self.generator_waited_ns;
        let waited_ns = generator_ns.max(server.waited_ns().saturating_sub(self.server_waited_ns));
        let core_shared = waited_ns as f64 / self.began.elapsed().as_nanos() as f64;
        let (client, server) = counters(pair);
        Around {
            core_shared,
            client_losses: losses::grown(&self.client, &client),
            server_losses: losses::grown(&self.server, &server),
        }
    }
}

/// Counters of both ends.
fn counters(pair: &Pair) -> (Counters, Counters) {
    let at_server = ["ip", "netns", "exec", &pair.server];
    let mut client = losses::of_interface(&[], INTERFACE);
    client.extend(losses::of_kernel_tcp());
    (client, losses::of_interface(&at_server, INTERFACE))
}
