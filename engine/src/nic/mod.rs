//! What the kernel knows of a network interface, and what it tells while things change: facts to decide by, none of
//! which is trusted further than that.

mod ethtool;
mod facts;
mod monitor;
mod multicast;
mod routes;

pub use ethtool::{Spreading, TagStripping};
pub use facts::{FactsError, LinkFacts};
pub use monitor::{Monitor, News};
pub use multicast::MulticastFilter;
pub use routes::main_table;
