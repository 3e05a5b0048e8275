//! FIN_WAIT2 of a connection whose application is gone: how long the peer's FIN is waited for, and
//! when an orphan is given up (`tcp_fin_timeout`, `TCP_LINGER2`, `tcp_max_orphans`).
//!
//! For a minute at most the waiting is done by a record (`timewait.rs`); what goes beyond it is
//! waited for by the connection itself, before. What a segment means to a record is said there.
//!
//! Linux: `tcp_fin_time`, the FIN_WAIT1 branch of `tcp_rcv_state_process`, `tcp_keepalive_timer`,
//! `__tcp_close`, `tcp_out_of_resources`.

use core::ops::ControlFlow;

use millrace_base::{Instant, Nanos, PacketPool, Stamp};
use millrace_wire::{TcpFlags, TcpRepr};

use super::chunk::Chunks;
use super::config::TcpTunables;
use super::connection::Connection;
use super::marks::Marks;
use super::segment::{CloseReason, Disposition, Env, ResetSegment};
use super::state::State;
use super::timewait::{FIN_WAIT2_SECS_MAX, TIMEWAIT_LEN};
use crate::stats::count;

/// What `TCP_LINGER2` says of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Linger2 {
    /// Seconds in FIN_WAIT2 (`TCP_FIN_TIMEOUT_MAX`, 120, at most); 0 is `tcp_fin_timeout`, below 0
    /// none at all.
    pub(crate) seconds: i16,
}

impl Linger2 {
    /// The longest, in seconds (Linux: `TCP_FIN_TIMEOUT_MAX`).
    const SECONDS_MAX: i32 = 120;

    /// What a program asked for.
    pub(crate) fn of(seconds: i32) -> Self {
        Self {
            seconds: seconds.clamp(-1, Self::SECONDS_MAX) as i16,
        }
    }
}

/// How long an orphan stays in FIN_WAIT2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// Not at all.
    None,
    /// The record waits, so many whole seconds.
    Record(u8),
    /// The connection waits so long, then the record.
    Connection(Nanos),
}

impl Connection {
    /// The ACK of our FIN has come while nobody is left to read.
    pub(super) fn on_orphan_fin_acked<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) -> ControlFlow<Disposition> {
        match self.patience(env.chunks, env.tunables) {
            Patience::None => {
                // behaviour: A16-16
                count!(env.stats.tcp_abort_on_data);
                let reset = ResetSegment::refusing(self.una);
                ControlFlow::Break(self.finish(env, CloseReason::Aborted, Some(reset)))
            }
            Patience::Record(_) => ControlFlow::Continue(()),
            // behaviour: A16-18
            Patience::Connection(span) => {
                self.timers.idle = Stamp::not_before(env.now.after(span));
                ControlFlow::Continue(())
            }
        }
    }

    /// A segment of an orphan in FIN_WAIT2 was taken: its record does the rest, if it may.
    pub(super) fn hand_to_record<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        match self.patience(env.chunks, env.tunables) {
            Patience::Record(seconds) => self.enter_fin_wait2(env, seconds),
            Patience::None | Patience::Connection(_) => Disposition::Continue,
        }
    }

    /// The application has closed a connection whose FIN is acknowledged already.
    pub(super) fn close_in_fin_wait2<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) -> Disposition {
        match self.patience(env.chunks, env.tunables) {
            Patience::None => {
                // behaviour: A25-16
                count!(env.stats.tcp_abort_on_linger);
                let reset = self.reset_segment(env.now);
                self.finish(env, CloseReason::Aborted, reset)
            }
            // behaviour: A25-17
            Patience::Record(seconds) => self.enter_fin_wait2(env, seconds),
            Patience::Connection(span) => {
                self.timers.idle = Stamp::not_before(env.now.after(span));
                Disposition::Continue
            }
        }
    }

    /// The connection's own part of the waiting is over.
    pub(super) fn on_fin_wait2_timeout<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
    ) -> Disposition {
        if let Patience::Connection(span) = self.patience(env.chunks, env.tunables) {
            return self.enter_fin_wait2(env, whole_seconds(span.min(TIMEWAIT_LEN)));
        }
        let reset = self.reset_segment(env.now);
        self.finish(env, CloseReason::TimedOut, reset)
    }

    /// Whether what it retransmits is due: the moment at which an orphan may be given up.
    pub(crate) fn is_retransmission_due(&self, now: Instant) -> bool {
        self.timers.retransmit.is_due(now)
    }

    /// How often the number of orphans counts double for this one: its peer takes nothing for two of
    /// the longest timeouts, or has not answered for as long as one.
    pub(crate) fn orphan_penalty(&self, now: Instant, tunables: &TcpTunables) -> u32 {
        let longest = Nanos::from_millis(tunables.tcp_rto_max_ms.into());
        let silent = now.since(self.sent_at.instant()) > longest.times(2);
        u32::from(silent || self.rtt.rto(tunables) >= longest)
    }

    /// There are too many orphans, or no memory for them: this one goes. behaviour: A25-18
    pub(crate) fn shed_orphan<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Disposition {
        count!(env.stats.tcp_abort_on_memory);
        // A peer that was heard of lately shall know that data was lost.
        let recent = env.now.since(self.sent_at.instant()) <= TIMEWAIT_LEN;
        let shut = self.snd_wnd == 0 && self.una == self.nxt;
        let told = recent || shut || self.orphan_penalty(env.now, env.tunables) == 0;
        let reset = self.reset_segment(env.now).filter(|_| told);
        self.finish(env, CloseReason::Aborted, reset)
    }

    /// The application will read no more.
    pub(crate) const fn shutdown_receiving(&mut self) {
        self.marks.set(Marks::DEAF);
    }

    /// The FIN of a connection that is to be reset at once, when nothing stands before it: Linux's has
    /// left by then.
    pub(crate) fn farewell<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> Option<TcpRepr> {
        let due = self.fin_queued && !self.fin_sent() && self.unsent_bytes() == 0;
        if !due || !self.state.may_transmit_data() {
            return None;
        }
        let options = self.segment_options(env);
        let flags = TcpFlags::FIN | TcpFlags::ACK;
        let header = self.header(env, self.nxt, flags, options);
        self.nxt = self.nxt.plus(1);
        Some(header)
    }

    /// Bytes that wait to be sent or acknowledged.
    pub(crate) fn queued_to_send(&self) -> u32 {
        self.send.bytes()
    }

    /// `TCP_LINGER2`. Without effect when there is no place to remember it, as without the option.
    pub(crate) fn set_linger2<B>(&mut self, seconds: i32, chunks: &mut Chunks<B>) {
        let linger2 = Linger2::of(seconds);
        if linger2 == Linger2::default() && self.extra.is_none() {
            return;
        }
        if let Some(extra) = self.extra_mut(chunks) {
            extra.linger2 = linger2;
        }
    }

    fn enter_fin_wait2<P: PacketPool>(&mut self, env: &mut Env<'_, P>, seconds: u8) -> Disposition {
        let mut end = self.enter_time_wait(env);
        if let Disposition::TimeWait(record) = &mut end {
            record.fin_wait2_secs = seconds;
        }
        end
    }

    /// Linux: `tcp_fin_time`; never below 3.5 timeouts. behaviour: A28-1, X5-8
    fn patience<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> Patience {
        let own = self.extra(chunks).map_or(0, |extra| extra.linger2.seconds);
        if own < 0 {
            return Patience::None;
        }
        let seconds = match own {
            0 => u64::from(tunables.tcp_fin_timeout),
            own => u64::from(own.unsigned_abs()),
        };
        let least = self.rtt.rto(tunables).times(7).as_nanos() / 2;
        let limit = Nanos::from_secs(seconds).max(Nanos::new(least));
        match limit.as_nanos().checked_sub(TIMEWAIT_LEN.as_nanos()) {
            None | Some(0) => Patience::Record(whole_seconds(limit)),
            Some(beyond) => Patience::Connection(Nanos::new(beyond)),
        }
    }
}

impl State {
    /// Whether the peer may still send, after our FIN.
    pub(super) const fn waits_for_peer_fin(self) -> bool {
        matches!(self, Self::FinWait1 | Self::FinWait2)
    }
}

/// Whole seconds, one at least, of a time of a minute at most.
fn whole_seconds(span: Nanos) -> u8 {
    let seconds = span.as_nanos().div_ceil(1_000_000_000);
    seconds.clamp(1, FIN_WAIT2_SECS_MAX.into()) as u8
}
