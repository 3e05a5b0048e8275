//! Pools of mbufs: all packet memory, reserved at boot.
//!
//! A pool lives as long as the process. Mbufs carry no lifetime and may sit in a device's ring long
//! after everybody else has forgotten them, so no safe owner could know when to free the pool; and
//! nothing allocates after boot anyway.
//!
//! Each lcore keeps a cache of free mbufs, so getting and returning one costs about a dozen cycles
//! each and no atomic operation (`cache.rs`). A thread that is no lcore goes to the common ring, which is slower and just
//! as correct.

use core::ffi::CStr;
use core::fmt;
use core::ptr::NonNull;
use std::ffi::CString;

use millrace_base::{HEADROOM_BYTES_DEFAULT, PacketBuf, PacketPool};
use millrace_dpdk_sys as sys;

use crate::cache;
use crate::eal::Eal;
use crate::error::Errno;
use crate::lcore::SocketId;
use crate::mbuf::Mbuf;
use crate::prefetch;
use crate::queue::Burst;

/// The headroom DPDK was built with is the one the stack counts on.
const _: () = assert!(sys::RTE_PKTMBUF_HEADROOM as usize == HEADROOM_BYTES_DEFAULT);

/// Many producers, many consumers: safe whichever threads free whose mbufs. Named, not left to
/// `--mbuf-pool-ops-name`, because the safety of sending an `Mbuf` to another thread rests on it.
const OPS: &CStr = c"ring_mp_mc";

/// What a pool is made of.
#[derive(Clone, Copy, Debug)]
pub struct MempoolConfig<'a> {
    /// Unique in the process, at most 25 bytes (`rte_mempool` adds a prefix of its own).
    pub name: &'a str,
    /// Mbufs. One less than a power of two uses memory best.
    pub count: u32,
    /// Bytes per mbuf, headroom (128) included; 0 makes a pool for views only. A device without
    /// scatter needs the longest frame + 128.
    pub data_room_bytes: u16,
    /// Free mbufs kept per lcore, 0 to 512, at most `count / 1.5`.
    pub cache: u32,
    /// The NUMA node; `None` takes any.
    pub socket: Option<SocketId>,
}

/// Why a pool was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MempoolError {
    /// The name is too long or holds a NUL byte.
    #[error("{name:?} is no name for a pool: at most 25 bytes, no NUL")]
    Name {
        /// The name.
        name: String,
    },
    /// There is a pool of this name.
    #[error("a pool named {name} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// Not enough memory.
    #[error(
        "no memory for {count} mbufs of {data_room_bytes} bytes; are enough huge pages reserved?"
    )]
    Memory {
        /// Mbufs wanted.
        count: u32,
        /// Bytes wanted in each.
        data_room_bytes: u16,
    },
    /// The cache is larger than 512 or than two thirds of the pool.
    #[error("DPDK refused the sizes: {count} mbufs with caches of {cache} per lcore")]
    Sizes {
        /// Mbufs wanted.
        count: u32,
        /// Cache wanted.
        cache: u32,
    },
    /// Something else.
    #[error("the pool could not be made: {0}")]
    Other(Errno),
}

/// A pool of mbufs. Copies are the same pool; any thread may use it.
#[derive(Clone, Copy)]
pub struct Mempool(NonNull<sys::rte_mempool>);

// SAFETY: pools live for ever and their operations are safe from any thread (see `OPS`).
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// The stack's source of buffers: mbufs with data room, and small ones that only point into others.
///
/// A view costs no data room, which is why it has a pool of its own: a window full of views must
/// not eat the buffers that frames are received into.
#[derive(Clone, Copy, Debug)]
pub struct MbufPool {
    bufs: Mempool,
    views: Mempool,
    /// What frames of headers only are made of when `bufs` is empty.
    reserve: Option<Mempool>,
}

impl Default for MempoolConfig<'_> {
    fn default() -> Self {
        Self {
            name: "mbufs",
            count: 8_191,
            data_room_bytes: 2_048 + 128,
            cache: 256,
            socket: None,
        }
    }
}

impl Mempool {
    /// Makes a pool.
    pub fn new(_: &Eal, config: &MempoolConfig<'_>) -> Result<Self, MempoolError> {
        let wrong_name = || MempoolError::Name {
            name: config.name.to_owned(),
        };
        if config.name.len() > sys::MR_MEMPOOL_NAME_BYTES_MAX as usize {
            return Err(wrong_name());
        }
        let name = CString::new(config.name).map_err(|_| wrong_name())?;
        let socket = config.socket.map_or(-1, |socket| i32::from(socket.0));
        // SAFETY: EAL runs (the token), both strings end in NUL and are copied.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create_by_ops(
                name.as_ptr(),
                config.count,
                config.cache,
                0,
                config.data_room_bytes,
                socket,
                OPS.as_ptr(),
            )
        };
        NonNull::new(pool)
            .map(Self)
            .ok_or_else(|| MempoolError::from_errno(Errno::last(), config))
    }

    /// An empty mbuf; `None` when the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives for ever.
        match unsafe { cache::try_take(self.0.as_ptr()) } {
            // SAFETY: a fresh mbuf that only we hold.
            Some(mbuf) => unsafe { Mbuf::from_raw(mbuf.as_ptr()) },
            None => self.alloc_common(),
        }
    }

    /// Puts empty mbufs behind what the burst holds until there are `count` more of them, the burst is
    /// full, or the pool is empty; returns how many came. The pool is asked once, unless it is nearly
    /// empty.
    #[inline]
    pub fn alloc_burst(&self, burst: &mut Burst, count: usize) -> usize {
        let wanted = count.min(burst.room());
        if wanted == 0 {
            return 0;
        }
        // SAFETY: the pool lives for ever, and there is room for `wanted` (at most 64) pointers.
        let status =
            unsafe { sys::mr_pktmbuf_alloc_bulk(self.0.as_ptr(), burst.end_raw(), wanted as u32) };
        if status == 0 {
            // SAFETY: that many fresh mbufs were written there, which only we hold.
            unsafe { burst.grow(wanted) };
            return wanted;
        }
        self.alloc_last(burst, wanted)
    }

    /// Fills a cache from the common store, or serves a thread that has none.
    #[cold]
    #[inline(never)]
    fn alloc_common(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives for ever; a non-NULL answer is a fresh mbuf that only we hold.
        unsafe { Mbuf::from_raw(sys::mr_pktmbuf_alloc(self.0.as_ptr())) }
    }

    /// What is left in a pool that has not all that is wanted.
    #[cold]
    fn alloc_last(&self, burst: &mut Burst, wanted: usize) -> usize {
        for got in 0..wanted {
            let Some(frame) = self.alloc() else {
                return got;
            };
            // There is room, as the caller has seen.
            drop(burst.try_push(frame));
        }
        wanted
    }

    /// Free mbufs, exactly when nobody else uses the pool. Looks at every lcore's cache: not for
    /// the packet path.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives for ever.
        unsafe { sys::rte_mempool_avail_count(self.0.as_ptr()) as usize }
    }

    /// Free mbufs that the calling lcore could get: those in other lcores' caches do not count.
    /// O(1).
    #[inline]
    pub fn available_here(&self) -> usize {
        // SAFETY: the pool lives for ever.
        unsafe { sys::mr_mempool_available_here(self.0.as_ptr()) as usize }
    }

    /// All mbufs, free or not.
    pub fn count(&self) -> usize {
        // SAFETY: the pool lives for ever.
        unsafe { sys::mr_mempool_size(self.0.as_ptr()) as usize }
    }

    /// Bytes per mbuf, headroom included.
    pub fn data_room_bytes(&self) -> u16 {
        // SAFETY: the pool lives for ever and was made as an mbuf pool.
        unsafe { sys::mr_pktmbuf_data_room_size(self.0.as_ptr()) }
    }

    pub(crate) fn as_ptr(self) -> *mut sys::rte_mempool {
        self.0.as_ptr()
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("count", &self.count())
            .field("available", &self.available())
            .field("data_room_bytes", &self.data_room_bytes())
            .finish()
    }
}

impl MbufPool {
    /// A source that takes buffers from `bufs` and views from `views`. They may be the same pool,
    /// which then has to be large enough for both.
    pub const fn new(bufs: Mempool, views: Mempool) -> Self {
        Self {
            bufs,
            views,
            reserve: None,
        }
    }

    /// The same source with a reserve: when no buffer is free, a frame is made in one of `small`.
    ///
    /// What the stack makes by itself has no payload in it (ACK, RST, SYN-ACK, the header in front
    /// of a view), so 128 bytes behind the headroom are plenty. No device receives into them:
    /// however many frames come in, these are left.
    #[must_use]
    pub const fn with_reserve(self, small: Mempool) -> Self {
        Self {
            reserve: Some(small),
            ..self
        }
    }

    /// The reserve, if there is one.
    pub const fn reserve(&self) -> Option<Mempool> {
        self.reserve
    }

    /// Makes both pools: `config` for the buffers, and `views` mbufs without data room under the
    /// name with `-v` added.
    pub fn create(eal: &Eal, config: &MempoolConfig<'_>, views: u32) -> Result<Self, MempoolError> {
        let bufs = Mempool::new(eal, config)?;
        let name = format!("{}-v", config.name);
        let config = MempoolConfig {
            name: &name,
            count: views,
            data_room_bytes: 0,
            ..*config
        };
        Ok(Self::new(bufs, Mempool::new(eal, &config)?))
    }

    #[cold]
    fn alloc_reserved(&self) -> Option<Mbuf> {
        self.reserve.as_ref()?.alloc()
    }

    /// The pool with data room: what receive queues are filled from.
    pub fn bufs(&self) -> Mempool {
        self.bufs
    }

    /// The pool of views.
    pub fn views(&self) -> Mempool {
        self.views
    }
}

impl PacketPool for MbufPool {
    type Buf = Mbuf;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.bufs.alloc().or_else(|| self.alloc_reserved())
    }

    #[inline]
    fn view(&mut self, of: &Mbuf, offset: usize, len: usize) -> Option<Mbuf> {
        let end = offset.checked_add(len)?;
        if end > of.capacity() {
            return None;
        }
        let (offset, len) = (u16::try_from(offset).ok()?, u16::try_from(len).ok()?);
        // SAFETY: `of` is live for the call and holds its segment's memory; the span was checked
        // against that memory. The view takes its own counted reference to it.
        unsafe {
            Mbuf::from_raw(sys::mr_pktmbuf_alloc_view(
                self.views.as_ptr(),
                of.as_ptr(),
                offset,
                len,
            ))
        }
    }

    #[inline]
    fn available(&self) -> usize {
        self.bufs.available_here()
    }

    #[inline]
    fn prefetch<T>(value: &T) {
        prefetch::value(value);
    }
}

impl MempoolError {
    fn from_errno(errno: Errno, config: &MempoolConfig<'_>) -> Self {
        let MempoolConfig {
            count,
            data_room_bytes,
            cache,
            ..
        } = *config;
        match errno.number() {
            libc::ENAMETOOLONG => Self::Name {
                name: config.name.to_owned(),
            },
            libc::EEXIST => Self::Exists {
                name: config.name.to_owned(),
            },
            libc::ENOMEM | libc::ENOSPC => Self::Memory {
                count,
                data_room_bytes,
            },
            libc::EINVAL => Self::Sizes { count, cache },
            _ => Self::Other(errno),
        }
    }
}
