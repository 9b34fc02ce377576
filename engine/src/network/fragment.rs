//! Datagrams into fragments (RFC 791, section 3.2; RFC 8200, section 4.5), and chains into one chunk.
//!
//! ```text
//!   chain     | 8+1440 | 1440 | 1440 |  77 |      a received datagram on its way back, say
//!   pieces    | 8+1440 | 1440 | 1440 |  77 |      its own chunks, where each makes a fragment
//!             | 1232 | 1232 | 1232 | ...          copies, where they do not: too long, too short, no multiple of 8
//! ```

use crate::base::{Frame, Umem, UnsentReason};
use crate::wire::ipv4;

/// Length of the IPv6 header, and of the fragment header, bytes.
const IPV6_LEN: usize = 40;
const FRAGMENT_HEADER_LEN: usize = 8;
/// Unit of the offset, bytes: all fragments but the last are a multiple of it long.
const UNIT: usize = 8;
/// Most bytes that the length field of either version can say (RFC 791, section 3.1; RFC 8200, section 3).
const MAX_LEN: usize = 65_535;

/// What fragments have to fit into.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Payload of a fragment at most, bytes.
    room: usize,
    /// Payload of a datagram at most, bytes.
    most: usize,
    /// Free bytes that are needed in front of it.
    headroom: u16,
}

impl Shape {
    /// Fragments of IPv4 for a path's MTU (bytes), with so many bytes for the link's headers in front.
    #[must_use]
    pub const fn v4(mtu: usize, link_len: u16) -> Self {
        let headroom = link_len + ipv4::LEN as u16;
        Self { room: mtu.saturating_sub(ipv4::LEN), most: MAX_LEN - ipv4::LEN, headroom }
    }

    /// Fragments of IPv6 for a path's MTU (bytes), with so many bytes for the link's headers in front.
    #[must_use]
    pub const fn v6(mtu: usize, link_len: u16) -> Self {
        let header_len = IPV6_LEN + FRAGMENT_HEADER_LEN;
        Self { room: mtu.saturating_sub(header_len), most: MAX_LEN, headroom: link_len + header_len as u16 }
    }
}

/// The payload of a fragment.
#[derive(Debug)]
pub struct Piece {
    /// Its bytes, in one chunk, with room in front for all headers.
    pub frame: Frame,
    /// Where in the datagram's payload it begins, bytes.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

/// A datagram that is being cut: [`next`](Self::next) until there is nothing left, or [`give_up`](Self::give_up).
#[derive(Debug)]
#[must_use = "the frames in it have to be sent or freed"]
pub struct Cutter {
    rest: Option<Frame>,
    /// Bytes in that.
    left: usize,
    /// Bytes that went before.
    offset: usize,
    shape: Shape,
}

impl Cutter {
    /// Begins to cut a datagram's payload, all that is behind the headers which each fragment has. One that fits into
    /// a packet comes out as one piece, which is better sent without being called a fragment.
    ///
    /// # Errors
    /// The frame, when it is empty or longer than any datagram, or the MTU leaves no room.
    pub fn new(frame: Frame, shape: Shape, umem: &Umem) -> Result<Self, Frame> {
        let left = umem.packet_len(&frame);
        if left == 0 || left > shape.most || shape.room < UNIT {
            return Err(frame);
        }
        Ok(Self { rest: Some(frame), left, offset: 0, shape })
    }

    /// Bytes that have not been cut off yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }

    /// The next piece, in order of offset; `None` when there are no more.
    ///
    /// [`UnsentReason::NoChunk`] when one had to be copied, and there was no chunk for it: the rest is freed then, as
    /// a datagram of which a fragment is missing helps nobody.
    pub fn next(&mut self, umem: &mut Umem) -> Option<Result<Piece, UnsentReason>> {
        let frame = self.rest.take()?;
        let is_last = self.left <= self.shape.room;
        let full = if is_last { self.left } else { self.shape.room - self.shape.room % UNIT };
        let (frame, rest) = if self.is_piece(&frame, full) {
            umem.split(frame)
        } else {
            let Some((piece, len)) = copy(umem, &frame, full) else {
                umem.free(frame);
                self.left = 0;
                return Some(Err(UnsentReason::NoChunk));
            };
            (piece, umem.trim_chain(frame, len))
        };
        let offset = self.offset as u16;
        self.offset += usize::from(frame.len());
        self.left = self.left.saturating_sub(usize::from(frame.len()));
        self.rest = rest;
        if self.left == 0 {
            self.free(umem);
        }
        Some(Ok(Piece { frame, offset, more: self.left > 0 }))
    }

    /// Frees what has not been cut off yet.
    pub fn give_up(mut self, umem: &mut Umem) {
        self.free(umem);
    }

    fn free(&mut self, umem: &mut Umem) {
        if let Some(rest) = self.rest.take() {
            umem.free(rest);
        }
    }

    /// Whether the first chunk of what is left makes a fragment as it is, where one could be `full` bytes long.
    ///
    /// One that is not at least seven eighths as long is rather copied, for each fragment costs a packet on the way, and
    /// a receiver holds only so many of a datagram.
    fn is_piece(&self, frame: &Frame, full: usize) -> bool {
        let len = usize::from(frame.len());
        if len > self.shape.room || frame.offset() < self.shape.headroom {
            return false;
        }
        len == self.left || (self.left > self.shape.room && len.is_multiple_of(UNIT) && len * 8 >= full * 7)
    }
}

/// A copy of the first `len` bytes, or as many as a chunk has room for, and how many they are.
fn copy(umem: &mut Umem, from: &Frame, len: usize) -> Option<(Frame, usize)> {
    let mut piece = umem.alloc()?;
    let room = umem.room_mut(&mut piece).len();
    let len = if len <= room { len } else { room - room % UNIT };
    let copied = umem.copy_chain(from, len, &mut piece);
    debug_assert_eq!(copied, len);
    Some((piece, copied))
}

/// Makes a packet that is spread over several chunks lie in its first one, where it starts now.
///
/// # Errors
/// The frame as it was, when it does not fit there.
pub fn linearize(mut frame: Frame, umem: &mut Umem) -> Result<Frame, Frame> {
    let len = umem.packet_len(&frame);
    if umem.pull(&mut frame, len) { Ok(frame) } else { Err(frame) }
}

#[cfg(test)]
mod tests;
