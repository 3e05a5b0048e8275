//! How much the path reorders: the degree that duplicate ACKs are judged by, and the steps of RACK's
//! window (RFC 8985 section 6.2; Linux: `tp->reordering`, `reord_seen`, `tcp_rack_update_reo_wnd`).
//!
//! What is known lies in the connection's `Extra`, from the first reordering or D-SACK on: most
//! paths show neither.

use millrace_base::{PacketPool, SeqNumber};

use super::Phase;
use crate::stats::count;
use crate::tcp::chunk::Chunks;
use crate::tcp::config::TcpTunables;
use crate::tcp::connection::Connection;
use crate::tcp::segment::Env;

/// Recoveries that end without a D-SACK before the window is one step wide again (Linux:
/// `TCP_RACK_RECOVERY_THRESH`).
const PERSISTENCE: u8 = 16;

/// Reductions in a row that a peer may have undone, and how many have to stand for each one more.
///
/// What undoes a reduction is the peer's word alone. One that always gives it would never give way
/// to others: it would hold twice its share of a narrow place. Linux believes all. A path that
/// reorders asks for one undo for each step of RACK's window, and grows out of it; timeouts that
/// were spurious do not come so often.
const UNDOS_MAX: u8 = 2;
const STANDING_PER_UNDO: u8 = 8;
const _: () = assert!(UNDOS_MAX <= u8::MAX / STANDING_PER_UNDO);

/// `tcp_recovery`: the window stays one step wide.
const RACK_STATIC_REO_WND: u8 = 2;

/// What is known of a path's reordering; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reordering {
    /// The degree in segments; 0 is the tunable.
    degree: u16,
    /// Times reordering was seen, saturating.
    seen: u16,
    /// Duplicate segments reported by D-SACK, saturating.
    pub(super) duplicates: u32,
    /// SND.NXT when the window grew last: reports of what was sent before say nothing new.
    adjusted_at: SeqNumber,
    /// Steps beyond the first.
    more_steps: u8,
    /// Recoveries for which the steps stay.
    persistence: u8,
    /// A D-SACK waits to widen the window.
    pub(super) dsack_seen: bool,
    /// Undos that no standing reductions have paid for yet, times `STANDING_PER_UNDO`.
    undone: u8,
}

/// `Reordering` of a connection without any.
const UNKNOWN: Reordering = Reordering {
    degree: 0,
    seen: 0,
    duplicates: 0,
    adjusted_at: SeqNumber::new(0),
    more_steps: 0,
    persistence: 0,
    dsack_seen: false,
    undone: 0,
};

impl Reordering {
    /// The degree: so many segments may be overtaken.
    pub(crate) fn degree(&self, tunables: &TcpTunables) -> u32 {
        match self.degree {
            0 => u32::from(tunables.tcp_reordering.clamp(1, 127)),
            degree => degree.into(),
        }
    }

    /// The degree, when it is not the tunable.
    pub(crate) fn known_degree(&self) -> Option<u32> {
        (self.degree != 0).then_some(self.degree.into())
    }

    /// Times reordering was seen.
    pub(crate) fn times_seen(&self) -> u32 {
        self.seen.into()
    }

    /// Duplicate segments the peer has reported.
    pub(crate) fn duplicates(&self) -> u32 {
        self.duplicates
    }

    pub(super) fn is_seen(&self) -> bool {
        self.seen > 0
    }

    /// The window in quarters of the smallest round trip.
    pub(super) fn steps(&self) -> u32 {
        u32::from(self.more_steps).saturating_add(1)
    }

    /// Whether another reduction may be undone; takes note of it, or of one more that stands.
    fn may_undo(&mut self) -> bool {
        let after = self.undone.saturating_add(STANDING_PER_UNDO);
        let may = after <= UNDOS_MAX.saturating_mul(STANDING_PER_UNDO);
        self.undone = if may {
            after
        } else {
            self.undone.saturating_sub(1)
        };
        may
    }

    fn widen(&mut self, nxt: SeqNumber) {
        self.dsack_seen = false;
        self.more_steps = self.more_steps.saturating_add(1).min(254);
        self.adjusted_at = nxt;
        self.persistence = PERSISTENCE;
    }
}

impl Connection {
    /// What is known of the path's reordering.
    pub(crate) fn reordering<'a, B>(&self, chunks: &'a Chunks<B>) -> &'a Reordering {
        self.extra(chunks).map_or(&UNKNOWN, |it| &it.reordering)
    }

    /// The same to note something; `None` when there is no room for it.
    pub(super) fn reordering_mut<'a, B>(
        &mut self,
        chunks: &'a mut Chunks<B>,
    ) -> Option<&'a mut Reordering> {
        self.extra_mut(chunks).map(|it| &mut it.reordering)
    }

    /// Data from `low` on arrived behind what lies up to the highest SACK: that is reordering
    /// (Linux: `tcp_check_sack_reordering`).
    pub(super) fn note_reordering<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        low: SeqNumber,
        by_timestamp: bool,
    ) {
        let fack = self.send.board.view(env.chunks).highest_sacked(self.una);
        if !low.before(fack) {
            return;
        }
        let mss = u32::from(self.mss.max(1));
        let degree = fack.bytes_since(low).div_ceil(mss);
        self.raise_reordering(env, degree);
        if by_timestamp {
            count!(env.stats.tcp_ts_reorder);
        } else {
            count!(env.stats.tcp_sack_reorder);
        }
    }

    /// An ACK took the rest of a segment whose first part, before `low`, an earlier one had taken.
    /// Linux counts that as reordering: the segment begins before SND.UNA and was not in the queue as
    /// lost (`tcp_clean_rtx_queue`: `reord` before `prior_fack`). With SACKs in the queue the ledger
    /// has looked already.
    #[cold]
    pub(in crate::tcp) fn note_mended<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        low: SeqNumber,
    ) {
        if self.sack_permitted && self.send.board.is_clear() {
            self.note_reordering(env, low, false);
        }
    }

    /// The path reorders by so many segments, at least.
    pub(super) fn raise_reordering<P: PacketPool>(&mut self, env: &mut Env<'_, P>, degree: u32) {
        let tunables = env.tunables;
        let Some(known) = self.reordering_mut(env.chunks) else {
            return;
        };
        known.seen = known.seen.saturating_add(1);
        if degree > known.degree(tunables) {
            let most = u32::from(tunables.tcp_max_reordering.max(1));
            known.degree = degree.min(most).min(u16::MAX.into()) as u16;
        }
    }

    /// Earlier connections have found that the path reorders by so many segments.
    pub(in crate::tcp) fn expect_reordering<B>(&mut self, chunks: &mut Chunks<B>, degree: u32) {
        if let Some(known) = self.reordering_mut(chunks) {
            known.degree = degree.min(u16::MAX.into()) as u16;
        }
    }

    /// A timeout although many SACKs came: reordering was overestimated (Linux: `tcp_enter_loss`).
    /// behaviour: A21-13, X2-14
    pub(super) fn cap_reordering<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        let threshold = u32::from(env.tunables.tcp_reordering.clamp(1, 127));
        let sacked = if self.sack_permitted {
            self.send.board.sacked_segments(env.chunks)
        } else {
            self.recovery.dup_acks.into()
        };
        if self.recovery.phase > Phase::Disorder || sacked < threshold || self.extra.is_none() {
            return;
        }
        if let Some(known) = self.reordering_mut(env.chunks)
            && u32::from(known.degree) > threshold
        {
            known.degree = 0;
        }
    }

    /// An ACK delivered something: a D-SACK since the last change widens RACK's window, once in a
    /// round trip.
    //= https://www.rfc-editor.org/rfc/rfc8985#section-6.2
    //# RACK.reo_wnd_mult
    pub(super) fn adapt_reordering_window<P: PacketPool>(&mut self, env: &mut Env<'_, P>) {
        if self.extra.is_none() || env.tunables.tcp_recovery & RACK_STATIC_REO_WND != 0 {
            return;
        }
        let (una, nxt) = (self.una, self.nxt);
        let Some(known) = self.reordering_mut(env.chunks) else {
            return;
        };
        if known.more_steps > 0 && una.before_or_eq(known.adjusted_at) {
            known.dsack_seen = false;
        }
        if known.dsack_seen {
            known.widen(nxt);
        } else if known.persistence == 0 {
            known.more_steps = 0;
        }
    }

    /// A recovery ended: rightly, or (`was_spurious`) needlessly.
    pub(super) fn age_reordering_window<P: PacketPool>(
        &mut self,
        env: &mut Env<'_, P>,
        was_spurious: bool,
    ) {
        if self.extra.is_none() {
            return;
        }
        if let Some(known) = self.reordering_mut(env.chunks) {
            if !was_spurious {
                known.undone = known.undone.saturating_sub(1);
            }
            known.persistence = if was_spurious {
                known.persistence.saturating_add(1).min(PERSISTENCE)
            } else {
                known.persistence.saturating_sub(1)
            };
        }
    }

    /// Whether the peer is believed that a reduction was for nothing (`UNDOS_MAX`). Where there is
    /// no room to take note of it, it is not.
    pub(super) fn believes_undo<B>(&mut self, chunks: &mut Chunks<B>) -> bool {
        self.reordering_mut(chunks)
            .is_some_and(Reordering::may_undo)
    }
}
