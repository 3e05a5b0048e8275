//! The seed's random numbers, in the shapes that scenarios ask for.

use millrace_base::{Nanos, Rng};

/// A million: shares are given in parts of it.
pub(crate) const MILLION: u32 = 1_000_000;

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Rng);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// Another generator: what is drawn of it leaves this one alone.
    pub(crate) const fn fork(&mut self) -> Self {
        Self(Rng::new(self.0.next_u64()))
    }

    /// Any number.
    pub(crate) const fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `low` up to `high`, both possible.
    pub(crate) const fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.0.below(high - low + 1)
    }

    /// The same, small ones as likely as large ones: uniform in the logarithm.
    pub(crate) fn spread(&mut self, low: u32, high: u32) -> u32 {
        let bits = |value: u32| 32 - value.max(1).leading_zeros();
        let size = self.between(bits(low), bits(high));
        let floor = 1_u32 << (size - 1);
        let ceiling = floor.saturating_mul(2).saturating_sub(1);
        self.between(low.max(floor.min(high)), high.min(ceiling).max(low))
    }

    /// True for so many in a million.
    pub(crate) const fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.0.below(MILLION) < ppm
    }

    /// True for one of so many.
    pub(crate) const fn one_in(&mut self, count: u32) -> bool {
        self.0.below(count) == 0
    }

    /// One of these.
    pub(crate) const fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.below(from.len() as u32) as usize]
    }

    /// A span below `limit`.
    pub(crate) const fn below(&mut self, limit: Nanos) -> Nanos {
        let micros = limit.as_micros();
        let bound = if micros > u32::MAX as u64 {
            u32::MAX
        } else {
            micros as u32
        };
        Nanos::from_micros(self.0.below(bound) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_stays_within_and_reaches_both_ends_of_its_range() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u32> = (0..4_000).map(|_| dice.spread(100, 1_000_000)).collect();
        assert!(drawn.iter().all(|value| (100..=1_000_000).contains(value)));
        assert!(drawn.iter().filter(|value| **value < 1_000).count() > 400);
        assert!(drawn.iter().filter(|value| **value > 100_000).count() > 400);
    }

    #[test]
    fn a_share_of_a_million_is_about_that() {
        let mut dice = Dice::new(2);
        let hits = (0..100_000).filter(|_| dice.happens(10_000)).count();
        assert!((800..1_200).contains(&hits), "{hits}");
        assert!(!(0..1_000).any(|_| dice.happens(0)));
    }
}
