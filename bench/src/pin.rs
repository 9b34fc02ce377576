//! Pinning this thread to a core.

use core_affinity::CoreId;

use crate::error::{Error, Result};

/// Runs the calling thread on `core` alone.
///
/// # Errors
/// There is no such core, or it is not among those that this process may use.
pub(crate) fn to_core(core: usize) -> Result<()> {
    if core_affinity::set_for_current(check(core)?) { Ok(()) } else { Err(refused(core)) }
}

/// Checks that a thread of this process could be pinned to `core`.
///
/// # Errors
/// As [`to_core`].
pub(crate) fn check(core: usize) -> Result<CoreId> {
    cores().into_iter().find(|id| id.id == core).ok_or_else(|| refused(core))
}

/// Cores that this process may use.
pub(crate) fn cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

fn refused(core: usize) -> Error {
    let listed = cores().iter().map(|core| core.id.to_string()).collect::<Vec<_>>().join(", ");
    Error::usage(format!("cannot run on core {core}: this process may use {listed}"))
}
