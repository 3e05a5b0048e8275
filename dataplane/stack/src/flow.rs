//! Names of connections, and the table that finds whom a segment belongs to by its four-tuple.
//!
//! One table holds connections, half-open requests and TIME_WAIT records, as Linux's `ehash` does:
//! a tuple has one owner, and one lookup finds it whatever its kind. It does not find listeners
//! (`listener.rs`).
//!
//! The table is open addressing with linear probing, at most half full. The 32-bit hashes lie apart
//! from the entries, sixteen to a cache line, so a probe sequence usually costs one line of hashes
//! and one entry. The hash is SipHash-1-3 under a secret key: a peer cannot choose tuples that
//! collide. Deletion shifts the following entries back, so there are no tombstones and the table
//! does not age.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::hash::Hasher as _;

use millrace_base::{FlowTuple, Key};
use siphasher::sip::SipHasher13;

use crate::limits::FLOW_PROBES_MAX;

/// Names one connection of one stack for as long as it lives; afterwards it names nothing, even if
/// its slot is taken again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(Key);

impl FlowId {
    /// An id that no connection ever has.
    pub const NONE: Self = Self(Key::NONE);

    /// The id of the connection stored under this key.
    pub const fn new(key: Key) -> Self {
        Self(key)
    }

    /// The key of the connection's slot.
    pub const fn key(self) -> Key {
        self.0
    }

    /// The slot number: below `connections_max`, and unique among living connections.
    pub const fn index(self) -> u32 {
        self.0.index()
    }

    /// The id in one number, for storage elsewhere.
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The id that `to_bits` packed.
    pub const fn from_bits(bits: u64) -> Self {
        Self(Key::from_bits(bits))
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow{:?}", self.0)
    }
}

/// Who owns a tuple: a slot number in one of three tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A connection with a TCB.
    Connection(u32),
    /// A half-open request (`tcp/syn_queue.rs`).
    Request(u32),
    /// A TIME_WAIT record (`tcp/timewait.rs`).
    TimeWait(u32),
}

impl Owner {
    const INDEX_MASK: u32 = (1 << 30) - 1;

    const fn pack(self) -> u32 {
        match self {
            Self::Connection(index) => index & Self::INDEX_MASK,
            Self::Request(index) => index & Self::INDEX_MASK | 1 << 30,
            Self::TimeWait(index) => index & Self::INDEX_MASK | 2 << 30,
        }
    }

    const fn unpack(packed: u32) -> Self {
        let index = packed & Self::INDEX_MASK;
        match packed >> 30 {
            0 => Self::Connection(index),
            1 => Self::Request(index),
            _ => Self::TimeWait(index),
        }
    }
}

/// Why a tuple was not entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InsertError {
    /// The tuple has an owner already.
    Exists(Owner),
    /// The table has no room (or no room near enough) for another tuple.
    Full,
}

/// Four-tuples and their owners. All memory is taken in `new`.
pub(crate) struct FlowTable {
    /// Hash of the entry at the same position, 0 when empty.
    hashes: Box<[u32]>,
    entries: Box<[Entry]>,
    mask: usize,
    len: usize,
    len_max: usize,
    key: (u64, u64),
}

#[derive(Clone, Copy, Default)]
struct Entry {
    tuple: FlowTuple,
    owner: u32,
}
const _: () = assert!(core::mem::size_of::<Entry>() == 40);

impl FlowTable {
    /// A table for `len_max` tuples, hashed under `secret`.
    pub(crate) fn new(len_max: usize, secret: [u8; 16]) -> Self {
        let slots = len_max.max(8).saturating_mul(2).next_power_of_two();
        let packed = u128::from_le_bytes(secret);
        Self {
            hashes: vec![0; slots].into_boxed_slice(),
            entries: vec![Entry::default(); slots].into_boxed_slice(),
            mask: slots.saturating_sub(1),
            len: 0,
            len_max,
            key: (packed as u64, (packed >> 64) as u64),
        }
    }

    /// Enters a tuple that has no owner yet.
    pub(crate) fn insert(&mut self, tuple: &FlowTuple, owner: Owner) -> Result<(), InsertError> {
        let hash = self.hash(tuple);
        let mut position = self.home(hash);
        for _ in 0..FLOW_PROBES_MAX {
            let (Some(stored), Some(entry)) = (
                self.hashes.get_mut(position),
                self.entries.get_mut(position),
            ) else {
                break;
            };
            if *stored == 0 {
                if self.len >= self.len_max {
                    break;
                }
                *stored = hash;
                *entry = Entry {
                    tuple: *tuple,
                    owner: owner.pack(),
                };
                self.len = self.len.saturating_add(1);
                return Ok(());
            }
            if *stored == hash && entry.tuple == *tuple {
                return Err(InsertError::Exists(Owner::unpack(entry.owner)));
            }
            position = self.next(position);
        }
        Err(InsertError::Full)
    }

    /// Gives a tuple that is in the table a new owner: a request becomes a connection, a connection
    /// TIME_WAIT. Returns whether the tuple was there.
    pub(crate) fn replace(&mut self, tuple: &FlowTuple, owner: Owner) -> bool {
        let position = self.position(tuple);
        match position.and_then(|position| self.entries.get_mut(position)) {
            Some(entry) => {
                entry.owner = owner.pack();
                true
            }
            None => false,
        }
    }

    /// Takes a tuple out, if `owner` still owns it. Returns whether it did.
    pub(crate) fn remove(&mut self, tuple: &FlowTuple, owner: Owner) -> bool {
        let Some(found) = self.position(tuple) else {
            return false;
        };
        if self.entries.get(found).map(|entry| entry.owner) != Some(owner.pack()) {
            return false;
        }
        self.close_gap(found);
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Takes a tuple out, whoever owns it. Returns whether it was there.
    pub(crate) fn remove_any(&mut self, tuple: &FlowTuple) -> bool {
        self.get(tuple)
            .is_some_and(|owner| self.remove(tuple, owner))
    }

    /// Who owns a tuple.
    pub(crate) fn get(&self, tuple: &FlowTuple) -> Option<Owner> {
        let entry = self.entries.get(self.position(tuple)?)?;
        Some(Owner::unpack(entry.owner))
    }

    /// Tuples in the table.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn position(&self, tuple: &FlowTuple) -> Option<usize> {
        let hash = self.hash(tuple);
        let mut position = self.home(hash);
        for _ in 0..FLOW_PROBES_MAX {
            let stored = *self.hashes.get(position)?;
            if stored == 0 {
                return None;
            }
            if stored == hash && self.entries.get(position)?.tuple == *tuple {
                return Some(position);
            }
            position = self.next(position);
        }
        None
    }

    /// Empties a position and moves the entries behind it back, as far as their home positions
    /// allow.
    ///
    /// The loop ends at the first empty position; at half load the run behind an entry is a few
    /// positions long.
    fn close_gap(&mut self, gap: usize) {
        let mut gap = gap;
        let mut position = self.next(gap);
        while let Some(&hash) = self.hashes.get(position) {
            if hash == 0 || position == gap {
                break;
            }
            // The entry may move into the gap when the gap is not before its home.
            let from_home = position.wrapping_sub(self.home(hash)) & self.mask;
            let from_gap = position.wrapping_sub(gap) & self.mask;
            if from_home >= from_gap {
                let moved = self.entries.get(position).copied().unwrap_or_default();
                if let Some(entry) = self.entries.get_mut(gap) {
                    *entry = moved;
                }
                if let Some(stored) = self.hashes.get_mut(gap) {
                    *stored = hash;
                }
                gap = position;
            }
            position = self.next(position);
        }
        if let Some(stored) = self.hashes.get_mut(gap) {
            *stored = 0;
        }
    }

    /// The hash of a tuple, never 0.
    fn hash(&self, tuple: &FlowTuple) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(tuple.local.address.octets());
        hasher.write(tuple.remote.address.octets());
        let ports = u32::from(tuple.local.port) << 16 | u32::from(tuple.remote.port);
        hasher.write_u32(ports);
        (hasher.finish() as u32).max(1)
    }

    const fn home(&self, hash: u32) -> usize {
        hash as usize & self.mask
    }

    const fn next(&self, position: usize) -> usize {
        position.wrapping_add(1) & self.mask
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret and the entries are many.
        write!(f, "FlowTable({} of {})", self.len, self.len_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{Address, Endpoint};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn tuple(number: u16) -> FlowTuple {
        FlowTuple {
            local: Endpoint::new(Address::v4([10, 0, 0, 1]), 80),
            remote: Endpoint::new(Address::v4([10, 0, (number >> 8) as u8, 2]), number),
        }
    }

    #[test]
    fn an_owner_survives_packing() {
        for owner in [
            Owner::Connection(0),
            Owner::Request(7),
            Owner::TimeWait((1 << 30) - 1),
        ] {
            assert_eq!(Owner::unpack(owner.pack()), owner);
        }
    }

    #[test]
    fn a_full_table_refuses_and_a_present_tuple_is_told() {
        let mut table = FlowTable::new(4, [1; 16]);
        for number in 0..4 {
            assert_eq!(
                table.insert(&tuple(number), Owner::Connection(number.into())),
                Ok(())
            );
        }
        assert_eq!(
            table.insert(&tuple(9), Owner::Request(0)),
            Err(InsertError::Full)
        );
        assert_eq!(
            table.insert(&tuple(2), Owner::Request(0)),
            Err(InsertError::Exists(Owner::Connection(2)))
        );
        assert!(!table.remove(&tuple(2), Owner::Request(2)), "not its owner");
        assert!(table.replace(&tuple(2), Owner::TimeWait(5)));
        assert!(table.remove(&tuple(2), Owner::TimeWait(5)));
        assert_eq!(table.get(&tuple(2)), None);
    }

    #[test]
    fn a_large_table_keeps_every_probe_short() {
        // The bound of `FLOW_PROBES_MAX` must never refuse an entry of an honest table.
        let mut table = FlowTable::new(1 << 16, [7; 16]);
        for number in 0..=u16::MAX {
            assert_eq!(
                table.insert(&tuple(number), Owner::Connection(number.into())),
                Ok(())
            );
        }
        for number in 0..=u16::MAX {
            assert_eq!(
                table.get(&tuple(number)),
                Some(Owner::Connection(number.into()))
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Replace(u16, u32),
        Remove(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 0u16..40;
        prop_oneof![
            (number.clone(), 0u32..1000).prop_map(|(number, owner)| Step::Insert(number, owner)),
            (number.clone(), 0u32..1000).prop_map(|(number, owner)| Step::Replace(number, owner)),
            number.prop_map(Step::Remove),
        ]
    }

    proptest! {
        // 40 tuples in 64 positions: long runs, wrap-around and shifting all happen.
        #[test]
        fn the_table_behaves_like_a_map(
            secret: [u8; 16],
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut table = FlowTable::new(32, secret);
            let mut model: HashMap<u16, u32> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(number, owner) => match table
                        .insert(&tuple(number), Owner::Request(owner))
                    {
                        Ok(()) => prop_assert!(model.insert(number, owner).is_none()),
                        Err(InsertError::Exists(found)) =>
                            prop_assert_eq!(
                                Some(found),
                                model.get(&number).map(|owner| Owner::Request(*owner))
                            ),
                        Err(InsertError::Full) => prop_assert_eq!(model.len(), 32),
                    },
                    Step::Replace(number, owner) => {
                        let there = table.replace(&tuple(number), Owner::Request(owner));
                        prop_assert_eq!(there, model.contains_key(&number));
                        model.entry(number).and_modify(|value| *value = owner);
                    }
                    Step::Remove(number) => match model.remove(&number) {
                        Some(owner) => {
                            prop_assert!(table.remove(&tuple(number), Owner::Request(owner)));
                        }
                        None => prop_assert!(!table.remove(&tuple(number), Owner::Request(0))),
                    },
                }
                prop_assert_eq!(table.len(), model.len());
                for number in 0..40 {
                    prop_assert_eq!(
                        table.get(&tuple(number)),
                        model.get(&number).map(|owner| Owner::Request(*owner))
                    );
                }
            }
        }
    }
}
