//! The knobs of CUBIC, under the names of Linux's module parameters
//! (`/sys/module/tcp_cubic/parameters`) and with their defaults.

/// Values that hold for every CUBIC connection of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CubicParameters {
    /// After a loss below the last maximum, aim lower than it (RFC 9438 section 4.7). Default on.
    pub fast_convergence: bool,
    /// What a window is multiplied by on loss, in 1/1024: 1..=1,023. Default 717.
    pub beta: u16,
    /// The threshold of a connection when `hystart` is off, in segments; 0 is none. Default 0.
    pub initial_ssthresh: u32,
    /// C, the steepness of the cubic, in 1/1024: 1..=65,535. Default 41, which with a round trip
    /// fixed at 100 ms is 0.4.
    pub bic_scale: u16,
    /// Grow at least as fast as Reno (RFC 9438 section 4.3). Default on.
    pub tcp_friendliness: bool,
    /// Leave slow start before something is lost (RFC 9406's predecessor). Default on.
    pub hystart: bool,
    /// With `hystart`: do so by HyStart++ (RFC 9406), which opens the window more slowly first and
    /// comes back when that was wrong. `hystart_detect`, `hystart_low_window` and
    /// `hystart_ack_delta_us` mean nothing then. Linux has no such parameter. Default off.
    pub hystart_plus: bool,
    /// By what: 1 trains of ACKs, 2 delay, 3 both. Default 3.
    pub hystart_detect: u8,
    /// Segments in the window from which on slow start is watched. Default 16.
    pub hystart_low_window: u32,
    /// Microseconds between two ACKs of one train. Default 2,000.
    pub hystart_ack_delta_us: u32,
}

impl Default for CubicParameters {
    fn default() -> Self {
        Self::LINUX
    }
}

impl CubicParameters {
    /// Linux's defaults.
    pub(crate) const LINUX: Self = Self {
        fast_convergence: true,
        beta: 717,
        initial_ssthresh: 0,
        bic_scale: 41,
        tcp_friendliness: true,
        hystart: true,
        hystart_plus: false,
        hystart_detect: 3,
        hystart_low_window: 16,
        hystart_ack_delta_us: 2_000,
    };

    /// `hystart_detect`: trains of ACKs.
    pub(super) const ACK_TRAIN: u8 = 1;
    /// `hystart_detect`: delay.
    pub(super) const DELAY: u8 = 2;

    /// Segments in the window from which on slow start is watched.
    #[inline]
    pub(super) const fn watched_from(&self) -> u32 {
        if self.hystart_plus {
            0
        } else {
            self.hystart_low_window
        }
    }

    /// Beta in 1/1024, below one.
    pub(super) fn beta(&self) -> u32 {
        u32::from(self.beta).clamp(1, 1_023)
    }

    /// Eighths of a window that Reno needs for one segment when it halves and CUBIC takes beta.
    pub(super) fn friendly_scale(&self) -> u32 {
        let beta = self.beta();
        let scaled = beta.saturating_add(1_024).saturating_mul(8) / 3;
        let gap = 1_024u32.saturating_sub(beta);
        scaled.checked_div(gap).unwrap_or(0)
    }

    /// C over the fixed round trip, in 1/1024.
    pub(super) fn cube_scale(&self) -> u32 {
        u32::from(self.bic_scale.max(1)).saturating_mul(10)
    }

    /// The reciprocal of `cube_scale`, for K.
    pub(super) fn cube_factor(&self) -> u64 {
        (1u64 << 40)
            .checked_div(self.cube_scale().into())
            .unwrap_or(0)
    }
}
