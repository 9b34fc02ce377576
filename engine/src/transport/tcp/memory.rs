//! How much packet memory connections may hold: each, and all together.
//!
//! There are two pools, one for what is to be sent and one for what was received: if both came out of one, two hosts
//! whose memory is full of what they send each other could take nothing in any more, and would wait for ever.
//!
//! What one connection may hold of a pool shrinks as that runs short: never more than what is left to all (the dynamic
//! threshold of Choudhury and Hahne, with a factor of one). So a few connections may use most of the memory, many get
//! equal parts of it without anybody counting them, and something is left for a new one.

use super::promise::Promises;

/// Segments whose chunks a connection may hold as long as any are left at all: one, and the one behind it.
const LEAST: u32 = 2;

/// Chunks that a connection holds, by pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) send: u32,
    pub(super) receive: u32,
}

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    limit: u32,
    /// Chunks that a connection may hold as long as any are left at all.
    least: u32,
    held: u32,
    /// Connections wait for their first chunk: no other gets more than the least meanwhile.
    pub(super) contended: bool,
}

impl Pool {
    const fn new(limit: u32, per_segment: u32) -> Self {
        Self { limit, least: LEAST * per_segment, held: 0, contended: false }
    }

    /// Chunks that a connection may take at once in addition to the `held` ones that it has: as many as it could take one
    /// by one, each of which leaves one less to all.
    #[inline]
    pub(super) fn allowance(&self, held: u32) -> u32 {
        let left = self.left();
        let least = self.least.saturating_sub(held).min(left);
        if self.contended { least } else { left.saturating_sub(held).div_ceil(2).max(least) }
    }

    /// Whether a connection may take a chunk in addition to the `held` ones that it has.
    #[inline]
    pub(super) fn allows(&self, held: u32) -> bool {
        let left = self.left();
        left > 0 && held < if self.contended { self.least } else { left.max(self.least) }
    }

    /// Chunks that nobody holds.
    #[inline]
    pub(super) const fn left(&self) -> u32 {
        self.limit.saturating_sub(self.held)
    }

    /// Whether so little is left that data behind gaps has to give way: an eighth.
    #[inline]
    pub(super) const fn is_short(&self) -> bool {
        self.held >= self.limit - self.limit / 8
    }

    #[inline]
    const fn account(&mut self, before: u32, after: u32) {
        self.held = (self.held + after).saturating_sub(before);
    }
}

/// The packet memory that TCP may hold.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) send: Pool,
    pub(super) receive: Pool,
    /// Room that was promised of what there is to receive into.
    pub(super) promises: Promises,
}

impl Memory {
    /// So many chunks for all connections together, of which a segment takes `per_segment` with `per_chunk` bytes of text
    /// in each.
    pub(super) const fn new(limit: u32, per_segment: u32, per_chunk: u32) -> Self {
        let (send, receive) = (limit / 2, limit - limit / 2);
        Self {
            send: Pool::new(send, per_segment),
            receive: Pool::new(receive, per_segment),
            promises: Promises::new(receive, per_segment, per_chunk),
        }
    }

    /// Chunks held by all connections.
    pub(super) const fn held(&self) -> u32 {
        self.send.held + self.receive.held
    }

    /// The same by pool.
    pub(super) const fn holdings(&self) -> Holdings {
        Holdings { send: self.send.held, receive: self.receive.held }
    }

    /// Enters what a connection holds now, and held before.
    #[inline]
    pub(super) const fn account(&mut self, before: Holdings, after: Holdings) {
        self.send.account(before.send, after.send);
        self.receive.account(before.receive, after.receive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_gets_half_and_many_get_equal_parts() {
        let mut pool = Pool::new(1000, 1);
        let mut take = |held: &mut u32| {
            if pool.allowance(*held) > 0 {
                pool.account(*held, *held + 1);
                *held += 1;
            }
        };
        let mut alone = 0;
        (0..2000).for_each(|_| take(&mut alone));
        assert_eq!(alone, 500);
        let at_once = Pool::new(1000, 1);
        assert_eq!([0, 400, 999].map(|held| at_once.allowance(held)), [500, 300, 1], "no more at once than one by one");
        let mut others = [0; 9];
        (0..2000).for_each(|_| others.iter_mut().for_each(&mut take));
        assert!(others.iter().all(|&held| (49..=51).contains(&held)), "{others:?}");
    }

    #[test]
    fn no_pool_is_ever_held_beyond_its_limit() {
        let mut pool = Pool::new(10, 1);
        pool.account(0, 9);
        assert!(pool.is_short());
        assert_eq!((pool.allowance(0), pool.allowance(1), pool.allowance(2)), (1, 1, 0));
        pool.account(0, 1);
        assert_eq!(pool.allowance(0), 0);
    }

    #[test]
    fn a_full_send_pool_leaves_room_to_receive() {
        let mut memory = Memory::new(8, 1, 1448);
        memory.account(Holdings::default(), Holdings { send: 4, receive: 0 });
        assert_eq!((memory.send.allowance(0), memory.receive.allowance(0)), (0, 2));
        assert_eq!(memory.held(), 4);
    }
}
