//! A router whose way through takes less than the links at either side, written from RFC 791, RFC 1191 and RFC 8201.

use super::super::frames;
use super::super::tcp::Side;
use super::super::too_long::Manner;
use super::{ROUTER_MAC, router_address};

/// "Don't fragment" and "more fragments" of IPv4.
const DONT_FRAGMENT: u16 = 0x4000;
const MORE: u16 = 0x2000;
/// Bytes of an IPv4 header without options, and of an IPv6 header.
const V4_LEN: usize = 20;
const V6_LEN: usize = 40;

/// Packets, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passages {
    /// Passed on as they were.
    pub whole: u64,
    /// Passed on in fragments.
    pub cut: u64,
    /// Dropped, and their sender told.
    pub told: u64,
    /// Dropped without a word.
    pub swallowed: u64,
}

/// A router.
#[derive(Debug)]
pub struct Router {
    /// Longest packet that it passes on, bytes.
    pub mtu: usize,
    /// What it does with others that must not be cut.
    pub manner: Manner,
    /// What it has done.
    pub passages: Passages,
    identification: u16,
}

impl Router {
    /// A router that has seen nothing yet.
    #[must_use]
    pub fn new(mtu: usize, manner: Manner) -> Self {
        Self { mtu, manner, passages: Passages::default(), identification: 0 }
    }

    /// Takes a frame from a host: frames to be put on the links, and whose.
    ///
    /// # Panics
    /// If what the host sent is no sound packet to the other one.
    pub fn take(&mut self, from: Side, frame: &[u8]) -> Vec<(Side, Vec<u8>)> {
        if frames::mac(frame) != ROUTER_MAC {
            // Reports and announcements to groups.
            assert!(frame[0] & 1 == 1, "a frame to nobody: {frame:02x?}");
            return Vec::new();
        }
        let packet = packet_in(frame);
        let to = from.other();
        if packet.len() <= self.mtu {
            self.passages.whole += 1;
            return vec![(to, on_link(to, &aged(packet)))];
        }
        let is_v4 = packet[0] >> 4 == 4;
        let may_cut = is_v4 && (u16::from_be_bytes([packet[6], packet[7]]) & DONT_FRAGMENT == 0);
        if may_cut || is_v4 && self.manner == Manner::Cuts {
            self.passages.cut += 1;
            return self.cut(&aged(packet)).into_iter().map(|piece| (to, on_link(to, &piece))).collect();
        }
        let Some(report) = self.manner.report(router_address(from, is_v4), packet, self.mtu as u16) else {
            self.passages.swallowed += 1;
            return Vec::new();
        };
        self.passages.told += 1;
        vec![(from, on_link(from, &report))]
    }

    /// RFC 791, section 3.2: the pieces of a packet, which may be a fragment itself.
    fn cut(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let field = u16::from_be_bytes([packet[6], packet[7]]);
        let (offset, more) = (usize::from(field & 0x1fff) * 8, field & MORE != 0);
        let (header, payload) = packet.split_at(V4_LEN);
        let room = (self.mtu - V4_LEN) & !7;
        let starts = (0..payload.len()).step_by(room);
        // What was not to be cut may have no identification: those of two packets must not be mixed up.
        let is_marked = field & DONT_FRAGMENT != 0 && field & 0x1fff == 0 && !more;
        if is_marked {
            self.identification = self.identification.wrapping_add(1);
        }
        starts
            .map(|start| {
                let part = &payload[start..payload.len().min(start + room)];
                let more = more || start + part.len() < payload.len();
                let field = ((offset + start) / 8) as u16 | if more { MORE } else { 0 };
                let mut piece = [header, part].concat();
                let len = (piece.len() as u16).to_be_bytes();
                piece[2..4].copy_from_slice(&len);
                if is_marked {
                    piece[4..6].copy_from_slice(&self.identification.to_be_bytes());
                }
                piece[6..8].copy_from_slice(&field.to_be_bytes());
                mend(&mut piece);
                piece
            })
            .collect()
    }
}

/// The packet in a frame, without what pads it.
fn packet_in(frame: &[u8]) -> &[u8] {
    let packet = &frame[14..];
    let len = match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => V6_LEN + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    };
    &packet[..len]
}

/// A packet with a hop less.
fn aged(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        mend(&mut packet);
    } else {
        packet[7] -= 1;
    }
    packet
}

/// Writes the checksum of an IPv4 header anew.
fn mend(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = frames::checksum(&packet[..V4_LEN]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn on_link(to: Side, packet: &[u8]) -> Vec<u8> {
    frames::with_packet(to.mac(), ROUTER_MAC, packet)
}
