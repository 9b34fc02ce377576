//! skeleton
pub mod fixtures;
pub mod kernel;
pub mod netns;
pub mod test_run;
