//! When to act on what is in flight if no ACK comes: the tail loss probe first, then the timeout
//! (Linux: `tcp_schedule_loss_probe`, `tcp_rearm_rto`).
//!
//! One deadline serves both, and RACK's: whichever it is for, another ACK replaces it.

use millrace_base::{Micros, Nanos, PacketPool, Stamp};

use super::Phase;
use super::rack::TIMEOUT_MIN_US;
use crate::tcp::chunk::{CONTINUED, NONE};
use crate::tcp::config::TcpTunables;
use crate::tcp::connection::Connection;
use crate::tcp::marks::Marks;
use crate::tcp::segment::Env;
use crate::tcp::timers::Purpose;

/// `TIMEOUT_MIN_US`, to calculate with spans that do not fit 32 bits.
const TIMEOUT_MIN: u64 = TIMEOUT_MIN_US as u64;

/// When a tail is probed of which no round trip was ever measured (Linux: `TCP_TIMEOUT_INIT`).
const BLIND_US: u64 = 1_000_000;

impl Connection {
    /// SND.UNA advanced: the deadline counts from now (RFC 6298 section 5.2 and 5.3).
    #[inline]
    pub(in crate::tcp) fn restart_deadline<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.una == self.nxt {
            self.timers.retransmit = Stamp::NEVER;
            self.update_retransmit_timer(env.now, env.tunables);
        } else if let Some(span) = self.probe_span(env) {
            let limit = self.timeout_unless_later(span, env.tunables);
            let span = Nanos::from_micros(span.min(limit));
            self.timers.arm(Purpose::TailProbe, env.now, span);
        } else {
            self.restart_timeout(env);
        }
    }

    /// `bytes` of new data left: a probe is due when nothing is heard of it.
    ///
    /// Every transmission moves the probe's time, but most need not touch the timer: it fires early,
    /// and `defer_probe` finds out. Not where the timeout of what is oldest comes first, after a long
    /// round trip.
    // behaviour: A3-50, X5-6
    #[inline]
    pub(in crate::tcp) fn schedule_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        bytes: u32,
    ) {
        let before = self.nxt.bytes_since(self.una).saturating_sub(bytes);
        if before > u32::from(self.mss) && self.timers.runs(Purpose::TailProbe) {
            let span = self.srtt_us().wrapping_mul(2).wrapping_add(TIMEOUT_MIN);
            if span <= env.tunables.rto_min_us() {
                return;
            }
        }
        self.arm_probe(env, before == 0);
    }

    /// The probe's timer, but not behind the timeout of what is oldest, which left now if `is_first`.
    fn arm_probe<P: PacketPool>(&mut self, env: &mut Env<'_, P>, is_first: bool) {
        self.end_probing();
        let Some(span) = self.probe_span(env) else {
            if self.timers.runs(Purpose::TailProbe) {
                self.restart_timeout(env);
            }
            return;
        };
        let limit = self.timeout_unless_later(span, env.tunables);
        let span = if is_first {
            Nanos::from_micros(span.min(limit))
        } else {
            let (span, limit) = (Nanos::from_micros(span), Nanos::from_micros(limit));
            let age = env.now.since(self.head_sent_at(env)).as_nanos();
            match limit.as_nanos().saturating_sub(age) {
                0 => span,
                rest => span.min(Nanos::new(rest)),
            }
        };
        self.timers.arm(Purpose::TailProbe, env.now, span);
    }

    /// The probe's timer fired: `true` when something left since it was set, so that the probe's time
    /// is yet to come; the timer is set for that.
    pub(super) fn defer_probe<P: PacketPool>(&mut self, env: &mut Env<'_, P>) -> bool {
        let Some(span) = self.probe_span(env) else {
            return false;
        };
        let silent = env.now.since(self.sent_at.instant()).as_nanos();
        let age = env.now.since(self.head_sent_at(env)).as_nanos();
        let rto = self.rtt.rto(env.tunables).as_nanos();
        let rest = Nanos::from_micros(span)
            .as_nanos()
            .saturating_sub(silent)
            .min(rto.saturating_sub(age));
        // Stamps are coarser than times.
        if rest <= Nanos::from_millis(1).as_nanos() {
            return false;
        }
        self.timers
            .arm(Purpose::TailProbe, env.now, Nanos::new(rest));
        true
    }

    /// The timeout begins anew: from now, or (when a probe or RACK had the deadline) from when the
    /// oldest segment left.
    pub(in crate::tcp) fn restart_timeout<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.una == self.nxt {
            self.timers.retransmit = Stamp::NEVER;
            self.update_retransmit_timer(env.now, env.tunables);
            return;
        }
        let rto = self.rtt.rto(env.tunables);
        let had_other = self.timers.runs(Purpose::TailProbe) || self.timers.runs(Purpose::Reorder);
        let span = if had_other {
            let age = env.now.since(self.head_sent_at(env)).as_nanos();
            Nanos::new(rto.as_nanos().saturating_sub(age)).max(Nanos::from_micros(1))
        } else {
            rto
        };
        self.timers.arm(Purpose::Retransmit, env.now, span);
    }

    /// Two round trips, and the peer's patience with a single segment, in microseconds; `None` when no
    /// probe is to be sent.
    //= https://www.rfc-editor.org/rfc/rfc8985#section-7.2
    //# TLP_calc_PTO
    #[inline]
    fn probe_span<P: PacketPool>(&self, env: &Env<'_, P>) -> Option<u64> {
        let is_calm = matches!(self.recovery.phase, Phase::Open | Phase::Cwr);
        let srtt = self.srtt_us();
        if !is_calm || !self.sack_permitted || !env.tunables.probes_tails() {
            return None;
        }
        if srtt == 0 {
            return self.blind_span();
        }
        let more = if self.is_single_segment_out(env) {
            env.tunables.rto_min_us()
        } else {
            TIMEOUT_MIN
        };
        Some(srtt.wrapping_mul(2).wrapping_add(more))
    }

    /// The handshake needed a retransmission and there are no timestamps.
    #[cold]
    fn blind_span(&self) -> Option<u64> {
        let is_open = self.state.is_synchronized() && !self.marks.has(Marks::UNPROVEN);
        is_open.then_some(BLIND_US)
    }

    /// The timeout; something later than `span` when it surely is. Microseconds.
    #[inline]
    fn timeout_unless_later(&self, span: u64, tunables: &TcpTunables) -> u64 {
        let least = self.srtt_us().wrapping_add(tunables.rto_min_us());
        if span < least {
            return least;
        }
        self.rtt.rto_us(tunables)
    }

    /// The smoothed round trip in microseconds; 0 before the first sample.
    #[inline]
    fn srtt_us(&self) -> u64 {
        self.rtt.srtt().map_or(0, Micros::as_micros).into()
    }

    #[inline]
    fn is_single_segment_out<P: PacketPool>(&self, env: &Env<'_, P>) -> bool {
        // A full segment with our FIN is one segment.
        if self.nxt.bytes_since(self.una) > u32::from(self.mss).wrapping_add(1) {
            return false;
        }
        let (head, unsent) = (self.send.queue().head(), self.send.unsent());
        if head == unsent {
            // Our FIN alone.
            return true;
        }
        let mut next = env.chunks.get(head).map_or(NONE, |chunk| chunk.next());
        while next != unsent {
            // Chunks that left in one segment with the first.
            match env.chunks.get(next).filter(|chunk| chunk.has(CONTINUED)) {
                Some(chunk) => next = chunk.next(),
                None => return false,
            }
        }
        !self.has_separate_fin_out(env.chunks)
    }

    /// When the oldest segment in flight left last.
    #[inline]
    pub(super) fn head_sent_at<P: PacketPool>(&self, env: &Env<'_, P>) -> millrace_base::Instant {
        let head = self.send.queue().head();
        match env.chunks.get(head) {
            Some(chunk) if head != self.send.unsent() => chunk.sent_at,
            _ => self.sent_at.instant(),
        }
    }
}
