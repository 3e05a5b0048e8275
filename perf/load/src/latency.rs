//! Latencies: counted by an lcore in fixed buckets, read by others into an `HdrHistogram`.
//!
//! The lcore's part is one shift and one store. Its buckets are log-linear as HdrHistogram's are,
//! 128 to each power of two, so that a value is known to 0.8 %. Who reads takes the difference to
//! the last reading and records it under the bucket's highest value: a latency is never told lower
//! than it was.

use core::fmt;

use hdrhistogram::{CreationError, Histogram};
use millrace_base::Nanos;
use serde::Serialize;

use crate::counters::Counter;

/// Buckets to each power of two, as a power of two.
const PRECISION_BITS: u32 = 7;
const PER_OCTAVE: usize = 1 << PRECISION_BITS;
/// Powers of two above the first, exact ones: up to 2^37 ns, 137 s. Longer ones go to the last.
const OCTAVES: usize = 30;
const BUCKETS: usize = (OCTAVES + 1) * PER_OCTAVE;
/// The longest latency told apart, nanoseconds.
const LONGEST_NS: u64 = (1 << (PRECISION_BITS as usize + OCTAVES)) - 1;

/// Latencies by size, in nanoseconds. One writer.
pub struct Buckets {
    counts: Box<[Counter]>,
    longest: Counter,
}

/// Reads the buckets of several lcores, again and again.
#[derive(Debug)]
pub struct Reader {
    /// What each lcore's buckets held at the last reading.
    seen: Vec<Vec<u64>>,
}

/// What there is to say about a set of latencies, microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// Nine of ten took no longer.
    pub p90_us: f64,
    /// 99 of a hundred took no longer.
    pub p99_us: f64,
    /// 999 of a thousand took no longer.
    pub p99_9_us: f64,
    /// 9,999 of ten thousand took no longer.
    pub p99_99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Buckets {
    /// Counts one latency. Cost: a few cycles, one cache line.
    #[inline]
    pub fn record(&self, latency: Nanos) {
        let nanos = latency.as_nanos();
        if let Some(count) = self.counts.get(bucket_of(nanos)) {
            count.add(1);
        }
        if nanos > self.longest.value() {
            self.longest.set(nanos);
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            counts: (0..BUCKETS).map(|_| Counter::default()).collect(),
            longest: Counter::default(),
        }
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buckets(longest {} ns)", self.longest.value())
    }
}

impl Reader {
    /// Will read what is counted from now on.
    pub fn new<'a>(lcores: impl IntoIterator<Item = &'a Buckets>) -> Self {
        let seen = lcores.into_iter().map(|lcore| {
            let counts = lcore.counts.iter().map(Counter::value);
            counts.collect()
        });
        Self {
            seen: seen.collect(),
        }
    }

    /// Records what was counted since the last reading. The lcores are those of `new`, in its
    /// order.
    pub fn read<'a>(
        &mut self,
        lcores: impl IntoIterator<Item = &'a Buckets>,
        into: &mut Histogram<u64>,
    ) {
        for (lcore, seen) in lcores.into_iter().zip(&mut self.seen) {
            let longest = lcore.longest.value();
            for (bucket, (count, seen)) in lcore.counts.iter().zip(seen).enumerate() {
                let count = count.value();
                let fresh = count.wrapping_sub(*seen);
                *seen = count;
                if fresh > 0 {
                    into.saturating_record_n(highest_of(bucket).min(longest.max(1)), fresh);
                }
            }
        }
    }
}

/// An empty histogram for what a [`Reader`] reads: three significant digits, up to 137 s.
pub fn histogram() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3)
}

/// The percentiles of a histogram of nanoseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let us = |nanos: u64| nanos as f64 / 1e3;
    let at = |quantile: f64| us(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Percentiles::default();
    }
    Percentiles {
        count: histogram.len(),
        mean_us: histogram.mean() / 1e3,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p99_9_us: at(0.999),
        p99_99_us: at(0.9999),
        max_us: us(histogram.max()),
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min(LONGEST_NS);
    let bits = u64::BITS - nanos.leading_zeros();
    let octave = bits.saturating_sub(PRECISION_BITS);
    if octave == 0 {
        return nanos as usize;
    }
    // The PRECISION_BITS behind the leading bit, which the octave tells.
    let within = (nanos >> (octave - 1)) as usize & (PER_OCTAVE - 1);
    octave as usize * PER_OCTAVE + within
}

/// The highest value that falls into a bucket.
fn highest_of(bucket: usize) -> u64 {
    let (octave, within) = (bucket / PER_OCTAVE, (bucket % PER_OCTAVE) as u64);
    if octave == 0 {
        return within;
    }
    let shift = octave - 1;
    ((((PER_OCTAVE as u64) | within) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_at_most_one_percent_above_it() {
        let mut value = 1u64;
        while value < LONGEST_NS {
            for value in [value - 1, value, value + value / 3] {
                let bucket = bucket_of(value);
                let highest = highest_of(bucket);
                assert!(highest >= value.min(LONGEST_NS), "{value} in {bucket}");
                assert!(highest - value <= value / 128, "{value} in {bucket}");
            }
            value *= 2;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn neighbouring_buckets_touch() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(highest_of(bucket - 1) + 1), bucket);
        }
    }

    #[test]
    fn each_latency_is_read_once_and_the_longest_exactly() {
        let lcores = [Buckets::default(), Buckets::default()];
        let mut reader = Reader::new(&lcores);
        let mut first = histogram().expect("bounds are good");
        for micros in 1..=1_000 {
            lcores[0].record(Nanos::from_micros(micros));
            lcores[1].record(Nanos::from_micros(micros));
        }
        reader.read(&lcores, &mut first);
        let told = percentiles(&first);
        assert_eq!(told.count, 2_000);
        assert!((500.0..506.0).contains(&told.p50_us), "{told:?}");
        assert!((1_000.0..1_001.0).contains(&told.max_us), "{told:?}");
        let mut second = histogram().expect("bounds are good");
        lcores[1].record(Nanos::from_millis(2));
        reader.read(&lcores, &mut second);
        assert_eq!(percentiles(&second).count, 1);
    }
}
