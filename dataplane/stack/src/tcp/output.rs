//! What may be sent now, and the frames that are not data: SYN, FIN, probes, and an ACK when nothing
//! else carries it.
//!
//! In which order they leave, and new data, is `turn.rs`'s business; what is sent again, `resend.rs`'s;
//! how a frame is made, `emit.rs`'s.

use millrace_base::{Instant, PacketPool, SeqNumber, Stamp};
use millrace_wire::{TcpFlags, TcpRepr};

use super::chunk::{Chunks, NONE, WITH_FIN};
use super::config::TcpTunables;
use super::congestion::CwndEvent;
use super::connection::Connection;
use super::emit::Run;
use super::fastopen::Plan;
use super::marks::Marks;
use super::segment::Env;
use super::state::State;
use super::timers::Purpose;
use crate::path::Path;
use crate::stats::count;

impl Connection {
    /// Whether `transmit` would (buffers permitting) make a frame. Cheap.
    #[inline(always)] // Most of the time it is these few comparisons.
    pub(crate) fn wants_output<B>(&self, chunks: &Chunks<B>) -> bool {
        !self.is_silent() && self.may_send(chunks)
    }

    /// Whether there is nothing that could leave, as most of the time.
    #[inline(always)] // Likewise.
    pub(crate) fn is_silent(&self) -> bool {
        self.send.unsent() == NONE
            && self.ack.due() == 0
            && !self.fin_queued
            && !self.syn_pending
            && self.send.board.is_clear()
            && !self.marks.has(Marks::PROBE_PENDING)
    }

    /// Whether what there is may leave, of a connection that is not silent.
    #[inline(never)]
    pub(crate) fn may_send<B>(&self, chunks: &Chunks<B>) -> bool {
        if self.syn_pending {
            return true;
        }
        if !self.state.is_synchronized() && !self.is_open_child() || self.state == State::TimeWait {
            return false;
        }
        self.ack.due() > 0
            || self.marks.has(Marks::PROBE_PENDING)
            || (self.send.board.has_pending(chunks) && self.may_retransmit(chunks))
            || self.may_send_new(chunks)
            || self.may_send_fin(chunks)
    }

    /// Starts, keeps or stops the first timer according to what is in flight.
    #[inline]
    pub(super) fn update_retransmit_timer(&mut self, now: Instant, tunables: &TcpTunables) {
        if self.una != self.nxt {
            if !self.timers.watches_flight() {
                self.end_probing();
                self.timers
                    .arm(Purpose::Retransmit, now, self.rtt.rto(tunables));
            }
        } else if self.marks.has(Marks::UNPROVEN) {
            // The timer is the SYN-ACK's.
        } else if self.is_window_blocked() {
            if !self.timers.runs(Purpose::Probe) {
                self.timers.arm(Purpose::Probe, now, self.rtt.rto(tunables));
            }
        } else {
            self.end_probing();
            self.timers.retransmit = Stamp::NEVER;
        }
    }

    /// The window is open again: the intervals of the probes are no longer those of the timeout
    /// (Linux: `tcp_ack_probe`).
    #[inline]
    pub(super) fn end_probing(&mut self) {
        if self.timers.runs(Purpose::Probe) {
            self.rtt.end_backoff();
            self.recovery.stalled_since = Stamp::NEVER;
        }
    }

    /// Nothing is in flight and the peer's window is too small for what is queued: only a probe can
    /// find out.
    #[inline]
    fn is_window_blocked(&self) -> bool {
        self.state.may_transmit_data()
            && self.unsent_bytes() > 0
            && !self.fits_window(self.unsent_bytes().min(u32::from(self.mss)))
    }

    /// Bytes the peer's window still takes.
    #[inline]
    pub(super) fn usable_window(&self) -> u32 {
        self.una.plus(self.snd_wnd).bytes_since(self.nxt)
    }

    /// Sender's silly-window avoidance: a whole segment, or half of the largest window ever seen
    /// (MUST-38).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.2.1
    //# (3) or if at least a fraction Fs of the maximum window can be sent
    #[inline]
    fn fits_window(&self, bytes: u32) -> bool {
        let usable = self.usable_window();
        bytes <= usable || (usable > 0 && usable >= self.wnd_max / 2)
    }

    #[inline]
    pub(super) fn may_send_new<B>(&self, chunks: &Chunks<B>) -> bool {
        self.send.unsent() != NONE && self.may_send_unsent(chunks)
    }

    /// The same where something is unsent.
    pub(super) fn may_send_unsent<B>(&self, chunks: &Chunks<B>) -> bool {
        let unsent = self.unsent_bytes();
        let may_transmit = self.state.may_transmit_data() || self.is_open_child();
        if unsent == 0 || !may_transmit || self.is_held_back(chunks) {
            return false;
        }
        let bytes = unsent.min(u32::from(self.mss));
        if self.una == self.nxt {
            // With nothing in flight only the peer's window counts.
            return self.fits_window(bytes);
        }
        self.fits_window(bytes) && self.fits_cwnd(chunks, bytes) && !self.is_held_by_nagle(unsent)
    }

    /// Room for `bytes` more in flight. Limited transmit (RFC 3042) follows from the count: a
    /// duplicate ACK or a SACK has already taken a segment out of it.
    #[inline]
    pub(super) fn fits_cwnd<B>(&self, chunks: &Chunks<B>, bytes: u32) -> bool {
        let flight = self.in_flight(chunks);
        flight == 0 || flight.saturating_add(bytes) <= self.congestion.cwnd
    }

    /// Nagle: a small last segment waits while something is in flight (RFC 9293 section 3.7.4,
    /// MUST-17).
    #[inline]
    fn is_held_by_nagle(&self, unsent: u32) -> bool {
        !self.options.nodelay
            && unsent < u32::from(self.mss)
            && self.sent_bytes() > 0
            && !self.fin_queued
    }

    #[inline]
    pub(super) fn may_send_fin<B>(&self, chunks: &Chunks<B>) -> bool {
        self.fin_queued && self.may_send_queued_fin(chunks)
    }

    fn may_send_queued_fin<B>(&self, chunks: &Chunks<B>) -> bool {
        let due = self.unsent_bytes() == 0 && !self.fin_sent();
        (due || self.may_repeat_fin(chunks)) && self.state.may_transmit_data()
    }

    /// Our FIN comes again in its turn, behind the data.
    #[inline]
    fn may_repeat_fin<B>(&self, chunks: &Chunks<B>) -> bool {
        self.marks.has(Marks::FIN_LOST)
            && !self.send.board.has_pending(chunks)
            && self.fits_cwnd(chunks, 1)
            && !self.marks.has(Marks::UNPROVEN)
    }

    /// SND.NXT, unless the peer shrank its window below it: then the edge (Linux:
    /// `tcp_acceptable_seq`).
    #[inline]
    pub(super) fn acceptable_seq(&self) -> SeqNumber {
        let edge = self.una.plus(self.snd_wnd);
        if self.nxt.before_or_eq(edge) || self.snd_wnd == 0 {
            self.nxt
        } else {
            edge
        }
    }

    /// Remembers whether the congestion window is what holds us back.
    /// `is_news` when something left.
    #[inline]
    pub(super) fn note_limit<B>(&mut self, chunks: &Chunks<B>, is_news: bool) {
        let bytes = (self.in_flight(chunks), self.sent_bytes());
        self.congestion
            .validate(bytes, is_news, (self.una, self.nxt));
    }

    /// Nothing in flight and silent for a timeout: what the window was is old news (RFC 5681
    /// section 4.1).
    #[inline]
    pub(super) fn wake_from_idle<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.una != self.nxt {
            return;
        }
        let last_sent = self.sent_at.instant();
        let now = env.now;
        let start = CwndEvent::TxStart { now, last_sent };
        self.congestion.cwnd_event(&mut env.setting(), start);
        if !env.tunables.tcp_slow_start_after_idle {
            return;
        }
        let idle = env.now.since(last_sent).as_nanos();
        if idle < env.tunables.timeout_least().as_nanos() {
            return;
        }
        // Probes of a closed window back off by themselves: what counts is the estimate.
        let rto = self.rtt.base(env.tunables).as_nanos().max(1);
        let timeouts = idle.checked_div(rto).unwrap_or(0);
        if timeouts > 0 && !self.congestion.is_modelled() {
            let setting = &mut env.setting();
            self.congestion.cwnd_event(setting, CwndEvent::CwndRestart);
            self.congestion
                .on_idle(timeouts, env.tunables.tcp_init_cwnd);
            self.sent_at = Stamp::of(env.now);
        }
    }

    pub(super) fn poll_syn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        if !self.syn_pending {
            return None;
        }
        let answer = self.state != State::SynSent;
        let mut options = self.syn_options(env.now, env.tunables, answer);
        let mut run = None;
        if !self.extra.is_none()
            && let Plan::Fast(cookie) = self.plan_of_syn(env.chunks)
        {
            options.fastopen = cookie;
            run = if answer {
                None
            } else {
                self.syn_run(env.chunks)
            };
        }
        let flags = if answer {
            TcpFlags::SYN | TcpFlags::ACK
        } else {
            TcpFlags::SYN
        } | self.ecn_of_syn(env);
        let header = TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            // Nothing is acknowledged yet: SND.UNA is ISS, or that of a child its first byte.
            seq: if self.marks.has(Marks::UNPROVEN) {
                self.una.minus(1)
            } else {
                self.una
            },
            ack: if answer {
                self.window.nxt
            } else {
                SeqNumber::new(0)
            },
            flags,
            // Never scaled (RFC 7323 section 2.2).
            window: self.offer_of_syn(env.tunables, answer),
            urgent: 0,
            options,
        };
        let frame = match run {
            None => self.emit_empty(env, path, &header)?,
            Some(run) => self.emit_run(env, path, run, &header)?,
        };
        self.syn_pending = false;
        let is_first = self.extra.is_none() || self.on_planned_sent(env, run);
        if self.recovery.timeouts == 0 && is_first {
            if !answer {
                count!(env.stats.tcp_active_opens);
            }
            count!(env.stats.tcp_out_segs);
        } else {
            count!(env.stats.tcp_retrans_segs);
            count!(env.stats.tcp_syn_retrans);
            self.retransmissions = self.retransmissions.saturating_add(1);
        }
        self.sent_at = Stamp::of(env.now);
        if !self.timers.runs(Purpose::Retransmit) {
            self.timers
                .arm(Purpose::Retransmit, env.now, self.rtt.rto(env.tunables));
        }
        Some(frame)
    }

    pub(super) fn emit_fin<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        let again = self.fin_sent();
        let options = self.segment_options(env);
        let seq = self.send.end();
        let header = self.header(env, seq, TcpFlags::FIN | TcpFlags::ACK, options);
        let frame = self.emit_empty(env, path, &header)?;
        self.marks.clear(Marks::FIN_LOST);
        if again {
            count!(env.stats.tcp_retrans_segs);
            self.retransmissions = self.retransmissions.saturating_add(1);
        } else {
            count!(env.stats.tcp_out_segs);
            self.nxt = seq.plus(1);
        }
        self.sent_at = Stamp::of(env.now);
        self.on_ack_sent();
        if !again {
            self.schedule_probe(env, 1);
        }
        Some(frame)
    }

    /// Memory is short, and everything has left: our FIN is taken for sent with the last segment. It
    /// leaves when that is sent again, or by itself after a timeout (Linux: `tcp_send_fin`).
    #[cold]
    pub(super) fn tack_fin<B>(&mut self, chunks: &mut Chunks<B>) {
        if self.unsent_bytes() == 0 && self.sent_bytes() > 0 {
            self.send.note_last_sent(chunks, WITH_FIN);
            self.nxt = self.send.end().plus(1);
        }
    }

    /// What makes a peer answer: as much data as its window takes, else an old sequence number
    /// (Linux: `tcp_write_wakeup`).
    pub(super) fn emit_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        let window = self.usable_window().min(u32::from(self.mss));
        if window > 0 && self.unsent_bytes() > 0 && self.una == self.nxt {
            let first = self.send.unsent();
            if self.send.limit(env.chunks, first, window) {
                let bytes = env.chunks.get(first).map(|chunk| u32::from(chunk.len))?;
                return self.emit_one(
                    env,
                    path,
                    Run {
                        first,
                        count: 1,
                        bytes,
                        segment_bytes: 0,
                    },
                );
            }
        }
        self.emit_ack(env, path, self.una.minus(1))
    }

    pub(super) fn emit_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        seq: SeqNumber,
    ) -> Option<P::Buf> {
        let options = self.ack_options(env);
        let has_blocks = !options.sack.is_empty();
        let mut header = self.header(env, seq, TcpFlags::ACK, options);
        if self.ack.ecn.has_special_ack() && !self.ack.ecn.is_accurate() {
            self.end_at_edge(env, &mut header);
        }
        let Some(frame) = self.emit_empty(env, path, &header) else {
            self.ack_later(env);
            return None;
        };
        count!(env.stats.tcp_out_segs);
        self.on_ack_sent();
        if self.ack.ecn.has_special_ack() && self.ack.ecn.is_accurate() {
            self.end_reflection(env.chunks);
        }
        if has_blocks {
            self.end_compression(env);
        }
        Some(frame)
    }
}
