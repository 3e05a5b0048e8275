//! What may be sent now: SYN, retransmissions, new data, FIN, probes, and an ACK when nothing else
//! carries it.
//!
//! One call makes one frame. A chunk whose buffer is ours alone gets its headers in place, in its
//! own headroom; one that the device or another chunk still holds gets a header buffer chained in
//! front of a view of it. Only a device that cannot send chains makes us copy, and that is counted.

use millrace_base::{Instant, PacketPool, SeqNumber};
use millrace_wire::{TcpFlags, TcpRepr};

use super::chunk::NONE;
use super::config::TcpTunables;
use super::connection::Connection;
use super::emit::Run;
use super::recovery::Phase;
use super::segment::Env;
use super::state::State;
use super::timers::Purpose;
use crate::path::Path;
use crate::stats::count;

/// Chunks one frame may carry: 16 views and a header keep a frame below every device's limit on
/// segments.
const FRAME_CHUNKS_MAX: u32 = 16;

impl Connection {
    /// The next frame, or `None` when there is nothing to send, nothing may be sent, or no buffer
    /// is free.
    pub(crate) fn poll_transmit<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        if path.mtu < self.mtu {
            self.on_path_mtu(path.mtu, env);
        }
        let frame = self.poll_frame(env, path);
        if self.state.is_synchronized() {
            self.update_retransmit_timer(env.now, env.tunables);
        }
        frame
    }

    fn poll_frame<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<P::Buf> {
        match self.state {
            State::Closed | State::Listen | State::TimeWait => return None,
            State::SynSent | State::SynReceived => return self.poll_syn(env, path),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => {}
        }
        // What an ACK must tell and data cannot carry goes first.
        if self.ack.due() > 1 || (self.ack.due() == 1 && self.has_sack_news()) {
            return self.emit_ack(env, path, self.acceptable_seq());
        }
        if let Some(frame) = self.poll_retransmission(env, path) {
            return Some(frame);
        }
        if let Some(run) = self.next_run(env, path) {
            return self.emit_new(env, path, run);
        }
        if self.may_send_fin() {
            return self.emit_fin(env, path);
        }
        if self.probe_pending {
            self.probe_pending = false;
            return self.emit_probe(env, path);
        }
        if self.ack.due() > 0 {
            return self.emit_ack(env, path, self.acceptable_seq());
        }
        None
    }

    /// Whether `poll_transmit` would (buffers permitting) make a frame. Cheap.
    #[inline]
    pub(crate) fn wants_output(&self) -> bool {
        if self.syn_pending {
            return true;
        }
        if !self.state.is_synchronized() || self.state == State::TimeWait {
            return false;
        }
        self.ack.due() > 0
            || self.probe_pending
            || (self.send.board.has_pending() && self.may_retransmit())
            || self.may_send_new()
            || self.may_send_fin()
    }

    /// Starts, keeps or stops the first timer according to what is in flight.
    #[inline]
    pub(super) fn update_retransmit_timer(&mut self, now: Instant, tunables: &TcpTunables) {
        if self.una != self.nxt {
            if !self.timers.runs(Purpose::Retransmit) {
                self.end_probing();
                self.timers
                    .arm(Purpose::Retransmit, now, self.rtt.rto(tunables));
            }
        } else if self.is_window_blocked() {
            if !self.timers.runs(Purpose::Probe) {
                self.timers.arm(Purpose::Probe, now, self.rtt.rto(tunables));
            }
        } else {
            self.end_probing();
            self.timers.retransmit = Instant::NEVER;
        }
    }

    /// The window is open again: the intervals of the probes are no longer those of the timeout
    /// (Linux: `tcp_ack_probe`).
    #[inline]
    fn end_probing(&mut self) {
        if self.timers.runs(Purpose::Probe) {
            self.rtt.end_backoff();
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
    fn usable_window(&self) -> u32 {
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
    fn may_send_new(&self) -> bool {
        let unsent = self.unsent_bytes();
        if unsent == 0 || !self.state.may_transmit_data() {
            return false;
        }
        let bytes = unsent.min(u32::from(self.mss));
        self.fits_window(bytes) && self.fits_cwnd(bytes) && !self.is_held_by_nagle(unsent)
    }

    /// Room for `bytes` more in flight. Limited transmit (RFC 3042) follows from the count: a
    /// duplicate ACK or a SACK has already taken a segment out of it.
    #[inline]
    fn fits_cwnd(&self, bytes: u32) -> bool {
        let flight = self.in_flight();
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
    fn may_send_fin(&self) -> bool {
        let due = self.fin_queued && self.unsent_bytes() == 0 && !self.fin_sent();
        (due || self.fin_lost) && self.state.may_transmit_data()
    }

    #[inline]
    fn may_retransmit(&self) -> bool {
        self.recovery.forced
            || self.in_flight().saturating_add(u32::from(self.mss)) <= self.congestion.cwnd
            || self.in_flight() == 0
    }

    /// SND.NXT, unless the peer shrank its window below it: then the edge (Linux:
    /// `tcp_acceptable_seq`).
    #[inline]
    fn acceptable_seq(&self) -> SeqNumber {
        let edge = self.una.plus(self.snd_wnd);
        if self.nxt.before_or_eq(edge) || self.snd_wnd == 0 {
            self.nxt
        } else {
            edge
        }
    }

    fn poll_retransmission<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        if !self.send.board.has_pending()
            || !self.may_retransmit()
            || !self.state.may_transmit_data()
        {
            return None;
        }
        let (queue, unsent, board) = self.send.parts();
        let index = board.next_to_retransmit(env.chunks, (queue, unsent))?;
        if !self.send.limit(env.chunks, index, u32::from(self.mss)) {
            return None;
        }
        let (seq, len, next) = env
            .chunks
            .get(index)
            .map(|c| (c.seq, u32::from(c.len), c.next()))?;
        let run = Run {
            first: index,
            count: 1,
            bytes: len,
            segment_bytes: 0,
        };
        let mut flags = TcpFlags::ACK;
        let last = next == NONE;
        if last && self.fin_sent() {
            flags |= TcpFlags::FIN | TcpFlags::PSH;
        }
        let frame = self.emit_run(env, path, run, seq, flags)?;
        if last {
            self.fin_lost = false;
        }
        self.send.board.on_retransmitted(env.chunks, index, env.now);
        self.recovery.forced = false;
        self.recovery.sent = self.recovery.sent.saturating_add(len);
        self.retransmissions = self.retransmissions.saturating_add(1);
        count!(env.stats.tcp_retrans_segs);
        if self.recovery.phase == Phase::Loss {
            count!(env.stats.tcp_slow_start_retrans);
        } else {
            count!(env.stats.tcp_fast_retrans);
        }
        Some(frame)
    }

    /// Which unsent chunks leave next; splits the last one where the limits cut it.
    fn next_run<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<Run> {
        if self.unsent_bytes() == 0 {
            return None;
        }
        self.wake_from_idle(env);
        if !self.may_send_new() {
            self.note_limit();
            return None;
        }
        let mss = u32::from(self.mss);
        let first = self.send.unsent();
        let window = self.usable_window();
        if !self.send.limit(env.chunks, first, mss.min(window)) {
            return None;
        }
        let chunk = env.chunks.get(first)?;
        let bytes = u32::from(chunk.len);
        let mut run = Run {
            first,
            count: 1,
            bytes,
            segment_bytes: 0,
        };
        if chunk.next() == NONE || !path.offloads.chains() {
            return Some(run);
        }
        let cwnd_room = self
            .congestion
            .cwnd
            .saturating_sub(self.in_flight())
            .max(bytes);
        let room = window.min(cwnd_room);
        if bytes == mss && path.offloads.tso {
            self.extend_run(env, path, &mut run, room.min(path.offloads.tso_bytes_max));
            if run.count > 1 {
                run.segment_bytes = self.mss;
            }
        } else if bytes < mss / 2 {
            // A short piece (the rest of a split, small writes) travels with what follows it.
            self.extend_run(env, path, &mut run, room.min(mss));
        }
        Some(run)
    }

    /// Adds chunks behind the run up to `limit` bytes. In a frame that the device cuts, every chunk
    /// but the last is a full segment, so that segments and chunks stay the same thing.
    fn extend_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: &mut Run,
        limit: u32,
    ) {
        let mss = u32::from(self.mss);
        let cut = run.bytes == mss;
        let chunks_max =
            FRAME_CHUNKS_MAX.min(u32::from(path.offloads.segments_max).saturating_sub(1));
        let mut index = run.first;
        let mut full = true;
        while run.count < chunks_max && full {
            let Some(next) = env.chunks.get(index).map(|chunk| chunk.next()) else {
                break;
            };
            let room = limit.saturating_sub(run.bytes);
            let room = if cut { room.min(mss) } else { room };
            let Some(len) = env.chunks.get(next).map(|chunk| u32::from(chunk.len)) else {
                break;
            };
            // Not worth a sliver: the rest of a window is better sent as a full segment later.
            if room == 0 || (cut && room < len.min(mss)) {
                break;
            }
            if len > room && !self.send.limit(env.chunks, next, room) {
                break;
            }
            let len = len.min(room);
            run.bytes = run.bytes.saturating_add(len);
            run.count = run.count.saturating_add(1);
            full = !cut || len == mss;
            index = next;
        }
    }

    fn emit_new<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
    ) -> Option<P::Buf> {
        let seq = self.nxt;
        let ends_queue = self.unsent_bytes() == run.bytes;
        let mut flags = TcpFlags::ACK;
        if ends_queue {
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.1.2
            //# the PSH bit MUST be set in the last buffered segment (i.e., when there is no more
            //# queued data to be sent)
            flags |= TcpFlags::PSH; // MUST-61
        }
        let with_fin = ends_queue && self.fin_queued && self.usable_window() > run.bytes;
        if with_fin {
            flags |= TcpFlags::FIN;
        }
        let frame = self.emit_run(env, path, run, seq, flags)?;
        let continued = run.segment_bytes == 0;
        for position in 0..run.count {
            self.send
                .mark_sent(env.chunks, env.now, continued && position > 0);
        }
        self.nxt = self.nxt.plus(run.bytes).plus(u32::from(with_fin));
        let segments = if continued { 1 } else { run.count };
        count!(env.stats.tcp_out_segs, u64::from(segments));
        count!(env.stats.tcp_orig_data_sent, u64::from(segments));
        self.recovery.sent = self.recovery.sent.saturating_add(run.bytes);
        self.ack.on_data_sent(env.now, env.tunables);
        self.sent_at = env.now;
        self.probe_pending = false;
        self.note_limit();
        Some(frame)
    }

    /// Remembers whether the congestion window is what holds us back.
    #[inline]
    fn note_limit(&mut self) {
        let unsent = self.unsent_bytes().min(u32::from(self.mss));
        let limited = unsent > 0 && self.fits_window(unsent) && !self.fits_cwnd(unsent);
        self.congestion
            .validate(self.in_flight(), limited, self.una, self.nxt);
    }

    /// Nothing in flight and silent for a timeout: what the window was is old news (RFC 5681
    /// section 4.1).
    #[inline]
    fn wake_from_idle<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.una != self.nxt || !env.tunables.tcp_slow_start_after_idle {
            return;
        }
        let rto = self.rtt.rto(env.tunables).as_nanos().max(1);
        let idle = env.now.since(self.sent_at).as_nanos();
        let timeouts = idle.checked_div(rto).unwrap_or(0);
        if timeouts > 0 {
            self.congestion
                .on_idle(timeouts, env.tunables.tcp_init_cwnd);
            self.sent_at = env.now;
        }
    }

    fn poll_syn<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<P::Buf> {
        if !self.syn_pending {
            return None;
        }
        self.mtu = path.mtu;
        let answer = self.state == State::SynReceived;
        let options = self.syn_options(env.now, env.tunables, answer);
        let flags = if answer {
            TcpFlags::SYN | TcpFlags::ACK
        } else {
            TcpFlags::SYN
        };
        let header = TcpRepr {
            source_port: self.tuple.local.port,
            destination_port: self.tuple.remote.port,
            seq: self.iss,
            ack: if answer {
                self.window.nxt
            } else {
                SeqNumber::new(0)
            },
            flags,
            window: self.window.initial(),
            urgent: 0,
            options,
        };
        let frame = self.emit_empty(env, path, &header)?;
        self.syn_pending = false;
        if self.recovery.timeouts == 0 {
            if !answer {
                count!(env.stats.tcp_active_opens);
            }
            count!(env.stats.tcp_out_segs);
        } else {
            count!(env.stats.tcp_retrans_segs);
            count!(env.stats.tcp_syn_retrans);
            self.retransmissions = self.retransmissions.saturating_add(1);
        }
        self.sent_at = env.now;
        if !self.timers.runs(Purpose::Retransmit) {
            self.timers
                .arm(Purpose::Retransmit, env.now, self.rtt.rto(env.tunables));
        }
        Some(frame)
    }

    fn emit_fin<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<P::Buf> {
        let again = self.fin_sent();
        let options = self.segment_options(env.now);
        let seq = self.send.end();
        let header = self.header(env, seq, TcpFlags::FIN | TcpFlags::ACK, options);
        let frame = self.emit_empty(env, path, &header)?;
        self.fin_lost = false;
        if again {
            count!(env.stats.tcp_retrans_segs);
            self.retransmissions = self.retransmissions.saturating_add(1);
        } else {
            count!(env.stats.tcp_out_segs);
            self.nxt = seq.plus(1);
        }
        self.sent_at = env.now;
        self.on_ack_sent();
        Some(frame)
    }

    /// What makes a peer answer: as much data as its window takes, else an old sequence number
    /// (Linux: `tcp_write_wakeup`).
    fn emit_probe<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<P::Buf> {
        let window = self.usable_window().min(u32::from(self.mss));
        if window > 0 && self.unsent_bytes() > 0 && self.una == self.nxt {
            let first = self.send.unsent();
            if self.send.limit(env.chunks, first, window) {
                let bytes = env.chunks.get(first).map(|chunk| u32::from(chunk.len))?;
                return self.emit_new(
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

    fn emit_ack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        seq: SeqNumber,
    ) -> Option<P::Buf> {
        let options = self.ack_options(env.now);
        let header = self.header(env, seq, TcpFlags::ACK, options);
        let frame = self.emit_empty(env, path, &header)?;
        count!(env.stats.tcp_out_segs);
        self.on_ack_sent();
        Some(frame)
    }
}
