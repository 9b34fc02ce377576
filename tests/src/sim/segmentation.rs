//! TCP segmentation offload, as a NIC does it.

use barewire::wire::{ethernet, ipv4, ipv6};

use super::frames::{TCP, checksum};

/// Frames of the segments that a packet is cut into: one for each of its parts, of which the first begins with the headers.
///
/// # Panics
/// If the packet is none that a NIC could cut up: its parts are not of one length, or it says what only one of several
/// segments may say.
#[must_use]
pub(super) fn cut(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let first = parts[0];
    let is_v6 = first[12..ethernet::LEN] == ethernet::IPV6.to_be_bytes();
    let tcp_at = ethernet::LEN + if is_v6 { ipv6::LEN } else { ipv4::LEN };
    let text_at = tcp_at + usize::from(first[tcp_at + 12] >> 4) * 4;
    let (headers, text) = first.split_at(text_at);
    assert_eq!(headers[tcp_at + 13] & !0x08, 0x10, "other control bits than ACK and PSH");
    let whole: usize = parts.iter().map(|part| part.len()).sum();
    let len_at = ethernet::LEN + if is_v6 { 4 } else { 2 };
    let told = usize::from(u16::from_be_bytes([headers[len_at], headers[len_at + 1]]));
    assert_eq!(told, whole - if is_v6 { tcp_at } else { ethernet::LEN }, "the length of the whole packet");
    if !is_v6 {
        assert_eq!(checksum(&headers[ethernet::LEN..tcp_at]), 0, "the IP header's own checksum");
    }
    let last = parts.len() - 1;
    assert!(parts[1..last].iter().all(|part| part.len() == text.len()) && parts[last].len() <= text.len());
    let texts = std::iter::once(text).chain(parts[1..].iter().copied());
    texts.enumerate().map(|(at, piece)| segment(headers, (at * text.len()) as u32, at == last, piece)).collect()
}

/// The frame of one segment, whose text begins `behind` bytes behind that of the packet.
fn segment(headers: &[u8], behind: u32, is_last: bool, text: &[u8]) -> Vec<u8> {
    let is_v6 = headers[ethernet::LEN] >> 4 == 6;
    let mut frame = [headers, text].concat();
    let (ip, tcp_at) = (ethernet::LEN, ethernet::LEN + if is_v6 { ipv6::LEN } else { ipv4::LEN });
    let sequence: [u8; 4] = headers[tcp_at + 4..tcp_at + 8].try_into().expect("four bytes");
    frame[tcp_at + 4..tcp_at + 8].copy_from_slice(&u32::from_be_bytes(sequence).wrapping_add(behind).to_be_bytes());
    if !is_last {
        frame[tcp_at + 13] &= !0x08;
    }
    let addresses = if is_v6 { ip + 8..tcp_at } else { ip + 12..tcp_at };
    let ends = frame[addresses].to_vec();
    if is_v6 {
        let len = (frame.len() - tcp_at) as u16;
        frame[ip + 4..ip + 6].copy_from_slice(&len.to_be_bytes());
    } else {
        let len = (frame.len() - ip) as u16;
        frame[ip + 2..ip + 4].copy_from_slice(&len.to_be_bytes());
        frame[ip + 10..ip + 12].fill(0);
        let sum = checksum(&frame[ip..tcp_at]);
        frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    }
    frame[tcp_at + 16..tcp_at + 18].fill(0);
    // The sum over the pseudo header is the same for both families (RFC 8200, section 8.1).
    let len = ((frame.len() - tcp_at) as u16).to_be_bytes();
    let sum = checksum(&[&ends, &[0, TCP][..], &len, &frame[tcp_at..]].concat());
    frame[tcp_at + 16..tcp_at + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}
