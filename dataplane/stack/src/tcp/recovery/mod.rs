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

/// The state of one episode of loss.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct Recovery {
    /// SND.NXT when the episode began: it ends when this is acknowledged.
    pub(crate) point: SeqNumber,
    /// Bytes the peer got since then, and bytes sent since then (RFC 6937).
    pub(crate) delivered: u32,
    pub(crate) sent: u32,
    /// The window when it began.
    pub(crate) flight_at_start: u32,
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
            delivered: 0,
            sent: 0,
            flight_at_start: 0,
            stalled_since: Stamp::NEVER,
            phase: Phase::Open,
            dup_acks: 0,
            timeouts: 0,
            forced: false,
        }
    }

    /// The window that proportional rate reduction allows after an ACK that delivered `delivered`
    /// bytes.
    ///
    /// `flight` is what is in flight now; `progress` whether SND.UNA advanced without new loss.
    //= https://www.rfc-editor.org/rfc/rfc6937#section-3
    //# sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
    pub(crate) fn proportional_window(
        &mut self,
        delivered: u32,
        flight: u32,
        ssthresh: u32,
        mss: u32,
        progress: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let allowed = if flight > ssthresh {
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
        };
        // The fast retransmit is always allowed.
        let allowed = if self.forced {
            allowed.max(mss)
        } else {
            allowed
        };
        flight.saturating_add(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6937 section 3: the window glides down to ssthresh while half of it is delivered.
    #[test]
    fn half_of_what_arrives_may_leave_until_the_threshold_is_reached() {
        let mut recovery = Recovery::new(SeqNumber::new(0));
        recovery.flight_at_start = 20_000;
        let mut flight = 19_000u32;
        let mut out = 0;
        for _ in 0..18 {
            flight -= 1_000;
            let window = recovery.proportional_window(1_000, flight, 10_000, 1_000, false);
            while flight + 1_000 <= window {
                flight += 1_000;
                recovery.sent += 1_000;
                out += 1;
            }
        }
        assert!((8..=10).contains(&out), "{out} of 18");
        assert!(flight <= 10_000);
    }
}
