//! What the kernel knows of a network interface: facts to decide by, none of which is trusted further than
//! that.

mod ethtool;
mod facts;

pub use ethtool::{Spreading, TagStripping};
pub use facts::{FactsError, LinkFacts};
