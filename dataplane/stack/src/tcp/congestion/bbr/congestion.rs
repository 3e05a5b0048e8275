//! What loss says: while probing, that the probe went too high; otherwise, that the path delivers
//! less for now. And how that is taken back (draft section 5.5.10 and 5.5.11).

use super::{Bbr, RATE_UNBOUNDED, State, UNBOUNDED, UndoState, scaled};
use crate::tcp::rate::{LostSegment, RateSample, is_beyond};

use super::PathView;

/// 0.7: what one round trip with losses leaves of a bound.
const BETA: u32 = 179;

impl Bbr {
    /// UpdateLatestDeliverySignals.
    pub(super) fn update_latest_delivery_signals(&mut self, rs: &RateSample) {
        self.loss_round_start = false;
        if !rs.has_data {
            return;
        }
        self.bw_latest = self.bw_latest.max(rs.rate);
        self.inflight_latest = self.inflight_latest.max(rs.delivered);
        if !is_beyond(self.loss_round_delivered, rs.prior_delivered) {
            self.loss_round_delivered = self.sampler.delivered;
            self.loss_round_start = true;
        }
    }

    /// AdvanceLatestDeliverySignals.
    pub(super) fn advance_latest_delivery_signals(&mut self, rs: &RateSample) {
        if self.loss_round_start {
            self.bw_latest = rs.rate;
            self.inflight_latest = rs.delivered;
        }
    }

    /// ResetCongestionSignals.
    pub(super) fn reset_congestion_signals(&mut self) {
        self.is_loss_in_round = false;
        self.lost_in_round = 0;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    /// UpdateCongestionSignals: once in a round trip with losses the short-term bounds go down, but
    /// not below what was delivered in it. As for a probe, up to 2 percent are no reason (the draft
    /// goes down for any).
    pub(super) fn update_congestion_signals(&mut self, rs: &RateSample, has_sack: bool, cwnd: u32) {
        self.update_max_bw(rs);
        if !self.loss_round_start {
            return;
        }
        let is_much = self.lost_in_round > rs.delivered / 50 || !has_sack;
        if self.is_loss_in_round && is_much && !self.is_probing_bw() {
            if self.bw_shortterm == RATE_UNBOUNDED {
                self.bw_shortterm = self.max_bw();
            }
            if self.inflight_shortterm == UNBOUNDED {
                self.inflight_shortterm = cwnd;
            }
            let less = self.bw_shortterm / 256;
            self.bw_shortterm = self.bw_latest.max(less.saturating_mul(BETA.into()));
            let less = scaled(self.inflight_shortterm, BETA);
            self.inflight_shortterm = self.inflight_latest.max(less);
        }
        self.is_loss_in_round = false;
        self.lost_in_round = 0;
    }

    /// ResetShortTermModel.
    pub(super) fn reset_short_term_model(&mut self) {
        self.bw_shortterm = RATE_UNBOUNDED;
        self.inflight_shortterm = UNBOUNDED;
    }

    /// IsInflightTooHigh: more than 2 percent of what was in flight is lost.
    pub(super) fn is_inflight_too_high(rs: &RateSample, has_sack: bool) -> bool {
        rs.lost > rs.tx_in_flight / 50 || (rs.lost > 0 && !has_sack)
    }

    /// One segment was found lost (HandleLostPacket; Linux's BBR: `skb_marked_lost`).
    pub(crate) fn on_lost(&mut self, segment: &LostSegment, path: &PathView, cwnd: u32) {
        self.sampler.lost = self.sampler.lost.wrapping_add(segment.bytes);
        if !self.is_loss_in_round {
            self.loss_round_delivered = self.sampler.delivered;
            // Within an episode what there is to put back is known from its beginning. The draft
            // saves in every round with losses, and so forgets a probe that the first of them has
            // ended when the second is told of.
            if !self.in_recovery {
                self.save_state_upon_loss(cwnd);
            }
        }
        self.is_loss_in_round = true;
        self.lost_in_round = self.lost_in_round.saturating_add(segment.bytes);
        if !self.is_bw_probe_sample {
            return;
        }
        let mut rs = RateSample {
            tx_in_flight: segment.tx_in_flight,
            lost: self.sampler.lost.wrapping_sub(segment.lost_before),
            is_app_limited: segment.is_app_limited,
            ..RateSample::default()
        };
        if Self::is_inflight_too_high(&rs, path.has_sack) {
            rs.tx_in_flight = inflight_at_loss(&rs, segment.bytes);
            self.handle_inflight_too_high(&rs, path, cwnd);
        }
    }

    fn handle_inflight_too_high(&mut self, rs: &RateSample, path: &PathView, cwnd: u32) {
        self.prev_probe_too_high = true;
        // Once for each probe.
        self.is_bw_probe_sample = false;
        if !rs.is_app_limited {
            let least = scaled(self.target_inflight(cwnd), BETA);
            self.inflight_longterm = rs.tx_in_flight.max(least);
        }
        if self.state == State::Up {
            self.undo_state = UndoState::Up;
            self.start_down(path.now);
        }
    }

    /// SaveStateUponLoss.
    pub(super) fn save_state_upon_loss(&mut self, cwnd: u32) {
        self.save_cwnd(cwnd);
        self.undo_state = UndoState::None;
        self.undo_bw_shortterm = self.bw_shortterm;
        self.undo_inflight_shortterm = self.inflight_shortterm;
        self.undo_inflight_longterm = self.inflight_longterm;
    }

    /// HandleSpuriousLossDetection: nothing was lost (Linux: `undo_cwnd`).
    pub(crate) fn on_spurious_loss(&mut self, cwnd: &mut u32) {
        *cwnd = (*cwnd).max(self.prior_cwnd);
        self.is_loss_in_round = false;
        self.lost_in_round = 0;
        self.reset_full_bw();
        self.bw_shortterm = self.bw_shortterm.max(self.undo_bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(self.undo_inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(self.undo_inflight_longterm);
        let is_free = self.state != State::ProbeRtt;
        match core::mem::replace(&mut self.undo_state, UndoState::None) {
            UndoState::Startup if self.state != State::Startup => {
                self.full_bw_reached = false;
                if is_free {
                    self.enter_startup();
                }
            }
            UndoState::Up if self.state != State::Up && is_free => self.start_refill(),
            UndoState::None | UndoState::Startup | UndoState::Up => {}
        }
    }
}

/// InflightAtLoss: how much was in flight when more than 2 percent of it were lost, which was in the
/// middle of a segment that left as a burst.
fn inflight_at_loss(rs: &RateSample, size: u32) -> u32 {
    let inflight_before = rs.tx_in_flight.saturating_sub(size);
    let lost_before = rs.lost.saturating_sub(size);
    let allowed = inflight_before / 50;
    // (2 % of what was in flight - what was lost) / 98 %.
    let prefix = u64::from(allowed.saturating_sub(lost_before)).saturating_mul(50) / 49;
    inflight_before.saturating_add(prefix.min(u64::from(u32::MAX)) as u32)
}
