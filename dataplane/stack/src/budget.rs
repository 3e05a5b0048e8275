//! A token bucket: how often something may happen, with room for a burst.

use millrace_base::{Instant, Nanos};

/// A budget of tokens that refills with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    tokens: u32,
    burst: u32,
    /// Time that one token takes.
    interval_ns: u64,
    refilled_at: Instant,
}

impl Budget {
    /// A full bucket of `burst` tokens that refills with `per_second` (1..=10^9) of them.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000u64
            .checked_div(per_second.into())
            .unwrap_or(u64::MAX);
        Self {
            tokens: burst,
            burst,
            interval_ns: interval_ns.max(1),
            refilled_at: Instant::ZERO,
        }
    }

    /// Takes one token; `false` when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.since(self.refilled_at).as_nanos();
        let earned = elapsed.checked_div(self.interval_ns).unwrap_or(0);
        if earned > 0 {
            self.tokens = u64::from(self.tokens)
                .saturating_add(earned)
                .min(self.burst.into()) as u32;
            let spent = earned.saturating_mul(self.interval_ns);
            self.refilled_at = self.refilled_at.after(Nanos::new(spent));
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut budget = Budget::new(100, 5);
        let mut passed = 0;
        // One second in steps of a millisecond: the burst and the rate, no more.
        for ms in 0..1_000 {
            passed += u32::from(budget.take(Instant::from_millis(ms)));
        }
        assert!((100..=105).contains(&passed), "{passed}");
    }
}
