//! Raw bindings to libdpdk: what `bindgen` made of the installed headers, and nothing written by
//! hand but the type of a reference count.
//!
//! The allow-list in `build.rs` is the list of everything Millrace uses of DPDK. Names that begin
//! with `mr_` are compiled wrappers of DPDK's `static inline` functions (`shim.c`); `mr_mbuf` is
//! `struct rte_mbuf` under field names that do not change between releases, proved at compile time
//! in the same file. The safe face is `millrace-dpdk`; use that one.
//!
//! Works with DPDK 22.11 and later. The program links the core libraries only: drivers are plug-ins
//! that EAL loads from its driver folder (see `build.rs` for the reason).
#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::wildcard_enum_match_arm,
    reason = "generated from C headers: the names and shapes are DPDK's"
)]

/// A reference count in an mbuf: the one kind of field that other lcores change while we read the
/// rest.
pub type mr_count = core::sync::atomic::AtomicU16;

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

// The layout that the packet path reads without a call: a surprise here must stop the build, not a
// packet.
const _: () = assert!(core::mem::size_of::<mr_mbuf>() == 128);
const _: () = assert!(core::mem::offset_of!(mr_mbuf, data_off) == 16);
const _: () = assert!(core::mem::offset_of!(mr_mbuf, refcnt) == 18);
const _: () = assert!(core::mem::offset_of!(mr_mbuf, ol_flags) == 24);
const _: () = assert!(core::mem::offset_of!(mr_mbuf, data_len) == 40);
