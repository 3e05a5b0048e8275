//! The free mbufs that an lcore keeps at hand, taken and given back without a call.
//!
//! A pool has one `struct rte_mempool_cache` per lcore: a stack of pointers that this lcore alone
//! touches. DPDK's functions for it are inline, so from Rust each mbuf would cost a call into the shim
//! and a second one to learn the lcore's number, which lies in another library's thread-local
//! storage. Here the number is remembered in our own, and what is common is done in place: a cache that
//! has something to take, or room to give. The rest (filling and emptying the cache, threads without
//! one, chains, views, shared mbufs) is DPDK's.
//!
//! Because it is the very same cache, nothing is hidden from DPDK's accounts: what lies here is
//! free, and [`Mempool::available`](crate::Mempool::available) counts it. It is bounded by the
//! pool's [`cache`](crate::MempoolConfig::cache), one and a half times over.

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use millrace_dpdk_sys as sys;

/// Lcores that have a cache. `LCORE_ID_ANY`, the number of all other threads, is far beyond them.
const LCORES: u32 = sys::RTE_MAX_LCORE;

/// Flags that say that the memory is somebody else's.
const FOREIGN: u64 = sys::MR_MBUF_F_INDIRECT | sys::MR_MBUF_F_EXTERNAL;

thread_local! {
    /// The calling thread's lcore. EAL gives a thread its number before any pool exists and never
    /// takes it back.
    static LCORE: Cell<u32> = const { Cell::new(sys::MR_LCORE_ID_ANY) };
}

/// The calling lcore's cache of one pool.
struct Cache(NonNull<sys::rte_mempool_cache>);

/// A fresh mbuf out of the calling lcore's cache; `None` when that is empty, or there is none.
///
/// # Safety
/// The pool lives.
#[inline]
pub(crate) unsafe fn try_take(pool: *mut sys::rte_mempool) -> Option<NonNull<sys::mr_mbuf>> {
    // SAFETY: the pool lives, by contract.
    let mut cache = unsafe { Cache::of(pool) }?;
    let mbuf = cache.pop()?;
    // SAFETY: it was free, and is in no cache any more: nobody else knows of it.
    reset(unsafe { &mut *mbuf.as_ptr() });
    Some(mbuf)
}

/// Gives an mbuf back to its pool.
///
/// # Safety
/// It is the last use of one owned reference to each segment of a well-formed chain.
#[inline]
pub(crate) unsafe fn free(mbuf: NonNull<sys::mr_mbuf>) {
    // SAFETY: live until it is given back.
    let head = unsafe { mbuf.as_ref() };
    // Acquire: what other holders did with it happened before it is used again.
    let is_alone = head.refcnt.load(Ordering::Acquire) == 1;
    if is_alone & (head.nb_segs == 1) & (head.ol_flags & FOREIGN == 0) {
        // What a pool holds has no successor, and the head of a chain of one has none either. Not
        // looking spares the second cache line of every mbuf.
        debug_assert!(head.next.is_null(), "a chain of one with a successor");
        // SAFETY: an mbuf's pool outlives it.
        let cache = unsafe { Cache::of(head.pool.cast()) };
        if let Some(mut cache) = cache
            && cache.try_push(mbuf)
        {
            return;
        }
    }
    // SAFETY: as above.
    unsafe { sys::mr_pktmbuf_free(mbuf.as_ptr()) };
}

impl Cache {
    /// # Safety
    /// The pool lives.
    #[inline]
    unsafe fn of(pool: *mut sys::rte_mempool) -> Option<Self> {
        if sys::MR_MEMPOOL_CACHES_OPEN == 0 {
            return None;
        }
        let mut lcore = LCORE.get();
        if lcore >= LCORES {
            lcore = learn_lcore()?;
        }
        // SAFETY: the field is that far behind the start of every pool; it is set before the pool is
        // handed out and never changed.
        let caches: *mut sys::rte_mempool_cache = unsafe {
            pool.byte_add(sys::MR_MEMPOOL_LOCAL_CACHE_OFS as usize)
                .cast::<*mut sys::rte_mempool_cache>()
                .read()
        };
        // A pool made without caches has NULL here.
        let caches = NonNull::new(caches)?;
        // SAFETY: there is one for each lcore number.
        Some(Self(unsafe { caches.add(lcore as usize) }))
    }

    #[inline]
    fn pop(&mut self) -> Option<NonNull<sys::mr_mbuf>> {
        // SAFETY: the calling thread's own cache: no other thread touches it, and no reference to it
        // outlives a method of this value, which stays on the thread.
        let cache = unsafe { self.0.as_mut() };
        let left = cache.len.checked_sub(1)?;
        // SAFETY: DPDK keeps `len` within the array.
        let mbuf = unsafe { *cache.objs.as_ptr().add(left as usize) };
        cache.len = left;
        NonNull::new(mbuf.cast())
    }

    #[inline]
    fn try_push(&mut self, mbuf: NonNull<sys::mr_mbuf>) -> bool {
        // SAFETY: as in `pop`.
        let cache = unsafe { self.0.as_mut() };
        // Where DPDK would empty the cache, DPDK does.
        if cache.len >= cache.flushthresh {
            return false;
        }
        // SAFETY: the threshold is within the array.
        unsafe { *cache.objs.as_mut_ptr().add(cache.len as usize) = mbuf.as_ptr().cast() };
        cache.len += 1;
        true
    }
}

/// Asks EAL for the calling thread's number.
#[cold]
fn learn_lcore() -> Option<u32> {
    // SAFETY: reads a thread-local integer.
    let lcore = unsafe { sys::mr_lcore_id() };
    LCORE.set(lcore);
    (lcore < LCORES).then_some(lcore)
}

/// `rte_pktmbuf_reset`, without what is so already in a free mbuf (`next`) or means nothing while no
/// transmit flag is set (`tx_offload`): both lie in the second cache line.
#[inline]
fn reset(head: &mut sys::mr_mbuf) {
    debug_assert!(head.next.is_null(), "a free mbuf with a successor");
    head.data_off = (sys::RTE_PKTMBUF_HEADROOM as u16).min(head.buf_len);
    *head.refcnt.get_mut() = 1;
    head.nb_segs = 1;
    head.port = u16::MAX;
    head.ol_flags = 0;
    head.packet_type = 0;
    head.pkt_len = 0;
    head.data_len = 0;
    head.vlan_tci = 0;
    head.vlan_tci_outer = 0;
}
