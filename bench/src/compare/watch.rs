//! What went on around a measurement: whether both sides had their cores to themselves, and what got lost.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::losses::{self, Counters};
use crate::netns::{INTERFACE, Pair};
use crate::process::{Server, own_waited_ns};
use crate::result::Round;

/// Above this part of the time without its core, a server or generator was not alone.
const SHARED: f64 = 0.02;

/// Whether other programs had so much of a core that the round's figures are theirs too.
pub(crate) fn disturbed(round: &Round) -> bool {
    round.core_shared.is_some_and(|shared| shared > SHARED)
}

/// Readings from before a measurement.
pub(crate) struct Watch {
    began: Instant,
    generator_waited_ns: u64,
    server_waited_ns: u64,
    places: BTreeMap<String, Counters>,
}

impl Watch {
    /// The measurement begins. For the thread that generates, in the client's namespace.
    pub(crate) fn begin(pair: &Pair, server: &Server) -> Self {
        Self {
            places: places(pair),
            began: Instant::now(),
            generator_waited_ns: own_waited_ns(),
            server_waited_ns: server.waited_ns(),
        }
    }

    /// It is over; the server still runs. Told in `round` are the part of the time in which generator or server,
    /// whichever had it worse, was ready to run while something else had its core, and counters that grew and tell
    /// of losses.
    pub(crate) fn end(&self, pair: &Pair, server: &Server, round: &mut Round) {
        let generator_ns = own_waited_ns() - self.generator_waited_ns;
        let waited_ns = generator_ns.max(server.waited_ns().saturating_sub(self.server_waited_ns));
        round.core_shared = Some(waited_ns as f64 / self.began.elapsed().as_nanos() as f64);
        round.losses = losses::grown_by_place(&self.places, &places(pair));
        round.ready = Some(server.ready.clone());
    }
}

/// Counters of both ends.
fn places(pair: &Pair) -> BTreeMap<String, Counters> {
    let at_server = ["ip", "netns", "exec", &pair.server];
    BTreeMap::from([
        ("client's interface".to_owned(), losses::of_interface(&[], INTERFACE)),
        ("client's TCP".to_owned(), losses::of_kernel_tcp()),
        ("server's interface".to_owned(), losses::of_interface(&at_server, INTERFACE)),
    ])
}
