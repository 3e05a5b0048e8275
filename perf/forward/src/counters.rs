//! What the packet path counts.
//!
//! A counter has one writer, the lcore that polls the stream, and any number of readers: a relaxed
//! load and a relaxed store, never a read-modify-write. Readers see each counter at some recent
//! value and no two of them at the same instant. Nobody sets one back: who wants to start from zero
//! remembers a [`Snapshot`] and subtracts it.

use core::sync::atomic::{AtomicU64, Ordering};

use millrace_dpdk::BURST_FRAMES_MAX;

/// Sizes a burst can have, none included.
pub const BURST_SIZES: usize = BURST_FRAMES_MAX + 1;

/// A number that grows; written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// How often a burst had each size.
#[derive(Debug)]
pub struct Sizes([Counter; BURST_SIZES]);

/// What one stream counts. On cache lines of its own, so that two lcores never share one.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames received.
    pub rx_frames: Counter,
    /// Frames that the transmitting device took.
    pub tx_frames: Counter,
    /// Frames freed because the transmitting device did not take them.
    pub tx_dropped: Counter,
    /// How often a transmit queue was asked again.
    pub tx_retries: Counter,
    /// Frames that the engine used up, as is its purpose.
    pub absorbed: Counter,
    /// Frames that could not be made because the pool was empty.
    pub no_buffer: Counter,
    /// Frames whose IPv4 header checksum arrived wrong (`csum`).
    pub bad_ip_checksum: Counter,
    /// Frames whose TCP or UDP checksum arrived wrong (`csum`).
    pub bad_l4_checksum: Counter,
    /// Cycles of bursts that did something; 0 unless recorded.
    pub busy_cycles: Counter,
    /// Sizes of received bursts; zeros unless recorded.
    pub rx_sizes: Sizes,
    /// Sizes of transmitted bursts, as offered; zeros unless recorded.
    pub tx_sizes: Sizes,
}

/// The counters of a stream at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// See [`Counters::rx_frames`].
    pub rx_frames: u64,
    /// See [`Counters::tx_frames`].
    pub tx_frames: u64,
    /// See [`Counters::tx_dropped`].
    pub tx_dropped: u64,
    /// See [`Counters::tx_retries`].
    pub tx_retries: u64,
    /// See [`Counters::absorbed`].
    pub absorbed: u64,
    /// See [`Counters::no_buffer`].
    pub no_buffer: u64,
    /// See [`Counters::bad_ip_checksum`].
    pub bad_ip_checksum: u64,
    /// See [`Counters::bad_l4_checksum`].
    pub bad_l4_checksum: u64,
    /// See [`Counters::busy_cycles`].
    pub busy_cycles: u64,
    /// See [`Counters::rx_sizes`].
    pub rx_sizes: [u64; BURST_SIZES],
    /// See [`Counters::tx_sizes`].
    pub tx_sizes: [u64; BURST_SIZES],
}

impl Counter {
    /// Adds; only for the one writer.
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: the number orders nothing else, and there is no other writer to lose to.
        let value = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds a number of frames; only for the one writer.
    #[inline]
    pub fn add_frames(&self, count: usize) {
        self.add(count as u64);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; BURST_SIZES])
    }
}

impl Sizes {
    /// Counts a burst of this size; only for the one writer.
    #[inline]
    pub fn record(&self, frames: usize) {
        if let Some(counter) = self.0.get(frames) {
            counter.add(1);
        }
    }

    /// The values now.
    pub fn values(&self) -> [u64; BURST_SIZES] {
        core::array::from_fn(|size| self.0.get(size).map_or(0, Counter::value))
    }
}

impl Counters {
    /// The values now.
    pub fn snapshot(&self) -> Snapshot {
        let Self {
            rx_frames,
            tx_frames,
            tx_dropped,
            tx_retries,
            absorbed,
            no_buffer,
            bad_ip_checksum,
            bad_l4_checksum,
            busy_cycles,
            rx_sizes,
            tx_sizes,
        } = self;
        Snapshot {
            rx_frames: rx_frames.value(),
            tx_frames: tx_frames.value(),
            tx_dropped: tx_dropped.value(),
            tx_retries: tx_retries.value(),
            absorbed: absorbed.value(),
            no_buffer: no_buffer.value(),
            bad_ip_checksum: bad_ip_checksum.value(),
            bad_l4_checksum: bad_l4_checksum.value(),
            busy_cycles: busy_cycles.value(),
            rx_sizes: rx_sizes.values(),
            tx_sizes: tx_sizes.values(),
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Counters::default().snapshot()
    }
}

impl Snapshot {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combine(earlier, u64::wrapping_sub)
    }

    /// What both counted together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    fn combine(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let sizes = |ours: &[u64; BURST_SIZES], theirs: &[u64; BURST_SIZES]| {
            let mut combined = *ours;
            for (value, other) in combined.iter_mut().zip(theirs) {
                *value = with(*value, *other);
            }
            combined
        };
        Self {
            rx_frames: with(self.rx_frames, other.rx_frames),
            tx_frames: with(self.tx_frames, other.tx_frames),
            tx_dropped: with(self.tx_dropped, other.tx_dropped),
            tx_retries: with(self.tx_retries, other.tx_retries),
            absorbed: with(self.absorbed, other.absorbed),
            no_buffer: with(self.no_buffer, other.no_buffer),
            bad_ip_checksum: with(self.bad_ip_checksum, other.bad_ip_checksum),
            bad_l4_checksum: with(self.bad_l4_checksum, other.bad_l4_checksum),
            busy_cycles: with(self.busy_cycles, other.busy_cycles),
            rx_sizes: sizes(&self.rx_sizes, &other.rx_sizes),
            tx_sizes: sizes(&self.tx_sizes, &other.tx_sizes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_from_where_the_earlier_one_stood() {
        let counters = Counters::default();
        counters.rx_frames.add(5);
        counters.rx_sizes.record(5);
        let before = counters.snapshot();
        counters.rx_frames.add(3);
        counters.rx_sizes.record(BURST_FRAMES_MAX);
        counters.rx_sizes.record(BURST_FRAMES_MAX + 1);
        let since = counters.snapshot().since(&before);
        assert_eq!(since.rx_frames, 3);
        assert_eq!(since.rx_sizes.iter().sum::<u64>(), 1);
        assert_eq!(before.plus(&since), counters.snapshot());
    }
}
