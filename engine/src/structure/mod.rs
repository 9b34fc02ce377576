//! Bounded tables that the transport stands on. Each takes all its memory in `new` and never grows.
//!
//! ```text
//!   flow_table    hash of a flow -> id      where is the connection of this segment?
//!   recent        the same, guessed from what was found last
//!   slab          id -> value               the connection itself
//!   aside         owner -> value in a slab  what few connections have at a time
//!   timer_wheel   id -> deadline            which connection is to be looked after next?
//!   ready_list    ids in a row              which connection may send next?
//! ```
//!
//! An id is a number below the capacity. Nothing here knows what a flow or a connection is.
#![forbid(unsafe_code)]

pub mod aside;
pub mod flow_table;
pub mod ready_list;
pub mod recent;
pub mod slab;
pub mod timer_wheel;

/// Numbers that look random and are the same on every run, for the comparisons with a model.
#[cfg(test)]
mod random {
    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    pub(super) struct Random(pub(super) u64);

    impl Random {
        /// Any number.
        pub(super) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }

        /// A number below `end`.
        pub(super) fn below(&mut self, end: u32) -> u32 {
            (self.next() % u64::from(end)) as u32
        }

        /// A number of up to `bits` bits, all lengths equally likely: from nanoseconds to hours.
        pub(super) fn up_to_bits(&mut self, bits: u32) -> u64 {
            let length = self.below(bits + 1);
            self.next() & (1u64 << length).wrapping_sub(1)
        }
    }
}
