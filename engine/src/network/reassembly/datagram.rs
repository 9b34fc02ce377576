//! One datagram on its way to being whole.

use super::{Expired, Fragment, MAX_LEN, Reassembled, overhead};
use crate::base::{DropReason, Frame, FrameQueue, Instant, Queued, Umem};
use crate::wire::ip::IpAddress;

/// Pieces up to this length are copied behind the one before, if its chunk has room: as long as a fragment on a path
/// with an MTU of 576 can be (RFC 791). A copy of that takes some 20 ns, and three such fragments then take one chunk.
/// Those of an Ethernet are not copied, except a short last one.
const SMALL: u16 = 576;

/// ECN fields seen, a bit for each (RFC 3168, section 5).
const NOT_ECT: u8 = 1 << 0b00;
const CE: u8 = 1 << 0b11;
const ECN_MASK: u8 = 0b11;

/// What the fragments of one datagram have in common.
///
/// RFC 791, section 3.2 has the protocol in it, RFC 8200, section 4.5 has not: there it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    // The first to be compared, as it differs most often.
    identification: u32,
    protocol: u8,
    pub(super) source: IpAddress,
    pub(super) destination: IpAddress,
}

impl Key {
    pub(super) fn of<C>(fragment: &Fragment<C>) -> Self {
        let Fragment { source, destination, identification, .. } = *fragment;
        let protocol = if source.is_v4() { fragment.protocol } else { 0 };
        Self { identification, protocol, source, destination }
    }
}

/// The part of a datagram that a fragment brought, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

/// What became of a fragment's frame.
pub(super) enum Added {
    /// It is held.
    Held {
        /// Bytes of it were there already.
        overlaps: bool,
    },
    /// It was freed.
    Refused(DropReason),
    /// It was freed, and the datagram cannot become whole any more.
    Spoiling(DropReason),
}

/// What is kept of the headers of the first fragment.
#[derive(Clone, Copy, Debug)]
struct First {
    header_at: u16,
    /// Bytes of its payload in its first chunk, where later ones may have been copied behind them.
    len: u16,
    /// What the datagram's length field counts beside the payload, bytes.
    overhead: usize,
    traffic_class: u8,
}

/// A datagram of which not all fragments have arrived.
#[derive(Debug)]
pub(super) struct Datagram<C> {
    key: Key,
    deadline: Instant,
    /// How many were begun before it.
    born: u64,
    /// Received frames that it is made of.
    frames: u32,
    /// Why it was given up, if so: nothing is held of it any more.
    spoiled: Option<DropReason>,
    /// Its bytes: frames of one chunk, in order, none over another; each one's offset is its note's `seq`.
    pieces: FrameQueue,
    /// Bytes in them.
    bytes: u32,
    /// Where the farthest fragment ends, bytes.
    reach: u32,
    /// Where the last fragment ends, if it arrived.
    total: Option<u32>,
    first: Option<First>,
    /// ECN fields seen.
    ecn: u8,
    dont_fragment: bool,
    protocol: u8,
    context: C,
}

impl<C: Copy> Datagram<C> {
    pub(super) fn new(fragment: &Fragment<C>, deadline: Instant, born: u64) -> Self {
        Self {
            key: Key::of(fragment),
            deadline,
            born,
            frames: 0,
            spoiled: None,
            pieces: FrameQueue::default(),
            bytes: 0,
            reach: 0,
            total: None,
            first: None,
            ecn: 0,
            dont_fragment: false,
            protocol: fragment.protocol,
            context: fragment.context,
        }
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) const fn born(&self) -> u64 {
        self.born
    }

    pub(super) const fn frames(&self) -> u32 {
        self.frames
    }

    pub(super) const fn chunks(&self) -> u32 {
        self.pieces.len()
    }

    pub(super) const fn is_spoiled(&self) -> bool {
        self.spoiled.is_some()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.total == Some(self.bytes)
    }

    /// Takes in a fragment that is sound by itself. `spans` is kept for this datagram alone: what its fragments brought,
    /// in order, if it is of IPv6.
    pub(super) fn add(&mut self, spans: &mut [Span], fragment: &Fragment<C>, frame: Frame, umem: &mut Umem) -> Added {
        let len = umem.packet_len(&frame) as u32;
        let start = u32::from(fragment.offset);
        let end = start + len;
        if let Some(added) = self.judge(spans, fragment, start, end) {
            umem.free(frame);
            return added;
        }
        let is_first = start == 0 && self.first.is_none();
        if is_first {
            self.first = Some(First {
                header_at: fragment.header_at,
                len: 0,
                overhead: overhead(fragment, &frame),
                traffic_class: fragment.traffic_class,
            });
        }
        let before = self.bytes;
        self.hold_all(start, frame, umem);
        let fresh = self.bytes - before;
        if fresh == 0 {
            return Added::Refused(DropReason::FragmentDuplicate);
        }
        if is_first {
            self.protocol = fragment.protocol;
            self.context = fragment.context;
        }
        if !fragment.more {
            self.total = Some(end);
        }
        self.reach = self.reach.max(end);
        self.frames += 1;
        self.ecn |= 1 << (fragment.traffic_class & ECN_MASK);
        self.dont_fragment |= fragment.dont_fragment;
        Added::Held { overlaps: fresh < len }
    }

    /// Whether a fragment does not belong into the datagram as it is.
    fn judge(&self, spans: &mut [Span], fragment: &Fragment<C>, start: u32, end: u32) -> Option<Added> {
        if let Some(reason) = self.spoiled {
            return Some(Added::Refused(reason));
        }
        // Every fragment but the last is followed by another, and that one ends where the datagram ends.
        let is_consistent = match (self.total, fragment.more) {
            (Some(total), true) => end < total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => end > self.reach,
        };
        if !is_consistent {
            return Some(Added::Spoiling(DropReason::FragmentEnd));
        }
        if self.key.source.is_v4() {
            let is_full = self.frames as usize >= spans.len();
            return is_full.then_some(Added::Spoiling(DropReason::FragmentsTooMany));
        }
        // A datagram ends at 65,535 bytes, or the fragment was refused before.
        debug_assert!(end as usize <= MAX_LEN);
        self.note_span(spans, Span { start: start as u16, end: end as u16 })
    }

    /// Enters what a fragment of IPv6 brings, unless it overlaps another.
    fn note_span(&self, spans: &mut [Span], new: Span) -> Option<Added> {
        let count = self.frames as usize;
        let known = spans.get(..count).unwrap_or_default();
        let at = known.partition_point(|span| span.start < new.start);
        // RFC 8200, section 4.5: an implementation may choose to detect exact duplicate fragments and drop them while
        // keeping the other fragments belonging to the same packet.
        if known.get(at) == Some(&new) {
            return Some(Added::Refused(DropReason::FragmentDuplicate));
        }
        // RFC 8200, section 4.5: if any of the fragments being reassembled overlap with any other fragments being
        // reassembled for the same packet, reassembly of that packet must be abandoned.
        let over_next = known.get(at).is_some_and(|next| next.start < new.end);
        let over_last = at.checked_sub(1).and_then(|at| known.get(at)).is_some_and(|last| last.end > new.start);
        if over_next || over_last {
            return Some(Added::Spoiling(DropReason::FragmentOverlap));
        }
        let Some(moved) = spans.get_mut(at..=count) else {
            return Some(Added::Spoiling(DropReason::FragmentsTooMany));
        };
        moved.rotate_right(1);
        if let Some(place) = moved.first_mut() {
            *place = new;
        }
        None
    }

    /// Holds the frames of a fragment that starts at `start`.
    fn hold_all(&mut self, start: u32, frame: Frame, umem: &mut Umem) {
        let mut offset = start;
        let mut left = Some(frame);
        while let Some(frame) = left {
            let (piece, rest) = umem.split(frame);
            let len = u32::from(piece.len());
            self.hold(offset, piece, umem);
            offset += len;
            left = rest;
        }
    }

    /// Holds what a frame of one chunk brings that was not there before.
    ///
    /// RFC 791 leaves open whose bytes count where fragments overlap. Here what was there first stays: what passed a
    /// filter on the way cannot be replaced by what comes behind it (RFC 1858, section 4).
    fn hold(&mut self, offset: u32, mut frame: Frame, umem: &mut Umem) {
        let (mut start, mut end) = (offset, offset + u32::from(frame.len()));
        let mut before = self.place_before(start, umem);
        while let Some(place) = before {
            start = start.max(end_of(umem, place));
            match umem.next(place) {
                Some(next) if start_of(umem, next) <= start && start < end => before = Some(next),
                _ => break,
            }
        }
        while let Some(place) = self.behind(before, umem).filter(|&place| start < end && start_of(umem, place) < end) {
            if end_of(umem, place) >= end {
                end = start_of(umem, place);
                break;
            }
            // One within the new one: its bytes go over there, and its chunk is free.
            let at = (start_of(umem, place) - offset) as u16;
            let is_laid = umem.overlay(&mut frame, at, place);
            debug_assert!(is_laid);
            self.bytes -= u32::from(umem.queued_len(place));
            self.pieces.release_after(umem, before);
        }
        let fresh = end.saturating_sub(start);
        if fresh == 0 || !Umem::narrow(&mut frame, (start - offset) as usize, fresh as usize) {
            umem.free(frame);
            return;
        }
        umem.note_mut(&frame).seq = start;
        let len = frame.len();
        let place = self.pieces.insert_after(umem, before, frame);
        self.bytes += fresh;
        if let Some(first) = self.first.as_mut().filter(|_| start == 0) {
            first.len = len;
        }
        self.join(before, place, umem);
    }

    /// Copies a small piece behind the one before, and a small one that follows behind this one.
    fn join(&mut self, before: Option<Queued>, place: Queued, umem: &mut Umem) {
        let mut place = place;
        let is_joined = |umem: &Umem, one: Queued, two: Queued| {
            umem.queued_len(two) <= SMALL && end_of(umem, one) == start_of(umem, two)
        };
        if let Some(before) = before
            && is_joined(umem, before, place)
            && self.pieces.merge_behind(umem, before)
        {
            place = before;
        }
        if let Some(next) = umem.next(place)
            && is_joined(umem, place, next)
        {
            self.pieces.merge_behind(umem, place);
        }
    }

    /// The last piece that starts at `start` or before it.
    fn place_before(&self, start: u32, umem: &Umem) -> Option<Queued> {
        // Most fragments arrive in order.
        if let Some(last) = self.pieces.last().filter(|&last| start_of(umem, last) <= start) {
            return Some(last);
        }
        let mut before = None;
        let mut next = self.pieces.first();
        while let Some(place) = next.filter(|&place| start_of(umem, place) <= start) {
            before = Some(place);
            next = umem.next(place);
        }
        before
    }

    fn behind(&self, before: Option<Queued>, umem: &Umem) -> Option<Queued> {
        before.map_or_else(|| self.pieces.first(), |before| umem.next(before))
    }

    /// Frees what is held, and remembers why: how many received frames it was made of.
    pub(super) fn spoil(&mut self, reason: DropReason, umem: &mut Umem) -> u32 {
        self.spoiled = Some(reason);
        self.pieces.clear(umem);
        self.bytes = 0;
        self.total = None;
        std::mem::take(&mut self.frames)
    }

    /// The whole datagram.
    ///
    /// # Errors
    /// Why it is dropped after all, and how many frames with it.
    pub(super) fn into_whole(mut self, umem: &mut Umem) -> Result<Reassembled<C>, (DropReason, u32)> {
        let len = self.bytes as usize;
        let verdict = match self.first {
            Some(first) if first.overhead + len <= MAX_LEN => {
                traffic_class(first.traffic_class, self.ecn).map(|class| (first, class)).ok_or(DropReason::FragmentEcn)
            }
            _ => Err(DropReason::FragmentTooLong),
        };
        let (first, traffic_class) = match verdict {
            Ok(verdict) => verdict,
            Err(reason) => return Err((reason, self.spoil(reason, umem))),
        };
        let frame = self.pieces.take_chain(umem).ok_or((DropReason::FragmentNoMemory, self.frames))?;
        Ok(Reassembled {
            frame,
            len,
            frames: self.frames,
            protocol: self.protocol,
            traffic_class,
            header_at: first.header_at,
            dont_fragment: self.dont_fragment,
            context: self.context,
        })
    }

    /// What is to be said of it when its time has run out.
    pub(super) fn expire(mut self, umem: &mut Umem) -> Expired<C> {
        let frame = match self.first {
            Some(first) => self.pieces.pop(umem).map(|mut frame| {
                let _ = Umem::narrow(&mut frame, 0, usize::from(first.len));
                frame
            }),
            None => None,
        };
        self.pieces.clear(umem);
        Expired {
            frame,
            header_at: self.first.map_or(0, |first| first.header_at),
            frames: self.frames,
            source: self.key.source,
            destination: self.key.destination,
            protocol: self.protocol,
            context: self.context,
        }
    }
}

/// Where a piece starts, and where it ends, bytes.
fn start_of(umem: &Umem, place: Queued) -> u32 {
    umem.note(place).seq
}

fn end_of(umem: &Umem, place: Queued) -> u32 {
    let (note, len) = umem.queued(place);
    note.seq + u32::from(len)
}

/// The traffic class of a datagram, by that of its first fragment and the ECN fields of all; `None` if it is to be dropped.
///
/// RFC 3168, section 5.3: if any fragment of an IP packet to be reassembled has the CE codepoint set, then set the CE
/// codepoint on the reassembled packet. However, this MUST NOT occur if any of the other fragments carries Not-ECT. Such
/// a packet is dropped, and so is one that mixes Not-ECT with ECT, which no sender does (so does Linux).
const fn traffic_class(first: u8, seen: u8) -> Option<u8> {
    if seen & NOT_ECT != 0 && seen != NOT_ECT {
        return None;
    }
    Some(if seen & CE != 0 { first | ECN_MASK } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_marked_on_a_fragment_is_marked_on_the_datagram() {
        // RFC 3168, section 5.3; the table of Linux (ip_frag_ecn_table).
        let class = |first: u8, others: &[u8]| {
            let seen = others.iter().fold(1 << (first & 3), |seen, other| seen | 1 << other);
            traffic_class(0xb8 | first, seen)
        };
        let (not, one, zero, ce) = (0, 1, 2, 3);
        for first in [one, zero, ce] {
            assert_eq!(class(first, &[first]), Some(0xb8 | first));
            assert_eq!(class(first, &[one, ce, zero]), Some(0xb8 | ce));
            assert_eq!(class(first, &[not]), None);
            assert_eq!(class(not, &[first]), None);
        }
        assert_eq!(class(not, &[not]), Some(0xb8));
        assert_eq!((class(one, &[zero]), class(zero, &[one])), (Some(0xb8 | one), Some(0xb8 | zero)));
    }
}
