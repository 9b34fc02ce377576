//! Writes frames to a file that Wireshark and tcpdump read: libpcap's format with nanoseconds.

use std::fs;
use std::io;
use std::path::Path;

use barewire::base::Instant;

/// Magic number of a file whose time stamps have nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Link type of Ethernet.
const ETHERNET: u32 = 1;

/// Frames, each with its time.
pub(super) type Records = Vec<(Instant, Vec<u8>)>;

/// The file's content.
#[must_use]
pub(super) fn encode(records: &Records) -> Vec<u8> {
    let mut file = Vec::new();
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    word(&mut file, MAGIC);
    file.extend([2, 0, 4, 0]);
    for value in [0, 0, 65_535, ETHERNET] {
        word(&mut file, value);
    }
    for (at, bytes) in records {
        let (seconds, ns) = (at.as_ns() / 1_000_000_000, at.as_ns() % 1_000_000_000);
        for value in [seconds as u32, ns as u32, bytes.len() as u32, bytes.len() as u32] {
            word(&mut file, value);
        }
        file.extend(bytes);
    }
    file
}

/// Writes a file.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(path: &Path, records: &Records) -> io::Result<()> {
    fs::write(path, encode(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_layout_that_its_magic_number_promises() {
        let file = encode(&vec![(Instant::from_ns(3_000_000_007), vec![0xaa; 5])]);
        assert_eq!(file.len(), 24 + 16 + 5);
        assert_eq!(file[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(file[20..24], [1, 0, 0, 0]);
        assert_eq!(file[24..40], [3, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(file[40..], [0xaa; 5]);
    }
}
