//! Queries for members of groups: IGMP and MLD: `barewire_tests::fuzz::groups`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::groups(bytes));
