//! What hosts send each other.

use super::parts::{Builder, ICMP, ICMPV6, IGMP, TCP, UDP, checksum, pseudo_sum};
use super::{Ends, Frame, Packet};
use crate::sim::Rng;

/// IPv4's EtherType, ARP's, IPv6's.
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Port of the echo service, and one that nobody listens at.
const OPEN: u16 = 7;
const CLOSED: u16 = 9;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const NO_NEXT_HEADER: u8 = 59;

/// Names of all kinds.
pub const KINDS: &[&str] = &[
    "arp request",
    "v4 udp",
    "v4 udp closed",
    "v4 tcp syn",
    "v4 tcp closed",
    "v4 tcp stray",
    "v4 echo",
    "v4 icmp",
    "v4 icmp error",
    "v4 options",
    "v4 protocol",
    "v4 igmp",
    "v4 fragments",
    "v6 udp",
    "v6 udp closed",
    "v6 tcp syn",
    "v6 tcp closed",
    "v6 tcp stray",
    "v6 echo",
    "v6 icmp",
    "v6 icmp error",
    "v6 hop-by-hop",
    "v6 destination options",
    "v6 routing",
    "v6 atomic fragment",
    "v6 no next header",
    "v6 protocol",
    "v6 fragments",
    "v6 solicitation",
    "v6 group solicitation",
    "v6 advertisement",
    "v6 router",
    "v6 redirect",
];

/// A packet of any kind.
#[must_use]
pub fn draw(rng: &mut Rng, ends: &Ends) -> Packet {
    let kind = rng.pick(KINDS);
    draw_kind(rng, ends, kind)
}

/// A packet of a kind.
///
/// # Panics
/// If there is no such kind.
#[must_use]
pub fn draw_kind(rng: &mut Rng, ends: &Ends, kind: &'static str) -> Packet {
    let frames = match kind.split_at(3) {
        ("arp", _) => vec![arp(ends)],
        ("v4 ", rest) => v4(rng, ends, rest),
        (_, rest) => v6(rng, ends, rest),
    };
    Packet { kind, changed: Vec::new(), frames }
}

/// Bytes of a payload.
fn text(rng: &mut Rng) -> Vec<u8> {
    let mut text = vec![0; rng.pick(&[0, 1, 8, 26, 56, 200]) as usize];
    rng.fill(&mut text);
    text
}

/// Appends a UDP datagram (RFC 768).
fn udp(frame: &mut Builder, port: u16, from: u16, text: &[u8]) -> Frame {
    let len = (8 + text.len()) as u16;
    frame
        .upper(UDP, 6)
        .field("source port", &from.to_be_bytes())
        .field("destination port", &port.to_be_bytes())
        .field("UDP length", &len.to_be_bytes())
        .field("checksum", &[0, 0])
        .raw(text)
        .end()
}

/// Bytes of the TCP header with the options below.
const TCP_LEN: usize = 40;
/// MSS 1,460, SACK permitted, timestamps, one byte of padding, window scale 7.
const TCP_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

/// Appends a TCP segment (RFC 9293).
fn tcp(frame: &mut Builder, port: u16, from: u16, flags: u8, text: &[u8]) -> Frame {
    frame
        .upper(TCP, 16)
        .field("source port", &from.to_be_bytes())
        .field("destination port", &port.to_be_bytes())
        .field("sequence number", &[0x10, 0x20, 0x30, 0x40])
        .field("acknowledgment number", if flags & 0x10 == 0 { &[0; 4] } else { &[0x50, 0x60, 0x70, 0x80] })
        .bits(&[0xa0], &[("data offset", 0xf0), ("reserved bits", 0x0f)])
        .bits(&[flags], &[("flags", 0xff)])
        .field("window", &[0xff, 0xff])
        .field("checksum", &[0, 0])
        .field("urgent pointer", &[0, 0]);
    for word in TCP_OPTIONS.chunks(4) {
        frame.field("TCP options", word);
    }
    frame.raw(text).end()
}

/// Appends an ICMP message of either family: type, code, four bytes, and more.
fn icmp(frame: &mut Builder, protocol: u8, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Frame {
    frame
        .upper(protocol, 2)
        .field("type", &[kind])
        .field("code", &[code])
        .field("checksum", &[0, 0])
        .field("rest of header", &rest)
        .raw(body)
        .end()
}

fn arp(ends: &Ends) -> Frame {
    Builder::ethernet(ends, ARP)
        .field("hardware type", &[0, 1])
        .field("protocol type", &[8, 0])
        .field("hardware length", &[6])
        .field("protocol length", &[4])
        .field("operation", &[0, 1])
        .raw(&ends.macs.0)
        .field("sender", &ends.neighbors.0.octets())
        .raw(&[0; 6])
        .field("target", &ends.v4.1.octets())
        .end()
}

/// A port that only this packet comes from, as far as there are enough.
fn port(rng: &mut Rng) -> u16 {
    rng.between(1024, 65_535) as u16
}

/// The start of a datagram of ours that an error is about: the receiver's, from the open port.
fn quoted(ends: &Ends, v6: bool) -> Vec<u8> {
    let back = Ends { v4: (ends.v4.1, ends.v4.0), v6: (ends.v6.1, ends.v6.0), ..*ends };
    let mut frame = Builder::ethernet(&back, if v6 { IPV6 } else { IPV4 });
    let text = [0x55; 8];
    if v6 {
        frame.ipv6(&back, UDP, 64, 16);
    } else {
        frame.ipv4(&back, UDP, &[], 16, 0x4000);
    }
    udp(&mut frame, 5000, OPEN, &text).bytes.split_off(14)
}

fn v4(rng: &mut Rng, ends: &Ends, kind: &str) -> Vec<Frame> {
    let mut frame = Builder::ethernet(ends, IPV4);
    let (text, from) = (text(rng), port(rng));
    let len = text.len();
    vec![match kind {
        "udp" => udp(frame.ipv4(ends, UDP, &[], 8 + len, 0x4000), OPEN, from, &text),
        "udp closed" => udp(frame.ipv4(ends, UDP, &[], 8 + len, 0x4000), CLOSED, from, &text),
        "tcp syn" => tcp(frame.ipv4(ends, TCP, &[], TCP_LEN, 0x4000), OPEN, from, 0x02, &[]),
        "tcp closed" => tcp(frame.ipv4(ends, TCP, &[], TCP_LEN + len, 0x4000), CLOSED, from, 0x02, &text),
        "tcp stray" => tcp(frame.ipv4(ends, TCP, &[], TCP_LEN + len, 0x4000), OPEN, from, 0x18, &text),
        "echo" => icmp(frame.ipv4(ends, ICMP, &[], 8 + len, 0), ICMP, 8, 0, [1, 2, 0, 1], &text),
        "icmp" => {
            // Echo reply, router solicitation, timestamp, information, address mask: each with 12 bytes.
            let kind = rng.pick(&[0, 10, 13, 15, 17]);
            icmp(frame.ipv4(ends, ICMP, &[], 20, 0), ICMP, kind, 0, [0, 1, 0, 1], &[0; 12])
        }
        "icmp error" => {
            let quoted = quoted(ends, false);
            let (kind, code) = rng.pick(&[(3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (11, 1), (12, 0)]);
            icmp(frame.ipv4(ends, ICMP, &[], 8 + quoted.len(), 0), ICMP, kind, code, [0, 0, 5, 0], &quoted)
        }
        "options" => {
            let options: &[u8] = rng.pick(&[
                // No operation; router alert (RFC 2113); record route; timestamp; loose and strict source route, done.
                &[1, 1, 1, 0][..],
                &[148, 4, 0, 0],
                &[7, 7, 4, 0, 0, 0, 0, 0],
                &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &[131, 7, 8, 10, 0, 0, 1, 0],
                &[137, 7, 8, 10, 0, 0, 1, 0],
            ]);
            let message = 8 + text.len();
            icmp(frame.ipv4(ends, ICMP, options, message, 0), ICMP, 8, 0, [1, 2, 0, 1], &text)
        }
        "protocol" => frame.ipv4(ends, rng.pick(&[0, 3, 50, 51, 132, 253, 255]), &[], len, 0).raw(&text).end(),
        "igmp" => frame
            .ipv4(ends, IGMP, &[148, 4, 0, 0], 8, 0)
            .upper(IGMP, 2)
            .field("type", &[0x11])
            .field("code", &[100])
            .field("checksum", &[0, 0])
            .field("group", &[0, 0, 0, 0])
            .end(),
        "fragments" => return v4_fragments(rng, ends, from),
        other => panic!("no kind of IPv4 is called {other}"),
    }]
}

/// A UDP datagram to the open port, whole and with its checksum.
fn datagram(rng: &mut Rng, ends: &Ends, v6: bool, from: u16) -> Vec<u8> {
    let mut message = vec![0; rng.pick(&[24, 64, 208, 1_600])];
    rng.fill(&mut message);
    let len = message.len();
    message[..2].copy_from_slice(&from.to_be_bytes());
    message[2..4].copy_from_slice(&OPEN.to_be_bytes());
    message[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    message[6..8].fill(0);
    let mut frame = Builder::ethernet(ends, 0);
    if v6 {
        frame.ipv6(ends, UDP, 64, len);
    } else {
        frame.ipv4(ends, UDP, &[], len, 0);
    }
    let header = frame.end();
    let sum = checksum(&message, pseudo_sum(&header.bytes[14..], v6, UDP, len));
    message[6..8].copy_from_slice(&sum.max(1).to_be_bytes());
    message
}

fn v4_fragments(rng: &mut Rng, ends: &Ends, from: u16) -> Vec<Frame> {
    let message = datagram(rng, ends, false, from);
    let at = (message.len() / 2) & !7;
    let mut frames: Vec<Frame> = [(0, at), (at, message.len())]
        .map(|(start, end)| {
            let more = if end < message.len() { 0x2000 } else { 0 };
            let fragment = (start / 8) as u16 | more;
            let mut frame = Builder::ethernet(ends, IPV4);
            frame.ipv4(ends, UDP, &[], end - start, fragment).raw(&message[start..end]).end()
        })
        .into();
    if rng.chance(500) {
        frames.reverse();
    }
    frames
}

fn v6(rng: &mut Rng, ends: &Ends, kind: &str) -> Vec<Frame> {
    let mut frame = Builder::ethernet(ends, IPV6);
    let (text, from) = (text(rng), port(rng));
    let len = text.len();
    let echo = |frame: &mut Builder| icmp(frame, ICMPV6, 128, 0, [1, 2, 0, 1], &text);
    vec![match kind {
        "udp" => udp(frame.ipv6(ends, UDP, 64, 8 + len), OPEN, from, &text),
        "udp closed" => udp(frame.ipv6(ends, UDP, 64, 8 + len), CLOSED, from, &text),
        "tcp syn" => tcp(frame.ipv6(ends, TCP, 64, TCP_LEN), OPEN, from, 0x02, &[]),
        "tcp closed" => tcp(frame.ipv6(ends, TCP, 64, TCP_LEN + len), CLOSED, from, 0x02, &text),
        "tcp stray" => tcp(frame.ipv6(ends, TCP, 64, TCP_LEN + len), OPEN, from, 0x18, &text),
        "echo" => echo(frame.ipv6(ends, ICMPV6, 64, 8 + len)),
        "icmp" => {
            // Echo reply, node information, inverse discovery, an informational one and an error that nobody knows.
            let kind = rng.pick(&[129, 139, 141, 200, 100]);
            icmp(frame.ipv6(ends, ICMPV6, 64, 28), ICMPV6, kind, 0, [0, 1, 0, 1], &[0; 20])
        }
        "icmp error" => {
            let quoted = quoted(ends, true);
            let (kind, code) = rng.pick(&[(1, 0), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]);
            icmp(frame.ipv6(ends, ICMPV6, 64, 8 + quoted.len()), ICMPV6, kind, code, [0, 0, 5, 0], &quoted)
        }
        "hop-by-hop" => echo(options(frame.ipv6(ends, HOP_BY_HOP, 64, 16 + len), rng)),
        "destination options" => echo(options(frame.ipv6(ends, DESTINATION_OPTIONS, 64, 16 + len), rng)),
        "routing" => {
            frame.ipv6(ends, ROUTING, 64, 32 + len);
            let routing_type = rng.pick(&[0, 2, 3, 4, 253]);
            frame.field("next header 2", &[ICMPV6]).field("extension length", &[2]);
            frame.field("routing type", &[routing_type]).field("segments left", &[0]).raw(&[0; 4]);
            let address = ends.v6.1.octets();
            echo(frame.raw(&address))
        }
        "atomic fragment" => {
            frame.ipv6(ends, FRAGMENT, 64, 16 + len);
            echo(fragment(&mut frame, ICMPV6, 0))
        }
        "no next header" => frame.ipv6(ends, NO_NEXT_HEADER, 64, len).raw(&text).end(),
        "protocol" => frame.ipv6(ends, rng.pick(&[1, 4, 50, 51, 132, 135, 253]), 64, len).raw(&text).end(),
        "fragments" => return v6_fragments(rng, ends, from),
        other => neighbor_discovery(&mut frame, ends, other),
    }]
}

/// Appends eight bytes of options: one that may be skipped, and padding.
fn options<'a>(frame: &'a mut Builder, rng: &mut Rng) -> &'a mut Builder {
    let option = rng.pick(&[0x01, 0x1e, 0x1e]);
    frame
        .field("next header 2", &[ICMPV6])
        .field("extension length", &[0])
        .field("option type", &[option])
        .field("option length", &[2])
        .raw(&[0, 0])
        .field("option type", &[0])
        .field("option type", &[0])
}

/// Appends a fragment header (RFC 8200, section 4.5).
fn fragment(frame: &mut Builder, next_header: u8, offset_and_more: u16) -> &mut Builder {
    frame
        .field("next header 2", &[next_header])
        .field("reserved byte", &[0])
        .bits(&offset_and_more.to_be_bytes(), &[("offset", 0xfff8), ("reserved bits", 6), ("MF", 1)])
        .field("identification", &[0x12, 0x34, 0x56, 0x78])
}

fn v6_fragments(rng: &mut Rng, ends: &Ends, from: u16) -> Vec<Frame> {
    let message = datagram(rng, ends, true, from);
    let at = (message.len() / 2) & !7;
    let mut frames: Vec<Frame> = [(0, at), (at, message.len())]
        .map(|(start, end)| {
            let more = u16::from(end < message.len());
            let mut frame = Builder::ethernet(ends, IPV6);
            frame.ipv6(ends, FRAGMENT, 64, 8 + end - start);
            fragment(&mut frame, UDP, start as u16 | more).raw(&message[start..end]).end()
        })
        .into();
    if rng.chance(500) {
        frames.reverse();
    }
    frames
}

fn neighbor_discovery(frame: &mut Builder, ends: &Ends, kind: &str) -> Frame {
    let mut near = Ends { v6: (ends.neighbors.1, ends.v6.1), ..*ends };
    let target = if matches!(kind, "advertisement" | "redirect") { near.v6.0 } else { near.v6.1 }.octets();
    if kind == "group solicitation" {
        // RFC 4291, section 2.7.1: the solicited-node group, by the last three bytes; RFC 2464, section 7: its MAC address.
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, target[13], target[14], target[15]];
        near.v6.1 = group.into();
        *frame = Builder::ethernet(
            &Ends { macs: (ends.macs.0, [0x33, 0x33, 0xff, target[13], target[14], target[15]]), ..near },
            IPV6,
        );
    }
    let (kind, rest, len) = match kind {
        "solicitation" | "group solicitation" => (135, [0; 4], 24 + 8),
        "advertisement" => (136, [0x60, 0, 0, 0], 24 + 8),
        "router" => (133, [0; 4], 8 + 8),
        "redirect" => (137, [0; 4], 40),
        other => panic!("no kind of IPv6 is called {other}"),
    };
    frame.ipv6(&near, ICMPV6, 255, len).upper(ICMPV6, 2);
    frame.field("type", &[kind]).field("code", &[0]).field("checksum", &[0, 0]).field("rest of header", &rest);
    if kind != 133 {
        frame.field("target prefix", &target[..2]).raw(&target[2..15]).field("target", &target[15..]);
    }
    if kind == 137 {
        return frame.raw(&ends.v6.0.octets()).end();
    }
    let option = if kind == 136 { 2 } else { 1 };
    frame.field("option type", &[option]).field("option length", &[1]).raw(&ends.macs.0);
    debug_assert_eq!(frame.len(), 40 + len);
    frame.end()
}
