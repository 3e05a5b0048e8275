//! Publication of a whole generation: the writer fills the spare copy, readers switch at a time of
//! their choosing.
//!
//! ```text
//!   generation          written by the publisher; 0 = nothing yet; g lives in copy g & 1
//!   acknowledged[i]     written by reader i: the last generation it has adopted
//!   copies[2][WORDS]
//! ```
//!
//! The publisher writes generation g + 1 into the copy that held g - 1, and only when every reader
//! acknowledged g: then no reader has any business in that copy. A publisher that dies while it
//! fills leaves `generation` as it was, so readers never look; its successor fills the same spare
//! again from the start. A publisher that dies right after the flip has published, and its
//! successor finds that out from `generation`.
//!
//! Readers copy out through relaxed atomics, so even a publisher that breaks the protocol produces
//! a mix of two generations, never undefined behaviour. What the words mean is not known here; see
//! `publication.rs`.

use core::ops::Deref;

use crate::sync::{AtomicU64, Ordering, Padded};
use crate::words::Words;

/// The shared part of a publication with at most `READERS` readers.
#[derive(Debug)]
#[repr(C)]
pub struct Snapshot<const WORDS: usize, const READERS: usize> {
    pub(crate) generation: Padded<AtomicU64>,
    pub(crate) acknowledged: [Padded<AtomicU64>; READERS],
    pub(crate) copies: [Words<WORDS>; 2],
}

/// A reader has not acknowledged the current generation yet: try again after its next burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The first reader that is behind.
    pub reader: usize,
    /// The generation it has.
    pub acknowledged: u64,
    /// The generation it should have.
    pub generation: u64,
}

impl core::fmt::Display for Busy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            reader,
            acknowledged,
            generation,
        } = self;
        write!(
            f,
            "lcore {reader} still has generation {acknowledged}, not {generation}"
        )
    }
}

impl core::error::Error for Busy {}

/// The end that publishes. There is one at any time.
#[derive(Debug)]
pub struct Publisher<R> {
    snapshot: R,
    readers: usize,
}

/// One of the ends that adopt.
#[derive(Debug)]
pub struct Reader<R> {
    snapshot: R,
    index: usize,
    seen: u64,
}

impl<const WORDS: usize, const READERS: usize> Snapshot<WORDS, READERS> {
    /// Nothing published, in private memory. Region memory is zeroed, which is the same.
    pub fn new() -> Self {
        Self {
            generation: Padded(AtomicU64::new(0)),
            acknowledged: core::array::from_fn(|_| Padded(AtomicU64::new(0))),
            copies: core::array::from_fn(|_| Words::new()),
        }
    }

    fn copy(&self, generation: u64) -> &Words<WORDS> {
        &self.copies[(generation & 1) as usize]
    }
}

impl<const WORDS: usize, const READERS: usize> Default for Snapshot<WORDS, READERS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, const WORDS: usize, const READERS: usize> Publisher<R>
where
    R: Deref<Target = Snapshot<WORDS, READERS>>,
{
    /// Becomes the publisher for the first `readers` readers. The caller makes sure that there is
    /// no other publisher.
    pub fn attach(snapshot: R, readers: usize) -> Self {
        Self {
            snapshot,
            readers: readers.min(READERS),
        }
    }

    /// Fills the spare copy and flips to it; tells the new generation. `fill` runs only when the
    /// spare is free, and is told the generation it fills for.
    pub fn publish(&mut self, fill: impl FnOnce(u64, &Words<WORDS>)) -> Result<u64, Busy> {
        self.check_adopted()?;
        let generation = self.generation().wrapping_add(1);
        fill(generation, self.snapshot.copy(generation));
        // Pairs with the Acquire in `Reader::poll`: the copy is written before the generation names
        // it.
        self.snapshot
            .generation
            .0
            .store(generation, Ordering::Release);
        Ok(generation)
    }

    /// Hands the current generation to `read`, if one was ever published: what a successor finds.
    /// Only publishers write copies, so nobody writes this one meanwhile.
    pub fn read_current<T>(&self, read: impl FnOnce(u64, &Words<WORDS>) -> T) -> Option<T> {
        let generation = self.generation();
        (generation != 0).then(|| read(generation, self.snapshot.copy(generation)))
    }

    /// Whether every reader acknowledged the current generation.
    pub fn check_adopted(&self) -> Result<(), Busy> {
        let generation = self.generation();
        for reader in 0..self.readers {
            let acknowledged = self.acknowledged(reader);
            if acknowledged != generation {
                return Err(Busy {
                    reader,
                    acknowledged,
                    generation,
                });
            }
        }
        Ok(())
    }

    /// The generation last published, by this publisher or the one before it.
    pub fn generation(&self) -> u64 {
        // Written by publishers only; Acquire so that a successor sees what its predecessor saw.
        self.snapshot.generation.0.load(Ordering::Acquire)
    }

    /// The generation last acknowledged by a reader; 0 for a reader that does not exist.
    pub fn acknowledged(&self, reader: usize) -> u64 {
        // Pairs with the Release in `Reader::acknowledge`: the reader's copying ends before we
        // overwrite what it copied.
        self.snapshot
            .acknowledged
            .get(reader)
            .map_or(0, |word| word.0.load(Ordering::Acquire))
    }
}

impl<R, const WORDS: usize, const READERS: usize> Reader<R>
where
    R: Deref<Target = Snapshot<WORDS, READERS>>,
{
    /// Becomes reader `index`. The caller makes sure that there is no other of that index.
    pub fn attach(snapshot: R, index: usize) -> Self {
        Self {
            snapshot,
            index,
            seen: 0,
        }
    }

    /// Hands the copy to `read` when there is a generation that this reader has not seen; tells
    /// which. The copy may be read only inside `read`. Cost when there is none: one load of a line
    /// that rarely changes.
    pub fn poll(&mut self, read: impl FnOnce(&Words<WORDS>)) -> Option<u64> {
        // Pairs with the Release in `Publisher::publish`: the generation's copy is complete.
        let generation = self.snapshot.generation.0.load(Ordering::Acquire);
        if generation == self.seen {
            return None;
        }
        read(self.snapshot.copy(generation));
        self.seen = generation;
        Some(generation)
    }

    /// Tells the publisher that the generation last polled is in force here.
    pub fn acknowledge(&mut self) {
        if let Some(word) = self.snapshot.acknowledged.get(self.index) {
            // Pairs with the Acquire in `Publisher::acknowledged`.
            word.0.store(self.seen, Ordering::Release);
        }
    }

    /// The generation last polled; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.seen
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
