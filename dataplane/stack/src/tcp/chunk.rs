//! The queue element: one received or outgoing segment's payload, by reference.
//!
//! A chunk is to this stack what an skb is to Linux. It names a span of one packet buffer and
//! carries what the send side must remember about it, so that the retransmission queue, the SACK
//! scoreboard and the reassembly queue are all lists of chunks. All chunks of a stack live in one
//! fixed slab; a queue is head, tail and totals inside a TCB, which keeps the TCB relocatable.
//!
//! The span of the buffer handle itself means nothing here: writing headers in place moves it.
//! `offset` and `len` are the truth. Several chunks may share one buffer; that happens when a chunk
//! is split.

use alloc::vec::Vec;

use millrace_base::{Instant, PacketBuf, SeqNumber};

use super::congestion::Shelves;
use super::extra::Extra;
use super::fastopen::Memory;
use super::metrics::Metrics;
use super::rate::Rates;
use super::reassembly::Reorder;
use super::recovery::ledger::Ledger;
use super::shelf::Shelf;
use crate::limits::{CONNECTION_KEYS_MAX, EXTRAS_MAX};
use crate::signature::SigningKey;

/// "No chunk": the index behind the last one.
pub(crate) const NONE: u32 = u32::MAX;

/// The peer reported this chunk received by SACK.
pub(crate) const SACKED: u8 = 1;
/// The sender believes that this chunk left the network without arriving.
pub(crate) const LOST: u8 = 2;
/// A retransmission of this chunk is believed to be in flight.
pub(crate) const RETRANSMITTED: u8 = 4;
/// This chunk was retransmitted at least once: no RTT sample from it (Karn).
pub(crate) const EVER_RETRANSMITTED: u8 = 8;
/// This chunk left in the same segment as the chunk before it.
pub(crate) const CONTINUED: u8 = 16;

/// Our FIN left with this chunk.
pub(crate) const WITH_FIN: u8 = 32;
/// It left with PSH.
pub(crate) const PUSHED: u8 = 64;
/// An ACK took the bytes before it and not it, although they left in one segment.
pub(crate) const CUT: u8 = 128;

/// Into how many shares the last free chunks are divided. A default pool has 15,000 in its last
/// quarter: shares of 117, three receive bursts.
const LAST_SHARES: usize = 128;

/// Payload bytes of one segment, or a part of them.
#[derive(Debug)]
pub(crate) struct Chunk<B> {
    /// When it was sent last; meaningless while unsent.
    pub(crate) sent_at: Instant,
    /// The sequence number of its first byte.
    pub(crate) seq: SeqNumber,
    /// Where its bytes start, counted from the start of the buffer's memory.
    pub(crate) offset: u16,
    /// How many bytes it has; never 0 in a queue.
    pub(crate) len: u16,
    /// `SACKED`, `LOST` and friends.
    pub(crate) flags: u8,
    /// Times it was retransmitted, saturating.
    pub(crate) retransmissions: u8,
    next: u32,
    prev: u32,
    buf: Option<B>,
}

/// A list of chunks: ends and totals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkQueue {
    head: u32,
    tail: u32,
    bytes: u32,
    count: u32,
}

/// Every chunk of one stack. Full is a value.
#[derive(Debug)]
pub(crate) struct Chunks<B> {
    slots: Vec<Chunk<B>>,
    free: u32,
    used: usize,
    /// Slots without those that only splits may use.
    capacity: usize,
    /// What connections know of data that came before its turn, while there is some. As many as
    /// buffers: who holds none has nothing to remember.
    pub(crate) reorders: Shelf<Reorder>,
    /// What is known of sent data, while some of it is SACKed or lost. As many as buffers, too.
    pub(crate) ledgers: Shelf<Ledger>,
    /// What algorithms of congestion control remember beside a TCB.
    pub(crate) congestion: Shelves,
    /// What chunks in flight took along, where the rate of their delivery is asked for.
    pub(crate) rates: Rates,
    /// What a few connections have beside their TCB.
    pub(crate) extras: Shelf<Extra>,
    /// Keys of connections whose segments are signed.
    pub(crate) keys: Shelf<SigningKey>,
    /// What is remembered of Fast Open.
    pub(crate) fastopen: Memory,
    /// What ended connections have left behind.
    pub(crate) metrics: Metrics,
}

impl<B> Chunk<B> {
    /// The sequence number behind its last byte.
    #[inline]
    pub(crate) fn end(&self) -> SeqNumber {
        self.seq.plus(u32::from(self.len))
    }

    /// Its buffer.
    #[inline]
    pub(crate) fn buf(&self) -> Option<&B> {
        self.buf.as_ref()
    }

    /// Its buffer, to write headers in front of the span.
    #[inline]
    pub(crate) fn buf_mut(&mut self) -> Option<&mut B> {
        self.buf.as_mut()
    }

    /// The chunk behind it, or `NONE`.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// The chunk before it, or `NONE`.
    #[inline]
    pub(crate) fn prev(&self) -> u32 {
        self.prev
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Gives up `count` bytes at the front; the caller corrects the queue's totals.
    fn cut_front(&mut self, count: u16) {
        self.seq = self.seq.plus(u32::from(count));
        self.offset = self.offset.saturating_add(count);
        self.len = self.len.saturating_sub(count);
    }
}

impl ChunkQueue {
    /// An empty queue.
    pub(crate) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        bytes: 0,
        count: 0,
    };

    /// The first chunk, or `NONE`.
    #[inline]
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// The last chunk, or `NONE`.
    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Payload bytes in the queue.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Chunks in the queue.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no chunk.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

impl<B> Chunks<B> {
    /// A slab of `capacity` chunks, all free.
    #[cfg(test)]
    pub(crate) fn new(capacity: usize) -> Self {
        Self::with_reserve(capacity, 0)
    }

    /// A slab that takes `buffers` of them, and has `reserve` chunks more that only splits may use:
    /// what is queued can be cut to the peer's size and leave even when nothing more may come in.
    pub(crate) fn with_reserve(buffers: usize, reserve: usize) -> Self {
        let count = buffers.saturating_add(reserve).min(NONE as usize);
        let slots = (0..count)
            .map(|index| {
                let next = index.saturating_add(1);
                let next = if next < count { next as u32 } else { NONE };
                Chunk {
                    next,
                    ..Chunk::VACANT
                }
            })
            .collect();
        Self {
            slots,
            free: if count == 0 { NONE } else { 0 },
            used: 0,
            capacity: count.saturating_sub(reserve),
            reorders: Shelf::new(buffers),
            ledgers: Shelf::new(buffers),
            congestion: Shelves::new(buffers),
            rates: Rates::new(count),
            extras: Shelf::new(buffers.min(EXTRAS_MAX)),
            keys: Shelf::new(buffers.min(CONNECTION_KEYS_MAX)),
            fastopen: Memory::new(),
            metrics: Metrics::new(0, [0; 16]),
        }
    }

    /// Chunks in use: 0 when nothing leaks.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// States on the shelves: 0 when nothing leaks.
    pub(crate) fn disordered(&self) -> usize {
        let waiting = self.reorders.used().saturating_add(self.ledgers.used());
        waiting
            .saturating_add(self.congestion.used())
            .saturating_add(self.extras.used())
            .saturating_add(self.keys.used())
    }

    /// Chunks that can still be taken.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.capacity.saturating_sub(self.used)
    }

    /// Whether more than half of what can be taken is (Linux: `tcp_under_memory_pressure`).
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.available() < self.used
    }

    /// Chunks that can be taken one after the other without `is_pressed` before the last of them.
    #[inline]
    pub(crate) fn room_before_pressed(&self) -> u32 {
        let available = self.available();
        if available == 0 || available < self.used {
            return 0;
        }
        (available.saturating_sub(self.used) / 2).saturating_add(1) as u32
    }

    /// Whether less than one of `share` of what can be taken is left.
    pub(crate) fn is_nearly_full(&self, share: usize) -> bool {
        self.available() < self.capacity.checked_div(share).unwrap_or(0)
    }

    /// What one more queue may have of the last quarter, in chunks; `None` while more than that is
    /// free.
    ///
    /// A share of what is left (Choudhury and Hahne's dynamic threshold) is never the whole of it:
    /// queues that nobody reads stop growing before those of others starve.
    #[inline]
    pub(crate) fn last_share(&self) -> Option<u32> {
        let available = self.available();
        if available >= self.used / 3 {
            return None;
        }
        let share = available.checked_div(LAST_SHARES).unwrap_or(0);
        Some((share as u32).max(1))
    }

    /// Takes a chunk that is in no queue; gives the buffer back when none is free.
    #[inline]
    pub(crate) fn take(&mut self, buf: B, seq: SeqNumber, offset: u16, len: u16) -> Result<u32, B> {
        if self.available() == 0 {
            return Err(buf);
        }
        self.take_any(buf, seq, offset, len)
    }

    /// Takes a chunk and puts it behind the last one of a queue; gives the buffer back when none is
    /// free.
    #[inline]
    pub(crate) fn append(
        &mut self,
        queue: &mut ChunkQueue,
        buf: B,
        seq: SeqNumber,
        offset: u16,
        len: u16,
    ) -> Result<(), B> {
        let (index, before) = (self.free, queue.tail);
        let slot = self.slots.get_mut(index as usize);
        let is_free = self.used < self.capacity;
        let Some(slot) = slot.filter(|_| is_free) else {
            return Err(buf);
        };
        self.free = slot.next;
        *slot = Chunk {
            buf: Some(buf),
            seq,
            offset,
            len,
            prev: before,
            ..Chunk::VACANT
        };
        self.used = self.used.saturating_add(1);
        match self.slots.get_mut(before as usize) {
            Some(before) => before.next = index,
            None => queue.head = index,
        }
        queue.tail = index;
        queue.bytes = queue.bytes.wrapping_add(u32::from(len));
        queue.count = queue.count.wrapping_add(1);
        Ok(())
    }

    /// Puts all of `from` behind the last chunk of `to`; `change` sees each of them once. O(chunks
    /// moved).
    #[inline]
    pub(crate) fn move_all(
        &mut self,
        from: ChunkQueue,
        to: &mut ChunkQueue,
        mut change: impl FnMut(&mut Chunk<B>),
    ) {
        let mut index = from.head;
        while let Some(chunk) = self.slots.get_mut(index as usize) {
            change(chunk);
            index = chunk.next;
        }
        if from.is_empty() {
            return;
        }
        if let Some(first) = self.slots.get_mut(from.head as usize) {
            first.prev = to.tail;
        }
        match self.slots.get_mut(to.tail as usize) {
            Some(last) => last.next = from.head,
            None => to.head = from.head,
        }
        to.tail = from.tail;
        to.bytes = to.bytes.wrapping_add(from.bytes);
        to.count = to.count.wrapping_add(from.count);
    }

    /// Takes a chunk, from the reserve if need be.
    #[inline]
    fn take_any(&mut self, buf: B, seq: SeqNumber, offset: u16, len: u16) -> Result<u32, B> {
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(buf);
        };
        self.free = slot.next;
        *slot = Chunk {
            buf: Some(buf),
            seq,
            offset,
            len,
            ..Chunk::VACANT
        };
        self.used = self.used.saturating_add(1);
        Ok(index)
    }

    /// Frees a chunk that is in no queue any more; its buffer handle is dropped.
    #[inline]
    pub(crate) fn free(&mut self, index: u32) {
        let free = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.buf.take().is_some()
        {
            slot.next = free;
            self.free = index;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// The chunk with this index; `None` for `NONE` and for a free slot.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Chunk<B>> {
        self.slots
            .get(index as usize)
            .filter(|chunk| chunk.buf.is_some())
    }

    /// The chunk with this index.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Chunk<B>> {
        self.slots
            .get_mut(index as usize)
            .filter(|chunk| chunk.buf.is_some())
    }

    /// Puts a chunk behind the last one.
    #[inline]
    pub(crate) fn push_back(&mut self, queue: &mut ChunkQueue, index: u32) {
        self.insert_after(queue, queue.tail, index);
    }

    /// Puts a chunk behind `after`; `NONE` means in front of all.
    pub(crate) fn insert_after(&mut self, queue: &mut ChunkQueue, after: u32, index: u32) {
        let next = match self.get_mut(after) {
            Some(before) => core::mem::replace(&mut before.next, index),
            None => core::mem::replace(&mut queue.head, index),
        };
        match self.get_mut(next) {
            Some(behind) => behind.prev = index,
            None => queue.tail = index,
        }
        if let Some(chunk) = self.get_mut(index) {
            chunk.prev = after;
            chunk.next = next;
            queue.bytes = queue.bytes.wrapping_add(u32::from(chunk.len));
            queue.count = queue.count.wrapping_add(1);
        }
    }

    /// Takes a chunk out of its queue; it stays taken.
    pub(crate) fn unlink(&mut self, queue: &mut ChunkQueue, index: u32) {
        let Some(chunk) = self.get(index) else { return };
        let (prev, next, len) = (chunk.prev, chunk.next, u32::from(chunk.len));
        match self.get_mut(prev) {
            Some(before) => before.next = next,
            None => queue.head = next,
        }
        match self.get_mut(next) {
            Some(behind) => behind.prev = prev,
            None => queue.tail = prev,
        }
        queue.bytes = queue.bytes.wrapping_sub(len);
        queue.count = queue.count.wrapping_sub(1);
    }

    /// A chunk of a queue has `count` bytes more.
    pub(crate) fn lengthen(&mut self, queue: &mut ChunkQueue, index: u32, count: u16) {
        if let Some(chunk) = self.get_mut(index) {
            chunk.len = chunk.len.saturating_add(count);
            queue.bytes = queue.bytes.wrapping_add(u32::from(count));
        }
    }

    /// Takes the first chunk out of the queue; it stays taken.
    #[inline]
    pub(crate) fn pop_front(&mut self, queue: &mut ChunkQueue) -> Option<u32> {
        let index = queue.head;
        self.get(index)?;
        self.unlink(queue, index);
        Some(index)
    }

    /// Frees the first chunk of a queue, `index`.
    #[inline]
    pub(crate) fn free_front(&mut self, queue: &mut ChunkQueue, index: u32) {
        let free = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        let (next, len) = (slot.next, u32::from(slot.len));
        slot.next = free;
        drop(slot.buf.take());
        self.free = index;
        self.used = self.used.saturating_sub(1);
        queue.head = next;
        queue.bytes = queue.bytes.wrapping_sub(len);
        queue.count = queue.count.wrapping_sub(1);
        match self.slots.get_mut(next as usize) {
            Some(behind) => behind.prev = NONE,
            None => queue.tail = NONE,
        }
    }

    /// Frees the first `count` bytes of a chunk of this queue; the chunk must be longer than that.
    pub(crate) fn cut_front(&mut self, queue: &mut ChunkQueue, index: u32, count: u16) {
        if let Some(chunk) = self.get_mut(index) {
            let count = count.min(chunk.len);
            chunk.cut_front(count);
            queue.bytes = queue.bytes.wrapping_sub(u32::from(count));
        }
    }

    /// Frees every chunk of a queue. O(chunks).
    pub(crate) fn clear(&mut self, queue: &mut ChunkQueue) {
        let mut index = queue.head;
        while let Some(chunk) = self.get(index) {
            let next = chunk.next;
            self.free(index);
            index = next;
        }
        *queue = ChunkQueue::EMPTY;
    }

    /// The chunks of a queue in order, with their indices.
    pub(crate) fn iter(&self, queue: &ChunkQueue) -> impl Iterator<Item = (u32, &Chunk<B>)> {
        let mut index = queue.head;
        core::iter::from_fn(move || {
            let chunk = self.get(index)?;
            let at = core::mem::replace(&mut index, chunk.next);
            Some((at, chunk))
        })
    }
}

impl<B: PacketBuf> Chunks<B> {
    /// Copies the start of `data` behind the last chunk of this queue, which then has at most `len_max` bytes; tells how
    /// many fitted. None where its buffer has another holder or no room.
    pub(crate) fn grow_tail(&mut self, queue: &mut ChunkQueue, data: &[u8], len_max: u16) -> u16 {
        let Some(chunk) = self.get_mut(queue.tail) else {
            return 0;
        };
        let (end, len) = (chunk.offset.saturating_add(chunk.len), chunk.len);
        let Some(count) = chunk.buf.as_mut().and_then(|buf| {
            let room = buf.capacity().checked_sub(usize::from(end))?;
            let count = data.len().min(room).min(len_max.checked_sub(len)?.into());
            let offset = buf.offset();
            let before = usize::from(end).checked_sub(offset)?;
            // Bytes behind the chunk may be another's, or in a further segment.
            if buf.bytes().len() != before || buf.frame_len() != before {
                return None;
            }
            buf.set_span(offset, before.checked_add(count)?)
                .then_some(())?;
            let behind = buf.bytes_mut()?.get_mut(before..)?;
            behind.copy_from_slice(data.get(..count)?);
            u16::try_from(count).ok()
        }) else {
            return 0;
        };
        chunk.len = len.saturating_add(count);
        queue.bytes = queue.bytes.wrapping_add(u32::from(count));
        count
    }

    /// Splits a chunk of this queue behind its first `at` bytes; the second part shares the buffer
    /// and inherits flags and times. `false` when it is not longer than that, no chunk is free or
    /// the buffer cannot be shared.
    #[must_use]
    pub(crate) fn split(&mut self, queue: &mut ChunkQueue, index: u32, at: u16) -> bool {
        let Some(first) = self.get(index) else {
            return false;
        };
        let rest = first.len.saturating_sub(at);
        if rest == 0 || at == 0 {
            return false;
        }
        let (seq, offset) = (
            first.seq.plus(u32::from(at)),
            first.offset.saturating_add(at),
        );
        let (flags, sent_at, retransmissions) = (first.flags, first.sent_at, first.retransmissions);
        let Some(shared) = first.buf().and_then(PacketBuf::share) else {
            return false;
        };
        let Ok(second) = self.take_any(shared, seq, offset, rest) else {
            return false;
        };
        if let Some(first) = self.get_mut(index) {
            first.len = at;
            first.flags &= !(WITH_FIN | PUSHED);
        }
        queue.bytes = queue.bytes.wrapping_sub(u32::from(rest));
        if let Some(chunk) = self.get_mut(second) {
            (chunk.flags, chunk.sent_at, chunk.retransmissions) = (flags, sent_at, retransmissions);
        }
        self.insert_after(queue, index, second);
        true
    }
}

impl<B> Chunk<B> {
    const VACANT: Self = Self {
        sent_at: Instant::ZERO,
        seq: SeqNumber::new(0),
        offset: 0,
        len: 0,
        flags: 0,
        retransmissions: 0,
        next: NONE,
        prev: NONE,
        buf: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{HeapBuf, HeapPool, PacketPool};

    fn chunk(pool: &mut HeapPool, chunks: &mut Chunks<HeapBuf>, seq: u32, len: u16) -> u32 {
        let buf = pool.alloc().expect("room");
        chunks
            .take(buf, SeqNumber::new(seq), 128, len)
            .expect("room")
    }

    fn sequence(chunks: &Chunks<HeapBuf>, queue: &ChunkQueue) -> Vec<(u32, u16)> {
        let forward: Vec<_> = chunks
            .iter(queue)
            .map(|(_, chunk)| (chunk.seq.value(), chunk.len))
            .collect();
        assert_eq!(forward.len(), queue.count() as usize);
        assert_eq!(
            forward.iter().map(|(_, len)| u32::from(*len)).sum::<u32>(),
            queue.bytes()
        );
        let mut backward = Vec::new();
        let mut index = queue.tail();
        while let Some(chunk) = chunks.get(index) {
            backward.insert(0, (chunk.seq.value(), chunk.len));
            index = chunk.prev();
        }
        assert_eq!(forward, backward);
        forward
    }

    #[test]
    fn chunks_move_between_queues_and_none_leaks() {
        let mut pool = HeapPool::new(8, 2_048);
        let mut chunks = Chunks::new(4);
        let (mut from, mut to) = (ChunkQueue::EMPTY, ChunkQueue::EMPTY);
        for (seq, len) in [(1, 10), (11, 20), (31, 5)] {
            let index = chunk(&mut pool, &mut chunks, seq, len);
            chunks.push_back(&mut from, index);
        }
        let moved = chunks.pop_front(&mut from).expect("first");
        chunks.push_back(&mut to, moved);
        assert_eq!(sequence(&chunks, &from), [(11, 20), (31, 5)]);
        assert_eq!(sequence(&chunks, &to), [(1, 10)]);
        let tail = from.tail();
        chunks.unlink(&mut from, tail);
        assert_eq!(sequence(&chunks, &from), [(11, 20)]);
        assert_eq!(chunks.used(), 3, "an unlinked chunk is still taken");
        chunks.clear(&mut from);
        chunks.clear(&mut to);
        assert_eq!(chunks.used(), 1);
        drop(chunks);
        assert_eq!(pool.live(), 0);
    }

    #[test]
    fn a_split_shares_the_buffer_and_keeps_order() {
        let mut pool = HeapPool::new(8, 2_048);
        let mut chunks = Chunks::new(3);
        let mut queue = ChunkQueue::EMPTY;
        let first = chunk(&mut pool, &mut chunks, u32::MAX - 3, 10);
        chunks.push_back(&mut queue, first);
        let last = chunk(&mut pool, &mut chunks, 6, 1);
        chunks.push_back(&mut queue, last);
        assert!(
            !chunks.split(&mut queue, first, 10),
            "nothing left for a second part"
        );
        assert!(chunks.split(&mut queue, first, 4));
        assert_eq!(
            sequence(&chunks, &queue),
            [(u32::MAX - 3, 4), (0, 6), (6, 1)]
        );
        assert!(
            !chunks
                .get(first)
                .and_then(Chunk::buf)
                .expect("buffer")
                .is_unique()
        );
        assert!(!chunks.split(&mut queue, first, 2), "the slab is full");
        chunks.cut_front(&mut queue, first, 3);
        assert_eq!(sequence(&chunks, &queue), [(u32::MAX, 1), (0, 6), (6, 1)]);
        chunks.clear(&mut queue);
        assert_eq!((chunks.used(), pool.live()), (0, 0));
    }

    // A pool whose every buffer is queued is a deadlock when the peer wants smaller segments.
    #[test]
    fn what_is_queued_can_be_cut_when_nothing_more_may_come_in() {
        let mut pool = HeapPool::new(4, 2_176);
        let mut chunks = Chunks::with_reserve(3, 1);
        let mut queue = ChunkQueue::EMPTY;
        for (seq, pressed, last_share) in
            [(0, false, None), (100, true, None), (200, true, Some(1))]
        {
            let index = chunk(&mut pool, &mut chunks, seq, 100);
            chunks.push_back(&mut queue, index);
            assert_eq!(
                (chunks.is_pressed(), chunks.last_share()),
                (pressed, last_share)
            );
        }
        let buf = pool.alloc().expect("a buffer is left");
        assert!(chunks.take(buf, SeqNumber::new(300), 0, 100).is_err());
        let head = queue.head();
        assert!(chunks.split(&mut queue, head, 60));
        assert!(
            !chunks.split(&mut queue, head, 30),
            "the reserve is used up"
        );
        chunks.clear(&mut queue);
        assert_eq!((chunks.used(), chunks.available()), (0, 3));
    }

    #[test]
    fn a_full_slab_gives_the_buffer_back_and_freeing_twice_is_harmless() {
        let mut pool = HeapPool::new(8, 2_048);
        let mut chunks = Chunks::new(1);
        let only = chunk(&mut pool, &mut chunks, 1, 1);
        let buf = pool.alloc().expect("room");
        assert!(chunks.take(buf, SeqNumber::new(2), 0, 1).is_err());
        chunks.free(only);
        chunks.free(only);
        assert_eq!((chunks.used(), chunks.available()), (0, 1));
    }
}
