//! The sender that is an ordinary program: one thread, one connected UDP socket, batches of up to 64.
//!
//! It tops out near 0.5 Mpps, and then measures itself: for rates that load a fast server take live frames.
//! Open loop sends by due times, whatever comes back; closed loop keeps a window of requests outstanding
//! (1 is ping-pong), so that its rate is the server's. Beside the latency from the due time stands that from
//! sending, for which the moment of sending is kept here, by sequence.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::frame::{self, STAMP_LEN};
use super::sequences::{Seen, Sequences};
use super::trial::{Offer, Outcome};
use crate::arrivals::{Arrivals, Schedule};
use crate::course::Course;
use crate::error::{Context, Result};
use crate::histogram::Latency;
use crate::mmsg::{self, BATCH, Datagrams};
use crate::netns::Family;
use crate::result::Timestamps;
use crate::signals::{self, monotonic_ns, realtime_ns};

/// Socket buffers: 8192 small datagrams, like the rings of an AF_XDP server.
const BUFFER_BYTES: u32 = 8 << 20;
/// A closed loop counts requests without a reply as lost after this long, and goes on.
const LOST_AFTER_NS: u64 = 100_000_000;
/// After the last request, how long replies are waited for.
const DRAIN_NS: u64 = 100_000_000;
/// Requests whose moment of sending is kept; at half a million a second, those of the last half second.
const SENT_KEPT: usize = 1 << 18;

/// A connected socket and its counters.
pub(crate) struct Sockets {
    socket: UdpSocket,
    target: SocketAddr,
    outgoing: Datagrams,
    incoming: Datagrams,
    /// Whether the kernel tells when it received each reply.
    timed: bool,
    trial: u32,
}

/// Where a trial stands.
struct Progress {
    arrivals: Arrivals,
    schedule: Option<Schedule>,
    /// Due times of requests that were not sent yet.
    waiting: VecDeque<u64>,
    start_ns: u64,
    sent: u64,
    /// When each was sent, by the low bits of its sequence.
    sent_ns: Box<[u64]>,
    received: u64,
    sequences: Sequences,
    stale: u64,
    /// Requests that a closed loop gave up on; their replies, if they come, are still counted.
    given_up: u64,
    last_sent_ns: u64,
    last_received_ns: u64,
    latency: Latency,
    from_sending: Latency,
    course: Course,
}

impl Sockets {
    /// Binds to `source` and connects to `target`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub(crate) fn open(source: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = mmsg::socket(source, BUFFER_BYTES).context(|| format!("cannot open a socket on {source}"))?;
        socket.connect(target).context(|| format!("cannot connect to {target}"))?;
        let trial = (monotonic_ns() >> 10) as u32;
        let timed = mmsg::ask_for_arrival_times(socket.as_fd()).is_ok();
        Ok(Self { socket, target, outgoing: Datagrams::new(), incoming: Datagrams::new(), timed, trial })
    }

    /// Where the moment of a reply's arrival comes from.
    pub(crate) const fn timestamps(&self) -> Timestamps {
        if self.timed { Timestamps::Kernel } else { Timestamps::Program }
    }

    /// Sends what is offered and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused to send or receive; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer, arrivals: Arrivals) -> Result<Outcome> {
        self.trial = self.trial.wrapping_add(1);
        let payload_len = offer.frame_len - frame::headers_len(Family::of(self.target));
        let start_ns = monotonic_ns();
        let duration_ns = offer.duration.as_nanos() as u64;
        let mut at = Progress::new(arrivals, offer.rate_pps, start_ns, duration_ns);
        let mut now = start_ns;
        while now < start_ns + duration_ns && !signals::stopping() {
            at.take_due(now);
            self.send(&mut at, payload_len).context(|| "cannot send".into())?;
            self.receive(&mut at).context(|| "cannot receive".into())?;
            now = monotonic_ns();
            at.course.tick(now);
        }
        let send_ns = now - start_ns;
        while at.received < at.sent && monotonic_ns() < now + DRAIN_NS && !signals::stopping() {
            self.receive(&mut at).context(|| "cannot receive".into())?;
        }
        Ok(at.outcome(offer.rate_pps, send_ns))
    }

    /// Sends what waits, up to one batch, in one system call, each with its due time.
    fn send(&mut self, at: &mut Progress, payload_len: usize) -> io::Result<()> {
        let count = at.waiting.len().min(BATCH);
        if count == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        for (index, due_ns) in at.waiting.iter().take(count).enumerate() {
            let sequence = at.sent + index as u64;
            at.sent_ns[sequence as usize % SENT_KEPT] = now;
            let stamp = &mut self.outgoing.prepare(index, payload_len)[..STAMP_LEN];
            stamp[..4].copy_from_slice(&self.trial.to_ne_bytes());
            stamp[4..12].copy_from_slice(&sequence.to_ne_bytes());
            stamp[12..20].copy_from_slice(&due_ns.to_ne_bytes());
        }
        let taken = self.outgoing.send(self.socket.as_fd(), count)?;
        for due_ns in at.waiting.drain(..taken) {
            if let Some(schedule) = &mut at.schedule {
                schedule.turned_to(due_ns, now);
            }
        }
        at.sent += taken as u64;
        at.last_sent_ns = now;
        Ok(())
    }

    /// Takes in what has come, up to one batch.
    fn receive(&mut self, at: &mut Progress) -> io::Result<()> {
        let count = self.incoming.receive(self.socket.as_fd(), BATCH)?;
        if count == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        // Between the two clocks, now: one of them may be slewed or set.
        let apart_ns = realtime_ns().wrapping_sub(now);
        for index in 0..count {
            let arrived_ns = self.incoming.arrived_ns(index).map(|real_ns| real_ns.wrapping_sub(apart_ns));
            // A clock that was set in between makes nonsense: nothing came later than now.
            let arrived_ns = arrived_ns.filter(|arrived| *arrived <= now).unwrap_or(now);
            match self.incoming.received(index) {
                reply if reply.len() >= STAMP_LEN && reply[..4] == self.trial.to_ne_bytes() => {
                    let word = |from: usize| reply[from..][..8].try_into().map_or(0, u64::from_ne_bytes);
                    at.answered(word(4), word(12), arrived_ns);
                }
                _ => at.stale += 1,
            }
        }
        Ok(())
    }
}

impl Progress {
    fn new(arrivals: Arrivals, rate_pps: Option<f64>, start_ns: u64, duration_ns: u64) -> Self {
        let open = !matches!(arrivals, Arrivals::Flood | Arrivals::Closed { .. });
        let schedule = rate_pps.filter(|_| open).map(|rate| Schedule::new(arrivals, rate, start_ns, duration_ns));
        Self {
            arrivals,
            schedule,
            waiting: VecDeque::new(),
            start_ns,
            sent: 0,
            sent_ns: vec![0; SENT_KEPT].into(),
            received: 0,
            sequences: Sequences::new(),
            stale: 0,
            given_up: 0,
            last_sent_ns: start_ns,
            last_received_ns: start_ns,
            latency: Latency::new(),
            from_sending: Latency::new(),
            course: Course::new(start_ns, start_ns + duration_ns),
        }
    }

    /// Lets what is due by now wait for being sent.
    fn take_due(&mut self, now: u64) {
        if let Some(schedule) = &mut self.schedule {
            while let Some(due_ns) = schedule.take(now) {
                self.waiting.push_back(due_ns);
            }
            return;
        }
        let room = match self.arrivals {
            Arrivals::Closed { outstanding } => self.room(outstanding, now),
            _ => BATCH as u64,
        };
        while (self.waiting.len() as u64) < room.min(BATCH as u64) {
            self.waiting.push_back(now);
        }
    }

    /// Requests that a closed loop may send now.
    fn room(&mut self, window: u64, now: u64) -> u64 {
        let outstanding = self.sent.saturating_sub(self.received + self.given_up);
        if outstanding >= window && now > self.last_sent_ns.max(self.last_received_ns) + LOST_AFTER_NS {
            self.given_up += outstanding;
            return window;
        }
        window.saturating_sub(outstanding)
    }

    /// Takes note of a reply.
    fn answered(&mut self, sequence: u64, due_ns: u64, now: u64) {
        self.last_received_ns = self.last_received_ns.max(now);
        // A reply to what was never sent tells of a broken server: it is no answer.
        if sequence >= self.sent {
            self.stale += 1;
            return;
        }
        if self.sequences.note(sequence) == Seen::Again {
            return;
        }
        self.received += 1;
        let latency_ns = now.saturating_sub(due_ns);
        self.latency.record(latency_ns);
        self.course.record(latency_ns);
        if self.sent - sequence <= SENT_KEPT as u64 {
            self.from_sending.record(now.saturating_sub(self.sent_ns[sequence as usize % SENT_KEPT]));
        }
    }

    fn outcome(self, asked_pps: Option<f64>, send_ns: u64) -> Outcome {
        let window_ns = send_ns.max(self.last_received_ns - self.start_ns).max(1);
        Outcome {
            asked_pps,
            sent: self.sent,
            received: self.received,
            duplicated: self.sequences.duplicated,
            reordered: self.sequences.reordered,
            stale: self.stale,
            attacked: 0,
            seconds: Duration::from_nanos(send_ns).as_secs_f64(),
            goodput_pps: self.received as f64 * 1e9 / window_ns as f64,
            adherence: self.schedule.as_ref().map(|schedule| schedule.adherence(send_ns)),
            from_sending: self.schedule.is_some().then_some(self.from_sending),
            latency: self.latency,
            slices: self.course.finish(self.start_ns + send_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn closed(sent: u64, received: u64) -> Progress {
        let progress = Progress::new(Arrivals::Closed { outstanding: 4 }, None, 1000, SECOND);
        Progress { sent, received, ..progress }
    }

    /// Requests that wait after `take_due`.
    fn due(progress: &mut Progress, now: u64) -> usize {
        progress.take_due(now);
        progress.waiting.len()
    }

    #[test]
    fn an_open_loop_takes_what_is_due_whatever_came_back() {
        let mut progress = Progress::new(Arrivals::Constant, Some(1e7), 1000, SECOND);
        assert_eq!(due(&mut progress, 1000), 1, "the first is due at the start");
        assert_eq!(due(&mut progress, 1099), 1);
        assert_eq!(due(&mut progress, 1300), 4, "a stall is caught up, each with its own due time");
        assert_eq!(progress.waiting, [1000, 1100, 1200, 1300]);
    }

    #[test]
    fn a_flood_always_has_a_batch_to_send() {
        let mut progress = Progress::new(Arrivals::Flood, None, 1000, SECOND);
        assert_eq!((due(&mut progress, 1000), due(&mut progress, 1001)), (BATCH, BATCH));
    }

    #[test]
    fn a_closed_loop_keeps_its_window_and_gives_up_on_lost_requests() {
        assert_eq!(due(&mut closed(10, 7), 2000), 1);
        assert_eq!(due(&mut closed(10, 6), 2000), 0);
        let mut stuck = closed(10, 6);
        assert_eq!(due(&mut stuck, 1001 + LOST_AFTER_NS), 4);
        assert_eq!(stuck.given_up, 4);
    }

    #[test]
    fn a_second_reply_is_no_answer_and_neither_is_one_to_what_was_never_sent() {
        let mut progress = closed(10, 0);
        [3, 3, 2, 99].into_iter().for_each(|sequence| progress.answered(sequence, 1000, 3000));
        let outcome = progress.outcome(None, SECOND);
        assert_eq!(
            (outcome.received, outcome.duplicated, outcome.reordered, outcome.stale, outcome.lost()),
            (2, 1, 1, 1, 8)
        );
    }
}
