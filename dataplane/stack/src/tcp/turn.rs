//! One turn of a connection at sending: which frame comes next, until nothing may be sent any more
//! or there is no room for another.
//!
//! What all new segments of a turn have in common (acknowledgment, window, timestamps) is put
//! together once: nothing can arrive between them. What a frame looks like is `emit.rs`'s business;
//! whether something may be sent, and frames without new data, that of `output.rs`.

use core::ops::ControlFlow;

use millrace_base::{Micros, Nanos, PacketPool, Stamp};
use millrace_wire::{TcpFlags, TcpRepr};

use super::chunk::{Chunks, NONE, PUSHED, WITH_FIN};
use super::config::TcpTunables;
use super::connection::Connection;
use super::emit::Run;
use super::marks::Marks;
use super::mtu_probe::Probing;
use super::pacing::BURST_SHIFT;
use super::recovery::Phase;
use super::segment::Env;
use super::state::State;
use crate::path::{Path, Stencil};
use crate::stats::count;

/// How long after data has left more may wait for company.
const DEFERRABLE: Nanos = Nanos::from_millis(1);
/// Segments that need not wait for more (Linux: `tcp_max_tso_deferred_mss`).
const DEFERRED_SEGMENTS_MAX: u32 = 3;

/// Payload of the largest packet that is cut (Linux: `GSO_LEGACY_MAX_SIZE`).
const PACKET_BYTES_MAX: u64 = 65_536;

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// There is nothing to send, nothing may be sent, or no buffer is free.
    Done,
    /// There is no room for another frame; more may be waiting.
    Cut,
    /// What there is waits for an ACK to make room for more.
    Deferred,
}

/// New data that left in one turn.
#[derive(Debug, Default)]
struct Sent {
    frames: u32,
    segments: u32,
    bytes: u32,
    /// Bytes that the windows still take, if they have been looked at.
    room: u32,
    /// With less room than this, what leaves next is the last of several segments.
    push_below: u32,
    /// The headers of the first full segment, for those behind it.
    stencil: Option<Stencil>,
    /// The connection, or every one, does what few do: `may_leave`.
    is_special: bool,
    /// Segments that the packet which is being cut still takes.
    packet_segments: u32,
    /// What comes next waits for company.
    is_held: bool,
}

impl Connection {
    /// Hands every frame that may leave now to `take`, until it returns `false`: no room for
    /// another.
    pub(crate) fn transmit<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        take: &mut impl FnMut(P::Buf) -> bool,
    ) -> Turn {
        if path.mtu < self.mtu {
            self.on_path_mtu(path.mtu, env);
        }
        self.begin_paced_turn(env);
        if self.marks.has(Marks::MSS_BOUND) {
            // The peer's window may have grown since.
            let searched = self.searched(env.chunks);
            self.update_mss(env.tunables, searched);
        }
        let whole;
        let path = if self.is_signed() {
            // behaviour: A4-16. Every segment has a signature of its own, which no device makes.
            whole = path.without_segmentation();
            &whole
        } else {
            path
        };
        let turn = self.take_turn(env, path, take);
        // A turn that was cut goes on by itself, but not when its last burst has to pass first.
        if turn == Turn::Done || self.is_held_back(env.chunks) {
            self.end_paced_turn(env);
        }
        if self.state.is_synchronized() {
            self.update_retransmit_timer(env.now, env.tunables);
        }
        turn
    }

    fn take_turn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        take: &mut impl FnMut(P::Buf) -> bool,
    ) -> Turn {
        match self.state {
            State::Closed | State::Listen | State::TimeWait => return Turn::Done,
            State::SynSent | State::SynReceived => {
                if let Some(frame) = self.poll_syn(env, path)
                    && !take(frame)
                {
                    return Turn::Cut;
                }
                if !self.is_open_child() {
                    return Turn::Done;
                }
            }
            State::FinWait1 if self.syn_pending => {
                if let Some(frame) = self.poll_syn(env, path)
                    && !take(frame)
                {
                    return Turn::Cut;
                }
            }
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => {}
        }
        if self.marks.has(Marks::PROBE_PENDING)
            && self.is_probe_due(env.chunks)
            && let Some(frame) = self.emit_tail_probe(env, path)
            && !take(frame)
        {
            return Turn::Cut;
        }
        loop {
            // What an ACK must tell and data cannot carry goes first.
            let due = self.ack.due();
            let frame = if due > 1 || (due == 1 && self.has_sack_news()) {
                self.emit_ack(env, path, self.acceptable_seq())
            } else if !self.send.board.is_clear()
                && let Some(frame) = self.poll_retransmission(env, path)
            {
                Some(frame)
            } else {
                if self.send.unsent() != NONE
                    && let ControlFlow::Break(turn) = self.send_new(env, path, take)
                {
                    return turn;
                }
                self.poll_what_remains(env, path)
            };
            let Some(frame) = frame else {
                if !self.send.board.is_clear() && self.give_up_frto(env) {
                    continue;
                }
                let waits = self.send.unsent() != NONE && self.is_deferred(env, path);
                return if waits { Turn::Deferred } else { Turn::Done };
            };
            if !take(frame) {
                return Turn::Cut;
            }
        }
    }

    /// Whether what there is to send waits for an ACK to make room for more.
    fn is_deferred<P: PacketPool>(&self, env: &Env<'_, P>, path: &Path) -> bool {
        let cuts = env.tunables.software_tso || path.offloads.tso;
        if !cuts || self.is_signed() || !self.may_send_new(env.chunks) {
            return false;
        }
        let segments = self.packet_segments(env.chunks, env.tunables);
        self.waits_for_more(env, segments, true)
    }

    /// What comes when there is no new data to send, or none may be sent.
    #[inline(always)] // Usually nothing, behind what was sent.
    fn poll_what_remains<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        let is_any = self.fin_queued || self.ack.due() > 0 || self.marks.has(Marks::PROBE_PENDING);
        if is_any {
            self.poll_rest(env, path)
        } else {
            None
        }
    }

    #[inline(never)]
    fn poll_rest<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<P::Buf> {
        if self.may_send_fin(env.chunks) {
            return self.emit_fin(env, path);
        }
        if self.marks.has(Marks::PROBE_PENDING) {
            self.marks.clear(Marks::PROBE_PENDING);
            return self.emit_probe(env, path);
        }
        if self.ack.due() > 0 {
            return self.emit_ack(env, path, self.acceptable_seq());
        }
        None
    }

    /// Sends new data while windows and `take` allow. Goes on when they do not, or all is sent.
    fn send_new<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        take: &mut impl FnMut(P::Buf) -> bool,
    ) -> ControlFlow<Turn> {
        // One question for what few connections do: pacing, probes of the path, packets to be cut.
        // They ask for the window before there is a run: it must be awake by then.
        let is_special = env.tunables.software_tso || !self.extra.is_none();
        if is_special && self.una == self.nxt && self.may_send_new(env.chunks) {
            self.wake_from_idle(env);
        }
        if !self.extra.is_none()
            && let ControlFlow::Break(turn) = self.send_probe(env, path, take)
        {
            return turn.map_or(ControlFlow::Continue(()), ControlFlow::Break);
        }
        let mut sent = Sent {
            is_special,
            ..Sent::default()
        };
        let outcome = match self.next_of_turn(env, path, &mut sent) {
            Some(first) => self.send_runs(env, path, first, &mut sent, take),
            None => ControlFlow::Continue(()),
        };
        if sent.frames > 0 {
            self.on_new_sent(env, &sent);
        }
        self.note_limit(env.chunks, sent.frames > 0);
        if sent.is_held {
            self.note_deferral(env.chunks);
        }
        outcome
    }

    /// Sends a run of new data, and what may follow it.
    #[inline]
    fn send_runs<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        first: Run,
        sent: &mut Sent,
        take: &mut impl FnMut(P::Buf) -> bool,
    ) -> ControlFlow<Turn> {
        let options = self.segment_options(env);
        let mut header = self.header(env, self.nxt, TcpFlags::ACK, options);
        let mut run = first;
        loop {
            let Some(frame) = self.emit_new(env, path, run, &mut header, sent) else {
                return ControlFlow::Break(Turn::Done);
            };
            if sent.is_special {
                let segments = if run.segment_bytes == 0 { 1 } else { run.count };
                self.pace(env, run.bytes, segments);
                self.stamp_sent(env, (run.first, run.count), true);
            }
            if !take(frame) {
                return ControlFlow::Break(Turn::Cut);
            }
            match self.next_of_turn(env, path, sent) {
                Some(next) => run = next,
                None => return ControlFlow::Continue(()),
            }
        }
    }

    /// What of the new data leaves next.
    #[inline(always)] // Twice: the first run, and each that follows it.
    fn next_of_turn<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        sent: &mut Sent,
    ) -> Option<Run> {
        if self.send.unsent() == NONE || sent.is_special && !self.may_leave(env, sent) {
            return None;
        }
        match self.next_full(env, path, sent) {
            None => self.next_run(env, path, !sent.is_special),
            full => full,
        }
    }

    /// Whether pacing, and the packet that is being cut, let another run leave.
    #[inline(never)] // Beside the common case, of which it would take the registers.
    fn may_leave<P: PacketPool>(&self, env: &Env<'_, P>, sent: &mut Sent) -> bool {
        if self.is_held_back(env.chunks) {
            return false;
        }
        if sent.frames > 0 {
            // The last that pacing lets go together, or that the windows do.
            let mss = u32::from(self.mss);
            let is_last = self.is_burst_ending(env.chunks, env.tunables);
            sent.push_below = if is_last {
                u32::MAX
            } else {
                mss.saturating_mul(2)
            };
        }
        if !env.tunables.software_tso || self.is_signed() {
            return true;
        }
        if sent.packet_segments == 0 {
            sent.packet_segments = self.packet_segments(env.chunks, env.tunables);
            if self.waits_for_more(env, sent.packet_segments, sent.frames > 0) {
                sent.is_held = true;
                return false;
            }
        }
        sent.packet_segments = sent.packet_segments.saturating_sub(1);
        true
    }

    /// What was deferred for want of room in the congestion window would have filled it.
    #[cold]
    fn note_deferral<B>(&mut self, chunks: &Chunks<B>) {
        let cwnd = self.congestion.cwnd;
        let room = cwnd.saturating_sub(self.in_flight(chunks));
        if room < self.usable_window() {
            let bytes = (cwnd, self.sent_bytes());
            self.congestion.validate(bytes, true, (self.una, self.nxt));
        }
    }

    /// Sends a probe of the path's MTU if it is time for one. Ends the turn when there is no room for
    /// another frame, or when the probe waits for room in the windows and nothing else may take it
    /// (behaviour: A3-37, SND-20).
    #[cold]
    fn send_probe<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        take: &mut impl FnMut(P::Buf) -> bool,
    ) -> ControlFlow<Option<Turn>> {
        let run = match self.next_probe(env, path) {
            Probing::Nothing => return ControlFlow::Continue(()),
            Probing::Wait => return ControlFlow::Break(None),
            Probing::Probe(run) => run,
        };
        let Some(frame) = self.emit_one(env, path, run) else {
            return ControlFlow::Break(Some(Turn::Done));
        };
        self.on_probe_sent(env, run.bytes);
        if take(frame) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Some(Turn::Cut))
        }
    }

    /// One frame of new data without anything else, for a probe of the peer's window or the path.
    pub(super) fn emit_one<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
    ) -> Option<P::Buf> {
        let options = self.segment_options(env);
        let mut header = self.header(env, self.nxt, TcpFlags::ACK, options);
        let mut sent = Sent::default();
        let frame = self.emit_new(env, path, run, &mut header, &mut sent)?;
        self.stamp_sent(env, (run.first, run.count), true);
        self.on_new_sent(env, &sent);
        self.note_limit(env.chunks, true);
        Some(frame)
    }

    #[inline(always)] // Otherwise run, header and frame go through memory for each segment.
    fn emit_new<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        header: &mut TcpRepr,
        sent: &mut Sent,
    ) -> Option<P::Buf> {
        let ends_queue = self.unsent_bytes() == run.bytes;
        let mut flags = TcpFlags::ACK;
        if sent.room < sent.push_below {
            // The last of several segments that leave together, but not when it is sent again: GRO
            // hands the burst on, and a receiver that has read everything acknowledges an odd
            // segment at once instead of 40 ms later (Linux: `__tcp_transmit_skb`, a packet of more
            // than one segment; behaviour: A4-7).
            flags |= TcpFlags::PSH;
        }
        if ends_queue {
            //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.1.2
            //# the PSH bit MUST be set in the last buffered segment (i.e., when there is no more
            //# queued data to be sent)
            flags |= TcpFlags::PSH; // MUST-61
        }
        let with_fin = ends_queue
            && self.fin_queued
            && self.usable_window() > run.bytes
            && self.state.may_transmit_data();
        if with_fin {
            flags |= TcpFlags::FIN;
        }
        if !self.ack.ecn.is_off() {
            flags |= self.ack.ecn.echo() | self.ack.ecn.take_cwr();
        }
        (header.seq, header.flags) = (self.nxt, flags);
        let alike = match &sent.stencil {
            Some(stencil) if run.count == 1 => {
                self.emit_alike(env, run.first, stencil, header.seq, flags)
            }
            _ => None,
        };
        let frame = match alike {
            Some(frame) => frame,
            None => self.emit_run(env, path, run, header)?,
        };
        if sent.frames == 0 && !ends_queue {
            let mss = u32::from(self.mss);
            sent.room = self.new_data_room(env.chunks);
            sent.push_below = mss.saturating_mul(2);
            if run.bytes == mss {
                let (tuple, len) = (&self.tuple, run.bytes as usize);
                sent.stencil = Stencil::of(&frame, len, path, tuple, header);
            }
        }
        let continued = run.segment_bytes == 0;
        for position in 0..run.count {
            self.send
                .mark_sent(env.chunks, env.now, continued && position > 0);
        }
        if ends_queue {
            let fin = if with_fin { WITH_FIN } else { 0 };
            self.send.note_last_sent(env.chunks, fin | PUSHED);
        }
        self.nxt = self.nxt.plus(run.bytes).plus(u32::from(with_fin));
        sent.room = sent.room.saturating_sub(run.bytes);
        sent.frames = sent.frames.saturating_add(1);
        sent.bytes = sent.bytes.saturating_add(run.bytes);
        let segments = if continued { 1 } else { run.count };
        sent.segments = sent.segments.saturating_add(segments);
        Some(frame)
    }

    fn on_new_sent<P: PacketPool>(&mut self, env: &mut Env<'_, P>, sent: &Sent) {
        count!(env.stats.tcp_out_segs, u64::from(sent.segments));
        count!(env.stats.tcp_orig_data_sent, u64::from(sent.segments));
        self.send.board.on_sent(env.chunks, sent.segments);
        self.ack.on_data_sent(env.now);
        self.sent_at = Stamp::of(env.now);
        self.marks.clear(Marks::PROBE_PENDING);
        self.schedule_probe(env, sent.bytes);
    }

    /// Bytes of new data that both windows take, if it is full segments.
    #[inline]
    fn new_data_room<B>(&self, chunks: &Chunks<B>) -> u32 {
        let flight = self.in_flight(chunks);
        let cwnd = self.congestion.cwnd.saturating_sub(flight);
        self.usable_window().min(cwnd)
    }

    /// The next chunk, if it is a full segment for which `next_run` would find room as it did for
    /// the first of this turn: nothing has changed but what was sent since.
    #[inline]
    fn next_full<P: PacketPool>(&self, env: &Env<'_, P>, path: &Path, sent: &Sent) -> Option<Run> {
        let mss = u32::from(self.mss);
        if sent.room < mss || path.offloads.tso {
            return None;
        }
        let first = self.send.unsent();
        let chunk = env.chunks.get(first)?;
        (chunk.len == self.mss).then_some(Run {
            first,
            count: 1,
            bytes: mss,
            segment_bytes: 0,
        })
    }

    /// Which unsent chunks leave next; splits the last one where the limits cut it. Wakes the window
    /// first if it `wakes` and nothing is in flight.
    #[inline(never)] // Two callers, of which it would take the registers.
    fn next_run<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        wakes: bool,
    ) -> Option<Run> {
        if !self.may_send_unsent(env.chunks) {
            return None;
        }
        if wakes && self.una == self.nxt {
            self.wake_from_idle(env);
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
        self.widen_run(env, path, &mut run, window)?;
        Some(run)
    }

    /// Segments of one packet, where packets are cut: a 1,024th of a second at the pacing rate, more
    /// when the peer is near, and half of the window at most (Linux: `tcp_tso_autosize`,
    /// `tcp_cwnd_test`).
    #[inline(never)] // Few ask, and its divisions would take the registers of all.
    pub(super) fn packet_segments<B>(&self, chunks: &Chunks<B>, tunables: &TcpTunables) -> u32 {
        let paced = self.pacing_rate(chunks, tunables) >> BURST_SHIFT;
        let halvings = self.rtt.min().map_or(u32::MAX, Micros::as_micros);
        let halvings = halvings.checked_shr(tunables.tcp_tso_rtt_log.into());
        let near = PACKET_BYTES_MAX.checked_shr(halvings.unwrap_or(0));
        let bytes = paced
            .saturating_add(near.unwrap_or(0))
            .min(PACKET_BYTES_MAX);
        let mss = u64::from(self.mss.max(1));
        let segments = bytes.checked_div(mss).unwrap_or(1) as u32;
        let least = self.congestion.min_tso_segs(&chunks.congestion);
        let least = least.unwrap_or(tunables.tcp_min_tso_segs.into());
        let window = self.congestion.cwnd.checked_div(self.mss.into());
        let half = window.unwrap_or(1) / 2;
        segments.max(least).min(half.max(1))
    }

    /// Whether a packet of `segments` segments should wait for the next ACK, because it could then be
    /// larger. `follows` when another has left in this turn (Linux: `tcp_tso_should_defer`; behaviour:
    /// A3-43, SND-24).
    pub(super) fn waits_for_more<P: PacketPool>(
        &self,
        env: &Env<'_, P>,
        segments: u32,
        follows: bool,
    ) -> bool {
        let mss = u32::from(self.mss);
        let unsent = self.unsent_bytes();
        let flight = self.in_flight(env.chunks);
        let room = self
            .usable_window()
            .min(self.congestion.cwnd.saturating_sub(flight));
        let most = segments.saturating_mul(mss).min(unsent);
        // One segment is Nagle's business, and a whole packet gains nothing.
        if unsent <= mss || room < mss || room >= most || self.fin_queued {
            return false;
        }
        // Longer than a moment after the last data, waiting would make a burst.
        let is_recent = follows || env.now.since(self.sent_at.instant()) <= DEFERRABLE;
        if self.recovery.phase != Phase::Open || !is_recent {
            return false;
        }
        let window = self.snd_wnd.min(self.congestion.cwnd);
        let enough = match u32::from(env.tunables.tcp_tso_win_divisor) {
            0 => mss.saturating_mul(DEFERRED_SEGMENTS_MAX),
            divisor => window.checked_div(divisor).unwrap_or(window),
        };
        if room >= enough {
            return false;
        }
        // The ACK that makes room must be near: what it acknowledges has been on its way for half a
        // round trip.
        let head = self.send.queue().head();
        let Some(oldest) = env.chunks.get(head).filter(|_| head != self.send.unsent()) else {
            return false;
        };
        let srtt = self.rtt.srtt().map_or(Nanos::ZERO, Micros::to_nanos);
        let age = env.now.since(oldest.sent_at).as_nanos();
        age >= srtt.as_nanos() / 2
    }
}
