//! The programs that are started, and the cores that they run on.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::netns::{INTERFACE, SERVER_ADDRESS};

/// The core that serves.
const SERVER_CORE: &str = "1";
/// The core that generates.
pub(crate) const GENERATOR_CORE: usize = 0;

/// Where they are: all beside this program.
#[derive(Debug)]
pub(crate) struct Programs {
    bench: PathBuf,
}

impl Programs {
    /// Finds this program.
    ///
    /// # Errors
    /// Its file is gone.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { bench: std::env::current_exe().context(|| "cannot find this program's own file".into())? })
    }

    /// Makes sure that there is a program of this name, from the crate `package`.
    ///
    /// # Errors
    /// It was not built.
    pub(crate) fn check(&self, name: &str, package: &str) -> Result<()> {
        let file = self.bench.with_file_name(name);
        if file.exists() {
            return Ok(());
        }
        Err(Error::run(format!(
            "no `{name}` at {}: `cargo build --release -p {package}` builds it, and `--only` compares the rest",
            file.display()
        )))
    }

    /// The engine, answering on these ports.
    pub(crate) fn engine(&self, driver: &str, ports: &[&str]) -> Vec<String> {
        let where_ = ["echo", "--interface", INTERFACE, "--address", SERVER_ADDRESS];
        let how = ["--queues", "0", "--cores", SERVER_CORE, "--mode", "copy", "--driver", driver, "--idle", "spin"];
        let args = where_.into_iter().chain(ports.iter().copied()).chain(how);
        words(&self.bench.with_file_name("barewire"), args)
    }

    /// A server of this very program.
    pub(crate) fn serve(&self, name: &str) -> Vec<String> {
        let args = ["serve", name, "--address", "10.77.0.2:7", "--interface", INTERFACE, "--core", SERVER_CORE];
        words(&self.bench, args)
    }

    /// A server on another stack.
    pub(crate) fn peer(&self, name: &str) -> Vec<String> {
        let args = ["--interface", INTERFACE, "--address", SERVER_ADDRESS, "--core", SERVER_CORE];
        words(&self.bench.with_file_name(name), args)
    }
}

fn words<'a>(program: &Path, args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    std::iter::once(program).chain(args.into_iter().map(str::to_owned)).collect()
}
