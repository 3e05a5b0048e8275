//! D-SACK: the first block of an ACK reports what arrived twice (RFC 2883).
//!
//! It takes back retransmissions that a spurious recovery made, ends a tail loss probe that was not
//! needed, and widens RACK's window.

use millrace_base::{PacketPool, SeqNumber};

use crate::stats::count;
use crate::tcp::chunk::{CONTINUED, EVER_RETRANSMITTED, SACKED};
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

/// A D-SACK that is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::tcp) struct Duplicate {
    /// Segments that arrived twice.
    pub(super) segments: u32,
    /// The last of them is a tail loss probe.
    pub(super) is_probe: bool,
}

impl Connection {
    /// Whether the first of `blocks` is a D-SACK, and what it says (Linux: `tcp_check_dsack`).
    pub(in crate::tcp) fn take_dsack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        ack: SeqNumber,
        blocks: &[(SeqNumber, SeqNumber)],
    ) -> Option<Duplicate> {
        let &(start, end) = blocks.first()?;
        if start.before(ack) {
            count!(env.stats.tcp_dsack_recv);
        } else if let Some(&(outer_start, outer_end)) = blocks.get(1)
            && !end.after(outer_end)
            && !start.before(outer_start)
        {
            count!(env.stats.tcp_dsack_ofo_recv);
        } else {
            return None;
        }
        let Some(duplicate) = self.believe_dsack(env, start, end) else {
            count!(env.stats.tcp_dsack_ignored_dubious);
            return None;
        };
        count!(env.stats.tcp_dsack_recv_segs, u64::from(duplicate.segments));
        let una = self.una;
        let has_undo = self.send.board.view(env.chunks).undo.is_some();
        if end.before_or_eq(una) {
            if !has_undo {
                count!(env.stats.tcp_dsack_ignored_no_undo);
            } else {
                self.send.board.edit(env.chunks, |ledger| {
                    if let Some(undo) = &mut ledger.undo
                        && end.after(undo.marker)
                    {
                        undo.take_back(duplicate.segments);
                    }
                });
            }
        } else {
            self.take_back_queued(env, start, end);
        }
        Some(duplicate)
    }

    /// Whether we sent so much twice at all (Linux: `tcp_dsack_seen`).
    fn believe_dsack<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        start: SeqNumber,
        end: SeqNumber,
    ) -> Option<Duplicate> {
        let len = end.bytes_since(start);
        if !start.before(end) || len > self.wnd_max {
            return None;
        }
        let segments = len.div_ceil(u32::from(self.mss.max(1))).max(1);
        let probe_end = self.send.board.view(env.chunks).probe_end;
        let is_probe = segments == 1 && self.is_probe_out(env.chunks) && end == probe_end;
        let sent_twice = self.retransmissions;
        // Counted, believed or not.
        if let Some(known) = self.reordering_mut(env.chunks) {
            known.duplicates = known.duplicates.saturating_add(segments);
            if known.duplicates > sent_twice {
                return None;
            }
            // A path that has not shown any reordering needs no wider window for it: the retransmission
            // was a timer's (Linux: `tcp_dsack_seen`).
            known.dsack_seen |= known.is_seen() && !is_probe;
        } else if sent_twice == 0 {
            return None;
        }
        Some(Duplicate { segments, is_probe })
    }

    /// What is reported is SACKed and still queued: its retransmission was not needed. If the SACK came
    /// before, that is reordering.
    fn take_back_queued<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        start: SeqNumber,
        end: SeqNumber,
    ) {
        if self.send.board.is_clear() {
            return;
        }
        let (queue, unsent, board) = self.send.parts();
        let mut ledger = *board.view(env.chunks);
        let mut index = queue.head();
        while index != unsent {
            let Some(chunk) = env.chunks.get_mut(index) else {
                break;
            };
            if chunk.seq.after_or_eq(end) {
                break;
            }
            let inside = chunk.seq.after_or_eq(start) && chunk.end().before_or_eq(end);
            if inside && chunk.has(EVER_RETRANSMITTED) {
                if let Some(undo) = &mut ledger.undo
                    && chunk.end().after(undo.marker)
                    && !chunk.has(CONTINUED)
                {
                    undo.take_back(1);
                }
                if chunk.has(SACKED) {
                    ledger.tally.note_late(chunk.seq);
                }
            }
            index = chunk.next();
        }
        board.edit(env.chunks, |kept| *kept = ledger);
    }
}
