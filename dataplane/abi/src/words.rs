//! Shared memory as relaxed 64-bit atomics, and records stored in it.
//!
//! The other process may write any word at any time, by mistake or by malice. A plain load would
//! then be undefined behaviour; a relaxed atomic load costs the same instruction and merely yields
//! some value. A record read while it is written may mix old and new words; each word is one that
//! was written. Ordering between records is the business of the rings and the snapshot, not of this
//! file.

use core::marker::PhantomData;

use crate::plain::{Plain, words_of, words_of_mut, zeroed};
use crate::sync::{AtomicU64, Ordering, RaceGuard};

/// `N` words of shared memory.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct Words<const N: usize> {
    words: [AtomicU64; N],
    guard: RaceGuard,
}

impl<const N: usize> Words<N> {
    /// Words of zero, in private memory.
    pub fn new() -> Self {
        let words = core::array::from_fn(|_| AtomicU64::new(0));
        Self {
            words,
            guard: RaceGuard::default(),
        }
    }

    /// Copies the words from `first` on into `out`; words beyond the end are left alone.
    pub fn read(&self, first: usize, out: &mut [u64]) {
        self.guard.reading();
        let words = self.words.get(first..).unwrap_or(&[]);
        for (out, word) in out.iter_mut().zip(words) {
            *out = word.load(Ordering::Relaxed);
        }
    }

    /// Copies `words` to the words from `first` on; what reaches beyond the end is left out.
    pub fn write(&self, first: usize, words: &[u64]) {
        self.guard.writing();
        let slots = self.words.get(first..).unwrap_or(&[]);
        for (slot, word) in slots.iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
    }

    /// One word; 0 beyond the end.
    pub fn load(&self, index: usize) -> u64 {
        self.words
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets one word; nothing happens beyond the end.
    pub fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A `Plain` record in shared memory, `N` words long.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Record<T, const N: usize> {
    words: Words<N>,
    record: PhantomData<T>,
}

impl<T: Plain, const N: usize> Record<T, N> {
    const SIZE: () = assert!(size_of::<T>() == N * 8);

    /// The record; words are whole, the record may mix an old and a new one.
    pub(crate) fn load(&self) -> T {
        const { Self::SIZE };
        let mut record = zeroed();
        self.words.read(0, words_of_mut(&mut record));
        record
    }

    /// Overwrites the record. One process, one thread does this.
    pub(crate) fn store(&self, record: &T) {
        const { Self::SIZE };
        self.words.write(0, words_of(record));
    }
}
