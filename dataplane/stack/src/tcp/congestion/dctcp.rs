//! DCTCP: the window goes down by as much as was marked, so that a queue that marks early stays
//! short (RFC 8257; Linux: `tcp_dctcp.c`).
//!
//! The sender's half: what part of each window was marked, averaged (alpha), and what that does to
//! the threshold. Growth is Reno's. Which marks are echoed when is the receiver's half
//! (`ecn/follower.rs`); that both ends have agreed on ECN is seen to before (`ecn.rs`): without,
//! nothing is ever marked, alpha stays as it began, and this is Reno.

use millrace_base::SeqNumber;

use super::contract::AckEvent;
use super::reno::additive;

/// Alpha is in 1/1024 (Linux: `DCTCP_MAX_ALPHA`).
pub(super) const ALPHA_MAX: u16 = 1 << ALPHA_BITS;
const ALPHA_BITS: u32 = 10;

/// The knobs of DCTCP, under the names of Linux's module parameters
/// (`/sys/module/tcp_dctcp/parameters`) and with their defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DctcpParameters {
    /// g, the weight of the last window in the average, is 2 to the minus this: 0..=10. Default 4.
    pub dctcp_shift_g: u8,
    /// What alpha begins with, in 1/1024: 0..=1,024. Default 1,024: the first mark halves.
    pub dctcp_alpha_on_init: u16,
}

impl Default for DctcpParameters {
    fn default() -> Self {
        Self::LINUX
    }
}

impl DctcpParameters {
    /// Linux's defaults.
    pub(crate) const LINUX: Self = Self {
        dctcp_shift_g: 4,
        dctcp_alpha_on_init: ALPHA_MAX,
    };
}

/// What `TCP_CC_INFO` tells of DCTCP (Linux: `struct tcp_dctcp_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DctcpInfo {
    /// Both ends speak ECN: otherwise it is Reno.
    pub enabled: bool,
    /// The last data that came were marked.
    pub ce_state: bool,
    /// The part that is marked, in 1/1024.
    pub alpha: u32,
    /// Bytes of this window that arrived marked.
    pub marked_bytes: u32,
    /// Bytes of this window that arrived.
    pub total_bytes: u32,
}

/// What DCTCP knows of a connection beside its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dctcp {
    /// The average part of a window that is marked, in 1/1024.
    alpha: u16,
    /// The window is over when this is acknowledged.
    window_end: SeqNumber,
    /// Segments of this window that arrived, and those of them that were marked.
    delivered: u32,
    marked: u32,
    /// Segments acknowledged towards the next one of the window, as for Reno.
    credit: u32,
    /// Both ends speak ECN.
    has_ecn: bool,
}

impl Dctcp {
    /// At the beginning of a window.
    pub(super) fn new(rules: DctcpParameters, una: SeqNumber) -> Self {
        Self {
            alpha: rules.dctcp_alpha_on_init.min(ALPHA_MAX),
            window_end: una,
            delivered: 0,
            marked: 0,
            credit: 0,
            has_ecn: false,
        }
    }

    /// An ACK came (Linux: `dctcp_update_alpha`).
    //= https://www.rfc-editor.org/rfc/rfc8257#section-3.3
    //# DCTCP.Alpha = DCTCP.Alpha * (1 - g) + g * M
    pub(super) fn on_ack(&mut self, event: &AckEvent) {
        self.has_ecn = true;
        self.delivered = self.delivered.wrapping_add(event.delivered);
        self.marked = self.marked.wrapping_add(event.marked);
        if event.una.before(self.window_end) {
            return;
        }
        let shift = u32::from(event.rules.dctcp_shift_g).min(ALPHA_BITS);
        let alpha = u32::from(self.alpha);
        // What is too small to be divided goes away at once.
        let share = alpha.checked_shr(shift).unwrap_or(0);
        let kept = if share == 0 {
            0
        } else {
            alpha.saturating_sub(share)
        };
        let scale = ALPHA_BITS.saturating_sub(shift);
        let marked = u64::from(self.marked).checked_shl(scale).unwrap_or(0);
        let part = marked
            .checked_div(u64::from(self.delivered.max(1)))
            .unwrap_or(0);
        let alpha = u64::from(kept).saturating_add(part);
        self.alpha = alpha.min(u64::from(ALPHA_MAX)) as u16;
        self.window_end = event.nxt;
        (self.delivered, self.marked) = (0, 0);
    }

    /// The threshold after a mark; without ECN, Reno's.
    //= https://www.rfc-editor.org/rfc/rfc8257#section-3.3
    //# cwnd = cwnd * (1 - DCTCP.Alpha / 2)
    pub(super) fn ssthresh(&mut self, cwnd: u32) -> u32 {
        self.credit = 0;
        if self.has_ecn {
            reduced(cwnd, self.alpha)
        } else {
            halved(cwnd)
        }
    }

    /// One segment per window of acknowledged segments.
    pub(super) fn growth(&mut self, segments: u32, cwnd: u32) -> u32 {
        let (growth, credit) = additive(self.credit, cwnd, segments);
        self.credit = credit;
        growth
    }

    /// The part that is marked, in 1/1024, and segments of this window: marked and all.
    pub(super) const fn told(&self) -> (u16, u32, u32) {
        (self.alpha, self.marked, self.delivered)
    }
}

/// A window of so many segments, reduced by half of `alpha`.
pub(super) fn reduced(cwnd: u32, alpha: u16) -> u32 {
    let cut = u64::from(cwnd).saturating_mul(alpha.into()) >> (ALPHA_BITS + 1);
    cwnd.saturating_sub(cut as u32)
}

/// What a loss makes of a window, however much was marked.
//= https://www.rfc-editor.org/rfc/rfc8257#section-3.5
//# A DCTCP sender MUST react to loss episodes in the same way as conventional TCP
pub(super) const fn halved(cwnd: u32) -> u32 {
    if cwnd / 2 > 2 { cwnd / 2 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: DctcpParameters = DctcpParameters::LINUX;

    fn ack(delivered: u32, marked: u32, una: u32, nxt: u32) -> AckEvent {
        AckEvent {
            delivered,
            marked,
            is_capable: true,
            rules: RULES,
            una: SeqNumber::new(una),
            nxt: SeqNumber::new(nxt),
        }
    }

    fn fresh() -> Dctcp {
        Dctcp::new(RULES, SeqNumber::new(0))
    }

    // RFC 8257 section 3.3 with g = 1/16.
    #[test]
    fn alpha_follows_the_part_that_is_marked() {
        let mut dctcp = fresh();
        assert_eq!(dctcp.alpha, 1_024);
        dctcp.on_ack(&ack(10, 0, 0, 10));
        assert_eq!(dctcp.alpha, 960);
        // Within a window it stays.
        dctcp.on_ack(&ack(5, 5, 5, 20));
        assert_eq!(dctcp.alpha, 960);
        dctcp.on_ack(&ack(5, 0, 10, 20));
        assert_eq!(dctcp.alpha, 960 - 60 + 32, "half of ten were marked");
        for _ in 0..200 {
            let at = dctcp.window_end.value();
            dctcp.on_ack(&ack(16, 4, at, at + 10));
        }
        assert!((240..=272).contains(&dctcp.alpha), "{}", dctcp.alpha);
        for _ in 0..200 {
            let at = dctcp.window_end.value();
            dctcp.on_ack(&ack(16, 0, at, at + 10));
        }
        assert_eq!(dctcp.alpha, 0, "it does not stay at the last sixteenths");
    }

    #[test]
    fn a_window_goes_down_by_half_of_the_part_that_is_marked() {
        for (alpha, window) in [(1_024, 50), (512, 75), (102, 96), (0, 100)] {
            let mut dctcp = fresh();
            (dctcp.alpha, dctcp.has_ecn) = (alpha, true);
            assert_eq!(dctcp.ssthresh(100), window, "{alpha}");
        }
        assert_eq!((halved(100), halved(3)), (50, 2));
    }

    // The knobs: how fast the average moves, and where it begins.
    #[test]
    fn the_weight_and_the_beginning_can_be_chosen() {
        let rules = DctcpParameters {
            dctcp_shift_g: 1,
            dctcp_alpha_on_init: 100,
        };
        let mut dctcp = Dctcp::new(rules, SeqNumber::new(0));
        assert_eq!(dctcp.alpha, 100);
        let event = AckEvent {
            rules,
            ..ack(4, 4, 0, 4)
        };
        dctcp.on_ack(&event);
        assert_eq!(dctcp.alpha, 50 + 512);
    }

    proptest! {
        // Alpha is a part; whatever comes, a window goes down by half at the most and never up.
        #[test]
        fn alpha_is_a_part_of_one(
            acks in prop::collection::vec((0u32..5_000, 0u32..5_000, 0u32..3), 0..300),
            cwnd in 2u32..1_000_000, shift in 0u8..=20,
        ) {
            let mut dctcp = fresh();
            let mut una = 0;
            for (delivered, marked, step) in acks {
                una += step;
                let mut event = ack(delivered, marked.min(delivered), una, una + 2);
                event.rules.dctcp_shift_g = shift;
                dctcp.on_ack(&event);
                prop_assert!(dctcp.alpha <= ALPHA_MAX);
                let after = dctcp.ssthresh(cwnd);
                prop_assert!(after <= cwnd && after >= cwnd / 2, "{cwnd} to {after}");
            }
        }
    }
}
