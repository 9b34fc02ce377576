//! skeleton
pub mod citations;
pub mod fixtures;
pub mod kernel;
pub mod lab;
pub mod netns;
pub mod sim;
pub mod source;
pub mod test_run;
