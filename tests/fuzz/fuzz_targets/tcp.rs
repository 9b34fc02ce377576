//! TCP's header and options: `barewire_tests::fuzz::tcp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::tcp(bytes));
