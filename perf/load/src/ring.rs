//! A bounded first-in-first-out queue of small values. Memory is taken in `new`.

use std::collections::VecDeque;

/// A bounded queue.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    queue: VecDeque<T>,
    capacity: usize,
}

impl<T> Ring<T> {
    /// An empty queue that takes `capacity` values.
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    /// Appends a value; `false` and nothing changed when the queue is full.
    #[inline]
    pub fn push(&mut self, value: T) -> bool {
        let fits = self.queue.len() < self.capacity;
        if fits {
            self.queue.push_back(value);
        }
        fits
    }

    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.queue.pop_front()
    }

    /// The oldest value, left where it is.
    #[inline]
    pub fn first(&self) -> Option<T>
    where
        T: Copy,
    {
        self.queue.front().copied()
    }

    /// Values in the queue.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
