//! One direction of one connection, as it was seen on the wire.
//!
//! Places are counted from the initial sequence number, which SYN takes up: text begins at 1.

use super::observer::Doubts;
use super::ranges::Ranges;
use super::segment::Segment;
use super::stream::{Flow, Side, differs};

/// What a SYN offered.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    mss: u16,
    window_scale: Option<u8>,
    sack: bool,
    timestamps: bool,
    ecn: bool,
}

/// What a sender has said about the other direction.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The initial sequence number of that direction.
    isn: u32,
    /// The highest acknowledgment number and the right edge of the window, as places there.
    ack: i64,
    edge: i64,
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Track {
    key: u64,
    isn: u32,
    offer: Offer,
    asked: bool,
    /// The place behind everything that was sent.
    sent: i64,
    /// The place of FIN.
    fin: Option<i64>,
    /// What has arrived.
    arrived: Ranges,
    /// The right edge of the window that the sender was told, furthest of all.
    edge: i64,
    told: Option<Told>,
    /// TSval of its latest segment.
    timestamp: Option<u32>,
    /// By how much the window in its segments is shifted.
    shift: u8,
}

/// Says what is wrong unless something holds.
fn hold(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_string()) }
}

impl Track {
    /// The direction that a SYN begins.
    #[must_use]
    pub(super) fn new(flow: Flow, from: Side, syn: &Segment<'_>) -> Self {
        Self {
            key: flow.key(from),
            isn: syn.seq,
            offer: Offer::default(),
            asked: false,
            sent: 0,
            fin: None,
            arrived: Ranges::default(),
            edge: 1,
            told: None,
            timestamp: None,
            shift: 0,
        }
    }

    /// Whether a SYN with this number is its.
    #[must_use]
    pub(super) const fn begins_at(&self, seq: u32) -> bool {
        self.isn == seq
    }

    const fn offset(&self, number: u32) -> i64 {
        number.wrapping_sub(self.isn).cast_signed() as i64
    }

    /// Where a segment begins, if it can be of this direction: behind what was sent, or (for a segment before may
    /// have been lost within its host) behind the window that its sender was told, at the furthest.
    #[must_use]
    pub(super) fn place(&self, segment: &Segment<'_>) -> Option<i64> {
        let place = self.offset(segment.seq);
        let begins = segment.syn == (place == 0) || (!segment.syn && segment.text.is_empty());
        ((0..=self.sent.max(self.edge)).contains(&place) && begins).then_some(place)
    }

    /// The place behind what is acknowledged, if that was sent.
    #[must_use]
    pub(super) fn acknowledged_at(&self, ack: u32) -> Option<i64> {
        Some(self.offset(ack)).filter(|place| (1..=self.sent).contains(place))
    }

    /// Whether `other`, which the other side sends, is what it acknowledged last.
    #[must_use]
    pub(super) fn has_acknowledged(&self, other: &Self) -> bool {
        self.told.is_some_and(|told| told.isn == other.isn)
    }

    /// By how much the window of a segment is shifted.
    #[must_use]
    pub(super) const fn scale(&self, segment: &Segment<'_>) -> u8 {
        if segment.syn { 0 } else { self.shift }
    }

    /// A segment of it has arrived.
    pub(super) fn arrived(&mut self, segment: &Segment<'_>) {
        let place = self.offset(segment.seq);
        self.arrived.add(place..(place + segment.len()).min(self.sent));
    }

    /// Its sender was told a window.
    pub(super) fn may_send_up_to(&mut self, ack: u32, window: u32) {
        self.edge = self.edge.max(self.offset(ack) + i64::from(window));
    }

    /// The sequence number behind everything that was sent.
    #[must_use]
    pub(super) const fn reached(&self) -> u32 {
        self.isn.wrapping_add(self.sent as u32)
    }

    /// Whether more than its SYN was sent.
    #[must_use]
    pub(super) const fn was_used(&self) -> bool {
        self.sent > 1
    }

    /// Whether a SYN that answered nothing asked for it.
    #[must_use]
    pub(super) const fn was_asked_for(&self) -> bool {
        self.asked
    }

    /// Bytes of text that have arrived without a gap.
    #[must_use]
    pub(super) fn text_arrived(&self) -> u64 {
        let reach = self.arrived.reach();
        (self.fin.map_or(reach, |fin| reach.min(fin)) - 1).max(0) as u64
    }

    /// A segment of it is sent, which acknowledges `other`.
    ///
    /// # Errors
    /// Why it must not be sent.
    pub(super) fn departs(
        &mut self,
        segment: &Segment<'_>,
        other: Option<&mut Self>,
        doubts: Doubts,
    ) -> Result<(), String> {
        let place = self.offset(segment.seq);
        if segment.syn {
            self.take_offer(segment, other.as_deref())?;
        }
        self.check_text(segment, place)?;
        self.check_fin(segment, place + segment.len())
            .or_else(|wrong| if doubts.revival { Ok(()) } else { Err(wrong) })?;
        if let Some(other) = other {
            self.check_options(segment, other)?;
            self.check_acknowledgment(segment, other, doubts)?;
            self.check_sack(segment, other)?;
            if !doubts.revival && !doubts.disorder {
                self.check_congestion_marks(segment, place, other)?;
            }
            let text = segment.text.len() + segment.options_len;
            // RFC 6691, section 2; a SYN says what its sender can take.
            hold(text <= usize::from(other.offer.mss), "more than the MSS of the peer")?;
        } else {
            hold(segment.ecn == 0, "ECN-capable before anything was agreed on")?;
        }
        if let Some((value, _)) = segment.timestamps {
            let newer = self.timestamp.is_none_or(|before| value.wrapping_sub(before).cast_signed() >= 0);
            // A SYN cookie's timestamp holds the options of the SYN, which may differ between two answers.
            hold(
                newer || segment.syn || doubts.disorder || doubts.revival,
                "a timestamp before that of an earlier segment",
            )?;
            self.timestamp = if newer { Some(value) } else { self.timestamp };
        }
        self.sent = self.sent.max(place + segment.len());
        Ok(())
    }

    fn take_offer(&mut self, syn: &Segment<'_>, other: Option<&Self>) -> Result<(), String> {
        self.offer = Offer {
            mss: syn.mss.ok_or("a SYN without the MSS option")?,
            window_scale: syn.window_scale,
            sack: syn.sack_permitted,
            timestamps: syn.timestamps.is_some(),
            // Asked for once is asked for, though a SYN that is sent again may not say so (RFC 3168, section 6.1.1.1).
            ecn: self.offer.ecn || syn.ece && (syn.cwr || other.is_some()),
        };
        self.asked |= syn.ack.is_none();
        // An old SYN that comes late begins everything anew for the one who answers it.
        self.told = None;
        let Some(Self { offer, .. }) = other else { return Ok(()) };
        hold(offer.window_scale.is_some() || syn.window_scale.is_none(), "scales windows unasked")?;
        hold(offer.sack || !syn.sack_permitted, "permits SACK unasked")?;
        hold(offer.timestamps || syn.timestamps.is_none(), "sends timestamps unasked")?;
        hold(offer.ecn || !syn.ece, "agrees to ECN unasked")
    }

    fn check_text(&self, segment: &Segment<'_>, place: i64) -> Result<(), String> {
        if segment.text.is_empty() {
            return Ok(());
        }
        let end = place + segment.text.len() as i64;
        hold(end <= self.edge, "text beyond the window that the peer offered")?;
        match differs(self.key, place as u64 - 1, segment.text) {
            Some(at) => Err(format!("byte {at} of the stream is wrong")),
            None => Ok(()),
        }
    }

    fn check_fin(&mut self, segment: &Segment<'_>, end: i64) -> Result<(), String> {
        let fin = segment.fin.then_some(end - 1);
        hold(fin.is_none() || self.fin.is_none() || fin == self.fin, "FIN at another place than before")?;
        hold(fin.is_none_or(|fin| self.sent <= fin + 1), "FIN before something that was sent")?;
        self.fin = self.fin.or(fin);
        hold(self.fin.is_none_or(|fin| end <= fin + 1), "something behind FIN")
    }

    fn check_options(&mut self, segment: &Segment<'_>, other: &Self) -> Result<(), String> {
        if segment.syn {
            return Ok(());
        }
        let timestamps = self.offer.timestamps && other.offer.timestamps;
        hold(segment.timestamps.is_some() == timestamps, "timestamps, if and only if they were agreed on")?;
        hold(segment.mss.is_none() && segment.window_scale.is_none() && !segment.sack_permitted, "an option of SYN")?;
        hold(segment.sack.is_empty() || other.offer.sack, "SACK that was not permitted")?;
        let shift = self.offer.window_scale.filter(|_| other.offer.window_scale.is_some());
        self.shift = shift.unwrap_or(0);
        if let (Some((_, echo)), Some(latest)) = (segment.timestamps, other.timestamp) {
            hold(latest.wrapping_sub(echo).cast_signed() >= 0, "echoes a timestamp that was never sent")?;
        }
        Ok(())
    }

    fn check_acknowledgment(&mut self, segment: &Segment<'_>, other: &Self, doubts: Doubts) -> Result<(), String> {
        let ack = other.offset(segment.ack.unwrap_or_default());
        hold(ack <= other.arrived.reach(), "acknowledges what has not arrived")?;
        let edge = ack + (i64::from(segment.window) << self.scale(segment));
        let before = self.told.filter(|told| told.isn == other.isn);
        if let Some(told) = before.filter(|_| !doubts.disorder && !doubts.revival) {
            hold(ack >= told.ack, "takes back an acknowledgment")?;
            let finished = other.fin.is_some_and(|fin| ack > fin);
            // RFC 9293, section 3.8.6 (SHLD-14), but for what the field cannot say. That of a SYN is not scaled.
            let step = 1 << self.shift;
            hold(edge + step >= told.edge || finished || segment.syn, "shrinks its window")?;
        }
        let furthest = before.map_or((ack, edge), |told| (ack.max(told.ack), edge.max(told.edge)));
        self.told = Some(Told { isn: other.isn, ack: furthest.0, edge: furthest.1 });
        Ok(())
    }

    fn check_sack(&self, segment: &Segment<'_>, other: &Self) -> Result<(), String> {
        for &(start, end) in &segment.sack {
            let block = other.offset(start)..other.offset(end);
            // Text of an earlier connection of the same ends, which a receiver takes for text that comes twice (RFC 2883).
            if !block.is_empty() && block.end <= 0 {
                continue;
            }
            hold(!block.is_empty() && other.arrived.contains(&block), "reports by SACK what has not arrived")?;
        }
        Ok(())
    }

    /// RFC 3168, section 6.1: new text is ECN-capable where both agreed, and nothing else.
    fn check_congestion_marks(&self, segment: &Segment<'_>, place: i64, other: &Self) -> Result<(), String> {
        let agreed = self.offer.ecn && other.offer.ecn;
        let is_new_text = !segment.text.is_empty() && place >= self.sent;
        hold(segment.ecn == 0 || (agreed && is_new_text), "ECN-capable, but no new text or not agreed on")?;
        hold(
            segment.syn || agreed || !(segment.ece || segment.cwr),
            "speaks of congestion though ECN was not agreed on",
        )
    }
}
