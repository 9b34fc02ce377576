//! Loads the XDP program without attaching it, and has the kernel run it over frames (`BPF_PROG_TEST_RUN`).

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::fixtures::ethertype;
use crate::kernel::unbound_xdp_socket;
use barewire_ebpf::{
    GROUPS, GUARD, GroupUse, HEARD, HEARTBEAT, Heard, OWNED_IPV4, OWNED_IPV6, PROGRAM, SOCKETS, STEER_OBJECT,
    SteerConfig, VERDICTS, Verdict,
};
use libbpf_rs::{Map, MapCore, MapFlags, Object, ObjectBuilder, ProgramInput, RingBufferBuilder};

/// The address that [`Program`] owns.
pub const OWNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// One that it does not own.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The IPv6 address that [`Program`] owns.
pub const OWNED_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xaa, 0xbbcc);
/// One that it does not own, of the same solicited-node group.
pub const OTHER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, 0xaa, 0xbbcc);
/// All hosts of the link.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The configuration for a VLAN, or for one within another; 0 is for none.
#[must_use]
pub fn vlans(outer_vlan: u16, inner_vlan: u16) -> SteerConfig {
    let outer_type = if inner_vlan == 0 { ethertype::VLAN } else { ethertype::SERVICE_VLAN };
    SteerConfig { outer_vlan, inner_vlan, outer_type, ..SteerConfig::default() }
}

/// `enum xdp_action` of `<linux/bpf.h>`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// The program, loaded, with one IPv4 and one IPv6 address owned.
pub struct Program {
    object: Object,
    /// A closed socket leaves the map.
    _sockets: Vec<OwnedFd>,
}

impl Program {
    /// For untagged frames, without heartbeat limit, with a socket at queue 0.
    ///
    /// # Panics
    ///
    /// As [`load_with`](Self::load_with).
    #[must_use]
    pub fn load() -> Self {
        Self::load_with(SteerConfig::default(), &[0])
    }

    /// With sockets at the given queues.
    ///
    /// # Panics
    ///
    /// Without root, and if the kernel does not take the program.
    #[must_use]
    pub fn load_with(config: SteerConfig, queues: &[u32]) -> Self {
        let uid = std::fs::metadata("/proc/self").expect("/proc is mounted").uid();
        assert_eq!(uid, 0, "this test loads an XDP program: run it as root (sudo -E cargo test ...)");

        let mut open = ObjectBuilder::default().open_memory(STEER_OBJECT).expect("the object is sound");
        let mut rodata =
            open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata")).expect("the configuration");
        rodata.set_initial_value(&config.to_bytes()).expect("the configuration is all of the read-only data");
        let object = open.load().expect("the kernel takes the program");

        let sockets: Vec<OwnedFd> = queues.iter().map(|_| unbound_xdp_socket()).collect();
        let program = Self { object, _sockets: sockets };
        program.map(OWNED_IPV4).update(&OWNED.octets(), &[1], MapFlags::ANY).unwrap();
        program.map(OWNED_IPV6).update(&OWNED_6.octets(), &[1], MapFlags::ANY).unwrap();
        for (queue, socket) in queues.iter().zip(&program._sockets) {
            let socket = socket.as_raw_fd().to_ne_bytes();
            program.map(SOCKETS).update(&queue.to_ne_bytes(), &socket, MapFlags::ANY).unwrap();
        }
        program
    }

    /// A map of the program.
    ///
    /// # Panics
    ///
    /// If there is none of that name.
    #[must_use]
    pub fn map(&self, name: &str) -> Map<'_> {
        self.object.maps().find(|map| map.name() == name).unwrap_or_else(|| panic!("there is a map {name}"))
    }

    /// Writes the heartbeat of the worker of `queue`: `CLOCK_MONOTONIC`, ns.
    ///
    /// # Panics
    ///
    /// If there is no such queue.
    pub fn beat(&self, queue: u32, at_ns: u64) {
        self.map(HEARTBEAT).update(&queue.to_ne_bytes(), &at_ns.to_ne_bytes(), MapFlags::ANY).unwrap();
    }

    /// Raises the guard of `queue` until so long: `CLOCK_MONOTONIC`, ns.
    ///
    /// # Panics
    ///
    /// If there is no such queue.
    pub fn guard(&self, queue: u32, until_ns: u64) {
        self.map(GUARD).update(&queue.to_ne_bytes(), &until_ns.to_ne_bytes(), MapFlags::ANY).unwrap();
    }

    /// Says what becomes of frames to a group or broadcast address.
    ///
    /// # Panics
    ///
    /// If the table is full.
    pub fn listen(&self, group: impl Into<IpAddr>, group_use: GroupUse) {
        self.map(GROUPS).update(&group_key(group.into()), &[group_use as u8], MapFlags::ANY).unwrap();
    }

    /// Leaves them to the kernel again.
    ///
    /// # Panics
    ///
    /// If it was not listened to.
    pub fn ignore(&self, group: impl Into<IpAddr>) {
        self.map(GROUPS).delete(&group_key(group.into())).unwrap();
    }

    /// The copies that were made since the last call: queue and frame.
    ///
    /// # Panics
    ///
    /// If one is not a record.
    #[must_use]
    pub fn heard(&self) -> Vec<(u32, Vec<u8>)> {
        let heard = RefCell::new(Vec::new());
        let map = self.map(HEARD);
        let mut reader = RingBufferBuilder::new();
        let keep = |record: &[u8]| {
            assert_eq!(record.len(), Heard::BYTES);
            let Heard { queue, frame } = Heard::parse(record).expect("a record");
            heard.borrow_mut().push((queue, frame.to_vec()));
            0
        };
        reader.add(&map, keep).unwrap();
        reader.build().unwrap().consume().unwrap();
        heard.take()
    }

    /// Runs the program over `frame` as if it came in on queue 0, and checks that it is counted as `verdict`.
    ///
    /// # Panics
    ///
    /// If it is not, or as [`verdict`](Self::verdict).
    pub fn expect(&self, verdict: Verdict, name: &str, frame: &[u8]) {
        assert_eq!(self.verdict(name, frame), verdict, "{name}: {frame:02x?}");
    }

    /// Runs the program over `frame` as if it came in on queue 0.
    ///
    /// Returns the verdict that was counted, after checking that it was counted once and no other with it, that
    /// the action is the verdict's, and that the frame is as it was. `name` is what it is called in messages.
    ///
    /// # Panics
    ///
    /// If one of these does not hold, or the kernel does not run the program.
    #[must_use]
    pub fn verdict(&self, name: &str, frame: &[u8]) -> Verdict {
        self.run(name, frame, None)
    }

    /// The same as if the frame came in on `queue` of the interface with index `ifindex` in this thread's
    /// network namespace. The kernel wants an XDP program to be attached there.
    ///
    /// # Panics
    ///
    /// As [`verdict`](Self::verdict).
    #[must_use]
    pub fn verdict_on(&self, ifindex: u32, queue: u32, name: &str, frame: &[u8]) -> Verdict {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let fields = [0, frame.len() as u32, 0, ifindex, queue, 0];
        let mut context: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
        self.run(name, frame, Some(&mut context))
    }

    fn run(&self, name: &str, frame: &[u8], context: Option<&mut [u8]>) -> Verdict {
        let program = self.object.progs_mut().find(|program| program.name() == PROGRAM).expect("the program");
        let mut out = vec![0xee; frame.len() + 64];
        let before = self.counts();
        let input = ProgramInput {
            context_in: context,
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..ProgramInput::default()
        };
        let output = program.test_run(input).unwrap_or_else(|error| panic!("{name}: not run: {error}"));
        let after = self.counts();

        assert_eq!(output.data.as_deref(), Some(frame), "{name}: the frame was changed");
        let counted: Vec<Verdict> = Verdict::ALL
            .into_iter()
            .filter(|verdict| after[verdict.index() as usize] != before[verdict.index() as usize])
            .collect();
        let [verdict] = counted[..] else { panic!("{name}: counted as {counted:?}") };
        assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1, "{name}: counted more than once");
        let action = match verdict {
            Verdict::DropSyn => XDP_DROP,
            _ if verdict.redirects() => XDP_REDIRECT,
            _ => XDP_PASS,
        };
        assert_eq!(output.return_value, action, "{name}: counted as {verdict:?}");
        verdict
    }

    fn counts(&self) -> [u64; Verdict::COUNT] {
        let map = self.map(VERDICTS);
        Verdict::ALL.map(|verdict| {
            let by_cpu = map.lookup_percpu(&verdict.index().to_ne_bytes(), MapFlags::ANY).unwrap().expect("an entry");
            by_cpu.iter().map(|count| u64::from_ne_bytes(count[..].try_into().unwrap())).sum()
        })
    }
}

/// IPv4 as ::ffff:a.b.c.d.
fn group_key(group: IpAddr) -> [u8; 16] {
    match group {
        IpAddr::V4(group) => group.to_ipv6_mapped().octets(),
        IpAddr::V6(group) => group.octets(),
    }
}
