//! The commands of `barewire`.

pub(crate) mod connect;
pub(crate) mod connections;
pub(crate) mod serve;

use std::process::ExitCode;

/// Says why a command failed, and gives the code to exit with.
pub(crate) fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("barewire: {error}");
    ExitCode::from(code)
}
