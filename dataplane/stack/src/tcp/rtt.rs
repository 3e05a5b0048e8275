//! Round-trip estimation: samples in, retransmission timeout out.
//!
//! Implements RFC 6298 with Linux's floor: the *variance term* is at least `tcp_rto_min` (200 ms),
//! so a timeout is never nearer than the smoothed round trip plus that. It does not decide when to
//! retransmit (`recovery/rto.rs`) and never reads a clock.

use millrace_base::{Micros, Nanos};

use super::config::TcpTunables;

/// What is known about the path's delay. All times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(2))]
pub(crate) struct RttEstimator {
    /// SRTT; 0 before the first sample.
    srtt: u32,
    /// RTTVAR.
    rttvar: u32,
    /// The smallest sample; 0 before the first.
    min: u32,
    /// How many times the timeout is doubled now.
    backoff: u8,
    basis: Basis,
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
    /// RTTVAR is not a deviation but a quarter of what the timeout is longer than SRTT.
    Seeded,
    /// Samples.
    Measured,
}

impl RttEstimator {
    /// Takes one measurement.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# (2.2) When the first RTT measurement R is made, the host MUST set
    #[inline]
    pub(crate) fn sample(&mut self, rtt: Micros) {
        let rtt = rtt.as_micros().max(1);
        if self.basis != Basis::Measured {
            self.begin();
            if self.srtt == 0 {
                self.srtt = rtt;
                self.rttvar = rtt / 2;
                self.min = rtt;
                return;
            }
        }
        // RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT <- 7/8 SRTT + 1/8 R'.
        let deviation = self.srtt.abs_diff(rtt);
        self.rttvar = self
            .rttvar
            .saturating_sub(self.rttvar / 4)
            .saturating_add(deviation / 4);
        self.srtt = self
            .srtt
            .saturating_sub(self.srtt / 8)
            .saturating_add(rtt / 8)
            .max(1);
        self.min = self.min.min(rtt);
    }

    /// From now on samples count.
    #[cold]
    fn begin(&mut self) {
        self.rttvar = self.rttvar().as_micros();
        self.basis = Basis::Measured;
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
            self.rttvar = rto.saturating_sub(self.srtt) / 4;
            self.basis = Basis::Seeded;
        } else if self.srtt == 0 {
            self.basis = Basis::Distrusted;
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

    /// The timeout without doublings, in microseconds: a 32-bit number of milliseconds at most, or
    /// seven times 32 bits of microseconds.
    #[inline]
    fn base_us(&self, tunables: &TcpTunables) -> u64 {
        if self.srtt == 0 {
            let initial = match self.basis {
                Basis::Distrusted => 3_000,
                Basis::Seeded => return u64::from(self.rttvar).wrapping_mul(4),
                Basis::Nothing | Basis::Measured => tunables.tcp_rto_initial_ms,
            };
            return u64::from(initial).wrapping_mul(1_000);
        }
        let spread = u64::from(self.rttvar).wrapping_mul(4);
        let rto = u64::from(self.srtt).wrapping_add(spread.max(tunables.rto_min_us()));
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
        if self.basis == Basis::Seeded {
            return Micros::new(self.srtt / 2);
        }
        Micros::new(self.rttvar)
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
            estimator.sample(Micros::from_millis(80));
        }
        assert_eq!(millis(&estimator), 280);
        assert_eq!(estimator.srtt().map(Micros::as_micros), Some(80_000));
        estimator.sample(Micros::from_millis(400));
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
                estimator.sample(Micros::from_millis(first));
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
        estimator.sample(Micros::from_millis(20));
        assert_eq!(millis(&estimator), 220);
        let mut plain = RttEstimator::default();
        plain.sample(Micros::from_millis(20));
        plain.sample(Micros::from_millis(20));
        assert_eq!(estimator.rttvar(), plain.rttvar());
        let mut unknown = seeded(None, 300);
        unknown.sample(Micros::from_millis(20));
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
}
