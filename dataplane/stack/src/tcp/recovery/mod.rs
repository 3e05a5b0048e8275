//! Loss: where a connection stands in recovering from it.
//!
//! ```text
//! scoreboard, ledger   what is known of sent data, and of the episode
//! alert                one ACK: state by state, in Linux's order
//! rack, reordering     what is lost, by time; how much reordering that allows for (RFC 8985)
//! reduction            how much may be sent meanwhile (RFC 6937)
//! modelled             the same where congestion control models the path
//! dsack, undo, frto    what shows that nothing was lost after all (RFC 2883, 3522, 5682)
//! deadline, tlp, rto   when an ACK does not come: probe the tail, then believe all lost (RFC 6298)
//! ```

mod alert;
mod deadline;
pub(crate) mod dsack;
mod frto;
pub(crate) mod ledger;
mod modelled;
mod rack;
pub(crate) mod reduction;
pub(crate) mod reordering;
pub(crate) mod rto;
pub(crate) mod scoreboard;
pub(crate) mod tlp;
mod undo;

use millrace_base::{SeqNumber, Stamp};

/// What the sender believes about the path, with Linux's names and numbers (`enum tcp_ca_state`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Nothing is known to be lost.
    Open = 0,
    /// Duplicate ACKs or SACKs came, or a probe was sent: loss or reordering.
    Disorder = 1,
    /// The window goes down because of congestion without loss (ECN, a tail that was lost).
    Cwr = 2,
    /// Fast recovery: lost segments are retransmitted, the ACK clock runs.
    Recovery = 3,
    /// After a timeout: what is not known to have arrived is presumed lost, slow start from one
    /// segment.
    Loss = 4,
}

/// Where a connection stands in an episode of loss.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct Recovery {
    /// SND.NXT when CWR, Recovery or Loss began: it ends when this is acknowledged.
    pub(crate) point: SeqNumber,
    /// When the connection last made progress before the first of the present timeouts.
    pub(crate) stalled_since: Stamp,
    pub(crate) phase: Phase,
    /// Duplicate ACKs without SACK (RFC 5681).
    pub(crate) dup_acks: u8,
    /// Timeouts in a row.
    pub(crate) timeouts: u8,
}

impl Recovery {
    /// No loss so far.
    pub(crate) fn new(iss: SeqNumber) -> Self {
        Self {
            point: iss,
            stalled_since: Stamp::NEVER,
            phase: Phase::Open,
            dup_acks: 0,
            timeouts: 0,
        }
    }
}
