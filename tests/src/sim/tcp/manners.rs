//! How an application behaves on a connection, drawn for each anew.

use std::time::Duration;

use super::super::rng::Rng;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// How it writes what it has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Byte by byte.
    Bytes,
    /// In pieces of up to so many bytes.
    Pieces(u64),
    /// Into frames that it is handed out.
    Frames(u64),
    /// Now in this way and now in that.
    Mixed,
}

/// How it takes what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it, at once.
    Greedy,
    /// A part of what there is, then the next after a while of up to so long.
    Sips(u64),
    /// All of it, but only every so often.
    Seldom(u64),
}

/// How an application behaves on one connection.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Bytes that it has to say.
    pub total: u64,
    /// How it says them.
    pub writing: Writing,
    /// How it listens.
    pub reading: Reading,
    /// Bytes that it says in one go, and how long it thinks after them at most.
    pub breath: u64,
    /// See `breath`.
    pub thinking_ns: u64,
    /// Whether it waits for the other side to finish before it does.
    pub polite: bool,
    /// Bytes, said and heard, after which it hangs up.
    pub patience: Option<u64>,
    /// Nagle's algorithm.
    pub nagle: bool,
    /// Keep-alives.
    pub keep_alive: Option<Duration>,
    /// Whether an echo copies.
    pub copies: bool,
}

impl Manners {
    /// Draws them. `most` bytes are said at the most.
    #[must_use]
    pub fn drawn(rng: &mut Rng, most: u64) -> Self {
        let writing = match rng.below(8) {
            0 => Writing::Bytes,
            1..4 => Writing::Pieces(rng.scale(1, 20_000)),
            4 | 5 => Writing::Frames(rng.scale(1, 2_000)),
            _ => Writing::Mixed,
        };
        let reading = match rng.below(8) {
            0 | 1 => Reading::Sips(rng.scale(US, 20 * MS)),
            2 => Reading::Seldom(rng.scale(MS, 2_000 * MS)),
            _ => Reading::Greedy,
        };
        let total = match rng.below(8) {
            0 => 0,
            1 | 2 => rng.below(100),
            _ => rng.scale(1, most),
        };
        // Bytes take a call each, and mostly a segment.
        let total = if writing == Writing::Bytes { total.min(500) } else { total };
        Self {
            total,
            writing,
            reading,
            breath: if rng.chance(500) { u64::MAX } else { rng.scale(1, most) },
            thinking_ns: rng.scale(10 * US, 500 * MS),
            polite: rng.chance(300),
            patience: rng.chance(80).then(|| rng.below(2 * most)),
            nagle: rng.chance(500),
            keep_alive: rng.chance(200).then(|| Duration::from_secs(rng.between(1, 10))),
            copies: rng.chance(300),
        }
    }

    /// The same without any delay, and with an end.
    pub const fn hurry(&mut self) {
        (self.reading, self.breath, self.patience, self.polite) = (Reading::Greedy, u64::MAX, None, false);
        // Where there is memory for a frame or two, a piece a round trip would take its time.
        self.writing = Writing::Pieces(20_000);
    }
}
