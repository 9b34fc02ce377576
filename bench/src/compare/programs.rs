//! The programs that are started, and the cores that they run on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::netns::{INTERFACE, Shape};

/// The core that serves.
pub(crate) const SERVER_CORE: usize = 1;
/// The engine's program, and the package that it is from.
pub(crate) const ENGINE: (&str, &str) = ("barewire", "barewire");
/// The core that generates.
pub(crate) const GENERATOR_CORE: usize = 0;

/// Where they are: all beside this program.
#[derive(Debug)]
pub(crate) struct Programs {
    bench: PathBuf,
    shape: Shape,
}

impl Programs {
    /// Finds this program.
    ///
    /// # Errors
    /// Its file is gone.
    pub(crate) fn find(shape: Shape) -> Result<Self> {
        Ok(Self { bench: std::env::current_exe().context(|| "cannot find this program's own file".into())?, shape })
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

    /// The engine, answering on these ports, and with whatever else is said.
    pub(crate) fn engine(&self, driver: &str, ports: &[&str]) -> Vec<String> {
        self.engine_at(&self.bench.with_file_name(ENGINE.0), driver, ports)
    }

    /// The same of another build.
    pub(crate) fn engine_at(&self, binary: &Path, driver: &str, ports: &[&str]) -> Vec<String> {
        let (address, core) = (self.shape.family.server_cidr(), SERVER_CORE.to_string());
        let where_ = ["echo", "--interface", INTERFACE, "--address", &address];
        let how = ["--queues", "0", "--cores", &core, "--mode", "copy", "--driver", driver, "--idle", "spin"];
        let args = where_.into_iter().chain(ports.iter().copied()).chain(how);
        words(binary, args)
    }

    /// A server of this very program.
    pub(crate) fn serve(&self, name: &str) -> Vec<String> {
        let address = SocketAddr::new(self.shape.family.server(), 7).to_string();
        let core = SERVER_CORE.to_string();
        let args = ["serve", name, "--address", &address, "--interface", INTERFACE, "--core", &core];
        words(&self.bench, args)
    }

    /// A server on another stack.
    pub(crate) fn peer(&self, name: &str) -> Vec<String> {
        let address = self.shape.family.server_cidr();
        let core = SERVER_CORE.to_string();
        let args = ["--interface", INTERFACE, "--address", &address, "--core", &core];
        words(&self.bench.with_file_name(name), args)
    }
}

fn words<'a>(program: &Path, args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    std::iter::once(program).chain(args.into_iter().map(str::to_owned)).collect()
}
