//! What all algorithms have in common: slow start, whether the window is used, what becomes of it
//! when nothing was sent for long, and when the segment size changes.

use millrace_base::SeqNumber;

use super::contract::{Acked, Setting};
use super::{Congestion, CubicParameters};
use crate::stats::Stats;
use crate::tcp::config::CongestionControl;

impl Congestion {
    /// The segment size is known now, or has changed: windows keep their number of segments.
    pub(crate) fn set_mss(&mut self, mss: u16) {
        let (before, mss) = (self.mss(), u32::from(mss.max(1)));
        if before == mss {
            return;
        }
        let rescale = |bytes: u32| {
            let segments = bytes.checked_div(before).unwrap_or(1).max(1);
            segments.saturating_mul(mss)
        };
        self.cwnd = rescale(self.cwnd);
        if self.ssthresh != u32::MAX {
            self.ssthresh = rescale(self.ssthresh);
        }
        self.mss = mss as u16;
    }

    /// Earlier connections have found that slow start ends at so many segments.
    pub(crate) fn expect_threshold(&mut self, segments: u32) {
        // `initial_ssthresh` of CUBIC is said by the operator.
        if self.ssthresh == u32::MAX && !self.is_modelled() {
            self.ssthresh = segments.saturating_mul(self.mss());
        }
    }

    /// New data was acknowledged outside of recovery: learn from it, and grow.
    #[inline]
    pub(crate) fn on_ack(&mut self, setting: &mut Setting<'_>, acked: &Acked, stats: &mut Stats) {
        self.pkts_acked(setting, acked, stats);
        if !self.is_limited() {
            return;
        }
        let mss = self.mss();
        let mut segments = acked.segments;
        if self.in_slow_start() {
            //= https://www.rfc-editor.org/rfc/rfc5681#section-3.1
            //# During slow start, a TCP increments cwnd by at most SMSS bytes for
            //# each ACK received that cumulatively acknowledges new data.
            // Linux counts segments here (RFC 3465 with L unlimited): one ACK of a burst opens as
            // much as many would.
            if setting.cubic.hystart_plus {
                segments = self.opening_plus(setting, acked);
            }
            let bytes = segments.saturating_mul(mss);
            let room = self.ssthresh.saturating_sub(self.cwnd);
            if bytes <= room {
                self.cwnd = self.cwnd.saturating_add(bytes);
                return;
            }
            self.cwnd = self.ssthresh;
            segments = bytes.saturating_sub(room).checked_div(mss).unwrap_or(0);
        }
        self.cong_avoid(setting, acked, segments);
    }

    /// Idle for some timeouts: halve for each, down to the initial window (RFC 2861; Linux:
    /// `tcp_cwnd_restart`).
    pub(crate) fn on_idle(&mut self, timeouts: u64, init_cwnd: u8) {
        let floor = self
            .mss()
            .saturating_mul(u32::from(init_cwnd.max(1)))
            .min(self.cwnd);
        self.ssthresh = self.reached_ssthresh();
        let halved = self.segments().checked_shr(timeouts.min(31) as u32);
        let halved = halved.unwrap_or(0).saturating_mul(self.mss());
        self.cwnd = halved.max(floor);
    }

    /// After a turn, with `is_news` when something left: was it the window that stopped us? (Linux:
    /// `tcp_cwnd_validate`.)
    ///
    /// `flight` is in the network, `sent` is not acknowledged, both in bytes.
    #[inline]
    pub(crate) fn validate(
        &mut self,
        (flight, sent): (u32, u32),
        is_news: bool,
        (una, nxt): (SeqNumber, SeqNumber),
    ) {
        let limited = flight.saturating_add(self.mss()) > self.cwnd;
        if !limited && !is_news {
            return;
        }
        if una.after_or_eq(self.usage_from) || limited || (!self.limited && sent > self.flight_max)
        {
            self.limited = limited;
            self.flight_max = sent;
            self.usage_from = nxt;
        }
    }

    /// Whether growth is exponential.
    #[inline]
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Whether the window is what limits the sender: only then an ACK says anything about the path
    /// (RFC 7661).
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limited || (self.in_slow_start() && self.cwnd / 2 < self.flight_max)
    }

    /// Whether the window was full at any time in the last round trip (Linux: `is_cwnd_limited`).
    pub(crate) fn was_full(&self) -> bool {
        self.limited
    }

    /// The window and the threshold in segments; `None` while slow start has not ended once.
    pub(crate) fn in_segments(&self) -> (u32, Option<u32>) {
        let ssthresh = self.ssthresh.checked_div(self.mss());
        let ssthresh = ssthresh.filter(|_| self.ssthresh != u32::MAX);
        (self.segments(), ssthresh)
    }

    /// The window in segments.
    #[inline]
    pub(super) fn segments(&self) -> u32 {
        self.cwnd.checked_div(self.mss()).unwrap_or(1)
    }

    #[inline]
    pub(super) fn mss(&self) -> u32 {
        self.mss.into()
    }

    pub(super) fn take_initial_ssthresh(
        &mut self,
        control: CongestionControl,
        cubic: &CubicParameters,
    ) {
        if control == CongestionControl::Cubic && !cubic.hystart && cubic.initial_ssthresh != 0 {
            self.ssthresh = cubic.initial_ssthresh.saturating_mul(self.mss());
        }
    }

    /// The threshold that is remembered of a window that nothing has reduced: three quarters of it at
    /// least, in whole segments (Linux: `tcp_current_ssthresh`).
    pub(crate) fn reached_ssthresh(&self) -> u32 {
        let cwnd = self.segments();
        let reached = (cwnd / 2).saturating_add(cwnd / 4);
        self.ssthresh.max(reached.saturating_mul(self.mss()))
    }
}
