//! What the application is told about the tuples of connections it opened: when `connect` could
//! have one again, and when no longer.
//!
//! Connections leave their tuple long after the application let go of them: orphans finish on their
//! own, TIME_WAIT rests a second or a minute. Whoever chooses source ports would have to ask for
//! each candidate; told of every change, it can count. Tuples of accepted connections are not
//! reported: their ports are the peer's choice.

use millrace_base::FlowTuple;

use crate::limits::TUPLE_CHANGES_MAX;
use crate::notices::Notices;

/// News about the tuple of a connection that `Stack::connect` opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TupleChange {
    /// `connect` can have it from now on: the connection is gone, or its TIME_WAIT record would give
    /// way (`tcp_tw_reuse`).
    Free(FlowTuple),
    /// It was told free and is not any more: its peer still sends, so the record rests anew.
    Resting(FlowTuple),
}

/// The changes that were not told yet.
#[derive(Debug)]
pub(crate) struct TupleChanges {
    waiting: Notices<TupleChange>,
    lost: u64,
}

impl TupleChanges {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Notices::new(TUPLE_CHANGES_MAX),
            lost: 0,
        }
    }

    /// Notes a change. An application that does not ask loses what is beyond the bound.
    pub(crate) fn push(&mut self, change: TupleChange) {
        if !self.waiting.push(change) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<TupleChange> {
        self.waiting.pop()
    }

    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }
}
