//! What the network says about a connection's path: ICMP errors (RFC 5927), the path's MTU (RFC 1191, RFC 4821).
//!
//! Anybody can forge an ICMP error. One counts only if it quotes a sequence number that is under way, and hardly any
//! ends a connection: an attacker who guesses right slows it down at worst.

use super::congestion::Congestion;
use super::long::text_per_chunk;
use super::state::State;
use super::tcb::{Tcb, mark};
use super::tuple::Tuple;
use super::{End, SMALLEST_MSS, SMALLEST_MTU, Shared, Tcp, Trouble, default_mss};
use crate::base::{Instant, Umem};
use crate::network::route::Routes;
use crate::wire::seq::SeqNum;

/// What an ICMP error about a segment of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// The network or host cannot be reached (RFC 1122: codes 0, 1, 5; 6 to 13).
    Unreachable,
    /// Nobody speaks TCP there, or listens on the port (codes 2 and 3).
    Refused,
    /// The segment was too long for a link whose MTU is this; 0 from routers that do not say.
    TooLong(u16),
    /// It took too many hops.
    TimeExceeded,
    /// A header field was wrong.
    ParameterProblem,
}

/// Timeouts in a row of a long segment that make the path suspect of swallowing long packets without a word
/// (RFC 4821, section 7.7; RFC 8899 calls it a black hole).
const BLACK_HOLE: u8 = 2;
/// How long a black hole is believed in before long packets are tried again (RFC 8201, section 4: 10 minutes), seconds.
const BELIEF_S: u32 = 600;
/// MTUs to fall back to, in turn: those of common tunnels, what IPv6 guarantees, and what every host can reassemble
/// (RFC 1191, section 7 calls such a table plateaus; Linux falls back to 1,024 at once).
const PLATEAUS: [u16; 5] = [1400, 1280, 1024, 576, 296];

/// How far the suspicion is that a router swallows long packets.
///
/// Bad luck looks the same: of ten packets that are lost at random, one is lost again and one of these once more. So the
/// first time that a long segment vanishes again and again, short ones only help over it, and then long ones are tried
/// again. If none arrives before they vanish once more, it is a black hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BlackHole {
    /// There is none, as far as is known.
    #[default]
    No,
    /// Segments were shortened, to get over it.
    Suspected {
        /// What the path took before, without headers.
        before: u16,
    },
    /// Long ones are tried again.
    Trial {
        /// What the path took at last, without headers.
        least: u16,
    },
    /// Long ones vanished again; or a router says that it drops them, which is no riddle, but ends in the same way.
    Found {
        /// What the path took before, without headers.
        before: u16,
        /// When, in seconds of the clock.
        since_s: u32,
    },
}

impl Shared {
    /// Bytes that the first link to a peer takes, by what the route to it says, too.
    fn link_mtu(&self, tuple: &Tuple) -> u16 {
        let route = self.routes.as_ref().and_then(|routes| routes.lookup(tuple.remote.0)?.mtu);
        route.map_or(self.config.mtu, |mtu| mtu.max(SMALLEST_MTU).min(self.config.mtu))
    }

    /// The largest segment that we can take, and send.
    ///
    /// RFC 9293, section 3.7.1 (MUST-16): the size of the reassembly or receive buffer less the fixed headers of IP and TCP.
    pub(super) fn mss(&self, tuple: &Tuple) -> u16 {
        self.link_mtu(tuple).saturating_sub(tuple.headers_len())
    }
}

impl Tcp {
    /// Takes note of what the routes say about the MTU: of connections that are opened from now on.
    pub fn set_routes(&mut self, routes: &Routes) {
        self.shared.routes = routes.least_mtu().map(|_| routes.clone());
    }

    /// Hears, before anything was sent on a connection, that its path takes no more than `mtu` bytes.
    pub fn path_was_narrow(&mut self, index: u32, mtu: u16, now: Instant) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.path_was_narrow(mtu, now, &self.shared);
        }
    }

    /// What a router said of the path of a connection, in an error that was found to be about what is under way: bytes that
    /// it takes, if those are fewer than was known.
    pub const fn take_narrowed(&mut self) -> Option<u16> {
        self.shared.narrowed.take()
    }

    /// When the peer of a connection last showed that it gets what is sent to it (RFC 4861, section 7.3.1), if all is well: by
    /// a segment that fits to what was sent.
    #[cold]
    #[must_use]
    pub fn heard_at(&self, index: u32) -> Option<Instant> {
        let tcb = self.tables.connections.get(index)?;
        (tcb.state != State::SynSent && tcb.recovery.timeouts == 0).then_some(tcb.timers.heard_at)
    }
}

impl Tcb {
    /// Digests an ICMP error that quotes a segment of ours which starts at `seq`.
    ///
    /// RFC 9293, section 3.9.2.2 (MUST-54): an ICMP error is directed to the connection that created it. RFC 5927, section
    /// 4.1: it is checked that the number is that of data which is under way.
    pub(super) fn path_error(
        &mut self,
        error: PathError,
        seq: SeqNum,
        now: Instant,
        shared: &mut Shared,
        umem: &mut Umem,
    ) -> Option<End> {
        if !seq.within(self.snd.una, self.outstanding().max(1)) {
            shared.counters.icmp_ignored += 1;
            return None;
        }
        shared.counters.icmp_taken += 1;
        match error {
            PathError::TooLong(mtu) => self.path_is_narrow(mtu, now, shared, umem),
            // RFC 5927, section 6: a connection in a synchronized state is not aborted by a hard error either; before
            // that, RFC 9293, section 3.9.2.2 (SHLD-26): hard error conditions SHOULD abort.
            PathError::Refused if matches!(self.state, State::SynSent | State::SynReceived) => {
                return Some(End::Unreachable);
            }
            // RFC 9293, section 3.9.2.2 (MUST-56): since these are soft error conditions, TCP MUST NOT abort the
            // connection; SHLD-25: it SHOULD make the information available to the application.
            PathError::Refused | PathError::Unreachable => self.soft_error = Some(Trouble::Unreachable),
            PathError::TimeExceeded => self.soft_error = Some(Trouble::TimeExceeded),
            PathError::ParameterProblem => self.soft_error = Some(Trouble::ParameterProblem),
        }
        None
    }

    /// RFC 1191, section 3: the segment is sent again in shorter ones, at once; but RFC 5927, section 7.2: what contradicts
    /// that longer ones arrived is believed only when a segment has timed out too.
    fn path_is_narrow(&mut self, mtu: u16, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        let (current, least) = (self.path_mtu(), shared.config.min_pmtu(&self.tuple));
        let mtu = if mtu == 0 { plateau_below(current).max(least) } else { mtu.max(least) };
        if mtu >= current {
            return;
        }
        if self.snd.arrived_len > self.text_within(mtu) {
            shared.counters.pmtu_doubted += 1;
            self.snd.doubted_mtu = mtu;
            return;
        }
        shared.narrowed = Some(mtu);
        self.narrow(mtu, now, shared, umem);
    }

    /// After a timeout: what was doubted of the path is believed, if it explains the timeout. Of this connection only, which
    /// bears the loss if it was a lie all the same.
    pub(super) fn believe_doubted(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        let mtu = self.snd.doubted_mtu;
        if mtu != 0
            && let Some(first) = self.snd.queue.first()
            && umem.queued_len(first) > self.text_within(mtu)
        {
            self.narrow(mtu, now, shared, umem);
        }
    }

    fn narrow(&mut self, mtu: u16, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        shared.counters.pmtu_lowered += 1;
        let before = self.widest();
        self.shorten(mtu, umem);
        self.believe_in(before, now);
    }

    /// Bytes of text in a packet of so many bytes.
    fn text_within(&self, mtu: u16) -> u16 {
        mtu.saturating_sub(self.tuple.headers_len() + self.option_len())
    }

    /// Hears that a path takes no more than `mtu` bytes, before anything was sent on it: others met its narrow link lately.
    ///
    /// RFC 9293, section 3.7.1 (MUST-16): the maximum size of a segment that a TCP endpoint really sends MUST be the smaller
    /// of the send MSS and the largest transmission size permitted by the IP layer.
    pub(super) fn path_was_narrow(&mut self, mtu: u16, now: Instant, shared: &Shared) {
        let mtu = mtu.max(shared.config.min_pmtu(&self.tuple));
        if mtu < self.path_mtu() {
            let before = self.widest();
            self.set_mss(mtu - self.tuple.headers_len());
            self.believe_in(before, now);
        }
    }

    /// RFC 1191, section 6.3: an increase of the PMTU estimate may be tried 10 minutes after it was decreased. Nobody says
    /// when a path gets wider, and who said that it is narrow may have lied.
    const fn believe_in(&mut self, before: u16, now: Instant) {
        self.black_hole = BlackHole::Found { before, since_s: seconds(now) };
    }

    /// What the path took at best, without headers.
    fn widest(&self) -> u16 {
        match self.black_hole {
            BlackHole::Suspected { before } | BlackHole::Found { before, .. } => before,
            BlackHole::No | BlackHole::Trial { .. } => self.path_mtu() - self.tuple.headers_len(),
        }
    }

    /// The link takes no packets longer than `mtu` bytes any more, or longer ones than before.
    pub(super) fn link_has_changed(&mut self, mtu: u16, umem: &mut Umem) {
        // What was learnt of the path as long as it was narrower than the link stays.
        if mtu < self.path_mtu() {
            self.shorten(mtu, umem);
        }
        let most = mtu - self.tuple.headers_len();
        if let BlackHole::Suspected { before } | BlackHole::Found { before, .. } = &mut self.black_hole {
            *before = most.min(*before);
        }
    }

    /// Makes segments no longer than fit into `mtu` bytes, and sends those again that are.
    fn shorten(&mut self, mtu: u16, umem: &mut Umem) {
        self.black_hole = BlackHole::No;
        // Then a frame does not tell how long the segment was that it was a part of.
        let gathered = self.gathers();
        self.set_mss(mtu - self.tuple.headers_len());
        let mut next = self.snd.queue.first();
        while let Some(place) = next.filter(|&place| place != self.snd.unsent) {
            let marks = umem.note(place).marks;
            let too_long = gathered || umem.queued_len(place) > self.snd.mss;
            if too_long && marks & mark::SACKED == 0 {
                self.mark_lost(place, umem);
            }
            next = umem.next(place);
        }
    }

    /// After repeated timeouts of a long segment: perhaps a router on the way swallows it without a word.
    ///
    /// It need not be a full one: a path may take less than a request that is sent alone.
    pub(super) fn probe_path(&mut self, shared: &mut Shared, now: Instant) {
        // A closed window explains it as well.
        if self.recovery.timeouts < BLACK_HOLE || !self.state.is_synchronized() || self.snd.wnd == 0 {
            return;
        }
        let (current, headers) = (self.path_mtu(), self.tuple.headers_len());
        let missing = u32::from(self.snd.mss).saturating_sub(self.snd.queued) as u16;
        let (before, len) = (current - headers, current - missing);
        let lower = plateau_below(len).max(shared.config.min_pmtu(&self.tuple)) - headers;
        let (path, known) = match self.black_hole {
            BlackHole::No => (lower, BlackHole::Suspected { before }),
            BlackHole::Trial { least } => (least, BlackHole::Found { before, since_s: seconds(now) }),
            known => (lower, known),
        };
        if path >= len - headers {
            return;
        }
        shared.counters.black_holes_suspected += 1;
        self.black_hole = known;
        self.set_mss(path);
    }

    /// What a segment of ours may carry, by what the peer said and what the path takes.
    ///
    /// RFC 9293, section 3.7.1 (MUST-15, MUST-16): the default where the peer said nothing; the smaller of both, less our
    /// options in every segment.
    pub(super) fn set_peer_mss(&mut self, peer: Option<u16>, shared: &Shared) {
        let peer = peer.unwrap_or(default_mss(self.tuple.remote.0.is_v4()));
        self.snd.peer_mss = peer.max(SMALLEST_MSS).min(shared.mss(&self.tuple));
        self.snd.mss = self.snd.peer_mss - self.option_len();
        self.spread_over_chunks();
        // RFC 6928, section 2: the initial window is of so many segments as they are.
        self.congestion = Congestion::new(shared.config.algorithm, u32::from(self.snd.mss));
    }

    /// Sets what the path takes, less our options, and tells the congestion control.
    pub(super) fn set_mss(&mut self, path: u16) {
        let (old, new) = (self.snd.mss, path - self.option_len());
        self.snd.mss = new;
        if new < old {
            (self.snd.arrived_len, self.snd.doubted_mtu) = (0, 0);
        }
        self.spread_over_chunks();
        if old != new {
            self.congestion.on_mss_change(u32::from(old), u32::from(new));
        }
    }

    fn spread_over_chunks(&mut self) {
        let snd = &self.snd;
        self.snd.per_chunk = text_per_chunk(snd.mss, u32::from(self.path_mtu()), snd.chunk_room).max(1);
    }

    /// Bytes that the path takes, as far as is known.
    pub(super) fn path_mtu(&self) -> u16 {
        self.snd.mss + self.option_len() + self.tuple.headers_len()
    }

    /// What was vanishing has arrived, or time has passed: long segments are tried again.
    pub(super) fn try_long_segments(&mut self, now: Instant) {
        let before = match self.black_hole {
            BlackHole::Suspected { before } => before,
            BlackHole::Found { before, since_s } if seconds(now).wrapping_sub(since_s) >= BELIEF_S => before,
            _ => return,
        };
        self.black_hole = BlackHole::Trial { least: self.snd.mss + self.option_len() };
        self.set_mss(before);
    }

    /// A segment with so many bytes of text has arrived: if it is a long one, there is no black hole, and who said that the
    /// path is narrower lied.
    #[inline(never)]
    pub(super) fn has_arrived(&mut self, text: u16) {
        self.snd.arrived_len = self.snd.arrived_len.max(text);
        if text > self.text_within(self.snd.doubted_mtu) {
            self.snd.doubted_mtu = 0;
        }
        if let BlackHole::Trial { least } = self.black_hole
            && text > least - self.option_len()
        {
            self.black_hole = BlackHole::No;
        }
    }
}

const fn seconds(now: Instant) -> u32 {
    (now.as_ns() / 1_000_000_000) as u32
}

fn plateau_below(mtu: u16) -> u16 {
    PLATEAUS.into_iter().find(|&plateau| plateau < mtu).unwrap_or(PLATEAUS[PLATEAUS.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plateaus_go_down_to_the_least() {
        assert_eq!([1500, 1400, 1300, 576, 296, 100].map(plateau_below), [1400, 1280, 1280, 296, 296, 296]);
    }
}
