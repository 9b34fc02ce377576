//! Carries frames between two interfaces, as its two directions say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::direction::Direction;
use super::{Counts, Faults};
use crate::netns::PacketSocket;
use crate::packets::{self, BATCH, Frame};

/// How long the wire sleeps at most before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A wire that a thread works. It ends on drop, and says then what became of the frames.
#[derive(Debug)]
pub struct Wire {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<[Counts; 2]>>,
}

impl Wire {
    /// Joins the interfaces of two sockets. `faults` are those from the first to the second, and those back.
    #[must_use]
    pub fn start(sockets: [PacketSocket; 2], faults: [Faults; 2], seed: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || carry(&sockets, faults, seed, || ended.load(Ordering::Relaxed)));
        Self { end, thread: Some(thread) }
    }

    /// Ends it. What is under way is lost. Gives what became of the frames, there and back.
    ///
    /// # Panics
    /// If the wire has.
    #[must_use]
    pub fn stop(mut self) -> [Counts; 2] {
        self.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).expect("it is stopped once")
    }

    fn join(&mut self) -> thread::Result<Option<[Counts; 2]>> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).transpose()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Ok(Some([there, back])) = self.join() {
            println!("wire there: {there:?}\nwire back: {back:?}");
        }
    }
}

/// Carries frames until `ended`. Gives what became of them, there and back.
pub fn carry(
    sockets: &[PacketSocket; 2],
    faults: [Faults; 2],
    seed: u64,
    mut ended: impl FnMut() -> bool,
) -> [Counts; 2] {
    let start = Instant::now();
    let [there, back] = faults;
    let mut directions = [Direction::new(there, seed), Direction::new(back, !seed)];
    let mut received = vec![Frame::default(); BATCH];
    let mut due = Vec::with_capacity(BATCH);
    while !ended() {
        let mut busy = false;
        for (from, direction) in directions.iter_mut().enumerate() {
            let count = packets::receive(&sockets[from], &mut received);
            let now = start.elapsed();
            received[..count].iter_mut().for_each(|frame| direction.offer(now, frame));
            due.extend(std::iter::from_fn(|| direction.due(now)).take(BATCH));
            busy |= count > 0 || !due.is_empty();
            send(&sockets[1 - from], direction, &mut due);
        }
        if !busy {
            let next = directions.iter().filter_map(Direction::next).min();
            let sleep = next.map_or(LOOK, |next| next.saturating_sub(start.elapsed()).min(LOOK));
            packets::wait(&[&sockets[0], &sockets[1]], sleep);
        }
    }
    directions.map(|direction| direction.counts())
}

/// Sends all of `due`, but what the kernel refuses.
fn send(socket: &PacketSocket, direction: &mut Direction, due: &mut Vec<Frame>) {
    while !due.is_empty() {
        let sent = packets::send(socket, due.iter());
        due.drain(..sent).for_each(|frame| direction.done(frame, true));
        // The kernel stopped at a frame that it refuses.
        due.drain(..due.len().min(1)).for_each(|frame| direction.done(frame, false));
    }
}
