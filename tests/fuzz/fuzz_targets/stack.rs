//! The whole stack, fed with frames: `barewire_tests::fuzz::stack`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::stack(bytes));
