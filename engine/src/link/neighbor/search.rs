//! What is being asked: neighbors that are searched for, with the frames that wait for them, and neighbors that are
//! probed.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::cache::Key;
use super::{DELAY_FIRST_PROBE_TIME, Due, MAX_SOLICIT, RETRANS_TIMER};
use crate::base::{Frame, FrameQueue, Instant, Umem, UnsentReason};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;

/// Neighbors that can be searched for at once: each costs a queue of frames, so an application that sends to a whole
/// silent network must not take all the memory.
pub(super) const SEARCHES: usize = 64;
/// Neighbors in DELAY or PROBE at once. One in use is there for 5 s of some 35, so 256 of them serve a full table of
/// 1,800 neighbors; for those beyond that the probe comes later.
pub(super) const PROBES: usize = 256;
/// Chunks that waiting frames leave free: a solicitation needs one, and without it they would wait in vain. A few more
/// for what is received meanwhile, the answer above all.
const SPARE_CHUNKS: u32 = 8;
/// Addresses whose last solicitation is remembered: of those in the last second, unless many more are asked.
const ASKED: usize = 256;

/// When an address was asked for last.
///
/// RFC 1122, section 2.3.2.1: the recommended maximum rate is 1 per second per destination. Timers keep to that while a
/// search lasts; this is for the next search, or the next probe, for the same address.
#[derive(Debug)]
pub(super) struct Pace {
    asked: Box<[(IpAddress, Instant)]>,
    key: Key,
    /// Time between two solicitations of IPv6.
    interval_v6: Duration,
}

impl Pace {
    pub(super) fn new(key: Key) -> Self {
        let asked = vec![(IpAddress::NONE, Instant::ZERO); ASKED].into_boxed_slice();
        Self { asked, key, interval_v6: RETRANS_TIMER }
    }

    pub(super) const fn set_interval(&mut self, interval: Duration) {
        self.interval_v6 = interval;
    }

    /// Time between two solicitations for an address.
    fn interval(&self, address: IpAddress) -> Duration {
        if address.is_v4() { RETRANS_TIMER } else { self.interval_v6 }
    }

    /// Lets an address be asked for now, or says when it may be.
    fn ask(&mut self, address: IpAddress, now: Instant) -> Result<(), Instant> {
        let index = self.key.hash(address.octets()) as usize % ASKED;
        let interval = self.interval(address);
        let Some(slot) = self.asked.get_mut(index) else { return Ok(()) };
        let again = slot.1 + interval;
        if slot.0 == address && now < again {
            return Err(again);
        }
        *slot = (address, now);
        Ok(())
    }
}

/// Solicitations that are still to be sent.
#[derive(Debug)]
struct Attempts {
    left: u8,
    next: Instant,
}

/// What an attempt that was due has led to.
enum Attempt {
    /// A solicitation is to be sent.
    Solicit,
    /// The last one was sent a while ago, and nobody has answered.
    Failed,
    /// It is too early for another one.
    TooEarly,
}

impl Attempts {
    const fn from(next: Instant) -> Self {
        Self { left: MAX_SOLICIT, next }
    }

    fn spend(&mut self, address: IpAddress, pace: &mut Pace, now: Instant) -> Attempt {
        if self.left == 0 {
            return Attempt::Failed;
        }
        if let Err(again) = pace.ask(address, now) {
            self.next = again;
            return Attempt::TooEarly;
        }
        self.left -= 1;
        self.next = now + pace.interval(address);
        Attempt::Solicit
    }
}

#[derive(Debug)]
enum Progress {
    /// Nobody has answered yet.
    Asking(Attempts),
    /// The neighbor has this MAC address: what waits is to be sent.
    Found(Mac),
}

#[derive(Debug)]
struct Search {
    address: IpAddress,
    progress: Progress,
    waiting: FrameQueue,
    /// Chunks of these frames.
    chunks: u32,
}

impl Search {
    fn push(&mut self, frame: Frame, umem: &mut Umem) {
        self.chunks += umem.parts(&frame);
        self.waiting.push(umem, frame);
    }

    fn pop(&mut self, umem: &mut Umem) -> Option<Frame> {
        let frame = self.waiting.pop(umem)?;
        self.chunks -= umem.parts(&frame);
        Some(frame)
    }
}

/// Neighbors in INCOMPLETE, and those found whose frames have not been taken out yet.
#[derive(Debug)]
pub(super) struct Searches {
    list: ArrayVec<Search, SEARCHES>,
    /// How many of them were found.
    found: usize,
    queue_limit: u32,
    waiting_limit: u32,
}

impl Searches {
    pub(super) fn new(queue_limit: u32, waiting_limit: u32) -> Self {
        Self { list: ArrayVec::new(), found: 0, queue_limit: queue_limit.max(1), waiting_limit: waiting_limit.max(1) }
    }

    /// Lets a frame wait; returns the one that gave way.
    pub(super) fn wait(
        &mut self,
        address: IpAddress,
        frame: Frame,
        umem: &mut Umem,
        now: Instant,
    ) -> Result<Option<Frame>, (Frame, UnsentReason)> {
        let at = match self.position(address) {
            Some(at) => at,
            None => {
                let progress = Progress::Asking(Attempts::from(now));
                let search = Search { address, progress, waiting: FrameQueue::default(), chunks: 0 };
                if self.list.try_push(search).is_err() {
                    return Err((frame, UnsentReason::NeighborTableFull));
                }
                self.list.len() - 1
            }
        };
        let queue_is_full = self.list.get(at).is_some_and(|search| search.waiting.len() >= self.queue_limit);
        // RFC 4861, section 7.2.2: when a queue overflows, the new arrival SHOULD replace the oldest entry. When all
        // together do, or memory gets short, the longest one gives way, so that a few silent neighbors cannot keep
        // frames for others out.
        let gives_way = if queue_is_full {
            self.list.get_mut(at)
        } else if self.waiting() >= self.waiting_limit || umem.free_chunks() < SPARE_CHUNKS {
            self.list.iter_mut().max_by_key(|search| search.waiting.len())
        } else {
            None
        };
        let pushed_out = gives_way.and_then(|search| search.pop(umem));
        if let Some(search) = self.list.get_mut(at) {
            search.push(frame, umem);
        }
        Ok(pushed_out)
    }

    pub(super) fn is_asking(&self, address: IpAddress) -> bool {
        self.asking().any(|(of, _)| of == address)
    }

    /// Addresses that nobody has answered for yet.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddress> {
        self.asking().map(|(address, _)| address)
    }

    /// Takes note of a MAC address, if it is searched for.
    pub(super) fn found(&mut self, address: IpAddress, mac: Mac) {
        let search = self.position(address).and_then(|at| self.list.get_mut(at));
        if let Some(Search { progress, .. }) = search {
            self.found += usize::from(matches!(progress, Progress::Asking(_)));
            *progress = Progress::Found(mac);
        }
    }

    /// The next frame whose neighbor was found.
    pub(super) fn next_found(&mut self, umem: &mut Umem) -> Option<(Frame, IpAddress, Mac)> {
        while self.found > 0 {
            let at = self.list.iter().position(|search| matches!(search.progress, Progress::Found(_)))?;
            let search = self.list.get_mut(at)?;
            if let Progress::Found(mac) = search.progress
                && let Some(frame) = search.pop(umem)
            {
                return Some((frame, search.address, mac));
            }
            self.list.swap_remove(at);
            self.found -= 1;
        }
        None
    }

    pub(super) const fn has_found(&self) -> bool {
        self.found > 0
    }

    pub(super) fn waiting(&self) -> u32 {
        self.list.iter().map(|search| search.waiting.len()).sum()
    }

    pub(super) fn waiting_chunks(&self) -> u32 {
        self.list.iter().map(|search| search.chunks).sum()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.asking().map(|(_, attempts)| attempts.next).min()
    }

    /// What is to be done about one search that is due; `None` if none is, or if it turns out to be too early.
    pub(super) fn due(&mut self, pace: &mut Pace, now: Instant) -> Option<Due> {
        let is_due = |search: &Search| matches!(&search.progress, Progress::Asking(attempts) if attempts.next <= now);
        let at = self.list.iter().position(is_due)?;
        let Search { address, progress: Progress::Asking(attempts), .. } = self.list.get_mut(at)? else { return None };
        let address = *address;
        match attempts.spend(address, pace, now) {
            Attempt::Solicit => Some(Due::Solicit { address, to: None }),
            Attempt::Failed => Some(Due::GiveUp(address, self.list.swap_remove(at).waiting)),
            Attempt::TooEarly => None,
        }
    }

    fn position(&self, address: IpAddress) -> Option<usize> {
        self.list.iter().position(|search| search.address == address)
    }

    fn asking(&self) -> impl Iterator<Item = (IpAddress, &Attempts)> {
        self.list.iter().filter_map(|search| match &search.progress {
            Progress::Asking(attempts) => Some((search.address, attempts)),
            Progress::Found(_) => None,
        })
    }
}

/// Timers of neighbors in DELAY and PROBE.
#[derive(Debug, Default)]
pub(super) struct Probes {
    list: ArrayVec<(IpAddress, Attempts), PROBES>,
}

/// What the timer of a neighbor in DELAY or PROBE says.
pub(super) enum Probe {
    /// It enters PROBE, or stays there, and is to be asked.
    Solicit(IpAddress),
    /// It did not answer.
    Failed(IpAddress),
}

impl Probes {
    /// Starts the timer of a neighbor that enters DELAY; whether there is room for it.
    pub(super) fn delay(&mut self, address: IpAddress, now: Instant) -> bool {
        self.start(address, DELAY_FIRST_PROBE_TIME, now)
    }

    /// Starts the timer of a neighbor that enters PROBE, or ends its DELAY; whether there is room for it.
    pub(super) fn hurry(&mut self, address: IpAddress, now: Instant) -> bool {
        self.stop(address);
        self.start(address, Duration::ZERO, now)
    }

    pub(super) fn stop(&mut self, address: IpAddress) {
        if let Some(at) = self.list.iter().position(|(of, _)| *of == address) {
            self.list.swap_remove(at);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.list.iter().map(|(_, attempts)| attempts.next).min()
    }

    /// What is to be done about one that is due; `None` if none is, or if it turns out to be too early.
    pub(super) fn due(&mut self, pace: &mut Pace, now: Instant) -> Option<Probe> {
        let at = self.list.iter().position(|(_, attempts)| attempts.next <= now)?;
        let (address, attempts) = self.list.get_mut(at)?;
        let address = *address;
        match attempts.spend(address, pace, now) {
            Attempt::Solicit => Some(Probe::Solicit(address)),
            Attempt::Failed => {
                self.list.swap_remove(at);
                Some(Probe::Failed(address))
            }
            Attempt::TooEarly => None,
        }
    }

    fn start(&mut self, address: IpAddress, after: Duration, now: Instant) -> bool {
        self.list.try_push((address, Attempts::from(now + after))).is_ok()
    }
}
