//! The receiving side of a queue.

use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;

use millrace_dpdk_sys as sys;

use crate::error::Errno;
use crate::port::Running;
use crate::queue::fast::Functions;
use crate::queue::{Burst, RX_BURST_FRAMES_MAX};

/// A receive queue. One handle, one thread at a time: it is `Send` and not `Sync`.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
    functions: Functions,
    _running: Arc<Running>,
    _not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(running: Arc<Running>, queue: u16) -> Self {
        let port = running.port();
        Self {
            port,
            queue,
            functions: Functions::of(port, queue),
            _running: running,
            _not_sync: PhantomData,
        }
    }

    /// Takes what has arrived, at most [`RX_BURST_FRAMES_MAX`] frames and never more than there is
    /// room for, and puts it behind what the burst holds. Returns how many. Never waits. Cost: one
    /// `rte_eth_rx_burst`.
    #[inline]
    pub fn burst(&mut self, burst: &mut Burst) -> usize {
        self.burst_up_to(burst, RX_BURST_FRAMES_MAX)
    }

    /// As [`burst`](Self::burst), and at most `frames_max` frames: for measuring what small bursts
    /// cost. Drivers may hand out nothing when asked for fewer than their vector code handles at
    /// once (4 or 8).
    #[inline]
    pub fn burst_up_to(&mut self, burst: &mut Burst, frames_max: usize) -> usize {
        let room = burst.room().min(RX_BURST_FRAMES_MAX).min(frames_max);
        let free = burst.end_raw();
        // SAFETY: the port runs (our `Arc`), the queue was set up, this is its only handle and we
        // hold it mutably; `room` (at most 32) slots are free from there on.
        let count = unsafe { self.functions.receive(free, room as u16) };
        let count = usize::from(count);
        debug_assert!(count <= room);
        // SAFETY: the device wrote `count` owned, non-NULL chains into those slots.
        unsafe { burst.grow(count) };
        count
    }

    /// Frames that wait in the ring, where the driver can tell.
    pub fn waiting(&self) -> Result<usize, Errno> {
        // SAFETY: the port runs and the queue was set up.
        let count = unsafe { sys::mr_eth_rx_queue_count(self.port, self.queue) };
        Errno::check(count).map(|count| count.unsigned_abs() as usize)
    }

    /// Its port and its number there.
    pub(super) fn place(&self) -> (u16, u16) {
        (self.port, self.queue)
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }
}
