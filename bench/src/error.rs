//! What can go wrong, and the exit code that goes with it.

use std::fmt::Display;

/// A failure, told as a sentence that says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments cannot mean anything: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed at run time: exit code 1.
    #[error("{0}")]
    Run(String),
    /// SIGINT or SIGTERM came before there was a result: exit code 1.
    #[error("interrupted")]
    Interrupted,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn run(message: impl Display) -> Self {
        Self::Run(message.to_string())
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) | Self::Interrupted => 1,
        }
    }
}

/// Puts what was being done in front of an error.
pub(crate) trait Context<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Run(format!("{}: {error}", doing())))
    }
}
