//! Who looks on: every segment on the wire is taken apart by an independent parser and compared with what was on
//! the wire before, and with what the applications have to say.

use std::collections::BTreeMap;

use super::segment::Segment;
use super::stream::{Flow, Side};
use super::track::Track;

/// What was seen of all connections between the two hosts.
#[derive(Debug, Default)]
pub struct Observer {
    flows: BTreeMap<Flow, [Vec<Track>; 2]>,
    /// Segments between the two hosts that left one of them.
    pub segments: u64,
}

impl Observer {
    /// A frame leaves a host, `in_order` if that is the order in which they were built.
    ///
    /// # Panics
    /// If it is one that must not be sent.
    pub fn departs(&mut self, from: Side, frame: &[u8], in_order: bool) {
        let Some((flow, segment)) = Segment::parse(from, frame) else { return };
        self.segments += 1;
        if segment.rst {
            return;
        }
        let [near, far] = self.flows.entry(flow).or_default();
        let (own, other) = if from == Side::Near { (near, far) } else { (far, near) };
        if let Err(wrong) = check((flow, from), own, other, &segment, in_order) {
            panic!("{flow:?}: {} sent {segment}: {wrong}", from.name());
        }
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
            let answered = other.iter_mut().rev().find(|other| other.acknowledged_at(ack).is_some());
            if let Some(other) = answered {
                other.may_send_up_to(ack, u32::from(segment.window) << scale);
            }
        }
    }

    /// Bytes of text that `from` sent, and that arrived at the other side without a gap.
    #[must_use]
    pub fn arrived(&self, flow: Flow, from: Side) -> u64 {
        let tracks = self.flows.get(&flow).map_or(&[][..], |tracks| &tracks[from as usize]);
        tracks.last().map_or(0, Track::text_arrived)
    }
}

fn check(
    (flow, from): (Flow, Side),
    own: &mut Vec<Track>,
    other: &mut [Track],
    segment: &Segment<'_>,
    in_order: bool,
) -> Result<(), String> {
    if segment.syn && !own.iter().any(|track| track.begins_at(segment.seq)) {
        own.push(Track::new(flow, from, segment));
    }
    if own.is_empty() && !in_order {
        // The SYN waits for a neighbor still.
        return Ok(());
    }
    let place = own.iter().rposition(|track| track.place(segment).is_some());
    let track = place.map(|at| &mut own[at]).ok_or("a sequence number that leaves a gap")?;
    let answers = match segment.ack {
        Some(ack) => {
            let answers = other.iter_mut().rev().find(|other| other.acknowledged_at(ack).is_some());
            Some(answers.ok_or("an acknowledgment of what was never sent")?)
        }
        None => None,
    };
    track.departs(segment, answers, in_order)
}
