//! Peers that send all that they are told there is room for, and take nothing of what comes back: little of it may be
//! dropped for lack of memory, however little there is, and when they take it, every connection goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use barewire::base::DropReason;
use barewire::transport::tcp::TcpConfig;
use barewire_tests::sim::tcp::peer::{Host, Peer, flag, port};

/// An MSS of 1,460, windows shifted by 7, SACK.
const OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 7, 1, 1, 4, 2];
/// Windows of the host are shifted by so much, with a buffer of a megabyte.
const SHIFT: u32 = 5;
/// The first port of the peers.
const FIRST: u16 = 20_000;
/// Rounds in which everything has come back once peers take it.
const ROUNDS: u32 = 20_000;

/// A peer that sends as much as it may.
struct Greedy {
    peer: Peer,
    /// The numbers where it began, that are acknowledged, and that the window ends at.
    begin: u32,
    acked: u32,
    edge: u32,
}

impl Greedy {
    /// Sends pieces of `len` bytes as long as they fit into the window, but for some; says how many.
    fn send(&mut self, host: &mut Host, len: u32, most: u32) -> u64 {
        let mut pieces = 0;
        while pieces < most && self.edge.wrapping_sub(self.peer.seq).cast_signed() >= len.cast_signed() {
            host.send(&self.peer, flag::ACK, &vec![7; len as usize]);
            self.peer.seq = self.peer.seq.wrapping_add(len);
            pieces += 1;
        }
        pieces.into()
    }
}

struct Crowd {
    host: Host,
    peers: BTreeMap<u16, Greedy>,
}

impl Crowd {
    /// So many connections to a host with so many bytes of memory for TCP.
    fn new(connections: u16, memory: u32) -> Self {
        let tcp = TcpConfig { connections: u32::from(connections) + 1, ..TcpConfig::default() };
        let mut crowd = Self { host: Host::new(tcp, 2 * memory / 2048), peers: BTreeMap::new() };
        for from in FIRST..FIRST + connections {
            let mut peer = crowd.host.open(from, port::ECHO, &OPTIONS);
            // Nothing that it sends from now on says that it has room.
            peer.window = 0;
            let seq = peer.seq;
            crowd.peers.insert(from, Greedy { peer, begin: seq, acked: seq, edge: seq });
            crowd.host.send(&peer, flag::ACK, &[]);
            crowd.read(false);
        }
        // The first window is told by the first acknowledgment, and that is owed to the first text.
        for from in FIRST..FIRST + connections {
            let greedy = crowd.peers.get_mut(&from).unwrap();
            greedy.edge = greedy.peer.seq.wrapping_add(crowd.host.connection(from).unwrap().receive_window);
        }
        crowd
    }

    /// Reads what the host sent; takes its text, if that is wanted.
    fn read(&mut self, takes: bool) {
        for sent in self.host.take() {
            let (Some(greedy), Some(ack)) = (self.peers.get_mut(&sent.port), sent.ack) else { continue };
            if sent.syn {
                continue;
            }
            let edge = ack.wrapping_add(u32::from(sent.window) << SHIFT);
            assert!(edge.wrapping_sub(greedy.edge).cast_signed() >= -(1 << SHIFT), "the window shrank");
            (greedy.acked, greedy.edge) = (ack, edge);
            if takes && sent.seq == greedy.peer.ack {
                greedy.peer.ack = greedy.peer.ack.wrapping_add(sent.text.len() as u32);
            }
        }
    }

    /// Has all send as long as any may, in turns; says how many pieces were sent.
    fn fill(&mut self, len: u32) -> u64 {
        let (mut pieces, mut before) = (0, u64::MAX);
        while pieces != before {
            before = pieces;
            for from in FIRST..FIRST + self.peers.len() as u16 {
                pieces += self.peers.get_mut(&from).unwrap().send(&mut self.host, len, 4);
                self.read(false);
            }
            self.host.wait(Duration::from_millis(1));
            self.read(false);
        }
        pieces
    }

    /// Has all take what comes until everything that they sent has come back.
    fn drain(&mut self) {
        let isn = |greedy: &Greedy| greedy.peer.seq.wrapping_sub(greedy.begin);
        let echoes: BTreeMap<u16, u32> = self.peers.iter().map(|(&from, greedy)| (from, greedy.peer.ack)).collect();
        for _ in 0..ROUNDS {
            let mut left = 0;
            for from in FIRST..FIRST + self.peers.len() as u16 {
                let greedy = self.peers.get_mut(&from).unwrap();
                greedy.peer.window = u16::MAX;
                let missing = greedy.peer.seq.wrapping_sub(greedy.acked);
                let (mut again, len) = (greedy.peer, missing.min(1460));
                again.seq = greedy.acked;
                self.host.send(&again, flag::ACK, &vec![7; len as usize]);
                self.read(true);
                let greedy = &self.peers[&from];
                left += isn(greedy) - greedy.peer.ack.wrapping_sub(echoes[&from]);
            }
            if left == 0 {
                return;
            }
            self.host.wait(Duration::from_millis(10));
            self.read(true);
        }
        let stuck =
            self.peers.values().filter(|greedy| isn(greedy) != greedy.peer.ack.wrapping_sub(echoes[&greedy.peer.port]));
        panic!("{} connections do not go on", stuck.count());
    }
}

#[test]
fn what_greedy_peers_were_told_has_room_and_all_go_on() {
    const MIB: u32 = 1 << 20;
    for (connections, memory) in [(1, MIB), (40, 16 * MIB), (4, MIB / 4), (100, 4 * MIB)] {
        for len in [1460, 700, 300] {
            let mut crowd = Crowd::new(connections, memory);
            let pieces = crowd.fill(len);
            let dropped = crowd.host.dropped(DropReason::TcpNoMemory);
            println!("{connections} with {memory} bytes: {pieces} pieces of {len}, {dropped} dropped");
            assert!(
                dropped * 50 <= pieces,
                "{connections} with {memory}: of {pieces} pieces of {len} {dropped} were dropped"
            );
            crowd.drain();
        }
    }
}
