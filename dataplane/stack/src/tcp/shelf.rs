//! State that connections hold only while they need it: fixed places, handed out and given back.
//!
//! A TCB keeps a four-byte `Place` instead of the state. There is no generation: a place belongs to
//! exactly one connection, which gives it back before it is dropped (`Connection::release`). Full
//! is a value; what it means is the borrower's business.

use alloc::boxed::Box;
use core::fmt;

/// A place on a shelf, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

impl Default for Place {
    fn default() -> Self {
        Self::NONE
    }
}

impl Place {
    /// No place.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// Whether this is no place.
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Places for values of one kind. All memory is taken in `new`.
pub(crate) struct Shelf<T> {
    slots: Box<[Slot<T>]>,
    free: u32,
    used: usize,
}

#[derive(Clone, Copy)]
enum Slot<T> {
    /// Free, and the next free one.
    Free(u32),
    Used(T),
}

impl<T: Copy> Shelf<T> {
    /// A shelf of `capacity` places, all free.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.min(u32::MAX as usize);
        Self {
            // The last one points behind the end.
            slots: (1..=capacity).map(|next| Slot::Free(next as u32)).collect(),
            free: 0,
            used: 0,
        }
    }

    /// Puts a value into a place; `Place::NONE` takes a free one. Returns where it is now, or
    /// `Place::NONE` when all are taken.
    #[inline]
    pub(crate) fn store(&mut self, place: Place, value: T) -> Place {
        if !place.is_none() {
            return match self.get_mut(place) {
                Some(held) => {
                    *held = value;
                    place
                }
                None => Place::NONE,
            };
        }
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Place::NONE;
        };
        if let Slot::Free(next) = *slot {
            self.free = next;
        }
        *slot = Slot::Used(value);
        self.used = self.used.saturating_add(1);
        Place(index)
    }

    /// What is in a place; `None` for `Place::NONE`.
    #[inline]
    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        match self.slots.get(place.0 as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// What is in a place, to change it.
    #[inline]
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        match self.slots.get_mut(place.0 as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Gives a place back; harmless for `Place::NONE`.
    #[inline]
    pub(crate) fn clear(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(place.0 as usize)
            && matches!(slot, Slot::Used(_))
        {
            *slot = Slot::Free(self.free);
            self.free = place.0;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Whether half of the places are taken: what is merely useful gives its place back.
    pub(crate) fn is_half_used(&self) -> bool {
        self.used > self.slots.len() / 2
    }

    /// Whether no place is free.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.slots.len()
    }

    /// Places in use: 0 when nothing leaks.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf({} of {})", self.used, self.slots.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shelf_refuses_and_a_cleared_place_is_taken_again() {
        let mut shelf = Shelf::new(2);
        let first = shelf.store(Place::NONE, 'a');
        let second = shelf.store(Place::NONE, 'b');
        assert!(shelf.store(Place::NONE, 'c').is_none());
        assert_eq!(
            shelf.store(first, 'd'),
            first,
            "what has a place stays there"
        );
        assert_eq!((shelf.get(first), shelf.used()), (Some(&'d'), 2));
        shelf.clear(first);
        shelf.clear(first);
        shelf.clear(Place::NONE);
        assert_eq!((shelf.get(first), shelf.used()), (None, 1));
        assert_eq!(shelf.store(Place::NONE, 'e'), first);
        assert_eq!(shelf.get(second), Some(&'b'));
        assert_eq!(shelf.get(Place::NONE), None);
    }
}
