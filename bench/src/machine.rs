//! What every figure is printed with: machine, kernel, command and commit.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Where and by what something was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// The command line that was run.
    pub command: String,
    /// `git describe` of the checkout that the command was run in, or "unknown".
    pub commit: String,
    pub version: String,
    /// Programs that wanted to run during the minute before: above a few tenths, others shared the cores.
    pub load_average: f64,
    /// The shortest round trip of a cache line between the cores of generator and server, where that was looked at.
    #[serde(default)]
    pub cores_ns: Option<f64>,
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: cpu.unwrap_or("unknown").trim().to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: kernel.trim().to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            commit: commit(),
            version: env!("CARGO_PKG_VERSION").into(),
            load_average: load.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
            cores_ns: None,
        }
    }
}

/// The checkout that this binary lies in (`target/...`), whatever the working directory.
fn commit() -> String {
    let here = std::env::current_exe().ok().and_then(|exe| exe.parent().map(ToOwned::to_owned)).unwrap_or_default();
    let described = Command::new("git")
        .arg("-C")
        .arg(here)
        .args(["describe", "--always", "--dirty", "--tags", "--abbrev=12"])
        .output()
        .ok()
        .filter(|output| output.status.success());
    described.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
