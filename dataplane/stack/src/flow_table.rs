//! The table that finds whom a segment belongs to: hashes of four-tuples and their owners.
//!
//! The tuple itself is not here. It lies in its owner (a TCB, a half-open request, a TIME_WAIT
//! record), which a segment is about to touch anyway; the table says who it probably is, and the
//! caller compares. What is left is six bytes per place, ten places and a counter to a cache line:
//!
//! ```text
//!  0                    20          24                                        64
//! +--------------------+-----------+------------------------------------------+
//! | ten 16-bit tags    | passed by | ten owners, 32 bits each                  |
//! +--------------------+-----------+------------------------------------------+
//! ```
//!
//! A hash chooses a home bucket. Who finds it full goes on by growing steps (+1, +2, +3 ...) and
//! adds one to the counter of every bucket it passed by; who leaves subtracts it. So a search ends
//! at the first bucket that nobody has passed by, usually the first; there are no tombstones, and
//! nothing is ever moved: the table does not age. One entry in 65,536 / 10 tag comparisons is a
//! false alarm that costs a look at a stranger's tuple.
//!
//! # Bursts
//!
//! A million flows miss the cache, and the point of the design is that misses of one burst overlap.
//! Hash every frame and call `guess` for each (pass one: independent loads of one line each), then
//! compare the tuple of each guess (pass two: independent loads of the owners), then handle the
//! frames. A guess is only a hint once anything was entered or removed: `find` again, the lines are
//! warm.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use millrace_base::FlowTuple;

use crate::flow::Owner;
use crate::flow_hash::{FlowHash, FlowHasher};
use crate::limits::{FLOW_LOAD_PERCENT_MAX, FLOW_PROBES_MAX};

/// Places in one bucket.
const PLACES: usize = 10;

/// Why a tuple was not entered: the table has no room, or none near enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TableFull;

/// What a look at a tuple's home tells of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum First {
    /// There is none.
    Nobody,
    /// This one, unless it is a stranger with the same tag.
    Probably(Owner),
    /// Not here, but somebody was passed on.
    Elsewhere,
}

/// Hashes and owners. All memory is taken in `new`.
pub(crate) struct FlowTable {
    buckets: Box<[Bucket]>,
    hasher: FlowHasher,
    len: usize,
    len_max: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 where a place is empty.
    tags: [u16; PLACES],
    /// Entries that found this bucket full and live further on.
    passed: u32,
    owners: [u32; PLACES],
}
const _: () = assert!(size_of::<Bucket>() == 64);

/// Bytes of the table for each tuple that it can hold.
#[cfg(test)]
pub(crate) const TUPLE_BYTES: usize = size_of::<Bucket>() * 100 / (PLACES * FLOW_LOAD_PERCENT_MAX);

impl FlowTable {
    /// A table for `len_max` tuples, hashed under `secret`.
    pub(crate) fn new(len_max: usize, secret: [u8; 16]) -> Self {
        let places = len_max.max(1).saturating_mul(100) / FLOW_LOAD_PERCENT_MAX;
        let buckets = places.div_ceil(PLACES).saturating_add(1);
        // The steps reach every bucket when their number is a power of two; a large table need not
        // be reached everywhere.
        let buckets = if buckets <= FLOW_PROBES_MAX {
            buckets.next_power_of_two()
        } else {
            buckets
        };
        Self {
            buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(),
            hasher: FlowHasher::new(secret),
            len: 0,
            len_max,
        }
    }

    /// The hash of a tuple.
    #[inline]
    pub(crate) fn hash(&self, tuple: &FlowTuple) -> FlowHash {
        self.hasher.hash(tuple)
    }

    /// Enters an owner for a tuple that has none yet (`find` first).
    #[inline]
    pub(crate) fn insert(&mut self, hash: FlowHash, owner: Owner) -> Result<(), TableFull> {
        if self.len >= self.len_max {
            return Err(TableFull);
        }
        let home = self.home(hash);
        let bucket = self.buckets.get_mut(home);
        let is_home = bucket.is_some_and(|bucket| bucket.put(hash.tag(), owner.pack()));
        if !is_home {
            self.insert_further(hash, owner)?;
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Enters an owner whose home is full.
    #[cold]
    fn insert_further(&mut self, hash: FlowHash, owner: Owner) -> Result<(), TableFull> {
        let mut probes = self.probes(hash);
        let mut passed_by = 0usize;
        loop {
            let bucket = probes.next().and_then(|at| self.buckets.get_mut(at));
            let Some(bucket) = bucket else {
                return Err(TableFull);
            };
            if bucket.put(hash.tag(), owner.pack()) {
                break;
            }
            passed_by = passed_by.saturating_add(1);
        }
        for at in self.probes(hash).take(passed_by) {
            if let Some(bucket) = self.buckets.get_mut(at) {
                bucket.passed = bucket.passed.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Gives a tuple that `from` owns a new owner: a connection becomes TIME_WAIT. Returns whether
    /// `from` owned it.
    pub(crate) fn replace(&mut self, hash: FlowHash, from: Owner, to: Owner) -> bool {
        let home = self.home(hash);
        let bucket = self.buckets.get_mut(home);
        if let Some(owner) = bucket.and_then(|bucket| bucket.owner_mut(hash.tag(), from.pack())) {
            *owner = to.pack();
            return true;
        }
        self.replace_further(hash, from, to)
    }

    /// The same for who may live elsewhere than at home.
    #[cold]
    fn replace_further(&mut self, hash: FlowHash, from: Owner, to: Owner) -> bool {
        let (tag, from) = (hash.tag(), from.pack());
        for at in self.probes(hash) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            if let Some(owner) = bucket.owner_mut(tag, from) {
                *owner = to.pack();
                return true;
            }
            if bucket.passed == 0 {
                return false;
            }
        }
        false
    }

    /// Takes a tuple out, if `owner` owns it. Returns whether it did.
    pub(crate) fn remove(&mut self, hash: FlowHash, owner: Owner) -> bool {
        let home = self.home(hash);
        let bucket = self.buckets.get_mut(home);
        let was_home = bucket.is_some_and(|bucket| bucket.clear(hash.tag(), owner.pack()));
        let removed = was_home || self.remove_further(hash, owner);
        self.len = self.len.saturating_sub(usize::from(removed));
        removed
    }

    /// The same for who may live elsewhere than at home.
    #[cold]
    fn remove_further(&mut self, hash: FlowHash, owner: Owner) -> bool {
        let (tag, owner) = (hash.tag(), owner.pack());
        let mut passed_by = 0usize;
        for at in self.probes(hash) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            if bucket.clear(tag, owner) {
                break;
            }
            if bucket.passed == 0 {
                return false;
            }
            passed_by = passed_by.saturating_add(1);
            if passed_by >= FLOW_PROBES_MAX {
                return false;
            }
        }
        for at in self.probes(hash).take(passed_by) {
            if let Some(bucket) = self.buckets.get_mut(at) {
                bucket.passed = bucket.passed.saturating_sub(1);
            }
        }
        true
    }

    /// Who owns a tuple: the first owner with its tag for whom `is_it` holds.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: FlowHash,
        mut is_it: impl FnMut(Owner) -> bool,
    ) -> Option<Owner> {
        match self.first(hash) {
            First::Nobody => None,
            First::Probably(owner) if is_it(owner) => Some(owner),
            First::Probably(_) | First::Elsewhere => self.find_further(hash, is_it),
        }
    }

    /// The first half of `find`: who is to be asked whether it is him, before `find_further`.
    #[inline]
    pub(crate) fn first(&self, hash: FlowHash) -> First {
        let Some(bucket) = self.buckets.get(self.home(hash)) else {
            return First::Nobody;
        };
        let owner = bucket.places_of(hash.tag()).next();
        match owner.and_then(|place| bucket.owners.get(place)) {
            Some(owner) => First::Probably(Owner::unpack(*owner)),
            None if bucket.passed == 0 => First::Nobody,
            None => First::Elsewhere,
        }
    }

    /// The other half, for who is not the first of its tag at home: whose tag somebody else has, too, or
    /// whose home was full.
    #[cold]
    #[inline(never)] // What it needs for its loops, the common case need not fetch.
    pub(crate) fn find_further(
        &self,
        hash: FlowHash,
        mut is_it: impl FnMut(Owner) -> bool,
    ) -> Option<Owner> {
        let tag = hash.tag();
        for at in self.probes(hash) {
            let bucket = self.buckets.get(at)?;
            for place in bucket.places_of(tag) {
                let owner = Owner::unpack(*bucket.owners.get(place)?);
                if is_it(owner) {
                    return Some(owner);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }

    /// The line that `guess` looks at, to be prefetched.
    #[inline]
    pub(crate) fn line(&self, hash: FlowHash) -> Option<&impl Sized> {
        self.buckets.get(self.home(hash))
    }

    /// Who probably owns a tuple, from its home bucket alone; one cache line, nothing dependent
    /// behind it. `None` when nobody there has its tag.
    #[inline]
    pub(crate) fn guess(&self, hash: FlowHash) -> Option<Owner> {
        let bucket = self.buckets.get(self.home(hash))?;
        let place = bucket.places_of(hash.tag()).next()?;
        bucket.owners.get(place).copied().map(Owner::unpack)
    }

    /// Tuples in the table.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn home(&self, hash: FlowHash) -> usize {
        // Not a remainder: a multiplication maps 32 bits evenly onto any number of buckets.
        let buckets = self.buckets.len() as u64;
        (u64::from(hash.position()).wrapping_mul(buckets) >> 32) as usize
    }

    /// The buckets to look at, in order.
    #[inline]
    fn probes(&self, hash: FlowHash) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.buckets.len();
        let mut at = self.home(hash);
        (1..=FLOW_PROBES_MAX).map(move |step| {
            let now = at;
            at = at.wrapping_add(step);
            // A table can be smaller than a step.
            while at >= buckets {
                at = at.wrapping_sub(buckets);
            }
            now
        })
    }
}

impl Bucket {
    const EMPTY: Self = Self {
        tags: [0; PLACES],
        passed: 0,
        owners: [0; PLACES],
    };

    #[inline]
    fn put(&mut self, tag: u16, owner: u32) -> bool {
        let Some(place) = self.places_of(0).next() else {
            return false;
        };
        if let (Some(tags), Some(owners)) = (self.tags.get_mut(place), self.owners.get_mut(place)) {
            (*tags, *owners) = (tag, owner);
        }
        true
    }

    /// Where this owner stands, if it lives here.
    #[inline]
    fn owner_mut(&mut self, tag: u16, owner: u32) -> Option<&mut u32> {
        let place = self.place_of(tag, owner)?;
        self.owners.get_mut(place)
    }

    /// Empties the place of this owner; `false` when it does not live here.
    #[inline]
    fn clear(&mut self, tag: u16, owner: u32) -> bool {
        let place = self.place_of(tag, owner);
        let Some(tag) = place.and_then(|place| self.tags.get_mut(place)) else {
            return false;
        };
        *tag = 0;
        true
    }

    #[inline]
    fn place_of(&self, tag: u16, owner: u32) -> Option<usize> {
        self.places_of(tag)
            .find(|place| self.owners.get(*place) == Some(&owner))
    }

    /// The places with this tag.
    #[inline]
    fn places_of(&self, tag: u16) -> Places {
        Places(equal_to(&self.tags, tag))
    }
}

/// Which of these are `tag`, one bit each: ten comparisons without a branch. The first eight are one
/// vector, whose lanes are as wide as the tags only when the mask is, too.
#[inline]
fn equal_to(tags: &[u16; PLACES], tag: u16) -> u32 {
    let [first @ .., ninth, tenth] = tags;
    let mut mask = 0u16;
    for (place, stored) in first.iter().enumerate() {
        mask |= if *stored == tag { 1 << place } else { 0 };
    }
    u32::from(mask) | u32::from(*ninth == tag) << 8 | u32::from(*tenth == tag) << 9
}

/// Places of a bucket, one bit each.
#[derive(Clone, Copy)]
struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        Some(place)
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays one and the entries are many.
        write!(f, "FlowTable({} of {})", self.len, self.len_max)
    }
}

#[cfg(test)]
mod tests;
