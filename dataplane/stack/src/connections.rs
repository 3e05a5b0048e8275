//! The connections of a stack: those at work in full, the others in brief.
//!
//! ```text
//!             berths, one for each connection            desks, for those at work
//!            +--------------------------------+         +------------------------+
//!  key ----->| at work: the number of a desk  |-------->| TCB, and what the      |
//!            +--------------------------------+         | stack knows beside it  |
//!            | at rest: what has to stay      |         +------------------------+
//!            +--------------------------------+
//! ```
//!
//! A balancer with millions of sessions has most of them idle. What makes a TCB large is what is in
//! flight, queued, lost or armed, and an idle connection has nothing of that: what is left of it
//! (`tcp/dormant.rs`) is a little more than half. There are fewer desks than berths (`desks_for`). A
//! connection keeps its desk until another one needs it: a stack with a desk for each never clears
//! one, and one with few clears the desk of somebody at rest, in the order of the clock (a hand that
//! goes round). Clearing a desk loses nothing that any segment or verb could tell.
//!
//! When nobody near the hand is at rest there is no desk. A segment is then dropped, as if the network
//! had lost it, and counted (`DropReason::NoDesk`); a new connection is refused as by a full table; a
//! verb looks much farther, and what it does then is said in `verbs.rs`.

use alloc::boxed::Box;

use millrace_base::{FlowTuple, Instant, Key, ListenerId, PacketPool, Slab};

use crate::limits::{DESKS_PER_SEARCH_MAX, desks_for};
use crate::network::HopCache;
use crate::table::{Flags, ListenerNumber, Meta, Slot};
use crate::tcp::Connection;
use crate::tcp::dormant::Dormant;

/// No desk, and the end of the list of free ones.
const NONE: u32 = u32::MAX;

/// Every connection of one stack. All memory is taken in `new`.
pub(crate) struct Connections {
    berths: Slab<Berth>,
    desks: Box<[Desk]>,
    /// The first free desk; each names the next.
    free: u32,
    /// Where the search for a desk that can be cleared goes on.
    hand: u32,
    /// Who was given a desk last keeps it through the next search: a verb may need two.
    last: u32,
    /// Desks that were cleared for others.
    cleared: u64,
}

/// A place at which a connection works.
#[derive(Debug)]
struct Desk {
    slot: Option<Slot>,
    /// Whose it is, or the next free desk.
    berth: u32,
}

/// What each connection has.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is what most of them are"
)]
enum Berth {
    AtWork(u32),
    AtRest(Resting),
}

/// A connection at rest, and what the stack knows of it.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub(crate) struct Resting {
    pub(crate) tcb: Dormant,
    user: u64,
    listener: ListenerNumber,
    mtu: u16,
    attributes: u8,
    flags: Flags,
}

/// Bytes of a connection that is not at work, its generation included.
#[cfg(test)]
pub(crate) const BERTH_BYTES: usize = Slab::<Berth>::SLOT_BYTES;
/// Bytes that a connection at work has beside.
#[cfg(test)]
pub(crate) const DESK_BYTES: usize = size_of::<Desk>();

impl Connections {
    /// Room for so many connections, `desks` of them at work at a time; 0 desks are as many as
    /// `desks_for` says.
    pub(crate) fn new(connections: usize, desks: usize) -> Self {
        let desks = match desks {
            0 => desks_for(connections),
            some => some.min(connections),
        };
        // A splice needs two.
        let desks = desks.clamp(2, NONE as usize);
        Self {
            berths: Slab::new(connections),
            // The last one points behind the end.
            desks: (1..=desks)
                .map(|next| Desk {
                    slot: None,
                    berth: next as u32,
                })
                .collect(),
            free: 0,
            hand: 0,
            last: NONE,
            cleared: 0,
        }
    }

    /// Takes a new connection in, at work, looking at no more than `steps` desks for one that can be
    /// cleared; gives it back when there is no room for it.
    #[allow(
        clippy::result_large_err,
        reason = "who made it has to give back what it holds"
    )]
    pub(crate) fn insert(&mut self, slot: Slot, steps: usize) -> Result<Key, Slot> {
        if self.berths.is_full() || !self.has_desk(steps) {
            return Err(slot);
        }
        let index = self.free;
        let Ok(key) = self.berths.insert(Berth::AtWork(index)) else {
            return Err(slot);
        };
        self.sit_down(index, key.index(), slot);
        Ok(key)
    }

    /// Forgets a connection, which has to have given back what it holds; `false` when it is gone.
    pub(crate) fn discard(&mut self, key: Key) -> bool {
        if let Some(Berth::AtWork(index)) = self.berths.get(key) {
            self.free_desk(*index);
        }
        self.berths.discard(key)
    }

    /// The same, and hands it out, if it is at work.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Slot> {
        let slot = match self.berths.get(key)? {
            Berth::AtWork(index) => self.desks.get_mut(*index as usize)?.slot.take(),
            Berth::AtRest(_) => None,
        };
        self.discard(key);
        slot
    }

    /// A connection, at work from now on. `None` when it is gone, and when there is no desk for it.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        match self.berths.get(key)? {
            Berth::AtWork(index) => self.desks.get_mut(*index as usize)?.slot.as_mut(),
            Berth::AtRest(_) => self.call(key, DESKS_PER_SEARCH_MAX),
        }
    }

    /// The connection of an occupied berth, at work from now on, with its key; fails as `get_mut`.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut Slot)> {
        let (key, berth) = self.berths.entry_at(index)?;
        let slot = match berth {
            Berth::AtWork(desk) => self.desks.get_mut(*desk as usize)?.slot.as_mut()?,
            Berth::AtRest(_) => self.call(key, DESKS_PER_SEARCH_MAX)?,
        };
        Some((key, slot))
    }

    /// Two different connections that are both at work; `None` when one is not.
    #[inline]
    pub(crate) fn get_two_mut(&mut self, a: Key, b: Key) -> Option<(&mut Slot, &mut Slot)> {
        let (Berth::AtWork(a), Berth::AtWork(b)) = (self.berths.get(a)?, self.berths.get(b)?)
        else {
            return None;
        };
        let both = [*a as usize, *b as usize];
        let [a, b] = self.desks.get_disjoint_mut(both).ok()?;
        a.slot.as_mut().zip(b.slot.as_mut())
    }

    /// Sees to it that a connection is at work, looking at no more than `steps` desks for one that can
    /// be cleared. `false` when it is gone, or there is none.
    pub(crate) fn wake(&mut self, key: Key, steps: usize) -> bool {
        match self.berths.get(key) {
            None => false,
            Some(Berth::AtWork(index)) => {
                self.last = *index;
                true
            }
            Some(Berth::AtRest(_)) => self.call(key, steps).is_some(),
        }
    }

    /// Clears every desk that can be cleared.
    pub(crate) fn rest_all(&mut self) {
        for index in 0..self.desks.len() {
            self.clear(index as u32);
        }
    }

    /// Whether a connection is at work.
    #[inline]
    pub(crate) fn is_at_work(&self, key: Key) -> bool {
        matches!(self.berths.get(key), Some(Berth::AtWork(_)))
    }

    /// A connection at rest that has not ended, as it would be at work.
    pub(crate) fn look_at_resting(&self, key: Key) -> Option<Slot> {
        let resting = self.resting(key)?;
        (!resting.flags.is_over()).then(|| resting.wake())
    }

    /// Sets the number that events of a connection carry; one at rest need not be put to work.
    pub(crate) fn set_user(&mut self, key: Key, user: u64) {
        if let Some(Berth::AtRest(resting)) = self.berths.get_mut(key) {
            resting.user = user;
        } else if let Some(slot) = self.get_mut(key).filter(|slot| !slot.meta.orphan) {
            slot.meta.user = user;
        }
    }

    /// A connection at rest has ended, and what it held was given back: only its last event is left.
    pub(crate) fn end_at_rest(&mut self, key: Key) {
        if let Some(Berth::AtRest(resting)) = self.berths.get_mut(key) {
            let mut flags = resting.flags;
            flags.end();
            resting.flags = flags;
        }
    }

    /// Forgets a connection that has ended at rest; tells its number and who accepted it.
    pub(crate) fn take_ended(&mut self, key: Key) -> Option<(u64, Option<ListenerId>)> {
        let resting = self
            .resting(key)
            .filter(|resting| resting.flags.is_over())?;
        let told = (resting.user, { resting.listener }.id());
        self.berths.discard(key);
        Some(told)
    }

    /// Lets `look` look at a connection, at work or at rest.
    pub(crate) fn view<T>(&self, key: Key, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        match self.berths.get(key)? {
            berth @ Berth::AtWork(_) => self.working(berth).map(look),
            Berth::AtRest(resting) => Some(look(&resting.wake())),
        }
    }

    /// Connections at work.
    pub(crate) fn at_work(&self) -> usize {
        let all = self.desks.iter();
        all.filter(|desk| desk.slot.is_some()).count()
    }

    /// The connection of an occupied berth if it is at work.
    #[inline]
    pub(crate) fn get_at(&self, index: u32) -> Option<&Slot> {
        self.working(self.berths.get_at(index)?)
    }

    /// What is left of a connection at rest.
    pub(crate) fn resting(&self, key: Key) -> Option<&Resting> {
        match self.berths.get(key)? {
            Berth::AtWork(_) => None,
            Berth::AtRest(resting) => Some(resting),
        }
    }

    /// Whether the connection of a berth has this tuple and has not ended.
    #[inline]
    pub(crate) fn has_tuple(&self, index: u32, tuple: &FlowTuple) -> bool {
        match self.berths.get_at(index) {
            None => false,
            Some(Berth::AtRest(resting)) => {
                resting.tcb.tuple() == tuple && !resting.flags.is_over()
            }
            Some(berth @ Berth::AtWork(_)) => self
                .working(berth)
                .is_some_and(|slot| slot.connection.tuple() == tuple && !slot.meta.over),
        }
    }

    /// The present key of an occupied berth.
    #[inline]
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        self.berths.key_at(index)
    }

    /// Asks for the memory that tells whether a connection is at work; nothing of it is read.
    #[inline]
    pub(crate) fn prefetch_berth<P: PacketPool>(&self, index: u32) {
        if let Some(beginning) = self.berths.beginning(index) {
            P::prefetch(beginning);
        }
    }

    /// Asks for the memory of a connection, for which that of `prefetch_berth` is read.
    #[inline]
    pub(crate) fn prefetch<P: PacketPool>(&self, index: u32) {
        match self.berths.get_at(index) {
            Some(Berth::AtWork(desk)) => {
                if let Some(desk) = self.desks.get(*desk as usize) {
                    P::prefetch(desk);
                }
            }
            Some(Berth::AtRest(resting)) => P::prefetch(resting),
            None => {}
        }
    }

    /// Connections.
    pub(crate) const fn len(&self) -> usize {
        self.berths.len()
    }

    /// Connections that there may be.
    pub(crate) fn capacity(&self) -> usize {
        self.berths.capacity()
    }

    /// Desks in all.
    pub(crate) const fn desks(&self) -> usize {
        self.desks.len()
    }

    /// Desks that were cleared for others so far.
    pub(crate) const fn cleared(&self) -> u64 {
        self.cleared
    }

    #[inline]
    fn working(&self, berth: &Berth) -> Option<&Slot> {
        match berth {
            Berth::AtWork(index) => self.desks.get(*index as usize)?.slot.as_ref(),
            Berth::AtRest(_) => None,
        }
    }

    /// Calls a connection to a desk.
    #[cold]
    #[inline(never)]
    fn call(&mut self, key: Key, steps: usize) -> Option<&mut Slot> {
        if !self.has_desk(steps) {
            return None;
        }
        let index = self.free;
        let berth = self.berths.get_mut(key)?;
        let Berth::AtRest(resting) = berth else {
            return None;
        };
        if resting.flags.is_over() {
            return None;
        }
        let slot = resting.wake();
        *berth = Berth::AtWork(index);
        self.sit_down(index, key.index(), slot);
        self.desks.get_mut(index as usize)?.slot.as_mut()
    }

    /// Whether a desk is free, now or once one of the next `steps` was cleared.
    #[inline]
    pub(crate) fn has_desk(&mut self, steps: usize) -> bool {
        (self.free as usize) < self.desks.len() || self.clear_one(steps)
    }

    #[cold]
    fn clear_one(&mut self, steps: usize) -> bool {
        for _ in 0..steps.min(self.desks.len()) {
            let index = self.hand;
            let next = self.hand.wrapping_add(1);
            self.hand = if (next as usize) < self.desks.len() {
                next
            } else {
                0
            };
            if index != self.last && self.clear(index) {
                self.cleared = self.cleared.wrapping_add(1);
                return true;
            }
        }
        false
    }

    /// Clears a desk, if who works there is at rest.
    fn clear(&mut self, index: u32) -> bool {
        let Some(desk) = self.desks.get(index as usize) else {
            return false;
        };
        let Some(resting) = desk.slot.as_ref().and_then(Resting::of) else {
            return false;
        };
        let owner = self.berths.key_at(desk.berth);
        let Some(berth) = owner.and_then(|key| self.berths.get_mut(key)) else {
            return false;
        };
        *berth = Berth::AtRest(resting);
        self.free_desk(index);
        true
    }

    #[inline]
    fn sit_down(&mut self, index: u32, berth: u32, slot: Slot) {
        if let Some(desk) = self.desks.get_mut(index as usize) {
            self.free = desk.berth;
            self.last = index;
            desk.slot = Some(slot);
            desk.berth = berth;
        }
    }

    fn free_desk(&mut self, index: u32) {
        if let Some(desk) = self.desks.get_mut(index as usize) {
            // Whoever was there is large: nothing of it is moved.
            desk.slot = None;
            desk.berth = self.free;
            self.free = index;
        }
    }
}

impl Resting {
    /// What has to stay of a connection; `None` when it is not at rest.
    fn of(slot: &Slot) -> Option<Self> {
        let Slot { connection, meta } = slot;
        let flags = meta.at_rest()?;
        Some(Self {
            tcb: connection.at_rest()?,
            user: meta.user,
            listener: meta.listener_number(),
            mtu: meta.hop.mtu(),
            attributes: meta.hop.attributes(),
            flags,
        })
    }

    /// The connection, to be put to work or to be looked at.
    pub(crate) fn wake(&self) -> Slot {
        let hop = HopCache::outdated(self.mtu, self.attributes);
        Slot {
            connection: Connection::awake(&self.tcb),
            meta: Meta::after_rest(self.user, self.listener, hop, self.flags),
        }
    }

    /// The earliest time at which there is something to do.
    pub(crate) fn next_deadline(&self) -> Instant {
        self.tcb.next_deadline()
    }
}

impl core::fmt::Debug for Connections {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (all, desks) = (self.berths.len(), self.desks.len());
        write!(f, "Connections({all}, {desks} desks)")
    }
}
