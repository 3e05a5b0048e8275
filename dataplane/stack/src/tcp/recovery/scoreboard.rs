//! What is known about each sent chunk: SACKed, lost, retransmitted; and the totals that follow
//! from it.
//!
//! The flags live on the chunks, the totals in a ledger, so that "how much is in flight" is a
//! subtraction (the pipe of RFC 6675, counted as Linux counts `packets_in_flight`). The walks
//! remember where they stopped: in a long window an ACK touches what it changes, not everything.
//!
//! Most connections have lost nothing most of the time, so the ledger lies on a shelf
//! (`Chunks::ledgers`), and only while something is SACKed or lost, the window is being reduced, or
//! a report may still come of what was sent needlessly; the TCB keeps its place. There are as many
//! places as buffers, and who needs one has a buffer in its send queue, or gives it back once half
//! of the shelf is taken. So the shelf is never full; were it, chunks would stay unmarked and wait
//! for a later timeout.

use millrace_base::{Instant, SeqNumber, invariant};

use super::ledger::{Ledger, Permission, Tally, Trail};
use super::reduction::Reduction;
use super::tlp::Probe;
use crate::tcp::chunk::{
    CONTINUED, ChunkQueue, Chunks, EVER_RETRANSMITTED, LOST, RETRANSMITTED, SACKED,
};
use crate::tcp::reassembly::{SACK_BLOCKS_MAX, SeqRange};
use crate::tcp::shelf::Place;

/// The sent part of the send queue: where its ledger is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoreboard {
    place: Place,
}

/// What an ACK's SACK blocks told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sacked {
    /// Bytes newly SACKed.
    pub(crate) bytes: u32,
    /// When the first and the last of those were sent that were sent once only.
    pub(crate) sent_at: Option<(Instant, Instant)>,
    /// Blocks that say nothing (Linux: `tcp_is_sackblock_valid`).
    pub(crate) discarded: u32,
}

/// Takes a mark off everything that was sent. O(chunks).
fn unmark<B>(chunks: &mut Chunks<B>, (queue, unsent): (&ChunkQueue, u32), mark: u8) {
    let mut index = queue.head();
    while index != unsent {
        let Some(chunk) = chunks.get_mut(index) else {
            break;
        };
        chunk.flags &= !mark;
        index = chunk.next();
    }
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
        self.view(chunks).sacked
    }

    /// Segments SACKed.
    pub(crate) fn sacked_segments<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.view(chunks).sacked_segments
    }

    /// Bytes lost, retransmitted or not.
    pub(crate) fn lost<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.view(chunks).lost
    }

    /// Bytes of what was sent that have left the network: SACKed, or lost.
    pub(crate) fn gone<B>(&self, chunks: &Chunks<B>) -> u32 {
        let ledger = self.view(chunks);
        ledger.sacked.saturating_add(ledger.lost)
    }

    /// Segments lost, and segments retransmitted and again in flight. O(chunks in flight) while there
    /// are some.
    pub(crate) fn lost_and_retransmitted_segments<B>(
        &self,
        chunks: &Chunks<B>,
        queue: &ChunkQueue,
    ) -> (u32, u32) {
        let (mut lost, mut again) = (0u32, 0u32);
        let ledger = self.view(chunks);
        let (mut lost_left, mut again_left) = (ledger.lost, ledger.retransmitted);
        for (_, chunk) in chunks.iter(queue) {
            if lost_left | again_left == 0 {
                break;
            }
            let (counts, bytes) = (u32::from(!chunk.has(CONTINUED)), u32::from(chunk.len));
            if chunk.has(LOST) && !chunk.has(SACKED) {
                lost = lost.wrapping_add(counts);
                lost_left = lost_left.saturating_sub(bytes);
            }
            if chunk.has(RETRANSMITTED) {
                again = again.wrapping_add(counts);
                again_left = again_left.saturating_sub(bytes);
            }
        }
        (lost, again)
    }

    /// Bytes retransmitted and again in flight.
    pub(crate) fn retransmitted<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.view(chunks).retransmitted
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
        self.view(chunks).in_flight(sent)
    }

    #[cold]
    fn count_pending<B>(&self, chunks: &Chunks<B>) -> u32 {
        self.view(chunks).lost_pending
    }

    #[cold]
    fn count_freed<B>(&mut self, chunks: &mut Chunks<B>, (index, _, bytes): (u32, u8, u32)) {
        if let Some(mut ledger) = chunks.ledgers.get(self.place).copied() {
            ledger.on_freed(chunks, index, bytes);
            self.place = chunks.ledgers.store(self.place, ledger);
        }
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
            if flags & SACKED == 0 {
                ledger.tally.delivered_bytes = ledger.tally.delivered_bytes.wrapping_add(bytes);
            }
        }
    }

    /// Changes the ledger, opening one; `None` when there is no place for it.
    pub(in crate::tcp) fn edit<B, R>(
        &mut self,
        chunks: &mut Chunks<B>,
        change: impl FnOnce(&mut Ledger) -> R,
    ) -> Option<R> {
        if self.is_clear() {
            self.open(chunks)?;
        }
        chunks.ledgers.get_mut(self.place).map(change)
    }

    /// What the ledger says, or what an empty one would.
    pub(in crate::tcp) fn view<'a, B>(&self, chunks: &'a Chunks<B>) -> &'a Ledger {
        chunks.ledgers.get(self.place).unwrap_or(&Ledger::EMPTY)
    }

    /// Begins to collect what one ACK tells.
    pub(crate) fn begin_tally<B>(&mut self, chunks: &mut Chunks<B>, una: SeqNumber, tally: Tally) {
        self.edit(chunks, |ledger| {
            ledger.tally = Tally {
                fack_before: ledger.highest_sacked(una),
                ..tally
            };
        });
    }

    /// The window begins to go down from so many segments.
    pub(crate) fn begin_reduction<B>(&mut self, chunks: &mut Chunks<B>, window_before: u32) {
        self.edit(chunks, |ledger| {
            ledger.reduction = Some(Reduction::new(window_before));
            ledger.probe = Probe::None;
        });
    }

    /// How the window goes down, in fast recovery.
    pub(crate) fn reduction<'a, B>(&self, chunks: &'a mut Chunks<B>) -> Option<&'a mut Reduction> {
        let ledger = chunks.ledgers.get_mut(self.place)?;
        ledger.reduction.as_mut()
    }

    /// Reduction has ended.
    pub(crate) fn end_reduction<B>(&mut self, chunks: &mut Chunks<B>) {
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.reduction = None;
        }
    }

    /// The ACK is digested: gives the ledger back when it says nothing any more, or when nothing is
    /// in flight that it could say something about and others may need the place.
    pub(super) fn settle<B>(&mut self, chunks: &mut Chunks<B>, is_idle: bool) {
        if is_idle {
            if chunks.ledgers.is_half_used() {
                return self.clear(chunks);
            }
            if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
                ledger.samples = false;
            }
        }
        self.tidy(chunks);
    }

    /// What may leave beside new data.
    #[inline]
    pub(crate) fn permission<B>(&self, chunks: &Chunks<B>) -> Permission {
        self.view(chunks).permission
    }

    /// Segments with payload left, for the first time or again.
    #[inline]
    pub(crate) fn on_sent<B>(&self, chunks: &mut Chunks<B>, segments: u32) {
        if !self.is_clear() {
            self.count_sent(chunks, segments);
        }
    }

    #[cold]
    fn count_sent<B>(&self, chunks: &mut Chunks<B>, segments: u32) {
        if let Some(reduction) = self.reduction(chunks) {
            reduction.sent = reduction.sent.saturating_add(segments);
        }
    }

    /// Marks what the SACK blocks of one ACK report; `tally` was begun. Blocks below SND.UNA say
    /// nothing about what is queued.
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
        let before = ledger.tally.delivered_bytes;
        let mut seen = [SeqRange::default(); SACK_BLOCKS_MAX];
        let mut taken = 0usize;
        for &(start, end) in blocks {
            // Linux: tcp_is_sackblock_valid.
            if !start.before(end) || end.after(nxt) || !start.after(una) {
                sacked.discarded = sacked.discarded.saturating_add(1);
                continue;
            }
            if let Some(slot) = seen.get_mut(taken) {
                *slot = SeqRange { start, end };
                taken = taken.saturating_add(1);
            }
        }
        // In order, so that one ACK does not look reordered.
        let blocks = seen.get_mut(..taken).unwrap_or_default();
        blocks.sort_unstable_by(|one, other| one.start.distance(other.start).cmp(&0));
        for &block in blocks.iter() {
            let SeqRange { start, end } = block;
            let known = ledger.trail.seen.iter().find(|known| {
                !known.is_empty() && known.start.before_or_eq(start) && known.end.after(start)
            });
            let from = known.map_or(start, |known| known.end.earliest(end));
            if from.before(end) {
                let sent_at = ledger.mark_range(chunks, (queue, unsent), (block, from), una);
                sacked.sent_at = match (sacked.sent_at, sent_at) {
                    (Some((first, _)), Some((_, last))) => Some((first, last)),
                    (known, found) => found.or(known),
                };
            }
        }
        ledger.trail.seen = seen;
        sacked.bytes = ledger.tally.delivered_bytes.wrapping_sub(before);
        self.place = chunks.ledgers.store(self.place, ledger);
        sacked
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

    /// Marks everything sent and not SACKed as lost, except what is too recent to be missed: a
    /// timeout (RFC 6298 section 5; RFC 8985 section 6.3). Tells how many segments were retransmissions.
    /// O(chunks).
    pub(super) fn mark_all_lost<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
        is_recent: impl Fn(&Ledger, Instant) -> bool,
    ) -> u32 {
        let mut index = queue.head();
        let mut again = 0u32;
        if index == unsent {
            return again;
        }
        let Some(mut ledger) = self.open(chunks) else {
            return again;
        };
        while index != unsent {
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            let (next, sent_at) = (chunk.next(), chunk.sent_at);
            let counts = u32::from(!chunk.has(CONTINUED));
            if (index == queue.head() || !is_recent(&ledger, sent_at))
                && ledger.mark_lost(chunks, index)
            {
                again = again.saturating_add(counts);
            }
            index = next;
        }
        // Everything is walked over again, from the start. What is still in flight lies behind what
        // leaves again now, and is older.
        ledger.trail = Trail {
            seen: ledger.trail.seen,
            is_disordered: ledger.retransmitted > 0,
            ..Trail::START
        };
        self.keep(chunks, ledger);
        again
    }

    /// The peer took back what it had SACKed (RFC 2018 section 8): forgets all reports. O(chunks).
    pub(crate) fn forget_sacks<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
    ) {
        unmark(chunks, (queue, unsent), SACKED);
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.sacked = 0;
            ledger.sacked_segments = 0;
            ledger.trail = Trail {
                retransmit_hint: ledger.trail.retransmit_hint,
                ..Trail::START
            };
        }
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

    /// A chunk left again, at this time, which is so many milliseconds of our clock; `continues` when
    /// in one segment with the chunk before it.
    pub(crate) fn on_retransmitted<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (index, continues): (u32, bool),
        (now, now_ms): (Instant, u32),
    ) {
        let Some(chunk) = chunks.get_mut(index) else {
            return;
        };
        let (len, was_lost) = (u32::from(chunk.len), chunk.has(LOST));
        let is_first = !chunk.has(RETRANSMITTED);
        chunk.flags |= RETRANSMITTED | EVER_RETRANSMITTED;
        if !continues {
            chunk.flags &= !CONTINUED;
        }
        chunk.retransmissions = chunk.retransmissions.saturating_add(1);
        chunk.sent_at = now;
        let Some(ledger) = chunks.ledgers.get_mut(self.place) else {
            return;
        };
        if is_first {
            ledger.retransmitted = ledger.retransmitted.saturating_add(len);
            if was_lost {
                ledger.lost_pending = ledger.lost_pending.saturating_sub(len);
            }
        }
        ledger.first_retransmission_ms.get_or_insert(now_ms);
        if let Some(undo) = &mut ledger.undo
            && !continues
        {
            undo.on_retransmitted();
        }
    }

    /// Nothing is lost after all: forgets all such marks. What was sent again stays so. O(chunks).
    pub(super) fn forget_losses<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
    ) {
        unmark(chunks, (queue, unsent), LOST);
        if let Some(ledger) = chunks.ledgers.get_mut(self.place) {
            ledger.lost = 0;
            ledger.lost_pending = 0;
            ledger.trail = Trail {
                seen: ledger.trail.seen,
                is_disordered: true,
                ..Trail::START
            };
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
        let ledger = self.view(chunks);
        let totals = [
            ledger.sacked,
            ledger.lost,
            ledger.lost_pending,
            ledger.retransmitted,
        ];
        sums == totals && (sums == [0; 4] || !self.is_clear())
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
        if self.view(chunks).is_empty() {
            self.clear(chunks);
        }
    }
}
