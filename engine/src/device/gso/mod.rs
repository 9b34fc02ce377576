//! Generic segmentation offload where the kernel copies what is sent: segments of one connection that lie behind each
//! other in a burst are given to it as a single one, which it cuts up again, late or in the NIC.
//!
//! ```text
//!   burst    | eth ip tcp text | eth ip tcp text | eth ip tcp text |      three frames, each with its headers
//!                  |     \            |                |
//!   sendmsg  [virtio_net_hdr][eth ip tcp][text][text][text]               gathered from where the text lies
//! ```
//!
//! What is one packet of several segments already, because the stack was told that the device cuts them up, is only given on.
//!
//! Through the transmit ring each frame would be a packet of its own to the kernel, and on a virtual wire the peer's whole
//! receive path would run after each. Source: Documentation/networking/segmentation-offloads.rst of Linux, packet(7).

mod socket;

pub(super) use self::socket::PacketSocket;
use crate::base::{Burst, Umem};
use crate::wire::checksum::updated;
use crate::wire::tcp::{self, Flags};
use crate::wire::{ethernet, ipv4, ipv6};

/// The longest IP packet that every kernel cuts up (`GSO_LEGACY_MAX_SIZE`), bytes.
const MAX_PACKET: usize = 65_535;

/// Bytes of the longest headers: Ethernet without tags, IPv6, TCP with options.
const MAX_HEADER: usize = ethernet::LEN + ipv6::LEN + tcp::MAX_LEN;

/// Text of the shortest segments worth it, bytes: to look at smaller ones costs more than it saves.
const LEAST_TEXT: usize = 512;

/// Where IPv4's total length, IPv6's payload length and their neighbors lie, bytes from the IP header's start.
const V4_LENGTH: usize = 2;
const V4_IDENTIFICATION: usize = 4;
const V4_CHECKSUM: usize = 10;
const V4_ADDRESSES: usize = 12;
const V6_LENGTH: usize = 4;
const V6_NEXT_HEADER: usize = 6;
/// Likewise, from the TCP header's start.
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const URGENT: usize = 18;

/// Where the headers of a segment lie in its frame.
#[derive(Clone, Copy, Debug)]
struct Layout {
    is_v6: bool,
    tcp_at: usize,
    text_at: usize,
}

impl Layout {
    /// That of a frame with a segment of text, if it says nothing that only one segment of several may say.
    #[inline]
    fn of(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.get(ethernet::LEN..)?;
        let (is_v6, ip_len, protocol) = match bytes.get(12..ethernet::LEN)? {
            [0x08, 0x00] => {
                let header = packet.first_chunk()?;
                (false, ipv4::LEN, ipv4::is_plain(header).then(|| ipv4::protocol(header))?)
            }
            [0x86, 0xdd] => (true, ipv6::LEN, ipv6::next_header(packet.first_chunk()?)),
            _ => return None,
        };
        let segment = tcp::Packet::parse(packet.get(ip_len..)?).ok()?;
        let tcp_at = ethernet::LEN + ip_len;
        (protocol == ipv4::TCP && says_text(segment.flags())).then(|| Self {
            is_v6,
            tcp_at,
            text_at: tcp_at + segment.header_len(),
        })
    }

    /// Whether a segment says the same as the first one but for `behind` bytes of text that lie between their starts.
    fn continues(&self, first: &[u8], next: &[u8], behind: u32) -> bool {
        self.sequence(next) == self.sequence(first).map(|sequence| sequence.wrapping_add(behind))
            && next.len() > self.text_at
            && self.same_headers(first, next)
            && self.flags(next).is_some_and(says_text)
    }

    /// Whether the headers of two segments are the same but for what the kernel writes anew into each, and the control bits.
    fn same_headers(&self, first: &[u8], other: &[u8]) -> bool {
        let (ip, tcp) = (ethernet::LEN, self.tcp_at);
        let same = |from: usize, to: usize| first.get(from..to) == other.get(from..to);
        let same_ip = if self.is_v6 {
            same(ip, ip + V6_LENGTH) && same(ip + V6_NEXT_HEADER, tcp)
        } else {
            same(ip, ip + V4_LENGTH) && same(ip + V4_IDENTIFICATION, ip + V4_CHECKSUM) && same(ip + V4_ADDRESSES, tcp)
        };
        same(0, ip)
            && same_ip
            && same(tcp, tcp + SEQUENCE)
            && same(tcp + ACKNOWLEDGMENT, tcp + FLAGS)
            && same(tcp + WINDOW, tcp + CHECKSUM)
            && same(tcp + URGENT, self.text_at)
    }

    fn sequence(&self, bytes: &[u8]) -> Option<u32> {
        bytes.get(self.tcp_at + SEQUENCE..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn flags(&self, bytes: &[u8]) -> Option<Flags> {
        bytes.get(self.tcp_at + FLAGS).map(|&bits| Flags::new(bits))
    }
}

/// Whether a segment's control bits are those of text, the last or not.
fn says_text(flags: Flags) -> bool {
    flags.without(Flags::PSH) == Flags::ACK
}

/// Several segments as one.
#[derive(Debug)]
pub(super) struct Joined {
    /// Frames at the front of the burst.
    pub(super) frames: usize,
    /// Segments that they hold.
    pub(super) segments: usize,
    /// Their headers, as the one segment's.
    header: [u8; MAX_HEADER],
    layout: Layout,
    /// Text of each segment but the last, bytes.
    segment_len: usize,
}

impl Joined {
    /// The first frames of the burst that are segments of one connection, each the next of the one before it, and how many
    /// frames lie before them: all, if there are no two such frames.
    ///
    /// Or a packet of several segments already: a chain, unless `long_frames` says that chains are frames longer than a chunk.
    pub(super) fn first(burst: &Burst, long_frames: bool, umem: &Umem) -> (usize, Option<Self>) {
        for start in 0..burst.len() {
            if let Some(joined) = Self::at(start, burst, long_frames, umem) {
                return (start, Some(joined));
            }
        }
        (burst.len(), None)
    }

    #[inline]
    fn at(start: usize, burst: &Burst, long_frames: bool, umem: &Umem) -> Option<Self> {
        let mut frames = burst.iter().skip(start);
        let head = frames.next()?;
        let is_chain = umem.is_chain(head);
        if (usize::from(head.len()) < MAX_HEADER + LEAST_TEXT && !is_chain) || (is_chain && long_frames) {
            return None;
        }
        let first = umem.bytes(head);
        let layout = Layout::of(first)?;
        let text_at = layout.text_at;
        if is_chain {
            return Self::of((first, first), umem.packet_len(head), 1, layout);
        }
        let (mut count, mut end, mut last) = (1, first.len(), first);
        for frame in frames {
            let next = umem.bytes(frame);
            let is_next = last.len() == first.len()
                && layout.flags(last) == Some(Flags::ACK)
                && !umem.is_chain(frame)
                && layout.continues(first, next, (end - text_at) as u32)
                && next.len() <= first.len()
                && end + next.len() - text_at <= ethernet::LEN + MAX_PACKET;
            if !is_next {
                break;
            }
            (count, end, last) = (count + 1, end + next.len() - text_at, next);
        }
        if count < 2 {
            return None;
        }
        Self::of((first, last), end, count, layout)
    }

    /// So many frames, of which the first and the last have these bytes, as one whose text ends `end` bytes from its start.
    fn of((first, last): (&[u8], &[u8]), end: usize, frames: usize, layout: Layout) -> Option<Self> {
        let segment_len = first.len().checked_sub(layout.text_at).filter(|&len| len > 0)?;
        let segments = (end - layout.text_at).div_ceil(segment_len);
        let mut joined = Self { frames, segments, header: [0; MAX_HEADER], layout, segment_len };
        joined.write_header(first, last, end)?;
        Some(joined)
    }

    /// Writes the headers of the one segment, which ends `end` bytes from the start of its frame.
    fn write_header(&mut self, first: &[u8], last: &[u8], end: usize) -> Option<()> {
        let Layout { is_v6, tcp_at, text_at } = self.layout;
        let header = self.header.get_mut(..text_at)?;
        header.copy_from_slice(first.get(..text_at)?);
        let (link_and_ip, segment) = header.split_at_mut(tcp_at);
        let ip = link_and_ip.get_mut(ethernet::LEN..)?;
        let segment_len = (end - tcp_at) as u16;
        let addresses = if is_v6 {
            let header: &mut [u8; ipv6::LEN] = ip.first_chunk_mut()?;
            header[V6_LENGTH..V6_NEXT_HEADER].copy_from_slice(&segment_len.to_be_bytes());
            ipv6::address_sum(header)
        } else {
            let header: &mut [u8; ipv4::LEN] = ip.first_chunk_mut()?;
            let (old, new) = (ipv4::total_len(header), (end - ethernet::LEN) as u16);
            let checksum = updated(u16::from_be_bytes([header[V4_CHECKSUM], header[V4_CHECKSUM + 1]]), old, new);
            header[V4_LENGTH..V4_IDENTIFICATION].copy_from_slice(&new.to_be_bytes());
            header[V4_CHECKSUM..V4_ADDRESSES].copy_from_slice(&checksum.to_be_bytes());
            ipv4::address_sum(header)
        };
        // The field has to hold the pseudo header's sum, to which the kernel adds that of each segment.
        let pseudo = addresses.add_values([u16::from(ipv4::TCP), segment_len]).fold();
        segment.get_mut(CHECKSUM..URGENT)?.copy_from_slice(&pseudo.to_be_bytes());
        *segment.get_mut(FLAGS)? = *last.get(tcp_at + FLAGS)?;
        Some(())
    }

    /// The headers.
    fn header(&self) -> &[u8] {
        self.header.get(..self.layout.text_at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
