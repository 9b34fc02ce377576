//! The harness against a stack of thirty lines that answers segments one by one.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::*;
use crate::frame::{ACK, PSH, Received, SYN, Segment, parse};

/// Echoes each segment by itself, and never looks at an acknowledgment.
#[derive(Default)]
struct Toy {
    incoming: Vec<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    /// The next sequence number of each connection.
    snd_nxt: HashMap<(Ipv4Addr, u16), u32>,
    /// Answers are held back for so many turns.
    slow: usize,
    turns: usize,
    /// Answers are not what was asked.
    lies: bool,
}

impl StackUnderTest for Toy {
    fn deliver(&mut self, frames: &mut Vec<Vec<u8>>) {
        self.incoming.append(frames);
    }

    fn turn(&mut self, _now_us: u64) {
        self.turns += 1;
        if !self.turns.is_multiple_of(self.slow + 1) {
            return;
        }
        for mut frame in self.incoming.drain(..) {
            // As if it had come from the stack, so that the client's own parser reads it.
            let (destination, source) = frame[..12].split_at_mut(6);
            destination.swap_with_slice(source);
            let Received::Segment(segment) = parse(&frame) else { continue };
            let snd_nxt = self.snd_nxt.entry(segment.source).or_insert(u32::MAX);
            let (flags, len) = match segment.flags & SYN {
                0 if segment.payload.is_empty() => continue,
                0 => (ACK | PSH, segment.payload.len() as u32),
                _ => (ACK | SYN, 1),
            };
            let answer = Segment {
                source: segment.destination,
                destination: segment.source,
                seq: *snd_nxt,
                ack: segment.seq.wrapping_add(len),
                flags,
                payload: if self.lies { &[0x11; 64][..segment.payload.len()] } else { segment.payload },
            };
            *snd_nxt = snd_nxt.wrapping_add(len);
            let mut answer = answer.frame();
            let (destination, source) = answer[..12].split_at_mut(6);
            destination.swap_with_slice(source);
            self.outgoing.push(answer);
        }
    }

    fn collect(&mut self, frames: &mut Vec<Vec<u8>>) {
        frames.append(&mut self.outgoing);
    }
}

fn load(connections: usize) -> Load {
    Load { connections, burst: BURST }
}

#[test]
fn a_load_is_read_as_it_is_printed() {
    for (text, connections, burst) in [("1", 1, 64), ("1000x1", 1000, 1), ("64x64", 64, 64)] {
        assert_eq!(text.parse(), Ok(Load { connections, burst }));
    }
    assert_eq!(Load { connections: 1000, burst: 1 }.to_string(), "1000x1");
    assert_eq!(load(1000).to_string(), "1000");
    for wrong in ["", "0", "1x0", "1x65", "x1", "1x", "many"] {
        assert!(wrong.parse::<Load>().is_err(), "{wrong}");
    }
}

#[test]
fn an_echo_is_asked_in_bursts_on_all_connections_in_turn() {
    let cases = [(1, 64, 10, 10), (64, 64, 64, 64), (100, 64, 130, 192), (30_100, 64, 64, 64), (100, 7, 20, 21)];
    for (connections, burst, pairs, expected) in cases {
        let timed = Driver::establish(Toy::default(), Load { connections, burst }).run(pairs);
        assert_eq!((timed.pairs, timed.further_frames, timed.further_turns), (expected, 0, 0));
        assert!(timed.elapsed > Duration::ZERO && timed.ns_per_pair() > 0.0);
    }
}

#[test]
fn turns_that_a_stack_takes_beyond_one_for_a_burst_are_told() {
    let slow = Toy { slow: 2, ..Toy::default() };
    let timed = Driver::establish(slow, load(3)).run(9);
    assert_eq!((timed.pairs, timed.further_frames), (9, 0));
    assert!((4..=6).contains(&timed.further_turns), "{timed:?}");
}

#[test]
#[should_panic(expected = "of connection 0")]
fn a_response_with_wrong_bytes_is_noticed() {
    Driver::establish(Toy { lies: true, ..Toy::default() }, load(2)).run(2);
}

#[test]
#[should_panic(expected = "no SYN-ACK")]
fn a_stack_that_does_not_answer_is_given_up() {
    let _ = Driver::establish(Toy { slow: usize::MAX - 1, ..Toy::default() }, load(1));
}
