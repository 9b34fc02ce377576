//! The Ethernet frame that carries a request, and the constant part of its checksum.
//!
//! The stamp's layout is drawn in bpf/stamp.h: the BPF sender writes trial, sequence and due time into each
//! frame, and adds them to the sum that is prepared here.

use std::net::{IpAddr, SocketAddr};

use crate::error::{Error, Result};
use crate::netns::Family;

/// Ethernet header without a tag.
const ETHERNET_LEN: usize = 14;
/// What a VLAN adds.
const TAG_LEN: usize = 4;
/// Trial (4), sequence (8) and due time (8).
pub(crate) const STAMP_LEN: usize = 20;
/// What a frame has beyond headers and stamp where nobody asks for a size: 64 bytes in all over IPv4.
const FILLER: usize = 2;
/// What BPF_PROG_RUN has room for in a page of live frames beside its own headroom and trailer. Longer ones it
/// refuses ("disallow live data mode for jumbo frames", net/bpf/test_run.c).
pub(crate) const MAX_LIVE_LEN: usize = 3_520;
/// Ethernet header and an MTU of 9,000 bytes.
const MAX_LEN: usize = 9_014;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Both ends of the measured path, as they stand in the headers of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub source_mac: Mac,
    pub target_mac: Mac,
    /// The VLAN that requests are on.
    pub vlan: Option<u16>,
    pub source: SocketAddr,
    /// Of the same family.
    pub target: SocketAddr,
}

/// Ethernet, IP and UDP headers of an untagged frame.
pub(crate) const fn headers_len(family: Family) -> usize {
    match family {
        Family::Ipv4 => ETHERNET_LEN + 20 + 8,
        Family::Ipv6 => ETHERNET_LEN + 40 + 8,
    }
}

/// The frame size to take where none is given: the same payload in both families.
pub(crate) const fn default_len(family: Family) -> usize {
    headers_len(family) + STAMP_LEN + FILLER
}

/// Frame sizes (Ethernet header to end of payload, no tag, no FCS) that can be sent.
///
/// # Errors
/// Says the range when `len` is outside it.
pub(crate) fn check_len(family: Family, len: usize) -> Result<()> {
    let least = headers_len(family) + STAMP_LEN;
    if (least..=MAX_LEN).contains(&len) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--size {len}: a frame has {least} to {MAX_LEN} bytes (headers of {} and stamp take {least})",
        family.name()
    )))
}

/// A request of `len` bytes, to which a tag is added on a VLAN: headers with a zero UDP checksum, then zeros where stamp
/// and filler go.
pub(crate) fn request(path: &Path, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len + TAG_LEN);
    frame.extend(path.target_mac);
    frame.extend(path.source_mac);
    if let Some(vlan) = path.vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    let ip_len = (len - ETHERNET_LEN) as u16;
    let udp_len = match (path.source.ip(), path.target.ip()) {
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((ip_len - 40).to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(source.octets());
            frame.extend(target.octets());
            ip_len - 40
        }
        (source, target) => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4_header(ip_len, source, target));
            ip_len - 20
        }
    };
    frame.extend(path.source.port().to_be_bytes());
    frame.extend(path.target.port().to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.resize(len + path.tag_len(), 0);
    frame
}

fn ipv4_header(ip_len: u16, source: IpAddr, target: IpAddr) -> [u8; 20] {
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64;
    ip[9] = 17;
    for (at, address) in [(12, source), (16, target)] {
        if let IpAddr::V4(address) = address {
            ip[at..at + 4].copy_from_slice(&address.octets());
        }
    }
    let checksum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    ip
}

/// An ARP request (RFC 826) by which the target of `path` learns who the source is.
pub(crate) fn introduction(path: &Path) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &path.source_mac].concat();
    if let Some(vlan) = path.vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(path.source_mac);
    if let (IpAddr::V4(source), IpAddr::V4(target)) = (path.source.ip(), path.target.ip()) {
        frame.extend(source.octets());
        frame.extend([0; 6]);
        frame.extend(target.octets());
    }
    // What the generator needs room for, in place of the padding of Ethernet.
    frame.resize(64, 0);
    frame
}

impl Path {
    pub(super) const fn tag_len(&self) -> usize {
        if self.vlan.is_some() { TAG_LEN } else { 0 }
    }

    /// Ethernet, IP and UDP headers as they stand in the frame.
    pub(crate) fn headers_len(&self) -> usize {
        headers_len(Family::of(self.target)) + self.tag_len()
    }

    /// Ones' complement sum of all that the UDP checksum of `request` covers and that no frame changes:
    /// pseudo-header, UDP header, trial. Words in the machine's byte order (RFC 1071, section 2 B).
    pub(crate) fn constant_sum(&self, request: &[u8], trial: u32) -> u64 {
        let udp_at = self.headers_len() - 8;
        let addresses_len = if self.target.is_ipv4() { 8 } else { 32 };
        let (addresses, udp) = (&request[udp_at - addresses_len..udp_at], &request[udp_at..]);
        let udp_len = udp.len() as u16;
        sum(addresses) + sum(&[0, 17]) + sum(&udp_len.to_be_bytes()) + sum(udp) + sum(&trial.to_ne_bytes())
    }
}

impl Path {
    /// Of a sum that [`constant_sum`](Self::constant_sum) gave, what is left without the low word of the source and the lengths;
    /// and of the IPv4 header's own sum, without its checksum too.
    pub(crate) fn without_what_varies(&self, request: &[u8], constant: u64) -> (u64, u64) {
        let (udp_at, source) = (self.headers_len() - 8, sum_of_low_word(self.source.ip()));
        let constant = constant - source - 2 * sum(&request[udp_at + 4..udp_at + 6]);
        if !self.target.is_ipv4() {
            return (constant, 0);
        }
        let ip = &request[udp_at - 20..udp_at];
        (constant, sum(ip) - sum(&ip[2..4]) - sum(&ip[10..12]) - source)
    }
}

/// Sum of the lowest 64 bits of an address: what differs between sources.
fn sum_of_low_word(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()[8..]),
    }
}

/// Sum of 16-bit words, in the machine's byte order, unfolded.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

/// Folds the carries back in until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(family: Family, vlan: Option<u16>) -> Path {
        Path {
            source_mac: [2, 0, 0, 0, 0, 1],
            target_mac: [2, 0, 0, 0, 0, 2],
            vlan,
            source: SocketAddr::new(family.client(), 9000),
            target: SocketAddr::new(family.server(), 7),
        }
    }

    const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// What bpf/generate.bpf.c does to a frame.
    fn stamp(frame: &mut [u8], headers_len: usize, constant: u64, trial: u32, sequence: u64, due_ns: u64) {
        let halves = |value: u64| (value & 0xffff_ffff) + (value >> 32);
        let checksum = match !fold(constant + halves(sequence) + halves(due_ns)) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[headers_len - 2..headers_len].copy_from_slice(&checksum.to_ne_bytes());
        let stamp = &mut frame[headers_len..headers_len + STAMP_LEN];
        stamp[..4].copy_from_slice(&trial.to_ne_bytes());
        stamp[4..12].copy_from_slice(&sequence.to_ne_bytes());
        stamp[12..].copy_from_slice(&due_ns.to_ne_bytes());
    }

    #[test]
    fn stamped_frames_of_any_length_parse_with_valid_checksums() {
        for (len, salt) in [(82, 0u64), (83, 1), (84, 0xdead_beef_0bad_cafe), (1514, u64::MAX), (1501, 1 << 63)] {
            for (family, vlan) in FAMILIES.into_iter().flat_map(|family| [(family, None), (family, Some(77))]) {
                let path = path(family, vlan);
                let mut frame = request(&path, len);
                assert_eq!(frame.len(), len + if vlan.is_some() { 4 } else { 0 });
                let trial = salt as u32;
                let constant = path.constant_sum(&frame, trial);
                let udp_at = path.headers_len() - 8;
                let addresses_len = if family == Family::Ipv4 { 8 } else { 32 };
                for step in 0..200u64 {
                    let (sequence, due) = (step.wrapping_mul(salt), step.wrapping_mul(0x1234_5678_9abc_def1) ^ salt);
                    stamp(&mut frame, path.headers_len(), constant, trial, sequence, due);
                    let udp_len = (frame.len() - udp_at) as u16;
                    let pseudo =
                        sum(&frame[udp_at - addresses_len..udp_at]) + sum(&[0, 17]) + sum(&udp_len.to_be_bytes());
                    assert_eq!(fold(pseudo + sum(&frame[udp_at..])), 0xffff, "{family:?}, length {len}, step {step}");
                }
            }
        }
    }

    #[test]
    fn the_ip_header_checksum_is_valid() {
        assert_eq!(fold(sum(&request(&path(Family::Ipv4, None), 64)[14..34])), 0xffff);
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let path = path(Family::Ipv4, None);
        let mut frame = request(&path, 64);
        let constant = path.constant_sum(&frame, 0);
        // the sequence that makes the sum 0xffff, so that its complement is 0
        let sequence = u64::from(0xffff - fold(constant));
        stamp(&mut frame, path.headers_len(), constant, 0, sequence, 0);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn sizes_that_cannot_hold_the_stamp_or_do_not_fit_an_mtu_of_9000_are_refused() {
        assert!(check_len(Family::Ipv4, 61).is_err() && check_len(Family::Ipv6, 81).is_err());
        for family in FAMILIES {
            assert!(check_len(family, MAX_LEN + 1).is_err() && check_len(family, 8_900).is_ok());
            assert!(check_len(family, default_len(family)).is_ok());
        }
    }

    #[test]
    fn the_payload_is_the_same_in_both_families_where_no_size_is_given() {
        assert_eq!(FAMILIES.map(default_len), [64, 84]);
    }
}
