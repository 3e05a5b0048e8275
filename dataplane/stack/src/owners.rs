//! Who owns a tuple: the flow table and the owners themselves, asked together.
//!
//! `flow_table.rs` names candidates by hash; here their tuples are compared. Nothing else enters,
//! changes or removes an entry of the table, so that an owner and its entry come and go together.

use millrace_base::{FlowTuple, PacketPool};

use crate::flow::Owner;
use crate::flow_hash::FlowHash;
use crate::flow_table::{First, TableFull};
use crate::stack::Stack;

impl<P: PacketPool> Stack<P> {
    /// Who owns a tuple.
    #[inline]
    pub(crate) fn owner_of(&self, tuple: &FlowTuple) -> Option<Owner> {
        self.find_owner(self.flows.hash(tuple), tuple)
    }

    /// Who owns a tuple whose hash is known.
    #[inline]
    pub(crate) fn find_owner(&self, hash: FlowHash, tuple: &FlowTuple) -> Option<Owner> {
        match self.flows.first(hash) {
            First::Nobody => return None,
            First::Probably(owner) if self.owns(owner, tuple) => return Some(owner),
            First::Probably(_) | First::Elsewhere => {}
        }
        self.flows
            .find_further(hash, |owner| self.owns(owner, tuple))
    }

    /// Whether this is the owner of a tuple. A connection that has ended owns nothing, though it
    /// still knows its tuple.
    #[inline(always)] // Where it is asked for the first time; the second is cold.
    pub(crate) fn owns(&self, owner: Owner, tuple: &FlowTuple) -> bool {
        match owner {
            Owner::Connection(index) => self.connections.has_tuple(index, tuple),
            Owner::Request(index) => self
                .requests
                .get(index)
                .is_some_and(|request| request.half_open.tuple == *tuple),
            Owner::TimeWait(index) => self.time_waits.tuple(index) == Some(tuple),
        }
    }

    /// Asks for the memory that tells who owns a tuple, before it is read.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, hash: FlowHash) {
        if let Some(line) = self.flows.line(hash) {
            P::prefetch(line);
        }
    }

    /// Enters the owner of a tuple that nobody owns; `hash` is the tuple's.
    pub(crate) fn enter(
        &mut self,
        hash: FlowHash,
        tuple: &FlowTuple,
        owner: Owner,
    ) -> Result<(), TableFull> {
        debug_assert!(self.owner_of(tuple).is_none(), "{tuple:?} has an owner");
        self.flows.insert(hash, owner)
    }

    /// Gives a tuple from one owner to another. Returns whether `from` owned it.
    pub(crate) fn hand_over(&mut self, tuple: &FlowTuple, from: Owner, to: Owner) -> bool {
        self.flows.replace(self.flows.hash(tuple), from, to)
    }

    /// Takes a tuple from its owner. Returns whether it was its owner.
    pub(crate) fn leave(&mut self, tuple: &FlowTuple, owner: Owner) -> bool {
        self.flows.remove(self.flows.hash(tuple), owner)
    }
}
