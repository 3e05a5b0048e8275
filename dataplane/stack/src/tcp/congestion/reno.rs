//! Reno: the reference everyone can check by hand (RFC 5681).

use super::Acked;

/// What Reno remembers: bytes acknowledged towards the next segment.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed)]
pub(super) struct Reno {
    acked: u32,
}

impl Reno {
    /// One segment per window of acknowledged bytes (RFC 5681 section 3.1, RFC 3465).
    #[inline]
    pub(super) fn growth(&mut self, acked: Acked, cwnd: u32, mss: u32) -> u32 {
        self.acked = self.acked.saturating_add(acked.bytes);
        if self.acked < cwnd {
            return 0;
        }
        self.acked = self.acked.saturating_sub(cwnd).min(cwnd);
        mss
    }

    /// Half the window (RFC 5681 equation 4 with cwnd for FlightSize, as Linux has it).
    pub(super) fn ssthresh(&mut self, cwnd: u32) -> u32 {
        self.acked = 0;
        cwnd / 2
    }
}
