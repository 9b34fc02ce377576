//! Datagrams out of fragments: `barewire_tests::fuzz::reassembly`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::reassembly(bytes));
