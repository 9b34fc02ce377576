//! smoltcp alone: what a pair of request and response costs it, over a device of memory.
//!
//! ```text
//!   stack_alone_smoltcp --time [LOAD...]     nanoseconds a pair, at 1, 64 and 1,000 connections if nothing is said
//!   stack_alone_smoltcp --pairs N LOAD       at least N pairs, for callgrind
//! ```

use std::process::ExitCode;

use barewire_peer_harness::run;
use barewire_peer_smoltcp::alone::Alone;

fn main() -> ExitCode {
    run("smoltcp", |_connections| Alone::new())
}
