//! The wire with faults between two interfaces: that it carries what it should, fast enough for the tests that
//! rely on it. Needs root.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barewire_tests::content::Content;
use barewire_tests::impair::Faults;
use barewire_tests::lab::{Lab, PATIENCE};
use barewire_tests::netns::{PacketSocket, Veth};
use barewire_tests::packets::{self, BATCH, Frame};

/// Sends `count` frames of 256 bytes from the peer's end that carry their number, `burst` at a time and so many a
/// second, and gives the numbers that arrive at the engine's end, and how long it took.
fn carry(lab: &Lab, count: u32, per_second: u32) -> (Vec<u32>, Duration) {
    let far = lab.veth.far_socket();
    let near = lab.veth.near.enter(|| PacketSocket::new(Veth::NEAR));
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let numbers: Vec<u32> = (0..count).collect();
            for batch in numbers.chunks(BATCH) {
                let due = Duration::from_secs_f64(f64::from(batch[0]) / f64::from(per_second));
                thread::sleep(due.saturating_sub(start.elapsed()));
                let frames: Vec<Frame> = batch.iter().map(|number| frame(*number)).collect();
                let mut left = &frames[..];
                while !left.is_empty() {
                    left = &left[packets::send(&far, left)..];
                }
            }
        });
        let mut received = vec![Frame::default(); BATCH];
        let mut numbers = Vec::new();
        let mut last = Instant::now();
        // Frames may be lost: nothing comes any more when nothing has come for a while.
        while numbers.len() < count as usize && last.elapsed() < Duration::from_millis(500) {
            let count = packets::receive(&near, &mut received);
            for frame in received[..count].iter().map(Frame::bytes).filter(|frame| frame[12..14] == TYPE) {
                let number = frame[14..18].try_into().map(u32::from_be_bytes).unwrap();
                assert!(frame == self::frame(number).bytes(), "frame {number} was changed");
                numbers.push(number);
            }
            if count > 0 {
                last = Instant::now();
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let took = last - start;
        assert!(took < PATIENCE, "{took:?}");
        (numbers, took)
    })
}

/// An EtherType for experiments, IEEE 802.
const TYPE: [u8; 2] = [0x88, 0xb5];

fn frame(number: u32) -> Frame {
    let mut rest = [0; 238];
    Content::new(number.into()).fill(0, &mut rest);
    let mut frame = Frame::default();
    frame.set(&[&Veth::NEAR_MAC[..], &Veth::FAR_MAC, &TYPE, &number.to_be_bytes(), &rest].concat());
    frame
}

#[test]
fn a_sound_wire_carries_every_frame_unchanged_and_in_order() {
    let lab = Lab::impaired(&Faults::default(), 1);
    let count = 100_000;
    let (numbers, took) = carry(&lab, count, 150_000);
    println!("{count} frames of 256 bytes at 150,000 a second: {} arrived in {took:?}", numbers.len());
    assert!(numbers.iter().copied().eq(0..count), "{} of {count}, or not in order", numbers.len());
}

#[test]
fn a_wire_with_faults_has_those() {
    let faults = Faults { loss: 0.01, reorder: 0.01, duplicate: 0.01, ..Faults::default() };
    let lab = Lab::impaired(&faults, 1);
    let (numbers, _) = carry(&lab, 50_000, 50_000);
    let counts = lab.wire.expect("a lab with a wire").stop()[1];
    println!("{counts:?}");
    assert_eq!(numbers.len() as u64, counts.sent, "the one frame that is not ours would have another type");
    assert_eq!(50_000 + counts.duplicated, counts.sent + counts.lost);
    assert!([counts.lost, counts.reordered, counts.duplicated].iter().all(|count| (400..600).contains(count)));
    assert!(!numbers.is_sorted());
}

#[test]
fn the_command_joins_two_interfaces() {
    let veth = Veth::interrupted(1);
    veth.near.ip(&["address", "add", "10.0.0.1/24", "dev", Veth::NEAR]);
    veth.far.ip(&["address", "add", "10.0.0.3/24", "dev", Veth::FAR]);
    let between = veth.between.as_ref().expect("the two are not joined");
    let mut command = Command::new(env!("CARGO_BIN_EXE_impair"));
    command.args([Veth::NEAR_OTHER, Veth::FAR_OTHER, "--delay", "10", "--back", "--loss", "0"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut wire = between.enter(|| command.spawn()).unwrap();
    let mut output = BufReader::new(wire.stdout.take().unwrap());
    let mut text = String::new();
    output.read_line(&mut text).unwrap();
    assert_eq!(text, "ready\n");
    let said = veth.far.enter(|| barewire_tests::netns::run("ping", &["-q", "-c", "3", "-i", "0.01", "10.0.0.1"]));
    let least = said.split_once("mdev = ").and_then(|(_, times)| times.split('/').next()?.parse::<f64>().ok());
    assert!((20.0..30.0).contains(&least.unwrap()), "{said}");
    // The end of its standard input.
    drop(wire.stdin.take());
    output.read_to_string(&mut text).unwrap();
    assert!(
        wire.wait().unwrap().success() && text.contains("\nthere: Counts") && text.contains("\nback:  Counts"),
        "{text}"
    );
}
