//! One turn of a connection at sending: which frame comes next, until nothing may be sent any more
//! or there is no room for another.
//!
//! What all new segments of a turn have in common (acknowledgment, window, timestamps) is put
//! together once: nothing can arrive between them. What a frame looks like is `emit.rs`'s business;
//! whether something may be sent, and frames without new data, that of `output.rs`.

use core::ops::ControlFlow;

use millrace_base::{PacketPool, Stamp};
use millrace_wire::{TcpFlags, TcpRepr};

use super::chunk::{Chunks, NONE, PUSHED, WITH_FIN};
use super::connection::Connection;
use super::emit::Run;
use super::marks::Marks;
use super::segment::Env;
use super::state::State;
use crate::path::{Path, Stencil};
use crate::stats::count;

/// Chunks one frame may carry, whatever the device takes: 65,535 bytes in segments of 1,448.
const FRAME_CHUNKS_MAX: u32 = 46;

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// There is nothing to send, nothing may be sent, or no buffer is free.
    Done,
    /// There is no room for another frame; more may be waiting.
    Cut,
}

/// New data that left in one turn.
#[derive(Debug, Default)]
struct Sent {
    frames: u32,
    segments: u32,
    bytes: u32,
    /// Bytes that the windows still take, if they have been looked at.
    room: u32,
    /// The headers of the first full segment, for those behind it.
    stencil: Option<Stencil>,
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
        let turn = self.take_turn(env, path, take);
        if turn == Turn::Done {
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
            } else if let Some(frame) = self.poll_retransmission(env, path) {
                Some(frame)
            } else {
                if self.send.unsent() != NONE
                    && let ControlFlow::Break(turn) = self.send_new(env, path, take)
                {
                    return turn;
                }
                self.poll_rest(env, path)
            };
            let Some(frame) = frame else {
                if !self.send.board.is_clear() && self.give_up_frto(env) {
                    continue;
                }
                return Turn::Done;
            };
            if !take(frame) {
                return Turn::Cut;
            }
        }
    }

    /// What comes when there is no new data to send, or none may be sent.
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
        self.wake_from_idle(env);
        let mut sent = Sent::default();
        let mut header = None;
        let outcome = loop {
            if self.is_held_back(env.chunks) {
                break ControlFlow::Continue(());
            }
            let run = self.next_full(env, path, &sent);
            let Some(run) = run.or_else(|| self.next_run(env, path)) else {
                break ControlFlow::Continue(());
            };
            let header = header.get_or_insert_with(|| {
                let options = self.segment_options(env.now);
                self.header(env, self.nxt, TcpFlags::ACK, options)
            });
            let Some(frame) = self.emit_new(env, path, run, header, &mut sent) else {
                break ControlFlow::Break(Turn::Done);
            };
            let segments = if run.segment_bytes == 0 { 1 } else { run.count };
            self.pace(env, run.bytes, segments);
            if !take(frame) {
                break ControlFlow::Break(Turn::Cut);
            }
        };
        if sent.frames > 0 {
            self.on_new_sent(env, &sent);
        }
        self.note_limit(env.chunks, sent.frames > 0);
        outcome
    }

    /// One frame of new data without anything else, for a probe of the peer's window.
    pub(super) fn emit_one<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
    ) -> Option<P::Buf> {
        let options = self.segment_options(env.now);
        let mut header = self.header(env, self.nxt, TcpFlags::ACK, options);
        let mut sent = Sent::default();
        let frame = self.emit_new(env, path, run, &mut header, &mut sent)?;
        self.on_new_sent(env, &sent);
        self.note_limit(env.chunks, true);
        Some(frame)
    }

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
        let frame = sent
            .stencil
            .as_ref()
            .filter(|_| run.count == 1)
            .and_then(|stencil| self.emit_alike(env, run.first, stencil, header.seq, flags));
        let frame = match frame {
            Some(frame) => frame,
            None => self.emit_run(env, path, run, header)?,
        };
        if sent.frames == 0 && !ends_queue && run.bytes == u32::from(self.mss) {
            sent.room = self.new_data_room(env.chunks);
            let (tuple, len) = (&self.tuple, run.bytes as usize);
            sent.stencil = Stencil::of(&frame, len, path, tuple, header);
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
        self.ack.on_data_sent(env.now, env.tunables);
        self.sent_at = Stamp::of(env.now);
        self.marks.clear(Marks::PROBE_PENDING);
        self.schedule_probe(env);
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

    /// Which unsent chunks leave next; splits the last one where the limits cut it.
    fn next_run<P: PacketPool>(&mut self, env: &mut Env<'_, P>, path: &Path) -> Option<Run> {
        if !self.may_send_new(env.chunks) {
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
            .saturating_sub(self.in_flight(env.chunks))
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
}
