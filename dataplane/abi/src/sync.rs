//! The façade over atomics: the machine's own, or loom's when the interleavings are explored.
//!
//! Run the exploration with `RUSTFLAGS="--cfg loom" cargo test -p millrace-abi --test loom --release`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A value alone in its cache lines.
///
/// 128 bytes, not 64: x86 prefetches lines in pairs, so two writers on neighbouring lines still disturb each other.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Padded<AtomicU64>>() == 128);
