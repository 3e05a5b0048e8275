//! The public object: every table of one lcore, and the ways in and out.
//!
//! Its work is spread over files by direction: frames in (`dispatch.rs`, `tcp_input.rs`,
//! `icmp.rs`), frames out (`transmit.rs`), the application (`verbs.rs`). This one holds the tables,
//! time and the control path's decisions.

use alloc::collections::BTreeMap;

use millrace_base::{Address, Instant, Key, Lists, Nanos, PacketPool, PortId};

use crate::budget::Budget;
use crate::connections::Connections;
use crate::flow_table::FlowTable;
use crate::fragment::{FragmentTunables, Reassembler};
use crate::interface::Interface;
use crate::knobs::{GroupKnobs, knobs_of};
use crate::limits::{
    BLOCKED_RETRY_MS, CONNECTIONS_MAX, ECHO_REPLIES_BURST, ECHO_REPLIES_PER_SECOND,
    EXPIRIES_PER_ADVANCE_MAX, NEIGHBORS_MAX, REPLIES_MAX, RESETS_BURST, RESETS_PER_SECOND,
    SYN_QUEUE_MAX, TIME_WAIT_MAX, WHEEL_STEPS_PER_ADVANCE_MAX,
};
use crate::listener::{Listener, Listeners};
use crate::neighbor::{NeighborRequest, NeighborUpdate, Resolution};
use crate::network::Network;
use crate::notices::Notices;
use crate::reply::{Owed, Replies};
use crate::route::Route;
use crate::shortage::Shortage;
use crate::signature::Keys;
use crate::stats::{Stats, count};
use crate::table::NoPool;
use crate::tcp::isn::{Secrets, table_secret};
use crate::tcp::metrics::Metrics;
use crate::tcp::syn_queue::{RequestTimeout, SynQueue};
use crate::tcp::timewait::TimeWaits;
use crate::tcp::{Chunks, Env, TcpTunables};
use crate::transmit::{Laps, OUTPUT_LISTS, READY};
use crate::tuples::{TupleChange, TupleChanges};
use crate::verdict::DropReason;
use crate::wheel::Wheel;

/// Sizes and secrets of one stack. Sizes are clamped to the maxima in `limits`.
#[derive(Clone)]
pub struct StackConfig {
    /// Connections, orphans included (1..).
    pub connections_max: usize,
    /// Half-open connections; beyond it, SYN cookies answer (1..).
    pub syn_queue_max: usize,
    /// TIME_WAIT records (`tcp_max_tw_buckets`).
    pub time_wait_max: usize,
    /// Packet buffers that may be queued over all connections, received and to be sent. Must leave
    /// enough of the pool for what devices hold and for the ACKs that set buffers free: a pool that
    /// is all queued can neither receive nor send. Beyond a half, queues and windows are kept
    /// small.
    pub chunks_max: usize,
    /// Neighbours.
    pub neighbors_max: usize,
    /// From the operating system's random source; never the same for two stacks.
    pub secret: [u8; 32],
    /// The knobs of TCP.
    pub tcp: TcpTunables,
}

impl core::fmt::Debug for StackConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The secret stays one.
        write!(f, "StackConfig({} connections)", self.connections_max)
    }
}

/// How full the tables of a stack are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Occupancy {
    /// Connections, orphans included.
    pub connections: usize,
    /// Half-open requests.
    pub half_open: usize,
    /// TIME_WAIT records.
    pub time_wait: usize,
    /// Tuples with an owner of any kind.
    pub tuples: usize,
    /// Queued segments, received and to be sent.
    pub chunks: usize,
    /// States that connections hold for a while: of data before its turn, of loss, of congestion
    /// avoidance.
    pub disordered: usize,
    /// Connections with a timer.
    pub timers: usize,
}

/// One TCP/IP stack over buffers of `P`. It has no clock, no thread and no device; all memory is
/// taken in `new`.
#[derive(Debug)]
pub struct Stack<P: PacketPool> {
    pub(crate) network: Network,
    pub(crate) listeners: Listeners,
    pub(crate) flows: FlowTable,
    pub(crate) connections: Connections,
    pub(crate) chunks: Chunks<P::Buf>,
    pub(crate) requests: SynQueue,
    pub(crate) time_waits: TimeWaits,
    pub(crate) tuple_changes: TupleChanges,
    /// One deadline per connection.
    pub(crate) timers: Wheel,
    /// Connections by what they wait for: lists `READY` and `THROTTLED`, and one list per neighbour.
    pub(crate) output: Lists,
    /// Connections with news: the only list.
    pub(crate) news: Lists,
    pub(crate) replies: Replies<P::Buf>,
    /// Segments that belong to no connection and have no frame yet.
    pub(crate) owed: Notices<Owed>,
    /// Keys of those that are no connections.
    pub(crate) keys: Keys,
    /// Frames the first connection of `READY` may still send in its turn.
    pub(crate) quota: u32,
    /// What connections have handed over since the last call of `transmit`.
    pub(crate) laps: Laps,
    pub(crate) echo_budget: Budget,
    pub(crate) reset_budget: Budget,
    /// When the last SYN cookie was sent: no cookie can be valid long after.
    pub(crate) cookie_sent_at: Option<Instant>,
    pub(crate) secrets: Secrets,
    pub(crate) tunables: TcpTunables,
    /// Knobs that single connections have for themselves (`face.rs`); none in a balancer.
    pub(crate) own_tunables: BTreeMap<u32, TcpTunables>,
    /// Packets of which pieces have come.
    pub(crate) fragments: Reassembler<P::Buf>,
    pub(crate) fragment_tunables: FragmentTunables,
    /// Of the last packet that left in pieces.
    pub(crate) identification: u32,
    /// Those of listeners and routes.
    pub(crate) group_knobs: GroupKnobs,
    pub(crate) shortage: Shortage,
    /// Connections whose application is gone.
    pub(crate) orphans: usize,
    /// Connections that only we may open.
    pub(crate) connections_reserved: usize,
    pub(crate) stats: Stats,
}

impl<P: PacketPool> Stack<P> {
    /// A stack without interfaces, routes or listeners. Takes all memory it will ever use.
    pub fn new(config: StackConfig) -> Self {
        Self::with_desks(config, 0)
    }

    /// The same where so many connections can be at work at a time; 0 is as many as
    /// `limits::desks_for` says.
    pub fn with_desks(config: StackConfig, desks: usize) -> Self {
        let connections_max = config.connections_max.clamp(1, CONNECTIONS_MAX);
        let syn_queue_max = config.syn_queue_max.clamp(1, SYN_QUEUE_MAX);
        let time_wait_max = config.time_wait_max.min(TIME_WAIT_MAX);
        let neighbors_max = config.neighbors_max.clamp(1, NEIGHBORS_MAX);
        let tuples_max = connections_max
            .saturating_add(syn_queue_max)
            .saturating_add(time_wait_max);
        // Every buffer may have to be cut in two for a peer with smaller segments.
        let mut chunks = Chunks::with_reserve(config.chunks_max, config.chunks_max);
        chunks.metrics = Metrics::new(connections_max, table_secret(&config.secret, 15));
        Self {
            network: Network::new(neighbors_max, table_secret(&config.secret, 11)),
            listeners: Listeners::new(table_secret(&config.secret, 12)),
            flows: FlowTable::new(tuples_max, table_secret(&config.secret, 13)),
            connections: Connections::new(connections_max, desks),
            chunks,
            requests: SynQueue::new(syn_queue_max),
            time_waits: TimeWaits::new(time_wait_max),
            tuple_changes: TupleChanges::new(),
            timers: Wheel::new(connections_max),
            output: Lists::new(connections_max, neighbors_max.saturating_add(OUTPUT_LISTS)),
            news: Lists::new(connections_max, 1),
            replies: Replies::new(),
            owed: Notices::new(REPLIES_MAX),
            keys: Keys::new(),
            quota: 0,
            laps: Laps::default(),
            echo_budget: Budget::new(ECHO_REPLIES_PER_SECOND, ECHO_REPLIES_BURST),
            reset_budget: Budget::new(RESETS_PER_SECOND, RESETS_BURST),
            cookie_sent_at: None,
            secrets: Secrets::new(&config.secret),
            tunables: config.tcp,
            own_tunables: BTreeMap::new(),
            fragments: Reassembler::new(),
            fragment_tunables: FragmentTunables::default(),
            identification: first_identification(&config.secret),
            group_knobs: GroupKnobs::new(),
            shortage: Shortage::None,
            orphans: 0,
            connections_reserved: 0,
            stats: Stats::default(),
        }
    }

    /// Replaces the interfaces, and with them our addresses and on-link routes. Connections go on;
    /// one that has lost its route finds out when it sends.
    pub fn set_interfaces(&mut self, _now: Instant, interfaces: &[Interface]) {
        self.network.interfaces.set(interfaces);
        self.network.routes.rebuild(&self.network.interfaces);
    }

    /// Replaces the addresses we terminate beside those of the interfaces: VIPs and SNAT addresses.
    pub fn set_local_addresses(&mut self, addresses: &[Address]) {
        self.network.interfaces.set_local(addresses);
    }

    /// Replaces the routes. On-link routes of interface addresses are implied.
    pub fn set_routes(&mut self, routes: &[Route]) {
        self.network.routes.set(routes, &self.network.interfaces);
        self.group_knobs
            .rebuild(&self.network.routes, &self.tunables);
    }

    /// Takes what the control path knows of a neighbour. Whoever waited for it sends at the next
    /// `poll_transmit`, or learns that there is no way.
    pub fn set_neighbor(
        &mut self,
        now: Instant,
        port: PortId,
        address: Address,
        update: NeighborUpdate,
    ) {
        if let Some(key) = self.network.neighbors.update(now, port, address, update) {
            self.on_neighbor_settled(now, key);
        }
    }

    /// Replaces the listener table. Established connections are unaffected; requests of a listener
    /// that is gone are dropped when they are next looked at, those of one that has another profile now
    /// become connections of the new.
    pub fn set_listeners(&mut self, listeners: &[Listener]) {
        self.listeners.set(listeners);
        self.group_knobs.set_profiles(listeners);
        let Self {
            listeners, chunks, ..
        } = self;
        chunks
            .fastopen
            .queues
            .retain(|id| listeners.by_id(id).is_some());
    }

    /// Lets time pass: at most `EXPIRIES_PER_ADVANCE_MAX` connections and as many requests and
    /// TIME_WAIT records. What is left is due at once: `next_deadline` says so.
    pub fn advance(&mut self, now: Instant, pool: &mut P) {
        let mut steps = WHEEL_STEPS_PER_ADVANCE_MAX;
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let Some(index) = self.timers.pop(now, &mut steps) else {
                break;
            };
            self.on_connection_timer(now, index, pool);
        }
        self.advance_requests(now, pool);
        if self.time_waits.len() != 0 {
            self.advance_time_waits(now);
        }
        if !self.fragments.is_empty() {
            self.expire_fragments(now, pool);
        }
        let mut steps = WHEEL_STEPS_PER_ADVANCE_MAX;
        while let Some(failed) = self.network.neighbors.advance(now, &mut steps) {
            self.on_neighbor_settled(now, failed);
        }
    }

    /// When `advance` has something to do next; a lower bound. `NEVER` when only frames can change
    /// anything.
    pub fn next_deadline(&self) -> Instant {
        if self.is_throttled() {
            return Instant::ZERO;
        }
        self.timers
            .next_deadline()
            .min(self.requests.next_deadline())
            .min(self.time_waits.next_deadline())
            .min(self.network.neighbors.next_deadline())
            .min(self.fragments.next_deadline())
    }

    /// The next neighbour the control path should resolve. Each is asked for at most once a second.
    pub fn poll_neighbor_request(&mut self) -> Option<NeighborRequest> {
        self.network.neighbors.poll_request()
    }

    /// The next neighbour through which TCP makes progress. Each is told at most once a second.
    pub fn poll_confirmation(&mut self) -> Option<(PortId, Address)> {
        self.network.neighbors.poll_confirmation()
    }

    /// The next change of a tuple that `connect` opened. Ask after each burst until `None`.
    pub fn poll_tuple_change(&mut self) -> Option<TupleChange> {
        self.tuple_changes.pop()
    }

    /// Changes that were not asked for in time and are lost; stays 0 for who asks every turn.
    pub const fn tuple_changes_lost(&self) -> u64 {
        self.tuple_changes.lost()
    }

    /// Times the routes were searched. What was found is kept by the connection and for others that go
    /// to the same place, until a table changes or the way is doubted (`tcp_retries1`).
    pub const fn route_lookups(&self) -> u64 {
        self.network.lookups()
    }

    /// The counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is in the tables now.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            connections: self.connections.len(),
            half_open: self.requests.len(),
            time_wait: self.time_waits.len(),
            tuples: self.flows.len(),
            chunks: self.chunks.used(),
            disordered: self.chunks.disordered(),
            timers: self.timers.armed(),
        }
    }

    fn advance_time_waits(&mut self, now: Instant) {
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let Some(gone) = self.time_waits.expire(now) else {
                break;
            };
            self.leave_time_wait(gone);
            self.look_ahead();
        }
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let Some(tuple) = self.time_waits.rest(now) else {
                break;
            };
            self.tuple_changes.push(TupleChange::Free(tuple));
        }
    }

    fn advance_requests(&mut self, now: Instant, pool: &mut P) {
        let mut steps = WHEEL_STEPS_PER_ADVANCE_MAX;
        for _ in 0..EXPIRIES_PER_ADVANCE_MAX {
            let (listeners, retries) = (&self.listeners, self.tunables.tcp_synack_retries);
            let expired = self
                .requests
                .expire(now, &mut steps, &self.tunables, |listener| {
                    listeners.patience(listener, retries)
                });
            match expired {
                Some(RequestTimeout::Waits {
                    index,
                    first,
                    resend,
                }) => {
                    self.on_request_timeout(index, first);
                    if resend {
                        self.send_syn_ack_again(now, index, None, pool);
                    }
                }
                Some(RequestTimeout::Expired { index }) => self.remove_request(index),
                None => break,
            }
            count!(self.stats.tcp_timeouts);
        }
    }

    fn on_connection_timer(&mut self, now: Instant, index: u32, pool: &mut P) {
        let Some(key) = self.connections.key_at(index) else {
            return;
        };
        if self.is_resting_undisturbed(now, key) {
            return;
        }
        let Some(slot) = self.connections.get_mut(key) else {
            // Whoever is at rest can wait for a desk.
            let later = now.after(Nanos::from_millis(BLOCKED_RETRY_MS));
            self.timers.arm(index, later);
            return;
        };
        if slot.meta.over {
            return;
        }
        let may_go = slot.meta.orphan && slot.connection.is_retransmission_due(now);
        if may_go && self.sheds_orphan(now, key, true) {
            return;
        }
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let whose = (index, &slot.meta.hop);
        let disposition = slot.connection.on_timer(&mut Env {
            now,
            pool,
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: knobs_of(&self.own_tunables, &self.group_knobs, &self.tunables, whose),
        });
        if slot.connection.doubts_route(now, &self.tunables) {
            // The next retransmission asks for the way again (behaviour: TMR-16).
            let remote = slot.connection.tuple().remote.address;
            self.network.doubt(remote, &mut slot.meta.hop);
        }
        self.settle(now, key, disposition);
    }

    /// The neighbour is resolved or failed: frames leave or are dropped, connections try again.
    fn on_neighbor_settled(&mut self, now: Instant, key: Key) {
        let mac = match self.network.neighbors.resolve(key, now) {
            Some(Resolution::Resolved(mac)) => Some(mac),
            _ => None,
        };
        let Self { replies, stats, .. } = self;
        replies.resolve(key, mac, |reason: DropReason| stats.drop(reason));
        self.network.neighbors.set_waited(key, false);
        self.output.append(READY, crate::transmit::waiting_for(key));
    }

    /// The world of a verb that needs no buffers.
    pub(crate) fn no_pool() -> NoPool<P::Buf> {
        NoPool::new()
    }
}

/// Where the identifications of our fragmented packets begin: nowhere that can be guessed.
fn first_identification(secret: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = table_secret(secret, 14);
    u32::from_le_bytes([a, b, c, d])
}
