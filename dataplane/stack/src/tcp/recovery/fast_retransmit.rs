//! Loss found by ACKs: duplicate ACKs (RFC 5681, RFC 6582) or SACK (RFC 6675), and the way out of
//! recovery.

use millrace_base::{Micros, PacketPool};

use super::{Phase, Reduction};
use crate::stats::count;
use crate::tcp::ack::Digest;
use crate::tcp::chunk::{LOST, RETRANSMITTED};
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

impl Connection {
    /// Moves recovery and the congestion window according to one ACK.
    pub(in crate::tcp) fn recover<P: PacketPool>(&mut self, env: &mut Env<'_, P>, digest: Digest) {
        if !self.sack_permitted {
            self.count_duplicate(digest);
        }
        let ended = digest.advanced && self.una.after_or_eq(self.recovery.point);
        if ended && self.recovery.phase != Phase::Open {
            // The ACK that ends fast recovery sets the window; the next one may open it.
            let grows = self.recovery.phase == Phase::Loss;
            self.end_recovery(env);
            let segments = if grows { digest.delivered() } else { 0 };
            return self.detect_loss(env, segments, digest.rtt);
        }
        match self.recovery.phase {
            Phase::Open => self.detect_loss(env, digest.delivered(), digest.rtt),
            Phase::Recovery => self.continue_recovery(env, digest),
            Phase::Loss => self.grow(env, digest.delivered(), digest.rtt),
        }
    }

    /// Duplicate ACKs stand for segments that left the network; progress takes them back (Linux:
    /// `tcp_add_reno_sack`).
    fn count_duplicate(&mut self, digest: Digest) {
        if digest.duplicate {
            self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
        } else if digest.advanced {
            // An ACK after a hole was filled covers the hole and what the duplicates stood for.
            let segments = digest
                .cleaned
                .bytes
                .checked_div(self.mss.into())
                .unwrap_or(0);
            let covered = segments.saturating_sub(1).min(255) as u8;
            self.recovery.dup_acks = match self.recovery.phase {
                Phase::Recovery => self.recovery.dup_acks.saturating_sub(covered),
                Phase::Open | Phase::Loss => 0,
            };
        }
    }

    /// `segments` are newly delivered, the newest of them `rtt` after it was sent.
    fn detect_loss<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segments: u32,
        rtt: Option<Micros>,
    ) {
        let threshold = u32::from(env.tunables.tcp_reordering.clamp(1, 127));
        if self.sack_permitted {
            if self.send.board.sacked_segments(env.chunks) >= threshold {
                self.mark_lost_by_sack(env, threshold);
            }
        } else if u32::from(self.recovery.dup_acks) >= threshold
            //= https://www.rfc-editor.org/rfc/rfc6582#section-3.2
            //# the Cumulative Acknowledgment field covers more than recover
            && self.una.after_or_eq(self.recovery.point)
        {
            self.send
                .board
                .mark_lost(env.chunks, self.send.queue().head());
        }
        if self.send.board.has_pending(env.chunks) {
            self.enter_recovery(env);
        } else {
            self.grow(env, segments, rtt);
        }
    }

    fn enter_recovery<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.sack_permitted {
            count!(env.stats.tcp_sack_recovery);
        } else {
            count!(env.stats.tcp_reno_recovery);
        }
        self.recovery.phase = Phase::Recovery;
        self.recovery.point = self.nxt;
        self.recovery.forced = true;
        let window = self.congestion.cwnd;
        self.send.board.begin_reduction(env.chunks, window);
        self.lower_threshold(env);
        self.congestion.cwnd = self.reduced_window(env, 0, false);
    }

    fn continue_recovery<P: PacketPool>(&mut self, env: &mut Env<'_, P>, digest: Digest) {
        let lost_before = self.send.board.lost(env.chunks);
        if self.sack_permitted {
            let threshold = u32::from(env.tunables.tcp_reordering.clamp(1, 127));
            self.mark_lost_by_sack(env, threshold);
        } else if digest.advanced {
            //= https://www.rfc-editor.org/rfc/rfc6582#section-3.2
            //# Partial acknowledgments: ... retransmit the first unacknowledged segment.
            let head = self.send.queue().head();
            let untouched = env
                .chunks
                .get(head)
                .is_some_and(|chunk| chunk.flags & (LOST | RETRANSMITTED) == 0);
            if untouched && head != self.send.unsent() {
                self.send.board.mark_lost(env.chunks, head);
                self.recovery.forced = true;
            }
        }
        let fresh = digest.cleaned.bytes.saturating_sub(digest.cleaned.sacked);
        let mut delivered = fresh.saturating_add(digest.sacked.bytes);
        if !self.sack_permitted && digest.duplicate {
            delivered = u32::from(self.mss);
        }
        let progress = digest.advanced && self.send.board.lost(env.chunks) <= lost_before;
        let window = self.reduced_window(env, delivered, progress);
        self.congestion.cwnd = window.max(self.mss.into());
    }

    /// The window that proportional rate reduction allows after an ACK that delivered `delivered`
    /// bytes; the fast retransmit itself is always allowed.
    fn reduced_window<P: PacketPool>(
        &self,
        env: &mut Env<'_, P>,
        delivered: u32,
        progress: bool,
    ) -> u32 {
        let flight = self.in_flight(env.chunks);
        let mss = u32::from(self.mss);
        let ssthresh = self.congestion.ssthresh;
        // None when only our FIN is left to be acknowledged: then no data will follow.
        let mut none = Reduction::default();
        let reduction = self.send.board.reduction(env.chunks);
        let allowance = reduction
            .unwrap_or(&mut none)
            .allowance(delivered, flight, ssthresh, mss, progress);
        flight.saturating_add(if self.recovery.forced {
            allowance.max(mss)
        } else {
            allowance
        })
    }

    /// Everything that was in flight when the episode began is acknowledged.
    fn end_recovery<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.recovery.phase == Phase::Recovery {
            // RFC 6675 section 5 and RFC 6937: leave with the reduced window.
            self.congestion.cwnd = self.congestion.ssthresh.max(u32::from(self.mss));
        }
        self.recovery.phase = Phase::Open;
        self.recovery.dup_acks = 0;
        self.recovery.forced = false;
        self.send.board.end_reduction(env.chunks);
    }

    fn mark_lost_by_sack<P: PacketPool>(&mut self, env: &mut Env<'_, P>, threshold: u32) {
        let (queue, unsent, board) = self.send.parts();
        board.mark_lost_by_sack(env.chunks, (queue, unsent), threshold);
    }
}
