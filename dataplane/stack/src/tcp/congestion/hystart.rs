//! HyStart: leaving slow start before something is lost (Ha and Rhee; Linux: `hystart_update`).
//!
//! Two signs, looked for once the window has `hystart_low_window` segments: ACKs that come close
//! behind each other for as long as half of the shortest round trip (the pipe is full from end to
//! end), and round trips that have become longer by an eighth (a queue is growing). This is not
//! RFC 9406, which goes on more slowly first; Linux stops at once.

use millrace_base::{Instant, SeqNumber};

use super::Acked;
use super::parameters::CubicParameters;

/// One round of slow start, and what outlasts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// When the round began, and the last ACK of the train, in microseconds.
    start_us: u32,
    train_us: u32,
    /// The round is over when this is acknowledged.
    end: SeqNumber,
    /// The smallest round trip of this round.
    delay_us: u32,
    /// The smallest of all; 0 before the first.
    delay_min_us: u32,
    /// Round trips seen in this round, up to `SAMPLES`.
    samples: u8,
    /// Slow start was left.
    found: bool,
}

/// The window that an ACK finds, and the round trip that it tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pipe {
    /// Bytes of the window.
    pub(super) cwnd: u32,
    /// Microseconds: at least one.
    pub(super) delay_us: u32,
}

/// Why slow start ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// A train of ACKs as long as half of the shortest round trip.
    Train,
    /// Round trips have become longer.
    Delay,
}

/// Round trips of a round that are not compared yet.
const SAMPLES: u8 = 8;
/// How much longer than the shortest a round trip must be: an eighth of it, within these bounds.
const DELAY_US_MIN: u32 = 4_000;
const DELAY_US_MAX: u32 = 16_000;
/// Bytes that may leave together on the way: four of the largest frames (Linux: `hystart_ack_delay`).
const BURST_BYTES: u64 = 4 * 65_536;
/// Windows that leave in a round trip of slow start.
const WINDOWS_PER_ROUND: u64 = 2;
/// How far apart such a burst keeps ACKs at most.
const BURST_US_MAX: u64 = 1_000;

impl Pipe {
    /// How far apart bursts keep ACKs at the rate of slow start.
    fn burst_us(self) -> u32 {
        let share = BURST_BYTES / WINDOWS_PER_ROUND;
        let burst_us = share.saturating_mul(self.delay_us.into());
        let burst_us = burst_us.checked_div(self.cwnd.into());
        burst_us.unwrap_or(BURST_US_MAX).min(BURST_US_MAX) as u32
    }
}

impl Default for Round {
    fn default() -> Self {
        Self::new(0, SeqNumber::new(0))
    }
}

impl Round {
    /// In the middle of a round whose ACKs were not watched from the beginning.
    pub(super) fn new(delay_min_us: u32, end: SeqNumber) -> Self {
        Self {
            start_us: 0,
            train_us: 0,
            end,
            delay_us: u32::MAX,
            delay_min_us,
            samples: 0,
            found: false,
        }
    }

    /// Takes note of a round trip.
    #[inline]
    pub(super) fn learn(&mut self, delay_us: u32) {
        if self.delay_min_us == 0 || self.delay_min_us > delay_us {
            self.delay_min_us = delay_us;
        }
    }

    /// The smallest round trip in microseconds, 0 before the first.
    #[inline]
    pub(super) fn delay_min_us(&self) -> u32 {
        self.delay_min_us
    }

    /// The end of the present round.
    pub(super) fn end(&self) -> SeqNumber {
        self.end
    }

    /// Whether slow start was left.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.found
    }

    /// One ACK in slow start with a window that is too small to be watched.
    pub(super) fn pass(&mut self, acked: &Acked) {
        if acked.una.after(self.end) {
            self.begin(micros(acked.now), acked.nxt);
        }
    }

    /// One ACK in slow start with a window that is large enough: the sign, if there is one.
    pub(super) fn watch(
        &mut self,
        rules: &CubicParameters,
        acked: &Acked,
        pipe: Pipe,
    ) -> Option<Sign> {
        let now_us = micros(acked.now);
        self.pass(acked);
        let mut sign = None;
        if rules.hystart_detect & CubicParameters::ACK_TRAIN != 0
            && self.is_train(rules, acked, (now_us, pipe))
        {
            sign = Some(Sign::Train);
        }
        if rules.hystart_detect & CubicParameters::DELAY != 0 && self.is_delayed(pipe.delay_us) {
            sign = sign.or(Some(Sign::Delay));
        }
        self.found = sign.is_some();
        sign
    }

    fn begin(&mut self, now_us: u32, end: SeqNumber) {
        self.start_us = now_us;
        self.train_us = now_us;
        self.end = end;
        self.delay_us = u32::MAX;
        self.samples = 0;
    }

    fn is_train(
        &mut self,
        rules: &CubicParameters,
        acked: &Acked,
        (now_us, pipe): (u32, Pipe),
    ) -> bool {
        if now_us.wrapping_sub(self.train_us) > rules.hystart_ack_delta_us {
            return false;
        }
        self.train_us = now_us;
        let whole = self.delay_min_us.saturating_add(pipe.burst_us());
        // Pacing may have spread the segments over half of a round trip already.
        let threshold = if acked.is_paced { whole } else { whole / 2 };
        now_us.wrapping_sub(self.start_us) > threshold
    }

    fn is_delayed(&mut self, delay_us: u32) -> bool {
        self.delay_us = self.delay_us.min(delay_us);
        if self.samples < SAMPLES {
            self.samples = self.samples.saturating_add(1);
            return false;
        }
        let more = (self.delay_min_us >> 3).clamp(DELAY_US_MIN, DELAY_US_MAX);
        self.delay_us > self.delay_min_us.saturating_add(more)
    }
}

fn micros(now: Instant) -> u32 {
    (now.as_nanos() / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Nanos;

    const RULES: CubicParameters = CubicParameters::LINUX;

    fn acked(at_us: u64, una: u32, nxt: u32) -> Acked {
        Acked {
            segments: 1,
            rtt: None,
            now: Instant::ZERO.after(Nanos::new(at_us * 1_000)),
            una: SeqNumber::new(una),
            nxt: SeqNumber::new(nxt),
            is_paced: false,
        }
    }

    /// At a rate at which no burst counts.
    fn fast(delay_us: u32) -> Pipe {
        Pipe {
            cwnd: u32::MAX,
            delay_us,
        }
    }

    /// ACKs every `gap_us` from one second on, with a round trip each; after how many a sign came.
    fn after_acks(rules: &CubicParameters, gap_us: u64, delays: &[u32]) -> (usize, Option<Sign>) {
        let mut round = Round::new(0, SeqNumber::new(0));
        for (count, delay) in delays.iter().enumerate() {
            round.learn(*delay);
            let at = 1_000_000 + gap_us * count as u64;
            let acked = acked(at, 1 + count as u32, 1_000);
            if let Some(sign) = round.watch(rules, &acked, fast(*delay)) {
                return (count, Some(sign));
            }
        }
        (delays.len(), None)
    }

    // Linux: HYSTART_ACK_TRAIN. behaviour: X8-17, X2-23
    #[test]
    fn a_train_of_half_a_round_trip_ends_slow_start() {
        let delays = [40_000; 100];
        let (count, sign) = after_acks(&RULES, 1_000, &delays);
        assert_eq!((count, sign), (21, Some(Sign::Train)));
        assert_eq!(after_acks(&RULES, 2_001, &delays).1, None, "gaps: no train");
        let delay_only = CubicParameters {
            hystart_detect: CubicParameters::DELAY,
            ..RULES
        };
        assert_eq!(after_acks(&delay_only, 1_000, &delays).1, None);
        let wide = CubicParameters {
            hystart_ack_delta_us: 3_000,
            ..RULES
        };
        assert_eq!(after_acks(&wide, 2_001, &delays).1, Some(Sign::Train));
    }

    // Linux: HYSTART_DELAY with HYSTART_MIN_SAMPLES 8. behaviour: X8-17, X2-23
    #[test]
    fn eight_round_trips_are_looked_at_before_longer_ones_end_slow_start() {
        let mut round = Round::new(40_000, SeqNumber::new(0));
        for count in 0..8 {
            let acked = acked(1_000_000 + count * 5_000, 1, 1_000);
            assert_eq!(round.watch(&RULES, &acked, fast(46_000)), None, "{count}");
        }
        // An eighth of 40 ms is 5 ms: 46 is more.
        let last = acked(1_040_000, 1, 1_000);
        assert_eq!(round.watch(&RULES, &last, fast(46_000)), Some(Sign::Delay));
        assert!(round.is_over());
    }

    // Linux: "tcp_cubic: fix spurious HYSTART_DELAY exit upon drop in min RTT".
    #[test]
    fn a_round_trip_that_becomes_the_shortest_is_no_reason_to_stop() {
        let mut round = Round::new(200_000, SeqNumber::new(0));
        for count in 0..9 {
            let acked = acked(1_000_000 + count * 5_000, 1, 1_000);
            assert_eq!(round.watch(&RULES, &acked, fast(200_000)), None);
        }
        round.learn(29_000);
        let last = acked(1_050_000, 1, 1_000);
        assert_eq!(round.watch(&RULES, &last, fast(29_000)), None);
    }

    #[test]
    fn a_new_round_forgets_the_round_trips_of_the_last() {
        let mut round = Round::new(40_000, SeqNumber::new(0));
        for count in 0..8 {
            let acked = acked(1_000_000 + count * 5_000, 1, 1_000);
            round.watch(&RULES, &acked, fast(46_000));
        }
        let next = acked(1_050_000, 1_001, 2_000);
        assert_eq!(round.watch(&RULES, &next, fast(46_000)), None);
        assert_eq!((round.samples, round.end), (1, SeqNumber::new(2_000)));
    }

    // Linux: hystart_ack_delay, min(1 ms, 4 * 64 KiB / rate).
    #[test]
    fn a_train_must_be_longer_where_bursts_keep_acks_apart() {
        let burst_us = |cwnd, delay_us| Pipe { cwnd, delay_us }.burst_us();
        assert_eq!(burst_us(14_480, 10_000), 1_000, "3 MB/s");
        assert_eq!(burst_us(23_168, 100), 565, "463 MB/s");
        assert_eq!(burst_us(1_448_000, 1_000), 90);
        assert_eq!(burst_us(0, 1), 1_000);
        let mut round = Round::new(100, SeqNumber::new(0));
        let pipe = Pipe {
            cwnd: 23_168,
            delay_us: 100,
        };
        round.pass(&acked(1_000_000, 1, 1_000));
        for at_us in (1_000_010..=1_000_330).step_by(10) {
            let told = round.watch(&RULES, &acked(at_us, 1, 1_000), pipe);
            assert_eq!(told, None, "{at_us}");
        }
        // Half of 100 and 565.
        let last = acked(1_000_340, 1, 1_000);
        assert_eq!(round.watch(&RULES, &last, pipe), Some(Sign::Train));
    }
}
