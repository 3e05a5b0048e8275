//! Deadlines of sessions: a few lists in which everything waits equally long.
//!
//! Because all entries of a list were given the same delay, the list is in order of its deadlines
//! by construction: appending, removing and finding the earliest are O(1), and no timer wheel is
//! needed. A slot waits in at most one list.

use millrace_base::{Instant, Lists, invariant};

/// What a slot waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// The present attempt to reach a backend.
    Connect = 0,
    /// The next look at whether bytes still pass.
    Idle = 1,
}

const LISTS: usize = 2;

const _: () = assert!(Lists::<Instant>::LINK_BYTES == 16);

/// The waiting slots.
#[derive(Debug)]
pub(crate) struct Deadlines {
    lists: Lists<Instant>,
}

impl Deadlines {
    /// For slots `0 .. slots`.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            lists: Lists::new(slots, LISTS),
        }
    }

    /// Puts a slot at the end of a list, taking it out of whatever list it is in. `due` must not
    /// lie before the list's last deadline: give every entry of a list the same delay.
    pub(crate) fn wait(&mut self, slot: u32, wait: Wait, due: Instant) {
        self.lists.remove(slot);
        let last = self.lists.last(wait as u32);
        let last_due = last.and_then(|last| self.lists.word(last));
        let in_order = last_due.is_none_or(|last_due| last_due <= due);
        if self.lists.push_with(wait as u32, slot, due) {
            invariant!(in_order, "a list has one delay");
        }
    }

    /// Takes a slot out of its list; nothing happens when it is in none.
    pub(crate) fn stop(&mut self, slot: u32) {
        self.lists.remove(slot);
    }

    /// The slot of a list that is due first, if it is due at `now`. It stays in the list.
    pub(crate) fn due(&self, wait: Wait, now: Instant) -> Option<u32> {
        let (slot, due) = self.first(wait)?;
        due.is_due(now).then_some(slot)
    }

    /// The earliest deadline of all, `NEVER` when nothing waits.
    pub(crate) fn next_deadline(&self) -> Instant {
        let of = |wait| self.first(wait).map_or(Instant::NEVER, |(_, due)| due);
        of(Wait::Connect).min(of(Wait::Idle))
    }

    fn first(&self, wait: Wait) -> Option<(u32, Instant)> {
        let first = self.lists.first(wait as u32)?;
        self.lists.word(first).map(|due| (first, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOTS: u32 = 6;

    proptest! {
        #[test]
        fn lists_behave_like_queues_with_removal(
            operations in prop::collection::vec((0u8..3, 0..SLOTS, any::<bool>()), 0..200),
        ) {
            let mut deadlines = Deadlines::new(SLOTS as usize);
            let mut model: [Vec<(u32, Instant)>; 2] = [vec![], vec![]];
            for (step, (operation, slot, connect)) in operations.into_iter().enumerate() {
                let (list, wait) = if connect { (0, Wait::Connect) } else { (1, Wait::Idle) };
                match operation {
                    0 => {
                        let due = Instant::from_nanos(step as u64);
                        deadlines.wait(slot, wait, due);
                        model.iter_mut().for_each(|list| list.retain(|entry| entry.0 != slot));
                        model[list].push((slot, due));
                    }
                    1 => {
                        deadlines.stop(slot);
                        model.iter_mut().for_each(|list| list.retain(|entry| entry.0 != slot));
                    }
                    _ => {
                        let due = deadlines.due(wait, Instant::NEVER);
                        prop_assert_eq!(due, model[list].first().map(|entry| entry.0));
                    }
                }
                let earliest = model.iter().flatten().map(|entry| entry.1).min();
                prop_assert_eq!(deadlines.next_deadline(), earliest.unwrap_or(Instant::NEVER));
            }
        }
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut deadlines = Deadlines::new(2);
        deadlines.wait(1, Wait::Idle, Instant::from_millis(5));
        assert_eq!(deadlines.due(Wait::Idle, Instant::from_millis(4)), None);
        assert_eq!(deadlines.due(Wait::Idle, Instant::from_millis(5)), Some(1));
        assert_eq!(deadlines.due(Wait::Connect, Instant::NEVER), None);
        deadlines.wait(9, Wait::Idle, Instant::ZERO);
        assert_eq!(deadlines.next_deadline(), Instant::from_millis(5));
    }
}
