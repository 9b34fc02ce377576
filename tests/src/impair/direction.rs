//! One direction of a wire: takes frames with the time, and hands them out when they are due.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Counts, Faults};
use crate::packets::Frame;
use crate::sim::Rng;

/// A frame that is held back leaves after so long, even if nobody overtakes it.
pub const HELD_AT_MOST: Duration = Duration::from_millis(20);
/// How long a drawn jitter stays: frames that follow each other closely are late by the same time.
const JITTER_STAYS: Duration = Duration::from_millis(1);
/// Bytes that a frame takes on Ethernet beside those seen here: preamble 8, check sequence 4, gap 12.
const ETHERNET_OVERHEAD: usize = 24;
/// Bytes of an Ethernet header, in which no bit is flipped: the frame would be nobody's.
const ETHERNET_HEADER: usize = 14;

/// One direction. Times are since any moment, the same for all calls.
///
/// Call [`offer`](Self::offer) for every frame that comes in, [`due`](Self::due) until it has nothing more, and
/// sleep until [`next`](Self::next).
#[derive(Debug)]
pub struct Direction {
    faults: Faults,
    rng: Rng,
    counts: Counts,
    /// Further frames that the current burst of losses takes.
    burst_left: u64,
    /// Frames held back: the number of the frame after which they leave, and when they came.
    held: VecDeque<(u64, Duration, Frame)>,
    /// Frames under way, and when they arrive: in this order.
    under_way: VecDeque<(Duration, Frame)>,
    /// When the last frame leaves the queue of the rate.
    busy_until: Duration,
    jitter: Duration,
    jitter_until: Duration,
    /// Memory of frames that have left.
    spare: Vec<Frame>,
}

impl Direction {
    /// An empty direction. Those with the same seed do the same.
    #[must_use]
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            rng: Rng::new(seed),
            counts: Counts::default(),
            burst_left: 0,
            held: VecDeque::new(),
            under_way: VecDeque::new(),
            busy_until: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_until: Duration::ZERO,
            spare: Vec::new(),
        }
    }

    /// What became of the frames so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes the frame that came in, and leaves another one's memory in its place.
    pub fn offer(&mut self, now: Duration, frame: &mut Frame) {
        self.counts.received += 1;
        self.release(now);
        if frame.bytes().len() > self.faults.longest_bytes || frame.is_truncated() {
            self.counts.too_long += 1;
            return;
        }
        if self.is_lost() {
            self.counts.lost += 1;
            return;
        }
        let mut taken = std::mem::replace(frame, self.spare.pop().unwrap_or_default());
        if self.hits(self.faults.corrupt) && taken.bytes().len() > ETHERNET_HEADER {
            let bytes = taken.bytes_mut();
            let at = self.rng.between(ETHERNET_HEADER as u64, bytes.len() as u64 - 1);
            bytes[at as usize] ^= 1 << self.rng.below(8);
            self.counts.corrupted += 1;
        }
        if self.hits(self.faults.duplicate) {
            let mut twin = self.spare.pop().unwrap_or_default();
            twin.copy_from(&taken);
            self.counts.duplicated += 1;
            self.schedule(now, twin);
        }
        if self.hits(self.faults.reorder) {
            self.counts.reordered += 1;
            self.held.push_back((self.counts.received + self.faults.reorder_frames, now, taken));
        } else {
            self.schedule(now, taken);
        }
    }

    /// The next frame that has arrived, if one has.
    #[must_use]
    pub fn due(&mut self, now: Duration) -> Option<Frame> {
        self.release(now);
        self.under_way.pop_front_if(|(at, _)| *at <= now).map(|(_, frame)| frame)
    }

    /// Takes back the memory of a frame that was [`due`](Self::due), and counts whether it went out.
    pub fn done(&mut self, frame: Frame, sent: bool) {
        self.counts.sent += u64::from(sent);
        self.counts.unsent += u64::from(!sent);
        self.spare.push(frame);
    }

    /// When there is something to do next, if nothing comes in.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let held = self.held.front().map(|(_, since, _)| *since + HELD_AT_MOST);
        let under_way = self.under_way.front().map(|(at, _)| *at);
        held.into_iter().chain(under_way).min()
    }

    /// Lets frames go that were held back for long enough.
    fn release(&mut self, now: Duration) {
        let received = self.counts.received;
        let leaves = |(after, since, _): &mut (u64, Duration, Frame)| *after < received || now >= *since + HELD_AT_MOST;
        while let Some((_, _, frame)) = self.held.pop_front_if(leaves) {
            self.schedule(now, frame);
        }
    }

    fn is_lost(&mut self) -> bool {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return true;
        }
        if self.hits(self.faults.burst) {
            self.burst_left = self.faults.burst_frames.saturating_sub(1);
            return true;
        }
        self.hits(self.faults.loss)
    }

    /// Puts a frame on the way: it waits for its turn at the rate, and arrives after the delay.
    fn schedule(&mut self, now: Duration, frame: Frame) {
        let mut leaves = now;
        if self.faults.rate_bits > 0 {
            let rate = self.faults.rate_bits as f64;
            let waiting_bytes = self.busy_until.saturating_sub(now).as_secs_f64() * rate / 8.0;
            if waiting_bytes + frame.bytes().len() as f64 > self.faults.queue_bytes as f64 {
                self.counts.queue_full += 1;
                self.spare.push(frame);
                return;
            }
            let bits = (frame.bytes().len() + ETHERNET_OVERHEAD) as f64 * 8.0;
            self.busy_until = self.busy_until.max(now) + Duration::from_secs_f64(bits / rate);
            leaves = self.busy_until;
        }
        if !self.faults.jitter.is_zero() && now >= self.jitter_until {
            self.jitter = Duration::from_nanos(self.rng.between(0, self.faults.jitter.as_nanos() as u64));
            self.jitter_until = now + JITTER_STAYS;
        }
        let arrives = leaves + self.faults.delay + self.jitter;
        let before = self.under_way.back().map_or(Duration::ZERO, |(at, _)| *at);
        self.under_way.push_back((arrives.max(before), frame));
    }

    /// Draws a number if there is anything to draw for: a fault that is off does not move the others.
    fn hits(&mut self, share: f64) -> bool {
        /// 2^53, up to which an `f64` counts exactly.
        const STEPS: u64 = 1 << 53;
        share > 0.0 && (self.rng.below(STEPS) as f64) < share * STEPS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends frames that carry their number, one every `gap`, and gives the times and numbers that come out.
    fn carry(faults: Faults, frames: u32, gap: Duration) -> (Vec<(Duration, u32)>, Counts) {
        let mut direction = Direction::new(faults, 1);
        let mut out = Vec::new();
        let mut collect = |direction: &mut Direction, now| {
            while let Some(frame) = direction.due(now) {
                let number = frame.bytes()[96..].try_into().map(u32::from_be_bytes).unwrap();
                out.push((now, number));
                direction.done(frame, true);
            }
        };
        for number in 0..frames {
            let now = gap * number;
            while let Some(next) = direction.next().filter(|next| *next < now) {
                collect(&mut direction, next);
            }
            let mut frame = Frame::default();
            frame.set(&[&[0; 96][..], &number.to_be_bytes()].concat());
            direction.offer(now, &mut frame);
            collect(&mut direction, now);
        }
        while let Some(next) = direction.next() {
            collect(&mut direction, next);
        }
        let counts = direction.counts();
        assert_eq!(
            counts.received + counts.duplicated,
            counts.sent + counts.lost + counts.too_long + counts.queue_full
        );
        (out, counts)
    }

    fn numbers(out: &[(Duration, u32)]) -> Vec<u32> {
        out.iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn a_wire_without_faults_carries_everything_at_once() {
        let (out, _) = carry(Faults::default(), 1_000, MS);
        assert!(out.iter().enumerate().all(|(i, frame)| *frame == (MS * i as u32, i as u32)));
    }

    #[test]
    fn losses_are_as_many_as_asked_for_and_the_same_for_the_same_seed() {
        let faults = Faults { loss: 0.01, ..Faults::default() };
        let (out, counts) = carry(faults.clone(), 100_000, MS);
        assert!((900..1_100).contains(&counts.lost), "{counts:?}");
        assert_eq!(out, carry(faults, 100_000, MS).0);
    }

    #[test]
    fn a_burst_takes_frames_that_follow_each_other() {
        let (out, counts) = carry(Faults { burst: 0.001, burst_frames: 5, ..Faults::default() }, 10_000, MS);
        assert!(counts.lost >= 20 && counts.lost.is_multiple_of(5), "{counts:?}");
        let gaps = numbers(&out).windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1).collect::<Vec<_>>();
        assert!(gaps.iter().all(|gap| (gap - 1).is_multiple_of(5)), "{gaps:?}");
    }

    #[test]
    fn a_frame_that_is_held_back_is_overtaken_by_as_many_as_asked_for() {
        let (out, counts) = carry(Faults { reorder: 0.001, reorder_frames: 3, ..Faults::default() }, 10_000, MS);
        assert!(counts.reordered > 0);
        let out = numbers(&out);
        let late: Vec<usize> = (1..out.len()).filter(|i| out[*i] < out[i - 1]).collect();
        assert_eq!(late.len() as u64, counts.reordered);
        assert!(late.iter().all(|i| out[i - 1] == out[*i] + 3), "{late:?}");
    }

    #[test]
    fn a_frame_that_nobody_overtakes_leaves_all_the_same() {
        let (out, _) = carry(Faults { reorder: 1.0, ..Faults::default() }, 1, MS);
        assert_eq!(out, [(HELD_AT_MOST, 0)]);
    }

    #[test]
    fn duplicates_and_flipped_bits_are_counted() {
        let (out, counts) = carry(Faults { duplicate: 0.1, ..Faults::default() }, 10_000, MS);
        assert_eq!(out.len() as u64, 10_000 + counts.duplicated);
        assert!((900..1_100).contains(&counts.duplicated), "{counts:?}");
        let (_, counts) = carry(Faults { corrupt: 0.1, ..Faults::default() }, 10_000, MS);
        assert!((900..1_100).contains(&counts.corrupted), "{counts:?}");
    }

    #[test]
    fn delay_and_jitter_keep_the_order() {
        let faults = Faults { delay: 20 * MS, jitter: 5 * MS, ..Faults::default() };
        let (out, _) = carry(faults, 10_000, MS / 10);
        assert!(numbers(&out).is_sorted());
        let late: Vec<Duration> = out.iter().map(|(at, number)| *at - MS / 10 * *number).collect();
        assert!(late.iter().all(|late| (20 * MS..=25 * MS + JITTER_STAYS).contains(late)));
        assert!(late.iter().max().unwrap().abs_diff(*late.iter().min().unwrap()) > 2 * MS);
    }

    #[test]
    fn the_rate_spaces_frames_and_a_full_queue_loses_them() {
        // 124 bytes on Ethernet are 992 bits: 0.992 ms.
        let faults = Faults { rate_bits: 1_000_000, queue_bytes: 1_000, ..Faults::default() };
        let (out, counts) = carry(faults.clone(), 100, Duration::ZERO);
        assert_eq!((counts.sent, counts.queue_full), (8, 92));
        assert_eq!(out[7].0, Duration::from_micros(992) * 8);
        let (_, counts) = carry(faults, 100, MS);
        assert_eq!(counts.queue_full, 0);
    }

    #[test]
    fn long_frames_vanish() {
        let (out, counts) = carry(Faults { longest_bytes: 99, ..Faults::default() }, 10, MS);
        assert_eq!((out.len(), counts.too_long), (0, 10));
    }
}
