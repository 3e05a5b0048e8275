//! Names of connections, and kinds of owners of a four-tuple.
//!
//! Connections, half-open requests and TIME_WAIT records share one table, as in Linux's `ehash`: a
//! tuple has one owner, and one lookup finds it whatever its kind. The table is in `flow_table.rs`,
//! and who is asked in `owners.rs`; listeners have their own (`listener.rs`).

use core::fmt;

use millrace_base::Key;

/// Names one connection of one stack for as long as it lives; afterwards it names nothing, even if
/// its slot is taken again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(Key);

impl FlowId {
    /// An id that no connection ever has.
    pub const NONE: Self = Self(Key::NONE);

    /// The id of the connection stored under this key.
    pub const fn new(key: Key) -> Self {
        Self(key)
    }

    /// The key of the connection's slot.
    pub const fn key(self) -> Key {
        self.0
    }

    /// The slot number: below `connections_max`, and unique among living connections.
    pub const fn index(self) -> u32 {
        self.0.index()
    }

    /// The id in one number, for storage elsewhere.
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The id that `to_bits` packed.
    pub const fn from_bits(bits: u64) -> Self {
        Self(Key::from_bits(bits))
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow{:?}", self.0)
    }
}

/// Who owns a tuple: a slot number in one of three tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A connection with a TCB.
    Connection(u32),
    /// A half-open request (`tcp/syn_queue.rs`).
    Request(u32),
    /// A TIME_WAIT record (`tcp/timewait.rs`).
    TimeWait(u32),
}

impl Owner {
    const INDEX_MASK: u32 = (1 << 30) - 1;

    /// The slot number, whatever the kind.
    pub(crate) const fn index(self) -> u32 {
        match self {
            Self::Connection(index) | Self::Request(index) | Self::TimeWait(index) => index,
        }
    }

    /// Kind and slot number in one word.
    pub(crate) const fn pack(self) -> u32 {
        match self {
            Self::Connection(index) => index & Self::INDEX_MASK,
            Self::Request(index) => index & Self::INDEX_MASK | 1 << 30,
            Self::TimeWait(index) => index & Self::INDEX_MASK | 2 << 30,
        }
    }

    /// The owner that `pack` packed.
    pub(crate) const fn unpack(packed: u32) -> Self {
        let index = packed & Self::INDEX_MASK;
        match packed >> 30 {
            0 => Self::Connection(index),
            1 => Self::Request(index),
            _ => Self::TimeWait(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_packing() {
        for owner in [
            Owner::Connection(0),
            Owner::Request(7),
            Owner::TimeWait((1 << 30) - 1),
        ] {
            assert_eq!(Owner::unpack(owner.pack()), owner);
        }
    }
}
