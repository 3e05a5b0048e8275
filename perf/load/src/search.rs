//! The highest rate that is still clean, by bisection.
//!
//! Clean is a matter of the caller: every second of a trial counted, and what was offered was done.
//! The search takes for granted that what is clean at one rate is clean at a lower one; where the
//! truth is noisy, the answer is one rate that was clean, and a rate not far above that was not.

use serde::Serialize;

/// One rate that was tried.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Trial {
    /// Arrivals per second.
    pub rate: f64,
    /// Operations per second that came of it.
    pub achieved: f64,
    /// Whether it was clean.
    pub is_clean: bool,
}

/// A bisection under way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Search {
    low: f64,
    high: f64,
    tolerance: f64,
    /// Whether `low` and `high` were tried.
    ends: (bool, bool),
    best: Option<f64>,
}

impl Search {
    /// Between two rates per second, until they are apart by at most `tolerance` (a share, 0.01 for
    /// one percent).
    pub fn new(low: f64, high: f64, tolerance: f64) -> Self {
        Self {
            low,
            high: high.max(low),
            tolerance: tolerance.max(1e-4),
            ends: (false, false),
            best: None,
        }
    }

    /// The rate to try next; none when the answer is known.
    pub fn next(&self) -> Option<f64> {
        match self.ends {
            (false, _) => Some(self.low),
            (true, _) if self.best.is_none() => None,
            (true, false) => Some(self.high),
            (true, true) if self.high <= self.low * (1.0 + self.tolerance) => None,
            (true, true) => Some((self.low + self.high) / 2.0),
        }
    }

    /// What came of the rate that `next` said.
    pub fn tell(&mut self, is_clean: bool) {
        let Some(rate) = self.next() else { return };
        if is_clean {
            self.best = Some(rate);
            self.low = rate;
        } else if self.ends.0 {
            self.high = rate;
        }
        self.ends = (true, self.ends.0 || self.high <= self.low);
    }

    /// The highest rate that was clean; none when not even the lowest was.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: f64, low: f64, high: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(low, high, 0.01);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            trials += 1;
            assert!(trials < 100, "it ends");
            search.tell(rate <= limit);
        }
        (search.best(), trials)
    }

    #[test]
    fn the_limit_is_found_within_the_tolerance() {
        for limit in [1_000.0, 1_001.0, 5_555.0, 99_999.0] {
            let (best, trials) = find(limit, 1_000.0, 100_000.0);
            let best = best.expect("the lowest is clean");
            assert!(best <= limit && limit <= best * 1.011, "{limit}: {best}");
            assert!(trials <= 20, "{trials}");
        }
    }

    #[test]
    fn a_limit_outside_of_the_range_ends_the_search_at_once() {
        assert_eq!(find(10.0, 1_000.0, 100_000.0), (None, 1));
        assert_eq!(find(1e9, 1_000.0, 100_000.0), (Some(100_000.0), 2));
        assert_eq!(find(5.0, 5.0, 5.0), (Some(5.0), 1));
    }
}
