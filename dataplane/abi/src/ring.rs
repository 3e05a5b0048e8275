//! A bounded single-producer single-consumer ring of fixed-size messages in shared memory.
//!
//! ```text
//!   tail  ──128 bytes──  written by the producer: messages ever pushed, modulo 2^32
//!   head  ──128 bytes──  written by the consumer: messages ever popped, modulo 2^32
//!   slots [CAPACITY][WORDS] of 64-bit words; message n lives in slot n & (CAPACITY - 1)
//! ```
//!
//! Each end keeps its own index privately and a cached copy of the other's, so that an end touches
//! the other's cache line only when its cached copy says "full" or "empty". An index is published
//! after the data it covers: a process that dies at any instruction leaves a ring that its
//! successor continues by `attach`. A message may be seen twice when the consumer dies between
//! reading and publishing, and is never seen half.
//!
//! The other end is not trusted. Slots are addressed by an own index masked by the capacity, slots
//! are words of atomics, and an index of the other end that claims more than the capacity is
//! counted and repaired: a corrupted peer loses messages or repeats them, and nothing else.

use core::ops::Deref;

use crate::sync::{AtomicU32, Ordering, Padded};
use crate::words::Words;

/// The shared part of a ring.
#[derive(Debug)]
#[repr(C)]
pub struct Ring<const WORDS: usize, const CAPACITY: usize> {
    pub(crate) tail: Padded<AtomicU32>,
    pub(crate) head: Padded<AtomicU32>,
    pub(crate) slots: [Words<WORDS>; CAPACITY],
}

/// The ring has no free slot: the other end is slow, or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the ring is full")
    }
}

impl core::error::Error for Full {}

/// The end that pushes. There is one per ring at any time.
#[derive(Debug)]
pub struct Producer<R, const WORDS: usize, const CAPACITY: usize> {
    ring: R,
    /// Messages staged so far; ahead of the shared tail between `stage` and `publish`.
    tail: u32,
    /// What the shared tail says, or should say.
    published: u32,
    /// The last believable head: `tail - head_cached <= CAPACITY` always.
    head_cached: u32,
    corrupted: u64,
}

/// The end that pops. There is one per ring at any time.
#[derive(Debug)]
pub struct Consumer<R, const WORDS: usize, const CAPACITY: usize> {
    ring: R,
    /// Messages taken so far; ahead of the shared head between `take` and `release`.
    head: u32,
    /// The last believable tail: `tail_cached - head <= CAPACITY` always.
    tail_cached: u32,
    corrupted: u64,
}

impl<const WORDS: usize, const CAPACITY: usize> Ring<WORDS, CAPACITY> {
    const VALID: () = assert!(CAPACITY.is_power_of_two() && CAPACITY <= 1 << 30 && WORDS > 0);
    const CAPACITY_U32: u32 = CAPACITY as u32;

    /// An empty ring in private memory. Region memory is zeroed, which is the same.
    pub fn new() -> Self {
        const { Self::VALID };
        Self {
            tail: Padded(AtomicU32::new(0)),
            head: Padded(AtomicU32::new(0)),
            slots: core::array::from_fn(|_| Words::new()),
        }
    }

    fn slot(&self, index: u32) -> &Words<WORDS> {
        const { Self::VALID };
        &self.slots[index as usize & (CAPACITY - 1)]
    }
}

impl<const WORDS: usize, const CAPACITY: usize> Default for Ring<WORDS, CAPACITY> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, const WORDS: usize, const CAPACITY: usize> Producer<R, WORDS, CAPACITY>
where
    R: Deref<Target = Ring<WORDS, CAPACITY>>,
{
    /// Becomes the producer, going on where the previous one stopped. The caller makes sure that
    /// there is no other.
    pub fn attach(ring: R) -> Self {
        // Pairs with the Release in `publish` of a previous producer and in `Consumer::release`.
        let tail = ring.tail.0.load(Ordering::Acquire);
        let head = ring.head.0.load(Ordering::Acquire);
        let believable = tail.wrapping_sub(head) <= Ring::<WORDS, CAPACITY>::CAPACITY_U32;
        // An unbelievable head counts as "full" until the consumer repairs it.
        let full = tail.wrapping_sub(Ring::<WORDS, CAPACITY>::CAPACITY_U32);
        let head_cached = if believable { head } else { full };
        Self {
            ring,
            tail,
            published: tail,
            head_cached,
            corrupted: u64::from(!believable),
        }
    }

    /// Pushes one message.
    pub fn push(&mut self, message: &[u64; WORDS]) -> Result<(), Full> {
        self.stage(|slot| slot.write(0, message))?;
        self.publish();
        Ok(())
    }

    /// Pushes messages in order until the ring is full, publishing once; tells how many went in.
    pub fn push_batch(&mut self, messages: &[[u64; WORDS]]) -> usize {
        let mut count = 0;
        for message in messages {
            if self.stage(|slot| slot.write(0, message)).is_err() {
                break;
            }
            count += 1;
        }
        self.publish();
        count
    }

    /// Writes one message without showing it to the consumer yet.
    pub fn stage(&mut self, write: impl FnOnce(&Words<WORDS>)) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        write(self.ring.slot(self.tail));
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows what was staged to the consumer.
    pub fn publish(&mut self) {
        if self.published != self.tail {
            self.published = self.tail;
            // Pairs with the Acquire in `Consumer::is_ready`: the slots are written before the tail
            // covers them.
            self.ring.tail.0.store(self.tail, Ordering::Release);
        }
    }

    /// How often the consumer's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.corrupted
    }

    fn has_room(&mut self) -> bool {
        let capacity = Ring::<WORDS, CAPACITY>::CAPACITY_U32;
        if self.tail.wrapping_sub(self.head_cached) < capacity {
            return true;
        }
        // Pairs with the Release in `Consumer::release`: the slots are read before they are written
        // again.
        let head = self.ring.head.0.load(Ordering::Acquire);
        let used = self.tail.wrapping_sub(head);
        if used > capacity {
            self.corrupted = self.corrupted.wrapping_add(1);
            self.repair_tail();
            return false;
        }
        self.head_cached = head;
        if used == capacity {
            // Full to us; if the shared tail was overwritten with this very head, empty to the
            // consumer, and neither would ever move.
            self.repair_tail();
        }
        used < capacity
    }

    /// Puts our own index back: perhaps it is ours that was overwritten and the consumer followed
    /// it.
    fn repair_tail(&self) {
        if self.ring.tail.0.load(Ordering::Relaxed) != self.published {
            self.ring.tail.0.store(self.published, Ordering::Release);
        }
    }
}

impl<R, const WORDS: usize, const CAPACITY: usize> Consumer<R, WORDS, CAPACITY>
where
    R: Deref<Target = Ring<WORDS, CAPACITY>>,
{
    /// Becomes the consumer, going on where the previous one stopped. The caller makes sure that
    /// there is no other.
    pub fn attach(ring: R) -> Self {
        // Pairs with the Release in `release` of a previous consumer.
        let head = ring.head.0.load(Ordering::Acquire);
        let mut consumer = Self {
            ring,
            head,
            tail_cached: head,
            corrupted: 0,
        };
        consumer.is_ready();
        consumer
    }

    /// Pops one message.
    pub fn pop(&mut self) -> Option<[u64; WORDS]> {
        let mut message = [0; WORDS];
        self.take(|slot| slot.read(0, &mut message))?;
        self.release();
        Some(message)
    }

    /// Pops messages into `out` until it is full or the ring empty, releasing once; tells how many.
    pub fn pop_batch(&mut self, out: &mut [[u64; WORDS]]) -> usize {
        let mut count = 0;
        for message in out {
            if self.take(|slot| slot.read(0, message)).is_none() {
                break;
            }
            count += 1;
        }
        if count > 0 {
            self.release();
        }
        count
    }

    /// Reads one message without giving its slot back yet.
    pub fn take<T>(&mut self, read: impl FnOnce(&Words<WORDS>) -> T) -> Option<T> {
        if !self.is_ready() {
            return None;
        }
        let result = read(self.ring.slot(self.head));
        self.head = self.head.wrapping_add(1);
        Some(result)
    }

    /// Gives the slots of what was taken back to the producer.
    pub fn release(&mut self) {
        // Pairs with the Acquire in `Producer::has_room`: the slots are read before the head frees
        // them.
        self.ring.head.0.store(self.head, Ordering::Release);
    }

    /// How often the producer's index made no sense.
    pub fn corrupted(&self) -> u64 {
        self.corrupted
    }

    fn is_ready(&mut self) -> bool {
        if self.tail_cached != self.head {
            return true;
        }
        // Pairs with the Release in `Producer::publish`: the slots are written before the tail
        // covers them.
        let tail = self.ring.tail.0.load(Ordering::Acquire);
        let ready = tail.wrapping_sub(self.head);
        if ready > Ring::<WORDS, CAPACITY>::CAPACITY_U32 {
            // Nothing between the two indices can be told apart from garbage: skip it all and meet
            // the producer.
            self.corrupted = self.corrupted.wrapping_add(1);
            self.head = tail;
            self.tail_cached = tail;
            self.release();
            return false;
        }
        self.tail_cached = tail;
        if ready == 0 && self.ring.head.0.load(Ordering::Relaxed) != self.head {
            // Our own index was overwritten; the producer would believe the ring full for ever.
            self.release();
        }
        ready > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
