//! When work is due: an open-loop schedule that does not care how the system under test fares.
//!
//! A generator that waits for an answer before it sends the next request slows down with the system
//! under test, and never sees the requests that would have come meanwhile ("coordinated omission").
//! Here every arrival has a due time of its own, fixed by the rate and the seed alone; whoever
//! starts late still measures from when it was due.
//!
//! Poisson gaps are drawn by inversion (Devroye, "Non-Uniform Random Variate Generation", 1986,
//! chapter 2): `-ln(u) / rate`.

use millrace_base::{Instant, Nanos, Rng};

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// How gaps between arrivals are distributed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Arrivals {
    /// All gaps are equal.
    #[default]
    Constant,
    /// Exponential gaps: arrivals of many independent users.
    Poisson,
}

/// The due times of an endless row of arrivals.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    /// The mean gap, nanoseconds.
    gap_ns: f64,
    rng: Rng,
    began: Instant,
    /// Nanoseconds from `began` to the next arrival. A float, so that fractions of a nanosecond do
    /// not add up to a wrong rate: 53 bits hold a hundred days to the nanosecond.
    next_ns: f64,
}

impl Schedule {
    /// Arrivals at `rate` per second (above 0) from `began` on. Equal seeds make equal schedules.
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64, began: Instant) -> Self {
        let mut schedule = Self {
            arrivals,
            gap_ns: SECOND / rate.max(1e-6),
            rng: Rng::new(seed),
            began,
            next_ns: 0.0,
        };
        // Not all lcores' first arrivals at one instant.
        schedule.next_ns = schedule.gap() * 0.5;
        schedule
    }

    /// When the next arrival is due.
    pub fn due(&self) -> Instant {
        // Saturating: floats beyond the range become the largest instant.
        self.began.after(Nanos::new(self.next_ns as u64))
    }

    /// Takes the next arrival if it is due; its due time is what its latency is measured from.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.due();
        if !due.is_due(now) {
            return None;
        }
        let gap = self.gap();
        self.next_ns += gap;
        Some(due)
    }

    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Constant => self.gap_ns,
            Arrivals::Poisson => -self.uniform().ln() * self.gap_ns,
        }
    }

    /// In (0, 1]: the logarithm exists.
    fn uniform(&mut self) -> f64 {
        let bits = self.rng.next_u64() >> 11;
        (bits as f64 + 1.0) / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals_within(schedule: &mut Schedule, end: Instant) -> usize {
        core::iter::from_fn(|| schedule.take(end)).count()
    }

    #[test]
    fn a_constant_schedule_keeps_its_rate_for_an_hour() {
        let began = Instant::from_millis(1_000);
        let mut schedule = Schedule::new(Arrivals::Constant, 333.0, 1, began);
        let end = began.after(Nanos::from_secs(3_600));
        let count = arrivals_within(&mut schedule, end);
        assert!(count.abs_diff(333 * 3_600) <= 1, "{count}");
    }

    #[test]
    fn poisson_arrivals_keep_their_rate_and_vary_as_they_should() {
        let began = Instant::ZERO;
        let mut schedule = Schedule::new(Arrivals::Poisson, 1_000.0, 7, began);
        let mut counts = Vec::new();
        for second in 1..=200 {
            let end = began.after(Nanos::from_secs(second));
            counts.push(arrivals_within(&mut schedule, end) as f64);
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        assert!((mean - 1_000.0).abs() < 10.0, "mean {mean}");
        // The variance of a Poisson count is its mean; 200 samples know it to within a third.
        assert!((650.0..1_400.0).contains(&variance), "variance {variance}");
    }

    #[test]
    fn equal_seeds_make_equal_schedules() {
        let due = |seed| {
            let mut schedule = Schedule::new(Arrivals::Poisson, 10.0, seed, Instant::ZERO);
            let end = Instant::from_millis(10_000);
            core::iter::from_fn(|| schedule.take(end)).collect::<Vec<_>>()
        };
        assert_eq!(due(3), due(3));
        assert_ne!(due(3), due(4));
    }

    // Coordinated omission begins where a late generator forgets what it did not do in time.
    #[test]
    fn who_comes_late_finds_every_arrival_with_its_own_due_time() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1_000.0, 1, Instant::ZERO);
        let late = Instant::from_millis(100);
        let due: Vec<Instant> = core::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(due.len(), 100);
        for pair in due.windows(2) {
            assert_eq!(pair[1].since(pair[0]), Nanos::from_millis(1));
        }
    }
}
