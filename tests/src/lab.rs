//! The `barewire` command between two kernels: starts it at one end of a veth pair, and gives the tests what
//! they look at it with.
//!
//! ```text
//!   namespace near                                    namespace far
//!     near0   KERNEL 10.0.0.1/24: this host's own       far0   PEER 10.0.0.3/24: another host
//!             ENGINE 10.0.0.2:    `barewire echo`
//!        \__________________________ veth __________________________/
//! ```
//!
//! or with a wire with faults in place of the veth.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::client::Client;
use crate::impair::Faults;
use crate::impair::wire::Wire;
pub use crate::metrics::Metrics;
use crate::netns::{Veth, run};
use crate::source::workspace;
use crate::switch::Switch;

/// Longest that anything may take before a test gives up; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Port of the metrics in the engine's namespace, which no other test shares.
pub const METRICS: &str = "127.0.0.1:9100";

/// Calls `look` until it finds something.
///
/// # Panics
/// If it finds nothing within [`PATIENCE`], with what was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The command of this build, made if it is missing or older than its sources.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn barewire() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // Tests are at target/<profile>/deps/<test>, the command is at target/<profile>/barewire.
        let test = std::env::current_exe().expect("the path of this test");
        let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
        let path = profile.join("barewire");
        let built = path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let sources = ["engine", "ebpf", "Cargo.toml", "Cargo.lock"].map(|name| newest(&workspace().join(name)));
        if sources.into_iter().any(|changed| changed > built) {
            let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let manifest = workspace().join("Cargo.toml");
            let manifest = manifest.to_str().expect("a path in UTF-8");
            // The directory of the profile `dev` is called otherwise.
            let profile = match profile.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => "dev",
                Some(name) => name,
            };
            run(
                &cargo,
                &["build", "-p", "barewire", "--bin", "barewire", "--profile", profile, "--manifest-path", manifest],
            );
        }
        path
    })
}

/// When the newest file in `path` was changed.
fn newest(path: &Path) -> SystemTime {
    if path.is_dir() {
        let entries = path.read_dir().expect("a directory of sources").flatten();
        entries.map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
    } else {
        path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Two kernels with room for an engine between them.
#[derive(Debug)]
pub struct Lab {
    /// What carries frames between the namespaces, where they are not joined. It ends before they do.
    pub wire: Option<Wire>,
    /// The namespaces.
    pub veth: Veth,
}

impl Lab {
    /// Address of the kernel that shares the interface with the engine.
    pub const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    /// Address of the engine.
    pub const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    /// Address of the peer.
    pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    /// What `--address` takes.
    pub const ADDRESS: &str = "10.0.0.2/24";

    /// Address of the engine in labs of [both families](Self::of_both_families).
    pub const ENGINE_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    /// The peer's.
    pub const PEER_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
    /// What `--address` takes.
    pub const ADDRESS_6: &str = "fd00::2/64";

    /// As [`plain`](Self::plain), with a peer that speaks IPv6 too.
    ///
    /// # Panics
    /// As [`Veth::new`].
    #[must_use]
    pub fn of_both_families() -> Self {
        let lab = Self::plain();
        lab.veth.far.speak_ipv6(Veth::FAR);
        lab.veth.far.ip(&["address", "add", &format!("{}/64", Self::PEER_6), "dev", Veth::FAR, "nodad"]);
        lab
    }

    /// With `queues` queues each way.
    ///
    /// # Panics
    /// As [`Veth::new`].
    #[must_use]
    pub fn new(queues: u32) -> Self {
        Self::of(Veth::new(queues), None)
    }

    /// With one queue each way and frames as they are on a real wire: all checksums computed, no long segments.
    ///
    /// # Panics
    /// As [`Veth::new`].
    #[must_use]
    pub fn plain() -> Self {
        let lab = Self::new(1);
        lab.veth.without_offloads();
        lab
    }

    /// With a wire that has these faults, the same both ways.
    ///
    /// # Panics
    /// As [`Veth::new`].
    #[must_use]
    pub fn impaired(faults: &Faults, seed: u64) -> Self {
        let veth = Veth::interrupted(1);
        let sockets = veth.sockets_between().expect("the two are not joined");
        let wire = Wire::start(sockets, [faults.clone(), faults.clone()], seed);
        Self::of(veth, Some(wire))
    }

    /// With a switch that has the engine at a trunk port, where frames have these tags (EtherType and id), and the
    /// peer at a port where they have none.
    ///
    /// # Panics
    /// As [`Veth::new`].
    #[must_use]
    pub fn switched(tags: &[(u16, u16)]) -> (Self, Switch) {
        let veth = Veth::interrupted(1);
        let switch = Switch::start(veth.sockets_between().expect("the two are not joined"), tags);
        (Self::of(veth, None), switch)
    }

    fn of(veth: Veth, wire: Option<Wire>) -> Self {
        veth.near.ip(&["address", "add", "10.0.0.1/24", "dev", Veth::NEAR]);
        veth.far.ip(&["address", "add", "10.0.0.3/24", "dev", Veth::FAR]);
        for namespace in [&veth.near, &veth.far] {
            // Every namespace may choose Reno, and only it. The host's may be BBR, which hardly minds losses.
            namespace.enter(|| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno")).expect("Reno");
        }
        Self { wire, veth }
    }

    /// `barewire` with these arguments. It has to be started by this lab, in the engine's namespace.
    #[must_use]
    pub fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(barewire());
        command.args(arguments);
        command
    }

    /// `barewire echo` on the engine's interface and address, with metrics and with these options more.
    #[must_use]
    pub fn echo(options: &[&str]) -> Command {
        let always = ["echo", "--interface", Veth::NEAR, "--address", Self::ADDRESS, "--metrics", METRICS];
        Self::command(&[&always, options].concat())
    }

    /// Starts `barewire echo` with these options more, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(&self, options: &[&str]) -> Engine<'_> {
        self.start_command(Self::echo(options))
    }

    /// Starts a command in the engine's namespace, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start_command(&self, command: Command) -> Engine<'_> {
        let mut engine = self.spawn(command);
        engine.wait_until_ready();
        engine
    }

    /// Starts a command in the engine's namespace, and does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(&self, command: Command) -> Engine<'_> {
        Engine { process: Process::spawn(self, command), lab: self, ready: String::new() }
    }

    /// Runs `barewire echo` with these options more, and waits until it gives up.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn refused(&self, options: &[&str]) -> Refusal {
        self.refused_command(Self::echo(options))
    }

    /// Runs a command in the engine's namespace, and waits until it gives up.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn refused_command(&self, command: Command) -> Refusal {
        let mut process = Process::spawn(self, command);
        let code = process.wait();
        Refusal {
            code,
            took: process.started.elapsed(),
            stderr: process.stderr(),
            stdout: process.stdout.iter().collect(),
        }
    }

    /// A socket of the peer's kernel, connected to the engine's echo service.
    ///
    /// # Panics
    /// If the kernel gives none.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(Self::ENGINE, 7)
    }

    /// A socket of the peer's kernel, connected to an address and port.
    ///
    /// # Panics
    /// If the kernel gives none.
    #[must_use]
    pub fn client_of(&self, address: Ipv4Addr, port: u16) -> Client {
        let socket = self.veth.far.enter(|| {
            let socket = Client::bind((Self::PEER, 0))?;
            socket.connect((address, port))?;
            Ok::<_, io::Error>(socket)
        });
        let socket = socket.expect("a UDP socket of the peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// Runs a command of the peer's, and gives its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn far(&self, program: &str, arguments: &[&str]) -> String {
        self.veth.far.enter(|| run(program, arguments))
    }

    /// Has the peer ping, and checks that each of the first `count` pings is answered. A few more may be sent.
    ///
    /// # Panics
    /// If one is not.
    pub fn ping(&self, address: Ipv4Addr, count: u32) {
        let (address, count_text) = (address.to_string(), count.to_string());
        // Without -w it would leave as soon as an answer took longer than the interval and twice the others.
        let limit = PATIENCE.as_secs().to_string();
        let said = self.far("ping", &["-c", &count_text, "-i", "0.002", "-w", &limit, &address]);
        let sequence = |line: &str| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok();
        let answered: HashSet<u32> = said.lines().filter_map(sequence).collect();
        let missing: Vec<u32> = (1..=count).filter(|number| !answered.contains(number)).collect();
        assert!(missing.is_empty(), "pings without answer: {missing:?} of {said}");
    }

    /// Has the peer's kernel send everything on one queue, whatever it is: frames on queue q arrive on queue q.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn send_on_queue(&self, queue: u32, queues: u32) {
        let all = (1_u64 << thread::available_parallelism().expect("a number of cores").get()) - 1;
        for other in 0..queues {
            let cores = if other == queue { all } else { 0 };
            let write = format!("echo {cores:x} > /sys/class/net/{}/queues/tx-{other}/xps_cpus", Veth::FAR);
            // This mounts the namespace's own /sys for the command.
            run("ip", &["netns", "exec", self.veth.far.name(), "sh", "-c", &write]);
        }
    }

    /// What `ip` says about the XDP program at the engine's interface, if there is one.
    #[must_use]
    pub fn xdp(&self) -> Option<String> {
        let json = self.veth.near.ip(&["-d", "-j", "link", "show", "dev", Veth::NEAR]);
        json.split_once("\"xdp\":").map(|(_, rest)| rest.to_owned())
    }
}

/// A program running in the engine's namespace, with all that it writes. It is killed on drop.
#[derive(Debug)]
struct Process {
    child: Child,
    started: Instant,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn spawn(lab: &Lab, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
        let started = Instant::now();
        let mut child = lab.veth.near.enter(|| command.spawn()).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = child.stdout.take().expect("a pipe");
        let err = child.stderr.take().expect("a pipe");
        let (line, stdout) = mpsc::channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&stderr);
        let readers = vec![
            thread::spawn(move || {
                BufReader::new(out).lines().map_while(Result::ok).all(|text| line.send(text).is_ok());
            }),
            thread::spawn(move || {
                for text in BufReader::new(err).lines().map_while(Result::ok) {
                    *said.lock().expect("nobody panics with the lock") += &(text + "\n");
                }
            }),
        ];
        Self { child, started, stdout, stderr, readers }
    }

    /// Waits for its end and gives its exit code.
    fn wait(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.readers.drain(..).for_each(|reader| reader.join().expect("it only reads"));
                return status.code().unwrap_or_else(|| panic!("{status}; it said: {}", self.stderr()));
            }
            assert!(start.elapsed() < PATIENCE, "it does not end; it said: {}", self.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics with the lock").clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engine that is ready. It is killed on drop.
#[derive(Debug)]
pub struct Engine<'lab> {
    process: Process,
    lab: &'lab Lab,
    ready: String,
}

impl Engine<'_> {
    /// Waits for its first line of standard output.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_until_ready(&mut self) {
        match self.process.stdout.recv_timeout(PATIENCE) {
            Ok(line) => self.ready = line,
            Err(_) => panic!("not ready within {PATIENCE:?}; it said: {}", self.stderr()),
        }
    }

    /// Its first line of standard output.
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// A field of that line.
    ///
    /// # Panics
    /// If it has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        let field = self.ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        field.unwrap_or_else(|| panic!("no {name}= in {}", self.ready))
    }

    /// Time since it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.process.started.elapsed()
    }

    /// What it has written to standard error until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        run("kill", &["-s", name, &self.process.child.id().to_string()]);
    }

    /// What it has in memory, KiB (`VmRSS` of `/proc/PID/status`).
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).expect("the process lives");
        let field =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        field.expect("a VmRSS in KiB")
    }

    /// Waits for its end: exit code, what it wrote to standard output after the first line, and to standard error.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn wait(mut self) -> Refusal {
        let code = self.process.wait();
        let (took, stderr) = (self.process.started.elapsed(), self.process.stderr());
        Refusal { code, took, stderr, stdout: self.process.stdout.iter().collect() }
    }

    /// Kills it at once, as nothing can be prepared for.
    pub fn kill(self) {
        drop(self);
    }

    /// The metrics page as it is now. Counters of workers may be some 200 ms old.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn page(&self) -> String {
        let answer = self.ask().unwrap_or_else(|error| panic!("no metrics: {error}; it said: {}", self.stderr()));
        let (head, page) = answer.split_once("\r\n\r\n").expect("a header and a body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        page.to_owned()
    }

    fn ask(&self) -> io::Result<String> {
        self.lab.veth.near.enter(|| {
            let address: SocketAddr = METRICS.parse().expect("an address");
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: barewire\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// The metrics as they are now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.page())
    }

    /// The metrics as soon as they are as `wanted`.
    ///
    /// # Panics
    /// If they never are.
    pub fn metrics_when(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let start = Instant::now();
        loop {
            let metrics = self.metrics();
            if wanted(&metrics) {
                return metrics;
            }
            assert!(start.elapsed() < PATIENCE, "never {what}: {:#?}", metrics.that_are_not_zero());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Engine<'_> {
    /// Says what there is to know when a test has failed.
    fn drop(&mut self) {
        if thread::panicking() {
            let page = self.ask().unwrap_or_else(|error| error.to_string());
            let counts = page.lines().filter(|line| line.starts_with("barewire_") && !line.ends_with(" 0"));
            eprintln!("{}\n{}{}", self.ready, self.stderr(), counts.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Refusal {
    /// Exit code.
    pub code: i32,
    /// From start to end.
    pub took: Duration,
    /// All of standard error.
    pub stderr: String,
    /// Lines of standard output that were not read before.
    pub stdout: Vec<String>,
}

/// Numbers that look random and are the same every time: xorshift64*, Vigna 2016.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Not from zero, which would stay zero.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1 << 63)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes, `len` of them.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(len).collect()
    }
}
