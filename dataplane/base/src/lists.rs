//! Intrusive lists of slot numbers: who waits for what, first come first served. With each number
//! goes a word of the owner's (a deadline, say); usually there is none.
//!
//! A number is in at most one list of one `Lists`. Lists are rings through a sentinel of their own,
//! so removal needs not know which list a number is in, and a whole list joins another by changing
//! four links. Everything is O(1), and no list needs memory beyond `new`.

use alloc::boxed::Box;

/// `lists` rings over the numbers `0 .. capacity`.
#[derive(Debug)]
pub struct Lists<T = ()> {
    /// First the numbers, then the sentinels. A number that is in no list points at itself.
    links: Box<[Link<T>]>,
    capacity: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link<T> {
    word: T,
    next: u32,
    previous: u32,
}

impl Lists {
    /// Appends `index` to a list; `false` and nothing changed when it is in a list already.
    pub fn push(&mut self, list: u32, index: u32) -> bool {
        self.push_with(list, index, ())
    }
}

impl<T: Copy + Default> Lists<T> {
    /// Bytes of one number.
    pub const LINK_BYTES: usize = size_of::<Link<T>>();

    /// Lists `0 .. lists` over the numbers `0 .. capacity`, all empty.
    pub fn new(capacity: usize, lists: usize) -> Self {
        let links = 0..capacity.saturating_add(lists) as u32;
        Self {
            links: links
                .map(|index| Link {
                    word: T::default(),
                    next: index,
                    previous: index,
                })
                .collect(),
            capacity: capacity as u32,
        }
    }

    /// Appends `index` to a list with its word; `false` and nothing changed when it is in a list
    /// already.
    pub fn push_with(&mut self, list: u32, index: u32, word: T) -> bool {
        if index >= self.capacity || self.is_linked(index) {
            return false;
        }
        let sentinel = self.sentinel(list);
        let tail = self.previous(sentinel);
        self.join(tail, index);
        self.join(index, sentinel);
        if let Some(link) = self.links.get_mut(index as usize) {
            link.word = word;
        }
        true
    }

    /// Takes the first number off a list.
    pub fn pop(&mut self, list: u32) -> Option<u32> {
        let head = self.first(list)?;
        self.remove(head);
        Some(head)
    }

    /// Takes `index` out of its list, if it is in one.
    pub fn remove(&mut self, index: u32) {
        if index < self.capacity {
            let (previous, next) = (self.previous(index), self.next(index));
            self.join(previous, next);
            self.join(index, index);
        }
    }

    /// Moves all of list `from` behind all of list `to`.
    pub fn append(&mut self, to: u32, from: u32) {
        let (to, from) = (self.sentinel(to), self.sentinel(from));
        let (head, tail) = (self.next(from), self.previous(from));
        if head == from || to == from {
            return;
        }
        let last = self.previous(to);
        self.join(last, head);
        self.join(tail, to);
        self.join(from, from);
    }

    /// The first number of a list.
    pub fn first(&self, list: u32) -> Option<u32> {
        let head = self.next(self.sentinel(list));
        (head < self.capacity).then_some(head)
    }

    /// The last number of a list.
    pub fn last(&self, list: u32) -> Option<u32> {
        let tail = self.previous(self.sentinel(list));
        (tail < self.capacity).then_some(tail)
    }

    /// The number behind `index` in its list.
    pub fn behind(&self, index: u32) -> Option<u32> {
        let next = self.next(index);
        (next < self.capacity).then_some(next)
    }

    /// The memory of a number, to be prefetched: nothing of it is read here.
    pub fn place(&self, index: u32) -> Option<&impl Sized> {
        self.links.get(index as usize)
    }

    /// The word that `index` was appended with last.
    pub fn word(&self, index: u32) -> Option<T> {
        self.links.get(index as usize).map(|link| link.word)
    }

    /// Whether `index` is in a list.
    #[inline]
    pub fn is_linked(&self, index: u32) -> bool {
        self.next(index) != index
    }

    const fn sentinel(&self, list: u32) -> u32 {
        self.capacity.saturating_add(list)
    }

    fn join(&mut self, before: u32, behind: u32) {
        if let Some(link) = self.links.get_mut(before as usize) {
            link.next = behind;
        }
        if let Some(link) = self.links.get_mut(behind as usize) {
            link.previous = before;
        }
    }

    fn next(&self, index: u32) -> u32 {
        self.links
            .get(index as usize)
            .map_or(u32::MAX, |link| link.next)
    }

    fn previous(&self, index: u32) -> u32 {
        self.links
            .get(index as usize)
            .map_or(u32::MAX, |link| link.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_behave_like_queues(steps in prop::collection::vec((0u8..5, 0u32..12), 0..300)) {
            let mut lists = Lists::new(12, 2);
            let mut model = [Vec::new(), Vec::new()];
            for (action, index) in steps {
                let free = !model.iter().any(|list| list.contains(&index));
                prop_assert_eq!(lists.is_linked(index), !free);
                match action {
                    list @ (0 | 1) => {
                        prop_assert_eq!(lists.push(list.into(), index), free);
                        if free {
                            model[usize::from(list)].push(index);
                        }
                    }
                    2 => {
                        let expected = (!model[0].is_empty()).then(|| model[0].remove(0));
                        prop_assert_eq!(lists.pop(0), expected);
                    }
                    3 => {
                        lists.remove(index);
                        model.iter_mut().for_each(|list| list.retain(|other| *other != index));
                    }
                    _ => {
                        lists.append(0, 1);
                        let moved = core::mem::take(&mut model[1]);
                        model[0].extend(moved);
                    }
                }
                prop_assert_eq!(lists.first(0), model[0].first().copied());
                prop_assert_eq!(lists.first(1), model[1].first().copied());
            }
        }
    }
}
