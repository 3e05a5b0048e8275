//! The flow table and the timer wheel by themselves, for benchmarks beside other tables.
//!
//! Only with the feature `bench`, and no interface anybody may lean on: `examples/tables.rs` and
//! the rig that puts `rte_hash` beside it are the users.

use millrace_base::{FlowTuple, Instant};

use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::flow_table::FlowTable;
use crate::wheel::Wheel;

/// A flow table whose owners are plain numbers below 2^30.
#[derive(Debug)]
pub struct Flows(FlowTable);

/// The hash of a tuple.
#[derive(Clone, Copy, Debug)]
pub struct Hash(FlowHash);

impl Flows {
    /// A table for `len_max` tuples.
    pub fn new(len_max: usize, secret: [u8; 16]) -> Self {
        Self(FlowTable::new(len_max, secret))
    }

    /// The hash of a tuple.
    #[inline]
    pub fn hash(&self, tuple: &FlowTuple) -> Hash {
        Hash(self.0.hash(tuple))
    }

    /// Enters an owner; `false` when the table is full.
    #[inline]
    pub fn insert(&mut self, hash: Hash, owner: u32) -> bool {
        self.0.insert(hash.0, Owner::Connection(owner)).is_ok()
    }

    /// Takes an owner out; `false` when it was not there.
    #[inline]
    pub fn remove(&mut self, hash: Hash, owner: u32) -> bool {
        self.0.remove(hash.0, Owner::Connection(owner))
    }

    /// Who probably owns it: pass one of a burst.
    #[inline]
    pub fn guess(&self, hash: Hash) -> Option<u32> {
        self.0.guess(hash.0).map(Owner::index)
    }

    /// The owner for whom `is_it` holds.
    #[inline]
    pub fn find(&self, hash: Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self.0.find(hash.0, |owner| is_it(owner.index()));
        found.map(Owner::index)
    }
}

/// A timer wheel for the numbers `0 .. capacity`.
#[derive(Debug)]
pub struct Timers(Wheel);

impl Timers {
    /// A wheel, nothing armed.
    pub fn new(capacity: usize) -> Self {
        Self(Wheel::new(capacity))
    }

    /// Fires `index` at `deadline` or earlier.
    #[inline]
    pub fn arm(&mut self, index: u32, deadline: Instant) {
        self.0.arm(index, deadline);
    }

    /// Disarms `index`.
    #[inline]
    pub fn cancel(&mut self, index: u32) {
        self.0.cancel(index);
    }

    /// The next due timer, in at most `steps` steps.
    #[inline]
    pub fn pop(&mut self, now: Instant, steps: &mut usize) -> Option<u32> {
        self.0.pop(now, steps)
    }
}
