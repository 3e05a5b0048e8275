//! Proportional rate reduction: how the window goes down in CWR and Recovery (RFC 6937 with the
//! changes of its revision, as in Linux since 6.5).
//!
//! Counted in segments, as Linux counts: a share of a segment that may leave is a segment.

/// Proportional rate reduction in one episode.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reduction {
    /// Segments the peer got since it began, and segments sent since then.
    delivered: u32,
    pub(crate) sent: u32,
    /// The window when it began.
    window_before: u32,
}

/// What one ACK says to a reduction, in segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Segments this ACK delivered.
    pub(crate) delivered: u32,
    /// Segments in flight now.
    pub(crate) flight: u32,
    /// The slow-start threshold.
    pub(crate) ssthresh: u32,
    /// SND.UNA advanced and nothing was found lost.
    pub(crate) is_good: bool,
}

impl Reduction {
    /// A reduction begins at a window of so many segments.
    pub(crate) fn new(window_before: u32) -> Self {
        Self {
            window_before,
            ..Self::default()
        }
    }

    /// Segments that may leave now; `None` when the ACK delivered nothing and so changes nothing.
    //= https://www.rfc-editor.org/rfc/rfc6937#section-3
    //# sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
    pub(crate) fn allowance(&mut self, progress: Progress) -> Option<u32> {
        let Progress {
            delivered,
            flight,
            ssthresh,
            is_good,
        } = progress;
        if delivered == 0 {
            return None;
        }
        self.delivered = self.delivered.saturating_add(delivered);
        let allowed = if flight > ssthresh {
            let scaled = u64::from(self.delivered).saturating_mul(u64::from(ssthresh));
            let share = scaled.div_ceil(u64::from(self.window_before.max(1)));
            (share.min(u64::from(u32::MAX)) as u32).saturating_sub(self.sent)
        } else {
            let mut bound = self.delivered.saturating_sub(self.sent).max(delivered);
            if is_good {
                // The slow-start reduction bound; without progress only packet conservation.
                bound = bound.saturating_add(1);
            }
            ssthresh.saturating_sub(flight).min(bound)
        };
        // The fast retransmit itself may always leave.
        Some(allowed.max(u32::from(self.sent == 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6937 section 3: the window glides down to ssthresh while half of it is delivered.
    // behaviour: X8-13
    #[test]
    fn half_of_what_arrives_may_leave_until_the_threshold_is_reached() {
        let mut reduction = Reduction::new(20);
        let mut flight = 19u32;
        let mut out = 0;
        for _ in 0..18 {
            flight -= 1;
            let progress = Progress {
                delivered: 1,
                flight,
                ssthresh: 10,
                is_good: false,
            };
            let allowed = reduction.allowance(progress).expect("delivered");
            flight += allowed;
            reduction.sent += allowed;
            out += allowed;
        }
        assert!((8..=10).contains(&out), "{out} of 18");
        assert!(flight <= 10);
    }

    // Below the threshold, packet conservation, and one more when the ACK shows progress.
    #[test]
    fn below_the_threshold_progress_opens_by_one_more() {
        let mut reduction = Reduction::new(10);
        reduction.sent = 1;
        let mut progress = Progress {
            delivered: 1,
            flight: 3,
            ssthresh: 7,
            is_good: false,
        };
        assert_eq!(reduction.allowance(progress), Some(1));
        reduction.sent = 2;
        progress.is_good = true;
        assert_eq!(reduction.allowance(progress), Some(2));
        progress.delivered = 0;
        assert_eq!(reduction.allowance(progress), None, "nothing was delivered");
    }
}
