//! Where a trial of datagrams stands, whatever carries them: what is due, what was sent, what came back.
//!
//! Beside the latency from the due time stands that from sending, for which the moment of sending is kept here, by
//! sequence.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::STAMP_LEN;
use super::sequences::{Seen, Sequences};
use super::trial::Outcome;
use crate::arrivals::{Arrivals, Schedule};
use crate::course::Course;
use crate::histogram::Latency;
use crate::mmsg::BATCH;

/// A closed loop counts requests without a reply as lost after this long, and goes on.
const LOST_AFTER_NS: u64 = 100_000_000;
/// After the last request, how long replies are waited for.
pub(crate) const DRAIN_NS: u64 = 100_000_000;
/// Requests whose moment of sending is kept; at half a million a second, those of the last half second.
const SENT_KEPT: usize = 1 << 18;

/// Where a trial stands.
pub(crate) struct Progress {
    /// Which of the trials that one generator runs.
    trial: u32,
    arrivals: Arrivals,
    schedule: Option<Schedule>,
    /// Due times of requests that were not sent yet.
    waiting: VecDeque<u64>,
    start_ns: u64,
    /// Requests to send at most.
    limit: u64,
    sent: u64,
    /// When each was sent, by the low bits of its sequence.
    sent_ns: Box<[u64]>,
    received: u64,
    /// Payload of the answers.
    received_bytes: u64,
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

impl Progress {
    pub(crate) fn new(trial: u32, arrivals: Arrivals, rate_pps: Option<f64>, start_ns: u64, duration_ns: u64) -> Self {
        let open = !matches!(arrivals, Arrivals::Flood | Arrivals::Closed { .. });
        let schedule = rate_pps.filter(|_| open).map(|rate| Schedule::new(arrivals, rate, start_ns, duration_ns));
        Self {
            trial,
            arrivals,
            schedule,
            waiting: VecDeque::new(),
            start_ns,
            limit: u64::MAX,
            sent: 0,
            sent_ns: vec![0; SENT_KEPT].into(),
            received: 0,
            received_bytes: 0,
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

    /// The same with so many requests at most.
    pub(crate) fn up_to(self, limit: Option<u64>) -> Self {
        Self { limit: limit.unwrap_or(u64::MAX), ..self }
    }

    /// Whether as many were sent as may be.
    pub(crate) fn is_complete(&self) -> bool {
        self.sent >= self.limit
    }

    /// Takes note of the time.
    pub(crate) fn tick(&mut self, now: u64) {
        self.course.tick(now);
    }

    /// Requests that are due, may be sent, and were not yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len().min(usize::try_from(self.limit - self.sent).unwrap_or(usize::MAX))
    }

    /// Whether replies are missing.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.received < self.sent
    }

    /// The sequence of the request at `index` among those that wait.
    pub(crate) const fn sequence(&self, index: usize) -> u64 {
        self.sent + index as u64
    }

    /// Writes what tells a request from others into its payload: of the one at `index` among those that wait.
    pub(crate) fn stamp(&mut self, index: usize, payload: &mut [u8], now: u64) {
        let sequence = self.sequence(index);
        self.sent_ns[sequence as usize % SENT_KEPT] = now;
        let due_ns = self.waiting.get(index).copied().unwrap_or(now);
        let stamp = &mut payload[..STAMP_LEN];
        stamp[..4].copy_from_slice(&self.trial.to_ne_bytes());
        stamp[4..12].copy_from_slice(&sequence.to_ne_bytes());
        stamp[12..20].copy_from_slice(&due_ns.to_ne_bytes());
    }

    /// The first `count` of those that wait were sent.
    pub(crate) fn took(&mut self, count: usize, now: u64) {
        for due_ns in self.waiting.drain(..count) {
            if let Some(schedule) = &mut self.schedule {
                schedule.turned_to(due_ns, now);
            }
        }
        self.sent += count as u64;
        self.last_sent_ns = now;
    }

    /// Takes in the payload of a datagram that came.
    pub(crate) fn receive(&mut self, reply: &[u8], now: u64) {
        if reply.len() < STAMP_LEN || reply[..4] != self.trial.to_ne_bytes() {
            self.stale += 1;
            return;
        }
        let word = |from: usize| reply[from..][..8].try_into().map_or(0, u64::from_ne_bytes);
        self.answered(word(4), word(12), reply.len(), now);
    }

    /// Lets what is due by now wait for being sent.
    pub(crate) fn take_due(&mut self, now: u64) {
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

    /// Takes note of a reply with so many bytes of payload.
    fn answered(&mut self, sequence: u64, due_ns: u64, len: usize, now: u64) {
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
        self.received_bytes += len as u64;
        let latency_ns = now.saturating_sub(due_ns);
        self.latency.record(latency_ns);
        self.course.record(latency_ns);
        if self.sent - sequence <= SENT_KEPT as u64 {
            self.from_sending.record(now.saturating_sub(self.sent_ns[sequence as usize % SENT_KEPT]));
        }
    }

    /// What came of it: `headers_len` bytes of a frame stand before the payload.
    pub(crate) fn outcome(self, asked_pps: Option<f64>, send_ns: u64, headers_len: usize) -> Outcome {
        let window_ns = send_ns.max(self.last_received_ns - self.start_ns).max(1);
        Outcome {
            asked_pps,
            sent: self.sent,
            received: self.received,
            received_bytes: self.received_bytes + self.received * headers_len as u64,
            duplicated: self.sequences.duplicated,
            reordered: self.sequences.reordered,
            stale: self.stale,
            attacked: 0,
            seconds: Duration::from_nanos(send_ns).as_secs_f64(),
            window_seconds: Duration::from_nanos(window_ns).as_secs_f64(),
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
        let progress = Progress::new(1, Arrivals::Closed { outstanding: 4 }, None, 1000, SECOND);
        Progress { sent, received, ..progress }
    }

    /// Requests that wait after `take_due`.
    fn due(progress: &mut Progress, now: u64) -> usize {
        progress.take_due(now);
        progress.waiting.len()
    }

    #[test]
    fn an_open_loop_takes_what_is_due_whatever_came_back() {
        let mut progress = Progress::new(1, Arrivals::Constant, Some(1e7), 1000, SECOND);
        assert_eq!(due(&mut progress, 1000), 1, "the first is due at the start");
        assert_eq!(due(&mut progress, 1099), 1);
        assert_eq!(due(&mut progress, 1300), 4, "a stall is caught up, each with its own due time");
        assert_eq!(progress.waiting, [1000, 1100, 1200, 1300]);
    }

    #[test]
    fn a_flood_always_has_a_batch_to_send() {
        let mut progress = Progress::new(1, Arrivals::Flood, None, 1000, SECOND);
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
        [3, 3, 2, 99].into_iter().for_each(|sequence| progress.answered(sequence, 1000, 30, 3000));
        let outcome = progress.outcome(None, SECOND, 42);
        assert_eq!(outcome.received_bytes, 2 * 72, "of both answers");
        assert_eq!(
            (outcome.received, outcome.duplicated, outcome.reordered, outcome.stale, outcome.lost()),
            (2, 1, 1, 1, 8)
        );
    }

    #[test]
    fn a_reply_belongs_to_its_trial_and_counts_from_its_due_time() {
        let mut progress = Progress::new(7, Arrivals::Constant, Some(1e6), 1000, SECOND);
        progress.take_due(2000);
        let (mut first, mut second) = ([0; STAMP_LEN], [0; STAMP_LEN]);
        progress.stamp(0, &mut first, 3000);
        progress.stamp(1, &mut second, 3000);
        progress.took(2, 3000);
        assert!(progress.waiting() == 0 && progress.is_awaiting());
        progress.receive(&second, 5000);
        first[0] ^= 1;
        progress.receive(&first, 5000);
        progress.receive(&first[1..], 5000);
        let outcome = progress.outcome(None, SECOND, 42);
        assert_eq!((outcome.sent, outcome.received, outcome.stale), (2, 1, 2));
        assert_eq!(outcome.latency.summary().max_ns, 3000, "it was due at 2,000");
        assert_eq!(outcome.from_sending.unwrap().summary().max_ns, 2000);
    }
}
