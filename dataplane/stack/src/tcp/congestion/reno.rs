//! Reno: the reference everyone can check by hand (RFC 5681).

use super::contract::Cut;

/// What Reno remembers: segments acknowledged towards the next one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed)]
pub(super) struct Reno {
    credit: u32,
}

impl Reno {
    /// One segment per window of acknowledged segments (RFC 5681 section 3.1, RFC 3465).
    #[inline]
    pub(super) fn growth(&mut self, segments: u32, cwnd: u32) -> u32 {
        let (growth, credit) = additive(self.credit, cwnd, segments);
        self.credit = credit;
        growth
    }

    /// Half the window (RFC 5681 equation 4 with cwnd for FlightSize, as Linux has it); four fifths
    /// for a mild cut (RFC 8511 section 3.1).
    pub(super) fn ssthresh(&mut self, cwnd: u32, cut: Cut) -> u32 {
        self.credit = 0;
        match cut {
            Cut::Full => cwnd / 2,
            Cut::Mild => cwnd.saturating_sub(cwnd.div_ceil(5)),
        }
    }
}

/// Additive increase: one segment for every `per` that are acknowledged. Returns by how many
/// segments the window grows, and the credit towards the next (Linux: `tcp_cong_avoid_ai`).
#[inline]
pub(super) fn additive(credit: u32, per: u32, segments: u32) -> (u32, u32) {
    let per = per.max(1);
    // What was saved while a segment cost more is good for one now, not for several.
    let (first, credit) = if credit >= per { (1, 0) } else { (0, credit) };
    let credit = credit.saturating_add(segments);
    if credit < per {
        return (first, credit);
    }
    let more = credit.checked_div(per).unwrap_or(0);
    let rest = credit.checked_rem(per).unwrap_or(0);
    (more.saturating_add(first), rest)
}
