//! ICMP of both families and neighbor discovery: `barewire_tests::fuzz::control`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::control(bytes));
