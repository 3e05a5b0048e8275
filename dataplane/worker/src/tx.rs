//! Frames on their way to one device: gathered into bursts, offered once a turn, never spun on.

use millrace_base::{Instant, Nanos};
use millrace_dpdk::{Burst, Mbuf, TxQueue};

use crate::counters::{Counters, count};

/// How long a device may take nothing at all before what waits for it is dropped. A link that is down must not hold
/// buffers and older segments for ever, nor the other ports; TCP sends again what was dropped.
const STALL_MAX: Nanos = Nanos::from_millis(200);

/// One lcore's transmit queue on one port, and the frames the device has not taken yet.
#[derive(Debug)]
pub(crate) struct TxPort {
    queue: TxQueue,
    waiting: Burst,
    /// Since when the device has taken nothing that was offered; `NEVER` while it takes.
    stalled_since: Instant,
}

impl TxPort {
    /// An empty burst in front of this queue.
    pub(crate) fn new(queue: TxQueue) -> Self {
        Self {
            queue,
            waiting: Burst::new(),
            stalled_since: Instant::NEVER,
        }
    }

    /// Makes room for one frame, offering what waits if need be. `false`: the device is full, try next turn.
    #[inline]
    pub(crate) fn make_room(&mut self, now: Instant, counters: &mut Counters) -> bool {
        if self.waiting.is_full() {
            self.flush(now, counters);
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
    pub(crate) fn flush(&mut self, now: Instant, counters: &mut Counters) {
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
        if left == 0 || sent > 0 || refused > 0 {
            self.stalled_since = Instant::NEVER;
        } else if self.stalled_since == Instant::NEVER {
            self.stalled_since = now;
        } else if now.since(self.stalled_since) >= STALL_MAX {
            count!(counters.tx_frames_expired, left);
            self.waiting.clear();
            self.stalled_since = Instant::NEVER;
        }
    }

    /// Chains that had to be copied into one buffer.
    pub(crate) fn flattened(&self) -> u64 {
        self.queue.flattened()
    }
}
