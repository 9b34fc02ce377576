//! How much packet memory connections may hold: each, and all together.
//!
//! What one connection may hold shrinks as memory runs short: never more than what is left to all (the dynamic
//! threshold of Choudhury and Hahne, with a factor of one). So a few connections may use most of the memory, many
//! get equal parts of it without anybody counting them, and something is always left for a new one.

/// Chunks that a connection may hold however short memory is: a segment each way, so that nothing comes to a stop.
const LEAST: u32 = 2;

/// The packet memory that TCP may hold.
#[derive(Debug)]
pub(super) struct Memory {
    /// Chunks that all connections together may hold.
    limit: u32,
    /// Chunks that they hold.
    held: u32,
}

impl Memory {
    pub(super) const fn new(limit: u32) -> Self {
        Self { limit, held: 0 }
    }

    /// Chunks held by all connections.
    pub(super) const fn held(&self) -> u32 {
        self.held
    }

    /// Enters what a connection holds now, and held before.
    #[inline]
    pub(super) const fn account(&mut self, before: u32, after: u32) {
        self.held = (self.held + after).saturating_sub(before);
    }

    /// Chunks that a connection may take in addition to the `held` ones that it has.
    #[inline]
    pub(super) fn allowance(&self, held: u32) -> u32 {
        let left = self.limit.saturating_sub(self.held);
        left.max(LEAST).saturating_sub(held)
    }

    /// Whether so little is left that data behind gaps has to give way: an eighth.
    #[inline]
    pub(super) const fn is_short(&self) -> bool {
        self.held >= self.limit - self.limit / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_gets_half_and_many_get_equal_parts() {
        let mut memory = Memory::new(1000);
        let mut take = |held: &mut u32| {
            if memory.allowance(*held) > 0 {
                memory.account(*held, *held + 1);
                *held += 1;
            }
        };
        let mut alone = 0;
        (0..2000).for_each(|_| take(&mut alone));
        assert_eq!(alone, 500);
        let mut others = [0; 9];
        (0..2000).for_each(|_| others.iter_mut().for_each(&mut take));
        assert!(others.iter().all(|&held| (49..=51).contains(&held)), "{others:?}");
    }

    #[test]
    fn a_full_memory_still_lets_everybody_proceed() {
        let mut memory = Memory::new(10);
        memory.account(0, 10);
        assert!(memory.is_short());
        assert_eq!((memory.allowance(0), memory.allowance(1), memory.allowance(2)), (2, 1, 0));
    }
}
