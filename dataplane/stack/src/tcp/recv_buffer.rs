//! Data in order that waits for the application.
//!
//! A list of chunks, bounded in bytes by the receive window and in number here. The application
//! takes chunks by reference (`Connection::splice_into`); the copying read exists for probes and
//! tests and counts what it copies.

use millrace_base::{PacketBuf, SeqNumber};

use super::chunk::{ChunkQueue, Chunks};
use super::reassembly::Piece;

/// Chunks that may wait for the application beyond what full segments would need.
///
/// Tiny segments cost a packet buffer each; a window of 64 KiB filled byte by byte would hold
/// 65,536 of them. Linux merges such segments by copying; here that is done while memory is short
/// only (`intake.rs`), and beyond this the peer's further segments are dropped until the application
/// reads.
pub(crate) const RECEIVE_CHUNKS_MAX: u32 = 8_192;

/// Chunks a queue may have while memory is short: these, and one for each `PRESSED_CHUNK_BYTES`.
///
/// Every chunk holds a packet buffer, however few bytes are in it.
const PRESSED_CHUNKS: u32 = 32;
/// Bytes per chunk at which a queue counts as full of tiny segments.
const PRESSED_CHUNK_BYTES: u32 = 512;

/// The chunks that a queue of so many bytes may have while memory is short.
#[inline]
pub(crate) fn chunks_max_pressed(bytes: u32) -> u32 {
    (bytes / PRESSED_CHUNK_BYTES).saturating_add(PRESSED_CHUNKS)
}

/// The chunks that a queue of so many bytes may have: full segments are bounded by the window alone,
/// which an operator may have made larger than any number of them here.
#[inline]
fn chunks_max(bytes: u32) -> u32 {
    (bytes / PRESSED_CHUNK_BYTES).saturating_add(RECEIVE_CHUNKS_MAX)
}

/// Memory that `bytes` of payload in `count` buffers are charged for (Linux: `truesize`).
///
/// A buffer that holds a segment costs what an skb of that segment costs in Linux, which is what an
/// mbuf of 2 KiB is with its head: 2,304 bytes. Linux merges small segments, so that a stream of them
/// is charged by its bytes; so it is here, although they are merged while the pool is short only:
/// windows shall not close earlier. Buffers larger than a page are charged by pages.
#[inline]
pub(crate) fn memory_of(bytes: u32, count: u32) -> u32 {
    if count == 0 {
        // What most segments find: everything was read.
        return 0;
    }
    if bytes > count.saturating_mul(SEGMENT_BYTES_MAX) {
        return memory_of_large(bytes, count);
    }
    if bytes > count.saturating_mul(SMALL_SEGMENT_BYTES_MAX) {
        return count.saturating_mul(BUFFER_BYTES);
    }
    memory_of_small(bytes, count)
}

#[cold]
fn memory_of_small(bytes: u32, count: u32) -> u32 {
    let each = if bytes > count.saturating_mul(TINY_SEGMENT_BYTES_MAX) {
        SMALL_BUFFER_BYTES
    } else {
        TINY_BUFFER_BYTES
    };
    let merged = bytes.saturating_mul(2).saturating_add(TINY_BUFFER_BYTES);
    count.saturating_mul(each).min(merged)
}

#[cold]
fn memory_of_large(bytes: u32, count: u32) -> u32 {
    let heads = count.saturating_mul(PAGE_BYTES.saturating_add(SKB_HEAD_BYTES));
    let rest = bytes.saturating_sub(count.saturating_mul(PAGE_PAYLOAD_BYTES));
    let pages = rest.saturating_add(PAGE_BYTES.wrapping_sub(1)) & !PAGE_BYTES.wrapping_sub(1);
    heads.saturating_add(pages)
}

/// An mbuf with 2 KiB of room: head, headroom, room. A full segment in Linux: a piece of 2 KiB and the
/// head of an skb.
const BUFFER_BYTES: u32 = 2_304;
/// The longest payload in such a buffer.
const SEGMENT_BYTES_MAX: u32 = 1_624;
/// The same for Linux's pieces of 1 KiB and of 512 bytes.
const SMALL_BUFFER_BYTES: u32 = 1_280;
const SMALL_SEGMENT_BYTES_MAX: u32 = 600;
const TINY_BUFFER_BYTES: u32 = 768;
const TINY_SEGMENT_BYTES_MAX: u32 = 88;
const PAGE_BYTES: u32 = 4_096;
/// The payload in the first page of a larger buffer, beside headers and what Linux keeps there.
const PAGE_PAYLOAD_BYTES: u32 = 3_672;
const SKB_HEAD_BYTES: u32 = 256;
const _: () = assert!(BUFFER_BYTES == 2_048 + SKB_HEAD_BYTES);
const _: () = assert!(SMALL_BUFFER_BYTES == 1_024 + SKB_HEAD_BYTES);
const _: () = assert!(TINY_BUFFER_BYTES == 512 + SKB_HEAD_BYTES);

/// Received data in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveBuffer {
    queue: ChunkQueue,
}

impl ReceiveBuffer {
    /// Nothing received.
    pub(crate) const EMPTY: Self = Self {
        queue: ChunkQueue::EMPTY,
    };

    /// Bytes that wait.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        self.queue.bytes()
    }

    /// Chunks that wait.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.queue.count()
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether another chunk may be held. While memory is short, tiny segments fill the queue as if
    /// they were larger; of the very last of it, a queue gets a share, whatever was promised.
    #[inline]
    pub(crate) fn has_room<B>(&self, chunks: &Chunks<B>) -> bool {
        let most = if chunks.is_pressed() {
            chunks_max_pressed(self.queue.bytes())
                .min(chunks.last_share().unwrap_or(RECEIVE_CHUNKS_MAX))
        } else {
            chunks_max(self.queue.bytes())
        };
        self.queue.count() < most
    }

    /// Chunks that may still be queued while memory is not short.
    #[inline]
    pub(crate) fn straight_room(&self) -> u32 {
        chunks_max(self.queue.bytes()).saturating_sub(self.queue.count())
    }

    /// Segments of at most `payload_len` bytes that can surely be queued one after the other before
    /// the queue takes more than `memory`, the one that exceeds it included.
    #[inline]
    pub(crate) fn memory_room(&self, memory: u32, payload_len: u32) -> u32 {
        let (bytes, count) = (self.queue.bytes(), self.queue.count());
        let is_large =
            payload_len > SEGMENT_BYTES_MAX || bytes > count.saturating_mul(SEGMENT_BYTES_MAX);
        if is_large {
            let left = memory.checked_sub(memory_of(bytes, count));
            return left.map_or(0, |left| {
                left.checked_div(memory_of(payload_len, 1)).unwrap_or(0)
            });
        }
        // No mixture of sizes is charged more.
        let fitting = (memory / BUFFER_BYTES).saturating_add(1);
        fitting.saturating_sub(count)
    }

    /// Makes a chunk of a buffer and puts it at the end; gives the buffer back when none is free.
    #[inline]
    pub(crate) fn append<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        buf: B,
        seq: SeqNumber,
        offset: u16,
        len: u16,
    ) -> Result<(), B> {
        chunks.append(&mut self.queue, buf, seq, offset, len)
    }

    /// Copies a piece that comes next behind the last bytes, if its buffer has room there and nobody
    /// else holds it; gives the piece back otherwise.
    pub(crate) fn merge<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        piece: Piece<B>,
    ) -> Result<(), Piece<B>> {
        let tail = self.queue.tail();
        merge_behind(&mut self.queue, chunks, tail, piece)
    }

    /// The whole list, to be moved elsewhere; nothing is left.
    #[inline]
    pub(crate) fn take_all(&mut self) -> ChunkQueue {
        core::mem::replace(&mut self.queue, ChunkQueue::EMPTY)
    }

    /// Puts a chunk that is in no list at the end.
    #[inline]
    pub(crate) fn push<B>(&mut self, chunks: &mut Chunks<B>, index: u32) {
        chunks.push_back(&mut self.queue, index);
    }

    /// Takes the first chunk; it stays taken.
    #[inline]
    pub(crate) fn pop<B>(&mut self, chunks: &mut Chunks<B>) -> Option<u32> {
        chunks.pop_front(&mut self.queue)
    }

    /// Copies into `out` as much as there is; frees what was copied. Returns the number of bytes.
    pub(crate) fn copy_to<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        out: &mut [u8],
    ) -> usize {
        let mut copied = 0usize;
        while let Some(rest) = out.get_mut(copied..).filter(|rest| !rest.is_empty()) {
            let index = self.queue.head();
            let Some(chunk) = chunks.get_mut(index) else {
                break;
            };
            let (offset, len) = (usize::from(chunk.offset), usize::from(chunk.len));
            let Some(bytes) = chunk.buf_mut().and_then(|buf| span(buf, offset, len)) else {
                break;
            };
            let count = bytes.len().min(rest.len());
            for (to, from) in rest.iter_mut().zip(bytes) {
                *to = *from;
            }
            copied = copied.saturating_add(count);
            if count == len {
                chunks.unlink(&mut self.queue, index);
                chunks.free(index);
            } else {
                chunks.cut_front(&mut self.queue, index, count as u16);
            }
        }
        copied
    }

    /// Copies into `out` what begins `skip` bytes behind the front, and takes nothing. Returns the
    /// number of bytes. O(chunks up to there).
    pub(crate) fn peek<B: PacketBuf>(
        &self,
        chunks: &mut Chunks<B>,
        skip: usize,
        out: &mut [u8],
    ) -> usize {
        peek_queue(&self.queue, chunks, skip, out)
    }

    /// Frees everything.
    pub(crate) fn clear<B>(&mut self, chunks: &mut Chunks<B>) {
        chunks.clear(&mut self.queue);
    }
}

/// Copies a piece behind the bytes of the chunk `index` of `queue`, if it continues them, the buffer has
/// room and is nobody else's. The piece's own buffer is then free (Linux: `skb_try_coalesce`).
pub(super) fn merge_behind<B: PacketBuf>(
    queue: &mut ChunkQueue,
    chunks: &mut Chunks<B>,
    index: u32,
    mut piece: Piece<B>,
) -> Result<(), Piece<B>> {
    let (from, count) = (usize::from(piece.offset), usize::from(piece.len));
    let Some(bytes) = span(&mut piece.buf, from, count) else {
        return Err(piece);
    };
    let merged = chunks.get_mut(index).is_some_and(|chunk| {
        let (offset, len) = (usize::from(chunk.offset), usize::from(chunk.len));
        let Some(total) = chunk.len.checked_add(piece.len) else {
            return false;
        };
        if chunk.end() != piece.seq {
            return false;
        }
        let Some(buf) = chunk.buf_mut() else {
            return false;
        };
        if !buf.set_span(offset, usize::from(total)) {
            return false;
        }
        let Some(room) = buf.bytes_mut().and_then(|all| all.get_mut(len..)) else {
            return false;
        };
        room.copy_from_slice(bytes);
        true
    });
    if !merged {
        return Err(piece);
    }
    chunks.lengthen(queue, index, piece.len);
    Ok(())
}

/// The bytes of a chunk, whatever the span of its buffer handle is now; `None` when the handle's
/// span does not cover them and cannot be moved because others hold the buffer.
pub(crate) fn span<B: PacketBuf>(buf: &mut B, offset: usize, len: usize) -> Option<&[u8]> {
    let start = buf.offset();
    let end = start.saturating_add(buf.bytes().len());
    let covered = start <= offset && offset.saturating_add(len) <= end;
    if !covered && !buf.set_span(offset, len) {
        return None;
    }
    let skip = offset.saturating_sub(buf.offset());
    buf.bytes().get(skip..skip.saturating_add(len))
}

/// Copies into `out` what begins `skip` bytes behind the front of a list, and takes nothing.
pub(super) fn peek_queue<B: PacketBuf>(
    queue: &ChunkQueue,
    chunks: &mut Chunks<B>,
    skip: usize,
    out: &mut [u8],
) -> usize {
    let (mut skip, mut copied) = (skip, 0usize);
    let mut index = queue.head();
    while let Some(rest) = out.get_mut(copied..).filter(|rest| !rest.is_empty()) {
        let Some(chunk) = chunks.get_mut(index) else {
            break;
        };
        index = chunk.next();
        let (offset, len) = (usize::from(chunk.offset), usize::from(chunk.len));
        if skip >= len {
            skip = skip.saturating_sub(len);
            continue;
        }
        let Some(bytes) = chunk.buf_mut().and_then(|buf| span(buf, offset, len)) else {
            break;
        };
        let bytes = bytes.get(skip..).unwrap_or_default();
        for (to, from) in rest.iter_mut().zip(bytes) {
            *to = *from;
        }
        copied = copied.saturating_add(bytes.len().min(rest.len()));
        skip = 0;
    }
    copied
}
