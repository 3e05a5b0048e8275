//! What is known about each sent chunk: SACKed, lost, retransmitted; and the totals that follow
//! from it.
//!
//! The flags live on the chunks, the totals in a ledger, so that "how much is in flight" is a
//! subtraction (the pipe of RFC 6675, counted as Linux counts `packets_in_flight`). The walks
//! remember where they stopped: in a long window an ACK touches what it changes, not everything.
//!
//! Most connections have lost nothing most of the time, so the ledger lies on a shelf
//! (`Chunks::ledgers`), and only while something is SACKed or lost or the window is being reduced;
//! the TCB keeps its place. There are as many places as buffers, and who needs one has a buffer in
//! its send queue: the ledger goes at the latest with the queue's last chunk. So the shelf is never
//! full; were it, chunks would stay unmarked and wait for a later timeout.

use millrace_base::{Instant, SeqNumber, invariant};

use super::Reduction;
use crate::tcp::chunk::{
    CONTINUED, ChunkQueue, Chunks, EVER_RETRANSMITTED, LOST, NONE, RETRANSMITTED, SACKED,
};
use crate::tcp::reassembly::{SACK_BLOCKS_MAX, SeqRange};
use crate::tcp::shelf::Place;

/// The sent part of the send queue: where its ledger is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoreboard {
    place: Place,
}

/// Totals over the sent part of the send queue, in bytes unless a name says otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger {
    /// SACKed.
    sacked: u32,
    /// Segments that are SACKed.
    sacked_segments: u32,
    /// Lost and not SACKed.
    lost: u32,
    /// Of these, not yet retransmitted.
    lost_pending: u32,
    /// Retransmitted and not SACKed.
    retransmitted: u32,
    /// How the window goes down in fast recovery; `None` outside of it.
    reduction: Option<Reduction>,
    trail: Trail,
}

/// Where the walks over the sent part stand.
#[derive(Clone, Copy, Debug)]
struct Trail {
    /// Where the walks for loss, retransmission and SACK continue; `NONE` is the head.
    lost_hint: u32,
    retransmit_hint: u32,
    sack_hint: u32,
    /// SACKed segments before `lost_hint`.
    sacked_before_hint: u32,
    /// The blocks of the last ACK: what they cover is marked already.
    seen: [SeqRange; SACK_BLOCKS_MAX],
}

/// What an ACK's SACK blocks told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sacked {
    /// Bytes newly SACKed.
    pub(crate) bytes: u32,
    /// Segments newly SACKed.
    pub(crate) segments: u32,
    /// When the last of them was sent, if it was sent once only.
    pub(crate) sent_at: Option<Instant>,
    /// The first block reports a duplicate (RFC 2883).
    pub(crate) duplicate: bool,
}

impl Scoreboard {
    /// Nothing sent.
    pub(crate) const EMPTY: Self = Self { place: Place::NONE };

    /// Bytes in flight of `sent` bytes that are not acknowledged.
    #[inline]
    pub(crate) fn in_flight<B>(&self, chunks: &Chunks<B>, sent: u32) -> u32 {
        if self.is_clear() {
            return sent;
        }
        self.count_in_flight(chunks, sent)
    }

    /// Bytes SACKed.
    pub(crate) fn sacked<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.ledger(chunks).sacked
    }

    /// Segments SACKed.
    pub(crate) fn sacked_segments<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.ledger(chunks).sacked_segments
    }

    /// Bytes lost, retransmitted or not.
    pub(crate) fn lost<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.ledger(chunks).lost
    }

    /// Bytes retransmitted and again in flight.
    pub(crate) fn retransmitted<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.ledger(chunks).retransmitted
    }

    /// Whether nothing is SACKed, lost or retransmitted, and no recovery is under way.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.place.is_none()
    }

    /// Whether something lost waits for its retransmission.
    #[inline]
    pub(crate) fn has_pending<B>(&self, chunks: &Chunks<B>) -> bool {
        !self.is_clear() && self.count_pending(chunks) != 0
    }

    /// A chunk was acknowledged and is about to be freed.
    #[inline]
    pub(crate) fn on_freed<B>(&mut self, chunks: &mut Chunks<B>, chunk: (u32, u8, u32)) {
        if !self.is_clear() {
            self.count_freed(chunks, chunk);
        }
    }

    #[cold]
    fn count_in_flight<B>(&self, chunks: &Chunks<B>, sent: u32) -> u32 {
        self.ledger(chunks).in_flight(sent)
    }

    #[cold]
    fn count_pending<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.ledger(chunks).lost_pending
    }

    #[cold]
    fn count_freed<B>(&mut self, chunks: &mut Chunks<B>, (index, flags, bytes): (u32, u8, u32)) {
        if chunks.get(index).is_none_or(|chunk| chunk.next() == NONE) {
            // The queue's last one: nothing is left to know anything about.
            return self.clear(chunks);
        }
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.on_cut(flags, bytes);
            let segment = flags & SACKED != 0 && flags & CONTINUED == 0;
            if segment {
                ledger.sacked_segments = ledger.sacked_segments.saturating_sub(1);
            }
            ledger.trail.on_freed(index, segment);
        }
        self.tidy(chunks);
    }

    /// Nothing is sent any more.
    #[inline]
    pub(crate) fn clear<B>(&mut self, chunks: &mut Chunks<B>) {
        chunks.ledgers.clear(self.place);
        self.place = Place::NONE;
    }

    /// Bytes of a chunk left the totals.
    #[inline]
    pub(crate) fn on_cut<B>(&mut self, chunks: &mut Chunks<B>, flags: u8, bytes: u32) {
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.on_cut(flags, bytes);
        }
    }

    /// Fast recovery begins with this window.
    pub(crate) fn begin_reduction<B>(&mut self, chunks: &mut Chunks<B>, flight_at_start: u32) {
        let Some(mut ledger) = self.open(chunks) else {
            return;
        };
        ledger.reduction = Some(Reduction::new(flight_at_start));
        self.keep(chunks, ledger);
    }

    /// How the window goes down, in fast recovery.
    pub(crate) fn reduction<'a, B>(&self, chunks: &'a mut Chunks<B>) -> Option<&'a mut Reduction> {
        let ledger = chunks.ledgers.get_mut(self.place)?;
        ledger.reduction.as_mut()
    }

    /// Fast recovery has ended.
    pub(crate) fn end_reduction<B>(&mut self, chunks: &mut Chunks<B>) {
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.reduction = None;
            self.tidy(chunks);
        }
    }

    /// Payload left, for the first time or again.
    #[inline]
    pub(crate) fn on_sent<B>(&self, chunks: &mut Chunks<B>, bytes: u32) {
        if !self.is_clear() {
            self.count_sent(chunks, bytes);
        }
    }

    #[cold]
    fn count_sent<B>(&self, chunks: &mut Chunks<B>, bytes: u32) {
        if let Some(reduction) = self.reduction(chunks) {
            reduction.sent = reduction.sent.saturating_add(bytes);
        }
    }

    /// Digests the SACK blocks of one ACK. `una` is the acknowledgment the segment itself carries.
    pub(crate) fn on_sack<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
        (una, nxt): (SeqNumber, SeqNumber),
        blocks: &[(SeqNumber, SeqNumber)],
    ) -> Sacked {
        let mut sacked = Sacked::default();
        let Some(mut ledger) = self.open(chunks) else {
            return sacked;
        };
        let mut seen = [SeqRange::default(); SACK_BLOCKS_MAX];
        for (position, (&(start, end), slot)) in blocks.iter().zip(&mut seen).enumerate() {
            let inside_second = blocks.get(1).is_some_and(|second| {
                position == 0 && start.after_or_eq(second.0) && end.before_or_eq(second.1)
            });
            if position == 0 && (end.before_or_eq(una) || inside_second) {
                sacked.duplicate = true;
                continue;
            }
            // A block that is empty, acknowledged or beyond what was sent says nothing (Linux:
            // tcp_is_sackblock_valid).
            if !start.before(end) || end.after(nxt) || start.before(una) {
                continue;
            }
            *slot = SeqRange { start, end };
            let known = ledger.trail.seen.iter().find(|known| {
                !known.is_empty() && known.start.before_or_eq(start) && known.end.after(start)
            });
            let from = known.map_or(start, |known| known.end.earliest(end));
            if from.before(end) {
                ledger.mark_range(chunks, (queue, unsent), (*slot, from), &mut sacked);
            }
        }
        ledger.trail.seen = seen;
        self.keep(chunks, ledger);
        sacked
    }

    /// Marks as lost what has `threshold` SACKed segments behind it (RFC 6675 IsLost, counted in
    /// segments as Linux does).
    pub(crate) fn mark_lost_by_sack<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
        threshold: u32,
    ) {
        // Without a ledger nothing is SACKed.
        let Some(mut ledger) = chunks.ledgers.get(self.place).copied() else {
            return;
        };
        let (mut index, mut before) = match chunks.get(ledger.trail.lost_hint) {
            Some(_) => (ledger.trail.lost_hint, ledger.trail.sacked_before_hint),
            None => (queue.head(), 0),
        };
        while index != unsent && ledger.sacked_segments.saturating_sub(before) >= threshold {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            let next = chunk.next();
            if chunk.has(SACKED) {
                before = before.saturating_add(u32::from(!chunk.has(CONTINUED)));
            } else {
                ledger.mark_lost(chunks, index);
            }
            index = next;
        }
        ledger.trail.lost_hint = index;
        ledger.trail.sacked_before_hint = if index == NONE { 0 } else { before };
        self.keep(chunks, ledger);
    }

    /// Marks one chunk as lost, for the first time or (when its retransmission was in flight)
    /// again.
    pub(crate) fn mark_lost<B>(&mut self, chunks: &mut Chunks<B>, index: u32) {
        let Some(mut ledger) = self.open(chunks) else {
            return;
        };
        ledger.mark_lost(chunks, index);
        self.keep(chunks, ledger);
    }

    /// Marks everything sent and not SACKed as lost: a timeout (RFC 6298 section 5; RFC 6675
    /// section 5.1). O(chunks).
    pub(crate) fn mark_all_lost<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
    ) {
        let mut index = queue.head();
        if index == unsent {
            return;
        }
        let Some(mut ledger) = self.open(chunks) else {
            return;
        };
        while index != unsent {
            let Some(next) = chunks.get(index).map(|chunk| chunk.next()) else {
                break;
            };
            ledger.mark_lost(chunks, index);
            index = next;
        }
        self.keep(chunks, ledger);
    }

    /// The peer took back what it had SACKed (RFC 2018 section 8): forgets all reports. O(chunks).
    pub(crate) fn forget_sacks<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
    ) {
        let mut index = queue.head();
        while index != unsent {
            let Some(chunk) = chunks.get_mut(index) else {
                break;
            };
            chunk.flags &= !SACKED;
            index = chunk.next();
        }
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.sacked = 0;
            ledger.sacked_segments = 0;
            ledger.trail = Trail {
                retransmit_hint: ledger.trail.retransmit_hint,
                ..Trail::START
            };
        }
        self.tidy(chunks);
    }

    /// The next chunk to retransmit; O(1) amortised over a recovery.
    pub(crate) fn next_to_retransmit<B>(
        &self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
    ) -> Option<u32> {
        let ledger = chunks.ledgers.get(self.place)?;
        if ledger.lost_pending == 0 {
            return None;
        }
        let hint = ledger.trail.retransmit_hint;
        let mut index = match chunks.get(hint) {
            Some(_) => hint,
            None => queue.head(),
        };
        while index != unsent {
            let chunk = chunks.get(index)?;
            if chunk.flags & (SACKED | LOST | RETRANSMITTED) == LOST {
                let ledger = chunks.ledgers.get_mut(self.place)?;
                ledger.trail.retransmit_hint = index;
                return Some(index);
            }
            index = chunk.next();
        }
        None
    }

    /// A chunk left again.
    pub(crate) fn on_retransmitted<B>(&mut self, chunks: &mut Chunks<B>, index: u32, now: Instant) {
        let Some(chunk) = chunks.get_mut(index) else {
            return;
        };
        let (len, was_lost) = (u32::from(chunk.len), chunk.has(LOST));
        let is_first = !chunk.has(RETRANSMITTED);
        chunk.flags |= RETRANSMITTED | EVER_RETRANSMITTED;
        chunk.flags &= !CONTINUED;
        chunk.retransmissions = chunk.retransmissions.saturating_add(1);
        chunk.sent_at = now;
        if is_first && let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.retransmitted = ledger.retransmitted.saturating_add(len);
            if was_lost {
                ledger.lost_pending = ledger.lost_pending.saturating_sub(len);
            }
        }
    }

    /// Counts everything again from the chunks: whether the totals are right. For tests and checked
    /// builds.
    pub(crate) fn is_consistent<B>(&self, chunks: &Chunks<B>, queue: &ChunkQueue) -> bool {
        let mut sums = [0u32; 4];
        for (_, chunk) in chunks.iter(queue) {
            let len = u32::from(chunk.len);
            let lost = chunk.has(LOST) && !chunk.has(SACKED);
            let sent_again = chunk.has(RETRANSMITTED);
            let cases = [chunk.has(SACKED), lost, lost && !sent_again, sent_again];
            for (sum, holds) in sums.iter_mut().zip(cases) {
                *sum = sum.wrapping_add(if holds { len } else { 0 });
            }
        }
        let ledger = self.ledger(chunks);
        let is_needed = sums != [0; 4] || ledger.reduction.is_some();
        let totals = [
            ledger.sacked,
            ledger.lost,
            ledger.lost_pending,
            ledger.retransmitted,
        ];
        sums == totals && is_needed != self.is_clear()
    }

    fn ledger<'a, B>(&self, chunks: &'a Chunks<B>) -> &'a Ledger {
        chunks.ledgers.get(self.place).unwrap_or(&Ledger::EMPTY)
    }

    /// The ledger to write to, in a place of its own from now on; hand it to `keep`.
    fn open<B>(&mut self, chunks: &mut Chunks<B>) -> Option<Ledger> {
        if self.is_clear() {
            self.place = chunks.ledgers.store(Place::NONE, Ledger::EMPTY);
        }
        let ledger = chunks.ledgers.get(self.place).copied();
        invariant!(ledger.is_some(), "as many ledgers as buffers");
        ledger
    }

    fn keep<B>(&mut self, chunks: &mut Chunks<B>, ledger: Ledger) {
        self.place = chunks.ledgers.store(self.place, ledger);
        self.tidy(chunks);
    }

    /// Gives the place on the shelf back once nothing is SACKed, lost or sent again.
    fn tidy<B>(&mut self, chunks: &mut Chunks<B>) {
        if self.ledger(chunks).is_empty() {
            self.clear(chunks);
        }
    }
}

impl Ledger {
    const EMPTY: Self = Self {
        sacked: 0,
        sacked_segments: 0,
        lost: 0,
        lost_pending: 0,
        retransmitted: 0,
        reduction: None,
        trail: Trail::START,
    };

    fn is_empty(&self) -> bool {
        self.sacked | self.lost | self.retransmitted == 0 && self.reduction.is_none()
    }

    fn in_flight(&self, sent: u32) -> u32 {
        sent.saturating_sub(self.sacked)
            .saturating_sub(self.lost)
            .saturating_add(self.retransmitted)
    }

    fn on_cut(&mut self, flags: u8, bytes: u32) {
        if flags & SACKED != 0 {
            self.sacked = self.sacked.saturating_sub(bytes);
            return;
        }
        if flags & LOST != 0 {
            self.lost = self.lost.saturating_sub(bytes);
            if flags & RETRANSMITTED == 0 {
                self.lost_pending = self.lost_pending.saturating_sub(bytes);
            }
        }
        if flags & RETRANSMITTED != 0 {
            self.retransmitted = self.retransmitted.saturating_sub(bytes);
        }
    }

    /// Marks what a block covers. What ends before `from` was marked when an earlier ACK reported
    /// it; a chunk that reaches beyond was covered in part then and may be whole now.
    fn mark_range<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
        (range, from): (SeqRange, SeqNumber),
        sacked: &mut Sacked,
    ) {
        let hint = chunks
            .get(self.trail.sack_hint)
            .filter(|hint| hint.seq.before_or_eq(from));
        let mut index = if hint.is_some() {
            self.trail.sack_hint
        } else {
            queue.head()
        };
        while index != unsent {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            if chunk.seq.after_or_eq(range.end) {
                break;
            }
            let next = chunk.next();
            // Only whole chunks count: a segment is a whole number of chunks, so a part means a
            // resegmented path.
            if chunk.seq.after_or_eq(range.start) && chunk.end().before_or_eq(range.end) {
                self.mark_sacked(chunks, index, sacked);
            }
            self.trail.sack_hint = index;
            index = next;
        }
    }

    fn mark_sacked<B>(&mut self, chunks: &mut Chunks<B>, index: u32, sacked: &mut Sacked) {
        let before_hint = chunks.get(self.trail.lost_hint).map(|hint| hint.seq);
        let Some(chunk) = chunks.get_mut(index) else {
            return;
        };
        if chunk.has(SACKED) {
            return;
        }
        let len = u32::from(chunk.len);
        let flags = chunk.flags;
        if flags & EVER_RETRANSMITTED == 0 {
            sacked.sent_at = Some(chunk.sent_at);
        }
        chunk.flags = (flags & !(LOST | RETRANSMITTED)) | SACKED;
        let counts = flags & CONTINUED == 0;
        let is_before_hint = before_hint.is_some_and(|hint| chunk.seq.before(hint));
        self.on_cut(flags, len);
        self.sacked = self.sacked.saturating_add(len);
        sacked.bytes = sacked.bytes.saturating_add(len);
        if counts {
            sacked.segments = sacked.segments.saturating_add(1);
            self.sacked_segments = self.sacked_segments.saturating_add(1);
            if is_before_hint {
                self.trail.sacked_before_hint = self.trail.sacked_before_hint.saturating_add(1);
            }
        }
    }

    fn mark_lost<B>(&mut self, chunks: &mut Chunks<B>, index: u32) {
        let hint = chunks.get(self.trail.retransmit_hint).map(|hint| hint.seq);
        let Some(chunk) = chunks.get_mut(index) else {
            return;
        };
        let len = u32::from(chunk.len);
        if chunk.has(SACKED) || chunk.flags & (LOST | RETRANSMITTED) == LOST {
            return;
        }
        if !chunk.has(LOST) {
            self.lost = self.lost.saturating_add(len);
        }
        if chunk.has(RETRANSMITTED) {
            self.retransmitted = self.retransmitted.saturating_sub(len);
        }
        chunk.flags = (chunk.flags & !RETRANSMITTED) | LOST;
        self.lost_pending = self.lost_pending.saturating_add(len);
        // The walk for retransmissions may be past this one.
        if hint.is_some_and(|hint| chunk.seq.before(hint)) {
            self.trail.retransmit_hint = NONE;
        }
    }
}

impl Trail {
    /// Nothing walked over yet.
    const START: Self = Self {
        lost_hint: NONE,
        retransmit_hint: NONE,
        sack_hint: NONE,
        sacked_before_hint: 0,
        seen: [SeqRange {
            start: SeqNumber::new(0),
            end: SeqNumber::new(0),
        }; SACK_BLOCKS_MAX],
    };

    /// A chunk was acknowledged; `segment` when a whole SACKed segment went with it.
    fn on_freed(&mut self, index: u32, segment: bool) {
        if segment && self.lost_hint != NONE {
            self.sacked_before_hint = self.sacked_before_hint.saturating_sub(1);
        }
        if self.lost_hint == index {
            self.lost_hint = NONE;
            self.sacked_before_hint = 0;
        }
        if self.retransmit_hint == index {
            self.retransmit_hint = NONE;
        }
        if self.sack_hint == index {
            self.sack_hint = NONE;
        }
    }
}
