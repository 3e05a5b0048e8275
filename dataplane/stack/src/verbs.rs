//! What an application asks of the stack. What follows from it for the tables is in `settle.rs`.
//!
//! A verb on an id that is dead, or that the application has let go of, does nothing.

use millrace_base::{FlowTuple, Instant, Key, PacketPool};

use crate::connections::Connections;
use crate::flow::{FlowId, Owner};
use crate::flow_hash::FlowHash;
use crate::knobs::{Wish, knobs_of, knobs_of_wish};
use crate::limits::{BUFFER_RETRY_MS, DESKS_PER_VERB_MAX};
use crate::settle::{After, books};
use crate::stack::Stack;
use crate::stats::count;
use crate::table::{ConnectError, Event, Meta, Slot};
use crate::tcp::timewait::Gone;
use crate::tcp::{
    CongestionControl, Connection, ConnectionOptions, Disposition, Env, FlowInfo, Open, Profile,
    Ready, Received, Spliced, TcpTunables,
};
use crate::tuples::TupleChange;

/// The only list of `Stack::news`.
pub(crate) const NEWS: u32 = 0;

/// The world of a verb: a connection and everything it may use, borrowed from different fields of
/// the stack.
macro_rules! env {
    ($stack:ident, $now:expr, $pool:expr) => {
        &mut Env {
            now: $now,
            pool: $pool,
            chunks: &mut $stack.chunks,
            stats: &mut $stack.stats,
            tunables: &$stack.tunables,
        }
    };
}

impl<P: PacketPool> Stack<P> {
    /// The next connection with news. At most one event per connection waits; later news join it.
    /// An accepted connection leaves its listener's backlog with its first event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let (event, is_in_backlog) = self.poll_news()?;
        if is_in_backlog {
            self.leave_backlog(event.flow.key());
        }
        Some(event)
    }

    /// The same for whoever has an accept queue of its own: an accepted connection stays in the
    /// backlog until `accept` (behaviour: LSN-6).
    #[inline]
    pub fn poll_event_in_backlog(&mut self) -> Option<Event> {
        self.poll_news().map(|(event, _)| event)
    }

    /// The same, and whether the connection stands in a backlog.
    #[inline]
    fn poll_news(&mut self) -> Option<(Event, bool)> {
        // Each round takes a connection out of the list.
        while let Some(index) = self.news.pop(NEWS) {
            let Some((key, Slot { meta, .. })) = self.connections.at_mut(index) else {
                if let Some(last) = self.take_expelled(index) {
                    return Some((last, false));
                }
                continue;
            };
            let ready = core::mem::take(&mut meta.news);
            if ready.is_empty() {
                continue;
            }
            let event = Event {
                flow: FlowId::new(key),
                user: meta.user,
                listener: meta.listener(),
                ready,
            };
            let mut is_in_backlog = meta.in_backlog;
            if ready.contains(Ready::CLOSED) {
                self.free(key);
                is_in_backlog = false;
            }
            return Some((event, is_in_backlog));
        }
        None
    }

    /// Opens a connection with both ends chosen by the caller; its SYN leaves at the next
    /// `poll_transmit`. A TIME_WAIT record gives way as `tcp_tw_reuse` says.
    pub fn connect(
        &mut self,
        now: Instant,
        tuple: FlowTuple,
        user: u64,
    ) -> Result<FlowId, ConnectError> {
        self.connect_as(now, tuple, user, Profile::default())
    }

    /// The same for a connection that begins as `profile` says.
    pub fn connect_as(
        &mut self,
        now: Instant,
        tuple: FlowTuple,
        user: u64,
        profile: Profile,
    ) -> Result<FlowId, ConnectError> {
        self.open(now, tuple, user, Wish::Profile(profile))
    }

    /// The same with knobs of its own for as long as it lives; see `set_own_tunables`.
    pub fn connect_with(
        &mut self,
        now: Instant,
        tuple: FlowTuple,
        user: u64,
        own: Option<&TcpTunables>,
    ) -> Result<FlowId, ConnectError> {
        let Some(own) = own else {
            return self.connect(now, tuple, user);
        };
        let flow = self.open(now, tuple, user, Wish::Own(own))?;
        self.own_tunables.insert(flow.index(), *own);
        Ok(flow)
    }

    fn open(
        &mut self,
        now: Instant,
        tuple: FlowTuple,
        user: u64,
        wish: Wish<'_>,
    ) -> Result<FlowId, ConnectError> {
        // Nobody has asked for this bucket before: it comes while the rest is looked at.
        let hash = self.flows.hash(&tuple);
        self.prefetch_bucket(hash);
        let (local, remote) = (tuple.local, tuple.remote);
        let families_differ = local.address.is_v4() != remote.address.is_v4();
        let interfaces = &self.network.interfaces;
        if families_differ
            || local.port == 0
            || remote.port == 0
            || !interfaces.is_local(local.address)
            || interfaces.is_local(remote.address)
            || interfaces.is_broadcast(remote.address)
            || !remote.address.is_unicast_source()
        {
            return Err(ConnectError::BadAddress);
        }
        let Some(hop) = self.network.route(remote.address) else {
            // behaviour: A12-4
            count!(self.stats.ip_out_no_routes);
            return Err(ConnectError::NoRoute);
        };
        let origin = self.secrets.origin(&tuple, now);
        let open = Open {
            tuple,
            iss: origin.isn,
            ts_offset: origin.ts_offset,
            mtu: hop.mtu(),
            options: ConnectionOptions::default(),
        };
        let mut room = None;
        let groups = &self.group_knobs;
        let tunables = knobs_of_wish(groups, &self.tunables, (wish, &hop), &mut room);
        let slot = Slot {
            connection: Connection::connect(&open, None, tunables, now),
            meta: Meta::new(user, None, hop),
        };
        let key = self
            .connections
            .insert(slot, DESKS_PER_VERB_MAX)
            .map_err(|_full| ConnectError::TableFull)?;
        let record = match self.give_way(now, key, hash, &open, wish) {
            Ok(record) => record,
            Err(taken) => {
                self.connections.discard(key);
                return Err(taken);
            }
        };
        let owner = Owner::Connection(key.index());
        let entered = match record {
            Some(index) => {
                // Whoever opens it knows that it is taken: nothing to tell.
                self.time_waits.remove(index);
                self.keys.forget(&tuple);
                count!(self.stats.tw_recycled);
                self.flows.replace(hash, Owner::TimeWait(index), owner)
            }
            None => self.enter(hash, &tuple, owner).is_ok(),
        };
        if !entered {
            self.connections.remove(key);
            return Err(ConnectError::TableFull);
        }
        self.settle(now, key, Disposition::Continue);
        Ok(FlowId::new(key))
    }

    /// Looks who has the tuple of a connection that begins: nobody, or a TIME_WAIT record, from which
    /// the connection takes over what it must. An error: somebody who stays.
    fn give_way(
        &mut self,
        now: Instant,
        key: Key,
        hash: FlowHash,
        open: &Open,
        wish: Wish<'_>,
    ) -> Result<Option<u32>, ConnectError> {
        let index = match self.find_owner(hash, &open.tuple) {
            None => return Ok(None),
            Some(Owner::TimeWait(index)) => index,
            Some(Owner::Connection(_) | Owner::Request(_)) => {
                return Err(ConnectError::AddressInUse);
            }
        };
        let inherited = self.time_waits.inherit(index, now, &self.tunables);
        let inherited = inherited.ok_or(ConnectError::AddressInUse)?;
        if let Some(Slot { connection, meta }) = self.connections.get_mut(key) {
            let mut room = None;
            let groups = &self.group_knobs;
            let tunables = knobs_of_wish(groups, &self.tunables, (wish, &meta.hop), &mut room);
            *connection = Connection::connect(open, Some(inherited), tunables, now);
        }
        Ok(Some(index))
    }

    /// Sets the number that events of this connection carry.
    pub fn set_user(&mut self, flow: FlowId, user: u64) {
        self.connections.set_user(flow.key(), user);
    }

    /// Sets options of this connection.
    pub fn set_options(&mut self, now: Instant, flow: FlowId, options: ConnectionOptions) {
        self.rouse(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return;
        };
        let own = self.own_tunables.get(&flow.index());
        let tunables = own.unwrap_or(&self.tunables);
        slot.connection.set_options(options, now, tunables);
        self.settle(now, flow.key(), Disposition::Continue);
    }

    /// Lets another algorithm move the congestion window of a connection (`TCP_CONGESTION`), which
    /// stays as it is.
    pub fn set_congestion_control(&mut self, flow: FlowId, control: CongestionControl) {
        let Self {
            connections,
            chunks,
            tunables,
            ..
        } = self;
        if let Some(slot) = slot_mut(connections, flow) {
            slot.connection
                .set_congestion_control(control, chunks, tunables);
        }
    }

    /// Moves what `from` has received to the end of what `to` shall send, by reference. Moves
    /// nothing when either is dead or both are one. O(segments moved).
    pub fn splice(&mut self, now: Instant, from: FlowId, to: FlowId) -> Spliced {
        let keys = (from.key(), to.key());
        let (source, sink) = match self.connections.get_two_mut(keys.0, keys.1) {
            Some(both) => both,
            None => {
                // Who is at rest has received nothing, but may have been closed by its peer.
                if !self.rouse_both(now, from, to) {
                    return Spliced::default();
                }
                match self.connections.get_two_mut(keys.0, keys.1) {
                    Some(both) => both,
                    None => return Spliced::default(),
                }
            }
        };
        if source.meta.orphan || sink.meta.orphan || source.connection.offers_nothing() {
            return Spliced::default();
        }
        let mut no_pool = Self::no_pool();
        let spliced = source
            .connection
            .splice_into(&mut sink.connection, env!(self, now, &mut no_pool));
        source.meta.end_told |= spliced.end_of_stream;
        let of_source = books!(self).keep(source, from.index());
        // Behind the end of a stream, which moves nothing, its sink is as it was.
        let of_sink = if spliced.bytes > 0 || spliced.blocked {
            books!(self).keep(sink, to.index())
        } else {
            After::Stays
        };
        self.free_if_unneeded(keys.0, of_source);
        self.free_if_unneeded(keys.1, of_sink);
        spliced
    }

    /// Closes our side after everything queued: a FIN.
    pub fn shutdown(&mut self, now: Instant, flow: FlowId) {
        self.rouse(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return;
        };
        let disposition = slot
            .connection
            .shutdown(env!(self, now, &mut Self::no_pool()));
        self.settle(now, flow.key(), disposition);
    }

    /// Resets the connection and forgets it: no event follows.
    pub fn abort(&mut self, now: Instant, flow: FlowId) {
        self.rouse_last(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return;
        };
        slot.meta.orphan = true;
        self.orphans = self.orphans.saturating_add(1);
        let disposition = slot.connection.abort(env!(self, now, &mut Self::no_pool()));
        self.settle(now, flow.key(), disposition);
    }

    /// Lets go of the connection: no event follows and the id is dead. Unread data makes it a
    /// reset, otherwise our side closes after everything queued and the rest happens by itself.
    pub fn close(&mut self, now: Instant, flow: FlowId) {
        self.rouse_last(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return;
        };
        slot.meta.orphan = true;
        self.orphans = self.orphans.saturating_add(1);
        let disposition = slot.connection.close(env!(self, now, &mut Self::no_pool()));
        self.settle(now, flow.key(), disposition);
        // behaviour: A25-14 A25-18
        self.sheds_orphan(now, flow.key(), false);
    }

    /// Queues a copy of as much of `data` as there is room for, and says how much. For probes,
    /// tests and generated headers; the bytes count as copied.
    pub fn send(&mut self, now: Instant, flow: FlowId, data: &[u8], pool: &mut P) -> usize {
        self.rouse(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return 0;
        };
        let queued = slot.connection.send_bytes(data, env!(self, now, pool));
        self.settle(now, flow.key(), Disposition::Continue);
        queued
    }

    /// Copies received data out. For probes and tests; the bytes count as copied.
    pub fn receive(&mut self, now: Instant, flow: FlowId, out: &mut [u8]) -> Received {
        self.rouse(now, flow);
        let Some(slot) = slot_mut(&mut self.connections, flow) else {
            return Received::default();
        };
        let own = self.own_tunables.get(&flow.index());
        let received = slot.connection.receive_bytes(
            out,
            &mut Env {
                now,
                pool: &mut Self::no_pool(),
                chunks: &mut self.chunks,
                stats: &mut self.stats,
                tunables: own.unwrap_or(&self.tunables),
            },
        );
        slot.meta.end_told |= received.end_of_stream;
        self.settle(now, flow.key(), Disposition::Continue);
        received
    }

    /// What there is to know of a connection; `None` once its id is dead.
    pub fn info(&self, flow: FlowId) -> Option<FlowInfo> {
        self.look_at(flow, |connection| FlowInfo {
            rto: connection.rto(&self.tunables),
            pacing_rate: connection.pacing_rate(&self.chunks, &self.tunables),
            ..connection.info(&self.chunks)
        })
    }

    /// Connections that exist, orphans included; TIME_WAIT and half-open ones are not connections.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether `connect` could have this tuple: it belongs to nobody, or to a TIME_WAIT record that
    /// would give way (`tcp_tw_reuse`).
    pub fn tuple_is_free(&self, now: Instant, tuple: &FlowTuple) -> bool {
        match self.owner_of(tuple) {
            None => true,
            Some(Owner::TimeWait(index)) => {
                let inherited = self.time_waits.inherit(index, now, &self.tunables);
                inherited.is_some()
            }
            Some(Owner::Connection(_) | Owner::Request(_)) => false,
        }
    }

    /// The connection had something to send and got no buffer: it comes back when others may have
    /// returned theirs.
    pub(crate) fn retry_output_later(&mut self, now: Instant, key: Key) {
        let retry = millrace_base::Nanos::from_millis(BUFFER_RETRY_MS);
        self.timers.arm(key.index(), now.after(retry));
    }

    /// A TIME_WAIT record is gone; its tuple belongs to nobody any more.
    pub(crate) fn leave_time_wait(&mut self, gone: Gone) {
        self.leave(&gone.tuple, Owner::TimeWait(gone.index));
        self.keys.forget(&gone.tuple);
        if gone.untold {
            self.tuple_changes.push(TupleChange::Free(gone.tuple));
        }
    }

    /// Asks for the memory of the TIME_WAIT records that go next.
    pub(crate) fn look_ahead(&self) {
        self.time_waits
            .look_ahead::<P>(|tuple| self.prefetch_bucket(self.flows.hash(tuple)));
    }

    /// Lets a verb work on a connection with everything that it may use, and the knobs that count for
    /// it. What follows from it is the caller's to `settle`. `None` when the connection is gone.
    pub(crate) fn with_env<B: PacketPool<Buf = P::Buf>, T>(
        &mut self,
        now: Instant,
        key: Key,
        pool: &mut B,
        verb: impl FnOnce(&mut Connection, &mut Env<'_, B>) -> T,
    ) -> Option<T> {
        let slot = self.connections.get_mut(key)?;
        let whose = (key.index(), &slot.meta.hop);
        let mut env = Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose),
        };
        Some(verb(&mut slot.connection, &mut env))
    }
}

/// The slot of an id that is alive for the application.
fn slot_mut(connections: &mut Connections, flow: FlowId) -> Option<&mut Slot> {
    connections
        .get_mut(flow.key())
        .filter(|slot| !slot.meta.orphan)
}
