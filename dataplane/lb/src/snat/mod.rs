//! Which of our addresses and ports a connection to a backend leaves from.
//!
//! Three conditions choose the port: the 4-tuple must be free (TIME_WAIT counts as taken until the
//! stack would reuse it), the backend's replies must arrive at this lcore (both legs of a session
//! live on one lcore, without locks or flow rules), and the address must be of the backend's family
//! (a session may join an IPv4 client to an IPv6 backend: the legs are independent).
//!
//! All three are arithmetic. The ports that lead to this lcore have a dense numbering (`shard.rs`);
//! for each pair of source address and backend endpoint a bitmap over it says which are taken
//! (`pairs.rs`), so that a port is found in a constant number of loads, exhaustion is exact and so
//! is the headroom that is reported. The stack tells when a tuple is free again (`TupleChange`).
//! Addresses take turns; within a pair ports are taken in turn from a random start (RFC 6056 section
//! 3.3.3: nobody off the path should guess the next), so that a tuple is reused as late as possible.
//! Decision 0005 says what else was weighed.
//!
//! Accounts come from a pool (`BalancerConfig::snat_pairs_max`). A pair that finds none gets its
//! ports by a bounded number of tries, and is missing from the headroom: counted, so that the pool
//! can be made larger.
//!
//! A limit to know: where clients close first, the balancer closes first towards the backend, and
//! the tuple rests in TIME_WAIT. With timestamps the stack reuses it after a second
//! (`tcp_tw_reuse`): one SNAT address with 64,512 ports then carries some 64,000 sessions a second
//! to one backend. A backend without timestamps keeps each tuple for 60 s: 1,075 sessions a second;
//! more addresses carry more.

mod mask;
mod pairs;
mod shard;

use std::sync::Arc;

use arrayvec::ArrayVec;
use millrace_abi::limits::SNAT_MAX;
use millrace_base::rss::RssMap;
use millrace_base::{Address, Endpoint, FlowTuple, Instant, LcoreIndex, PacketPool, Rng};
use millrace_stack::{ConnectError, FlowId, Profile, Stack, TupleChange};

use crate::limits::{BUSY_TUPLES_MAX, SNAT_PAIRS_MAX, SNAT_TRIES_MAX};
use crate::session::ConnectFailure;
use mask::{Masks, RangeKey};
pub(crate) use pairs::Headroom;
use pairs::Pairs;
use shard::{Shard, WORD_PORTS};

/// One address with the ports we may leave from.
#[derive(Clone, Copy, Debug)]
struct Range {
    address: Address,
    mask: u8,
}

/// All source addresses, and which ports of them are taken towards whom.
#[derive(Debug)]
pub(crate) struct Snat {
    v4: ArrayVec<Range, SNAT_MAX>,
    v6: ArrayVec<Range, SNAT_MAX>,
    shard: Shard,
    masks: Masks,
    pairs: Pairs,
    /// The tables whose ranges these are; accounts of older ones are brought up to date when used.
    epoch: u32,
    rng: Rng,
    /// Connections whose pair found no account.
    untracked: u64,
}

/// A connection to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) remote: Endpoint,
    /// What its events carry.
    pub(crate) user: u64,
    pub(crate) profile: Profile,
}

/// Why there is no source port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPort {
    /// No SNAT address of the backend's family is configured.
    Family,
    /// Every tuple of this lcore is in use.
    Exhausted,
}

impl Snat {
    /// No addresses yet; room for the accounts of `pairs_max` pairs.
    pub(crate) fn new(map: Arc<RssMap>, lcore: LcoreIndex, pairs_max: usize, seed: u64) -> Self {
        let shard = Shard::new(map, lcore);
        Self {
            v4: ArrayVec::new(),
            v6: ArrayVec::new(),
            pairs: Pairs::new(pairs_max.clamp(1, SNAT_PAIRS_MAX), shard.words()),
            shard,
            masks: Masks::new(),
            epoch: 1,
            rng: Rng::new(seed),
            untracked: 0,
        }
    }

    /// Forgets all addresses; what is taken stays known. Connections that use them go on.
    pub(crate) fn clear(&mut self) {
        self.masks.begin();
        self.v4.clear();
        self.v6.clear();
        // Epoch 0 marks an account that was never up to date.
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    /// Adds an address with its ports, first and last inclusive. Refuses (`false`) what no packet
    /// may carry as its source, port 0, an empty range and an address given twice.
    #[must_use = "a refused address must be counted"]
    pub(crate) fn add(&mut self, address: Address, port_first: u16, port_last: u16) -> bool {
        let is_v4 = address.is_v4();
        let known = self.ranges(is_v4).iter().any(|r| r.address == address);
        if known || !address.is_unicast_source() || port_first == 0 || port_last < port_first {
            return false;
        }
        let key = RangeKey {
            is_v4,
            first: port_first,
            last: port_last,
        };
        let Some(mask) = self.masks.intern(key, &self.shard) else {
            return false;
        };
        let ranges = if is_v4 { &mut self.v4 } else { &mut self.v6 };
        ranges.try_push(Range { address, mask }).is_ok()
    }

    /// Opens a connection from a port of this lcore. Moves `cursor`, which makes the addresses take
    /// turns.
    pub(crate) fn connect<P: PacketPool>(
        &mut self,
        now: Instant,
        begin: Begin,
        cursor: &mut u32,
        stack: &mut Stack<P>,
    ) -> Result<FlowId, ConnectFailure> {
        let Begin {
            remote,
            user,
            profile,
        } = begin;
        for _ in 0..BUSY_TUPLES_MAX {
            let is_free = |tuple: &FlowTuple| stack.tuple_is_free(now, tuple);
            let local = self.choose(remote, cursor, is_free)?;
            let tuple = FlowTuple { local, remote };
            match stack.connect_as(now, tuple, user, profile) {
                Ok(flow) => return Ok(flow),
                // Somebody else has it, and our account says so now: a connection that was opened
                // before the pair had an account, or one that the backend opened to this port.
                Err(ConnectError::AddressInUse) => {}
                Err(error) => {
                    self.release(tuple);
                    return Err(error.into());
                }
            }
        }
        Err(NoPort::Exhausted.into())
    }

    /// Takes notice of what became of a tuple.
    pub(crate) fn on_tuple_change(&mut self, change: TupleChange) {
        match change {
            TupleChange::Free(tuple) => self.release(tuple),
            TupleChange::Resting(tuple) => self.occupy(tuple),
        }
    }

    /// The source endpoint for a new connection to `remote`; it counts as taken from now on.
    /// `is_free` is asked when a pair has nothing left or no account. O(addresses).
    pub(crate) fn choose(
        &mut self,
        remote: Endpoint,
        cursor: &mut u32,
        is_free: impl Fn(&FlowTuple) -> bool,
    ) -> Result<Endpoint, NoPort> {
        let is_v4 = remote.address.is_v4();
        let count = self.ranges(is_v4).len() as u32;
        let first = cursor.checked_rem(count).ok_or(NoPort::Family)?;
        *cursor = first.wrapping_add(1);
        for step in 0..count {
            let index = first.wrapping_add(step).checked_rem(count).unwrap_or(0);
            let Some(range) = self.ranges(is_v4).get(index as usize).copied() else {
                continue;
            };
            if let Some(port) = self.take(range, remote, &is_free) {
                return Ok(Endpoint::new(range.address, port));
            }
        }
        Err(NoPort::Exhausted)
    }

    /// Ports of this lcore towards a backend over all addresses. O(addresses); O(ports / 64) for
    /// each account that is older than the tables.
    pub(crate) fn headroom(&mut self, remote: Endpoint) -> Headroom {
        let mut sum = Headroom::default();
        for index in 0..self.ranges(remote.address.is_v4()).len() {
            let Some(range) = self.ranges(remote.address.is_v4()).get(index).copied() else {
                break;
            };
            let one = match self.account(range, remote) {
                Some(number) => self.pairs.headroom(number),
                None => Headroom {
                    capacity: self.capacity(range, remote),
                    used: 0,
                },
            };
            sum.capacity = sum.capacity.saturating_add(one.capacity);
            sum.used = sum.used.saturating_add(one.used);
        }
        sum
    }

    /// Source addresses of a family.
    pub(crate) fn address_count(&self, is_v4: bool) -> usize {
        self.ranges(is_v4).len()
    }

    /// Pairs that have an account.
    pub(crate) const fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// Connections whose pair found no account.
    pub(crate) const fn untracked(&self) -> u64 {
        self.untracked
    }

    fn ranges(&self, is_v4: bool) -> &ArrayVec<Range, SNAT_MAX> {
        if is_v4 { &self.v4 } else { &self.v6 }
    }

    fn take(
        &mut self,
        range: Range,
        remote: Endpoint,
        is_free: impl Fn(&FlowTuple) -> bool,
    ) -> Option<u16> {
        let Some(number) = self
            .account(range, remote)
            .or_else(|| self.open(range, remote))
        else {
            self.untracked = self.untracked.saturating_add(1);
            return self.try_ports(range, remote, is_free);
        };
        let Self {
            pairs,
            masks,
            shard,
            ..
        } = self;
        if let Some(port) = pairs.take(number, masks, shard) {
            return Some(port);
        }
        // Nothing left. Should a notice ever be lost, the pair recovers here.
        for port in pairs.suspects(number, shard) {
            let local = Endpoint::new(range.address, port);
            if is_free(&FlowTuple { local, remote }) {
                pairs.release(number, port, masks, shard);
            }
        }
        pairs.take(number, masks, shard)
    }

    /// The account of a pair, up to date.
    fn account(&mut self, range: Range, remote: Endpoint) -> Option<u32> {
        let number = self.pairs.find(range.address, remote)?;
        let mask = Some(range.mask);
        self.pairs
            .refresh(number, self.epoch, mask, &self.masks, &self.shard);
        Some(number)
    }

    fn open(&mut self, range: Range, remote: Endpoint) -> Option<u32> {
        let Self {
            pairs, shard, rng, ..
        } = self;
        let number = pairs.open(range.address, remote, shard, rng)?;
        let mask = Some(range.mask);
        pairs.refresh(number, self.epoch, mask, &self.masks, shard);
        Some(number)
    }

    /// The way without an account: `SNAT_TRIES_MAX` ports of ours from a random place on. O(ports /
    /// 64) where the range leaves most of them out.
    fn try_ports(
        &mut self,
        range: Range,
        remote: Endpoint,
        is_free: impl Fn(&FlowTuple) -> bool,
    ) -> Option<u16> {
        let words = self.shard.words();
        let rest = self.shard.rest(range.address, remote);
        let start = self.rng.below(words as u32) as usize;
        let words = (0..words).filter_map(|step| start.wrapping_add(step).checked_rem(words));
        let places = words.flat_map(|word| {
            let allowed = self.shard.mask_word(rest, word);
            let allowed = self.masks.word(Some(range.mask), allowed);
            let bits = (0..WORD_PORTS).filter(move |bit| (allowed >> (bit & 63)) & 1 == 1);
            bits.map(move |bit| word.saturating_mul(WORD_PORTS) | bit)
        });
        let is_v4 = remote.address.is_v4();
        let mut ports = places
            .take(SNAT_TRIES_MAX)
            .map(|place| self.shard.port(is_v4, rest, place));
        ports.find(|port| {
            let local = Endpoint::new(range.address, *port);
            is_free(&FlowTuple { local, remote })
        })
    }

    /// Ports of a pair without an account.
    fn capacity(&self, range: Range, remote: Endpoint) -> u32 {
        let rest = self.shard.rest(range.address, remote);
        let words = (0..self.shard.words()).map(|word| self.shard.mask_word(rest, word));
        words
            .map(|word| self.masks.word(Some(range.mask), word).count_ones())
            .sum()
    }

    fn release(&mut self, tuple: FlowTuple) {
        if let Some(number) = self.pairs.find(tuple.local.address, tuple.remote) {
            let Self {
                pairs,
                masks,
                shard,
                ..
            } = self;
            pairs.release(number, tuple.local.port, masks, shard);
        }
    }

    fn occupy(&mut self, tuple: FlowTuple) {
        if let Some(number) = self.pairs.find(tuple.local.address, tuple.remote) {
            let Self {
                pairs,
                masks,
                shard,
                ..
            } = self;
            pairs.occupy(number, tuple.local.port, masks, shard);
        }
    }
}

#[cfg(test)]
mod tests;
