//! The XDP program `steer`, compiled, and what user space has to know to talk to it.
//!
//! ```text
//!  map          key                  value                 written by
//!  owned_ipv4   address, 4 bytes     1                     engine
//!  owned_ipv6   address, 16 bytes    1                     engine
//!  groups       address, 16 bytes    GroupUse, 1 byte      engine
//!  sockets      receive queue        AF_XDP socket         engine
//!  heartbeat    receive queue        CLOCK_MONOTONIC, ns   the queue's worker
//!  guard        receive queue        CLOCK_MONOTONIC, ns   the queue's worker
//!  requests     part of a hash       rest of it, and when  program
//!  verdicts     Verdict, per CPU     frames                program
//!  heard        (ring)               Heard                 program
//!  config (read-only data)           SteerConfig           loader, before the program is loaded
//! ```
//!
//! `steer.h` says the same in C; a test here holds the two together.

/// Bytes at an address that an ELF header may have.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o")));

/// The program as an ELF object with BTF, at an address that is a multiple of 8.
pub static STEER_OBJECT: &[u8] = &ALIGNED_OBJECT.0;

/// Name of the program in the object.
pub const PROGRAM: &str = "steer";
/// Map of owned IPv4 addresses.
pub const OWNED_IPV4: &str = "owned_ipv4";
/// Map of owned IPv6 addresses.
pub const OWNED_IPV6: &str = "owned_ipv6";
/// Map of what is to become of frames to group and broadcast addresses; IPv4 is ::ffff:a.b.c.d.
pub const GROUPS: &str = "groups";
/// Ring of copies of frames, each a record of [`Heard::BYTES`] bytes.
pub const HEARD: &str = "heard";
/// Map of the AF_XDP sockets by receive queue.
pub const SOCKETS: &str = "sockets";
/// Map of the workers' last beats by receive queue.
pub const HEARTBEAT: &str = "heartbeat";
/// Map of the moments until which the guard of a receive queue is up.
pub const GUARD: &str = "guard";
/// Table of connection requests that came while a guard was up.
pub const REQUESTS: &str = "requests";
/// Map of frames by verdict, per CPU.
pub const VERDICTS: &str = "verdicts";
/// Read-only variable with the [`SteerConfig`].
pub const CONFIG: &str = "config";

/// Entries of [`OWNED_IPV4`] and of [`OWNED_IPV6`].
pub const MAX_ADDRESSES: u32 = 1024;
/// Entries of [`GROUPS`].
pub const MAX_GROUPS: u32 = 1024;
/// Bytes of the longest frame that is copied into the ring [`HEARD`].
pub const HEARD_MAX: usize = 2048;

/// What became of a frame. Every frame that the program saw is counted in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Redirected: IPv4 to an owned address.
    RedirectIpv4,
    /// Redirected: IPv6 to an owned address.
    RedirectIpv6,
    /// Redirected: ARP that asks for an owned address or claims it.
    RedirectArp,
    /// Redirected: neighbor solicitation or advertisement whose target is owned.
    RedirectNdp,
    /// Redirected: to a group that the engine alone has joined.
    RedirectGroup,
    /// Passed: well-formed, about addresses that are not owned.
    PassNotOwned,
    /// Passed: none of IPv4, IPv6 and ARP for IPv4 over Ethernet.
    PassOtherProtocol,
    /// Passed: truncated headers, wrong version or length fields.
    PassMalformed,
    /// Passed: not tagged as configured.
    PassOtherVlan,
    /// Passed: owned, but nobody serves the queue that it came in on.
    PassNoSocket,
    /// Passed: owned, but the queue's worker has not beaten for longer than the limit.
    PassStale,
    /// Passed: to a group of both the kernel and the engine, which got a copy.
    PassCopied,
    /// Passed: the same, but the copy was too long, or the ring full.
    PassCopyLost,
    /// Dropped: TCP to an owned address, a first connection request while the guard of its queue is up.
    DropSyn,
}

impl Verdict {
    /// Every verdict, in the order of the map.
    pub const ALL: [Self; 14] = [
        Self::RedirectIpv4,
        Self::RedirectIpv6,
        Self::RedirectArp,
        Self::RedirectNdp,
        Self::RedirectGroup,
        Self::PassNotOwned,
        Self::PassOtherProtocol,
        Self::PassMalformed,
        Self::PassOtherVlan,
        Self::PassNoSocket,
        Self::PassStale,
        Self::PassCopied,
        Self::PassCopyLost,
        Self::DropSyn,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Index into the map [`VERDICTS`].
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Label of the verdict in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedirectIpv4 => "redirect_ipv4",
            Self::RedirectIpv6 => "redirect_ipv6",
            Self::RedirectArp => "redirect_arp",
            Self::RedirectNdp => "redirect_ndp",
            Self::RedirectGroup => "redirect_group",
            Self::PassNotOwned => "pass_not_owned",
            Self::PassOtherProtocol => "pass_other_protocol",
            Self::PassMalformed => "pass_malformed",
            Self::PassOtherVlan => "pass_other_vlan",
            Self::PassNoSocket => "pass_no_socket",
            Self::PassStale => "pass_stale",
            Self::PassCopied => "pass_copied",
            Self::PassCopyLost => "pass_copy_lost",
            Self::DropSyn => "drop_syn",
        }
    }

    /// Whether the frame went to a socket, not to the kernel.
    #[must_use]
    pub const fn redirects(self) -> bool {
        self.index() <= Self::RedirectGroup.index()
    }
}

/// Who gets what is sent to a group or broadcast address: `enum steer_group_use`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GroupUse {
    /// The kernel gets the frame, and the engine a copy.
    Copy = 1,
    /// The engine gets the frame, and the kernel nothing.
    Redirect = 2,
}

/// A copy of a frame, as it lies in the ring: `struct steer_heard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Receive queue that the frame came in on.
    pub queue: u32,
    /// The frame, from its Ethernet header on.
    pub frame: &'a [u8],
}

impl<'a> Heard<'a> {
    /// Bytes of a record.
    pub const BYTES: usize = 8 + HEARD_MAX;

    /// Reads a record. `None` if it is not one.
    #[must_use]
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let (len, rest) = record.split_first_chunk()?;
        let (queue, frame) = rest.split_first_chunk()?;
        let frame = frame.get(..u32::from_ne_bytes(*len) as usize)?;
        Some(Self { queue: u32::from_ne_bytes(*queue), frame })
    }
}

/// What is fixed when the program is loaded: `struct steer_config`. All zero: untagged frames, no heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SteerConfig {
    /// Age of a worker's last beat from which on its frames are passed to the kernel, in ns; 0: never.
    /// The program's clock advances with the timer tick (1-10 ms), so much shorter limits make no sense.
    pub heartbeat_limit_ns: u64,
    /// VLAN id of the frames that are the engine's; 0: untagged ones (and such that only carry a priority).
    /// The program sees only tags that are in the frame: a NIC that takes them out has to be told not to
    /// (`ethtool -K IF rxvlan off`), or all of its frames count as untagged.
    pub outer_vlan: u16,
    /// VLAN id of a second tag; 0: none. Needs `outer_vlan`.
    pub inner_vlan: u16,
    /// EtherType of the first tag: 0x8100 or 0x88a8. A second one has 0x8100. Without `outer_vlan` it has no meaning.
    pub outer_type: u16,
    /// Padding; its value has no meaning.
    pub reserved: u16,
    /// Nobody outside can guess it: key of the table of connection requests.
    pub guard_key: u64,
}

impl SteerConfig {
    /// The bytes that the program's variable [`CONFIG`] has to have.
    #[must_use]
    pub fn to_bytes(self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        bytes[..8].copy_from_slice(&self.heartbeat_limit_ns.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.outer_vlan.to_ne_bytes());
        bytes[10..12].copy_from_slice(&self.inner_vlan.to_ne_bytes());
        bytes[12..14].copy_from_slice(&self.outer_type.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.guard_key.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    const HEADER: &str = include_str!("steer.h");
    const SOURCE: &str = include_str!("steer.bpf.c");
    const SYN_GUARD: &str = include_str!("syn_guard.h");

    /// What stands between `start` and the next closing brace at the start of a line.
    fn block<'a>(text: &'a str, start: &str) -> &'a str {
        let (_, rest) = text.split_once(start).expect("the block is there");
        rest.split_once("\n}").expect("the block ends").0
    }

    #[test]
    fn the_c_enum_and_the_rust_enum_agree_in_order_and_number() {
        let in_c: Vec<String> = block(HEADER, "enum steer_verdict {")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("STEER_")?.split_once(','))
            .map(|(name, _)| name.to_lowercase())
            .collect();
        let mut in_rust: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        in_rust.push("verdicts");
        assert_eq!(in_c, in_rust);
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(verdict.index() as usize, index);
            assert_eq!(verdict.redirects(), verdict.name().starts_with("redirect_"));
        }
    }

    #[test]
    fn the_c_config_and_the_rust_config_have_the_same_fields() {
        let in_c: Vec<&str> = block(HEADER, "struct steer_config {")
            .lines()
            .filter(|line| line.trim().starts_with("__u"))
            .map(|line| line.trim().trim_end_matches(';'))
            .collect();
        assert_eq!(
            in_c,
            [
                "__u64 heartbeat_limit_ns",
                "__u16 outer_vlan",
                "__u16 inner_vlan",
                "__u16 outer_type",
                "__u16 reserved",
                "__u64 guard_key"
            ]
        );
        assert_eq!(offset_of!(SteerConfig, heartbeat_limit_ns), 0);
        assert_eq!(offset_of!(SteerConfig, outer_vlan), 8);
        assert_eq!(offset_of!(SteerConfig, inner_vlan), 10);
        assert_eq!(offset_of!(SteerConfig, outer_type), 12);
        assert_eq!(offset_of!(SteerConfig, reserved), 14);
        assert_eq!(offset_of!(SteerConfig, guard_key), 16);
        assert_eq!(size_of::<SteerConfig>(), 24);

        let config = SteerConfig {
            heartbeat_limit_ns: 1,
            outer_vlan: 2,
            inner_vlan: 3,
            outer_type: 6,
            reserved: 4,
            guard_key: 5,
        };
        let mut expected = [0; 24];
        expected[..8].copy_from_slice(&1u64.to_ne_bytes());
        expected[8..10].copy_from_slice(&2u16.to_ne_bytes());
        expected[10..12].copy_from_slice(&3u16.to_ne_bytes());
        expected[12..14].copy_from_slice(&6u16.to_ne_bytes());
        expected[16..].copy_from_slice(&5u64.to_ne_bytes());
        assert_eq!(config.to_bytes(), expected);
    }

    #[test]
    fn a_record_is_read_as_the_c_struct_is_laid_out() {
        let fields: Vec<&str> = block(HEADER, "struct steer_heard {")
            .lines()
            .filter_map(|line| Some(line.trim().split_once(';')?.0))
            .collect();
        assert_eq!(fields, ["__u32 len", "__u32 queue", "__u8 frame[STEER_HEARD_MAX]"]);
        assert!(HEADER.contains(&format!("#define STEER_HEARD_MAX {HEARD_MAX}\n")));

        let record = |len: u32| [&len.to_ne_bytes()[..], &7u32.to_ne_bytes(), &[0x5a; HEARD_MAX]].concat();
        assert_eq!(record(0).len(), Heard::BYTES);
        let whole = record(HEARD_MAX as u32);
        assert_eq!(Heard::parse(&whole), Some(Heard { queue: 7, frame: &[0x5a; HEARD_MAX] }));
        assert_eq!(Heard::parse(&record(3)).map(|heard| heard.frame.len()), Some(3));
        assert_eq!(Heard::parse(&record(HEARD_MAX as u32 + 1)), None);
        assert_eq!(Heard::parse(&whole[..7]), None);
    }

    #[test]
    fn the_uses_of_groups_have_the_values_of_the_c_enum() {
        let in_c = block(HEADER, "enum steer_group_use {");
        for (name, value) in [("COPY", GroupUse::Copy), ("REDIRECT", GroupUse::Redirect)] {
            assert!(in_c.contains(&format!("STEER_GROUP_{name} = {},", value as u8)), "{name}");
        }
    }

    #[test]
    fn maps_have_the_names_and_the_size_that_the_source_gives_them() {
        for map in [OWNED_IPV4, OWNED_IPV6, GROUPS, HEARD, SOCKETS, HEARTBEAT, VERDICTS] {
            assert!(SOURCE.contains(&format!("}} {map} SEC(\".maps\");")), "{map}");
        }
        for map in [GUARD, REQUESTS] {
            assert!(SYN_GUARD.contains(&format!("}} {map} SEC(\".maps\");")), "{map}");
        }
        assert!(SOURCE.contains(&format!("int {PROGRAM}(struct xdp_md *ctx)")));
        assert!(SOURCE.contains(&format!("const volatile struct steer_config {CONFIG};")));
        assert!(SOURCE.contains(&format!("#define MAX_ADDRESSES {MAX_ADDRESSES}\n")));
        assert!(SOURCE.contains(&format!("#define MAX_GROUPS {MAX_GROUPS}\n")));
    }

    #[test]
    fn the_object_is_aligned_and_for_bpf() {
        assert_eq!(STEER_OBJECT.as_ptr().addr() % 8, 0);
        assert_eq!(&STEER_OBJECT[..4], b"\x7fELF");
        // e_machine, ELF specification: EM_BPF.
        assert_eq!(u16::from_ne_bytes([STEER_OBJECT[18], STEER_OBJECT[19]]), 247);
    }
}
