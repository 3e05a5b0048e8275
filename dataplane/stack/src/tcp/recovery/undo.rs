//! Undo: the window goes back where it was when it turns out that nothing was lost.
//!
//! Two witnesses: the peer echoes a timestamp from before the first retransmission (Eifel, RFC
//! 3522), or it reports every retransmission as a duplicate (RFC 3708; Linux: `undo_retrans`).

use millrace_base::{PacketPool, SeqNumber};

use super::Phase;
use super::ledger::is_before;
use super::tlp::Probe;
use crate::stats::count;
use crate::tcp::chunk::{EVER_RETRANSMITTED, NONE};
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

/// What a reduction may put back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    /// SND.UNA when the episode began (Linux: `undo_marker`).
    pub(super) marker: SeqNumber,
    /// Retransmissions not yet reported as duplicates; `None` before the first.
    retransmissions: Option<u32>,
    /// The window and the threshold before; no threshold when ECN said that congestion is real.
    window: u32,
    pub(super) ssthresh: Option<u32>,
    /// SND.NXT when recovery ended: with more than that acknowledged, no report will come.
    until: Option<SeqNumber>,
}

impl Undo {
    /// A retransmission left.
    pub(super) fn on_retransmitted(&mut self) {
        self.retransmissions = Some(self.retransmissions.unwrap_or(0).saturating_add(1));
    }

    /// So many of them were not needed.
    pub(super) fn take_back(&mut self, segments: u32) {
        if let Some(left) = &mut self.retransmissions {
            *left = left.saturating_sub(segments);
        }
    }
}

impl Connection {
    /// An episode begins: remembers what there is to put back (Linux: `tcp_init_undo`).
    pub(super) fn remember_for_undo<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        ssthresh: Option<u32>,
    ) {
        let (una, window, mss) = (self.una, self.congestion.cwnd, u32::from(self.mss.max(1)));
        self.send.board.edit(env.chunks, |ledger| {
            let probed = u32::from(ledger.probe == Probe::Retransmission);
            let out = ledger.retransmitted.div_ceil(mss).saturating_add(probed);
            ledger.undo = Some(Undo {
                marker: una,
                retransmissions: (out > 0).then_some(out),
                window,
                ssthresh,
                until: None,
            });
        });
    }

    /// The threshold as undo and metrics see it (Linux: `tcp_current_ssthresh`).
    pub(super) fn current_ssthresh(&self) -> u32 {
        if matches!(self.recovery.phase, Phase::Cwr | Phase::Recovery) {
            return self.congestion.ssthresh;
        }
        self.congestion.reached_ssthresh()
    }

    /// Whether every retransmission was reported as a duplicate.
    fn is_all_taken_back<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        let undo = self.send.board.view(env.chunks).undo;
        undo.is_some_and(|undo| undo.retransmissions == Some(0))
    }

    /// Whether the peer answered what was sent before the first retransmission (Linux:
    /// `tcp_packet_delayed`).
    fn is_original_answered<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        let ledger = self.send.board.view(env.chunks);
        match (ledger.first_retransmission_ms, ledger.tally.echo_ms) {
            (Some(first), Some(echo)) => is_before(echo, first),
            (Some(_), None) => false,
            // Nothing was retransmitted yet; but without SACK that is forgotten while the state is held
            // (`is_reopening_prevented`).
            (None, _) => self.sack_permitted || self.una.before(self.recovery.point),
        }
    }

    fn may_undo<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        self.send.board.view(env.chunks).undo.is_some()
            && (self.is_all_taken_back(env) || self.is_original_answered(env))
    }

    /// Puts window and threshold back (Linux: `tcp_undo_cwnd_reduction`). behaviour: TMR-24
    fn undo_reduction<P: PacketPool>(&mut self, env: &mut Env<'_, P>, unmark: bool) {
        if unmark {
            let (queue, unsent, board) = self.send.parts();
            board.forget_losses(env.chunks, (queue, unsent));
        }
        let undo = self
            .send
            .board
            .edit(env.chunks, |ledger| ledger.undo.take());
        let Some(undo) = undo.flatten() else {
            return;
        };
        if let Some(ssthresh) = undo.ssthresh {
            if !self.believes_undo(env.chunks) {
                self.stand_by_reduction();
                return;
            }
            self.congestion.undo_cwnd(&mut env.setting(), undo.window);
            if ssthresh > self.congestion.ssthresh {
                self.congestion.ssthresh = ssthresh;
                self.ack.ecn.on_undo();
            }
        }
    }

    /// The episode ends as if something had been lost.
    #[cold]
    fn stand_by_reduction(&mut self) {
        if matches!(self.recovery.phase, Phase::Cwr | Phase::Recovery) {
            let window = self.congestion.cwnd.min(self.congestion.ssthresh);
            self.congestion.cwnd = window;
        }
    }

    /// Everything of the episode is acknowledged; `true` when the state must be held (Linux:
    /// `tcp_try_undo_recovery`).
    pub(super) fn end_episode<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        if self.may_undo(env) {
            self.undo_reduction(env, false);
            if self.recovery.phase == Phase::Loss {
                count!(env.stats.tcp_loss_undo);
            } else {
                count!(env.stats.tcp_full_undo);
            }
        } else {
            self.age_reordering_window(env, false);
        }
        if self.is_reopening_prevented(env) {
            return true;
        }
        self.enter_phase(env, Phase::Open);
        self.begin_undo_watch(env);
        false
    }

    /// A late D-SACK may still come of what was retransmitted.
    fn begin_undo_watch<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let nxt = self.nxt;
        self.send.board.edit(env.chunks, |ledger| {
            ledger.frto = false;
            if let Some(undo) = &mut ledger.undo {
                undo.until = Some(nxt);
            }
        });
    }

    /// No report will come any more once later data is acknowledged.
    pub(super) fn end_undo_watch<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let una = self.una;
        self.send.board.edit(env.chunks, |ledger| {
            let is_over = |undo: &Undo| undo.until.is_some_and(|until| una.after(until));
            if ledger.undo.as_ref().is_some_and(is_over) {
                ledger.undo = None;
            }
        });
    }

    /// Without SACK the state is held until more than the episode's end is acknowledged: duplicates
    /// of its retransmissions may still come (RFC 6582 section 3.2).
    fn is_reopening_prevented<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        let point = self.recovery.point;
        let held = !self.sack_permitted && self.una == point;
        if held && !self.has_retransmitted_head(env) {
            self.forget_first_retransmission(env);
        }
        held
    }

    /// A hole was filled by what was delayed rather than by its retransmission: undo, unless some
    /// are still out; `true` when nothing more may be retransmitted for now.
    pub(super) fn try_undo_partial<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        una_before: SeqNumber,
    ) -> bool {
        let has_undo = self.send.board.view(env.chunks).undo.is_some();
        if !has_undo || !self.is_original_answered(env) {
            return false;
        }
        self.note_reordering(env, una_before, true);
        if self.send.board.retransmitted(env.chunks) > 0 {
            return true;
        }
        if !self.has_retransmitted_head(env) {
            self.forget_first_retransmission(env);
        }
        self.undo_reduction(env, true);
        count!(env.stats.tcp_partial_undo);
        self.keep_open(env);
        self.leave_reduction(env);
        false
    }

    /// Every retransmission was a duplicate.
    pub(super) fn try_undo_by_dsack<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        if !self.is_all_taken_back(env) {
            return false;
        }
        self.age_reordering_window(env, true);
        self.undo_reduction(env, false);
        count!(env.stats.tcp_dsack_undo);
        true
    }

    /// The timeout was spurious: by a timestamp or D-SACK, or (`by_frto`) by what arrived (Linux:
    /// `tcp_try_undo_loss`).
    pub(super) fn try_undo_loss<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        by_frto: bool,
    ) -> bool {
        if !by_frto && !self.may_undo(env) {
            return false;
        }
        self.undo_reduction(env, true);
        count!(env.stats.tcp_loss_undo);
        if by_frto {
            count!(env.stats.tcp_spurious_rtos);
        }
        self.recovery.timeouts = 0;
        if self.is_reopening_prevented(env) {
            return true;
        }
        if by_frto || self.sack_permitted {
            self.enter_phase(env, Phase::Open);
            self.begin_undo_watch(env);
        }
        true
    }

    /// Whether a retransmission is out, or was of what is oldest (Linux: `tcp_any_retrans_done`).
    pub(super) fn has_retransmitted_head<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        let head = self.send.queue().head();
        self.send.board.retransmitted(env.chunks) > 0
            || (head != NONE
                && head != self.send.unsent()
                && env
                    .chunks
                    .get(head)
                    .is_some_and(|chunk| chunk.has(EVER_RETRANSMITTED)))
    }

    pub(super) fn forget_first_retransmission<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if !self.send.board.is_clear() {
            let board = &mut self.send.board;
            board.edit(env.chunks, |ledger| ledger.first_retransmission_ms = None);
        }
    }
}
