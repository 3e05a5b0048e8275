//! The bookkeeping after anything happened to a connection: replies that it owes, its tuple when it
//! has ended, news for the application, its timer, and its place in the line of those that may send.
//!
//! What happened is told by a `Disposition`; who it is, by its key (`settle`), or by the connection
//! itself where it is at hand (`Books`): looking one up costs as much as all that is usually to be
//! done. Nothing is decided here; `tcp` has decided it.

use millrace_base::{FlowTuple, Instant, Key, Lists, PacketPool};

use crate::flow::Owner;
use crate::listener::Listeners;
use crate::signature::SigningKey;
use crate::stack::Stack;
use crate::stats::{Stats, count};
use crate::table::Slot;
use crate::tcp::{Chunks, CloseReason, Disposition, Ready, TimeWaitRecord};
use crate::transmit::READY;
use crate::tuples::TupleChange;
use crate::verbs::NEWS;
use crate::wheel::Wheel;

/// Seconds in FIN_WAIT2 that Linux counts apart (`inet_twsk_schedule`: four seconds).
const SHORT_FIN_WAIT2_SECS: u8 = 4;

/// The tables in which a connection has an entry by its number.
pub(crate) struct Books<'a, B> {
    pub(crate) news: &'a mut Lists,
    pub(crate) output: &'a mut Lists,
    pub(crate) timers: &'a mut Wheel,
    pub(crate) chunks: &'a Chunks<B>,
    pub(crate) stats: &'a mut Stats,
}

/// The books of a stack of which something else is borrowed.
macro_rules! books {
    ($stack:ident) => {
        $crate::settle::Books {
            news: &mut $stack.news,
            output: &mut $stack.output,
            timers: &mut $stack.timers,
            chunks: &$stack.chunks,
            stats: &mut $stack.stats,
        }
    };
}
pub(crate) use books;

/// What is left of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a connection that nobody needs has to be freed"]
pub(crate) enum After {
    Stays,
    /// It has ended, and its application wants no event.
    Unneeded,
}

impl<B> Books<'_, B> {
    /// Writes down what has changed for the connection with this number.
    #[inline(always)] // Each part is a few instructions on what the caller has at hand.
    pub(crate) fn keep(self, slot: &mut Slot, index: u32) -> After {
        let Slot { connection, meta } = slot;
        meta.news |= connection.take_ready();
        let deadline = connection.next_deadline();
        let established = connection.is_established();
        if core::mem::replace(&mut meta.established, established) != established {
            let change = if established { 1 } else { u64::MAX };
            count!(self.stats.tcp_curr_estab, change);
            // The SYN's timer would go off in a second for nothing, when the connection has long
            // left the cache.
            if deadline == Instant::NEVER {
                self.timers.cancel(index);
            }
        }
        if meta.over {
            return tell_end(slot, self.news, index);
        }
        meta.news = meta.news.without(Ready::CLOSED);
        if !meta.orphan && !meta.news.is_empty() {
            self.news.push(NEWS, index);
        }
        self.timers.arm(index, deadline);
        // Who stands in line already need not be asked whether he may send.
        if !connection.is_silent()
            && !self.output.is_linked(index)
            && connection.may_send(self.chunks)
        {
            self.output.push(READY, index);
        }
        After::Stays
    }
}

/// The news of a connection that is over.
#[inline(never)] // Beside the common case, of which it would take the registers.
fn tell_end(slot: &mut Slot, news: &mut Lists, index: u32) -> After {
    let Slot { connection, meta } = slot;
    if meta.orphan {
        return After::Unneeded;
    }
    // The last event waits until everything received was read and its end was told: whoever
    // reads by `splice` must not lose the flow between the last byte and the end. What was cut
    // off has no end, but may have something to read (`keep_unread`).
    let read = meta.end_told || (!meta.in_order && connection.is_over());
    meta.news = if read {
        meta.news | Ready::CLOSED
    } else {
        meta.news.without(Ready::CLOSED)
    };
    if !meta.news.is_empty() {
        news.push(NEWS, index);
    }
    After::Stays
}

impl<P: PacketPool> Stack<P> {
    /// Concludes what was disposed, and keeps the books.
    pub(crate) fn settle(&mut self, now: Instant, key: Key, disposition: Disposition) {
        if disposition != Disposition::Continue {
            self.conclude(now, key, &disposition);
        }
        if let Some(slot) = self.connections.get_mut(key) {
            let after = books!(self).keep(slot, key.index());
            self.free_if_unneeded(key, after);
        }
    }

    /// Forgets a connection of which nothing is needed any more.
    #[inline(always)] // One comparison.
    pub(crate) fn free_if_unneeded(&mut self, key: Key, after: After) {
        if after == After::Unneeded {
            self.free(key);
        }
    }

    /// What a verb or a segment has ended, or owes a reset for.
    #[inline(never)] // Beside the common case, of which it would take the registers.
    fn conclude(&mut self, now: Instant, key: Key, disposition: &Disposition) {
        let Some(Slot { connection, meta }) = self.connections.get_mut(key) else {
            return;
        };
        let tuple = *connection.tuple();
        let signing = connection.signing_key(&self.chunks).copied();
        let is_in_order = match disposition {
            Disposition::Continue => return,
            Disposition::Reset(reset) => {
                return self.owe_reset(tuple, *reset, signing.as_ref());
            }
            Disposition::TimeWait(_) => true,
            Disposition::Closed(reason, _) => *reason == CloseReason::Finished,
        };
        // What it knows of its peer stays. Nothing of one whose route was given up.
        if is_in_order && !meta.hop.is_empty() {
            connection.leave_metrics(&mut self.chunks, now, &self.tunables);
        }
        // No timer, no output, no tuple; it stays for what the application has to read or to be
        // told.
        meta.over = true;
        meta.in_order = is_in_order;
        let is_opened = meta.listener().is_none();
        self.timers.cancel(key.index());
        self.output.remove(key.index());
        match disposition {
            Disposition::Continue | Disposition::Reset(_) => {}
            Disposition::TimeWait(record) => {
                self.enter_time_wait(now, (key.index(), is_opened), record, signing.as_ref());
            }
            Disposition::Closed(_, reset) => {
                if let Some(reset) = reset {
                    self.owe_reset(tuple, *reset, signing.as_ref());
                }
                self.leave_tuple((key.index(), is_opened), &tuple);
            }
        }
    }

    /// The tuple of a connection goes to a TIME_WAIT record; `is_opened` when `connect` made it.
    fn enter_time_wait(
        &mut self,
        now: Instant,
        (index, is_opened): (u32, bool),
        record: &TimeWaitRecord,
        signing: Option<&SigningKey>,
    ) {
        let tuple = record.tuple;
        let rests = self
            .time_waits
            .insert(now, *record, is_opened, &self.tunables);
        match rests {
            Some(place) => {
                let connection = Owner::Connection(index);
                self.hand_over(&tuple, connection, Owner::TimeWait(place));
                // behaviour: A26-3
                self.keys.rest(&tuple, signing);
                if (1..=SHORT_FIN_WAIT2_SECS).contains(&record.fin_wait2_secs) {
                    count!(self.stats.tw_killed);
                } else {
                    count!(self.stats.tw);
                }
            }
            None => {
                count!(self.stats.tcp_time_wait_overflow);
                self.leave_tuple((index, is_opened), &tuple);
            }
        }
        if record.ack_now {
            self.owe(tuple, record.acknowledgment(now), signing);
        }
    }

    /// The tuple of a connection belongs to nobody any more.
    fn leave_tuple(&mut self, (index, is_opened): (u32, bool), tuple: &FlowTuple) {
        self.leave(tuple, Owner::Connection(index));
        if is_opened {
            self.tuple_changes.push(TupleChange::Free(*tuple));
        }
    }

    /// Forgets a connection; its buffers return to their pool.
    pub(crate) fn free(&mut self, key: Key) {
        self.timers.cancel(key.index());
        self.output.remove(key.index());
        self.news.remove(key.index());
        if !self.own_tunables.is_empty() {
            self.own_tunables.remove(&key.index());
        }
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let orphan = slot.meta.orphan;
        leave_backlog(slot, &mut self.listeners, &mut self.chunks);
        slot.connection.release(&mut self.chunks);
        self.connections.discard(key);
        self.orphans = self.orphans.saturating_sub(usize::from(orphan));
    }

    pub(crate) fn leave_backlog(&mut self, key: Key) {
        if let Some(slot) = self.connections.get_mut(key) {
            leave_backlog(slot, &mut self.listeners, &mut self.chunks);
        }
    }
}

/// The application has taken a connection, or nobody will.
#[inline]
fn leave_backlog<B>(slot: &mut Slot, listeners: &mut Listeners, chunks: &mut Chunks<B>) {
    if !core::mem::take(&mut slot.meta.in_backlog) {
        return;
    }
    slot.connection.note_accepted(chunks);
    let id = slot.meta.listener();
    if let Some(pending) = id.and_then(|id| listeners.pending_mut(id)) {
        pending.accepted = pending.accepted.saturating_sub(1);
    }
}
