//! The eleven states of a connection (RFC 9293 section 3.3.2) and what each allows.
//!
//! LISTEN lives in the listener table, SYN-RECEIVED of a passive open in the half-open table and
//! TIME-WAIT in the record table; a `Connection` is in SYN-RECEIVED for the length of one segment
//! (the final ACK) or after a simultaneous open.

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// Waits for a connection request; never the state of a `Connection` here.
    Listen,
    /// Has sent a SYN.
    SynSent,
    /// Has sent and received a SYN, and waits for the ACK of its own.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// Has closed its side; the FIN is not yet acknowledged.
    FinWait1,
    /// Its FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer has closed its side; this side may still send.
    CloseWait,
    /// Both have closed at once; its FIN is not yet acknowledged.
    Closing,
    /// The peer closed first, then this side; its FIN is not yet acknowledged.
    LastAck,
    /// Both are done; waits for old segments to die out.
    TimeWait,
}

impl State {
    /// Whether both SYNs have been exchanged.
    #[inline]
    pub const fn is_synchronized(self) -> bool {
        !matches!(
            self,
            Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived
        )
    }

    /// Whether the application may still queue data (RFC 9293 section 3.10.2).
    #[inline]
    pub const fn accepts_data_to_send(self) -> bool {
        matches!(
            self,
            Self::SynSent | Self::SynReceived | Self::Established | Self::CloseWait
        )
    }

    /// Whether queued data may be transmitted for the first time or again.
    #[inline]
    pub const fn may_transmit_data(self) -> bool {
        matches!(
            self,
            Self::Established | Self::CloseWait | Self::FinWait1 | Self::Closing | Self::LastAck
        )
    }

    /// Whether the peer may still send data.
    #[inline]
    pub const fn may_receive_data(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Whether this side has closed: a FIN is queued or sent.
    #[inline]
    pub const fn has_closed(self) -> bool {
        matches!(
            self,
            Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck | Self::TimeWait
        )
    }

    /// The state after the application has closed its side (RFC 9293 section 3.10.4); the same one
    /// when closing changes nothing.
    #[must_use]
    pub const fn after_close(self) -> Self {
        match self {
            Self::SynReceived | Self::Established => Self::FinWait1,
            Self::CloseWait => Self::LastAck,
            Self::Closed | Self::Listen | Self::SynSent => Self::Closed,
            Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck | Self::TimeWait => {
                self
            }
        }
    }

    /// The state after the peer's FIN was received in order (RFC 9293 section 3.10.7.4, eighth);
    /// `fin_acked` tells whether our own FIN is acknowledged.
    #[must_use]
    pub const fn after_peer_fin(self, fin_acked: bool) -> Self {
        match self {
            Self::SynReceived | Self::Established => Self::CloseWait,
            Self::FinWait1 if fin_acked => Self::TimeWait,
            Self::FinWait1 => Self::Closing,
            Self::FinWait2 => Self::TimeWait,
            Self::Closed
            | Self::Listen
            | Self::SynSent
            | Self::CloseWait
            | Self::Closing
            | Self::LastAck
            | Self::TimeWait => self,
        }
    }

    /// The state after our FIN was acknowledged (RFC 9293 section 3.10.7.4, fifth).
    #[must_use]
    pub const fn after_fin_acked(self) -> Self {
        match self {
            Self::FinWait1 => Self::FinWait2,
            Self::Closing => Self::TimeWait,
            Self::LastAck => Self::Closed,
            Self::Closed
            | Self::Listen
            | Self::SynSent
            | Self::SynReceived
            | Self::Established
            | Self::FinWait2
            | Self::CloseWait
            | Self::TimeWait => self,
        }
    }

    /// The state's name as `ss` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "UNCONN",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECV",
            Self::Established => "ESTAB",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;

    // RFC 9293 section 3.3.2, figure 5: every way to close ends where the figure says.
    // behaviour: STA-27, STA-41
    #[test]
    fn closing_follows_the_figure() {
        assert_eq!(
            Established
                .after_close()
                .after_fin_acked()
                .after_peer_fin(true),
            TimeWait
        );
        assert_eq!(
            Established
                .after_close()
                .after_peer_fin(false)
                .after_fin_acked(),
            TimeWait
        );
        assert_eq!(Established.after_close().after_peer_fin(true), TimeWait);
        assert_eq!(
            Established
                .after_peer_fin(false)
                .after_close()
                .after_fin_acked(),
            Closed
        );
        assert_eq!(SynReceived.after_close(), FinWait1);
        assert_eq!(SynSent.after_close(), Closed);
    }

    // behaviour: A27-2, STA-27, STA-29, STA-41
    #[test]
    fn a_second_fin_or_close_changes_nothing() {
        for state in [CloseWait, Closing, LastAck, TimeWait] {
            assert_eq!(state.after_peer_fin(false), state);
        }
        for state in [FinWait1, FinWait2, Closing, LastAck, TimeWait] {
            assert_eq!(state.after_close(), state);
            assert!(state.has_closed() && !state.accepts_data_to_send());
        }
    }
}
