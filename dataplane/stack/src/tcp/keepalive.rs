//! Whether the peer is still there: keep-alive probes (RFC 9293 section 3.8.4), zero-window probes
//! (section 3.8.6.1) and the patience with a peer that never closes after us.
//!
//! A probe carries no data: its sequence number is one before what the peer expects, so that a live
//! peer must answer (Linux: `tcp_xmit_probe_skb`; SHLD-12).

use millrace_base::{Instant, Nanos, PacketPool, Stamp};

use super::config::TcpTunables;
use super::connection::Connection;
use super::marks::Marks;
use super::segment::{CloseReason, Disposition, Env};
use super::state::State;
use super::timers::Purpose;
use crate::stats::count;

impl Connection {
    /// Starts or stops keep-alive according to the option. In FIN-WAIT-2 an orphan has another use
    /// for this timer.
    pub(super) fn arm_keepalive(&mut self, now: Instant, tunables: &TcpTunables) {
        if self.orphan && self.state == State::FinWait2 {
            return;
        }
        self.timers.idle = if self.options.keepalive && self.state.is_synchronized() {
            Stamp::not_before(now.after(Nanos::from_secs(tunables.tcp_keepalive_time.into())))
        } else {
            Stamp::NEVER
        };
    }

    /// The idle timer expired.
    pub(super) fn on_idle_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        self.timers.idle = Stamp::NEVER;
        if self.orphan && self.state == State::FinWait2 {
            return self.on_fin_wait2_timeout(env);
        }
        if !self.options.keepalive || !self.state.is_synchronized() {
            return Disposition::Continue;
        }
        let idle = Nanos::from_secs(env.tunables.tcp_keepalive_time.into());
        let silent = env.now.since(self.received_at.instant());
        // MUST-26: only an idle connection is probed. Data in flight has its own timer.
        if self.una != self.nxt || self.unsent_bytes() > 0 || silent < idle {
            let from = if silent < idle {
                self.received_at.instant()
            } else {
                env.now
            };
            self.timers.idle = Stamp::not_before(from.after(idle));
            return Disposition::Continue;
        }
        // MUST-29: one lost answer proves nothing. With a user's timeout the time decides, not the
        // count (Linux: `tcp_keepalive_timer`).
        let is_over = match u64::from(self.options.user_timeout_ms) {
            0 => self.probes >= env.tunables.tcp_keepalive_probes,
            user => self.probes > 0 && silent.as_millis() >= user,
        };
        if is_over {
            count!(env.stats.tcp_abort_on_timeout);
            let reset = self.reset_segment(env.now);
            return self.finish(env, CloseReason::TimedOut, reset);
        }
        self.probes = self.probes.saturating_add(1);
        self.marks.set(Marks::PROBE_PENDING);
        count!(env.stats.tcp_keep_alive);
        let interval = Nanos::from_secs(env.tunables.tcp_keepalive_intvl.into());
        self.timers.idle = Stamp::not_before(env.now.after(interval));
        Disposition::Continue
    }

    /// The window stayed closed for another interval (RFC 9293 section 3.8.6.1; MUST-36, SHLD-29,
    /// SHLD-30).
    pub(super) fn on_probe_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        // MUST-37: as long as the peer answers, `probes` starts again and the window may stay
        // closed for ever. A user's timeout bounds that, from the first probe on.
        if self.recovery.stalled_since.is_never() {
            self.recovery.stalled_since = Stamp::of(env.now);
        }
        let probing = env.now.since(self.recovery.stalled_since.instant());
        let user = u64::from(self.options.user_timeout_ms);
        let is_over = user > 0 && probing.as_millis() >= user;
        if is_over || self.probes >= self.retries(env.tunables) {
            count!(env.stats.tcp_abort_on_timeout);
            // No RST here either (Linux: `tcp_write_err`).
            return self.finish(env, CloseReason::TimedOut, None);
        }
        self.probes = self.probes.saturating_add(1);
        self.marks.set(Marks::PROBE_PENDING);
        count!(env.stats.tcp_win_probe);
        self.rtt.back_off();
        let mut interval = self.rtt.rto(env.tunables);
        if user > 0 {
            let left = user.saturating_sub(probing.as_millis()).max(1);
            interval = interval.min(Nanos::from_millis(left));
        }
        self.timers.arm(Purpose::Probe, env.now, interval);
        Disposition::Continue
    }
}
