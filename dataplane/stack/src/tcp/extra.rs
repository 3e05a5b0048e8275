//! What a few connections have beside their TCB, or any connection for a short while: state of
//! features that a balancer's idle connection does not use.
//!
//! It lies on a shelf (`Chunks::extras`); the TCB keeps the place, and gives it back when it is
//! released. When the shelf is full, `extra_mut` says so, and the feature does without.

use super::chunk::Chunks;
use super::connection::Connection;
use super::ecn::counters::AccurateEcn;
use super::ecn::follower::Follower;
use super::fastopen::FastOpen;
use super::fin_wait2::Linger2;
use super::mtu_probe::MtuSearch;
use super::pacing::Pacing;
use super::recovery::reordering::Reordering;
use super::shelf::Place;

/// What a connection has beside its TCB. Each feature has a field of its own, whose default means
/// that the feature is not in use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra {
    /// The clock of departures.
    pub(super) pacing: Pacing,
    /// Segments that arrived marked: those of ACKs that reported congestion, or as many as Accurate ECN
    /// says.
    pub(super) delivered_ce: u32,
    /// What Accurate ECN counts beside them.
    pub(super) accurate: AccurateEcn,
    /// What DCTCP echoes.
    pub(super) follower: Follower,
    /// `TCP_LINGER2`.
    pub(super) linger2: Linger2,
    /// How much the path reorders.
    pub(super) reordering: Reordering,
    pub(super) fastopen: FastOpen,
    /// Where its key for signatures is.
    pub(super) signing: Place,
    /// Looking for the path's MTU.
    pub(super) mtu_search: MtuSearch,
}

impl Connection {
    /// What this connection has beside its TCB, if anything.
    #[inline]
    pub(crate) fn extra<'a, B>(&self, chunks: &'a Chunks<B>) -> Option<&'a Extra> {
        if self.extra.is_none() {
            return None;
        }
        chunks.extras.get(self.extra)
    }

    /// The same to change it, from now on if there was nothing; `None` when the shelf is full.
    pub(super) fn extra_mut<'a, B>(&mut self, chunks: &'a mut Chunks<B>) -> Option<&'a mut Extra> {
        if self.extra.is_none() {
            self.extra = chunks.extras.store(self.extra, Extra::default());
        }
        chunks.extras.get_mut(self.extra)
    }

    /// Gives it back.
    pub(super) fn release_extra<B>(&mut self, chunks: &mut Chunks<B>) {
        if self.extra.is_none() {
            return;
        }
        self.release_signing_key(chunks);
        chunks.extras.clear(self.extra);
        self.extra = Place::NONE;
    }
}
