//! What an application may say about the packets that it sends, and what the network says about them (RFC 792,
//! RFC 4443).

use std::net::IpAddr;

use crate::base::{Frame, Umem};

/// How a packet that an application sends travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// Address of ours that it comes from; `None` for the one that suits the destination.
    pub source: Option<IpAddr>,
    /// Hops that it may take (RFC 791: Time to Live); `None` for as many as packets of the stack usually may.
    pub hop_limit: Option<u8>,
    /// Differentiated Services code point, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// What is said about congestion, 0 to 3 (RFC 3168).
    pub ecn: u8,
    /// Whether it must not be fragmented, neither here nor on the way: one that is longer than the interface's MTU is
    /// then not sent, and routers tell of smaller ones ([`IcmpError::TooLong`]).
    pub dont_fragment: bool,
}

impl SendOptions {
    /// DSCP and ECN as they stand in the header.
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.dscp << 2 | self.ecn & 3
    }
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { source: None, hop_limit: None, dscp: 0, ecn: 0, dont_fragment: true }
    }
}

/// What tells an echo request from others, and is in the reply to it (RFC 792; RFC 4443, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Whose it is.
    pub identifier: u16,
    /// Which of these.
    pub sequence: u16,
}

/// An ICMP message that may be about something that an application sent.
#[derive(Clone, Copy, Debug)]
pub enum IcmpMessage<'a> {
    /// Somebody answers an echo request, to an address of ours.
    EchoReply {
        /// Who.
        source: IpAddr,
        /// What the request had.
        echo: Echo,
        /// Hops that were left to the reply.
        hop_limit: u8,
        /// What the request carried, unless it was damaged or cut.
        payload: Payload<'a>,
    },
    /// A datagram or an echo request of ours did not get where it should.
    Error {
        /// Who tells it: a router, the destination; or we ourselves, about a neighbor that cannot be found.
        source: IpAddr,
        /// What is wrong.
        error: IcmpError,
        /// Where it should have got.
        destination: IpAddr,
        /// What it carried: the number of UDP, ICMP, or ICMP for IPv6.
        protocol: u8,
        /// The first eight bytes of that: the whole header, of either.
        transport: [u8; 8],
    },
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// The destination is unreachable.
    Unreachable {
        /// Why: a number of RFC 792 and RFC 1122, section 3.2.2.1, or of RFC 4443, section 3.1, by the version of IP.
        code: u8,
    },
    /// It is longer than a link on its way can carry.
    TooLong {
        /// What the link can, bytes with the IP header; 0 from routers that do not say (RFC 1191).
        mtu: u32,
    },
    /// It was on its way for too long.
    TimeExceeded {
        /// 0: it took too many hops. 1: not all of its fragments arrived in time.
        code: u8,
    },
    /// Something in its headers is not understood.
    ParameterProblem {
        /// Why: a number of RFC 792 or of RFC 4443, section 3.4.
        code: u8,
        /// Where: bytes from the start of the IP header.
        pointer: u32,
    },
}

/// Received bytes, which may lie in several pieces of memory.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    first: &'a [u8],
    /// A chain whose first chunk holds `first`.
    chain: Option<(&'a Umem, &'a Frame)>,
}

impl<'a> Payload<'a> {
    /// Bytes that begin with `first`, in the first chunk of `frame`, and go on in its other ones.
    #[must_use]
    pub const fn of_chain(first: &'a [u8], frame: &'a Frame, umem: &'a Umem) -> Self {
        Self { first, chain: Some((umem, frame)) }
    }

    /// The pieces, in order. Any of them may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rest = self.chain.into_iter().flat_map(|(umem, frame)| umem.slices(frame).skip(1));
        std::iter::once(self.first).chain(rest)
    }

    /// How many bytes they are together.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(first: &'a [u8]) -> Self {
        Self { first, chain: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, UmemConfig};

    #[test]
    fn a_payload_goes_on_in_the_other_chunks_of_its_frame() {
        let config = UmemConfig { chunks: 8, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let mut umem = Umem::new(config).unwrap();
        let mut part = |bytes: &[u8]| {
            let mut frame = umem.alloc().unwrap();
            assert!(umem.set_len(&mut frame, bytes.len()));
            umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            frame
        };
        let (mut frame, more) = (part(b"header:one"), part(b", two"));
        umem.append(&mut frame, more);
        let payload = Payload::of_chain(&umem.bytes(&frame)[7..], &frame, &umem);
        assert_eq!(payload.len_bytes(), 8);
        assert!(payload.pieces().eq([&b"one"[..], &b", two"[..]]));
        assert!(Payload::from(&b"alone"[..]).pieces().eq([&b"alone"[..]]));
        umem.free(frame);
    }

    #[test]
    fn class_and_congestion_share_a_byte() {
        let options = SendOptions { dscp: 46, ecn: 1, ..SendOptions::default() };
        assert_eq!(options.traffic_class(), 0xb9);
    }
}
