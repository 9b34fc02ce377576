//! A result that nobody measured: three servers, five rounds, a search and a latency trial in each, the same every time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Value, json};

/// The servers' names; the first is the baseline, and would be markup if it were not escaped.
pub(crate) const SERVERS: [&str; 3] = ["<b>slow</b>", "quick", "steady"];

/// A directory that is removed with all that is in it when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// # Panics
    /// If it cannot be made.
    pub(crate) fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bw-bt{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a result.
    ///
    /// # Panics
    /// If that cannot be done.
    pub(crate) fn write(&self, name: &str, document: &Value) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, document.to_string()).unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the load generator.
///
/// # Panics
/// If it cannot be started.
pub(crate) fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_barewire-bench")).args(args).output().unwrap()
}

/// What it prints, if it succeeds.
///
/// # Panics
/// If it fails.
pub(crate) fn printed(args: &[&str]) -> String {
    let output = bench(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// # Panics
/// If the path is no text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The result; `speed` is how fast the second server is.
pub(crate) fn document(speed: f64) -> Value {
    let servers = SERVERS.iter().enumerate().map(|(index, name)| {
        let peak = [0.5, speed, 0.7][index];
        json!({
            "name": name,
            "description": "made up & never measured",
            "baseline": index == 0,
            "rounds": (0..5).map(|number| round(index, peak, number)).collect::<Vec<_>>(),
        })
    });
    json!({
        "schema": "barewire-bench/2",
        "workload": "compare udp",
        "machine": {
            "cpu": "Abacus", "cores": 2, "kernel": "6.18.0", "command": "barewire-bench compare udp --json made-up.json",
            "commit": "0123456789ab", "version": "0.1.0", "load_average": 0.1
        },
        "network": {
            "description": "a string between two tins", "family": "ipv4", "mtu": 1500,
            "interface": {"name": "bw0", "driver": "veth", "offloads": ["rx-checksumming"]},
            "target": "10.77.0.2:7"
        },
        "interrupted": false,
        "rounds_asked": 5,
        "servers": servers.collect::<Vec<_>>(),
    })
}

/// Rounds differ by a few percent, the same for all servers.
fn round(server: usize, peak: f64, number: u32) -> Value {
    let peak = peak * (1.0 + 0.01 * f64::from(number));
    let median_us = 4.0 / peak;
    // The last server is faster than what loads it.
    let limited = server == 2;
    let figure = |value: f64, unit: &str, better: &str| json!({"value": value, "unit": unit, "better": better, "limited": limited && better == "higher"});
    let mut trials: Vec<Value> = (1..=10)
        .map(|step| {
            let asked = peak * 1e5 * f64::from(step * step);
            let answered = asked.min(peak * 1e6);
            let queue_us = if asked > answered { 900.0 } else { median_us / (1.05 - answered / (peak * 1e6)) };
            trial("search", [asked, answered], &latency(queue_us), &Value::Null, limited && step > 8, server)
        })
        .collect();
    trials.push(trial("latency", [1e5, 1e5], &latency(median_us), &latency(median_us / 2.0), false, server));
    json!({
        "ready": "ready interface=bw0 queues=0 cores=1 mode=copy driver=rings",
        "figures": {
            "peak": figure(peak, "Mpps", "higher"),
            "p50": figure(median_us, "us", "lower"),
            "loss": figure(0.0, "%", "lower"),
        },
        "trials": trials,
        "core_shared": if server == 1 && number == 0 { 0.2 } else { 0.001 },
        "losses": {"server's interface": {"rx_queue_0_drops": 3}},
    })
}

fn trial(
    measure: &str,
    [asked, answered]: [f64; 2],
    latency: &Value,
    from_sending: &Value,
    limited: bool,
    server: usize,
) -> Value {
    let shift = server as u32;
    let slices = (0..20u32).map(|slice| {
        let wave = 1.0 + 0.1 * (f64::from((slice + shift) % 5) - 2.0);
        json!({
            "at_seconds": f64::from(slice) * 0.1, "seconds": 0.1, "completed": (answered * 0.1 * wave) as u64, "bytes": 0,
            "p50_ns": 1000, "p99_ns": 2000, "max_ns": 3000
        })
    });
    json!({
        "measure": measure, "back_end": "kernel", "arrivals": {"process": "constant"}, "connections": null,
        "size_bytes": 64, "unit": "frames", "asked_per_s": asked, "seconds": 2.0, "sent": (asked * 2.0) as u64,
        "completed": (answered * 2.0) as u64, "completed_per_s": answered, "bytes": 0,
        "lost": ((asked - answered) * 2.0) as u64, "duplicated": 0, "reordered": 0, "stale": 0, "failed": 0, "idle": null,
        "limited": limited, "adherence": null, "timestamps": "program", "latency": latency,
        "latency_from_sending": from_sending, "slices": slices.collect::<Vec<_>>(),
    })
}

/// A long-tailed distribution around a median.
fn latency(median_us: f64) -> Value {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 36, 3).unwrap();
    for sample in 0..20_000 {
        let part = (f64::from(sample) + 0.5) / 20_000.0;
        // Pareto, of shape 2.
        histogram.record((median_us * 1000.0 / 2f64.sqrt() / (1.0 - part).sqrt()) as u64).unwrap();
    }
    let mut compressed = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut compressed).unwrap();
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({
        "samples": histogram.len(), "min_ns": histogram.min(), "mean_ns": histogram.mean(), "p50_ns": at(0.5),
        "p90_ns": at(0.9), "p99_ns": at(0.99), "p999_ns": at(0.999), "p9999_ns": at(0.9999), "max_ns": histogram.max(),
        "histogram": BASE64.encode(compressed),
    })
}
