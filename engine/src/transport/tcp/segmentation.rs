//! Segments that lie behind each other as one packet, where the device cuts it up (TCP segmentation offload).
//!
//! ```text
//!   send queue  | text | text | text | text | ...        frames of one segment each, as ever
//!   to device   | headers, text | text | text |          one packet of three of them, with one header
//!   on the wire | headers, text | headers, text | ...    made by the device
//! ```
//!
//! What is sent, lost, reported or acknowledged is written on each frame, as if each had been sent on its own.

use super::tcb::{Tcb, mark};
use super::{Outgoing, Shared};
use crate::base::{Instant, Queued, Umem};
use crate::wire::tcp::Flags;
use crate::wire::{ipv6, tcp};

/// Segments in one packet at most: half of what a turn sends.
const MOST_SEGMENTS: u32 = 32;
/// Bytes of text in one packet at most: of the longest IP packet.
const MOST_TEXT: u32 = u16::MAX as u32 - (ipv6::LEN + tcp::MAX_LEN) as u32;

/// Frames that go into one packet.
struct Run {
    frames: u32,
    text: u32,
    /// The frame behind it.
    behind: Option<Queued>,
}

impl Tcb {
    /// The next segments, up to `most`, where they are nothing but text that was never sent, and nothing keeps them back:
    /// as many times [`next_ordinary`](Self::next_ordinary). `None` if there are no two of them.
    #[inline(never)]
    pub(super) fn next_several(
        &mut self,
        most: u32,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> Option<Outgoing> {
        let first = self.snd.unsent.some()?;
        let was_idle = self.outstanding() == 0;
        if !self.has_ordinary_text(shared) || (was_idle && self.was_idle_for_long(now)) {
            return None;
        }
        let run = self.run_of_unsent(first, most.min(MOST_SEGMENTS), umem);
        if run.frames < 2 {
            return None;
        }
        let mut end = self.snd.nxt;
        let mut packet = umem.share_run(first, run.frames, |note, text| {
            (note.seq, note.sent_at, note.sends, note.marks) = (end.value(), now, 1, 0);
            end += u32::from(text);
        })?;
        // RFC 9293, section 3.9.1.2 (MUST-61): the sender MUST set the PSH bit in the last buffered segment.
        let is_last = run.behind.is_none_or(|next| umem.queued_len(next) == 0);
        let flags = if is_last { Flags::ACK | Flags::PSH } else { Flags::ACK };
        // The sum of the text is the device's business.
        if !self.build_ordinary(&mut packet, flags, (run.text as u16, 0), shared, now, umem) {
            umem.free(packet);
            return None;
        }
        shared.counters.sent += u64::from(run.frames);
        self.snd.nxt = end;
        self.snd.unsent_len -= run.text;
        self.snd.unsent = run.behind.unwrap_or(Queued::NONE);
        self.window_limited &= run.behind.is_some();
        self.sent(run.text, shared, now);
        self.time_new(was_idle, now);
        let doubts_way = std::mem::take(&mut self.timers.doubts_way);
        Some(Outgoing { frame: packet, segments: run.frames as u8, class: self.wishes.class, shared: true, doubts_way })
    }

    /// The frames that may be sent now, from the first unsent one on: full ones, of which the last may be shorter.
    fn run_of_unsent(&self, first: Queued, most: u32, umem: &Umem) -> Run {
        let mss = u32::from(self.snd.mss);
        let by_peer = self.snd.wnd.saturating_sub(self.outstanding());
        let by_congestion = self.congestion.window().saturating_sub(self.in_flight());
        let room = by_peer.min(by_congestion).min(MOST_TEXT);
        let mut run = Run { frames: 0, text: 0, behind: Some(first) };
        while let Some(place) = run.behind.filter(|_| run.frames < most)
            && let Some((note, text, behind)) = umem.queued_and_next(place)
        {
            let text = u32::from(text);
            let is_text = text > 0 && note.marks & (mark::SYN | mark::FIN) == 0;
            let waits = text < mss && behind.is_none() && self.wishes.nagle;
            if !is_text || waits || text > mss || run.text + text > room || umem.is_shared(place) {
                break;
            }
            run = Run { frames: run.frames + 1, text: run.text + text, behind };
            if text < mss {
                break;
            }
        }
        run
    }
}
