//! Who is behind a next hop: link addresses as the control path tells them, and who waits for them.
//!
//! The neighbour state machine (RFC 4861 section 7.3, Linux's NUD states) runs in the control
//! process, which speaks ARP and neighbour discovery. Here an entry knows only what sending needs:
//! resolved, being resolved, or failed. The stack asks through `poll_request` at most once a second
//! per neighbour, and tells through `poll_confirmation` that TCP made progress, so that control
//! need not probe (RFC 4861 section 7.3.1).
//!
//! Connections that wait keep their data and wait in a list of their own (`Stack::output`); frames that
//! wait (stateless replies) are in `reply.rs`. If control never answers, an entry fails by itself
//! after three requests.

use millrace_base::{Address, Endpoint, FlowTuple, Instant, Key, MacAddress, Nanos, PortId, Slab};

use crate::flow::Owner;
use crate::flow_table::FlowTable;
use crate::limits::{
    NEIGHBOR_EVICTION_STEPS_MAX, NEIGHBOR_NOTICES_MAX, NEIGHBOR_REQUEST_INTERVAL_MS,
    NEIGHBOR_REQUESTS_MAX,
};
use crate::notices::Notices;
use crate::path::Path;
use crate::wheel::Wheel;

/// What the control path has to say about a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighborUpdate {
    /// It answers at this link address.
    Reachable(MacAddress),
    /// It did not answer.
    Failed,
    /// Forget it.
    Remove,
}

/// A neighbour whose link address is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighborRequest {
    /// The link it is on.
    pub port: PortId,
    /// Its IP address.
    pub address: Address,
}

/// What sending to a neighbour meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    Resolved(MacAddress),
    /// Being resolved: wait.
    Incomplete,
    /// Did not answer lately.
    Failed,
}

#[derive(Debug)]
pub(crate) struct Neighbor {
    port: PortId,
    address: Address,
    state: State,
    /// Connections may wait for the answer: the entry must not go away without telling them.
    waited: bool,
    /// When the last request was made, or `None`.
    requested_at: Option<Instant>,
    confirmed_at: Option<Instant>,
    requests: u8,
    /// The path to it, and the generation of routes and interfaces that it was made of; 0 is none.
    path: Path,
    path_generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Incomplete,
    Reachable(MacAddress),
    Failed { since: Instant },
}

/// The neighbour table. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Neighbors {
    entries: Slab<Neighbor>,
    by_address: FlowTable,
    /// The next request, or the end of a resolution nobody answers.
    timers: Wheel,
    requests: Notices<(PortId, Address)>,
    confirmations: Notices<(PortId, Address)>,
    /// Where the search for an entry to evict goes on.
    eviction_hand: u32,
}

impl Neighbor {
    /// The link the neighbour is on.
    pub(crate) const fn port(&self) -> PortId {
        self.port
    }
}

impl Neighbors {
    pub(crate) fn new(capacity: usize, secret: [u8; 16]) -> Self {
        Self {
            entries: Slab::new(capacity),
            by_address: FlowTable::new(capacity, secret),
            timers: Wheel::new(capacity),
            requests: Notices::new(NEIGHBOR_NOTICES_MAX),
            confirmations: Notices::new(NEIGHBOR_NOTICES_MAX),
            eviction_hand: 0,
        }
    }

    /// The entry of a neighbour, made when there is none. `None` when the table is full of entries
    /// in use.
    pub(crate) fn find_or_create(&mut self, port: PortId, address: Address) -> Option<Key> {
        if let Some(found) = self.find(port, address) {
            return Some(found);
        }
        if self.entries.is_full() {
            self.evict_one()?;
        }
        let entry = Neighbor {
            port,
            address,
            state: State::Incomplete,
            waited: false,
            requested_at: None,
            confirmed_at: None,
            requests: 0,
            path: Path::default(),
            path_generation: 0,
        };
        let created = self.entries.insert(entry).ok()?;
        let owner = Owner::Connection(created.index());
        let hash = self.by_address.hash(&key(port, address));
        if self.by_address.insert(hash, owner).is_err() {
            self.entries.remove(created);
            return None;
        }
        Some(created)
    }

    pub(crate) fn find(&self, port: PortId, address: Address) -> Option<Key> {
        let hash = self.by_address.hash(&key(port, address));
        let found = self.by_address.find(hash, |owner| {
            let entry = self.entries.get_at(owner.index());
            entry.is_some_and(|entry| entry.port == port && entry.address == address)
        })?;
        self.entries.key_at(found.index())
    }

    /// What sending to this neighbour meets now; asks for its address when that is unknown. `None`
    /// when the key is stale.
    pub(crate) fn resolve(&mut self, key: Key, now: Instant) -> Option<Resolution> {
        let entry = self.entries.get_mut(key)?;
        match entry.state {
            State::Reachable(mac) => return Some(Resolution::Resolved(mac)),
            State::Failed { since } if now.since(since) < interval() => {
                return Some(Resolution::Failed);
            }
            State::Failed { .. } => {
                // Ask anew: the last answer is old.
                entry.state = State::Incomplete;
                entry.requests = 0;
            }
            State::Incomplete => {}
        }
        self.request(key, now);
        Some(Resolution::Incomplete)
    }

    /// Takes what control says. Returns the entry, whose waiters now have an answer.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        port: PortId,
        address: Address,
        update: NeighborUpdate,
    ) -> Option<Key> {
        let found = match update {
            NeighborUpdate::Reachable(_) => self.find_or_create(port, address)?,
            NeighborUpdate::Failed | NeighborUpdate::Remove => self.find(port, address)?,
        };
        self.timers.cancel(found.index());
        let entry = self.entries.get_mut(found)?;
        entry.requests = 0;
        entry.path_generation = 0;
        entry.state = match update {
            NeighborUpdate::Reachable(mac) => State::Reachable(mac),
            NeighborUpdate::Failed => State::Failed { since: now },
            NeighborUpdate::Remove => State::Incomplete,
        };
        if update == NeighborUpdate::Remove {
            entry.requested_at = None;
            if !entry.waited {
                self.remove(found);
                return None;
            }
            self.request(found, now);
            return None;
        }
        Some(found)
    }

    /// Repeats requests that were not answered and lets those fail that were made often enough.
    /// Returns the next entry that failed; `None` when no more timers are due or `steps` is used
    /// up.
    pub(crate) fn advance(&mut self, now: Instant, steps: &mut usize) -> Option<Key> {
        while let Some(index) = self.timers.pop(now, steps) {
            let Some(key) = self.entries.key_at(index) else {
                continue;
            };
            let Some(entry) = self.entries.get_mut(key) else {
                continue;
            };
            if entry.state != State::Incomplete {
                continue;
            }
            if entry.requests >= NEIGHBOR_REQUESTS_MAX {
                entry.state = State::Failed { since: now };
                return Some(key);
            }
            self.request(key, now);
        }
        None
    }

    /// The connection through this neighbour makes progress: tell control, at most once a second.
    pub(crate) fn confirm(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let recently = entry
            .confirmed_at
            .is_some_and(|at| now.since(at) < interval());
        if recently || !matches!(entry.state, State::Reachable(_)) {
            return;
        }
        // A full queue loses the news; the next progress brings it again.
        if self.confirmations.push((entry.port, entry.address)) {
            entry.confirmed_at = Some(now);
        }
    }

    pub(crate) fn poll_request(&mut self) -> Option<NeighborRequest> {
        let (port, address) = self.requests.pop()?;
        Some(NeighborRequest { port, address })
    }

    pub(crate) fn poll_confirmation(&mut self) -> Option<(PortId, Address)> {
        self.confirmations.pop()
    }

    pub(crate) fn next_deadline(&self) -> Instant {
        self.timers.next_deadline()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Neighbor> {
        self.entries.get(key)
    }

    /// The path to a neighbour that is resolved, if `keep_path` was given it in this generation.
    #[inline]
    pub(crate) fn path(&self, key: Key, generation: u32) -> Option<&Path> {
        let entry = self.entries.get(key)?;
        (entry.path_generation == generation).then_some(&entry.path)
    }

    /// Remembers the path to a resolved neighbour until it changes.
    pub(crate) fn keep_path(&mut self, key: Key, path: Path, generation: u32) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.path, entry.path_generation) = (path, generation);
        }
    }

    /// Notes whether connections wait for the answer.
    pub(crate) fn set_waited(&mut self, key: Key, waited: bool) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.waited = waited;
        }
    }

    /// Asks control for the address, unless it was asked within the last second.
    fn request(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry
            .requested_at
            .is_some_and(|at| now.since(at) < interval())
        {
            return;
        }
        entry.requested_at = Some(now);
        entry.requests = entry.requests.saturating_add(1);
        // When the queue is full the timer asks again.
        self.requests.push((entry.port, entry.address));
        self.timers.arm(key.index(), now.after(interval()));
    }

    fn remove(&mut self, removed: Key) {
        if let Some(entry) = self.entries.remove(removed) {
            self.timers.cancel(removed.index());
            let owner = Owner::Connection(removed.index());
            let hash = self.by_address.hash(&key(entry.port, entry.address));
            self.by_address.remove(hash, owner);
        }
    }

    /// Removes an entry nobody waits for, rather one that is not resolved.
    /// O(`NEIGHBOR_EVICTION_STEPS_MAX`).
    fn evict_one(&mut self) -> Option<()> {
        let capacity = self.entries.capacity() as u32;
        let mut resolved = None;
        for _ in 0..NEIGHBOR_EVICTION_STEPS_MAX {
            self.eviction_hand = self.eviction_hand.saturating_add(1);
            if self.eviction_hand >= capacity {
                self.eviction_hand = 0;
            }
            let Some(candidate) = self.entries.key_at(self.eviction_hand) else {
                continue;
            };
            let Some(entry) = self.entries.get(candidate) else {
                continue;
            };
            if entry.waited {
                continue;
            }
            if matches!(entry.state, State::Reachable(_)) {
                resolved = Some(candidate);
                continue;
            }
            self.remove(candidate);
            return Some(());
        }
        self.remove(resolved?);
        Some(())
    }
}

/// Between two requests, two confirmations, and before a failed neighbour is asked for again.
const fn interval() -> Nanos {
    Nanos::from_millis(NEIGHBOR_REQUEST_INTERVAL_MS)
}

/// A port and an address as a key of the flow table: the port's number stands where our TCP port
/// would.
fn key(port: PortId, address: Address) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(Address::UNSPECIFIED_V6, port.number()),
        remote: Endpoint::new(address, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId::new(0);
    const MAC: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 9]);

    fn address(last: u8) -> Address {
        Address::v4([10, 0, 0, last])
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    // behaviour: ARP-1 ARP-9
    #[test]
    fn an_unknown_neighbour_is_asked_for_once_a_second_and_fails_after_three_requests() {
        let mut neighbors = Neighbors::new(4, [0; 16]);
        let key = neighbors.find_or_create(PORT, address(1)).expect("room");
        for ms in [0, 1, 500, 999] {
            assert_eq!(neighbors.resolve(key, at(ms)), Some(Resolution::Incomplete));
        }
        let request = NeighborRequest {
            port: PORT,
            address: address(1),
        };
        assert_eq!(neighbors.poll_request(), Some(request));
        assert_eq!(neighbors.poll_request(), None);
        for ms in [1_001, 2_002] {
            assert_eq!(neighbors.advance(at(ms), &mut 10), None);
            assert_eq!(neighbors.poll_request(), Some(request));
        }
        assert_eq!(neighbors.advance(at(3_003), &mut 10), Some(key));
        assert_eq!(neighbors.resolve(key, at(3_500)), Some(Resolution::Failed));
        assert_eq!(
            neighbors.resolve(key, at(4_100)),
            Some(Resolution::Incomplete)
        );
        assert_eq!(neighbors.poll_request(), Some(request));
    }

    // behaviour: ARP-4, ARP-5
    #[test]
    fn ten_thousand_neighbours_are_found_again_and_none_is_made_twice() {
        let mut neighbors = Neighbors::new(10_000, [7; 16]);
        let all = || (0..10_000u16).map(|n| Address::v4([10, 1, (n >> 8) as u8, n as u8]));
        let made: Vec<_> = all()
            .map(|address| neighbors.find_or_create(PORT, address).expect("room"))
            .collect();
        for (address, key) in all().zip(&made) {
            assert_eq!(neighbors.find_or_create(PORT, address), Some(*key));
            assert_eq!(neighbors.find(PORT, address), Some(*key));
        }
        let (first, other) = (made[0], PortId::new(1));
        assert_eq!(neighbors.find(other, Address::v4([10, 1, 0, 0])), None);
        assert_eq!(neighbors.poll_request(), None, "made, and not asked for");
        let unknown = neighbors.resolve(first, at(1));
        assert_eq!(unknown, Some(Resolution::Incomplete));
    }

    #[test]
    fn an_answer_ends_the_asking_and_progress_is_told_once_a_second() {
        let mut neighbors = Neighbors::new(4, [0; 16]);
        let key = neighbors.find_or_create(PORT, address(1)).expect("room");
        neighbors.resolve(key, at(0));
        neighbors.update(at(1), PORT, address(1), NeighborUpdate::Reachable(MAC));
        assert_eq!(
            neighbors.resolve(key, at(2)),
            Some(Resolution::Resolved(MAC))
        );
        assert_eq!(neighbors.next_deadline(), Instant::NEVER);
        for ms in [10, 20, 1_009] {
            neighbors.confirm(key, at(ms));
        }
        assert_eq!(neighbors.poll_confirmation(), Some((PORT, address(1))));
        assert_eq!(neighbors.poll_confirmation(), None);
        neighbors.confirm(key, at(1_010));
        assert_eq!(neighbors.poll_confirmation(), Some((PORT, address(1))));
    }

    #[test]
    fn a_removed_entry_leaves_stale_keys_that_find_nothing() {
        let mut neighbors = Neighbors::new(4, [0; 16]);
        let key = neighbors
            .update(at(0), PORT, address(1), NeighborUpdate::Reachable(MAC))
            .expect("room");
        neighbors.update(at(1), PORT, address(1), NeighborUpdate::Remove);
        assert_eq!(neighbors.resolve(key, at(2)), None);
        assert_eq!(neighbors.find(PORT, address(1)), None);
    }

    // behaviour: ARP-3
    #[test]
    fn a_full_table_evicts_what_is_unresolved_before_what_works() {
        let mut neighbors = Neighbors::new(3, [0; 16]);
        neighbors.update(at(0), PORT, address(1), NeighborUpdate::Reachable(MAC));
        let waited = neighbors.find_or_create(PORT, address(2)).expect("room");
        neighbors.set_waited(waited, true);
        neighbors.find_or_create(PORT, address(3)).expect("room");
        assert!(neighbors.find_or_create(PORT, address(4)).is_some());
        assert_eq!(neighbors.find(PORT, address(3)), None);
        assert!(neighbors.find(PORT, address(1)).is_some());
        assert_eq!(neighbors.find(PORT, address(2)), Some(waited));
    }
}
