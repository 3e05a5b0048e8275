//! Startup: the rate doubles until the path delivers no more, or loses too much; then Drain, until
//! the queue is gone (draft section 5.3.1 and 5.3.2).

use super::{Bbr, ONE, PathView, State, UndoState};
use crate::tcp::rate::RateSample;

/// Rounds without growth that mean a full pipe.
const FULL_ROUNDS: u8 = 3;
/// ACKs with losses in one round that end Startup (BBRStartupFullLossCnt).
const LOSS_EVENTS: u8 = 6;
/// What `loss_events` counts up to.
const LOSS_EVENTS_MAX: u8 = 15;
/// Round trips that Drain lasts at most.
const DRAIN_ROUNDS: u32 = 3;

impl Bbr {
    /// Looks for a full pipe again.
    pub(super) fn reset_full_bw(&mut self) {
        self.full_bw = 0;
        self.full_bw_count = 0;
        self.full_bw_now = false;
    }

    /// CheckFullBWReached: three rounds that brought less than a quarter more. Growth is looked for in
    /// every ACK (Linux): the one that ends a round may be for something that was sent again.
    pub(super) fn check_full_bw_reached(&mut self, rs: &RateSample) {
        if self.full_bw_now || !rs.has_data || rs.is_app_limited {
            return;
        }
        if rs.rate > 0 && rs.rate >= self.full_bw.saturating_add(self.full_bw / 4) {
            self.reset_full_bw();
            self.full_bw = rs.rate;
            return;
        }
        if !self.round_start {
            return;
        }
        self.full_bw_count = self.full_bw_count.saturating_add(1);
        self.full_bw_now = self.full_bw_count >= FULL_ROUNDS;
        self.full_bw_reached |= self.full_bw_now;
    }

    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    /// CheckStartupDone.
    pub(super) fn check_startup_done(&mut self, rs: &RateSample, path: &PathView) {
        self.check_startup_high_loss(rs, path);
        if self.state == State::Startup && self.full_bw_reached {
            self.state = State::Drain;
            self.drain_start_round = self.round_count;
        }
    }

    /// CheckStartupHighLoss: a round trip of fast recovery in which much was lost, at several places.
    fn check_startup_high_loss(&mut self, rs: &RateSample, path: &PathView) {
        if self.full_bw_reached {
            return;
        }
        if rs.newly_lost > 0 {
            self.loss_events = self.loss_events.saturating_add(1).min(LOSS_EVENTS_MAX);
        }
        let is_scattered = self.loss_events >= LOSS_EVENTS || !path.has_sack;
        let is_over = self.loss_round_start || !path.has_sack;
        if is_over
            && path.is_in_fast_recovery
            && is_scattered
            && Self::is_inflight_too_high(rs, path.has_sack)
        {
            self.undo_state = UndoState::Startup;
            self.full_bw_reached = true;
            let bdp = self.inflight(self.max_bw(), ONE, path.mss);
            self.inflight_longterm = bdp.max(self.inflight_latest);
        }
        if self.loss_round_start {
            self.loss_events = 0;
        }
    }

    /// CheckDrainDone.
    pub(super) fn check_drain_done(&mut self, path: &PathView) {
        if self.state != State::Drain {
            return;
        }
        let rounds = self.round_count.wrapping_sub(self.drain_start_round);
        if path.in_flight <= self.inflight(self.bw, ONE, path.mss) || rounds > DRAIN_ROUNDS {
            self.start_down(path.now);
        }
    }
}
