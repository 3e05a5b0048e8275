//! Counters: written by one lcore, read by anyone, described by the dataplane itself.
//!
//! A counter is a 64-bit word with a single writer, who loads and stores it relaxed: no
//! read-modify-write, no shared line between lcores. The dataplane writes a description of each
//! into the region at boot, so that a reader needs no list of its own. Per-backend and per-listener
//! counters have fixed fields and are indexed by identifier.

use core::ops::Deref;

use crate::limits::{COUNTER_HELP_BYTES, COUNTER_NAME_BYTES};
use crate::name::Text;
use crate::plain::Plain;
use crate::words::Words;

/// What a counter's value means to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CounterKind {
    /// Only grows, from 0 at the dataplane's start.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
}

/// A counter to be registered at boot.
#[derive(Clone, Copy, Debug)]
pub struct CounterSpec<'a> {
    /// The name as the collector sees it; cut at 64 bytes.
    pub name: &'a str,
    /// One sentence; cut at 160 bytes.
    pub help: &'a str,
    /// What the value means.
    pub kind: CounterKind,
}

/// A registered counter, as it lies in the region.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct CounterDescription {
    /// The name as the collector sees it.
    pub name: Text<COUNTER_NAME_BYTES>,
    /// One sentence.
    pub help: Text<COUNTER_HELP_BYTES>,
    /// A `CounterKind`.
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<CounterDescription>() == 64 + 160 + 1 + 7);

// SAFETY: byte arrays only, no padding (size asserted above), `align(8)`.
unsafe impl Plain for CounterDescription {}

/// One lcore's counters about one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BackendCounters {
    /// Sessions connected or connecting to it now.
    pub sessions_active: u64,
    /// Sessions ever given to it.
    pub sessions_total: u64,
    /// Bytes moved from clients to it.
    pub bytes_in: u64,
    /// Bytes moved from it to clients.
    pub bytes_out: u64,
    /// Connection attempts that failed.
    pub connect_failures: u64,
    /// Sessions that it reset.
    pub resets: u64,
    /// Source ports of this lcore towards it that are in use, over all source addresses.
    pub ports_used: u64,
    /// Source ports of this lcore towards it, over all source addresses.
    pub ports_capacity: u64,
}

/// One lcore's counters about one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerCounters {
    /// Sessions open now.
    pub sessions_active: u64,
    /// Sessions ever accepted.
    pub sessions_total: u64,
    /// Bytes moved from clients.
    pub bytes_in: u64,
    /// Bytes moved to clients.
    pub bytes_out: u64,
    /// Clients reset because no backend could be connected.
    pub refused: u64,
    /// Sessions that the client reset.
    pub resets: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

const _: () = assert!(size_of::<BackendCounters>() == 64);
const _: () = assert!(size_of::<ListenerCounters>() == 64);

// SAFETY: eight words, no padding (size asserted above).
unsafe impl Plain for BackendCounters {}
// SAFETY: as above.
unsafe impl Plain for ListenerCounters {}

/// One lcore's counters in shared memory.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct CounterBlock<const N: usize> {
    values: Words<N>,
}

/// The one who may change a block's values.
#[derive(Debug)]
pub struct CounterWriter<R> {
    block: R,
}

impl<const N: usize> CounterBlock<N> {
    /// Zeros in private memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter's value; 0 for one that does not exist.
    pub fn load(&self, index: usize) -> u64 {
        self.values.load(index)
    }
}

impl<R, const N: usize> CounterWriter<R>
where
    R: Deref<Target = CounterBlock<N>>,
{
    /// Becomes the writer. The caller makes sure that there is no other.
    pub fn attach(block: R) -> Self {
        Self { block }
    }

    /// Adds to a counter, wrapping after 2^64. An index beyond the block is ignored.
    pub fn add(&mut self, index: usize, amount: u64) {
        let value = self.block.values.load(index);
        self.block.values.store(index, value.wrapping_add(amount));
    }

    /// Sets a counter or gauge. An index beyond the block is ignored.
    pub fn set(&mut self, index: usize, value: u64) {
        self.block.values.store(index, value);
    }

    /// A counter's value; 0 for one that does not exist.
    pub fn load(&self, index: usize) -> u64 {
        self.block.load(index)
    }
}

impl CounterSpec<'_> {
    pub(crate) fn describe(&self) -> CounterDescription {
        CounterDescription {
            name: Text::new(self.name),
            help: Text::new(self.help),
            kind: self.kind as u8,
            reserved: [0; 7],
        }
    }
}

impl CounterDescription {
    /// What the value means; a number this version does not know is a gauge, about which nothing is
    /// promised.
    pub fn kind(&self) -> CounterKind {
        match self.kind {
            0 => CounterKind::Counter,
            _ => CounterKind::Gauge,
        }
    }
}

impl BackendCounters {
    /// The sum, field by field: one backend over several lcores.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let Self {
            sessions_active,
            sessions_total,
            bytes_in,
            bytes_out,
            connect_failures,
            resets,
            ports_used,
            ports_capacity,
        } = self;
        Self {
            sessions_active: sessions_active.wrapping_add(other.sessions_active),
            sessions_total: sessions_total.wrapping_add(other.sessions_total),
            bytes_in: bytes_in.wrapping_add(other.bytes_in),
            bytes_out: bytes_out.wrapping_add(other.bytes_out),
            connect_failures: connect_failures.wrapping_add(other.connect_failures),
            resets: resets.wrapping_add(other.resets),
            ports_used: ports_used.wrapping_add(other.ports_used),
            ports_capacity: ports_capacity.wrapping_add(other.ports_capacity),
        }
    }
}

impl ListenerCounters {
    /// The sum, field by field: one listener over several lcores.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let Self {
            sessions_active,
            sessions_total,
            bytes_in,
            bytes_out,
            refused,
            resets,
            reserved,
        } = self;
        Self {
            sessions_active: sessions_active.wrapping_add(other.sessions_active),
            sessions_total: sessions_total.wrapping_add(other.sessions_total),
            bytes_in: bytes_in.wrapping_add(other.bytes_in),
            bytes_out: bytes_out.wrapping_add(other.bytes_out),
            refused: refused.wrapping_add(other.refused),
            resets: resets.wrapping_add(other.resets),
            reserved,
        }
    }
}
