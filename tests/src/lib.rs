//! What the tests are made of.
pub mod citations;
pub mod content;
pub mod crowd;
pub mod fixtures;
pub mod flood;
pub mod impair;
pub mod kernel;
pub mod lab;
pub mod netns;
pub mod packets;
pub mod peer;
pub mod services;
pub mod sim;
pub mod sockets;
pub mod source;
pub mod tcp;
pub mod test_run;
