//! Round-trip estimation: samples in, retransmission timeout out.
//!
//! Implements RFC 6298 as Linux does: the *variance term* is at least `tcp_rto_min` (200 ms), so a
//! timeout is never nearer than the smoothed round trip plus that; it grows with the first sample
//! that asks for it, and comes down once in a round trip only; and a round trip that becomes shorter
//! is no reason to widen it. It does not decide when to retransmit (`recovery/rto.rs`) and never reads
//! a clock.

use millrace_base::{Micros, Nanos, SeqNumber};

use super::config::TcpTunables;

/// What is known about the path's delay. All times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(2))]
pub(crate) struct RttEstimator {
    /// SRTT; 0 before the first sample.
    srtt: u32,
    /// Four times RTTVAR (Linux: `mdev_us`).
    deviation: u32,
    /// The smallest sample; 0 before the first.
    min: u32,
    /// What the timeout is beyond SRTT, in whole milliseconds (Linux: `rttvar_us`).
    margin: u32,
    /// The largest deviation of this round trip, likewise, and `tcp_rto_min` at least (Linux:
    /// `mdev_max_us`).
    margin_of_round: u32,
    /// SND.NXT when this round trip began (Linux: `rtt_seq`).
    round_end: SeqNumber,
    /// How many times the timeout is doubled now.
    backoff: u8,
    basis: Basis,
}

/// What one ACK tells of the round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RttSample {
    /// Of the oldest segment that it reports: what a timeout has to wait for.
    pub(crate) rtt: Micros,
    /// Of the newest: what the path takes.
    pub(crate) newest: Micros,
}

impl RttSample {
    /// Of one segment.
    pub(crate) const fn one(rtt: Micros) -> Self {
        Self { rtt, newest: rtt }
    }
}

/// What the first timeout is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Basis {
    /// Nothing was measured: `tcp_rto_initial_ms`.
    #[default]
    Nothing,
    /// The handshake needed a retransmission, so nothing is known: 3 s (RFC 6298 section 5.7).
    Distrusted,
    /// Earlier connections know of a longer round trip than the handshake's, if that was measured.
    /// The margin is what their timeout is beyond SRTT, until the first sample.
    Seeded,
    /// Samples.
    Measured,
}

/// The estimator of a connection at rest. All that was sent is acknowledged: the next sample begins a
/// round trip.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct RestingRtt {
    srtt: u32,
    deviation: u32,
    min: u32,
    margin_ms: u16,
    margin_of_round_ms: u16,
    backoff: u8,
    basis: Basis,
}

/// The margin has room in `RestingRtt`.
const MARGIN_MAX: u32 = u16::MAX as u32 * 1_000;

/// Microseconds as a margin.
const fn margin_of(us: u32) -> u32 {
    let us = if us < MARGIN_MAX { us } else { MARGIN_MAX };
    us.div_ceil(1_000).wrapping_mul(1_000)
}

impl RttEstimator {
    /// Takes one measurement: SND.UNA is `una` behind the ACK that brought it.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# (2.3) When a subsequent RTT measurement R' is made, a host MUST set
    #[inline]
    pub(crate) fn sample(
        &mut self,
        sample: RttSample,
        (una, nxt): (SeqNumber, SeqNumber),
        rto_min_us: u64,
    ) {
        let rtt = sample.rtt.as_micros().max(1);
        let newest = sample.newest.as_micros().max(1);
        if self.basis != Basis::Measured && self.begin(rtt, newest, nxt, rto_min_us) {
            return;
        }
        // RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT <- 7/8 SRTT + 1/8 R'.
        let share = self.deviation / 4;
        let mut error = self.srtt.abs_diff(rtt);
        if rtt < self.srtt {
            self.srtt = self.srtt.wrapping_sub(error / 8);
            // Where nothing comes later than expected nothing has to be waited for.
            if error > share {
                error = share.wrapping_add(error.wrapping_sub(share) / 8);
            }
        } else {
            self.srtt = self.srtt.wrapping_add(error / 8);
        }
        self.deviation = self.deviation.wrapping_sub(share).saturating_add(error);
        self.min = self.min.min(newest);
        if self.deviation > self.margin_of_round {
            self.widen();
        }
        if una.after(self.round_end) {
            self.end_round(nxt, rto_min_us);
        }
    }

    /// From now on samples count; `true` when this was the first.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# (2.2) When the first RTT measurement R is made, the host MUST set
    #[cold]
    fn begin(&mut self, rtt: u32, newest: u32, nxt: SeqNumber, rto_min_us: u64) -> bool {
        if self.basis == Basis::Seeded {
            self.margin = self.margin_of_round;
        }
        self.basis = Basis::Measured;
        if self.srtt != 0 {
            return false;
        }
        (self.srtt, self.min) = (rtt, newest);
        self.deviation = rtt.saturating_mul(2);
        let least = rto_min_us.min(MARGIN_MAX.into()) as u32;
        self.margin = margin_of(self.deviation.max(least));
        self.margin_of_round = self.margin;
        self.round_end = nxt;
        true
    }

    /// A deviation as large as none in this round trip.
    #[cold]
    fn widen(&mut self) {
        self.margin_of_round = margin_of(self.deviation);
        self.margin = self.margin.max(self.margin_of_round);
    }

    /// All that was in flight when this round trip began is acknowledged.
    fn end_round(&mut self, nxt: SeqNumber, rto_min_us: u64) {
        if self.margin_of_round < self.margin {
            let surplus = self.margin.wrapping_sub(self.margin_of_round);
            let margin = self.margin.wrapping_sub(surplus / 4);
            self.margin = margin.wrapping_sub(margin % 1_000);
        }
        self.round_end = nxt;
        self.margin_of_round = rto_min_us.min(MARGIN_MAX.into()) as u32;
    }

    /// Begins with the round trip that earlier connections have left behind, 0 for none: it makes the
    /// first timeout when it is longer than the handshake's, and nothing after the first sample of
    /// data (Linux: `tcp_init_metrics`).
    pub(crate) fn seed(&mut self, remembered: Micros, tunables: &TcpTunables) {
        if remembered.as_micros() > self.srtt {
            // Linux counts whole milliseconds here.
            let rtt_us = (remembered.as_micros() / 1_000).saturating_mul(1_000);
            let floor = tunables.tcp_rto_min_ms.saturating_mul(1_000);
            let rto = rtt_us.saturating_add(rtt_us.saturating_mul(2).max(floor));
            self.margin = margin_of(rto.saturating_sub(self.srtt));
            self.basis = Basis::Seeded;
        } else if self.srtt == 0 {
            self.basis = Basis::Distrusted;
        }
    }

    /// What stays of it while nothing is in flight.
    pub(crate) const fn at_rest(&self) -> RestingRtt {
        RestingRtt {
            srtt: self.srtt,
            deviation: self.deviation,
            min: self.min,
            margin_ms: (self.margin / 1_000) as u16,
            margin_of_round_ms: (self.margin_of_round / 1_000) as u16,
            backoff: self.backoff,
            basis: self.basis,
        }
    }

    /// The estimator that rested: all up to `una` is acknowledged.
    pub(crate) const fn awake(resting: &RestingRtt, una: SeqNumber) -> Self {
        Self {
            srtt: resting.srtt,
            deviation: resting.deviation,
            min: resting.min,
            margin: (resting.margin_ms as u32).wrapping_mul(1_000),
            margin_of_round: (resting.margin_of_round_ms as u32).wrapping_mul(1_000),
            round_end: una,
            backoff: resting.backoff,
            basis: resting.basis,
        }
    }

    /// Doubles the timeout once more (RFC 6298 section 5.5).
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The peer acknowledged something new: back to the estimate.
    #[inline]
    pub(crate) fn end_backoff(&mut self) {
        self.backoff = 0;
    }

    /// Takes back one doubling; `false` when there is none.
    pub(crate) fn revert_one_backoff(&mut self) -> bool {
        let had = self.backoff > 0;
        self.backoff = self.backoff.saturating_sub(1);
        had
    }

    /// The SYN was retransmitted: its round trip is ambiguous.
    pub(crate) fn distrust_handshake(&mut self) {
        self.basis = Basis::Distrusted;
    }

    /// The timeout, doublings included.
    #[inline]
    pub(crate) fn rto(&self, tunables: &TcpTunables) -> Nanos {
        Nanos::from_micros(self.rto_us(tunables))
    }

    /// The timeout without doublings.
    #[inline]
    pub(crate) fn base(&self, tunables: &TcpTunables) -> Nanos {
        Nanos::from_micros(self.base_us(tunables))
    }

    /// The timeout, doublings included, in microseconds: below 2^53.
    #[inline]
    pub(crate) fn rto_us(&self, tunables: &TcpTunables) -> u64 {
        let base = self.base_us(tunables);
        if self.backoff == 0 && self.srtt != 0 {
            return base;
        }
        let doubled = base.wrapping_shl(self.backoff.min(20).into());
        doubled.min(tunables.rto_max_us())
    }

    /// The timeout without doublings, in microseconds: a 32-bit number of milliseconds at most.
    #[inline]
    fn base_us(&self, tunables: &TcpTunables) -> u64 {
        if self.srtt == 0 {
            let initial = match self.basis {
                Basis::Distrusted => 3_000,
                Basis::Seeded => return self.margin.into(),
                Basis::Nothing | Basis::Measured => tunables.tcp_rto_initial_ms,
            };
            return u64::from(initial).wrapping_mul(1_000);
        }
        let rto = u64::from(self.srtt).wrapping_add(self.margin.into());
        rto.min(tunables.rto_max_us())
    }

    /// The smoothed round trip, once there is one.
    #[inline]
    pub(crate) fn srtt(&self) -> Option<Micros> {
        (self.srtt != 0).then_some(Micros::new(self.srtt))
    }

    /// How many times the timeout is doubled now.
    pub(crate) fn backoff(&self) -> u8 {
        self.backoff
    }

    /// The mean deviation.
    pub(crate) fn rttvar(&self) -> Micros {
        Micros::new(self.deviation / 4)
    }

    /// The smallest round trip seen.
    pub(crate) fn min(&self) -> Option<Micros> {
        (self.min != 0).then_some(Micros::new(self.min))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(estimator: &RttEstimator) -> u64 {
        estimator.rto(&TcpTunables::default()).as_millis()
    }

    /// One segment at a time: each sample is a round trip.
    fn sample(estimator: &mut RttEstimator, millis: u32) {
        let una = estimator.round_end.plus(1);
        let rto_min_us = TcpTunables::default().rto_min_us();
        let sample = RttSample::one(Micros::from_millis(millis));
        estimator.sample(sample, (una, una), rto_min_us);
    }

    // RFC 6298 section 2.1 and Linux's TCP_TIMEOUT_INIT.
    // behaviour: TMR-34
    #[test]
    fn the_timeout_is_one_second_before_the_first_sample_and_three_after_a_syn_loss() {
        let mut estimator = RttEstimator::default();
        assert_eq!(millis(&estimator), 1_000);
        estimator.distrust_handshake();
        assert_eq!(millis(&estimator), 3_000);
    }

    // Linux: __tcp_set_rto with rttvar floored at 200 ms.
    // behaviour: TMR-35, X8-2
    #[test]
    fn a_steady_path_converges_to_its_round_trip_plus_the_floor() {
        let mut estimator = RttEstimator::default();
        for _ in 0..100 {
            sample(&mut estimator, 80);
        }
        assert_eq!(millis(&estimator), 280);
        assert_eq!(estimator.srtt().map(Micros::as_micros), Some(80_000));
        sample(&mut estimator, 400);
        assert!(
            millis(&estimator) > 400,
            "one late answer widens the variance"
        );
    }

    // Linux: tcp_init_metrics. Only the first timeout is of what was remembered.
    // behaviour: CCW-3
    #[test]
    fn a_longer_round_trip_of_the_past_makes_the_first_timeout_and_no_other() {
        let tunables = TcpTunables::default();
        let seeded = |first: Option<u32>, remembered: u32| {
            let mut estimator = RttEstimator::default();
            if let Some(first) = first {
                sample(&mut estimator, first);
            }
            estimator.seed(Micros::from_millis(remembered), &tunables);
            estimator
        };
        // The past, and twice the past or 200 ms.
        assert_eq!(millis(&seeded(Some(20), 50)), 250);
        assert_eq!(millis(&seeded(Some(20), 300)), 900);
        assert_eq!(millis(&seeded(None, 300)), 900);
        // A shorter past does not count; without any, caution.
        assert_eq!(millis(&seeded(Some(20), 20)), 220);
        assert_eq!(millis(&seeded(Some(80), 20)), 280);
        assert_eq!(millis(&seeded(None, 0)), 3_000);
        // The estimate itself is the handshake's.
        let mut estimator = seeded(Some(20), 300);
        assert_eq!(estimator.srtt(), Some(Micros::from_millis(20)));
        assert_eq!(estimator.rttvar(), Micros::from_millis(10));
        sample(&mut estimator, 20);
        assert_eq!(millis(&estimator), 220);
        let mut plain = RttEstimator::default();
        sample(&mut plain, 20);
        sample(&mut plain, 20);
        assert_eq!(estimator.rttvar(), plain.rttvar());
        let mut unknown = seeded(None, 300);
        sample(&mut unknown, 20);
        assert_eq!(
            (millis(&unknown), unknown.rttvar()),
            (220, Micros::from_millis(10))
        );
    }

    // behaviour: TMR-12
    #[test]
    fn backoff_doubles_up_to_two_minutes_and_ends_at_once() {
        let mut estimator = RttEstimator::default();
        let mut seen = Vec::new();
        for _ in 0..9 {
            seen.push(millis(&estimator) / 1_000);
            estimator.back_off();
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        estimator.end_backoff();
        assert_eq!(millis(&estimator), 1_000);
    }

    // Linux: tcp_rtt_estimator. What the variance was at first goes away by a quarter of what is too
    // much in each round trip, not with each sample. behaviour: TMR-35
    #[test]
    fn the_margin_comes_down_once_in_a_round_trip() {
        let rto_min_us = TcpTunables::default().rto_min_us();
        let at = |round: u32| SeqNumber::new(round);
        let mut estimator = RttEstimator::default();
        let steady = RttSample::one(Micros::from_millis(300));
        estimator.sample(steady, (at(0), at(10)), rto_min_us);
        assert_eq!(millis(&estimator), 900);
        for una in 1..=10 {
            estimator.sample(steady, (at(una), at(10)), rto_min_us);
        }
        assert_eq!(millis(&estimator), 900, "one round trip");
        estimator.sample(steady, (at(11), at(20)), rto_min_us);
        assert_eq!(
            millis(&estimator),
            900,
            "its largest deviation was the first"
        );
        for una in 12..=20 {
            estimator.sample(steady, (at(una), at(20)), rto_min_us);
        }
        estimator.sample(steady, (at(21), at(30)), rto_min_us);
        assert_eq!(millis(&estimator), 800, "a quarter of 400 ms");
    }

    // Linux: tcp_rtt_estimator, "Eifel blocks mdev updates when rtt decreases".
    #[test]
    fn a_shorter_round_trip_hardly_widens_the_margin() {
        let mut estimator = RttEstimator::default();
        sample(&mut estimator, 100);
        assert_eq!(millis(&estimator), 300);
        sample(&mut estimator, 10);
        // SRTT is 88.75 ms; the deviation of 200 ms becomes 205.
        assert_eq!(millis(&estimator), 293);
        assert_eq!(estimator.rttvar(), Micros::new(51_250));
    }

    #[test]
    fn an_estimator_that_rested_goes_on_where_it_was() {
        let mut one = RttEstimator::default();
        for millis in [300, 900, 120, 40, 500] {
            sample(&mut one, millis);
        }
        let mut other = RttEstimator::awake(&one.at_rest(), one.round_end);
        for millis in [80, 700, 90] {
            sample(&mut one, millis);
            sample(&mut other, millis);
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }

    // What waited for others on the way back says nothing about the path.
    #[test]
    fn the_smallest_round_trip_is_of_the_newest_segments() {
        let mut estimator = RttEstimator::default();
        let sample = RttSample {
            rtt: Micros::from_millis(60),
            newest: Micros::from_millis(20),
        };
        estimator.sample(sample, (SeqNumber::new(0), SeqNumber::new(1)), 200_000);
        assert_eq!(estimator.srtt(), Some(Micros::from_millis(60)));
        assert_eq!(estimator.min(), Some(Micros::from_millis(20)));
    }
}
