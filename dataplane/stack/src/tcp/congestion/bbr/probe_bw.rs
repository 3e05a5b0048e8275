//! ProbeBW: slower, as fast as the path, and now and then faster, to find out whether there is more
//! (draft section 5.3.3).

use millrace_base::{Instant, Nanos};

use super::model::PIPE_SEGMENTS_MIN;
use super::{AckPhase, Bbr, ONE, PathView, State, UNBOUNDED, scaled};
use crate::tcp::rate::RateSample;

/// Rounds without a probe at most where Reno would need as many to come back.
const RENO_ROUNDS_MAX: u32 = 63;
/// Between two probes pass two to three seconds at most.
const WAIT_SECONDS: u64 = 2;
const WAIT_MORE_MS: u32 = 1_000;
/// 0.15 of the long-term bound is left to others.
const HEADROOM: u32 = 38;
/// Doublings of the slope at most.
const SLOPE_ROUNDS_MAX: u8 = 30;

impl Bbr {
    /// StartProbeBW_DOWN.
    pub(super) fn start_down(&mut self, now: Instant) {
        self.reset_congestion_signals();
        self.probe_up_acked_per_inc = UNBOUNDED;
        self.pick_probe_wait();
        self.cycle_stamp = now;
        self.await_acks_of(AckPhase::ProbeStopping);
        self.state = State::Down;
    }

    /// StartProbeBW_REFILL.
    pub(super) fn start_refill(&mut self) {
        self.reset_short_term_model();
        self.bw_probe_up_rounds = 0;
        self.bw_probe_up_acked = 0;
        self.prev_probe_precautionary = false;
        self.await_acks_of(AckPhase::Refilling);
        self.state = State::Refill;
    }

    /// StartProbeBW_UP.
    fn start_up(&mut self, rs: &RateSample, mss: u32, cwnd: u32) {
        self.await_acks_of(AckPhase::ProbeStarting);
        self.reset_full_bw();
        self.full_bw = rs.rate;
        self.state = State::Up;
        self.raise_slope(mss, cwnd);
    }

    /// PickProbeWait: chance keeps flows from probing together.
    fn pick_probe_wait(&mut self) {
        self.rounds_since_probe_up = self.roll(2);
        let more = Nanos::from_millis(self.roll(WAIT_MORE_MS).into());
        let wait = Nanos::from_secs(WAIT_SECONDS).as_nanos();
        self.bw_probe_wait = Nanos::new(wait.saturating_add(more.as_nanos()));
    }

    /// UpdateProbeBWCyclePhase.
    pub(super) fn update_probe_bw_cycle(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) {
        if !self.full_bw_reached || !rs.has_data {
            return;
        }
        if self.adapt_long_term_model(rs, path, cwnd) {
            return;
        }
        match self.state {
            State::Startup | State::Drain | State::ProbeRtt => {}
            State::Down => {
                if !self.probes_again(path, cwnd) && self.is_time_to_cruise(path) {
                    self.state = State::Cruise;
                }
            }
            State::Cruise => {
                self.probes_again(path, cwnd);
            }
            State::Refill => {
                if self.round_start {
                    self.is_bw_probe_sample = true;
                    self.start_up(rs, path.mss, cwnd);
                }
            }
            State::Up => {
                if self.is_time_to_go_down(rs, path, cwnd) {
                    self.prev_probe_too_high = false;
                    self.start_down(path.now);
                }
            }
        }
    }

    /// IsTimeToProbeBW: begins to refill when it is.
    fn probes_again(&mut self, path: &PathView, cwnd: u32) -> bool {
        let has_waited = path.now > self.cycle_stamp.after(self.bw_probe_wait);
        let target = self.target_inflight(cwnd);
        let rounds = target
            .checked_div(path.mss)
            .unwrap_or(0)
            .min(RENO_ROUNDS_MAX);
        if !has_waited && self.rounds_since_probe_up < rounds {
            return false;
        }
        self.start_refill();
        true
    }

    /// IsTimeToCruise: the queue is gone, and there is room for others.
    fn is_time_to_cruise(&self, path: &PathView) -> bool {
        path.in_flight <= self.inflight_with_headroom(path.mss)
            && path.in_flight <= self.inflight(self.max_bw(), ONE, path.mss)
    }

    /// IsTimeToGoDown: the probe has reached what was too much before, or brings no more.
    fn is_time_to_go_down(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) -> bool {
        if self.prev_probe_too_high && path.in_flight >= self.inflight_longterm {
            self.prev_probe_precautionary = true;
            return true;
        }
        if path.is_cwnd_limited && cwnd >= self.inflight_longterm {
            // The bound holds it back, not the path.
            self.reset_full_bw();
            self.full_bw = rs.rate;
            return false;
        }
        self.full_bw_now
    }

    /// InflightWithHeadroom: the long-term bound, less what is left to others.
    pub(super) fn inflight_with_headroom(&self, mss: u32) -> u32 {
        if self.inflight_longterm == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = scaled(self.inflight_longterm, HEADROOM).max(mss);
        self.inflight_longterm
            .saturating_sub(headroom)
            .max(mss.saturating_mul(PIPE_SEGMENTS_MIN))
    }

    /// RaiseInflightLongtermSlope: one segment in this round trip, then two, four.
    fn raise_slope(&mut self, mss: u32, cwnd: u32) {
        let growth = 1u32.checked_shl(self.bw_probe_up_rounds.into());
        self.bw_probe_up_rounds = self
            .bw_probe_up_rounds
            .saturating_add(1)
            .min(SLOPE_ROUNDS_MAX);
        let per_segment = cwnd.checked_div(growth.unwrap_or(u32::MAX)).unwrap_or(0);
        self.probe_up_acked_per_inc = per_segment.max(mss);
    }

    /// ProbeInflightLongtermUpward: the bound rises while it is what holds the flow back.
    fn probe_inflight_upward(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) {
        if !path.is_cwnd_limited || cwnd < self.inflight_longterm {
            return;
        }
        self.bw_probe_up_acked = self.bw_probe_up_acked.saturating_add(rs.newly_acked);
        let per = self.probe_up_acked_per_inc.max(1);
        if let Some(more) = self.bw_probe_up_acked.checked_div(per)
            && more > 0
        {
            let counted = more.saturating_mul(per);
            self.bw_probe_up_acked = self.bw_probe_up_acked.saturating_sub(counted);
            let bytes = more.saturating_mul(path.mss);
            self.inflight_longterm = self.inflight_longterm.saturating_add(bytes);
        }
        if self.round_start {
            self.raise_slope(path.mss, cwnd);
        }
    }

    /// AdaptLongTermModel; `true` when it has decided on the next state.
    fn adapt_long_term_model(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) -> bool {
        if self.ack_phase == AckPhase::ProbeStarting && self.round_start {
            self.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.ack_phase == AckPhase::ProbeStopping && self.round_start {
            self.is_bw_probe_sample = false;
            self.ack_phase = AckPhase::Init;
            if self.is_in_probe_bw() {
                if !rs.is_app_limited {
                    self.advance_max_bw_filter();
                }
                if self.prev_probe_precautionary && !self.prev_probe_too_high {
                    // It stopped where there was too much before, and lost nothing: again, and further.
                    self.start_refill();
                    return true;
                }
            }
        }
        if Self::is_inflight_too_high(rs, path.has_sack) || self.inflight_longterm == UNBOUNDED {
            return false;
        }
        self.inflight_longterm = self.inflight_longterm.max(rs.tx_in_flight);
        if self.state == State::Up {
            self.probe_inflight_upward(rs, path, cwnd);
        }
        false
    }
}
