//! What is turned away, and in which order, when packet buffers or connections run short.
//!
//! New connections go first: a client that hears nothing sends its SYN again, and nobody has lost
//! anything. Payload that would have to be queued goes next, and only the payload: the ACK it came
//! with is taken, because it sets buffers free, and the peer sends the bytes again. ACKs, RSTs and
//! what comes from control are never turned away; the driver keeps buffers for them. Nothing here
//! knows what a buffer is: the driver counts what is free and says how short it is.

use millrace_base::{Instant, Key, PacketPool};

use crate::limits::{SHORT_OF_CHUNKS_SHARE, SHORT_OF_NEW_WORK_SHARE, SHORT_OF_PAYLOAD_SHARE};
use crate::stack::Stack;
use crate::tcp::Env;
use crate::verdict::DropReason;

/// Bytes that every connection may have queued to send, however short memory is (Linux:
/// `SOCK_MIN_SNDBUF`).
const SEND_BUFFER_MIN: u32 = 4_608;

/// How short packet buffers are. Ordered: later ones are shorter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Shortage {
    /// Enough for everything.
    #[default]
    None,
    /// What is left is for connections that exist: SYNs are dropped.
    NewWork,
    /// What is left is for ACKs, RSTs and control: payload to be queued is dropped too.
    Payload,
}

/// Below how many free buffers there is a shortage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    new_work: usize,
    payload: usize,
}

impl Watermarks {
    /// The watermarks of a pool in which so many buffers are free while nothing goes on: an eighth
    /// and a thirty-second of them.
    pub const fn of(free_at_rest: usize) -> Self {
        Self {
            new_work: free_at_rest / SHORT_OF_NEW_WORK_SHARE,
            payload: free_at_rest / SHORT_OF_PAYLOAD_SHARE,
        }
    }

    /// How short buffers are when so many are free.
    #[inline]
    pub const fn judge(&self, free: usize) -> Shortage {
        if free < self.payload {
            Shortage::Payload
        } else if free < self.new_work {
            Shortage::NewWork
        } else {
            Shortage::None
        }
    }
}

impl<P: PacketPool> Stack<P> {
    /// Says how short packet buffers are; holds until it is said again.
    #[inline]
    pub fn set_shortage(&mut self, shortage: Shortage) {
        self.shortage = shortage;
    }

    /// How short packet buffers were said to be.
    pub const fn shortage(&self) -> Shortage {
        self.shortage
    }

    /// Keeps so many connections for those that we open ourselves: every client that is let in needs
    /// one to a backend, and a probe must not fail because the house is full.
    pub fn reserve_connections(&mut self, count: usize) {
        self.connections_reserved = count;
    }

    /// Whether no further client can have a connection.
    pub(crate) fn is_full_for_clients(&mut self) -> bool {
        let taken = self.connections.len();
        taken.saturating_add(self.connections_reserved) >= self.connections.capacity()
            || !self.has_desk_for_client()
    }

    /// Why a SYN is turned away without an answer; `None` lets it in.
    pub(crate) fn sheds_new_work(&mut self) -> Option<DropReason> {
        if self.connections_reserved > 0 && self.is_full_for_clients() {
            return Some(DropReason::SynShedConnections);
        }
        let is_short =
            self.shortage >= Shortage::NewWork || self.chunks.is_nearly_full(SHORT_OF_CHUNKS_SHARE);
        is_short.then_some(DropReason::SynShedBuffers)
    }

    /// Gives up a connection whose application is gone when there are too many of them, or no memory
    /// for what it has queued (Linux: `tcp_check_oom`). `harshly` when it must retransmit: then a
    /// silent one counts double. Tells whether it went. behaviour: A25-18
    pub(crate) fn sheds_orphan(&mut self, now: Instant, key: Key, harshly: bool) -> bool {
        let max = match self.tunables.tcp_max_orphans {
            Some(max) => u64::from(max),
            // behaviour: A1-12
            None => self.connections.desks() as u64 / 2,
        };
        let orphans = self.orphans as u64;
        let has_no_memory = self.chunks.is_nearly_full(SHORT_OF_PAYLOAD_SHARE);
        let Some(slot) = self.connections.get_mut(key).filter(|slot| !slot.meta.over) else {
            return false;
        };
        let connection = &mut slot.connection;
        let penalty = if harshly {
            connection.orphan_penalty(now, &self.tunables)
        } else {
            0
        };
        let too_many = orphans << penalty > max;
        let too_large = has_no_memory && connection.queued_to_send() > SEND_BUFFER_MIN;
        if !too_many && !too_large {
            return false;
        }
        let mut env = Env {
            now,
            pool: &mut Self::no_pool(),
            chunks: &mut self.chunks,
            stats: &mut self.stats,
            tunables: &self.tunables,
        };
        let tuple = *connection.tuple();
        let signing = connection.signing_key(env.chunks).copied();
        let farewell = connection.farewell(&mut env);
        let disposition = connection.shed_orphan(&mut env);
        if let Some(header) = farewell {
            self.owe(tuple, header, signing.as_ref());
        }
        self.settle(now, key, disposition);
        true
    }

    /// Whether payload that arrives now is turned away.
    #[inline]
    pub(crate) fn sheds_payload(&self) -> bool {
        self.shortage >= Shortage::Payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_a_greater_shortage() {
        let marks = Watermarks::of(3_200);
        let cases = [
            (3_200, Shortage::None),
            (400, Shortage::None),
            (399, Shortage::NewWork),
            (100, Shortage::NewWork),
            (99, Shortage::Payload),
            (0, Shortage::Payload),
        ];
        for (free, expected) in cases {
            assert_eq!(marks.judge(free), expected, "{free} free");
        }
        // A pool of nothing has no watermarks to fall below.
        assert_eq!(Watermarks::of(0).judge(0), Shortage::None);
    }
}
