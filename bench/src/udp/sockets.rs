//! The sender that is an ordinary program: one thread, one connected UDP socket, batches of up to 64; or, for many flows,
//! as many sockets, each with its own port. They take turns request by request, so that each costs a system call.
//!
//! It tops out near 0.5 Mpps, and then measures itself: for rates that load a fast server take live frames.
//! Open loop sends by due times, whatever comes back; closed loop keeps a window of requests outstanding
//! (1 is ping-pong), so that its rate is the server's.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use super::frame;
use super::progress::{DRAIN_NS, Progress};
use super::sizes::Sizes;
use super::trial::{Offer, Outcome};
use crate::epoll::{self, Epoll};
use crate::error::{Context, Result};
use crate::mmsg::{self, BATCH, Datagrams};
use crate::netns::Family;
use crate::result::Timestamps;
use crate::signals::{self, monotonic_ns, realtime_ns};
use crate::tcp::socket::allow_files;

/// Socket buffers: 8192 small datagrams, like the rings of an AF_XDP server.
const BUFFER_BYTES: u32 = 8 << 20;
/// Files that this program has open beside its sockets, amply.
const OTHER_FILES: usize = 64;

/// Connected sockets and what goes through them.
pub(crate) struct Sockets {
    sockets: Vec<UdpSocket>,
    /// Tells which have received something, where there are several.
    ready: Option<Epoll>,
    target: SocketAddr,
    outgoing: Datagrams,
    incoming: Datagrams,
    /// Whether the kernel tells when it received each reply.
    timed: bool,
    trial: u32,
}

impl Sockets {
    /// Binds to `flows` ports, from that of `source` on, and connects all to `target`.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub(crate) fn open(source: SocketAddr, target: SocketAddr, flows: u16) -> Result<Self> {
        allow_files(usize::from(flows) + OTHER_FILES).context(|| {
            format!("this process may not have {flows} sockets open: fewer --flows, or a higher limit (`ulimit -n`)")
        })?;
        let (mut sockets, mut timed) = (Vec::with_capacity(flows.into()), true);
        for port in (source.port()..).take(flows.into()) {
            let source = SocketAddr::new(source.ip(), port);
            let socket = mmsg::socket(source, BUFFER_BYTES).context(|| format!("cannot open a socket on {source}"))?;
            socket.connect(target).context(|| format!("cannot connect to {target}"))?;
            timed &= mmsg::ask_for_arrival_times(socket.as_fd()).is_ok();
            sockets.push(socket);
        }
        let ready = if flows > 1 { Some(watch(&sockets).context(|| "cannot make an epoll".into())?) } else { None };
        let trial = (monotonic_ns() >> 10) as u32;
        Ok(Self { sockets, ready, target, outgoing: Datagrams::new(), incoming: Datagrams::new(), timed, trial })
    }

    /// Where the moment of a reply's arrival comes from.
    pub(crate) const fn timestamps(&self) -> Timestamps {
        if self.timed { Timestamps::Kernel } else { Timestamps::Program }
    }

    /// Sends what is offered and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused to send or receive; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer) -> Result<Outcome> {
        self.trial = self.trial.wrapping_add(1);
        let headers_len = frame::headers_len(Family::of(self.target));
        let start_ns = monotonic_ns();
        let duration_ns = offer.duration.as_nanos() as u64;
        let mut at =
            Progress::new(self.trial, offer.arrivals, offer.rate_pps, start_ns, duration_ns).up_to(offer.limit);
        let mut now = start_ns;
        while now < start_ns + duration_ns && !at.is_complete() && !signals::stopping() {
            at.take_due(now);
            self.send(&mut at, (offer.sizes, headers_len)).context(|| "cannot send".into())?;
            self.receive(&mut at).context(|| "cannot receive".into())?;
            now = monotonic_ns();
            at.tick(now);
        }
        let send_ns = now - start_ns;
        while at.is_awaiting() && monotonic_ns() < now + DRAIN_NS && !signals::stopping() {
            self.receive(&mut at).context(|| "cannot receive".into())?;
        }
        Ok(at.outcome(offer.rate_pps, send_ns, headers_len))
    }

    /// Sends what waits, up to one batch, in one system call, each with its due time.
    fn send(&mut self, at: &mut Progress, (sizes, headers_len): (Sizes, usize)) -> io::Result<()> {
        let count = at.waiting().min(BATCH);
        if count == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        if self.sockets.len() > 1 {
            return self.send_in_turn(at, (sizes, headers_len), count);
        }
        for index in 0..count {
            let payload_len = sizes.len_of(at.sequence(index)) - headers_len;
            at.stamp(index, self.outgoing.prepare(index, payload_len), now);
        }
        let taken = self.outgoing.send(self.sockets[0].as_fd(), count)?;
        at.took(taken, now);
        Ok(())
    }

    /// Sends `count` requests, each from the port after that of the one before.
    fn send_in_turn(
        &mut self,
        at: &mut Progress,
        (sizes, headers_len): (Sizes, usize),
        count: usize,
    ) -> io::Result<()> {
        for _ in 0..count {
            let (sequence, now) = (at.sequence(0), monotonic_ns());
            let socket = &self.sockets[sequence as usize % self.sockets.len()];
            at.stamp(0, self.outgoing.prepare(0, sizes.len_of(sequence) - headers_len), now);
            if self.outgoing.send(socket.as_fd(), 1)? == 0 {
                break;
            }
            at.took(1, now);
        }
        Ok(())
    }

    /// Takes in what has come, up to one batch of each socket that has something, of 64 sockets at most.
    fn receive(&mut self, at: &mut Progress) -> io::Result<()> {
        let Some(epoll) = &mut self.ready else { return self.receive_from(0, at) };
        let ready = epoll.wait(0);
        for index in 0..ready {
            if let Some(socket) = self.ready.as_ref().map(|epoll| epoll.ready(index).token) {
                self.receive_from(socket, at)?;
            }
        }
        Ok(())
    }

    fn receive_from(&mut self, socket: usize, at: &mut Progress) -> io::Result<()> {
        let count = self.incoming.receive(self.sockets[socket].as_fd(), BATCH)?;
        if count == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        // Between the two clocks, now: one of them may be slewed or set.
        let apart_ns = realtime_ns().wrapping_sub(now);
        for index in 0..count {
            let arrived_ns = self.incoming.arrived_ns(index).map(|real_ns| real_ns.wrapping_sub(apart_ns));
            // A clock that was set in between makes nonsense: nothing came later than now.
            let arrived_ns = arrived_ns.filter(|arrived| *arrived <= now).unwrap_or(now);
            at.receive(self.incoming.received(index), arrived_ns);
        }
        Ok(())
    }
}

/// A set of all sockets, each by its place.
fn watch(sockets: &[UdpSocket]) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    sockets.iter().enumerate().try_for_each(|(at, socket)| epoll.add(socket.as_fd(), at, epoll::READABLE))?;
    Ok(epoll)
}
