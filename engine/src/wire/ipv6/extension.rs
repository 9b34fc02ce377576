//! The extension headers between an IPv6 header and what the packet carries (RFC 8200, section 4).
//!
//! ```text
//!  options   | next header 1 | length 1, in units of 8 bytes without the first | options: | type 1 | length 1 | data |
//!  routing   | next header 1 | length 1 | routing type 1 | segments left 1 | ...
//!  fragment  | next header 1 | reserved 1 | offset 13, reserved 2, more 1 | identification 4
//! ```
//!
//! [`walk`] goes along them once and tells where it came to. All positions are bytes from the start of the IPv6
//! header, as the pointers of ICMPv6 are.

use super::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV6, LEN, NEXT_HEADER_AT, NO_NEXT_HEADER,
    PAYLOAD_LEN_AT, Packet, ROUTING, TCP,
};
use crate::base::DropReason;
use crate::wire::icmpv6::{
    ERRONEOUS_FIELD, FIRST_INFORMATIONAL, INCOMPLETE_FIRST_FRAGMENT, UNKNOWN_NEXT_HEADER, UNKNOWN_OPTION,
};
use crate::wire::{be16, four};

/// Extension headers that a packet may have. RFC 8200, section 4.1, has use for seven: each once, and destination
/// options twice. Beyond these a chain is there to keep the receiver busy (RFC 8504, section 5.3, allows the limit).
pub const MAX_EXTENSIONS: usize = 8;

/// Option type: routers look into the packet (RFC 2711).
pub const ROUTER_ALERT: u8 = 5;
/// Option type: one byte of padding, without a length.
const PAD_1: u8 = 0;
/// Option type: two or more bytes of padding.
const PAD_N: u8 = 1;

/// Padding in a row: as much as aligning to eight bytes takes (RFC 8504, section 5.3, allows the limit).
const MAX_PADDING: usize = 7;

/// Bytes that lengths of extension headers and offsets of fragments count in.
const UNIT: usize = 8;

/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// A fragment's place in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Where its data belongs, in bytes.
    pub offset: u16,
    /// Whether more of the packet follows.
    pub more: bool,
    /// What the fragments of one packet have in common.
    pub identification: u32,
    /// Where the fragment header stands: all before it is in every fragment.
    pub at: usize,
    /// Where the Next Header field that named the fragment header stands: it names [`Upper::protocol`] in the packet
    /// put together again.
    pub named_at: usize,
}

/// Where the extension headers lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// What follows the last header that was walked: no extension header, unless in a fragment.
    pub protocol: u8,
    /// Where it begins; in a fragment, where the fragment's data begins.
    pub at: usize,
    /// Where the Next Header field that named `protocol` stands.
    pub next_header_at: usize,
    /// The fragment header where the walk ended, if the packet is a fragment of one that is to be put together. The
    /// result of that is walked anew; should it be a fragment again, nobody has to put it together a second time.
    pub fragment: Option<FragmentHeader>,
    /// Whether there was the header of a fragment that is a whole packet (RFC 6946). Neighbor Discovery may not
    /// have even that (RFC 6980).
    pub atomic_fragment: bool,
    /// Whether hop-by-hop options alert routers, as MLD must (RFC 3810, section 5).
    pub router_alert: bool,
}

/// Why a packet ends in the middle of its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// It is dropped without a word.
    Drop(DropReason),
    /// Its sender has to hear about it.
    Problem {
        /// Code of ICMPv6's Parameter Problem.
        code: u8,
        /// Which byte of the packet it is about.
        pointer: u32,
        /// What it counts as.
        reason: DropReason,
        /// Whether it is sent even if the packet was to a group (RFC 4443, section 2.4 (e.3)).
        even_to_multicast: bool,
    },
}

impl ChainError {
    /// What the packet counts as.
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::Drop(reason) | Self::Problem { reason, .. } => reason,
        }
    }

    const fn problem(code: u8, at: usize, reason: DropReason) -> Self {
        Self::Problem { code, pointer: at as u32, reason, even_to_multicast: false }
    }
}

impl From<DropReason> for ChainError {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// Walks the extension headers of a received packet, up to what it carries or to the data of a fragment.
///
/// # Errors
/// [`ChainError`] at the first header that the packet may not have, or not so.
#[inline]
pub fn walk(packet: &Packet<'_>) -> Result<Upper, ChainError> {
    let start = Upper {
        protocol: packet.next_header(),
        at: LEN,
        next_header_at: NEXT_HEADER_AT,
        fragment: None,
        atomic_fragment: false,
        router_alert: false,
    };
    if is_extension(start.protocol) || start.protocol == NO_NEXT_HEADER { walk_all(packet, start) } else { Ok(start) }
}

/// The same for a datagram that was put together, behind its fragment header at `named_at`, which says what it carries:
/// `protocol`, from `at` on. `packet` is what its first fragment was, in which all headers have to be (RFC 7112).
///
/// # Errors
/// As [`walk`]; [`DropReason::FragmentNested`] if it is a fragment again.
pub fn walk_reassembled(packet: &Packet<'_>, protocol: u8, at: usize, named_at: usize) -> Result<Upper, ChainError> {
    let start =
        Upper { protocol, at, next_header_at: named_at, fragment: None, atomic_fragment: true, router_alert: false };
    match walk_all(packet, start)? {
        Upper { fragment: Some(_), .. } => Err(DropReason::FragmentNested.into()),
        upper => Ok(upper),
    }
}

/// Writes the fragment header of a piece that begins `offset` bytes (a multiple of eight) behind the start of what is cut.
pub fn write_fragment_header(out: &mut [u8; FRAGMENT_LEN], protocol: u8, identification: u32, offset: u16, more: bool) {
    let [high, low] = (offset & !7 | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = identification.to_be_bytes();
    *out = [protocol, 0, high, low, a, b, c, d];
}

/// Whether a packet carries an ICMPv6 error, behind whatever extension headers, and whatever is wrong with those: it is
/// then not to be answered with one (RFC 4443, section 2.4 (e.1)). A whole packet that ends before its type may be one. The
/// headers of IPsec that show what follows (RFC 4302) are passed, though nobody here speaks it.
#[must_use]
pub fn carries_icmp_error(packet: &[u8]) -> bool {
    let Some(&first) = packet.get(NEXT_HEADER_AT) else { return false };
    let (mut protocol, mut at, mut is_whole) = (first, LEN, true);
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(protocol) && protocol != AUTHENTICATION {
            break;
        }
        let Some(&[next, units, offset @ ..]) = packet.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
            return false;
        };
        is_whole &= protocol != FRAGMENT || be16(&offset, 0) & !6 == 0;
        at += match protocol {
            FRAGMENT => FRAGMENT_LEN,
            // RFC 4302, section 2.2: in units of four bytes, without two of them.
            AUTHENTICATION => 4 * (usize::from(units) + 2),
            _ => UNIT + UNIT * usize::from(units),
        };
        protocol = next;
    }
    protocol == ICMPV6 && packet.get(at).map_or(is_whole, |&kind| kind < FIRST_INFORMATIONAL)
}

const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

#[cold]
fn walk_all(packet: &Packet<'_>, start: Upper) -> Result<Upper, ChainError> {
    let mut upper = start;
    for walked in 0..=MAX_EXTENSIONS {
        if upper.protocol == NO_NEXT_HEADER {
            return Err(DropReason::Ipv6NoNextHeader.into());
        }
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
        if walked == MAX_EXTENSIONS {
            break;
        }
        // RFC 8200, section 4.1: if it is encountered elsewhere, Parameter Problem as for a Next Header unknown, whatever
        // stands in its place.
        if upper.protocol == HOP_BY_HOP && upper.at != LEN {
            let reason = DropReason::Ipv6HopByHopMisplaced;
            return Err(ChainError::problem(UNKNOWN_NEXT_HEADER, upper.next_header_at, reason));
        }
        let end = end(packet, upper.protocol, upper.at).ok_or(DropReason::Ipv6ExtensionTruncated)?;
        match upper.protocol {
            HOP_BY_HOP => upper.router_alert = options(packet, upper.protocol, upper.at + 2, end)?,
            DESTINATION_OPTIONS => _ = options(packet, upper.protocol, upper.at + 2, end)?,
            ROUTING => routing(packet, upper.at)?,
            _ => upper.fragment = fragment(packet, &upper, walked)?,
        }
        upper.atomic_fragment |= upper.protocol == FRAGMENT && upper.fragment.is_none();
        upper.protocol = byte(packet, upper.at)?;
        upper.next_header_at = upper.at;
        upper.at = end;
        if upper.fragment.is_some() {
            return Ok(upper);
        }
    }
    Err(DropReason::Ipv6ExtensionsTooMany.into())
}

/// Where the extension header `kind` at `at` ends, if that is within the packet.
fn end(packet: &Packet<'_>, kind: u8, at: usize) -> Option<usize> {
    let [_, units] = *packet.from(at).first_chunk()?;
    // The second byte of a fragment header is reserved.
    let len = if kind == FRAGMENT { FRAGMENT_LEN } else { UNIT + UNIT * usize::from(units) };
    let end = at + len;
    (end <= packet.bytes().len()).then_some(end)
}

fn byte(packet: &Packet<'_>, at: usize) -> Result<u8, DropReason> {
    packet.bytes().get(at).copied().ok_or(DropReason::Ipv6ExtensionTruncated)
}

/// Looks through the options of `header` from `at` to `end`: whether routers are alerted.
fn options(packet: &Packet<'_>, header: u8, mut at: usize, end: usize) -> Result<bool, ChainError> {
    let (mut alert, mut padding) = (false, 0);
    while at < end {
        let kind = byte(packet, at)?;
        if padding > MAX_PADDING {
            break;
        }
        if kind == PAD_1 {
            (at, padding) = (at + 1, padding + 1);
            continue;
        }
        if at + 1 == end {
            return Err(DropReason::Ipv6OptionMalformed.into());
        }
        let len = byte(packet, at + 1)?;
        let next = at + 2 + usize::from(len);
        if next > end {
            return Err(DropReason::Ipv6OptionMalformed.into());
        }
        padding = if kind == PAD_N { padding + next - at } else { 0 };
        match kind {
            // RFC 4942, section 2.1.9.5: a receiver had better see to it that nothing travels in padding.
            PAD_N if !are_zeros(packet, at + 2, next) => return Err(DropReason::Ipv6OptionMalformed.into()),
            PAD_N => {}
            ROUTER_ALERT if header == HOP_BY_HOP && len == 2 => alert = true,
            ROUTER_ALERT if header == HOP_BY_HOP => return Err(DropReason::Ipv6OptionMalformed.into()),
            _ => unknown_option(kind, at)?,
        }
        at = next;
    }
    if padding > MAX_PADDING { Err(DropReason::Ipv6OptionMalformed.into()) } else { Ok(alert) }
}

fn are_zeros(packet: &Packet<'_>, start: usize, end: usize) -> bool {
    packet.bytes().get(start..end).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

/// RFC 8200, section 4.2: the two highest bits of an option's type say what a node does that does not know it.
fn unknown_option(kind: u8, at: usize) -> Result<(), ChainError> {
    let (code, pointer, reason) = (UNKNOWN_OPTION, at as u32, DropReason::Ipv6OptionUnknown);
    match kind >> 6 {
        0 => Ok(()),
        1 => Err(ChainError::Drop(reason)),
        action => Err(ChainError::Problem { code, pointer, reason, even_to_multicast: action == 2 }),
    }
}

/// RFC 8200, section 4.4: a routing header of a type unknown is ignored if its Segments Left is zero; otherwise the node
/// must discard the packet and send a Parameter Problem, Code 0, pointing to the Routing Type. RFC 5095 has type 0, the
/// only one that ever was for hosts, treated as unknown.
fn routing(packet: &Packet<'_>, at: usize) -> Result<(), ChainError> {
    match byte(packet, at + 3)? {
        0 => Ok(()),
        _ => Err(ChainError::problem(ERRONEOUS_FIELD, at + 2, DropReason::Ipv6RoutingHeader)),
    }
}

/// Reads the fragment header at `upper.at`, before which `walked` headers stand; none if it is that of a whole packet.
fn fragment(packet: &Packet<'_>, upper: &Upper, walked: usize) -> Result<Option<FragmentHeader>, ChainError> {
    let at = upper.at;
    let header = packet.from(at).first_chunk::<FRAGMENT_LEN>().ok_or(DropReason::Ipv6ExtensionTruncated)?;
    let (offset, more) = (be16(header, 2) & !7, header[3] & 1 != 0);
    if offset == 0 && !more {
        return Ok(None);
    }
    let data_len = packet.len_from(at + FRAGMENT_LEN);
    // Of what is wrong the sender hears one thing: in Linux's order, as the RFCs have none.
    // RFC 7112, section 5: a host that receives a first fragment without the entire header chain should discard it,
    // and send a Parameter Problem, Code 3, with a pointer of zero.
    if offset == 0 && !is_chain_complete(packet, header[0], at + FRAGMENT_LEN, walked) {
        return Err(ChainError::problem(INCOMPLETE_FIRST_FRAGMENT, 0, DropReason::Ipv6FirstFragmentIncomplete));
    }
    // RFC 8200, section 4.5: if the Payload Length of the reassembled packet would exceed 65,535 octets, the fragment must be
    // discarded and a Parameter Problem, Code 0, be sent, pointing to the Fragment Offset field.
    if at - LEN + usize::from(offset) + data_len > usize::from(u16::MAX) {
        return Err(ChainError::problem(ERRONEOUS_FIELD, at + 2, DropReason::Ipv6FragmentLength));
    }
    // And if its length is not a multiple of 8 octets and its M flag is 1, pointing to the Payload Length.
    if more && !data_len.is_multiple_of(UNIT) {
        return Err(ChainError::problem(ERRONEOUS_FIELD, PAYLOAD_LEN_AT, DropReason::Ipv6FragmentLength));
    }
    let identification = u32::from_be_bytes(four(header, 4));
    Ok(Some(FragmentHeader { offset, more, identification, at, named_at: upper.next_header_at }))
}

/// Whether all headers from `at` on, the first of which is `kind`, are here, up to that of the payload. What they say
/// is looked at when the packet is whole.
fn is_chain_complete(packet: &Packet<'_>, mut kind: u8, mut at: usize, walked: usize) -> bool {
    for _ in walked + 1..MAX_EXTENSIONS {
        if !is_extension(kind) {
            break;
        }
        let (Some(end), Ok(next)) = (end(packet, kind, at), byte(packet, at)) else { return false };
        (kind, at) = (next, end);
    }
    // Of protocols that are not spoken here the length is not known.
    let payload_header_len = match kind {
        TCP => crate::wire::tcp::LEN,
        super::UDP => crate::wire::udp::LEN,
        super::ICMPV6 => crate::wire::icmpv6::LEN,
        _ => 0,
    };
    packet.from(at).len() >= payload_header_len
}

#[cfg(test)]
mod tests;
