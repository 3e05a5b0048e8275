//! How many connections of a listener may be made of a SYN and not be proven yet
//! (`fastopen_queue`).
//!
//! A spoofed SYN with a stolen cookie costs a whole connection, so there is a limit of its own. One
//! whose peer answers the SYN-ACK by a RST goes on counting for a minute: whoever lends out addresses
//! for an attack switches Fast Open off here, and nothing else (RFC 7413 section 5.1).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

use millrace_base::{Instant, ListenerId, Nanos};

use super::Child;
use crate::limits::{FASTOPEN_RESETS_MAX, LISTENERS_MAX};

/// How long a connection that was reset goes on counting.
const RESET_COUNTS_FOR: Nanos = Nanos::from_secs(60);

/// The queue of one listener.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Connections that are not proven, and those that were reset.
    len: u32,
    /// Which of those that had this number.
    epoch: u16,
}

/// A connection that was reset.
#[derive(Clone, Copy, Debug)]
struct Reset {
    listener: ListenerId,
    epoch: u16,
    until: Instant,
}

/// The queues of all listeners. Memory is taken in `new`.
#[derive(Debug)]
pub(crate) struct Queues {
    by_listener: Box<[Queue]>,
    /// In the order of their ends: all count for the same time.
    resets: VecDeque<Reset>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            by_listener: vec![Queue::default(); LISTENERS_MAX].into_boxed_slice(),
            resets: VecDeque::with_capacity(FASTOPEN_RESETS_MAX),
        }
    }

    /// Whether a listener with room for `len_max` may have one more (`tcp_fastopen_queue_check`).
    pub(crate) fn has_room(&mut self, listener: ListenerId, len_max: u32, now: Instant) -> bool {
        if self.len(listener) >= len_max {
            self.expire(now);
        }
        self.len(listener) < len_max
    }

    /// One more; returns which listener of this number it is of.
    pub(crate) fn enter(&mut self, listener: ListenerId) -> u16 {
        let Some(queue) = self.by_listener.get_mut(listener.index()) else {
            return 0;
        };
        queue.len = queue.len.saturating_add(1);
        queue.epoch
    }

    /// The handshake of a child is over (`reqsk_fastopen_remove`): by a RST, or in another way.
    pub(crate) fn leave(&mut self, child: &Child, by_reset: bool, now: Instant) {
        self.release(child.listener, child.epoch);
        // One that was not accepted yet is in the accept queue, which has a limit too.
        if !by_reset || !child.accepted || !self.is_current(child.listener, child.epoch) {
            return;
        }
        if self.resets.len() >= FASTOPEN_RESETS_MAX
            && let Some(oldest) = self.resets.pop_front()
        {
            self.release(oldest.listener, oldest.epoch);
        }
        self.enter(child.listener);
        self.resets.push_back(Reset {
            listener: child.listener,
            epoch: child.epoch,
            until: now.after(RESET_COUNTS_FOR),
        });
    }

    /// Listeners that are gone count nothing any more; who gets their number begins anew.
    pub(crate) fn retain(&mut self, is_listed: impl Fn(ListenerId) -> bool) {
        for (index, queue) in self.by_listener.iter_mut().enumerate() {
            if queue.len > 0 && !is_listed(ListenerId::new(index as u16)) {
                queue.len = 0;
                queue.epoch = queue.epoch.wrapping_add(1);
            }
        }
    }

    /// What counts for a listener.
    pub(crate) fn len(&self, listener: ListenerId) -> u32 {
        let queue = self.by_listener.get(listener.index());
        queue.map_or(0, |queue| queue.len)
    }

    fn expire(&mut self, now: Instant) {
        while let Some(reset) = self.resets.front().copied()
            && reset.until <= now
        {
            self.resets.pop_front();
            self.release(reset.listener, reset.epoch);
        }
    }

    fn release(&mut self, listener: ListenerId, epoch: u16) {
        if self.is_current(listener, epoch)
            && let Some(queue) = self.by_listener.get_mut(listener.index())
        {
            queue.len = queue.len.saturating_sub(1);
        }
    }

    fn is_current(&self, listener: ListenerId, epoch: u16) -> bool {
        let queue = self.by_listener.get(listener.index());
        queue.is_some_and(|queue| queue.epoch == epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::{SeqNumber, Stamp};

    const LISTENER: ListenerId = ListenerId::new(3);

    fn child(queues: &mut Queues, accepted: bool) -> Child {
        Child {
            listener: LISTENER,
            epoch: queues.enter(LISTENER),
            irs: SeqNumber::new(0),
            sent_at: Stamp::NEVER,
            accepted,
        }
    }

    // behaviour: X4-13
    #[test]
    fn an_accepted_child_that_was_reset_counts_for_a_minute() {
        let mut queues = Queues::new();
        let at = Instant::from_millis(1_000);
        let child = child(&mut queues, true);
        assert!(!queues.has_room(LISTENER, 1, at));
        queues.leave(&child, true, at);
        let end = at.after(Nanos::from_secs(60));
        let before = Instant::from_nanos(end.as_nanos() - 1);
        assert!(!queues.has_room(LISTENER, 1, before));
        assert!(queues.has_room(LISTENER, 2, before));
        assert!(queues.has_room(LISTENER, 1, end));
        assert_eq!(queues.len(LISTENER), 0);
    }

    #[test]
    fn a_child_that_ended_otherwise_or_was_not_accepted_counts_no_more() {
        let mut queues = Queues::new();
        for (accepted, by_reset) in [(true, false), (false, false), (false, true)] {
            let child = child(&mut queues, accepted);
            queues.leave(&child, by_reset, Instant::ZERO);
            assert_eq!(queues.len(LISTENER), 0, "{accepted} {by_reset}");
        }
    }

    #[test]
    fn the_next_listener_of_a_number_does_not_pay_for_the_last() {
        let mut queues = Queues::new();
        let old = child(&mut queues, true);
        let reset = child(&mut queues, true);
        queues.leave(&reset, true, Instant::ZERO);
        queues.retain(|_| false);
        assert!(queues.has_room(LISTENER, 1, Instant::ZERO));
        let new = child(&mut queues, true);
        queues.leave(&old, true, Instant::ZERO);
        queues.has_room(LISTENER, 1, Instant::from_millis(100_000));
        assert_eq!(queues.len(LISTENER), 1, "only the new one");
        queues.leave(&new, false, Instant::ZERO);
        assert_eq!(queues.len(LISTENER), 0);
    }

    #[test]
    fn more_resets_than_are_remembered_let_go_of_the_oldest() {
        let mut queues = Queues::new();
        for _ in 0..FASTOPEN_RESETS_MAX + 5 {
            let child = child(&mut queues, true);
            queues.leave(&child, true, Instant::ZERO);
        }
        assert_eq!(queues.len(LISTENER) as usize, FASTOPEN_RESETS_MAX);
    }
}
