//! Ethernet, ARP, IPv4, IPv6 and its extension headers: `barewire_tests::fuzz::headers`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::headers(bytes));
