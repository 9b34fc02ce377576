//! The throughput of TCP, as a table: loss by round-trip time by buffer, beside what theory allows, and how fairly
//! flows share a bottleneck. All in virtual time, so the table is the same everywhere, and a change of it is a diff of
//! `tests/throughput.txt`.
//!
//! `UPDATE=1 cargo test -p barewire-tests --test throughput` writes it anew.

use std::path::Path as FilePath;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use barewire::transport::tcp::congestion::Algorithm;
use barewire_tests::sim::tcp::bulk::{Flows, Path, jain, megabits};

/// Lost frames, in thousandths.
const LOSSES: [u32; 5] = [0, 1, 10, 30, 100];
/// How often a row with losses is measured, with others lost each time: one timeout costs as much as many round trips.
const DRAWS: u64 = 4;
/// Round-trip times, microseconds.
const RTTS_US: [u64; 3] = [200, 10_000, 100_000];
/// Buffers, KiB.
const BUFFERS_KIB: [u32; 4] = [64, 256, 1024, 4096];
/// A gigabit a second.
const NS_PER_BYTE: u64 = 8;
/// Text and frame of a full segment with timestamps.
const TEXT: f64 = 1448.0;
const FRAME: f64 = 1514.0;

/// What stands above the table.
const HEADER: &str = "\
One flow over a gigabit bottleneck whose queue holds a round trip; frames lost at random on the way to the receiver,
other ones in each of 4 runs, of which the table has the mean.
The bound is the least of the rate, of a buffer a round trip, and of the window that CUBIC has on average at such a loss
(RFC 9438, figure 5, or Reno's where that is larger). It leaves timeouts out: where one segment in ten is lost, of the
retransmissions as well, most of the time is spent waiting for 200 ms.

loss %   RTT ms   buffer KiB   Mb/s   bound by        % of it
";
/// What stands above the second table.
const FAIRNESS_HEADER: &str = "
Flows that begin one second after another and share a bottleneck of 50 Mb/s, 20 ms: their parts from 20 s on, for 40 s.

flows   algorithm   Mb/s of all   least   most   Jain
";

/// What a flow has that is limited by loss alone, in segments of window: the larger of CUBIC's (RFC 9438, figure 5, with
/// C = 0.4 and beta = 0.7) and Reno's (RFC 9438, section 4.3) average.
fn response(loss: f64, rtt: f64) -> f64 {
    let cubic = (0.4 * (3.0 + 0.7) / (4.0 * 0.3_f64)).powf(0.25) * rtt.powf(0.75) / loss.powf(0.75);
    cubic.max((1.5 / loss).sqrt())
}

/// The most that theory allows, Mb/s, and what limits it.
fn bound(path: &Path) -> (f64, &'static str) {
    let rtt = path.rtt_ns as f64 / 1e9;
    let rate = (8e3 / path.ns_per_byte as f64 * TEXT / FRAME, "rate");
    let buffer = (f64::from(path.buffer) * 8.0 / rtt / 1e6, "buffer");
    let window = response(f64::from(path.loss) / 1000.0, rtt);
    let loss = (window * TEXT * 8.0 / rtt / 1e6, "loss");
    [rate, buffer, loss].into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn goodput(path: &Path) -> f64 {
    // Slow start is not what is measured, and a window often comes in one burst: so whole round trips are, and where
    // segments are lost, enough of them for a figure that means something.
    let rtt = Duration::from_nanos(path.rtt_ns);
    let (draws, time, most) = match path.loss {
        0 => (1, (rtt * 20).max(Duration::from_millis(50)), u64::MAX),
        _ => (DRAWS, Duration::from_secs(50), 48 << 20),
    };
    let measure = |draw| {
        let mut flows = Flows::new(&Path { draw, ..*path });
        flows.run(Duration::from_millis(500) + rtt * 40, u64::MAX);
        flows.run(time, most)
    };
    let (bytes, time) = (0..draws)
        .map(measure)
        .fold((0, Duration::ZERO), |(bytes, time), (more, longer)| (bytes + more, time + longer));
    megabits(bytes, time)
}

fn row(path: &Path) -> String {
    let (bound, by) = bound(path);
    let is = goodput(path);
    let (loss, rtt, kib) = (f64::from(path.loss) / 10.0, path.rtt_ns as f64 / 1e6, path.buffer >> 10);
    let percent = is / bound * 100.0;
    format!("{loss:6.1}   {rtt:6.1}   {kib:10}   {is:6.1}   {bound:6.1} {by:6}   {percent:6.0}\n")
}

fn table() -> String {
    let mut paths = Vec::new();
    for loss in LOSSES {
        for rtt_us in RTTS_US {
            let path = |kib| Path {
                rtt_ns: rtt_us * 1000,
                ns_per_byte: NS_PER_BYTE,
                loss,
                draw: 0,
                buffer: kib << 10,
                flows: 1,
                gap_ns: 0,
                algorithm: Algorithm::Cubic,
            };
            paths.extend(BUFFERS_KIB.map(path));
        }
    }
    HEADER.to_string() + &on_all_cores(&paths, row).concat()
}

/// Computes something for each item, in the order of the items.
fn on_all_cores<T: Sync, R: Send>(items: &[T], compute: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            done.push((at, compute(item)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a simulation panicked")).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Goodput of each flow after they had time to find their parts.
fn fairness(flows: u32, algorithm: Algorithm) -> Vec<f64> {
    let path = Path {
        rtt_ns: 20_000_000,
        ns_per_byte: 160,
        loss: 0,
        draw: 0,
        buffer: 1 << 20,
        flows,
        gap_ns: 1_000_000_000,
        algorithm,
    };
    let mut all = Flows::new(&path);
    all.run(Duration::from_secs(20), u64::MAX);
    let before = all.received().to_vec();
    let (_, time) = all.run(Duration::from_secs(40), u64::MAX);
    all.received().iter().zip(before).map(|(after, before)| megabits(after - before, time)).collect()
}

fn fairness_table() -> String {
    let cases = [(2, Algorithm::Cubic), (2, Algorithm::Reno), (10, Algorithm::Cubic), (10, Algorithm::Reno)];
    let rows = on_all_cores(&cases, |&(flows, algorithm)| {
        let parts = fairness(flows, algorithm);
        let sum: f64 = parts.iter().sum();
        let least = parts.iter().copied().fold(f64::INFINITY, f64::min);
        let most = parts.iter().copied().fold(0.0, f64::max);
        let (name, jain) = (format!("{algorithm:?}"), jain(&parts));
        format!("{flows:5}   {name:9}   {sum:11.1}   {least:5.1}   {most:4.1}   {jain:.3}\n")
    });
    FAIRNESS_HEADER.to_string() + &rows.concat()
}

#[test]
fn the_table_is_as_committed() {
    let text = table() + &fairness_table();
    println!("{text}");
    let file = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("throughput.txt");
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(committed, text, "tests/throughput.txt: UPDATE=1 cargo test -p barewire-tests --test throughput");
}
