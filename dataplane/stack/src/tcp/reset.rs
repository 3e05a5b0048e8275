//! RST: when one is believed, and the challenge ACKs that answer what is not (RFC 5961).
//!
//! The budget for such answers is one per connection and `tcp_invalid_ratelimit` (500 ms). Linux
//! counts them per host as well; a side channel made that limit practically infinite there, and it
//! is absent here.

use core::ops::ControlFlow;

use millrace_base::{Instant, PacketPool, SeqNumber};

use super::connection::Connection;
use super::marks::Marks;
use super::segment::{CloseReason, Disposition, Env, ResetSegment, Segment};
use super::state::State;
use crate::stats::count;
use crate::verdict::DropReason;

impl Connection {
    /// A segment with RST inside the window (RFC 9293 section 3.10.7.4, second).
    #[inline]
    pub(super) fn check_reset<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        if !segment.flags.rst() {
            return ControlFlow::Continue(());
        }
        //= https://www.rfc-editor.org/rfc/rfc5961#section-3.2
        //# If the RST bit is set and the sequence number exactly matches the next expected sequence
        //# number (RCV.NXT), then TCP endpoints MUST reset the connection
        // Linux also believes a RST right behind the last SACKed byte: a peer that has sent it all
        // may number it so.
        let exact = segment.seq == self.window.nxt
            || (self.sack_permitted && self.reassembly.highest(env.chunks) == Some(segment.seq));
        if exact {
            return ControlFlow::Break(self.on_reset(env));
        }
        if !self.extra.is_none() {
            self.on_odd_reset(env);
        }
        self.challenge(env);
        env.stats.drop(DropReason::ResetNotExact);
        ControlFlow::Break(Disposition::Continue)
    }

    /// Whether a RST just before the window is that of a peer that has closed: some send it with
    /// the number of their FIN (Linux: `tcp_reset_check`).
    pub(super) fn is_reset_after_fin(&self, seq: SeqNumber) -> bool {
        seq == self.window.nxt.minus(1)
            && matches!(
                self.state,
                State::CloseWait | State::LastAck | State::Closing
            )
    }

    /// The peer has reset the connection.
    pub(super) fn on_reset<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        // Simultaneous open: the peer refuses what we asked for (RFC 9293 section 3.10.7.4).
        let refused = self.state == State::SynReceived && !self.marks.has(Marks::PASSIVE);
        let reason = if refused {
            CloseReason::Refused
        } else {
            CloseReason::Reset
        };
        self.finish(env, reason, None)
    }

    /// A segment with SYN inside the window (RFC 9293 section 3.10.7.4, fourth; RFC 5961 section
    /// 4).
    #[inline]
    pub(super) fn check_syn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        segment: &Segment<P::Buf>,
    ) -> ControlFlow<Disposition> {
        if !segment.flags.syn() {
            return ControlFlow::Continue(());
        }
        let repeats = self.state == State::SynReceived && segment.seq.plus(1) == self.window.nxt;
        // The SYN-ACK of a simultaneous open repeats the SYN that was already taken, and nothing else.
        // Who was opened by the peer's SYN is not waiting for one (Linux: `tcp_validate_incoming`).
        let crossed = !self.marks.has(Marks::PASSIVE) && segment.payload_len == 0;
        if repeats && crossed && segment.flags.ack() && segment.ack == self.nxt {
            return ControlFlow::Continue(());
        }
        if repeats && !segment.flags.ack() {
            // The peer is still in SYN-SENT: our SYN-ACK was lost, and nothing else helps it.
            env.stats.drop(DropReason::RequestSynAgain);
            self.syn_pending |= self.may_answer(env);
            return ControlFlow::Break(Disposition::Continue);
        }
        count!(env.stats.tcp_syn_challenge);
        if self.ack.ecn.is_accurate() {
            self.reflect_again(env, segment);
        }
        self.challenge(env);
        env.stats.drop(DropReason::SynInWindow);
        ControlFlow::Break(Disposition::Continue)
    }

    /// Answers a suspicious segment with an ACK of where we stand, if the budget allows.
    pub(super) fn challenge<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.may_answer(env) {
            count!(env.stats.tcp_challenge_ack);
            self.ack.send_now();
        } else {
            count!(env.stats.tcp_ack_skipped_challenge);
        }
    }

    /// Spends one answer of the budget for segments that should not have come.
    pub(super) fn may_answer<P: PacketPool>(&mut self, env: &Env<'_, P>) -> bool {
        let now_ms = (env.now.as_millis() as u32).max(1);
        let since_ms = now_ms.wrapping_sub(self.challenged_at_ms);
        let spent = self.challenged_at_ms != 0 && since_ms < env.tunables.tcp_invalid_ratelimit_ms;
        if !spent {
            self.challenged_at_ms = now_ms;
        }
        !spent
    }

    /// The RST that ends this connection from our side, with what its segments carry (Linux:
    /// `tcp_send_active_reset`); `None` when the peer would not know what it is about.
    pub(super) fn reset_segment(&self, now: Instant) -> Option<ResetSegment> {
        let known = self.state == State::SynReceived
            || (self.state.is_synchronized() && self.state != State::TimeWait);
        known.then(|| ResetSegment {
            seq: self.acceptable_seq(),
            ack: Some(self.window.nxt),
            window: self.window.promised_field(),
            timestamps: self.plain_options(now).timestamps,
        })
    }
}
