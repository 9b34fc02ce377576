//! A NIC of the simulation: the rings of an AF_XDP socket over a worker's own packet memory.
//!
//! ```text
//!   wire --arrive--> [fill -> rx] --receive--> worker --transmit--> [tx] --depart--> wire
//!                                                                    |
//!                                 free <--- completed <--- sent <----+
//! ```
//!
//! It never makes a chunk up and never keeps one for itself; how slowly it works is its [`Mood`], which the
//! simulation sets before every turn. A NIC reads a frame whenever it likes until it says that it is sent: this one
//! checks then that the bytes are still those that it was given.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use barewire::base::{Burst, Descriptor, Place, Umem};
use barewire::device::{Device, DeviceCounters};

use super::segmentation;
use super::wire::Transmission;

/// Bytes that the kernel leaves in front of a received frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;

/// Sizes of rings, in frames.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Chunks that wait to be received into.
    pub fill: usize,
    /// Frames that were received and not yet taken out.
    pub rx: usize,
    /// Frames that wait to be sent.
    pub tx: usize,
    /// Frames that were sent and whose chunks were not yet taken back.
    pub completion: usize,
    /// Chunks that are left on the free list when the fill ring is topped up.
    pub reserve: u32,
}

/// How a NIC works at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    /// Frames that one call of `transmit` takes at most.
    pub accepts: usize,
    /// Whether frames leave the transmit ring.
    pub departs: bool,
    /// Whether chunks of sent frames come back.
    pub completes: bool,
    /// Whether free chunks are taken to receive into.
    pub fills: bool,
}

impl Mood {
    /// Nothing hinders it.
    pub const GOOD: Self = Self { accepts: usize::MAX, departs: true, completes: true, fills: true };
}

/// What became of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is in the receive ring.
    Received,
    /// There was no chunk to receive it into.
    NoChunk,
    /// The receive ring was full, or the frame longer than a chunk.
    NoRoom,
}

/// A NIC.
#[derive(Debug)]
pub struct Nic {
    rings: Rings,
    chunk_bytes: usize,
    mood: Mood,
    fill: VecDeque<u64>,
    rx: VecDeque<(u64, Transmission)>,
    /// Frames to send, and where they lie: nowhere if they were made of a packet that was cut up.
    tx: VecDeque<(Option<u64>, Vec<u8>)>,
    sent: VecDeque<(u64, Vec<u8>)>,
    /// To look at frames once more when they are sent; `None` for a NIC that does not.
    memory: Option<File>,
    /// Frames that the worker took out, in order, until the reference has digested them.
    handed: VecDeque<Transmission>,
    /// Whether it cuts up packets of several segments.
    segmentation: bool,
    counters: DeviceCounters,
}

/// A device that is a [`Nic`], or something around one.
pub trait Virtual: Device {
    /// The NIC.
    fn nic(&mut self) -> &mut Nic;
}

impl Virtual for Nic {
    fn nic(&mut self) -> &mut Nic {
        self
    }
}

impl Nic {
    /// A NIC over a memory, with a full fill ring.
    ///
    /// # Panics
    /// If the memory is not backed by a memfd.
    #[must_use]
    pub fn open(rings: Rings, umem: &mut Umem) -> Self {
        let memory = umem.memfd().expect("the memory of a simulated host is a memfd").try_clone_to_owned();
        let mut nic = Self {
            rings,
            chunk_bytes: umem.chunk_bytes() as usize,
            mood: Mood::GOOD,
            fill: VecDeque::new(),
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            sent: VecDeque::new(),
            memory: Some(memory.expect("a second descriptor of a memfd").into()),
            handed: VecDeque::new(),
            segmentation: false,
            counters: DeviceCounters::default(),
        };
        nic.top_up(umem);
        nic
    }

    /// The same NIC, that does not check whether frames stay as they are: for simulations that have to be fast.
    #[must_use]
    pub fn trusting(self) -> Self {
        Self { memory: None, ..self }
    }

    /// The same NIC, that cuts up packets of several segments, or does not.
    #[must_use]
    pub fn with_segmentation(self, segmentation: bool) -> Self {
        Self { segmentation, ..self }
    }

    /// Takes free chunks to receive into.
    fn top_up(&mut self, umem: &mut Umem) {
        while self.mood.fills
            && self.fill.len() < self.rings.fill
            && umem.free_chunks() > self.rings.reserve
            && let Some(addr) = umem.lend_empty()
        {
            self.fill.push_back(addr);
        }
    }

    /// Sets how it works from now on.
    pub const fn set_mood(&mut self, mood: Mood) {
        self.mood = mood;
    }

    /// A frame comes in from the wire.
    pub fn arrive(&mut self, frame: Transmission) -> Arrival {
        if self.rx.len() >= self.rings.rx || frame.bytes.len() + HEADROOM as usize > self.chunk_bytes {
            return Arrival::NoRoom;
        }
        let Some(addr) = self.fill.pop_front() else { return Arrival::NoChunk };
        self.rx.push_back((addr + HEADROOM, frame));
        Arrival::Received
    }

    /// The next frame that goes out on the wire.
    pub fn depart(&mut self) -> Option<Vec<u8>> {
        if !self.mood.departs || self.sent.len() >= self.rings.completion {
            return None;
        }
        let (addr, bytes) = self.tx.pop_front()?;
        if let Some(addr) = addr {
            self.sent.push_back((addr, bytes.clone()));
        }
        Some(bytes)
    }

    /// The next frame that was handed to the worker and not yet asked for here.
    pub fn next_handed(&mut self) -> Option<Transmission> {
        self.handed.pop_front()
    }

    /// Frames handed to the worker and not yet asked for by [`next_handed`](Self::next_handed).
    #[must_use]
    pub fn handed(&self) -> usize {
        self.handed.len()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters_now(&self) -> DeviceCounters {
        self.counters
    }

    /// Whether frames wait in it that only a turn, or a better mood, moves on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !(self.rx.is_empty() && self.tx.is_empty() && self.sent.is_empty())
    }

    /// Chunks in it, to receive into and to transmit, as the rings have it.
    #[must_use]
    pub fn chunks(&self) -> [(Place, usize); 2] {
        let in_tx = self.tx.iter().filter(|(addr, _)| addr.is_some()).count();
        [(Place::Fill, self.fill.len() + self.rx.len()), (Place::Transmit, in_tx + self.sent.len())]
    }
}

impl Device for Nic {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        while self.mood.completes
            && let Some((addr, bytes)) = self.sent.pop_front()
        {
            if let Some(memory) = &self.memory {
                let mut now = vec![0; bytes.len()];
                memory.read_exact_at(&mut now, addr).expect("the frame lies in the memory");
                assert_eq!(now, bytes, "a frame was changed while the NIC had it");
            }
            assert!(umem.complete(addr), "the chunk at {addr} was completed, but not with the device");
            self.counters.completed += 1;
        }
        self.top_up(umem);
        while burst.room() > 0
            && let Some((addr, frame)) = self.rx.pop_front()
        {
            let descriptor = Descriptor { addr, len: frame.bytes.len() as u32 };
            let mut chunk = umem.received(descriptor).expect("the chunk was with the device");
            umem.bytes_mut(&mut chunk).copy_from_slice(&frame.bytes);
            burst.push(chunk).expect("there was room");
            self.handed.push_back(frame);
            self.counters.received += 1;
        }
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let room = self.rings.tx.saturating_sub(self.tx.len()).min(self.mood.accepts);
        for frame in burst.take(room) {
            if umem.is_chain(&frame) {
                assert!(self.segmentation, "the stack sends no chains");
                let frames = segmentation::cut(&umem.slices(&frame).collect::<Vec<_>>());
                assert_eq!(frames.len(), umem.parts(&frame) as usize, "a segment for each chunk");
                self.counters.transmitted += frames.len() as u64;
                self.counters.gso_frames += frames.len() as u64;
                self.tx.extend(frames.into_iter().map(|bytes| (None, bytes)));
                umem.free(frame);
                continue;
            }
            let bytes = umem.bytes(&frame).to_vec();
            let (descriptor, _) = umem.lend(frame);
            self.tx.push_back((Some(descriptor.addr), bytes));
            self.counters.transmitted += 1;
        }
    }

    fn cuts_segments(&self) -> bool {
        self.segmentation
    }

    fn counters(&mut self) -> DeviceCounters {
        self.counters
    }
}
