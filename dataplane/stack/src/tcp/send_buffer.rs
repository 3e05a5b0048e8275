//! What is queued to send and what is sent but not acknowledged: one list of chunks with a mark
//! between the two.
//!
//! ```text
//! head ........ sent, waits for its ACK ........ | unsent ........ tail | end (then perhaps a FIN)
//! SND.UNA                                          SND.NXT
//! ```
//!
//! The part before the mark is the retransmission queue, and the flags on its chunks are the
//! scoreboard (`recovery/scoreboard.rs`). Nothing is copied here but what an application hands over
//! as bytes; acknowledged chunks return their buffers.

use millrace_base::{Instant, PacketBuf, PacketPool, SeqNumber};

use super::chunk::{
    CONTINUED, CUT, Chunk, ChunkQueue, Chunks, EVER_RETRANSMITTED, NONE, PUSHED, SACKED,
};
use super::recovery::scoreboard::Scoreboard;

/// Chunks waiting to be sent or acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendBuffer {
    queue: ChunkQueue,
    /// The first chunk never sent, or `NONE`.
    unsent: u32,
    /// The sequence number behind the last queued byte: where a FIN goes.
    end: SeqNumber,
    /// What happened to the sent part.
    pub(crate) board: Scoreboard,
}

/// What one cumulative acknowledgment freed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cleaned {
    /// Payload bytes freed.
    pub(crate) bytes: u32,
    /// Of these, bytes that a SACK had reported before.
    pub(crate) sacked: u32,
    /// Segments that ended in them and that no SACK had reported before.
    pub(crate) segments: u32,
    /// When the first of them was sent, if it was sent once only (Karn's algorithm, MUST-18).
    pub(crate) sent_at: Option<Instant>,
    /// When the last such was sent; as good as `sent_at`.
    pub(crate) newest_sent_at: Instant,
    /// Something that had been retransmitted was among them.
    pub(crate) retransmitted: bool,
    /// The rest of a segment of which an earlier ACK took the first part was among them: it began at
    /// SND.UNA.
    pub(crate) mended: bool,
}

impl SendBuffer {
    /// Nothing queued; the first byte will have sequence number `start`.
    pub(crate) fn new(start: SeqNumber) -> Self {
        Self {
            queue: ChunkQueue::EMPTY,
            unsent: NONE,
            end: start,
            board: Scoreboard::EMPTY,
        }
    }

    /// The sequence number behind the last queued byte.
    #[inline]
    pub(crate) fn end(&self) -> SeqNumber {
        self.end
    }

    /// Bytes queued, sent or not.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        self.queue.bytes()
    }

    /// The first chunk never sent, or `NONE`.
    #[inline]
    pub(crate) fn unsent(&self) -> u32 {
        self.unsent
    }

    /// The list.
    #[inline]
    pub(crate) fn queue(&self) -> &ChunkQueue {
        &self.queue
    }

    /// The list, the mark and the scoreboard, for the scoreboard's walks.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&ChunkQueue, u32, &mut Scoreboard) {
        (&self.queue, self.unsent, &mut self.board)
    }

    /// Queues a chunk that is in no list. Its sequence number and state are set here.
    #[inline]
    pub(crate) fn push<B>(&mut self, chunks: &mut Chunks<B>, index: u32) {
        if let Some(chunk) = chunks.get_mut(index) {
            chunk.seq = self.end;
            chunk.flags = 0;
            chunk.retransmissions = 0;
            self.end = chunk.end();
            chunks.push_back(&mut self.queue, index);
            if self.unsent == NONE {
                self.unsent = index;
            }
        }
    }

    /// Queues everything that another list has, as `push` would one by one. O(chunks).
    #[inline]
    pub(crate) fn push_all<B>(&mut self, chunks: &mut Chunks<B>, from: ChunkQueue) {
        let mut end = self.end;
        chunks.move_all(from, &mut self.queue, |chunk| {
            chunk.seq = end;
            chunk.flags = 0;
            chunk.retransmissions = 0;
            end = chunk.end();
        });
        self.end = end;
        if self.unsent == NONE {
            self.unsent = from.head();
        }
    }

    /// Copies the start of `data` behind what is queued, and tells how many bytes; 0 when there is no
    /// buffer. The last chunk is filled to a whole segment of `segment_bytes` first, if it was never
    /// sent: a segment that begins in one chunk and ends in the next leaves as a chain, and so would
    /// all that follow it.
    pub(crate) fn push_copy<P: PacketPool>(
        &mut self,
        chunks: &mut Chunks<P::Buf>,
        pool: &mut P,
        data: &[u8],
        segment_bytes: u16,
    ) -> usize {
        if self.unsent != NONE {
            let grown = chunks.grow_tail(&mut self.queue, data, segment_bytes);
            if grown > 0 {
                self.end = self.end.plus(grown.into());
                return grown.into();
            }
        }
        let first = data.get(..data.len().min(segment_bytes.into()));
        let copied = first.and_then(|bytes| copy_to_chunk(bytes, chunks, pool));
        let Some((index, len)) = copied else {
            return 0;
        };
        self.push(chunks, index);
        len.into()
    }

    /// Makes `index` no longer than `len` bytes; the rest becomes the next chunk. `false` when no
    /// chunk is free.
    #[inline]
    pub(crate) fn limit<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        index: u32,
        len: u32,
    ) -> bool {
        match chunks.get(index) {
            Some(chunk) if u32::from(chunk.len) <= len => true,
            Some(_) => chunks.split(&mut self.queue, index, len.min(u32::from(u16::MAX)) as u16),
            None => false,
        }
    }

    /// The chunk at the mark was sent; `continued` when it shares a segment with the chunk before
    /// it.
    #[inline]
    pub(crate) fn mark_sent<B>(&mut self, chunks: &mut Chunks<B>, now: Instant, continued: bool) {
        if let Some(chunk) = chunks.get_mut(self.unsent) {
            chunk.sent_at = now;
            chunk.flags = if continued { CONTINUED } else { 0 };
            self.unsent = chunk.next();
        }
    }

    /// Notes how the last chunk sent left: `WITH_FIN`, `PUSHED`.
    pub(crate) fn note_last_sent<B>(&self, chunks: &mut Chunks<B>, flags: u8) {
        let last = match chunks.get(self.unsent) {
            Some(unsent) => unsent.prev(),
            None => self.queue.tail(),
        };
        if let Some(chunk) = chunks.get_mut(last) {
            chunk.flags |= flags;
        }
    }

    /// Everything before `to` is acknowledged: frees it. O(chunks freed).
    #[inline]
    pub(crate) fn acknowledge<B>(&mut self, chunks: &mut Chunks<B>, to: SeqNumber) -> Cleaned {
        let mut cleaned = Cleaned::default();
        loop {
            let index = self.queue.head();
            if index == self.unsent {
                break;
            }
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            if chunk.seq.after_or_eq(to) {
                if chunk.has(CONTINUED) && cleaned.bytes > 0 {
                    set_cut(chunks, index);
                }
                break;
            }
            let whole = chunk.end().before_or_eq(to);
            let bytes = if whole {
                u32::from(chunk.len)
            } else {
                to.bytes_since(chunk.seq)
            };
            cleaned.add(chunk, bytes, whole);
            let flags = chunk.flags;
            if !whole {
                self.board.on_cut(chunks, flags, bytes);
                chunks.cut_front(&mut self.queue, index, bytes as u16);
                // What ends a packet and is all that is left of it: Linux cuts any other.
                if flags & PUSHED != 0 && cleaned.bytes == bytes {
                    set_cut(chunks, index);
                }
                break;
            }
            self.board.on_freed(chunks, (index, flags, bytes));
            chunks.free_front(&mut self.queue, index);
        }
        cleaned
    }

    /// Frees everything.
    pub(crate) fn clear<B>(&mut self, chunks: &mut Chunks<B>) {
        chunks.clear(&mut self.queue);
        self.unsent = NONE;
        self.board.clear(chunks);
    }
}

impl Cleaned {
    #[inline]
    fn add<B>(&mut self, chunk: &Chunk<B>, bytes: u32, whole: bool) {
        // All that is queued is less than the sequence numbers there are.
        self.bytes = self.bytes.wrapping_add(bytes);
        let counts = whole && !chunk.has(CONTINUED);
        if chunk.flags & (SACKED | EVER_RETRANSMITTED | CUT) != 0 {
            return self.add_odd(chunk, bytes, (whole, counts));
        }
        self.segments = self.segments.wrapping_add(u32::from(counts));
        self.newest_sent_at = chunk.sent_at;
        self.sent_at = self.sent_at.or(Some(chunk.sent_at));
    }

    /// What the peer has told to have before, was sent again, or acknowledged in part before.
    #[cold]
    fn add_odd<B>(&mut self, chunk: &Chunk<B>, bytes: u32, (whole, counts): (bool, bool)) {
        // Whether it was SACKed or not: which transmission arrived is not known.
        self.retransmitted |= chunk.has(EVER_RETRANSMITTED);
        if chunk.has(SACKED) {
            self.sacked = self.sacked.saturating_add(bytes);
            return;
        }
        self.segments = self.segments.wrapping_add(u32::from(counts));
        if chunk.has(EVER_RETRANSMITTED) {
            return;
        }
        self.mended |= whole;
        self.newest_sent_at = chunk.sent_at;
        self.sent_at = self.sent_at.or(Some(chunk.sent_at));
    }
}

/// The peer acknowledged a segment in two parts.
#[cold]
fn set_cut<B>(chunks: &mut Chunks<B>, index: u32) {
    if let Some(chunk) = chunks.get_mut(index) {
        chunk.flags |= CUT;
    }
}

/// Copies the start of `data` into a fresh buffer and chunk; tells which, and how much fitted.
pub(super) fn copy_to_chunk<P: PacketPool>(
    data: &[u8],
    chunks: &mut Chunks<P::Buf>,
    pool: &mut P,
) -> Option<(u32, u16)> {
    let mut buf = pool.alloc()?;
    let offset = buf.offset();
    let len = data.len().min(buf.capacity().checked_sub(offset)?);
    if len == 0 || !buf.set_span(offset, len) {
        return None;
    }
    buf.bytes_mut()?.copy_from_slice(data.get(..len)?);
    let (offset, len) = (u16::try_from(offset).ok()?, u16::try_from(len).ok()?);
    let index = chunks.take(buf, SeqNumber::new(0), offset, len).ok()?;
    Some((index, len))
}
