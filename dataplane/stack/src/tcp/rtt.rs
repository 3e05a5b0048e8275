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
    /// The handshake needed a retransmission, so nothing is known: start from 3 s (RFC 6298 section
    /// 5.7).
    cautious: bool,
}

impl RttEstimator {
    /// Takes one measurement.
    //= https://www.rfc-editor.org/rfc/rfc6298#section-2
    //# (2.2) When the first RTT measurement R is made, the host MUST set
    #[inline]
    pub(crate) fn sample(&mut self, rtt: Micros) {
        let rtt = rtt.as_micros().max(1);
        if self.srtt == 0 {
            self.srtt = rtt;
            self.rttvar = rtt / 2;
            self.min = rtt;
            return;
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
        self.cautious = true;
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
            let initial = if self.cautious {
                3_000
            } else {
                tunables.tcp_rto_initial_ms
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
