//! The sender of frames that are too long to be live ones: a UDP socket, with the replies received where those to live
//! frames are.
//!
//! So the generator's core only sends, and the servers' replies cost the same as in any other comparison. Even so a
//! socket is no faster than a server: of each datagram several frames are made (bpf/multiply.bpf.c). What can be sent
//! at most is told by a trial that is generator-limited.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use libbpf_rs::{Link, MapCore, MapFlags, Object};

use super::frame::{self, Path, STAMP_LEN};
use super::receiver::{Expected, Hook, Receiver};
use super::trial::{Offer, Outcome};
use crate::bpf;
use crate::error::{Context, Result};
use crate::interface::Interface;
use crate::mmsg::{self, BATCH, Datagrams};
use crate::netns::Family;
use crate::signals::{self, monotonic_ns};

/// Room for a batch of the longest frames, many times over: what limits is the core.
const BUFFER_BYTES: u32 = 16 << 20;

/// Time to tell the receiver of a trial before it begins.
const LEAD_NS: u64 = 1_000_000;

/// Frames that are made of each datagram where throughput is measured.
const FRAMES: u32 = 8;

/// Sender and receiver on one interface.
pub(crate) struct SocketFrames {
    socket: UdpSocket,
    outgoing: Datagrams,
    receiver: Receiver,
    // Before the object: the link goes first.
    _link: Link,
    multiply: Object,
    path: Path,
    trial: u32,
}

impl SocketFrames {
    /// Opens the socket, and attaches the receiver to the interface.
    ///
    /// # Errors
    /// What [`Receiver::attach`] says, or the kernel of the socket.
    pub(crate) fn open(interface: &Interface, path: Path, hook: Hook) -> Result<Self> {
        let receiver = Receiver::attach(interface.index, hook)?;
        let failed = || format!("cannot open a socket from {} to {}", path.source, path.target);
        let socket = mmsg::socket(path.source, BUFFER_BYTES).context(failed)?;
        socket.connect(path.target).context(failed)?;
        let multiply = bpf::load(bpf::MULTIPLY)?;
        let link = bpf::attach_tc(&bpf::program(&multiply, "multiply")?, interface.index.cast_signed())?;
        let trial = (monotonic_ns() >> 10) as u32;
        Ok(Self { socket, outgoing: Datagrams::new(), receiver, _link: link, multiply, path, trial })
    }

    /// Sends what is offered by due times, all of one length, and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer) -> Result<Outcome> {
        self.trial = self.trial.wrapping_add(1);
        let payload_len = offer.sizes.longest() - frame::headers_len(Family::of(self.path.target));
        // For latency frames come one by one.
        let frames = if offer.batch == 1 { 1 } else { FRAMES };
        bpf::map(&self.multiply, "copies")?
            .update(&[0; 4], &(frames - 1).to_ne_bytes(), MapFlags::ANY)
            .context(|| "cannot say how many frames to make of a datagram".into())?;
        // Between two datagrams.
        let interval_ns = offer.rate_pps.map_or(0.0, |rate| 1e9 / rate * f64::from(frames));
        let duration_ns = offer.duration.as_nanos() as u64;
        self.receiver.clear(duration_ns)?;
        let start_ns = monotonic_ns() + LEAD_NS;
        let (trial, server_port, copies) = (self.trial, self.path.target.port(), frames > 1);
        self.receiver.expect(&Expected { trial, server_port, sample_mask: 0, copies, start_ns })?;
        let end_ns = start_ns + duration_ns;
        let mut sent = 0;
        let mut now = monotonic_ns();
        while now < start_ns {
            now = monotonic_ns();
        }
        while now < end_ns && !signals::stopping() {
            let due = if interval_ns > 0.0 { ((now - start_ns) as f64 / interval_ns) as u64 + 1 } else { u64::MAX };
            let count =
                due.saturating_sub(sent).min(u64::from(offer.batch.div_ceil(frames)).min(BATCH as u64)) as usize;
            for index in 0..count {
                let sequence = sent + index as u64;
                let due_ns = if interval_ns > 0.0 { start_ns + (sequence as f64 * interval_ns) as u64 } else { now };
                let stamp = &mut self.outgoing.prepare(index, payload_len)[..STAMP_LEN];
                stamp[..4].copy_from_slice(&self.trial.to_ne_bytes());
                stamp[4..12].copy_from_slice(&sequence.to_ne_bytes());
                stamp[12..].copy_from_slice(&due_ns.to_ne_bytes());
            }
            if count > 0 {
                sent += self.outgoing.send(self.socket.as_fd(), count).context(|| "cannot send".into())? as u64;
            }
            now = monotonic_ns();
        }
        let sent = sent * u64::from(frames);
        let tally = self.receiver.drain(sent)?;
        let send_ns = now - start_ns;
        let window_ns = send_ns.max(tally.last_ns.saturating_sub(start_ns)).max(1);
        Ok(Outcome {
            asked_pps: offer.rate_pps,
            sent,
            received: tally.received,
            received_bytes: tally.received_bytes,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            stale: tally.stale,
            attacked: 0,
            seconds: send_ns as f64 / 1e9,
            window_seconds: window_ns as f64 / 1e9,
            slices: tally.course(send_ns),
            latency: tally.latency,
            from_sending: None,
            adherence: None,
        })
    }
}
