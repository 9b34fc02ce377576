//! Who looks on: every segment on the wire is taken apart by an independent parser and compared with what was on
//! the wire before, and with what the applications have to say.

use std::collections::BTreeMap;

use super::super::rng::Rng;
use super::segment::Segment;
use super::stream::{Flow, Side};
use super::track::Track;

/// What may excuse a frame that seems to contradict an earlier one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubts {
    /// Some wait for a neighbor, and later ones overtake them.
    pub disorder: bool,
    /// Some were lost within the host.
    pub losses: bool,
    /// A host has taken a SYN cookie. Whatever looks like the end of a handshake with one makes a new connection of
    /// the same numbers, when the first is over: the price of remembering nothing.
    pub revival: bool,
}

/// What was seen of all connections between the two hosts.
#[derive(Debug, Default)]
pub struct Observer {
    flows: BTreeMap<Flow, [Vec<Track>; 2]>,
    /// Segments between the two hosts that left one of them.
    pub segments: u64,
}

impl Observer {
    /// A frame leaves a host.
    ///
    /// # Panics
    /// If it is one that must not be sent.
    pub fn departs(&mut self, from: Side, frame: &[u8], doubts: Doubts) {
        let Some((flow, segment)) = Segment::parse(from, frame) else { return };
        self.segments += 1;
        if segment.rst {
            return;
        }
        let [near, far] = self.flows.entry(flow).or_default();
        let (own, other) = if from == Side::Near { (near, far) } else { (far, near) };
        let Err(wrong) = check((flow, from), own, other, &segment, doubts) else { return };
        // Where ports are used again, it may be of a connection whose SYN never was on the wire.
        let is_of_another = segment.text.is_empty() && !segment.syn && (doubts.disorder || doubts.losses);
        assert!(is_of_another, "{flow:?}: {} sent {segment}: {wrong}", from.name());
    }

    /// A host digests a frame that is whole.
    pub fn arrives(&mut self, at: Side, frame: &[u8]) {
        let from = at.other();
        let Some((flow, segment)) = Segment::parse(from, frame).filter(|_| frame[..6] == at.mac().0) else { return };
        let Some([near, far]) = self.flows.get_mut(&flow).filter(|_| !segment.rst) else { return };
        let (own, other) = if from == Side::Near { (near, far) } else { (far, near) };
        let Some(track) = own.iter_mut().rev().find(|track| track.place(&segment).is_some()) else { return };
        track.arrived(&segment);
        if let Some(ack) = segment.ack {
            let scale = track.scale(&segment);
            if let Some(other) = acknowledged(track, other, ack) {
                other.may_send_up_to(ack, u32::from(segment.window) << scale);
            }
        }
    }

    /// A connection that was seen, and a sequence number that one side has reached in it: what somebody off the path
    /// might find out.
    #[must_use]
    pub fn any_flow(&self, rng: &mut Rng) -> Option<(Flow, Side, u32)> {
        let at = rng.below(self.flows.len() as u64) as usize;
        let (&flow, tracks) = self.flows.iter().nth(at)?;
        let side = rng.pick(&Side::BOTH);
        Some((flow, side, tracks[side as usize].last()?.reached()))
    }

    /// Connections that both sides opened at the same time.
    #[must_use]
    pub fn crossings(&self) -> u64 {
        let crossed = |tracks: &&[Vec<Track>; 2]| tracks.iter().all(|side| side.iter().any(Track::was_asked_for));
        self.flows.values().filter(crossed).count() as u64
    }

    /// Bytes of text that `from` sent, and that arrived at the other side without a gap, on the connection that it opened
    /// last. A SYN cookie of which nobody took notice opened none.
    #[must_use]
    pub fn arrived(&self, flow: Flow, from: Side) -> u64 {
        let tracks = self.flows.get(&flow).map_or(&[][..], |tracks| &tracks[from as usize]);
        tracks.iter().rev().find(|track| track.was_used()).map_or(0, Track::text_arrived)
    }
}

/// What an acknowledgment of `own` is for. Its number may be of two connections, where the next one of the same ends begins
/// within the text of the last: then it is for the one that `own` acknowledged before.
fn acknowledged<'a>(own: &Track, other: &'a mut [Track], ack: u32) -> Option<&'a mut Track> {
    let sent = |other: &Track| other.acknowledged_at(ack).is_some();
    let place = other.iter().rposition(|other| own.has_acknowledged(other) && sent(other));
    let place = place.or_else(|| other.iter().rposition(sent));
    place.map(|at| &mut other[at])
}

fn check(
    (flow, from): (Flow, Side),
    own: &mut Vec<Track>,
    other: &mut [Track],
    segment: &Segment<'_>,
    doubts: Doubts,
) -> Result<(), String> {
    if segment.syn {
        match own.iter().position(|track| track.begins_at(segment.seq)) {
            // Another number may have been on the wire since, a SYN cookie's, of which nobody took notice.
            Some(at) => own[at..].rotate_left(1),
            None => own.push(Track::new(flow, from, segment)),
        }
    }
    let place = own.iter().rposition(|track| track.place(segment).is_some());
    if place.is_none() && segment.text.is_empty() && (doubts.disorder || doubts.losses) {
        // Its SYN waits for a neighbor still, or was never on the wire.
        return Ok(());
    }
    let track = place.map(|at| &mut own[at]).ok_or("a sequence number that leaves a gap")?;
    let answers = match segment.ack {
        Some(ack) => Some(acknowledged(track, other, ack).ok_or("an acknowledgment of what was never sent")?),
        None => None,
    };
    track.departs(segment, answers, doubts)
}
