//! Frames on their way to one device: gathered into bursts, offered once a turn, never spun on.

use millrace_abi::burst_bucket;
use millrace_abi::limits::BURST_BUCKETS;
use millrace_base::{Instant, Nanos};
use millrace_dpdk::{Burst, Mbuf, TxQueue};

use crate::counters::{Counters, count};

/// How long a device may take nothing at all before what waits for it is dropped. A link that is down must not hold
/// buffers and older segments for ever; TCP sends again what was dropped.
const STALL_MAX: Nanos = Nanos::from_millis(200);

/// Since when a device has taken nothing that was offered; `NEVER` while it takes.
#[derive(Debug)]
struct Stall(Instant);

/// One lcore's transmit queue on one port, and the frames the device has not taken yet.
#[derive(Debug)]
pub(crate) struct TxPort {
    queue: TxQueue,
    waiting: Burst,
    stall: Stall,
    /// Bursts by what the device took of them.
    bursts: [u64; BURST_BUCKETS],
}

impl TxPort {
    /// An empty burst in front of this queue.
    pub(crate) fn new(queue: TxQueue) -> Self {
        Self {
            queue,
            waiting: Burst::new(),
            stall: Stall(Instant::NEVER),
            bursts: [0; BURST_BUCKETS],
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
        if let Some(bucket) = self.bursts.get_mut(burst_bucket(sent)) {
            *bucket = bucket.wrapping_add(1);
        }
        count!(counters.tx_frames, sent);
        count!(counters.tx_frames_refused, refused);
        if left > 0 {
            count!(counters.tx_bursts_short);
        }
        let moved = sent > 0 || refused > 0;
        if self.stall.is_over_patience(now, moved) {
            count!(counters.tx_frames_expired, self.waiting.len());
            self.waiting.clear();
        }
    }

    /// Bursts by the frames that the devices took of them, summed over ports.
    pub(crate) fn bursts_of(ports: &[Self]) -> [u64; BURST_BUCKETS] {
        let mut sum = [0u64; BURST_BUCKETS];
        for port in ports {
            for (sum, bursts) in sum.iter_mut().zip(&port.bursts) {
                *sum = sum.wrapping_add(*bursts);
            }
        }
        sum
    }

    /// Chains that had to be copied into one buffer.
    pub(crate) fn flattened(&self) -> u64 {
        self.queue.flattened()
    }
}

impl Stall {
    /// Takes note of an offer that `moved` something or nothing; tells whether to drop what waits.
    ///
    /// Once patience is over it stays over until the device takes something: a dead link then costs the other ports
    /// nothing, because its burst is emptied whenever it is full.
    fn is_over_patience(&mut self, now: Instant, moved: bool) -> bool {
        if moved {
            self.0 = Instant::NEVER;
            return false;
        }
        if self.0 == Instant::NEVER {
            self.0 = now;
        }
        now.since(self.0) >= STALL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by reading: a port that takes nothing held the others for 200 ms per burst, again and again.
    // behaviour: QDS-16, TUN-17
    #[test]
    fn patience_ends_once_and_returns_when_the_device_takes_something() {
        let mut stall = Stall(Instant::NEVER);
        let at = Instant::from_millis;
        assert!(!stall.is_over_patience(at(1_000), false));
        assert!(!stall.is_over_patience(at(1_199), false));
        assert!(stall.is_over_patience(at(1_200), false));
        assert!(stall.is_over_patience(at(1_201), false), "no second wait");
        assert!(!stall.is_over_patience(at(1_202), true));
        assert!(!stall.is_over_patience(at(1_203), false));
    }
}
