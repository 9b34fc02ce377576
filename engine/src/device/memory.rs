//! A device without a NIC: frames come from a list, and go to one.

use std::collections::VecDeque;

use super::{Device, DeviceCounters};
use crate::base::{Burst, Frame, Umem};

/// Two lists of frames in place of a wire: what is delivered is received in the next turns of a worker, and what that
/// sends can be taken. So an application runs in a test, or in any other surroundings, as it does over AF_XDP, without a
/// kernel and without a permission.
///
/// ```text
///   deliver(bytes) ---> arriving ---> Worker::turn ---> sent ---> take_sent()
/// ```
///
/// A frame longer than a chunk lies in several, as a jumbo frame on AF_XDP does. It is made for tests, not for speed:
/// each frame is copied, in and out, into memory of its own, and both lists grow as long as nobody takes from them.
#[derive(Debug, Default)]
pub struct Memory {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    counters: DeviceCounters,
}

impl Memory {
    /// Puts a frame, from its Ethernet header on, behind those that are to be received.
    pub fn deliver(&mut self, frame: Vec<u8>) {
        self.arriving.push_back(frame);
    }

    /// What was sent since this was last called, in order.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Carries what either side has sent to the other: a wire between two workers.
    pub fn exchange(&mut self, other: &mut Self) {
        other.arriving.extend(self.sent.drain(..));
        self.arriving.extend(other.sent.drain(..));
    }
}

impl Device for Memory {
    /// Brings each frame into chunks of the packet memory, and gives them away with it.
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        while burst.room() > 0
            && let Some(bytes) = self.arriving.front()
        {
            let Some(frame) = filled(bytes, umem) else {
                // It stays for a turn that has room for it.
                self.counters.fill_starved += 1;
                return;
            };
            self.arriving.pop_front();
            self.counters.received += 1;
            if let Err(frame) = burst.push(frame) {
                umem.free(frame);
            }
        }
    }

    /// Copies each frame, and puts its chunks back on the free list: what a device was given is its own until then.
    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        for frame in burst.drain() {
            self.sent.push(umem.slices(&frame).flatten().copied().collect());
            umem.free(frame);
            self.counters.transmitted += 1;
            self.counters.completed += 1;
        }
    }

    fn counters(&mut self) -> DeviceCounters {
        self.counters
    }
}

/// A frame with these bytes, in as many chunks as they take; `None` if there are not so many.
fn filled(bytes: &[u8], umem: &mut Umem) -> Option<Frame> {
    let mut frame = umem.alloc()?;
    let mut rest = fill(bytes, &mut frame, umem);
    while !rest.is_empty() {
        let Some(mut part) = umem.alloc() else {
            umem.free(frame);
            return None;
        };
        rest = fill(rest, &mut part, umem);
        umem.append(&mut frame, part);
    }
    Some(frame)
}

/// Fills the chunk of an empty frame. What there was no room for is left.
fn fill<'a>(bytes: &'a [u8], frame: &mut Frame, umem: &mut Umem) -> &'a [u8] {
    let (here, rest) = bytes.split_at(bytes.len().min(umem.room_mut(frame).len()));
    let fits = umem.set_len(frame, here.len());
    debug_assert!(fits, "it is no more than there is room for");
    umem.bytes_mut(frame).copy_from_slice(here);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, UmemConfig};

    fn umem(chunks: u32) -> Umem {
        Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
    }

    #[test]
    fn frames_of_any_length_come_in_order_and_leave_as_they_came() {
        let (mut device, mut umem, mut burst) = (Memory::default(), umem(64), Burst::default());
        let frames: Vec<Vec<u8>> = [60, 1514, 9014, 14].map(|len| (0..len).map(|at| at as u8).collect()).to_vec();
        frames.iter().cloned().for_each(|frame| device.deliver(frame));
        device.receive(&mut umem, &mut burst);
        assert_eq!(burst.len(), 4);
        device.transmit(&mut umem, &mut burst);
        assert_eq!((device.take_sent(), device.take_sent()), (frames, Vec::new()));
        let DeviceCounters { received, transmitted, completed, .. } = device.counters();
        assert_eq!((received, transmitted, completed, umem.free_chunks()), (4, 4, 4, 64));
    }

    #[test]
    fn a_frame_for_which_memory_has_no_room_stays() {
        let (mut device, mut burst, mut small, mut large) = (Memory::default(), Burst::default(), umem(3), umem(64));
        device.deliver(vec![1; 9000]);
        device.receive(&mut small, &mut burst);
        assert_eq!((burst.len(), small.free_chunks(), device.counters().fill_starved), (0, 3, 1));
        device.receive(&mut large, &mut burst);
        device.transmit(&mut large, &mut burst);
        assert_eq!((device.take_sent(), large.free_chunks()), (vec![vec![1; 9000]], 64));
    }

    #[test]
    fn frames_for_which_a_burst_has_no_room_stay() {
        let (mut device, mut umem, mut burst) = (Memory::default(), umem(256), Burst::default());
        (0..100).for_each(|at| device.deliver(vec![at; 60]));
        device.receive(&mut umem, &mut burst);
        let first = burst.len();
        assert!(burst.room() == 0 && first < 100, "{first}");
        device.transmit(&mut umem, &mut burst);
        device.receive(&mut umem, &mut burst);
        assert_eq!(burst.len(), 100 - first);
        device.transmit(&mut umem, &mut burst);
        assert!(device.take_sent().iter().enumerate().all(|(at, frame)| frame[..] == [at as u8; 60]));
    }

    #[test]
    fn a_wire_carries_both_ways_at_once() {
        let (mut a, mut b, mut umem, mut burst) = (Memory::default(), Memory::default(), umem(64), Burst::default());
        for (device, len) in [(&mut a, 60), (&mut b, 70)] {
            device.deliver(vec![0; len]);
            device.receive(&mut umem, &mut burst);
            device.transmit(&mut umem, &mut burst);
        }
        a.exchange(&mut b);
        for (device, len) in [(&mut a, 70), (&mut b, 60)] {
            assert!(device.take_sent().is_empty(), "it went over the wire");
            device.receive(&mut umem, &mut burst);
            device.transmit(&mut umem, &mut burst);
            assert_eq!(device.take_sent(), [vec![0; len]]);
        }
    }
}
