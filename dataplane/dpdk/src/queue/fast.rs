//! The way of a burst into its driver: what `rte_eth_rx_burst` and `rte_eth_tx_burst` do, in place.
//!
//! DPDK's functions are inline, and keep all their arguments for the packet callbacks; as real
//! functions behind a shim they cost every burst a call more and a dozen pushes and pops. Nobody
//! captures most of the time, so that way goes through the shim, and the usual one is four loads and
//! a jump into the driver. A callback that comes or goes meanwhile is seen a burst later than DPDK
//! would: its own rules allow for that.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use millrace_dpdk_sys as sys;

/// The row of a port in ethdev's table of functions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    port: u16,
    queue: u16,
    ops: NonNull<sys::rte_eth_fp_ops>,
}

// SAFETY: the table is a static of DPDK's. What its rows point to changes only while no queue handle
// of the port exists.
unsafe impl Send for Functions {}

impl Functions {
    /// The functions of a queue of a running port.
    pub(super) fn of(port: u16, queue: u16) -> Self {
        // SAFETY: the table has a row for each port number.
        let ops = unsafe {
            (&raw mut sys::rte_eth_fp_ops)
                .cast::<sys::rte_eth_fp_ops>()
                .add(usize::from(port))
        };
        Self {
            port,
            queue,
            // A static has an address.
            ops: NonNull::new(ops).unwrap_or(NonNull::dangling()),
        }
    }

    /// One `rte_eth_rx_burst`.
    ///
    /// # Safety
    /// The port runs, the receive queue was set up, nobody else uses it meanwhile, and `count` pointers
    /// fit at `frames`.
    #[inline]
    pub(super) unsafe fn receive(&self, frames: *mut *mut sys::mr_mbuf, count: u16) -> u16 {
        // SAFETY: the table is never unmapped; while the port runs its row does not change.
        let ops = unsafe { self.ops.as_ref() };
        // SAFETY: the queue was set up, so both arrays have it.
        let (queue, is_watched) = unsafe { look_up(&ops.rxq, self.queue) };
        match ops.rx_pkt_burst {
            // SAFETY: the driver's function for its own queue; the rest is the caller's contract.
            Some(burst) if !is_watched => unsafe { burst(queue, frames.cast(), count) },
            // SAFETY: as above.
            _ => unsafe { sys::mr_eth_rx_burst(self.port, self.queue, frames, count) },
        }
    }

    /// One `rte_eth_tx_burst`.
    ///
    /// # Safety
    /// The port runs, the transmit queue was set up, nobody else uses it meanwhile, and `count` owned
    /// chains are at `frames`; those that are taken are not touched again.
    #[inline]
    pub(super) unsafe fn send(&self, frames: *mut *mut sys::mr_mbuf, count: u16) -> u16 {
        // SAFETY: as in `receive`.
        let ops = unsafe { self.ops.as_ref() };
        // SAFETY: as in `receive`.
        let (queue, is_watched) = unsafe { look_up(&ops.txq, self.queue) };
        match ops.tx_pkt_burst {
            // SAFETY: as in `receive`.
            Some(burst) if !is_watched => unsafe { burst(queue, frames.cast(), count) },
            // SAFETY: as above.
            _ => unsafe { sys::mr_eth_tx_burst(self.port, self.queue, frames, count) },
        }
    }
}

/// The driver's queue, and whether somebody wants to see its packets.
///
/// # Safety
/// The queue was set up.
#[inline]
unsafe fn look_up(queues: &sys::rte_ethdev_qdata, queue: u16) -> (*mut core::ffi::c_void, bool) {
    let at = usize::from(queue);
    // SAFETY: by contract. Callbacks are added and removed by other threads, so their place is read as
    // the atomic that it is in C.
    let watcher = unsafe { AtomicPtr::from_ptr(queues.clbk.add(at).cast::<*mut u8>()) };
    let is_watched = !ptr::eq(watcher.load(Ordering::Relaxed), ptr::null());
    if is_watched {
        core::hint::cold_path();
    }
    // SAFETY: by contract.
    (unsafe { *queues.data.add(at) }, is_watched)
}
