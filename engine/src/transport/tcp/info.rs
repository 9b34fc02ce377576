//! What can be told about a connection, as `ss` tells it.

use std::time::Duration;

use super::congestion;
use super::reassembly::Gaps;
use super::state::State;
use super::tcb::Phase;
use super::{Tcp, Trouble};
use crate::base::Instant;
use crate::wire::ip::IpAddress;

/// A connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Our address and port.
    pub local: (IpAddress, u16),
    /// The peer's.
    pub remote: (IpAddress, u16),
    /// Its state.
    pub state: State,
    /// Received and not taken by the application, bytes.
    pub receive_queue: u32,
    /// Held behind gaps, bytes.
    pub out_of_order: u32,
    /// Queued and not acknowledged, bytes.
    pub send_queue: u32,
    /// Of these, sent: bytes under way as far as is known.
    pub in_flight: u32,
    /// Congestion window and slow start threshold, bytes.
    pub cwnd: u32,
    /// `u32::MAX` before the first congestion.
    pub ssthresh: u32,
    /// What the window is doing.
    pub congestion: congestion::Phase,
    /// How far the repair of losses is.
    pub recovery: Phase,
    /// The peer's window and ours, bytes.
    pub send_window: u32,
    /// See `send_window`.
    pub receive_window: u32,
    /// Text in a segment of ours at most, bytes.
    pub mss: u16,
    /// Smoothed round-trip time, its variation, and the least one.
    pub srtt: Option<Duration>,
    /// See `srtt`.
    pub rttvar: Option<Duration>,
    /// See `srtt`.
    pub min_rtt: Option<Duration>,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Segments sent again.
    pub retransmits: u32,
    /// Time since something acceptable came from the peer.
    pub idle: Duration,
    /// Whether timestamps, SACK, window scaling and ECN were agreed on.
    pub timestamps: bool,
    /// See `timestamps`.
    pub sack: bool,
    /// See `timestamps`.
    pub window_scaling: bool,
    /// See `timestamps`.
    pub ecn: bool,
    /// Trouble that it lives through.
    pub trouble: Option<Trouble>,
    /// Chunks of packet memory that it holds.
    pub chunks: u32,
}

impl Tcp {
    /// Every connection that has a control block. Looks at all places: for tools, not for every turn.
    pub fn connections(&self, now: Instant) -> impl Iterator<Item = ConnectionInfo> {
        (0..self.places()).filter_map(move |place| self.connection(place, now))
    }

    /// Places of connections that were ever used. Every connection is in one below.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.tables.connections.places()
    }

    /// The connection in a place, if there is one.
    #[must_use]
    pub fn connection(&self, place: u32, now: Instant) -> Option<ConnectionInfo> {
        self.tables.connections.get(place).map(|tcb| ConnectionInfo {
            local: tcb.tuple.local,
            remote: tcb.tuple.remote,
            state: tcb.state,
            receive_queue: tcb.rcv.queued,
            out_of_order: tcb.rcv.out_of_order.get(&self.shared.gaps).map_or(0, Gaps::bytes),
            send_queue: tcb.snd.queued,
            in_flight: tcb.in_flight(),
            cwnd: tcb.congestion.window(),
            ssthresh: tcb.congestion.ssthresh(),
            congestion: tcb.congestion.phase(),
            recovery: tcb.recovery.phase,
            send_window: tcb.snd.wnd,
            receive_window: tcb.receive_window(),
            mss: tcb.snd.mss,
            srtt: tcb.rtt.srtt(),
            rttvar: tcb.rtt.rttvar(),
            min_rtt: tcb.rtt.min_rtt(),
            rto: tcb.rtt.rto(),
            retransmits: tcb.recovery.retransmits,
            idle: now.since(tcb.timers.heard_at),
            timestamps: tcb.ts.on,
            sack: tcb.sack_ok,
            window_scaling: tcb.snd.scaled,
            ecn: tcb.ecn.on,
            trouble: tcb.soft_error,
            chunks: tcb.holdings().send + tcb.holdings().receive,
        })
    }
}
