//! A flood of live frames beside clients of the kernel on the same core: in the time that these leave.
//!
//! The sender runs without end inside the kernel, at the policy for what may wait (SCHED_IDLE): whenever a client has
//! something to do it gives way between two batches. So the clients have to wait instead of asking again and again, and
//! the flood keeps its rate only while they leave time for it; what rate it had is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::signals::{self, Alarm};
use crate::udp::frame::{self, Path};
use crate::udp::plan;
use crate::udp::trial::{Attack, AttackKind};
use crate::{bpf, process};

/// Length of a call. The due times of each begin anew, so that what a call could not send is not made up for in the next:
/// rings would overflow with it.
const CALL: Duration = Duration::from_millis(250);
/// Bytes of each frame: the shortest that holds all kinds.
const FRAME_LEN: usize = 64;
/// Frames that the kernel takes to the server at once.
const BATCH: u32 = 64;

/// What a flood sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub frames: u64,
    pub per_s: f64,
}

/// A flood that a thread sends. It ends on drop.
pub(super) struct Flood {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Sent>>>,
}

impl Flood {
    /// Starts to send frames of `kind` from the core and the namespace of this thread.
    pub(super) fn start(kind: AttackKind, rate_pps: f64, ifindex: u32, path: Path) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || send(kind, rate_pps, ifindex, &path, &ended));
        Self { end, thread: Some(thread) }
    }

    /// Ends it, and says what was sent.
    ///
    /// # Errors
    /// The kernel refused to send.
    pub(super) fn stop(mut self) -> Result<Sent> {
        self.end.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(Sent::default()) };
        thread.join().unwrap_or_else(|_| Err(Error::run("the flood panicked")))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Whoever wanted to know how it went has called `stop`.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn send(kind: AttackKind, rate_pps: f64, ifindex: u32, path: &Path, ended: &AtomicBool) -> Result<Sent> {
    let object = bpf::load(bpf::GENERATE)?;
    let template = frame::request(path, FRAME_LEN);
    let program = bpf::program(&object, "generate")?;
    process::give_way()?;
    let (start, mut sent) = (Instant::now(), 0);
    while !ended.load(Ordering::Relaxed) && !signals::stopping() {
        let attack = Attack { kind, rate_pps: Some(rate_pps) };
        plan::attack(&object, path, attack, &template)?;
        let _alarm = Alarm::after(CALL)?;
        bpf::run_live(bpf::descriptor(&program), &template, ifindex, BATCH, i32::MAX)
            .context(|| "BPF_PROG_RUN of live frames failed".into())?;
        let [_, _, of_call] = plan::counters(&object)?;
        sent += of_call;
    }
    Ok(Sent { frames: sent, per_s: sent as f64 / start.elapsed().as_secs_f64() })
}
