//! One direction of the virtual wire, and what goes wrong on it.
//!
//! ```text
//!   send -> loss -> frame limit -> queue, bandwidth -> damage -> delay, jitter, reordering -> arrive
//!                                                        \-> duplicate
//! ```

use std::collections::BTreeMap;

use barewire::base::Instant;

use super::rng::Rng;

/// A frame on the wire.
#[derive(Clone, Debug)]
pub struct Transmission {
    /// The frame, without its check sequence.
    pub bytes: Vec<u8>,
    /// Whether its content is not what an application once sent.
    pub damaged: bool,
}

/// Faults of one direction. Chances are in thousandths of frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Frames lost.
    pub loss: u32,
    /// Frames after which a run of losses begins, and those after which it ends.
    pub burst_loss: (u32, u32),
    /// ARP frames lost.
    pub arp_loss: u32,
    /// Whether the first ARP frame is lost, the third, the fifth and so on.
    pub every_other_arp: bool,
    /// Frames that arrive twice.
    pub duplication: u32,
    /// Frames that arrive late, after others.
    pub reordering: u32,
    /// How late at most.
    pub reordering_ns: u64,
    /// Frames with one to four bits turned over.
    pub corruption: u32,
    /// Whether so many more bits are turned over in a packet that its checksums tell. What they cannot tell, no
    /// stream is safe from.
    pub detectable: bool,
    /// Frames cut off somewhere.
    pub truncation: u32,
    /// Frames whose DSCP and ECN bits somebody rewrote, mending the checksum.
    pub remarking: u32,
    /// Time from one end to the other.
    pub delay_ns: u64,
    /// Time that this varies by.
    pub jitter_ns: u64,
    /// Nanoseconds that a byte takes; 0 for none.
    pub ns_per_byte: u64,
    /// Bytes that wait for their turn at most.
    pub queue_bytes: u64,
    /// Bytes waiting from which on packets that are ECN-capable are marked (RFC 3168); 0 for never.
    pub marks_from: u64,
    /// Longest frame that gets through; 0 for any.
    pub max_frame: usize,
    /// Whether short frames are padded to 60 bytes, as Ethernet has it.
    pub padding: bool,
}

impl Faults {
    /// The same wire with nothing wrong: only its delay and padding remain.
    #[must_use]
    pub fn calm(self) -> Self {
        Self { delay_ns: self.delay_ns, padding: self.padding, ..Self::default() }
    }
}

/// Frames, by what became of them: `sent + duplicated + forged = all the others + in flight`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneCounters {
    /// Put in by the host at the near end.
    pub sent: u64,
    /// Made by duplication.
    pub duplicated: u64,
    /// Put in by a stranger.
    pub forged: u64,
    /// Lost, alone or in a run.
    pub lost: u64,
    /// Longer than the wire takes.
    pub too_long: u64,
    /// Dropped at the tail of the queue.
    pub queue_full: u64,
    /// Arrived.
    pub arrived: u64,
    /// Arrived, after bits were turned over.
    pub corrupted: u64,
    /// Arrived, cut off.
    pub truncated: u64,
    /// Arrived, with other DSCP and ECN bits.
    pub remarked: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
    /// Marked "congestion experienced", of those that got through.
    pub marked: u64,
}

/// One direction of the wire.
#[derive(Debug)]
pub struct Lane {
    faults: Faults,
    rng: Rng,
    in_flight: BTreeMap<(Instant, u64), Transmission>,
    order: u64,
    /// Order number of the latest one that arrived.
    latest: u64,
    losing: bool,
    arp_frames: u64,
    free_at: Instant,
    last_arrival: Instant,
    counters: LaneCounters,
}

impl Lane {
    /// An empty lane.
    #[must_use]
    pub const fn new(faults: Faults, rng: Rng) -> Self {
        Self {
            faults,
            rng,
            in_flight: BTreeMap::new(),
            order: 0,
            latest: 0,
            losing: false,
            arp_frames: 0,
            free_at: Instant::ZERO,
            last_arrival: Instant::ZERO,
            counters: LaneCounters {
                sent: 0,
                duplicated: 0,
                forged: 0,
                lost: 0,
                too_long: 0,
                queue_full: 0,
                arrived: 0,
                corrupted: 0,
                truncated: 0,
                remarked: 0,
                reordered: 0,
                marked: 0,
            },
        }
    }

    /// Ends the faults. What is under way is not helped.
    pub fn calm(&mut self) {
        self.faults = self.faults.calm();
        self.losing = false;
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &LaneCounters {
        &self.counters
    }

    /// Frames under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// When the next frame arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// A host puts a frame in. One that is too long comes back.
    pub fn send(&mut self, mut frame: Transmission, now: Instant) -> Option<Transmission> {
        self.counters.sent += 1;
        if self.loses(&frame.bytes) {
            self.counters.lost += 1;
            return None;
        }
        if self.faults.max_frame > 0 && frame.bytes.len() > self.faults.max_frame {
            self.counters.too_long += 1;
            return Some(frame);
        }
        self.mark(&mut frame.bytes, now);
        let Some(leaves) = self.queue(frame.bytes.len() as u64, now) else {
            self.counters.queue_full += 1;
            return None;
        };
        if self.rng.chance(self.faults.duplication) {
            self.counters.duplicated += 1;
            self.put(frame.clone(), leaves);
        }
        self.put(frame, leaves);
        None
    }

    /// A stranger puts a frame in, which arrives at once.
    pub fn forge(&mut self, bytes: Vec<u8>, now: Instant) {
        self.counters.forged += 1;
        self.order += 1;
        self.in_flight.insert((now, self.order), Transmission { bytes, damaged: true });
    }

    /// Takes out the next frame that has arrived by now.
    pub fn arrive(&mut self, now: Instant) -> Option<Transmission> {
        let entry = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, order), frame) = entry.remove_entry();
        self.counters.arrived += 1;
        self.counters.reordered += u64::from(order < self.latest);
        self.latest = self.latest.max(order);
        Some(frame)
    }

    /// Whether a frame is lost.
    fn loses(&mut self, bytes: &[u8]) -> bool {
        let (begins, ends) = self.faults.burst_loss;
        self.losing = if self.losing { !self.rng.chance(ends) } else { self.rng.chance(begins) };
        let is_arp = is_of_neighbors(bytes);
        self.arp_frames += u64::from(is_arp);
        let is_odd = self.faults.every_other_arp && !self.arp_frames.is_multiple_of(2);
        let is_lost_arp = is_arp && (is_odd || self.rng.chance(self.faults.arp_loss));
        self.losing || self.rng.chance(self.faults.loss) || is_lost_arp
    }

    /// When the last byte of a frame is on the wire, unless the queue before it is full.
    fn queue(&mut self, len: u64, now: Instant) -> Option<Instant> {
        let busy_ns = self.free_at.max(now).as_ns();
        let waiting_ns = busy_ns - now.as_ns();
        if waiting_ns > self.faults.queue_bytes * self.faults.ns_per_byte {
            return None;
        }
        self.free_at = Instant::from_ns(busy_ns + len * self.faults.ns_per_byte);
        Some(self.free_at)
    }

    /// Marks a packet where the queue is long, if it is ECN-capable.
    fn mark(&mut self, bytes: &mut [u8], now: Instant) {
        let waiting_ns = self.free_at.max(now).as_ns() - now.as_ns();
        let is_long = self.faults.marks_from > 0 && waiting_ns > self.faults.marks_from * self.faults.ns_per_byte;
        if let Some(class) = traffic_class(bytes).filter(|class| is_long && class & 3 != 0) {
            remark(bytes, class | 3);
            self.counters.marked += 1;
        }
    }

    fn put(&mut self, mut frame: Transmission, leaves: Instant) {
        self.damage(&mut frame);
        let mut arrives = leaves.as_ns() + self.faults.delay_ns + self.rng.below(self.faults.jitter_ns + 1);
        if self.rng.chance(self.faults.reordering) {
            arrives += self.rng.below(self.faults.reordering_ns + 1);
        } else {
            arrives = arrives.max(self.last_arrival.as_ns());
            self.last_arrival = Instant::from_ns(arrives);
        }
        self.order += 1;
        self.in_flight.insert((Instant::from_ns(arrives), self.order), frame);
    }

    fn damage(&mut self, frame: &mut Transmission) {
        let Transmission { bytes, damaged } = frame;
        if self.rng.chance(self.faults.remarking) && traffic_class(bytes).is_some() {
            remark(bytes, self.rng.bits() as u8);
            self.counters.remarked += 1;
        }
        if self.faults.padding && bytes.len() < 60 {
            bytes.resize(60, self.rng.bits() as u8);
        }
        if self.rng.chance(self.faults.corruption) {
            let before = bytes.clone();
            let mut turn_over = |rng: &mut Rng, bits| {
                for _ in 0..bits {
                    let bit = rng.below(bytes.len() as u64 * 8) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                self.faults.detectable
                    && bytes.get(14..) != before.get(14..)
                    && super::frames::is_intact(bytes.get(14..).unwrap_or_default())
            };
            let bits = self.rng.between(1, 4);
            let mut is_untold = turn_over(&mut self.rng, bits);
            while is_untold {
                is_untold = turn_over(&mut self.rng, 1);
            }
            *damaged = true;
            self.counters.corrupted += 1;
        }
        if self.rng.chance(self.faults.truncation) {
            bytes.truncate(self.rng.below(bytes.len() as u64 + 1) as usize);
            *damaged = true;
            self.counters.truncated += 1;
        }
    }
}

/// Whether a frame is of ARP, or a solicitation or an advertisement of neighbor discovery.
fn is_of_neighbors(bytes: &[u8]) -> bool {
    match bytes.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => bytes.get(20) == Some(&58) && matches!(bytes.get(54), Some(135 | 136)),
        _ => false,
    }
}

/// DSCP and ECN of the packet in a frame, if it has no tags and the packet no options.
fn traffic_class(bytes: &[u8]) -> Option<u8> {
    match *bytes.get(12..16)? {
        [0x08, 0x00, 0x45, class] if bytes.len() >= 34 => Some(class),
        [0x86, 0xdd, high, low] if high >> 4 == 6 => Some(high << 4 | low >> 4),
        _ => None,
    }
}

/// Gives a packet that has a [`traffic_class`] another one and mends its checksum, as a router that marks congestion does.
pub(super) fn remark(frame: &mut [u8], class: u8) {
    if frame[12..14] == [0x86, 0xdd] {
        frame[14] = 0x60 | class >> 4;
        frame[15] = class << 4 | frame[15] & 15;
        return;
    }
    frame[15] = class;
    frame[24..26].fill(0);
    let checksum = super::frames::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
