//! A bounded first-in-first-out queue of small values. Memory is taken in `new`; a full queue
//! refuses.

use alloc::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Notices<T> {
    queue: VecDeque<T>,
    len_max: usize,
}

impl<T> Notices<T> {
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(len_max),
            len_max,
        }
    }

    /// Appends a value; `false` and nothing changed when the queue is full.
    pub(crate) fn push(&mut self, value: T) -> bool {
        let fits = self.queue.len() < self.len_max;
        if fits {
            self.queue.push_back(value);
        }
        fits
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.queue.pop_front()
    }
}
