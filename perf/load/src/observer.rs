//! Which seconds count: what was counted, cut into intervals and judged.
//!
//! A rate counts only when nothing went wrong while it was measured: no error, no retransmission in
//! either direction, nothing the generator missed. The raw rate is told beside it, so that nobody
//! has to guess what strictness has cost.

use std::sync::Arc;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use crate::counters::{Counters, Tally};
use crate::latency::{Percentiles, Reader, histogram, percentiles};

/// Intervals kept for the report and the plot: a day of seconds. Later ones are summed up only.
pub const INTERVALS_KEPT_MAX: usize = 86_400;

/// What a run was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connections that shall be held are being opened.
    Opening,
    /// The schedule runs, and nothing counts yet.
    WarmUp,
    /// What is measured.
    Measured,
}

/// One interval of a run, a second as a rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Interval {
    /// When it ended, seconds after the start.
    pub at_secs: f64,
    /// How long it was, seconds.
    pub secs: f64,
    /// What the run was doing.
    pub phase: Phase,
    /// Whether its rate counts.
    pub counts: bool,
    /// Operations per second.
    pub rate: f64,
    /// What was counted in it; gauges as they were at its end.
    pub tally: Tally,
    /// How long its operations took.
    pub latency: Percentiles,
}

/// A run so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    /// Seconds measured.
    pub measured_secs: f64,
    /// Of these, seconds without error, retransmission or miss.
    pub counted_secs: f64,
    /// Operations per second over all that was measured.
    pub raw_rate: f64,
    /// Operations per second over the seconds that count; none when none does.
    pub counted_rate: Option<f64>,
    /// Payload bits received per second over all that was measured.
    pub raw_bits_in: f64,
    /// Payload bits queued to be sent per second over all that was measured.
    pub raw_bits_out: f64,
    /// Payload bits received per second over the seconds that count.
    pub counted_bits_in: Option<f64>,
    /// Payload bits queued to be sent per second over the seconds that count.
    pub counted_bits_out: Option<f64>,
    /// Errors, all kinds.
    pub errors: u64,
    /// Segments that crossed the wire more than once.
    pub retransmissions: u64,
    /// What the generator missed, all kinds.
    pub misses: u64,
    /// Busy cycles per operation.
    pub busy_cycles_per_operation: Option<f64>,
    /// What was counted while it was measured; gauges as they are now.
    pub measured: Tally,
    /// What was counted from the start, opening and warm-up included.
    pub whole: Tally,
    /// How long operations took, over all that was measured.
    pub latency: Percentiles,
    /// How long they took in the seconds that count.
    pub counted_latency: Percentiles,
}

/// Watches the counters of several lcores.
#[derive(Debug)]
pub struct Observer {
    lcores: Vec<Arc<Counters>>,
    reader: Reader,
    last_at: f64,
    last: Tally,
    intervals: Vec<Interval>,
    measured_secs: f64,
    measured: Tally,
    counted_secs: f64,
    counted: Tally,
    fresh: Histogram<u64>,
    all_latency: Histogram<u64>,
    counted_latency: Histogram<u64>,
}

impl Observer {
    /// Begins to watch. `device_drops` is what the device has dropped so far.
    pub fn new(lcores: Vec<Arc<Counters>>, device_drops: u64) -> Result<Self, CreationError> {
        let reader = Reader::new(lcores.iter().map(|lcore| &lcore.latency));
        let last = sum(&lcores, device_drops);
        Ok(Self {
            lcores,
            reader,
            last_at: 0.0,
            last,
            intervals: Vec::new(),
            measured_secs: 0.0,
            measured: Tally::default(),
            counted_secs: 0.0,
            counted: Tally::default(),
            fresh: histogram()?,
            all_latency: histogram()?,
            counted_latency: histogram()?,
        })
    }

    /// Ends an interval at `at_secs` after the start. `is_warm`: the warm-up is over.
    /// `device_drops` is what the device has dropped since the start.
    pub fn tick(&mut self, at_secs: f64, is_warm: bool, device_drops: u64) -> Interval {
        let now = sum(&self.lcores, device_drops);
        let tally = delta(&now, &self.last);
        let secs = at_secs - self.last_at;
        self.last = now;
        self.last_at = at_secs;
        self.fresh.reset();
        let buckets = self.lcores.iter().map(|lcore| &lcore.latency);
        self.reader.read(buckets, &mut self.fresh);
        let phase = if !self.is_running() {
            Phase::Opening
        } else if is_warm {
            Phase::Measured
        } else {
            Phase::WarmUp
        };
        let interval = Interval {
            at_secs,
            secs,
            phase,
            counts: phase == Phase::Measured && tally.is_clean(),
            rate: per_second(tally.operations, secs).unwrap_or(0.0),
            tally,
            latency: percentiles(&self.fresh),
        };
        self.sum_up(&interval);
        interval
    }

    /// Whether every lcore's schedule runs.
    pub fn is_running(&self) -> bool {
        self.lcores.iter().all(|lcore| lcore.running.value() == 1)
    }

    /// What lcores counted up to now.
    pub fn whole(&self) -> &Tally {
        &self.last
    }

    /// The intervals, oldest first.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Everything measured so far.
    pub fn summary(&self) -> Summary {
        let rate = |tally: &Tally, secs| per_second(tally.operations, secs);
        let bits_in = |tally: &Tally, secs| per_second(tally.bytes_in.wrapping_mul(8), secs);
        let bits_out = |tally: &Tally, secs| per_second(tally.bytes_out.wrapping_mul(8), secs);
        let (measured, counted) = (&self.measured, &self.counted);
        let (all_secs, counted_secs) = (self.measured_secs, self.counted_secs);
        let busy = measured.busy_cycles as f64;
        Summary {
            measured_secs: all_secs,
            counted_secs,
            raw_rate: rate(measured, all_secs).unwrap_or(0.0),
            counted_rate: rate(counted, counted_secs),
            raw_bits_in: bits_in(measured, all_secs).unwrap_or(0.0),
            raw_bits_out: bits_out(measured, all_secs).unwrap_or(0.0),
            counted_bits_in: bits_in(counted, counted_secs),
            counted_bits_out: bits_out(counted, counted_secs),
            errors: measured.errors(),
            retransmissions: measured.retransmissions(),
            misses: measured.misses(),
            busy_cycles_per_operation: (measured.operations > 0)
                .then(|| busy / measured.operations as f64),
            measured: *measured,
            whole: self.last,
            latency: percentiles(&self.all_latency),
            counted_latency: percentiles(&self.counted_latency),
        }
    }

    fn sum_up(&mut self, interval: &Interval) {
        if self.intervals.len() < INTERVALS_KEPT_MAX {
            self.intervals.push(*interval);
        }
        if interval.phase != Phase::Measured {
            return;
        }
        self.measured_secs += interval.secs;
        self.measured = with_gauges(self.measured.plus(&interval.tally), &interval.tally);
        // Histograms of equal bounds always add up.
        let _ = self.all_latency.add(&self.fresh);
        if interval.counts {
            self.counted_secs += interval.secs;
            self.counted = self.counted.plus(&interval.tally);
            let _ = self.counted_latency.add(&self.fresh);
        }
    }
}

fn sum(lcores: &[Arc<Counters>], device_drops: u64) -> Tally {
    let tallies = lcores.iter().map(|lcore| lcore.tally());
    let mut sum = tallies.fold(Tally::default(), |sum, one| sum.plus(&one));
    sum.device_drops = sum.device_drops.wrapping_add(device_drops);
    sum
}

fn delta(now: &Tally, then: &Tally) -> Tally {
    with_gauges(now.since(then), now)
}

/// `tally`, with the gauges of `of`.
fn with_gauges(tally: Tally, of: &Tally) -> Tally {
    Tally {
        connections: of.connections,
        in_flight: of.in_flight,
        running: of.running,
        ..tally
    }
}

fn per_second(count: u64, secs: f64) -> Option<f64> {
    (secs > 0.0).then(|| count as f64 / secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Nanos;

    #[test]
    fn a_spoilt_second_is_told_and_does_not_count() {
        let lcore = Arc::new(Counters::default());
        let mut observer = Observer::new(vec![Arc::clone(&lcore)], 0).expect("bounds are good");
        lcore.operations.add(5);
        assert_eq!(observer.tick(1.0, false, 0).phase, Phase::Opening);
        lcore.running.set(1);
        assert_eq!(observer.tick(2.0, false, 0).phase, Phase::WarmUp);
        lcore.operations.add(100);
        lcore.latency.record(Nanos::from_micros(10));
        assert!(observer.tick(3.0, true, 0).counts);
        lcore.operations.add(300);
        lcore.retransmitted.add(1);
        lcore.latency.record(Nanos::from_millis(200));
        assert!(!observer.tick(4.0, true, 0).counts);
        lcore.operations.add(50);
        assert!(
            !observer.tick(5.0, true, 1).counts,
            "the device dropped one"
        );
        let summary = observer.summary();
        assert_eq!(summary.measured_secs, 3.0);
        assert_eq!(
            (summary.raw_rate, summary.counted_rate),
            (150.0, Some(100.0))
        );
        assert_eq!((summary.retransmissions, summary.misses), (1, 1));
        assert_eq!(summary.latency.count, 2);
        assert_eq!(summary.counted_latency.count, 1);
        assert_eq!(summary.whole.operations, 455);
    }

    #[test]
    fn where_nothing_counts_there_is_no_counted_rate() {
        let lcore = Arc::new(Counters::default());
        lcore.running.set(1);
        let mut observer = Observer::new(vec![Arc::clone(&lcore)], 0).expect("bounds are good");
        lcore.operations.add(9);
        lcore.timeouts.add(1);
        observer.tick(1.0, true, 0);
        assert_eq!(observer.summary().counted_rate, None);
        assert_eq!(observer.summary().raw_rate, 9.0);
    }
}
