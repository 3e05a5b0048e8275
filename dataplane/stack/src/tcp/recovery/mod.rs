//! Loss: where a connection stands in recovering from it.
//!
//! `scoreboard` knows what is lost, `fast_retransmit` decides by duplicate ACKs and SACK that
//! something is, `rto` by time. How much may be sent meanwhile follows proportional rate reduction
//! (RFC 6937). Not here yet: RACK and tail loss probes (RFC 8985), undoing a spurious reduction
//! (RFC 3522, RFC 5682).

pub(crate) mod fast_retransmit;
pub(crate) mod rto;
pub(crate) mod scoreboard;

use millrace_base::{SeqNumber, Stamp};

/// What the sender believes about the path (Linux: `tcp_ca_state` without Disorder and CWR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Fast recovery: lost segments are retransmitted, the ACK clock runs.
    Recovery,
    /// After a timeout: everything is presumed lost, slow start from one segment.
    Loss,
}

/// Where a connection stands in an episode of loss.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct Recovery {
    /// SND.NXT when the episode began: it ends when this is acknowledged.
    pub(crate) point: SeqNumber,
    /// When the connection last made progress before the first of the present timeouts.
    pub(crate) stalled_since: Stamp,
    pub(crate) phase: Phase,
    /// Duplicate ACKs without SACK (RFC 5681).
    pub(crate) dup_acks: u8,
    /// Timeouts in a row.
    pub(crate) timeouts: u8,
    /// One retransmission may leave whatever the window says: the fast retransmit itself.
    pub(crate) forced: bool,
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
            forced: false,
        }
    }
}

/// Proportional rate reduction in one fast recovery (RFC 6937).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reduction {
    /// Bytes the peer got since it began, and bytes sent since then.
    delivered: u32,
    pub(crate) sent: u32,
    /// The window when it began.
    flight_at_start: u32,
}

impl Reduction {
    /// Recovery begins with this window.
    pub(crate) fn new(flight_at_start: u32) -> Self {
        Self {
            flight_at_start,
            ..Self::default()
        }
    }

    /// The bytes that may leave after an ACK that delivered `delivered` bytes.
    ///
    /// `flight` is what is in flight now; `progress` whether SND.UNA advanced without new loss.
    //= https://www.rfc-editor.org/rfc/rfc6937#section-3
    //# sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
    pub(crate) fn allowance(
        &mut self,
        delivered: u32,
        flight: u32,
        ssthresh: u32,
        mss: u32,
        progress: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        if flight > ssthresh {
            let scaled = u64::from(self.delivered).saturating_mul(u64::from(ssthresh));
            let share = scaled.div_ceil(u64::from(self.flight_at_start.max(1)));
            (share.min(u64::from(u32::MAX)) as u32).saturating_sub(self.sent)
        } else {
            let mut bound = self.delivered.saturating_sub(self.sent).max(delivered);
            if progress {
                // The slow-start reduction bound; without progress only packet conservation.
                bound = bound.saturating_add(mss);
            }
            ssthresh.saturating_sub(flight).min(bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6937 section 3: the window glides down to ssthresh while half of it is delivered.
    // behaviour: X8-13
    #[test]
    fn half_of_what_arrives_may_leave_until_the_threshold_is_reached() {
        let mut reduction = Reduction::new(20_000);
        let mut flight = 19_000u32;
        let mut out = 0;
        for _ in 0..18 {
            flight -= 1_000;
            let window = flight + reduction.allowance(1_000, flight, 10_000, 1_000, false);
            while flight + 1_000 <= window {
                flight += 1_000;
                reduction.sent += 1_000;
                out += 1;
            }
        }
        assert!((8..=10).contains(&out), "{out} of 18");
        assert!(flight <= 10_000);
    }
}
