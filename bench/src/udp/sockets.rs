//! The sender that is an ordinary program: one thread, one connected UDP socket, batches of up to 64.
//!
//! It tops out near 0.5 Mpps, and then measures itself: for rates that load a fast server take live frames.
//! Open loop sends by due times, whatever comes back; closed loop keeps a window of requests outstanding
//! (1 is ping-pong), so that its rate is the server's.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::frame::{self, STAMP_LEN};
use super::trial::{Offer, Outcome};
use crate::error::{Context, Result};
use crate::histogram::Latency;
use crate::mmsg::{self, BATCH, Datagrams};
use crate::netns::Family;
use crate::signals::{self, monotonic_ns};

/// Socket buffers: 8192 small datagrams, like the rings of an AF_XDP server.
const BUFFER_BYTES: u32 = 8 << 20;
/// A closed loop counts requests without a reply as lost after this long, and goes on.
const LOST_AFTER_NS: u64 = 100_000_000;
/// After the last request, how long replies are waited for.
const DRAIN_NS: u64 = 100_000_000;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// By due times.
    Open,
    /// As long as fewer than this many are outstanding.
    Closed(u64),
}

/// A connected socket and its counters.
pub(crate) struct Sockets {
    socket: UdpSocket,
    target: SocketAddr,
    outgoing: Datagrams,
    incoming: Datagrams,
    trial: u32,
}

/// Where a trial stands.
struct Progress {
    start_ns: u64,
    sent: u64,
    received: u64,
    stale: u64,
    /// Requests that a closed loop gave up on; their replies, if they come, are still counted.
    given_up: u64,
    last_sent_ns: u64,
    last_received_ns: u64,
    latency: Latency,
}

impl Sockets {
    /// Binds to `source` and connects to `target`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub(crate) fn open(source: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = mmsg::socket(source, BUFFER_BYTES).context(|| format!("cannot open a socket on {source}"))?;
        socket.connect(target).context(|| format!("cannot connect to {target}"))?;
        let trial = (monotonic_ns() >> 10) as u32;
        Ok(Self { socket, target, outgoing: Datagrams::new(), incoming: Datagrams::new(), trial })
    }

    /// Sends what is offered and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused to send or receive; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer, mode: Loop) -> Result<Outcome> {
        self.trial = self.trial.wrapping_add(1);
        let payload_len = offer.frame_len - frame::headers_len(Family::of(self.target));
        let interval_ns = offer.rate_pps.map_or(0.0, |rate| 1e9 / rate);
        let start_ns = monotonic_ns();
        let end_ns = start_ns + offer.duration.as_nanos() as u64;
        let mut at = Progress {
            start_ns,
            sent: 0,
            received: 0,
            stale: 0,
            given_up: 0,
            last_sent_ns: start_ns,
            last_received_ns: start_ns,
            latency: Latency::new(),
        };
        let mut now = start_ns;
        while now < end_ns && !signals::stopping() {
            let due = at.due(mode, now, interval_ns);
            self.send(&mut at, due, payload_len, mode, interval_ns, now).context(|| "cannot send".into())?;
            self.receive(&mut at).context(|| "cannot receive".into())?;
            now = monotonic_ns();
        }
        let send_ns = now - start_ns;
        while at.received < at.sent && monotonic_ns() < now + DRAIN_NS && !signals::stopping() {
            self.receive(&mut at).context(|| "cannot receive".into())?;
        }
        let window_ns = send_ns.max(at.last_received_ns - start_ns).max(1);
        Ok(Outcome {
            asked_pps: offer.rate_pps,
            sent: at.sent,
            received: at.received,
            stale: at.stale,
            deferred: 0,
            attacked: 0,
            seconds: Duration::from_nanos(send_ns).as_secs_f64(),
            goodput_pps: at.received as f64 * 1e9 / window_ns as f64,
            latency: at.latency,
        })
    }

    /// Sends up to `count` requests in one system call, each with its due time.
    fn send(
        &mut self,
        at: &mut Progress,
        count: usize,
        payload_len: usize,
        mode: Loop,
        interval_ns: f64,
        now: u64,
    ) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        for index in 0..count {
            let sequence = at.sent + index as u64;
            let due_ns = match mode {
                Loop::Open if interval_ns > 0.0 => at.start_ns + (sequence as f64 * interval_ns) as u64,
                _ => now,
            };
            let stamp = &mut self.outgoing.prepare(index, payload_len)[..STAMP_LEN];
            stamp[..4].copy_from_slice(&self.trial.to_ne_bytes());
            stamp[4..12].copy_from_slice(&sequence.to_ne_bytes());
            stamp[12..20].copy_from_slice(&due_ns.to_ne_bytes());
        }
        at.sent += self.outgoing.send(self.socket.as_fd(), count)? as u64;
        at.last_sent_ns = now;
        Ok(())
    }

    /// Takes in what has come, up to one batch.
    fn receive(&mut self, at: &mut Progress) -> io::Result<()> {
        let count = self.incoming.receive(self.socket.as_fd(), BATCH)?;
        if count == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        for index in 0..count {
            match self.incoming.received(index) {
                reply if reply.len() >= STAMP_LEN && reply[..4] == self.trial.to_ne_bytes() => {
                    let due_ns = u64::from_ne_bytes(reply[12..20].try_into().unwrap_or_default());
                    at.latency.record(now.saturating_sub(due_ns));
                    at.received += 1;
                    at.last_received_ns = now;
                }
                _ => at.stale += 1,
            }
        }
        Ok(())
    }
}

impl Progress {
    /// Requests that should be sent now, up to one batch.
    fn due(&mut self, mode: Loop, now: u64, interval_ns: f64) -> usize {
        let room = match mode {
            Loop::Open if interval_ns > 0.0 => {
                let due = ((now - self.start_ns) as f64 / interval_ns) as u64 + 1;
                due.saturating_sub(self.sent)
            }
            Loop::Open => BATCH as u64,
            Loop::Closed(window) => {
                let outstanding = self.sent.saturating_sub(self.received + self.given_up);
                if outstanding >= window && now > self.last_sent_ns.max(self.last_received_ns) + LOST_AFTER_NS {
                    self.given_up += outstanding;
                    window
                } else {
                    window.saturating_sub(outstanding)
                }
            }
        };
        room.min(BATCH as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(sent: u64, received: u64) -> Progress {
        let (stale, given_up, latency) = (0, 0, Latency::new());
        Progress {
            start_ns: 1000,
            sent,
            received,
            stale,
            given_up,
            last_sent_ns: 1000,
            last_received_ns: 1000,
            latency,
        }
    }

    #[test]
    fn an_open_loop_sends_what_is_due_whatever_came_back() {
        assert_eq!(progress(0, 0).due(Loop::Open, 1000, 100.0), 1, "the first is due at the start");
        assert_eq!(progress(1, 0).due(Loop::Open, 1099, 100.0), 0);
        assert_eq!(progress(1, 0).due(Loop::Open, 1300, 100.0), 3);
        assert_eq!(progress(0, 0).due(Loop::Open, 1_000_000, 100.0), BATCH, "a stall is caught up in batches");
    }

    #[test]
    fn a_closed_loop_keeps_its_window_and_gives_up_on_lost_requests() {
        assert_eq!(progress(10, 7).due(Loop::Closed(4), 2000, 0.0), 1);
        assert_eq!(progress(10, 6).due(Loop::Closed(4), 2000, 0.0), 0);
        let mut stuck = progress(10, 6);
        assert_eq!(stuck.due(Loop::Closed(4), 1001 + LOST_AFTER_NS, 0.0), 4);
        assert_eq!(stuck.given_up, 4);
    }
}
