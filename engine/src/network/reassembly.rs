//! Datagrams out of fragments (RFC 791, section 3.2; RFC 1122, section 3.3.2; RFC 8200, section 4.5).
//!
//! ```text
//!   fragment -> which datagram?  by addresses, identification and, in IPv4, protocol
//!                 | known, or begun in place of one that gives way
//!                 v
//!   datagram.rs   [0..1480)  [1480..2960)   gap   [4440..5000)      frames as they came, in order of offset
//!                 | whole: one chain of frames, in front of which the first one's IP header still lies
//!                 | not in time, not sound, too much: given up
//! ```
//!
//! Nothing is copied but small fragments, which are joined with the one before, so that nobody can have us hold a chunk
//! for eight bytes.
//!
//! **Memory is bounded four ways**: datagrams and chunks in all, and of each source; the oldest gives way, of the
//! source that wants too much, or else of all. Whoever floods from one address displaces only himself.
//!
//! **Accounts.** Every received frame ends as delivered or under one [`DropReason`], and a held one has not ended yet.
//! Whatever ends frames here says how many: [`Outcome::Complete`] brings as many as the datagram is made of, to be
//! counted by what becomes of it; [`Outcome::Dropped`] drops this one and those held for the same datagram; what
//! [`Insertion::evicted`] counts goes under [`DropReason::FragmentEvicted`], and [`Expired::frames`] under
//! [`DropReason::FragmentTimeout`]. So `received = delivered + drops + Reassembly::held_frames` at any time.

use std::time::Duration;

use crate::base::{DropReason, Frame, Instant, Umem};
use crate::wire::ip::IpAddress;
use datagram::{Added, Datagram, Key, Span};

mod datagram;

/// Length of the IPv6 header, and of the fragment header, bytes.
const IPV6_LEN: u16 = 40;
const FRAGMENT_HEADER_LEN: u16 = 8;
/// Most bytes that the length field of either version can say (RFC 791, section 3.1; RFC 8200, section 3).
const MAX_LEN: usize = 65_535;
/// Where the payload length stands in an IPv6 header, and the offset in a fragment header, bytes.
const PAYLOAD_LENGTH_AT: u16 = 4;
const OFFSET_AT: u16 = 2;
/// "Erroneous header field encountered" (RFC 4443, section 3.4).
const ERRONEOUS_FIELD: u8 = 0;

/// How much may be under way, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ReassemblyConfig {
    /// Datagrams in all.
    pub datagrams: usize,
    /// Datagrams of one source; of the chunks it may hold the same part.
    pub per_source: usize,
    /// Chunks in all.
    pub chunks: u32,
    /// Fragments, and chunks, of one datagram.
    pub fragments: usize,
    /// Time for all fragments of a datagram of IPv4 to arrive, from the first that did.
    pub timeout_v4: Duration,
    /// The same for IPv6.
    pub timeout_v6: Duration,
}

impl Default for ReassemblyConfig {
    /// 65,535 bytes are 45 fragments of 1,480 bytes, and 119 on a path with an MTU of 576. A source may hold a
    /// quarter of 1 MiB (of 512 chunks of 2,048 bytes), which is more than one such datagram takes.
    ///
    /// 30 s are Linux's time for IPv4 (`ipfrag_time`): RFC 1122, section 3.3.2 would have it between 60 and 120 s, but
    /// at today's rates 16 bits of identification come round in less, and then fragments of two datagrams are mixed
    /// (RFC 4963, section 3). RFC 8200, section 4.5 gives 60 s to IPv6, whose identification has 32 bits.
    fn default() -> Self {
        Self {
            datagrams: 64,
            per_source: 16,
            chunks: 512,
            fragments: 128,
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
        }
    }
}

/// What the headers of a fragment say. `C` is whatever the caller wants to know again of the first one.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<C> {
    /// Sender. Its family is the datagram's.
    pub source: IpAddress,
    /// Receiver.
    pub destination: IpAddress,
    /// What the fragments of a datagram have in common: 16 bits of IPv4, 32 of IPv6.
    pub identification: u32,
    /// What the datagram carries: the protocol, or the fragment header's next header.
    pub protocol: u8,
    /// Where in the datagram's payload it begins, bytes: a multiple of eight.
    pub offset: u16,
    /// Whether others follow behind it.
    pub more: bool,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Where its IP header starts, in bytes from the start of its (first) chunk.
    pub header_at: u16,
    /// Whether it should not have been cut ("don't fragment" of IPv4).
    pub dont_fragment: bool,
    /// The caller's.
    pub context: C,
}

/// A datagram that is whole.
#[derive(Debug)]
pub struct Reassembled<C> {
    /// Its payload: a chain, whose first chunk is the first fragment's, with that one's headers still in front.
    pub frame: Frame,
    /// Bytes of the payload.
    pub len: usize,
    /// Received frames that it is made of, to be counted by what becomes of it.
    pub frames: u32,
    /// What it carries, by its first fragment (RFC 8200, section 4.5).
    pub protocol: u8,
    /// DSCP of the first fragment; ECN of all.
    pub traffic_class: u8,
    /// Where the IP header of the first fragment starts, in bytes from the start of the first chunk.
    pub header_at: u16,
    /// Whether one of its fragments said "don't fragment".
    pub dont_fragment: bool,
    /// What came with the first fragment.
    pub context: C,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome<C> {
    /// It waits for others.
    Held,
    /// It was the last that was missing.
    Complete(Reassembled<C>),
    /// It is dropped, and so may be others of its datagram.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many received frames, this one included.
        frames: u32,
    },
    /// It is to be dropped (one frame, under `reason`), and answered with a Parameter Problem (RFC 8200, section 4.5).
    Problem {
        /// Why.
        reason: DropReason,
        /// Code of the ICMPv6 message.
        code: u8,
        /// The field that is wrong, in bytes from the start of the IPv6 header.
        pointer: u32,
        /// The fragment as it came in.
        frame: Frame,
    },
}

/// What came of taking in a fragment.
#[derive(Debug)]
#[must_use = "its frame and its accounts"]
pub struct Insertion<C> {
    /// What became of it.
    pub outcome: Outcome<C>,
    /// Frames of other datagrams that were dropped to make room: [`DropReason::FragmentEvicted`].
    pub evicted: u32,
}

/// A datagram whose time ran out.
#[derive(Debug)]
#[must_use = "its frame and its accounts"]
pub struct Expired<C> {
    /// The first fragment's payload, if that arrived, with its IP header still in front: to be quoted by a Time
    /// Exceeded of code 1, and freed. Without it none is sent (RFC 792; RFC 8200, section 4.5). Of one that came in
    /// several chunks, the first.
    pub frame: Option<Frame>,
    /// Where the IP header of the first fragment starts, in bytes from the start of the chunk.
    pub header_at: u16,
    /// Frames that are dropped with it, the first fragment's included: [`DropReason::FragmentTimeout`].
    pub frames: u32,
    /// Sender.
    pub source: IpAddress,
    /// Receiver.
    pub destination: IpAddress,
    /// What it carries, by the first fragment that arrived.
    pub protocol: u8,
    /// What came with the first fragment.
    pub context: C,
}

/// A place for a datagram.
#[derive(Debug)]
struct Slot<C> {
    datagram: Option<Datagram<C>>,
    /// Its fragments, sorted: see [`Datagram::add`].
    spans: Box<[Span]>,
}

/// The datagrams under way.
///
/// [`insert`](Self::insert) for every fragment, [`expire`](Self::expire) when [`next_deadline`](Self::next_deadline) has
/// passed, until it has no more. All frames are of one [`Umem`].
#[derive(Debug)]
pub struct Reassembly<C> {
    slots: Box<[Slot<C>]>,
    config: ReassemblyConfig,
    /// Chunks that one source may hold.
    source_chunks: u32,
    /// Chunks held.
    chunks: u32,
    /// Places taken.
    taken: usize,
    /// Datagrams begun so far.
    begun: u64,
    /// The earliest of all deadlines.
    next: Option<Instant>,
    overlaps: u64,
}

impl<C: Copy> Reassembly<C> {
    /// No datagrams, and room for as many as configured.
    #[must_use]
    pub fn new(config: ReassemblyConfig) -> Self {
        let slot = |_| Slot { datagram: None, spans: vec![Span::default(); config.fragments].into_boxed_slice() };
        let datagrams = config.datagrams.max(1);
        let share = u64::from(config.chunks) * config.per_source.min(datagrams) as u64 / datagrams as u64;
        Self {
            slots: (0..datagrams).map(slot).collect(),
            config,
            source_chunks: share as u32,
            chunks: 0,
            taken: 0,
            begun: 0,
            next: None,
            overlaps: 0,
        }
    }

    /// Chunks held: never more than configured.
    #[must_use]
    pub const fn held_chunks(&self) -> u32 {
        self.chunks
    }

    /// Received frames held, which are not accounted for yet: by looking at every datagram.
    #[must_use]
    pub fn held_frames(&self) -> u32 {
        self.datagrams().map(|(_, datagram)| datagram.frames()).sum()
    }

    /// Datagrams under way, and those that are remembered only because fragments of theirs may still come.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.taken
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Fragments of IPv4 so far that overlapped others.
    #[must_use]
    pub const fn overlaps(&self) -> u64 {
        self.overlaps
    }

    /// When [`expire`](Self::expire) wants to be called.
    #[inline]
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in a fragment: `frame` is its payload, behind headers that begin at `fragment.header_at`.
    ///
    /// Whether the first fragment is so small that ports or flags come only with the second is not looked at. RFC 1858
    /// and RFC 3128 have routers drop such fragments, who judge by the first one what they let through. A host judges
    /// the whole datagram, in which no header is written over by a later fragment: the first to bring a byte wins.
    pub fn insert(&mut self, fragment: &Fragment<C>, frame: Frame, umem: &mut Umem, now: Instant) -> Insertion<C> {
        let len = umem.packet_len(&frame);
        let mut evicted = 0;
        let outcome = if fragment.offset == 0 && !fragment.more {
            // RFC 6946, section 4: a host MUST process an "atomic fragment" in isolation from any other fragments,
            // even if they have the same addresses and identification.
            Outcome::Complete(whole(fragment, frame, len))
        } else if let Some(fault) = fault(fragment, &frame, len) {
            self.refuse(fragment, fault, frame, umem)
        } else {
            let key = Key::of(fragment);
            let slot = match self.find(&key) {
                Some(slot) => slot,
                None => self.begin(fragment, umem, now, &mut evicted),
            };
            self.add(slot, fragment, frame, umem, &mut evicted)
        };
        Insertion { outcome, evicted }
    }

    /// Takes out a datagram whose time has run out; to be called until there is none.
    pub fn expire(&mut self, umem: &mut Umem, now: Instant) -> Option<Expired<C>> {
        while self.next.is_some_and(|next| next <= now) {
            let due = self.datagrams().find(|(_, datagram)| datagram.deadline() <= now);
            let slot = due.map(|(slot, _)| slot)?;
            let datagram = self.remove(slot)?;
            if !datagram.is_spoiled() {
                return Some(datagram.expire(umem));
            }
        }
        None
    }

    fn add(
        &mut self,
        slot: usize,
        fragment: &Fragment<C>,
        frame: Frame,
        umem: &mut Umem,
        evicted: &mut u32,
    ) -> Outcome<C> {
        let Some(Slot { datagram: Some(datagram), spans }) = self.slots.get_mut(slot) else {
            // A place is found or made before: this is not reached.
            umem.free(frame);
            return Outcome::Dropped { reason: DropReason::FragmentNoMemory, frames: 1 };
        };
        let before = datagram.chunks();
        let added = datagram.add(spans, fragment, frame, umem);
        self.chunks = self.chunks - before + datagram.chunks();
        match added {
            Added::Held { overlaps } => {
                self.overlaps += u64::from(overlaps);
                if datagram.is_complete() {
                    return self.complete(slot, umem);
                }
                match self.make_room(slot, umem, evicted) {
                    Ok(()) => Outcome::Held,
                    Err(reason) => Outcome::Dropped { reason, frames: self.give_up(slot, reason, umem) },
                }
            }
            Added::Refused(reason) => Outcome::Dropped { reason, frames: 1 },
            Added::Spoiling(reason) => Outcome::Dropped { reason, frames: 1 + self.give_up(slot, reason, umem) },
        }
    }

    /// Drops a fragment that is wrong by itself.
    fn refuse(&mut self, fragment: &Fragment<C>, fault: Fault, frame: Frame, umem: &mut Umem) -> Outcome<C> {
        let Fault { reason, pointer } = fault;
        if let Some(pointer) = pointer {
            return Outcome::Problem { reason, code: ERRONEOUS_FIELD, pointer: pointer.into(), frame };
        }
        umem.free(frame);
        // One that goes beyond any datagram's end ("ping of death") makes the others worthless.
        let spoilt = if reason == DropReason::FragmentTooLong { self.find(&Key::of(fragment)) } else { None };
        Outcome::Dropped { reason, frames: 1 + spoilt.map_or(0, |slot| self.give_up(slot, reason, umem)) }
    }

    fn complete(&mut self, slot: usize, umem: &mut Umem) -> Outcome<C> {
        match self.remove(slot).map(|datagram| datagram.into_whole(umem)) {
            Some(Ok(whole)) => Outcome::Complete(whole),
            Some(Err((reason, frames))) => Outcome::Dropped { reason, frames },
            None => Outcome::Held,
        }
    }

    /// Frees what is held of a datagram: how many received frames that were.
    ///
    /// RFC 5722, section 4: the entire datagram, and any constituent fragments, including those not yet received, MUST be
    /// silently discarded. So one of IPv6 is remembered until its time runs out. One of IPv4 is not: its identification
    /// may by then be another datagram's.
    fn give_up(&mut self, slot: usize, reason: DropReason, umem: &mut Umem) -> u32 {
        let Some(Slot { datagram: Some(datagram), .. }) = self.slots.get_mut(slot) else { return 0 };
        self.chunks -= datagram.chunks();
        let frames = datagram.spoil(reason, umem);
        if datagram.key().source.is_v4() {
            self.remove(slot);
        }
        frames
    }

    /// Begins a datagram, in place of another if need be.
    fn begin(&mut self, fragment: &Fragment<C>, umem: &mut Umem, now: Instant, evicted: &mut u32) -> usize {
        let source = fragment.source;
        let of_source = self.datagrams().filter(|(_, datagram)| datagram.key().source == source).count();
        let victim = if of_source >= self.config.per_source.max(1) {
            self.oldest(|datagram| datagram.key().source == source)
        } else if self.taken == self.slots.len() {
            self.oldest(|_| true)
        } else {
            None
        };
        if let Some(victim) = victim {
            *evicted += self.evict(victim, umem);
        }
        let slot = self.slots.iter().position(|slot| slot.datagram.is_none()).unwrap_or_default();
        let timeout = if source.is_v4() { self.config.timeout_v4 } else { self.config.timeout_v6 };
        let deadline = now + timeout;
        if let Some(place) = self.slots.get_mut(slot) {
            place.datagram = Some(Datagram::new(fragment, deadline, self.begun));
            self.taken += 1;
            self.begun += 1;
            self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
        }
        slot
    }

    /// Has others give way until chunks are within their limits.
    ///
    /// # Errors
    /// The reason to give up the datagram in `slot` itself.
    fn make_room(&mut self, slot: usize, umem: &mut Umem, evicted: &mut u32) -> Result<(), DropReason> {
        let Some(Slot { datagram: Some(datagram), .. }) = self.slots.get(slot) else { return Ok(()) };
        if datagram.chunks() as usize > self.config.fragments {
            return Err(DropReason::FragmentsTooMany);
        }
        let (own, source) = (datagram.born(), datagram.key().source);
        let is_other = |datagram: &Datagram<C>| datagram.born() != own && datagram.chunks() > 0;
        while self.chunks > self.source_chunks {
            let victim = if self.chunks_of(source) > self.source_chunks {
                self.oldest(|datagram| datagram.key().source == source && is_other(datagram))
            } else if self.chunks > self.config.chunks {
                self.oldest(is_other)
            } else {
                break;
            };
            *evicted += self.evict(victim.ok_or(DropReason::FragmentNoMemory)?, umem);
        }
        Ok(())
    }

    fn evict(&mut self, slot: usize, umem: &mut Umem) -> u32 {
        self.remove(slot).map_or(0, |mut datagram| datagram.spoil(DropReason::FragmentEvicted, umem))
    }

    /// Takes a datagram out of the table, with what it holds.
    fn remove(&mut self, slot: usize) -> Option<Datagram<C>> {
        let datagram = self.slots.get_mut(slot)?.datagram.take()?;
        self.taken -= 1;
        self.chunks -= datagram.chunks();
        if self.next.is_some_and(|next| datagram.deadline() <= next) {
            self.next = self.datagrams().map(|(_, datagram)| datagram.deadline()).min();
        }
        Some(datagram)
    }

    fn datagrams(&self) -> impl Iterator<Item = (usize, &Datagram<C>)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| slot.datagram.as_ref().map(|datagram| (at, datagram)))
    }

    fn find(&self, key: &Key) -> Option<usize> {
        if self.taken == 0 {
            return None;
        }
        self.datagrams().find(|(_, datagram)| datagram.key() == key).map(|(slot, _)| slot)
    }

    fn oldest(&self, is_meant: impl Fn(&Datagram<C>) -> bool) -> Option<usize> {
        let meant = self.datagrams().filter(|(_, datagram)| is_meant(datagram));
        meant.min_by_key(|(_, datagram)| datagram.born()).map(|(slot, _)| slot)
    }

    fn chunks_of(&self, source: IpAddress) -> u32 {
        let of_source = self.datagrams().filter(|(_, datagram)| datagram.key().source == source);
        of_source.map(|(_, datagram)| datagram.chunks()).sum()
    }
}

/// What is wrong with a fragment by itself, and where, if its sender is to be told.
struct Fault {
    reason: DropReason,
    pointer: Option<u16>,
}

/// Looks at a fragment of `len` bytes by itself.
fn fault<C>(fragment: &Fragment<C>, frame: &Frame, len: usize) -> Option<Fault> {
    let to_sender = |pointer| if fragment.source.is_v4() { None } else { Some(pointer) };
    // Eight bytes are the unit of the offset: nothing can follow a fragment that is no multiple of them.
    if frame.is_empty() || !fragment.offset.is_multiple_of(8) {
        return Some(Fault { reason: DropReason::FragmentMalformed, pointer: None });
    }
    // RFC 8200, section 4.5: if the length of a fragment is not a multiple of 8 octets and the M flag of that fragment
    // packet is 1, then that fragment must be discarded and an ICMP Parameter Problem, Code 0, message should be sent,
    // pointing to the Payload Length field of the fragment packet.
    if fragment.more && !len.is_multiple_of(8) {
        return Some(Fault { reason: DropReason::FragmentMalformed, pointer: to_sender(PAYLOAD_LENGTH_AT) });
    }
    // RFC 8200, section 4.5: if the length and offset of a fragment are such that the Payload Length of the packet
    // reassembled from that fragment would exceed 65,535 octets, then that fragment must be discarded and an ICMP
    // Parameter Problem, Code 0, message should be sent, pointing to the Fragment Offset field.
    if overhead(fragment, frame) + usize::from(fragment.offset) + len > MAX_LEN {
        let fragment_header = frame.offset().saturating_sub(FRAGMENT_HEADER_LEN + fragment.header_at);
        return Some(Fault { reason: DropReason::FragmentTooLong, pointer: to_sender(fragment_header + OFFSET_AT) });
    }
    None
}

/// What the length field of the whole datagram counts beside the payload, by a fragment's headers: the header of IPv4;
/// the extension headers before the fragment header of IPv6.
fn overhead<C>(fragment: &Fragment<C>, frame: &Frame) -> usize {
    let headers = frame.offset().saturating_sub(fragment.header_at);
    let uncounted = if fragment.source.is_v4() { 0 } else { IPV6_LEN + FRAGMENT_HEADER_LEN };
    usize::from(headers.saturating_sub(uncounted))
}

/// A datagram of one fragment.
const fn whole<C: Copy>(fragment: &Fragment<C>, frame: Frame, len: usize) -> Reassembled<C> {
    Reassembled {
        frame,
        len,
        frames: 1,
        protocol: fragment.protocol,
        traffic_class: fragment.traffic_class,
        header_at: fragment.header_at,
        dont_fragment: fragment.dont_fragment,
        context: fragment.context,
    }
}

#[cfg(test)]
mod tests;
