//! The allocator guard: open during boot, then sealed on the threads that must not allocate.
//!
//! An lcore allocates everything before its loop. After `seal_thread` an allocation on that thread
//! is a bug: it is counted (production survives it and the counter tells), or it aborts (the
//! `checked` profile and tests). Freeing is not an allocation. Install it in the binary:
//! `#[global_allocator] static HEAP: SealableHeap = SealableHeap;`

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::System;

/// The system's allocator behind the guard.
#[derive(Clone, Copy, Debug, Default)]
pub struct SealableHeap;

/// What an allocation on a sealed thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAllocation {
    /// It succeeds and is counted.
    Count,
    /// The process aborts.
    Abort,
}

static ALLOCATIONS_AFTER_SEAL: AtomicU64 = AtomicU64::new(0);

std::thread_local! {
    // Constant and without a destructor: reaching it does not allocate.
    static SEAL: Cell<Option<OnAllocation>> = const { Cell::new(None) };
}

/// Seals the calling thread.
pub fn seal_thread(on_allocation: OnAllocation) {
    SEAL.set(Some(on_allocation));
}

/// Opens the calling thread again: the lcore has left its loop.
pub fn unseal_thread() {
    SEAL.set(None);
}

/// Allocations on sealed threads since the process started.
pub fn allocations_after_seal() -> u64 {
    ALLOCATIONS_AFTER_SEAL.load(Ordering::Relaxed)
}

fn on_allocation() {
    // A thread that is being torn down has no seal any more.
    match SEAL.try_with(Cell::get) {
        Ok(None) | Err(_) => {}
        Ok(Some(OnAllocation::Count)) => {
            // The only read-modify-write of the crate: it happens on a bug, from any thread.
            ALLOCATIONS_AFTER_SEAL.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(OnAllocation::Abort)) => abort(),
    }
}

#[cold]
fn abort() -> ! {
    let message = b"millrace: allocation on a sealed thread\n";
    // SAFETY: the pointer and the length describe `message`. Formatting or `eprintln!` could
    // allocate, hence the bare call.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    std::process::abort()
}

// SAFETY: every call is passed on unchanged to `System`, which keeps the trait's promises; the
// guard itself neither allocates nor unwinds.
unsafe impl GlobalAlloc for SealableHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        on_allocation();
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        on_allocation();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        on_allocation();
        // SAFETY: as in `alloc`; the pointer came from `System` by way of us.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
