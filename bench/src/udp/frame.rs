//! The Ethernet frame that carries a request, and the constant part of its checksum.
//!
//! The stamp's layout is drawn in bpf/stamp.h: the BPF sender writes trial, sequence and due time into each
//! frame, and adds them to the sum that is prepared here.

use std::net::SocketAddrV4;

use crate::error::{Error, Result};

/// Ethernet, IPv4 and UDP headers.
pub(crate) const HEADERS_LEN: usize = 14 + 20 + 8;
/// Headers, trial (4), sequence (8) and due time (8).
pub(crate) const STAMPED_LEN: usize = HEADERS_LEN + STAMP_LEN;
/// Trial, sequence, due time.
pub(crate) const STAMP_LEN: usize = 20;
/// What BPF_PROG_RUN has room for in a page of live frames beside its own headroom and trailer.
const MAX_LEN: usize = 3_520;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Both ends of the measured path, as they stand in the headers of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub source_mac: Mac,
    pub target_mac: Mac,
    pub source: SocketAddrV4,
    pub target: SocketAddrV4,
}

/// Frame sizes (Ethernet header to end of payload, no FCS) that can be sent.
///
/// # Errors
/// Says the range when `len` is outside it.
pub(crate) fn check_len(len: usize) -> Result<()> {
    if (STAMPED_LEN..=MAX_LEN).contains(&len) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--size {len}: a frame has {STAMPED_LEN} to {MAX_LEN} bytes (headers and stamp take {STAMPED_LEN})"
    )))
}

/// A request of `len` bytes: headers with a zero UDP checksum, then zeros where stamp and filler go.
pub(crate) fn request(path: &Path, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend(path.target_mac);
    frame.extend(path.source_mac);
    frame.extend([0x08, 0x00]);

    let ip_len = (len - 14) as u16;
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len.to_be_bytes());
    ip[6] = 0x40; // don't fragment
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&path.source.ip().octets());
    ip[16..20].copy_from_slice(&path.target.ip().octets());
    let checksum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    frame.extend(ip);

    frame.extend(path.source.port().to_be_bytes());
    frame.extend(path.target.port().to_be_bytes());
    frame.extend((ip_len - 20).to_be_bytes());
    frame.resize(len, 0);
    frame
}

/// Ones' complement sum of all that the UDP checksum of `request` covers and that no frame changes:
/// pseudo-header, UDP header, trial. Words in the machine's byte order (RFC 1071, section 2 B).
pub(crate) fn constant_sum(request: &[u8], trial: u32) -> u64 {
    let (addresses, udp) = (&request[26..34], &request[34..]);
    let udp_len = udp.len() as u16;
    sum(addresses) + sum(&[0, 17]) + sum(&udp_len.to_be_bytes()) + sum(udp) + sum(&trial.to_ne_bytes())
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

    fn path() -> Path {
        Path {
            source_mac: [2, 0, 0, 0, 0, 1],
            target_mac: [2, 0, 0, 0, 0, 2],
            source: "10.77.0.1:9000".parse().unwrap(),
            target: "10.77.0.2:7".parse().unwrap(),
        }
    }

    /// What bpf/generate.bpf.c does to a frame.
    fn stamp(frame: &mut [u8], constant: u64, trial: u32, sequence: u64, due_ns: u64) {
        let halves = |value: u64| (value & 0xffff_ffff) + (value >> 32);
        let checksum = match !fold(constant + halves(sequence) + halves(due_ns)) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[40..42].copy_from_slice(&checksum.to_ne_bytes());
        frame[42..46].copy_from_slice(&trial.to_ne_bytes());
        frame[46..54].copy_from_slice(&sequence.to_ne_bytes());
        frame[54..62].copy_from_slice(&due_ns.to_ne_bytes());
    }

    #[test]
    fn checksums_of_stamped_frames_of_any_length_are_valid() {
        for (len, salt) in [(62, 0u64), (63, 1), (64, 0xdead_beef_0bad_cafe), (1514, u64::MAX), (1501, 1 << 63)] {
            let mut frame = request(&path(), len);
            assert_eq!(frame.len(), len);
            let trial = salt as u32;
            let constant = constant_sum(&frame, trial);
            for step in 0..1000u64 {
                let (sequence, due) = (step.wrapping_mul(salt), step.wrapping_mul(0x1234_5678_9abc_def1) ^ salt);
                stamp(&mut frame, constant, trial, sequence, due);
                let udp_len = (len - 34) as u16;
                let all = sum(&frame[26..34]) + sum(&[0, 17]) + sum(&udp_len.to_be_bytes()) + sum(&frame[34..]);
                assert_eq!(fold(all), 0xffff, "length {len}, step {step}");
            }
        }
    }

    #[test]
    fn the_ip_header_checksum_is_valid() {
        assert_eq!(fold(sum(&request(&path(), 64)[14..34])), 0xffff);
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut frame = request(&path(), 64);
        let constant = constant_sum(&frame, 0);
        // the sequence that makes the sum 0xffff, so that its complement is 0
        let sequence = u64::from(0xffff - fold(constant));
        stamp(&mut frame, constant, 0, sequence, 0);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn sizes_that_cannot_hold_the_stamp_or_do_not_fit_a_page_are_refused() {
        assert!(check_len(61).is_err() && check_len(MAX_LEN + 1).is_err());
        assert!(check_len(62).is_ok() && check_len(1514).is_ok());
    }
}
