//! What happens when time passes: retransmissions, probes, delayed acknowledgments, keep-alives, giving up.

use std::time::Duration;

use super::config::USER_TIMEOUT;
use super::state::State;
use super::tcb::{Phase, Probe, SendTimer, Tcb};
use super::{End, Shared, Tcp, Trouble};
use crate::base::{Instant, Umem};

/// Retransmissions after which the network is asked for another way, and the application can learn of trouble.
///
/// RFC 9293, section 3.8.3 (MUST-20, SHLD-9, SHLD-10): R1 and R2 MUST be used; the value of R1 SHOULD correspond to at
/// least 3 retransmissions.
const R1: u8 = 3;
/// Time between keep-alives that are not answered, unless the silence before the first is shorter: who wants to know
/// within seconds does not want to wait for 11 minutes. How many of them end a connection (Linux: tcp_keepalive_intvl and
/// tcp_keepalive_probes).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEP_ALIVE_PROBES: u8 = 9;
/// How long a SYN is sent again before a connection that we open is given up.
///
/// RFC 9293, section 3.8.3 (MUST-23): R2 for a SYN segment MUST be set large enough to provide retransmission of the
/// segment for at least 3 minutes.
const SYN_TIMEOUT: Duration = Duration::from_secs(180);

/// As a connection remembers it: the silence before the first keep-alive, or 0 for none.
pub(super) fn keep_alive_seconds(idle: Option<Duration>) -> u32 {
    idle.map_or(0, |idle| u32::try_from(idle.as_secs()).unwrap_or(u32::MAX).max(1))
}

impl Tcp {
    /// Arms the timer of a connection that leaves the ready list, or does not enter it, for its deadline.
    ///
    /// Deadlines move on with nearly every segment. One that is armed for an earlier time is left as it is: when it runs
    /// out, and nothing is due, it is armed anew.
    #[inline(always)]
    pub(super) fn arm(&mut self, index: u32, deadline: Option<Instant>) {
        let armed = self.wheel.deadline(index);
        let is_early_enough = deadline.is_some_and(|at| armed.is_some_and(|armed| armed <= at));
        if !is_early_enough {
            self.arm_anew(index, deadline);
        }
    }

    #[inline(never)]
    fn arm_anew(&mut self, index: u32, deadline: Option<Instant>) {
        match deadline {
            Some(at) => self.wheel.arm(index, at),
            None => self.wheel.disarm(index),
        }
    }
}

impl Tcb {
    /// Does what is due. How the connection ended, if it did.
    pub(super) fn expire(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) -> Option<End> {
        let due = |at: Instant| at != Instant::ZERO && at <= now;
        // What waited for its pace is still there, and has its turn now.
        self.timers.paced &= self.pacing.next_send_time() > now;
        if due(self.timers.ack_at) {
            self.timers.ack_at = Instant::ZERO;
            self.rcv.ack_now = true;
            shared.counters.delayed_acknowledgments += 1;
        }
        if due(self.timers.send_at) {
            self.timers.send_at = Instant::ZERO;
            let end = self.expire_send_timer(now, shared, umem);
            if end.is_some() {
                return end;
            }
        }
        if due(self.timers.idle_at) {
            self.timers.idle_at = Instant::ZERO;
            return self.expire_idle_timer(now, shared);
        }
        None
    }

    fn expire_send_timer(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) -> Option<End> {
        if self.is_given_up(now) {
            shared.counters.timed_out += 1;
            return Some(End::TimedOut);
        }
        match self.timers.send_kind {
            SendTimer::WindowProbe if self.outstanding() == 0 => {
                if self.snd.queue.is_empty() {
                    return None;
                }
                self.probe_window(now, shared, umem);
                if self.recovery.timeouts >= R1 {
                    self.timers.doubts_way = true;
                }
            }
            SendTimer::Reordering if self.outstanding() > 0 => self.expire_reordering(now, shared, umem),
            SendTimer::LossProbe if self.outstanding() > 0 && self.probe_timeout_ns().is_some() => {
                // RFC 8985, section 7.3: after the probe the retransmission timer runs.
                self.timers.probe = Probe::Loss;
                (self.timers.send_at, self.timers.send_kind) = (now + self.rtt.rto(), SendTimer::Retransmission);
            }
            SendTimer::LossProbe if self.outstanding() > 0 => self.arm_send_timer(now, None),
            _ if self.outstanding() > 0 => self.expire_retransmission(now, shared, umem),
            _ => {}
        }
        self.clamp_send_timer();
        None
    }

    fn expire_reordering(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        let (flight, sacked) = (self.outstanding(), self.recovery.sacked);
        let (found, next_loss) = self.detect_losses(now, umem, shared);
        if found && matches!(self.recovery.phase, Phase::Open | Phase::Disorder | Phase::Reduced) {
            self.enter_recovery(flight, sacked, shared);
            let (in_flight, mss) = (self.in_flight(), u32::from(self.snd.mss));
            self.congestion.on_recovery_ack(0, in_flight, false, false, mss);
        }
        self.arm_send_timer(now, next_loss);
    }

    fn expire_retransmission(&mut self, now: Instant, shared: &mut Shared, umem: &mut Umem) {
        self.time_out(now, umem, shared);
        if self.recovery.timeouts >= R1 || self.state == State::SynSent {
            // RFC 9293, section 3.8.3 (MUST-20): reaching R1, pass negative advice to IP: here the neighbor is
            // asked whether its MAC address still holds. Of a SYN's only the neighbor table knows, so it is doubted at
            // once.
            self.timers.doubts_way = true;
        }
        if self.recovery.timeouts == R1 {
            self.soft_error = Some(Trouble::NotResponding);
        }
        self.believe_doubted(now, shared, umem);
        self.probe_path(shared, now);
    }

    /// Whether nothing has moved for longer than the application wants to wait.
    ///
    /// RFC 9293, section 3.8.3 (MUST-20, MUST-21, MUST-22): R2, which the application can set, closes the connection. A
    /// peer that keeps its window closed but answers is no reason (MUST-37), nor one that closes it before what is
    /// under way (SHLD-17): hearing from it counts as progress then.
    fn is_given_up(&self, now: Instant) -> bool {
        self.given_up_at().is_some_and(|at| at <= now)
    }

    /// When that will be, if nothing moves until then.
    fn given_up_at(&self) -> Option<Instant> {
        let limit = match self.state {
            State::SynSent | State::SynReceived => SYN_TIMEOUT,
            _ => Duration::from_millis(u64::from(self.wishes.user_timeout_ms)),
        };
        let stuck = self.timers.stuck_since;
        let since = if self.outstanding() == 0 || self.snd.wnd == 0 { stuck.max(self.timers.heard_at) } else { stuck };
        (stuck != Instant::ZERO).then(|| since + limit)
    }

    /// A timer that is backed off may run for longer than the application wants to wait: it ends when that is over. So
    /// the connection is given up in time; and a peer whose window is closed is asked in time whether it is still there.
    /// (Linux: tcp_clamp_rto_to_user_timeout, tcp_clamp_probe0_to_user_timeout.)
    ///
    /// Of a SYN the limit is the least, and the last one has its whole time.
    pub(super) fn clamp_send_timer(&mut self) {
        if self.timers.send_at != Instant::ZERO
            && !matches!(self.state, State::SynSent | State::SynReceived)
            && let Some(at) = self.given_up_at()
        {
            self.timers.send_at = self.timers.send_at.min(at);
        }
    }

    fn expire_idle_timer(&mut self, now: Instant, shared: &mut Shared) -> Option<End> {
        if self.state == State::FinWait2 && !self.active {
            let idle = now.since(self.timers.heard_at);
            if idle >= shared.config.fin_wait_2 {
                shared.counters.timed_out += 1;
                return Some(End::TimedOut);
            }
            self.timers.idle_at = self.timers.heard_at + shared.config.fin_wait_2;
            return None;
        }
        self.keep_alive(now, shared)
    }

    /// RFC 9293, section 3.8.4 (MAY-5, SHLD-12): keep-alives, without data.
    fn keep_alive(&mut self, now: Instant, shared: &mut Shared) -> Option<End> {
        let idle = Duration::from_secs(u64::from(self.wishes.keep_alive_s));
        if idle.is_zero() {
            return None;
        }
        let interval = KEEP_ALIVE_INTERVAL.min(idle);
        let due = self.timers.heard_at + idle + interval * u32::from(self.timers.keep_alive_probes);
        // RFC 9293, section 3.8.4 (MUST-26): keep-alives MUST only be sent when no sent data is outstanding, and no
        // data or acknowledgment packets have been received for the connection within an interval.
        if self.outstanding() > 0 || due > now {
            self.timers.idle_at = if due > now { due } else { now + Duration::from_secs(1) };
            return None;
        }
        if self.is_silence_the_end(now) {
            shared.counters.timed_out += 1;
            return Some(End::TimedOut);
        }
        if self.timers.keep_alive_probes > 0 {
            // Perhaps it is only the way that is wrong.
            self.timers.doubts_way = true;
        }
        self.timers.keep_alive_probes = self.timers.keep_alive_probes.saturating_add(1);
        shared.counters.keep_alives += 1;
        self.timers.probe = Probe::Window;
        self.timers.idle_at = now + interval;
        None
    }

    /// Whether keep-alives have been without an answer for so long that the peer is gone.
    ///
    /// RFC 9293, section 3.8.4 (MUST-29): a TCP MUST NOT interpret failure to respond to any specific probe as a dead
    /// connection: it takes nine. A user timeout takes their place (Linux: tcp_keepalive_timer): the connection ends when a
    /// probe is due after as long a silence, and one was sent. [`USER_TIMEOUT`] does not: it is what holds if nobody says
    /// otherwise, and would end a connection after the first of the usual keep-alives.
    fn is_silence_the_end(&self, now: Instant) -> bool {
        let timeout = Duration::from_millis(u64::from(self.wishes.user_timeout_ms));
        if timeout == USER_TIMEOUT {
            return self.timers.keep_alive_probes >= KEEP_ALIVE_PROBES;
        }
        self.timers.keep_alive_probes > 0 && now.since(self.timers.heard_at) >= timeout
    }

    /// Starts or stops keep-alives, as the application wants.
    ///
    /// RFC 9293, section 3.8.4 (MUST-24, MUST-25, MUST-27): for each connection, and off by default.
    pub(super) fn arm_keep_alive(&mut self, now: Instant) {
        // In FIN-WAIT-2 too, where the peer may have more to say for as long as it likes.
        let speaks = matches!(self.state, State::Established | State::CloseWait)
            || (self.state == State::FinWait2 && self.active);
        if !speaks {
            return;
        }
        self.timers.idle_at = match self.wishes.keep_alive_s {
            0 => Instant::ZERO,
            seconds => now + Duration::from_secs(u64::from(seconds)),
        };
    }
}
