//! The public object: owns the tables and the sessions of one lcore, and hands events to those they
//! are for.

use std::sync::Arc;

use millrace_abi::{BackendCounters, Command, ListenerCounters, NeighborState, Tables as Snapshot};
use millrace_base::rss::RssMap;
use millrace_base::{BackendId, Instant, Key, LcoreIndex, ListenerId, PacketPool, Rng, Slab};
use millrace_stack::{Event, NeighborUpdate, Offloads, Ready, Stack};

use crate::counters::{Counters, count};
use crate::deadlines::{Deadlines, Wait};
use crate::limits::{
    EXPIRIES_PER_ADVANCE_MAX, IDLE_CHECK_INTERVAL, IDLE_TIMEOUT, PROBES_MAX, SESSIONS_MAX,
};
use crate::probe::{Order, Probes};
use crate::report::{Listing, Reports};
use crate::session::{Cause, ConnectFailure, Leg, Phase, Session, Step};
use crate::snat::Snat;
use crate::tables::Tables;
use crate::user::Owner;

/// What one lcore's balancer needs to know at its start.
#[derive(Clone, Copy, Debug)]
pub struct BalancerConfig {
    /// The lcore it runs on.
    pub lcore: LcoreIndex,
    /// Sessions it can hold, cut to `limits::SESSIONS_MAX`. Each needs two connections of the
    /// stack.
    pub sessions_max: usize,
    /// Health probes it can have under way or unread, cut to `limits::PROBES_MAX`.
    pub probes_max: usize,
    /// Pairs of source address and backend endpoint it can keep account of, cut to
    /// `limits::SNAT_PAIRS_MAX`: 8.3 KiB each, divided by the number of lcores. What is beyond finds
    /// ports by trying and is missing from the headroom.
    pub snat_pairs_max: usize,
    /// Where rotations start. Give every lcore another one.
    pub seed: u64,
}

/// The load balancer of one lcore. Takes all its memory in `new`.
pub struct Balancer {
    pub(crate) sessions: Slab<Session>,
    pub(crate) deadlines: Deadlines,
    pub(crate) tables: Tables,
    pub(crate) probes: Probes,
    pub(crate) reports: Reports,
    pub(crate) counters: Counters,
    pub(crate) draining: bool,
    /// Slots below this one were emptied by `reset_sessions`.
    pub(crate) slots_reset: u32,
    rng: Rng,
}

impl Balancer {
    /// A balancer without tables: it refuses every client until the first `adopt`.
    ///
    /// `map` tells which lcore receives the frames of a connection. All lcores share one.
    pub fn new(config: BalancerConfig, map: Arc<RssMap>) -> Self {
        let sessions_max = config.sessions_max.min(SESSIONS_MAX);
        let mut rng = Rng::new(config.seed);
        let snat = Snat::new(map, config.lcore, config.snat_pairs_max, rng.next_u64());
        Self {
            sessions: Slab::new(sessions_max),
            deadlines: Deadlines::new(sessions_max),
            tables: Tables::new(snat),
            probes: Probes::new(config.probes_max.min(PROBES_MAX), rng.below(u32::MAX)),
            reports: Reports::new(),
            counters: Counters::default(),
            draining: false,
            slots_reset: 0,
            rng,
        }
    }

    /// Takes over a snapshot: network tables to the stack, the rest here. Sessions are not touched,
    /// not even those of listeners and backends that are gone. `offloads` is what each port's
    /// device can do, by port number.
    ///
    /// O(records of the snapshot); call it between bursts.
    pub fn adopt<P: PacketPool>(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        offloads: &[Offloads],
        stack: &mut Stack<P>,
    ) {
        let invalid = self.tables.adopt(snapshot, &mut self.rng);
        count!(self.counters.records_invalid, invalid);
        count!(self.counters.tables_adopted);
        self.tables.configure(now, offloads, !self.draining, stack);
    }

    /// Takes notice of what the stack says about a connection.
    pub fn handle_event<P: PacketPool>(
        &mut self,
        now: Instant,
        event: Event,
        stack: &mut Stack<P>,
    ) {
        match Owner::from_bits(event.user) {
            Owner::Client(key) => self.on_leg_event(now, key, Leg::Client, event, stack),
            Owner::Server(key) => self.on_leg_event(now, key, Leg::Server, event, stack),
            Owner::Probe(key) => {
                self.probes
                    .on_event(now, key, event.ready, stack, &mut self.counters);
            }
            Owner::Nobody => match event.listener {
                Some(listener) if event.ready.contains(Ready::ACCEPTED) => {
                    self.on_accepted(now, event.flow, listener, event.ready, stack);
                }
                _ => count!(self.counters.events_unowned),
            },
        }
    }

    /// Does what control asks. `Shutdown` is the worker's business and ignored here.
    pub fn handle_command<P: PacketPool>(
        &mut self,
        now: Instant,
        command: &Command,
        stack: &mut Stack<P>,
    ) {
        let understood = match *command {
            Command::NeighborSet {
                port,
                address,
                state,
            } => {
                let update = match state {
                    NeighborState::Reachable(mac) => NeighborUpdate::Reachable(mac),
                    NeighborState::Failed => NeighborUpdate::Failed,
                    NeighborState::Remove => NeighborUpdate::Remove,
                };
                stack.set_neighbor(now, port, address, update);
                true
            }
            Command::Probe {
                token,
                target,
                timeout_ms,
            } => {
                let order = Order {
                    token,
                    target,
                    timeout_ms,
                };
                let Self {
                    probes,
                    tables,
                    counters,
                    ..
                } = self;
                probes.start(now, order, &mut tables.snat, stack, counters)
            }
            Command::ListConnections {
                token,
                cursor,
                limit,
            } => self.reports.list(Listing {
                token,
                slot: u32::try_from(cursor).unwrap_or(u32::MAX),
                rows_left: limit.max(1),
                count: 0,
            }),
            Command::Drain => {
                self.drain(now, stack);
                true
            }
            Command::Shutdown => true,
        };
        if !understood {
            count!(self.counters.commands_refused);
        }
    }

    /// Does what time asks: attempts, probes and idle sessions that have waited long enough.
    /// Bounded per call.
    pub fn advance<P: PacketPool>(&mut self, now: Instant, stack: &mut Stack<P>) {
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let Some(slot) = self.deadlines.due(Wait::Connect, now) else {
                break;
            };
            match self.sessions.key_at(slot) {
                Some(key) => self.on_attempt_failed(now, key, ConnectFailure::TimedOut, stack),
                None => self.deadlines.stop(slot),
            }
        }
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let Some(slot) = self.deadlines.due(Wait::Idle, now) else {
                break;
            };
            let key = self.sessions.key_at(slot);
            let Some((key, session)) = key.and_then(|key| Some((key, self.sessions.get(key)?)))
            else {
                self.deadlines.stop(slot);
                continue;
            };
            if session.moved.instant().after(IDLE_TIMEOUT).is_due(now) {
                self.abort(now, key, Cause::Idle, stack);
            } else {
                self.wait_idle(now, key);
            }
        }
        self.probes.advance(now, stack, &mut self.counters);
        self.settle_ports(stack);
    }

    /// Takes back the source ports that became free. Bounded by the stack's queue of changes.
    fn settle_ports<P: PacketPool>(&mut self, stack: &mut Stack<P>) {
        while let Some(change) = stack.poll_tuple_change() {
            self.tables.snat.on_tuple_change(change);
        }
    }

    /// When `advance` has something to do next; `NEVER` when nothing waits. At `Instant::ZERO` a
    /// listing goes on with the next burst.
    pub fn next_deadline(&self) -> Instant {
        if self.reports.is_listing() {
            return Instant::ZERO;
        }
        self.deadlines
            .next_deadline()
            .min(self.probes.next_deadline())
    }

    /// All counters of this lcore's balancer.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Calls back with the account of every backend and listener that this lcore knows, for the
    /// shared region. O(BACKENDS_MAX + LISTENERS_MAX): call it some times a second, not per burst.
    pub fn write_counters(
        &mut self,
        mut backend: impl FnMut(BackendId, BackendCounters),
        mut listener: impl FnMut(ListenerId, ListenerCounters),
    ) {
        self.tables.look_at_headroom();
        self.counters.snat_pairs = self.tables.snat.pair_count() as u64;
        self.counters.snat_untracked = self.tables.snat.untracked();
        for (id, counters) in self.tables.backends.counters() {
            backend(id, counters);
        }
        for (id, counters) in self.tables.listener_counters() {
            listener(id, counters);
        }
    }

    /// Ends a session whose streams have both ended. The stack delivers what is still queued.
    pub(crate) fn finish<P: PacketPool>(&mut self, now: Instant, key: Key, stack: &mut Stack<P>) {
        if let Some(session) = self.forget(key) {
            count!(self.counters.sessions_completed);
            stack.close(now, session.client);
            stack.close(now, session.server);
        }
    }

    /// Ends a session before its time: both legs are reset, whichever of them still exists.
    pub(crate) fn abort<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        cause: Cause,
        stack: &mut Stack<P>,
    ) {
        let Some(session) = self.forget(key) else {
            return;
        };
        let listener = self.tables.listener_mut(session.listener);
        match cause {
            Cause::Reset(Leg::Client) => {
                count!(self.counters.sessions_reset_by_client);
                if let Some(listener) = listener {
                    count!(listener.resets);
                }
            }
            Cause::Reset(Leg::Server) => {
                count!(self.counters.sessions_reset_by_backend);
                if let Some(backend) = self.tables.backends.get_mut(session.backend) {
                    count!(backend.resets);
                }
            }
            Cause::Lost(Leg::Client) => count!(self.counters.sessions_client_lost),
            Cause::Lost(Leg::Server) => count!(self.counters.sessions_backend_lost),
            Cause::Idle => count!(self.counters.sessions_idle),
            Cause::Drained => count!(self.counters.sessions_drained),
            Cause::Unserved => {
                count!(self.counters.sessions_unserved);
                if let Some(listener) = listener {
                    count!(listener.refused);
                }
            }
        }
        stack.abort(now, session.client);
        stack.abort(now, session.server);
    }

    /// Looks at the session again after a while.
    pub(crate) fn wait_idle(&mut self, now: Instant, key: Key) {
        self.deadlines
            .wait(key.index(), Wait::Idle, now.after(IDLE_CHECK_INTERVAL));
    }

    fn on_leg_event<P: PacketPool>(
        &mut self,
        now: Instant,
        key: Key,
        leg: Leg,
        event: Event,
        stack: &mut Stack<P>,
    ) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.flow(leg) != event.flow {
            // The last word of an attempt that was given up.
            return;
        }
        match session.step(leg, event.ready) {
            Step::Wait => {}
            Step::Splice { up, down } => {
                if up {
                    self.pump(now, key, Leg::Client, stack);
                }
                if down {
                    self.pump(now, key, Leg::Server, stack);
                }
            }
            Step::EndStream => self.on_end_of_stream(now, key, leg, stack),
            Step::Connected => self.on_connected(now, key, stack),
            Step::Retry(failure) => self.on_attempt_failed(now, key, failure, stack),
            Step::Abort(cause) => self.abort(now, key, cause, stack),
        }
    }

    /// Takes a session out of every table but the stack's.
    fn forget(&mut self, key: Key) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.deadlines.stop(key.index());
        if session.server != millrace_stack::FlowId::NONE {
            self.release_backend(session.backend);
        }
        if let Some(listener) = self.tables.listener_mut(session.listener) {
            listener.active = listener.active.saturating_sub(1);
        }
        self.counters.sessions_active = self.counters.sessions_active.saturating_sub(1);
        if session.phase == Phase::Connecting {
            self.counters.sessions_connecting = self.counters.sessions_connecting.saturating_sub(1);
        }
        Some(session)
    }
}
