//! The three deadlines of a connection.
//!
//! Three are enough because purposes exclude each other, as in Linux: retransmission (or what comes
//! before it: RACK's doubt, the tail probe) and zero-window probing need the opposite (data in
//! flight, none in flight), and keep-alive probing gives way to the FIN-WAIT-2 limit of an orphan. There is no list of timers and nothing to
//! cancel: `NEVER` is "off", and a wheel that fires early finds nothing due.

use millrace_base::{Instant, Nanos, Stamp};

/// What a timer of a connection does when it expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerKind {
    /// Sends the oldest segment in flight again (RFC 6298).
    Retransmit,
    /// Takes what may only be reordered for lost (RFC 8985).
    Reorder,
    /// Sends the last segment again, of which nothing was heard (RFC 8985 section 7).
    TailProbe,
    /// Asks for a closed window.
    WindowProbe,
    /// Sends the ACK that waited for data to travel with.
    DelayedAck,
    /// Sends the ACK that tells of segments out of order.
    CompressedAck,
    /// Lets the next burst of a paced connection leave.
    Pace,
    /// Asks a silent peer whether it is there.
    KeepAlive,
    /// Ends an orphan in FIN-WAIT-2.
    FinWait2,
}

/// What the first timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Something in flight is not acknowledged in time (RFC 6298).
    Retransmit,
    /// What is in flight may only be reordered, but not for much longer (RFC 8985).
    Reorder,
    /// Nothing was heard of the last segments (RFC 8985 section 7).
    TailProbe,
    /// The peer's window is closed and its opening may have been lost (RFC 9293 section 3.8.6.1).
    Probe,
}

/// When something is to be done although nothing arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    /// Retransmission or probing.
    pub(crate) retransmit: Stamp,
    /// The ACK that waits for company.
    pub(crate) delayed_ack: Stamp,
    /// Keep-alive, or the end of an orphan in FIN-WAIT-2.
    pub(crate) idle: Stamp,
    /// What `retransmit` is for.
    pub(crate) purpose: Purpose,
}

impl Timers {
    /// All off.
    pub(crate) const OFF: Self = Self {
        retransmit: Stamp::NEVER,
        delayed_ack: Stamp::NEVER,
        idle: Stamp::NEVER,
        purpose: Purpose::Retransmit,
    };

    /// Starts the first timer anew.
    #[inline]
    pub(crate) fn arm(&mut self, purpose: Purpose, now: Instant, span: Nanos) {
        self.purpose = purpose;
        self.retransmit = Stamp::not_before(now.after(span));
    }

    /// Whether the first timer runs for this purpose.
    #[inline]
    pub(crate) fn runs(&self, purpose: Purpose) -> bool {
        self.purpose == purpose && !self.retransmit.is_never()
    }

    /// Whether the first timer runs for what is in flight.
    #[inline]
    pub(crate) fn watches_flight(&self) -> bool {
        self.purpose != Purpose::Probe && !self.retransmit.is_never()
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn next(&self) -> Instant {
        Stamp::earliest([self.retransmit, self.delayed_ack, self.idle])
    }
}
