//! What comes of the model: the pacing rate and the window (draft section 5.6).

use millrace_base::Micros;

use super::model::PIPE_SEGMENTS_MIN;
use super::{Bbr, PathView, State, UNBOUNDED};
use crate::tcp::rate::{RateSample, is_beyond};
use crate::tcp::recovery::Phase;

/// The round trip of a path that was not measured yet.
const RTT_NOMINAL_US: u32 = 1_000;
/// Data leaves a percent slower than the model says, so that queues get shorter.
const MARGIN_PERCENT: u64 = 99;
/// Below 1.2 Mbit/s segments leave one by one (Linux: `bbr_min_tso_rate`).
const SINGLE_SEGMENT_RATE: u64 = 150_000;

impl Bbr {
    /// InitPacingRate: the initial window in one round trip, or in a millisecond.
    pub(super) fn init_pacing_rate(&mut self, srtt: Option<Micros>) {
        let srtt = srtt.map_or(RTT_NOMINAL_US, |srtt| srtt.as_micros().max(1));
        let bw = u64::from(self.init_cwnd).saturating_mul(1_000_000);
        let bw = bw.checked_div(srtt.into()).unwrap_or(0);
        self.pacing_rate = scaled_rate(bw, State::Startup.pacing_gain());
    }

    /// SetPacingRate. The first round trip says more than the millisecond (Linux:
    /// `bbr_init_pacing_rate_from_rtt`).
    pub(super) fn set_pacing_rate(&mut self, srtt: Option<Micros>) {
        if !self.has_seen_rtt && srtt.is_some() {
            self.has_seen_rtt = true;
            self.init_pacing_rate(srtt);
        }
        self.set_pacing_rate_with_gain(self.state.pacing_gain());
    }

    /// SetPacingRateWithGain: until the pipe is full, it only rises.
    pub(super) fn set_pacing_rate_with_gain(&mut self, gain: u32) {
        let rate = scaled_rate(self.bw, gain).saturating_mul(MARGIN_PERCENT) / 100;
        if rate > 0 && (self.full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// Segments of the smallest burst (Linux: `min_tso_segs`).
    pub(crate) fn min_tso_segs(&self) -> u32 {
        if self.pacing_rate < SINGLE_SEGMENT_RATE {
            1
        } else {
            2
        }
    }

    /// Bytes per second at which data leaves.
    pub(crate) fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    /// SetCwnd.
    pub(super) fn set_cwnd(&mut self, rs: &RateSample, path: &PathView, cwnd: &mut u32) {
        self.update_max_inflight(path.mss);
        self.has_delivered_first |= !is_beyond(self.init_cwnd, self.sampler.delivered);
        let grown = cwnd.saturating_add(rs.newly_acked);
        if self.full_bw_reached {
            *cwnd = grown.min(self.max_inflight);
        } else if *cwnd < self.max_inflight || !self.has_delivered_first {
            *cwnd = grown;
        }
        let least = path.mss.saturating_mul(PIPE_SEGMENTS_MIN);
        *cwnd = (*cwnd).max(least);
        if self.state == State::ProbeRtt {
            *cwnd = (*cwnd).min(self.probe_rtt_cwnd(path.mss));
        }
        *cwnd = (*cwnd).min(self.volume_cap(path.mss).max(least));
    }

    /// BoundCwndForModel: the bounds that losses have set.
    fn volume_cap(&self, mss: u32) -> u32 {
        let cap = match self.state {
            State::Startup | State::Drain => UNBOUNDED,
            State::Down | State::Refill | State::Up => self.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(mss),
        };
        cap.min(self.inflight_shortterm)
    }

    /// SaveCwnd: the last window that neither recovery nor ProbeRTT has cut.
    pub(super) fn save_cwnd(&mut self, cwnd: u32) {
        self.prior_cwnd = if self.in_recovery || self.state == State::ProbeRtt {
            self.prior_cwnd.max(cwnd)
        } else {
            cwnd
        };
    }

    /// Recovery is about to enter a state: the window of before comes back when it is left.
    pub(crate) fn on_state(&mut self, phase: Phase, cwnd: &mut u32) {
        let enters = phase >= Phase::Recovery;
        if !enters && self.in_recovery {
            *cwnd = (*cwnd).max(self.prior_cwnd);
        }
        if phase == Phase::Loss {
            self.reset_full_bw();
            // What was queued has left while nothing was delivered, as in an idle time: no ProbeRTT now.
            // An ACK behind an outage may show the timeout to be spurious, and leave more in flight than
            // its window lets leave, of which nothing comes any more.
            self.idle_restart = true;
            // The bound that this loss leaves is a share of the window before the timeout, not of the
            // segment that the timeout left of it (Linux: version 3 in `bbr_set_state`).
            if !self.is_probing_bw() && self.inflight_shortterm == UNBOUNDED {
                self.inflight_shortterm = self.prior_cwnd.max(*cwnd);
            }
        }
        self.in_recovery = enters;
    }

    /// An episode of recovery begins, and asks for a threshold: there is none, but a window and a state
    /// to be remembered (OnEnterRTO, OnEnterFastRecovery; Linux: `ssthresh`).
    pub(crate) fn on_reduction(&mut self, cwnd: u32) {
        self.save_state_upon_loss(cwnd);
    }
}

/// A rate times a gain in 1/256.
fn scaled_rate(rate: u64, gain: u32) -> u64 {
    let wide = u128::from(rate).saturating_mul(gain.into()) >> 8;
    wide.min(u128::from(u64::MAX >> 8)) as u64
}
