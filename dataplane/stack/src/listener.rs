//! Which listener a SYN is for, and how much each listener has pending.
//!
//! An exact address and port is one hash lookup; port ranges and "any address" are binary searches
//! behind it. The most specific listener wins: exact address before any address, and for one
//! address a single port before a range. Rows of one address and one port share it
//! (`SO_REUSEPORT`): the hash of the tuple says which of them a peer is for, the same one as long as
//! the table stays (Linux: `reuseport_select_sock`).
//!
//! The table is replaced as a whole; what is pending is counted by listener id and survives the
//! replacement.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use millrace_base::{Address, Endpoint, FlowTuple, ListenerId, PortId};

use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::flow_table::FlowTable;
use crate::limits::{BACKLOG_DEFAULT, LISTENERS_MAX};
use crate::tcp::{FastOpenKeys, Profile};

/// How a listener treats those who come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    /// Completed connections that may wait for their `ACCEPTED` event to be polled, and half-open
    /// ones that may wait for their final ACK, each. Linux: the argument of `listen`, cut to
    /// `somaxconn`. One more may be completed; with 0 every SYN is answered with a cookie.
    pub backlog: u32,
    /// SYN-ACK timeouts for which a bare final ACK is not taken: the client shall send data first
    /// (`TCP_DEFER_ACCEPT`). 0, the default, takes it at once.
    pub defer_accept: u8,
    /// SYN-ACKs sent again (`TCP_SYNCNT`); 0, the default, is what `tcp_synack_retries` says.
    pub syn_retries: u8,
    /// The only port whose frames are for this listener (`SO_BINDTODEVICE`). Default any.
    pub port: Option<PortId>,
    /// Whether data in a SYN is taken.
    pub fastopen: FastOpenListen,
    /// What its connections begin with, from their SYN on.
    pub profile: Profile,
}

/// What a listener does with SYNs of Fast Open, if `tcp_fastopen` lets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenListen {
    /// Connections made of a SYN whose handshake is not over (`TCP_FASTOPEN`); 0, the default, is
    /// none.
    pub queue_max: u32,
    /// They need no cookie (`TCP_FASTOPEN_NO_COOKIE`).
    pub no_cookie: bool,
    /// Keys of its own (`TCP_FASTOPEN_KEY`); `None` is the host's.
    pub keys: Option<FastOpenKeys>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: BACKLOG_DEFAULT,
            defer_accept: 0,
            syn_retries: 0,
            port: None,
            fastopen: FastOpenListen::default(),
            profile: Profile::default(),
        }
    }
}

/// One row of the listener table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Names the listener in events, below `LISTENERS_MAX`; the same across replacements of the
    /// table.
    pub id: ListenerId,
    /// One of our addresses, or an unspecified one: any of that family.
    pub address: Address,
    /// The first port, 1..=65,535.
    pub port_first: u16,
    /// The last port, not below the first. Ranges of one address do not overlap; where they do, the
    /// one that begins later is found.
    pub port_last: u16,
    /// How it treats those who come.
    pub options: ListenOptions,
}

/// The listener a segment is for, as far as every SYN asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) id: ListenerId,
    pub(crate) backlog: u32,
}

/// What a listener has pending.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pending {
    /// Half-open requests.
    pub(crate) requests: u32,
    /// Those of them whose SYN-ACK was sent once only.
    pub(crate) young: u32,
    /// Completed connections whose first event was not polled yet.
    pub(crate) accepted: u32,
    /// SYNs and final ACKs that it has dropped so far (Linux: `sk_drops`).
    pub(crate) drops: u64,
    /// A flood was told of, and its queue has not been empty since.
    pub(crate) flooded: bool,
}

/// How long a request waits, as its listener wants it now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Patience {
    /// Timeouts after which it goes.
    pub(crate) retries: u8,
    /// Timeouts for which a bare final ACK is not taken.
    pub(crate) defer: u8,
}

/// The listener table. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Listeners {
    rows: Vec<Listener>,
    /// Rows of a single port, by address and port.
    exact: FlowTable,
    /// Rows of several ports, sorted by address and first port.
    ranges: Vec<u16>,
    /// Further rows of an address and port, each behind the first row of that place; sorted.
    shared: Vec<(u16, u16)>,
    /// By listener id: the row plus one, or 0.
    by_id: Box<[u16]>,
    pending: Box<[Pending]>,
}
const _: () = assert!(LISTENERS_MAX < u16::MAX as usize);

impl Listeners {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self {
            rows: Vec::with_capacity(LISTENERS_MAX),
            exact: FlowTable::new(LISTENERS_MAX, secret),
            ranges: Vec::with_capacity(LISTENERS_MAX),
            shared: Vec::with_capacity(LISTENERS_MAX),
            by_id: vec![0; LISTENERS_MAX].into_boxed_slice(),
            pending: vec![Pending::default(); LISTENERS_MAX].into_boxed_slice(),
        }
    }

    /// Replaces the table. Rows whose id or ports are out of range and second rows with one id are
    /// ignored: the control path has refused them before.
    pub(crate) fn set(&mut self, listeners: &[Listener]) {
        // A row that shares its place is not there itself, and removes nothing.
        for (row, listener) in self.rows.iter().enumerate() {
            let key = key(listener.address, listener.port_first);
            let owner = Owner::Connection(row as u32);
            self.exact.remove(self.exact.hash(&key), owner);
        }
        self.rows.clear();
        self.ranges.clear();
        self.shared.clear();
        self.by_id.fill(0);
        for listener in listeners {
            self.add(listener);
        }
        self.shared.sort_unstable();
        let Self { rows, ranges, .. } = self;
        ranges.sort_unstable_by_key(|row| {
            rows.get(usize::from(*row))
                .map(|listener| (listener.address, listener.port_first))
        });
    }

    /// The listener for a segment to this address and port of ours; `hash` is its tuple's.
    pub(crate) fn lookup(&self, local: Endpoint, hash: FlowHash) -> Option<&Listener> {
        let any = if local.address.is_v4() {
            Address::UNSPECIFIED_V4
        } else {
            Address::UNSPECIFIED_V6
        };
        let found = self
            .at(local.address, local.port)
            .or_else(|| self.at(any, local.port))?;
        if self.shared.is_empty() {
            return Some(found);
        }
        self.choose(found, hash)
    }

    /// The one of those who share the place of `first` that a tuple is for.
    fn choose<'a>(&'a self, first: &'a Listener, hash: FlowHash) -> Option<&'a Listener> {
        let row = self.by_id.get(first.id.index())?.checked_sub(1)?;
        let begin = self.shared.partition_point(|(head, _)| *head < row);
        let end = self.shared.partition_point(|(head, _)| *head <= row);
        let others = self.shared.get(begin..end).unwrap_or_default();
        let members = (others.len() as u64).saturating_add(1);
        let chosen = u64::from(hash.position()).saturating_mul(members) >> 32;
        match (chosen as usize).checked_sub(1) {
            None => Some(first),
            Some(other) => {
                let (_, row) = others.get(other)?;
                self.rows.get(usize::from(*row))
            }
        }
    }

    pub(crate) fn by_id(&self, id: ListenerId) -> Option<&Listener> {
        let row = self.by_id.get(id.index()).copied().unwrap_or(0);
        self.rows.get(usize::from(row).checked_sub(1)?)
    }

    /// How long a request may wait; not at all once the listener is gone.
    ///
    /// behaviour: A13-3. When requests fill more than half the backlog, old ones are given up
    /// earlier, so that half of the room stays for young ones.
    pub(crate) fn patience(&self, id: ListenerId, synack_retries: u8) -> Patience {
        let Some(listener) = self.by_id(id) else {
            return Patience::default();
        };
        let options = &listener.options;
        // behaviour: A13-2
        let mut retries = match options.syn_retries {
            0 => synack_retries,
            own => own,
        };
        let Pending {
            requests, young, ..
        } = self.pending(id);
        let is_crowded = requests.saturating_mul(2) > options.backlog.max(8);
        let mut young = young.saturating_mul(2);
        while is_crowded && retries > 2 && requests >= young {
            retries = retries.saturating_sub(1);
            young = young.saturating_mul(2);
        }
        Patience {
            retries,
            defer: options.defer_accept,
        }
    }

    pub(crate) fn pending(&self, id: ListenerId) -> Pending {
        self.pending.get(id.index()).copied().unwrap_or_default()
    }

    pub(crate) fn pending_mut(&mut self, id: ListenerId) -> Option<&mut Pending> {
        self.pending.get_mut(id.index())
    }

    fn add(&mut self, listener: &Listener) {
        let row = self.rows.len() as u16;
        let Some(&by_id) = self.by_id.get(listener.id.index()) else {
            return;
        };
        let valid = listener.port_first != 0 && listener.port_first <= listener.port_last;
        if by_id != 0 || !valid || self.rows.len() >= LISTENERS_MAX {
            return;
        }
        if listener.port_first == listener.port_last {
            let first = self.single(listener.address, listener.port_first);
            let head = first.and_then(|first| self.by_id.get(first.id.index()).copied());
            if let Some(head) = head {
                self.shared.push((head.saturating_sub(1), row));
            } else {
                let key = key(listener.address, listener.port_first);
                let owner = Owner::Connection(row.into());
                if self.exact.insert(self.exact.hash(&key), owner).is_err() {
                    return;
                }
            }
        } else {
            self.ranges.push(row);
        }
        if let Some(by_id) = self.by_id.get_mut(listener.id.index()) {
            *by_id = row.saturating_add(1);
        }
        self.rows.push(*listener);
    }

    /// The listener of exactly this address (or "any") and port.
    fn single(&self, address: Address, port: u16) -> Option<&Listener> {
        let row = |owner: Owner| self.rows.get(owner.index() as usize);
        let hash = self.exact.hash(&key(address, port));
        let found = self.exact.find(hash, |owner| {
            row(owner).is_some_and(|row| row.address == address && row.port_first == port)
        })?;
        row(found)
    }

    fn at(&self, address: Address, port: u16) -> Option<&Listener> {
        if let Some(listener) = self.single(address, port) {
            return Some(listener);
        }
        let row = |row: &u16| self.rows.get(usize::from(*row));
        let behind = self.ranges.partition_point(|range| {
            row(range)
                .is_some_and(|listener| (listener.address, listener.port_first) <= (address, port))
        });
        let listener = self.ranges.get(behind.checked_sub(1)?).and_then(row)?;
        (listener.address == address && port <= listener.port_last).then_some(listener)
    }
}

/// An address and a port as a key of the flow table: a tuple without a peer.
fn key(address: Address, port: u16) -> FlowTuple {
    FlowTuple {
        local: Endpoint::new(address, port),
        remote: Endpoint::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(id: u16, address: [u8; 4], port_first: u16, port_last: u16) -> Listener {
        Listener {
            id: ListenerId::new(id),
            address: Address::v4(address),
            port_first,
            port_last,
            options: ListenOptions::default(),
        }
    }

    /// The hash of some tuple.
    fn hash_of(number: u16) -> FlowHash {
        let hasher = crate::flow_hash::FlowHasher::new([5; 16]);
        hasher.hash(&FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
            remote: Endpoint::new(Address::v4([10, 0, 0, 2]), number),
        })
    }

    // behaviour: A7-7
    #[test]
    fn rows_of_one_place_share_it_by_the_hash_of_the_tuple() {
        let mut listeners = Listeners::new([3; 16]);
        let place = Endpoint::new(Address::v4([10, 0, 0, 1]), 80);
        let all = [1, 2, 3].map(|id| listener(id, [10, 0, 0, 1], 80, 80));
        let other = listener(9, [10, 0, 0, 1], 81, 81);
        listeners.set(&[all[0], other, all[1], all[2]]);
        let mut counts = [0; 4];
        for number in 1..=300 {
            let found = listeners.lookup(place, hash_of(number)).expect("listed");
            counts[found.id.index()] += 1;
            let again = listeners.lookup(place, hash_of(number)).expect("listed");
            assert_eq!(found.id, again.id, "the same for the same tuple");
        }
        assert!(counts[1..].iter().all(|count| *count > 60), "{counts:?}");
        let alone = Endpoint::new(Address::v4([10, 0, 0, 1]), 81);
        let found = listeners.lookup(alone, hash_of(7)).expect("listed");
        assert_eq!(found.id, other.id);
        listeners.set(&[all[2], other]);
        let found = listeners.lookup(place, hash_of(7)).expect("listed");
        assert_eq!(found.id, all[2].id);
        listeners.set(&[other]);
        assert_eq!(listeners.lookup(place, hash_of(7)), None);
    }

    // behaviour: MUST-41, MUST-42, MUST-43, A7-6, HSH-8, X4-3
    #[test]
    fn the_most_specific_listener_is_found() {
        let mut listeners = Listeners::new([3; 16]);
        listeners.set(&[
            listener(1, [10, 0, 0, 1], 80, 80),
            listener(2, [10, 0, 0, 1], 8_000, 8_010),
            listener(3, [10, 0, 0, 1], 8_005, 8_005),
            listener(4, [0, 0, 0, 0], 80, 80),
            listener(5, [0, 0, 0, 0], 1, 65_535),
        ]);
        let id = |address: [u8; 4], port| {
            let found = listeners.lookup(Endpoint::new(Address::v4(address), port), hash_of(1));
            found.map(|listener| listener.id.number())
        };
        assert_eq!(id([10, 0, 0, 1], 80), Some(1));
        assert_eq!(id([10, 0, 0, 2], 80), Some(4));
        assert_eq!(id([10, 0, 0, 1], 8_000), Some(2));
        assert_eq!(id([10, 0, 0, 1], 8_010), Some(2));
        assert_eq!(id([10, 0, 0, 1], 8_005), Some(3));
        assert_eq!(id([10, 0, 0, 1], 8_011), Some(5));
        assert_eq!(
            listeners.lookup(Endpoint::new(Address::UNSPECIFIED_V6, 80), hash_of(1)),
            None
        );
    }

    // behaviour: LSN-2
    #[test]
    fn replacing_the_table_keeps_what_is_pending_and_forgets_the_rest() {
        let mut listeners = Listeners::new([3; 16]);
        listeners.set(&[
            listener(1, [10, 0, 0, 1], 80, 80),
            listener(2, [10, 0, 0, 1], 81, 81),
        ]);
        listeners
            .pending_mut(ListenerId::new(1))
            .expect("in range")
            .requests = 7;
        listeners.set(&[
            listener(2, [10, 0, 0, 9], 90, 90),
            listener(1, [10, 0, 0, 1], 85, 85),
        ]);
        assert_eq!(
            listeners.lookup(Endpoint::new(Address::v4([10, 0, 0, 1]), 80), hash_of(1)),
            None
        );
        let moved = listeners.by_id(ListenerId::new(1)).expect("listed");
        assert_eq!(moved.port_first, 85);
        assert_eq!(listeners.pending(moved.id).requests, 7);
    }

    // What every SYN writes (`pending`) is no part of the lines that every segment reads, and those
    // begin where a cache line begins: nothing else lies in them. Linux: `struct inet_hashinfo`.
    // behaviour: HSH-14
    #[test]
    fn what_is_found_and_what_is_counted_share_no_cache_line() {
        let mut listeners = Listeners::new([3; 16]);
        listeners.set(&[listener(1, [10, 0, 0, 1], 80, 80)]);
        let written = listeners.pending.as_ptr_range();
        let written = written.start.addr() / 64..=(written.end.addr() - 1) / 64;
        for number in 0..100 {
            let line = listeners.exact.line(hash_of(number)).expect("a table");
            let at = core::ptr::from_ref(line).addr();
            assert_eq!((at % 64, size_of_val(line)), (0, 64));
            assert!(!written.contains(&(at / 64)));
        }
        let row = listeners.rows.as_ptr().addr() / 64;
        assert!(!written.contains(&row), "rows are written by control only");
    }

    // behaviour: A13-3
    #[test]
    fn a_half_full_queue_gives_old_requests_up_earlier() {
        let mut listeners = Listeners::new([3; 16]);
        let mut row = listener(1, [10, 0, 0, 1], 80, 80);
        row.options.backlog = 100;
        listeners.set(&[row]);
        let mut retries = |requests, young| {
            *listeners.pending_mut(row.id).expect("in range") = Pending {
                requests,
                young,
                ..Pending::default()
            };
            listeners.patience(row.id, 5).retries
        };
        assert_eq!(retries(50, 0), 5);
        assert_eq!(retries(60, 60), 5);
        assert_eq!(retries(60, 20), 4);
        assert_eq!(retries(60, 0), 2);
        assert_eq!(
            listeners.patience(ListenerId::new(2), 5),
            Patience::default(),
            "no such listener"
        );
    }

    #[test]
    fn impossible_rows_are_ignored() {
        let mut listeners = Listeners::new([3; 16]);
        listeners.set(&[
            listener(1, [10, 0, 0, 1], 0, 80),
            listener(2, [10, 0, 0, 1], 90, 80),
            listener(LISTENERS_MAX as u16, [10, 0, 0, 1], 80, 80),
        ]);
        assert_eq!(
            listeners.lookup(Endpoint::new(Address::v4([10, 0, 0, 1]), 80), hash_of(1)),
            None
        );
    }
}
