//! Something that fails for a while, again and again.

use barewire::base::Instant;

use super::rng::Rng;

/// Times at which something does not work: gaps and lengths are drawn.
#[derive(Clone, Debug)]
pub struct Outages {
    gap_ns: u64,
    length_ns: u64,
    begins: Instant,
    ends: Instant,
}

impl Outages {
    /// It always works.
    pub const NONE: Self = Self { gap_ns: 0, length_ns: 0, begins: Instant::ZERO, ends: Instant::ZERO };

    /// It fails for up to `length_ns`, and works for up to `gap_ns` in between.
    #[must_use]
    pub const fn new(gap_ns: u64, length_ns: u64) -> Self {
        Self { gap_ns, length_ns, begins: Instant::ZERO, ends: Instant::ZERO }
    }

    /// It fails once, from a point in time until another.
    #[must_use]
    pub const fn once(begins: Instant, ends: Instant) -> Self {
        Self { gap_ns: 0, length_ns: 0, begins, ends }
    }

    /// Whether it fails now.
    pub fn is_on(&mut self, now: Instant, rng: &mut Rng) -> bool {
        if self.length_ns > 0 && now >= self.ends {
            let begins = now.as_ns() + 1 + rng.below(self.gap_ns);
            self.begins = Instant::from_ns(begins);
            self.ends = Instant::from_ns(begins + 1 + rng.below(self.length_ns));
        }
        (self.begins..self.ends).contains(&now)
    }
}
