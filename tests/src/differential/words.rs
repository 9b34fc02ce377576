//! Answers in words: what two hosts may choose freely (identification, initial sequence numbers, timestamps, windows,
//! the flow label, "don't fragment") is left out, everything else is said.

use crate::forgery::{Packet, checksum, pseudo_sum};
use crate::sim::hash;

/// Whether a frame can be the answer to a case, and not to one before, nor something that the host sends anyway.
pub(super) fn is_answer_to(frame: &[u8], case: &Packet) -> bool {
    let asked = &case.frames[0].bytes;
    match frame.get(12..14) {
        // A reply to who asked; not a question of the host's own.
        Some([8, 6]) => frame.get(20..22) == Some(&[0, 2]),
        Some([8, 0]) => !case.is_v6() && frame.get(30..34).is_some_and(|to| asked.get(26..30) == Some(to)),
        Some([0x86, 0xdd]) => {
            let is_solicitation = frame.get(20) == Some(&58) && frame.get(54) == Some(&135);
            case.is_v6() && !is_solicitation && frame.get(38..54).is_some_and(|to| asked.get(22..38) == Some(to))
        }
        _ => false,
    }
}

/// What was answered.
#[must_use]
pub fn describe(frames: &[Vec<u8>], case: &Packet) -> String {
    let mut answers: Vec<String> = joined(frames).iter().map(|frame| one(frame, case)).collect();
    answers.sort();
    if answers.is_empty() { "nothing".into() } else { answers.join(" + ") }
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
}

fn long(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Puts fragments together, which are all of one datagram: hosts may cut it where they like.
fn joined(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut pieces = Vec::new();
    for frame in frames {
        match frame[12..14] {
            [8, 0] if word(frame, 20) & 0x3fff != 0 => pieces.push((word(frame, 20) & 0x1fff, 34, frame)),
            [0x86, 0xdd] if frame.get(20) == Some(&44) => pieces.push((word(frame, 56) / 8, 62, frame)),
            _ => whole.push(frame.clone()),
        }
    }
    pieces.sort_by_key(|(offset, ..)| *offset);
    if let Some((_, data_at, first)) = pieces.first() {
        let mut frame = first[..if *data_at == 62 { 54 } else { 34 }].to_vec();
        let header_len = frame.len();
        for (_, data_at, piece) in &pieces {
            frame.extend(&piece[*data_at..]);
        }
        let len = frame.len();
        if header_len == 54 {
            frame[20] = first[54];
            frame[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes());
        } else {
            frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
            frame[20..22].fill(0);
            frame[24..26].fill(0);
            let sum = checksum(&frame[14..34], 0);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        whole.push(frame);
    }
    whole
}

fn one(frame: &[u8], case: &Packet) -> String {
    match frame[12..14] {
        [8, 6] => format!("ARP reply #{:x}", hash(0, &frame[..frame.len().min(42)]) as u16),
        [8, 0] => ipv4(&frame[14..], case),
        _ => ipv6(&frame[14..], case),
    }
}

fn ipv4(packet: &[u8], case: &Packet) -> String {
    let header_len = usize::from(packet[0] & 15) * 4;
    let end = word(packet, 2).min(packet.len());
    let payload = packet.get(header_len..end).unwrap_or_default();
    let mut said = match packet[9] {
        1 => icmp(payload, case, checksum(payload, 0) == 0),
        protocol => transport(protocol, payload, pseudo_sum(packet, false, protocol, payload.len())),
    };
    if checksum(&packet[..header_len.min(packet.len())], 0) != 0 {
        said += " with a wrong header checksum";
    }
    if header_len != 20 {
        said += " with options";
    }
    said + &class(packet[1], packet[8])
}

fn ipv6(packet: &[u8], case: &Packet) -> String {
    let end = (40 + word(packet, 4)).min(packet.len());
    let payload = packet.get(40..end).unwrap_or_default();
    let pseudo = pseudo_sum(packet, true, packet[6], payload.len());
    let class = class((word(packet, 0) >> 4) as u8, packet[7]);
    let said = match packet[6] {
        58 => icmp(payload, case, checksum(payload, pseudo) == 0),
        protocol => transport(protocol, payload, pseudo),
    };
    said + &class
}

/// Traffic class and hop limit, where they are not what they are in most answers.
fn class(class: u8, hops: u8) -> String {
    let class = if class == 0 { String::new() } else { format!(" class={class:#x}") };
    if hops == 64 { class } else { format!("{class} hops={hops}") }
}

fn icmp(message: &[u8], case: &Packet, intact: bool) -> String {
    let [kind, code, ..] = *message else { return "a short ICMP message".into() };
    let v6 = case.is_v6();
    let wrong = if intact { "" } else { " with a wrong checksum" };
    let body = hash(0, message.get(4..).unwrap_or_default()) as u16;
    let said = match (v6, kind) {
        (false, 0) | (true, 129) if code == 0 => format!("echo reply #{body:x}"),
        (false, 0) | (true, 129) => format!("echo reply code={code} #{body:x}"),
        (false, 14) => "timestamp reply".into(),
        (true, 136) => format!("advertisement #{body:x}"),
        (false, 3..=5 | 11 | 12) | (true, ..=127) => {
            let quoted = message.get(8..).unwrap_or_default();
            let asked = case.frames.iter().filter_map(|frame| frame.bytes.get(14..));
            let most = asked.map(|asked| asked.iter().zip(quoted).take_while(|(a, b)| a == b).count()).max();
            let altered = if most == Some(quoted.len()) { "" } else { " altered" };
            format!("error {kind}/{code} at={} quoting={}{altered}", long(message, 4), quoted.len())
        }
        _ => format!("ICMP {kind}/{code} #{body:x}"),
    };
    said + wrong
}

fn transport(protocol: u8, message: &[u8], pseudo: u32) -> String {
    let intact = if checksum(message, pseudo) == 0 { "" } else { " with a wrong checksum" };
    match protocol {
        17 => format!("datagram of={} #{:x}{intact}", message.len(), hash(0, message) as u16),
        6 => format!("{}{intact}", segment(message)),
        other => format!("protocol {other}{intact}"),
    }
}

fn segment(segment: &[u8]) -> String {
    let header_len = usize::from(segment.get(12).copied().unwrap_or(0) >> 4) * 4;
    let flags = segment.get(13).copied().unwrap_or(0);
    let names: String =
        "FSRPAUEC".chars().enumerate().filter(|(bit, _)| flags >> bit & 1 != 0).map(|(_, c)| c).collect();
    let ack = long(segment, 8);
    if flags & 2 == 0 {
        return format!("segment {names} seq={:#x} ack={ack:#x}", long(segment, 4));
    }
    let mut options = segment.get(20..header_len).unwrap_or_default();
    let mut said = Vec::new();
    while let [kind, rest @ ..] = options {
        let len = if *kind < 2 { 1 } else { usize::from(rest.first().copied().unwrap_or(0)).max(2) };
        said.push(match kind {
            2 => format!("mss:{}", word(options, 2)),
            8 => format!("timestamps:{:x}", long(options, 6)),
            other => other.to_string(),
        });
        options = options.get(len..).unwrap_or_default();
    }
    format!("segment {names} ack={ack:#x} options={}", said.join(","))
}
