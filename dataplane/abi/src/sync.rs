//! The façade over atomics: the machine's own, or loom's when the interleavings are explored.
//!
//! Run the exploration with `RUSTFLAGS="--cfg loom" cargo test -p millrace-abi --test loom
//! --release`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A value alone in its cache lines.
///
/// 128 bytes, not 64: x86 prefetches lines in pairs, so two writers on neighbouring lines still
/// disturb each other.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Under loom, notices that a whole-record copy and a whole-record write were not ordered by the
/// protocol around them. Relaxed atomics alone would hide it: loom never lets a load return a value
/// that is stored later. Elsewhere it is nothing.
#[derive(Debug, Default)]
pub(crate) struct RaceGuard {
    #[cfg(loom)]
    cell: loom::cell::UnsafeCell<()>,
}

// SAFETY: the cell holds nothing; loom tracks the accesses to it and panics when two race.
#[cfg(loom)]
unsafe impl Sync for RaceGuard {}

impl RaceGuard {
    /// A copy out begins.
    pub(crate) fn reading(&self) {
        #[cfg(loom)]
        self.cell.with(|_| ());
    }

    /// A write begins.
    pub(crate) fn writing(&self) {
        #[cfg(loom)]
        self.cell.with_mut(|_| ());
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RaceGuard>() == 0);
#[cfg(not(loom))]
const _: () = assert!(size_of::<Padded<AtomicU64>>() == 128);
