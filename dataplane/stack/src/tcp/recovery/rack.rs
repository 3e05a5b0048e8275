//! RACK: what was sent so long before something that has arrived that it must be lost (RFC 8985).
//!
//! One rule for first transmissions and for retransmissions. Instead of a list in the order of
//! sending there are two walks over the queue: first transmissions lie in the order of their times
//! from the last decided one on, and so do retransmissions until one of them is lost.

use millrace_base::{Instant, Nanos, PacketPool, SeqNumber};

use super::Phase;
use super::ledger::{Ledger, is_sent_after};
use crate::stats::count;
use crate::tcp::chunk::{Chunk, EVER_RETRANSMITTED, LOST, NONE, RETRANSMITTED, SACKED};
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;
use crate::tcp::timers::Purpose;

/// Never wait less than this for what is nearly certain (Linux: `TCP_TIMEOUT_MIN_US`).
pub(super) const TIMEOUT_MIN_US: u32 = 2_000;

/// What a chunk's age says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It was sent behind what has arrived.
    Open,
    /// It is lost after so many more microseconds.
    Wait(u32),
    Lost,
}

/// One judgement of everything in flight.
#[derive(Clone, Copy, Debug)]
struct Judge {
    now: Instant,
    newest: (Instant, SeqNumber),
    /// The newest delivery's round trip and the room for reordering, in microseconds.
    patience_us: u32,
}

impl Judge {
    fn verdict<B>(&self, chunk: &Chunk<B>) -> Verdict {
        if !is_sent_after(self.newest, (chunk.sent_at, chunk.end())) {
            return Verdict::Open;
        }
        let age = self.now.since(chunk.sent_at).to_micros().as_micros();
        match self.patience_us.saturating_sub(age) {
            0 => Verdict::Lost,
            rest => Verdict::Wait(rest),
        }
    }
}

impl Connection {
    /// Marks what is lost by now; what may be so soon sets the timer, and `true` says that it did.
    //= https://www.rfc-editor.org/rfc/rfc8985#section-6.2
    //# Step 5: Detect losses.
    // behaviour: X4-7
    pub(super) fn detect_loss_by_time<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        let Some(wait_us) = self.mark_overdue(env) else {
            return false;
        };
        let wait_us = wait_us.saturating_add(TIMEOUT_MIN_US);
        let wait = Nanos::from_micros(wait_us.into()).min(self.rtt.rto(env.tunables));
        self.timers.arm(Purpose::Reorder, env.now, wait);
        true
    }

    /// Marks what is lost by now; tells how many microseconds the longest doubt will last.
    fn mark_overdue<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Option<u32> {
        if self.send.board.is_clear() {
            return None;
        }
        let reordering_us = self.reordering_window_us(env);
        let (queue, unsent, board) = self.send.parts();
        let (head, chunks) = (queue.head(), &mut *env.chunks);
        let mut ledger = *board.view(chunks);
        let judge = Judge {
            now: env.now,
            newest: (ledger.rack.sent_at, ledger.rack.end),
            patience_us: ledger.rack.rtt_us.saturating_add(reordering_us),
        };
        let mut wait_us = 0;
        let mut lost_again = 0u32;
        let mut index = match chunks.get(ledger.trail.lost_hint) {
            Some(_) => ledger.trail.lost_hint,
            None => head,
        };
        let mut decided = true;
        while index != unsent {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            let next = chunk.next();
            if chunk.flags & (SACKED | LOST | RETRANSMITTED) == 0 {
                match judge.verdict(chunk) {
                    Verdict::Lost => {
                        ledger.mark_lost(chunks, index);
                    }
                    Verdict::Wait(rest) => {
                        wait_us = wait_us.max(rest);
                        decided = false;
                    }
                    // What was sent again lies before its time.
                    Verdict::Open if chunk.has(EVER_RETRANSMITTED) => decided = false,
                    Verdict::Open => break,
                }
            }
            if decided {
                ledger.trail.lost_hint = next;
            }
            index = next;
        }
        if ledger.trail.lost_hint == unsent {
            ledger.trail.lost_hint = NONE;
        }
        ledger.judge_retransmissions(chunks, (head, unsent), judge, &mut wait_us, &mut lost_again);
        count!(env.stats.tcp_lost_retransmit, u64::from(lost_again));
        let (_, _, board) = self.send.parts();
        board.edit(env.chunks, |kept| *kept = ledger);
        (wait_us > 0).then_some(wait_us)
    }

    /// How long a segment may be overtaken before it counts as lost.
    //= https://www.rfc-editor.org/rfc/rfc8985#section-6.2
    //# Step 4: Update RACK reordering window.
    fn reordering_window_us<P: PacketPool>(&self, env: &Env<'_, P>) -> u32 {
        let known = self.reordering(env.chunks);
        if !known.is_seen() {
            if self.recovery.phase >= Phase::Recovery {
                return 0;
            }
            let no_threshold = env.tunables.tcp_recovery & RACK_NO_DUPTHRESH != 0;
            let degree = known.degree(env.tunables);
            if !no_threshold && self.send.board.sacked_segments(env.chunks) >= degree {
                return 0;
            }
        }
        let min_rtt = self.rtt.min().map_or(0, millrace_base::Micros::as_micros);
        let srtt = self.rtt.srtt().map_or(0, millrace_base::Micros::as_micros);
        (min_rtt / 4).saturating_mul(known.steps()).min(srtt)
    }

    /// The doubt about reordering has lasted long enough (Linux: `tcp_rack_reo_timeout`).
    /// behaviour: TMR-32
    pub(in crate::tcp) fn on_reorder_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let found_before = self.send.board.view(env.chunks).found_lost;
        env.chunks.rates.begin();
        self.mark_overdue(env);
        if self.send.board.view(env.chunks).found_lost != found_before {
            if self.recovery.phase != Phase::Recovery {
                self.enter_recovery(env, false);
                if !self.congestion.is_modelled() {
                    self.reduce(env, 1, false);
                }
            }
            self.tell_losses(env);
            self.permit(env, super::ledger::Permission::Lost);
        }
        self.restart_timeout(env);
        self.send.board.settle(env.chunks, false);
    }
}

/// `tcp_recovery`: never shortens the wait to nothing because of many SACKs.
const RACK_NO_DUPTHRESH: u8 = 4;

impl Ledger {
    /// Retransmissions in flight, which lie behind their place in the order of sending.
    fn judge_retransmissions<B>(
        &mut self,
        chunks: &mut crate::tcp::chunk::Chunks<B>,
        (head, unsent): (u32, u32),
        judge: Judge,
        wait_us: &mut u32,
        lost_again: &mut u32,
    ) {
        let mut rest = self.retransmitted;
        let mut index = head;
        while index != unsent && rest > 0 {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            let next = chunk.next();
            if chunk.has(RETRANSMITTED) {
                rest = rest.saturating_sub(chunk.len.into());
                match judge.verdict(chunk) {
                    Verdict::Lost => {
                        let again = self.mark_lost(chunks, index);
                        *lost_again = lost_again.wrapping_add(u32::from(again));
                    }
                    Verdict::Wait(rest_us) => *wait_us = (*wait_us).max(rest_us),
                    Verdict::Open if self.trail.is_disordered => {}
                    Verdict::Open => break,
                }
            }
            index = next;
        }
    }
}
