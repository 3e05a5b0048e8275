//! The allocator guard: open during boot, then sealed on the threads that must not allocate; and
//! where the memory of large tables comes from.
//!
//! An lcore allocates everything before its loop. After `seal_thread` an allocation on that thread
//! is a bug: it is counted (production survives it and the counter tells), or it aborts (the
//! `checked` profile and tests). Freeing is not an allocation. Install it in the binary:
//! `#[global_allocator] static HEAP: SealableHeap = SealableHeap;`
//!
//! An allocation of `LARGE_BYTES` or more is a table. It gets a mapping of its own that begins on a
//! huge-page boundary, the kernel is asked for huge pages (`MADV_HUGEPAGE`: works where
//! `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`), and every page is
//! touched at once by the calling thread. So the memory lies on the NUMA node of the CPU that asked
//! for it, a machine that has too little of it says so at boot, and the packet path takes no page
//! fault. Not `MAP_HUGETLB`: reserved pages belong to the packet buffers, which a device must reach.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::alloc::System;

/// From this many bytes on an allocation is a table: one huge page of x86 and of arm64 with 4 KiB
/// pages.
pub const LARGE_BYTES: usize = 2 << 20;

/// Mappings are whole pages; larger base pages (64 KiB on some arm64) divide this too.
const PAGE_BYTES: usize = 64 << 10;
const _: () = assert!(LARGE_BYTES.is_multiple_of(PAGE_BYTES));

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

static LARGE_BYTES_HELD: AtomicUsize = AtomicUsize::new(0);

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

/// Bytes of all large allocations that are held now, by any thread.
pub fn large_bytes_held() -> usize {
    LARGE_BYTES_HELD.load(Ordering::Relaxed)
}

/// Whether an allocation of this layout is a table.
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= LARGE_BYTES
}

fn mapped_bytes(size: usize) -> Option<usize> {
    size.checked_next_multiple_of(PAGE_BYTES)
}

/// Zeroed memory for a table; `None` when the machine has no more.
fn map_large(size: usize) -> Option<NonNull<u8>> {
    let length = mapped_bytes(size)?;
    // Enough that a huge-page boundary is inside, with `length` behind it.
    let reserved = length.checked_add(LARGE_BYTES)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe {
        libc::mmap(
            null_mut(),
            reserved,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    let before = start.align_offset(LARGE_BYTES);
    // SAFETY: `before` is below `LARGE_BYTES`, so `length` bytes behind it are inside the mapping.
    let table = unsafe { start.add(before) };
    unmap(start, before);
    // SAFETY: the end of the table is inside the mapping or just behind it.
    let behind = unsafe { table.add(length) };
    unmap(behind, LARGE_BYTES - before);
    // SAFETY: the range is ours alone. Refusal means ordinary pages, which work too.
    unsafe { libc::madvise(table.cast(), length, libc::MADV_HUGEPAGE) };
    if !touch(table, length) {
        unmap(table, length);
        return None;
    }
    LARGE_BYTES_HELD.fetch_add(length, Ordering::Relaxed);
    NonNull::new(table)
}

/// Makes every page of the range exist now; `false` when there is not enough memory.
fn touch(table: *mut u8, length: usize) -> bool {
    // SAFETY: the range is a mapping of ours, which this call only faults in.
    if unsafe { libc::madvise(table.cast(), length, libc::MADV_POPULATE_WRITE) } == 0 {
        return true;
    }
    if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
        return false;
    }
    // Linux before 5.14 does not know the advice: write to each page.
    for offset in (0..length).step_by(4_096) {
        // SAFETY: `offset` is inside the range, which nobody else knows yet.
        unsafe { table.add(offset).write_volatile(0) };
    }
    true
}

/// Gives back whole pages of a mapping of ours.
fn unmap(start: *mut u8, length: usize) {
    if length > 0 {
        // SAFETY: only called with ranges of pages that were mapped here and that nobody uses.
        unsafe { libc::munmap(start.cast(), length) };
    }
}

fn unmap_large(table: *mut u8, size: usize) {
    let length = mapped_bytes(size).unwrap_or(size);
    unmap(table, length);
    LARGE_BYTES_HELD.fetch_sub(length, Ordering::Relaxed);
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

// SAFETY: large layouts get mappings of their own: zeroed, aligned to `LARGE_BYTES`, of at least the
// size asked for, given back by the layout they were taken with. Every other call is passed on
// unchanged to `System`, which keeps the trait's promises. The guard neither allocates nor unwinds.
unsafe impl GlobalAlloc for SealableHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        on_allocation();
        if is_large(layout) {
            return map_large(layout.size()).map_or(null_mut(), NonNull::as_ptr);
        }
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        on_allocation();
        if is_large(layout) {
            return map_large(layout.size()).map_or(null_mut(), NonNull::as_ptr);
        }
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        on_allocation();
        // SAFETY: the caller promises that the rounded-up size does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_large(layout) && !is_large(wanted) {
            // SAFETY: as in `alloc`; the pointer came from `System` by way of us.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        let moved = if is_large(wanted) {
            map_large(size).map_or(null_mut(), NonNull::as_ptr)
        } else {
            // SAFETY: as in `alloc`; `GlobalAlloc` has no empty layouts here.
            unsafe { System.alloc(wanted) }
        };
        if !moved.is_null() {
            // SAFETY: two allocations, each of at least this many bytes.
            unsafe { moved.copy_from_nonoverlapping(pointer, size.min(layout.size())) };
            // SAFETY: the pointer came from us with this layout, and the caller forgets it.
            unsafe { self.dealloc(pointer, layout) };
        }
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_large(layout) {
            return unmap_large(pointer, layout.size());
        }
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
