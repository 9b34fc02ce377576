//! Both drivers against the kernel: an AF_XDP socket on one end of a veth pair, a packet socket on the other.
//! Needs root.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use barewire::base::{Burst, ChunkSize, Frame, Place, Umem};
use barewire::device::{AfXdp, BindMode, Device, Granted, OpenError, RingSizes, SocketConfig, XskRs};
use barewire::steer::{Steer, SteerConfig, XdpMode};
use barewire_tests::netns::{PacketSocket, Veth, limit_locked_memory, without_capability};
use etherparse::PacketBuilder;

/// Longest that anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Rings,
    XskRs,
}

const DRIVERS: [Driver; 2] = [Driver::Rings, Driver::XskRs];

/// An open device, whichever driver it is.
struct Open {
    device: Box<dyn Device + Send>,
    umem: Umem,
    granted: Granted,
    fd: OwnedFd,
}

impl Driver {
    fn open(self, veth: &Veth, config: &SocketConfig) -> Result<Open, OpenError> {
        veth.near.enter(|| self.open_here(config))
    }

    fn open_here(self, config: &SocketConfig) -> Result<Open, OpenError> {
        match self {
            Self::Rings => AfXdp::open(config).map(|(device, umem)| {
                let (granted, fd) = (device.granted(), device.fd().try_clone_to_owned().unwrap());
                Open { device: Box::new(device), umem, granted, fd }
            }),
            Self::XskRs => XskRs::open(config).map(|(device, umem)| {
                let (granted, fd) = (device.granted(), device.fd().try_clone_to_owned().unwrap());
                Open { device: Box::new(device), umem, granted, fd }
            }),
        }
    }
}

impl Open {
    /// Receives, hands every frame to `answer`, and sends what that returns.
    fn turn(&mut self, mut answer: impl FnMut(&mut Umem, Frame) -> Option<Frame>) -> usize {
        let (mut received, mut out) = (Burst::new(), Burst::new());
        self.device.receive(&mut self.umem, &mut received);
        let count = received.len();
        for frame in received.drain() {
            if let Some(frame) = answer(&mut self.umem, frame) {
                out.push(frame).unwrap();
            }
        }
        self.transmit(&mut out);
        count
    }

    /// Sends all of a burst.
    fn transmit(&mut self, out: &mut Burst) {
        let start = Instant::now();
        while !out.is_empty() {
            self.device.transmit(&mut self.umem, out);
            let mut nothing = Burst::new();
            if !out.is_empty() {
                self.device.receive(&mut self.umem, &mut nothing);
                nothing.drain().for_each(|frame| self.umem.free(frame));
            }
            assert!(start.elapsed() < PATIENCE, "the device does not take {} frames", out.len());
        }
    }

    /// Waits until everything sent is completed, then checks that every chunk is free or there to receive into.
    fn settle(&mut self) {
        let start = Instant::now();
        while self.umem.count(Place::Transmit) > 0 {
            self.turn(|umem, frame| {
                umem.free(frame);
                None
            });
            assert!(start.elapsed() < PATIENCE, "{} chunks never completed", self.umem.count(Place::Transmit));
        }
        let places = [Place::Free, Place::Fill, Place::Held, Place::Queue].map(|place| self.umem.count(place));
        assert_eq!(places[0] + places[1], self.umem.chunks(), "free, fill, held, queued: {places:?}");
    }

    /// A frame of `bytes`, from a free chunk.
    fn frame(&mut self, bytes: &[u8]) -> Frame {
        let mut frame = self.umem.alloc().unwrap();
        assert!(self.umem.set_len(&mut frame, bytes.len()));
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        frame
    }
}

fn config(veth: &Veth, mode: BindMode) -> SocketConfig {
    SocketConfig { mode, ..SocketConfig::new(Veth::NEAR, veth.near_index(), 0) }
}

/// A datagram to the engine that carries `number` and is padded to `len` bytes of payload.
fn datagram(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![0xa5; len];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    let builder = PacketBuilder::ethernet2(Veth::FAR_MAC, Veth::NEAR_MAC).ipv4(FAR.octets(), NEAR.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(4000, 7).write(&mut frame, &payload).unwrap();
    frame
}

/// Number in a frame made by [`datagram`].
fn number(frame: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(frame.get(42..46)?.try_into().ok()?))
}

/// Attaches the XDP program, with `open`'s socket for queue 0.
fn steer(veth: &Veth, open: &Open) -> Steer {
    let index = veth.near_index();
    let steer = veth.near.enter(|| Steer::load(Veth::NEAR, index, XdpMode::Native, 1, SteerConfig::default()));
    let mut steer = steer.unwrap();
    steer.set_socket(0, open.fd.as_fd()).unwrap();
    steer.own(NEAR.into()).unwrap();
    steer
}

/// Swaps the MAC addresses: the least of an answer.
fn swap_macs(umem: &mut Umem, mut frame: Frame) -> Frame {
    let bytes = umem.bytes_mut(&mut frame);
    let (destination, rest) = bytes.split_at_mut(6);
    destination.swap_with_slice(&mut rest[..6]);
    frame
}

/// Receives `count` frames at the peer's end and gives their numbers.
fn numbers_at(socket: &PacketSocket, count: usize) -> HashSet<u32> {
    let mut buffer = vec![0; 16384];
    let mut numbers = HashSet::new();
    while numbers.len() < count {
        let Some(frame) = socket.receive(&mut buffer, Duration::from_secs(2)) else { break };
        numbers.extend(number(frame));
    }
    numbers
}

#[test]
fn frames_put_out_arrive_at_the_peer_wherever_they_start_in_their_chunk() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let mut open = driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        let mut buffer = vec![0; 2048];
        let (mut shifted, mut number) = (0, 0);
        for offset in [256, 0, 240, 298, 257] {
            let mut out = Burst::new();
            let mut expected = Vec::new();
            while out.room() > 0 {
                let bytes = datagram(number, 18 + number as usize % 1400);
                let mut frame = open.frame(&bytes);
                shifted += u64::from(frame.offset() != offset);
                assert!(open.umem.shift(&mut frame, offset));
                out.push(frame).unwrap();
                expected.push(bytes);
                number += 1;
            }
            open.transmit(&mut out);
            for bytes in expected {
                let got = far.receive(&mut buffer, Duration::from_secs(2));
                assert_eq!(got, Some(&*bytes), "{driver:?} at offset {offset}");
            }
        }
        open.settle();
        let counters = open.device.counters();
        assert_eq!((counters.transmitted, counters.completed), (320, 320), "{driver:?}");
        let moved = if driver == Driver::XskRs { shifted } else { 0 };
        assert_eq!(counters.moved, moved, "{driver:?}: frames that start elsewhere are the price of xsk-rs");
        assert_eq!((counters.invalid_descriptors, counters.kernel_tx_invalid_descs), (0, 0));
    }
}

#[test]
fn veth_grants_copy_mode_and_refuses_zero_copy_by_name() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        for mode in [BindMode::Auto, BindMode::Copy] {
            let open = driver.open(&veth, &config(&veth, mode)).unwrap();
            assert_eq!(open.granted, Granted::Copy, "{driver:?} {mode:?}");
        }
        let error = driver.open(&veth, &config(&veth, BindMode::ZeroCopy)).err();
        assert!(matches!(error, Some(OpenError::ZeroCopyRefused { .. })), "{driver:?} {error:?}");
    }
}

#[test]
fn a_queue_that_does_not_exist_is_named() {
    for driver in DRIVERS {
        let veth = Veth::new(2);
        for mode in [BindMode::Auto, BindMode::Copy, BindMode::ZeroCopy] {
            let error = driver.open(&veth, &SocketConfig { queue: 2, ..config(&veth, mode) }).err();
            assert!(matches!(error, Some(OpenError::NoQueue { queue: 2, .. })), "{driver:?} {mode:?} {error:?}");
        }
        driver.open(&veth, &SocketConfig { queue: 1, ..config(&veth, BindMode::Auto) }).unwrap();
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let veth = Veth::new(1);
    let config = SocketConfig::new("near9", 9999, 0);
    for driver in DRIVERS {
        let error = driver.open(&veth, &config).err();
        assert!(matches!(error, Some(OpenError::NoInterface { .. })), "{driver:?} {error:?}");
    }
}

#[test]
fn a_queue_that_is_taken_is_named_and_can_be_had_right_after_it_is_given_up() {
    for driver in DRIVERS {
        for other in DRIVERS {
            let veth = Veth::new(1);
            let first = other.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
            let error = driver.open(&veth, &config(&veth, BindMode::Auto)).err();
            assert!(matches!(error, Some(OpenError::QueueTaken { queue: 0, .. })), "{driver:?} {error:?}");
            drop(first);
            driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        }
    }
}

#[test]
fn a_hundred_thousand_frames_are_echoed_in_place_and_every_chunk_is_accounted_for() {
    const COUNT: u32 = 100_000;
    const WINDOW: u32 = 256;
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let mut open = driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        let _steer = steer(&veth, &open);
        let peer = std::thread::spawn(move || {
            let mut echoed = HashSet::new();
            for first in (0..COUNT).step_by(WINDOW as usize) {
                let window = WINDOW.min(COUNT - first);
                (first..first + window).for_each(|number| far.send(&datagram(number, 18)));
                let numbers = numbers_at(&far, window as usize);
                assert_eq!(numbers.len(), window as usize, "echoes missing after frame {first}");
                echoed.extend(numbers);
            }
            echoed.len()
        });
        while !peer.is_finished() {
            if open.turn(|umem, frame| Some(swap_macs(umem, frame))) == 0 {
                open.device.wait(Duration::from_millis(10));
            }
        }
        assert_eq!(peer.join().unwrap(), COUNT as usize, "{driver:?}");
        open.settle();
        let counters = open.device.counters();
        let count = u64::from(COUNT);
        assert_eq!((counters.received, counters.transmitted, counters.completed), (count, count, count), "{driver:?}");
        assert_eq!((counters.moved, counters.unsendable, counters.invalid_descriptors), (0, 0, 0), "{driver:?}");
        assert_eq!((counters.kernel_rx_dropped, counters.kernel_rx_ring_full), (0, 0), "{driver:?}");
        let Open { device, mut umem, .. } = open;
        drop(device);
        umem.reclaim();
        assert_eq!(umem.free_chunks(), umem.chunks(), "{driver:?}");
    }
}

#[test]
fn jumbo_frames_are_chains_and_can_be_echoed_in_place() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        veth.set_mtu(9000);
        let far = veth.far_socket();
        let config = SocketConfig { multi_buffer: true, ..config(&veth, BindMode::Auto) };
        let mut open = driver.open(&veth, &config).unwrap();
        let _steer = steer(&veth, &open);
        let mut buffer = vec![0; 16384];
        let mut parts_seen = 0;
        for number in 0..200 {
            let sent = datagram(number, 8000);
            far.send(&sent);
            let start = Instant::now();
            while open.turn(|umem, frame| {
                parts_seen = umem.parts(&frame);
                Some(swap_macs(umem, frame))
            }) == 0
            {
                open.device.wait(Duration::from_millis(10));
                assert!(start.elapsed() < PATIENCE, "{driver:?}: frame {number} never arrived");
            }
            let got = far.receive(&mut buffer, Duration::from_secs(2)).expect("an echo");
            assert_eq!(got[12..], sent[12..], "{driver:?}: frame {number}");
        }
        assert!(parts_seen > 1, "{driver:?}: 8,042 bytes in one chunk");
        open.settle();
        assert_eq!(open.device.counters().transmitted, 200);
    }
}

#[test]
fn chains_are_taken_and_given_whole_over_the_edges_of_small_rings_and_bursts() {
    const COUNT: u32 = 600;
    const WINDOW: u32 = 20;
    for driver in DRIVERS {
        let veth = Veth::new(1);
        veth.set_mtu(9000);
        let far = veth.far_socket();
        let rings = RingSizes { fill: 128, ..RingSizes::all(64) };
        let config = SocketConfig {
            multi_buffer: true,
            rings,
            chunk_size: ChunkSize::Bytes4096,
            ..config(&veth, BindMode::Auto)
        };
        let mut open = driver.open(&veth, &config).unwrap();
        let _steer = steer(&veth, &open);
        // Of one chunk, of two and of three, in turn.
        let sent = |number: u32| datagram(number, [18, 5000, 8900][number as usize % 3]);
        let peer = std::thread::spawn(move || {
            let mut buffer = vec![0; 16384];
            for first in (0..COUNT).step_by(WINDOW as usize) {
                (first..first + WINDOW).for_each(|number| far.send(&sent(number)));
                for number in first..first + WINDOW {
                    let got = far.receive(&mut buffer, Duration::from_secs(2)).expect("an echo");
                    assert_eq!(got[12..], sent(number)[12..], "frame {number}");
                }
            }
        });
        while !peer.is_finished() {
            if open.turn(|umem, frame| Some(swap_macs(umem, frame))) == 0 {
                open.device.wait(Duration::from_millis(1));
            }
        }
        peer.join().unwrap();
        open.settle();
        let counters = open.device.counters();
        assert_eq!((counters.received, counters.transmitted), (COUNT.into(), COUNT.into()), "{driver:?}");
        assert_eq!((counters.invalid_descriptors, counters.overlong, counters.unsendable), (0, 0, 0), "{driver:?}");
    }
}

#[test]
fn what_no_kernel_would_send_is_freed_and_counted() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let mut open = driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        let mut out = Burst::new();
        for len in [0, 13] {
            let frame = open.frame(&vec![0; len]);
            out.push(frame).unwrap();
        }
        let (mut head, tail) = (open.frame(&[1; 100]), open.frame(&[2; 100]));
        open.umem.append(&mut head, tail);
        out.push(head).unwrap();
        let good = open.frame(&datagram(7, 18));
        out.push(good).unwrap();
        open.transmit(&mut out);
        assert_eq!(numbers_at(&far, 1), HashSet::from([7]), "{driver:?}");
        open.settle();
        let counters = open.device.counters();
        assert_eq!((counters.transmitted, counters.unsendable), (1, 3), "{driver:?}");
        assert_eq!(counters.kernel_tx_invalid_descs, 0, "{driver:?}");
    }
}

#[test]
fn frames_wait_in_the_ring_while_the_link_is_down_and_leave_on_a_later_turn() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let mut open = driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        veth.near.ip(&["link", "set", Veth::NEAR, "down"]);
        let mut out = Burst::new();
        for number in 0..10 {
            let frame = open.frame(&datagram(number, 18));
            out.push(frame).unwrap();
        }
        open.transmit(&mut out);
        assert_eq!(open.umem.count(Place::Transmit), 10, "{driver:?}");
        veth.near.ip(&["link", "set", Veth::NEAR, "up"]);
        let mut nothing = Burst::new();
        open.device.receive(&mut open.umem, &mut nothing);
        assert!(nothing.is_empty());
        assert_eq!(numbers_at(&far, 10).len(), 10, "{driver:?}");
        open.settle();
    }
}

#[test]
fn small_rings_echo_bursts_larger_than_they_are() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let config = SocketConfig { rings: RingSizes::all(16), ..config(&veth, BindMode::Auto) };
        let mut open = driver.open(&veth, &config).unwrap();
        for round in 0..20 {
            let mut out = Burst::new();
            for number in 0..64 {
                let frame = open.frame(&datagram(round * 64 + number, 18));
                out.push(frame).unwrap();
            }
            open.transmit(&mut out);
            assert_eq!(numbers_at(&far, 64).len(), 64, "{driver:?}");
        }
        open.settle();
    }
}

#[test]
fn ring_sizes_that_no_ring_has_are_refused() {
    let veth = Veth::new(1);
    for driver in DRIVERS {
        let config = SocketConfig { rings: RingSizes::all(1000), ..config(&veth, BindMode::Auto) };
        let error = driver.open(&veth, &config).err();
        assert!(matches!(error, Some(OpenError::RingSize { size: 1000, .. })), "{driver:?} {error:?}");
    }
}

#[test]
fn missing_permissions_and_a_memory_limit_are_told_apart() {
    const CAP_NET_RAW: u32 = 13;
    const CAP_IPC_LOCK: u32 = 14;
    limit_locked_memory(1 << 20);
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let config = config(&veth, BindMode::Auto);
        let opened_without =
            |capability| veth.near.enter(|| without_capability(capability, || driver.open_here(&config).err()));
        let error = opened_without(CAP_NET_RAW);
        assert!(matches!(error, Some(OpenError::NoPermission { .. })), "{driver:?} {error:?}");
        let error = opened_without(CAP_IPC_LOCK);
        assert!(matches!(error, Some(OpenError::MemoryLimit { .. })), "{driver:?} {error:?}");
        driver.open(&veth, &config).unwrap();
    }
}

#[test]
fn a_device_whose_interface_is_gone_says_so_and_one_whose_link_is_down_does_not() {
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let mut open = driver.open(&veth, &config(&veth, BindMode::Auto)).unwrap();
        assert!(open.device.failure().is_none());
        veth.near.ip(&["link", "set", Veth::NEAR, "down"]);
        assert!(open.device.failure().is_none(), "{driver:?}");
        veth.near.ip(&["link", "del", Veth::NEAR]);
        assert!(open.device.failure().is_some(), "{driver:?}");
        let mut out = Burst::new();
        let frame = open.frame(&datagram(1, 18));
        out.push(frame).unwrap();
        open.device.transmit(&mut open.umem, &mut out);
        let mut nothing = Burst::new();
        open.device.receive(&mut open.umem, &mut nothing);
        open.device.wait(Duration::from_millis(1));
        assert!(nothing.is_empty() && out.is_empty());
        assert!(open.device.counters().kick_errors > 0, "{driver:?}");
    }
}

#[test]
fn frames_are_received_while_the_stack_holds_as_many_as_it_may() {
    const HELD: usize = 512;
    for driver in DRIVERS {
        let veth = Veth::new(1);
        let far = veth.far_socket();
        let config =
            SocketConfig { rings: RingSizes::all(64), extra_chunks: HELD as u32, ..config(&veth, BindMode::Auto) };
        let mut open = driver.open(&veth, &config).unwrap();
        let _steer = steer(&veth, &open);
        let (mut held, mut received, start) = (Vec::new(), 0, Instant::now());
        for number in 0..2 * HELD {
            far.send(&datagram(number as u32, 64));
            while received <= number {
                received += open.turn(|umem, frame| {
                    if held.len() < HELD {
                        held.push(frame);
                    } else {
                        umem.free(frame);
                    }
                    None
                });
                assert!(start.elapsed() < PATIENCE, "{driver:?}: {received} received, {} held", held.len());
            }
        }
        let counters = open.device.counters();
        assert_eq!((counters.fill_starved, counters.kernel_rx_fill_ring_empty), (0, 0), "{driver:?}");
        held.into_iter().for_each(|frame| open.umem.free(frame));
        open.settle();
    }
}
