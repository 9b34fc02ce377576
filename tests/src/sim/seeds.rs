//! Runs of seeds: a failure becomes one line to paste and a capture of the wire.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use barewire::apps::echo::Echo;

use super::pcap;
use super::run::{Outcome, Simulation};
use super::scenario::Scenario;
use super::tcp::{TcpOutcome, TcpScenario, TcpSimulation};

/// Runs the simulation of a seed. One that fails is run a second time, with the wire captured.
///
/// # Errors
/// What went wrong, and how to see it again.
pub fn run_seed(seed: u64) -> Result<Outcome, String> {
    let simulation = || Simulation::new(Scenario::drawn(seed), Echo, |_, nic| nic);
    let recorded = |records| {
        let mut simulation = simulation();
        simulation.record(records);
        simulation.run()
    };
    explain(seed, "simulator", || simulation().run(), recorded)
}

/// Runs the simulation of TCP of a seed. One that fails is run a second time, with the wire captured.
///
/// # Errors
/// What went wrong, and how to see it again.
pub fn run_tcp_seed(seed: u64) -> Result<TcpOutcome, String> {
    let simulation = || TcpSimulation::new(TcpScenario::drawn(seed), |_, nic| nic);
    let recorded = |records| {
        let mut simulation = simulation();
        simulation.record(records);
        simulation.run()
    };
    explain(seed, "tcp_simulator", || simulation().run(), recorded)
}

/// Runs a seed of a test; if that fails, once more with the wire captured.
fn explain<T>(
    seed: u64,
    test: &str,
    run: impl FnOnce() -> T,
    recorded: impl FnOnce(Rc<RefCell<pcap::Records>>) -> T,
) -> Result<T, String> {
    attempt(run).map_err(|reason| {
        let records = Rc::new(RefCell::new(Vec::new()));
        let again = attempt(|| recorded(records.clone()));
        let same = again.as_ref().err() == Some(&reason);
        let path = capture(test, seed, &records.borrow());
        let note = if same { "" } else { " (the second run went otherwise: something hidden is an input)" };
        format!(
            "{reason}{note}\nwire: {}\nSEED={seed} cargo test -p barewire-tests --test {test} one_seed -- --nocapture",
            path.display()
        )
    })
}

/// Runs something that panics where an invariant does not hold.
///
/// # Errors
/// The panic's message.
pub fn attempt<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_string()
    })
}

fn capture(test: &str, seed: u64, records: &pcap::Records) -> PathBuf {
    let path = std::env::temp_dir().join(format!("barewire-{test}-{seed}.pcap"));
    match pcap::write(&path, records) {
        Ok(()) => path,
        Err(error) => PathBuf::from(format!("not written, {error}")),
    }
}
