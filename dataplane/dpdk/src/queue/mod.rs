//! Receive and transmit queues, and the burst of frames that travels between them.
//!
//! There is one handle per queue and it cannot be copied, so a queue is polled by one thread at a
//! time, which is all that DPDK asks for. A queue handle keeps its port running.

mod fast;
mod macs;
mod rx;
mod tx;
mod wait;

use core::fmt;

use arrayvec::ArrayVec;
use millrace_dpdk_sys as sys;

use crate::mbuf::Mbuf;

pub use rx::RxQueue;
pub use tx::{TxQueue, Unsent};
pub use wait::{RxInterrupts, RxMonitor};

/// Frames a burst can hold. Transmitting 64 at once costs little more than 32 where each burst is a
/// system call.
pub const BURST_FRAMES_MAX: usize = 64;

/// Frames taken from a device at once. What DPDK's vector drivers are tuned to, and few enough that
/// their headers stay in the first-level cache until the last one is handled.
pub const RX_BURST_FRAMES_MAX: usize = 32;
const _: () = assert!(RX_BURST_FRAMES_MAX <= BURST_FRAMES_MAX);

/// Up to [`BURST_FRAMES_MAX`] frames, in order.
#[derive(Default)]
pub struct Burst(ArrayVec<Mbuf, BURST_FRAMES_MAX>);

impl Burst {
    /// An empty burst.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a frame at the end, or gives it back when the burst is full.
    #[inline]
    pub fn try_push(&mut self, frame: Mbuf) -> Result<(), Mbuf> {
        self.0.try_push(frame).map_err(|full| full.element())
    }

    /// Takes all frames out, first to last.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Mbuf> {
        self.0.drain(..)
    }

    /// Frees all frames at once, which is cheaper than one by one.
    pub fn clear(&mut self) {
        let (frames, count) = (self.as_raw(), self.0.len());
        // SAFETY: the frames are given away in the next statement; a shorter array is always valid.
        unsafe { self.0.set_len(0) };
        // SAFETY: `count` (at most 64) owned chains, which nobody will touch again.
        unsafe { sys::mr_pktmbuf_free_bulk(frames, count as u32) };
    }

    /// The frames.
    #[inline]
    pub fn frames(&self) -> &[Mbuf] {
        &self.0
    }

    /// The frames, writable.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut [Mbuf] {
        &mut self.0
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no more fit.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// How many more fit.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }

    /// Where the next frame would be, as C sees it; [`room`](Self::room) pointers fit there.
    #[inline]
    pub(crate) fn end_raw(&mut self) -> *mut *mut sys::mr_mbuf {
        let held = self.0.len();
        // SAFETY: `held` is inside the array, or right behind it.
        unsafe { self.as_raw().add(held) }
    }

    /// Takes over what was written at [`end_raw`](Self::end_raw).
    ///
    /// # Safety
    /// `count` owned, non-NULL chains were written there, and there was room for them.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        debug_assert!(count <= self.room());
        let held = self.0.len();
        // SAFETY: by contract.
        unsafe { self.0.set_len(held + count) };
    }

    /// The array as C sees it: `Mbuf` is a transparent pointer.
    #[inline]
    fn as_raw(&mut self) -> *mut *mut sys::mr_mbuf {
        self.0.as_mut_ptr().cast()
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}
