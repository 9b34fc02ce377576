//! Is the simulation of TCP able to fail? Here defects are planted around the stack, in a device that does to segments
//! what a broken TCP would do, with right checksums, and each one must be caught.

use std::fs::File;
use std::os::unix::fs::FileExt;

use barewire::base::{Burst, Frame, Umem};
use barewire::device::{Device, DeviceCounters};
use barewire_tests::sim::tcp::{Side, TcpScenario, TcpSimulation};
use barewire_tests::sim::{Nic, Rng, Virtual, attempt, frames};

/// The defect strikes one fitting segment in so many.
const EVERY: u64 = 7;

/// Bytes in front of the TCP header.
const TCP_AT: usize = 34;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    // What a segment has that is sent.
    TextOfOtherPlace,
    TextOfOtherConnection,
    SequenceNumberAhead,
    SequenceNumberBehind,
    AcknowledgmentAhead,
    AcknowledgmentBehind,
    AcknowledgmentOfNothing,
    WindowSmaller,
    WindowOfOtherScale,
    TimestampBack,
    TimestampMissing,
    EchoOfTheFuture,
    SackOfWhatIsMissing,
    FinTooEarly,
    FinForgotten,
    SynWithoutOptions,
    SynWithText,
    ReservedBits,
    ChecksumWrong,
    CapableWithoutText,
    LongerThanMss,
    // What becomes of a frame.
    Leaked,
    Swallowed,
    Doubled,
    ChangedLater,
    AllSwallowed,
    // What is received, and taken for something else.
    WiderWindowReceived,
    LargerMssReceived,
    OtherTextReceived,
    AcknowledgmentOfAllReceived,
    OldTextReceived,
}

impl Defect {
    const fn is_of_received(self) -> bool {
        matches!(
            self,
            Self::WiderWindowReceived
                | Self::LargerMssReceived
                | Self::OtherTextReceived
                | Self::AcknowledgmentOfAllReceived
                | Self::OldTextReceived
        )
    }
}

/// A NIC that has a defect.
struct Saboteur {
    nic: Nic,
    defect: Defect,
    fitting: u64,
    frames: u64,
    rng: Rng,
    /// The highest number that was sent, by port: what could be acknowledged.
    reached: std::collections::BTreeMap<(u16, u16), u32>,
}

/// A TCP segment in its frame.
struct Parts {
    flags: u8,
    header_len: usize,
    text: usize,
}

fn parts(bytes: &[u8]) -> Option<Parts> {
    let is_tcp = bytes.get(12..24).is_some_and(|b| b[..2] == [8, 0] && b[11] == frames::TCP);
    let header_len = usize::from(bytes.get(TCP_AT + 12).filter(|_| is_tcp)? >> 4) * 4;
    let total = 14 + usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    Some(Parts { flags: bytes[TCP_AT + 13], header_len, text: total.checked_sub(TCP_AT + header_len)? })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn add(bytes: &mut [u8], at: usize, by: u32) {
    let sum = word(bytes, at).wrapping_add(by);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

/// Makes all checksums right.
fn mend(bytes: &mut [u8]) {
    let len = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&len.to_be_bytes());
    bytes[24..26].fill(0);
    let checksum = frames::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    bytes[TCP_AT + 16..TCP_AT + 18].fill(0);
    let address = |at: usize| std::net::Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let checksum = !frames::transport_sum(address(26), address(30), frames::TCP, &bytes[TCP_AT..]);
    bytes[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&checksum.to_be_bytes());
}

/// Where an option's content is: of the timestamps, or of the first SACK block.
fn option(bytes: &[u8], parts: &Parts, kind: u8) -> Option<usize> {
    let mut at = TCP_AT + 20;
    while at < TCP_AT + parts.header_len {
        match bytes[at] {
            0 => return None,
            1 => at += 1,
            found if found == kind => return Some(at + 2),
            _ => at += usize::from(bytes[at + 1]),
        }
    }
    None
}

impl Saboteur {
    fn new(nic: Nic, defect: Defect) -> Self {
        Self { nic, defect, fitting: 0, frames: 0, rng: Rng::new(1), reached: Default::default() }
    }

    /// Whether it is this segment's turn, of those that the defect fits.
    fn strikes(&mut self, fits: bool) -> bool {
        self.fitting += u64::from(fits);
        fits && self.fitting.is_multiple_of(EVERY)
    }

    /// Does to the bytes of a segment that is sent what the defect is; whether that is more or less of them.
    fn spoil_bytes(&mut self, bytes: &mut Vec<u8>) {
        let Some(parts) = parts(bytes) else { return };
        let (is_syn, has_text) = (parts.flags & 2 != 0, parts.text >= 16);
        let (is_plain, text_at) = (parts.flags & 7 == 0, TCP_AT + parts.header_len);
        let timestamps = option(bytes, &parts, 8);
        let defect = self.defect;
        match defect {
            Defect::TextOfOtherPlace if self.strikes(has_text) => bytes[text_at..].rotate_left(2),
            Defect::TextOfOtherConnection if self.strikes(has_text) => self.rng.fill(&mut bytes[text_at..]),
            Defect::SequenceNumberAhead if self.strikes(has_text) => add(bytes, TCP_AT + 4, 3),
            Defect::SequenceNumberBehind if self.strikes(has_text) => add(bytes, TCP_AT + 4, 3_u32.wrapping_neg()),
            Defect::AcknowledgmentAhead if self.strikes(is_plain) => add(bytes, TCP_AT + 8, 1),
            Defect::AcknowledgmentBehind if self.strikes(is_plain && self.frames > 100) => {
                add(bytes, TCP_AT + 8, 1_u32.wrapping_neg());
            }
            Defect::AcknowledgmentOfNothing if self.strikes(is_plain) => add(bytes, TCP_AT + 8, 1 << 30),
            Defect::WindowSmaller if self.strikes(is_plain) => bytes[TCP_AT + 14] /= 2,
            Defect::WindowOfOtherScale if self.strikes(is_plain) => {
                let window = u16::from_be_bytes([bytes[TCP_AT + 14], bytes[TCP_AT + 15]]);
                bytes[TCP_AT + 14..TCP_AT + 16].copy_from_slice(&(window >> 3).to_be_bytes());
            }
            Defect::TimestampBack if self.strikes(is_plain && timestamps.is_some()) => {
                add(bytes, timestamps.unwrap_or(0), 10_000_u32.wrapping_neg());
            }
            Defect::TimestampMissing if self.strikes(is_plain && timestamps.is_some()) => {
                let at = timestamps.unwrap_or(0) - 2;
                bytes[at..at + 10].fill(1);
            }
            Defect::EchoOfTheFuture if self.strikes(is_plain && timestamps.is_some()) => {
                add(bytes, timestamps.unwrap_or(0) + 4, 1_000_000);
            }
            Defect::SackOfWhatIsMissing => {
                let block = option(bytes, &parts, 5);
                if self.strikes(block.is_some()) {
                    add(bytes, block.unwrap_or(0) + 4, 1);
                }
            }
            Defect::FinTooEarly if self.strikes(has_text && is_plain) => bytes[TCP_AT + 13] |= 1,
            Defect::FinForgotten if parts.flags & 1 != 0 => bytes[TCP_AT + 13] &= !1,
            Defect::SynWithoutOptions if self.strikes(is_syn) => bytes[TCP_AT + 20..].fill(1),
            Defect::SynWithText if self.strikes(is_syn) => bytes.extend([7; 8]),
            Defect::ReservedBits if self.strikes(true) => bytes[TCP_AT + 12] |= 8,
            Defect::CapableWithoutText if self.strikes(is_plain && parts.text == 0) => bytes[15] |= 2,
            Defect::LongerThanMss if self.strikes(parts.text > 800) => bytes.extend([0; 800]),
            _ => return,
        }
        mend(bytes);
        if self.defect == Defect::ChecksumWrong {
            bytes[TCP_AT + 16] ^= 1;
        }
    }

    fn spoil_sent(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let all: Vec<Frame> = burst.drain().collect();
        for mut frame in all {
            let is_tcp = parts(umem.bytes(&frame)).is_some_and(|parts| parts.text > 0);
            self.frames += u64::from(is_tcp);
            let defect = self.defect;
            match defect {
                Defect::Leaked if self.strikes(is_tcp) => {
                    drop(frame);
                    continue;
                }
                Defect::Swallowed if self.strikes(is_tcp) => {
                    umem.free(frame);
                    continue;
                }
                Defect::Doubled if self.strikes(is_tcp) => {
                    let twin = umem.duplicate(&frame).expect("memory for a copy");
                    burst.push(twin).expect("room");
                }
                Defect::ChecksumWrong if self.strikes(is_tcp) => umem.bytes_mut(&mut frame)[TCP_AT + 16] ^= 1,
                _ => {
                    let mut bytes = umem.bytes(&frame).to_vec();
                    self.spoil_bytes(&mut bytes);
                    // What is left of the chunk is room enough for what is longer.
                    if umem.set_len(&mut frame, bytes.len()) {
                        umem.bytes_mut(&mut frame).copy_from_slice(&bytes);
                    }
                }
            }
            burst.push(frame).expect("room");
        }
    }

    /// Writes into a frame that the NIC has, as a stack would that sends it again too early.
    fn change_later(&mut self, umem: &Umem, burst: &Burst) -> Option<u64> {
        let strikes = self.strikes(!burst.is_empty());
        let frame = burst.iter().next().filter(|_| strikes)?;
        Some(u64::from(frame.chunk()) * u64::from(umem.chunk_bytes()) + u64::from(frame.offset()) + 40)
    }

    fn spoil_received(&mut self, umem: &mut Umem, burst: &mut Burst, from: usize) {
        let all: Vec<Frame> = burst.drain().collect();
        for (at, mut frame) in all.into_iter().enumerate() {
            let Some(parts) = parts(umem.bytes(&frame)).filter(|_| at >= from) else {
                burst.push(frame).expect("room");
                continue;
            };
            let bytes = umem.bytes_mut(&mut frame);
            let (plain, text_at) = (parts.flags & 7 == 0, TCP_AT + parts.header_len);
            let defect = self.defect;
            match defect {
                Defect::WiderWindowReceived if plain => bytes[TCP_AT + 14..TCP_AT + 16].fill(0xff),
                Defect::LargerMssReceived if parts.flags & 2 != 0 => {
                    let at = option(bytes, &parts, 2).expect("every SYN has it");
                    bytes[at..at + 2].copy_from_slice(&1460_u16.to_be_bytes());
                }
                Defect::OtherTextReceived if self.strikes(parts.text >= 16) => {
                    bytes[text_at..text_at + 16].rotate_left(2);
                }
                Defect::OldTextReceived if self.strikes(parts.text >= 16) => add(bytes, TCP_AT + 4, 1),
                Defect::AcknowledgmentOfAllReceived if plain => {
                    let ports = (word(bytes, TCP_AT) as u16, (word(bytes, TCP_AT) >> 16) as u16);
                    if let Some(reached) = self.reached.get(&ports) {
                        bytes[TCP_AT + 8..TCP_AT + 12].copy_from_slice(&reached.to_be_bytes());
                    }
                }
                _ => {}
            }
            mend(&mut umem.bytes_mut(&mut frame)[..text_at + parts.text]);
            burst.push(frame).expect("room");
        }
    }

    fn note_sent(&mut self, umem: &Umem, burst: &Burst) {
        for frame in burst.iter() {
            let bytes = umem.bytes(frame);
            if let Some(parts) = parts(bytes) {
                let ports = ((word(bytes, TCP_AT) >> 16) as u16, word(bytes, TCP_AT) as u16);
                let controls = u32::from(parts.flags & 1) + u32::from(parts.flags >> 1 & 1);
                let end = word(bytes, TCP_AT + 4).wrapping_add(parts.text as u32 + controls);
                let reached = self.reached.entry(ports).or_insert(end);
                if parts.flags & 2 != 0 || end.wrapping_sub(*reached).cast_signed() > 0 {
                    *reached = end;
                }
            }
        }
    }
}

impl Device for Saboteur {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let from = burst.len();
        self.nic.receive(umem, burst);
        if self.defect.is_of_received() {
            self.spoil_received(umem, burst, from);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        self.note_sent(umem, burst);
        if self.defect != Defect::None && !self.defect.is_of_received() {
            self.spoil_sent(umem, burst);
        }
        if self.defect == Defect::AllSwallowed && self.frames > 20 {
            // As if they had been sent.
            burst.take(1).for_each(|frame| umem.free(frame));
        }
        let changed = if self.defect == Defect::ChangedLater { self.change_later(umem, burst) } else { None };
        self.nic.transmit(umem, burst);
        if let (Some(at), Some(memory)) = (changed, umem.memfd()) {
            let memory = File::from(memory.try_clone_to_owned().expect("a second descriptor"));
            memory.write_all_at(&[0xee; 4], at).expect("the chunk lies in the memory");
        }
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

/// A wire that reorders and loses a little, so that there is something to report and to send again.
fn scenario() -> TcpScenario {
    let mut scenario = TcpScenario::sound(18);
    for lane in &mut scenario.lanes {
        (lane.loss, lane.reordering, lane.reordering_ns) = (10, 50, 200_000);
    }
    for host in &mut scenario.hosts {
        (host.calls.count, host.calls.most) = (12, 60_000);
    }
    // The near host offers less than the far one could send, and in shorter segments.
    let near = &mut scenario.hosts[Side::Near as usize].config;
    near.mtu = 1000;
    if let Some(tcp) = &mut near.tcp {
        (tcp.mtu, tcp.receive_buffer) = (1000, 8_000);
    }
    scenario
}

/// The message with which a defect of the far host is caught.
fn caught(defect: Defect) -> Option<String> {
    let wrap = |mac, nic| Saboteur::new(nic, if mac == Side::Far.mac() { defect } else { Defect::None });
    attempt(|| TcpSimulation::new(scenario(), wrap).run()).err()
}

#[track_caller]
fn assert_caught(defect: Defect, by: &str) {
    let message = caught(defect).unwrap_or_else(|| panic!("{defect:?} was not caught"));
    assert!(message.contains(by), "{defect:?} was caught by something else than {by:?}: {message}");
}

#[test]
fn without_a_defect_nothing_is_caught() {
    assert_eq!(caught(Defect::None), None);
}

#[test]
fn text_that_is_not_what_was_written_is_caught_on_the_wire() {
    for defect in [Defect::TextOfOtherPlace, Defect::TextOfOtherConnection, Defect::SequenceNumberAhead] {
        assert_caught(defect, "of the stream is wrong");
    }
    assert_caught(Defect::SequenceNumberBehind, "of the stream is wrong");
    assert_caught(Defect::LongerThanMss, "sent a frame of 1");
}

#[test]
fn acknowledgments_that_are_not_true_are_caught() {
    assert_caught(Defect::AcknowledgmentAhead, "what was never sent");
    assert_caught(Defect::AcknowledgmentOfNothing, "what was never sent");
    assert_caught(Defect::AcknowledgmentBehind, "takes back an acknowledgment");
    assert_caught(Defect::SackOfWhatIsMissing, "reports by SACK what has not arrived");
}

#[test]
fn windows_that_shrink_are_caught() {
    assert_caught(Defect::WindowSmaller, "shrinks its window");
    assert_caught(Defect::WindowOfOtherScale, "shrinks its window");
}

#[test]
fn options_that_were_not_agreed_on_or_are_not_true_are_caught() {
    assert_caught(Defect::TimestampBack, "a timestamp before");
    assert_caught(Defect::TimestampMissing, "timestamps, if and only if");
    assert_caught(Defect::EchoOfTheFuture, "echoes a timestamp that was never sent");
    assert_caught(Defect::SynWithoutOptions, "without the MSS option");
    assert_caught(Defect::CapableWithoutText, "ECN-capable");
}

#[test]
fn control_bits_that_are_wrong_are_caught() {
    // It strikes the end of what the application has to say for now.
    assert_caught(Defect::FinTooEarly, "is said to be finished");
    assert_caught(Defect::FinForgotten, "connections are not over");
    assert_caught(Defect::SynWithText, "text with SYN");
    assert_caught(Defect::ReservedBits, "reserved bits");
    assert_caught(Defect::ChecksumWrong, "TCP checksum");
}

#[test]
fn frames_that_get_lost_doubled_or_changed_on_the_way_out_are_caught() {
    assert_caught(Defect::Leaked, "chunks in Held");
    assert_caught(Defect::Swallowed, "originated = transmitted");
    assert_caught(Defect::Doubled, "originated = transmitted");
    assert_caught(Defect::AllSwallowed, "originated = transmitted");
    assert_caught(Defect::ChangedLater, "changed while the NIC had it");
}

#[test]
fn a_stack_that_takes_what_it_received_for_something_else_is_caught() {
    assert_caught(Defect::WiderWindowReceived, "beyond the window");
    assert_caught(Defect::LargerMssReceived, "more than the MSS");
    assert_caught(Defect::OtherTextReceived, "wrong");
    assert_caught(Defect::OldTextReceived, "wrong");
    assert_caught(Defect::AcknowledgmentOfAllReceived, "beyond the window");
}
