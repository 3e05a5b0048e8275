//! Data that came before its turn: an ordered list of chunks without overlaps, and the SACK blocks
//! that tell of it.
//!
//! Overlap policy, as in Linux: of segments that overlap in part, the bytes received first win; one
//! that covers others wholly takes their place, so that memory does not grow with what comes again. A
//! segment is one chunk at most. Chunks are bounded per connection, and so are the steps of one
//! insertion; what does not fit is dropped and will be retransmitted: the hole at RCV.NXT never needs
//! the walk.

use millrace_base::{PacketBuf, SeqNumber};

use super::ack_compression::Compression;
use super::chunk::{Chunk, ChunkQueue, Chunks, NONE};
use super::recv_buffer::{chunks_max_pressed, merge_behind};
use super::shelf::Place;

/// SACK blocks one connection reports; 3 fit beside timestamps (RFC 2018 section 3).
pub(crate) const SACK_BLOCKS_MAX: usize = 4;

/// Chunks one connection may hold out of order.
///
/// A window of 3 MB in full segments is 2,100 chunks; smaller segments than that meet this limit,
/// which keeps an attacker who sends every second byte from holding more than 4,096 packet buffers.
pub(crate) const REASSEMBLY_CHUNKS_MAX: u32 = 4_096;

/// Chunks one insertion may step over to find its place.
///
/// A sender retransmits in order, and new data comes at the end: both are found at once. 256 steps
/// take about a microsecond.
const REASSEMBLY_STEPS_MAX: u32 = 256;

/// A half-open range of sequence numbers; empty when both are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SeqRange {
    /// The first byte.
    pub(crate) start: SeqNumber,
    /// Behind the last byte.
    pub(crate) end: SeqNumber,
}

/// Received bytes to put in place.
#[derive(Debug)]
pub(crate) struct Piece<B> {
    /// The segment's buffer.
    pub(crate) buf: B,
    /// The first byte's sequence number.
    pub(crate) seq: SeqNumber,
    /// Where the bytes start in the buffer's memory.
    pub(crate) offset: u16,
    /// How many there are.
    pub(crate) len: u16,
}

/// What became of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Inserted {
    /// Bytes that were new.
    pub(crate) bytes: u32,
    /// The first range that was already here, and what continues it.
    pub(crate) duplicate: SeqRange,
    /// No room, or too far to walk: some of it was dropped.
    pub(crate) refused: bool,
    /// It neither continues nor joins the first two ranges that are reported (Linux:
    /// `TCP_SACK_BLOCKS_EXPECTED`).
    pub(crate) crowds: bool,
}

/// What one connection holds of data that came before its turn: nothing, most of the time. What
/// there is lies on a shelf (`Chunks::reorders`).
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct Reassembly {
    place: Place,
    /// Chunks wait for their turn.
    waiting: bool,
    /// A duplicate waits to be reported.
    duplicate: bool,
}

/// Out-of-order chunks of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reorder {
    queue: ChunkQueue,
    /// Ranges to report, the most recently changed first (RFC 2018 section 4).
    blocks: [SeqRange; SACK_BLOCKS_MAX],
    /// A duplicate to report once (RFC 2883).
    duplicate: SeqRange,
    /// Of the ACKs that tell of it.
    pub(super) compression: Compression,
}

impl SeqRange {
    /// Whether there is nothing in it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether both ranges overlap or meet.
    fn touches(&self, other: &Self) -> bool {
        !self.is_empty() && self.start.before_or_eq(other.end) && other.start.before_or_eq(self.end)
    }

    fn join(&self, other: &Self) -> Self {
        Self {
            start: self.start.earliest(other.start),
            end: self.end.latest(other.end),
        }
    }
}

impl Inserted {
    /// A range was here already: it is reported if it continues the one before (Linux:
    /// `tcp_dsack_extend`).
    fn note(&mut self, range: SeqRange) {
        if self.duplicate.is_empty() {
            self.duplicate = range;
        } else if self.duplicate.touches(&range) {
            self.duplicate = self.duplicate.join(&range);
        }
    }
}

impl Reassembly {
    /// Nothing out of order.
    pub(crate) const EMPTY: Self = Self {
        place: Place::NONE,
        waiting: false,
        duplicate: false,
    };

    /// Whether there is nothing on the shelf.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.place.is_none()
    }

    /// Whether everything received is in order.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.waiting
    }

    /// Whether a duplicate waits to be reported.
    #[inline]
    pub(crate) fn has_duplicate(&self) -> bool {
        self.duplicate
    }

    /// Whether it holds more than one connection should while memory is short.
    #[inline]
    pub(crate) fn is_crowded<B>(&self, chunks: &Chunks<B>) -> bool {
        let most = chunks_max_pressed(0);
        let most = chunks.last_share().map_or(most, |share| share.min(most));
        self.order(chunks).queue.count() >= most
    }

    /// Puts a piece in its place; refuses it when the shelf is full. O(1) at both ends.
    pub(crate) fn insert<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        piece: Piece<B>,
    ) -> Inserted {
        if self.place.is_none() {
            self.place = chunks.reorders.store(Place::NONE, Reorder::EMPTY);
        }
        if self.place.is_none() {
            return Inserted {
                refused: true,
                ..Inserted::default()
            };
        }
        self.change(chunks, |order, chunks| order.insert(chunks, piece))
    }

    /// Copies a piece behind the bytes that it continues, if their buffer has room and nothing lies
    /// there; gives it back otherwise.
    pub(crate) fn merge<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        piece: Piece<B>,
    ) -> Result<(), Piece<B>> {
        if !self.waiting {
            return Err(piece);
        }
        self.change(chunks, |order, chunks| order.merge(chunks, piece))
    }

    /// Whether something waits that begins behind `seq`.
    pub(crate) fn ends_after<B>(&self, chunks: &Chunks<B>, seq: SeqNumber) -> bool {
        let tail = self.order(chunks).queue.tail();
        chunks.get(tail).is_some_and(|chunk| chunk.seq.after(seq))
    }

    /// Bytes and chunks that wait for their turn.
    pub(crate) fn held<B>(&self, chunks: &Chunks<B>) -> (u32, u32) {
        let order = chunks.reorders.get(self.place);
        order.map_or((0, 0), |order| (order.queue.bytes(), order.queue.count()))
    }

    /// Takes the first chunk when it continues at `nxt`; it stays taken.
    #[inline]
    pub(crate) fn take_at<B>(&mut self, chunks: &mut Chunks<B>, nxt: SeqNumber) -> Option<u32> {
        if !self.waiting {
            return None;
        }
        self.change(chunks, |order, chunks| order.take_at(chunks, nxt))
    }

    /// RCV.NXT has advanced: blocks at or before it are reported no more.
    pub(crate) fn on_advance<B>(&mut self, chunks: &mut Chunks<B>, nxt: SeqNumber) {
        self.change(chunks, |order, _| order.on_advance(nxt));
    }

    /// Frees the chunk farthest from its turn, to make room for one whose turn it is.
    pub(crate) fn prune<B>(&mut self, chunks: &mut Chunks<B>) -> bool {
        self.change(chunks, Reorder::prune)
    }

    /// Frees everything (the peer's FIN came before it, or the connection ends).
    #[inline]
    pub(crate) fn clear<B>(&mut self, chunks: &mut Chunks<B>) {
        if !self.place.is_none() {
            self.forget(chunks);
        }
    }

    fn forget<B>(&mut self, chunks: &mut Chunks<B>) {
        let mut order = self.order(chunks);
        chunks.clear(&mut order.queue);
        chunks.reorders.clear(self.place);
        *self = Self::EMPTY;
    }

    /// A duplicate arrived: the next ACK reports it, unless the shelf is full.
    pub(crate) fn note_duplicate<B>(&mut self, chunks: &mut Chunks<B>, range: SeqRange) {
        if !self.duplicate {
            self.change(chunks, |order, _| order.duplicate = range);
        }
    }

    /// The duplicate to report, once.
    pub(crate) fn take_duplicate<B>(&mut self, chunks: &mut Chunks<B>) -> Option<SeqRange> {
        if !self.duplicate {
            return None;
        }
        Some(self.change(chunks, |order, _| core::mem::take(&mut order.duplicate)))
    }

    /// Ranges to report, in the order to report them.
    pub(crate) fn blocks<B>(&self, chunks: &Chunks<B>) -> impl Iterator<Item = SeqRange> + use<B> {
        self.order(chunks)
            .blocks
            .into_iter()
            .filter(|block| !block.is_empty())
    }

    /// The end of everything received, for the RST check of Linux.
    pub(crate) fn highest<B>(&self, chunks: &Chunks<B>) -> Option<SeqNumber> {
        self.blocks(chunks)
            .map(|block| block.end)
            .reduce(SeqNumber::latest)
    }

    /// What is held back of the ACKs that tell of it.
    pub(super) fn compression_mut<'a, B>(
        &self,
        chunks: &'a mut Chunks<B>,
    ) -> Option<&'a mut Compression> {
        let order = chunks.reorders.get_mut(self.place)?;
        Some(&mut order.compression)
    }

    /// Out-of-order bytes and chunks.
    #[cfg(test)]
    pub(crate) fn queue<B>(&self, chunks: &Chunks<B>) -> ChunkQueue {
        self.order(chunks).queue
    }

    fn order<B>(&self, chunks: &Chunks<B>) -> Reorder {
        let order = chunks.reorders.get(self.place);
        order.copied().unwrap_or(Reorder::EMPTY)
    }

    /// Changes what is on the shelf; a place there is taken and given back as needed.
    fn change<B, R>(
        &mut self,
        chunks: &mut Chunks<B>,
        change: impl FnOnce(&mut Reorder, &mut Chunks<B>) -> R,
    ) -> R {
        let mut order = self.order(chunks);
        let result = change(&mut order, chunks);
        self.waiting = !order.queue.is_empty();
        self.duplicate = !order.duplicate.is_empty();
        if self.waiting || self.duplicate {
            self.place = chunks.reorders.store(self.place, order);
            // Only a report can be without a place here: `insert` had one before it began.
            self.duplicate &= !self.place.is_none();
        } else {
            chunks.reorders.clear(self.place);
            self.place = Place::NONE;
        }
        result
    }
}

impl Reorder {
    /// Nothing out of order.
    const EMPTY: Self = Self {
        queue: ChunkQueue::EMPTY,
        blocks: [SeqRange {
            start: SeqNumber::new(0),
            end: SeqNumber::new(0),
        }; SACK_BLOCKS_MAX],
        duplicate: SeqRange {
            start: SeqNumber::new(0),
            end: SeqNumber::new(0),
        },
        compression: Compression::NONE,
    };

    fn insert<B: PacketBuf>(&mut self, chunks: &mut Chunks<B>, piece: Piece<B>) -> Inserted {
        let seq = piece.seq;
        let Some(mut before) = self.place(chunks, seq) else {
            return Inserted {
                refused: true,
                ..Inserted::default()
            };
        };
        let mut inserted = Inserted::default();
        let end = piece.seq.plus(piece.len.into());
        let mut start = seq;
        let mut freed = 0u32;
        if let Some(chunk) = chunks.get(before)
            && chunk.end().after(start)
        {
            let covered = SeqRange {
                start,
                end: chunk.end().earliest(end),
            };
            inserted.note(covered);
            if chunk.seq == start && chunk.end().before(end) {
                let prev = chunk.prev();
                freed = self.drop_covered(chunks, before);
                before = prev;
            } else {
                start = covered.end;
            }
        }
        // Each turn frees a chunk; a segment covers at most `len` bytes of them.
        let mut stop = end;
        while start.before(end) {
            let next = match chunks.get(before) {
                Some(chunk) => chunk.next(),
                None => self.queue.head(),
            };
            let Some(chunk) = chunks.get(next).filter(|chunk| chunk.seq.before(end)) else {
                break;
            };
            inserted.note(SeqRange {
                start: chunk.seq,
                end: chunk.end().earliest(end),
            });
            if chunk.end().after(end) {
                stop = chunk.seq;
                break;
            }
            freed = freed.wrapping_add(self.drop_covered(chunks, next));
        }
        if !start.before(stop) {
            return inserted;
        }
        let hole = SeqRange { start, end: stop };
        if !self.fill(chunks, piece, hole, before) {
            inserted.refused = true;
            return inserted;
        }
        inserted.bytes = stop.bytes_since(start).wrapping_sub(freed);
        let range = SeqRange { start: seq, end };
        let [first, second, ..] = &self.blocks;
        inserted.crowds = !second.is_empty() && !first.touches(&range) && !second.touches(&range);
        self.report(range);
        inserted
    }

    /// Frees a chunk whose bytes came again in a larger segment; tells how many they were.
    fn drop_covered<B>(&mut self, chunks: &mut Chunks<B>, index: u32) -> u32 {
        let len = chunks.get(index).map_or(0, |chunk| chunk.len);
        chunks.unlink(&mut self.queue, index);
        chunks.free(index);
        len.into()
    }

    fn merge<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        piece: Piece<B>,
    ) -> Result<(), Piece<B>> {
        let Some(before) = self.place(chunks, piece.seq) else {
            return Err(piece);
        };
        let end = piece.seq.plus(piece.len.into());
        let next = chunks.get(before).map_or(NONE, Chunk::next);
        let is_free = chunks
            .get(next)
            .is_none_or(|chunk| chunk.seq.after_or_eq(end));
        if !is_free {
            return Err(piece);
        }
        let range = SeqRange {
            start: piece.seq,
            end,
        };
        merge_behind(&mut self.queue, chunks, before, piece)?;
        self.report(range);
        Ok(())
    }

    fn take_at<B>(&mut self, chunks: &mut Chunks<B>, nxt: SeqNumber) -> Option<u32> {
        let head = self.queue.head();
        if chunks.get(head)?.seq != nxt {
            return None;
        }
        chunks.pop_front(&mut self.queue)
    }

    fn on_advance(&mut self, nxt: SeqNumber) {
        let mut kept = [SeqRange::default(); SACK_BLOCKS_MAX];
        let live = self
            .blocks
            .iter()
            .filter(|block| !block.is_empty() && block.end.after(nxt));
        for (slot, block) in kept.iter_mut().zip(live) {
            *slot = SeqRange {
                start: block.start.latest(nxt),
                end: block.end,
            };
        }
        self.blocks = kept;
    }

    fn prune<B>(&mut self, chunks: &mut Chunks<B>) -> bool {
        let tail = self.queue.tail();
        let Some(end) = chunks.get(tail).map(|chunk| chunk.seq) else {
            return false;
        };
        chunks.unlink(&mut self.queue, tail);
        chunks.free(tail);
        // RFC 2018 section 8 allows to take a report back; the sender keeps data until it is
        // acknowledged.
        for block in &mut self.blocks {
            if block.start.after_or_eq(end) {
                *block = SeqRange::default();
            } else {
                block.end = block.end.earliest(end);
            }
        }
        true
    }

    /// The last chunk that starts at or before `seq` (`Some(NONE)`: there is none); `None` when it
    /// is too far away.
    fn place<B>(&self, chunks: &Chunks<B>, seq: SeqNumber) -> Option<u32> {
        let Some(head) = chunks.get(self.queue.head()) else {
            return Some(NONE);
        };
        if seq.before(head.seq) {
            return Some(NONE);
        }
        let mut index = self.queue.tail();
        let from_head = seq.bytes_since(head.seq);
        let tail_seq = chunks.get(index).map_or(seq, |tail| tail.seq);
        if from_head < tail_seq.bytes_since(seq) {
            return self.place_from_head(chunks, seq);
        }
        for _ in 0..REASSEMBLY_STEPS_MAX {
            let chunk = chunks.get(index)?;
            if chunk.seq.before_or_eq(seq) {
                return Some(index);
            }
            index = chunk.prev();
        }
        None
    }

    fn place_from_head<B>(&self, chunks: &Chunks<B>, seq: SeqNumber) -> Option<u32> {
        let mut index = self.queue.head();
        for _ in 0..REASSEMBLY_STEPS_MAX {
            let next = chunks.get(index)?.next();
            match chunks.get(next) {
                Some(chunk) if chunk.seq.before_or_eq(seq) => index = next,
                _ => return Some(index),
            }
        }
        None
    }

    /// Puts the part of a piece that lies in `hole` behind `before`.
    fn fill<B: PacketBuf>(
        &mut self,
        chunks: &mut Chunks<B>,
        piece: Piece<B>,
        hole: SeqRange,
        before: u32,
    ) -> bool {
        if self.queue.count() >= REASSEMBLY_CHUNKS_MAX {
            return false;
        }
        let skip = hole.start.bytes_since(piece.seq) as u16;
        let len = hole.end.bytes_since(hole.start) as u16;
        let offset = piece.offset.saturating_add(skip);
        let Ok(index) = chunks.take(piece.buf, hole.start, offset, len) else {
            return false;
        };
        chunks.insert_after(&mut self.queue, before, index);
        true
    }

    /// Moves the block that holds `range` to the front (RFC 2018 section 4).
    fn report(&mut self, range: SeqRange) {
        let mut joined = range;
        let mut blocks = [SeqRange::default(); SACK_BLOCKS_MAX];
        let mut others = blocks.iter_mut().skip(1);
        let mut rest = self.blocks;
        // Joining with one block can make it touch another: at most as many turns as there are
        // blocks.
        for _ in 0..SACK_BLOCKS_MAX {
            for block in &mut rest {
                if block.touches(&joined) {
                    joined = joined.join(block);
                    *block = SeqRange::default();
                }
            }
        }
        for block in rest.into_iter().filter(|block| !block.is_empty()) {
            if let Some(slot) = others.next() {
                *slot = block;
            }
        }
        if let Some(first) = blocks.first_mut() {
            *first = joined;
        }
        self.blocks = blocks;
    }
}

#[cfg(test)]
mod tests;
