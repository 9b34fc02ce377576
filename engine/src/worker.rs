//! The worker: one loop on one core, and the only place where stack and device meet.
//!
//! ```text
//!   turn(now):  device.receive -> stack.receive -> stack.transmit -> device.transmit
//! ```
//!
//! [`Worker::turn`] is the same function in production, where [`Worker::run`] calls it on a pinned thread,
//! and in the simulator, where a virtual clock does.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::time::Duration;

use crate::app::App;
use crate::base::{Burst, Instant, Umem, UnsentReason};
use crate::device::Device;
use crate::stack::{NetworkError, Stack};

/// Time after which frames that the device does not take are given up. A healthy NIC empties its ring in
/// well under a millisecond (8,192 frames at 10 Gb/s: 7 ms of the longest ones); a virtual machine may be
/// halted for some 10 ms; beyond that the link is gone, and old frames are worth nothing.
const STALL: Duration = Duration::from_millis(100);

/// How often [`Worker::run`] lets its caller do what is not about packets, at the least.
pub const HOUSEKEEPING: Duration = Duration::from_millis(10);

/// The longest sleep of an idle worker, so that it notices a stop and its heartbeat goes on.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once: lowest latency, and a core at 100 %.
    Spin,
    /// Look again for so long, then sleep until a frame comes.
    Adaptive(Duration),
    /// Sleep until a frame comes: lowest cost, and a wake-up (some microseconds) for each burst.
    Poll,
}

/// A device with a stack on it.
#[derive(Debug)]
pub struct Worker<D, A: App> {
    device: D,
    umem: Umem,
    stack: Stack<A>,
    received: Burst,
    out: Burst,
    /// Since when the device has not taken the frames in `out`.
    stalled: Option<Instant>,
}

impl<D: Device, A: App> Worker<D, A> {
    /// Puts a worker together. `umem` is the memory that the device was opened with.
    #[must_use]
    pub fn new(device: D, umem: Umem, stack: Stack<A>) -> Self {
        Self { device, umem, stack, received: Burst::new(), out: Burst::new(), stalled: None }
    }

    /// One pass: takes in a burst, digests it, sends what there is to send. Never waits.
    ///
    /// Says whether there was anything to do. `now` must never be less than at the turn before.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.device.receive(&mut self.umem, &mut self.received);
        let busy = !self.received.is_empty();
        self.stack.use_segmentation(self.device.cuts_segments());
        self.stack.receive(now, &mut self.received, &mut self.umem, &mut self.out);
        self.stack.transmit(now, &mut self.umem, &mut self.out);
        if self.out.is_empty() {
            return busy;
        }
        self.device.transmit(&mut self.umem, &mut self.out);
        self.watch_for_stall(now);
        true
    }

    /// Turns until `housekeep`, which is called every [`HOUSEKEEPING`] or so, says to stop. `clock` is read
    /// once a turn.
    ///
    /// Returns what `housekeep` broke off with.
    pub fn run<B>(
        &mut self,
        idle: Idle,
        mut clock: impl FnMut() -> Instant,
        mut housekeep: impl FnMut(&mut Self, Instant) -> ControlFlow<B>,
    ) -> B {
        let mut now = clock();
        let mut last_busy = now;
        let mut next_housekeeping = now;
        loop {
            let busy = self.turn(now);
            if busy {
                last_busy = now;
            }
            // Before any rest: what is told and shown then is of this moment.
            if now >= next_housekeeping {
                if let ControlFlow::Break(reason) = housekeep(self, now) {
                    return reason;
                }
                next_housekeeping = now + HOUSEKEEPING;
            }
            // Housekeeping may have left something to send.
            if !busy && self.out.is_empty() {
                self.rest(idle, now, last_busy);
            }
            // The clock is monotonic, but a virtual machine's may not be: time never goes back here.
            now = now.max(clock());
        }
    }

    /// Whether there is room for a frame to send.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.out.room() > 0
    }

    /// Digests a copy of a frame that did not come by the device. Answers leave in the next turn.
    pub fn hear(&mut self, now: Instant, copy: &[u8]) {
        self.stack.hear(now, copy, &mut self.umem, &mut self.out);
    }

    /// Does nothing for a while, if it may.
    fn rest(&mut self, idle: Idle, now: Instant, last_busy: Instant) {
        let sleeps = match idle {
            Idle::Spin => false,
            Idle::Adaptive(spin) => now.since(last_busy) >= spin,
            Idle::Poll => true,
        };
        if !sleeps {
            std::hint::spin_loop();
            return;
        }
        let deadline = self.stack.next_deadline().map_or(LONGEST_SLEEP, |deadline| deadline.since(now));
        if !deadline.is_zero() {
            self.device.wait(deadline.min(LONGEST_SLEEP));
        }
    }

    /// Gives frames up that the device has not taken for too long.
    fn watch_for_stall(&mut self, now: Instant) {
        if self.out.is_empty() {
            self.stalled = None;
            return;
        }
        let since = *self.stalled.get_or_insert(now);
        if now.since(since) >= STALL {
            self.stalled = None;
            self.give_up(UnsentReason::DeviceStalled);
        }
    }

    fn give_up(&mut self, reason: UnsentReason) {
        // Of several segments, a packet is as many as it has chunks.
        let frames = if self.device.cuts_segments() { self.in_bursts().1 } else { self.out.len() };
        self.stack.count_unsent(reason, frames as u64);
        self.out.drain().for_each(|frame| self.umem.free(frame));
    }

    /// The stack.
    #[must_use]
    pub const fn stack(&self) -> &Stack<A> {
        &self.stack
    }

    /// The stack, to talk to it between turns.
    #[must_use]
    pub const fn stack_mut(&mut self) -> &mut Stack<A> {
        &mut self.stack
    }

    /// Sends no IP packet that is longer than `mtu` bytes from now on.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.stack.set_mtu(mtu, &mut self.umem);
    }

    /// Hears of an ICMP error that came to another worker of the same addresses.
    pub fn hear_network_error(&mut self, now: Instant, error: &NetworkError) {
        self.stack.hear_network_error(now, error, &mut self.umem);
    }

    /// The device.
    #[must_use]
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The packet memory.
    #[must_use]
    pub const fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Chunks of the frames between device and stack: received and not yet digested, and to be sent and not yet taken.
    #[must_use]
    pub fn in_bursts(&self) -> (usize, usize) {
        let chunks = |burst: &Burst| burst.iter().map(|frame| self.umem.parts(frame) as usize).sum();
        (chunks(&self.received), chunks(&self.out))
    }
}
