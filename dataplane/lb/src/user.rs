//! The user word of a flow: whose connection it is.
//!
//! The stack gives every event back with a `u64` that we chose. It names a slot of ours, the slot's
//! generation (so that an event of a dead session finds nothing even when its slot is taken again)
//! and which of the slot's flows it is:
//!
//! ```text
//!  63                          32 31  30 29                          0
//! +------------------------------+------+-----------------------------+
//! |          generation          | kind |         slot number         |
//! +------------------------------+------+-----------------------------+
//! ```
//!
//! The slab's key already is generation and index; `limits.rs` keeps slot numbers below 2^30, which
//! frees two bits. The word 0 is what a flow has that nobody has claimed.

use millrace_base::Key;

use crate::limits::SLOT_BITS;

/// Whose flow it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// Nobody has claimed it: it was just accepted.
    Nobody,
    /// A session's connection with its client.
    Client(Key),
    /// A session's connection with its backend.
    Server(Key),
    /// A health probe's connection.
    Probe(Key),
}

const KIND_MASK: u64 = 0b11 << SLOT_BITS;
const CLIENT: u64 = 1 << SLOT_BITS;
const SERVER: u64 = 2 << SLOT_BITS;
const PROBE: u64 = 3 << SLOT_BITS;
// Kind and slot number fill the lower half, the generation has the upper one to itself.
const _: () = assert!(KIND_MASK == 0xc000_0000);

impl Owner {
    /// The word that stands for this owner.
    pub(crate) const fn to_bits(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Client(key) => key.to_bits() | CLIENT,
            Self::Server(key) => key.to_bits() | SERVER,
            Self::Probe(key) => key.to_bits() | PROBE,
        }
    }

    /// The owner that this word stands for.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        let key = Key::from_bits(bits & !KIND_MASK);
        match bits & KIND_MASK {
            CLIENT => Self::Client(key),
            SERVER => Self::Server(key),
            PROBE => Self::Probe(key),
            _ => Self::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Slab;

    #[test]
    fn every_kind_comes_back_with_its_key() {
        let mut slab = Slab::new(3);
        for round in 0..5 {
            let key = slab.insert(round).expect("room");
            for owner in [Owner::Client(key), Owner::Server(key), Owner::Probe(key)] {
                assert_eq!(Owner::from_bits(owner.to_bits()), owner);
                assert_ne!(owner.to_bits(), Owner::Nobody.to_bits());
            }
            slab.remove(key);
        }
        assert_eq!(Owner::from_bits(0), Owner::Nobody);
    }
}
