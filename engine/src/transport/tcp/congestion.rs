//! How much a connection may have in flight: the congestion window (RFC 5681, RFC 9438).
//!
//! ```text
//!              loss found            .----------.   una passes the recovery point
//!        .-------------------------> | Recovery | -------------------------------.
//!   .--------.                       '----------'  <-- loss found --.            v
//!   |  Open  |  ECN-Echo             .----------.                   |       .--------.
//!   |        | --------------------> |   Cwr    | ------------------+-----> |  Open  |
//!   '--------'                       '----------'                           |        |
//!        |      timeout, from any    .----------.                           '--------'
//!        '-------------------------> |   Loss   | -------------------------------^
//!                                    '----------'
//! ```
//!
//! In `Open`, the window grows: in slow start below ssthresh, by the algorithm above it. On every acknowledgment
//! the connection calls [`exit_recovery`](Congestion::exit_recovery), then what it found
//! ([`enter_recovery`](Congestion::enter_recovery), [`on_ecn_echo`](Congestion::on_ecn_echo),
//! [`undo`](Congestion::undo)), and then either [`on_recovery_ack`](Congestion::on_recovery_ack), if
//! [`in_recovery`](Congestion::in_recovery), or [`on_ack`](Congestion::on_ack). On every segment with data it
//! calls [`on_sent`](Congestion::on_sent).
//!
//! The window is reduced once for all that was in flight when it was, up to the recovery point (RFC 3168, section
//! 6.1.2; RFC 6582). Bytes are counted and not acknowledgments (RFC 3465), so a receiver gains nothing by cutting
//! its acknowledgments into pieces.

use std::time::Duration;

use super::cubic::{Cubic, Growth};
use super::hystart::HyStart;
use super::prr::Prr;
use super::reno::Reno;
use crate::base::Instant;
use crate::wire::seq::SeqNum;

/// The window goes no higher: no receiver can advertise more (RFC 7323, section 2.3: 2^30).
const LARGEST_WINDOW: u32 = 1 << 30;
/// ssthresh before anything was lost.
///
/// > The initial value of ssthresh SHOULD be set arbitrarily high (RFC 5681, section 3.1)
const UNLIMITED: u32 = u32::MAX;
/// Segments that one acknowledgment counts for in slow start at most: the burst that it lets go is no longer
/// than twice this (RFC 9406, section 4.3: L = 8 if non-paced).
const L: u32 = 8;

/// How the window grows and shrinks outside of slow start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

/// What the window is doing, for those who look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It doubles in every round trip.
    SlowStart,
    /// It grows a quarter as fast, because the round trip has grown (RFC 9406).
    ConservativeSlowStart,
    /// It grows by the algorithm.
    CongestionAvoidance,
    /// A loss is being repaired (RFC 9937).
    Recovery,
    /// The timer expired, and what was sent before is not all acknowledged.
    Loss,
    /// It was reduced by an ECN-Echo, and what was sent before is not all acknowledged.
    Cwr,
}

impl Phase {
    /// Label of the phase.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowStart => "slow_start",
            Self::ConservativeSlowStart => "conservative_slow_start",
            Self::CongestionAvoidance => "congestion_avoidance",
            Self::Recovery => "recovery",
            Self::Loss => "loss",
            Self::Cwr => "cwr",
        }
    }
}

/// An acknowledgment of new data.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it came.
    pub now: Instant,
    /// Bytes that it newly acknowledges, cumulatively.
    pub acked: u32,
    /// `SND.UNA` after it.
    pub una: SeqNum,
    /// `SND.NXT`: the end of all that was ever sent.
    pub nxt: SeqNum,
    /// The round-trip time that it measured, if it did.
    pub rtt: Option<Duration>,
    /// The smoothed round-trip time, if it is known.
    pub srtt: Option<Duration>,
    /// Whether the window was what kept the sender from sending more. A window that was not used up says nothing
    /// about the path, and does not grow (RFC 9438, section 5.8; RFC 7661).
    pub window_limited: bool,
    /// The SMSS.
    pub mss: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `Open`, before any congestion was found.
    First(HyStart),
    Open,
    Recovery(Prr),
    Loss,
    Cwr,
}

#[derive(Clone, Copy, Debug)]
enum Controller {
    Cubic(Cubic),
    Reno(Reno),
}

/// What there was before a reduction, to be restored if that was for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Zero: nothing, for nothing was reduced.
    window: u32,
    ssthresh: u32,
    controller: Controller,
    /// The SMSS then: with another, nothing is restored.
    mss: u32,
    /// Whether a timeout reduced it.
    timeout: bool,
}

/// The congestion control of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    window: u32,
    ssthresh: u32,
    /// `recover` of RFC 6582: what was the end of all sent when the window was reduced. Meaningless in `Open`.
    recovery_point: SeqNum,
    state: State,
    controller: Controller,
}

impl Congestion {
    /// A connection's start, with the window of RFC 6928.
    #[must_use]
    pub fn new(algorithm: Algorithm, mss: u32) -> Self {
        let controller = match algorithm {
            Algorithm::Cubic => Controller::Cubic(Cubic::default()),
            Algorithm::Reno => Controller::Reno(Reno::default()),
        };
        Self {
            window: initial_window(mss),
            ssthresh: UNLIMITED,
            recovery_point: SeqNum::default(),
            state: State::First(HyStart::new(SeqNum::default())),
            controller,
        }
    }

    /// The handshake is over, and the SYN or the SYN-ACK had to be sent again.
    ///
    /// > [...] if the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly transmitted
    /// > SYN MUST be one segment consisting of at most SMSS bytes. (RFC 5681, section 3.1)
    pub fn after_lost_syn(&mut self, mss: u32) {
        self.window = mss;
    }

    /// The congestion window in bytes: as much as may be in flight.
    #[must_use]
    pub const fn window(&self) -> u32 {
        self.window
    }

    /// The slow start threshold in bytes; `u32::MAX` before the first congestion.
    #[must_use]
    pub const fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// Whether a loss is being repaired, so that acknowledgments go to [`on_recovery_ack`](Self::on_recovery_ack).
    #[must_use]
    pub const fn in_recovery(&self) -> bool {
        matches!(self.state, State::Recovery(_))
    }

    /// Whether nothing is amiss.
    const fn is_open(&self) -> bool {
        matches!(self.state, State::First(_) | State::Open)
    }

    /// What the window is doing.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Recovery(_) => Phase::Recovery,
            State::Loss => Phase::Loss,
            State::Cwr => Phase::Cwr,
            _ if self.window >= self.ssthresh => Phase::CongestionAvoidance,
            State::First(hystart) if hystart.is_conservative() => Phase::ConservativeSlowStart,
            State::First(_) | State::Open => Phase::SlowStart,
        }
    }

    /// Data of so many bytes was sent, for the first time or again.
    pub fn on_sent(&mut self, bytes: u32) {
        if let State::Recovery(prr) = &mut self.state {
            prr.on_sent(bytes);
        }
    }

    /// RFC 9293, section 3.8.2 (MUST-19): slow start below ssthresh, congestion avoidance above. (MAY-18): by CUBIC,
    /// which is of the standards track, too.
    ///
    /// Grows the window by an acknowledgment of new data. Not in recovery; and not after an ECN-Echo, until what
    /// was in flight then is acknowledged.
    pub fn on_ack(&mut self, ack: &Ack) {
        if matches!(self.state, State::Recovery(_) | State::Cwr) {
            return;
        }
        if !ack.window_limited {
            return self.hold(ack.now);
        }
        let left = if self.window < self.ssthresh { self.slow_start(ack) } else { ack.acked };
        if left > 0 {
            self.avoid_congestion(left, ack);
        }
        self.window = self.window.min(LARGEST_WINDOW);
    }

    /// The same of an acknowledgment that finds the window not used up: it does not grow.
    #[inline]
    pub const fn hold(&mut self, now: Instant) {
        if !matches!(self.state, State::Recovery(_) | State::Cwr)
            && let Controller::Cubic(cubic) = &mut self.controller
        {
            cubic.hold(now);
        }
    }

    /// Grows the window towards ssthresh; the bytes that are left for congestion avoidance.
    fn slow_start(&mut self, ack: &Ack) -> u32 {
        // After a timeout an acknowledgment may cover what had left the network long before, so it counts for one
        // segment (RFC 3465, section 2.3). Else "cwnd = cwnd + min(N, L * SMSS)" (RFC 9406, section 4.2).
        let limit = if matches!(self.state, State::Loss) { ack.mss } else { ack.mss.saturating_mul(L) };
        let acked = ack.acked.min(limit);
        let State::First(hystart) = &mut self.state else {
            let growth = acked.min(self.ssthresh - self.window);
            self.window += growth;
            return acked - growth;
        };
        self.window = self.window.saturating_add(hystart.growth(acked)).min(LARGEST_WINDOW);
        if hystart.on_ack(ack.una, ack.nxt, ack.rtt) {
            (self.ssthresh, self.state) = (self.window, State::Open);
        }
        0
    }

    fn avoid_congestion(&mut self, acked: u32, ack: &Ack) {
        self.window = match &mut self.controller {
            Controller::Reno(reno) => reno.on_ack(self.window, acked, ack.mss),
            Controller::Cubic(cubic) => {
                let srtt = ack.srtt.unwrap_or(Duration::ZERO);
                cubic.on_ack(self.window, &Growth { now: ack.now, acked, srtt, mss: ack.mss })
            }
        };
    }

    /// A loss was found: reduces ssthresh, and begins recovery, in which [`on_recovery_ack`](Self::on_recovery_ack)
    /// brings the window down to it, beginning with the acknowledgment that told of the loss. What there was before;
    /// `None` after a reduction that still lasts: there is nothing more to reduce.
    ///
    /// `flight_size` is what was sent and not cumulatively acknowledged before this acknowledgment, `sacked` the
    /// part of it that had been SACKed before this acknowledgment, and `nxt` is `SND.NXT`.
    pub fn enter_recovery(&mut self, flight_size: u32, sacked: u32, nxt: SeqNum, mss: u32) -> Option<Before> {
        let mut before = self.before(mss, false);
        match self.state {
            State::Recovery(_) | State::Loss => return None,
            // The window was reduced for this flight already; ECN has told of congestion, so nothing is undone.
            State::Cwr => before.window = 0,
            State::First(_) | State::Open => self.ssthresh = self.reduced(flight_size).max(2 * mss),
        }
        self.recovery_point = nxt;
        // RecoverFS is SND.NXT - SND.UNA as it was before this acknowledgment, without what had been SACKed: that
        // will not be counted as delivered in recovery (RFC 9937, section 6.1).
        self.state = State::Recovery(Prr::new(flight_size.saturating_sub(sacked)));
        Some(before)
    }

    /// An acknowledgment in recovery, or the one that began it: `delivered` is what it newly acknowledges or SACKs,
    /// `in_flight` what is still under way after it and after the losses that it told of.
    ///
    /// > SafeACK = (SND.UNA advances and no further loss indicated) (RFC 9937, section 6.2)
    pub fn on_recovery_ack(&mut self, delivered: u32, in_flight: u32, una_advanced: bool, no_new_loss: bool, mss: u32) {
        if let State::Recovery(prr) = &mut self.state {
            let safe = una_advanced && no_new_loss;
            let window = prr.on_ack(delivered, in_flight, safe, self.ssthresh, mss);
            self.window = window.min(LARGEST_WINDOW);
        }
    }

    /// Ends recovery, or what follows a timeout or an ECN-Echo, if `una` has reached the recovery point; whether
    /// it did.
    pub fn exit_recovery(&mut self, una: SeqNum) -> bool {
        if self.is_open() || una.before(self.recovery_point) {
            return false;
        }
        if self.in_recovery() {
            // "On the completion of a PRR episode [...]: cwnd = ssthresh" (RFC 9937, section 6.4)
            self.window = self.ssthresh;
        }
        self.state = State::Open;
        true
    }

    /// The peer echoes a mark of congestion: reduces the window as for a loss. Whether it did, so that the next
    /// segment is to say CWR: once for a window of data. Then nothing from before is to be undone any more: "If the
    /// acceptable ACK has the ECN-Echo flag set, then proceed to step (DONE)" (RFC 4015, section 3): this congestion is
    /// real.
    ///
    /// > The indication of congestion should be treated just as a congestion loss in non-ECN-Capable TCP. [...] TCP
    /// > should not react to congestion indications more than once every window of data (RFC 3168, section 6.1.2)
    ///
    /// The reduction is that of a loss; the milder one that RFC 8511 allows (ABE) is not used.
    pub fn on_ecn_echo(&mut self, flight_size: u32, nxt: SeqNum, mss: u32) -> bool {
        if !self.is_open() {
            return false;
        }
        let reduced = self.reduced(flight_size);
        // "reduction on ECE, cwnd is at least 1 SMSS" and "ssthresh is at least 2 SMSS" (RFC 9438, section 4.6)
        self.window = reduced.max(mss);
        self.ssthresh = reduced.max(2 * mss);
        self.state = State::Cwr;
        self.recovery_point = nxt;
        true
    }

    /// The retransmission timer expired. `first` says that the segment which it was for had not yet been sent
    /// again by an expiry; else ssthresh is held (RFC 5681, section 3.1). `flight_size` is what was sent and not
    /// cumulatively acknowledged, `nxt` the end of all that was ever sent. What there was before the first expiry.
    ///
    /// > [...] upon a timeout [...] cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized
    /// > segment (RFC 5681, section 3.1)
    pub fn on_timeout(&mut self, flight_size: u32, nxt: SeqNum, mss: u32, first: bool) -> Option<Before> {
        let before = first.then(|| self.before(mss, true));
        if first {
            let flight_size = flight_size.min(self.target());
            let reduced = match &mut self.controller {
                Controller::Cubic(cubic) => cubic.reduce_by_timeout(self.window, flight_size),
                Controller::Reno(reno) => reno.reduce(flight_size),
            };
            self.ssthresh = reduced.max(2 * mss);
        }
        self.window = mss;
        self.state = State::Loss;
        self.recovery_point = nxt;
        before
    }

    /// The last reduction was for nothing: what was held to be lost had arrived, as a D-SACK or a timestamp showed
    /// (RFC 3708, RFC 3522). Restores what was before it; whether there was something to restore.
    ///
    /// `flight_size` is what is in flight after the acknowledgment that showed it, `acked` what that acknowledged.
    pub fn undo(&mut self, before: &Before, flight_size: u32, acked: u32, mss: u32) -> bool {
        // "[...] if cwnd < cwnd_prior"; otherwise "CUBIC SHOULD continue to use the current and the most recent
        // values of these variables." (RFC 9438, section 4.9.2)
        if self.window >= before.window || before.mss != mss {
            return false;
        }
        if before.timeout {
            // "cwnd <- FlightSize + min (bytes_acked, IW); ssthresh <- pipe_prev" (RFC 4015, section 3): what was in
            // flight has arrived meanwhile, and the whole window at once would be a burst.
            let window = flight_size.saturating_add(acked.min(initial_window(mss)));
            self.window = window.min(before.window).max(self.window);
            self.ssthresh = before.window.max(before.ssthresh);
        } else {
            (self.window, self.ssthresh) = (before.window, before.ssthresh);
        }
        self.controller = before.controller;
        self.state =
            if self.ssthresh == UNLIMITED { State::First(HyStart::new(SeqNum::default())) } else { State::Open };
        true
    }

    /// Data is to be sent after nothing was in flight for `idle`, however short. After an RTO of that the window
    /// halves, and with every further one, but not below the initial one (Linux: tcp_slow_start_after_idle), so that an
    /// old window is not sent in one burst (RFC 5681, section 4.1, which drops to the initial window at once).
    ///
    /// Whether it did: then nothing from before is to be undone any more.
    pub fn on_idle(&mut self, idle: Duration, rto: Duration, mss: u32) -> bool {
        if !self.is_open() {
            return false;
        }
        if let Controller::Cubic(cubic) = &mut self.controller {
            cubic.on_idle(idle);
        }
        let restart = initial_window(mss).min(self.window);
        let mut window = self.window;
        let mut left = idle.saturating_sub(rto);
        // A window has 31 bits, so this ends, even with an RTO of zero.
        while !left.is_zero() && window > restart {
            window /= 2;
            left = left.saturating_sub(rto);
        }
        if window == self.window {
            return false;
        }
        // What was reached is remembered: three quarters of it are slow started to (RFC 2861, section 3.1).
        self.ssthresh = self.ssthresh.max(self.window - self.window / 4);
        self.window = window.max(restart);
        true
    }

    /// The path's MTU, and with it the SMSS, changed.
    ///
    /// > [...] cwnd SHOULD be reduced by the ratio of the old segment size to the new segment size. (RFC 5681,
    /// > section 3.1)
    pub fn on_mss_change(&mut self, old: u32, new: u32) {
        if new < old {
            self.window = (u64::from(self.window) * u64::from(new) / u64::from(old)) as u32;
            if let Controller::Cubic(cubic) = &mut self.controller {
                cubic.scale(old, new);
            }
        }
        self.window = self.window.max(new);
        self.ssthresh = self.ssthresh.max(2 * new);
    }

    /// Tells the controller of a congestion event; ssthresh after it, before its floor.
    fn reduced(&mut self, flight_size: u32) -> u32 {
        // "[...] additional data sent in limited transmit MUST NOT be included in this calculation" of FlightSize
        // (RFC 5681, section 3.2); it is what goes beyond the window.
        let flight_size = flight_size.min(self.window);
        match &mut self.controller {
            Controller::Cubic(cubic) => cubic.reduce(self.window, flight_size),
            Controller::Reno(reno) => reno.reduce(flight_size),
        }
    }

    /// The window that the path is held to bear: in recovery, where the window is on its way to.
    fn target(&self) -> u32 {
        if self.in_recovery() { self.ssthresh } else { self.window }
    }

    /// What there is now, before a reduction.
    fn before(&self, mss: u32, timeout: bool) -> Before {
        Before { window: self.target(), ssthresh: self.ssthresh, controller: self.controller, mss, timeout }
    }
}

/// > IW = min (10*MSS, max (2*MSS, 14600)) (RFC 6928, section 2)
fn initial_window(mss: u32) -> u32 {
    (10 * mss).min(14_600.max(2 * mss))
}

#[cfg(test)]
mod tests;
