//! A server in a process of its own: started in a network namespace, awaited, stopped, never left behind.
#![allow(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::signals;

/// Longest time from start to `ready`.
const START: Duration = Duration::from_secs(10);
/// Longest time from SIGTERM to the end.
const STOP: Duration = Duration::from_secs(5);
/// Lines of its standard output that are kept for whoever waits for `ready`.
const LINES: usize = 1000;
/// Characters of its standard error that are told when a server fails.
const TOLD: usize = 1500;

/// A running server. Killed when dropped without [`stop`](Server::stop).
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    readiness: Readiness,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    /// The line that said that it was ready.
    pub ready: String,
}

/// How a server tells that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// By a line that begins with `ready`.
    Line,
    /// An echo of a datagram comes back from this address.
    Echoes(SocketAddr),
    /// It accepts connections at this address.
    Accepts(SocketAddr),
}

/// The cores that this thread may run on.
#[derive(Clone, Copy)]
pub(crate) struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// Those of the calling thread now.
    pub(crate) fn current() -> Self {
        // SAFETY: an all-zero set is a valid one.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is a local of the size given. If it fails the set stays empty, and is not applied.
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        Self(set)
    }

    /// One core alone.
    pub(crate) fn of_core(core: usize) -> Self {
        // SAFETY: an all-zero set is a valid one.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is a local; CPU_SET takes no core that is beyond its size.
        unsafe { libc::CPU_SET(core, &mut set) };
        Self(set)
    }
}

impl Server {
    /// Starts `words` in the namespace, with `affinity`, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time: with what it wrote to standard error.
    pub(crate) fn start(
        name: &str,
        namespace: &str,
        words: &[String],
        (affinity, readiness): (Affinity, Readiness),
    ) -> Result<Self> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C on a terminal is for this program alone, which then stops its server in its own time.
        command.process_group(0);
        // SAFETY: between fork and exec only two system calls are made, on values copied before.
        unsafe {
            command.pre_exec(move || {
                // Should this process be killed, the server goes too.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // A pinned thread's children inherit its core: give back the others.
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const affinity.0);
                Ok(())
            })
        };
        let mut child = command.spawn().context(|| format!("cannot start {name}: `ip netns exec`"))?;
        // What comes before `ready` is read there; once the channel is full, what the server writes is thrown away.
        let (sender, lines) = mpsc::sync_channel(LINES);
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(io::Result::ok).for_each(|line| {
                    let _ = sender.try_send(line);
                });
            });
        }
        let errors = child.stderr.take().map(|mut errors| {
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let mut server = Self { name: name.to_owned(), child, readiness, lines, errors, ready: String::new() };
        match readiness {
            Readiness::Line => server.await_line()?,
            Readiness::Echoes(at) => server.await_answer(&|| echoes(at))?,
            Readiness::Accepts(at) => server.await_answer(&|| accepts(at))?,
        }
        Ok(server)
    }

    /// Waits until the server answers; what it writes meanwhile is nobody's.
    fn await_answer(&mut self, answers: &dyn Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < START {
            signals::check()?;
            if let Some(status) = self.child.try_wait().context(|| format!("cannot wait for {}", self.name))? {
                return Err(self.failure(&format!("ended before it answered ({status})")));
            }
            if answers() {
                self.ready = format!("answered {:.2} s after its start", began.elapsed().as_secs_f64());
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        Err(self.failure(&format!("did not answer within {} s", START.as_secs())))
    }

    fn await_line(&mut self) -> Result<()> {
        let give_up = Instant::now() + START;
        while Instant::now() < give_up {
            signals::check()?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.starts_with("ready") => {
                    self.ready = line;
                    return Ok(());
                }
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.wait(STOP)?;
                    return Err(self.failure(&format!("ended before it was ready ({status})")));
                }
            }
        }
        self.kill();
        Err(self.failure(&format!("was not ready within {} s", START.as_secs())))
    }

    /// Stops it by SIGTERM.
    ///
    /// # Errors
    /// It had ended before, does not end in time, or ends with an exit code other than 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        // SAFETY: the child has not been waited for, so its process id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let status = self.wait(STOP)?;
        // A program that is not ours may know nothing of SIGTERM.
        let stopped = self.readiness != Readiness::Line && status.signal() == Some(libc::SIGTERM);
        if status.success() || stopped { Ok(()) } else { Err(self.failure(&format!("ended with {status}"))) }
    }

    /// How long its threads have been ready to run while something else had their core, all told.
    pub(crate) fn waited_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let waited = |task: std::fs::DirEntry| waited_of(&task.path().join("schedstat"));
        tasks.map_or(0, |tasks| tasks.flatten().map(waited).sum())
    }

    fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let give_up = Instant::now() + patience;
        loop {
            match self.child.try_wait().context(|| format!("cannot wait for {}", self.name))? {
                Some(status) => return Ok(status),
                None if Instant::now() < give_up => thread::sleep(Duration::from_millis(5)),
                None => {
                    self.kill();
                    return Err(self.failure(&format!("did not end within {} s", patience.as_secs())));
                }
            }
        }
    }

    fn kill(&mut self) {
        // An error only says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn failure(&mut self, what: &str) -> Error {
        let text = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        let start = text.char_indices().rev().nth(TOLD).map_or(0, |(index, _)| index);
        let said = text[start..].trim();
        let said = if said.is_empty() { "it said nothing".into() } else { format!("it said:\n{said}") };
        Error::run(format!("the server `{}` {what}; {said}", self.name))
    }
}

/// How long an answer is waited for at a time.
const ANSWER: Duration = Duration::from_millis(100);

/// Whether a datagram comes back, from this thread's namespace.
fn echoes(server: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let any: IpAddr = crate::netns::Family::of(server).unspecified();
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(ANSWER))?;
        let mut message = *b"are you there?";
        socket.send(&message)?;
        message.fill(0);
        let len = socket.recv(&mut message)?;
        Ok(message[..len] == *b"are you there?")
    };
    ask().unwrap_or(false)
}

/// Whether a connection comes about, from this thread's namespace.
fn accepts(server: SocketAddr) -> bool {
    TcpStream::connect_timeout(&server, ANSWER).is_ok()
}

/// Has the calling thread run only when no other wants its core (SCHED_IDLE).
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn give_way() -> Result<()> {
    // SAFETY: an all-zero parameter is what this policy wants.
    let parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread, and the parameter is a local.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context(|| "cannot give way to other threads".into()),
    }
}

/// How long the calling thread has had its core.
pub(crate) fn own_ran_ns() -> u64 {
    schedstat(Path::new("/proc/thread-self/schedstat"), 0)
}

/// How long the calling thread has been ready to run while something else had its core.
pub(crate) fn own_waited_ns() -> u64 {
    waited_of(Path::new("/proc/thread-self/schedstat"))
}

fn waited_of(file: &Path) -> u64 {
    schedstat(file, 1)
}

/// A word of a `schedstat` file (Documentation/scheduler/sched-stats.rst): time run, time waited; 0 if the kernel has none.
fn schedstat(file: &Path, word: usize) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().nth(word).and_then(|word| word.parse().ok()).unwrap_or(0)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
