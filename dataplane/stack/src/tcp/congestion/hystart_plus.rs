//! HyStart++: leaving slow start before something is lost, and coming back when that was wrong (RFC
//! 9406).
//!
//! Round trips that have become longer do not end slow start but begin a slower one (Conservative
//! Slow Start, CSS): the window opens by a quarter of what it would. If within five rounds a round
//! trip is shorter again than when that began, it was a burst or noise, and slow start goes on; if
//! not, the threshold is where the window is then.
//!
//! It stands in for `hystart.rs` when `hystart_plus` says so. Linux has only that one, which is why
//! it is the default. Only the first slow start is watched, as the RFC recommends: later ones end at
//! a threshold that is known. Reno's slow start is left as RFC 5681 has it; it is what others are
//! measured against.

use millrace_base::SeqNumber;

use super::Acked;

/// One round of slow start, and what is known of the round trips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plus {
    /// The round is over when this is acknowledged.
    end: SeqNumber,
    /// The smallest round trip of the last round and of this one, in microseconds; `u32::MAX` before
    /// the first.
    last_us: u32,
    current_us: u32,
    /// In the slower phase: the smallest round trip of the round in which it began.
    baseline_us: Option<u32>,
    /// Round trips seen in this round, up to `SAMPLES_MIN`.
    samples: u8,
    /// Rounds of the slower phase that are over.
    slow_rounds: u8,
    /// Segments acknowledged in it that have not opened the window.
    credit: u8,
}

/// `N_RTT_SAMPLE`: round trips of a round that are not compared yet.
const SAMPLES_MIN: u8 = 8;
/// `MIN_RTT_DIVISOR`: how much longer a round trip must be, as a part of the last round's,
const DIVISOR: u32 = 8;
/// within `MIN_RTT_THRESH` and `MAX_RTT_THRESH`.
const MORE_US_MIN: u32 = 4_000;
const MORE_US_MAX: u32 = 16_000;
/// `CSS_GROWTH_DIVISOR`.
const GROWTH_DIVISOR: u32 = 4;
/// `CSS_ROUNDS`.
const SLOW_ROUNDS: u8 = 5;
/// `L`: segments that one ACK opens the window by at most, unless sending is paced.
const SEGMENTS_MAX: u32 = 8;

impl Default for Plus {
    fn default() -> Self {
        Self::new(SeqNumber::new(0))
    }
}

impl Plus {
    /// In a round that is over when `end` is acknowledged.
    pub(super) const fn new(end: SeqNumber) -> Self {
        Self {
            end,
            last_us: u32::MAX,
            current_us: u32::MAX,
            baseline_us: None,
            samples: 0,
            slow_rounds: 0,
            credit: 0,
        }
    }

    /// One ACK in slow start, with a round trip; `true` when slow start is over.
    //= https://www.rfc-editor.org/rfc/rfc9406#section-4.2
    //# For rounds where at least N_RTT_SAMPLE RTT samples have been obtained and currentRoundMinRTT
    //# and lastRoundMinRTT are valid, check to see if delay increase triggers slow start exit
    pub(super) fn watch(&mut self, acked: &Acked, delay_us: u32) -> bool {
        if acked.una.after_or_eq(self.end) {
            self.end = acked.nxt;
            self.last_us = core::mem::replace(&mut self.current_us, u32::MAX);
            self.samples = 0;
            if self.baseline_us.is_some() {
                // The part of a round in which it began counts as one.
                self.slow_rounds = self.slow_rounds.saturating_add(1);
                if self.slow_rounds >= SLOW_ROUNDS {
                    return true;
                }
            }
        }
        self.current_us = self.current_us.min(delay_us);
        self.samples = self.samples.saturating_add(1).min(SAMPLES_MIN);
        if self.samples < SAMPLES_MIN {
            return false;
        }
        match self.baseline_us {
            //= https://www.rfc-editor.org/rfc/rfc9406#section-4.2
            //# if (currentRoundMinRTT < cssBaselineMinRtt) cssBaselineMinRtt = infinity; resume slow
            //# start including HyStart++
            Some(baseline) if self.current_us < baseline => self.baseline_us = None,
            Some(_) => {}
            None if self.last_us != u32::MAX => {
                let more = (self.last_us / DIVISOR).clamp(MORE_US_MIN, MORE_US_MAX);
                if self.current_us >= self.last_us.saturating_add(more) {
                    self.baseline_us = Some(self.current_us);
                    self.slow_rounds = 0;
                    self.credit = 0;
                }
            }
            None => {}
        }
        false
    }

    /// By how many segments the window opens when `segments` are acknowledged.
    pub(super) fn opening(&mut self, segments: u32, is_paced: bool) -> u32 {
        let segments = if is_paced {
            segments
        } else {
            segments.min(SEGMENTS_MAX)
        };
        if self.baseline_us.is_none() {
            return segments;
        }
        let all = segments.saturating_add(self.credit.into());
        self.credit = (all % GROWTH_DIVISOR) as u8;
        all / GROWTH_DIVISOR
    }

    /// Whether the window opens slowly.
    #[cfg(test)]
    pub(super) const fn is_slow(&self) -> bool {
        self.baseline_us.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Instant;
    use proptest::prelude::*;

    /// Rounds of `count` ACKs each.
    struct Bench {
        plus: Plus,
        una: u32,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                plus: Plus::new(SeqNumber::new(1)),
                una: 0,
            }
        }

        /// One round of so many ACKs with this round trip; `true` when slow start ended in it.
        fn round(&mut self, count: u32, delay_us: u32) -> bool {
            // The first ACK of the next round ends this one.
            let nxt = self.una + count + 1;
            (0..count).fold(false, |over, _| {
                self.una += 1;
                let acked = Acked {
                    segments: 1,
                    rtt: None,
                    now: Instant::ZERO,
                    una: SeqNumber::new(self.una),
                    nxt: SeqNumber::new(nxt),
                    is_paced: false,
                };
                self.plus.watch(&acked, delay_us) || over
            })
        }
    }

    // RFC 9406 section 4.3: the numbers.
    #[test]
    fn an_eighth_more_between_4_and_16_ms_begins_the_slower_phase() {
        for (last, more) in [
            (1_000, 4_000),
            (32_000, 4_000),
            (80_000, 10_000),
            (128_000, 16_000),
            (400_000, 16_000),
        ] {
            for (delay, is_slow) in [(last + more - 1, false), (last + more, true)] {
                let mut bench = Bench::new();
                bench.round(10, last);
                bench.round(10, delay);
                assert_eq!(bench.plus.is_slow(), is_slow, "{last} and {delay}");
            }
        }
    }

    #[test]
    fn eight_round_trips_are_looked_at_before_they_are_compared() {
        let mut bench = Bench::new();
        bench.round(10, 40_000);
        bench.round(7, 90_000);
        assert!(!bench.plus.is_slow());
        let mut bench = Bench::new();
        bench.round(10, 40_000);
        bench.round(8, 90_000);
        assert!(bench.plus.is_slow());
    }

    #[test]
    fn five_slow_rounds_end_slow_start() {
        let mut bench = Bench::new();
        bench.round(10, 40_000);
        assert!(!bench.round(10, 50_000), "the first, in part");
        for round in 2..=5 {
            assert!(!bench.round(10, 52_000), "{round}");
            assert!(bench.plus.is_slow());
        }
        assert!(bench.round(10, 52_000));
    }

    // What looked like a queue was something else.
    #[test]
    fn a_shorter_round_trip_resumes_slow_start() {
        let mut bench = Bench::new();
        bench.round(10, 40_000);
        bench.round(10, 50_000);
        bench.round(10, 50_000);
        assert!(bench.plus.is_slow());
        bench.round(10, 49_999);
        assert!(!bench.plus.is_slow());
        for _ in 0..20 {
            assert!(!bench.round(10, 49_999), "and it is not over");
        }
        bench.round(10, 60_000);
        assert!(bench.plus.is_slow(), "a second time");
    }

    // RFC 9406 section 4.2: N, L and CSS_GROWTH_DIVISOR.
    #[test]
    fn the_window_opens_by_a_quarter_in_the_slower_phase_and_by_eight_at_most() {
        let mut plus = Plus::new(SeqNumber::new(0));
        assert_eq!((plus.opening(3, false), plus.opening(20, false)), (3, 8));
        assert_eq!(plus.opening(20, true), 20);
        plus.baseline_us = Some(1);
        let opened: u32 = (0..8).map(|_| plus.opening(1, false)).sum();
        assert_eq!(opened, 2);
        assert_eq!((plus.opening(20, false), plus.opening(20, true)), (2, 5));
    }

    proptest! {
        // Round trips that never grow by 4 ms never end slow start.
        #[test]
        fn noise_below_the_threshold_is_no_sign(
            rounds in prop::collection::vec((1u32..60, 0u32..4_000), 1..100), base in 1u32..1_000_000
        ) {
            let mut bench = Bench::new();
            for (count, noise) in rounds {
                prop_assert!(!bench.round(count, base + noise));
                prop_assert!(!bench.plus.is_slow());
            }
        }
    }
}
