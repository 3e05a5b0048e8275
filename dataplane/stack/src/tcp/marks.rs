//! Yes-or-no facts of a connection that are rarely asked, packed into one byte.

/// A set of marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marks(u8);

impl Marks {
    /// The peer's FIN came before its turn.
    pub(crate) const PEER_FIN_CAME: Self = Self(1 << 0);
    /// Our FIN may have been lost.
    pub(crate) const FIN_LOST: Self = Self(1 << 1);
    /// The peer opened this connection.
    pub(crate) const PASSIVE: Self = Self(1 << 2);
    /// The application was refused room in the send buffer.
    pub(crate) const SEND_WAS_FULL: Self = Self(1 << 3);
    /// A window or keep-alive probe is to be sent.
    pub(crate) const PROBE_PENDING: Self = Self(1 << 4);
    /// The application said that it will read no more (`shutdown` of the receiving side).
    pub(crate) const DEAF: Self = Self(1 << 5);
    /// Made of a SYN by Fast Open; the peer's ACK of our SYN-ACK has not come.
    pub(crate) const UNPROVEN: Self = Self(1 << 7);
    /// The peer's window, not the path, bounds the segment size.
    pub(crate) const MSS_BOUND: Self = Self(1 << 6);

    /// Whether all of `marks` are set.
    #[inline]
    pub(crate) const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// Sets `marks`.
    #[inline]
    pub(crate) const fn set(&mut self, marks: Self) {
        self.0 |= marks.0;
    }

    /// Clears `marks`.
    #[inline]
    pub(crate) const fn clear(&mut self, marks: Self) {
        self.0 &= !marks.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_and_cleared_by_itself() {
        let mut marks = Marks::default();
        marks.set(Marks::PASSIVE);
        marks.set(Marks::FIN_LOST);
        marks.clear(Marks::FIN_LOST);
        assert!(marks.has(Marks::PASSIVE) && !marks.has(Marks::FIN_LOST));
    }
}
