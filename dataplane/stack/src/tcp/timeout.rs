//! Time passes, and the network below says no: what happens to a connection without a segment from
//! its peer.

use millrace_base::{Instant, PacketPool, SeqNumber, Stamp};

use super::config::TcpTunables;
use super::connection::Connection;
use super::segment::{CloseReason, Disposition, Env};
use super::state::State;
use super::timers::Purpose;

/// What the way to the peer is worth, according to ICMP or neighbour resolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreachable {
    /// Protocol or port unreachable, or administratively prohibited: a hard error (RFC 1122 section
    /// 4.2.3.9).
    Hard,
    /// Network or host unreachable, time exceeded, parameter problem, neighbour failed: may pass.
    Soft,
}

impl Connection {
    /// Does whatever is due at `env.now`; early calls do nothing.
    pub(crate) fn on_timer<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        if self.timers.delayed_ack.is_due(env.now) {
            let timer = core::mem::replace(&mut self.timers.delayed_ack, Stamp::NEVER);
            if !self.is_pace_due(env, timer) {
                self.on_ack_timeout(env);
            }
        }
        if self.timers.retransmit.is_due(env.now) {
            let disposition = match self.timers.purpose {
                Purpose::Retransmit => self.on_retransmission_timeout(env),
                Purpose::Probe => self.on_probe_timeout(env),
                Purpose::Reorder => {
                    self.on_reorder_timeout(env);
                    Disposition::Continue
                }
                Purpose::TailProbe => {
                    self.on_probe_time(env);
                    Disposition::Continue
                }
            };
            if disposition != Disposition::Continue {
                return disposition;
            }
        }
        if self.timers.idle.is_due(env.now) {
            return self.on_idle_timeout(env);
        }
        Disposition::Continue
    }

    /// A router has no way for the oldest segment in flight: its retransmission was not lost to
    /// congestion, and the timeout need not be twice as long for it (RFC 6069 section 4; Linux:
    /// `tcp_ld_RTO_revert`).
    pub(crate) fn revert_backoff(&mut self, now: Instant, seq: SeqNumber, tunables: &TcpTunables) {
        let waits =
            self.timers.purpose == Purpose::Retransmit && !self.timers.retransmit.is_never();
        if seq != self.una || self.recovery.timeouts == 0 || !waits {
            return;
        }
        let before = self.rtt.rto(tunables).as_nanos();
        if !self.rtt.revert_one_backoff() {
            return;
        }
        let saved = before.saturating_sub(self.rtt.rto(tunables).as_nanos());
        let due = self.timers.retransmit.instant().as_nanos();
        let due = Instant::from_nanos(due.saturating_sub(saved));
        self.timers.retransmit = Stamp::not_before(due.max(now));
    }

    /// The network reported that the peer cannot be reached. The caller has checked that the report
    /// quotes something in flight (`is_in_flight`).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.2.2
    //# Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST
    //# NOT abort the connection
    // RFC 5461: a connection that is not yet synchronised is given up, because its owner has other
    // addresses to try.
    pub(crate) fn on_unreachable<P: PacketPool>(
        &mut self,
        kind: Unreachable,
        env: &mut Env<'_, P>,
    ) -> Disposition {
        match (self.state, kind) {
            (State::SynReceived, _) if self.is_accepted_child(env.chunks) => Disposition::Continue,
            (State::SynSent | State::SynReceived, Unreachable::Hard) => {
                self.finish(env, CloseReason::Refused, None)
            }
            (State::SynSent | State::SynReceived, Unreachable::Soft) => {
                self.finish(env, CloseReason::Unreachable, None)
            }
            // SHLD-26 would abort on a hard error; Linux does not for an established connection,
            // because anybody on the way can forge one.
            _ => Disposition::Continue,
        }
    }
}
