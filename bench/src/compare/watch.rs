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

/// Readings from before a measurement, and what was seen of it.
pub(crate) struct Watch {
    places: BTreeMap<String, Counters>,
    /// What counts now.
    stretch: Option<Stretch>,
    /// What counted, in nanoseconds: the time, and for how long of it generator and server were ready to run while
    /// something else had their core.
    seen: [u64; 3],
}

/// Readings from the beginning of a stretch of time.
struct Stretch {
    began: Instant,
    waited_ns: [u64; 2],
}

impl Stretch {
    fn begin(server: &Server) -> Self {
        Self { began: Instant::now(), waited_ns: waited_ns(server) }
    }
}

/// How long generator and server have been ready to run while something else had their core.
fn waited_ns(server: &Server) -> [u64; 2] {
    [own_waited_ns(), server.waited_ns()]
}

impl Watch {
    /// The measurement begins. For the thread that generates, in the client's namespace.
    pub(crate) fn begin(pair: &Pair, server: &Server) -> Self {
        Self { places: places(pair), stretch: Some(Stretch::begin(server)), seen: [0; 3] }
    }

    /// Runs a trial. Of a measurement with such trials only they count for how much of the cores others had: what lies
    /// between them may be long.
    pub(crate) fn during<T>(&mut self, server: &Server, trial: impl FnOnce() -> T) -> T {
        self.stretch = Some(Stretch::begin(server));
        let outcome = trial();
        self.close(server);
        outcome
    }

    fn close(&mut self, server: &Server) {
        let Some(Stretch { began, waited_ns: [generator_ns, server_ns] }) = self.stretch.take() else { return };
        let [generator_now_ns, server_now_ns] = waited_ns(server);
        self.seen[0] += began.elapsed().as_nanos() as u64;
        self.seen[1] += generator_now_ns.saturating_sub(generator_ns);
        self.seen[2] += server_now_ns.saturating_sub(server_ns);
    }

    /// It is over; the server still runs. Told in `round` are the part of the time in which generator or server,
    /// whichever had it worse, was ready to run while something else had its core, and counters that grew and tell
    /// of losses.
    pub(crate) fn end(mut self, pair: &Pair, server: &Server, round: &mut Round) {
        self.close(server);
        let [time_ns, generator_ns, server_ns] = self.seen;
        round.core_shared = Some(generator_ns.max(server_ns) as f64 / time_ns as f64);
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
