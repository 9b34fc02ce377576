//! Memory that will be needed soon, on its way into the nearest cache.
#![allow(unsafe_code)]

/// Bytes that a cache holds or lacks as one.
const CACHE_LINE: usize = 64;

/// Has a value on its way into the nearest cache, all of it. It changes nothing but time.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        for at in (0..size_of_val(value)).step_by(CACHE_LINE) {
            // SAFETY: a prefetch has no effect on memory, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, CACHE_LINE);
}
