//! The retransmission timeout: what is believed lost, how often to try, and when to give up (RFC
//! 6298 section 5).
//!
//! SND.NXT is not rewound: everything sent and not SACKed is marked lost and leaves again under
//! slow start, so an ACK for the original transmission is simply good news.

use millrace_base::{Instant, Nanos, PacketPool, Stamp};

use super::Phase;
use super::ledger::Permission;
use super::tlp::Probe;
use crate::stats::count;
use crate::tcp::chunk::{Chunks, LOST, RETRANSMITTED, SACKED};
use crate::tcp::config::TcpTunables;
use crate::tcp::congestion::CwndEvent;
use crate::tcp::connection::Connection;
use crate::tcp::marks::Marks;
use crate::tcp::segment::{CloseReason, Disposition, Env};
use crate::tcp::state::State;
use crate::tcp::timers::Purpose;

/// Timeouts in a row of a thin stream that do not double the next (Linux:
/// `TCP_THIN_LINEAR_RETRIES`).
const THIN_LINEAR_RETRIES: u8 = 6;

/// When to look again whether a resend may leave that could not (Linux:
/// `TCP_RESOURCE_PROBE_INTERVAL`).
const RESOURCE_PROBE_INTERVAL: Nanos = Nanos::from_millis(500);

impl Connection {
    /// The retransmission timer expired.
    pub(in crate::tcp) fn on_retransmission_timeout<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) -> Disposition {
        if self.marks.has(Marks::UNPROVEN) {
            return self.on_unproven_timeout(env);
        }
        if self.recovery.stalled_since.is_never() {
            // The timer was started one timeout ago, by the transmission that was not answered.
            let rto = self.rtt.rto(env.tunables);
            let started = env.now.as_nanos().saturating_sub(rto.as_nanos());
            self.recovery.stalled_since = Stamp::of(Instant::from_nanos(started));
        }
        // An orphan has nobody who would wait for its peer.
        let closed = self.snd_wnd == 0 && self.state.is_synchronized() && !self.orphan;
        let is_over = if closed {
            self.is_silent_behind_closed_window(env.now, env.tunables)
        } else {
            self.has_timed_out(env.now, env.tunables)
        };
        if !self.extra.is_none() {
            self.detect_blackhole(env, is_over);
        }
        if is_over {
            count!(env.stats.tcp_abort_on_timeout);
            // Linux sends no RST here: the peer does not answer anyway.
            return self.finish(env, CloseReason::TimedOut, None);
        }
        if closed && self.options.user_timeout_ms == 0 {
            // A peer that answered is alive, and stays so when it opens the window (SHLD-17).
            let since = self.recovery.stalled_since.instant();
            self.recovery.stalled_since = Stamp::of(since.max(self.received_at.instant()));
        }
        if self.is_resend_stuck(env) {
            let soon = self.rtt.rto(env.tunables).min(RESOURCE_PROBE_INTERVAL);
            let soon = self.within_user_timeout(env.now, soon);
            self.timers.arm(Purpose::Retransmit, env.now, soon);
            return Disposition::Continue;
        }
        let suspicious = give_up_after(env.tunables.tcp_retries1, env.tunables);
        let stalled = env.now.since(self.recovery.stalled_since.instant());
        if self.recovery.timeouts > 0 && self.state.is_synchronized() && stalled >= suspicious {
            self.suspect_path(env);
        }
        count!(env.stats.tcp_timeouts);
        if self.state.is_synchronized() {
            self.classify_first_timeout(env);
            self.enter_loss(env);
        } else {
            self.syn_pending = true;
        }
        self.recovery.timeouts = self.recovery.timeouts.saturating_add(1);
        self.back_off(env.chunks, env.tunables);
        let rto = self.within_user_timeout(env.now, self.rtt.rto(env.tunables));
        self.timers.arm(Purpose::Retransmit, env.now, rto);
        Disposition::Continue
    }

    /// The last timeout's resend has not left: no buffer was free, or the device takes nothing. That
    /// says nothing about the path, so the next timeout is no longer, and no loss is counted (Linux:
    /// `tcp_retransmit_timer`, "local congestion").
    // behaviour: TMR-14, TMR-19
    fn is_resend_stuck<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        if self.recovery.timeouts == 0 || self.recovery.phase != Phase::Loss {
            return false;
        }
        let head = self.send.queue().head();
        let head = env.chunks.get(head).filter(|_| head != self.send.unsent());
        let waits = head.is_some_and(|it| it.flags & (SACKED | LOST | RETRANSMITTED) == LOST);
        // What our own window holds back is let go by another timeout, which makes it smaller than what
        // is in flight no more; a burst of the pace passes by itself.
        waits && (self.is_held_back(env.chunks) || self.may_retransmit(env.chunks))
    }

    /// What a timeout says of the state it came in, when it is the first in a row.
    fn classify_first_timeout<P: PacketPool>(&self, env: &mut Env<'_, P>) {
        if self.recovery.timeouts > 0 {
            return;
        }
        let board = &self.send.board;
        let is_reported = self.recovery.dup_acks > 0 || board.sacked(env.chunks) > 0;
        match (self.recovery.phase, self.sack_permitted) {
            (Phase::Recovery, true) => count!(env.stats.tcp_sack_recovery_fail),
            (Phase::Recovery, false) => count!(env.stats.tcp_reno_recovery_fail),
            (Phase::Loss, _) => count!(env.stats.tcp_loss_failures),
            (Phase::Open | Phase::Cwr, _) if !is_reported => {}
            (Phase::Open | Phase::Disorder | Phase::Cwr, true) => {
                count!(env.stats.tcp_sack_failures);
            }
            (Phase::Open | Phase::Disorder | Phase::Cwr, false) => {
                count!(env.stats.tcp_reno_failures);
            }
        }
    }

    /// The next timeout is twice as far, except for the first SYNs (Linux since 6.5) and the first
    /// timeouts of a stream too thin for duplicate ACKs.
    // behaviour: TMR-13, OPT-27, TUN-9
    fn back_off<B>(&mut self, chunks: &Chunks<B>, tunables: &TcpTunables) {
        if self.state == State::SynSent
            && self.recovery.timeouts <= tunables.tcp_syn_linear_timeouts
        {
            return;
        }
        let wants_linear = self.options.thin_linear_timeouts || tunables.tcp_thin_linear_timeouts;
        let linear = wants_linear
            && self.state == State::Established
            && self.is_thin(chunks)
            && self.recovery.timeouts <= THIN_LINEAR_RETRIES;
        if linear {
            self.rtt.end_backoff();
        } else {
            self.rtt.back_off();
        }
    }

    /// Fewer than four segments in flight, and not because slow start has just begun (Linux:
    /// `tcp_stream_is_thin`).
    fn is_thin<B>(&self, chunks: &Chunks<B>) -> bool {
        self.congestion.ssthresh != u32::MAX && self.segments_out(chunks, 4) < 4
    }

    //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
    //# upon a timeout ... cwnd MUST be set to no more than the loss window, LW, which equals 1
    //# full-sized segment
    // behaviour: A21-11
    pub(in crate::tcp) fn enter_loss<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let was_calm = self.recovery.phase < Phase::Recovery;
        self.cap_reordering(env);
        env.chunks.rates.begin();
        self.mark_lost_by_timeout(env);
        // ssthresh falls once per window: not again for the same loss.
        let first = self.recovery.phase <= Phase::Disorder
            || self.una.after_or_eq(self.recovery.point)
            || (self.recovery.phase == Phase::Loss && self.recovery.timeouts == 0);
        if first {
            let ssthresh = self.current_ssthresh();
            self.remember_for_undo(env, Some(ssthresh));
            self.lower_threshold(env, false);
            let setting = &mut env.setting();
            self.congestion.cwnd_event(setting, CwndEvent::Loss);
        }
        self.ack.ecn.on_reduction();
        let flight = self.in_flight(env.chunks);
        self.congestion.cwnd = flight.saturating_add(self.mss.into());
        let frto = env.tunables.tcp_frto > 0
            && (was_calm || self.recovery.timeouts > 0)
            && !self.is_path_probed(env.chunks);
        self.enter_phase(env, Phase::Loss);
        self.tell_losses(env);
        self.recovery.point = self.nxt;
        self.recovery.dup_acks = 0;
        self.send.board.edit(env.chunks, |ledger| {
            ledger.reduction = None;
            //= https://www.rfc-editor.org/rfc/rfc8985#section-7.3
            //# TLP.end_seq = None
            // behaviour: TMR-18
            ledger.probe = Probe::None;
            ledger.frto = frto;
            ledger.permission = Permission::Lost;
        });
        self.marks.clear(Marks::PROBE_PENDING);
        if self.has_separate_fin_out(env.chunks) {
            self.marks.set(Marks::FIN_LOST);
        }
    }

    /// Something was lost, but not because of congestion: it is sent again as after a timeout, and the
    /// window stays (Linux: `tcp_simple_retransmit`).
    pub(in crate::tcp) fn recover_without_congestion<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) {
        if self.recovery.phase != Phase::Loss {
            self.congestion.ssthresh = self.current_ssthresh();
            self.recovery.point = self.nxt;
            self.enter_phase(env, Phase::Loss);
            self.send.board.edit(env.chunks, |ledger| {
                (ledger.undo, ledger.reduction, ledger.frto) = (None, None, false);
            });
        }
        self.permit(env, Permission::Lost);
    }

    /// Presumes lost what should have been answered by now (Linux: `tcp_timeout_mark_lost`).
    fn mark_lost_by_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let head = self.send.queue().head();
        // Of what a SYN-ACK's answer says nothing, as in Linux: what was never answered is all lost.
        let is_answered = self.bytes_acked.value() > 0 || !self.marks.has(Marks::PASSIVE);
        let srtt = self.rtt.srtt().filter(|_| is_answered);
        let srtt = srtt.map_or(0, millrace_base::Micros::as_micros);
        let has_sack = self.sack_permitted;
        let now = env.now;
        let (queue, unsent, board) = self.send.parts();
        let reneged = head != unsent && env.chunks.get(head).is_some_and(|it| it.has(SACKED));
        if reneged {
            //= https://www.rfc-editor.org/rfc/rfc2018#section-8
            //# after a retransmit timeout the data sender SHOULD turn off all of the SACKed bits
            // Only when the peer shows that it took a report back; otherwise the reports are kept,
            // as Linux does.
            count!(env.stats.tcp_sack_reneging);
            board.forget_sacks(env.chunks, (queue, unsent));
        }
        let again = board.mark_all_lost(env.chunks, (queue, unsent), |ledger, sent_at| {
            let rtt_us = match ledger.rack.rtt_us {
                0 => srtt,
                known => known,
            };
            let age_us = now.since(sent_at).to_micros().as_micros();
            !reneged && has_sack && age_us < rtt_us
        });
        count!(env.stats.tcp_lost_retransmit, u64::from(again));
    }

    /// Whether it is time to give up: R2 of RFC 9293 section 3.8.3 (MUST-20), counted in the time
    /// that `tcp_retries2` doublings from the smallest timeout would take (Linux:
    /// `retransmits_timed_out`).
    fn has_timed_out(&self, now: Instant, tunables: &TcpTunables) -> bool {
        let stalled = now.since(self.recovery.stalled_since.instant());
        if self.options.user_timeout_ms > 0 && self.state.is_synchronized() {
            return stalled.as_millis() >= u64::from(self.options.user_timeout_ms);
        }
        if !self.state.is_synchronized() {
            // Linear timeouts are the SYN's alone; after a simultaneous open the SYN-ACK backs off.
            let linear = if self.state == State::SynSent {
                u16::from(tunables.tcp_syn_linear_timeouts)
            } else {
                0
            };
            let retries = u16::from(tunables.tcp_syn_retries).saturating_add(linear);
            // By the clock as well, as if all timeouts had doubled (Linux: `retransmits_timed_out`).
            let first_ms = u64::from(tunables.tcp_rto_initial_ms);
            let patience = doublings(tunables.tcp_syn_retries, first_ms, tunables);
            return u16::from(self.recovery.timeouts) >= retries
                || (self.recovery.timeouts > 0 && stalled >= patience);
        }
        stalled >= give_up_after(self.retries(tunables), tunables)
    }

    /// Whether so many timeouts have passed that the route to the peer may be the reason: R1 (RFC 1122
    /// section 4.2.3.5; Linux: `tcp_retries1`, `__sk_dst_reset`).
    pub(crate) fn doubts_route(&self, now: Instant, tunables: &TcpTunables) -> bool {
        self.recovery.timeouts > 0
            && now.since(self.recovery.stalled_since.instant())
                >= give_up_after(tunables.tcp_retries1.saturating_add(1), tunables)
    }

    /// A user's timeout does not wait for one that was backed off beyond it (Linux:
    /// `tcp_clamp_rto_to_user_timeout`). behaviour: TMR-17
    pub(in crate::tcp) fn within_user_timeout(&self, now: Instant, rto: Nanos) -> Nanos {
        let user = u64::from(self.options.user_timeout_ms);
        if user == 0 || !self.state.is_synchronized() {
            return rto;
        }
        let stalled = now.since(self.recovery.stalled_since.instant()).as_millis();
        rto.min(Nanos::from_millis(user.saturating_sub(stalled).max(1)))
    }

    /// A peer may take its window back under what is in flight and is alive while it answers; two of
    /// the longest timeouts without a word end that (Linux: `tcp_rtx_probe0_timed_out`). A user's
    /// timeout counts progress, not answers. behaviour: TMR-9
    fn is_silent_behind_closed_window(&self, now: Instant, tunables: &TcpTunables) -> bool {
        let stalled = now.since(self.recovery.stalled_since.instant()).as_millis();
        let silent = now.since(self.received_at.instant()).as_millis();
        let longest = u64::from(tunables.tcp_rto_max_ms).saturating_mul(2);
        let patience = match u64::from(self.options.user_timeout_ms) {
            0 => longest,
            user if stalled > user => return true,
            user => user.min(longest),
        };
        silent > patience && stalled > patience
    }

    /// Doublings allowed: fewer when the application is gone (Linux: `tcp_orphan_retries`, where 0
    /// means 8).
    pub(in crate::tcp) fn retries(&self, tunables: &TcpTunables) -> u8 {
        match (self.orphan, tunables.tcp_orphan_retries) {
            (false, _) => tunables.tcp_retries2,
            (true, 0) => 8,
            (true, retries) => retries,
        }
    }
}

/// The time `retries` timeouts take when the first is `tcp_rto_min` and each is twice the one
/// before.
fn give_up_after(retries: u8, tunables: &TcpTunables) -> Nanos {
    doublings(retries, u64::from(tunables.tcp_rto_min_ms.max(1)), tunables)
}

/// The same when the first is `first_ms`.
fn doublings(retries: u8, first_ms: u64, tunables: &TcpTunables) -> Nanos {
    let max = u64::from(tunables.tcp_rto_max_ms);
    let mut total = 0u64;
    let mut timeout = first_ms;
    for _ in 0..=retries {
        total = total.saturating_add(timeout.min(max));
        timeout = timeout.saturating_mul(2).min(max);
    }
    Nanos::from_millis(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Linux: Documentation/networking/ip-sysctl.rst, tcp_retries2: 15 yields a hypothetical timeout
    // of 924.6 seconds.
    #[test]
    fn fifteen_retries_are_924_seconds() {
        assert_eq!(
            give_up_after(15, &TcpTunables::default()).as_millis(),
            924_600
        );
    }
}
