//! The transmitting side of a queue.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem;
use core::ptr;
use std::sync::Arc;

use millrace_dpdk_sys as sys;

use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::port::Running;
use crate::queue::Burst;
use crate::queue::fast::Functions;

/// A transmit queue. One handle, one thread at a time: it is `Send` and not `Sync`.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    functions: Functions,
    /// Whether frames carry wishes that the driver must look at first.
    prepares: bool,
    /// Where flat copies come from, for a device that takes no chains.
    flatten_from: Option<Mempool>,
    flattened: u64,
    _running: Arc<Running>,
    _not_sync: PhantomData<Cell<()>>,
}

/// Frames the device did not take, still in the burst they came in, in order.
///
/// Doing nothing but looking keeps them there for the next turn; a frame that can never be sent
/// must be taken out by [`keep`](Self::keep), or it blocks those behind it.
#[must_use = "unsent frames are still yours"]
#[derive(Debug)]
pub struct Unsent<'b> {
    burst: &'b mut Burst,
    is_first_refused: bool,
}

impl TxQueue {
    pub(crate) fn new(
        running: Arc<Running>,
        queue: u16,
        prepares: bool,
        flatten_from: Option<Mempool>,
    ) -> Self {
        let port = running.port();
        let _not_sync = PhantomData;
        Self {
            port,
            queue,
            functions: Functions::of(port, queue),
            prepares,
            flatten_from,
            flattened: 0,
            _running: running,
            _not_sync,
        }
    }

    /// Hands frames to the device. Those it did not take come back; dropping them is the caller's
    /// decision, and must be counted. Cost: one `rte_eth_tx_burst`, and one `rte_eth_tx_prepare`
    /// where an offload is in force. Never spins.
    ///
    /// For a device that takes no chains (AF_XDP) each chain is first copied into one buffer of the
    /// receive pool.
    #[inline]
    pub fn burst<'b>(&mut self, burst: &'b mut Burst) -> Unsent<'b> {
        let mut ready = burst.len();
        if self.flatten_from.is_some() && has_chain(burst) {
            ready = self.flatten(burst);
        }
        if self.prepares {
            // SAFETY: the port runs (our `Arc`), the queue was set up, we hold its only handle
            // mutably, and the first `ready` (at most 64) slots hold owned chains. Preparing moves
            // no ownership.
            ready = usize::from(unsafe {
                sys::mr_eth_tx_prepare(self.port, self.queue, burst.as_raw(), ready as u16)
            });
        }
        let sent = if ready == 0 {
            0
        } else {
            self.send(burst, ready)
        };
        // What could be offered is gone and something is left: that one could not be offered.
        Unsent {
            is_first_refused: sent == ready && !burst.is_empty(),
            burst,
        }
    }

    /// Chains that had to be copied flat since the start.
    pub fn flattened(&self) -> u64 {
        self.flattened
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Offers the first `ready` frames and moves the rest of the burst to the front.
    #[inline]
    fn send(&mut self, burst: &mut Burst, ready: usize) -> usize {
        let held = burst.len();
        let frames = burst.as_raw();
        // SAFETY: a shorter array is always valid; should anything below panic, frames leak and
        // none is freed twice.
        unsafe { burst.0.set_len(0) };
        // SAFETY: as in `burst`. The device takes over the first `sent` chains.
        let sent = unsafe { self.functions.send(frames, ready as u16) };
        let sent = usize::from(sent);
        debug_assert!(sent <= ready);
        let left = held - sent;
        if left != 0 {
            // SAFETY: `held` slots were filled; the first `sent` are the device's now and are
            // overwritten.
            unsafe { ptr::copy(frames.add(sent), frames, left) };
        }
        // SAFETY: the first `left` slots hold the chains that the device did not take.
        unsafe { burst.0.set_len(left) };
        sent
    }

    /// Replaces chains by flat copies; returns how many frames from the front are flat.
    #[cold]
    fn flatten(&mut self, burst: &mut Burst) -> usize {
        let Some(pool) = self.flatten_from else {
            return burst.len();
        };
        for (index, frame) in burst.frames_mut().iter_mut().enumerate() {
            if frame.segment_count() == 1 {
                continue;
            }
            // SAFETY: the frame is live and the pool for ever; the copy is a new chain that we own.
            let copy =
                unsafe { Mbuf::from_raw(sys::mr_pktmbuf_copy(frame.as_ptr(), pool.as_ptr())) };
            let Some(copy) = copy else {
                return index;
            };
            self.flattened += 1;
            drop(mem::replace(frame, copy));
        }
        burst.len()
    }
}

/// Whether any frame has several segments. Looks at all of them without a branch, which is cheaper
/// than to stop at the first: there hardly ever is one.
#[inline]
fn has_chain(burst: &Burst) -> bool {
    let segments = burst.frames().iter().map(Mbuf::segment_count);
    segments.fold(1, |seen, count| seen | count) != 1
}

impl Unsent<'_> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.burst.len()
    }

    /// Whether the device took everything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Whether the first one is not late but impossible: the driver refuses to prepare it, or it
    /// cannot be made flat (longer than a buffer of the receive pool, or that pool is empty).
    pub fn is_first_refused(&self) -> bool {
        self.is_first_refused
    }

    /// Leaves them in the burst for the next turn, except an impossible one, which is freed.
    /// Returns how many were freed (0 or 1): count it.
    #[inline]
    pub fn keep(self) -> usize {
        if self.is_first_refused {
            drop(self.burst.0.pop_at(0));
        }
        usize::from(self.is_first_refused)
    }

    /// Frees them all. Returns how many: count it.
    #[inline]
    pub fn discard(self) -> usize {
        let count = self.burst.len();
        self.burst.clear();
        count
    }
}
