//! Pinning this thread to a core.

use crate::error::{Error, Result};

/// Runs the calling thread on `core` alone.
///
/// # Errors
/// There is no such core, or it is not among those that this process may use.
pub(crate) fn to_core(core: usize) -> Result<()> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let listed = || cores.iter().map(|core| core.id.to_string()).collect::<Vec<_>>().join(", ");
    match cores.iter().find(|id| id.id == core) {
        Some(id) if core_affinity::set_for_current(*id) => Ok(()),
        _ => Err(Error::usage(format!("cannot run on core {core}: this process may use {}", listed()))),
    }
}
