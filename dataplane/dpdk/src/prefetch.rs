//! Asking the CPU for cache lines ahead of their use (`rte_prefetch0`). Hints only: nothing is read.

#[cfg(not(target_arch = "x86_64"))]
use millrace_dpdk_sys as sys;

/// Bytes of a cache line (`RTE_CACHE_LINE_SIZE` of x86 and most of Arm).
pub(crate) const LINE_BYTES: usize = 64;
/// Lines fetched of one value: a connection with its slot. More than a core's outstanding misses would only wait.
const LINES_MAX: usize = 8;

/// Fetches the line of an address.
#[inline]
pub(crate) fn line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on the cache and faults on no address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as above.
    unsafe {
        sys::mr_prefetch0(address.cast());
    }
}

/// Fetches the lines of a value, the first `LINES_MAX` of them.
#[inline]
pub(crate) fn value<T>(value: &T) {
    let start = core::ptr::from_ref(value).cast::<u8>();
    for number in 0..size_of::<T>().div_ceil(LINE_BYTES).min(LINES_MAX) {
        line(start.wrapping_add(number * LINE_BYTES));
    }
}
