//! Intrusive lists of connections by slot number: who may transmit, who waits for a neighbour, who
//! has an event.
//!
//! A connection is in at most one list of one `Lists`. Lists are rings through a sentinel of their
//! own, so removal needs not know which list a connection is in, and a whole list joins another by
//! changing four links. Everything is O(1), and no list needs memory beyond `new`.

use alloc::boxed::Box;

/// `lists` rings over the numbers `0 .. capacity`.
#[derive(Debug)]
pub(crate) struct Lists {
    /// First the numbers, then the sentinels. A number that is in no list points at itself.
    links: Box<[Link]>,
    capacity: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
}

impl Lists {
    /// Lists `0 .. lists` over the numbers `0 .. capacity`, all empty.
    pub(crate) fn new(capacity: usize, lists: usize) -> Self {
        let links = 0..capacity.saturating_add(lists) as u32;
        Self {
            links: links
                .map(|index| Link {
                    next: index,
                    previous: index,
                })
                .collect(),
            capacity: capacity as u32,
        }
    }

    /// Appends `index` to a list; `false` and nothing changed when it is in a list already.
    pub(crate) fn push(&mut self, list: u32, index: u32) -> bool {
        if index >= self.capacity || self.is_linked(index) {
            return false;
        }
        let sentinel = self.sentinel(list);
        let tail = self.previous(sentinel);
        self.join(tail, index);
        self.join(index, sentinel);
        true
    }

    /// Takes the first number off a list.
    pub(crate) fn pop(&mut self, list: u32) -> Option<u32> {
        let head = self.first(list)?;
        self.remove(head);
        Some(head)
    }

    /// The first number of a list.
    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        let head = self.next(self.sentinel(list));
        (head < self.capacity).then_some(head)
    }

    /// Takes `index` out of its list, if it is in one.
    pub(crate) fn remove(&mut self, index: u32) {
        if index < self.capacity {
            let (previous, next) = (self.previous(index), self.next(index));
            self.join(previous, next);
            self.join(index, index);
        }
    }

    /// Moves all of list `from` behind all of list `to`.
    pub(crate) fn append(&mut self, to: u32, from: u32) {
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

    /// Whether `index` is in a list.
    pub(crate) fn is_linked(&self, index: u32) -> bool {
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
