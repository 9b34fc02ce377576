//! Two network namespaces for a test, and the load generator in them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// The program under test.
pub(crate) const BENCH: &str = env!("CARGO_BIN_EXE_barewire-bench");

/// Two namespaces joined by a veth; removed when dropped.
pub(crate) struct Net {
    /// Has 10.77.0.1 and fd00:77::1.
    pub(crate) client: String,
    /// Has 10.77.0.2 and fd00:77::2.
    pub(crate) server: String,
}

impl Net {
    /// # Panics
    /// Without root, iproute2 or ethtool.
    pub(crate) fn new(test: &str) -> Self {
        let name = |end| format!("bw-bt{}-{test}-{end}", std::process::id());
        let net = Self { client: name("c"), server: name("s") };
        for (namespace, hint) in [(&net.client, "this test needs root"), (&net.server, "this test needs root")] {
            ip(&["netns", "add", namespace], hint);
        }
        ip(
            &["-n", &net.client, "link", "add", "bw0", "type", "veth", "peer", "name", "bw0", "netns", &net.server],
            "the kernel has no veth",
        );
        for (namespace, address) in [(&net.client, "10.77.0.1/24"), (&net.server, "10.77.0.2/24")] {
            ip(&["-n", namespace, "link", "set", "bw0", "addrgenmode", "none"], "");
            ip(&["-n", namespace, "address", "add", address, "dev", "bw0"], "");
            let address = if address.contains(".1/") { "fd00:77::1/64" } else { "fd00:77::2/64" };
            ip(&["-n", namespace, "address", "add", address, "dev", "bw0", "nodad"], "");
            ip(&["-n", namespace, "link", "set", "bw0", "up"], "");
        }
        ip(&["netns", "exec", &net.server, "ethtool", "-K", "bw0", "gro", "on"], "is ethtool installed?");
        net
    }

    /// Starts a server of the load generator's own on 10.77.0.2:7.
    ///
    /// # Panics
    /// If it does not get ready.
    pub(crate) fn serve(&self, kind: &str) -> Served {
        self.serve_at(kind, "10.77.0.2:7")
    }

    /// Starts one elsewhere.
    ///
    /// # Panics
    /// If it does not get ready.
    pub(crate) fn serve_at(&self, kind: &str, address: &str) -> Served {
        self.serve_with(&[kind, "--address", address])
    }

    /// Starts one with these arguments.
    ///
    /// # Panics
    /// If it does not get ready.
    pub(crate) fn serve_with(&self, args: &[&str]) -> Served {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.server, BENCH, "serve"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip netns exec");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "the server said {line:?}");
        Served { child, output }
    }

    /// Runs a command of the load generator in the client's namespace and reads its JSON.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn measure(&self, args: &[&str]) -> Value {
        let file = std::env::temp_dir().join(format!("{}.json", self.client));
        let mut words = vec!["netns", "exec", &self.client, BENCH];
        words.extend(args);
        words.extend(["--json", file.to_str().unwrap()]);
        ip(&words, "");
        take(&file)
    }

    /// A counter in /proc/net/snmp of the server's kernel.
    ///
    /// # Panics
    /// If there is none of this name.
    pub(crate) fn server_counter(&self, protocol: &str, name: &str) -> u64 {
        let text = ip(&["netns", "exec", &self.server, "cat", "/proc/net/snmp"], "");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(found, _)| *found == name).unwrap().1.parse().unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// A server that is stopped by SIGTERM when dropped.
pub(crate) struct Served {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Served {
    /// Of the server itself: `ip netns exec` has become it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it. What it said since it was ready.
    pub(crate) fn stop(&mut self) -> String {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let mut said = String::new();
        let _ = self.output.read_to_string(&mut said);
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Its process id may be another's once it was waited for.
        if let Ok(None) = self.child.try_wait() {
            self.stop();
        }
    }
}

/// What `ip` says.
///
/// # Panics
/// If it fails.
pub(crate) fn ip(args: &[&str], hint: &str) -> String {
    let output = Command::new("ip").args(args).output().expect("`ip` (package iproute2) has to be installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {} failed: {error} {hint}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Keeps the other tests of the program waiting: client and server have a core each, the same in every test.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static CORES: Mutex<()> = Mutex::new(());
    // A test that failed has told so itself.
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the load generator here.
///
/// # Panics
/// If it cannot be started.
pub(crate) fn bench(args: &[&str]) -> Output {
    Command::new(BENCH).args(args).output().unwrap()
}

/// The trial that a command for one server wrote.
///
/// # Panics
/// If there is not exactly one.
pub(crate) fn trial(document: &Value) -> &Value {
    assert_eq!(document["schema"], "barewire-bench/2", "{document}");
    let trials = document["servers"][0]["rounds"][0]["trials"].as_array().expect("trials");
    assert_eq!(trials.len(), 1, "{document}");
    &trials[0]
}

/// Sends a signal to a process.
///
/// # Panics
/// If there is no such process.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Namespaces that a load generator of this number made for itself and that are still there.
///
/// # Panics
/// Without iproute2.
pub(crate) fn namespaces_of(pid: u32) -> Vec<String> {
    let text = ip(&["netns", "list"], "");
    text.lines().filter(|line| line.starts_with(&format!("bw-bench-{pid}-"))).map(str::to_owned).collect()
}

/// A place for a file, of this process alone.
pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bw-bt{}-{name}", std::process::id()))
}

/// What was written there, which is removed.
///
/// # Panics
/// If there is nothing, or no JSON.
pub(crate) fn take(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::remove_file(file).unwrap();
    serde_json::from_str(&text).unwrap()
}
