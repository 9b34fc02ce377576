//! Applications that come with the engine.

pub mod echo;
