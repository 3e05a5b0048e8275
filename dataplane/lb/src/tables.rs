//! Adopting a snapshot: records from the shared region become the stack's configuration and the
//! balancer's tables.
//!
//! Everything is replaced in place, into memory taken at the start; sessions keep what they have. A
//! record that makes no sense (control and dataplane are two processes, perhaps of two versions) is
//! skipped and counted, never believed and never a panic. What refers to a skipped record then
//! refers to nothing: a listener whose pool was refused resets its clients, which is visible,
//! instead of sending them somewhere else.

use arrayvec::ArrayVec;
use millrace_abi::limits::{
    ADDRESSES_MAX, BACKENDS_MAX, LISTENERS_MAX, POOLS_MAX, PORTS_MAX, ROUTES_MAX,
};
use millrace_abi::{AddressKind, LegRecord, ListenerCounters, PoolRecord, Tables as Snapshot};
use millrace_base::{Address, BackendId, Instant, ListenerId, PacketPool, Rng};
use millrace_stack::limits::MTU_MIN_V4;
use millrace_stack::{
    Interface, ListenOptions, Listener, Offloads, Prefixed, Profile, Route, RouteAttributes, Stack,
};

use crate::backend::Backends;
use crate::limits::{HEADROOM_LOOKUPS_MAX, WARM_UP_PICKS_MAX};
use crate::pick::{Picker, Tried};
use crate::snat::Snat;

/// One pool: a run of `Tables::members` and the policy.
#[derive(Clone, Copy, Debug)]
struct Pool {
    picker: Picker,
    first: usize,
    count: usize,
    /// What connections to its backends begin with.
    profile: Profile,
}

/// Where a session goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Picked {
    pub(crate) backend: BackendId,
    /// What the connection to it begins with.
    pub(crate) profile: Profile,
}

/// A listener's pool and account. Rows are indexed by the stable id, so that accounts survive
/// reloads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListenerRow {
    /// The index of its pool in the present snapshot; `None` when the snapshot has neither.
    pool: Option<u16>,
    /// Sessions that exist now.
    pub(crate) active: u32,
    /// Clients accepted.
    pub(crate) sessions: u64,
    /// Clients reset before they reached a backend.
    pub(crate) refused: u64,
    /// Bytes from clients.
    pub(crate) bytes_in: u64,
    /// Bytes to clients.
    pub(crate) bytes_out: u64,
    /// Sessions that their client reset.
    pub(crate) resets: u64,
}

/// What the balancer itself keeps of a snapshot.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) backends: Backends,
    pub(crate) snat: Snat,
    /// Whose headroom is looked at next.
    headroom_next: usize,
    listeners: Vec<ListenerRow>,
    pools: Vec<Option<Pool>>,
    members: Vec<BackendId>,
    staging: Staging,
}

/// Where the stack's configuration is put together; kept so that adopting allocates nothing.
#[derive(Debug)]
struct Staging {
    interfaces: ArrayVec<Interface, PORTS_MAX>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    listeners: Vec<Listener>,
}

impl Tables {
    pub(crate) fn new(snat: Snat) -> Self {
        let mut listeners = Vec::with_capacity(LISTENERS_MAX);
        listeners.resize(LISTENERS_MAX, ListenerRow::default());
        Self {
            backends: Backends::new(),
            snat,
            headroom_next: 0,
            listeners,
            pools: Vec::with_capacity(POOLS_MAX),
            members: Vec::with_capacity(BACKENDS_MAX),
            staging: Staging {
                interfaces: ArrayVec::new(),
                addresses: Vec::with_capacity(ADDRESSES_MAX),
                routes: Vec::with_capacity(ROUTES_MAX),
                listeners: Vec::with_capacity(LISTENERS_MAX),
            },
        }
    }

    /// Adopts a snapshot and tells how many of its records were skipped. O(records), no allocation.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot, rng: &mut Rng) -> u64 {
        let mut invalid = Invalid(0);
        self.staging.interfaces(snapshot, &mut invalid);
        self.staging.addresses(snapshot, &mut invalid);
        self.staging.routes(snapshot, &mut invalid);
        self.adopt_snat(snapshot, &mut invalid);
        self.adopt_pools(snapshot, rng, &mut invalid);
        self.adopt_listeners(snapshot, &mut invalid);
        invalid.0
    }

    /// Gives the stack the network part of the adopted snapshot; without listeners when `listening`
    /// is false.
    pub(crate) fn configure<P: PacketPool>(
        &mut self,
        now: Instant,
        offloads: &[Offloads],
        listening: bool,
        stack: &mut Stack<P>,
    ) {
        for interface in &mut self.staging.interfaces {
            interface.offloads = offloads
                .get(interface.port.index())
                .copied()
                .unwrap_or_default();
        }
        stack.set_interfaces(now, &self.staging.interfaces);
        stack.set_local_addresses(&self.staging.addresses);
        stack.set_routes(&self.staging.routes);
        stack.set_listeners(if listening {
            &self.staging.listeners
        } else {
            &[]
        });
    }

    /// The backend that the policy of a listener's pool prefers, without those tried.
    pub(crate) fn pick(&mut self, listener: ListenerId, tried: &Tried) -> Result<Picked, NoPick> {
        let row = self.listeners.get(listener.index()).ok_or(NoPick::Pool)?;
        let index = row.pool.ok_or(NoPick::Pool)?;
        let pool = self
            .pools
            .get_mut(usize::from(index))
            .and_then(Option::as_mut)
            .ok_or(NoPick::Pool)?;
        let end = pool.first.saturating_add(pool.count);
        let members = self.members.get(pool.first..end).ok_or(NoPick::Pool)?;
        let backend = pool.picker.pick(members, &mut self.backends, tried);
        Ok(Picked {
            backend: backend.ok_or(NoPick::Backend)?,
            profile: pool.profile,
        })
    }

    pub(crate) fn listener_mut(&mut self, id: ListenerId) -> Option<&mut ListenerRow> {
        self.listeners.get_mut(id.index())
    }

    /// The accounts of all listeners that are in the present snapshot or had a client.
    pub(crate) fn listener_counters(&self) -> impl Iterator<Item = (ListenerId, ListenerCounters)> {
        let rows = self.listeners.iter().enumerate();
        let known = rows.filter(|(_, row)| row.pool.is_some() || row.sessions > 0);
        known.map(|(index, row)| (ListenerId::new(index as u16), row.counters()))
    }

    /// Looks anew at the ports left towards the backends, `HEADROOM_LOOKUPS_MAX` pairs at most; the
    /// others' turn comes with the next calls.
    pub(crate) fn look_at_headroom(&mut self) {
        let mut lookups = 0usize;
        while lookups < HEADROOM_LOOKUPS_MAX {
            let Some((index, row)) = self.backends.next_present(self.headroom_next) else {
                self.headroom_next = 0;
                break;
            };
            self.headroom_next = index.saturating_add(1);
            row.headroom = self.snat.headroom(row.endpoint);
            let pairs = self.snat.address_count(row.endpoint.address.is_v4());
            lookups = lookups.saturating_add(pairs.max(1));
        }
    }

    fn adopt_snat(&mut self, snapshot: &Snapshot, invalid: &mut Invalid) {
        self.snat.clear();
        for record in snapshot.snat() {
            let (first, last) = (record.port_first, record.port_last);
            invalid.unless(self.snat.add(record.address(), first, last));
        }
    }

    fn adopt_pools(&mut self, snapshot: &Snapshot, rng: &mut Rng, invalid: &mut Invalid) {
        self.backends.begin();
        self.members.clear();
        let known = self.pools.len();
        for (index, record) in snapshot.pools().iter().enumerate() {
            let first = self.members.len();
            let algorithm = record.algorithm();
            invalid.unless(algorithm.is_some());
            if algorithm.is_some() {
                self.adopt_backends(snapshot, index, record, rng, invalid);
            }
            let count = self.members.len().saturating_sub(first);
            let before = self.pools.get(index).copied().flatten();
            let picker = algorithm.map(|algorithm| match before {
                Some(pool) if pool.picker.algorithm() == algorithm => pool.picker,
                _ => Picker::new(algorithm, rng.below(u32::MAX)),
            });
            let profile = profile(&record.leg, invalid);
            let pool = picker.map(|picker| Pool {
                picker,
                first,
                count,
                profile,
            });
            match self.pools.get_mut(index) {
                Some(slot) => *slot = pool,
                None => self.pools.push(pool),
            }
            if index >= known {
                self.warm_up(index, rng);
            }
        }
        self.pools.truncate(snapshot.pools().len());
    }

    fn adopt_backends(
        &mut self,
        snapshot: &Snapshot,
        pool: usize,
        record: &PoolRecord,
        rng: &mut Rng,
        invalid: &mut Invalid,
    ) {
        for backend in snapshot.backends_of(record) {
            let endpoint = backend.endpoint();
            let reachable = endpoint.port != 0 && endpoint.address.is_unicast_source();
            let set = match (backend.id(), backend.state()) {
                (Some(id), Some(state)) if reachable && usize::from(backend.pool) == pool => {
                    let cursor = rng.below(u32::MAX);
                    let set = self
                        .backends
                        .set(id, endpoint, backend.weight, state, cursor);
                    set && push_within_capacity(&mut self.members, id)
                }
                _ => false,
            };
            invalid.unless(set);
        }
    }

    /// Makes a few picks and forgets them, so that not every lcore begins with the same backend.
    fn warm_up(&mut self, index: usize, rng: &mut Rng) {
        let Some(Some(pool)) = self.pools.get_mut(index) else {
            return;
        };
        let end = pool.first.saturating_add(pool.count);
        let Some(members) = self.members.get(pool.first..end) else {
            return;
        };
        for _ in 0..rng.below(WARM_UP_PICKS_MAX.min(pool.count as u32)) {
            let _ = pool.picker.pick(members, &mut self.backends, &Tried::NONE);
        }
    }

    fn adopt_listeners(&mut self, snapshot: &Snapshot, invalid: &mut Invalid) {
        for row in &mut self.listeners {
            row.pool = None;
        }
        self.staging.listeners.clear();
        for record in snapshot.listeners() {
            let has_ports = record.port_first != 0 && record.port_first <= record.port_last;
            let has_pool = usize::from(record.pool) < snapshot.pools().len();
            let address = record.address();
            let row = record
                .id()
                .and_then(|id| self.listeners.get_mut(id.index()));
            let (Some(id), Some(row)) = (record.id(), row) else {
                invalid.unless(false);
                continue;
            };
            // A second record of one id finds the pool of the first.
            if !has_ports || !has_pool || address.is_multicast() || row.pool.is_some() {
                invalid.unless(false);
                continue;
            }
            row.pool = Some(record.pool);
            let mut options = ListenOptions {
                profile: profile(&record.leg, invalid),
                ..ListenOptions::default()
            };
            if record.backlog != 0 {
                options.backlog = record.backlog;
            }
            let (port_first, port_last) = (record.port_first, record.port_last);
            let listener = Listener {
                id,
                address,
                port_first,
                port_last,
                options,
            };
            invalid.unless(push_within_capacity(&mut self.staging.listeners, listener));
        }
    }
}

impl ListenerRow {
    fn counters(&self) -> ListenerCounters {
        ListenerCounters {
            sessions_active: u64::from(self.active),
            sessions_total: self.sessions,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            refused: self.refused,
            resets: self.resets,
            ..ListenerCounters::default()
        }
    }
}

impl Staging {
    fn interfaces(&mut self, snapshot: &Snapshot, invalid: &mut Invalid) {
        self.interfaces.clear();
        for record in snapshot.interfaces() {
            let port = record.port();
            let fresh = !self.interfaces.iter().any(|known| known.port == port);
            let valid = fresh
                && port.index() < PORTS_MAX
                && record.mtu >= MTU_MIN_V4
                && !record.mac().is_group();
            let interface = Interface {
                port,
                mac: record.mac(),
                mtu: record.mtu,
                addresses: ArrayVec::new(),
                offloads: Offloads::default(),
            };
            invalid.unless(valid && self.interfaces.try_push(interface).is_ok());
        }
    }

    fn addresses(&mut self, snapshot: &Snapshot, invalid: &mut Invalid) {
        self.addresses.clear();
        for record in snapshot.addresses() {
            let address = record.address();
            let placed = match record.kind() {
                _ if !address.is_unicast_source() => false,
                Some(AddressKind::Interface) => {
                    let port = record.port();
                    let mut interfaces = self.interfaces.iter_mut();
                    let interface = interfaces.find(|interface| Some(interface.port) == port);
                    let prefixed = Prefixed {
                        address,
                        prefix_len: record.prefix_len,
                    };
                    prefixed.network().is_some()
                        && interface.is_some_and(|i| i.addresses.try_push(prefixed).is_ok())
                }
                Some(AddressKind::Vip | AddressKind::Snat) => {
                    push_within_capacity(&mut self.addresses, address)
                }
                None => false,
            };
            invalid.unless(placed);
        }
    }

    fn routes(&mut self, snapshot: &Snapshot, invalid: &mut Invalid) {
        self.routes.clear();
        for record in snapshot.routes() {
            let port = record.port();
            let has_port = self
                .interfaces
                .iter()
                .any(|interface| interface.port == port);
            let via = record.via();
            let route = record.prefix().filter(|prefix| {
                let same_family = via.is_none_or(|via| via.is_v4() == prefix.address().is_v4());
                has_port && same_family && !via.is_some_and(|via| via.is_unspecified())
            });
            let placed = route.is_some_and(|prefix| {
                let mtu = record.mtu;
                push_within_capacity(
                    &mut self.routes,
                    Route {
                        prefix,
                        via,
                        port,
                        mtu,
                        attributes: RouteAttributes::default(),
                    },
                )
            });
            invalid.unless(placed);
        }
    }
}

/// Why no backend was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPick {
    /// The listener or its pool is not in the present tables.
    Pool,
    /// No untried backend of the pool is up.
    Backend,
}

/// Counts the records that were skipped.
struct Invalid(u64);

impl Invalid {
    fn unless(&mut self, valid: bool) {
        self.0 = self.0.saturating_add(u64::from(!valid));
    }
}

/// What the connections of a leg begin with. What is not understood is counted and left to the
/// stack: clients are better served by another algorithm than not at all.
fn profile(leg: &LegRecord, invalid: &mut Invalid) -> Profile {
    invalid.unless(leg.is_known());
    Profile {
        congestion_control: leg.congestion_control(),
    }
}

/// Pushes without growing; `false` when there is no room.
fn push_within_capacity<T>(vector: &mut Vec<T>, value: T) -> bool {
    let room = vector.len() < vector.capacity();
    if room {
        vector.push(value);
    }
    room
}

#[cfg(test)]
mod tests;
