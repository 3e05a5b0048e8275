//! The narrow place: packets leave at a rate, and wait in a queue until they may.

use millrace_base::{Instant, Nanos};

use super::queue::{Queue, QueuePlan};
use crate::dice::Dice;

/// Bytes of an Ethernet frame around the IP packet: header, checksum, preamble, gap.
const FRAMING_BYTES: u64 = 38;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A queue and the transmitter behind it.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    /// Bytes per second; 0 is no limit.
    rate: u64,
    shift: Option<(Instant, u64)>,
    queue: Queue,
    /// When the packet that is being sent has left.
    free_at: Instant,
}

impl Bottleneck {
    pub(crate) fn new(
        rate: u64,
        shift: Option<(Instant, u64)>,
        plan: &QueuePlan,
        dice: Dice,
    ) -> Self {
        Self {
            rate,
            shift,
            queue: Queue::new(plan, dice),
            free_at: Instant::ZERO,
        }
    }

    /// A packet comes; the queue may refuse it.
    pub(super) fn enqueue(&mut self, now: Instant, packet: Vec<u8>) {
        self.queue.push(now, packet);
    }

    /// When the transmitter takes the next packet.
    pub(super) fn next_deadline(&self) -> Instant {
        match self.queue.first_arrival() {
            Some(arrival) => self.free_at.max(arrival),
            None => Instant::NEVER,
        }
    }

    /// The next packet that is taken by `now`, and when its last bit has left.
    pub(super) fn dequeue(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        let starts = self.next_deadline();
        if starts > now {
            return None;
        }
        let packet = self.queue.pop(starts)?;
        self.free_at = starts.after(self.time_of(starts, packet.len()));
        Some((self.free_at, packet))
    }

    /// How long a packet has waited in the queue, on average.
    #[cfg(test)]
    pub(super) const fn mean_wait(&self) -> Nanos {
        self.queue.mean_wait()
    }

    /// Packets that the queue dropped and marked.
    pub(super) const fn counts(&self) -> (u64, u64) {
        self.queue.counts()
    }

    fn time_of(&self, now: Instant, len: usize) -> Nanos {
        let rate = match self.shift {
            Some((at, rate)) if at <= now => rate,
            _ => self.rate,
        };
        if rate == 0 {
            return Nanos::ZERO;
        }
        let bytes = len as u64 + FRAMING_BYTES;
        Nanos::new(bytes * NANOS_PER_SECOND / rate)
    }
}
