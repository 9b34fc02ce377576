//! Questions to a driver that only the ethtool ioctl answers (include/uapi/linux/ethtool.h).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GRSSH: u32 = 0x46;

/// `TCP_V4_FLOW`.
const TCP_V4_FLOW: u32 = 1;
/// `RXH_IP_SRC`, `RXH_IP_DST`, `RXH_L4_B_0_1` and `RXH_L4_B_2_3`: addresses and ports.
const FOUR_TUPLE: u64 = 0xf0;
/// `ETH_RSS_HASH_TOP`.
const TOEPLITZ: u8 = 1;
/// Words of `struct ethtool_rxfh` in front of table and key: command, context, entries of the table, bytes of the key,
/// hash function and other bytes, reserved.
const RXFH_HEADER: usize = 6;
/// Entries of the largest table that is believed: 16 times the largest in Linux 6.18.
const MAX_TABLE: u32 = 1 << 16;
/// Bytes of the longest key that is believed: several times the longest in Linux 6.18.
const MAX_KEY: u32 = 1 << 10;

/// `ETH_SS_FEATURES`: the set of strings that names features.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN`: bytes of a string.
const NAME_LEN: usize = 32;
/// Name of the feature that is called `rxvlan` on the command line.
const RX_VLAN: &[u8] = b"rx-vlan-hw-parse";
/// Features at most that are believed: many times those of Linux 6.18.
const MAX_FEATURES: u32 = 1 << 10;
/// Words of `struct ethtool_gstrings` in front of the names: command, set, count.
const GSTRINGS_HEADER: usize = 3;
/// Words of `struct ethtool_gfeatures` in front of the blocks: command, count of blocks.
const GFEATURES_HEADER: usize = 2;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_rxnfc` as it was at first, which is all that the question about hashed fields needs.
#[repr(C)]
struct HashedFields {
    command: u32,
    flow: u32,
    fields: u64,
}

const _: () = assert!(size_of::<HashedFields>() == 16);

/// How a NIC chooses the receive queue of a TCP connection: by the Toeplitz hash of its addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spreading {
    /// The hash's key.
    pub key: Vec<u8>,
    /// Queues by the low bits of the hash.
    pub table: Vec<u32>,
}

/// Whether an interface takes VLAN tags out of received frames, before an XDP program could see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagStripping {
    /// It leaves them in, or does not tell.
    #[default]
    Off,
    /// It does, until `ethtool -K IF rxvlan off`.
    On,
    /// It does, and cannot be told not to.
    Fixed,
}

/// Name of an interface's driver.
pub(super) fn driver(interface: &str) -> io::Result<String> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    ask(interface, (&raw mut info).cast())?;
    let name = info.driver.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Number of queues that an AF_XDP socket can be bound to: those that receive, alone or combined.
pub(super) fn queues(interface: &str) -> io::Result<u32> {
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    ask(interface, (&raw mut channels).cast())?;
    Ok(channels.combined.saturating_add(channels.rx))
}

/// How TCP connections over IPv4 are spread over queues. `None` if the driver does not say all of it, or does it in
/// another way.
pub(super) fn spreading(interface: &str) -> Option<Spreading> {
    let mut fields = HashedFields { command: ETHTOOL_GRXFH, flow: TCP_V4_FLOW, fields: 0 };
    let told = ask(interface, (&raw mut fields).cast());
    // Drivers with nothing to choose do not answer; what they do is what all do by default.
    if told.is_ok() && fields.fields != FOUR_TUPLE {
        return None;
    }
    let mut header = [ETHTOOL_GRSSH, 0, 0, 0, 0, 0];
    ask(interface, header.as_mut_ptr().cast()).ok()?;
    let [_, _, entries, key_bytes, ..] = header;
    if entries > MAX_TABLE || key_bytes > MAX_KEY {
        return None;
    }
    let mut words = vec![0; RXFH_HEADER + entries as usize + key_bytes.div_ceil(4) as usize];
    words[..4].copy_from_slice(&[ETHTOOL_GRSSH, 0, entries, key_bytes]);
    ask(interface, words.as_mut_ptr().cast()).ok()?;
    read_spreading(&words, entries as usize, key_bytes as usize)
}

/// Reads `struct ethtool_rxfh` with a table of `entries` and a key of `key_bytes`.
fn read_spreading(words: &[u32], entries: usize, key_bytes: usize) -> Option<Spreading> {
    let (header, rest) = words.split_at_checked(RXFH_HEADER)?;
    // The function, and how addresses and ports are mixed before it is applied: not at all.
    let [function, mixing, ..] = header[4].to_ne_bytes();
    let (table, key) = rest.split_at_checked(entries)?;
    let key: Vec<u8> = key.iter().flat_map(|word| word.to_ne_bytes()).take(key_bytes).collect();
    let known = function == TOEPLITZ && mixing == 0 && !table.is_empty();
    known.then(|| Spreading { key, table: table.to_vec() })
}

impl TagStripping {
    /// Asks an interface's driver.
    #[must_use]
    pub fn of(interface: &str) -> Self {
        ask_rx_vlan(interface).unwrap_or_default()
    }
}

fn ask_rx_vlan(interface: &str) -> Option<TagStripping> {
    // `struct ethtool_sset_info`: command, reserved, a mask of 64 bits for the set, and the count of its strings.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1_u64 << FEATURE_NAMES).to_ne_bytes();
    for (word, half) in info[2..4].iter_mut().zip(mask.as_chunks().0) {
        *word = u32::from_ne_bytes(*half);
    }
    ask(interface, info.as_mut_ptr().cast()).ok()?;
    let count = info[4];
    if count > MAX_FEATURES {
        return None;
    }
    let mut names = vec![0; GSTRINGS_HEADER + count as usize * NAME_LEN / 4];
    names[..GSTRINGS_HEADER].copy_from_slice(&[ETHTOOL_GSTRINGS, FEATURE_NAMES, count]);
    ask(interface, names.as_mut_ptr().cast()).ok()?;
    // `struct ethtool_get_features_block`: available, requested, active, never changed, of 32 features each.
    let blocks = count.div_ceil(32);
    let mut features = vec![0; GFEATURES_HEADER + 4 * blocks as usize];
    features[..GFEATURES_HEADER].copy_from_slice(&[ETHTOOL_GFEATURES, blocks]);
    ask(interface, features.as_mut_ptr().cast()).ok()?;
    read_rx_vlan(names.get(GSTRINGS_HEADER..)?, features.get(GFEATURES_HEADER..)?)
}

/// Finds the feature among `names`, and looks it up in the blocks of `features`.
fn read_rx_vlan(names: &[u32], features: &[u32]) -> Option<TagStripping> {
    let names: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let is_it = |name: &[u8; NAME_LEN]| name.split(|&byte| byte == 0).next() == Some(RX_VLAN);
    let at = names.as_chunks().0.iter().position(is_it)?;
    let [available, _, active, never_changed] = features.as_chunks().0.get(at / 32)?;
    let has = |set: &u32| set >> (at % 32) & 1 != 0;
    // As ethtool says "[fixed]".
    let fixed = !has(available) || has(never_changed);
    Some(match (has(active), fixed) {
        (false, _) => TagStripping::Off,
        (true, false) => TagStripping::On,
        (true, true) => TagStripping::Fixed,
    })
}

/// Makes the ioctl; `data` points to the structure that starts with the command.
fn ask(interface: &str, data: *mut libc::c_char) -> io::Result<()> {
    // SAFETY: a plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = data;
    // SAFETY: `request` and what it points to live through the call and are as long as the command, which
    // the structure starts with, says.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a driver answers: a table of four entries, and a key of six bytes.
    fn answer(function: u8, mixing: u8) -> Vec<u32> {
        let key = [[1, 2, 3, 4], [5, 6, 0, 0]].map(u32::from_ne_bytes);
        let header = [ETHTOOL_GRSSH, 0, 4, 6, u32::from_ne_bytes([function, mixing, 0, 0]), 0];
        [&header[..], &[0, 1, 2, 1], &key].concat()
    }

    #[test]
    fn a_table_and_a_key_are_read_if_the_hash_is_the_one_that_is_known() {
        let spreading = Spreading { key: vec![1, 2, 3, 4, 5, 6], table: vec![0, 1, 2, 1] };
        assert_eq!(read_spreading(&answer(TOEPLITZ, 0), 4, 6), Some(spreading));
        assert_eq!(read_spreading(&answer(2, 0), 4, 6), None, "XOR");
        assert_eq!(read_spreading(&answer(TOEPLITZ, 1), 4, 6), None, "symmetric");
        assert_eq!(read_spreading(&answer(TOEPLITZ, 0)[..4], 4, 6), None);
        assert_eq!(read_spreading(&answer(TOEPLITZ, 0), 0, 24), None, "no table");
    }

    #[test]
    fn a_feature_is_found_by_its_name_and_read_from_its_block() {
        let mut names = vec![0; 40 * NAME_LEN];
        for (at, name) in [(3, &b"tx-vlan-hw-insert"[..]), (35, RX_VLAN), (36, b"rx-vlan-hw-parse-not")] {
            names[at * NAME_LEN..][..name.len()].copy_from_slice(name);
        }
        let names: Vec<u32> = names.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        let bit = 1 << 3;
        let read = |second: [u32; 4]| read_rx_vlan(&names, &[&[bit; 4][..], &second].concat());
        assert_eq!(read([bit, 0, 0, 0]), Some(TagStripping::Off));
        assert_eq!(read([0, !bit, !bit, bit]), Some(TagStripping::Off), "off for ever");
        assert_eq!(read([bit, bit, bit, 0]), Some(TagStripping::On));
        assert_eq!(read([0, bit, bit, 0]), Some(TagStripping::Fixed));
        assert_eq!(read([bit, bit, bit, bit]), Some(TagStripping::Fixed));
        assert_eq!(read_rx_vlan(&names, &[bit; 4]), None, "no such block");
        assert_eq!(read_rx_vlan(&[], &[bit; 8]), None, "no such feature");
    }

    #[test]
    fn the_loopback_tells_that_it_leaves_tags_alone() {
        assert_eq!(ask_rx_vlan("lo"), Some(TagStripping::Off));
        assert_eq!(ask_rx_vlan("bw-nowhere"), None);
    }

    #[test]
    fn an_interface_without_queues_to_choose_from_tells_nothing() {
        assert_eq!(spreading("lo"), None);
        assert_eq!(spreading("bw-nowhere"), None);
    }
}
