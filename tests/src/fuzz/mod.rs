//! What is done with bytes that anybody may send: functions of a byte string that must neither panic nor break what
//! they promise. `cargo fuzz` calls them with inputs of its own making (`tests/fuzz`), `tests/tests/fuzz_seeds.rs` with
//! a hundred thousand seeded ones.

mod headers;
mod reassembly;
mod stack;

pub use headers::{control, groups, headers, tcp, udp};
pub use reassembly::reassembly;
pub use stack::stack;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their files in `tests/fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Target); 7] = [
    ("headers", headers),
    ("control", control),
    ("groups", groups),
    ("udp", udp),
    ("tcp", tcp),
    ("reassembly", reassembly),
    ("stack", stack),
];

/// Takes numbers off the front of an input; zeros behind its end.
#[derive(Debug)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// As many bytes as there are, up to `most`.
    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
