//! The commands of `barewire`.

pub(crate) mod connect;
pub(crate) mod connections;
mod host;
pub(crate) mod ping;
pub(crate) mod serve;
pub(crate) mod traceroute;

use std::process::ExitCode;

/// Says why a command failed, and gives the code to exit with.
pub(crate) fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("barewire: {error}");
    ExitCode::from(code)
}
