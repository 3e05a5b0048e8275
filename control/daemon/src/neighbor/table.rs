//! The neighbour table: who answers at which Ethernet address, and how sure we are (RFC 4861
//! section 7.3, which Linux applies to ARP too). Pure: time is an argument, what to do comes out as
//! actions.
//!
//! ```text
//!             need                 answer              reachable time over
//!   (none) ─────────▶ INCOMPLETE ─────────▶ REACHABLE ──────────────▶ DELAY
//!                         │ mcast_solicit        ▲   answer or TCP       │ delay_first_probe_time
//!                         ▼ unanswered           └──────progress──┐      ▼
//!                      FAILED ◀──────────────────────────────── PROBE (ucast_solicit)
//!                         ucast_solicit unanswered
//!   heard of unasked: STALE, and on to DELAY
//! ```
//!
//! One difference to Linux: an lcore does not report each use of an entry, so every entry that
//! lcores hold counts as used. A REACHABLE one goes to DELAY when its time is over and a STALE one
//! at the next `advance`, without waiting for a packet. A neighbour that is gone is so found out
//! within a minute, traffic or not; the price is a request per neighbour in that time. Lcores
//! keep an address through STALE, DELAY and PROBE: only an answer, a failure or a removal changes
//! it.

use std::collections::{HashMap, HashSet};

use millrace_abi::NeighborState;
use millrace_base::{Address, Instant, MacAddress, Nanos, PortId, Rng};
use millrace_config as config;

/// Neighbours up to which nothing is collected (Linux gc_thresh1).
pub(crate) const GC_THRESH_MIN: usize = 128;
/// Neighbours at which room is made for a new one (Linux gc_thresh3).
pub(crate) const GC_THRESH_MAX: usize = 1_024;
/// How often idle entries are looked for (Linux gc_interval).
const GC_INTERVAL: Nanos = Nanos::from_secs(30);
/// How long an entry may be idle (Linux gc_stale_time).
const GC_STALE_TIME: Nanos = Nanos::from_secs(60);
/// How long a learned address is kept against other answers (Linux locktime): the first of two
/// answers wins.
const LOCKTIME: Nanos = Nanos::from_secs(1);

const _: () = assert!(GC_THRESH_MIN < GC_THRESH_MAX);

/// A neighbour: a port and an address on it.
pub(crate) type Key = (PortId, Address);

/// The timings of `[neighbor]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    base_reachable_ms: u32,
    delay_first_probe: Nanos,
    retrans: Nanos,
    ucast_solicit: u8,
    mcast_solicit: u8,
}

/// How sure we are (RFC 4861 section 7.3.2; FAILED is Linux's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Asked everybody, no answer yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Heard of, not confirmed.
    Stale,
    /// In use unconfirmed; about to be probed.
    Delay,
    /// Asked at its last known address, no answer yet.
    Probe,
    /// Did not answer.
    Failed,
}

/// What to do. The table itself sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask for this address: everybody, or only the holder of `to`.
    Solicit {
        /// Whom to ask about.
        key: Key,
        /// Its last known Ethernet address.
        to: Option<MacAddress>,
    },
    /// Tell every lcore.
    Tell {
        /// About whom.
        key: Key,
        /// What.
        state: NeighborState,
    },
}

/// What a received message says about a neighbour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// Its Ethernet address; a neighbour advertisement may leave it out.
    pub(crate) mac: Option<MacAddress>,
    /// It answers a question of ours, which proves that the way there works.
    pub(crate) solicited: bool,
    /// It may replace another address that we know.
    pub(crate) replaces: bool,
    /// It is worth an entry when there is none: it spoke to us.
    pub(crate) creates: bool,
}

/// One row for an operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) state: State,
    pub(crate) confirmed: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    mac: Option<MacAddress>,
    deadline: Instant,
    asked: u8,
    confirmed: Option<Instant>,
    updated: Instant,
    used: Instant,
    /// An lcore waits for it, so a failure must be told.
    demanded: bool,
}

/// All neighbours of all ports.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<Key, Entry>,
    /// Neighbours that the configuration names: routers and backends. Never collected.
    pinned: HashSet<Key>,
    timings: Timings,
    rng: Rng,
    actions: Vec<Action>,
    next: Instant,
    next_gc: Instant,
    refused: u64,
    allocs: u64,
}

impl Timings {
    /// From the configuration.
    pub(crate) fn new(config: &config::Neighbor) -> Self {
        Self {
            base_reachable_ms: config.base_reachable_time_ms,
            delay_first_probe: Nanos::from_millis(config.delay_first_probe_time_ms.into()),
            retrans: Nanos::from_millis(config.retrans_time_ms.into()),
            ucast_solicit: config.ucast_solicit,
            mcast_solicit: config.mcast_solicit,
        }
    }
}

impl State {
    /// Linux's word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
        }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(timings: Timings, seed: u64) -> Self {
        Self {
            entries: HashMap::new(),
            pinned: HashSet::new(),
            timings,
            rng: Rng::new(seed),
            actions: Vec::new(),
            next: Instant::NEVER,
            next_gc: Instant::ZERO,
            refused: 0,
            allocs: 0,
        }
    }

    /// Other timings, from the next transition on.
    pub(crate) fn set_timings(&mut self, timings: Timings) {
        self.timings = timings;
    }

    /// These neighbours are wanted for good; the new ones are resolved now.
    pub(crate) fn pin(&mut self, now: Instant, keys: HashSet<Key>) {
        for key in &keys {
            if !self.entries.contains_key(key) {
                self.create(now, *key, false);
            }
        }
        self.pinned = keys;
    }

    /// An lcore has frames for this neighbour and does not know its address.
    pub(crate) fn need(&mut self, now: Instant, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.create(now, key, true);
            return;
        };
        entry.used = now;
        entry.demanded = true;
        match (entry.state, entry.mac) {
            (State::Incomplete, _) => {}
            (State::Failed, _) | (_, None) => self.ask_everybody(now, key),
            // The lcore has lost it, or is new.
            (_, Some(mac)) => self.tell(key, NeighborState::Reachable(mac)),
        }
    }

    /// TCP made progress through this neighbour (RFC 4861 section 7.3.1). One that is unknown is
    /// resolved: lcores know more than we do after control was restarted.
    pub(crate) fn confirm(&mut self, now: Instant, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.create(now, key, false);
            return;
        };
        entry.used = now;
        if entry.mac.is_some() && entry.state != State::Failed {
            self.reachable(now, key);
        }
    }

    /// A message from or about this neighbour was received and found valid.
    pub(crate) fn hear(&mut self, now: Instant, key: Key, heard: Heard) {
        if !self.entries.contains_key(&key) {
            if !heard.creates || heard.mac.is_none() || !self.make_room(now) {
                return;
            }
            self.insert(key, Entry::new(State::Incomplete, now, Instant::NEVER));
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let known = entry.mac.filter(|_| entry.state != State::Failed);
        let Some(known) = known else {
            // INCOMPLETE or FAILED: without an address the message says nothing new.
            if let Some(mac) = heard.mac {
                entry.mac = Some(mac);
                entry.updated = now;
                self.tell(key, NeighborState::Reachable(mac));
                self.settle(now, key, heard.solicited);
            }
            return;
        };
        match heard.mac {
            Some(mac) if mac != known => {
                let locked = now.since(entry.updated) < LOCKTIME;
                if heard.replaces && !locked {
                    entry.mac = Some(mac);
                    entry.updated = now;
                    self.tell(key, NeighborState::Reachable(mac));
                    self.settle(now, key, heard.solicited);
                } else if !heard.replaces && entry.state == State::Reachable {
                    //= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.5
                    //# a. If the state of the cache entry is REACHABLE, set it to STALE, but do not
                    //# update the entry in any other way.
                    self.stale(now, key);
                }
            }
            Some(_) | None => {
                if heard.solicited {
                    self.reachable(now, key);
                }
            }
        }
    }

    /// Lets time pass: requests again, transitions, collection.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.next_gc.is_due(now) {
            self.next_gc = now.after(GC_INTERVAL);
            self.collect(now);
        }
        if !self.next.is_due(now) {
            return;
        }
        let due = |(key, entry): (&Key, &Entry)| entry.deadline.is_due(now).then_some(*key);
        let keys: Vec<Key> = self.entries.iter().filter_map(due).collect();
        for key in keys {
            self.expire(now, key);
        }
        let deadlines = self.entries.values().map(|entry| entry.deadline);
        self.next = deadlines.min().unwrap_or(Instant::NEVER);
    }

    /// Repeats to the lcores all that is known, for a dataplane that knows nothing.
    pub(crate) fn tell_all(&mut self) {
        let known = self.entries.iter().filter_map(|(key, entry)| {
            let mac = entry.mac.filter(|_| entry.state != State::Failed)?;
            let state = NeighborState::Reachable(mac);
            Some(Action::Tell { key: *key, state })
        });
        self.actions.extend(known);
    }

    /// Forgets the neighbours of networks that are no longer ours.
    pub(crate) fn retain(&mut self, on_link: impl Fn(Key) -> bool) {
        let gone: Vec<Key> = self
            .entries
            .keys()
            .copied()
            .filter(|key| !on_link(*key))
            .collect();
        for key in gone {
            self.remove(key);
        }
    }

    /// What is to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Neighbours refused because the table was full of better ones.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Entries made so far (Linux: `allocs` of `/proc/net/stat/arp_cache`).
    pub(crate) fn allocs(&self) -> u64 {
        self.allocs
    }

    /// Every neighbour, in no order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.entries.iter().map(|(key, entry)| Row {
            key: *key,
            mac: entry.mac,
            state: entry.state,
            confirmed: entry.confirmed,
        })
    }

    fn create(&mut self, now: Instant, key: Key, demanded: bool) {
        if !self.make_room(now) {
            self.refused += 1;
            return;
        }
        let mut entry = Entry::new(State::Incomplete, now, Instant::NEVER);
        entry.demanded = demanded;
        self.insert(key, entry);
        self.ask_everybody(now, key);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.entries.insert(key, entry);
        self.allocs += 1;
    }

    fn expire(&mut self, now: Instant, key: Key) {
        let timings = self.timings;
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match entry.state {
            State::Reachable | State::Stale => {
                entry.state = State::Delay;
                entry.deadline = now.after(timings.delay_first_probe);
            }
            State::Delay => {
                entry.state = State::Probe;
                entry.asked = 0;
                self.ask(now, key);
            }
            State::Probe if entry.asked < timings.ucast_solicit => self.ask(now, key),
            State::Incomplete if entry.asked < timings.mcast_solicit => self.ask(now, key),
            State::Probe | State::Incomplete => {
                // An INCOMPLETE entry that no lcore waits for was our own idea: the lcores may know
                // better.
                let tell = entry.demanded || entry.state == State::Probe;
                entry.state = State::Failed;
                entry.deadline = Instant::NEVER;
                entry.demanded = false;
                if tell {
                    self.tell(key, NeighborState::Failed);
                }
            }
            State::Failed => entry.deadline = Instant::NEVER,
        }
    }

    fn ask_everybody(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Incomplete;
            entry.mac = None;
            entry.asked = 0;
            self.ask(now, key);
        }
    }

    fn ask(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.asked = entry.asked.saturating_add(1);
            entry.deadline = now.after(self.timings.retrans);
            self.next = self.next.min(entry.deadline);
            let to = entry.mac.filter(|_| entry.state == State::Probe);
            self.actions.push(Action::Solicit { key, to });
        }
    }

    fn settle(&mut self, now: Instant, key: Key, solicited: bool) {
        if solicited {
            self.reachable(now, key);
        } else {
            self.stale(now, key);
        }
    }

    fn reachable(&mut self, now: Instant, key: Key) {
        //= https://www.rfc-editor.org/rfc/rfc4861#section-6.3.2
        //# a uniformly distributed random value between MIN_RANDOM_FACTOR and MAX_RANDOM_FACTOR
        //# times BaseReachableTime milliseconds
        //
        // The factors are 0.5 and 1.5. Drawn for every confirmation, so that neighbours drift
        // apart.
        let base = self.timings.base_reachable_ms;
        let millis = u64::from(base / 2) + u64::from(self.rng.below(base));
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Reachable;
            entry.confirmed = Some(now);
            entry.demanded = false;
            entry.deadline = now.after(Nanos::from_millis(millis));
            self.next = self.next.min(entry.deadline);
        }
    }

    fn stale(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Stale;
            entry.demanded = false;
            entry.deadline = now;
            self.next = now;
        }
    }

    fn tell(&mut self, key: Key, state: NeighborState) {
        self.actions.push(Action::Tell { key, state });
    }

    fn remove(&mut self, key: Key) {
        if self.entries.remove(&key).is_some() {
            self.tell(key, NeighborState::Remove);
        }
    }

    fn collect(&mut self, now: Instant) {
        if self.entries.len() <= GC_THRESH_MIN {
            return;
        }
        let idle = |entry: &Entry| {
            let finished = !matches!(entry.state, State::Incomplete | State::Reachable);
            finished && now.since(entry.used) > GC_STALE_TIME
        };
        let spare = |(key, entry): &(&Key, &Entry)| idle(entry) && !self.pinned.contains(key);
        let keys = self.entries.iter().filter(spare);
        let keys: Vec<Key> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(key);
        }
    }

    /// Room for one more, by removing the entry that was used longest ago; false when all are
    /// pinned or fresh.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < GC_THRESH_MAX {
            return true;
        }
        let candidates = self.entries.iter().filter(|(key, entry)| {
            !self.pinned.contains(key) && now.since(entry.used) > Nanos::from_secs(5)
        });
        let oldest = candidates
            .min_by_key(|(_, entry)| entry.used)
            .map(|(key, _)| *key);
        oldest.is_some_and(|key| {
            self.remove(key);
            true
        })
    }
}

impl Entry {
    fn new(state: State, now: Instant, deadline: Instant) -> Self {
        Self {
            state,
            mac: None,
            deadline,
            asked: 0,
            confirmed: None,
            // No lock: nothing is known that could be replaced.
            updated: Instant::ZERO,
            used: now,
            demanded: false,
        }
    }
}

#[cfg(test)]
mod tests;
