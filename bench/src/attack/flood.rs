//! A flood of live frames beside clients of the kernel on the same core: some each millisecond, and asleep in between.
//!
//! A sender that paced itself within the kernel would take half of the core from the clients only to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::bpf;
use crate::error::{Context, Error, Result};
use crate::udp::frame::{self, Path};
use crate::udp::live_frames;
use crate::udp::trial::AttackKind;

/// Between two bunches: 500 frames at 500,000 a second, which any ring takes in.
const TICK: Duration = Duration::from_millis(1);
/// After a stall no more than this is made up for.
const CATCH_UP: Duration = Duration::from_millis(4);
/// Bytes of each frame: the shortest that holds all kinds.
const FRAME_LEN: usize = 64;
/// Frames that the kernel takes to the server at once.
const BATCH: u32 = 64;

/// A flood that a thread sends. It ends on drop.
pub(super) struct Flood {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<f64>>>,
}

impl Flood {
    /// Starts to send frames of `kind` from the core and the namespace of this thread.
    pub(super) fn start(kind: AttackKind, rate_pps: f64, ifindex: u32, path: Path) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || send(kind, rate_pps, ifindex, &path, &ended));
        Self { end, thread: Some(thread) }
    }

    /// Ends it, and says how many frames were sent a second.
    ///
    /// # Errors
    /// The kernel refused to send.
    pub(super) fn stop(mut self) -> Result<f64> {
        self.end.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(0.0) };
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

fn send(kind: AttackKind, rate_pps: f64, ifindex: u32, path: &Path, ended: &AtomicBool) -> Result<f64> {
    let object = bpf::load(bpf::GENERATE)?;
    let template = frame::request(path, FRAME_LEN);
    live_frames::plan_attack(&object, path, kind, &template)?;
    let program = bpf::program(&object, "generate")?;
    let start = Instant::now();
    let mut at = start;
    while !ended.load(Ordering::Relaxed) {
        thread::sleep(TICK.saturating_sub(at.elapsed()));
        let frames = (at.elapsed().min(CATCH_UP).as_secs_f64() * rate_pps) as i32;
        at = Instant::now();
        bpf::run_live(bpf::descriptor(&program), &template, ifindex, BATCH, frames.max(1))
            .context(|| "BPF_PROG_RUN of live frames failed".into())?;
    }
    let [_, _, sent] = live_frames::counters(&object)?;
    Ok(sent as f64 / start.elapsed().as_secs_f64())
}
