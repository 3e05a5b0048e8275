//! What is sent again: whether it may leave, and which chunks go in one segment.
//!
//! A segment that was made of several chunks leaves again as one, as long as all of it is missing and
//! fits the present segment size (Linux keeps it in one `sk_buff`). What is lost is `recovery`'s
//! business; in which order frames leave, `turn.rs`'s; how one is made, `emit.rs`'s.

use millrace_base::{PacketBuf, PacketPool, Stamp};
use millrace_wire::TcpFlags;

use super::chunk::{
    CONTINUED, Chunk, Chunks, EVER_RETRANSMITTED, LOST, PUSHED, RETRANSMITTED, SACKED, WITH_FIN,
};
use super::connection::Connection;
use super::emit::Run;
use super::marks::Marks;
use super::recovery::Phase;
use super::recovery::ledger::Permission;
use super::run::FRAME_CHUNKS_MAX;
use super::segment::Env;
use super::timers::Purpose;
use crate::path::Path;
use crate::stats::count;

/// What a chunk's state is judged by: chunks of one segment that differ here leave apart.
const STATE: u8 = SACKED | LOST | RETRANSMITTED;

impl Connection {
    /// Whether what is lost may leave: the last ACK said so, and the window has room.
    #[inline]
    pub(super) fn may_retransmit<B>(&self, chunks: &Chunks<B>) -> bool {
        // Before the handshake is over nothing but the SYN-ACK is sent again.
        !self.is_held_back(chunks)
            && self.send.board.permission(chunks) == Permission::Lost
            && self.fits_cwnd(chunks, self.mss.into())
            && !self.marks.has(Marks::UNPROVEN)
            && (self.sent_bytes() <= self.snd_wnd || self.has_lost_in_window(chunks))
    }

    /// The peer took its window back below what is in flight: is anything lost before the edge, or the
    /// oldest, which then is a probe? (Linux: `tcp_retransmit_skb`.) O(chunks), while the window is
    /// that small.
    // behaviour: TMR-19
    #[cold]
    fn has_lost_in_window<B>(&self, chunks: &Chunks<B>) -> bool {
        let edge = self.una.plus(self.snd_wnd);
        let mut index = self.send.queue().head();
        while let Some(chunk) = chunks.get(index).filter(|_| index != self.send.unsent()) {
            if chunk.flags & (SACKED | LOST | RETRANSMITTED) == LOST {
                return chunk.seq.before(edge) || chunk.seq == self.una;
            }
            index = chunk.next();
        }
        false
    }

    /// Cuts a chunk that is to be sent again where the peer's window ends, unless it begins there.
    fn fit_into_window<B: PacketBuf>(&mut self, chunks: &mut Chunks<B>, index: u32) -> bool {
        let edge = self.una.plus(self.snd_wnd);
        match chunks.get(index) {
            Some(chunk) if chunk.seq.before(edge) => {
                let room = edge.bytes_since(chunk.seq);
                self.limit_sent(chunks, index, room)
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Makes a chunk that was sent no longer than `len` bytes; `false` when no chunk is free. The rest
    /// left when it did.
    fn limit_sent<B: PacketBuf>(&mut self, chunks: &mut Chunks<B>, index: u32, len: u32) -> bool {
        let is_longer = chunks.get(index).is_some_and(|it| u32::from(it.len) > len);
        if !self.send.limit(chunks, index, len) {
            return false;
        }
        if is_longer && let Some(rest) = chunks.get(index).map(Chunk::next) {
            chunks.rates.copy(index, rest);
        }
        true
    }

    /// What is lost and may leave, oldest first; `None` when there is nothing, or no buffer.
    pub(super) fn poll_retransmission<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
    ) -> Option<P::Buf> {
        if !self.send.board.has_pending(env.chunks)
            || !self.may_retransmit(env.chunks)
            || !self.state.may_transmit_data()
        {
            return None;
        }
        let (queue, unsent, board) = self.send.parts();
        let index = board.next_to_retransmit(env.chunks, (queue, unsent))?;
        let is_head = index == queue.head();
        let is_cut = self.sent_bytes() > self.snd_wnd;
        if is_cut && !self.fit_into_window(env.chunks, index) {
            return None;
        }
        // Behind the edge of the peer's window nothing follows.
        let run = self.segment_of(env, path, index, is_cut)?;
        let frame = self.emit_again(env, path, run, TcpFlags::NONE)?;
        self.pace(env, run.bytes, 1);
        self.note_retransmitted(env, run);
        self.stamp_sent(env, (run.first, run.count), false);
        if is_head && !self.timers.runs(Purpose::Reorder) {
            self.timers.retransmit = Stamp::NEVER;
            let rto = self.within_user_timeout(env.now, self.rtt.rto(env.tunables));
            self.timers.arm(Purpose::Retransmit, env.now, rto);
        }
        if self.recovery.phase == Phase::Loss {
            // Not the one that a timeout is answered with (Linux: `tcp_retransmit_timer`).
            let is_again = !is_head || self.recovery.timeouts == 0;
            count!(env.stats.tcp_slow_start_retrans, u64::from(is_again));
        } else {
            count!(env.stats.tcp_fast_retrans);
        }
        Some(frame)
    }

    /// The segment that ends with the last chunk sent, as far as it may leave again as one; for a
    /// probe of the tail.
    pub(super) fn last_segment<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        last: u32,
    ) -> Option<Run> {
        let mss = u32::from(self.mss);
        let chunk = env.chunks.get(last)?;
        let (mut first, mut bytes, state) = (last, u32::from(chunk.len), chunk.flags & STATE);
        while let Some(chunk) = env.chunks.get(first).filter(|it| it.has(CONTINUED)) {
            let before = chunk.prev();
            let Some(before_it) = env.chunks.get(before) else {
                break;
            };
            bytes = bytes.saturating_add(before_it.len.into());
            if bytes > mss || before_it.flags & STATE != state {
                break;
            }
            first = before;
        }
        let run = self.segment_of(env, path, first, false)?;
        // A device that takes no chains would get the first piece only, and the end is what matters.
        let ends = env.chunks.get(last).map(|chunk| chunk.end());
        let run_ends = env.chunks.get(first).map(|it| it.seq.plus(run.bytes));
        if ends == run_ends {
            return Some(run);
        }
        self.segment_of(env, path, last, true)
    }

    /// Marks what a probe of the tail sent again: not as a retransmission in flight, which it would
    /// count as (Linux: `__tcp_retransmit_skb`).
    pub(super) fn note_probed<P: PacketPool>(&self, env: &mut Env<'_, P>, run: Run) {
        let mut index = run.first;
        for _ in 0..run.count {
            let Some(chunk) = env.chunks.get_mut(index) else {
                break;
            };
            chunk.flags |= EVER_RETRANSMITTED;
            chunk.sent_at = env.now;
            chunk.retransmissions = chunk.retransmissions.saturating_add(1);
            index = chunk.next();
        }
    }

    fn note_retransmitted<P: PacketPool>(&mut self, env: &mut Env<'_, P>, run: Run) {
        let now_ms = env.now.as_millis() as u32;
        let mut index = run.first;
        for position in 0..run.count {
            let next = env.chunks.get(index).map(|chunk| chunk.next());
            let times = (env.now, now_ms);
            let board = &mut self.send.board;
            board.on_retransmitted(env.chunks, (index, position > 0), times);
            let Some(next) = next else { break };
            index = next;
        }
        self.send.board.on_sent(env.chunks, 1);
    }

    /// The chunks that leave again in one segment with `first`, which is made short enough: those that
    /// left with it before and are missing as it is. Only `first` if it `is_alone`.
    // behaviour: TMR-20
    fn segment_of<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        first: u32,
        is_alone: bool,
    ) -> Option<Run> {
        let mss = u32::from(self.mss);
        if !self.limit_sent(env.chunks, first, mss) {
            return None;
        }
        let chunk = env.chunks.get(first)?;
        let mut run = Run {
            first,
            count: 1,
            bytes: chunk.len.into(),
            segment_bytes: 0,
        };
        if is_alone || !path.offloads.chains() {
            return Some(run);
        }
        let state = chunk.flags & STATE;
        let chunks_max =
            FRAME_CHUNKS_MAX.min(u32::from(path.offloads.segments_max).saturating_sub(1));
        let mut index = chunk.next();
        while run.count < chunks_max
            && index != self.send.unsent()
            && path.offloads.may_follow(run.bytes)
        {
            let Some(next) = env.chunks.get(index).filter(|it| it.has(CONTINUED)) else {
                break;
            };
            let bytes = run.bytes.saturating_add(next.len.into());
            if bytes > mss || next.flags & STATE != state {
                break;
            }
            (run.bytes, run.count) = (bytes, run.count.saturating_add(1));
            index = next.next();
        }
        Some(run)
    }

    /// Sent chunks once more, with the flags they left with and `more`.
    pub(super) fn emit_again<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        path: &Path,
        run: Run,
        more: TcpFlags,
    ) -> Option<P::Buf> {
        let seq = env.chunks.get(run.first)?.seq;
        let mut sent_as = 0;
        let mut index = run.first;
        for _ in 0..run.count {
            let chunk = env.chunks.get(index)?;
            sent_as |= chunk.flags;
            index = chunk.next();
        }
        let mut flags = TcpFlags::ACK | more;
        if sent_as & (PUSHED | WITH_FIN) != 0 {
            flags |= TcpFlags::PSH;
        }
        if sent_as & WITH_FIN != 0 {
            flags |= TcpFlags::FIN;
        }
        let options = self.segment_options(env);
        let header = self.header(env, seq, flags, options);
        let Some(frame) = self.emit_run(env, path, run, &header) else {
            count!(env.stats.tcp_retrans_fail);
            return None;
        };
        self.end_path_probe(env.chunks);
        self.retransmissions = self.retransmissions.saturating_add(1);
        count!(env.stats.tcp_retrans_segs);
        Some(frame)
    }
}
