//! UDP: `barewire_tests::fuzz::udp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::udp(bytes));
