//! Segment scripts: TCP against a peer that is written by hand, segment by segment.
//!
//! ```text
//!   for mut s in established() {                  numbers wrap at another place in each round
//!       s.peer_sends(seg(1, 1).len(500).psh());   500 bytes from the peer
//!       s.at(50);                                 nothing comes out before 50 ms ...
//!       s.expect(seg(1, 501));                    ... and then exactly this
//!   }
//! ```
//!
//! Sequence numbers are relative: 0 is the SYN, 1 the first byte of text. Absolute, both sides begin shortly before
//! 2^32, so every script that sends more than a byte wraps, in the handshake, in the first segments, or later on; and
//! so do the timestamps of both. Times are milliseconds since the script began. What a script does not expect is a
//! failure, and so is a segment too early or too late.
//!
//! Each script runs with a device that takes segment by segment, and with one that cuts up packets of several: what comes
//! out is the same.
//!
//! After each step the books are audited ([`Tcp::audit`](super::Tcp::audit)), and all packet memory is accounted for.

mod application;
mod script;
mod seg;

mod acceptance;
mod closing;
mod congestion;
mod duplicates;
mod flood;
mod games;
mod network;
mod opening;
mod options;
mod receiving;
mod selective;
mod sending;
mod steps;
mod time_waiting;
mod timeouts;
mod urgent;

use std::net::Ipv4Addr;

use crate::wire::ip::IpAddress;

use application::{answer_to, our_syn};
use script::{Script, Told};
use seg::{Seg, rst, rst_for, seg, syn, syn_ack};

use super::TcpConfig;
use crate::wire::checksum::pseudo_header;
use crate::wire::seq::SeqNum;

/// Our end.
const OUR: (IpAddress, u16) = (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1)), 7);
/// The peer's.
const PEER: (IpAddress, u16) = (IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2)), 40_000);
/// The MSS that the peer offers unless a script says otherwise.
const MSS: u16 = 1000;
/// Chunks of packet memory.
const CHUNKS: u32 = 1024;
/// Distances to 2^32 at which both sides begin: the SYN is the last number but one; the first segment wraps; a later.
const BEGINNINGS: [u32; 3] = [2, 1000, 20_000];

/// Where each side's numbers and clocks begin.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    ours: SeqNum,
    peers: SeqNum,
    our_ts: u32,
    peer_ts: u32,
}

/// Puts the checksum of the peer's segment in its place.
fn fill_checksum(bytes: &mut [u8]) {
    bytes[16..18].fill(0);
    let pseudo = pseudo_header(PEER.0, OUR.0, crate::wire::ipv4::TCP, bytes.len() as u16);
    let checksum = pseudo.add_bytes(bytes).checksum();
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// Scripts before their first segment, listening on our port.
fn scripts() -> impl Iterator<Item = Script> {
    scripts_with(|_| ())
}

/// The same, configured differently.
fn scripts_with(change: impl Fn(&mut TcpConfig)) -> impl Iterator<Item = Script> {
    let ways = BEGINNINGS.into_iter().flat_map(|beginning| [false, true].map(|joined| (beginning, joined)));
    ways.map(move |(beginning, joined)| {
        let mut config = TcpConfig {
            ports: vec![OUR.1],
            connections: 8,
            backlog: 4,
            time_wait: 4,
            receive_buffer: 65_535,
            send_buffer: 200_000,
            chunks: CHUNKS,
            source_ports: OUR.1..=OUR.1,
            ..TcpConfig::default()
        };
        change(&mut config);
        Script::new(config, beginning, joined)
    })
}

/// Connections that the peer opened at 0 ms, with a round trip of 10 ms, and with nothing but an MSS of 1,000.
fn established() -> impl Iterator<Item = Script> {
    established_by(syn().mss(MSS))
}

/// The same, with a SYN of the script's.
fn established_by(syn: Seg) -> impl Iterator<Item = Script> {
    established_with(|_| (), syn)
}

/// The same, configured differently.
fn established_with(change: impl Fn(&mut TcpConfig), syn: Seg) -> impl Iterator<Item = Script> {
    scripts_with(change).map(move |mut s| {
        s.accept(syn.clone());
        s
    })
}

/// Scripts in which nobody listens, for connections that we open.
fn callers() -> impl Iterator<Item = Script> {
    scripts_with(|config| config.ports.clear())
}
