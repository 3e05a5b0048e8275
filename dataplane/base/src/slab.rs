//! A slab of fixed capacity with generation-checked keys. Full is a value, not a panic.

use alloc::vec::Vec;
use core::fmt;

/// Names one occupancy of one slot. A key outlives its occupant harmlessly: it then finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// A key that no slab ever hands out.
    pub const NONE: Self = Self {
        index: u32::MAX,
        generation: 0,
    };

    /// The slot number, below the slab's capacity.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Index and generation in one number, for storage elsewhere.
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The key that `to_bits` packed.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// Values at stable indices. All memory is taken in `new`; every operation but iteration is O(1).
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free_head: u32,
    len: usize,
}

/// The generation comes first: who asks whether a key still counts, and reads a few bytes of a large
/// value, is then served by one line of memory.
#[repr(C)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

/// The link of a free slot lies where the value was: it costs no memory of its own.
enum Content<T> {
    Free(u32),
    Used(T),
}

impl<T> Slot<T> {
    #[inline]
    fn value(&self) -> Option<&T> {
        match &self.content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }

    #[inline]
    fn value_mut(&mut self) -> Option<&mut T> {
        match &mut self.content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }
}

const NO_SLOT: u32 = u32::MAX;

impl<T> Slab<T> {
    /// Memory of one slot: the value, its generation and what alignment adds.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// A slab of `capacity` slots, at most 2^32 - 2.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(NO_SLOT.saturating_sub(1) as usize);
        let mut slots = Vec::with_capacity(capacity);
        for index in 0..capacity {
            let next = index.saturating_add(1);
            let next_free = if next < capacity {
                next as u32
            } else {
                NO_SLOT
            };
            slots.push(Slot {
                generation: 1,
                content: Content::Free(next_free),
            });
        }
        Self {
            slots,
            free_head: if capacity == 0 { NO_SLOT } else { 0 },
            len: 0,
        }
    }

    /// Stores a value; gives it back when the slab is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        let index = self.free_head;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(value);
        };
        let Content::Free(next_free) = slot.content else {
            return Err(value);
        };
        self.free_head = next_free;
        slot.content = Content::Used(value);
        self.len = self.len.saturating_add(1);
        Ok(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Takes the value out; its key and all copies of it find nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        if matches!(slot.content, Content::Free(_)) {
            return None;
        }
        // Generation 0 belongs to `Key::NONE`.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        let content = core::mem::replace(&mut slot.content, Content::Free(self.free_head));
        self.free_head = key.index;
        self.len = self.len.saturating_sub(1);
        match content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }

    /// Drops the value where it lies; `false` when the key finds none. For values that are large
    /// and not wanted: `remove` moves them out.
    pub fn discard(&mut self, key: Key) -> bool {
        let Some(slot) = self.slots.get_mut(key.index as usize) else {
            return false;
        };
        if slot.generation != key.generation || matches!(slot.content, Content::Free(_)) {
            return false;
        }
        // Generation 0 belongs to `Key::NONE`.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.content = Content::Free(self.free_head);
        self.free_head = key.index;
        self.len = self.len.saturating_sub(1);
        true
    }

    /// The value of this key.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value()
        } else {
            None
        }
    }

    /// The memory of a slot, to be prefetched: unlike the other ways this one reads nothing of it.
    #[inline]
    pub fn place(&self, index: u32) -> Option<&impl Sized> {
        self.slots.get(index as usize)
    }

    /// Where a slot begins, to be prefetched: with its generation, and the first of a large value.
    #[inline]
    pub fn beginning(&self, index: u32) -> Option<&impl Sized> {
        self.slots.get(index as usize).map(|slot| &slot.generation)
    }

    /// The value of an occupied slot, whatever its key.
    #[inline]
    pub fn get_at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value()
    }

    /// The same with its present key.
    #[inline]
    pub fn entry_at(&self, index: u32) -> Option<(Key, &T)> {
        let slot = self.slots.get(index as usize)?;
        let generation = slot.generation;
        Some((Key { index, generation }, slot.value()?))
    }

    /// The value of this key.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value_mut()
        } else {
            None
        }
    }

    /// Two different values at once; `None` when one is gone or both keys name one slot.
    pub fn get_two_mut(&mut self, first: Key, second: Key) -> Option<(&mut T, &mut T)> {
        let indices = [first.index as usize, second.index as usize];
        let [a, b] = self.slots.get_disjoint_mut(indices).ok()?;
        if a.generation != first.generation || b.generation != second.generation {
            return None;
        }
        a.value_mut().zip(b.value_mut())
    }

    /// The present key of an occupied slot.
    #[inline]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.value().is_some().then_some(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Occupied slots.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next `insert` fails.
    pub const fn is_full(&self) -> bool {
        self.free_head == NO_SLOT
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// All keys and values in slot order. O(capacity).
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key {
                index: index as u32,
                generation: slot.generation,
            };
            slot.value().map(|value| (key, value))
        })
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slab({} of {})", self.len, self.slots.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_key_finds_nothing_even_when_its_slot_is_taken_again() {
        let mut slab = Slab::new(1);
        let old = slab.insert('a').expect("room");
        assert_eq!(slab.insert('b'), Err('b'));
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('c').expect("room");
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&'c'));
        assert_eq!(Key::from_bits(new.to_bits()), new);
        assert_eq!(slab.get(Key::NONE), None);
    }

    #[test]
    fn two_values_can_be_changed_at_once_unless_they_are_one() {
        let mut slab = Slab::new(2);
        let (a, b) = (slab.insert(1).expect("room"), slab.insert(2).expect("room"));
        let (first, second) = slab.get_two_mut(a, b).expect("both live");
        core::mem::swap(first, second);
        assert_eq!((slab.get(a), slab.get(b)), (Some(&2), Some(&1)));
        assert_eq!(slab.get_two_mut(a, a), None);
        slab.remove(b);
        assert_eq!(slab.get_two_mut(a, b), None);
    }

    proptest! {
        #[test]
        fn a_slab_behaves_like_a_map(operations in prop::collection::vec((0u8..4, 0usize..20), 0..200)) {
            let mut slab = Slab::new(8);
            let mut model: HashMap<Key, usize> = HashMap::new();
            let mut keys = Vec::new();
            for (step, (operation, pick)) in operations.into_iter().enumerate() {
                if operation < 2 {
                    match slab.insert(step) {
                        Ok(key) => { prop_assert!(model.insert(key, step).is_none()); keys.push(key); }
                        Err(_) => prop_assert_eq!(model.len(), 8),
                    }
                } else if let Some(key) = keys.get(pick % keys.len().max(1)) {
                    if operation == 2 {
                        prop_assert_eq!(slab.remove(*key), model.remove(key));
                    } else {
                        prop_assert_eq!(slab.discard(*key), model.remove(key).is_some());
                    }
                }
                prop_assert_eq!(slab.len(), model.len());
                for key in &keys {
                    prop_assert_eq!(slab.get(*key), model.get(key));
                }
            }
        }
    }
}
