//! What one connection knows of data on its way while that is worth knowing: totals, the newest
//! delivery (RACK), what a spurious reduction took, and where the walks stand.
//!
//! It is the scoreboard's (`scoreboard.rs`), which lends and keeps it; the rules that read it are in
//! `rack.rs`, `undo.rs`, `frto.rs`, `tlp.rs`.

use millrace_base::{Instant, SeqNumber};

use super::reduction::Reduction;
use super::tlp::Probe;
use super::undo::Undo;
use crate::tcp::chunk::{
    CONTINUED, ChunkQueue, Chunks, EVER_RETRANSMITTED, LOST, NONE, RETRANSMITTED, SACKED,
};
use crate::tcp::reassembly::{SACK_BLOCKS_MAX, SeqRange};

/// Totals over the sent part of the send queue in bytes, unless a name says otherwise, and the
/// state of an episode of loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger {
    /// SACKed.
    pub(super) sacked: u32,
    /// Segments that are SACKed.
    pub(super) sacked_segments: u32,
    /// Lost and not SACKed.
    pub(super) lost: u32,
    /// Of these, not yet retransmitted.
    pub(super) lost_pending: u32,
    /// Retransmitted and not SACKed.
    pub(super) retransmitted: u32,
    /// Bytes ever found lost, wrapping (Linux: `tp->lost`).
    pub(super) found_lost: u32,
    /// Bytes that were found lost again after a retransmission, wrapping.
    pub(super) found_lost_again: u32,
    /// Behind the highest SACKed byte, while something is SACKed.
    pub(super) fack: SeqNumber,
    /// How the window goes down; `None` outside of CWR and Recovery.
    pub(super) reduction: Option<Reduction>,
    /// What to put back when the reduction turns out to be wrong.
    pub(super) undo: Option<Undo>,
    /// When the first retransmission of the episode left, in milliseconds of our clock (Linux:
    /// `retrans_stamp`).
    pub(super) first_retransmission_ms: Option<u32>,
    /// The tail loss probe that is out.
    pub(super) probe: Probe,
    /// SND.NXT when it left (Linux: `tlp_high_seq`).
    pub(super) probe_end: SeqNumber,
    /// What the last ACK or timer allows to leave beside new data.
    pub(super) permission: Permission,
    /// F-RTO is finding out whether the timeout was spurious.
    pub(super) frto: bool,
    /// Congestion control asks for the rate of delivery: open while something is in flight.
    pub(crate) samples: bool,
    /// The newest delivery.
    pub(super) rack: Rack,
    /// What the present ACK told.
    pub(super) tally: Tally,
    pub(super) trail: Trail,
}

/// What may leave beside what the window allows of new data (Linux: `REXMIT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Permission {
    /// No retransmission until the next ACK.
    None,
    /// What is lost, then new data.
    Lost,
    /// New data first; what is lost only if none can leave (RFC 5682 step 2b).
    New,
}

/// The delivered segment that was sent last (RFC 8985 section 5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rack {
    pub(super) sent_at: Instant,
    pub(super) end: SeqNumber,
    /// How long the last delivery took, in microseconds; 0 before one.
    pub(super) rtt_us: u32,
}

/// What one ACK told, collected while its SACK blocks are marked and what it covers is freed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) now: Instant,
    /// The smallest round trip in microseconds.
    pub(crate) min_rtt_us: u32,
    /// The echoed timestamp, in milliseconds of our clock.
    pub(crate) echo_ms: Option<u32>,
    /// SND.NXT when the episode began.
    pub(crate) point: SeqNumber,
    /// The highest SACKed byte before this ACK.
    pub(super) fack_before: SeqNumber,
    pub(super) delivered_segments: u32,
    pub(super) delivered_bytes: u32,
    /// Something that was sent once, before the episode began, arrived.
    pub(super) original_acked: bool,
    /// Something that had been retransmitted was acknowledged by number.
    pub(super) retransmission_acked: bool,
    /// The lowest first transmission that a SACK reported below one reported earlier.
    pub(super) sacked_late: Option<SeqNumber>,
    /// The same for the cumulative part: the lowest hole that filled without a retransmission.
    pub(super) filled_late: Option<SeqNumber>,
}

/// Where the walks over the sent part stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail {
    /// Where the walks for loss, retransmission and SACK continue; `NONE` is the head.
    pub(super) lost_hint: u32,
    pub(super) retransmit_hint: u32,
    pub(super) sack_hint: u32,
    /// What is retransmitted is not in the order of its times: a retransmission was lost, or something
    /// before it was found lost later.
    pub(super) is_disordered: bool,
    /// The blocks of the last ACK: what they cover is marked already.
    pub(super) seen: [SeqRange; SACK_BLOCKS_MAX],
}

impl Ledger {
    pub(super) const EMPTY: Self = Self {
        sacked: 0,
        sacked_segments: 0,
        lost: 0,
        lost_pending: 0,
        retransmitted: 0,
        found_lost: 0,
        found_lost_again: 0,
        fack: SeqNumber::new(0),
        reduction: None,
        undo: None,
        first_retransmission_ms: None,
        probe: Probe::None,
        probe_end: SeqNumber::new(0),
        permission: Permission::Lost,
        frto: false,
        samples: false,
        rack: Rack::NONE,
        tally: Tally::NONE,
        trail: Trail::START,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.sacked | self.lost | self.retransmitted == 0
            && self.reduction.is_none()
            && self.undo.is_none()
            && self.probe == Probe::None
            && !self.frto
            && !self.samples
    }

    pub(super) fn in_flight(&self, sent: u32) -> u32 {
        sent.saturating_sub(self.sacked)
            .saturating_sub(self.lost)
            .saturating_add(self.retransmitted)
    }

    /// Behind the highest SACKed byte, or SND.UNA.
    pub(super) fn highest_sacked(&self, una: SeqNumber) -> SeqNumber {
        if self.sacked == 0 { una } else { self.fack }
    }

    pub(super) fn on_cut(&mut self, flags: u8, bytes: u32) {
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

    /// A chunk is acknowledged by number and about to be freed.
    pub(super) fn on_freed<B>(&mut self, chunks: &Chunks<B>, index: u32, bytes: u32) {
        let Some(chunk) = chunks.get(index) else {
            return;
        };
        let flags = chunk.flags;
        let counts = u32::from(flags & CONTINUED == 0);
        if flags & EVER_RETRANSMITTED != 0 {
            self.tally.retransmission_acked = true;
        } else if flags & SACKED == 0 {
            lower(&mut self.tally.filled_late, chunk.seq);
            self.tally.original_acked |= chunk.end().before_or_eq(self.tally.point);
        }
        if flags & SACKED != 0 {
            self.sacked_segments = self.sacked_segments.saturating_sub(counts);
        } else {
            self.tally.delivered_segments = self.tally.delivered_segments.wrapping_add(counts);
            self.tally.delivered_bytes = self.tally.delivered_bytes.wrapping_add(bytes);
            if !self.tally.is_of_original(flags, chunk.sent_at) {
                self.rack
                    .advance(&self.tally, flags, chunk.end(), chunk.sent_at);
            }
        }
        self.on_cut(flags, bytes);
        self.trail.on_freed(index);
    }

    /// Marks what a block covers. What ends before `from` was marked when an earlier ACK reported
    /// it; a chunk that reaches beyond was covered in part then and may be whole now. Tells when the
    /// first and the last of them left that were sent once only.
    pub(super) fn mark_range<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        (queue, unsent): (&ChunkQueue, u32),
        (range, from): (SeqRange, SeqNumber),
        una: SeqNumber,
    ) -> Option<(Instant, Instant)> {
        let hint = chunks
            .get(self.trail.sack_hint)
            .filter(|hint| hint.seq.before_or_eq(from));
        let mut index = if hint.is_some() {
            self.trail.sack_hint
        } else {
            queue.head()
        };
        let mut sent = None;
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
            if chunk.seq.after_or_eq(range.start)
                && chunk.end().before_or_eq(range.end)
                && let Some(at) = self.mark_sacked(chunks, index, una)
            {
                sent = Some((sent.map_or(at, |(first, _)| first), at));
            }
            self.trail.sack_hint = index;
            index = next;
        }
        sent
    }

    /// Marks a chunk as SACKed; tells when it was sent, if it was sent once only.
    fn mark_sacked<B>(
        &mut self,
        chunks: &mut Chunks<B>,
        index: u32,
        una: SeqNumber,
    ) -> Option<Instant> {
        let chunk = chunks.get_mut(index)?;
        if chunk.has(SACKED) {
            return None;
        }
        let (len, flags) = (u32::from(chunk.len), chunk.flags);
        let (start, end, sent_at) = (chunk.seq, chunk.end(), chunk.sent_at);
        chunk.flags = (flags & !(LOST | RETRANSMITTED)) | SACKED;
        self.rack.advance(&self.tally, flags, end, sent_at);
        let is_original = flags & EVER_RETRANSMITTED == 0;
        let fack = self.highest_sacked(una);
        if self.samples {
            chunks
                .rates
                .on_delivered(index, (sent_at, end), !is_original);
        }
        if is_original {
            if start.before(fack) {
                lower(&mut self.tally.sacked_late, start);
            }
            self.tally.original_acked |= end.before_or_eq(self.tally.point);
        }
        self.on_cut(flags, len);
        self.fack = fack.latest(end);
        self.sacked = self.sacked.saturating_add(len);
        self.tally.delivered_bytes = self.tally.delivered_bytes.wrapping_add(len);
        let counts = u32::from(flags & CONTINUED == 0);
        self.sacked_segments = self.sacked_segments.saturating_add(counts);
        self.tally.delivered_segments = self.tally.delivered_segments.wrapping_add(counts);
        is_original.then_some(sent_at)
    }

    /// Marks one chunk as lost, for the first time or (when its retransmission was in flight)
    /// again; tells whether it was a retransmission.
    pub(super) fn mark_lost<B>(&mut self, chunks: &mut Chunks<B>, index: u32) -> bool {
        let hint = chunks.get(self.trail.retransmit_hint).map(|hint| hint.seq);
        let Some(chunk) = chunks.get_mut(index) else {
            return false;
        };
        let len = u32::from(chunk.len);
        if chunk.has(SACKED) || chunk.flags & (LOST | RETRANSMITTED) == LOST {
            return false;
        }
        let again = chunk.has(RETRANSMITTED);
        if !chunk.has(LOST) {
            self.lost = self.lost.saturating_add(len);
        }
        if again {
            self.retransmitted = self.retransmitted.saturating_sub(len);
            self.found_lost_again = self.found_lost_again.wrapping_add(len);
            self.trail.is_disordered = true;
        }
        chunk.flags = (chunk.flags & !RETRANSMITTED) | LOST;
        self.lost_pending = self.lost_pending.saturating_add(len);
        self.found_lost = self.found_lost.wrapping_add(len);
        // The walk for retransmissions may be past this one, which then leaves later than what is
        // behind it.
        if hint.is_some_and(|hint| chunk.seq.before(hint)) {
            self.trail.retransmit_hint = NONE;
            self.trail.is_disordered |= self.retransmitted > 0;
        }
        if self.samples {
            chunks.rates.on_lost(index);
        }
        again
    }
}

impl Rack {
    pub(super) const NONE: Self = Self {
        sent_at: Instant::ZERO,
        end: SeqNumber::new(0),
        rtt_us: 0,
    };

    /// A segment was delivered: is it the one that was sent last?
    //= https://www.rfc-editor.org/rfc/rfc8985#section-6.2
    //# Step 2: Update the state for the most recently sent segment that has been delivered
    fn advance(&mut self, tally: &Tally, flags: u8, end: SeqNumber, sent_at: Instant) {
        let rtt_us = tally.now.since(sent_at).to_micros().as_micros();
        // The original may have arrived instead: it is too soon for the retransmission.
        if flags & EVER_RETRANSMITTED != 0 && rtt_us < tally.min_rtt_us {
            return;
        }
        self.rtt_us = rtt_us;
        if is_sent_after((sent_at, end), (self.sent_at, self.end)) {
            (self.sent_at, self.end) = (sent_at, end);
        }
    }
}

/// Whether one segment was sent after another; of one burst, the one behind (RFC 8985 section 6.2).
pub(super) fn is_sent_after(one: (Instant, SeqNumber), other: (Instant, SeqNumber)) -> bool {
    one.0 > other.0 || (one.0 == other.0 && one.1.after(other.1))
}

/// Whether a time in wrapping milliseconds lies before another.
pub(super) fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

fn lower(lowest: &mut Option<SeqNumber>, seq: SeqNumber) {
    *lowest = Some(lowest.map_or(seq, |known| known.earliest(seq)));
}

impl Tally {
    /// The echoed timestamp says that the original of what was sent again arrived (Linux:
    /// `tcp_skb_spurious_retrans`). Only of what is acknowledged by number: what lies behind a hole
    /// does not move the peer's TS.Recent (RFC 7323 section 4.3), so the ACK that SACKs it echoes what
    /// came before the hole.
    fn is_of_original(&self, flags: u8, sent_at: Instant) -> bool {
        let sent_ms = sent_at.as_millis() as u32;
        flags & EVER_RETRANSMITTED != 0 && self.echo_ms.is_some_and(|echo| is_before(echo, sent_ms))
    }

    /// What begins at `seq` had arrived before it was sent again: the path reorders.
    pub(super) fn note_late(&mut self, seq: SeqNumber) {
        lower(&mut self.sacked_late, seq);
    }

    pub(crate) const NONE: Self = Self {
        now: Instant::ZERO,
        min_rtt_us: 0,
        echo_ms: None,
        point: SeqNumber::new(0),
        fack_before: SeqNumber::new(0),
        delivered_segments: 0,
        delivered_bytes: 0,
        original_acked: false,
        retransmission_acked: false,
        sacked_late: None,
        filled_late: None,
    };
}

impl Trail {
    /// Nothing walked over yet.
    pub(super) const START: Self = Self {
        lost_hint: NONE,
        retransmit_hint: NONE,
        sack_hint: NONE,
        is_disordered: false,
        seen: [SeqRange {
            start: SeqNumber::new(0),
            end: SeqNumber::new(0),
        }; SACK_BLOCKS_MAX],
    };

    /// A chunk was acknowledged.
    fn on_freed(&mut self, index: u32) {
        for hint in [
            &mut self.lost_hint,
            &mut self.retransmit_hint,
            &mut self.sack_hint,
        ] {
            if *hint == index {
                *hint = NONE;
            }
        }
    }
}
