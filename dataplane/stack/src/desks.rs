//! Verbs, timers and segments that meet a connection at rest, and what happens when there is no desk
//! to put it to work at (`connections.rs`).
//!
//! A segment is dropped and counted, a timer comes again, a new connection is refused. A verb cannot
//! be refused: whoever has lost a session's other half must be able to end this one. When even the
//! longer search finds no desk, the connection is reset (Linux: `tcp_check_oom`), and its application
//! is told by the last event, as of any reset.

use millrace_base::{Instant, Key, PacketPool};

use crate::flow::{FlowId, Owner};
use crate::limits::{DESKS_PER_SEARCH_MAX, DESKS_PER_VERB_MAX};
use crate::stack::Stack;
use crate::stats::count;
use crate::table::{Event, Slot};
use crate::tcp::{Connection, Disposition, Env, Ready};
use crate::tuples::TupleChange;
use crate::verbs::NEWS;
use crate::verdict::DropReason;

impl<P: PacketPool> Stack<P> {
    /// Clears the desks of all connections at rest, and tells how many connections have none now. No
    /// peer or application can tell that anything happened. For tests of that: a stack clears one when
    /// another connection needs it. O(desks).
    pub fn rest_all(&mut self) -> usize {
        self.connections.rest_all();
        let at_work = self.connections.at_work();
        self.connections.len().saturating_sub(at_work)
    }

    /// Times that the desk of a connection at rest was cleared for another.
    pub const fn desks_cleared(&self) -> u64 {
        self.connections.cleared()
    }

    /// Whether a timer went off for a connection at rest for which nothing is due yet: it is armed
    /// again, and the connection goes on resting.
    pub(crate) fn is_resting_undisturbed(&mut self, now: Instant, key: Key) -> bool {
        let Some(resting) = self.connections.resting(key) else {
            return false;
        };
        let deadline = resting.next_deadline();
        if deadline.is_due(now) {
            return false;
        }
        self.timers.arm(key.index(), deadline);
        true
    }

    /// Why the owner of a tuple could not take its segment.
    #[cold]
    pub(crate) fn why_not_at_work(&self, index: u32) -> DropReason {
        match self.connections.key_at(index) {
            Some(_) => DropReason::NoDesk,
            None => DropReason::Bug,
        }
    }

    /// Whether there is a desk for a further client's connection.
    pub(crate) fn has_desk_for_client(&mut self) -> bool {
        self.connections.has_desk(DESKS_PER_SEARCH_MAX)
    }

    /// Sees to it that a connection can do what its application wants. `false` when it is gone, or has
    /// just been reset because there is no desk for it.
    #[inline]
    pub(crate) fn rouse(&mut self, now: Instant, flow: FlowId) -> bool {
        self.connections.is_at_work(flow.key()) || self.rouse_resting(now, flow.key(), true)
    }

    /// The same for two that work together.
    #[inline]
    pub(crate) fn rouse_both(&mut self, now: Instant, one: FlowId, other: FlowId) -> bool {
        let work = [one, other].map(|flow| self.connections.is_at_work(flow.key()));
        if work == [true; 2] {
            return true;
        }
        // The desk for the second may have been the first one's. That of the last is nobody's to
        // clear.
        self.rouse(now, one) && self.rouse(now, other) && self.rouse(now, one)
    }

    /// The same for an application that lets go of it and wants no event.
    #[inline]
    pub(crate) fn rouse_last(&mut self, now: Instant, flow: FlowId) -> bool {
        self.connections.is_at_work(flow.key()) || self.rouse_resting(now, flow.key(), false)
    }

    #[cold]
    fn rouse_resting(&mut self, now: Instant, key: Key, is_told: bool) -> bool {
        if self.connections.wake(key, DESKS_PER_VERB_MAX) {
            return true;
        }
        if let Some(slot) = self.connections.look_at_resting(key) {
            self.expel(now, key, slot, is_told);
        }
        false
    }

    /// Ends a connection at rest without a desk: a reset leaves, and what it holds is given back.
    fn expel(&mut self, now: Instant, key: Key, slot: Slot, is_told: bool) {
        let Slot {
            mut connection,
            meta,
        } = slot;
        let mut env = Env {
            now,
            pool: &mut Self::no_pool(),
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: &self.tunables,
        };
        let tuple = *connection.tuple();
        let signing = connection.signing_key(env.chunks).copied();
        let ended = connection.abort(&mut env);
        connection.release(env.chunks);
        count!(self.stats.tcp_abort_on_memory);
        if meta.established {
            count!(self.stats.tcp_curr_estab, u64::MAX);
        }
        if let Disposition::Closed(_, Some(reset)) = ended {
            self.owe_reset(tuple, reset, signing.as_ref());
        }
        self.leave(&tuple, Owner::Connection(key.index()));
        if meta.listener().is_none() {
            self.tuple_changes.push(TupleChange::Free(tuple));
        }
        self.timers.cancel(key.index());
        self.output.remove(key.index());
        self.own_tunables.remove(&key.index());
        if is_told {
            self.connections.end_at_rest(key);
            self.news.push(NEWS, key.index());
        } else {
            self.connections.discard(key);
        }
    }

    /// The last event of a connection that was reset without a desk.
    #[cold]
    pub(crate) fn take_expelled(&mut self, index: u32) -> Option<Event> {
        let key = self.connections.key_at(index)?;
        let (user, listener) = self.connections.take_ended(key)?;
        Some(Event {
            flow: FlowId::new(key),
            user,
            listener,
            ready: Ready::RESET | Ready::CLOSED,
        })
    }

    /// Lets `look` look at a connection that its application has not let go of, without putting it to
    /// work.
    pub(crate) fn look_at<T>(
        &self,
        flow: FlowId,
        look: impl FnOnce(&Connection) -> T,
    ) -> Option<T> {
        let seen = self.connections.view(flow.key(), |slot| {
            (!slot.meta.orphan).then(|| look(&slot.connection))
        });
        seen.flatten()
    }
}
