//! What an application can be told about a connection: a set of bits, so that news coalesce.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// News about a connection since they were last taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Ready(u16);

impl Ready {
    /// No news.
    pub const NONE: Self = Self(0);
    /// A peer opened this connection; the first news of a passive connection.
    pub const ACCEPTED: Self = Self(1);
    /// Our `connect` succeeded.
    pub const CONNECTED: Self = Self(1 << 1);
    /// Data waits to be read.
    pub const READABLE: Self = Self(1 << 2);
    /// The send buffer has room again after it was full.
    pub const WRITABLE: Self = Self(1 << 3);
    /// The peer closed its side; data before its FIN may still be unread.
    pub const PEER_CLOSED: Self = Self(1 << 4);
    /// Everything sent, the FIN included, was acknowledged.
    pub const ALL_ACKED: Self = Self(1 << 5);
    /// The peer reset the connection.
    pub const RESET: Self = Self(1 << 6);
    /// The peer did not answer in time.
    pub const TIMED_OUT: Self = Self(1 << 7);
    /// There is no way to the peer.
    pub const UNREACHABLE: Self = Self(1 << 8);
    /// The peer refused our `connect`.
    pub const REFUSED: Self = Self(1 << 9);
    /// The connection is gone; the last news.
    pub const CLOSED: Self = Self(1 << 10);

    /// Whether all of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These news without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no news.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits as a number.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

impl BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Ready, &str); 11] = [
            (Ready::ACCEPTED, "accepted"),
            (Ready::CONNECTED, "connected"),
            (Ready::READABLE, "readable"),
            (Ready::WRITABLE, "writable"),
            (Ready::PEER_CLOSED, "peer_closed"),
            (Ready::ALL_ACKED, "all_acked"),
            (Ready::RESET, "reset"),
            (Ready::TIMED_OUT, "timed_out"),
            (Ready::UNREACHABLE, "unreachable"),
            (Ready::REFUSED, "refused"),
            (Ready::CLOSED, "closed"),
        ];
        let mut set = f.debug_set();
        for (bit, name) in NAMES {
            if self.contains(bit) {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}
