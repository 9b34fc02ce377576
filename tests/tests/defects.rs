//! Is the simulator able to fail? Here defects are planted around the stack, in a device that does what a
//! broken stack or driver would do and in broken applications, and each one must be caught.

use barewire::app::{Answer, App, Datagram};
use barewire::apps::echo::Echo;
use barewire::base::{Burst, Frame, Instant, Umem};
use barewire::device::{Device, DeviceCounters};
use barewire::wire::ethernet::Mac;
use barewire_tests::sim::{CLIENT_MAC, Nic, SERVER_MAC, Scenario, Simulation, Strangers, Virtual, attempt, frames};

/// The defect strikes one frame in so many.
const EVERY: u64 = 7;

/// What goes wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    ReceivedIsLeaked,
    ReceivedIsSwallowed,
    ReceivedComesTwice,
    ReceivedIsAltered,
    ReceivedComesLate,
    SentIsLeaked,
    SentIsSwallowed,
    SentGoesTwice,
    SentIsDamaged,
    SentIsAltered,
    SentHasOtherTtl,
    SentHasCongestionMark,
    SentHasOtherDestinationMac,
    SentHasOtherSourceMac,
    SentHasNoUdpChecksum,
    SentHasTrailer,
    SentLacksItsLastByte,
}

/// A NIC that has a defect, in one of the two hosts.
struct Saboteur {
    nic: Nic,
    defect: Defect,
    frames: u64,
}

impl Saboteur {
    fn new(nic: Nic, defect: Defect) -> Self {
        Self { nic, defect, frames: 0 }
    }

    /// Whether the defect strikes this frame: UDP, one in so many.
    fn strikes(&mut self, umem: &Umem, frame: &Frame) -> bool {
        let is_udp = umem.bytes(frame).get(12..24).is_some_and(|b| b[..2] == [8, 0] && b[11] == frames::UDP);
        self.frames += u64::from(is_udp && frame.len() > 60);
        is_udp && frame.len() > 60 && self.frames.is_multiple_of(EVERY)
    }

    fn spoil_received(&mut self, umem: &mut Umem, burst: &mut Burst, from: usize) {
        let frames: Vec<Frame> = burst.drain().collect();
        let mut late = Vec::new();
        for (i, mut frame) in frames.into_iter().enumerate() {
            if i < from || !self.strikes(umem, &frame) {
                burst.push(frame).unwrap();
                continue;
            }
            match self.defect {
                Defect::ReceivedIsLeaked => drop(frame),
                Defect::ReceivedIsSwallowed => umem.free(frame),
                Defect::ReceivedComesLate => late.push(frame),
                Defect::ReceivedComesTwice => {
                    let copy = copy(umem, &frame);
                    burst.push(frame).unwrap();
                    burst.push(copy).unwrap();
                }
                _ => {
                    alter(umem.bytes_mut(&mut frame));
                    burst.push(frame).unwrap();
                }
            }
        }
        for frame in late {
            burst.push(frame).unwrap();
        }
    }

    fn spoil_sent(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let frames: Vec<Frame> = burst.drain().collect();
        for mut frame in frames {
            if !self.strikes(umem, &frame) {
                burst.push(frame).unwrap();
                continue;
            }
            let len = usize::from(frame.len());
            match self.defect {
                Defect::SentIsLeaked => {
                    drop(frame);
                    continue;
                }
                Defect::SentIsSwallowed => {
                    umem.free(frame);
                    continue;
                }
                Defect::SentGoesTwice => burst.push(copy(umem, &frame)).unwrap(),
                Defect::SentHasTrailer => assert!(umem.set_len(&mut frame, len + 1)),
                Defect::SentLacksItsLastByte => assert!(umem.set_len(&mut frame, len - 1)),
                _ => spoil_bytes(self.defect, umem.bytes_mut(&mut frame)),
            }
            burst.push(frame).unwrap();
        }
    }
}

fn copy(umem: &mut Umem, frame: &Frame) -> Frame {
    let bytes = umem.bytes(frame).to_vec();
    let mut copy = umem.alloc().unwrap();
    assert!(umem.set_len(&mut copy, bytes.len()));
    umem.bytes_mut(&mut copy).copy_from_slice(&bytes);
    copy
}

fn spoil_bytes(defect: Defect, bytes: &mut [u8]) {
    match defect {
        Defect::SentIsDamaged => bytes[50] ^= 1,
        Defect::SentIsAltered => alter(bytes),
        Defect::SentHasOtherTtl => {
            bytes[22] -= 1;
            mend_header(bytes);
        }
        Defect::SentHasCongestionMark => {
            bytes[15] |= 3;
            mend_header(bytes);
        }
        Defect::SentHasOtherDestinationMac => bytes[5] ^= 0x10,
        Defect::SentHasOtherSourceMac => bytes[11] ^= 0x10,
        Defect::SentHasNoUdpChecksum => bytes[40..42].fill(0),
        other => panic!("{other:?} is no matter of bytes"),
    }
}

/// Changes the payload such that every checksum stays right: two words of it, which were drawn, change places.
fn alter(bytes: &mut [u8]) {
    bytes.swap(50, 52);
    bytes.swap(51, 53);
}

fn mend_header(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let checksum = frames::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
}

impl Device for Saboteur {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let from = burst.len();
        self.nic.receive(umem, burst);
        if format!("{:?}", self.defect).starts_with("Received") {
            self.spoil_received(umem, burst, from);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        if format!("{:?}", self.defect).starts_with("Sent") {
            self.spoil_sent(umem, burst);
        }
        self.nic.transmit(umem, burst);
    }

    fn counters(&mut self) -> DeviceCounters {
        self.nic.counters()
    }
}

impl Virtual for Saboteur {
    fn nic(&mut self) -> &mut Nic {
        &mut self.nic
    }
}

/// A sound wire, so that nothing but the defect can be to blame; payloads long enough to be altered.
fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario::sound(seed);
    // Several frames a turn, so that their order can be wrong.
    (scenario.traffic.min_len, scenario.traffic.gap_ns) = (32, 2_000);
    scenario
}

/// The message with which a defect of one host's NIC is caught.
fn caught(defect: Defect, host: Mac) -> Option<String> {
    let wrap = |mac, nic| Saboteur::new(nic, if mac == host { defect } else { Defect::None });
    attempt(|| Simulation::new(scenario(1), Echo, wrap).run()).err()
}

fn assert_caught(defect: Defect, host: Mac, by: &str) {
    let message = caught(defect, host).unwrap_or_else(|| panic!("{defect:?} was not caught"));
    assert!(message.contains(by), "{defect:?} was caught by something else than {by:?}: {message}");
}

#[test]
fn without_a_defect_nothing_is_caught() {
    assert_eq!(caught(Defect::None, SERVER_MAC), None);
}

#[test]
fn frames_that_get_lost_or_doubled_on_the_way_in_are_caught_in_either_host() {
    for host in [CLIENT_MAC, SERVER_MAC] {
        assert_caught(Defect::ReceivedIsLeaked, host, "chunks in Held");
    }
    assert_caught(Defect::ReceivedIsSwallowed, CLIENT_MAC, "what the client was given");
    assert_caught(Defect::ReceivedIsSwallowed, SERVER_MAC, "frames handed over");
    assert_caught(Defect::ReceivedComesTwice, CLIENT_MAC, "what the client was given");
    assert_caught(Defect::ReceivedComesTwice, SERVER_MAC, "digested a frame that never came");
}

#[test]
fn frames_that_the_stack_takes_for_others_are_caught() {
    assert_caught(Defect::ReceivedIsAltered, CLIENT_MAC, "what the client was given");
    assert_caught(Defect::ReceivedIsAltered, SERVER_MAC, "answers nothing");
    assert_caught(Defect::ReceivedComesLate, CLIENT_MAC, "what the client was given");
}

#[test]
fn frames_that_get_lost_or_doubled_on_the_way_out_are_caught_in_either_host() {
    for host in [CLIENT_MAC, SERVER_MAC] {
        assert_caught(Defect::SentIsLeaked, host, "chunks in Held");
        assert_caught(Defect::SentIsSwallowed, host, "originated = transmitted");
        assert_caught(Defect::SentGoesTwice, host, "originated = transmitted");
    }
}

#[test]
fn frames_that_are_not_right_in_themselves_are_caught_in_either_host() {
    for host in [CLIENT_MAC, SERVER_MAC] {
        assert_caught(Defect::SentIsDamaged, host, "UDP checksum");
        assert_caught(Defect::SentHasNoUdpChecksum, host, "without checksum");
        assert_caught(Defect::SentHasTrailer, host, "bytes: ");
        assert_caught(Defect::SentLacksItsLastByte, host, "malformed");
        assert_caught(Defect::SentHasOtherSourceMac, host, "another MAC address");
    }
}

#[test]
fn frames_that_are_right_but_not_what_was_to_be_sent_are_caught() {
    for defect in [Defect::SentIsAltered, Defect::SentHasOtherTtl, Defect::SentHasCongestionMark] {
        assert_caught(defect, SERVER_MAC, "answers nothing");
        assert_caught(defect, CLIENT_MAC, "the client's app");
    }
    assert_caught(Defect::SentHasOtherDestinationMac, SERVER_MAC, "answers nothing");
}

/// An echo with something wrong.
struct Broken {
    datagrams: u64,
    fault: fn(&mut Datagram<'_>) -> Answer,
}

impl App for Broken {
    type Session = ();

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        self.datagrams += 1;
        if self.datagrams.is_multiple_of(EVERY) { (self.fault)(datagram) } else { Echo.datagram(now, datagram) }
    }
}

fn assert_app_caught(fault: fn(&mut Datagram<'_>) -> Answer, by: &str) {
    let mut scenario = scenario(1);
    scenario.strangers = Strangers { frames: 300, claims: 0 };
    let app = Broken { datagrams: 0, fault };
    let caught = attempt(|| Simulation::new(scenario, app, |_, nic| nic).run());
    let message = caught.expect_err(by);
    assert!(message.contains(by), "{by:?} was to be said: {message}");
}

#[test]
fn an_application_that_answers_wrong_is_caught() {
    let wrong_byte = |datagram: &mut Datagram<'_>| {
        datagram.room_mut()[0] ^= 1;
        Answer::Reply(datagram.payload().len())
    };
    assert_app_caught(wrong_byte, "answers nothing");
    assert_app_caught(|datagram| Answer::Reply(datagram.payload().len().wrapping_sub(1).min(1472)), "answers nothing");
    assert_app_caught(|datagram| Answer::Reply((datagram.payload().len() + 1).min(1472)), "answers nothing");
    assert_app_caught(|_| Answer::None, "did not send");
    assert_app_caught(|_| panic!("the application's own"), "the application's own");
}
