//! Random early detection (Floyd and Jacobson 1993, with the gentle end of 2000).
//!
//! The average length is of arrivals; idle time does not age it, which a link of one experiment does
//! not need.

use crate::dice::{Dice, MILLION};

/// The weight of a new length in the average: one part of so many.
const WEIGHT: u64 = 64;
/// The chance at the upper length, in a million.
const CHANCE_MAX_PPM: u64 = 100_000;

/// The average and what follows from it.
#[derive(Debug)]
pub(super) struct Red {
    low: u64,
    high: u64,
    /// The average length in bytes, times the weight.
    average: u64,
    dice: Dice,
}

impl Red {
    pub(super) const fn new(low: u64, high: u64, dice: Dice) -> Self {
        Self {
            low,
            high,
            average: 0,
            dice,
        }
    }

    /// Whether the packet that comes now, to a queue of so many bytes, is to be dropped or marked.
    pub(super) fn strikes(&mut self, bytes: u64) -> bool {
        self.average = self.average - self.average / WEIGHT + bytes;
        let average = self.average / WEIGHT;
        let span = (self.high - self.low).max(1);
        let ppm = if average < self.low {
            0
        } else if average < self.high {
            CHANCE_MAX_PPM * (average - self.low) / span
        } else {
            // From the upper length on it rises to certainty at twice that length.
            let rest = u64::from(MILLION) - CHANCE_MAX_PPM;
            CHANCE_MAX_PPM + rest * (average - self.high).min(self.high) / self.high.max(1)
        };
        self.dice.happens(ppm as u32)
    }
}
