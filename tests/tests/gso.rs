//! Segments that the kernel cuts up (generic segmentation offload), over a veth pair. Needs root.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use barewire::base::{Burst, Place, Umem};
use barewire::device::{AfXdp, BindMode, Device, SocketConfig};
use barewire_tests::lab::Lab;
use barewire_tests::netns::{PacketSocket, Veth};
use barewire_tests::services::Service;
use barewire_tests::tcp::{self, exchange};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Text of a segment, bytes.
const TEXT: usize = 1000;
/// Longest that a frame may take to the other end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A device, a burst for it, and who sees what arrives.
struct Sender {
    device: AfXdp,
    umem: Umem,
    out: Burst,
    far: PacketSocket,
    veth: Veth,
}

impl Sender {
    fn new(gso: bool) -> Self {
        let veth = Veth::new(1);
        veth.without_offloads();
        let far = veth.far_socket();
        let config = SocketConfig { mode: BindMode::Copy, gso, ..SocketConfig::new(Veth::NEAR, veth.near_index(), 0) };
        let (device, umem) = veth.near.enter(|| AfXdp::open(&config)).unwrap();
        Self { device, umem, out: Burst::new(), far, veth }
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut frame = self.umem.alloc().unwrap();
        assert!(self.umem.set_len(&mut frame, bytes.len()));
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        self.out.push(frame).unwrap();
    }

    /// Sequence numbers and text of the segments that arrive, datagrams as number 0; all checksums are right.
    fn arrived(&self, count: usize) -> Vec<(u32, usize)> {
        let mut buffer = vec![0; 1 << 16];
        let mut arrived = Vec::new();
        while arrived.len() < count {
            let Some(frame) = self.far.receive(&mut buffer, PATIENCE) else { break };
            let packet = SlicedPacket::from_ethernet(frame).unwrap();
            let (Some(net), Some(transport)) = (&packet.net, &packet.transport) else { continue };
            let ip = net.ipv4_ref().unwrap().header();
            assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv4(ip.source(), ip.destination()));
                    arrived.push((tcp.sequence_number(), tcp.payload().len()));
                }
                TransportSlice::Udp(udp) => arrived.push((0, udp.payload().len())),
                _ => {}
            }
        }
        arrived
    }

    fn transmit(&mut self) {
        self.device.transmit(&mut self.umem, &mut self.out);
    }

    /// Checks that every chunk comes back.
    fn settle(&mut self) {
        let mut nothing = Burst::new();
        for _ in 0..100 {
            self.device.receive(&mut self.umem, &mut nothing);
            if self.umem.count(Place::Transmit) == 0 {
                break;
            }
            self.device.wait(Duration::from_millis(10));
        }
        assert!(nothing.is_empty() && self.out.is_empty());
        assert_eq!((self.umem.count(Place::Transmit), self.umem.count(Place::Held)), (0, 0));
    }
}

fn segment(sequence: u32, text: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(Veth::NEAR_MAC, Veth::FAR_MAC).ipv4(NEAR.octets(), FAR.octets(), 64);
    let mut frame = Vec::new();
    builder.tcp(7, 4000, sequence, 1000).ack(1).write(&mut frame, &vec![0xa5; text]).unwrap();
    frame
}

fn datagram(payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(Veth::NEAR_MAC, Veth::FAR_MAC).ipv4(NEAR.octets(), FAR.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(7, 4000).write(&mut frame, &vec![0x5a; payload]).unwrap();
    frame
}

/// A burst in which segments that lie behind each other are between others, and what of it should arrive.
fn mixed() -> (Vec<Vec<u8>>, Vec<(u32, usize)>) {
    let numbers = [u32::MAX - 999, 0, 1000, 2000].map(|sequence| (sequence, TEXT));
    let mut expected = vec![(0, 1200)];
    expected.extend(numbers);
    expected.extend([(3000, 300), (0, 18), (9000, TEXT)]);
    let frames = expected.iter().enumerate().map(|(at, &(sequence, len))| match at {
        0 | 6 => datagram(len),
        _ => segment(sequence, len),
    });
    (frames.collect(), expected)
}

#[test]
fn the_kernel_cuts_segments_up_in_order_and_leaves_the_rest_to_the_ring() {
    let (frames, expected) = mixed();
    for gso in [true, false] {
        let mut sender = Sender::new(gso);
        frames.iter().for_each(|frame| sender.push(frame));
        sender.transmit();
        assert_eq!(sender.arrived(expected.len()), expected, "gso: {gso}");
        sender.settle();
        let counters = sender.device.counters();
        let by_ring = if gso { 3 } else { frames.len() as u64 };
        assert_eq!((counters.transmitted, counters.gso_errors), (by_ring, 0), "gso: {gso}");
        let joined = if gso { (1, 5) } else { (0, 0) };
        assert_eq!((counters.gso_calls, counters.gso_frames), joined, "gso: {gso}");
    }
}

#[test]
fn segments_wait_in_the_ring_while_the_link_is_down() {
    let mut sender = Sender::new(true);
    let (frames, expected) = mixed();
    sender.veth.near.ip(&["link", "set", Veth::NEAR, "down"]);
    frames.iter().for_each(|frame| sender.push(frame));
    sender.transmit();
    assert_eq!(sender.umem.count(Place::Transmit) as usize, frames.len());
    sender.veth.near.ip(&["link", "set", Veth::NEAR, "up"]);
    sender.settle();
    assert_eq!(sender.arrived(expected.len()), expected);
    frames.iter().for_each(|frame| sender.push(frame));
    sender.transmit();
    assert_eq!(sender.arrived(expected.len()), expected);
    assert_eq!(sender.device.counters().gso_frames, 5, "once the link is up again");
}

#[test]
fn linux_gets_every_byte_of_what_was_cut_up_and_none_was_where_that_is_switched_off() {
    let _alone = tcp::alone();
    let lab = Lab::of_both_families();
    let addresses = ["--address", Lab::ADDRESS_6];
    for options in [&addresses[..], &[&addresses[..], &["--no-gso"]].concat()] {
        let engine = lab.start(options);
        for address in [IpAddr::V4(Lab::ENGINE), IpAddr::V6(Lab::ENGINE_6)] {
            let stream = lab.veth.far.enter(|| TcpStream::connect((address, Service::Echo.port()))).unwrap();
            exchange(&stream, 1, 16 << 20);
        }
        let is_on = options.len() == addresses.len();
        let metrics =
            engine.metrics_when("both connections are over, and the kernel cut up what it should", |metrics| {
                let [finished, frames] = ["tcp_finished_total", "gso_frames_total"].map(|name| metrics.sum(name, &[]));
                finished == 2 && (frames > 0) == is_on
            });
        assert_eq!(metrics.sum("gso_errors_total", &[]), 0);
    }
}
