//! The model: round trips counted by what is delivered, the largest rate, what ACKs bring at once,
//! and how much in flight that means (draft section 5.5).

use super::{AckPhase, Bbr, ONE, State, scaled};
use crate::tcp::rate::{RateSample, is_beyond};

use super::PathView;

/// Round trips in each half of the window in which the largest aggregation is looked for.
const AGGREGATION_ROUNDS: u8 = 5;
/// The largest burst: 64 KiB.
const QUANTUM_BYTES_MAX: u64 = 65_536;
/// The least window in segments: two in flight, and two ACKs of a peer that delays.
pub(super) const PIPE_SEGMENTS_MIN: u32 = 4;

impl Bbr {
    /// The largest rate of two cycles of probing.
    pub(super) fn max_bw(&self) -> u64 {
        let [before, now] = self.max_bw_filter;
        before.max(now)
    }

    /// UpdateRound: has a round trip passed?
    fn update_round(&mut self, rs: &RateSample) {
        self.round_start = rs.has_data && !is_beyond(self.next_round_delivered, rs.prior_delivered);
        if self.round_start {
            self.start_round();
            self.round_count = self.round_count.wrapping_add(1);
            self.rounds_since_probe_up = self.rounds_since_probe_up.saturating_add(1);
        }
    }

    /// A round trip begins: it ends with the ACK of something that leaves from now on.
    pub(super) fn start_round(&mut self) {
        self.next_round_delivered = self.sampler.delivered;
    }

    /// UpdateMaxBw.
    pub(super) fn update_max_bw(&mut self, rs: &RateSample) {
        self.update_round(rs);
        if rs.rate > 0 && (rs.rate >= self.max_bw() || !rs.is_app_limited) {
            let [_, now] = &mut self.max_bw_filter;
            *now = (*now).max(rs.rate);
        }
    }

    /// AdvanceMaxBwFilter: another cycle. One without samples does not count (Linux).
    pub(super) fn advance_max_bw_filter(&mut self) {
        let [before, now] = &mut self.max_bw_filter;
        if *now != 0 {
            *before = core::mem::take(now);
        }
    }

    /// UpdateACKAggregation: how much more comes at once than the rate explains.
    pub(super) fn update_ack_aggregation(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) {
        if self.round_start {
            let rounds = if self.full_bw_reached {
                AGGREGATION_ROUNDS
            } else {
                1
            };
            self.extra_acked_rounds = self.extra_acked_rounds.saturating_add(1);
            if self.extra_acked_rounds >= rounds {
                let [before, now] = &mut self.extra_acked_filter;
                *before = core::mem::take(now);
                self.extra_acked_rounds = 0;
            }
        }
        if rs.newly_acked == 0 {
            return;
        }
        let interval = path.now.since(self.extra_acked_start).to_micros();
        let expected = u128::from(self.bw).saturating_mul(interval.as_micros().into()) / 1_000_000;
        let mut expected = expected.min(u128::from(u32::MAX)) as u32;
        if self.extra_acked_delivered <= expected {
            self.extra_acked_delivered = 0;
            self.extra_acked_start = path.now;
            expected = 0;
        }
        self.extra_acked_delivered = self.extra_acked_delivered.saturating_add(rs.newly_acked);
        let extra = self
            .extra_acked_delivered
            .saturating_sub(expected)
            .min(cwnd);
        let [_, now] = &mut self.extra_acked_filter;
        *now = (*now).max(extra);
    }

    pub(super) fn extra_acked(&self) -> u32 {
        let [before, now] = self.extra_acked_filter;
        before.max(now)
    }

    /// BDPMultiple: so many times what a path of this rate holds.
    pub(super) fn bdp(&self, bw: u64, gain: u32) -> u32 {
        let min_rtt = self.min_rtt.as_micros();
        if min_rtt == u32::MAX {
            return self.init_cwnd;
        }
        let bytes = u128::from(bw).saturating_mul(min_rtt.into()) / 1_000_000;
        scaled(bytes.min(u128::from(u32::MAX)) as u32, gain)
    }

    /// QuantizationBudget: room for bursts in the hosts.
    fn with_bursts(&self, bytes: u32, mss: u32) -> u32 {
        let quantum = (self.pacing_rate / 1_000).min(QUANTUM_BYTES_MAX) as u32;
        let quantum = quantum.max(mss.saturating_mul(2));
        let bytes = bytes
            .max(quantum.saturating_mul(3))
            .max(mss.saturating_mul(PIPE_SEGMENTS_MIN));
        if self.state == State::Up {
            bytes.saturating_add(mss.saturating_mul(2))
        } else {
            bytes
        }
    }

    /// Inflight: what to have in flight at this rate.
    pub(super) fn inflight(&self, bw: u64, gain: u32, mss: u32) -> u32 {
        self.with_bursts(self.bdp(bw, gain), mss)
    }

    /// UpdateMaxInflight.
    pub(super) fn update_max_inflight(&mut self, mss: u32) {
        let bdp = self.bdp(self.bw, self.state.cwnd_gain());
        self.max_inflight = self.with_bursts(bdp.saturating_add(self.extra_acked()), mss);
    }

    /// TargetInflight: what the path holds, unless loss has cut the window below it.
    pub(super) fn target_inflight(&self, cwnd: u32) -> u32 {
        self.bdp(self.bw, ONE).min(cwnd)
    }

    /// Whether the present ACKs tell of what was sent while probing.
    pub(super) fn is_probing_bw(&self) -> bool {
        matches!(self.state, State::Startup | State::Refill | State::Up)
    }

    /// Whether it is in one of the states of ProbeBW.
    pub(super) fn is_in_probe_bw(&self) -> bool {
        matches!(
            self.state,
            State::Down | State::Cruise | State::Refill | State::Up
        )
    }

    /// What the ACKs tell of is another thing from the next round on.
    pub(super) fn await_acks_of(&mut self, phase: AckPhase) {
        self.ack_phase = phase;
        self.start_round();
    }
}
