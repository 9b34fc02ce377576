//! The simulation of TCP: two production workers, many connections between them, everything that can go wrong, and
//! those who look on.
//!
//! ```text
//!   Talker                                                                   Talker     what it did -> Book
//!   [Worker] -- Nic -- strict check -- Lane (+ router) -- Nic -- [Worker]               books balance, every turn
//!       |                 |                                |         |
//!       '--- digested --> Observer <-- every segment ------'---------'   nothing acknowledged that has not arrived ...
//! ```
//!
//! Every byte of every stream says where it belongs, so a wrong one is found at once, on the wire as well as by the
//! application. When the faults stop, everything that was said has to arrive, and then to be forgotten.

mod app;
mod book;
pub mod bulk;
mod host;
mod manners;
mod observer;
pub mod peer;
mod ranges;
mod run;
mod scenario;
mod segment;
mod stream;
mod track;

pub use app::{Badge, Call, Calls, Talker};
pub use book::{Book, Record, SharedBook};
pub use host::TcpHost;
pub use manners::{Manners, Reading, Writing};
pub use observer::{Doubts, Observer};
pub use run::{TcpOutcome, TcpSimulation};
pub use scenario::{HostScenario, TcpScenario};
pub use segment::Segment;
pub use stream::{ECHO, Family, Flow, Side, TALK, differs, write};
