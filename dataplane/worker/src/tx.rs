//! Frames on their way to one device: gathered into bursts, offered once a turn, never spun on.

use millrace_dpdk::{Burst, Mbuf, TxQueue};

use crate::counters::{Counters, count};

/// One lcore's transmit queue on one port, and the frames the device has not taken yet.
#[derive(Debug)]
pub(crate) struct TxPort {
    queue: TxQueue,
    waiting: Burst,
}

impl TxPort {
    /// An empty burst in front of this queue.
    pub(crate) fn new(queue: TxQueue) -> Self {
        Self {
            queue,
            waiting: Burst::new(),
        }
    }

    /// Makes room for one frame, offering what waits if need be. `false`: the device is full, try next turn.
    #[inline]
    pub(crate) fn make_room(&mut self, counters: &mut Counters) -> bool {
        if self.waiting.is_full() {
            self.flush(counters);
        }
        !self.waiting.is_full()
    }

    /// Puts a frame behind those that wait; gives it back when `make_room` would have said no.
    #[inline]
    pub(crate) fn push(&mut self, frame: Mbuf) -> Result<(), Mbuf> {
        self.waiting.try_push(frame)
    }

    /// Offers what waits to the device. What it does not take stays for the next turn.
    #[inline]
    pub(crate) fn flush(&mut self, counters: &mut Counters) {
        if self.waiting.is_empty() {
            return;
        }
        let offered = self.waiting.len();
        let unsent = self.queue.burst(&mut self.waiting);
        let left = unsent.len();
        let refused = unsent.keep();
        let sent = offered.saturating_sub(left);
        count!(counters.tx_frames, sent);
        count!(counters.tx_frames_refused, refused);
        if left > 0 {
            count!(counters.tx_bursts_short);
        }
    }

    /// Chains that had to be copied into one buffer.
    pub(crate) fn flattened(&self) -> u64 {
        self.queue.flattened()
    }
}
