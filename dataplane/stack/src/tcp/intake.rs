//! Received bytes find their place: the queue of the reader, or the list of what came before its turn;
//! and whether there is memory for them.
//!
//! There are two queues, where Linux has three: its backlog holds what comes while a thread has the
//! socket locked, and nothing is locked here. What a connection may hold is bounded by its memory
//! (Linux: `sk_rcvbuf`, `tcp_try_rmem_schedule`); what all of them hold by the pool
//! (`Chunks::is_pressed`). A balancer's payload is never copied. One that a program will read, and so
//! copy anyway, is when it is tiny and memory is short: into the buffer in front of it, where it pins
//! a few bytes instead of a buffer (Linux: `tcp_try_coalesce`, `skb_condense`).

use millrace_base::{PacketBuf, PacketPool, SeqNumber};

use super::chunk::Chunks;
use super::connection::Connection;
use super::ready::Ready;
use super::reassembly::{Inserted, Piece, SeqRange};
use super::recv_buffer::memory_of;
use super::right_size::FullSegment;
use super::segment::Env;
use crate::stats::count;
use crate::verdict::DropReason;

impl Connection {
    /// Makes a chunk of every buffer of the segment and puts it where it belongs.
    pub(super) fn queue_text<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        payload: P::Buf,
        first: SeqNumber,
        wanted: SeqRange,
    ) {
        let mut seq = first;
        let mut rest = Some(payload);
        while let Some(mut buf) = rest.take() {
            let (offset, len) = (buf.offset(), buf.bytes().len());
            let next = buf.detach_next();
            let end = seq.plus(len as u32);
            let start = seq.latest(wanted.start);
            let stop = end.earliest(wanted.end);
            if start.before(stop) {
                let skip = start.bytes_since(seq) as usize;
                let piece = Piece {
                    buf,
                    seq: start,
                    offset: offset.saturating_add(skip).min(usize::from(u16::MAX)) as u16,
                    len: stop.bytes_since(start) as u16,
                };
                if !self.queue_piece(env, piece) {
                    break;
                }
            }
            seq = end;
            rest = next;
        }
    }

    #[inline]
    fn queue_piece<P: PacketPool>(&mut self, env: &mut Env<'_, P>, piece: Piece<P::Buf>) -> bool {
        let in_turn = piece.seq == self.window.nxt;
        let pressed = self.look_at_memory(env.chunks);
        if in_turn && !self.reassembly.is_empty() {
            // What comes in turn is acknowledged.
            self.end_compression(env);
        }
        let piece = match self.merge_if_short(env, piece) {
            Ok(()) => return true,
            Err(piece) => piece,
        };
        if !self.has_memory_for(env, &piece) {
            self.refuse_piece(env, in_turn);
            return false;
        }
        if in_turn && self.reassembly.is_empty() {
            let end = piece.seq.plus(piece.len.into());
            let Ok(index) = env
                .chunks
                .take(piece.buf, piece.seq, piece.offset, piece.len)
            else {
                count!(env.stats.tcp_rcvq_drop);
                env.stats.drop(DropReason::ReceiveBufferFull);
                return false;
            };
            self.receive.push(env.chunks, index);
            self.window.nxt = end;
            return true;
        }
        if in_turn && env.chunks.available() < 2 && self.reassembly.prune(env.chunks) {
            // What comes in turn frees memory; what waits for it does not.
            count!(env.stats.ofo_pruned);
        }
        if !in_turn {
            if pressed && self.reassembly.is_crowded(env.chunks) {
                count!(env.stats.tcp_ofo_drop);
                env.stats.drop(DropReason::ReassemblyFull);
                return false;
            }
            count!(env.stats.tcp_ofo_queue);
        }
        let is_taken = self.reassemble(env, piece);
        if is_taken && !in_turn && !pressed {
            let (early, memory_max) = (
                self.early_span(env.chunks),
                env.tunables.receive_memory_max(),
            );
            self.window.provide_for_early(early, memory_max);
        }
        is_taken
    }

    /// How far what came before its turn reaches beyond what is missing, in bytes.
    pub(super) fn early_span<B>(&self, chunks: &Chunks<B>) -> u32 {
        if self.reassembly.is_empty() {
            return 0;
        }
        let end = self.reassembly.highest(chunks);
        end.map_or(0, |end| end.bytes_since(self.window.nxt))
    }

    /// Puts a piece into the list of what waits for its turn, and takes out what has waited for it.
    fn reassemble<P: PacketPool>(&mut self, env: &mut Env<'_, P>, piece: Piece<P::Buf>) -> bool {
        let inserted: Inserted = self.reassembly.insert(env.chunks, piece);
        if !inserted.duplicate.is_empty() && self.tells_duplicates(env.tunables) {
            count!(env.stats.tcp_dsack_ofo_sent);
            self.reassembly
                .note_duplicate(env.chunks, inserted.duplicate);
        }
        if inserted.crowds {
            self.hasten_compressed(env.chunks);
        }
        if inserted.refused {
            count!(env.stats.tcp_ofo_drop);
            env.stats.drop(DropReason::ReassemblyFull);
        }
        while let Some(index) = self.reassembly.take_at(env.chunks, self.window.nxt) {
            if let Some(chunk) = env.chunks.get(index) {
                self.window.nxt = chunk.end();
            }
            self.receive.push(env.chunks, index);
        }
        !inserted.refused
    }

    /// While memory is short, puts a tiny payload for a program into the buffer in front of it and sets
    /// its own free at once; gives it back where that does not go.
    #[inline]
    fn merge_if_short<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        piece: Piece<P::Buf>,
    ) -> Result<(), Piece<P::Buf>> {
        if piece.len > MERGED_BYTES_MAX || !self.window.is_pressed() || !self.options.keep_unread {
            return Err(piece);
        }
        let (seq, len) = (piece.seq, piece.len);
        if seq == self.window.nxt && self.reassembly.is_empty() {
            self.receive.merge(env.chunks, piece)?;
            self.window.nxt = seq.plus(len.into());
        } else {
            self.reassembly.merge(env.chunks, piece)?;
            count!(env.stats.tcp_ofo_queue);
        }
        count!(env.stats.tcp_rcv_coalesce);
        count!(env.stats.payload_copied_bytes, u64::from(len));
        Ok(())
    }

    /// Whether a piece may be held: by its own number of buffers, and by the memory of the connection,
    /// which is enlarged or emptied of what comes later if need be.
    #[inline]
    fn has_memory_for<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        piece: &Piece<P::Buf>,
    ) -> bool {
        if piece.seq == self.window.nxt && !self.receive.has_room(env.chunks) {
            return false;
        }
        self.receive_memory(env.chunks) <= self.window.memory() || self.make_room(env, piece)
    }

    /// Linux: `tcp_prune_queue`. A reader that has nothing to read gets what comes in turn, whatever
    /// its size: nothing would ever make room for it.
    #[cold]
    fn make_room<P: PacketPool>(&mut self, env: &mut Env<'_, P>, piece: &Piece<P::Buf>) -> bool {
        count!(env.stats.prune_called);
        let used = self.receive_memory(env.chunks);
        let announced = self.announced_payload(env.tunables);
        self.window.make_room(used, announced, env.tunables);
        self.ack.leave_quick_mode();
        let mut pruned = false;
        // Each round frees a chunk.
        while self.receive_memory(env.chunks) > self.window.memory()
            && self.reassembly.ends_after(env.chunks, piece.seq)
            && self.reassembly.prune(env.chunks)
        {
            pruned = true;
        }
        if pruned {
            count!(env.stats.ofo_pruned);
        }
        if self.receive_memory(env.chunks) <= self.window.memory() {
            return true;
        }
        count!(env.stats.rcv_pruned);
        piece.seq == self.window.nxt && self.receive.is_empty()
    }

    /// There is no memory for a piece: the reader is woken, who alone can make some, and the peer told
    /// that nothing fits. behaviour: RCV-38
    #[cold]
    fn refuse_piece<P: PacketPool>(&mut self, env: &mut Env<'_, P>, in_turn: bool) {
        self.ready |= Ready::READABLE;
        if !in_turn {
            count!(env.stats.tcp_ofo_drop);
            env.stats.drop(DropReason::ReassemblyFull);
            return;
        }
        count!(env.stats.tcp_rcvq_drop);
        env.stats.drop(DropReason::ReceiveBufferFull);
        self.window.refuse();
        self.ack.send_now();
    }

    /// What data that wait for the application, or for their turn, take of the connection's memory
    /// (Linux: `sk_rmem_alloc`).
    #[inline]
    pub(super) fn receive_memory<B>(&self, chunks: &Chunks<B>) -> u32 {
        let (mut bytes, mut count) = (self.receive.bytes(), self.receive.count());
        if !self.reassembly.is_empty() {
            let (early_bytes, early_count) = self.reassembly.held(chunks);
            bytes = bytes.saturating_add(early_bytes);
            count = count.saturating_add(early_count);
        }
        memory_of(bytes, count)
    }

    /// The memory that counts against what is promised next: all that is held.
    #[inline]
    pub(super) fn memory_held_back<B>(&mut self, chunks: &Chunks<B>) -> u32 {
        if self.window.is_narrow() {
            return self.unread_memory(chunks);
        }
        self.receive_memory(chunks)
    }

    /// While memory is short, or the window closed with nothing left to read: what the application has
    /// not read. What waits behind a hole is not the reader's fault then, and only a promise lets the
    /// missing segment in, for which the rest gives way.
    #[cold]
    fn unread_memory<B>(&mut self, chunks: &Chunks<B>) -> u32 {
        if self.look_at_memory(chunks) || self.receive.is_empty() {
            return memory_of(self.receive.bytes(), self.receive.count());
        }
        self.receive_memory(chunks)
    }

    /// A segment with `len` bytes of data came while the window can open; tells whether it did.
    #[cold]
    pub(super) fn open_window<P: PacketPool>(&mut self, env: &mut Env<'_, P>, len: u32) -> bool {
        let full = FullSegment {
            announced: self.announced_payload(env.tunables),
            seen: self.ack.receive_mss().into(),
        };
        let used = self.receive_memory(env.chunks);
        let has_grown = self.window.grow(len, used, full, env.tunables);
        if has_grown {
            self.ack.stay_quick();
        }
        has_grown
    }
}

/// The longest payload that is copied while memory is short: two cache lines, for a buffer of 2 KiB.
const MERGED_BYTES_MAX: u16 = 128;
